package arch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// sound is a small tree that breaks no rule. Every example below is sound with
// one file put in.
var sound = map[string]string{
	"go.mod":           "module example.org/m\n",
	"Makefile":         "build: x\n\tgo build\nX := 1\n",
	"README.md":        "# m\n\nSee [terms](docs/TERMS.md).\n",
	"docs/TERMS.md":    "# Terms\n",
	"record/doc.go":    "// Package record has words.\npackage record\n",
	"record/id.go":     "package record\n\nimport _ \"github.com/fxamacker/cbor/v2\"\n",
	"store/store.go":   "// Package store keeps.\npackage store\n\nimport (\n\t_ \"example.org/m/record\"\n\t_ \"github.com/dgraph-io/badger/v4\"\n)\n",
	"sync/doc.go":      "// Package peersync talks.\npackage peersync\n",
	"cmd/m/main.go":    "// Command m runs.\npackage main\n\nimport \"os\"\n\nfunc main() { os.Exit(0) }\n",
	"test/sim/sim.go":  "// Package sim has boxes.\npackage sim\n\nimport (\n\t_ \"example.org/m/store\"\n\t_ \"pgregory.net/rapid\"\n)\n",
	"web/a/x.min.js":   "1\n",
	"web/a/SOURCES.md": "x.min.js: source example.org, version 1, licence MIT\n",
	"web/a/wait.go":    "// Package a waits.\npackage a\n",
	"web/a/wait_test.go": "package a\n\nimport (\n\t\"testing\"\n\t\"testing/synctest\"\n\t\"time\"\n)\n\n" +
		"func TestX(t *testing.T) {\n\tsynctest.Test(t, func(t *testing.T) { time.Sleep(1) })\n}\n",
}

