package store_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// pullSpans brings this box's ledger to that of another one as a partial replica's.
func (b *box) pullSpans(from *box, bytesMax int) {
	b.t.Helper()
	target := from.s.Head()
	for b.s.Head().Size < target.Size {
		span := b.nextSpan(from, bytesMax)
		if err := b.extendSpan(from, span); err != nil {
			b.t.Fatal(err)
		}
	}
	if got := b.s.Head(); got != target {
		b.t.Fatalf("pulled to %v, want %v", got, target)
	}
}

func (b *box) nextSpan(from *box, bytesMax int) store.Span {
	b.t.Helper()
	var feeds []record.Feed
	pending, err := b.s.PendingFeeds()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range pending {
		feeds = append(feeds, f.Feed)
	}
	span, err := from.s.SpanFor(b.a.Device, b.s.Head().Size, from.s.Head().Size, bytesMax, feeds...)
	if err != nil {
		b.t.Fatal(err)
	}
	return span
}

func (b *box) extendSpan(from *box, span store.Span) error {
	b.t.Helper()
	target := from.s.Head()
	proof, err := from.s.ConsistencyProof(span.To, target.Size)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.s.ExtendSpan(ctx, span, target, proof)
}

// fillFrom takes entries [from, to) of another box into holes.
func (b *box) fillFrom(other *box, from, to uint64) error {
	b.t.Helper()
	head := b.s.Head()
	entries, err := other.s.Entries(from, to, 1<<20)
	if err != nil {
		b.t.Fatal(err)
	}
	left, right, err := other.s.RangeProof(from, from+uint64(len(entries)), head.Size)
	if err != nil {
		b.t.Fatal(err)
	}
	openings, err := other.s.OpeningsOf(entries)
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = b.s.Fill(ctx, from, entries, openings, left, right, head)
	return err
}

func (b *box) holes() []store.Hole {
	b.t.Helper()
	h, err := b.s.Holes(1 << 20)
	if err != nil {
		b.t.Fatal(err)
	}
	return h
}

func (b *box) held(seq uint64) bool {
	return !slices.ContainsFunc(b.holes(), func(h store.Hole) bool { return seq >= h.From && seq < h.To })
}

// village is a hub with clinics that wrote visits at random.
func village(t testing.TB, r *rand.Rand, clinics, visits, compartments int) (hub *box, all []*box) {
	hub = newBox(t, 1, record.RoleHub)
	hub.found()
	for i := range clinics {
		c := newBox(t, uint64(2+i), record.RoleClinic)
		hub.admit(c)
		c.pull(hub)
		c.beginEpoch()
		all = append(all, c)
	}
	for range visits {
		c := all[r.IntN(len(all))]
		for range 1 + r.IntN(3) {
			c.append(visit(byte(r.IntN(compartments)), 32+r.IntN(40), r))
		}
		if r.IntN(8) == 0 {
			c.beginEpoch()
		}
		c.push(hub)
		hub.order()
	}
	return hub, all
}

// checkPartial compares a partial replica with the full one.
func (b *box) checkPartial(full *box) {
	b.t.Helper()
	head := full.s.Head()
	if got := b.s.Head(); got != head {
		b.t.Fatalf("head %v, want %v", got, head)
	}
	holes := b.holes()
	absent := uint64(0)
	for _, h := range holes {
		absent += h.To - h.From
		for _, size := range []uint64{h.From, h.To} {
			got, err := b.s.RootAt(size)
			want, werr := full.s.RootAt(size)
			if err != nil || werr != nil || got != want {
				b.t.Fatalf("root of size %d is %x, %v; want %x, %v", size, got, err, want, werr)
			}
		}
	}
	if got := b.s.Absent(); got != absent {
		b.t.Fatalf("%d entries absent, the holes have %d", got, absent)
	}
	b.sameAuthority(full)
	at := 0
	for seq := range head.Size {
		for at < len(holes) && seq >= holes[at].To {
			at++
		}
		if at < len(holes) && seq >= holes[at].From {
			if _, err := b.s.Entry(seq); !errors.Is(err, store.ErrHole) {
				b.t.Fatalf("entry %d in a hole: got %v, want ErrHole", seq, err)
			}
			continue
		}
		e, err := b.s.Entry(seq)
		if err != nil {
			b.t.Fatal(err)
		}
		proof, err := b.s.InclusionProof(seq, head.Size)
		if err != nil {
			b.t.Fatalf("entry %d: %v", seq, err)
		}
		if err := record.VerifyInclusion(head, seq, record.LeafHash(e.EncodeLeaf()), proof); err != nil {
			b.t.Fatal(err)
		}
		want, err := full.s.Entry(seq)
		if err != nil || string(want.EncodeLeaf()) != string(e.EncodeLeaf()) {
			b.t.Fatalf("entry %d is another one: %v", seq, err)
		}
	}
}

