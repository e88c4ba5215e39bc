package arch

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"sort"
	"strings"

	"golang.org/x/mod/modfile"
)

// fileBytesMax bounds what one file may weigh before the rules refuse to read
// it: anything larger does not belong in a source tree.
const fileBytesMax = 8 << 20

// Finding is one place that breaks a rule. Line is 0 when the whole file or
// folder is meant.
type Finding struct {
	Rule string
	Path string
	Line int
	Text string
}

func (f Finding) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s: %s", f.Rule, f.Path, f.Text)
	}
	return fmt.Sprintf("%s: %s:%d: %s", f.Rule, f.Path, f.Line, f.Text)
}

// File is one parsed Go file. Test is true for _test.go files and for all code
// below test/, which never ships.
type File struct {
	Path      string
	Dir       string
	Test      bool
	Generated bool
	Lines     int
	AST       *ast.File
	fset      *token.FileSet
}

// Line returns the line of a node in f.
func (f *File) Line(n ast.Node) int { return f.fset.Position(n.Pos()).Line }

// Tree is the source tree as the rules see it.
type Tree struct {
	Module string
	Go     []*File
	Paths  []string
	fsys   fs.FS
}

// Bytes returns the content of a file of the tree.
func (t *Tree) Bytes(name string) ([]byte, error) { return fs.ReadFile(t.fsys, name) }

// Has tells whether the tree holds a file of that path.
func (t *Tree) Has(name string) bool {
	i := sort.SearchStrings(t.Paths, name)
	return i < len(t.Paths) && t.Paths[i] == name
}

// Load reads the tree below fsys. Folders that git ignores (build output) and
// git's own are left out; Go files in testdata are data, not code.
func Load(fsys fs.FS) (*Tree, error) {
	mod, err := fs.ReadFile(fsys, "go.mod")
	if err != nil {
		return nil, fmt.Errorf("reading go.mod: %w", err)
	}
	t := &Tree{fsys: fsys, Module: modfile.ModulePath(mod)}
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if left(name) {
				return fs.SkipDir
			}
			return nil
		}
		return t.add(name, d)
	})
	if err != nil {
		return nil, fmt.Errorf("walking the tree: %w", err)
	}
	sort.Strings(t.Paths)
	return t, nil
}

// left tells whether a folder is outside the tracked tree.
func left(dir string) bool {
	switch dir {
	case ".git", "bin", "tmp", ".tools":
		return true
	}
	return path.Base(dir) == "node_modules"
}

func (t *Tree) add(name string, d fs.DirEntry) error {
	if strings.HasSuffix(name, ".test") || !d.Type().IsRegular() {
		return nil
	}
	t.Paths = append(t.Paths, name)
	if path.Ext(name) != ".go" || strings.Contains("/"+name, "/testdata/") {
		return nil
	}
	src, err := t.Bytes(name)
	if err != nil {
		return err
	}
	f := &File{Path: name, Dir: path.Dir(name), fset: token.NewFileSet()}
	f.AST, err = parser.ParseFile(f.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parsing: %w", err)
	}
	f.Test = strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "test/")
	f.Generated = ast.IsGenerated(f.AST)
	f.Lines = bytes.Count(src, []byte("\n"))
	t.Go = append(t.Go, f)
	return nil
}

// packages groups the Go files by folder, in order of path.
func (t *Tree) packages() ([]string, map[string][]*File) {
	byDir := map[string][]*File{}
	for _, f := range t.Go {
		byDir[f.Dir] = append(byDir[f.Dir], f)
	}
	dirs := make([]string, 0, len(byDir))
	for dir := range byDir {
		dirs = append(dirs, dir)
	}
	sort.Strings(dirs)
	return dirs, byDir
}

// Rule is one rule of the tree.
type Rule struct {
	Name  string
	Check func(*Tree) []Finding
}

// Rules are all rules that need nothing but the tree.
var Rules = []Rule{
	{"direction", Directions},
	{"module", Modules},
	{"pure", Purity},
	{"doc", PackageDocs},
	{"name", Names},
	{"size", Sizes},
	{"skip", Skips},
	{"sleep", Sleeps},
	{"panic", Panics},
	{"exit", Exits},
	{"route", Routes},
	{"words", Words},
	{"links", Links},
	{"assets", Assets},
	{"make", MakeTargets},
	{"todo", Todos},
	{"decoder", Decoders},
}
