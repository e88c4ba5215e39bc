package record_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/healthpost/healthpost/record"
)

// proposals are those open, by their registry key.
func (l *ledger) proposals(t testing.TB) map[string]record.Proposal {
	t.Helper()
	out := map[string]record.Proposal{}
	for k, v := range l.registry {
		if !bytes.HasPrefix([]byte(k), record.ProposalPrefix()) {
			continue
		}
		p, err := record.DecodeProposal(v)
		if err != nil {
			t.Fatalf("a proposal that does not read: %v", err)
		}
		out[k] = p
	}
	return out
}

// only is the one proposal that is open.
func (l *ledger) only(t testing.TB) record.Proposal {
	t.Helper()
	all := l.proposals(t)
	if len(all) != 1 {
		t.Fatalf("got %d open proposals, want 1", len(all))
	}
	for _, p := range all {
		return p
	}
	panic("not reached")
}

func (l *ledger) isHub(b *box) bool {
	m := l.members[b.id]
	return m.Active() && m.Role.Orders()
}

// hubs are the members that order.
func (l *ledger) hubSet() []record.DeviceID {
	var out []record.DeviceID
	for _, m := range l.members {
		if m.Active() && m.Role.Orders() {
			out = append(out, m.Device)
		}
	}
	slices.SortFunc(out, func(a, b record.DeviceID) int { return bytes.Compare(a[:], b[:]) })
	return out
}

// at orders records in a batch of a time, in seconds after the start.
func (l *ledger) at(t testing.TB, seconds int64, records ...record.Record) {
	t.Helper()
	for l.LastTime() < startMillis/1000+seconds-24*60*60 { // a batch moves ledger time by a day at most
		o := record.NewOrderer(l, nil)
		l.commit(record.Changes{Entries: []record.Entry{{Seq: l.Size(), Time: o.BatchTime(startMillis + seconds*1000), Record: filler(l)}}})
	}
	for i, out := range l.order(t, startMillis+seconds*1000, records...) {
		if out.Verdict != record.Ordered {
			t.Fatalf("record %d of %d: got verdict %q, want ordered", i, len(records), out.Verdict)
		}
	}
}

// filler is a record that the ledger may have next, to let time pass.
func filler(l *ledger) record.Record {
	b := newBox(fmt.Sprintf("filler %d", l.Size()))
	return b.open()
}

func (b *box) recovery(needed uint64, keys ...*box) record.Record {
	r := record.Recovery{Needed: needed}
	for _, k := range keys {
		r.Keys = append(r.Keys, k.id[:])
	}
	return b.write(record.LaneControl, record.KindRecovery, record.CompartmentID{}, mustMarshal(r))
}

func TestNeeded(t *testing.T) {
	for hubs, want := range map[int]int{1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 4} {
		if got := record.Needed(hubs); got != want {
			t.Errorf("%d hubs: got %d, want %d", hubs, got, want)
		}
	}
}

// One hub admits the second alone, two admit the third, and so on.
func TestHubsJoinByVotes(t *testing.T) {
	l, hubs := newLedger(), []*box{newBox("hub 0")}
	l.mustOrder(t, hubs[0].open(), hubs[0].found("r"))
	for n := 1; n < 8; n++ {
		x := newBox(fmt.Sprintf("hub %d", n))
		for voted := range n {
			if l.isHub(x) {
				break
			}
			if p := l.proposals(t); voted > 0 && (len(p) != 1 || len(l.only(t).Counting(l.hubSet(), l.LastTime())) != voted) {
				t.Errorf("hub %d after %d votes: got %d proposals", n, voted, len(p))
			}
			l.mustOrder(t, hubs[voted].add(x, record.RoleHub))
			if got, want := l.isHub(x), voted+1 == record.Needed(n); got != want {
				t.Errorf("hub %d after %d votes of %d: got admitted %v, want %v", n, voted+1, n, got, want)
			}
		}
		l.mustOrder(t, x.open())
		hubs = append(hubs, x)
		if len(l.proposals(t)) != 0 {
			t.Errorf("hub %d: its proposal is open still", n)
		}
	}
}

