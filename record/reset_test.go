package record_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/healthpost/healthpost/record"
)

// people hold the recovery keys.
var people = []*box{newBox("person one"), newBox("person two"), newBox("person three")}

// newRecoverable is a region whose recovery needs two of three people.
func newRecoverable(t testing.TB) *region {
	t.Helper()
	g := newRegion(t)
	g.mustOrder(t, g.hubs[0].recovery(2, people...), g.hubs[1].recovery(2, people...))
	g.seen()
	return g
}

func (g *region) generation(t testing.TB) uint64 {
	t.Helper()
	n, err := record.GenerationOf(g)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// resetBody is what these people sign, for the ledger as it is.
func (g *region) resetBody(t testing.TB, members []*box, by ...int) record.Reset {
	t.Helper()
	head := g.head()
	r := record.Reset{Generation: g.generation(t) + 1, Size: head.Size, Root: head.Root[:]}
	for _, m := range members {
		r.Members = append(r.Members, m.member(record.RoleHub))
	}
	return g.signReset(r, by...)
}

func (g *region) signReset(r record.Reset, by ...int) record.Reset {
	r.Signatures = nil
	for _, i := range by {
		sig := ed25519.Sign(people[i].key, record.ResetClaim(g.id, r.Generation, r.Size, record.Hash(r.Root), r.Members))
		r.Signatures = append(r.Signatures, record.ResetSignature{Key: uint64(i), Sig: sig})
	}
	return r
}

func (b *box) reset(r record.Reset) record.Record {
	return b.write(record.LaneControl, record.KindReset, record.CompartmentID{}, mustMarshal(r))
}

func TestResetClaim(t *testing.T) {
	g := newRecoverable(t)
	r := g.resetBody(t, g.hubs[:1], 0, 1)
	want := append([]byte("hp:reset:1\x00"), g.id[:]...)
	want = append(want, mustMarshal([]any{r.Generation, r.Size, r.Root, []any{[]any{r.Members[0].Device, r.Members[0].Encryption, "hub", "hub one", []any{}}}})...)
	if got := record.ResetClaim(g.id, r.Generation, r.Size, record.Hash(r.Root), r.Members); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if r.Head() != g.head() {
		t.Errorf("got head %v", r.Head())
	}
}

func TestReset(t *testing.T) {
	g := newRecoverable(t)
	lost, kept, promoted, fresh := g.hubs[0], g.hubs[2], g.clinics[0], newBox("fresh")
	mine := newBox("mine")
	g.mustOrder(t, lost.revoke(kept), lost.add(mine, record.RoleHub)) // votes of the old generation
	if g.generation(t) != 1 {
		t.Fatalf("got generation %d", g.generation(t))
	}
	since := g.members[promoted.id].SinceSeq
	seq := g.Size()
	g.mustOrder(t, promoted.reset(g.resetBody(t, []*box{kept, promoted, fresh}, 0, 2)))
	if g.generation(t) != 2 {
		t.Errorf("got generation %d, want 2", g.generation(t))
	}
	for _, b := range []*box{kept, promoted, fresh} {
		if !g.isHub(b) {
			t.Errorf("%s is no hub", b.name)
		}
	}
	if g.members[promoted.id].SinceSeq != since || g.members[fresh.id].SinceSeq != seq {
		t.Errorf("admitted at %d and %d", g.members[promoted.id].SinceSeq, g.members[fresh.id].SinceSeq)
	}
	for _, b := range g.hubs[:2] {
		if m := g.members[b.id]; m.RevokedSeq != seq {
			t.Errorf("%s: got revoked at %d, want %d", b.name, m.RevokedSeq, seq)
		}
	}
	if c := g.members[g.clinics[1].id]; !c.Active() {
		t.Error("a clinic is out")
	}
	if n := len(g.proposals(t)); n != 0 {
		t.Errorf("%d proposals of the old generation are open", n)
	}
	// Votes of before are gone, the new hubs go on, and so do the recovery keys.
	g.mustOrder(t, fresh.open(), fresh.add(mine, record.RoleHub))
	if g.isHub(mine) {
		t.Error("a vote of the old generation counted")
	}
	g.mustOrder(t, g.clinics[1].reset(g.resetBody(t, []*box{fresh}, 1, 2)))
	if g.generation(t) != 3 || len(g.hubSet()) != 1 {
		t.Errorf("got generation %d with %d hubs", g.generation(t), len(g.hubSet()))
	}
	checkReplay(t, g.ledger, newRand(testSeed(t)).IntN)
}

// Two hubs that lie put the third out; people bring it back, and it may bring the
// reset itself.
func TestResetBringsBack(t *testing.T) {
	g := newRecoverable(t)
	wronged := g.hubs[2]
	g.mustOrder(t, g.hubs[0].revoke(wronged), g.hubs[1].revoke(wronged))
	if out := g.order(t, startMillis, wronged.add(newBox("x"), record.RoleClinic)); out[0].Verdict == record.Ordered {
		t.Fatal("a revoked hub admits")
	}
	wronged.heads[0] = g.lane(wronged)
	spare := *wronged
	for name, r := range map[string]record.Reset{
		"too few people":   g.resetBody(t, []*box{wronged}, 0),
		"another one's":    g.resetBody(t, []*box{g.hubs[0]}, 0, 1),
		"nobody's, really": g.signReset(record.Reset{Generation: 9, Size: g.Size(), Root: make([]byte, 32), Members: []record.MemberAdd{wronged.member(record.RoleHub)}}, 0, 1),
	} {
		if out := g.order(t, startMillis, wronged.reset(r)); out[0].Verdict != record.Quarantined {
			t.Errorf("%s: got %q", name, out[0].Verdict)
		}
		*wronged = spare
	}
	g.mustOrder(t, wronged.reset(g.resetBody(t, []*box{wronged}, 0, 1)))
	if !g.isHub(wronged) || len(g.hubSet()) != 1 {
		t.Errorf("got %d hubs", len(g.hubSet()))
	}
	g.mustOrder(t, wronged.add(newBox("x"), record.RoleClinic))
}

// lane is the ordered head of a box's control lane.
func (l *ledger) lane(b *box) record.Head {
	h, _, _ := l.Head(record.Feed{Epoch: b.epoch})
	return h
}

func TestResetRefused(t *testing.T) {
	g := newRecoverable(t)
	c := g.clinics[0]
	sound := g.resetBody(t, []*box{g.hubs[0], c}, 0, 1)
	changed := func(f func(r *record.Reset)) record.Reset {
		r := sound
		r.Members, r.Signatures = slices.Clone(r.Members), slices.Clone(r.Signatures)
		for i := range r.Signatures {
			r.Signatures[i].Sig = bytes.Clone(r.Signatures[i].Sig)
		}
		f(&r)
		return r
	}
	signed := func(f func(r *record.Reset)) record.Reset { return g.signReset(changed(f), 0, 1) }
	other := newRecoverable(t)
	other.id = record.RegionID{1}
	for name, r := range map[string]record.Reset{
		"one of two":             g.resetBody(t, g.hubs[:1], 1),
		"one twice":              changed(func(r *record.Reset) { r.Signatures[1] = r.Signatures[0] }),
		"in another order":       changed(func(r *record.Reset) { slices.Reverse(r.Signatures) }),
		"a key that is none":     changed(func(r *record.Reset) { r.Signatures[1].Key = 3 }),
		"another's signature":    changed(func(r *record.Reset) { r.Signatures[1].Key = 2 }),
		"a third that is wrong":  changed(func(r *record.Reset) { r.Signatures = append(r.Signatures, r.Signatures[0]); r.Signatures[2].Key = 2 }),
		"a signature changed":    changed(func(r *record.Reset) { r.Signatures[0].Sig[9] ^= 1 }),
		"a short signature":      changed(func(r *record.Reset) { r.Signatures[0].Sig = r.Signatures[0].Sig[:63] }),
		"no signature":           changed(func(r *record.Reset) { r.Signatures = nil }),
		"another root than that": changed(func(r *record.Reset) { r.Root = make([]byte, 32) }),
		"another member":         changed(func(r *record.Reset) { r.Members[0] = newBox("x").member(record.RoleHub) }),
		"a member more":          changed(func(r *record.Reset) { r.Members = append(r.Members, newBox("x").member(record.RoleHub)) }),
		"another region":         other.resetBody(t, []*box{g.hubs[0], c}, 0, 1),
		"this generation":        signed(func(r *record.Reset) { r.Generation-- }),
		"the one after the next": signed(func(r *record.Reset) { r.Generation++ }),
		"a smaller ledger":       signed(func(r *record.Reset) { r.Size-- }),
		"a larger ledger":        signed(func(r *record.Reset) { r.Size++ }),
		"a size past 2^62":       signed(func(r *record.Reset) { r.Size = 1<<62 + 1 }),
		"a short root":           changed(func(r *record.Reset) { r.Root = r.Root[:31] }),
		"nobody":                 signed(func(r *record.Reset) { r.Members = nil }),
		"a clinic":               signed(func(r *record.Reset) { r.Members[1].Role = record.RoleClinic }),
		"one twice in the list":  signed(func(r *record.Reset) { r.Members[1] = r.Members[0] }),
		"33 hubs":                signed(func(r *record.Reset) { r.Members = make([]record.MemberAdd, 33) }),
	} {
		was, before := *c, g.head()
		if out := g.order(t, startMillis, c.reset(r)); out[0].Verdict != record.NotAllowed || g.head() != before {
			t.Errorf("%s: got %q", name, out[0].Verdict)
		}
		*c = was
	}
	if out := g.order(t, startMillis, c.write(0, record.KindReset, record.CompartmentID{}, []byte("noise"))); out[0].Verdict != record.NotAllowed {
		t.Errorf("noise: got %q", out[0].Verdict)
	}
	*c = box{name: c.name, key: c.key, id: c.id, epoch: c.epoch, opened: c.opened, heads: c.heads, millis: c.millis, size: c.size, starts: 1}
	c.heads[0] = g.lane(c)
	// A replay is of another size and generation.
	r := c.reset(sound)
	g.mustOrder(t, r)
	if out := g.order(t, startMillis, c.reset(sound)); out[0].Verdict != record.NotAllowed {
		t.Errorf("again: got %q", out[0].Verdict)
	}
}

// Without recovery keys nobody resets.
func TestResetWithoutKeys(t *testing.T) {
	g := newRegion(t)
	if out := g.order(t, startMillis, g.clinics[0].reset(g.resetBody(t, g.hubs[:1], 0, 1))); out[0].Verdict != record.NotAllowed {
		t.Errorf("got %q", out[0].Verdict)
	}
}

func TestResetVerify(t *testing.T) {
	g := newRecoverable(t)
	keys, _, err := record.RecoveryOf(g)
	if err != nil {
		t.Fatal(err)
	}
	r, err := record.DecodeReset(mustMarshal(g.resetBody(t, g.hubs[:2], 1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(g.id, keys); err != nil {
		t.Error(err)
	}
	twice := r
	twice.Signatures = []record.ResetSignature{r.Signatures[0], r.Signatures[0]}
	for name, err := range map[string]error{
		"one of them twice": twice.Verify(g.id, keys),
		"another region":    r.Verify(record.RegionID{1}, keys),
		"other keys":        r.Verify(g.id, record.Recovery{Needed: 1, Keys: [][]byte{people[0].id[:], people[0].id[:], people[0].id[:]}}),
		"three needed":      r.Verify(g.id, record.Recovery{Needed: 3, Keys: keys.Keys}),
		"no keys":           r.Verify(g.id, record.Recovery{}),
	} {
		if !errors.Is(err, record.ErrReset) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAttest(t *testing.T) {
	g := newRegion(t)
	before := g.registry
	for _, lane := range []record.Lane{0, 1, 2, 3} {
		a := record.Attest{Size: 1 << 40, Root: bytes.Repeat([]byte{7}, 32)} // whatever it says
		r := g.clinics[0].write(lane, record.KindAttest, record.CompartmentID{}, mustMarshal(a))
		g.mustOrder(t, r)
		got, err := record.DecodeAttest(r.Body)
		if err != nil || got.Head() != (record.TreeHead{Size: 1 << 40, Root: record.Hash(a.Root)}) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	if d := cmp.Diff(before, g.registry); d != "" {
		t.Errorf("an attestation changed the registry:\n%s", d)
	}
	for name, body := range map[string][]byte{"noise": []byte("x"), "nothing": nil, "a short root": mustMarshal(record.Attest{Size: 1, Root: make([]byte, 31)}),
		"a size past 2^62": mustMarshal(record.Attest{Size: 1<<62 + 1, Root: make([]byte, 32)})} {
		c := *g.clinics[0]
		if out := g.order(t, startMillis, c.write(0, record.KindAttest, record.CompartmentID{}, body)); out[0].Verdict != record.NotAllowed {
			t.Errorf("%s: got %q", name, out[0].Verdict)
		}
	}
}
