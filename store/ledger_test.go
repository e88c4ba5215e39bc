package store_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

func TestVisitGoesFromClinicToLedger(t *testing.T) {
	hub, clinic := pair(t)
	r := rand.New(rand.NewPCG(1, 1))
	recs := clinic.append(visit(1, 900, r), visit(2, 900, r))
	if in := clinic.push(hub); in.New != 3 || len(in.Refused) != 0 {
		t.Fatalf("hub took in %+v, want the opening record first, then the others", in)
	}
	if in := clinic.push(hub); in.New != 0 || in.Known != 3 {
		t.Errorf("hub took in %+v the second time, want nothing new", in)
	}
	for _, o := range hub.order() {
		if o.Verdict != record.Ordered {
			t.Errorf("record %s: %s, want ordered", o.RID.Short(), o.Verdict)
		}
	}
	clinic.pull(hub)
	for i := range recs {
		loc, ok, err := clinic.s.Locate(recs[i].RID())
		if err != nil || !ok || loc.Pending {
			t.Errorf("record %d is at %+v, %v, %v; want it ordered", i, loc, ok, err)
		}
	}
	if feeds, err := clinic.s.PendingFeeds(); err != nil || len(feeds) != 0 {
		t.Errorf("clinic still has %v pending, %v", feeds, err)
	}
	hub.reopen()
	clinic.reopen()
	if hub.s.Head() != clinic.s.Head() {
		t.Errorf("hub is at %v, clinic at %v", hub.s.Head(), clinic.s.Head())
	}
}

func TestOrderIsExactlyOnce(t *testing.T) {
	hub, clinic := pair(t)
	r := rand.New(rand.NewPCG(1, 1))
	clinic.append(visit(1, 100, r))
	clinic.push(hub)
	recs := hub.pending(1 << 20)
	batch := record.Batch{LeaderMillis: int64(hub.wall), Records: recs}
	hub.raft++
	index := hub.raft
	for i, want := range []record.Verdict{record.Ordered, record.Duplicate, record.Duplicate} {
		outs, err := hub.s.Order(index, 1, batch.Encode())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outs {
			if o.Verdict != want {
				t.Errorf("call %d: %s, want %s", i, o.Verdict, want)
			}
		}
		if got, _, size := hub.s.Applied(); got != index || size != hub.s.Head().Size {
			t.Errorf("call %d: applied %d at size %d, want %d at %d", i, got, size, index, hub.s.Head().Size)
		}
		if i == 1 {
			hub.reopen()
		}
	}
	size := hub.s.Head().Size
	hub.raft++
	if outs, err := hub.s.Order(hub.raft, 1, batch.Encode()); err != nil || outs[0].Verdict != record.Duplicate || hub.s.Head().Size != size {
		t.Errorf("the same records under a later index: %v, %v, size %d", outs, err, hub.s.Head().Size)
	}
	if outs, err := hub.s.Order(hub.raft+1, 2, []byte("no batch")); err != nil || len(outs) != 0 || hub.s.Head().Size != size {
		t.Errorf("an item that is no batch gives %v, %v, size %d", outs, err, hub.s.Head().Size)
	}
	if index, term, _ := hub.s.Applied(); index != hub.raft+1 || term != 2 {
		t.Errorf("after it applied is %d, %d; want %d, 2", index, term, hub.raft+1)
	}
	hub.raft++
}

// TestReplicasAgree gives the same items to two hubs, one of which restarts, and
// compares every byte of the ledger.
func TestReplicasAgree(t *testing.T) {
	r := rng(t)
	a, clinic := pair(t)
	b := newBox(t, 9, record.RoleHub)
	for seq := uint64(0); seq < a.s.Head().Size; seq++ {
		e, err := a.s.Entry(seq)
		if err != nil {
			t.Fatal(err)
		}
		batch := record.Batch{LeaderMillis: e.Time * 1000, Records: []record.Record{e.Record}}
		b.raft++
		if _, err := b.s.Order(b.raft, 1, batch.Encode()); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		for range r.IntN(8) {
			clinic.append(visit(byte(r.IntN(5)), r.IntN(1000)+1, r))
		}
		clinic.push(a)
		recs := a.pending(1 << 20)
		r.Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
		batch := record.Batch{LeaderMillis: int64(a.wall) + r.Int64N(1<<30), Records: recs}
		a.raft, b.raft = a.raft+1, b.raft+1
		x, err := a.s.Order(a.raft, 1, batch.Encode())
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.s.Order(b.raft, 1, batch.Encode())
		if err != nil {
			t.Fatal(err)
		}
		for i := range x {
			if x[i] != y[i] {
				t.Fatalf("hubs differ about record %d: %v and %v", i, x[i], y[i])
			}
		}
		if a.s.Head() != b.s.Head() {
			t.Fatalf("heads differ: %v and %v", a.s.Head(), b.s.Head())
		}
		if r.IntN(5) == 0 {
			b.reopen()
		}
	}
}

