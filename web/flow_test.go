package web_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/web"
)

func TestFirstStaffMember(t *testing.T) {
	x := newFixture(t)
	x.emptyBox()
	if a := x.get("/"); a.location != "/first" {
		t.Fatalf("a box without staff leads to %q, want /first", a.location)
	}
	for name, v := range map[string]url.Values{
		"PINs differ": {"name": {"Amina"}, "pin": {"314159"}, "pin_again": {"314158"}},
		"easy PIN":    {"name": {"Amina"}, "pin": {"111111"}, "pin_again": {"111111"}},
		"short PIN":   {"name": {"Amina"}, "pin": {"3141"}, "pin_again": {"3141"}},
		"no name":     {"name": {" "}, "pin": {"314159"}, "pin_again": {"314159"}},
	} {
		if a := x.post("/first", v); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: status %d, want 422", name, a.status)
		}
	}
	a := x.post("/first", url.Values{"name": {" Amina  Uwase "}, "pin": {"٣١٤١٥٩"}, "pin_again": {"314159"}})
	if page := x.follow(a); !strings.Contains(page.body, "Nobody is waiting") || !strings.Contains(page.body, "Amina Uwase") {
		t.Errorf("after the first member: %s", words(page.body))
	}
	if a := x.post("/first", url.Values{"name": {"Eve"}, "pin": {"271828"}, "pin_again": {"271828"}}); a.location != "/sign-in" || len(x.fake.staff) != 1 {
		t.Errorf("a second first member: to %q, %d members", a.location, len(x.fake.staff))
	}
}

func TestSignInSaysWhatIsWrong(t *testing.T) {
	x := newFixture(t)
	a := x.post("/sign-in", url.Values{"staff": {staffID}, "pin": {"000002"}, "next": {"/links"}})
	if !strings.Contains(a.body, "The PIN is not right") || !strings.Contains(a.body, `value="`+staffID+`" checked`) {
		t.Errorf("wrong PIN: %s", words(a.body))
	}
	x.fake.locked = 4*time.Minute + time.Second
	if a := x.post("/sign-in", url.Values{"staff": {staffID}, "pin": {staffPIN}}); !strings.Contains(a.body, "Wait 5 minutes") {
		t.Errorf("locked: %s", words(a.body))
	}
	if a := x.post("/sign-in", url.Values{"pin": {staffPIN}}); !strings.Contains(a.body, "Choose your name") {
		t.Errorf("no name: %s", words(a.body))
	}
}

func TestSameFormStoresOneRecord(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.waiting + "/visit"
	form := with(hidden(x.get(path).body, path), "problem", "cough", "temperature", "37,2")
	var mu sync.Mutex
	places := map[string]int{}
	var taps sync.WaitGroup
	for range 3 {
		taps.Go(func() {
			a := x.post(path, form)
			mu.Lock()
			defer mu.Unlock()
			places[a.location]++
		})
	}
	taps.Wait()
	if len(places) != 1 {
		t.Errorf("three taps led to %v, want one place", places)
	}
	if n := x.fake.visitCount(x.people.waiting); n != 1 {
		t.Errorf("%d visits, want 1", n)
	}
	other := x.post(path, with(form, "note", "more"))
	if other.status != http.StatusUnprocessableEntity || !strings.Contains(other.body, "This form was saved before") || !strings.Contains(other.body, ">more<") {
		t.Fatalf("same form with other answers: status %d: %s", other.status, words(other.body))
	}
	again := hidden(other.body, path)
	if again.Get("form") == form.Get("form") {
		t.Error("the form came back under its used id")
	}
	x.follow(x.post(path, with(again, "problem", "cough", "temperature", "37.2", "note", "more")))
	if n := x.fake.visitCount(x.people.waiting); n != 2 {
		t.Errorf("%d visits, want 2", n)
	}
}