// sameAuthority compares members and registry.
func (b *box) sameAuthority(full *box) {
	b.t.Helper()
	type row struct{ key, value string }
	rows := func(s *store.Store) (out []row) {
		if err := s.ScanRegistry(nil, func(key, value []byte) bool {
			out = append(out, row{string(key), string(value)})
			return true
		}); err != nil {
			b.t.Fatal(err)
		}
		return out
	}
	if got, want := rows(b.s), rows(full.s); !slices.Equal(got, want) {
		b.t.Fatalf("registry has %d rows, or others than the %d of a full replica", len(got), len(want))
	}
	got, err := b.s.Members()
	want, werr := full.s.Members()
	if err != nil || werr != nil || !reflect.DeepEqual(got, want) {
		b.t.Fatalf("members %+v, %v; want %+v, %v", got, err, want, werr)
	}
}

func (b *box) assign(to *box, mode record.Mode, add ...byte) {
	b.t.Helper()
	a := record.Assign{Device: to.a.Device[:], Mode: mode}
	for _, c := range add {
		id := record.CompartmentID{1, c}
		a.Add = append(a.Add, id[:])
	}
	b.append(store.Draft{Lane: record.LaneControl, Kind: record.KindAssign, Seal: fixed(marshal(a))})
	b.order()
}

