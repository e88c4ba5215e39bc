package record_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/healthpost/healthpost/record"
)

// signedBy is a record whose signature is another device's.
func signedBy(r record.Record, other *box) record.Record {
	return record.Sign(r.Core, r.Body, other.key)
}

func resign(r record.Record, change func(*record.Core), body []byte, by *box) record.Record {
	c := r.Core
	change(&c)
	return by.sign(c, body)
}

func claim(b *box, pos record.Position, staff ed25519.PrivateKey) record.SessionOpen {
	return record.SessionOpen{Staff: staff.Public().(ed25519.PublicKey), IdleSeconds: 900, Claim: ed25519.Sign(staff, record.SessionClaim(pos, b.id))}
}

func staffKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("staff " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func (b *box) session(staff ed25519.PrivateKey) record.Record {
	pos := record.Position{Epoch: b.epoch, Lane: record.LaneControl, N: b.heads[record.LaneControl].N + 1}
	return b.write(record.LaneControl, record.KindSessionOpen, record.CompartmentID{}, mustMarshal(claim(b, pos, staff)))
}

// orderCases each begin with a founded region, whose clinic one has one ordered
// visit, and judge the last record that the case gives; those before it must be
// ordered.
var orderCases = []struct {
	name string
	make func(g *region) []record.Record
	want record.Verdict
}{
	{"next visit", func(g *region) []record.Record { return []record.Record{g.clinics[0].visit("a", "2")} }, record.Ordered},
	{"every lane begins at 1", func(g *region) []record.Record {
		c := g.clinics[1]
		return []record.Record{c.write(0, record.KindKeyWrap, record.CompartmentID{}, []byte("w")), c.write(1, record.KindClinical, compartment("a"), []byte("1")),
			c.write(2, record.KindAccess, record.CompartmentID{}, []byte("2")), c.write(3, record.KindClinical, compartment("a"), []byte("3"))}
	}, record.Ordered},
	{"a kind of the future", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].write(0, 31, record.CompartmentID{}, []byte("unknown"))}
	}, record.Ordered},
	{"a second epoch of a device", func(g *region) []record.Record { return []record.Record{g.clinics[0].open()} }, record.Ordered},
	{"the first epoch goes on beside the second", func(g *region) []record.Record {
		c := *g.clinics[0]
		return []record.Record{g.clinics[0].open(), c.visit("a", "from the first")}
	}, record.Ordered},
	{"the same again", func(g *region) []record.Record {
		r := g.clinics[0].visit("a", "2")
		return []record.Record{r, r}
	}, record.Duplicate},
	{"the same from before this batch", func(g *region) []record.Record {
		return []record.Record{g.entries[g.Size()-1].Record}
	}, record.Duplicate},
	{"an opening record again", func(g *region) []record.Record {
		seq, _, _, _ := g.Ordered(record.Position{Epoch: g.clinics[0].epoch})
		return []record.Record{g.entries[seq].Record}
	}, record.Duplicate},
	{"one left out", func(g *region) []record.Record {
		g.clinics[0].visit("a", "2")
		return []record.Record{g.clinics[0].visit("a", "3")}
	}, record.Gap},
	{"n at its end", func(g *region) []record.Record {
		c := g.clinics[0]
		return []record.Record{resign(c.visit("a", "2"), func(c *record.Core) { c.N = math.MaxUint64 }, []byte("2"), c)}
	}, record.Gap},
	{"an epoch nobody opened", func(g *region) []record.Record {
		c := g.clinics[0]
		c.open()
		return []record.Record{c.visit("a", "2")}
	}, record.UnknownEpoch},
	{"two records for one position", func(g *region) []record.Record {
		c := *g.clinics[0]
		return []record.Record{g.clinics[0].visit("a", "2"), c.visit("a", "two")}
	}, record.Equivocation},
	{"another record for an old position", func(g *region) []record.Record {
		last := g.entries[g.Size()-1].Record
		return []record.Record{resign(last, func(*record.Core) {}, []byte("other"), g.clinics[0])}
	}, record.Equivocation},
	{"a stranger's record for a taken position", func(g *region) []record.Record {
		last := g.entries[g.Size()-1].Record
		return []record.Record{resign(last, func(*record.Core) {}, []byte("other"), g.clinics[1])}
	}, record.BadSignature},
	{"prev of another lane", func(g *region) []record.Record {
		c := g.clinics[0]
		return []record.Record{resign(c.visit("a", "2"), func(k *record.Core) { k.Prev = c.opened }, []byte("2"), c)}
	}, record.BadPrev},
	{"the first of a lane that does not continue the opening", func(g *region) []record.Record {
		c := g.clinics[1]
		return []record.Record{resign(c.visit("a", "2"), func(k *record.Core) { k.Prev[31] ^= 1 }, []byte("2"), c)}
	}, record.BadPrev},
	{"signed by another member", func(g *region) []record.Record {
		return []record.Record{signedBy(g.clinics[0].visit("a", "2"), g.clinics[1])}
	}, record.BadSignature},
	{"signed by a hub", func(g *region) []record.Record {
		return []record.Record{signedBy(g.clinics[0].visit("a", "2"), g.hubs[0])}
	}, record.BadSignature},
	{"no signature", func(g *region) []record.Record {
		r := g.clinics[0].visit("a", "2")
		r.Sig = [64]byte{}
		return []record.Record{r}
	}, record.BadSignature},
	{"an opening in another's name", func(g *region) []record.Record {
		return []record.Record{signedBy(g.clinics[0].open(), g.clinics[1])}
	}, record.BadSignature},
	{"another body", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].visit("a", "2").WithBody([]byte("3"))}
	}, record.BadBody},
	{"a longer body", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].visit("a", "2").WithBody([]byte("2 "))}
	}, record.BadBody},
	{"no body", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].visit("a", "2").WithBody(nil)}
	}, record.BadBody},
	{"a body where there is none", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].write(0, 31, record.CompartmentID{}, nil).WithBody([]byte("x"))}
	}, record.BadBody},
	{"an opening with another body", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].open().WithBody([]byte("noise"))}
	}, record.BadBody},
	{"an opening without its body", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].open().WithBody(nil)}
	}, record.BadBody},
	{"a stranger opens", func(g *region) []record.Record { return []record.Record{newBox("stranger").open()} }, record.UnknownDevice},
	{"a stranger writes", func(g *region) []record.Record {
		s := newBox("stranger")
		s.open()
		return []record.Record{s.visit("a", "1")}
	}, record.UnknownEpoch},
	{"revoked, and had seen it", func(g *region) []record.Record {
		r := g.hubs[0].revoke(g.clinics[0])
		g.clinics[0].size = g.Size() + 1
		return []record.Record{r, g.clinics[0].visit("a", "2")}
	}, record.Revoked},
	{"revoked, and could not know", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].revoke(g.clinics[0]), g.clinics[0].visit("a", "2")}
	}, record.Quarantined},
	{"revoked, one entry before it", func(g *region) []record.Record {
		r := g.hubs[0].revoke(g.clinics[0])
		g.clinics[0].size = g.Size() // has seen all that is before the revocation
		return []record.Record{r, g.clinics[0].visit("a", "2")}
	}, record.Quarantined},
	{"a revoked device opens", func(g *region) []record.Record {
		r := g.hubs[0].revoke(g.clinics[0])
		g.clinics[0].size = g.Size() + 9
		return []record.Record{r, g.clinics[0].open()}
	}, record.Revoked},
	{"what a revoked device wrote before stays", func(g *region) []record.Record {
		last := g.entries[g.Size()-1].Record
		return []record.Record{g.hubs[0].revoke(g.clinics[0]), last}
	}, record.Duplicate},
	{"a clinic admits", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].add(newBox("x"), record.RoleClinic)}
	}, record.NotAllowed},
	{"a clinic makes itself a hub", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].add(g.clinics[0], record.RoleHub)}
	}, record.NotAllowed},
	{"a clinic revokes", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].revoke(g.clinics[1])}
	}, record.NotAllowed},
	{"a hub admits", func(g *region) []record.Record {
		return []record.Record{g.hubs[2].add(newBox("x"), record.RoleField)}
	}, record.Ordered},
	{"admitted, then opens", func(g *region) []record.Record {
		x := newBox("x")
		return []record.Record{g.hubs[2].add(x, record.RoleField), x.open(), x.visit("a", "1")}
	}, record.Ordered},
	{"a hub of a moment ago admits", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].add(g.clinics[0], record.RoleHub), g.hubs[1].add(g.clinics[0], record.RoleHub), g.clinics[0].add(newBox("x"), record.RoleClinic)}
	}, record.Ordered},
	{"a hub by one vote of three admits", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].add(g.clinics[0], record.RoleHub), g.clinics[0].add(newBox("x"), record.RoleClinic)}
	}, record.NotAllowed},
	{"a hub of a moment ago no more", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].add(g.hubs[1], record.RoleClinic), g.hubs[2].add(g.hubs[1], record.RoleClinic), g.hubs[1].add(newBox("x"), record.RoleClinic)}
	}, record.NotAllowed},
	{"a hub that one of three put out admits", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].revoke(g.hubs[1]), g.hubs[1].add(newBox("x"), record.RoleClinic)}
	}, record.Ordered},
	{"a hub votes for its own retirement", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].add(g.hubs[0], record.RoleClinic)}
	}, record.Ordered},
	{"a hub renames itself", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].add(g.hubs[0], record.RoleHub)}
	}, record.Ordered},
	{"a hub votes to revoke itself", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].revoke(g.hubs[0])}
	}, record.Ordered},
	{"a hub put out by two writes", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].revoke(g.hubs[1]), g.hubs[2].revoke(g.hubs[1]), g.hubs[1].add(newBox("x"), record.RoleClinic)}
	}, record.Quarantined},
	{"revoked twice", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].revoke(g.clinics[0]), g.hubs[1].revoke(g.clinics[0])}
	}, record.Ordered},
	{"a stranger is revoked", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].revoke(newBox("stranger"))}
	}, record.NotAllowed},
	{"a revoked device comes back", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].revoke(g.clinics[0]), g.hubs[0].add(g.clinics[0], record.RoleClinic)}
	}, record.NotAllowed},
	{"founded again", func(g *region) []record.Record { return []record.Record{g.hubs[0].found("again")} }, record.NotAllowed},
	{"a sealed kind without a body", func(g *region) []record.Record { return []record.Record{g.clinics[0].visit("a", "")} }, record.NotAllowed},
	{"a member record of noise", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].write(0, record.KindMemberAdd, record.CompartmentID{}, []byte("noise"))}
	}, record.NotAllowed},
	{"a revocation of noise", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].write(0, record.KindMemberRevoke, record.CompartmentID{}, nil)}
	}, record.NotAllowed},
	{"a member with an unknown role", func(g *region) []record.Record {
		m := newBox("x").member("king")
		return []record.Record{g.hubs[0].write(0, record.KindMemberAdd, record.CompartmentID{}, mustMarshal(m))}
	}, record.NotAllowed},
	{"an opening of noise", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].sign(record.Core{HLC: 1 << 16, Kind: record.KindEpochOpen}, []byte("noise"))}
	}, record.NotAllowed},
	{"a session", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].session(staffKey("nurse"))}
	}, record.Ordered},
	{"a session claimed for another position", func(g *region) []record.Record {
		c := g.clinics[0]
		body := claim(c, record.Position{Epoch: c.epoch, N: 9}, staffKey("nurse"))
		return []record.Record{c.write(0, record.KindSessionOpen, record.CompartmentID{}, mustMarshal(body))}
	}, record.NotAllowed},
	{"a session claimed on another box", func(g *region) []record.Record {
		c := g.clinics[0]
		body := claim(g.clinics[1], record.Position{Epoch: c.epoch, N: 1}, staffKey("nurse"))
		return []record.Record{c.write(0, record.KindSessionOpen, record.CompartmentID{}, mustMarshal(body))}
	}, record.NotAllowed},
	{"a session in another's name", func(g *region) []record.Record {
		c := g.clinics[0]
		body := claim(c, record.Position{Epoch: c.epoch, N: 1}, staffKey("nurse"))
		body.Staff = staffKey("doctor").Public().(ed25519.PublicKey)
		return []record.Record{c.write(0, record.KindSessionOpen, record.CompartmentID{}, mustMarshal(body))}
	}, record.NotAllowed},
	{"a vote that passes", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].add(newBox("x"), record.RoleHub), g.hubs[1].add(newBox("y"), record.RoleHub), g.hubs[2].add(newBox("x"), record.RoleHub)}
	}, record.Ordered},
	{"a vote that changes another", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].revoke(g.hubs[1]), g.hubs[0].add(g.hubs[1], record.RoleClinic)}
	}, record.Ordered},
	{"a hub that other hubs were quicker to revoke", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].revoke(g.hubs[1]), g.hubs[2].revoke(g.hubs[1]), g.hubs[0].add(g.hubs[1], record.RoleHub)}
	}, record.Ordered},
	{"recovery keys, by two", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].recovery(1, people...), g.hubs[1].recovery(1, people...)}
	}, record.Ordered},
	{"recovery keys, by a clinic", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].recovery(1, people...)}
	}, record.NotAllowed},
	{"a reset", func(g *region) []record.Record {
		keys := []record.Record{g.hubs[0].recovery(2, people...), g.hubs[1].recovery(2, people...)}
		r := record.Reset{Generation: 2, Size: g.Size() + 2, Root: make([]byte, 32), Members: []record.MemberAdd{g.hubs[1].member(record.RoleHub)}}
		return append(keys, g.clinics[0].reset(g.signReset(r, 1, 2)))
	}, record.Ordered},
	{"a reset by a hub that it brings back", func(g *region) []record.Record {
		h := g.hubs[2]
		records := []record.Record{g.hubs[0].recovery(1, people...), g.hubs[1].recovery(1, people...), g.hubs[0].revoke(h), g.hubs[1].revoke(h)}
		r := record.Reset{Generation: 2, Size: g.Size() + 4, Root: make([]byte, 32), Members: []record.MemberAdd{h.member(record.RoleHub)}}
		return append(records, h.reset(g.signReset(r, 1)))
	}, record.Ordered},
	{"a reset by a hub that it leaves out", func(g *region) []record.Record {
		h := g.hubs[2]
		records := []record.Record{g.hubs[0].recovery(1, people...), g.hubs[1].recovery(1, people...), g.hubs[0].revoke(h), g.hubs[1].revoke(h)}
		r := record.Reset{Generation: 2, Size: g.Size() + 4, Root: make([]byte, 32), Members: []record.MemberAdd{g.hubs[0].member(record.RoleHub)}}
		return append(records, h.reset(g.signReset(r, 1)))
	}, record.Quarantined},
	{"an attestation", func(g *region) []record.Record {
		return []record.Record{g.clinics[0].write(2, record.KindAttest, record.CompartmentID{}, mustMarshal(record.Attest{Size: 1, Root: make([]byte, 32)}))}
	}, record.Ordered},
	{"a feed that evidence froze", func(g *region) []record.Record {
		c := g.clinics[0]
		opening, a, b := g.branches(c)
		e, err := record.NewEquivocation(opening, a, b)
		if err != nil {
			panic(err)
		}
		return []record.Record{a, g.hubs[0].write(0, record.KindEvidence, record.CompartmentID{}, e.Encode()), c.visit("a", "next")}
	}, record.Frozen},
	{"evidence of what cannot be", func(g *region) []record.Record {
		return []record.Record{g.hubs[0].write(0, record.KindEvidence, record.CompartmentID{}, []byte("noise"))}
	}, record.NotAllowed},
	{"a session outside lane 0", func(g *region) []record.Record {
		c := g.clinics[0]
		body := claim(c, record.Position{Epoch: c.epoch, Lane: 2, N: 1}, staffKey("nurse"))
		return []record.Record{c.write(2, record.KindSessionOpen, record.CompartmentID{}, mustMarshal(body))}
	}, record.NotAllowed},
}

