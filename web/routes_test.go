package web_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/web"
)

// The tests of this file walk the tables of routes: what is not in them cannot be asked for, and
// what is in them is tried here.

// concrete fills the wildcards of a route's path.
func (x *fixture) concrete(path string) string {
	if path == "/" { // what no other entry has
		return "/no/such/page"
	}
	return strings.NewReplacer("{$}", "", "{patient}", x.people.child, "{search}", "00", "{ref}", "0000000000000000.0",
		"{rid}", x.fake.rid(x.people.child, 0), "{file}", "00").Replace(path)
}

// call is one method of one route.
type call struct {
	web.Route
	method string
}

func (c call) String() string { return c.method + " " + c.Path }

func calls(table []web.Route) []call {
	var all []call
	for _, rt := range table {
		if rt.Get {
			all = append(all, call{rt, http.MethodGet}, call{rt, http.MethodHead})
		}
		if rt.Post {
			all = append(all, call{rt, http.MethodPost})
		}
	}
	return all
}

// request is a call as a browser of this page makes it, with a form that would be taken.
func (x *fixture) request(c call) *http.Request {
	x.t.Helper()
	var body io.Reader
	if c.method == http.MethodPost {
		body = strings.NewReader(fullForm().Encode())
	}
	r, err := http.NewRequest(c.method, x.server.URL+x.concrete(c.Path), body)
	if err != nil {
		x.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if body != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

// fullForm has an answer for every form of the page.
func fullForm() url.Values {
	return url.Values{"form": {strings.Repeat("ab", 16)}, "given": {"Mallory"}, "family": {"Intruder"}, "sex": {"female"}, "problem": {"fever"}, "base": {""},
		"name": {"Mallory Intruder"}, "pin": {"902817"}, "pin_again": {"902817"}, "staff": {staffID}, "q": {"Eric"}, "language": {"fr"}, "path": {"/register"},
		"reason": {"unconscious, nobody knows her"}, "note": {"it was needed"}, "emergency": {"00"}, "device": {"d1"}, "give": {"1"}, "code": {"restored"}, "stick": {"s1"}, "file": {"f1"}, "to": {"all"}, "do": {web.DoLimit}, "days": {"7"}}
}

// state is everything in the fake that a call could change.
func (f *fakeClinic) state() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, list := range f.records {
		n += len(list)
	}
	return fmt.Sprint(n, f.staff, f.stickJobs, f.syncNow, f.devices, f.decisions, f.box.Faults, f.sync.Faults, len(f.forms), len(f.calls), len(f.files.forms))
}

// removeStaff takes a member's account and sessions away.
func (f *fakeClinic) removeStaff(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pins, id)
	for token, s := range f.sessions {
		if s.StaffID == id {
			delete(f.sessions, token)
		}
	}
	f.signalLocked()
}

// token is the fixture's session as the browser holds it.
func (x *fixture) token() string {
	x.t.Helper()
	u, err := url.Parse(x.server.URL)
	if err != nil {
		x.t.Fatal(err)
	}
	for _, c := range x.client.Jar.Cookies(u) {
		if c.Name == "healthpost_session" {
			return c.Value
		}
	}
	x.t.Fatal("no session in the browser")
	return ""
}

// credentials are the ways to come without a session that holds. Each gets a fixture that is signed
// in and changes its requests.
var credentials = map[string]func(x *fixture) func(r *http.Request){
	"without": func(x *fixture) func(*http.Request) { x.client.Jar = nil; return func(*http.Request) {} },
	"wrong":   func(x *fixture) func(*http.Request) { return onlyCookie(x, strings.Repeat("A", 43)) },
	"garbage": func(x *fixture) func(*http.Request) { return onlyCookie(x, strings.Repeat("../", 400)) },
	"logged out": func(x *fixture) func(*http.Request) {
		old := x.token()
		x.post("/lock", nil)
		return onlyCookie(x, old)
	},
	"idle too long": func(x *fixture) func(*http.Request) { // the box forgets a session that is not used
		old := x.token()
		x.fake.SignOut(x.t.Context(), old)
		return onlyCookie(x, old)
	},
	"after a restart": func(x *fixture) func(*http.Request) {
		old := x.token()
		x.fake.SignOut(x.t.Context(), old)
		x.serve(web.New(x.fake, x.options()))
		return onlyCookie(x, old)
	},
	"removed from the staff": func(x *fixture) func(*http.Request) {
		old := x.token()
		x.fake.removeStaff(staffID)
		return onlyCookie(x, old)
	},
	"session in the address": func(x *fixture) func(*http.Request) {
		old := x.token()
		x.client.Jar = nil
		return func(r *http.Request) {
			r.URL.RawQuery = url.Values{"healthpost_session": {old}, "token": {old}}.Encode()
		}
	},
	"session in another header": func(x *fixture) func(*http.Request) {
		old := x.token()
		x.client.Jar = nil
		return func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+old)
			r.Header.Set("X-Session", old)
			r.Header.Set("Cookie", "session="+old)
		}
	},
	"PIN in the address": func(x *fixture) func(*http.Request) {
		x.client.Jar = nil
		return func(r *http.Request) {
			r.SetBasicAuth(staffID, staffPIN)
			r.URL.RawQuery = url.Values{"staff": {staffID}, "pin": {staffPIN}}.Encode()
		}
	},
}

