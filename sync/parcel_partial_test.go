package peersync_test

import (
	"testing"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// TestParcelForWhoHoldsAPart brings a partial replica what its profile has, and the
// hashes of the rest.
func TestParcelForWhoHoldsAPart(t *testing.T) {
	w := partialWorld(t, 70, 3, 1)
	p := w.clinics[0]
	for range 3 {
		for _, c := range w.clinics {
			w.save(c, record.LaneClinical, 5+w.rng.IntN(20))
			w.mustMeet(c.memory, w.hub)
		}
		w.orderAll()
	}
	from := func(o *peersync.ParcelOptions) { o.From, o.Pending = p.Head().Size, false }
	whole := w.parcel(w.hub, w.hubKey, w.clinics[1].memory)
	b := w.parcel(w.hub, w.hubKey, p.memory, from)
	if len(b) > len(whole)*2/3 {
		t.Errorf("for a part of three clinics: %d bytes, for all %d", len(b), len(whole))
	}
	rep := w.take(p.memory, b)
	if p.Head() != w.hub.Head() || !rep.Complete || rep.Refused+rep.Waiting != 0 || len(p.holes) == 0 {
		t.Fatalf("at %d of %d with %d holes: %+v", p.Head().Size, w.hub.Head().Size, len(p.holes), rep)
	}
	w.checkPart(p.memory)
	if rep := w.take(p.memory, b); rep.New != 0 || rep.Refused != 0 {
		t.Errorf("a second time: %+v", rep)
	}
	// What it passes on to others ends where its first hole begins.
	if rep := w.take(w.clinics[2].memory, w.parcel(p.memory, p.key, w.clinics[2].memory)); rep.Refused != 0 {
		t.Errorf("from a box that holds a part: %+v", rep)
	}
}

// TestParcelFillsHoles: a box that joined over a slow link took the newest entries,
// and gets the rest on a stick.
func TestParcelFillsHoles(t *testing.T) {
	w := partialWorld(t, 71, 2, 0)
	for range 4 {
		w.save(w.clinics[1], record.LaneClinical, 60)
		w.mustMeet(w.clinics[1].memory, w.hub)
		w.orderAll()
	}
	m := w.fresh(0)
	w.tweak = func(x *memory, o *peersync.Options) {
		if x == m {
			o.Recent = 60
		}
	}
	sm, sh := w.pair(m, w.hub)
	x := &exchange{a: sm, b: sh}
	if _, err := x.run(t.Context(), w.rng, 9_000); err != nil {
		t.Fatal(err)
	}
	for cut := 12_000; m.Head() != w.hub.Head(); cut += 3_000 { // the newest are here, the rest is not
		m = w.fresh(0)
		sm, sh = w.pair(m, w.hub)
		if _, err := (&exchange{a: sm, b: sh}).run(t.Context(), w.rng, cut); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.holes) == 0 {
		t.Fatal("no hole is left to fill")
	}
	rep := w.take(m, w.parcel(w.hub, w.hubKey, m))
	if len(m.holes) != 0 || m.Head() != w.hub.Head() || rep.Refused+rep.Waiting != 0 || rep.Entries == 0 {
		t.Fatalf("%d holes left: %+v", len(m.holes), rep)
	}
	w.check(m)
}
