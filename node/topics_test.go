package node_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/web"
)

// page is a page as somebody's browser gets it, whole.
func (c *clinic) page(s web.Session, path string) string {
	c.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+path, nil)
	r.AddCookie(&http.Cookie{Name: "healthpost_session", Value: s.Token})
	w := httptest.NewRecorder()
	web.New(c.n, web.Options{Now: c.o.Now}).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		c.t.Fatalf("a page: status %d", w.Code)
	}
	return w.Body.String()
}

// Words of a sensitive visit: its allergy alone is for everybody.
var apartWords = []string{"Wasting syndrome", "Nevirapine", "came for the result", "HIV", "Kept apart", "kept apart"}

// visitedApart saves a visit that is kept apart as HIV.
func (c *clinic) visitedApart(s web.Session, patient, form string) string {
	c.t.Helper()
	saved, err := c.n.SaveVisit(c.t.Context(), s, patient, form, fhir.Visit{At: c.o.Now().AddDate(0, 0, -40), Problem: "other", ProblemOther: apartWords[0],
		Treatment: apartWords[1], Note: apartWords[2], Allergy: "Abacavir", Topics: []string{"hiv"}})
	if err != nil {
		c.t.Fatal(err)
	}
	return saved.RID
}

// tells lists the words that a page has.
func tells(page string, words []string) (found []string) {
	for _, w := range words {
		if strings.Contains(page, w) {
			found = append(found, w)
		}
	}
	return found
}

// everyPage are the pages about one person, in one text.
func (c *clinic) everyPage(s web.Session, patient string, more ...string) string {
	c.t.Helper()
	var all strings.Builder
	for _, path := range append([]string{"/", "/find?q=Nakato", "/patient/" + patient}, more...) {
		all.WriteString(c.page(s, path))
	}
	return all.String()
}

// TestSensitiveVisitsAreApart: at the box where somebody was registered, as everybody.
func TestSensitiveVisitsAreApart(t *testing.T) {
	c := newClinic(t)
	patient := c.register("form-patient", "Nakato")
	c.visited(patient, "form-open", "fever")
	worker, chemist := c.signedInAs(t, "Worker Person", "health_worker"), c.signedInAs(t, "Chemist Person", "pharmacist")
	before := c.everyPage(worker, patient)
	rid := c.visitedApart(worker, patient, "form-apart")
	if got := tells(c.page(worker, "/patient/"+patient+"?saved="+rid), apartWords); !slices.Equal(got, []string{"kept apart"}) {
		t.Errorf("who saved a visit and may not see it reads %q", got)
	}
	after := c.everyPage(worker, patient)
	if got := tells(after, apartWords); len(got) != 0 || !strings.Contains(after, "Abacavir") || strings.Count(before, "<article") != strings.Count(after, "<article") {
		t.Errorf("a health worker reads %q; the allergy is told: %v", got, strings.Contains(after, "Abacavir"))
	}
	if got := tells(c.everyPage(chemist, patient), apartWords); !slices.Equal(got, apartWords[1:2]) {
		t.Errorf("a pharmacist reads %q, want the medicine", got)
	}
	own := c.everyPage(c.token, patient)
	if got := tells(own, apartWords); len(got) != len(apartWords)-1 {
		t.Errorf("a nurse reads %q", got)
	}
	if v, err := c.n.Today(t.Context(), c.token); err != nil || len(v.Recent) != 2 {
		t.Errorf("the nurse's list: %d visits, %v", len(v.Recent), err)
	}
	if v, err := c.n.Today(t.Context(), worker); err != nil || len(v.Recent) != 1 || v.Recent[0].RID == rid {
		t.Errorf("the health worker's list: %d visits, %v", len(v.Recent), err)
	}
	c.decides(patient, "form-grant", web.Decision{Do: web.DoGrant, Topics: []string{"hiv"}, Days: 1})
	if got := tells(c.everyPage(worker, patient), apartWords); len(got) != len(apartWords)-1 {
		t.Errorf("with the patient's word a health worker reads %q", got)
	}
	other := c.register("form-other", "Nakatoa") // of whom nobody gave a word
	c.visitedApart(c.token, other, "form-other-apart")
	if err := c.n.Retract(t.Context(), c.token, other, "form-gone", c.open(other).Chart.Visits[0].Shown.Ref, "typed for somebody else"); err != nil {
		t.Fatal(err)
	}
	if got := tells(c.page(worker, "/patient/"+other), append(slices.Clone(apartWords), "typed for somebody else")); len(got) != 0 {
		t.Errorf("of what was withdrawn a health worker reads %q", got)
	}
	c.verify()
}

