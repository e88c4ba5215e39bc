package e2e_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/healthpost/healthpost/node"
)

// parcelRead is what 'parcel read' says of one file.
type parcelRead struct {
	Error string `json:"error"`
	node.ParcelRead
}

// readParcel takes a parcel in and gives the report and the exit code.
func (b *Box) readParcel(path string) (rep parcelRead, code int) {
	b.t.Helper()
	r := b.Command("", "parcel", "read", "--json", path)
	var list []parcelRead
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || len(list) != 1 {
		b.t.Fatalf("%s: reading a parcel: %v, exit code %d\n%s%s", b.name, errors.Join(err), r.code, r.out, r.err)
	}
	return list[0], r.code
}

// TestStickPulledHalfWay: a clinic without any network writes its day on a stick,
// which is pulled out half-way. What is whole is taken in and said, and nothing is
// lost; the stick as it should have been brings the rest, although a page of it was
// never written; and the way back confirms.
func TestStickPulledHalfWay(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	r := newRegion(t, 3, 1)
	clinic, hub := r.clinics[0], r.hubs[0]
	patient := clinic.Page().Register("Zawadi", "Carried")
	r.waitSame(r.boxes()...)
	r.linkAll(clinic, false)
	s := newSaved()
	for range 12 {
		v := newVisit(rnd, patient)
		s.posted(v)
		if err := s.acked(v, clinic.Page().mustSave(v)); err != nil {
			t.Fatal(err)
		}
	}
	clinic.Import(bundles(t)...)
	before := clinic.Status()
	size := hub.Status().Size

	stick := t.TempDir()
	whole := filepath.Join(stick, "whole.hpp")
	clinic.must("parcel", "write", whole)
	raw, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	pulled := filepath.Join(stick, "pulled.hpp") // a short parcel says all of it twice: less than once is there
	cut := len(raw)*2/5 + rnd.IntN(len(raw)/20)
	if err := os.WriteFile(pulled, raw[:cut], 0o600); err != nil {
		t.Fatal(err)
	}
	rep, code := hub.readParcel(pulled)
	t.Logf("%d of %d bytes: %+v", cut, len(raw), rep.ParcelRead)
	if code != 3 || rep.Complete || rep.New == 0 || rep.New >= before.Pending {
		t.Errorf("reading what is left: exit code %d, %+v; want 3, a word of the damage and something new", code, rep)
	}
	r.waitSame(r.hubs...)
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
	rep, code = hub.readParcel(whole)
	t.Logf("all but a page at %d: %+v", hole, rep.ParcelRead)
	if code != 0 || !rep.Complete || rep.Damaged == 0 || rep.Refused != 0 || rep.New == 0 {
		t.Errorf("reading it with a page gone: exit code %d, %+v; want all of it, and a word of the damage", code, rep)
	}
	again, code := hub.readParcel(whole)
	if code != 0 || again.New != 0 {
		t.Errorf("reading it twice: exit code %d, %+v; want nothing new", code, again)
	}
	r.waitSame(r.hubs...)
	if got := hub.Status().Size; got < size+uint64(before.Pending) {
		t.Errorf("the hubs ordered %d entries, %d records were on the stick", got-size, before.Pending)
	}
	for _, h := range r.hubs {
		s.markersOnce(t, h)
	}

	back := filepath.Join(stick, "back.hpp")
	hub.must("parcel", "write", "--for", clinic.name, back)
	if rep, code := clinic.readParcel(back); code != 0 || rep.Entries < before.Pending {
		t.Errorf("the way back: exit code %d, %+v; want %d entries", code, rep, before.Pending)
	}
	s.waitConfirmed(clinic)
	r.waitSame(r.boxes()...)
	r.check(r.boxes()...)
}
