package node_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/store/journal/faultfs"
	"github.com/healthpost/healthpost/web"
)

// closedToClinicians is a rule under which there is somebody to whom charts are closed.
const closedToClinicians = `@id("closed") forbid (principal in Role::"clinician", action == Action::"view", resource is Patient);`

const secondPIN = "271828" // of everybody that signedInAs adds

const reason = "unconscious, brought in by neighbours"

// atWard is a box with a patient whose chart is closed to clinicians, and a clock that the test moves.
func atWard(t *testing.T) (c *clinic, patient string, later *atomic.Int64) {
	t.Helper()
	node.WithRule(t, closedToClinicians)
	begun := time.Now()
	later = new(atomic.Int64)
	c = newClinic(t)
	c.stop()
	c.o.Now = func() time.Time { return begun.Add(time.Duration(later.Load())) }
	c.start()
	c.signIn()
	patient = c.register("form-patient", "Nakato")
	if _, err := c.n.SaveVisit(t.Context(), c.token, patient, "form-visit", fhir.Visit{At: begun, Note: "hidden from the ward", Allergy: "Penicillin", Problem: "other", ProblemOther: "Epilepsy", Treatment: "Phenytoin"}); err != nil {
		t.Fatal(err)
	}
	return c, patient, later
}

// break opens the summary for a session.
func (c *clinic) breakGlass(s web.Session, patient, form string, second web.Session) error {
	return c.n.BreakGlass(c.t.Context(), s, patient, form, web.BreakGlass{Reason: reason, Second: second.StaffID, PIN: secondPIN})
}

func (c *clinic) mustBreak(s web.Session, patient, form string, second web.Session) {
	c.t.Helper()
	if err := c.breakGlass(s, patient, form, second); err != nil {
		c.t.Fatal(err)
	}
}

// isOpen reports whether the summary is shown to a session.
func (c *clinic) isOpen(s web.Session, patient string) bool {
	c.t.Helper()
	p, err := c.n.Emergency(c.t.Context(), s, patient)
	if err != nil {
		c.t.Fatal(err)
	}
	if p.Until.IsZero() && len(p.Summary.Allergies)+len(p.Summary.Contacts)+len(p.Summary.Problems)+len(p.Summary.Medicines) > 0 {
		c.t.Error("a summary that is not open is shown")
	}
	return !p.Until.IsZero()
}

func TestEmergencyOpensTheSummary(t *testing.T) {
	c, patient, later := atWard(t)
	doctor := c.signedInAs(t, "Doctor Ward", "clinician")
	second := c.signedInAs(t, "Second Ward", "registrar")
	view, err := c.n.Open(t.Context(), doctor, patient)
	if err != nil || !view.Limited || !view.Emergency || len(view.Chart.Visits) != 0 {
		t.Fatalf("a closed chart: limited %v, emergency %v, %d visits, %v", view.Limited, view.Emergency, len(view.Chart.Visits), err)
	}
	if c.isOpen(doctor, patient) {
		t.Fatal("open before anybody said why")
	}
	c.mustBreak(doctor, patient, "form-glass", second)
	p, err := c.n.Emergency(t.Context(), doctor, patient)
	if err != nil || len(p.Summary.Allergies) != 1 || p.Summary.Allergies[0].Code.Text != "Penicillin" || len(p.Summary.Problems) != 1 || len(p.Staff) != 0 {
		t.Fatalf("summary: %+v, %v", p, err)
	}
	if again := c.signedInAgain(t, "Doctor Ward"); c.isOpen(again, patient) {
		t.Error("open to another session of the same person")
	}
	if c.isOpen(doctor, c.register("form-other", "Other")) {
		t.Error("another chart is open")
	}
	if v, err := c.n.Open(t.Context(), doctor, patient); err != nil || !v.Limited || len(v.Chart.Visits) != 0 {
		t.Errorf("the chart itself is open in an emergency: %v", err)
	}
	for at := time.Duration(0); at < web.EmergencyHours*time.Hour; at += 9 * time.Minute { // in use all the time
		later.Store(int64(at))
		if !c.isOpen(doctor, patient) {
			t.Fatalf("closed after %v", at)
		}
	}
	later.Store(int64(web.EmergencyHours * time.Hour))
	if c.isOpen(doctor, patient) {
		t.Error("open after its hours")
	}
	if err := c.breakGlass(doctor, patient, "form-glass", second); err != nil || c.isOpen(doctor, patient) {
		t.Errorf("the form of before opens it once more: %v", err)
	}
	c.mustBreak(doctor, patient, "form-glass-2", second)
	if !c.isOpen(doctor, patient) {
		t.Error("closed after a second reason")
	}
}