func TestRegisterTwiceGivesOnePerson(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	form := with(hidden(x.get("/register").body, "/register"), "given", "Divine", "sex", "female", "ageMonths", "٧")
	a := x.post("/register", form)
	for range 2 {
		if b := x.post("/register", form); b.location != a.location || b.status != http.StatusSeeOther {
			t.Errorf("another tap: status %d to %q, want %q", b.status, b.location, a.location)
		}
	}
	if n := len(x.fake.patients); n != 5 {
		t.Errorf("%d persons, want 5", n)
	}
	if page := x.follow(a); !strings.Contains(page.body, "7 months") || !strings.Contains(page.body, "Apr 2026 (estimated)") {
		t.Errorf("registered: %s", words(page.body))
	}
}

func TestUnknownPerson(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	form := hidden(x.get("/register").body, "/register")
	if page := x.follow(x.post("/register", with(form, "unknown", "1"))); !strings.Contains(page.body, "Unknown person 21 Nov 2026, 10:30") {
		t.Errorf("unknown person: %s", words(page.body))
	}
}

func TestSimilarPersonIsAsked(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	form := with(hidden(x.get("/register").body, "/register"), "given", "Marie Chantal", "family", "Uwimanna", "sex", "female")
	a := x.post("/register", form)
	if !strings.Contains(a.body, "Is it the same person?") || !strings.Contains(a.body, x.people.adult) {
		t.Fatalf("similar name: status %d: %s", a.status, words(a.body))
	}
	if page := x.follow(x.post("/register", with(hidden(a.body, "/register"), "step", "another"))); !strings.Contains(page.body, "The person is registered") {
		t.Errorf("another person: %s", words(page.body))
	}
	if n := len(x.fake.patients); n != 5 {
		t.Errorf("%d persons, want 5", n)
	}
}

func TestErrorsKeepWhatWasTyped(t *testing.T) {
	x := newFixture(t)
	a := x.postVisit(x.people.child, "dangerSigns", "lethargic", "temperature", "390", "weight", "12,5", "problem", "diabetes", "note", "Line one\nLine two", "urgent", "1",
		"returnIn", "7", "atDay", "3", "atMonth", "10", "atYear", "2026")
	for _, want := range []string{`value="390"`, `value="12,5"`, `value="lethargic" checked`, `value="diabetes" checked`, "Line one\nLine two</textarea>",
		`name="urgent" value="1" checked`, `value="7" checked`, `name="atDay" type="text" inputmode="numeric" maxlength="2" autocomplete="off" value="3"`,
		`href="#temperature"`, "Enter a number from 25 to 45"} {
		if !strings.Contains(strings.ReplaceAll(a.body, "\r", ""), want) {
			t.Errorf("page lacks %q", want)
		}
	}
	if n := x.fake.visitCount(x.people.child); n != 2 {
		t.Errorf("%d visits, want 2: nothing may be saved", n)
	}
}

func TestCheckBeforeSaving(t *testing.T) {
	x := newFixture(t)
	path := "/patient/" + x.people.child + "/visit"
	check := x.postVisit(x.people.child, "dangerSigns", "convulsions", "temperature", "٤١٫٨", "problem", "fever", "note", "seen")
	for _, want := range []string{"Refer now. The visit is not marked as urgent.", "41.8\u00a0°C", "Nothing is saved yet"} {
		if !strings.Contains(check.body, want) {
			t.Errorf("check page lacks %q", want)
		}
	}
	form := hidden(check.body, path)
	if a := x.post(path, with(form, "step", "checked")); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "Choose a reason") {
		t.Errorf("no reason: status %d", a.status)
	}
	back := x.post(path, with(form, "step", "change"))
	if !strings.Contains(back.body, `value="convulsions" checked`) || !strings.Contains(back.body, ">seen<") {
		t.Errorf("going back lost what was typed: %s", words(back.body))
	}
	page := x.follow(x.post(path, with(form, "step", "checked", "reason", "measured_again")))
	for _, want := range []string{"The visit is saved.", "41.8 °C", "Checked before saving: Measured again."} {
		if !strings.Contains(page.body, want) {
			t.Errorf("chart lacks %q: %s", want, words(page.body))
		}
	}
}