func TestOrderRules(t *testing.T) {
	for _, c := range orderCases {
		t.Run(c.name, func(t *testing.T) {
			g := newRegion(t)
			g.mustOrder(t, g.clinics[0].visit("a", "1"))
			records := c.make(g)
			before := g.Size()
			outs := g.order(t, startMillis, records...)
			for i, out := range outs[:len(outs)-1] {
				if out.Verdict != record.Ordered {
					t.Errorf("record %d, put before the one to judge: got %q, want ordered", i, out.Verdict)
				}
			}
			last := outs[len(outs)-1]
			if last.Verdict != c.want || last.RID != records[len(records)-1].RID() {
				t.Errorf("got %q, want %q", last.Verdict, c.want)
			}
			want := before + uint64(len(outs)-1)
			if c.want == record.Ordered {
				want++
			}
			if g.Size() != want {
				t.Errorf("got size %d, want %d", g.Size(), want)
			}
			g.Check(t)
		})
	}
}

// A refused record changes nothing: a ledger that never saw any of the refused
// ones goes on to the same root.
func TestRefusedChangesNothing(t *testing.T) {
	for _, c := range orderCases {
		if c.want == record.Ordered {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			g, other := newRegion(t), newRegion(t)
			g.mustOrder(t, g.clinics[0].visit("a", "1"))
			other.mustOrder(t, other.clinics[0].visit("a", "1"))
			records := c.make(g)
			c.make(other)
			after := []record.Record{g.hubs[1].add(newBox("later"), record.RoleClinic), g.clinics[1].visit("a", "later")}
			g.order(t, startMillis, append(records, after...)...)
			other.order(t, startMillis, append(records[:len(records)-1:len(records)-1], after...)...)
			if g.head() != other.head() {
				t.Errorf("got head %v, want %v", g.head(), other.head())
			}
			if d := cmp.Diff(other.members, g.members); d != "" {
				t.Errorf("members (-want +got):\n%s", d)
			}
			if d := cmp.Diff(other.registry, g.registry); d != "" {
				t.Errorf("registry (-want +got):\n%s", d)
			}
		})
	}
}