// Nothing that a hub alone writes about hubs changes them, where there are three.
func TestOneHubDecidesNothing(t *testing.T) {
	g := newRegion(t)
	want := g.hubSet()
	h, mine := g.hubs[0], newBox("mine")
	other := g.hubs[1].member(record.RoleHub)
	other.Encryption = mine.member("").Encryption
	own := h.member(record.RoleHub)
	own.Encryption = mine.member("").Encryption
	m := func(v any) record.Record {
		return h.write(record.LaneControl, record.KindMemberAdd, record.CompartmentID{}, mustMarshal(v))
	}
	members := cmp.Diff(nil, g.members)
	g.mustOrder(t, h.add(mine, record.RoleHub), h.add(mine, record.RoleHub), h.add(mine, record.RoleStandalone), h.add(g.clinics[0], record.RoleHub),
		h.revoke(g.hubs[1]), h.revoke(g.hubs[1]), h.add(g.hubs[2], record.RoleClinic), m(other), m(own), h.revoke(h), h.add(h, record.RoleField), h.recovery(1, mine))
	if d := cmp.Diff(want, g.hubSet()); d != "" {
		t.Errorf("hubs (-want +got):\n%s", d)
	}
	if d := cmp.Diff(nil, g.members); d != members {
		t.Errorf("members changed:\n%s", d)
	}
	if _, ok, err := record.RecoveryOf(g); ok || err != nil {
		t.Errorf("one hub set the recovery keys: %v", err)
	}
}

func TestVoteToRevoke(t *testing.T) {
	g := newRegion(t)
	gone := g.hubs[1]
	reason := func(b *box, why string) record.Record {
		return b.write(0, record.KindMemberRevoke, record.CompartmentID{}, mustMarshal(record.MemberRevoke{Device: gone.id[:], Reason: why}))
	}
	g.mustOrder(t, reason(g.hubs[0], "two roots"))
	if p := g.only(t); p.Kind != record.KindMemberRevoke || len(p.Votes) != 1 || p.Votes[0].Hub != g.hubs[0].id || p.LastTime != g.LastTime() || p.OpenedSeq != g.Size()-1 {
		t.Errorf("got %+v", p)
	} else if d, ok := p.Device(); !ok || d != gone.id {
		t.Errorf("it is about %s", d)
	}
	seq := g.Size()
	g.mustOrder(t, reason(g.hubs[2], "in other words"))
	if m := g.members[gone.id]; m.RevokedSeq != seq {
		t.Errorf("got revoked at %d, want %d", m.RevokedSeq, seq)
	}
	if len(g.proposals(t)) != 0 {
		t.Error("the proposal is open still")
	}
	// The vote of a third who did not know yet is ordered and opens nothing.
	g.mustOrder(t, reason(g.hubs[0], "again"))
	if len(g.proposals(t)) != 0 {
		t.Error("a vote that comes late opened a proposal")
	}
}

// The last hub cannot leave, and two can only agree.
func TestLastHubStays(t *testing.T) {
	l, a, b := newLedger(), newBox("hub a"), newBox("hub b")
	l.mustOrder(t, a.open(), a.found("r"))
	for _, r := range []record.Record{a.revoke(a)} {
		if out := l.order(t, startMillis, r); out[0].Verdict != record.NotAllowed {
			t.Errorf("the only hub revokes itself: got %q", out[0].Verdict)
		}
	}
	a.heads[0] = record.Head{N: 1, RID: l.entries[1].Record.RID()}
	l.mustOrder(t, a.add(b, record.RoleHub), b.open(), a.revoke(b), b.revoke(a))
	if len(l.hubSet()) != 2 {
		t.Fatalf("two hubs that want each other out: got %d left", len(l.hubSet()))
	}
	l.mustOrder(t, b.revoke(b)) // b agrees with a after all
	if l.isHub(b) || !l.isHub(a) {
		t.Errorf("got hubs %v", l.hubSet())
	}
	r := a.add(a, record.RoleClinic)
	if out := l.order(t, startMillis, r); out[0].Verdict != record.NotAllowed {
		t.Errorf("the last hub steps down: got %q", out[0].Verdict)
	}
	l.Check(t)
}

// Two hubs put each other out: the third decides, and what the loser voted for is
// void.
func TestHubsRevokeEachOther(t *testing.T) {
	g := newRegion(t)
	a, b, c := g.hubs[0], g.hubs[1], g.hubs[2]
	mine := newBox("mine")
	g.mustOrder(t, a.revoke(b), b.revoke(a), b.add(mine, record.RoleHub), b.revoke(c), c.revoke(b))
	if g.isHub(b) || !g.isHub(a) || !g.isHub(c) {
		t.Fatalf("got hubs %v", g.hubSet())
	}
	late := b.revoke(a)
	if out := g.order(t, startMillis, late); out[0].Verdict != record.Quarantined {
		t.Errorf("the loser's next vote: got %q", out[0].Verdict)
	}
	// Two hubs now: each of these has one vote besides the loser's.
	g.mustOrder(t, c.revoke(a), a.add(mine, record.RoleHub))
	if !g.isHub(a) || g.isHub(mine) {
		t.Errorf("a vote of a revoked hub counted: hubs %v", g.hubSet())
	}
	for _, p := range g.proposals(t) {
		if slices.Contains(p.Counting(g.hubSet(), g.LastTime()), b.id) || len(p.Votes) != 1 {
			t.Errorf("a vote of the revoked hub is kept: %+v", p.Votes)
		}
	}
}

