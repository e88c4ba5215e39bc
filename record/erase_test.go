package record_test

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// erasure is the body that has something erased, signed by two staff members.
func erasure(by *box, target []byte, staff ...string) record.Erase {
	e := record.Erase{V: 1, Compartment: []byte{}, Record: []byte{}, Reason: record.EraseAsked, Staff: [][]byte{}, Signatures: [][]byte{}}
	if len(target) == 32 {
		e.Record = target
	} else {
		e.Compartment = target
	}
	slices.SortFunc(staff, func(a, b string) int {
		return bytes.Compare(staffKey(a).Public().(ed25519.PublicKey), staffKey(b).Public().(ed25519.PublicKey))
	})
	for _, name := range staff {
		k := staffKey(name)
		e.Staff = append(e.Staff, k.Public().(ed25519.PublicKey))
		e.Signatures = append(e.Signatures, ed25519.Sign(k, record.EraseClaim(by.id, e.Reason, target)))
	}
	return e
}

func (b *box) erase(e record.Erase) record.Record {
	return b.write(record.LaneControl, record.KindErase, record.CompartmentID{}, mustMarshal(e))
}

func (l *ledger) erased(t testing.TB, target []byte) bool {
	t.Helper()
	_, ok, err := l.Registry(record.ErasedKey(target))
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// TestEraseIsOrderedWhateverItSays: a release that does not know the kind orders
// every record of it, so this one must too; what breaks the rules has no effect.
func TestEraseIsOrderedWhateverItSays(t *testing.T) {
	a := compartment("a")
	cases := []struct {
		name   string
		by     func(g *region) *box
		change func(g *region, e *record.Erase)
		effect bool
	}{
		{"a clinic, two persons", func(g *region) *box { return g.clinics[0] }, nil, true},
		{"a hub, two persons", func(g *region) *box { return g.hubs[1] }, nil, true},
		{"a field device", func(g *region) *box {
			x := newBox("field")
			g.mustOrder(t, g.hubs[0].add(x, record.RoleField), x.open())
			return x
		}, nil, false},
		{"one person twice", nil, func(_ *region, e *record.Erase) {
			e.Staff[1], e.Signatures[1] = e.Staff[0], e.Signatures[0]
		}, false},
		{"one person", nil, func(_ *region, e *record.Erase) { e.Staff, e.Signatures = e.Staff[:1], e.Signatures[:1] }, false},
		{"a signature for another box", nil, func(g *region, e *record.Erase) {
			*e = erasure(g.clinics[1], e.Compartment, "one", "two")
		}, false},
		{"a signature for another patient", nil, func(g *region, e *record.Erase) {
			b := compartment("b")
			e.Signatures = erasure(g.clinics[0], b[:], "one", "two").Signatures
		}, false},
		{"a reason that nobody signed", nil, func(_ *region, e *record.Erase) { e.Reason = record.EraseMistake }, false},
		{"no reason", nil, func(_ *region, e *record.Erase) { e.Reason = 0 }, false},
		{"another version", nil, func(_ *region, e *record.Erase) { e.V = 2 }, false},
		{"the directory", nil, func(g *region, e *record.Erase) {
			d := record.DirectoryCompartment(g.id)
			*e = erasure(g.clinics[0], d[:], "one", "two")
		}, false},
	}
	for _, c := range cases {
		g := newRegion(t)
		by := g.clinics[0]
		if c.by != nil {
			by = c.by(g)
		}
		e := erasure(by, a[:], "one", "two")
		if c.change != nil {
			c.change(g, &e)
		}
		g.mustOrder(t, by.erase(e))
		if got := g.erased(t, e.Target()); got != c.effect {
			t.Errorf("%s: erased %v, want %v", c.name, got, c.effect)
		}
	}
	g := newRegion(t)
	g.mustOrder(t, g.clinics[0].write(record.LaneControl, record.KindErase, record.CompartmentID{}, []byte("noise")),
		g.clinics[0].write(record.LaneControl, record.KindErased, record.CompartmentID{}, []byte("noise")))
}

func TestEraseOnceAndAttested(t *testing.T) {
	g := newRegion(t)
	a := compartment("a")
	first := g.Size()
	g.mustOrder(t, g.clinics[0].erase(erasure(g.clinics[0], a[:], "one", "two")), g.clinics[1].erase(erasure(g.clinics[1], a[:], "one", "two")))
	count := 0
	for key, value := range g.registry {
		if key[0] != record.ErasurePrefix()[0] {
			continue
		}
		count++
		e, err := record.ReadErasure([]byte(key), value)
		if err != nil || e.Seq != first || e.Compartment != a || e.Device != g.clinics[0].id || e.Reason != record.EraseAsked || e.Time != g.entries[first].Time {
			t.Errorf("erasure %+v, %v", e, err)
		}
	}
	if count != 1 {
		t.Errorf("%d erasures, want the first alone", count)
	}
	attest := func(b *box, seqs ...uint64) record.Record {
		return b.write(record.LaneControl, record.KindErased, record.CompartmentID{}, mustMarshal(record.Erased{Seqs: seqs}))
	}
	g.mustOrder(t, attest(g.hubs[0], first), attest(g.hubs[1], first+1), attest(g.hubs[2], first, first))
	for i, want := range []bool{true, false, false} {
		if got, err := record.HasAttested(g, first, g.hubs[i].id); err != nil || got != want {
			t.Errorf("hub %d attested: %v, %v; want %v", i, got, err, want)
		}
	}
}

// TestEraseAtMost bounds what one box in wrong hands can have erased in a day.
func TestEraseAtMost(t *testing.T) {
	g := newRegion(t)
	const most = 20
	n := 0
	next := func() []byte {
		n++
		c := compartment(string(rune('A' + n)))
		return c[:]
	}
	var last []byte
	for range most {
		last = next()
		g.mustOrder(t, g.clinics[0].erase(erasure(g.clinics[0], last, "one", "two")))
	}
	over := next()
	g.mustOrder(t, g.clinics[0].erase(erasure(g.clinics[0], over, "one", "two")))
	other := next()
	g.mustOrder(t, g.clinics[1].erase(erasure(g.clinics[1], other, "one", "two")))
	if !g.erased(t, last) || g.erased(t, over) || !g.erased(t, other) {
		t.Error("a box can erase more than it may in a day, or less, or holds up another")
	}
	g.at(t, 3*24*60*60, g.clinics[0].erase(erasure(g.clinics[0], over, "one", "two")))
	if !g.erased(t, over) {
		t.Error("on another day the box cannot erase")
	}
}

// TestJudgedWithoutBody: an entry that a ledger has already is judged without a body
// that may have been erased; nothing is ordered without one.
func TestJudgedWithoutBody(t *testing.T) {
	g := newRegion(t)
	a := compartment("a")
	visit := g.clinics[0].visit("a", "one").WithBody(nil)
	wrap := g.clinics[0].write(record.LaneControl, record.KindKeyWrap, a, []byte("a wrap")).WithBody(nil)
	look := g.clinics[0].write(record.LaneAudit, record.KindAccess, a, []byte("who looked")).WithBody(nil)
	member := g.hubs[0].add(newBox("x"), record.RoleField).WithBody(nil)
	for name, c := range map[string]struct {
		r           record.Record
		bare, other record.Verdict
	}{
		"visit":         {visit, record.Ordered, record.BadBody},
		"wrap":          {wrap, record.Ordered, record.BadBody},
		"access record": {look, record.BadBody, record.BadBody},
		"member":        {member, record.BadBody, record.BadBody},
	} {
		o := record.NewOrderer(g, nil)
		if out, err := o.Add(g.LastTime(), c.r); err != nil || out.Verdict != c.other {
			t.Errorf("%s is ordered: %s, %v; want %s", name, out.Verdict, err, c.other)
		}
		o.Bare()
		if out, err := o.Add(g.LastTime(), c.r); err != nil || out.Verdict != c.bare {
			t.Errorf("%s as an entry: %s, %v; want %s", name, out.Verdict, err, c.bare)
		}
	}
}

func FuzzDecodeErase(f *testing.F) {
	b, a := newBox("a"), compartment("a")
	f.Add(mustMarshal(erasure(b, a[:], "one", "two")))
	f.Add(mustMarshal(record.Erased{Seqs: []uint64{3, 9}}))
	f.Fuzz(func(t *testing.T, p []byte) {
		fuzz.Bounded(t, len(p), func() { record.DecodeErase(p) })
		if e, err := record.DecodeErase(p); err == nil {
			if again := mustMarshal(e); !bytes.Equal(again, p) {
				t.Fatal("an erasure is written in another way than it was read")
			}
			if n := len(e.Target()); n != 16 && n != 32 {
				t.Fatalf("target of %d bytes", n)
			}
		}
		if e, err := record.DecodeErased(p); err == nil && (len(e.Seqs) == 0 || len(e.Seqs) > record.ErasedMax) {
			t.Fatalf("%d erasures", len(e.Seqs))
		}
		if e, err := record.ReadErasure(append(record.ErasurePrefix(), make([]byte, 8)...), p); err == nil && e.Seq != 0 {
			t.Fatalf("seq %d of a key of zeros", e.Seq)
		}
	})
}
