package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSoak is a short soak. `make soak` is the long one.
func TestSoak(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes containers")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox-static: " + err.Error())
	}
	adl := filepath.Join(t.TempDir(), "adl-runtime")
	build := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-ldflags", "-E adl_entry", "-o", adl, "../..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o := &options{
		adl: adl, busybox: busybox, dir: t.TempDir(), boxes: 16, commands: 3200, resets: 64,
		seed: uint64(time.Now().UnixNano()), progress: time.Minute, limit: 5 * time.Minute,
	}
	rep, err := run(t.Context(), o)
	var out strings.Builder
	rep.write(&out)
	t.Logf("seed %d\n%s", o.seed, &out)
	if err != nil {
		t.Error(err)
	}
	if commands, resets := rep.counts(); commands < o.commands*9/10 || resets < o.resets {
		t.Errorf("%d commands and %d resets", commands, resets)
	}
	if len(rep.faults) < 8 {
		t.Errorf("only these faults: %v", rep.faults)
	}
}