// signedInAgain is another session of somebody whom signedInAs added.
func (c *clinic) signedInAgain(t *testing.T, name string) web.Session {
	t.Helper()
	tiles, err := c.n.Staff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(tiles, func(x web.StaffTile) bool { return x.Name == name })
	token, err := c.n.SignIn(t.Context(), tiles[i].ID, secondPIN)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.n.Session(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEmergencyNeedsReasonAndSecondPerson(t *testing.T) {
	c, patient, later := atWard(t)
	doctor := c.signedInAs(t, "Doctor Ward", "clinician")
	second := c.signedInAs(t, "Second Ward", "nurse")
	desk := c.signedInAs(t, "Desk Ward", "registrar")
	pharmacist := c.signedInAs(t, "Pharmacy Ward", "pharmacist")
	var locked *web.LockedError
	for i, x := range []struct {
		name string
		who  web.Session
		g    web.BreakGlass
		want error
	}{
		{"no reason", doctor, web.BreakGlass{Second: second.StaffID, PIN: secondPIN}, web.ErrReason},
		{"a short one", doctor, web.BreakGlass{Reason: "   urgent!   ", Second: second.StaffID, PIN: secondPIN}, web.ErrReason},
		{"a long one", doctor, web.BreakGlass{Reason: strings.Repeat("é", web.ReasonMax+1), Second: second.StaffID, PIN: secondPIN}, web.ErrReason},
		{"alone", doctor, web.BreakGlass{Reason: reason, Second: doctor.StaffID, PIN: secondPIN}, web.ErrSecondPerson},
		{"alone, in capitals", doctor, web.BreakGlass{Reason: reason, Second: strings.ToUpper(doctor.StaffID), PIN: secondPIN}, web.ErrSecondPerson},
		{"with nobody", doctor, web.BreakGlass{Reason: reason, Second: strings.Repeat("0", 32), PIN: secondPIN}, web.ErrWrongPIN},
		{"with a wrong PIN", doctor, web.BreakGlass{Reason: reason, Second: second.StaffID, PIN: "999999"}, web.ErrWrongPIN},
		{"who sees the chart", second, web.BreakGlass{Reason: reason, Second: doctor.StaffID, PIN: secondPIN}, web.ErrChartOpen},
		{"who may not", desk, web.BreakGlass{Reason: reason, Second: second.StaffID, PIN: secondPIN}, web.ErrRefused},
		{"who gives medicines", pharmacist, web.BreakGlass{Reason: reason, Second: second.StaffID, PIN: secondPIN}, web.ErrRefused},
	} {
		if err := c.n.BreakGlass(t.Context(), x.who, patient, "form-"+string(rune('a'+i)), x.g); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
	}
	for range 4 { // and the one above
		if err := c.n.BreakGlass(t.Context(), doctor, patient, "form-x", web.BreakGlass{Reason: reason, Second: second.StaffID, PIN: "999999"}); !errors.Is(err, web.ErrWrongPIN) && !errors.As(err, &locked) {
			t.Fatal(err)
		}
	}
	if err := c.breakGlass(doctor, patient, "form-x", second); !errors.As(err, &locked) {
		t.Errorf("after five wrong PINs: %v, want locked", err)
	}
	if _, err := c.n.SignIn(t.Context(), second.StaffID, secondPIN); !errors.As(err, &locked) {
		t.Errorf("the second person signs in meanwhile: %v, want locked", err)
	}
	if c.isOpen(doctor, patient) {
		t.Error("open after all that was refused")
	}
	later.Store(int64(6 * time.Minute))
	c.mustBreak(doctor, patient, "form-x", second)
}

func TestEmergencyIsToldAndLookedInto(t *testing.T) {
	c, patient, later := atWard(t)
	doctor := c.signedInAs(t, "Doctor Ward", "clinician,administrator")
	second := c.signedInAs(t, "Second Ward", "nurse")
	auditor := c.signedInAs(t, "Auditor Ward", "auditor")
	c.mustBreak(doctor, patient, "form-glass", second)
	page, err := c.n.Looks(t.Context(), second, patient)
	if err != nil || len(page.Emergencies) != 1 {
		t.Fatalf("who looked: %+v, %v", page.Emergencies, err)
	}
	if e := page.Emergencies[0]; e.Who != "Doctor Ward" || e.Second != "Second Ward" || e.Reason != reason || e.Box != "Test box" || !e.Reviewed.IsZero() {
		t.Errorf("the patient reads %+v", e)
	}
	if !slices.ContainsFunc(page.Looks, func(l web.Look) bool { return l.Who == "Doctor Ward" && l.What == "emergency" && !l.Refused }) {
		t.Errorf("the lines have no emergency: %+v", page.Looks)
	}
	if _, err := c.n.Emergencies(t.Context(), second); !errors.Is(err, web.ErrRefused) {
		t.Errorf("a nurse oversees: %v", err)
	}
	today := func(want int, late bool) {
		t.Helper()
		for _, s := range []web.Session{doctor, auditor} {
			got, err := c.n.Today(t.Context(), s)
			if err != nil || got.Emergencies != want || got.Late != late {
				t.Errorf("the first page tells of %d, late %v, %v; want %d, %v", got.Emergencies, got.Late, err, want, late)
			}
		}
	}
	today(1, false)
	later.Store(int64(web.ReviewDays*24*time.Hour + time.Minute))
	doctor, auditor = c.signedInAgain(t, "Doctor Ward"), c.signedInAgain(t, "Auditor Ward")
	today(1, true)
	list, err := c.n.Emergencies(t.Context(), auditor)
	if err != nil || len(list.List) != 1 || !list.List[0].Late || list.List[0].Name != "Nakato Testova" || list.List[0].Reason != reason {
		t.Fatalf("the officer reads %+v, %v", list, err)
	}
	rid := list.List[0].RID
	for name, try := range map[string]struct {
		s    web.Session
		rid  string
		note string
		want error
	}{
		"one's own":   {doctor, rid, "it was needed", web.ErrOwnEmergency},
		"no note":     {auditor, rid, " x ", web.ErrReason},
		"another":     {auditor, strings.Repeat("ab", 32), "it was needed", web.ErrNotFound},
		"no id":       {auditor, "../..", "it was needed", web.ErrNotFound},
		"who may not": {c.signedInAgain(t, "Second Ward"), rid, "it was needed", web.ErrRefused},
	} {
		if err := c.n.ReviewEmergency(t.Context(), try.s, try.rid, "form-"+name, try.note); !errors.Is(err, try.want) {
			t.Errorf("%s: %v, want %v", name, err, try.want)
		}
	}
	for range 2 { // two taps
		if err := c.n.ReviewEmergency(t.Context(), auditor, rid, "form-review", "it was needed"); err != nil {
			t.Fatal(err)
		}
	}
	today(0, false)
	if err := c.n.Reproject(); err != nil {
		t.Fatal(err)
	}
	page, err = c.n.Looks(t.Context(), auditor, patient)
	if err != nil || len(page.Emergencies) != 1 || page.Emergencies[0].By != "Auditor Ward" || page.Emergencies[0].Note != "it was needed" {
		t.Errorf("after it was looked into: %+v, %v", page.Emergencies, err)
	}
}

// onDisk counts what a disk has of emergencies: records, and access lines.
func onDisk(t *testing.T, st *store.Store, patient string) (recs, lines int) {
	t.Helper()
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		t.Fatal(err)
	}
	all, err := st.Compartment(c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		if all[i].Record.Core.Kind == record.KindBreakGlass {
			recs++
		}
	}
	if err := st.ScanRows([]byte("acc/"), 1000, func(_, _ []byte) bool { lines++; return true }); err != nil {
		t.Fatal(err)
	}
	return recs, lines
}

// onCard is a box with staff and a patient on a disk that can fail; it is not running, so that the test
// and nobody else writes.
func onCard(t *testing.T) (c *clinic, d *card, doctor, second web.Session, patient string) {
	t.Helper()
	node.WithRule(t, closedToClinicians)
	dir := t.TempDir()
	if _, err := node.Init(dir, record.RoleStandalone, "Test box"); err != nil {
		t.Fatal(err)
	}
	c = &clinic{t: t, o: options(dir)}
	d = &card{FS: faultfs.New(1), index: filepath.Join(dir, "db", "index"), safe: filepath.Join(t.TempDir(), "index")}
	c.o.Store.JournalFS = d
	n, err := node.Open(c.o)
	if err != nil {
		t.Fatal(err)
	}
	c.n = n
	t.Cleanup(func() { n.Close() }) // reports the fault that the test made
	if _, err := n.Found(t.Context(), "Test region"); err != nil {
		t.Fatal(err)
	}
	if err := n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Amina Test", PIN: pin}); err != nil {
		t.Fatal(err)
	}
	c.signIn()
	doctor, second = c.signedInAs(t, "Doctor Ward", "clinician"), c.signedInAs(t, "Second Ward", "nurse")
	return c, d, doctor, second, c.register("form-patient", "Nakato")
}

