package record_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// forked is a ledger of which some hubs show another history from entry 12 on.
type forked struct {
	*proven
	other storedTree
}

func newForked(t testing.TB) *forked {
	t.Helper()
	g := &forked{proven: newProven(t)}
	for i := range g.entries {
		e := g.entries[i]
		if i >= 12 {
			e.Time++
		}
		g.other = g.other.append(t, e.EncodeLeaf())
	}
	for i := range 5 {
		g.other = g.other.append(t, leafNumber(int64(i)))
	}
	return g
}

// note is a checkpoint of a tree at a size by some hubs, at the time of their index.
func (g *forked) note(t testing.TB, s storedTree, size int64, by ...*box) []byte {
	t.Helper()
	return noteBy(t, g.id.Ledger(1), s.head(t, size), proofSeconds, by...)
}

func noteBy(t testing.TB, l record.LedgerID, h record.TreeHead, seconds int64, by ...*box) []byte {
	t.Helper()
	var out []byte
	for _, b := range by {
		n, err := record.Cosign(l, h, b.key, seconds)
		if err == nil && out != nil {
			n, err = record.MergeCosignatures(l, out, n, ids(by))
		}
		if err != nil {
			t.Fatal(err)
		}
		out = n
	}
	return out
}

// reread sends evidence on and gives what a third party finds with public keys.
func reread(t testing.TB, e record.Evidence, region record.RegionID, hubs []record.DeviceID) record.Finding {
	t.Helper()
	b := e.Encode()
	again, err := record.DecodeEvidence(b)
	if err != nil || !bytes.Equal(again.Encode(), b) || again.ID() != e.ID() {
		t.Fatalf("sent on: %v, or other bytes", err)
	}
	f, err := again.Verify(region, hubs)
	if err != nil {
		t.Fatalf("for a third party: %v", err)
	}
	return f
}

// branches are two records for one place of a clinic, and its opening record.
func (g *region) branches(c *box) (opening, a, b record.Record) {
	was := *c
	a = c.visit("a", "one branch")
	other := was
	b = other.visit("a", "another branch")
	seq, _, _, _ := g.Ordered(record.Position{Epoch: c.epoch})
	return g.entries[seq].Record, a, b
}

