package store_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// erasure is the draft of a record that has a compartment or a record erased, signed
// by two staff members.
func erasure(by store.Author, target []byte) store.Draft {
	e := record.Erase{V: 1, Compartment: []byte{}, Record: []byte{}, Reason: record.EraseAsked}
	if len(target) == 16 {
		e.Compartment = target
	} else {
		e.Record = target
	}
	claim := record.EraseClaim(by.Device, e.Reason, target)
	keys := []ed25519.PrivateKey{key(901), key(902)}
	if bytes.Compare(keys[0].Public().(ed25519.PublicKey), keys[1].Public().(ed25519.PublicKey)) > 0 {
		keys[0], keys[1] = keys[1], keys[0]
	}
	for _, k := range keys {
		e.Staff = append(e.Staff, k.Public().(ed25519.PublicKey))
		e.Signatures = append(e.Signatures, ed25519.Sign(k, claim))
	}
	return store.Draft{Lane: record.LaneControl, Kind: record.KindErase, Seal: fixed(marshal(e))}
}

// foundIn names the files under a folder that hold one of some byte strings.
func foundIn(t testing.TB, dir string, needles ...[]byte) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, n := range needles {
			if bytes.Contains(b, n) {
				files = append(files, filepath.Base(path))
				break
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func bodies(recs []record.Record) (out [][]byte) {
	for i := range recs {
		out = append(out, recs[i].Body)
	}
	return out
}

// gone checks that a store gives no body of some records, whichever way it is asked.
func gone(t testing.TB, s *store.Store, recs []record.Record) {
	t.Helper()
	for i := range recs {
		r, ok, err := s.ByRID(recs[i].RID())
		if err != nil || !ok || r.Body != nil || !s.Erased(&r) {
			t.Errorf("record %d: found %v, body of %d bytes, %v", i, ok, len(r.Body), err)
		}
	}
	for _, e := range entriesOf(t, s) {
		for i := range recs {
			if e.Record.RID() == recs[i].RID() && e.Record.Body != nil {
				t.Errorf("entry %d comes with its body", e.Seq)
			}
		}
	}
}

func TestEraseCompartment(t *testing.T) {
	hub, clinic := pair(t)
	r := rng(t)
	wrap := store.Draft{Lane: record.LaneControl, Kind: record.KindKeyWrap, Compartment: record.CompartmentID{1, 7}, Seal: fixed(body(120, r))}
	erased := clinic.append(wrap, visit(7, 400, r), visit(7, 300, r))
	kept := clinic.append(visit(8, 400, r), store.Draft{Lane: record.LaneAudit, Kind: record.KindAccess, Compartment: record.CompartmentID{1, 7}, Seal: fixed(body(90, r))})
	clinic.push(hub)
	hub.order()
	clinic.pull(hub)
	before := hub.s.Head()
	late := clinic.append(visit(7, 222, r)) // written before its author knew
	c := record.CompartmentID{1, 7}
	hub.append(erasure(hub.a, c[:]))
	hub.order()
	gone(t, hub.s, erased)
	clinic.pull(hub)
	gone(t, clinic.s, erased)
	clinic.push(hub)
	hub.order()
	clinic.pull(hub)
	erased = append(erased, late...)
	for name, b := range map[string]*box{"hub": hub, "clinic": clinic} {
		gone(t, b.s, erased)
		for i := range kept {
			if got, ok, err := b.s.ByRID(kept[i].RID()); err != nil || !ok || !bytes.Equal(got.Body, kept[i].Body) {
				t.Errorf("%s: record %d of those that stay: %v, %v", name, i, ok, err)
			}
		}
		if root, err := b.s.RootAt(before.Size); err != nil || root != before.Root {
			t.Errorf("%s: the root of size %d changed: %v", name, before.Size, err)
		}
		if _, ok := b.s.ErasedCompartment(c); !ok {
			t.Errorf("%s: the compartment is not known as erased", name)
		}
		list, err := b.s.Erasures()
		if err != nil || len(list) != 1 || list[0].Compartment != c || list[0].Device != hub.a.Device || list[0].Reason != record.EraseAsked {
			t.Errorf("%s: erasures %+v, %v", name, list, err)
		}
		if b.s.ErasuresDue() == 0 {
			t.Errorf("%s: nothing is left to clear", name)
		}
		if err := b.s.Scour(ctx); err != nil {
			t.Fatal(err)
		}
		b.append(visit(9, 100, r)) // the store goes on
		b.reopen()
		gone(t, b.s, erased)
		if b.s.ErasuresDue() != 0 {
			t.Errorf("%s: something is left to clear", name)
		}
		b.close()
		if files := foundIn(t, b.dir, bodies(erased)...); len(files) > 0 {
			t.Errorf("%s: erased bodies are in %v", name, files)
		}
		if files := foundIn(t, b.dir, bodies(kept)...); len(files) == 0 {
			t.Errorf("%s: the scan does not find what stays", name)
		}
		b.open()
		check(t, b.s)
	}
}

func TestEraseOneRecord(t *testing.T) {
	hub, clinic := pair(t)
	r := rng(t)
	recs := clinic.append(visit(7, 400, r), visit(7, 300, r), visit(7, 200, r))
	rid := recs[1].RID()
	hub.append(erasure(hub.a, rid[:]))
	hub.order() // before the record has a place
	clinic.push(hub)
	hub.order()
	clinic.pull(hub)
	for _, b := range []*box{hub, clinic} {
		gone(t, b.s, recs[1:2])
		for _, i := range []int{0, 2} {
			if got, ok, err := b.s.ByRID(recs[i].RID()); err != nil || !ok || got.Body == nil {
				t.Errorf("record %d is gone too: %v", i, err)
			}
		}
	}
}

// TestEraseIsLearntLater lets a box take entries whose bodies were erased before it
// has the entry that erased them.
func TestEraseIsLearntLater(t *testing.T) {
	hub, clinic := pair(t)
	r := rng(t)
	recs := hub.append(visit(7, 400, r))
	hub.order()
	c := record.CompartmentID{1, 7}
	hub.append(erasure(hub.a, c[:]))
	hub.order()
	head := hub.s.Head()
	entries, err := hub.s.Entries(clinic.s.Head().Size, head.Size, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := hub.s.ConsistencyProof(entries[0].Seq+1, head.Size)
	if err != nil {
		t.Fatal(err)
	}
	if err := clinic.s.Extend(ctx, entries[:1], head, proof); err != nil { // without the erasure
		t.Fatal(err)
	}
	clinic.reopen()
	if got, err := clinic.s.Entry(entries[0].Seq); err != nil || got.Record.Body != nil || clinic.s.Erased(&got.Record) {
		t.Errorf("before its erasure: body of %d bytes, %v", len(got.Record.Body), err)
	}
	clinic.pull(hub)
	clinic.final()
	clinic.reopen()
	gone(t, clinic.s, recs)
	if list, err := clinic.s.Awaited(9); err != nil || len(list) != 0 {
		t.Errorf("bodies of %v are awaited, %v", list, err)
	}
}

func (b *box) final() {
	b.t.Helper()
	if err := b.s.PutFinal([]byte("note"), b.s.Head()); err != nil {
		b.t.Fatal(err)
	}
}

// TestStrippedBodiesComeBack: a peer that leaves bodies out hides them for a while.
// What this box wrote itself it has.
func TestStrippedBodiesComeBack(t *testing.T) {
	hub, clinic := pair(t)
	r := rng(t)
	own, others := clinic.append(visit(7, 400, r)), hub.append(visit(8, 300, r))
	clinic.push(hub)
	hub.order()
	whole := entriesOf(t, hub.s)[clinic.s.Head().Size:]
	bare := append([]record.Entry{}, whole...)
	for i := range bare {
		if bare[i].Record.Core.Erasable() {
			bare[i].Record = bare[i].Record.WithBody(nil)
		}
	}
	if err := clinic.s.Extend(ctx, bare, hub.s.Head(), nil); err != nil {
		t.Fatal(err)
	}
	if list, err := clinic.s.Awaited(9); err != nil || len(list) != 0 {
		t.Errorf("before there is a final checkpoint %v are awaited, %v", list, err)
	}
	clinic.final()
	if got, _, err := clinic.s.ByRID(own[0].RID()); err != nil || !bytes.Equal(got.Body, own[0].Body) {
		t.Errorf("this box's own record: body of %d bytes, %v", len(got.Body), err)
	}
	list, err := clinic.s.Awaited(9)
	rep, verr := clinic.s.Verify(ctx, store.VerifyOptions{}, nil)
	if err != nil || verr != nil || len(list) != 1 || rep.Awaited != 1 || len(rep.Damage) != 0 {
		t.Fatalf("%v are awaited, %v; verifying: %+v, %v", list, err, rep, verr)
	}
	key := binary.BigEndian.AppendUint64([]byte("v"), list[0])
	row := rowsUnder(t, clinic.s, string(key))[0]
	edit(t, clinic.s, key, nil)
	if d := damaged(t, clinic.s); len(d) != 1 {
		t.Errorf("a body that is gone without a word: %v", d)
	}
	edit(t, clinic.s, key, row.Value)
	if _, err := clinic.s.Repair(ctx, bare); !errors.Is(err, store.ErrRefused) {
		t.Errorf("a repair without bodies: %v, want ErrRefused", err)
	}
	if fixed, err := clinic.s.Repair(ctx, whole); err != nil || fixed != 1 {
		t.Errorf("repairing put %d rows right, %v", fixed, err)
	}
	if got, _, err := clinic.s.ByRID(others[0].RID()); err != nil || !bytes.Equal(got.Body, others[0].Body) {
		t.Errorf("the body that did not come: %d bytes, %v", len(got.Body), err)
	}
}

// TestErasedStaysErased rebuilds a store and takes its entries from a peer that
// still has the bodies.
func TestErasedStaysErased(t *testing.T) {
	hub, clinic := pair(t)
	r := rng(t)
	recs := clinic.append(visit(7, 400, r), visit(7, 300, r))
	clinic.push(hub)
	hub.order()
	clinic.pull(hub)
	old := entriesOf(t, hub.s) // with bodies
	c := record.CompartmentID{1, 7}
	hub.append(erasure(hub.a, c[:]))
	hub.order()
	clinic.pull(hub)
	if _, err := clinic.s.Repair(ctx, old); err != nil {
		t.Fatal(err)
	}
	gone(t, clinic.s, recs)
	if in, err := clinic.s.Ingest(ctx, hub.a.Device, recs); err != nil || in.New != 0 {
		t.Errorf("taking them in as pending: %+v, %v", in, err)
	}
	gone(t, clinic.s, recs)
	clinic.close()
	rep := clinic.rebuilt()
	if !rep.Whole() || rep.Lost != 0 {
		t.Errorf("rebuilding: %+v", rep)
	}
	gone(t, clinic.s, recs)
}

// TestErasedUnderAnOlderProgram opens a store in which a program that does not know
// erasures took one in: it kept the bodies.
func TestErasedUnderAnOlderProgram(t *testing.T) {
	hub := standalone(t)
	r := rng(t)
	recs := hub.append(visit(7, 400, r), visit(7, 300, r))
	hub.order()
	c := record.CompartmentID{1, 7}
	hub.append(erasure(hub.a, c[:]))
	hub.order()
	for i := range recs {
		loc, _, err := hub.s.Locate(recs[i].RID())
		if err != nil {
			t.Fatal(err)
		}
		key := binary.BigEndian.AppendUint64([]byte("b"), loc.Seq)
		edit(t, hub.s, key, store.SealRow(key, recs[i].Body))
	}
	for _, prefix := range []string{"nx", "ne", "ny"} {
		for _, row := range rowsUnder(t, hub.s, prefix) {
			edit(t, hub.s, row.Key, nil)
		}
	}
	if err := hub.s.Close(); err != nil {
		t.Fatal(err)
	}
	hub.s = nil
	if err := os.WriteFile(filepath.Join(hub.dir, "RULES"), []byte("rules 3\nsize 99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hub.open()
	gone(t, hub.s, recs)
	if list, err := hub.s.Erasures(); err != nil || len(list) != 1 {
		t.Errorf("erasures %+v, %v", list, err)
	}
}