func TestIngestTakesOnlyWhatFits(t *testing.T) {
	hub, clinic := pair(t)
	r := rand.New(rand.NewPCG(1, 1))
	clinic.append(visit(1, 100, r), visit(1, 100, r), visit(1, 100, r))
	recs := clinic.pending(1 << 20)
	opening, one, two, three := recs[0], recs[1], recs[2], recs[3]
	stranger := newBox(t, 7, record.RoleClinic)
	stranger.beginEpoch()
	flipped := one
	flipped.Sig[3] ^= 1
	for _, c := range []struct {
		what string
		rec  record.Record
		want record.Verdict
	}{
		{"unknown epoch", one, record.UnknownEpoch},
		{"a stranger's opening record", stranger.pending(1 << 20)[0], record.UnknownDevice},
		{"opening record", opening, record.Ordered},
		{"opening record again", opening, record.Duplicate},
		{"gap", two, record.Gap},
		{"flipped signature", flipped, record.BadSignature},
		{"other body", one.WithBody(append(bytes.Clone(one.Body[1:]), 7)), record.BadBody},
		{"no body", one.WithBody(nil), record.BadBody},
		{"first", one, record.Ordered},
		{"first again", one, record.Duplicate},
		{"gap after one", three, record.Gap},
		{"second", two, record.Ordered},
		{"third", three, record.Ordered},
	} {
		before := hub.s.Arrived()
		in, err := hub.s.Ingest(ctx, clinic.a.Device, []record.Record{c.rec})
		if err != nil {
			t.Fatal(err)
		}
		switch c.want {
		case record.Ordered:
			if in.New != 1 || len(in.Refused) != 0 {
				t.Errorf("%s: %+v, want it stored", c.what, in)
			}
		case record.Duplicate:
			if in.Known != 1 || len(in.Refused) != 0 || hub.s.Arrived() != before {
				t.Errorf("%s: %+v, want it known", c.what, in)
			}
		default:
			if len(in.Refused) != 1 || in.Refused[0].Verdict != c.want || hub.s.Arrived() != before {
				t.Errorf("%s: %+v, want %s and nothing changed", c.what, in, c.want)
			}
		}
	}
}

func TestExtendRefusesAnythingElse(t *testing.T) {
	hub, clinic := pair(t)
	r := rand.New(rand.NewPCG(1, 1))
	clinic.append(visit(1, 100, r), visit(2, 100, r), visit(3, 100, r))
	clinic.push(hub)
	hub.order()
	from, target := clinic.s.Head(), hub.s.Head()
	good, err := hub.s.Entries(from.Size, target.Size, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(e []record.Entry) []record.Entry) []record.Entry {
		return f(append([]record.Entry(nil), good...))
	}
	other := target
	other.Root[0] ^= 1
	for _, c := range []struct {
		what    string
		entries []record.Entry
		target  record.TreeHead
		proof   []record.Hash
	}{
		{"other root", good, other, nil},
		{"larger target without proof", good[:2], target, nil},
		{"left out first", good[1:], target, nil},
		{"swapped", change(func(e []record.Entry) []record.Entry { e[1].Record, e[2].Record = e[2].Record, e[1].Record; return e }), target, nil},
		{"later time", change(func(e []record.Entry) []record.Entry { e[2].Time++; return e }), target, nil},
		{"other previous entry", change(func(e []record.Entry) []record.Entry { e[2].PrevSeq = 1; return e }), target, nil},
		{"flipped signature", change(func(e []record.Entry) []record.Entry { e[1].Record.Sig[0] ^= 1; return e }), target, nil},
		{"other body", change(func(e []record.Entry) []record.Entry { e[1].Record = e[1].Record.WithBody([]byte("x")); return e }), target, nil},
		{"proof where none is due", good, target, []record.Hash{{1}}},
	} {
		if err := clinic.s.Extend(ctx, c.entries, c.target, c.proof); !errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: %v, want refused", c.what, err)
		}
		if clinic.s.Head() != from {
			t.Fatalf("%s: the ledger moved", c.what)
		}
	}
	for i := range good {
		good[i].PrevSeq = 0 // as a frame brings them
	}
	if err := clinic.s.Extend(ctx, good, target, nil); err != nil || clinic.s.Head() != target {
		t.Errorf("the right entries: %v, head %v", err, clinic.s.Head())
	}
	if err := clinic.s.Extend(ctx, good, target, nil); !errors.Is(err, store.ErrRefused) {
		t.Errorf("the same entries again: %v, want refused", err)
	}
}