func TestVisitOnAnotherDay(t *testing.T) {
	x := newFixture(t)
	x.follow(x.postVisit(x.people.adult, "problem", "pain", "atDay", "19", "atMonth", "11", "atYear", "2026"))
	if page := x.get("/patient/" + x.people.adult); !strings.Contains(page.body, "19 Nov 2026, 12:00") {
		t.Errorf("chart: %s", words(page.body))
	}
	if a := x.postVisit(x.people.adult, "problem", "pain", "atDay", "1", "atMonth", "12", "atYear", "2026"); !strings.Contains(a.body, "This day has not come yet") {
		t.Errorf("a day to come is not asked about: %s", words(a.body))
	}
	if a := x.postVisit(x.people.adult, "problem", "pain", "atDay", "31", "atMonth", "2", "atYear", "2026"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("31 February: status %d, want 422", a.status)
	}
	if a := x.postVisit(x.people.adult, "problem", "pain", "atDay", "31", "atMonth", "12", "atYear", "1970"); !strings.Contains(a.body, "before the date of birth") {
		t.Errorf("before birth is not asked about: %s", words(a.body))
	}
}

func TestEndedSessionKeepsWhatWasTyped(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.adult + "/visit"
	form := hidden(x.get(path).body, path)
	x.fake.mu.Lock()
	clear(x.fake.sessions)
	x.fake.mu.Unlock()
	a := x.post(path, with(form, "problem", "pain", "note", "typed before the lock"))
	if a.location != "/sign-in?next="+url.QueryEscape(path) {
		t.Fatalf("leads to %q", a.location)
	}
	if page := x.follow(a); !strings.Contains(page.body, "What you typed is kept") {
		t.Errorf("sign-in page: %s", words(page.body))
	}
	other := x.post("/sign-in", url.Values{"staff": {"staff-2"}, "pin": {"271828"}, "next": {path}})
	if page := x.follow(other); strings.Contains(page.body, "typed before the lock") {
		t.Error("another member sees the draft")
	}
	again := x.post("/sign-in", url.Values{"staff": {staffID}, "pin": {staffPIN}, "next": {path}})
	page := x.follow(again)
	if !strings.Contains(page.body, "typed before the lock") || hidden(page.body, path).Get("form") != form.Get("form") {
		t.Errorf("the draft did not come back: %s", words(page.body))
	}
	x.follow(x.post("/draft", url.Values{"path": {path}, "drop": {"1"}}))
	if strings.Contains(x.get(path).body, "typed before the lock") {
		t.Error("the dropped draft is still there")
	}
}

// TestEndedSessionKeepsTheReason: of an emergency, without the PIN of the second person, until it was taken.
func TestEndedSessionKeepsTheReason(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.child + "/emergency"
	form := with(hidden(x.get(path).body, path), "reason", emergencyReason, "staff", "staff-2")
	if a := x.post("/draft", with(form, "path", path, "pin", "271828")); a.status != http.StatusNoContent {
		t.Fatalf("keeping the draft: status %d", a.status)
	}
	x.fake.mu.Lock()
	clear(x.fake.sessions)
	x.fake.mu.Unlock()
	page := x.follow(x.post("/sign-in", url.Values{"staff": {staffID}, "pin": {staffPIN}, "next": {path}}))
	if !strings.Contains(page.body, emergencyReason) || !strings.Contains(page.body, `value="staff-2" checked`) || strings.Contains(page.body, "271828") {
		t.Errorf("the reason did not come back alone: %s", words(page.body))
	}
	x.follow(x.post(path, with(hidden(page.body, path), "reason", emergencyReason, "staff", "staff-2", "pin", "271828")))
	x.fake.mu.Lock()
	clear(x.fake.glass)
	x.fake.mu.Unlock()
	if strings.Contains(x.get(path).body, emergencyReason) {
		t.Error("the draft is still there after the emergency was declared")
	}
}