// TestEmergencyIsDurableBeforeItIsShown cuts the power at the moment in which the summary is open.
func TestEmergencyIsDurableBeforeItIsShown(t *testing.T) {
	c, d, doctor, second, patient := onCard(t)
	recs, lines := onDisk(t, d.cut(t, c.o.Store), patient)
	c.mustBreak(doctor, patient, "form-glass", second)
	if r, l := onDisk(t, d.cut(t, c.o.Store), patient); r != recs+1 || l != lines+1 {
		t.Errorf("the disk has %d records and %d lines more, want 1 and 1", r-recs, l-lines)
	}
}

// TestEmergencyOnAFailingDisk: whichever write of it fails, and however, nothing is shown, and the
// disk has record and line or neither.
func TestEmergencyOnAFailingDisk(t *testing.T) {
	for _, x := range []faultfs.Fault{{Op: 1, Mode: faultfs.Torn}, {Op: 2, Mode: faultfs.Fail}, {Op: 2, Mode: faultfs.FailPersisted}} {
		c, d, doctor, second, patient := onCard(t)
		_, lines := onDisk(t, d.cut(t, c.o.Store), patient)
		d.Inject(x)
		if err := c.breakGlass(doctor, patient, "form-glass", second); err == nil {
			t.Errorf("%v: the disk failed, and the summary was opened", x.Mode)
		}
		if p, err := c.n.Emergency(t.Context(), doctor, patient); err == nil || !p.Until.IsZero() {
			t.Errorf("%v: the disk failed, and the page shows until %v", x.Mode, p.Until)
		}
		if r, l := onDisk(t, d.cut(t, c.o.Store), patient); r != l-lines {
			t.Errorf("%v: the disk has %d records and %d lines", x.Mode, r, l-lines)
		}
	}
}

