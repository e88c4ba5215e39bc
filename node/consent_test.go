package node_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/web"
)

// decides writes down what a patient decided, as this box's staff do.
func (c *clinic) decides(patient, form string, d web.Decision) {
	c.t.Helper()
	d.PIN = pin
	if err := c.n.Decide(c.t.Context(), c.token, patient, form, d); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clinic) device() string {
	c.t.Helper()
	s, err := c.n.Status(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return s.Device
}

// reads tells whether a chart opens here.
func (c *clinic) reads(patient string) bool {
	c.t.Helper()
	v, err := c.n.Open(c.t.Context(), c.token, patient)
	if err != nil {
		c.t.Fatal(err)
	}
	if v.Limited && (v.Decided == nil || len(v.Chart.Visits) != 0) {
		c.t.Fatalf("a chart that is closed: decided %v, %d visits", v.Decided, len(v.Chart.Visits))
	}
	return !v.Limited
}

// away starts the box where it reaches nobody, with a clock that the test moves.
func (c *clinic) away() (days func(float64)) {
	c.t.Helper()
	c.stop()
	var ahead atomic.Int64
	c.o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	c.o.Dial = []string{"/ip4/127.0.0.1/tcp/1"}
	c.start()
	c.signIn()
	return func(d float64) {
		ahead.Store(int64(d * 24 * float64(time.Hour)))
		c.signIn()
	}
}

// back starts the box where it reaches everybody again, with the clock of the others.
func (c *clinic) back() {
	c.t.Helper()
	c.stop()
	c.o.Now, c.o.Dial = time.Now, nil
	c.start()
	c.signIn()
}

// newLimited registers somebody with a visit and a limit, and a grant to b that b holds.
func newLimited(a, b *clinic, form string, days int) (patient, grant string) {
	a.t.Helper()
	patient = a.register(form, "Nakato")
	a.visited(patient, form+"-visit", "fever")
	a.decides(patient, form+"-limit", web.Decision{Do: web.DoLimit})
	a.decides(patient, form+"-grant", web.Decision{Do: web.DoGrant, To: b.device(), Days: days})
	page, err := a.n.Consents(a.t.Context(), a.token, patient)
	if err != nil || !page.Limited || len(page.Grants) != 1 || page.Grants[0].To != "Soroti" || !slices.Equal(page.Homes, []string{"Kibuye"}) {
		a.t.Fatalf("the page: %+v, %v", page, err)
	}
	grant = page.Grants[0].ID
	b.until("the chart and the grant", func(node.Status) bool {
		v, err := b.n.Open(b.t.Context(), b.token, patient)
		return err == nil && !v.Limited && len(v.Chart.Visits) == 1 && v.Decided != nil && v.Decided.Grant == grant
	})
	return patient, grant
}

// TestPatientsDecideWhoReads is two clinics and a hub.
func TestPatientsDecideWhoReads(t *testing.T) {
	hub := newHub(t)
	a, b := newMember(t, hub, "Kibuye"), newMember(t, hub, "Soroti")
	a.until("the other clinic", func(node.Status) bool {
		members, err := a.n.Members()
		return err == nil && slices.ContainsFunc(members, func(m node.MemberInfo) bool { return m.Name == "Soroti" })
	})
	recallAndGrantAtOnce(t, a, b, "recall")
	recallAndGrantAtOnce(t, a, b, "grant")
	recallWhileAway(t, a, b)
	topicsApart(t, a, b, "grant")
	opensByCard(t, a, b)
	grantForSevenDays(t, a, b)
	topicsApart(t, a, b, "recall")
}

// looksOf gives the lines of a chart's looks as "what rules refused grant", the newest first.
func (c *clinic) looksOf(patient string) []web.Look {
	c.t.Helper()
	page, err := c.n.Looks(c.t.Context(), c.token, patient)
	if err != nil {
		c.t.Fatal(err)
	}
	return page.Looks
}

// grantForSevenDays: read on day 1, refused on day 8, by the box that holds the data and
// reaches nobody; both on record with the rule, the grant and the place in the ledger.
func grantForSevenDays(t *testing.T, a, b *clinic) {
	closed := a.register("closed", "Babirye")
	a.decides(closed, "closed-limit", web.Decision{Do: web.DoLimit})
	patient, grant := newLimited(a, b, "seven", 7)
	if !a.reads(closed) || b.reads(closed) {
		t.Fatal("without a grant, the chart is not open only where the person was registered")
	}
	a.confirmed()
	b.until("the confirmed grant", func(s node.Status) bool { return s.Size == s.Confirmed && s.Pending == 0 })
	days := b.away()
	days(1)
	if v := b.open(patient); v.Limited || v.Decided == nil || v.Decided.Grant != grant || len(v.Chart.Visits) != 1 {
		t.Fatalf("day 1: %+v", v.Decided)
	}
	days(8)
	v := b.open(patient)
	if !v.Limited || v.Decided == nil || v.Decided.Grant != grant || v.Decided.Until.IsZero() || v.Decided.Rules != "limited" ||
		!strings.Contains(v.Decided.By, "Amina Test") || !slices.Equal(v.Decided.Homes, []string{"Kibuye"}) {
		t.Fatalf("day 8: %+v", v.Decided)
	}
	if _, err := b.n.SaveVisit(t.Context(), b.token, patient, "late", fhir.Visit{At: b.o.Now(), Problem: "cough"}); !errors.Is(err, web.ErrRefused) {
		t.Errorf("a visit on day 8: %v", err)
	}
	if _, err := b.n.Consents(t.Context(), b.token, patient); !errors.Is(err, web.ErrRefused) {
		t.Errorf("the page of decisions on day 8: %v", err)
	}
	today, err := b.n.Today(t.Context(), b.token)
	if err != nil || slices.ContainsFunc(today.Recent, func(v web.VisitRow) bool { return v.Problem != "" }) {
		t.Errorf("today's list tells what somebody came with: %v", err)
	}
	days(2) // somebody sets the clock back
	if b.reads(patient) {
		t.Error("a clock set back opens the chart again")
	}
	ward, second := b.signedInAs(t, "Ward Person", "clinician"), b.signedInAs(t, "Second Person", "registrar")
	if b.mustBreak(ward, patient, "form-glass", second); !b.isOpen(ward, patient) || b.reads(patient) {
		t.Error("an emergency opens the chart, or not the summary")
	}
	if err := b.n.FlushAccess(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.back()
	emergencyIsTold(t, a, b, patient)
	a.until("the looks at the other clinic", func(node.Status) bool {
		return slices.ContainsFunc(a.looksOf(patient), func(l web.Look) bool {
			return l.Refused && l.What == "view" && l.At.After(time.Now().Add(7*24*time.Hour))
		})
	})
	for _, l := range a.looksOf(patient) {
		if l.Box != "Soroti" || l.What != "view" || l.At.Before(time.Now()) {
			continue
		}
		if l.Size == 0 || l.Refused != (l.Grant == "") || l.Refused && l.Rules != "limited" || !l.Refused && (l.Grant != grant || l.Rules != "care" || l.Until.IsZero()) {
			t.Errorf("a look: %+v", l)
		}
	}
}

// recallWhileAway: what was recalled while the clinic was away counts as soon as the first
// exchange brought it.
func recallWhileAway(t *testing.T, a, b *clinic) {
	patient, grant := newLimited(a, b, "away", 0)
	b.away()
	a.decides(patient, "away-end", web.Decision{Do: web.DoEnd, ID: grant})
	if !b.reads(patient) {
		t.Fatal("nobody told this clinic yet, and it does not read")
	}
	b.back()
	b.until("the recall", func(node.Status) bool { return !b.reads(patient) })
	page, err := a.n.Consents(t.Context(), a.token, patient)
	if err != nil || len(page.Grants) != 0 || len(page.Ended) != 1 || page.Ended[0].EndedBy == "" {
		t.Errorf("the page after: %+v, %v", page, err)
	}
	a.decides(patient, "away-open", web.Decision{Do: web.DoOpen})
	b.until("the end of the limit", func(node.Status) bool { return b.reads(patient) })
}

// recallAndGrantAtOnce: one clinic recalls while another, which does not know it, grants
// again. Whichever is ordered first, both end the same, with the stricter.
func recallAndGrantAtOnce(t *testing.T, a, b *clinic, first string) {
	patient, grant := newLimited(a, b, "once-"+first, 7)
	for _, c := range []*clinic{a, b} {
		if err := c.n.SetLink(false); err != nil {
			t.Fatal(err)
		}
	}
	a.decides(patient, first+"-end", web.Decision{Do: web.DoEnd, ID: grant})
	b.decides(patient, first+"-again", web.Decision{Do: web.DoGrant, To: b.device(), Days: 30})
	order := []*clinic{a, b}
	if first == "grant" {
		slices.Reverse(order)
	}
	for _, c := range order {
		if err := c.n.SetLink(true); err != nil {
			t.Fatal(err)
		}
		c.confirmed()
	}
	b.until("both decisions", func(node.Status) bool { return !b.reads(patient) })
	a.until("both decisions", func(node.Status) bool {
		page, err := a.n.Consents(t.Context(), a.token, patient)
		return err == nil && len(page.Grants) == 0 && len(page.Ended) == 2
	})
	if b.reads(patient) || !a.reads(patient) {
		t.Errorf("read here %v, there %v; want the stricter: only where the person was registered", a.reads(patient), b.reads(patient))
	}
}

// TestDecisionsNeedThePIN: tries count as those of signing in, and nothing is written down.
func TestDecisionsNeedThePIN(t *testing.T) {
	c := newClinic(t)
	patient := c.register("form-first", "Pin")
	desk := c.signedInAs(t, "Desk Person", "registrar")
	if err := c.n.Decide(t.Context(), desk, patient, "by-desk", web.Decision{PIN: "271828", Do: web.DoLimit}); !errors.Is(err, web.ErrRefused) {
		t.Errorf("a registrar: %v", err)
	}
	for try := range 5 {
		err := c.n.Decide(t.Context(), c.token, patient, "wrong", web.Decision{PIN: "000000", Do: web.DoLimit})
		var locked *web.LockedError
		if last := try == 4; !errors.Is(err, web.ErrWrongPIN) && !last || last && !errors.As(err, &locked) {
			t.Fatalf("try %d: %v", try, err)
		}
	}
	var locked *web.LockedError
	if err := c.n.Decide(t.Context(), c.token, patient, "right", web.Decision{PIN: pin, Do: web.DoLimit}); !errors.As(err, &locked) {
		t.Errorf("the right PIN while locked: %v", err)
	}
	if page, err := c.n.Consents(t.Context(), c.token, patient); err != nil || page.Limited || len(page.Grants)+len(page.Ended) != 0 {
		t.Errorf("the page: %+v, %v", page, err)
	}
}

// TestDecisionsOfNothing: what is not there cannot be decided, and one form decides once.
func TestDecisionsOfNothing(t *testing.T) {
	c := newClinic(t)
	patient := c.register("form-first", "None")
	for name, d := range map[string]web.Decision{
		"an unknown word":       {Do: "burn"},
		"no word":               {},
		"open what is open":     {Do: web.DoOpen},
		"end what is not there": {Do: web.DoEnd, ID: strings.Repeat("ab", 16)},
		"a box of no region":    {Do: web.DoGrant, To: strings.Repeat("ab", 32)},
		"no box's name":         {Do: web.DoGrant, To: "Kibuye"},
		"for too long":          {Do: web.DoGrant, Days: web.DecisionDaysMax + 1},
		"backwards":             {Do: web.DoGrant, Days: -1},
	} {
		d.PIN = pin
		if err := c.n.Decide(t.Context(), c.token, patient, name, d); !errors.Is(err, web.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 3 {
		c.decides(patient, "one", web.Decision{Do: web.DoGrant, Days: 1})
	}
	page, err := c.n.Consents(t.Context(), c.token, patient)
	if err != nil || len(page.Grants) != 1 || page.Grants[0].To != "" || page.Grants[0].Over || !slices.Equal(page.Homes, []string{"Test box"}) {
		t.Errorf("after three taps: %+v, %v", page, err)
	}
}

// consents gives the Consent resources of an export, by whether they hold and what they say,
// without when and where they were written down.
func consents(t *testing.T, export string) (list []string) {
	t.Helper()
	for line := range strings.Lines(export) {
		r, err := fhir.ParseResource([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if r.Type == "Consent" {
			c, exact := r.Consent()
			list = append(list, fmt.Sprint(c.ID, exact, c.Active, c.Privacy, c.Deny, c.Until.Unix(), c.Deny || len(c.Boxes) == 0, c.Topics.Words(), c.Purposes))
		}
	}
	slices.Sort(list)
	return list
}

// TestDecisionsTravelAsConsent: an export holds them, and a box that takes it in closes the chart
// in the same way; taken in again, nothing is new.
func TestDecisionsTravelAsConsent(t *testing.T) {
	a, b := newClinic(t), newClinic(t)
	patient := a.register("form-first", "Nakato")
	a.decides(patient, "limit", web.Decision{Do: web.DoLimit})
	a.decides(patient, "grant", web.Decision{Do: web.DoGrant, Days: 7})
	a.decides(patient, "second", web.Decision{Do: web.DoGrant, Purposes: []string{"research", "payment"}, Topics: []string{"hiv", "mental"}})
	a.decides(patient, "topics", web.Decision{Do: web.DoLimit, Topics: []string{"sexual"}})
	page, err := a.n.Consents(t.Context(), a.token, patient)
	if err != nil || len(page.Grants) != 3 {
		t.Fatalf("the page: %+v, %v", page, err)
	}
	file := a.export()
	out := consents(t, file)
	if len(out) != 5 {
		t.Fatalf("exported: %v", out)
	}
	take := func(c *clinic, file string) node.ImportReport {
		rep, err := c.n.Import(t.Context(), node.ImportRequest{Name: "a.ndjson"}, strings.NewReader(file), func(node.Progress) {})
		if err != nil || rep.RefusedCount != 0 {
			t.Fatalf("taking it in: %+v, %v", rep, err)
		}
		return rep
	}
	if rep := take(b, file); rep.Added != 6 {
		t.Errorf("taken in: %+v, want a person and five decisions", rep)
	}
	if page.Grants[0].Unsigned {
		t.Error("who wrote a permission down did not sign it")
	}
	found, err := b.n.Find(t.Context(), b.token, "nakato")
	if err != nil || len(found) != 1 {
		t.Fatalf("found %v, %v", found, err)
	}
	if there, err := b.n.Consents(t.Context(), b.token, found[0].ID); err != nil || len(there.Grants) == 0 || !there.Grants[0].Unsigned {
		t.Errorf("a decision of a file: %+v, %v; want it told that nobody signed it", there.Grants, err)
	}
	if got := consents(t, b.export()); !slices.Equal(got, out) {
		t.Errorf("from the other box: %v, want %v", got, out)
	}
	a.decides(patient, "end", web.Decision{Do: web.DoEnd, ID: page.Grants[0].ID})
	for c, file := range map[*clinic]string{a: a.export(), b: file} {
		before := len(consents(t, c.export()))
		if rep := take(c, file); rep.Added != 0 || len(consents(t, c.export())) != before {
			t.Errorf("taken in again: %+v", rep)
		}
	}
}

// TestConsentOfOthers: what closes a chart is taken from anybody's Consent, what opens one is kept and
// opens nothing.
func TestConsentOfOthers(t *testing.T) {
	c := newClinic(t)
	consent := func(kind string) string {
		return `{"resource":{"resourceType":"Consent","id":"` + kind + `","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},` +
			`"category":[{"text":"reading"}],"patient":{"reference":"Patient/p"},"policyRule":{"text":"as asked"},"provision":{"type":"` + kind + `"}}}`
	}
	for i, kind := range []string{"permit", "deny"} {
		file := `{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","id":"p","identifier":[{"system":"http://example.org","value":"7"}],"name":[{"family":"Okello"}]}},` + consent(kind) + `]}`
		for range 2 {
			c.take(file)
		}
		found, err := c.n.Find(t.Context(), c.token, "okello")
		if err != nil || len(found) != 1 {
			t.Fatalf("found %v, %v", found, err)
		}
		page, err := c.n.Consents(t.Context(), c.token, found[0].ID)
		if err != nil || page.Limited != (i == 1) || len(page.Grants) != 0 {
			t.Errorf("after %s: %+v, %v", kind, page, err)
		}
	}
	if out := c.export(); strings.Count(out, `"type":"permit"`) != 2 || strings.Count(out, `"as asked"`) != 2 { // one of them of the limit that the other made
		t.Errorf("exported: %s", out)
	}
}