func TestOrderAnswers(t *testing.T) {
	g := newRegion(t)
	c := g.clinics[0]
	one, two, three := c.visit("a", "1"), c.visit("b", "2"), c.visit("a", "3")
	base := g.Size()
	outs := g.order(t, startMillis, one, three, two, three, one)
	want := []record.Outcome{
		{RID: one.RID(), Verdict: record.Ordered, Seq: base},
		{RID: three.RID(), Verdict: record.Gap, Want: 2},
		{RID: two.RID(), Verdict: record.Ordered, Seq: base + 1},
		{RID: three.RID(), Verdict: record.Ordered, Seq: base + 2},
		{RID: one.RID(), Verdict: record.Duplicate, Seq: base},
	}
	if d := cmp.Diff(want, outs); d != "" {
		t.Errorf("outcomes (-want +got):\n%s", d)
	}
	if got := g.entries[base+2].PrevSeq; got != base+1 {
		t.Errorf("prevSeq of the second visit of a: got %d, want %d", got, base+1)
	}
	if got := g.entries[base+1].PrevSeq; got != 0 {
		t.Errorf("prevSeq of the first visit of b: got %d, want 0", got)
	}
}

func TestVerdictFinal(t *testing.T) {
	later := map[record.Verdict]bool{record.Ordered: true, record.Duplicate: true, record.Gap: true, record.UnknownEpoch: true, record.UnknownDevice: true,
		record.BadSignature: true, record.BadBody: true}
	names := map[string]bool{}
	for v := record.Ordered; v <= record.Frozen; v++ {
		if v.Final() == later[v] {
			t.Errorf("%q: got final %v, want %v", v, v.Final(), !later[v])
		}
		if names[v.String()] || v.String() == "" {
			t.Errorf("verdict %d: the name %q is not its own", uint8(v), v)
		}
		names[v.String()] = true
	}
	if got, want := record.Verdict(200).String(), "verdict 200"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFounding(t *testing.T) {
	hub, other := newBox("hub one"), newBox("hub two")
	opening, founding, otherOpening, otherFounding := hub.open(), hub.found("r"), other.open(), other.found("r")
	clinic := newBox("clinic one")
	clinicOpening := clinic.open()
	body := record.RegionFound{Name: "r", Nonce: make([]byte, 16), Founder: clinic.member(record.RoleClinic)}
	clinicFounding := clinic.write(0, record.KindRegionFound, record.CompartmentID{}, mustMarshal(body))
	third := newBox("hub three")
	thirdOpening := third.open()
	body.Founder = hub.member(record.RoleHub)
	forAnother := third.write(0, record.KindRegionFound, record.CompartmentID{}, mustMarshal(body))
	fourth := newBox("hub four")
	fourthOpening := fourth.open()
	early := fourth.visit("a", "1")

	for _, c := range []struct {
		name    string
		records []record.Record
		want    []record.Verdict
	}{
		{"opening and founding", []record.Record{opening, founding}, []record.Verdict{record.Ordered, record.Ordered}},
		{"in another order", []record.Record{founding, opening, founding}, []record.Verdict{record.UnknownEpoch, record.Ordered, record.Ordered}},
		{"a second opening first", []record.Record{opening, otherOpening, founding}, []record.Verdict{record.Ordered, record.NotAllowed, record.Ordered}},
		{"another's founding", []record.Record{opening, otherFounding}, []record.Verdict{record.Ordered, record.UnknownEpoch}},
		{"by a clinic", []record.Record{clinicOpening, clinicFounding}, []record.Verdict{record.Ordered, record.NotAllowed}},
		{"for another founder", []record.Record{thirdOpening, forAnother}, []record.Verdict{record.Ordered, record.NotAllowed}},
		{"a visit before it", []record.Record{fourthOpening, early}, []record.Verdict{record.Ordered, record.NotAllowed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger()
			var got []record.Verdict
			for _, out := range l.order(t, startMillis, c.records...) {
				got = append(got, out.Verdict)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("verdicts (-want +got):\n%s", d)
			}
			l.Check(t)
		})
	}
}

func TestMembers(t *testing.T) {
	g := newRegion(t)
	x := newBox("x")
	admitted := g.Size()
	g.mustOrder(t, g.hubs[1].add(x, record.RoleField))
	want := record.Member{Device: x.id, Encryption: [32]byte(x.member("").Encryption), Role: record.RoleField, Name: "x", SinceSeq: admitted}
	if d := cmp.Diff(want, g.members[x.id], cmpopts.EquateEmpty()); d != "" {
		t.Errorf("admitted (-want +got):\n%s", d)
	}

	m := x.member(record.RoleHub)
	m.Name, m.Addresses = "x at the river", []string{"/ip4/10.0.0.7/tcp/4001"}
	for _, h := range g.hubs[1:] {
		g.mustOrder(t, h.write(0, record.KindMemberAdd, record.CompartmentID{}, mustMarshal(m)))
	}
	want.Role, want.Name, want.Addresses = record.RoleHub, m.Name, m.Addresses
	if d := cmp.Diff(want, g.members[x.id]); d != "" {
		t.Errorf("changed (-want +got):\n%s", d)
	}

	g.mustOrder(t, g.hubs[2].revoke(x), g.hubs[1].revoke(x))
	want.RevokedSeq = g.Size()
	g.mustOrder(t, g.hubs[0].revoke(x)) // three of four
	if d := cmp.Diff(want, g.members[x.id]); d != "" {
		t.Errorf("revoked (-want +got):\n%s", d)
	}
	g.mustOrder(t, g.hubs[1].revoke(x)) // at the same time, as far as this hub knew
	if d := cmp.Diff(want, g.members[x.id]); d != "" {
		t.Errorf("revoked twice (-want +got):\n%s", d)
	}
	if got := g.members[x.id]; got.Active() {
		t.Errorf("a revoked member is active: %+v", got)
	}
}

// However they admit and revoke each other, one that may admit remains.
func TestOneThatAdmitsRemains(t *testing.T) {
	seed := testSeed(t)
	rng := newRand(seed)
	g := newRegion(t)
	all := append(g.hubs[:], g.clinics[:]...)
	roles := []record.Role{record.RoleHub, record.RoleClinic, record.RoleField, record.RoleStandalone}
	for range 400 {
		by, of := all[rng.IntN(len(all))], all[rng.IntN(len(all))]
		was := *by
		var r record.Record
		if rng.IntN(8) == 0 {
			r = by.revoke(of)
		} else {
			r = by.add(of, roles[rng.IntN(len(roles))])
		}
		if out := g.order(t, startMillis, r); out[0].Verdict != record.Ordered {
			*by = was // the position is free
		}
		left := 0
		for _, m := range g.members {
			if m.Active() && m.Role.Orders() {
				left++
			}
		}
		if left == 0 {
			t.Fatalf("seed %d: nobody may admit any more", seed)
		}
	}
	g.Check(t)
}

func TestLedgerTime(t *testing.T) {
	const day = 24 * 60 * 60
	for _, c := range []struct {
		name   string
		millis int64
		want   func(last int64) int64
	}{
		{"forward", (startMillis/1000 + 3600) * 1000, func(int64) int64 { return startMillis/1000 + 3600 }},
		{"a part of a second", (startMillis/1000+3600)*1000 + 999, func(int64) int64 { return startMillis/1000 + 3600 }},
		{"back", 5000, func(last int64) int64 { return last }},
		{"before 1970", -5000, func(last int64) int64 { return last }},
		{"a day", startMillis + day*1000, func(int64) int64 { return startMillis/1000 + day }},
		{"a year", startMillis + 365*day*1000, func(last int64) int64 { return last + day }},
		{"the end of time", math.MaxInt64, func(last int64) int64 { return last + day }},
		{"the start of time", math.MinInt64, func(last int64) int64 { return last }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRegion(t)
			last := g.LastTime()
			g.order(t, c.millis, g.clinics[0].visit("a", "1"))
			if got := g.LastTime(); got != c.want(last) {
				t.Errorf("got time %d after %d, want %d", got, last, c.want(last))
			}
		})
	}
	t.Run("the first batch sets it", func(t *testing.T) {
		l, hub := newLedger(), newBox("hub one")
		l.order(t, startMillis, hub.open())
		if got := l.LastTime(); got != startMillis/1000 {
			t.Errorf("got %d, want %d", got, startMillis/1000)
		}
	})
	t.Run("a batch never goes back", func(t *testing.T) {
		g := newRegion(t)
		if got := record.NewOrderer(g, nil).BatchTime(1000); got != g.LastTime() {
			t.Errorf("got %d, want %d", got, g.LastTime())
		}
	})
	t.Run("an entry never goes back", func(t *testing.T) {
		g := newRegion(t)
		o := record.NewOrderer(g, nil)
		if _, err := o.Add(1, g.clinics[0].visit("a", "1")); err != nil || o.Changes.Entries[0].Time != g.LastTime() {
			t.Errorf("got time %d and error %v, want %d", o.Changes.Entries[0].Time, err, g.LastTime())
		}
	})
}