// A box that is a hub for the second time does not bring its old votes back.
func TestVotesDoNotComeBack(t *testing.T) {
	g := newRegion(t)
	a, b, c := g.hubs[0], g.hubs[1], g.hubs[2]
	mine := newBox("mine")
	g.mustOrder(t, b.add(mine, record.RoleHub), a.add(b, record.RoleClinic), c.add(b, record.RoleClinic))
	if g.isHub(b) {
		t.Fatal("it is a hub still")
	}
	g.mustOrder(t, a.add(b, record.RoleHub), c.add(b, record.RoleHub))
	if !g.isHub(b) {
		t.Fatal("it is no hub again")
	}
	g.mustOrder(t, a.add(mine, record.RoleHub))
	if g.isHub(mine) {
		t.Error("a vote from before counted")
	}
	g.mustOrder(t, b.add(mine, record.RoleHub))
	if !g.isHub(mine) {
		t.Error("a new vote did not count")
	}
}

// What was decided later is not undone by votes that are older.
func TestOldVotesUndoNothing(t *testing.T) {
	g := newRegion(t)
	a, b, c := g.hubs[0], g.hubs[1], g.hubs[2]
	x := newBox("x")
	member := func(by *box, role record.Role, name string) record.Record {
		m := x.member(role)
		m.Name = name
		return by.write(0, record.KindMemberAdd, record.CompartmentID{}, mustMarshal(m))
	}
	g.mustOrder(t, member(a, record.RoleHub, "old"), member(b, record.RoleHub, "new"), member(c, record.RoleHub, "new"))
	if m := g.members[x.id]; m.Name != "new" {
		t.Fatalf("got %q", m.Name)
	}
	g.mustOrder(t, x.open(), member(c, record.RoleHub, "old"), member(x, record.RoleHub, "self"))
	if m := g.members[x.id]; m.Name != "self" {
		t.Errorf("an old vote and a late one: got %q, want what the box calls itself", m.Name)
	}
	// A clinic that was to become a hub is revoked: the votes end with it.
	y := g.clinics[0]
	g.mustOrder(t, a.add(y, record.RoleHub), b.add(y, record.RoleHub), a.revoke(y), b.add(y, record.RoleHub), c.add(y, record.RoleHub), x.add(y, record.RoleHub))
	if m := g.members[y.id]; m.Active() {
		t.Error("a revoked box is a hub")
	}
	for _, p := range g.proposals(t) {
		if d, _ := p.Device(); d == y.id {
			t.Errorf("a proposal about a revoked box is open: %+v", p)
		}
	}
}

// A hub has one vote about a box, the newest.
func TestHubChangesItsMind(t *testing.T) {
	g := newRegion(t)
	a, b, c := g.hubs[0], g.hubs[1], g.hubs[2]
	x := newBox("x")
	g.mustOrder(t, a.add(x, record.RoleHub), a.add(x, record.RoleStandalone), b.add(x, record.RoleHub))
	if g.isHub(x) {
		t.Error("a vote that was changed counted")
	}
	g.mustOrder(t, c.add(x, record.RoleStandalone))
	if m := g.members[x.id]; m.Role != record.RoleStandalone {
		t.Errorf("got role %q", m.Role)
	}
	if len(g.proposals(t)) != 0 {
		t.Error("the other proposal about it is open still")
	}
	g.mustOrder(t, a.revoke(b), a.add(b, record.RoleHub), c.revoke(b)) // as it is already: it stays, after all
	if p := g.only(t); !g.isHub(b) || len(p.Votes) != 1 {
		t.Errorf("a vote that was taken back counts: %+v", p)
	}
}