func TestEraseOneEntry(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	chart := "/patient/" + x.people.child
	path := x.erasePath(x.people.child)
	page := x.get(path)
	if !strings.Contains(page.body, "Erase this entry") || strings.Contains(page.body, "All that is written in this chart") {
		t.Errorf("the page: %s", words(page.body))
	}
	before := strings.Count(x.get(chart).body, "<article")
	answers := func(reason, staff, pin string) url.Values {
		return url.Values{"reason": {reason}, "staff": {staff}, "pin": {pin}}
	}
	for name, form := range map[string]url.Values{"no reason": answers("", "staff-2", "271828"), "oneself": answers("mistake", staffID, staffPIN), "a wrong PIN": answers("mistake", "staff-2", "000000")} {
		if a := x.post(path, form); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "Erase this entry") {
			t.Errorf("%s: status %d, want 422 with the form", name, a.status)
		}
	}
	if got := strings.Count(x.get(chart).body, "<article"); got != before {
		t.Fatalf("%d visits after refusals, want %d", got, before)
	}
	a := x.follow(x.post(path, answers("mistake", "staff-2", "271828")))
	if !strings.Contains(a.body, "will be erased everywhere") || strings.Count(a.body, "<article") != before-1 {
		t.Errorf("after it: status %d, %d visits, want %d", a.status, strings.Count(a.body, "<article"), before-1)
	}
	if a := x.get(path); a.status != http.StatusNotFound {
		t.Errorf("the page of what is gone: status %d, want 404", a.status)
	}
	x.fake.mu.Lock()
	details := x.fake.viewLocked(x.people.child).Chart.Patient.Shown.RID.String()
	x.fake.mu.Unlock()
	if a := x.get(chart + "/erase/" + details); a.status != http.StatusNotFound {
		t.Errorf("who somebody is: status %d, want 404", a.status)
	}
}

func TestFaultsAreSaidInWords(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		words  string
	}{
		{web.ErrNotReady, 503, "This box waits for its region"},
		{web.ErrReadOnly, 507, "This box has no room left: nothing was saved."},
		{web.ErrFault, 507, "The disk of this box is faulty: nothing was saved."},
		{web.ErrRefused, 403, "You may not do this"},
		{web.ErrNotFound, 404, "This is not here"},
		{http.ErrHandlerTimeout, 500, "Nothing was saved. Try again"},
	} {
		x := newFixture(t)
		x.fake.fail = c.err
		a := x.postVisit(x.people.child, "problem", "fever", "note", "kept words")
		if a.status != c.status || !strings.Contains(a.body, c.words) {
			t.Errorf("%v: status %d, want %d with %q; page %s", c.err, a.status, c.status, c.words, words(a.body))
		}
		if strings.Contains(a.body, c.err.Error()) {
			t.Errorf("%v: its text is on the page", c.err)
		}
		if page := x.get("/patient/" + x.people.child + "/visit"); !strings.Contains(page.body, "kept words") {
			t.Errorf("%v: what was typed is gone", c.err)
		}
	}
}

func TestConflictIsResolvedByChoice(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.conflict + "/conflict"
	page := x.get(path)
	for _, want := range []string{"Jean Habimana", "Esther Ineza", "0788 111 222", "0788 333 444", "Copied to Nyanza hub", "In the regional record"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("conflict page lacks %q", want)
		}
	}
	if a := x.get("/patient/" + x.people.conflict + "/details"); a.location != path {
		t.Errorf("changing details in conflict leads to %q", a.location)
	}
	_, second, _ := strings.Cut(page.body, "Version 2")
	form := hidden(second, path)
	edit := x.post(path, with(form, "step", "edit"))
	if !strings.Contains(edit.body, `value="0788 333 444"`) || !strings.Contains(edit.body, `name="base" value="`+form.Get("base")+`"`) {
		t.Errorf("edit: %s", words(edit.body))
	}
	done := x.follow(x.post(path, with(form, "step", "keep")))
	if !strings.Contains(done.body, "One version was chosen") || strings.Contains(done.body, "Look and choose") || !strings.Contains(done.body, "0788 333 444") {
		t.Errorf("after choosing: %s", words(done.body))
	}
	if a := x.get(path); a.location != "/patient/"+x.people.conflict {
		t.Errorf("no conflict any more, but status %d to %q", a.status, a.location)
	}
}