// TestLosingBranchIsKept: two records of one author at one place. The one that
// was ordered wins; the other stays here as refused, with its bytes.
func TestLosingBranchIsKept(t *testing.T) {
	hub, clinic := pair(t)
	r := rand.New(rand.NewPCG(1, 1))
	clinic.push(hub)
	hub.order()
	clinic.pull(hub)
	epoch := clinic.append(visit(1, 100, r), visit(1, 100, r))[0].Core.Epoch
	head, _, err := hub.s.State().Head(record.Feed{Epoch: epoch, Lane: record.LaneClinical})
	if err != nil {
		t.Fatal(err)
	}
	twin := func(n byte, prev record.RID) record.Record {
		return record.Sign(record.Core{Epoch: epoch, Lane: record.LaneClinical, N: uint64(n), Prev: prev, HLC: 1, Kind: record.KindClinical, Compartment: record.CompartmentID{1, n}}, []byte{n}, clinic.a.Key)
	}
	one := twin(1, head.RID)
	two := twin(2, one.RID())
	lost := clinic.pending(1 << 20)
	if in, err := hub.s.Ingest(ctx, clinic.a.Device, []record.Record{one, two}); err != nil || in.New != 2 {
		t.Fatal(in, err)
	}
	if in := clinic.push(hub); len(in.Refused) != 2 || in.Refused[0].Verdict != record.Equivocation {
		t.Errorf("hub that holds the twins says %+v, want equivocation", in)
	}
	hub.order()
	clinic.pull(hub)
	for range 2 {
		for i := range lost {
			got, ok, err := clinic.s.ByRID(lost[i].RID())
			if err != nil || !ok || !bytes.Equal(got.Body, lost[i].Body) {
				t.Errorf("record %d of the losing branch: found %v, %v; it must stay", i, ok, err)
			}
		}
		list, err := clinic.s.Refused()
		if err != nil || len(list) != 2 || list[0].Verdict != record.Equivocation {
			t.Errorf("refused: %v, %v; want two records for equivocation", list, err)
		}
		clinic.reopen()
	}
}

func TestRefusedIsKeptUntilOrdered(t *testing.T) {
	hub, clinic := pair(t)
	r := rand.New(rand.NewPCG(1, 1))
	rec := clinic.append(visit(1, 100, r))[0]
	out := record.Outcome{RID: rec.RID(), Verdict: record.NotAllowed}
	if err := clinic.s.PutRefused(out, hub.a.Device); err != nil {
		t.Fatal(err)
	}
	clinic.reopen()
	list, err := clinic.s.Refused()
	if err != nil || len(list) != 1 || list[0].Outcome != out || list[0].By != hub.a.Device || list[0].Position != rec.Position() || !bytes.Equal(list[0].Record.Body, rec.Body) {
		t.Fatalf("refused: %+v, %v", list, err)
	}
	if feeds, err := clinic.s.PendingFeeds(); err != nil || len(feeds) != 2 {
		t.Errorf("another box's verdict must not stop a feed: %v, %v", feeds, err)
	}
	clinic.push(hub)
	hub.order()
	clinic.pull(hub)
	if list, err := clinic.s.Refused(); err != nil || len(list) != 0 {
		t.Errorf("ordered after all, still refused: %v, %v", list, err)
	}
}