func TestEquivocation(t *testing.T) {
	g := newRegion(t)
	c := g.clinics[0]
	opening, a, b := g.branches(c)
	e, err := record.NewEquivocation(opening, a, b)
	if err != nil {
		t.Fatal(err)
	}
	swapped, err := record.NewEquivocation(opening, b, a)
	if err != nil || swapped.ID() != e.ID() {
		t.Errorf("the other way round it is another: %v", err)
	}
	want := record.Finding{Kind: record.EvidenceEquivocation, Culprits: []record.DeviceID{c.id}, Feed: a.Position().Feed(), N: a.Position().N}
	if d := cmp.Diff(want, reread(t, e, record.RegionID{}, nil)); d != "" {
		t.Errorf("found (-want +got):\n%s", d)
	}

	next, again := *c, *c
	other, otherA, _ := g.branches(g.clinics[1])
	for name, made := range map[string][3]record.Record{
		"the same twice":            {opening, a, a},
		"two places":                {opening, a, next.visit("a", "next")},
		"another epoch":             {other, a, b},
		"another epoch of it":       {again.open(), a, b},
		"records of two devices":    {opening, a, otherA},
		"two openings":              {opening, opening, opening},
		"no opening":                {a, a, b},
		"no body":                   {opening.WithBody(nil), a, b},
		"another body":              {opening.WithBody(other.Body), a, b},
		"one signed by a hub":       {opening, a, signedBy(b, g.hubs[0])},
		"one without its signature": {opening, a, signedBy(b, g.clinics[1])},
	} {
		if _, err := record.NewEquivocation(made[0], made[1], made[2]); !errors.Is(err, record.ErrMalformed) && !errors.Is(err, record.ErrNotProven) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// The largest that ordinary records make.
func TestEquivocationSize(t *testing.T) {
	c := newBox("clinic one")
	c.starts, c.epoch = 1, record.EpochID{1}
	body := c.openBody()
	body.Software, body.Size, body.ClockMillis, body.Heads = strings.Repeat("x", 64), 1<<62, 1<<62, []uint64{1 << 40, 1 << 40, 1 << 40, 1 << 40}
	opening := c.sign(record.Core{HLC: 1<<64 - 1, Clock: 4, Kind: record.KindEpochOpen, Size: 1 << 62}, mustMarshal(body))
	c.epoch, c.opened = opening.OpenedEpoch(), opening.RID()
	core := c.next(record.LaneBulk, 0xffff, compartment("a"))
	core.N, core.Session, core.Size, core.HLC, core.Clock = 65535, 65535, 1<<32-1, 1<<64-1, 4
	e, err := record.NewEquivocation(opening, c.sign(core, make([]byte, 65535)), c.sign(core, make([]byte, 65534)))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(e.Encode()))
	if n := len(e.Encode()); n > 1000 {
		t.Errorf("got %d bytes, want at most 1,000", n)
	}
}

// In the ledger it freezes the feed, and that feed alone.
func TestEquivocationFreezes(t *testing.T) {
	g := newRegion(t)
	c := g.clinics[0]
	opening, a, b := g.branches(c)
	g.mustOrder(t, a)
	if out := g.order(t, startMillis, b); out[0].Verdict != record.Equivocation {
		t.Fatalf("the second branch: got %q", out[0].Verdict)
	}
	e, err := record.NewEquivocation(opening, a, b)
	if err != nil {
		t.Fatal(err)
	}
	evidence := func(by *box, b []byte) record.Record {
		return by.write(record.LaneControl, record.KindEvidence, record.CompartmentID{}, b)
	}
	goes := func(r record.Record, want record.Verdict) {
		t.Helper()
		if out := g.order(t, startMillis, r); out[0].Verdict != want {
			t.Errorf("got %q, want %q", out[0].Verdict, want)
		}
	}
	next, far := c.visit("a", "next"), c.visit("a", "one later")
	g.mustOrder(t, evidence(g.hubs[0], e.Encode()), evidence(g.hubs[1], e.Encode()))
	goes(next, record.Frozen)
	goes(far, record.Frozen)
	goes(a, record.Duplicate)
	goes(b, record.Equivocation)
	goes(c.write(record.LaneAudit, record.KindAccess, record.CompartmentID{}, []byte("x")), record.Ordered)
	goes(c.session(staffKey("nurse")), record.Ordered)
	goes(g.clinics[1].visit("a", "1"), record.Ordered)
	g.mustOrder(t, c.open(), c.visit("a", "in a new epoch"))

	frozen := 0
	for k, v := range g.registry {
		if !strings.HasPrefix(k, string(record.FrozenPrefix())) {
			continue
		}
		frozen++
		id := e.ID()
		if f, err := record.FrozenFeed([]byte(k)); err != nil || f != a.Position().Feed() || !bytes.Equal(v, id[:]) {
			t.Errorf("got %v by %x, %v", f, v, err)
		}
	}
	if frozen != 1 {
		t.Errorf("%d feeds are frozen", frozen)
	}
	checkReplay(t, g.ledger, newRand(testSeed(t)).IntN)
}

// Both branches and the evidence may come in one batch, before anything else of
// the feed.
func TestFreezeInOneBatch(t *testing.T) {
	g := newRegion(t)
	c := g.clinics[0]
	opening, a, b := g.branches(c)
	e, err := record.NewEquivocation(opening, a, b)
	if err != nil {
		t.Fatal(err)
	}
	outs := g.order(t, startMillis, g.hubs[0].write(0, record.KindEvidence, record.CompartmentID{}, e.Encode()), a, b, c.visit("a", "next"))
	for i, want := range []record.Verdict{record.Ordered, record.Frozen, record.Frozen, record.Frozen} {
		if outs[i].Verdict != want {
			t.Errorf("record %d: got %q, want %q", i, outs[i].Verdict, want)
		}
	}
	checkReplay(t, g.ledger, func(int) int { return 0 })
}

func TestEvidenceRecordRefused(t *testing.T) {
	g := newRegion(t)
	stranger := newBox("stranger")
	opening := stranger.open()
	was := *stranger
	unknown, err := record.NewEquivocation(opening, stranger.visit("a", "1"), was.visit("a", "2"))
	if err != nil {
		t.Fatal(err)
	}
	known, a, b := g.branches(g.clinics[0])
	sound, err := record.NewEquivocation(known, a, b)
	if err != nil {
		t.Fatal(err)
	}
	spoiled := sound.Encode()
	spoiled[len(spoiled)-1] ^= 1
	for name, body := range map[string][]byte{"noise": []byte("x"), "nothing": nil, "of an epoch that nobody knows": unknown.Encode(), "with another signature": spoiled,
		"with a byte more": append(sound.Encode(), 0), "too long": make([]byte, record.EvidenceBytesMax+1)} {
		h := *g.hubs[0]
		if out := g.order(t, startMillis, h.write(0, record.KindEvidence, record.CompartmentID{}, body)); out[0].Verdict != record.NotAllowed {
			t.Errorf("%s: got %q", name, out[0].Verdict)
		}
	}
	if out := g.order(t, startMillis, a); out[0].Verdict != record.Ordered {
		t.Errorf("its feed: got %q", out[0].Verdict)
	}
}

func TestSplitView(t *testing.T) {
	g := newForked(t)
	n := int64(g.Size())
	h := g.hubs
	for _, c := range []struct {
		name           string
		size, larger   int64
		first, second  []*box
		culprits       []*box
		final, refused bool
	}{
		{"one hub, two trees of a size", n, n, h[:1], h[:1], h[:1], false, false},
		{"one hub, a larger tree", 13, n + 5, h[1:2], h[1:2], h[1:2], false, false},
		{"a majority signed both", 13, n + 5, h[:2], h[:2], h[:2], true, false},
		{"two majorities share one", n, n + 3, h[:2], h[1:], h[1:2], true, false},
		{"one of a majority", n - 1, n, h[:2], h[1:2], h[1:2], false, false},
		{"all", 15, n + 5, h[:], h[:], h[:], true, false},
		{"nobody signed both", n, n + 5, h[:1], h[1:], nil, false, true},
		{"the trees agree so far", 12, n + 5, h[:], h[:], nil, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			smaller, larger := g.note(t, g.tree, c.size, c.first...), g.note(t, g.other, c.larger, c.second...)
			at := g.other.head(t, c.size).Root
			var proof []record.Hash
			if c.size < c.larger {
				proof = g.other.consistency(t, c.size, c.larger)
			}
			e, err := record.NewSplitView(g.id.Ledger(1), smaller, larger, at, proof, g.hubIDs())
			if c.refused {
				if !errors.Is(err, record.ErrNotProven) && !errors.Is(err, record.ErrMalformed) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := record.Finding{Kind: record.EvidenceSplitView, Culprits: ids(c.culprits), Final: c.final, Generation: 1, Size: uint64(c.size)}
			if d := cmp.Diff(want, reread(t, e, g.id, g.hubIDs()), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("found (-want +got):\n%s", d)
			}
			if c.size == c.larger {
				if again, err := record.NewSplitView(g.id.Ledger(1), larger, smaller, at, nil, g.hubIDs()); err != nil || again.ID() != e.ID() {
					t.Errorf("the other way round: %v", err)
				}
			}
			for name, err := range map[string]error{
				"another region": second(e.Verify(regionID, g.hubIDs())),
				"other hubs":     second(e.Verify(g.id, ids([]*box{newBox("x"), newBox("y")}))),
				"no hub":         second(e.Verify(g.id, nil)),
			} {
				if !errors.Is(err, record.ErrNotProven) {
					t.Errorf("%s: got %v, want ErrNotProven", name, err)
				}
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestSplitViewRefused(t *testing.T) {
	g := newForked(t)
	n, all := int64(g.Size()), g.hubs[:]
	smaller, larger := g.note(t, g.tree, 14, all...), g.note(t, g.other, n+5, all...)
	at, proof := g.other.head(t, 14).Root, g.other.consistency(t, 14, n+5)
	wrong := slices.Clone(proof)
	wrong[0][3] ^= 1
	empty := noteBy(t, g.id.Ledger(1), record.TreeHead{}, proofSeconds, all...)
	for name, make := range map[string]func() (record.Evidence, error){
		"no proof": func() (record.Evidence, error) {
			return record.NewSplitView(g.id.Ledger(1), smaller, larger, at, nil, g.hubIDs())
		},
		"another proof": func() (record.Evidence, error) {
			return record.NewSplitView(g.id.Ledger(1), smaller, larger, at, wrong, g.hubIDs())
		},
		"a proof too long": func() (record.Evidence, error) {
			return record.NewSplitView(g.id.Ledger(1), smaller, larger, at, append(proof[:len(proof):len(proof)], record.Hash{}), g.hubIDs())
		},
		"another root": func() (record.Evidence, error) {
			return record.NewSplitView(g.id.Ledger(1), smaller, larger, record.Hash{1}, proof, g.hubIDs())
		},
		"the smaller's own root": func() (record.Evidence, error) {
			return record.NewSplitView(g.id.Ledger(1), smaller, larger, g.tree.head(t, 14).Root, proof, g.hubIDs())
		},
		"the larger first": func() (record.Evidence, error) {
			return record.NewSplitView(g.id.Ledger(1), larger, smaller, at, proof, g.hubIDs())
		},
		"one ledger": func() (record.Evidence, error) {
			return record.NewSplitView(g.id.Ledger(1), g.note(t, g.tree, n, all...), g.note(t, g.tree, n, all...), at, nil, g.hubIDs())
		},
		"another generation": func() (record.Evidence, error) {
			return record.NewSplitView(g.id.Ledger(2), smaller, larger, at, proof, g.hubIDs())
		},
		"one of another generation": func() (record.Evidence, error) {
			return record.NewSplitView(g.id.Ledger(1), smaller, noteBy(t, g.id.Ledger(2), g.other.head(t, n+5), proofSeconds, all...), at, proof, g.hubIDs())
		},
		"a ledger of nothing": func() (record.Evidence, error) {
			return record.NewSplitView(g.id.Ledger(1), empty, larger, at, nil, g.hubIDs())
		},
	} {
		if _, err := make(); err == nil {
			t.Errorf("%s: evidence was made", name)
		}
	}
}

// heads are what a receipt of everything that clinic one wrote promises.
func (g *region) receiptHeads(boxes ...*box) []record.ReceiptHead {
	var out []record.ReceiptHead
	for _, b := range boxes {
		for lane, h := range b.heads {
			if h.N > 0 || lane == 0 {
				out = append(out, record.ReceiptHead{Position: record.Position{Epoch: b.epoch, Lane: record.Lane(lane), N: h.N}, RID: h.RID})
			}
		}
	}
	return out
}

func TestBrokenPromise(t *testing.T) {
	g := newForked(t)
	c, by := g.clinics[0], int64(proofSeconds+3600)
	c.visit("a", "left out")
	r := record.SignReceipt(g.id, proofSeconds, by, g.receiptHeads(c), g.hubs[1].key)
	late := noteBy(t, g.id.Ledger(1), g.head(), by+1, g.hubs[:2]...)
	e, err := record.NewBrokenPromise(g.id.Ledger(1), r, late, g.hubIDs())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(e.Encode()))
	want := record.Finding{Kind: record.EvidencePromise, Culprits: ids(g.hubs[1:2]), Generation: 1, Size: g.Size(), By: by, Missing: r.Heads}
	if d := cmp.Diff(want, reread(t, e, g.id, g.hubIDs())); d != "" {
		t.Errorf("found (-want +got):\n%s", d)
	}
	if err := second(e.Verify(regionID, g.hubIDs())); !errors.Is(err, record.ErrNotProven) {
		t.Errorf("another region: got %v", err)
	}

	forged, later := r, r
	forged.Heads = slices.Clone(r.Heads)
	forged.Heads[0].N++
	later.By--
	for name, made := range map[string]struct {
		r    record.Receipt
		note []byte
	}{
		"not yet":                {r, noteBy(t, g.id.Ledger(1), g.head(), by, g.hubs[:2]...)},
		"late by one hub's word": {r, append(noteBy(t, g.id.Ledger(1), g.head(), by, g.hubs[0]), lineOf(noteBy(t, g.id.Ledger(1), g.head(), by+9, g.hubs[1]))...)},
		"not final":              {r, noteBy(t, g.id.Ledger(1), g.head(), by+1, g.hubs[0])},
		"a clinic's receipt":     {record.SignReceipt(g.id, proofSeconds, by, g.receiptHeads(c), c.key), late},
		"another region's":       {record.SignReceipt(regionID, proofSeconds, by, g.receiptHeads(c), g.hubs[1].key), late},
		"other heads":            {forged, late},
		"another time":           {later, late},
		"no heads":               {record.SignReceipt(g.id, proofSeconds, by, nil, g.hubs[1].key), late},
		"a note of nobody":       {r, noteBy(t, g.id.Ledger(1), g.head(), by+1, newBox("x"), newBox("y"))},
	} {
		if _, err := record.NewBrokenPromise(g.id.Ledger(1), made.r, made.note, g.hubIDs()); err == nil {
			t.Errorf("%s: evidence was made", name)
		}
	}
}

// lineOf is the signature line of a note.
func lineOf(msg []byte) []byte { return msg[bytes.Index(msg, []byte("\n\n"))+2:] }

// The longest receipt of the largest region fits.
func TestEvidenceSize(t *testing.T) {
	var hubs []*box
	for i := range 32 {
		hubs = append(hubs, newBox(fmt.Sprintf("hub %d", i)))
	}
	rng := newRand(testSeed(t))
	var heads []record.ReceiptHead
	for range record.ReceiptHeadsMax + 6 {
		heads = append(heads, record.ReceiptHead{Position: record.Position{Epoch: record.EpochID(randomBytes(rng, 16)), Lane: 3, N: 1 << 62}, RID: record.RID(randomBytes(rng, 32))})
	}
	r := record.SignReceipt(regionID, 1<<60, 1<<61, heads, hubs[0].key)
	if len(r.Heads) != record.ReceiptHeadsMax {
		t.Errorf("got %d heads", len(r.Heads))
	}
	head := record.TreeHead{Size: 1 << 62, Root: someHead.Root}
	var note []byte
	for i, h := range hubs {
		n, err := record.Cosign(regionID.Ledger(1), head, h.key, 1<<62-1)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			note = n
		} else if note = append(note, lineOf(n)...); i == 24 {
			break // 8 KiB
		}
	}
	e, err := record.NewBrokenPromise(regionID.Ledger(1), r, note, ids(hubs))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(e.Encode()))
}

// kindsOfEvidence is one of each, with who checks it.
func kindsOfEvidence(t testing.TB) (*forked, map[string]record.Evidence) {
	t.Helper()
	g := newForked(t)
	opening, a, b := g.branches(g.clinics[0])
	equivocation, err := record.NewEquivocation(opening, a, b)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(g.Size())
	split, err := record.NewSplitView(g.id.Ledger(1), g.note(t, g.tree, 14, g.hubs[:]...), g.note(t, g.other, n+5, g.hubs[:]...), g.other.head(t, 14).Root,
		g.other.consistency(t, 14, n+5), g.hubIDs())
	if err != nil {
		t.Fatal(err)
	}
	r := record.SignReceipt(g.id, proofSeconds, proofSeconds+60, g.receiptHeads(g.clinics[:]...), g.hubs[2].key)
	promise, err := record.NewBrokenPromise(g.id.Ledger(1), r, noteBy(t, g.id.Ledger(1), g.head(), proofSeconds+61, g.hubs[:]...), g.hubIDs())
	if err != nil {
		t.Fatal(err)
	}
	return g, map[string]record.Evidence{"equivocation": equivocation, "split view": split, "promise": promise}
}

// mutate changes, drops, doubles, swaps or appends bytes.
func mutate(rng *rand.Rand, b []byte) []byte {
	for {
		x := bytes.Clone(b)
		for range 1 + rng.IntN(3) {
			i, j := rng.IntN(len(x)), rng.IntN(len(x))
			switch rng.IntN(7) {
			case 0:
				x[i] ^= 1 << rng.IntN(8)
			case 1:
				x[i] = byte(rng.Uint32())
			case 2:
				x[i], x[j] = x[j], x[i]
			case 3:
				x = append(x[:i], x[i+1:]...)
			case 4:
				x = append(x[:i], append([]byte{byte(rng.Uint32())}, x[i:]...)...)
			case 5:
				x = append(x, byte(rng.Uint32()))
			case 6:
				x = x[:1+rng.IntN(len(x))]
			}
			if len(x) == 0 {
				break
			}
		}
		if len(x) > 0 && !bytes.Equal(x, b) {
			return x
		}
	}
}

const mutations = 1000

func TestEvidenceMutated(t *testing.T) {
	rng := newRand(testSeed(t))
	g, all := kindsOfEvidence(t)
	for name, e := range all {
		if _, err := e.Verify(g.id, g.hubIDs()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for range mutations {
			x := mutate(rng, e.Encode())
			got, err := record.DecodeEvidence(x)
			if err == nil {
				_, err = got.Verify(g.id, g.hubIDs())
			}
			if !errors.Is(err, record.ErrMalformed) && !errors.Is(err, record.ErrNotProven) {
				t.Fatalf("%s: %x: got %v", name, x, err)
			}
		}
		for n := range e.Encode() {
			if _, err := record.DecodeEvidence(e.Encode()[:n]); !errors.Is(err, record.ErrMalformed) {
				t.Fatalf("%s: first %d bytes: got %v", name, n, err)
			}
		}
	}
}

func TestEvidenceOfNoKind(t *testing.T) {
	for name, b := range map[string][]byte{"kind 0": mustMarshal([]any{1, 0, []any{}}), "kind 4": mustMarshal([]any{1, 4, []any{}}), "version 2": mustMarshal([]any{2, 1, []any{}}),
		"too long": make([]byte, record.EvidenceBytesMax+1), "nothing": nil} {
		if _, err := record.DecodeEvidence(b); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := (record.Evidence{}).Verify(regionID, nil); !errors.Is(err, record.ErrMalformed) {
		t.Errorf("no evidence at all: got %v", err)
	}
	if got := record.EvidenceKind(9).String(); got != "evidence 9" {
		t.Errorf("got %q", got)
	}
}

func FuzzDecodeEvidence(f *testing.F) {
	g, all := kindsOfEvidence(f)
	for _, e := range all {
		f.Add(e.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.DecodeEvidence(b) })
		e, err := record.DecodeEvidence(b)
		if err != nil {
			wantMalformed(t, err)
			return
		}
		if !bytes.Equal(e.Encode(), b) {
			t.Errorf("got %x back", e.Encode())
		}
		found, err := e.Verify(g.id, g.hubIDs())
		if err != nil {
			if !errors.Is(err, record.ErrNotProven) {
				t.Errorf("got %v", err)
			}
			return
		}
		for _, known := range all {
			if known.ID() == e.ID() {
				return
			}
		}
		if found.Kind == record.EvidenceEquivocation && !slices.Contains(g.hubIDs(), found.Culprits[0]) {
			return // anybody can equivocate under a key of his own
		}
		t.Errorf("evidence that nobody signed: %+v", found)
	})
}
