package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"adl.run/adl-runtime/runtime"
)

// TestBash lets bash complete command lines, with a list of containers that a
// stand-in for the program prints.
func TestBash(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	fake := "#!/bin/sh\n[ \"$*\" = 'list --quiet' ] && echo one && echo two\n[ \"$*\" = '--root /x list --quiet' ] && echo elsewhere\n"
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/adl-runtime"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"adl-runtime sta":               "start state",
		"adl-runtime --ro":              "--root --rootless",
		"adl-runtime --log start sta":   "start state",
		"adl-runtime delete --f":        "--force",
		"adl-runtime delete ":           "one two",
		"adl-runtime --root /x kill el": "elsewhere",
		"adl-runtime create --bundle ":  "",
		"adl-runtime run ":              "",
	} {
		script := `source ` + dir + `/adl-runtime; COMP_WORDS=(` + line
		if strings.HasSuffix(line, " ") {
			script += `""`
		}
		script += `); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _adl_runtime; echo "${COMPREPLY[@]}"`
		cmd := exec.Command("bash", "-euc", script)
		cmd.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%q completes to %q, want %q (%v)", line, got, want, err)
		}
	}
}

// TestAllShells parses the scripts with the shells that are installed, and looks for
// every verb and flag in them.
func TestAllShells(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	for file, check := range map[string][]string{
		"adl-runtime": {"bash", "-n"}, "_adl-runtime": {"zsh", "-n"}, "adl-runtime.fish": {"fish", "-n"},
	} {
		raw, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		_, verbs := runtime.Commands()
		for _, v := range verbs {
			for _, f := range v.Flags {
				if !strings.Contains(string(raw), f.Names()[0]) {
					t.Errorf("%s lacks %s of %s", file, f.Names()[0], v.Name)
				}
			}
			if !strings.Contains(string(raw), v.Name) {
				t.Errorf("%s lacks %s", file, v.Name)
			}
		}
		if _, err := exec.LookPath(check[0]); err != nil {
			t.Logf("%s: not parsed, %s is not installed", file, check[0])
			continue
		}
		if out, err := exec.Command(check[0], slices.Concat(check[1:], []string{filepath.Join(dir, file)})...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}
