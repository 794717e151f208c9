package rules

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"strconv"
	"strings"
	"testing"
)

// rule looks at one file and returns its complaints.
type rule struct {
	name  string
	check func(*source) []string
	// bad is a file that the rule must complain about.
	path, bad string
}

func rules() []rule {
	return []rule{
		{"unsafe", checkUnsafe, "spec/x.go", "package p\nimport \"unsafe\"\nvar x unsafe.Pointer"},
		{"exit", checkExit, "runtime/x.go", "package p\nimport \"os\"\nfunc f() { os.Exit(1) }"},
		{"init", checkInit, "spec/x.go", "package p\nfunc init() {}"},
		{"map literal", checkStartup, "spec/x.go", "package p\nvar m = map[string]int{\"a\": 1}"},
		{"nested map", checkStartup, "spec/x.go", "package p\nvar m = []map[string]int{{\"a\": 1}}"},
		{"make", checkStartup, "spec/x.go", "package p\nvar m = make(map[string]int)"},
		{"regexp", checkStartup, "spec/x.go", "package p\nimport \"regexp\"\nvar r = regexp.MustCompile(`a`)"},
		{"length", checkLength, "spec/x.go", "package p\nfunc f() {" + strings.Repeat("\n", maxLines) + "}"},
		{"comment of a function", checkComments, "spec/x.go", "package p\nfunc F() {}"},
		{"comment of a method", checkComments, "libsandbox/x.go", "package p\n// T is.\ntype T int\nfunc (t *T) F() {}"},
		{"comment of a type", checkComments, "spec/x.go", "package p\ntype T int"},
		{"comment of a variable", checkComments, "spec/x.go", "package p\nvar V int"},
		{"skip without a reason", checkSkips, "x_test.go", "package p\nfunc f(t *testing.T) { t.Skip() }"},
		{"skip with an empty reason", checkSkips, "x_test.go", "package p\nfunc f(t *testing.T) { t.Skipf(\" \") }"},
		{"SkipNow", checkSkips, "x_test.go", "package p\nfunc f(t *testing.T) { t.SkipNow() }"},
	}
}

func TestSources(t *testing.T) {
	all := sources(t)
	for _, s := range all {
		for _, check := range []func(*source) []string{
			checkUnsafe, checkExit, checkInit, checkStartup, checkLength, checkComments, checkSkips,
		} {
			for _, c := range check(s) {
				t.Error(c)
			}
		}
	}
}

func TestRulesCatch(t *testing.T) {
	for _, r := range rules() {
		if len(r.check(parse(t, r.path, r.bad))) == 0 {
			t.Errorf("%s: no complaint about\n%s", r.name, r.bad)
		}
	}
}

func complain(s *source, n ast.Node, format string, args ...any) []string {
	return []string{s.at(n) + ": " + fmt.Sprintf(format, args...)}
}

func lowLevel(file string) bool {
	dir := path.Dir(file)
	return matches("libsandbox/internal/engine", dir) || matches("libsandbox/internal/kernel/...", dir)
}

// checkUnsafe: memory is handled by hand in two packages only.
func checkUnsafe(s *source) []string {
	for _, i := range s.file.Imports {
		if name, _ := strconv.Unquote(i.Path.Value); (name == "unsafe" || name == "C") && !lowLevel(s.path) {
			return complain(s, i, "import %q belongs in internal/engine and internal/kernel", name)
		}
	}
	return nil
}

func TestAssembly(t *testing.T) {
	n := 0
	eachFile(t, func(path string, _ []byte) {
		if strings.HasSuffix(path, ".s") || strings.HasSuffix(path, ".S") || strings.HasSuffix(path, ".c") {
			n++
			if !lowLevel(path) {
				t.Errorf("%s: assembly belongs in internal/engine and internal/kernel", path)
			}
		}
	})
	if n == 0 {
		t.Error("found no assembly at all")
	}
}

// checkExit: only main.go ends the process, so that everything below it can undo
// what it did. Programs below tests/ and hack/ have their own main.
func checkExit(s *source) (c []string) {
	if s.path == "main.go" || s.isTest() || strings.HasPrefix(s.path, "tests/") || strings.HasPrefix(s.path, "hack/") {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && isSelector(call.Fun, "os", "Exit") {
			c = append(c, complain(s, n, "os.Exit: only main.go ends the process")...)
		}
		return true
	})
	return c
}

func isSelector(e ast.Expr, pkg, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// checkInit: start-up time is a feature.
func checkInit(s *source) []string {
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			return complain(s, f, "no init functions: start-up time is a feature")
		}
	}
	return nil
}