func TestChangedDetails(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.adult + "/details"
	page := x.get(path)
	if !strings.Contains(page.body, `value="Uwimana"`) || !strings.Contains(page.body, `value="1981"`) {
		t.Errorf("form is not filled in: %s", words(page.body))
	}
	form := with(hidden(page.body, path), "given", "Marie Chantal", "family", "Uwimana", "sex", "female", "birthYear", "1981", "village", "Rubavu")
	if done := x.follow(x.post(path, form)); !strings.Contains(done.body, "The change is saved") || !strings.Contains(done.body, "Rubavu") {
		t.Errorf("after the change: %s", words(done.body))
	}
	form.Set("base", "not a version")
	if a := x.post(path, form); a.status != http.StatusBadRequest {
		t.Errorf("bad base: status %d, want 400", a.status)
	}
}

func TestWithdrawnEntryStaysInSight(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := x.withdrawPath(x.people.child)
	form := hidden(x.get(path).body, path)
	page := x.follow(x.post(path, with(form, "reason", "wrong_person", "words", "meant his brother")))
	for _, want := range []string{"The entry is withdrawn", "Withdrawn", "Written for the wrong person: meant his brother"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("chart lacks %q: %s", want, words(page.body))
		}
	}
	if a := x.get(path); a.status != http.StatusSeeOther {
		t.Errorf("withdrawing again: status %d", a.status)
	}
}

func TestFindPutsNoNameInTheAddress(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	a := x.post("/find", url.Values{"q": {"Marie Uwimana"}})
	if strings.Contains(a.location, "Marie") || !strings.HasPrefix(a.location, "/find/") {
		t.Errorf("search leads to %q", a.location)
	}
	if page := x.follow(a); !strings.Contains(page.body, "1 person found") {
		t.Errorf("found: %s", words(page.body))
	}
	x.post("/lock", nil)
	x.post("/sign-in", url.Values{"staff": {"staff-2"}, "pin": {"271828"}})
	if b := x.get(a.location); b.location != "/find" {
		t.Errorf("another member opens the search: status %d", b.status)
	}
}

func TestLanguageIsChosenAndKept(t *testing.T) {
	x := newFixture(t)
	if a := x.post("/language", url.Values{"language": {"fr"}, "next": {"/sign-in"}}); a.location != "/sign-in" {
		t.Fatalf("choosing a language leads to %q", a.location)
	}
	if page := x.get("/sign-in"); !strings.Contains(page.body, "Qui êtes-vous") {
		t.Errorf("page: %s", words(page.body))
	}
	if a := x.post("/language", url.Values{"language": {"../x"}}); a.status != http.StatusBadRequest {
		t.Errorf("unknown language: status %d, want 400", a.status)
	}
}

func TestStatesAreTold(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	x.fake.mu.Lock()
	rid := x.fake.records[x.people.adult][1].RID.String()
	x.fake.mu.Unlock()
	x.fake.setState(x.people.adult, chart.State{Kind: chart.Copied, To: []string{"Nyanza hub", "Karongi hub", "Rubavu clinic"}})
	var got struct {
		Line   struct{ Kind, Text string }
		States map[string]struct{ Kind, Text string }
	}
	a := x.get("/states?rid=" + rid + "&rid=" + strings.Repeat("00", 32) + "&rid=%3Cscript%3E")
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatal(err)
	}
	if s := got.States[rid]; s.Kind != "copied" || s.Text != "Copied to Nyanza hub, Karongi hub and 1 more" || len(got.States) != 1 {
		t.Errorf("states %+v", got.States)
	}
	if got.Line.Kind != "refused" {
		t.Errorf("line %+v", got.Line)
	}
}

func TestEventsTellChangesAndLock(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	r, err := http.NewRequest(http.MethodGet, x.server.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := x.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if kind := res.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatalf("type %q", kind)
	}
	lines := bufio.NewScanner(res.Body)
	next := func() string {
		for lines.Scan() {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				return name
			}
		}
		return "end"
	}
	if got := next(); got != "change" {
		t.Errorf("first event %q, want change", got)
	}
	x.fake.setState(x.people.adult, chart.State{Kind: chart.Copied})
	if got := next(); got != "change" {
		t.Errorf("after a change: event %q, want change", got)
	}
	x.fake.mu.Lock()
	clear(x.fake.sessions)
	x.fake.mu.Unlock()
	x.fake.setState(x.people.adult, chart.State{Kind: chart.Confirmed})
	if got := next(); got != "locked" {
		t.Errorf("after the session ended: event %q, want locked", got)
	}
	if got := next(); got != "end" {
		t.Errorf("after locked: event %q, want the end", got)
	}
}