func TestPartialReplicaReachesTheSameRoot(t *testing.T) {
	r := rng(t)
	hub, clinics := village(t, r, 3, 120, 12)
	p := newBox(t, 50, record.RoleClinic)
	hub.admit(p)
	p.pullSpans(hub, 2000)
	if !p.s.HasHoles() {
		t.Fatal("a partial replica has no holes")
	}
	p.checkPartial(hub)
	p.beginEpoch()
	p.append(visit(3, 40, r))
	p.push(hub)
	hub.order()
	clinics[0].append(visit(3, 40, r), visit(4, 40, r))
	clinics[0].push(hub)
	hub.order()
	p.pullSpans(hub, 2000)
	p.checkPartial(hub)
	p.reopen()
	p.checkPartial(hub)
	if _, err := p.s.Order(2, 1, (&record.Batch{}).Encode()); !errors.Is(err, store.ErrHole) {
		t.Fatalf("a replica with holes orders: %v", err)
	}
	c := record.CompartmentID{1, 3}
	if missing, err := p.s.MissingOf(c); err != nil || !missing {
		t.Fatalf("entries before the first visit here are missing: %v, %v; want that known", missing, err)
	}
	seqs, err := hub.s.CompartmentSeqs(c, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	p.checkGaps(c, seqs)
	for _, seq := range seqs {
		if !p.held(seq) {
			if err := p.fillFrom(hub, seq, seq+1); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.checkPartial(hub)
	if missing, err := p.s.MissingOf(c); err != nil || missing {
		t.Fatalf("missing %v, %v after all were filled", missing, err)
	}
	have, err := p.s.Compartment(c)
	want, werr := hub.s.Compartment(c)
	if err != nil || werr != nil || len(have) != len(want) {
		t.Fatalf("%d records of the compartment, want %d: %v %v", len(have), len(want), err, werr)
	}
}

// checkGaps: the gaps of a compartment have all of its entries that are not held and
// none that is, and can be asked for one by one.
func (b *box) checkGaps(c record.CompartmentID, seqs []uint64) {
	b.t.Helper()
	all, err := b.s.GapsOf(c, 0, 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, seq := range seqs {
		in := slices.ContainsFunc(all, func(g store.Hole) bool { return g.From <= seq && seq < g.To })
		if in == b.held(seq) {
			b.t.Errorf("entry %d is held: %v, in a gap: %v", seq, b.held(seq), in)
		}
	}
	at := uint64(0)
	for _, want := range all {
		got, err := b.s.GapsOf(c, at, 1)
		if err != nil || len(got) != 1 || got[0] != want {
			b.t.Fatalf("from %d: %v, %v, want %v", at, got, err, want)
		}
		at = want.To
	}
	if more, err := b.s.GapsOf(c, at, 1); err != nil || len(more) != 0 {
		b.t.Errorf("behind the last gap: %v, %v", more, err)
	}
}

func TestFillsEndAsAFullReplica(t *testing.T) {
	r := rng(t)
	hub, clinics := village(t, r, 3, 90, 12)
	p := newBox(t, 50, record.RoleClinic)
	hub.admit(p)
	p.pullSpans(hub, 4000)
	p.beginEpoch()
	for p.s.HasHoles() {
		holes := p.holes()
		h := holes[r.IntN(len(holes))]
		from := h.From + r.Uint64N(h.To-h.From)
		to := min(from+1+r.Uint64N(60), p.s.Head().Size)
		if err := p.fillFrom(hub, from, to); err != nil {
			t.Fatalf("filling %d to %d: %v", from, to, err)
		}
		if r.IntN(10) == 0 {
			p.checkPartial(hub)
		}
		if r.IntN(20) == 0 {
			p.reopen()
		}
	}
	p.checkPartial(hub)
	check(t, p.s)
	p.reopen()
	p.beginEpoch()
	clinics[1].append(visit(1, 30, r))
	clinics[1].push(p)
	clinics[1].push(hub)
	hub.order()
	p.pull(hub) // by the rules of a full replica
	p.checkPartial(hub)
}

func TestSpansThatDoNotFit(t *testing.T) {
	r := rng(t)
	hub, _ := village(t, r, 3, 60, 6)
	p := newBox(t, 50, record.RoleClinic)
	hub.admit(p)
	p.pullSpans(hub, 1000)
	p.beginEpoch()
	for i := range 4 {
		p.append(visit(byte(i), 40, r))
	}
	p.push(hub)
	hub.order()
	good := p.nextSpan(hub, 1<<20)
	clone := func() store.Span {
		s := good
		s.Entries, s.Gaps = slices.Clone(good.Entries), slices.Clone(good.Gaps)
		for i := range s.Gaps {
			s.Gaps[i].Hashes = slices.Clone(s.Gaps[i].Hashes)
		}
		return s
	}
	before := p.s.Head()
	for name, change := range map[string]func(*store.Span){
		"an own entry left out": func(s *store.Span) {
			i := slices.IndexFunc(s.Entries, func(e record.Entry) bool { return e.Record.Core.Kind == record.KindClinical })
			e := s.Entries[i]
			s.Entries = slices.Delete(s.Entries, i, i+1)
			s.Gaps = append(s.Gaps, record.GapHashes{From: e.Seq, To: e.Seq + 1, Hashes: []record.Hash{record.LeafHash(e.EncodeLeaf())}})
		},
		"another time":           func(s *store.Span) { s.Entries[1].Time++ },
		"another previous entry": func(s *store.Span) { s.Entries[len(s.Entries)-1].PrevSeq++ },
		"an entry twice":         func(s *store.Span) { s.Entries = append(s.Entries, s.Entries[0]) },
		"a span that ends early": func(s *store.Span) { s.To-- },
		"a span from elsewhere":  func(s *store.Span) { s.From++ },
		"a gap over what is held": func(s *store.Span) {
			s.Gaps = append(s.Gaps, record.GapHashes{From: 3, To: 4, Hashes: make([]record.Hash, 1)})
		},
	} {
		s := clone()
		change(&s)
		if err := p.extendSpan(hub, s); !errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: got %v, want ErrRefused", name, err)
		}
		if got := p.s.Head(); got != before {
			t.Fatalf("%s: the ledger went to %v", name, got)
		}
	}
	if err := p.extendSpan(hub, good); err != nil {
		t.Fatal(err)
	}
	p.checkPartial(hub)
}

func TestFillsThatDoNotFit(t *testing.T) {
	r := rng(t)
	hub, _ := village(t, r, 2, 80, 6)
	p := newBox(t, 50, record.RoleClinic)
	hub.admit(p)
	p.pullSpans(hub, 1<<20)
	h := p.holes()[0]
	for _, x := range p.holes() {
		if x.To-x.From > h.To-h.From {
			h = x
		}
	}
	from, to, head := h.From+1, h.To-1, p.s.Head()
	entries, err := hub.s.Entries(from, to, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	left, right, err := hub.s.RangeProof(from, to, head.Size)
	if err != nil {
		t.Fatal(err)
	}
	openings, err := hub.s.OpeningsOf(entries)
	if err != nil {
		t.Fatal(err)
	}
	other := slices.Clone(entries)
	other[0].Record.Sig[0] ^= 1
	flipped := slices.Clone(right)
	flipped[0][3] ^= 1
	absent := p.s.Absent()
	for name, f := range map[string]func() (int, error){
		"another signature": func() (int, error) { return p.s.Fill(ctx, from, other, openings, left, right, head) },
		"a flipped hash":    func() (int, error) { return p.s.Fill(ctx, from, entries, openings, left, flipped, head) },
		"a shifted range":   func() (int, error) { return p.s.Fill(ctx, from-1, entries, openings, left, right, head) },
		"another root": func() (int, error) {
			return p.s.Fill(ctx, from, entries, openings, left, right, record.TreeHead{Size: head.Size, Root: record.Hash{1}})
		},
		"without a proof": func() (int, error) { return p.s.Fill(ctx, from, entries, openings, nil, nil, record.TreeHead{}) },
	} {
		if n, err := f(); n != 0 || !errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: got %d, %v; want ErrRefused", name, n, err)
		}
	}
	if p.s.Absent() != absent {
		t.Fatal("a refused fill changed the holes")
	}
	whole, err := hub.s.Entries(h.From, h.To, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	openings, err = hub.s.OpeningsOf(whole)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.s.Fill(ctx, h.From, whole, openings, nil, nil, record.TreeHead{}); err != nil || uint64(n) != h.To-h.From {
		t.Fatalf("filling a whole hole by its own hashes: %d, %v; want %d", n, err, h.To-h.From)
	}
	p.checkPartial(hub)
}

func TestPartialReplicaRandom(t *testing.T) {
	all := rng(t)
	for range 2 {
		r := rand.New(rand.NewPCG(all.Uint64(), 3))
		hub, clinics := village(t, r, 1+r.IntN(3), r.IntN(40), 1+r.IntN(10))
		p := newBox(t, 50, record.RoleClinic)
		hub.admit(p)
		p.pullSpans(hub, 200+r.IntN(8000))
		p.beginEpoch()
		for range 1 + r.IntN(12) {
			switch r.IntN(7) {
			case 0:
				p.append(visit(byte(r.IntN(10)), 40, r))
				p.push(hub)
				hub.order()
			case 1:
				c := clinics[r.IntN(len(clinics))]
				c.append(visit(byte(r.IntN(10)), 40, r))
				c.push(hub)
				if r.IntN(2) == 0 {
					c.push(p) // as a neighbour
				}
				hub.order()
			case 2:
				p.pullSpans(hub, 200+r.IntN(8000))
				p.checkPartial(hub)
			case 3:
				if holes := p.holes(); len(holes) > 0 {
					h := holes[r.IntN(len(holes))]
					from := h.From + r.Uint64N(h.To-h.From)
					if err := p.fillFrom(hub, from, min(from+1+r.Uint64N(9), p.s.Head().Size)); err != nil {
						t.Fatal(err)
					}
				}
			case 4:
				p.reopen()
				p.beginEpoch()
			case 5:
				hub.assign(p, record.ModePartial, byte(r.IntN(10)))
			case 6:
				hub.admit(newBox(t, 60+r.Uint64N(5), record.RoleField))
			}
		}
		p.pullSpans(hub, 4000)
		p.checkPartial(hub)
		for p.s.HasHoles() {
			h := p.holes()[0]
			if err := p.fillFrom(hub, h.From, h.To); err != nil {
				t.Fatal(err)
			}
		}
		p.checkPartial(hub)
		for _, b := range append(clinics, hub, p) {
			b.close()
		}
	}
}

// What everybody must hold and a server left out is found when the hole is filled.
func TestAuthorityLeftOut(t *testing.T) {
	r := rng(t)
	hub, clinics := village(t, r, 2, 10, 3)
	p := newBox(t, 50, record.RoleClinic)
	hub.admit(p)
	p.pullSpans(hub, 1<<20)
	late := newBox(t, 51, record.RoleClinic)
	hub.admit(late)
	hub.assign(p, record.ModePartial, 1, 2)
	clinics[0].append(visit(2, 40, r))
	clinics[0].push(hub)
	hub.order()
	from, to := p.s.Head().Size, hub.s.Head().Size
	left, right, err := hub.s.RangeProof(from, to, to)
	if err != nil || len(right) != 0 {
		t.Fatalf("%d hashes, %v", len(right), err)
	}
	whole := record.Range{}
	for i, s := range record.GapShape(0, from) {
		if _, err := whole.AppendSubtree(s.Level, left[i]); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := hub.s.Entries(from, to, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	leaves := record.Nodes{}
	for i := range entries {
		leaves[record.Subtree{Index: entries[i].Seq}] = record.LeafHash(entries[i].EncodeLeaf())
	}
	g := record.GapHashes{From: from, To: to}
	for _, s := range record.GapShape(from, to) {
		h, _ := leaves.Hash(s)
		g.Hashes = append(g.Hashes, h)
	}
	if err := p.extendSpan(hub, store.Span{From: from, To: to, Gaps: []record.GapHashes{g}}); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := p.s.Member(late.a.Device); ok {
		t.Fatal("a member is known that no entry here admits")
	}
	for _, h := range p.holes() {
		if h.From >= from {
			if err := p.fillFrom(hub, h.From, h.To); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.checkPartial(hub)
	check(t, p.s)
}

// A record whose predecessor is nowhere in the ledger is carried, and kept aside
// when the ledger is whole and shows that.
func TestCarriedBehindAHole(t *testing.T) {
	r := rng(t)
	hub, clinics := village(t, r, 1, 20, 3)
	c := clinics[0]
	p := newBox(t, 50, record.RoleClinic)
	hub.admit(p)
	hub.assign(p, record.ModePartial, 2)
	c.append(visit(1, 40, r), visit(2, 40, r))
	c.push(hub)
	hub.order()
	p.pullSpans(hub, 1<<20)
	if !p.s.HasHoles() {
		t.Fatal("no holes")
	}
	recs := c.append(visit(1, 40, r), visit(1, 40, r), visit(1, 40, r))
	in, err := p.s.Ingest(ctx, c.a.Device, recs[1:])
	if err != nil || in.New != 2 {
		t.Fatalf("taken in: %+v, %v; want two records", in, err)
	}
	check(t, p.s)
	p.reopen()
	for p.s.HasHoles() {
		h := p.holes()[0]
		if err := p.fillFrom(hub, h.From, h.To); err != nil {
			t.Fatal(err)
		}
	}
	check(t, p.s)
	aside, err := p.s.Refused()
	if err != nil || len(aside) != 2 {
		t.Fatalf("%d records aside, %v; want both that nothing comes before", len(aside), err)
	}
	c.push(hub)
	hub.order()
	p.pull(hub)
	if aside, err = p.s.Refused(); err != nil || len(aside) != 0 {
		t.Fatalf("%d records aside after all were ordered, %v", len(aside), err)
	}
	p.checkPartial(hub)
}
