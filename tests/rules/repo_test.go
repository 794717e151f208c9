package rules

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "adl.run/adl-runtime"

// root is the repository; tests run in their package's directory.
const root = "../.."

// source is one parsed Go file.
type source struct {
	path string // below the repository
	fset *token.FileSet
	file *ast.File
}

func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// at is a position for a complaint.
func (s *source) at(n ast.Node) string {
	p := s.fset.Position(n.Pos())
	p.Filename, p.Column = s.path, 0
	return p.String()
}

func (s *source) lines(n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}

func parse(t *testing.T, path, text string) *source {
	t.Helper()
	s := &source{path: path, fset: token.NewFileSet()}
	var err error
	if s.file, err = parser.ParseFile(s.fset, path, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		t.Fatal(err)
	}
	return s
}

// eachFile calls f with every file that belongs to the repository: what is built
// is in build/.
func eachFile(t *testing.T, f func(path string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) { // another program's temporary file
				return nil
			}
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() && (rel == ".git" || rel == "build") {
			return filepath.SkipDir
		}
		if !d.Type().IsRegular() || rel == ".git" {
			return nil
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		f(rel, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sources are all Go files, of all modules.
func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	eachFile(t, func(path string, text []byte) {
		if strings.HasSuffix(path, ".go") {
			all = append(all, parse(t, path, string(text)))
		}
	})
	if len(all) < 50 {
		t.Fatalf("found only %d Go files below %s", len(all), root)
	}
	return all
}

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// packages lists those of the main module.
func packages(t *testing.T, patterns ...string) []goPackage {
	t.Helper()
	args := append([]string{"list", "-tags", "urfave_cli_no_docs", "-json=ImportPath,Imports,TestImports,XTestImports,Deps"}, patterns...)
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// short is an import path of ours below the module; ok is false for others.
func short(path string) (string, bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}