// topicsApart: elsewhere nothing of a sensitive visit is told, in no page, file or proof; a permission that
// names the topic opens it, and of an end and another permission at once the end holds.
func topicsApart(t *testing.T, a, b *clinic, first string) {
	patient := a.register(first+"-apart", "Nakato")
	a.visited(patient, first+"-apart-open", "fever")
	rid := a.visitedApart(a.token, patient, first+"-apart-visit")
	a.confirmed()
	b.until("the visits", func(node.Status) bool {
		v, err := b.n.Open(t.Context(), b.token, patient)
		return err == nil && len(v.Chart.Allergies) == 1 && len(v.Chart.Visits) == 1
	})
	consent, looks := "/patient/"+patient+"/consent", "/patient/"+patient+"/looks"
	if got := tells(b.everyPage(b.token, patient, consent, looks), apartWords); len(got) != 0 {
		t.Errorf("a nurse elsewhere reads %q", got)
	}
	if got := tells(b.export(), []string{"Wasting", "Nevirapine", "result", `"HIV"`, "hiv"}); len(got) != 0 {
		t.Errorf("a file from elsewhere has %q", got)
	}
	b.until("its place", func(s node.Status) bool { return s.Size == s.Confirmed })
	if _, err := b.n.ProveAs(t.Context(), node.ProveRequest{RID: rid, Body: true}); err == nil || !strings.Contains(err.Error(), "not for this box") {
		t.Errorf("a proof with the body: %v", err)
	}
	if first == "recall" { // nor with a card that this box's staff made themselves
		made := b.makeCard(patient, "apart-card", web.NewCard{})
		if got, err := b.n.UseCard(t.Context(), b.token, made.Code, nil, cardPIN); err != nil || got != patient {
			t.Fatalf("the card: %v", err)
		}
	}
	for _, d := range []web.Decision{{Do: web.DoGrant, Topics: []string{"hiv"}}, {Do: web.DoLimit, Topics: []string{"hiv"}}} {
		if d.PIN = pin; !errors.Is(b.n.Decide(t.Context(), b.token, patient, first+d.Do+"-self", d), web.ErrNotFound) {
			t.Errorf("a box that may not see a topic decides about it: %s", d.Do)
		}
	}
	b.signIn() // which the card opened nothing to
	a.decides(patient, first+"-topic-limit", web.Decision{Do: web.DoLimit, Topics: []string{"hiv"}})
	a.decides(patient, first+"-topic-grant", web.Decision{Do: web.DoGrant, To: b.device(), Topics: []string{"hiv"}, Days: 30})
	sees := func(c *clinic) bool { return len(c.open(patient).Chart.Visits) == 2 }
	b.until("the permission", func(node.Status) bool { return sees(b) })
	if got := tells(b.everyPage(b.token, patient, consent), apartWords); len(got) != len(apartWords)-1 {
		t.Errorf("with a permission a nurse elsewhere reads %q", got)
	}
	atOnce(a, b, first == "recall", func() {
		page, err := a.n.Consents(t.Context(), a.token, patient)
		if err != nil || len(page.Grants) != 2 || page.Limited || !slices.Equal(page.LimitedTopics, []string{"hiv"}) {
			t.Fatalf("the page: %+v, %v", page, err)
		}
		a.decides(patient, first+"-topic-end", web.Decision{Do: web.DoEnd, ID: page.Grants[0].ID})
	}, func() {
		b.decides(patient, first+"-topic-again", web.Decision{Do: web.DoGrant, To: b.device(), Topics: []string{"hiv"}, Days: 30})
	})
	b.until("both decisions", func(node.Status) bool { return !sees(b) })
	a.until("both decisions", func(node.Status) bool {
		page, err := a.n.Consents(t.Context(), a.token, patient)
		return err == nil && len(page.Grants) == 0 && len(page.Ended) == 4
	})
	if !sees(a) || sees(b) {
		t.Errorf("read at home: %v, elsewhere: %v", sees(a), sees(b))
	}
	if got := tells(b.everyPage(b.token, patient, consent, looks), apartWords); len(got) != 0 {
		t.Errorf("after the end a nurse elsewhere reads %q", got)
	}
	if first == "recall" {
		emergencyWithoutTopics(t, a, b, patient)
	}
}

