package e2e_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

// TestStickPulledHalfWay: a clinic without any network writes its day on a stick,
// which is pulled out half-way. What is whole is taken in and said, and nothing is
// lost; the stick as it should have been brings the rest, although a page of it was
// never written; and the way back confirms.
func TestStickPulledHalfWay(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 1)
	clinic, hub := r.Clinics[0], r.Hubs[0]
	patient := clinic.Page().Register("Zawadi", "Carried")
	r.WaitSame(r.Boxes()...)
	r.SetLinks(clinic, false)
	s := rig.NewSaved()
	for range 12 {
		v := rig.NewVisit(rnd, patient)
		s.Posted(v)
		if err := s.Acked(v, clinic.Page().MustSave(v)); err != nil {
			t.Fatal(err)
		}
	}
	clinic.Import(rig.Bundles(t)...)
	before := clinic.Status()
	size := hub.Status().Size

	stick := t.TempDir()
	whole := filepath.Join(stick, "whole.hpp")
	clinic.Must("parcel", "write", whole)
	raw, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	pulled := filepath.Join(stick, "pulled.hpp") // a short parcel says all of it twice: less than once is there
	cut := len(raw)*2/5 + rnd.IntN(len(raw)/20)
	if err := os.WriteFile(pulled, raw[:cut], 0o600); err != nil {
		t.Fatal(err)
	}
	rep, code := hub.ReadParcel(pulled)
	t.Logf("%d of %d bytes: %+v", cut, len(raw), rep.ParcelRead)
	if code != 3 || rep.Complete || rep.New == 0 || rep.New >= before.Pending {
		t.Errorf("reading what is left: exit code %d, %+v; want 3, a word of the damage and something new", code, rep)
	}
	r.WaitSame(r.Hubs...)
	if got := clinic.Status(); got.Pending != before.Pending {
		t.Errorf("the clinic has %d records on it alone, %d before anybody read", got.Pending, before.Pending)
	}

	hole := rnd.IntN(len(raw) - 4096) // a page that was never written
	for i := range 4096 {
		raw[hole+i] = 0
	}
	if err := os.WriteFile(whole, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	rep, code = hub.ReadParcel(whole)
	t.Logf("all but a page at %d: %+v", hole, rep.ParcelRead)
	if code != 0 || !rep.Complete || rep.Damaged == 0 || rep.Refused != 0 || rep.New == 0 {
		t.Errorf("reading it with a page gone: exit code %d, %+v; want all of it, and a word of the damage", code, rep)
	}
	again, code := hub.ReadParcel(whole)
	if code != 0 || again.New != 0 {
		t.Errorf("reading it twice: exit code %d, %+v; want nothing new", code, again)
	}
	r.WaitSame(r.Hubs...)
	if got := hub.Status().Size; got < size+uint64(before.Pending) {
		t.Errorf("the hubs ordered %d entries, %d records were on the stick", got-size, before.Pending)
	}
	for _, h := range r.Hubs {
		s.MarkersOnce(t, h)
	}

	back := filepath.Join(stick, "back.hpp")
	hub.Must("parcel", "write", "--for", clinic.Name, back)
	if rep, code := clinic.ReadParcel(back); code != 0 || rep.Entries < before.Pending {
		t.Errorf("the way back: exit code %d, %+v; want %d entries", code, rep, before.Pending)
	}
	s.WaitConfirmed(clinic)
	r.WaitSame(r.Boxes()...)
	r.Check(r.Boxes()...)
}
