package rig

import (
	"context"
	"encoding/hex"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	StaffName = "Grace Mbeki"
	StaffPIN  = "314159"
	pageMax   = 2 * time.Minute
)

// pages holds a box's browser, so that one sign in serves a test.
type pages struct {
	mu   sync.Mutex
	page *Page // guarded by mu
}

// Page is a browser at a box, signed in.
type Page struct {
	Box    *Box
	client *http.Client
}

// Answer is one page as it came.
type Answer struct {
	Status   int
	Location string
	Body     string
}

// NewPage opens a browser at a box without signing in.
func NewPage(b *Box) *Page {
	b.T.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.T.Fatal(err)
	}
	p := &Page{Box: b, client: &http.Client{Jar: jar, Timeout: pageMax,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if b.Place != nil {
		inside := &http.Transport{DialContext: func(_ context.Context, _, address string) (net.Conn, error) { return b.Place.Dial(address) }}
		b.T.Cleanup(inside.CloseIdleConnections)
		p.client.Transport = inside
	}
	return p
}

// Page signs in, once for each box, with the first staff member.
func (b *Box) Page() *Page {
	b.T.Helper()
	b.pages.mu.Lock()
	defer b.pages.mu.Unlock()
	if b.pages.page == nil {
		p := NewPage(b)
		a, err := p.Post("/first", url.Values{"name": {StaffName + " at " + b.Name}, "pin": {StaffPIN}, "pin_again": {StaffPIN}})
		if err != nil || a.Status != http.StatusSeeOther || a.Location != "/" {
			b.T.Fatalf("%s: the first staff member: %v, status %d to %q\n%s", b.Name, err, a.Status, a.Location, Words(a.Body))
		}
		b.pages.page = p
	}
	return b.pages.page
}

var staffTile = regexp.MustCompile(`name="staff" value="([^"]+)"`)

// SignIn signs in again, as after a restart of the box. A box that runs and has so much
// to do that it lets a connection go is asked again, as staff would.
func (p *Page) SignIn() error {
	const tries = 4
	var err error
	for range tries {
		var a Answer
		if a, err = p.signIn(); err == nil || a.Status != 0 || !p.Box.Running() {
			break
		}
	}
	return err
}

func (p *Page) signIn() (Answer, error) {
	a, err := p.Get("/sign-in")
	if err != nil {
		return a, err
	}
	tile := staffTile.FindStringSubmatch(a.Body)
	if tile == nil {
		return a, fmt.Errorf("no name to choose on the sign-in page: status %d to %q: %s", a.Status, a.Location, Words(a.Body))
	}
	a, err = p.Post("/sign-in", url.Values{"staff": {tile[1]}, "pin": {StaffPIN}, "next": {"/"}})
	if err == nil && (a.Status != http.StatusSeeOther || a.Location != "/") {
		err = fmt.Errorf("signing in: status %d to %q: %s", a.Status, a.Location, Words(a.Body))
	}
	return a, err
}

func (p *Page) do(req *http.Request) (Answer, error) {
	resp, err := p.client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, resp.Header.Get("Location"), string(body)}, err
}

// Get loads a page.
func (p *Page) Get(path string) (Answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+p.Box.PageAddress+path, nil)
	if err != nil {
		return Answer{}, err
	}
	return p.do(req)
}

// Post sends a form.
func (p *Page) Post(path string, v url.Values) (Answer, error) {
	return p.Send(path, "application/x-www-form-urlencoded", strings.NewReader(v.Encode()))
}

// Send posts a body of any type.
func (p *Page) Send(path, contentType string, body io.Reader) (Answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+p.Box.PageAddress+path, body)
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	return p.do(req)
}

// Must loads a page that has to be there.
func (p *Page) Must(path string) string {
	p.Box.T.Helper()
	a, err := p.Get(path)
	if err != nil || a.Status != http.StatusOK {
		p.Box.T.Fatalf("%s: GET %s: %v, status %d\n%s", p.Box.Name, path, err, a.Status, Words(a.Body))
	}
	return a.Body
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)

// HiddenOf reads the hidden inputs of the first form that holds a form id.
func HiddenOf(body string) url.Values {
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
	p.Box.T.Helper()
	body := p.Must(path)
	v := HiddenOf(body)
	if v.Get("form") == "" {
		p.Box.T.Fatalf("%s: %s has no form\n%s", p.Box.Name, path, Words(body))
	}
	for name, list := range values {
		v[name] = list
	}
	return v
}

// Register makes a patient and gives the id.
func (p *Page) Register(given, family string) string {
	p.Box.T.Helper()
	v := p.Form("/register", url.Values{"given": {given}, "family": {family}, "sex": {"female"}, "ageYears": {"30"}, "village": {"Kibuye"}, "step": {"another"}})
	a, err := p.Post("/register", v)
	id, ok := strings.CutPrefix(a.Location, "/patient/")
	id, done, _ := strings.Cut(id, "?")
	if err != nil || !ok || done != "done=registered" {
		p.Box.T.Fatalf("%s: registering: %v, status %d to %q\n%s", p.Box.Name, err, a.Status, a.Location, Words(a.Body))
	}
	return id
}

// Visit is one visit form that is posted, perhaps several times.
type Visit struct {
	Patient string
	Values  url.Values
	Marker  string // text that stands in no other visit
}

// NewVisit is what the form of an ordinary visit sends, with a marker of its own.
func NewVisit(r *rand.Rand, patient string) Visit {
	id := make([]byte, 16)
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	marker := "marker-" + hex.EncodeToString(id[:8])
	return Visit{patient, url.Values{"form": {hex.EncodeToString(id)}, "at": {time.Now().UTC().Format(time.RFC3339)}, "temperature": {"37.20"}, "problem": {"cough"},
		"note": {marker}, "treatment": {"Amoxicillin 250 mg, 3 times a day, 5 days"}}, marker}
}

// Save posts a visit. The record's id means that the page said it is saved.
func (p *Page) Save(v Visit) (rid string, a Answer, err error) {
	a, err = p.Post("/patient/"+v.Patient+"/visit", v.Values)
	if err != nil {
		return "", a, err
	}
	to, saved, ok := strings.Cut(a.Location, "?saved=")
	if a.Status != http.StatusSeeOther || !ok || to != "/patient/"+v.Patient || saved == "" {
		return "", a, fmt.Errorf("saving a visit: status %d to %q: %s", a.Status, a.Location, Words(a.Body))
	}
	return saved, a, nil
}

// MustSave posts a visit that has to be saved.
func (p *Page) MustSave(v Visit) string {
	p.Box.T.Helper()
	rid, _, err := p.Save(v)
	if err != nil {
		p.Box.T.Fatalf("%s: %v", p.Box.Name, err)
	}
	return rid
}

var tags = regexp.MustCompile(`(?s)<(script|style|svg)[^>]*>.*?</(script|style|svg)>|<[^>]*>`)

// Words is what a person reads on a page.
func Words(body string) string {
	_, main, ok := strings.Cut(body, "<body")
	if !ok {
		main = body
	}
	_, main, _ = strings.Cut(main, ">")
	return strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(main, " "))), " ")
}

// MainWords is what a person reads in the main part of a page.
func MainWords(body string) string {
	_, main, _ := strings.Cut(body, "<main")
	main, _, _ = strings.Cut(main, "</main>")
	_, main, _ = strings.Cut(main, ">")
	return Words("<body>" + main)
}