// What this process has verified before may save work, never change a verdict.
func TestMemoryOfSignaturesChangesNoVerdict(t *testing.T) {
	for _, c := range orderCases {
		t.Run(c.name, func(t *testing.T) {
			g := newRegion(t)
			g.mustOrder(t, g.clinics[0].visit("a", "1"))
			records := c.make(g)
			type signed struct {
				rid record.RID
				sig [64]byte
			}
			known := map[signed]bool{}
			for _, b := range append(g.hubs[:], g.clinics[:]...) {
				for _, r := range records {
					// The honest form of each record, as a box would have met it before.
					honest := b.sign(r.Core, r.Body)
					if honest.VerifySignature(b.id) == nil && honest.RID() == r.RID() && b.epoch == r.Position().Epoch {
						known[signed{honest.RID(), honest.Sig}] = true
					}
				}
			}
			o := record.NewOrderer(g, func(rid record.RID, sig [64]byte) bool { return known[signed{rid, sig}] })
			var got record.Outcome
			for _, r := range records {
				var err error
				if got, err = o.Add(o.BatchTime(startMillis), r); err != nil {
					t.Fatal(err)
				}
			}
			if got.Verdict != c.want {
				t.Errorf("got %q, want %q", got.Verdict, c.want)
			}
		})
	}
}

