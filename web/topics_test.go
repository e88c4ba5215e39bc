package web_test

import (
	"strings"
	"testing"
)

// TestSensitiveVisit: what is ticked is saved with the visit, through the page that asks again, and stays
// ticked on a form that has a fault.
func TestSensitiveVisit(t *testing.T) {
	x := newFixture(t)
	path := "/patient/" + x.people.child + "/visit"
	if a := x.postVisit(x.people.child, "topics", "gout", "problem", "fever"); a.status != 422 || x.fake.visitCount(x.people.child) != 2 {
		t.Errorf("a topic of nobody's: status %d", a.status)
	}
	a := x.postVisit(x.people.child, "topics", "hiv", "temperature", "390", "problem", "fever")
	if a.status != 422 || !strings.Contains(a.body, `value="hiv" checked`) || strings.Contains(a.body, `value="mental" checked`) {
		t.Errorf("with a fault: status %d, ticked %v", a.status, strings.Contains(a.body, `value="hiv" checked`))
	}
	check := x.postVisit(x.people.child, "topics", "hiv", "temperature", "41.8", "problem", "fever")
	done := x.follow(x.post(path, with(hidden(check.body, path), "step", "checked", "reason", "measured_again")))
	if !strings.Contains(done.body, "Kept apart: HIV") || x.fake.visitCount(x.people.child) != 3 {
		t.Errorf("the chart does not say that it is apart: %s", words(done.body))
	}
}