func TestSendNow(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	if page := x.follow(x.post("/links/send", nil)); !strings.Contains(page.body, "Sending has started") || x.fake.syncNow != 1 {
		t.Errorf("send now: %d, page %s", x.fake.syncNow, words(page.body))
	}
}

// A chart that is not whole here never says that there is nothing.
func TestIncompleteChartSaysSo(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	whole := x.get("/patient/" + x.people.waiting).body
	x.fake.lacks(40)
	for _, path := range []string{"/patient/" + x.people.waiting, "/patient/" + x.people.waiting + "/visit"} {
		page := x.get(path).body
		if !strings.Contains(page, "Part of this chart is not on this box") || !strings.Contains(page, "Allergies: not known here") || strings.Contains(page, "not asked yet") {
			t.Errorf("%s does not say that part of the chart is missing", path)
		}
	}
	if strings.Contains(whole, "Part of this chart") {
		t.Error("a whole chart is called incomplete")
	}
	found := x.follow(x.post("/find", url.Values{"q": {"Zzyzx"}}))
	if !strings.Contains(found.body, "may be missing from this list") {
		t.Error("the list of people does not say that the box lacks some")
	}
}

// Entries whose keys are not here are told of wherever the chart, or its summary, is shown.
func TestUnopenedEntriesAreTold(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	x.fake.lacksKeys()
	patient := x.get("/patient/" + x.people.child).body
	x.breakGlass("staff-2", "271828")
	for what, page := range map[string]string{"chart": patient, "summary": x.get("/patient/" + x.people.child + "/emergency").body} {
		for _, want := range []string{"2 entries are sealed for others.", "The first was written on", "These can open them: Kibuye clinic."} {
			if !strings.Contains(page, want) {
				t.Errorf("the %s lacks %q", what, want)
			}
		}
	}
	if page := x.get("/").body; !strings.Contains(page, "2 entries are sealed for others and not in this list.") {
		t.Error("the first page does not say that its list lacks some")
	}
	if found := x.follow(x.post("/find", url.Values{"q": {"Ndayisaba"}})); !strings.Contains(found.body, "2 entries are sealed for others.") {
		t.Error("the list of people does not say that entries are sealed")
	}
}

// TestStaffOfTheBox: roles are asked for, the last account that adds others stays, and an ended one is
// gone from the list.
func TestStaffOfTheBox(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	a := x.post("/staff", url.Values{"name": {"New Person"}, "pin": {"271828"}, "pin_again": {"271828"}})
	if a.status != 422 || !strings.Contains(a.body, "Choose at least one role") {
		t.Errorf("without a role: %d", a.status)
	}
	if a = x.post("/staff", url.Values{"name": {"New Person"}, "pin": {"271828"}, "pin_again": {"271828"}, "role": {"root"}}); a.status != 422 {
		t.Errorf("with a role that is none: %d", a.status)
	}
	a = x.follow(x.post("/staff", url.Values{"name": {"New Person"}, "pin": {"271828"}, "pin_again": {"271828"}, "role": {"pharmacist", "registrar"}}))
	if a.status != 200 || !strings.Contains(words(a.body), "Pharmacist, Registration desk") {
		t.Errorf("with two roles: %d", a.status)
	}
	for _, id := range []string{"staff-2", "staff-3", "staff-4"} {
		if a = x.follow(x.post("/staff/end", url.Values{"staff": {id}})); a.status != 200 || !strings.Contains(a.body, "The account is ended") {
			t.Errorf("ending %s: %d", id, a.status)
		}
	}
	if strings.Contains(a.body, "New Person") {
		t.Error("an ended account is still listed")
	}
	if a = x.post("/staff/end", url.Values{"staff": {staffID}}); a.status != 422 || !strings.Contains(a.body, "Nobody else here can add people") {
		t.Errorf("ending the last one: %d", a.status)
	}
}