// TestOwnVerdictStopsFeed: a hub's own final verdict keeps the record and takes
// the feed off the list of what waits.
func TestOwnVerdictStopsFeed(t *testing.T) {
	hub, clinic := pair(t)
	bad := record.MemberAdd{Device: make([]byte, 32), Encryption: make([]byte, 32), Role: record.RoleHub, Name: "x", Addresses: []string{}}
	rec := clinic.append(store.Draft{Lane: record.LaneControl, Kind: record.KindMemberAdd, Seal: fixed(marshal(bad))})[0]
	clinic.push(hub)
	hub.order()
	if feeds, err := hub.s.PendingFeeds(); err != nil || len(feeds) != 0 {
		t.Errorf("hub still wants to order %v, %v", feeds, err)
	}
	list, err := hub.s.Refused()
	if err != nil || len(list) != 1 || list[0].RID != rec.RID() || list[0].Verdict != record.NotAllowed {
		t.Errorf("refused: %+v, %v; want the record for not allowed", list, err)
	}
	if _, ok, err := hub.s.ByRID(rec.RID()); !ok || err != nil {
		t.Errorf("refused record is gone: %v", err)
	}
	hub.reopen()
}

func TestAcksLastUntilOrdered(t *testing.T) {
	hub, clinic := pair(t)
	r := rand.New(rand.NewPCG(1, 1))
	recs := clinic.append(visit(1, 100, r), visit(1, 100, r))
	in := clinic.push(hub)
	if err := clinic.s.PutAck(hub.a.Device, []record.FeedHead{{Feed: recs[0].Position().Feed(), N: 1}}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 0} {
		if got, err := clinic.s.Acks(recs[i].Position()); err != nil || len(got) != want {
			t.Errorf("record %d has acks %v, %v; want %d", i, got, err, want)
		}
	}
	if err := clinic.s.PutAck(hub.a.Device, append(in.Heads, record.FeedHead{Feed: record.Feed{Lane: 3}, N: 5})); err != nil {
		t.Fatal(err)
	}
	clinic.reopen()
	if got, err := clinic.s.Acks(recs[1].Position()); err != nil || len(got) != 1 || got[0] != hub.a.Device {
		t.Errorf("acks after reopening: %v, %v", got, err)
	}
	if got, err := clinic.s.Holders(recs[0].Position().Feed()); err != nil || len(got) != 1 || got[hub.a.Device] != 2 {
		t.Errorf("holders: %v, %v; want the hub up to 2", got, err)
	}
	hub.order()
	clinic.pull(hub)
	if got, err := clinic.s.Acked(hub.a.Device); err != nil || len(got) != 0 {
		t.Errorf("acks of ordered records: %v, %v", got, err)
	}
}

func TestCheckpointsNeverGoBack(t *testing.T) {
	hub, _ := pair(t)
	head := hub.s.Head()
	root, err := hub.s.RootAt(head.Size - 1)
	if err != nil {
		t.Fatal(err)
	}
	older := record.TreeHead{Size: head.Size - 1, Root: root}
	wrong := record.TreeHead{Size: head.Size, Root: root}
	future := record.TreeHead{Size: head.Size + 1, Root: root}
	for _, c := range []struct {
		what string
		head record.TreeHead
		ok   bool
	}{{"older", older, true}, {"wrong root", wrong, false}, {"now", head, true}, {"older again", older, false}, {"past the end", future, false}, {"now again", head, true}} {
		if err := hub.s.PutSigned(c.head); (err == nil) != c.ok {
			t.Errorf("signing %s: %v, want ok %v", c.what, err, c.ok)
		}
	}
	for _, c := range []struct {
		what string
		head record.TreeHead
		ok   bool
	}{{"older", older, true}, {"wrong root", wrong, false}, {"now", head, true}, {"older again", older, true}, {"past the end", future, false}} {
		if err := hub.s.PutFinal([]byte(c.what), c.head); (err == nil) != c.ok {
			t.Errorf("final %s: %v, want ok %v", c.what, err, c.ok)
		}
	}
	hub.reopen()
	if note, got, ok := hub.s.Final(); !ok || got != head || string(note) != "now" || hub.s.Signed() != head {
		t.Errorf("after reopening: final %q %v %v, signed %v", note, got, ok, hub.s.Signed())
	}
	index, term, _ := hub.s.Applied()
	if err := hub.s.SetApplied(index+100, term+1, older); !errors.Is(err, store.ErrRefused) {
		t.Errorf("applied position for another head: %v, want refused", err)
	}
	if err := hub.s.SetApplied(index+100, term+1, head); err != nil {
		t.Error(err)
	}
	if got, gotTerm, _ := hub.s.Applied(); got != index+100 || gotTerm != term+1 {
		t.Errorf("applied %d, %d; want %d, %d", got, gotTerm, index+100, term+1)
	}
	hub.raft += 200
}

