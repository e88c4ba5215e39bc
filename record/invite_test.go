package record_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

func (b *box) mayInvite(who *box, may bool) record.Record {
	return b.write(record.LaneControl, record.KindInviter, record.CompartmentID{}, mustMarshal(record.Inviter{V: 1, Device: who.id[:], May: may}))
}

func (b *box) invites(n byte, hub *box, role record.Role) record.Record {
	return b.write(record.LaneControl, record.KindInvite, record.CompartmentID{}, mustMarshal(record.Invite{V: 1, Hash: bytes.Repeat([]byte{n}, 16), Hub: hub.id[:], Role: role}))
}

func (g *region) openInvites(t testing.TB, by *box) (list []record.OpenInvite) {
	t.Helper()
	key := append(record.OpenInvitesPrefix(), by.id[:]...)
	b, ok, err := g.Registry(key)
	if err == nil && ok {
		_, list, err = record.ReadOpenInvites(key, b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (g *region) inviter(t testing.TB, b *box) bool {
	t.Helper()
	may, err := record.IsInviter(g, b.id)
	if err != nil {
		t.Fatal(err)
	}
	return may
}

// TestClinicsInviteByTheVoteOfHubs: most hubs give a clinic authority and take it back; what it invites while
// it has it is kept for a day of ledger time, and nothing else.
func TestClinicsInviteByTheVoteOfHubs(t *testing.T) {
	g := newRegion(t)
	c, other, hub := g.clinics[0], g.clinics[1], g.hubs[0]
	g.mustOrder(t, hub.mayInvite(c, true), c.invites(1, hub, record.RoleField))
	if g.inviter(t, c) || len(g.openInvites(t, c)) != 0 || len(g.proposals(t)) != 1 {
		t.Fatal("one hub of three gave authority")
	}
	g.mustOrder(t, c.mayInvite(c, true), other.mayInvite(c, true)) // no hubs
	g.mustOrder(t, g.hubs[1].mayInvite(other, true))               // about another
	if g.inviter(t, c) || g.inviter(t, other) {
		t.Fatal("authority by one hub")
	}
	g.mustOrder(t, g.hubs[1].mayInvite(c, true))
	if !g.inviter(t, c) || g.inviter(t, other) {
		t.Fatal("two hubs of three gave no authority")
	}
	g.mustOrder(t, c.invites(2, hub, record.RoleField), c.invites(2, hub, record.RoleField), // once
		c.invites(3, other, record.RoleField), // no hub
		c.invites(4, hub, record.RoleClinic), c.invites(5, hub, record.RoleHub), other.invites(6, hub, record.RoleField),
		c.write(record.LaneControl, record.KindInvite, record.CompartmentID{}, []byte("noise")))
	list := g.openInvites(t, c)
	if len(list) != 1 || list[0].Hash[0] != 2 || !bytes.Equal(list[0].Hub, hub.id[:]) || list[0].Role != record.RoleField || len(g.openInvites(t, other)) != 0 {
		t.Fatalf("open: %+v", list)
	}
	if left := list[0].Expires - g.LastTime(); left <= 0 || left > record.InviteSeconds {
		t.Errorf("it ends in %d s of ledger time", left)
	}
	for n := byte(10); n < 40; n++ {
		g.mustOrder(t, c.invites(n, hub, record.RoleField))
	}
	if list = g.openInvites(t, c); len(list) != 16 {
		t.Errorf("%d are open, want 16", len(list))
	}
	late := startMillis + (g.LastTime()-startMillis/1000+record.InviteSeconds)*1000
	for _, out := range g.order(t, late, c.invites(50, hub, record.RoleField)) {
		if out.Verdict != record.Ordered {
			t.Fatal(out.Verdict)
		}
	}
	if list = g.openInvites(t, c); len(list) != 1 || list[0].Hash[0] != 50 {
		t.Errorf("a day later %+v are open", list)
	}
	g.mustOrder(t, g.hubs[1].mayInvite(c, false), g.hubs[2].mayInvite(c, false), c.invites(51, hub, record.RoleField))
	if g.inviter(t, c) || len(g.openInvites(t, c)) != 1 {
		t.Error("authority that was taken back invites")
	}
	for _, bad := range []any{record.Inviter{V: 2, Device: c.id[:], May: true}, record.Inviter{V: 1, Device: c.id[:31], May: true}} {
		if _, err := record.DecodeInviter(mustMarshal(bad)); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%+v: %v", bad, err)
		}
		g.mustOrder(t, hub.write(record.LaneControl, record.KindInviter, record.CompartmentID{}, mustMarshal(bad)))
	}
	hubs := newRegion(t)
	hubs.mustOrder(t, hubs.hubs[0].mayInvite(hubs.hubs[1], true), hubs.hubs[2].mayInvite(hubs.hubs[1], true), hubs.hubs[0].mayInvite(newBox("nobody"), true))
	if len(hubs.proposals(t)) != 0 {
		t.Error("votes about who is no clinic are open")
	}
}

func FuzzReadOpenInvites(f *testing.F) {
	key := append(record.OpenInvitesPrefix(), make([]byte, 32)...)
	f.Add(key, mustMarshal([]any{[]any{[]any{make([]byte, 16), make([]byte, 32), "field", int64(7)}}}))
	f.Add([]byte("i"), []byte{0x81})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		fuzz.Bounded(t, len(key)+len(value), func() { record.ReadOpenInvites(key, value) })
		_, list, err := record.ReadOpenInvites(key, value)
		for i := range list {
			if err == nil && len(list[i].Hash) != 16 {
				t.Errorf("read as %+v", list[i])
			}
		}
	})
}