// atOnce has two boxes decide while neither hears of the other.
func atOnce(a, b *clinic, aFirst bool, atA, atB func()) {
	a.t.Helper()
	for _, c := range []*clinic{a, b} {
		if err := c.n.SetLink(false); err != nil {
			a.t.Fatal(err)
		}
	}
	atA()
	atB()
	order := []*clinic{a, b}
	if !aFirst {
		slices.Reverse(order)
	}
	for _, c := range order {
		if err := c.n.SetLink(true); err != nil {
			a.t.Fatal(err)
		}
		c.confirmed()
	}
}

// emergencyWithoutTopics: the summary of a closed chart tells allergies, and nothing that is kept apart.
func emergencyWithoutTopics(t *testing.T, a, b *clinic, patient string) {
	a.decides(patient, "apart-closed", web.Decision{Do: web.DoLimit})
	b.until("the limit", func(node.Status) bool { return !b.reads(patient) })
	ward, second := b.signedInAs(t, "Apart Person", "clinician"), b.signedInAs(t, "Apart Second", "registrar")
	b.mustBreak(ward, patient, "apart-glass", second)
	text := b.everyPage(ward, patient, "/patient/"+patient+"/emergency")
	if got := tells(text, apartWords); len(got) != 0 || !strings.Contains(text, "Abacavir") {
		t.Errorf("an emergency tells %q; the allergy: %v", got, strings.Contains(text, "Abacavir"))
	}
}

// TestEmergencyTellsNoTopic: at home too, who may not open the chart reads nothing that is kept apart in it.
func TestEmergencyTellsNoTopic(t *testing.T) {
	c, patient, _ := atWard(t)
	c.visitedApart(c.token, patient, "form-apart")
	doctor, second := c.signedInAs(t, "Doctor Ward", "clinician"), c.signedInAs(t, "Second Ward", "registrar")
	c.mustBreak(doctor, patient, "form-glass", second)
	text := c.everyPage(doctor, patient, "/patient/"+patient+"/emergency")
	if got := tells(text, apartWords); len(got) != 0 || !strings.Contains(text, "Abacavir") || !strings.Contains(text, "Phenytoin") {
		t.Errorf("the summary tells %q", got)
	}
}

const labelledFile = `{"resourceType":"Bundle","type":"collection","entry":[
	{"resource":{"resourceType":"Patient","id":"p","identifier":[{"system":"http://example.org","value":"7"}],"name":[{"family":"Okello"}]}},
	{"resource":{"resourceType":"Location","id":"l","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]},"name":"shelter"}},
	{"resource":{"resourceType":"Condition","id":"c1","code":{"text":"asthma"},"subject":{"reference":"Patient/p"}}},
	{"resource":{"resourceType":"Condition","id":"c2","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"SUD"}]},"code":{"text":"opioid use"},"subject":{"reference":"Patient/p"}}},
	{"resource":{"resourceType":"Condition","id":"c3","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]},"code":{"text":"something grave"},"subject":{"reference":"Patient/p"}}}]}`

// TestLabelsComeInAndGoOut: what is imported with labels is apart, and leaves with them, byte for byte.
func TestLabelsComeInAndGoOut(t *testing.T) {
	c := newClinic(t)
	c.take(labelledFile)
	found, err := c.n.Find(t.Context(), c.token, "okello")
	if err != nil || len(found) != 1 {
		t.Fatalf("found %v, %v", found, err)
	}
	id := found[0].ID
	worker := c.signedInAs(t, "Worker Person", "health_worker")
	problems := func(s web.Session) (list []string) {
		v, err := c.n.Open(t.Context(), s, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range v.Chart.Problems {
			list = append(list, p.View.Code.Text)
		}
		slices.Sort(list)
		return list
	}
	all := []string{"asthma", "opioid use", "something grave"}
	if got := problems(c.token); !slices.Equal(got, all) {
		t.Errorf("a nurse at home reads %q", got)
	}
	if got := problems(worker); !slices.Equal(got, all[:1]) {
		t.Errorf("a health worker reads %q", got)
	}
	c.decides(id, "grant", web.Decision{Do: web.DoGrant, Topics: []string{"mental"}})
	if got := problems(worker); !slices.Equal(got, all[:2]) {
		t.Errorf("with a permission for one topic a health worker reads %q", got)
	}
	for _, want := range strings.Split(labelledFile, "\n")[2:] {
		want = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(want), `{"resource":`), "]}"), ",")
		if want = strings.TrimSuffix(want, "}"); !strings.Contains(c.export(), want+"\n") {
			t.Errorf("the file has not %s", want)
		}
	}
}