// TestPageOffersWhatTheRulesAllow: what somebody may not do is not offered, and its form is refused.
func TestPageOffersWhatTheRulesAllow(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.child
	whole := x.get(path).body
	for right, offered := range map[string]string{web.MayWrite: path + "/visit", web.MayAmend: path + "/details", web.MayReview: path + "/looks",
		web.MayConsent: path + "/consent", web.MayRetract: "/withdraw/", web.MayProve: "/proof", web.MayFind: `href="/find"`, web.MayRegister: `href="/register"`} {
		if !strings.Contains(whole, offered) {
			t.Errorf("%s is not offered to who may", right)
		}
		x.fake.allow(right, false)
		if strings.Contains(x.get(path).body, offered) {
			t.Errorf("%s is offered to who may not", right)
		}
		if form := map[string]string{web.MayWrite: path + "/visit", web.MayAmend: path + "/details", web.MayConsent: path + "/consent", web.MayFind: "/find", web.MayRegister: "/register"}[right]; form != "" {
			if a := x.get(form); a.status != 403 {
				t.Errorf("the form of %s: %d, want 403", right, a.status)
			}
		}
		x.fake.allow(right, true)
	}
}

// TestConsentIsWrittenDown: what is chosen reaches the box with a PIN that is in no page, and a wrong one
// changes nothing.
func TestConsentIsWrittenDown(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	x.fake.decideSomething()
	path := "/patient/" + x.people.child + "/consent"
	try := func(pin string, fields ...string) answer {
		form := hidden(x.get(path).body, path)
		form.Set("pin", pin)
		for i := 0; i < len(fields); i += 2 {
			form.Set(fields[i], fields[i+1])
		}
		return x.post(path, form)
	}
	box := strings.Repeat("b1", 32)
	for want, fields := range map[string][]string{
		"Choose what the patient decided": {"do", "burn"},
		"Choose a clinic":                 {"do", web.DoGrant, "days", "7"},
		"Choose for how long":             {"do", web.DoGrant, "to", box, "days", "8"},
		"Tick at least one topic":         {"do", "limit-topics"},
		"Tick what it is for":             {"do", web.DoGrant, "to", box, "days", "7", "purposes", "profit"},
	} {
		if a := try(staffPIN, fields...); a.status != 422 || !strings.Contains(a.body, want) || strings.Contains(a.body, staffPIN) {
			t.Errorf("%v: status %d, want 422 and %q", fields, a.status, want)
		}
	}
	if a := try("000000", "do", web.DoLimit); a.status != 422 || !strings.Contains(a.body, "PIN") || len(x.fake.decisions) != 0 {
		t.Errorf("a wrong PIN: status %d, %d decisions", a.status, len(x.fake.decisions))
	}
	for _, fields := range [][]string{{"do", web.DoGrant, "to", box, "days", "7"}, {"do", web.DoGrant, "to", "*", "days", "0"}, {"do", web.DoEnd + ":" + strings.Repeat("01", 16)}, {"do", web.DoOpen, "to", box},
		{"do", "limit-topics", "topics", "hiv"}, {"do", web.DoGrant, "to", box, "days", "1", "topics", "mental", "purposes", "research"}, {"do", web.DoOpenTopics, "topics", "hiv"}} {
		if a := try(staffPIN, fields...); a.status != 303 || !strings.HasSuffix(a.location, "/consent?done=1") {
			t.Errorf("%v: status %d to %q", fields, a.status, a.location)
		}
	}
	want := []web.Decision{{Do: web.DoGrant, To: box, Days: 7}, {Do: web.DoGrant}, {Do: web.DoEnd, ID: strings.Repeat("01", 16)}, {Do: web.DoOpen},
		{Do: web.DoLimit, Topics: []string{"hiv"}}, {Do: web.DoGrant, To: box, Days: 1, Topics: []string{"mental"}, Purposes: []string{"research"}}, {Do: web.DoOpenTopics}}
	if !reflect.DeepEqual(x.fake.decisions, want) {
		t.Errorf("the box heard %+v, want %+v", x.fake.decisions, want)
	}
}
