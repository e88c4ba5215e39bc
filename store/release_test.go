package store_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

func TestReleaseKeepsWhatIsNotConfirmed(t *testing.T) {
	r := rng(t)
	hub, clinics := village(t, r, 2, 60, 4)
	p := newBox(t, 50, record.RoleField)
	hub.admit(p)
	p.pull(hub)
	p.beginEpoch()
	gone := record.CompartmentID{1, 1}
	keep := func(c record.CompartmentID) bool { return c != gone }
	release := func() store.Released {
		rep, err := p.s.Release(ctx, p.a.Device, keep)
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	before, err := p.s.CompartmentSeqs(gone, 0, 1000)
	if err != nil || len(before) < 4 {
		t.Fatalf("%d entries of the compartment, %v", len(before), err)
	}
	if rep := release(); rep.Entries != 0 || rep.Kept != uint64(len(before)) {
		t.Fatalf("without a final checkpoint: %+v", rep)
	}
	half := before[len(before)/2]
	root, err := p.s.RootAt(half)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.s.PutFinal([]byte("half"), record.TreeHead{Size: half, Root: root}); err != nil {
		t.Fatal(err)
	}
	own := p.append(visit(1, 40, r))
	if rep := release(); rep.Entries != 0 {
		t.Fatalf("with a pending record beside them %d entries went", rep.Entries)
	}
	p.push(hub)
	hub.order()
	p.pull(hub)
	if rep := release(); rep.Entries != uint64(len(before)/2) {
		t.Fatalf("%+v, want the %d under the final checkpoint to go", rep, len(before)/2)
	}
	p.checkPartial(hub)
	if err := p.s.PutFinal([]byte("all"), p.s.Head()); err != nil {
		t.Fatal(err)
	}
	clinics[0].append(visit(2, 40, r))
	clinics[0].push(hub)
	hub.order()
	p.pullSpans(hub, 1<<20) // another arrival is the last one now
	if rep := release(); rep.Kept != 1 {
		t.Fatalf("%+v, want only the own record to stay", rep)
	}
	p.checkPartial(hub)
	if _, ok, err := p.s.ByRID(own[0].RID()); err != nil || !ok {
		t.Fatalf("the own record is gone: %v", err)
	}
	if left, err := p.s.CompartmentSeqs(gone, 0, 1000); err != nil || len(left) != 1 {
		t.Fatalf("%v stays, %v", left, err)
	}
	if missing, err := p.s.MissingOf(gone); err != nil || !missing {
		t.Fatalf("missing %v, %v; want it known", missing, err)
	}
	p.reopen()
	for _, h := range p.holes() {
		if err := p.fillFrom(hub, h.From, h.To); err != nil {
			t.Fatal(err)
		}
	}
	if p.s.HasHoles() {
		t.Fatal("holes are left after all were filled")
	}
	after, err := p.s.CompartmentSeqs(gone, 0, 1000)
	if err != nil || !slices.Equal(after[:len(before)], before) {
		t.Fatalf("entries %v came back, want %v: %v", after, before, err)
	}
}

// Rows that hold a record are removed in two places: where its pending form gives
// way to another one, and by Release.
func TestOnlyReleaseRemovesRecords(t *testing.T) {
	allowed := map[string]bool{}
	for _, name := range []string{
		"removePending", "release", "removeBlob", // records, and attachments with them
		"setAside", "setRight", // of Verify: what is an entry as well, what nobody signed
		"indexEntry", "full", // copies of what is an entry now
		"dropRefusal", "scopeAfterRelease", "lastNumber", "judgeAuthority", // notes, registry
		"putUnder", "putBlob", "DropBlob", "MendBlob", "PutBlobHolder", // no rows of records
	} {
		allowed[name] = true
	}
	names, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, n := range names {
		if !strings.HasSuffix(n.Name(), ".go") || strings.HasSuffix(n.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), n.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(x ast.Node) bool {
				call, ok := x.(*ast.CallExpr)
				if !ok {
					return true
				}
				if s, ok := call.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "unset" && !computed(call.Args[0]) {
					found[f.Name.Name] = true
				}
				return true
			})
		}
	}
	for name := range found {
		if !allowed[name] {
			t.Errorf("%s removes rows that may hold a record", name)
		}
	}
	for _, name := range []string{"removePending", "release"} {
		if !found[name] {
			t.Errorf("the test does not see that %s removes records", name)
		}
	}
}

// computed says whether a key that is removed is one of an index, a mark or a hole.
func computed(key ast.Expr) bool {
	call, ok := key.(*ast.CallExpr)
	if !ok {
		id, ok := key.(*ast.Ident)
		return ok && id.Name == "keyFloor"
	}
	name, ok := call.Fun.(*ast.Ident)
	if !ok {
		return false
	}
	switch name.Name {
	case "keyHole", "keyMissing", "keyAwaited", "keyRegistry", "keyIndexRID", "keyScopePending", "keyScope", "keyScopeLast", "keyAck":
		return true
	case "keyFeed", "keySeq":
		id, ok := call.Args[0].(*ast.Ident)
		return ok && (id.Name == "pWork" || id.Name == "pFeed" || id.Name == "pArrival")
	}
	return false
}

func TestReleaseTakesAttachmentsAlong(t *testing.T) {
	hub, clinic := pair(t)
	blob := clinic.attach(40_000)
	clinic.append(visit(2, 40, rng(t)))
	clinic.push(hub)
	hub.order()
	p := newBox(t, 50, record.RoleField)
	hub.admit(p)
	p.pull(hub)
	clinic.send(p, blob)
	gone := record.CompartmentID{1, 1}
	if err := p.s.PutFinal([]byte("all"), p.s.Head()); err != nil {
		t.Fatal(err)
	}
	rep, err := p.s.Release(ctx, p.a.Device, func(c record.CompartmentID) bool { return c != gone })
	if err != nil || rep.Entries != 1 {
		t.Fatalf("%+v, %v; want the visit gone", rep, err)
	}
	if _, ok, err := p.s.Blob(blob.ID()); ok || err != nil {
		t.Fatalf("the attachment is here still: %v, %v", ok, err)
	}
	check(t, p.s)
	for _, h := range p.holes() {
		if err := p.fillFrom(hub, h.From, h.To); err != nil {
			t.Fatal(err)
		}
	}
	if st := p.blob(blob); st.Whole() || len(p.missing()) != 1 {
		t.Fatalf("after the visit came back its attachment is %+v, want it missing", st.Have)
	}
	clinic.send(p, blob)
	check(t, p.s)
}
