package record_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/healthpost/healthpost/record"
)

// parts is the state of a ledger of which no entry is known yet, but who opened
// which epoch.
type parts struct {
	*ledger
	epochs map[record.EpochID]record.Epoch
}

func (p *parts) Epoch(id record.EpochID) (record.Epoch, bool, error) {
	e, ok := p.epochs[id]
	return e, ok, nil
}

func (p *parts) Head(f record.Feed) (record.Head, bool, error) {
	e, ok := p.epochs[f.Epoch]
	return record.Head{RID: e.Opening}, ok, nil
}

// bustle orders what boxes might write, members that come and go among it.
func (g *region) bustle(t testing.TB, r *rand.Rand, records int) {
	hub := g.hubs[0]
	for i := range records {
		c := g.clinics[r.IntN(len(g.clinics))]
		var x record.Record
		switch r.IntN(8) {
		case 0:
			x = hub.add(newBox(fmt.Sprintf("guest %d", i)), record.RoleField)
		case 1:
			a := record.Assign{Device: c.id[:], Mode: []record.Mode{"", record.ModeFull, record.ModePartial}[r.IntN(3)], Add: compartments(byte(1 + r.IntN(5))), Remove: [][]byte{}}
			x = hub.write(record.LaneControl, record.KindAssign, record.CompartmentID{}, mustMarshal(a))
		case 2:
			x = c.open()
		case 3:
			x = g.hubs[r.IntN(len(g.hubs))].recovery(1, newBox(fmt.Sprintf("sheet %d", r.IntN(3))))
		default:
			x = c.visit(fmt.Sprint(r.IntN(6)), "visit")
		}
		g.mustOrder(t, x)
	}
}

// place judges the entries that are held, and gives the members and the registry
// that come of it.
func (g *region) place(t testing.TB, held func(e *record.Entry) bool) (map[record.DeviceID]record.Member, record.RegistryMap) {
	t.Helper()
	o := record.NewOrderer(&parts{newLedger(), g.epochs}, nil)
	for i := range g.entries {
		e := g.entries[i]
		if !held(&e) {
			o.Skip(e.Seq + 1)
			continue
		}
		out, err := o.Place(&e)
		if err != nil || out.Verdict != record.Ordered {
			t.Fatalf("entry %d of kind %d: %s, %v", e.Seq, e.Record.Core.Kind, out.Verdict, err)
		}
	}
	members, rows := map[record.DeviceID]record.Member{}, record.RegistryMap{}
	for _, m := range o.Changes.Members {
		members[m.Device] = m
	}
	rows.Take(o.Changes.Registry)
	return members, rows
}

func TestPlacedEntriesGiveTheSameAuthority(t *testing.T) {
	r := newRand(testSeed(t))
	for range 10 {
		g := newRegion(t)
		g.bustle(t, r, 30)
		members, rows := g.place(t, func(e *record.Entry) bool { return e.HeldByAll() || r.IntN(2) == 0 })
		if !reflect.DeepEqual(members, g.members) {
			t.Errorf("members %v, want %v", members, g.members)
		}
		if !maps.EqualFunc(rows, g.registry, func(a, b []byte) bool { return string(a) == string(b) }) {
			t.Errorf("registry of %d rows, or others than the %d of all entries", len(rows), len(g.registry))
		}
	}
}