// checkStartup: a map or a regular expression at package level is built at every
// start. Test files may have them.
func checkStartup(s *source) (c []string) {
	if s.isTest() {
		return nil
	}
	for _, d := range s.file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		ast.Inspect(g, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit:
				return false // runs when it is called
			case *ast.CompositeLit:
				if containsMap(n.Type) {
					c = append(c, complain(s, n, "a map at package level is built at every start")...)
				}
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "make" && containsMap(n.Args[0]) {
					c = append(c, complain(s, n, "a map at package level is built at every start")...)
				}
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && isSelector(sel, "regexp", sel.Sel.Name) {
					c = append(c, complain(s, n, "a regular expression at package level is compiled at every start")...)
				}
			}
			return true
		})
	}
	return c
}

func containsMap(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.MapType:
		return true
	case *ast.ArrayType:
		return containsMap(e.Elt)
	}
	return false
}

// maxLines is the longest function, from func to its closing brace.
const maxLines = 80

// longFunctions may be longer: each is a table or one flat switch.
func longFunctions() []struct{ file, name, why string } {
	return []struct{ file, name, why string }{
		{"libsandbox/internal/program/calls.go", "String", "one flat switch from a system call to its name"},
	}
}

func checkLength(s *source) (c []string) {
	for _, d := range s.file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || s.lines(f) <= maxLines {
			continue
		}
		allowed := false
		for _, l := range longFunctions() {
			allowed = allowed || l.file == s.path && l.name == f.Name.Name
		}
		if !allowed {
			c = append(c, complain(s, f, "%s has %d lines, more than %d", f.Name.Name, s.lines(f), maxLines)...)
		}
	}
	return c
}

// TestLongFunctionsAreLong: an exception that is no longer needed has to go.
func TestLongFunctionsAreLong(t *testing.T) {
	for _, l := range longFunctions() {
		found := false
		for _, s := range sources(t) {
			for _, d := range s.file.Decls {
				f, ok := d.(*ast.FuncDecl)
				found = found || ok && s.path == l.file && f.Name.Name == l.name && s.lines(f) > maxLines
			}
		}
		if !found || l.why == "" {
			t.Errorf("%s: %s is no exception any more, or has no reason", l.file, l.name)
		}
	}
}

// checkComments: the packages that other programs import are documented in full.
func checkComments(s *source) (c []string) {
	if dir := path.Dir(s.path); s.isTest() || dir != "spec" && dir != "libsandbox" && !publicBelow(dir) {
		return nil
	}
	for _, d := range s.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !wellKnown(d) {
				c = append(c, complain(s, d, "%s has no comment", d.Name.Name)...)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				c = append(c, undocumented(s, d, spec)...)
			}
		}
	}
	return c
}

func publicBelow(dir string) bool {
	return matches("libsandbox/...", dir) && !strings.Contains(dir, "internal")
}

func exportedReceiver(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return true
	}
	e := f.Recv.List[0].Type
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	id, ok := e.(*ast.Ident)
	return ok && id.IsExported()
}

// wellKnown: fmt and errors say what these methods do.
func wellKnown(f *ast.FuncDecl) bool {
	switch f.Name.Name {
	case "String", "Error", "Unwrap", "Is":
		return f.Recv != nil
	}
	return false
}

// undocumented complains about exported names of a declaration; the comment of a
// group speaks for its members.
func undocumented(s *source, d *ast.GenDecl, spec ast.Spec) (c []string) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil {
			c = append(c, complain(s, spec, "%s has no comment", spec.Name.Name)...)
		}
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			if name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
				c = append(c, complain(s, name, "%s has no comment", name.Name)...)
			}
		}
	}
	return c
}

// checkSkips: a skipped test says what is missing.
func checkSkips(s *source) (c []string) {
	if !s.isTest() && !strings.HasPrefix(s.path, "tests/") {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch sel.Sel.Name {
		case "SkipNow":
			c = append(c, complain(s, n, "SkipNow gives no reason")...)
		case "Skip", "Skipf":
			if emptyReason(call.Args) {
				c = append(c, complain(s, n, "%s without a reason", sel.Sel.Name)...)
			}
		}
		return true
	})
	return c
}

func emptyReason(args []ast.Expr) bool {
	if len(args) == 0 {
		return true
	}
	lit, ok := args[0].(*ast.BasicLit)
	if !ok {
		return false
	}
	text, _ := strconv.Unquote(lit.Value)
	return strings.TrimSpace(text) == ""
}

// TestPackageComments: a package says what belongs in it.
func TestPackageComments(t *testing.T) {
	documented := make(map[string]bool)
	for _, s := range sources(t) {
		dir := path.Dir(s.path)
		documented[dir] = documented[dir] || s.file.Doc != nil && len(s.file.Doc.Text()) > 20
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no package comment", dir)
		}
	}
}
