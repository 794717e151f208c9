package rules

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// places are names that mean something on one machine only: folders of whoever
// works here, and hosts that packages come from. The patterns are in pieces so
// that they do not match themselves.
func places() *regexp.Regexp {
	return regexp.MustCompile(`(^|[^A-Za-z0-9_.%}])/(wo` + `rk/(main|shared|\.)|ho` + `me/[a-z]+/|Us` + `ers/[a-z]+/)` +
		`|(proxy|sum)\.gol` + `ang\.org|(registry|proxy|mirror|art` + `ifactory|nex` + `us)\.[a-z0-9-]+\.(com|io|net|org|internal)|[a-z]\.jf` + `rog\.io`)
}

func TestNoPlacesOfOneMachine(t *testing.T) {
	re := places()
	eachFile(t, func(path string, text []byte) {
		for i, line := range bytes.Split(text, []byte("\n")) {
			if m := re.Find(line); m != nil {
				t.Errorf("%s:%d: names a place of one machine: %q", path, i+1, m)
			}
		}
	})
	for _, bad := range []string{"/wo" + "rk/main/x", "see /ho" + "me/me/x", "https://pro" + "xy.golang.org/x", "https://regi" + "stry.example.com"} {
		if !re.MatchString(bad) {
			t.Errorf("the pattern misses %q", bad)
		}
	}
}

// TestScripts: a script stops at its first error.
func TestScripts(t *testing.T) {
	scripts, _ := filepath.Glob(filepath.Join(root, "hack", "*.sh"))
	if len(scripts) < 5 {
		t.Fatalf("found %d scripts", len(scripts))
	}
	for _, name := range append(scripts, filepath.Join(root, ".ci", "run")) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte("\nset -eu")) {
			t.Errorf("%s: no set -eu", name)
		}
	}
}

// TestReadmeExample: the program in README.md compiles.
func TestReadmeExample(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(text), "```go\n")
	code, _, ok := strings.Cut(code, "```")
	if !ok {
		t.Fatal("README.md has no Go program")
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(code), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", os.DevNull, file)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go build: %v\n%s", err, out)
	}
}

// TestLinks: what a document links to is there.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)`)
	n := 0
	eachFile(t, func(path string, text []byte) {
		if !strings.HasSuffix(path, ".md") {
			return
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			target := string(m[1])
			if strings.Contains(target, "://") {
				continue
			}
			n++
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), target)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
	if n < 5 {
		t.Errorf("found only %d links", n)
	}
}

// TestManualNamesEverything: every verb and every flag that the program's help
// names is in the guide, and in the manual page once it is made.
func TestManualNamesEverything(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "adl-runtime")
	build := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-buildvcs=false", "-o", binary, ".")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	manual := filepath.Join(t.TempDir(), "adl-runtime.8")
	if out, err := exec.Command(filepath.Join(root, "hack", "man.sh"), binary, manual).CombinedOutput(); err != nil {
		t.Fatalf("man.sh: %v\n%s", err, out)
	}
	names := namesInHelp(t, binary)
	if len(names) < 25 {
		t.Fatalf("found only %q in the help", names)
	}
	for _, file := range []string{filepath.Join(root, "docs", "guide.md"), manual} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		plain := strings.ReplaceAll(string(text), `\-`, "-")
		for _, name := range names {
			if !strings.Contains(plain, name) {
				t.Errorf("%s does not name %q", filepath.Base(file), name)
			}
		}
	}
}

// namesInHelp returns the verbs, and all flags with their dashes.
func namesInHelp(t *testing.T, binary string) []string {
	t.Helper()
	help := func(args ...string) string {
		out, err := exec.Command(binary, args...).Output()
		if err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		return string(out)
	}
	flag := regexp.MustCompile(`(?m)^   (--[a-z-]+)`)
	verb := regexp.MustCompile(`(?m)^   ([a-z]+)  `)
	top := help("--help")
	var names []string
	for _, m := range flag.FindAllStringSubmatch(top, -1) {
		names = append(names, m[1])
	}
	_, commands, _ := strings.Cut(top, "COMMANDS:")
	for _, v := range verb.FindAllStringSubmatch(commands, -1) {
		names = append(names, v[1])
		for _, m := range flag.FindAllStringSubmatch(help(v[1], "--help"), -1) {
			names = append(names, m[1])
		}
	}
	return names
}
