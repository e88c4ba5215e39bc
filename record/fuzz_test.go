package record_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// seedLedger is a small real ledger to take start values from.
func seedLedger(f *testing.F) *region {
	f.Helper()
	g := newRegion(f)
	c := g.clinics[0]
	g.mustOrder(f, c.session(staffKey("nurse")), c.visit("a", "one"), c.visit("b", "two"), c.visit("a", "three"), g.clinics[1].visit("a", "four"))
	extended := c.next(record.LaneBulk, record.KindClinical, compartment("a"))
	extended.Ext = map[uint64][]byte{1: {1}, 2: {}}
	r := c.sign(extended, []byte("with extensions"))
	c.heads[record.LaneBulk] = record.Head{N: 1, RID: r.RID()}
	g.mustOrder(f, r, g.hubs[0].recovery(1, people...), g.hubs[1].recovery(1, people...), g.hubs[0].revoke(g.hubs[2]),
		c.write(record.LaneAudit, record.KindAttest, record.CompartmentID{}, mustMarshal(record.Attest{Size: 9, Root: make([]byte, 32)})))
	opening, one, two := g.branches(g.clinics[1])
	e, err := record.NewEquivocation(opening, one, two)
	if err != nil {
		f.Fatal(err)
	}
	g.mustOrder(f, g.hubs[0].write(record.LaneControl, record.KindEvidence, record.CompartmentID{}, e.Encode()))
	g.mustOrder(f, c.reset(g.resetBody(f, g.hubs[:1], 2)))
	return g
}

func wantMalformed(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, record.ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
}

func FuzzUnmarshalCore(f *testing.F) {
	for _, e := range seedLedger(f).entries {
		f.Add(e.Record.CoreBytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.DecodeCore(b) })
		c, err := record.DecodeCore(b)
		if err != nil {
			wantMalformed(t, err)
			return
		}
		if !bytes.Equal(c.Encode(), b) {
			t.Errorf("got %x back", c.Encode())
		}
	})
}

func FuzzDecodeHeader(f *testing.F) {
	for _, e := range seedLedger(f).entries {
		f.Add(e.Record.EncodeHeader())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.DecodeHeader(b) })
		r, err := record.DecodeHeader(b)
		if err != nil {
			wantMalformed(t, err)
			return
		}
		if !bytes.Equal(r.EncodeHeader(), b) || !bytes.Equal(r.Core.Encode(), r.CoreBytes()) {
			t.Errorf("got %x back", r.EncodeHeader())
		}
	})
}

func FuzzDecodeLeaf(f *testing.F) {
	for _, e := range seedLedger(f).entries {
		f.Add(e.EncodeLeaf())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.DecodeLeaf(7, b) })
		e, err := record.DecodeLeaf(7, b)
		if err != nil {
			wantMalformed(t, err)
			return
		}
		if !bytes.Equal(e.EncodeLeaf(), b) || e.Seq != 7 {
			t.Errorf("got %x back", e.EncodeLeaf())
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	g := seedLedger(f)
	b := record.Batch{LeaderMillis: startMillis}
	f.Add(b.Encode())
	for _, e := range g.entries {
		b.Records = append(b.Records, e.Record)
	}
	f.Add(b.Encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		fuzz.Bounded(t, len(p), func() { record.DecodeBatch(p) })
		b, err := record.DecodeBatch(p)
		if err != nil {
			wantMalformed(t, err)
			return
		}
		if !bytes.Equal(b.Encode(), p) {
			t.Errorf("got %x back", b.Encode())
		}
		// Whatever it says, ordering it twice from the same state agrees, and
		// the ledger stays sound.
		one, two := newLedger(), newLedger()
		one.order(t, b.LeaderMillis, b.Records...)
		two.order(t, b.LeaderMillis, b.Records...)
		if one.head() != two.head() {
			t.Errorf("got heads %v and %v", one.head(), two.head())
		}
		one.Check(t)
	})
}