// TestExportForAPurpose: only charts with a permission that names it, without topics that it does not name,
// each on record with the permission; a wrong word and a permission that ended give nothing.
func TestExportForAPurpose(t *testing.T) {
	begun := time.Now()
	later := time.Duration(0)
	c := newClinic(t)
	c.stop()
	c.o.Now = func() time.Time { return begun.Add(later) }
	c.start()
	c.signIn()
	people := map[string]string{"Nakato": "", "Babirye": "", "Achieng": ""}
	for name := range people {
		people[name] = c.register("form-"+name, name)
		c.visited(people[name], "visit-"+name, "fever")
		c.visitedApart(c.token, people[name], "apart-"+name)
	}
	c.decides(people["Nakato"], "research", web.Decision{Do: web.DoGrant, Purposes: []string{"research", "report"}, Days: 7})
	c.decides(people["Babirye"], "both", web.Decision{Do: web.DoGrant, Purposes: []string{"research"}, Topics: []string{"hiv"}})
	c.decides(people["Achieng"], "treatment", web.Decision{Do: web.DoGrant})
	export := func(purpose string) string {
		t.Helper()
		var out bytes.Buffer
		if _, err := c.n.ExportFor(t.Context(), &out, purpose); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	count := func(text string) (list []int) {
		for _, w := range []string{`["Nakato"]`, `["Babirye"]`, `["Achieng"]`, "Nevirapine", `"fever"`, `"Consent"`} {
			list = append(list, strings.Count(text, w))
		}
		return list
	}
	treatment := count(export("treatment"))
	for purpose, want := range map[string][]int{"research": {1, 1, 0, 1}, "report": {1, 0, 0, 0}, "payment": {0, 0, 0, 0}} {
		text := export(purpose)
		if got := count(text); !slices.Equal(got[:4], want) || got[5] != 0 || purpose == "payment" && (strings.Count(text, "\n") != 1 || !strings.Contains(text, `"text":"3 charts with 9 entries are left out: no permission of the patient names payment for`)) {
			t.Errorf("for %s: %v, want %v", purpose, got, want)
		}
	}
	if treatment[0] != 1 || treatment[2] != 1 || treatment[3] != 3 || treatment[5] != 4 {
		t.Errorf("for treatment: %v", treatment)
	}
	if _, err := c.n.ExportFor(t.Context(), &bytes.Buffer{}, "profit"); err == nil {
		t.Error("for profit: no error")
	}
	page, err := c.n.Looks(t.Context(), c.token, people["Babirye"])
	if err != nil || len(page.Looks) == 0 || !slices.ContainsFunc(page.Looks, func(l web.Look) bool {
		return l.What == "export" && l.Purpose == "research" && l.Grant != "" && l.Rules == "file"
	}) {
		t.Errorf("the list of looks: %+v, %v", page.Looks, err)
	}
	told := 0
	for _, r := range c.events()["export"] {
		told += strings.Count(string(r.JSON), `"HRESCH"`) * strings.Count(string(r.JSON), "Patient/")
	}
	if told == 0 {
		t.Error("no AuditEvent tells of research")
	}
	later = 8 * 24 * time.Hour
	if got := count(export("research")); !slices.Equal(got[:4], []int{0, 1, 0, 1}) {
		t.Errorf("after the permission's end: %v", got)
	}
}

// TestTopicsOfVisitsAreWords: a form with another word saves nothing.
func TestTopicsOfVisitsAreWords(t *testing.T) {
	c := newClinic(t)
	patient := c.register("form-patient", "Nakato")
	var refused *web.FieldsError
	if _, err := c.n.SaveVisit(t.Context(), c.token, patient, "form-odd", fhir.Visit{At: time.Now(), Note: "x", Topics: []string{"gout"}}); !errors.As(err, &refused) || len(c.open(patient).Chart.Visits) != 0 {
		t.Errorf("a visit of no known topic: %v", err)
	}
}
