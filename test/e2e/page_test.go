package e2e_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	staffName = "Grace Mbeki"
	staffPIN  = "314159"
)

// pages holds a box's browser, so that one sign in serves a test.
type pages struct {
	mu   sync.Mutex
	page *Page // guarded by mu
}

// Page is a browser at a box, signed in.
type Page struct {
	box    *Box
	client *http.Client
}

// answer is one page as it came.
type answer struct {
	status   int
	location string
	body     string
}

func newPage(b *Box) *Page {
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return &Page{box: b, client: &http.Client{Jar: jar, Timeout: 60 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Page signs in, once for each box, with the first staff member.
func (b *Box) Page() *Page {
	b.t.Helper()
	b.pages.mu.Lock()
	defer b.pages.mu.Unlock()
	if b.pages.page == nil {
		p := newPage(b)
		a, err := p.Post("/first", url.Values{"name": {staffName + " at " + b.name}, "pin": {staffPIN}, "pin_again": {staffPIN}})
		if err != nil || a.status != http.StatusSeeOther || a.location != "/" {
			b.t.Fatalf("%s: the first staff member: %v, status %d to %q\n%s", b.name, err, a.status, a.location, words(a.body))
		}
		b.pages.page = p
	}
	return b.pages.page
}

var staffTile = regexp.MustCompile(`name="staff" value="([^"]+)"`)

// SignIn signs in again, as after a restart of the box.
func (p *Page) SignIn() error {
	a, err := p.Get("/sign-in")
	if err != nil {
		return err
	}
	tile := staffTile.FindStringSubmatch(a.body)
	if tile == nil {
		return fmt.Errorf("no name to choose on the sign-in page: status %d to %q: %s", a.status, a.location, words(a.body))
	}
	a, err = p.Post("/sign-in", url.Values{"staff": {tile[1]}, "pin": {staffPIN}, "next": {"/"}})
	if err == nil && (a.status != http.StatusSeeOther || a.location != "/") {
		err = fmt.Errorf("signing in: status %d to %q: %s", a.status, a.location, words(a.body))
	}
	return err
}

func (p *Page) do(req *http.Request) (answer, error) {
	resp, err := p.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("Location"), string(body)}, err
}

// Get loads a page.
func (p *Page) Get(path string) (answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+p.box.page+path, nil)
	if err != nil {
		return answer{}, err
	}
	return p.do(req)
}

// Post sends a form.
func (p *Page) Post(path string, v url.Values) (answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+p.box.page+path, strings.NewReader(v.Encode()))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return p.do(req)
}

// must loads a page that has to be there.
func (p *Page) must(path string) string {
	p.box.t.Helper()
	a, err := p.Get(path)
	if err != nil || a.status != http.StatusOK {
		p.box.t.Fatalf("%s: GET %s: %v, status %d\n%s", p.box.name, path, err, a.status, words(a.body))
	}
	return a.body
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)

// hiddenOf reads the hidden inputs of the first form that holds a form id.
func hiddenOf(body string) url.Values {
	v := url.Values{}
	for _, form := range strings.Split(body, "<form ")[1:] {
		form, _, _ = strings.Cut(form, "</form>")
		if !strings.Contains(form, `name="form"`) {
			continue
		}
		for _, m := range hidden.FindAllStringSubmatch(form, -1) {
			v.Set(m[1], html.UnescapeString(m[2]))
		}
		break
	}
	return v
}

// Form loads a page and gives its form with these values.
func (p *Page) Form(path string, values url.Values) url.Values {
	p.box.t.Helper()
	body := p.must(path)
	v := hiddenOf(body)
	if v.Get("form") == "" {
		p.box.t.Fatalf("%s: %s has no form\n%s", p.box.name, path, words(body))
	}
	for name, list := range values {
		v[name] = list
	}
	return v
}

// Register makes a patient and gives the id.
func (p *Page) Register(given, family string) string {
	p.box.t.Helper()
	v := p.Form("/register", url.Values{"given": {given}, "family": {family}, "sex": {"female"}, "ageYears": {"30"}, "village": {"Kibuye"}, "step": {"another"}})
	a, err := p.Post("/register", v)
	id, ok := strings.CutPrefix(a.location, "/patient/")
	id, done, _ := strings.Cut(id, "?")
	if err != nil || !ok || done != "done=registered" {
		p.box.t.Fatalf("%s: registering: %v, status %d to %q\n%s", p.box.name, err, a.status, a.location, words(a.body))
	}
	return id
}

// Visit is one visit form that is posted, perhaps several times.
type Visit struct {
	patient string
	values  url.Values
	marker  string // text that stands in no other visit
}

func newVisit(r *rand.Rand, patient string) Visit {
	id := make([]byte, 16)
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	marker := "marker-" + hex.EncodeToString(id[:8])
	return Visit{patient, url.Values{"form": {hex.EncodeToString(id)}, "at": {time.Now().UTC().Format(time.RFC3339)}, "temperature": {"37.20"}, "problem": {"cough"},
		"note": {marker}, "treatment": {"Amoxicillin 250 mg, 3 times a day, 5 days"}}, marker}
}

// Save posts a visit. The record's id means that the page said it is saved.
func (p *Page) Save(v Visit) (rid string, a answer, err error) {
	a, err = p.Post("/patient/"+v.patient+"/visit", v.values)
	if err != nil {
		return "", a, err
	}
	to, saved, ok := strings.Cut(a.location, "?saved=")
	if a.status != http.StatusSeeOther || !ok || to != "/patient/"+v.patient || saved == "" {
		return "", a, fmt.Errorf("saving a visit: status %d to %q: %s", a.status, a.location, words(a.body))
	}
	return saved, a, nil
}

// mustSave posts a visit that has to be saved.
func (p *Page) mustSave(v Visit) string {
	p.box.t.Helper()
	rid, _, err := p.Save(v)
	if err != nil {
		p.box.t.Fatalf("%s: %v", p.box.name, err)
	}
	return rid
}

var tags = regexp.MustCompile(`(?s)<(script|style|svg)[^>]*>.*?</(script|style|svg)>|<[^>]*>`)

// words is what a person reads on a page.
func words(body string) string {
	_, main, ok := strings.Cut(body, "<body")
	if !ok {
		main = body
	}
	_, main, _ = strings.Cut(main, ">")
	return strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(main, " "))), " ")
}

// mainWords is what a person reads in the main part of a page.
func mainWords(body string) string {
	_, main, _ := strings.Cut(body, "<main")
	main, _, _ = strings.Cut(main, "</main>")
	_, main, _ = strings.Cut(main, ">")
	return words("<body>" + main)
}
