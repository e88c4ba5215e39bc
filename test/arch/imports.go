package arch

import (
	"fmt"
	"go/ast"
	"slices"
	"strconv"
	"strings"
)

// layers lists for each top folder which other top folders its shipped code may
// import. Folders that are missing here may hold no Go code.
var layers = map[string][]string{
	"record":  {},
	"fhir":    {},
	"seal":    {"record"},
	"store":   {"record"},
	"raftlog": {"record"},
	"sync":    {"record"},
	"chart":   {"fhir", "record"},
	"web":     {"chart", "fhir", "record"},
	"node":    {"chart", "fhir", "raftlog", "record", "seal", "store", "sync", "web"},
	"cmd":     {"node", "record"},
}

// module says who may import a dependency from outside, and what it is for. An
// empty list of folders means any of them. testOnly keeps it out of the binary.
type module struct {
	path     string
	in       []string
	testOnly bool
	why      string
}

// modules is the list of dependencies the project has agreed to. The longest
// matching path decides.
var modules = []module{
	{path: "github.com/BurntSushi/toml", in: []string{"cmd", "node", "web"}, why: "config file, what a box is, word lists of the pages"},
	{path: "github.com/KimMachineGun/automemlimit", in: []string{"cmd"}, why: "how much memory the program may use"},
	{path: "github.com/cedar-policy/cedar-go", in: []string{"seal"}, why: "rules of who may do what"},
	{path: "github.com/coreos/go-systemd/v22", in: []string{"cmd", "node"}, why: "readiness and watchdog"},
	{path: "github.com/dgraph-io/badger/v4", in: []string{"store", "raftlog"}, why: "the replica on disk"},
	{path: "github.com/dgraph-io/ristretto/v2", in: []string{"store", "raftlog"}, why: "Badger's allocator options"},
	{path: "github.com/fxamacker/cbor/v2", why: "canonical CBOR"},
	{path: "github.com/google/go-tpm", in: []string{"seal"}, why: "locks that a chip on the board opens"},
	{path: "github.com/hashicorp/go-hclog", in: []string{"raftlog"}, why: "Raft's logger interface"},
	{path: "github.com/hashicorp/raft", in: []string{"raftlog"}, why: "ordering on hubs"},
	{path: "github.com/klauspost/compress", why: "dictionary compression before sealing"},
	{path: "github.com/libp2p", in: []string{"sync", "raftlog", "node"}, why: "links between boxes"},
	{path: "github.com/multiformats", in: []string{"sync", "raftlog", "node"}, why: "libp2p's addresses"},
	{path: "github.com/quic-go/quic-go", in: []string{"sync", "node"}, why: "QUIC on the LAN"},
	{path: "github.com/rs/zerolog", why: "logging, always passed in"},
	{path: "github.com/schollz/progressbar/v3", in: []string{"cmd", "node"}, why: "progress of long commands"},
	{path: "github.com/skip2/go-qrcode", in: []string{"web", "cmd", "node"}, why: "cards and invitations"},
	{path: "github.com/spf13/cobra", in: []string{"cmd", "node"}, why: "command tree"},
	{path: "github.com/spf13/pflag", in: []string{"cmd", "node"}, why: "flags of the command tree"},
	{path: "google.golang.org/protobuf", in: []string{"store"}, why: "reads the index of Badger's tables"},
	{path: "golang.org/x/crypto", why: "Argon2, XChaCha20-Poly1305"},
	{path: "golang.org/x/mod", why: "signed notes and tile log hashing"},
	{path: "golang.org/x/net", why: "HTML parsing in tests, address types"},
	{path: "golang.org/x/sync", why: "groups of goroutines with one owner"},
	{path: "golang.org/x/sys", why: "statfs, terminals, namespaces"},
	{path: "github.com/makiuchi-d/gozxing", why: "QR codes in pictures"},
	{path: "golang.org/x/term", why: "PIN entry without echo"},
	{path: "golang.org/x/text", why: "folding and ordering of names"},
	{path: "golang.org/x/time", why: "rate limits"},

	{path: "github.com/anishathalye/porcupine", testOnly: true, why: "linearisability of histories"},
	{path: "github.com/chromedp", testOnly: true, why: "the pages in a browser"},
	{path: "github.com/google/go-cmp", testOnly: true, why: "differences in test output"},
	{path: "github.com/hanwen/go-fuse/v2", testOnly: true, why: "disks that fail on request"},
	{path: "github.com/transparency-dev", testOnly: true, in: []string{"test"}, why: "other people's reading of checkpoints and tiles, in a module of its own"},
	{path: "github.com/rogpeppe/go-internal", testOnly: true, why: "command line scripts"},
	{path: "pgregory.net/rapid", testOnly: true, why: "property tests"},
}