func FuzzReadRun(f *testing.F) {
	c := newBox("author")
	f.Add(record.AppendRun(nil, []record.Record{c.open()}))
	f.Add(record.AppendRun(nil, []record.Record{c.visit("a", "1"), c.visit("b", "2"), c.visit("a", "3").WithBody(nil), c.visit("b", "4")}))
	extended := c.next(record.LaneBulk, record.KindClinical, compartment("a"))
	extended.Ext = map[uint64][]byte{1: {1}, 2: {}}
	f.Add(record.AppendRun(nil, []record.Record{c.sign(extended, []byte("x"))}))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.ReadRun(b, func(record.Position) (record.RID, bool) { return c.opened, true }) })
		prev := func(record.Position) (record.RID, bool) { return c.opened, true }
		records, err := record.ReadRun(b, prev)
		if err != nil {
			wantMalformed(t, err)
			return
		}
		// What was read can be sent on and read again as the same records.
		again, err := record.ReadRun(record.AppendRun(nil, records), prev)
		if err != nil || len(again) != len(records) {
			t.Fatalf("sent on: got %d records of %d, %v", len(again), len(records), err)
		}
		for i := range again {
			if !sameRecord(again[i], records[i]) {
				t.Errorf("sent on: record %d differs", i)
			}
		}
		if _, _, count, err := record.RunHead(b); err != nil || count != uint64(len(records)) {
			t.Errorf("got a head of %d records, %v, want %d", count, err, len(records))
		}
	})
}

func FuzzReadSegment(f *testing.F) {
	g := seedLedger(f)
	rx := replica{g.prefix(f, 2), map[record.Position]record.Record{}}
	for _, e := range g.entries[5:8] {
		rx.pending[e.Record.Position()] = e.Record
	}
	f.Add(record.AppendSegment(nil, g.entries[2:], func(record.Position) bool { return false }))
	f.Add(record.AppendSegment(nil, g.entries[2:], func(p record.Position) bool { _, ok := rx.pending[p]; return ok }))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.ReadSegment(b, rx) })
		start, entries, err := record.ReadSegment(b, rx)
		if err != nil {
			if !errors.Is(err, record.ErrGap) {
				wantMalformed(t, err)
			}
			return
		}
		// A peer cannot make the receiver order what is not signed and linked.
		o := record.NewOrderer(rx, nil)
		for i, e := range entries {
			if e.Seq != start+uint64(i) {
				t.Errorf("entry %d: got seq %d, want %d", i, e.Seq, start+uint64(i))
			}
			if !bytes.Equal(e.Record.Core.Encode(), e.Record.CoreBytes()) {
				t.Errorf("entry %d: the core is not its bytes", i)
			}
			if _, err := o.Add(e.Time, e.Record); err != nil {
				t.Fatal(err)
			}
		}
		l := g.prefix(t, 2)
		l.commit(o.Changes)
		l.Check(t)
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	hubs := ids(hubBoxes)
	f.Add(cosigned(f, someHead, hubBoxes...))
	f.Add(cosigned(f, record.TreeHead{Root: record.EmptyRoot}, hubBoxes[0]))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.OpenCheckpoint(regionID.Ledger(1), b, hubs) })
		c, err := record.OpenCheckpoint(regionID.Ledger(1), b, hubs)
		if err != nil {
			return
		}
		if len(c.Signers) == 0 || len(c.Signers) > len(hubs) || !bytes.HasPrefix(b, []byte(record.CheckpointText(regionID.Ledger(1), c.Head)+"\n")) {
			t.Errorf("got %d signers of %v", len(c.Signers), c.Head)
		}
		merged, err := record.MergeCosignatures(regionID.Ledger(1), b, b, hubs)
		if err != nil {
			t.Fatalf("joining it with itself: %v", err)
		}
		if again, err := record.OpenCheckpoint(regionID.Ledger(1), merged, hubs); err != nil || again.Head != c.Head || len(again.Signers) != len(c.Signers) {
			t.Errorf("joined with itself: got %+v, %v", again.Head, err)
		}
	})
}

func FuzzControlBodies(f *testing.F) {
	open, add, revoke, found, session := soundBodies()
	for _, v := range []any{open, add, revoke, found, session} {
		f.Add(mustMarshal(v))
	}
	for _, v := range laterBodies() {
		f.Add(mustMarshal(v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() {
			for _, decode := range decoders {
				decode(b)
			}
		})
		read := 0
		for name, decode := range decoders {
			v, err := decode(b)
			if err != nil {
				wantMalformed(t, err)
				continue
			}
			read++
			if back := mustMarshal(v); !bytes.Equal(back, b) {
				t.Errorf("%s: got %x back", name, back)
			}
		}
		if read > 1 {
			t.Errorf("the bytes read as %d different bodies", read)
		}
	})
}