// brokenState fails the nth read.
type brokenState struct {
	record.State
	left *int
}

var errDisk = errors.New("disk")

func (s brokenState) broken() bool { *s.left--; return *s.left < 0 }

func (s brokenState) Epoch(id record.EpochID) (record.Epoch, bool, error) {
	if s.broken() {
		return record.Epoch{}, false, errDisk
	}
	return s.State.Epoch(id)
}

func (s brokenState) Member(d record.DeviceID) (record.Member, bool, error) {
	if s.broken() {
		return record.Member{}, false, errDisk
	}
	return s.State.Member(d)
}

func (s brokenState) Head(f record.Feed) (record.Head, bool, error) {
	if s.broken() {
		return record.Head{}, false, errDisk
	}
	return s.State.Head(f)
}

func (s brokenState) Ordered(p record.Position) (uint64, record.RID, bool, error) {
	if s.broken() {
		return 0, record.RID{}, false, errDisk
	}
	return s.State.Ordered(p)
}

func (s brokenState) CompartmentLast(c record.CompartmentID) (uint64, error) {
	if s.broken() {
		return 0, errDisk
	}
	return s.State.CompartmentLast(c)
}

func (s brokenState) Registry(key []byte) ([]byte, bool, error) {
	if s.broken() {
		return nil, false, errDisk
	}
	return s.State.Registry(key)
}