func TestEpochNamesItsPredecessor(t *testing.T) {
	b := standalone(t)
	r := rand.New(rand.NewPCG(1, 1))
	first := b.append(visit(1, 10, r), visit(1, 10, r))[0].Core.Epoch
	b.reopen()
	if _, err := b.s.Append(ctx, []store.Draft{visit(1, 10, r)}, nil); !errors.Is(err, store.ErrNoEpoch) {
		t.Errorf("saving before the epoch is open: %v", err)
	}
	second := b.beginEpoch()
	rec, ok, err := b.s.Held(record.Position{Epoch: second})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	e, err := record.DecodeEpochOpen(rec.Body)
	if err != nil || !bytes.Equal(e.Predecessor, first[:]) || e.Heads[record.LaneClinical] != 2 || e.Heads[record.LaneControl] != 1 {
		t.Errorf("opening record %+v, %v; want predecessor %s with its heads", e, err, first)
	}
	if e.Size != b.s.Head().Size {
		t.Errorf("opening record at size %d, want %d", e.Size, b.s.Head().Size)
	}
}

// TestForeignClock: a record from far in the future moves the hybrid clock at
// most five minutes past the wall clock.
func TestForeignClock(t *testing.T) {
	hub, clinic := pair(t)
	clinic.wall += 400 * 24 * 3600 * 1000
	r := rand.New(rand.NewPCG(1, 1))
	clinic.append(visit(1, 10, r))
	clinic.push(hub)
	own := hub.append(visit(1, 10, r))[0].Core.HLC
	if limit := uint64(hub.o.Now().UnixMilli()+6*60*1000) << 16; own > limit && own>>16 > hub.wall+1 {
		t.Errorf("own clock %d followed a foreign one past %d", own>>16, limit>>16)
	}
	next := hub.append(visit(1, 10, r))[0].Core.HLC
	if next <= own {
		t.Errorf("clock %d after %d", next, own)
	}
}

func TestArrivals(t *testing.T) {
	b := standalone(t)
	r := rand.New(rand.NewPCG(1, 1))
	recs := b.append(visit(1, 10, r), visit(2, 10, r))
	last := b.s.Arrived()
	got, err := b.s.Arrivals(last-1, 10)
	if err != nil || len(got) != 2 || !got[0].Pending || got[0].RID != recs[0].RID() || got[1].RID != recs[1].RID() {
		t.Fatalf("arrivals %+v, %v", got, err)
	}
	b.order()
	got, err = b.s.Arrivals(last+1, 10)
	if err != nil || len(got) != 2 || got[0].Pending || got[0].RID != recs[0].RID() || got[0].Seq != 2 {
		t.Errorf("arrivals after ordering %+v, %v", got, err)
	}
	b.s.Barrier(ctx)
	b.reopen()
	if b.s.Arrived() != last+2 {
		t.Errorf("arrival number %d after reopening, want %d", b.s.Arrived(), last+2)
	}
	if all, err := b.s.Arrivals(0, 100); err != nil || len(all) != 4 {
		t.Errorf("%d arrivals in all, %v; want one for each of 4 records", len(all), err)
	}
}

// TestIngestOfManyTellsTheLastHead: more than one transaction's worth at once.
func TestIngestOfManyTellsTheLastHead(t *testing.T) {
	hub, clinic := pair(t)
	clinic.fill(1500, 200)
	feeds, err := clinic.s.PendingFeeds()
	if err != nil {
		t.Fatal(err)
	}
	var recs []record.Record
	for _, f := range feeds {
		p, err := clinic.s.Pending(f.Feed, 0, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, p...)
	}
	in, err := hub.s.Ingest(ctx, clinic.a.Device, recs)
	if err != nil || in.New != 1501 || len(in.Heads) != 2 || in.Heads[1].N != 1500 {
		t.Errorf("took in %d, heads %v, %v; want 1501 and the last n", in.New, in.Heads, err)
	}
}
