package spec

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestDefaultAgainstRunc compares with the file that runc writes, byte for
// byte but for the version, and for the ambient set, which runc dropped in 1.2.
func TestDefaultAgainstRunc(t *testing.T) {
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("runc is not installed")
	}
	for _, rootless := range []bool{false, true} {
		dir := t.TempDir()
		args := []string{"spec", "--bundle", dir}
		if rootless {
			args = append(args, "--rootless")
		}
		if out, err := exec.Command(runc, args...).CombinedOutput(); err != nil {
			t.Fatalf("runc spec: %v\n%s", err, out)
		}
		want, err := os.ReadFile(filepath.Join(dir, configName))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := Load(want)
		if err != nil {
			t.Fatal(err)
		}
		ours := Default(rootless)
		ours.Version = theirs.Version
		if theirs.Process.Capabilities.Ambient == nil {
			ours.Process.Capabilities.Ambient = nil
		}
		got, err := json.MarshalIndent(ours, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("rootless %t:\n%s", rootless, diff)
		}
	}
}

func TestDefaultIsValid(t *testing.T) {
	s := Default(false)
	if s.Version != "1.3.0" {
		t.Errorf("ociVersion is %s", s.Version)
	}
	if err := Validate(&Bundle{Dir: newBundle(t, nil), Spec: s}); err != nil {
		t.Error(err)
	}
}

func TestDefaultRootless(t *testing.T) {
	s := Default(true)
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			t.Error("has a network namespace")
		}
	}
	if namespace(s, specs.UserNamespace) == nil || s.Linux.UIDMappings[0].HostID != uint32(os.Geteuid()) {
		t.Errorf("the caller is not mapped: %+v", s.Linux)
	}
	for _, m := range s.Mounts {
		if m.Type == "sysfs" || slices.ContainsFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "gid=") }) {
			t.Errorf("needs privilege: %+v", m)
		}
	}
	if Default(false).Mounts[5].Type != "sysfs" {
		t.Error("Default(false) follows what Default(true) changed")
	}
}

// TestDefaultIsNotShared: what a caller does to one result must not show in
// another part of it or in the next result.
func TestDefaultIsNotShared(t *testing.T) {
	want := Default(false)
	s := Default(false)
	s.Process.Capabilities.Bounding[0] = "CAP_SYS_ADMIN"
	if s.Process.Capabilities.Effective[0] == "CAP_SYS_ADMIN" {
		t.Error("the capability sets share their memory")
	}
	s.Mounts[1].Options[0], s.Linux.MaskedPaths[0], s.Linux.Namespaces[0].Path = "x", "x", "x"
	if diff := cmp.Diff(want, Default(false)); diff != "" {
		t.Error(diff)
	}
}