func TestVotesExpire(t *testing.T) {
	for _, c := range []struct {
		after int64
		want  bool
	}{{record.VoteSeconds, true}, {record.VoteSeconds + 1, false}} {
		g := newRegion(t)
		x := newBox("x")
		g.at(t, 100_000, g.hubs[0].add(x, record.RoleHub))
		p := g.only(t)
		if n := len(p.Counting(g.hubSet(), g.LastTime()+c.after)); (n == 1) != c.want {
			t.Errorf("after %d s: %d votes count", c.after, n)
		}
		g.at(t, 100_000+c.after, g.hubs[1].add(x, record.RoleHub))
		if g.isHub(x) != c.want {
			t.Errorf("the second vote after %d s: got admitted %v, want %v", c.after, g.isHub(x), c.want)
		}
		if c.want {
			continue
		}
		if p := g.only(t); len(p.Votes) != 1 || p.Votes[0].Hub != g.hubs[1].id {
			t.Errorf("got votes %+v, want the new one alone", p.Votes)
		}
		g.mustOrder(t, g.hubs[0].add(x, record.RoleHub)) // again
		if !g.isHub(x) {
			t.Error("a vote given again does not count")
		}
	}
}

// However many proposals a hub opens, what is kept is bounded, and it cannot push
// out those of others.
func TestProposalsAreBounded(t *testing.T) {
	g := newRegion(t)
	honest := newBox("honest")
	g.mustOrder(t, g.hubs[1].add(honest, record.RoleHub))
	for i := range 40 {
		m := newBox(fmt.Sprintf("x%d", i)).member(record.RoleHub)
		for range 16 {
			m.Addresses = append(m.Addresses, string(bytes.Repeat([]byte("a"), 256)))
		}
		g.mustOrder(t, g.hubs[0].write(0, record.KindMemberAdd, record.CompartmentID{}, mustMarshal(m)))
	}
	if n := len(g.proposals(t)); n > 9 {
		t.Errorf("%d proposals are open", n)
	}
	for k, v := range g.registry {
		if len(k) > 64 || len(v) > 16<<10 {
			t.Errorf("a row of %d and %d bytes", len(k), len(v))
		}
	}
	g.mustOrder(t, g.hubs[2].add(honest, record.RoleHub))
	if !g.isHub(honest) {
		t.Error("an honest vote was pushed out")
	}
}

func TestHubsAreBounded(t *testing.T) {
	l, hubs := newLedger(), []*box{newBox("hub 0")}
	l.mustOrder(t, hubs[0].open(), hubs[0].found("r"))
	for n := 1; n < 32; n++ {
		x := newBox(fmt.Sprintf("hub %d", n))
		records := []record.Record{}
		for _, h := range hubs[:record.Needed(n)] {
			records = append(records, h.add(x, record.RoleHub))
		}
		l.order(t, startMillis, append(records, x.open())...)
		hubs = append(hubs, x)
	}
	l.Check(t)
	if len(l.hubSet()) != 32 {
		t.Fatalf("got %d hubs", len(l.hubSet()))
	}
	if out := l.order(t, startMillis, hubs[0].add(newBox("one more"), record.RoleHub)); out[0].Verdict != record.NotAllowed {
		t.Errorf("a 33rd hub: got %q", out[0].Verdict)
	}
	for k, v := range l.registry {
		if len(v) > 16<<10 {
			t.Errorf("row %q of %d bytes", k[:1], len(v))
		}
	}
}

func TestRecoveryByVotes(t *testing.T) {
	g := newRegion(t)
	one, two, three := newBox("person one"), newBox("person two"), newBox("person three")
	g.mustOrder(t, g.hubs[0].recovery(2, one, two, three), g.hubs[1].recovery(1, one), g.hubs[2].recovery(2, one, two, three))
	keys, ok, err := record.RecoveryOf(g)
	if err != nil || !ok || keys.Needed != 2 || len(keys.Keys) != 3 || !bytes.Equal(keys.Keys[1], two.id[:]) {
		t.Errorf("got %+v, %v, %v", keys, ok, err)
	}
	if len(g.proposals(t)) != 0 {
		t.Error("another proposal of recovery keys is open still")
	}
	g.mustOrder(t, g.hubs[1].recovery(2, one, two, three)) // late
	if len(g.proposals(t)) != 0 {
		t.Error("a late vote opened a proposal")
	}
	for name, body := range map[string]record.Recovery{
		"no key": {Needed: 1}, "none needed": {Keys: [][]byte{one.id[:]}}, "more needed than keys": {Needed: 2, Keys: [][]byte{one.id[:]}},
		"a key twice": {Needed: 1, Keys: [][]byte{one.id[:], one.id[:]}}, "a short key": {Needed: 1, Keys: [][]byte{one.id[:31]}}, "17 keys": {Needed: 1, Keys: make([][]byte, 17)},
	} {
		if _, err := record.DecodeRecovery(mustMarshal(body)); err == nil {
			t.Errorf("%s: read", name)
		}
		h := *g.hubs[0]
		if out := g.order(t, startMillis, h.write(0, record.KindRecovery, record.CompartmentID{}, mustMarshal(body))); out[0].Verdict != record.NotAllowed {
			t.Errorf("%s: got %q", name, out[0].Verdict)
		}
	}
}