func onlyCookie(x *fixture, value string) func(*http.Request) {
	x.client.Jar = nil
	return func(r *http.Request) { r.Header.Set("Cookie", "healthpost_session="+value) }
}

func TestEveryRouteWithoutASessionThatHolds(t *testing.T) {
	for name, come := range credentials {
		t.Run(name, func(t *testing.T) {
			x := newFixture(t)
			x.signIn()
			token, change := x.token(), come(x)
			before := x.fake.state()
			for _, c := range calls(web.Routes()) {
				r := x.request(c)
				change(r)
				a := x.do(r)
				if err := turnedAway(c, a); err != nil {
					t.Errorf("%s: %v", c, err)
				}
				if strings.Contains(a.body+a.location+x.log.String(), token) || strings.Contains(a.body, "Ndayisaba") {
					t.Errorf("%s: the answer or the log holds a session or a patient", c)
				}
				if err := armoured(c, a); err != nil {
					t.Errorf("%s: %v", c, err)
				}
				if after := x.fake.state(); after != before {
					t.Fatalf("%s changed the box: %s, before %s", c, after, before)
				}
			}
		})
	}
}

// The control of the test above: a page that asks nobody who they are, and one without headers, are seen.
func TestACarelessPageIsSeen(t *testing.T) {
	x := newFixture(t)
	careless, err := web.NewCareless(x.fake, x.options())
	if err != nil {
		t.Fatal(err)
	}
	x.serve(careless)
	for _, c := range calls(web.Routes()) {
		if c.Public || c.Stream {
			continue
		}
		a := x.do(x.request(c))
		if turnedAway(c, a) == nil {
			t.Errorf("%s: status %d to %q passes for a refusal", c, a.status, a.location)
		}
		if armoured(c, a) == nil {
			t.Errorf("%s: an answer without headers passes for armoured", c)
		}
	}
}

// turnedAway tells whether an answer is the one that somebody without a session gets.
func turnedAway(c call, a answer) error {
	switch {
	case c.First:
		if a.status != http.StatusSeeOther || a.location != "/sign-in" {
			return fmt.Errorf("status %d to %q, want the sign-in page: this box has staff", a.status, a.location)
		}
	case c.Public:
		if a.header.Get("Set-Cookie") != "" && strings.Contains(a.header.Get("Set-Cookie"), "healthpost_session=") && c.Path != "/lock" {
			return fmt.Errorf("somebody without a session gets one")
		}
	case c.Machine:
		if a.status != http.StatusUnauthorized {
			return fmt.Errorf("status %d, want 401", a.status)
		}
	case a.status != http.StatusSeeOther || !strings.HasPrefix(a.location, "/sign-in"):
		return fmt.Errorf("status %d to %q, want the sign-in page", a.status, a.location)
	}
	return nil
}

// armoured checks the headers of any answer.
func armoured(c call, a answer) error {
	want := map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store"}
	if c.Path == "/assets/{file}" && a.status == http.StatusOK {
		delete(want, "Cache-Control")
	}
	for name, value := range want {
		if got := a.header.Get(name); got != value {
			return fmt.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	policy := a.header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "script-src 'self'", "style-src 'self'"} {
		if !strings.Contains(policy, part) {
			return fmt.Errorf("policy %q lacks %s", policy, part)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		return fmt.Errorf("policy %q allows more than this box's own files", policy)
	}
	return nil
}

func TestEveryRouteWithASessionIsArmoured(t *testing.T) {
	x := newFixture(t)
	for _, c := range calls(web.Routes()) {
		if c.Stream {
			continue // TestStreamsEnd
		}
		x.signIn()
		a := x.do(x.request(c))
		if err := armoured(c, a); err != nil {
			t.Errorf("%s: %v", c, err)
		}
		if a.status >= 500 {
			t.Errorf("%s: status %d", c, a.status)
		}
	}
}

func TestEveryRouteRefusesOtherMethods(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	before := x.fake.state()
	for _, rt := range web.Routes() {
		methods := []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, http.MethodTrace, "BREW"}
		if !rt.Get {
			methods = append(methods, http.MethodGet, http.MethodHead)
		}
		if !rt.Post {
			methods = append(methods, http.MethodPost)
		}
		for _, method := range methods {
			c := call{rt, method}
			a := x.do(x.request(c))
			if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") == "" {
				t.Errorf("%s: status %d, Allow %q, want 405", c, a.status, a.header.Get("Allow"))
			}
			if err := armoured(c, a); err != nil {
				t.Errorf("%s: %v", c, err)
			}
		}
	}
	if after := x.fake.state(); after != before {
		t.Errorf("the box changed: %s, before %s", after, before)
	}
}