// An unreadable state is never taken for a verdict, and leaves nothing behind.
func TestUnreadableStateDecidesNothing(t *testing.T) {
	for _, c := range orderCases {
		t.Run(c.name, func(t *testing.T) {
			g := newRegion(t)
			g.mustOrder(t, g.clinics[0].visit("a", "1"))
			records := c.make(g)
			for reads := range 100 {
				left := math.MaxInt
				o := record.NewOrderer(brokenState{g, &left}, nil)
				for _, r := range records[:len(records)-1] {
					if _, err := o.Add(0, r); err != nil {
						t.Fatal(err)
					}
				}
				left = reads
				before := fmt.Sprint(len(o.Changes.Entries), len(o.Changes.Epochs), len(o.Changes.Members), len(o.Changes.Registry))
				out, err := o.Add(0, records[len(records)-1])
				if err == nil {
					if out.Verdict != c.want {
						t.Errorf("after %d reads: got %q, want %q", reads, out.Verdict, c.want)
					}
					return
				}
				if after := fmt.Sprint(len(o.Changes.Entries), len(o.Changes.Epochs), len(o.Changes.Members), len(o.Changes.Registry)); !errors.Is(err, errDisk) || after != before {
					t.Fatalf("read %d failed: got error %v and changes %s, want %s", reads, err, after, before)
				}
				left = math.MaxInt
				if out, err = o.Add(0, records[len(records)-1]); err != nil || out.Verdict != c.want {
					t.Fatalf("again after read %d failed: got %q, %v, want %q", reads, out.Verdict, err, c.want)
				}
			}
			t.Error("a hundred reads for one record")
		})
	}
}

// Whoever passes a record on may spoil its signature or body. The verdict on that
// never bars the author's own copy.
func TestSpoiledCopyBarsNothing(t *testing.T) {
	g := newRegion(t)
	c := g.clinics[0]
	for _, r := range []record.Record{c.visit("a", "1"), c.open(), c.visit("a", "2")} {
		spoiled := r
		spoiled.Sig[5] ^= 1
		for i, copied := range []record.Record{spoiled, r.WithBody([]byte("x")), r.WithBody(nil), r} {
			out := g.order(t, startMillis, copied)[0]
			if out.Verdict.Final() || (out.Verdict == record.Ordered) != (i == 3) {
				t.Errorf("copy %d of n %d: got %q", i, r.Position().N, out.Verdict)
			}
		}
	}
	g.Check(t)
}