// ballot is one ordered record about hubs, as this test counts them.
type ballot struct {
	hub           record.DeviceID
	subject, what string
	at            int64
}

// count is how many of the hubs want this now, each by its newest record on the
// subject.
func count(history []ballot, hubs []record.DeviceID, last ballot) int {
	n := 0
	for _, h := range hubs {
		for i := len(history) - 1; i >= 0; i-- {
			if b := history[i]; b.hub == h && b.subject == last.subject {
				if b.what == last.what && last.at-b.at <= record.VoteSeconds {
					n++
				}
				break
			}
		}
	}
	return n
}

// Whatever boxes write about hubs: too few never change them, one always remains,
// and whoever replays the entries in other batches comes to the same registry.
func TestVotesRandom(t *testing.T) {
	rng := newRand(testSeed(t))
	for range 4 {
		g := newRegion(t)
		all := append(append([]*box{}, g.hubs[:]...), g.clinics[:]...)
		for i := range 4 {
			all = append(all, newBox(fmt.Sprintf("more %d", i)))
		}
		roles := []record.Role{record.RoleHub, record.RoleHub, record.RoleClinic, record.RoleStandalone}
		var history []ballot
		changed, at := 0, int64(0)
		for range 600 {
			by, of := all[rng.IntN(len(all))], all[rng.IntN(len(all))]
			at += int64(rng.IntN(20_000))
			if m, ok := g.members[by.id]; !ok || !m.Active() {
				continue
			}
			if by.starts == 0 {
				g.order(t, startMillis+at*1000, by.open())
			}
			was, before, keys := *by, g.hubSet(), string(g.registry["r"])
			var r record.Record
			b := ballot{hub: by.id, subject: of.name}
			itself := false
			switch rng.IntN(6) {
			case 0, 1:
				r, b.what = by.revoke(of), "revoke"
			case 2:
				key := all[rng.IntN(3)]
				r, b.subject, b.what = by.recovery(1, key), "recovery", key.name
			default:
				role := roles[rng.IntN(len(roles))]
				itself = by == of && role == g.members[by.id].Role // no vote
				r, b.what = by.add(of, role), string(role)
			}
			if out := g.order(t, startMillis+at*1000, r); out[0].Verdict != record.Ordered {
				*by = was // the place is free
				continue
			}
			b.at = g.LastTime()
			if !itself {
				history = append(history, b)
			}
			after := g.hubSet()
			if len(after) == 0 {
				t.Fatal("no hub is left")
			}
			if slices.Equal(before, after) && keys == string(g.registry["r"]) {
				continue
			}
			changed++
			if n := count(history, before, b); n < record.Needed(len(before)) {
				t.Fatalf("%d of %d hubs decided %+v", n, len(before), b)
			}
		}
		if changed == 0 {
			t.Error("nothing changed in a run")
		}
		g.Check(t)
		checkReplay(t, g.ledger, rng.IntN)
	}
}

// checkReplay orders the entries again, in batches of other sizes.
func checkReplay(t testing.TB, l *ledger, pick func(int) int) {
	t.Helper()
	again := newLedger()
	for from := 0; from < len(l.entries); {
		to := min(len(l.entries), from+1+pick(50))
		o := record.NewOrderer(again, nil)
		for _, e := range l.entries[from:to] {
			if out, err := o.Add(e.Time, e.Record); err != nil || out.Verdict != record.Ordered {
				t.Fatalf("entry %d: got %q, %v", e.Seq, out.Verdict, err)
			}
		}
		again.commit(o.Changes)
		from = to
	}
	if again.head() != l.head() {
		t.Errorf("got head %v, want %v", again.head(), l.head())
	}
	if d := cmp.Diff(l.members, again.members); d != "" {
		t.Errorf("members (-first +again):\n%s", d)
	}
	if d := cmp.Diff(l.registry, again.registry); d != "" {
		t.Errorf("registry (-first +again):\n%s", d)
	}
}
