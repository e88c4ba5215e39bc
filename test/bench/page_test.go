package bench_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
)

// page is a browser at a box, signed in or not.
type page struct {
	*rig.Page
	T testing.TB
}

func newPage(b *box) *page { return &page{rig.NewPage(b.Box), b.T} }

func (p *page) get(path string) (string, error) {
	a, err := p.Get(path)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d", path, a.Status)
	}
	return a.Body, err
}

// post sends a form and gives where the answer leads.
func (p *page) post(path string, v url.Values) string {
	p.T.Helper()
	a, err := p.Post(path, v)
	check(p.T, "posting "+path, err)
	if a.Status != http.StatusSeeOther {
		p.T.Fatalf("posting %s: status %d", path, a.Status)
	}
	return a.Location
}

// first makes the first staff member of a box, which signs in.
func (p *page) first() {
	p.T.Helper()
	p.post("/first", url.Values{"name": {rig.StaffName}, "pin": {rig.StaffPIN}, "pin_again": {rig.StaffPIN}})
}

func (p *page) signIn() {
	p.T.Helper()
	check(p.T, "signing in", p.SignIn())
}

var patientLink = regexp.MustCompile(`href="(/patient/[0-9a-f]{32})`)

// patient finds somebody by name and gives the path of the chart.
func (p *page) patient(name string) string {
	p.T.Helper()
	body, err := p.get(p.post("/find", url.Values{"q": {name}}))
	check(p.T, "finding a patient", err)
	m := patientLink.FindStringSubmatch(body)
	if m == nil {
		p.T.Fatalf("nobody found by the name %q", name)
	}
	return m[1]
}

// visit is what the form of an ordinary visit sends.
func visit() url.Values {
	id := make([]byte, 16)
	rand.Read(id)
	return url.Values{"form": {hex.EncodeToString(id)}, "at": {time.Now().UTC().Format(time.RFC3339)}, "temperature": {"37.4"},
		"problem": {"cough"}, "note": {"Cough for three days, no chest indrawing, drinks well."}, "treatment": {"Amoxicillin 250 mg, 2 times a day, 5 days"}}
}

// saveVisit posts a visit and gives the record's id.
func (p *page) saveVisit(patient string) string {
	p.T.Helper()
	_, rid, ok := strings.Cut(p.post(patient+"/visit", visit()), "?saved=")
	if !ok || rid == "" {
		p.T.Fatal("a visit was not saved")
	}
	return rid
}

// timed loads a page some times and gives how long each took.
func (p *page) timed(path string, times int) []time.Duration {
	p.T.Helper()
	var took []time.Duration
	for range times {
		begun := time.Now()
		_, err := p.get(path)
		check(p.T, "loading "+path, err)
		took = append(took, time.Since(begun))
	}
	return took
}
