package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const hello = `package main

func main() { println("hello") }
`

// link builds a program with the linker's flags.
func link(t *testing.T, flags string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(hello), 0o644); err != nil {
		t.Fatal(err)
	}
	built := filepath.Join(dir, "hello")
	cmd := exec.Command("go", "build", "-ldflags", flags, "-o", built, filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return built
}

func TestHuge(t *testing.T) {
	built := link(t, "-R 0x200000")
	once, twice := built+".once", built+".twice"
	if err := huge(built, once); err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(once)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	readOnly := 0
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_W == 0 {
			readOnly++
			if p.Off%page != 0 || p.Vaddr%page != 0 || p.Filesz%page != 0 || p.Memsz != p.Filesz || p.Filesz == 0 {
				t.Errorf("segment at %#x: %+v", p.Off, p.ProgHeader)
			}
		}
	}
	if readOnly < 2 { // text, and constants
		t.Errorf("%d read-only segments", readOnly)
	}
	if out, err := exec.Command(once).CombinedOutput(); err != nil || string(out) != "hello\n" {
		t.Errorf("the copy runs with %v: %q", err, out)
	}
	if err := huge(once, twice); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(once)
	b, _ := os.ReadFile(twice)
	if string(a) != string(b) {
		t.Error("a copy of the copy differs")
	}
}

func TestHuge_Refuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\nexec adl-runtime \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		link(t, ""):      "link it with -R 0x200000",
		text:             "bad magic number",
		text + "-not-it": "no such file",
	} {
		to := filepath.Join(t.TempDir(), "copy")
		if err := huge(from, to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", from, err, want)
		}
		if left, _ := filepath.Glob(to + "*"); len(left) > 0 {
			t.Errorf("%s: left %v", from, left)
		}
	}
}