func TestEveryFormOfAnotherOriginIsRefused(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	before := x.fake.state()
	for _, rt := range web.Routes() {
		if !rt.Post {
			continue
		}
		c := call{rt, http.MethodPost}
		for _, from := range []struct{ header, value string }{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "http://evil.example"}, {"Origin", "null"}} {
			r := x.request(c)
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set(from.header, from.value)
			a := x.do(r)
			if a.status != http.StatusForbidden {
				t.Errorf("%s with %s %s: status %d, want 403", c, from.header, from.value, a.status)
			}
			if err := armoured(c, a); err != nil {
				t.Errorf("%s: %v", c, err)
			}
		}
	}
	if after := x.fake.state(); after != before {
		t.Errorf("the box changed: %s, before %s", after, before)
	}
}

func TestEveryRouteUnderAnotherNameIsRefused(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	before := x.fake.state()
	for _, c := range calls(web.Routes()) {
		for _, host := range []string{"evil.example", "clinic.home.arpa.evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", "evil.example:80:90", "[::1"} {
			r := x.request(c)
			r.Host = host
			a := x.do(r)
			if a.status != http.StatusMisdirectedRequest || strings.Contains(a.body, "Ndayisaba") {
				t.Errorf("%s at %s: status %d, want 421", c, host, a.status)
			}
			if err := armoured(c, a); err != nil {
				t.Errorf("%s: %v", c, err)
			}
		}
	}
	if after := x.fake.state(); after != before {
		t.Errorf("the box changed: %s, before %s", after, before)
	}
	for _, host := range []string{"localhost", "LOCALHOST:8080", "clinic.localhost", "clinic.home.arpa", "clinic.home.arpa.:8080", "127.0.0.1:1", "[::1]:8080", "10.77.0.1:8080"} {
		r := x.request(call{web.Route{Path: "/sign-in"}, http.MethodGet})
		r.Host = host
		if a := x.do(r); a.status != http.StatusOK {
			t.Errorf("at %s: status %d, want the page", host, a.status)
		}
	}
}

func TestEveryFormHasALimit(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	before := x.fake.state()
	for _, rt := range web.Routes() {
		for _, c := range calls([]web.Route{rt}) {
			large := strings.Repeat("x", int(rt.BodyMax)+1)
			for name, body := range map[string]io.Reader{"said": strings.NewReader(large), "unsaid": struct{ io.Reader }{strings.NewReader("note=" + large)}} {
				r := x.request(c)
				r.Body, r.ContentLength = io.NopCloser(body), -1
				if name == "said" {
					r.ContentLength = int64(len(large))
				}
				a := x.do(r)
				if a.status != http.StatusRequestEntityTooLarge {
					if c.method == http.MethodPost {
						t.Errorf("%s, length %s: status %d, want 413", c, name, a.status)
					} else if a.status < 400 {
						t.Errorf("%s with a body: status %d, want a refusal", c, a.status)
					}
				}
				if err := armoured(c, a); err != nil {
					t.Errorf("%s: %v", c, err)
				}
			}
		}
		if rt.Post && rt.BodyMax == 0 {
			t.Errorf("%s takes a form and has no limit", rt.Path)
		}
	}
	if after := x.fake.state(); after != before {
		t.Errorf("the box changed: %s, before %s", after, before)
	}
}

const routesFile = "../docs/ROUTES.md"

func TestRoutesAreWrittenDown(t *testing.T) {
	doc, err := os.ReadFile(routesFile)
	if err != nil {
		t.Fatal(err)
	}
	text := string(doc)
	for name, table := range map[string][]web.Route{"page": web.Routes(), "locked": web.LockedRoutes(), "console": web.ConsoleRoutes()} {
		var b strings.Builder
		b.WriteString("| | path | who may | at most | changes |\n|---|---|---|---|---|\n")
		for _, c := range calls(table) {
			if c.method == http.MethodHead {
				continue
			}
			body, changes := "no body", "nothing"
			if c.method == http.MethodPost {
				body, changes = fmt.Sprintf("%d KiB", c.BodyMax>>10), c.Changes
			}
			if c.Files && c.method == http.MethodPost {
				body += ", with files 20 MiB"
			}
			if c.Stream {
				body += "; a stream"
			}
			fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s |\n", c.method, c.Path, c.Who, body, changes)
		}
		begin, end := "<!-- table: "+name+" -->\n", "<!-- end: "+name+" -->"
		head, rest, ok1 := strings.Cut(text, begin)
		old, tail, ok2 := strings.Cut(rest, end)
		if !ok1 || !ok2 {
			t.Fatalf("%s has no table %q", routesFile, name)
		}
		if old != b.String() && !*update {
			t.Errorf("the table %q of %s is not the program's; run go test -update and read what changed:\n%s", name, routesFile, b.String())
		}
		text = head + begin + b.String() + end + tail
	}
	if *update {
		if err := os.WriteFile(routesFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
