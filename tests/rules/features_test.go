package rules

import (
	"go/ast"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestFeaturesNameEveryMountOption: the list that `features` prints is made of the
// options that the compiler has a case for.
func TestFeaturesNameEveryMountOption(t *testing.T) {
	known := map[string]bool{}
	for _, s := range sources(t) {
		if s.path != filepath.Join("libsandbox", "internal", "compile", "options.go") {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				for _, name := range caseStrings(f) {
					known[name] = true
					if f.Name.Name == "optionAttr" {
						known["r"+name] = true // for the mounts below, too
					}
				}
			}
		}
	}
	delete(known, "")
	want := slices.Sorted(maps.Keys(known))
	if len(want) < 50 {
		t.Fatalf("found only %v", want)
	}
	if got := listed(t); !slices.Equal(got, want) {
		t.Errorf("features lists\n%v, the compiler knows\n%v", got, want)
	}
}

// caseStrings are the strings that the switches of a function compare with.
func caseStrings(f *ast.FuncDecl) (all []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		if c, ok := n.(*ast.CaseClause); ok {
			for _, e := range c.List {
				if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					name, _ := strconv.Unquote(lit.Value)
					all = append(all, name)
				}
			}
		}
		return true
	})
	return all
}

// listed is the constant mountOptions of the verb.
func listed(t *testing.T) (all []string) {
	t.Helper()
	for _, s := range sources(t) {
		if s.path != filepath.Join("runtime", "features.go") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && v.Names[0].Name == "mountOptions" {
				text, _ := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				all = strings.Fields(text)
			}
			return true
		})
	}
	return all
}
