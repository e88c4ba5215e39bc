package node_test

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/web"
)

// use is what one use case of the page leaves in the access log.
type use struct {
	line string // of the log, as OpenLines tells it
	do   func(c *clinic, patient string) error
	why  string // no line is needed
}

// uses has an entry for every method of web.Clinic.
var uses = map[string]use{
	"Open": {line: "view of a chart by care", do: func(c *clinic, id string) error { _, err := c.n.Open(c.ctx(), c.token, id); return err }},
	"File": {line: "view of a chart by care", do: func(c *clinic, id string) error {
		v := c.open(id)
		_, err := c.n.File(c.ctx(), c.token, id, firstFile(&v))
		return err
	}},
	"Looks": {line: "review of a chart by care", do: func(c *clinic, id string) error { _, err := c.n.Looks(c.ctx(), c.token, id); return err }},
	"Cards": {line: "consent of a chart by care", do: func(c *clinic, id string) error { _, err := c.n.Cards(c.ctx(), c.token, id); return err }},
	"UseCard": {line: "card of a chart", do: func(c *clinic, id string) error {
		made := c.makeCard(id, "form-card", web.NewCard{})
		_, err := c.n.UseCard(c.ctx(), c.token, made.Code, nil, cardPIN)
		return err
	}},
	"Consents": {line: "consent of a chart by care", do: func(c *clinic, id string) error {
		_, err := c.n.Consents(c.ctx(), c.token, id)
		return err
	}},
	"Find":  {line: "find by care-box", do: func(c *clinic, _ string) error { _, err := c.n.Find(c.ctx(), c.token, "Nakato"); return err }},
	"Today": {line: "find by care-box", do: func(c *clinic, _ string) error { _, err := c.n.Today(c.ctx(), c.token); return err }},
	"Proof": {line: "prove of a chart by care-box", do: func(c *clinic, id string) error {
		v := c.open(id)
		_, err := c.n.Proof(c.ctx(), c.token, v.Chart.Patient.Shown.RID.String())
		return err
	}},
	"RootSheet": {line: "prove by care-box", do: func(c *clinic, _ string) error { _, err := c.n.RootSheet(c.ctx(), c.token); return err }},
	"WriteStick": {line: "carry by everybody", do: func(c *clinic, _ string) error {
		c.stick("out")
		return c.settled(c.n.WriteStick(c.ctx(), c.token, "out", "*"))
	}},
	"ReadStick": {line: "carry by everybody", do: func(c *clinic, _ string) error {
		if err := os.WriteFile(filepath.Join(c.stick("in"), "a.hpp"), []byte("no parcel"), 0o600); err != nil {
			return err
		}
		return c.settled(c.n.ReadStick(c.ctx(), c.token, "in", "a.hpp"))
	}},
	"Emergency":   {line: "identify of a chart by care", do: func(c *clinic, id string) error { return c.ask(id) }},
	"BreakGlass":  {line: "emergency of a chart by emergency", do: func(c *clinic, id string) error { return c.declare(id) }},
	"Emergencies": {line: "oversee by oversight", do: func(c *clinic, _ string) error { _, err := c.n.Emergencies(c.ctx(), c.token); return err }},
	"Ask": {line: "staff refused", do: func(c *clinic, _ string) error {
		nurse := c.signedInAs(c.t.(*testing.T), "Asks Person", "nurse")
		if err := c.n.Ask(c.ctx(), nurse, web.MayStaff, ""); err == nil {
			c.t.Error("a nurse may add staff")
		}
		return nil
	}},

	"Erase": {line: "erase of a chart by erasure", do: func(c *clinic, _ string) error {
		second := c.signedInAs(c.t.(*testing.T), "Second Person", "nurse") // after who signs in for the others
		return c.n.Erase(c.ctx(), c.token, c.register("form-gone", "Gone"), web.Erasure{Reason: "asked", Second: second.StaffID, PIN: "271828"})
	}},

	"Register":        {why: "the record itself says who wrote it"},
	"SaveVisit":       {why: "the record itself says who wrote it"},
	"AmendPatient":    {why: "the record itself says who wrote it"},
	"Retract":         {why: "the record itself says who wrote it"},
	"NewCard":         {why: "the record itself says who wrote it"},
	"EndCard":         {why: "the record itself says who wrote it"},
	"Decide":          {why: "the record itself says who wrote it"},
	"GiveTo":          {why: "the record itself says who wrote it"},
	"AddStaff":        {why: "the record itself says who wrote it"},
	"EndStaff":        {why: "the record itself says who wrote it"},
	"ReviewEmergency": {why: "the record itself says who wrote it"},
	"Attach":          {why: "it shows nothing; what is attached comes with the visit's record"},
	"Attached":        {why: "it shows what this form was given and was not saved yet"},
	"Detach":          {why: "it shows nothing and changes no record"},
	"SignIn":          {why: "a session is a record"},
	"Session":         {why: "it shows who is signed in to who that is"},
	"Peek":            {why: "it shows who is signed in to who that is"},
	"SignOut":         {why: "it shows nothing"},
	"Staff":           {why: "the names on the sign-in page; nobody's record"},
	"Box":             {why: "about the box"},
	"Counts":          {why: "about the box"},
	"SyncPage":        {why: "about links; names of records that were refused, whose charts leave their lines"},
	"SyncNow":         {why: "it shows nothing"},
	"SeenFault":       {why: "it shows nothing"},
	"Sticks":          {why: "names of files that are sealed; reading and writing them leave lines"},
	"Watch":           {why: "it tells that something changed, not what"},
	"States":          {why: "how far records that a page shows have come"},
}

