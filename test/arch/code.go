package arch

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

// linesMax is the length a shipped Go file stays within.
const linesMax = 600

// vagueNames say nothing about what is inside.
var vagueNames = []string{"util", "utils", "common", "helper", "helpers", "types", "manager", "misc"}

// PackageDocs reports packages without exactly one package comment, and those
// whose comment does not open by naming the package.
func PackageDocs(t *Tree) []Finding {
	var found []Finding
	dirs, byDir := t.packages()
	for _, dir := range dirs {
		var documented []*File
		for _, f := range byDir[dir] {
			if f.AST.Doc != nil {
				documented = append(documented, f)
			}
		}
		switch {
		case len(documented) == 0:
			found = append(found, Finding{"doc", dir, 0, "no package comment"})
		case len(documented) > 1:
			found = append(found, Finding{"doc", documented[1].Path, 0, "a second package comment, the first is in " + documented[0].Path})
		case !opensByName(documented[0]):
			found = append(found, Finding{"doc", documented[0].Path, 0, "package comment does not open with the package's name"})
		}
	}
	return found
}

func opensByName(f *File) bool {
	text := f.AST.Doc.Text()
	name := strings.TrimSuffix(f.AST.Name.Name, "_test")
	if name == "main" {
		return strings.HasPrefix(text, "Command ") || strings.HasPrefix(text, "Healthpost ")
	}
	return strings.HasPrefix(text, "Package "+name+" ")
}

// Names reports packages and files called by a word that says nothing, and
// packages whose name differs from their folder. The folder sync holds
// peersync, so that nobody has to rename the standard library's.
func Names(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		name := strings.TrimSuffix(f.AST.Name.Name, "_test")
		want := path.Base(f.Dir)
		if f.Dir == "sync" {
			want = "peersync"
		}
		stem := strings.TrimSuffix(strings.TrimSuffix(path.Base(f.Path), ".go"), "_test")
		switch {
		case slices.Contains(vagueNames, name):
			found = append(found, Finding{"name", f.Path, 0, "package name " + name + " says nothing"})
		case slices.Contains(vagueNames, stem):
			found = append(found, Finding{"name", f.Path, 0, "file name " + stem + " says nothing"})
		case name != "main" && name != want:
			found = append(found, Finding{"name", f.Path, 0, fmt.Sprintf("package %s in folder %s", name, f.Dir)})
		}
	}
	return found
}

// Sizes reports shipped and rig files that are too long.
func Sizes(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		if !strings.HasSuffix(f.Path, "_test.go") && !f.Generated && f.Lines > linesMax {
			found = append(found, Finding{"size", f.Path, 0, fmt.Sprintf("%d lines, at most %d", f.Lines, linesMax)})
		}
	}
	return found
}

// FunctionLengths returns the length in lines of every shipped function, keyed
// by "path:name".
func FunctionLengths(t *Tree) map[string]int {
	lengths := map[string]int{}
	for _, f := range t.Go {
		if f.Test || f.Generated {
			continue
		}
		for _, decl := range f.AST.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Body != nil {
				end := f.fset.Position(fn.End()).Line
				lengths[fmt.Sprintf("%s:%d %s", f.Path, f.Line(fn), fn.Name.Name)] = end - f.Line(fn) + 1
			}
		}
	}
	return lengths
}

// Panics reports calls of the built-in panic in shipped code.
func Panics(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		if f.Test {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "panic" {
					found = append(found, Finding{"panic", f.Path, f.Line(call), "panic in shipped code"})
				}
			}
			return true
		})
	}
	return found
}

// Exits reports shipped code outside cmd that ends the process.
func Exits(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		if f.Test || top(f.Path) == "cmd" {
			continue
		}
		for _, call := range f.selectors("os", "Exit") {
			found = append(found, Finding{"exit", f.Path, f.Line(call), "only cmd ends the process"})
		}
	}
	return found
}

// Routes reports muxers outside the files that hold the tables of routes: a route
// that stands in no table would be tried by no test.
func Routes(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		if f.Test || path.Base(f.Path) == "routes.go" {
			continue
		}
		for _, name := range []string{"NewServeMux", "DefaultServeMux", "Handle", "HandleFunc"} {
			for _, use := range f.selectors("net/http", name) {
				found = append(found, Finding{"route", f.Path, f.Line(use), "http." + name + " outside routes.go"})
			}
		}
	}
	return found
}

// Todos reports notes about unfinished work in Go comments: what is not done is
// not in the tree, or is in the list of known limits of the documents.
func Todos(t *Tree) []Finding {
	var found []Finding
	marks := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"}
	for _, f := range t.Go {
		for _, group := range f.AST.Comments {
			for _, c := range group.List {
				for _, word := range strings.FieldsFunc(c.Text, func(r rune) bool { return r < 'A' || r > 'Z' }) {
					if slices.Contains(marks, word) {
						found = append(found, Finding{"todo", f.Path, f.Line(c), "unfinished work: " + word})
					}
				}
			}
		}
	}
	return found
}
