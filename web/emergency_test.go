package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/web"
)

const emergencyReason = "Fell from a roof, does not answer."

// breakGlass sends the form that opens the summary of the child's chart.
func (x *fixture) breakGlass(second, pin string) answer {
	x.t.Helper()
	return x.post("/patient/"+x.people.child+"/emergency", url.Values{"form": {randomHex(16)}, "reason": {emergencyReason}, "staff": {second}, "pin": {pin}})
}

func TestEmergencyFormAsksForAllOfIt(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.child + "/emergency"
	for name, c := range map[string]struct {
		form url.Values
		want string
	}{
		"no reason":        {url.Values{"staff": {"staff-2"}, "pin": {"271828"}}, "10 to 500 characters"},
		"nine characters":  {url.Values{"reason": {"  éééééé abc "}, "staff": {"staff-2"}, "pin": {"27182"}}, "6 digits"},
		"nobody else":      {url.Values{"reason": {emergencyReason}, "pin": {"271828"}}, "second person"},
		"oneself":          {url.Values{"reason": {emergencyReason}, "staff": {staffID}, "pin": {staffPIN}}, "cannot be you"},
		"another's PIN":    {url.Values{"reason": {emergencyReason}, "staff": {"staff-2"}, "pin": {"161803"}}, "PIN is not right"},
		"not of the staff": {url.Values{"reason": {emergencyReason}, "staff": {"../x"}, "pin": {"161803"}}, "PIN is not right"},
	} {
		c.form.Set("form", randomHex(16))
		a := x.post(path, c.form)
		if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, c.want) || strings.Contains(a.body, "Penicillin") {
			t.Errorf("%s: status %d, want 422 with %q and no summary", name, a.status, c.want)
		}
		if pin := c.form.Get("pin"); strings.Contains(a.body, pin) || strings.Contains(x.log.String(), pin) {
			t.Errorf("%s: the PIN comes back", name)
		}
	}
}

func TestEmergencySummaryIsAllThatIsShown(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.child + "/emergency"
	if a := x.breakGlass("staff-2", "271828"); a.status != http.StatusSeeOther || a.location != path {
		t.Fatalf("opened: status %d to %q", a.status, a.location)
	}
	a := x.get(path)
	for _, want := range []string{"Penicillin", "Artemether", "Claudine Ndayisaba", "open until"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the summary lacks %q", want)
		}
	}
	for _, never := range []string{"Fits at home", "39.6", "Measles", "/visit", "/withdraw"} {
		if strings.Contains(a.body, never) {
			t.Errorf("the summary shows %q", never)
		}
	}
	if today := x.get("/"); !strings.Contains(today.body, "opened in an emergency") || !strings.Contains(today.body, "7 days") {
		t.Error("the first page does not tell of it")
	}
	list := x.get("/emergencies")
	if !strings.Contains(list.body, emergencyReason) || !strings.Contains(list.body, "more than 7 days") {
		t.Error("the list does not tell of it")
	}
	rid := x.fake.events[0].RID
	if a := x.post("/emergencies/reviewed", url.Values{"form": {randomHex(16)}, "emergency": {rid}, "note": {"x"}}); a.status != http.StatusUnprocessableEntity {
		t.Errorf("no note: status %d", a.status)
	}
	if a := x.post("/emergencies/reviewed", url.Values{"form": {randomHex(16)}, "emergency": {rid}, "note": {"it was needed"}}); a.location != "/emergencies?done=reviewed" {
		t.Errorf("looked into: status %d to %q", a.status, a.location)
	}
	if a := x.get("/emergencies"); strings.Contains(a.body, emergencyReason) {
		t.Error("it is still in the list")
	}
}

// TestEmergencyIsOfferedToWhomTheChartIsClosed, and to nobody else.
func TestEmergencyIsOfferedToWhomTheChartIsClosed(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	link := "/patient/" + x.people.child + "/emergency"
	if a := x.get("/patient/" + x.people.child); strings.Contains(a.body, link) {
		t.Error("an open chart offers an emergency")
	}
	x.fake.closed = true
	if a := x.get("/patient/" + x.people.child); !strings.Contains(a.body, link) {
		t.Error("a closed chart offers none")
	}
	x.fake.allow(web.MayEmergency, false)
	x.fake.allow(web.MayOversee, false)
	for _, path := range []string{link, "/emergencies"} {
		if a := x.get(path); a.status != http.StatusForbidden {
			t.Errorf("%s without the right: status %d", path, a.status)
		}
	}
	if a := x.get("/"); strings.Contains(a.body, "/emergencies") {
		t.Error("the first page leads there")
	}
}