func (c *clinic) ctx() context.Context { return c.t.Context() }

// stick is the folder of a stick that is plugged in.
func (c *clinic) stick(name string) string {
	c.t.Helper()
	dir := filepath.Join(c.o.Sticks, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	return dir
}

// settled waits until the job with a stick is over.
func (c *clinic) settled(err error) error {
	ctx, cancel := context.WithTimeout(c.ctx(), patience)
	defer cancel()
	for changed := c.n.Watch(ctx); err == nil; {
		p, perr := c.n.Sticks(ctx, c.token)
		if perr != nil || !p.Job.Active {
			return perr
		}
		if _, ok := <-changed; !ok {
			err = ctx.Err()
		}
	}
	return err
}

func firstFile(v *web.PatientView) string {
	for id := range v.Files {
		return id
	}
	return ""
}

// TestEveryUseLeavesItsLine: a use case of the page leaves a line that says who did what by
// which rule, or there is a reason why it needs none. A new one without either fails.
func TestEveryUseLeavesItsLine(t *testing.T) {
	clinic := reflect.TypeFor[web.Clinic]()
	for i := range clinic.NumMethod() {
		if _, ok := uses[clinic.Method(i).Name]; !ok {
			t.Errorf("%s is in no list: which access line does it leave, or why none?", clinic.Method(i).Name)
		}
	}
	if len(uses) != clinic.NumMethod() {
		t.Errorf("%d use cases in the list, %d in the interface", len(uses), clinic.NumMethod())
	}
	node.WithRule(t, closedToClinicians)
	c := newClinic(t)
	c.stop()
	c.o.Sticks = t.TempDir()
	c.start()
	c.signIn()
	id := c.register("form-1", "Nakato")
	if err := c.n.Attach(t.Context(), c.token, id, "form-2", "a.pdf", []byte("%PDF-1.4\n%%EOF\n")); err != nil {
		t.Fatal(err)
	}
	visit := fhir.Visit{At: time.Now(), Note: "one"}
	files, err := c.n.Attached(t.Context(), c.token, "form-2")
	if err != nil || len(files) != 1 {
		t.Fatalf("attached: %v, %v", files, err)
	}
	visit.Files = []fhir.File{files[0].File}
	if _, err := c.n.SaveVisit(t.Context(), c.token, id, "form-2", visit); err != nil {
		t.Fatal(err)
	}
	c.confirmed()
	for name, u := range uses {
		if (u.why == "") == (u.line == "") {
			t.Errorf("%s: a line and a reason, or neither", name)
		}
		if u.line == "" {
			continue
		}
		if err := c.n.FlushAccess(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.signIn() // lines of the session before are not repeated
		if err := u.do(c, id); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		lines, err := c.n.OpenLines()
		if err != nil || !slices.Contains(lines, u.line) {
			t.Errorf("%s left the lines %q, %v, want %q", name, lines, err, u.line)
		}
	}
}

// TestSearchesAreNotedOncePerSpell: who searched, once in five minutes, and not what.
func TestSearchesAreNotedOncePerSpell(t *testing.T) {
	c := newClinic(t)
	begun := time.Now()
	var later atomic.Int64
	c.stop()
	c.o.Now = func() time.Time { return begun.Add(time.Duration(later.Load())) }
	c.start()
	c.signIn()
	search := func(want int) {
		t.Helper()
		for _, q := range []string{"Nakato", "Okello", "Achieng"} {
			if _, err := c.n.Find(t.Context(), c.token, q); err != nil {
				t.Fatal(err)
			}
		}
		lines, err := c.n.OpenLines()
		if err != nil || len(lines) != want || strings.Contains(strings.Join(lines, " "), "chart") {
			t.Errorf("after searches the log has %q, %v, want %d of them", lines, err, want)
		}
	}
	search(1)
	later.Store(int64(5*time.Minute - time.Second))
	search(1)
	later.Store(int64(5*time.Minute + time.Second))
	search(2)
}

// TestRefusedFormPagesAreNoted: asking for the form of something that is not one's own leaves a line.
func TestRefusedFormPagesAreNoted(t *testing.T) {
	c := newClinic(t)
	id := c.register("form-1", "Nakato")
	desk := c.signedInAs(t, "Desk Person", "registrar")
	if err := c.n.Ask(t.Context(), desk, web.MayWrite, id); err == nil {
		t.Fatal("a registrar is shown the form of a visit")
	}
	if err := c.n.Ask(t.Context(), desk, web.MayAmend, id); err != nil {
		t.Fatal(err)
	}
	page, err := c.n.Looks(t.Context(), c.token, id)
	if err != nil || !slices.ContainsFunc(page.Looks, func(l web.Look) bool { return l.Who == "Desk Person" && l.What == "write" && l.Refused }) {
		t.Errorf("who looked: %+v, %v", page.Looks, err)
	}
	if err := c.n.Ask(t.Context(), desk, "no such right", id); err == nil {
		t.Error("what no rule knows is allowed")
	}
}