func tree(t *testing.T, extra map[string]string) *Tree {
	t.Helper()
	fsys := fstest.MapFS{}
	files := maps.Clone(sound)
	maps.Copy(files, extra)
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	tree, err := Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestSoundTreePasses(t *testing.T) {
	tree := tree(t, nil)
	for _, rule := range Rules {
		for _, f := range rule.Check(tree) {
			t.Error(f)
		}
	}
}

// importing is a Go file of package pkg with one import.
func importing(pkg, path string) string {
	return "package " + pkg + "\n\nimport _ \"" + path + "\"\n"
}

var faults = []struct {
	rule, name, path, text, want string
}{
	{"direction", "record imports a sibling", "record/x.go", importing("record", "example.org/m/store"), "record imports store"},
	{"direction", "siblings import each other", "store/x.go", importing("store", "example.org/m/sync"), "store imports sync"},
	{"direction", "web reaches the store", "web/a/x.go", importing("a", "example.org/m/store"), "web imports store"},
	{"direction", "chart reaches seal", "chart/x.go", importing("chart", "example.org/m/seal"), "chart imports seal"},
	{"direction", "cmd passes node by", "cmd/m/x.go", importing("main", "example.org/m/store"), "cmd imports store"},
	{"direction", "shipped code imports a rig", "node/x.go", importing("node", "example.org/m/test/sim"), "node imports test/sim"},
	{"direction", "a new top folder", "extra/x.go", "package extra\n", `folder "extra" has no place`},
	{"module", "badger in node", "node/x.go", importing("node", "github.com/dgraph-io/badger/v4/options"), "belongs in store, raftlog"},
	{"module", "raft in node", "node/x.go", importing("node", "github.com/hashicorp/raft"), "belongs in raftlog"},
	{"module", "libp2p in store", "store/x.go", importing("store", "github.com/libp2p/go-libp2p/core/peer"), "belongs in sync, raftlog, node"},
	{"module", "badger in a test of seal", "seal/x_test.go", importing("seal", "github.com/dgraph-io/badger/v4"), "belongs in store, raftlog"},
	{"module", "a test tool that ships", "store/x.go", importing("store", "pgregory.net/rapid"), "for tests only"},
	{"module", "an unknown module", "store/x.go", importing("store", "example.com/left/pad"), "not among the agreed modules"},
	{"module", "a path that only begins alike", "raftlog/x.go", importing("raftlog", "github.com/hashicorp/raft-other"), "not among the agreed modules"},
	{"module", "cgo", "store/x.go", importing("store", "C"), "cgo"},
	{"module", "the global logger", "store/x.go", importing("store", "log"), "global logger"},
	{"pure", "files in record", "record/x.go", importing("record", "os"), "without I/O"},
	{"pure", "a clock under another name", "chart/x.go", "package chart\n\nimport tm \"time\"\n\nvar now = tm.Now()\n", "reads a clock"},
	{"doc", "no comment", "seal/x.go", "package seal\n", "no package comment"},
	{"doc", "two comments", "record/x.go", "// Package record again.\npackage record\n", "second package comment"},
	{"doc", "another name", "seal/x.go", "// This seals.\npackage seal\n", "does not open with"},
	{"name", "a vague package", "store/util/x.go", "// Package util does.\npackage util\n", "util says nothing"},
	{"name", "a vague file", "store/helpers.go", "package store\n", "helpers says nothing"},
	{"name", "a package unlike its folder", "seal/x.go", "// Package wax seals.\npackage wax\n", "package wax in folder seal"},
	{"size", "a long file", "store/x.go", "package store\n" + strings.Repeat("\n", 600), "601 lines"},
	{"skip", "a test", "store/x_test.go", "package store\n\nimport \"testing\"\n\nfunc TestX(tt *testing.T) { tt.Skipf(\"no\") }\n", "may not run"},
	{"skip", "a fuzz body", "store/x_test.go", "package store\n\nimport \"testing\"\n\nfunc FuzzX(f *testing.F) { f.Fuzz(func(t *testing.T, b []byte) { t.Skip() }) }\n", "may not run"},
	{"skip", "a script", "test/script/testdata/a.txtar", "[!exec:curl] skip 'none'\n", "may not run"},
	{"sleep", "a test", "store/x_test.go", "package store\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", "time.Sleep"},
	{"sleep", "shipped code", "store/x.go", "package store\n\nimport clock \"time\"\n\nfunc f() { clock.Sleep(1) }\n", "time.Sleep"},
	{"panic", "a panic", "store/x.go", "package store\n\nfunc f() { panic(1) }\n", "panic in shipped code"},
	{"exit", "an exit", "store/x.go", "package store\n\nimport \"os\"\n\nfunc f() { os.Exit(1) }\n", "only cmd"},
	{"route", "a muxer elsewhere", "store/x.go", "package store\n\nimport \"net/http\"\n\nvar m = http.NewServeMux()\n", "http.NewServeMux outside routes.go"},
	{"words", "a machine's folder", "docs/x.txt", "see /wo" + "rk/main\n", "names /wo" + "rk/"},
	{"words", "a registry", ".npmrc", "registry.npmjs" + ".org\n", "names registry"},
	{"words", "a huge file", "x.bin", strings.Repeat("x", fileBytesMax+1), "bytes, at most"},
	{"links", "a document that is not here", "store/x.go", "// See DESI" + "GN.md.\npackage store\n", "not in the tree"},
	{"links", "a dead link", "docs/ADR.md", "[gone](gone.html)\n", "not there"},
	{"assets", "a font", "web/a/x.woff2", "x", "no source"},
	{"assets", "a vendored script", "web/third_party/x.js", "x", "no source"},
	{"make", "a target that is not there", "docs/x.md", "Run `make tea`.\n\nmake haste\n", "make tea is no target"},
	{"make", "in a block", "docs/x.md", "```\nmake tea\n```\n", "make tea is no target"},
	{"decoder", "nothing fuzzes it", "store/x.go", "package store\n\nfunc decodeX(b []byte) error { return nil }\n", "store.decodeX has no fuzz target"},
	{"decoder", "a general format", "store/x.go", "package store\n\nimport \"example.org/m/record\"\n\nfunc (s *shelf) row() error { return record.Unmarshal(nil, s) }\n", "store.shelf.row has no fuzz target"},
	{"decoder", "a line without its function", "test/arch/decoders.txt", "store.decodeY FuzzY\n", "store.decodeY reads nothing"},
	{"decoder", "a line without a reason", "test/arch/decoders.txt", "store.decodeY own\n", "neither a target nor a reason"},
	{"todo", "an unfinished note", "store/x.go", "package store\n\n// TO" + "DO: the rest\n", "unfinished work"},
}

func TestRulesReport(t *testing.T) {
	reported := map[string]bool{}
	for _, fault := range faults {
		t.Run(fault.rule+"/"+fault.name, func(t *testing.T) {
			i := slices.IndexFunc(Rules, func(r Rule) bool { return r.Name == fault.rule })
			if i < 0 {
				t.Fatalf("no rule %q", fault.rule)
			}
			found := Rules[i].Check(tree(t, map[string]string{fault.path: fault.text}))
			if !slices.ContainsFunc(found, func(f Finding) bool {
				return f.Rule == fault.rule && strings.Contains(f.String(), fault.want)
			}) {
				t.Errorf("got %v, want one with %q", found, fault.want)
			}
		})
		reported[fault.rule] = true
	}
	for _, rule := range Rules {
		if !reported[rule.Name] {
			t.Errorf("rule %q has no example that it reports", rule.Name)
		}
	}
}

func TestRulesLeaveAlone(t *testing.T) {
	for _, example := range []struct{ rule, name, path, text string }{
		{"skip", "a method of something else", "store/x_test.go", "package store\n\nfunc f(d decoder) { d.Skip() }\n"},
		{"skip", "a file inside a script", "test/script/testdata/a.txtar", "exec m\n-- notes --\nskip\n"},
		{"panic", "a test", "store/x_test.go", "package store\n\nfunc f() { panic(1) }\n"},
		{"panic", "a method", "store/x.go", "package store\n\nfunc f(x t) { x.panic() }\n"},
		{"pure", "a clock value", "chart/x.go", "package chart\n\nimport \"time\"\n\ntype T struct{ at time.Time }\n"},
		{"route", "the table's file", "store/routes.go", "package store\n\nimport \"net/http\"\n\nvar m = http.NewServeMux()\n"},
		{"size", "generated code", "store/x.go", "// Code generated by x; DO NOT EDIT.\npackage store\n" + strings.Repeat("\n", 700)},
		{"name", "an external test", "store/x_test.go", "package store_test\n"},
		{"make", "prose and a target", "docs/x.md", "```\n$ make build\n```\nmake haste\n"},
		{"module", "raft in a rig", "test/sim/x.go", importing("sim", "github.com/hashicorp/raft")},
	} {
		t.Run(example.rule+"/"+example.name, func(t *testing.T) {
			i := slices.IndexFunc(Rules, func(r Rule) bool { return r.Name == example.rule })
			if found := Rules[i].Check(tree(t, map[string]string{example.path: example.text})); len(found) > 0 {
				t.Errorf("got %v, want none", found)
			}
		})
	}
}

func TestExcuse(t *testing.T) {
	list, err := parseAllowances([]byte("# c\n\npanic a/b.go 1 the state is impossible\nskip c/d.go 1 needs a real disk\n"))
	if err != nil {
		t.Fatal(err)
	}
	left := excuse([]Finding{{"panic", "a/b.go", 3, ""}, {"panic", "a/c.go", 4, ""}, {"panic", "a/b.go", 9, ""}}, list)
	var got []string
	for _, f := range left {
		got = append(got, fmt.Sprintf("%s %s:%d", f.Rule, f.Path, f.Line))
	}
	want := []string{"panic a/c.go:4", "panic a/b.go:9", "allow test/arch/allow.txt:4"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range []string{"panic a/b.go 1 because\n", "panic a/b.go it can not happen\n"} {
		if _, err := parseAllowances([]byte(bad)); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestFunctionLengthsOf(t *testing.T) {
	got := FunctionLengths(tree(t, map[string]string{"store/x.go": "package store\n\nfunc f() {\n\n\n}\n"}))
	if n := got["store/x.go:3 f"]; n != 4 {
		t.Errorf("got %v, want f with 4 lines", got)
	}
}

func TestMentions(t *testing.T) {
	text := "Run `healthpost status --json`, then:\n\n```\n$ ./bin/healthpost region create|invite NAME --ttl=1h # later\nhealthpost\n```\nhealthpost is a box.\nThe `healthpost` program.\n"
	var got []string
	for _, m := range Mentions(text) {
		got = append(got, strings.Join(append(slices.Clone(m.Words), m.Flags...), " "))
	}
	want := []string{"status --json", "region create --ttl", "region invite --ttl", "", ""}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUnknown(t *testing.T) {
	pages := map[string]string{
		"":              "Usage:\n  healthpost [command]\n\nAvailable Commands:\n",
		"region":        "Usage:\n  healthpost region [command]\n\nAvailable Commands:\n",
		"region create": "Usage:\n  healthpost region create NAME [flags]\n\nFlags:\n      --name string\n",
		"sync":          "Usage:\n  healthpost sync [PEER]\n",
	}
	help := func(words []string) string {
		if page, ok := pages[strings.Join(words, " ")]; ok {
			return page
		}
		return "Unknown help topic\n" + pages[""]
	}
	for _, c := range []struct{ line, want string }{
		{" region create --name x", ""},
		{" sync hub-a", ""},
		{" region destroy", "healthpost region destroy"},
		{" fly", "healthpost fly"},
		{" region create --nam", "--nam of healthpost region create"},
	} {
		if got := Unknown(mention(1, c.line)[0], help); got != c.want {
			t.Errorf("%q: got %q, want %q", c.line, got, c.want)
		}
	}
}
