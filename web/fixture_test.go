package web_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/web"
	"github.com/rs/zerolog"
)

// fixture is a page served over a fake clinic, and a browser without script.
type fixture struct {
	t      testing.TB
	fake   *fakeClinic
	people people
	server *httptest.Server
	url    string // of the server
	client *http.Client
	log    *strings.Builder
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	fake := newFake()
	x := &fixture{t: t, fake: fake, people: seed(t, fake), log: &strings.Builder{}}
	x.serve(web.New(fake, x.options()))
	return x
}

func (x *fixture) options() web.Options {
	return web.Options{Log: zerolog.New(zerolog.SyncWriter(lockedWriter{x.log})), Now: func() time.Time { return now }, Location: time.UTC}
}

// lockedWriter lets a string builder be a writer; zerolog.SyncWriter does the locking.
type lockedWriter struct{ b *strings.Builder }

func (w lockedWriter) Write(p []byte) (int, error) { return w.b.Write(p) }

func (x *fixture) serve(h http.Handler) {
	x.server = httptest.NewServer(h)
	x.url = x.server.URL
	x.t.Cleanup(func() {
		x.server.CloseClientConnections()
		x.server.Close()
	})
	x.client = newClient(x.t)
}

// newClient is a browser without script and without cookies yet.
func newClient(t testing.TB) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// answer is one response, read to its end.
type answer struct {
	status   int
	body     string
	header   http.Header
	location string
}

func (x *fixture) do(r *http.Request) answer {
	x.t.Helper()
	res, err := x.client.Do(r)
	if err != nil {
		x.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		x.t.Fatal(err)
	}
	return answer{res.StatusCode, string(body), res.Header, res.Header.Get("Location")}
}

func (x *fixture) get(path string) answer {
	x.t.Helper()
	r, err := http.NewRequest(http.MethodGet, x.url+path, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	return x.do(r)
}

func (x *fixture) post(path string, values url.Values) answer {
	x.t.Helper()
	r, err := http.NewRequest(http.MethodPost, x.url+path, strings.NewReader(values.Encode()))
	if err != nil {
		x.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return x.do(r)
}

// follow goes where an answer redirects to.
func (x *fixture) follow(a answer) answer {
	x.t.Helper()
	if a.status != http.StatusSeeOther {
		x.t.Fatalf("status %d, want a redirect; page:\n%s", a.status, words(a.body))
	}
	return x.get(a.location)
}

func (x *fixture) signIn() {
	x.t.Helper()
	a := x.post("/sign-in", url.Values{"staff": {staffID}, "pin": {staffPIN}, "next": {"/"}})
	if a.status != http.StatusSeeOther || a.location != "/" {
		x.t.Fatalf("sign in: status %d to %q", a.status, a.location)
	}
}

var hiddenInput = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)

// hidden collects the hidden fields of a page's form to a path, as a browser would post them.
func hidden(body, action string) url.Values {
	_, rest, ok := strings.Cut(body, `action="`+action+`"`)
	if !ok {
		return nil
	}
	form, _, _ := strings.Cut(rest, "</form>")
	v := url.Values{}
	for _, m := range hiddenInput.FindAllStringSubmatch(form, -1) {
		v.Add(m[1], m[2])
	}
	return v
}

// with adds pairs of name and value.
func with(v url.Values, pairs ...string) url.Values {
	out := url.Values{}
	for k, list := range v {
		out[k] = append([]string(nil), list...)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		out.Add(pairs[i], pairs[i+1])
	}
	return out
}

var (
	tagPattern   = regexp.MustCompile(`<(/?)([a-zA-Z][a-zA-Z0-9]*)((?:\s+[a-zA-Z-]+(?:="[^"<>]*")?)*)\s*(/?)>`)
	attrPattern  = regexp.MustCompile(`([a-zA-Z-]+)(?:="([^"]*)")?`)
	spacePattern = regexp.MustCompile(`\s+`)
	voidElements = map[string]bool{"meta": true, "link": true, "input": true, "br": true, "img": true}
)

// words is the text of a page without tags.
func words(body string) string {
	return strings.TrimSpace(spacePattern.ReplaceAllString(tagPattern.ReplaceAllString(body, " "), " "))
}

// element is a tag with its attributes.
type element struct {
	name  string
	attrs map[string]string
}

// parsePage checks that a page is well formed, and returns its elements.
func parsePage(body string) ([]element, error) {
	rest, ok := strings.CutPrefix(body, "<!doctype html>")
	if !ok {
		return nil, fmt.Errorf("no doctype")
	}
	var stack []string
	var all []element
	for {
		at := strings.IndexByte(rest, '<')
		if at < 0 {
			break
		}
		m := tagPattern.FindStringSubmatch(rest[at:])
		if m == nil || !strings.HasPrefix(rest[at:], m[0]) {
			return nil, fmt.Errorf("stray < before %.60q", rest[at:])
		}
		rest = rest[at+len(m[0]):]
		name := strings.ToLower(m[2])
		if m[1] == "/" {
			if len(stack) == 0 || stack[len(stack)-1] != name {
				return nil, fmt.Errorf("</%s> closes %v", name, stack)
			}
			stack = stack[:len(stack)-1]
			continue
		}
		e := element{name, map[string]string{}}
		for _, a := range attrPattern.FindAllStringSubmatch(m[3], -1) {
			if _, twice := e.attrs[a[1]]; twice {
				return nil, fmt.Errorf("<%s> has %s twice", name, a[1])
			}
			e.attrs[a[1]] = a[2]
		}
		all = append(all, e)
		if m[4] == "" && !voidElements[name] {
			stack = append(stack, name)
		}
	}
	if len(stack) > 0 {
		return nil, fmt.Errorf("not closed: %v", stack)
	}
	return all, nil
}