// top returns the first folder of a path.
func top(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

// imports calls yield with each import of f and the node it stands at.
func (f *File) imports(yield func(p string, n ast.Node)) {
	for _, spec := range f.AST.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			yield(p, spec)
		}
	}
}

// Directions reports imports between the project's own packages that run
// against the layers. Tests may import any package, but nothing that ships may
// import from test/.
func Directions(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		from := top(f.Path)
		if _, known := layers[from]; !known && from != "test" {
			found = append(found, Finding{"direction", f.Path, 0, fmt.Sprintf("folder %q has no place among the layers", from)})
			continue
		}
		f.imports(func(p string, n ast.Node) {
			inside, ok := strings.CutPrefix(p, t.Module+"/")
			if !ok || allowedInside(f, from, top(inside)) {
				return
			}
			found = append(found, Finding{"direction", f.Path, f.Line(n), fmt.Sprintf("%s imports %s", from, inside)})
		})
	}
	return found
}

func allowedInside(f *File, from, to string) bool {
	switch {
	case f.Test:
		return true
	case to == "test":
		return false
	default:
		return from == to || slices.Contains(layers[from], to)
	}
}

// Modules reports imports from outside that are not on the list, stand in a
// folder that must not have them, or are for tests alone.
func Modules(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		f.imports(func(p string, n ast.Node) {
			if text := t.outside(f, p); text != "" {
				found = append(found, Finding{"module", f.Path, f.Line(n), text})
			}
		})
	}
	return found
}

func (t *Tree) outside(f *File, p string) string {
	switch {
	case p == "C":
		return "cgo is not used here"
	case p == "github.com/rs/zerolog/log" || p == "log":
		return p + " is a global logger; loggers are passed in"
	case !strings.Contains(top(p), "."), strings.HasPrefix(p, t.Module+"/"):
		return ""
	}
	m, ok := lookup(p)
	switch {
	case !ok:
		return p + " is not among the agreed modules (test/arch/imports.go)"
	case m.testOnly && !f.Test:
		return p + " is for tests only"
	case len(m.in) > 0 && !slices.Contains(m.in, top(f.Path)) && top(f.Path) != "test":
		return fmt.Sprintf("%s belongs in %s", p, strings.Join(m.in, ", "))
	}
	return ""
}

// lookup finds the listed module that p belongs to.
func lookup(p string) (module, bool) {
	var best module
	for _, m := range modules {
		if (p == m.path || strings.HasPrefix(p, m.path+"/")) && len(m.path) > len(best.path) {
			best = m
		}
	}
	return best, best.path != ""
}

// pureFolders hold code that must give the same answer on every box: no files,
// no network, no clock.
var pureFolders = []string{"record", "fhir", "chart"}

// clockCalls read or wait for a clock.
var clockCalls = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTicker", "NewTimer"}

// Purity reports I/O and clocks in the packages that must have neither.
func Purity(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		if f.Test || !slices.Contains(pureFolders, top(f.Path)) {
			continue
		}
		f.imports(func(p string, n ast.Node) {
			switch first := top(p); {
			case first == "os", p == "net", p == "net/http", p == "syscall", p == "math/rand", p == "math/rand/v2", p == "database/sql":
				found = append(found, Finding{"pure", f.Path, f.Line(n), p + " in a package without I/O"})
			}
		})
		for _, call := range f.selectors("time", clockCalls...) {
			found = append(found, Finding{"pure", f.Path, f.Line(call), "reads a clock"})
		}
	}
	return found
}

// selectors returns every mention of pkg.name in f, for an imported package
// path and any of the names, whatever the import is called there.
func (f *File) selectors(pkg string, names ...string) []ast.Node {
	local := ""
	for _, spec := range f.AST.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil && p == pkg {
			local = pkg[strings.LastIndex(pkg, "/")+1:]
			if spec.Name != nil {
				local = spec.Name.Name
			}
		}
	}
	if local == "" {
		return nil
	}
	var found []ast.Node
	ast.Inspect(f.AST, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == local && slices.Contains(names, sel.Sel.Name) {
			found = append(found, sel)
		}
		return true
	})
	return found
}
