package bench_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	staffName = "Grace Mbeki"
	staffPIN  = "314159"
)

// page is a browser at a box, signed in or not.
type page struct {
	tb     testing.TB
	base   string
	client *http.Client
}

func newPage(b *box) *page {
	jar, err := cookiejar.New(nil)
	check(b.tb, "opening a browser", err)
	return &page{tb: b.tb, base: "http://" + b.page, client: &http.Client{Jar: jar, Timeout: 2 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (p *page) get(path string) (string, error) {
	resp, err := p.client.Get(p.base + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return string(body), err
}

// post sends a form and gives where the answer leads.
func (p *page) post(path string, v url.Values) string {
	p.tb.Helper()
	resp, err := p.client.PostForm(p.base+path, v)
	check(p.tb, "posting "+path, err)
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusSeeOther {
		p.tb.Fatalf("posting %s: %s", path, resp.Status)
	}
	return resp.Header.Get("Location")
}

// first makes the first staff member of a box, which signs in.
func (p *page) first() {
	p.tb.Helper()
	p.post("/first", url.Values{"name": {staffName}, "pin": {staffPIN}, "pin_again": {staffPIN}})
}

var staffTile = regexp.MustCompile(`name="staff" value="([^"]+)"`)

func (p *page) signIn() {
	p.tb.Helper()
	body, err := p.get("/sign-in")
	check(p.tb, "opening the sign-in page", err)
	tile := staffTile.FindStringSubmatch(body)
	if tile == nil {
		p.tb.Fatal("no name to choose on the sign-in page")
	}
	p.post("/sign-in", url.Values{"staff": {tile[1]}, "pin": {staffPIN}, "next": {"/"}})
}

var patientLink = regexp.MustCompile(`href="(/patient/[0-9a-f]{32})`)

// patient finds somebody by name and gives the path of the chart.
func (p *page) patient(name string) string {
	p.tb.Helper()
	body, err := p.get(p.post("/find", url.Values{"q": {name}}))
	check(p.tb, "finding a patient", err)
	m := patientLink.FindStringSubmatch(body)
	if m == nil {
		p.tb.Fatalf("nobody found by the name %q", name)
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
	p.tb.Helper()
	_, rid, ok := strings.Cut(p.post(patient+"/visit", visit()), "?saved=")
	if !ok || rid == "" {
		p.tb.Fatal("a visit was not saved")
	}
	return rid
}

// timed loads a page some times and gives how long each took.
func (p *page) timed(path string, times int) []time.Duration {
	p.tb.Helper()
	var took []time.Duration
	for range times {
		begun := time.Now()
		_, err := p.get(path)
		check(p.tb, "loading "+path, err)
		took = append(took, time.Since(begun))
	}
	return took
}