func TestPlaceRefuses(t *testing.T) {
	g := newRegion(t)
	g.mustOrder(t, g.clinics[0].visit("a", "1"), g.clinics[1].visit("a", "2"), g.clinics[0].visit("a", "3"), g.clinics[0].visit("b", "4"))
	last := g.Size() - 1
	for _, c := range []struct {
		name   string
		at     uint64
		held   func(seq uint64) bool
		change func(*record.Entry)
		want   record.Verdict
	}{
		{"what follows a gap", last, func(seq uint64) bool { return seq < 2 }, func(*record.Entry) {}, record.Ordered},
		{"a previous entry in the gap", last - 1, func(seq uint64) bool { return seq != last-2 }, func(*record.Entry) {}, record.Ordered},
		{"another previous entry", last - 1, func(seq uint64) bool { return seq != last-2 }, func(e *record.Entry) { e.PrevSeq = e.Seq + 1 }, record.NotAllowed},
		{"a previous entry before one that is held", last - 1, func(seq uint64) bool { return true }, func(e *record.Entry) { e.PrevSeq -= 2 }, record.NotAllowed},
		{"a time before the last one", last, func(seq uint64) bool { return seq != last-2 }, func(e *record.Entry) { e.Time = 0 }, record.NotAllowed},
		{"another place", last, func(seq uint64) bool { return seq != last-2 }, func(e *record.Entry) { e.Seq++ }, record.NotAllowed},
		{"another signature", last, func(seq uint64) bool { return seq != last-2 }, func(e *record.Entry) { e.Record.Sig[1] ^= 1 }, record.BadSignature},
		{"another body", last, func(seq uint64) bool { return seq != last-2 }, func(e *record.Entry) { e.Record = e.Record.WithBody([]byte("x")) }, record.BadBody},
		{"one that does not continue the one before it", last, func(seq uint64) bool { return seq != last-2 }, func(e *record.Entry) {
			e.Record = resign(e.Record, func(c *record.Core) { c.Prev[0] ^= 1 }, e.Record.Body, g.clinics[0])
		}, record.BadPrev},
		{"one that is held already", last, func(seq uint64) bool { return seq != last-2 }, func(e *record.Entry) { e.Record, e.PrevSeq = g.entries[last-1].Record, last }, record.Duplicate},
	} {
		o := record.NewOrderer(&parts{newLedger(), g.epochs}, nil)
		for i := range c.at {
			e := g.entries[i]
			if !c.held(i) && !e.HeldByAll() {
				o.Skip(i + 1)
			} else if out, err := o.Place(&e); err != nil || out.Verdict != record.Ordered {
				t.Fatalf("%s: entry %d: %s, %v", c.name, i, out.Verdict, err)
			}
		}
		e := g.entries[c.at]
		c.change(&e)
		if out, err := o.Place(&e); err != nil || out.Verdict != c.want {
			t.Errorf("%s: got %s, %v; want %s", c.name, out.Verdict, err, c.want)
		}
	}
}

func TestWhoMayAssign(t *testing.T) {
	field := newBox("field")
	body := func(d *box, m record.Mode) []byte {
		return mustMarshal(record.Assign{Device: d.id[:], Mode: m, Add: compartments(7), Remove: [][]byte{}})
	}
	for _, c := range []struct {
		name string
		by   func(g *region) *box
		to   func(g *region) *box
		mode record.Mode
		want record.Verdict
	}{
		{"a hub to a clinic", func(g *region) *box { return g.hubs[1] }, func(g *region) *box { return g.clinics[0] }, record.ModePartial, record.Ordered},
		{"a clinic to a field device", func(g *region) *box { return g.clinics[0] }, func(*region) *box { return field }, record.ModePartial, record.Ordered},
		{"a clinic to a clinic", func(g *region) *box { return g.clinics[0] }, func(g *region) *box { return g.clinics[1] }, record.ModePartial, record.NotAllowed},
		{"a clinic to itself", func(g *region) *box { return g.clinics[0] }, func(g *region) *box { return g.clinics[0] }, record.ModeFull, record.NotAllowed},
		{"a field device to itself", func(*region) *box { return field }, func(*region) *box { return field }, record.ModeFull, record.NotAllowed},
		{"a hub that is to hold a part", func(g *region) *box { return g.hubs[0] }, func(g *region) *box { return g.hubs[1] }, record.ModePartial, record.NotAllowed},
		{"people to a hub", func(g *region) *box { return g.hubs[0] }, func(g *region) *box { return g.hubs[1] }, "", record.Ordered},
		{"a stranger", func(g *region) *box { return g.hubs[0] }, func(*region) *box { return newBox("stranger") }, record.ModePartial, record.NotAllowed},
	} {
		g := newRegion(t)
		*field = *newBox("field")
		g.mustOrder(t, g.hubs[0].add(field, record.RoleField), field.open())
		to := c.to(g)
		r := c.by(g).write(record.LaneControl, record.KindAssign, record.CompartmentID{}, body(to, c.mode))
		if out := g.order(t, startMillis, r)[0]; out.Verdict != c.want {
			t.Errorf("%s: got %s, want %s", c.name, out.Verdict, c.want)
			continue
		}
		assigned, err := record.IsAssigned(g, to.id, record.CompartmentID{7})
		mode, merr := record.ModeOf(g, to.id)
		ordered := c.want == record.Ordered
		if err != nil || merr != nil || assigned != ordered || ordered && c.mode != "" && mode != c.mode {
			t.Errorf("%s: assigned %v, mode %q, %v, %v", c.name, assigned, mode, err, merr)
		}
	}
}