// ask asks for a summary that is not open; declare opens it.
func (c *clinic) ask(patient string) error {
	_, err := c.n.Emergency(c.ctx(), c.signedInAs(c.t.(*testing.T), "Asking Ward", "clinician"), patient)
	return err
}

func (c *clinic) declare(patient string) error {
	t := c.t.(*testing.T)
	return c.breakGlass(c.signedInAs(t, "Declaring Ward", "clinician"), patient, "form-declare", c.signedInAs(t, "Second Ward", "registrar"))
}

// emergencyIsTold: an emergency at b, which reached nobody, is told to patient and officer at a, and that
// somebody at a looked into it at b.
func emergencyIsTold(t *testing.T, a, b *clinic, patient string) {
	t.Helper()
	var told web.EmergencyEvent
	a.until("the emergency at the other clinic", func(node.Status) bool {
		page, err := a.n.Looks(t.Context(), a.token, patient)
		if err != nil || len(page.Emergencies) != 1 || page.Emergencies[0].Who == "?" {
			return false
		}
		told = page.Emergencies[0]
		return true
	})
	if told.Who != "Ward Person" || told.Second != "Second Person" || told.Box != "Soroti" || told.Reason != reason {
		t.Errorf("the patient reads %+v", told)
	}
	a.until("all lines of the other clinic", func(node.Status) bool { // those of an earlier start may come later
		page, err := a.n.Looks(t.Context(), a.token, patient)
		return err == nil && len(page.Gaps) == 0
	})
	if err := a.n.ReviewEmergency(t.Context(), a.token, told.RID, "form-looked", "it was needed"); err != nil {
		t.Fatal(err)
	}
	b.until("that somebody looked into it", func(node.Status) bool {
		list, err := b.n.Emergencies(t.Context(), b.token)
		return err == nil && len(list.List) == 0
	})
}
