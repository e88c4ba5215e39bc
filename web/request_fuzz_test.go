package web_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/fuzz"
	"github.com/healthpost/healthpost/web"
)

// What a fuzzed request brings besides its text.
const (
	asStaff   = 1 << iota // the session of a staff member
	fromAfar              // a form that another site's page sent
	withFiles             // multipart/form-data
)

// pageBytesMax is what answering one request may allocate besides its own size.
const pageBytesMax = 8 << 20

// replacedClinic lets one handler, which is dear to make, answer over many boxes.
type replacedClinic struct{ web.Clinic }

// asker asks one handler over a fresh box each time.
type asker struct {
	clinic  *replacedClinic
	handler http.Handler
}

func newAsker() *asker {
	c := &replacedClinic{Clinic: newFake()}
	return &asker{c, web.New(c, web.Options{Now: func() time.Time { return now }, Location: time.UTC})}
}

// renew is a box with people, where a staff member is signed in.
func (a *asker) renew(t testing.TB) (fake *fakeClinic, p people, token string) {
	fake = newFake()
	p = seed(t, fake)
	fake.mu.Lock()
	fake.sticks.Sticks = []web.Stick{{Name: "usb-1", Files: []web.StickFile{{Name: "a.hpp", ForHere: true}}}}
	fake.mu.Unlock()
	a.clinic.Clinic = fake
	token, err := fake.SignIn(t.Context(), staffID, staffPIN)
	if err != nil {
		t.Fatal(err)
	}
	return fake, p, token
}

// ask sends a request as its bytes; ok is false when the server does not take it as HTTP.
func (a *asker) ask(text string) (answer *httptest.ResponseRecorder, ok bool) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		return nil, false
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r.RemoteAddr = "192.0.2.1:1234"
	w := httptest.NewRecorder()
	a.handler.ServeHTTP(&leaving{w, cancel}, r.WithContext(ctx))
	return w, true
}

// leaving is a browser that goes once it has the first part of an answer.
type leaving struct {
	*httptest.ResponseRecorder
	leave func()
}

func (l *leaving) FlushError() error { l.leave(); return errors.New("gone") }

// requestText writes a request: marks in braces become what this box has.
func requestText(p people, rid, token, method, target, header, body string, how byte) string {
	marked := strings.NewReplacer("{patient}", p.child, "{conflict}", p.conflict, "{rid}", rid, "ZQ", url.QueryEscape(fuzz.Marker))
	if method != http.MethodGet && method != http.MethodHead {
		kind, site := "application/x-www-form-urlencoded", "same-origin"
		if how&withFiles != 0 {
			kind, marked = "multipart/form-data; boundary=b", strings.NewReplacer("{patient}", p.child, "{rid}", rid, "ZQ", fuzz.Marker, "\n", "\r\n")
		}
		if how&fromAfar != 0 {
			site = "cross-site"
		}
		header = "Content-Type: " + kind + "\r\nSec-Fetch-Site: " + site + "\r\n" + header
	}
	if how&asStaff != 0 {
		header = "Cookie: healthpost_session=" + token + "\r\n" + header
	}
	target = strings.NewReplacer("{patient}", p.child, "{conflict}", p.conflict, "{rid}", rid, "ZQ", url.QueryEscape(fuzz.Marker)).Replace(target)
	body = marked.Replace(body)
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: box.example\r\nContent-Length: %d\r\n%s\r\n%s", method, target, len(body), header, body)
}

var placePattern = regexp.MustCompile(`\{[a-z]+\}`)

// addRequests seeds with every page as it is and with every field of its forms marked.
func addRequests(f *testing.F, a *asker) {
	for _, rt := range web.Routes() {
		path := strings.ReplaceAll(rt.Path, "{$}", "")
		paths := []string{path}
		if strings.HasSuffix(path, "/conflict") || strings.HasSuffix(path, "/details") {
			paths = append(paths, strings.Replace(path, "{patient}", "{conflict}", 1))
		}
		for _, p := range paths {
			p = strings.NewReplacer("{ref}", "0011223344556677.0", "{search}", "x", "{file}", strings.Repeat("ab", 32)).Replace(p)
			_, people, token := a.renew(f)
			w, _ := a.ask(requestText(people, "00", token, "GET", p, "", "", asStaff))
			f.Add("GET", p, "", "", byte(asStaff))
			f.Add("GET", placePattern.ReplaceAllString(p, "ZQ")+"?q=ZQ&saved=ZQ&next=ZQ&at=ZQ", "Accept-Language: ZQ\r\n", "", byte(asStaff))
			f.Add("POST", p, "", fields(w.Body.String()), byte(asStaff))
			f.Add("POST", p, "", fields(w.Body.String()), byte(asStaff|fromAfar))
			f.Add("POST", p, "", fields(w.Body.String()), byte(0))
		}
	}
	f.Add("POST", "/sign-in", "", "staff="+staffID+"&pin="+staffPIN+"&next=//evil.example", byte(0))
	f.Add("POST", "/language", "", "language=fr&next=/%5cevil", byte(0))
	f.Add("POST", "/patient/{patient}/visit", "", "--b\nContent-Disposition: form-data; name=\"note\"\n\nZQ\n"+
		"--b\nContent-Disposition: form-data; name=\"files\"; filename=\"ZQ.jpg\"\nContent-Type: image/jpeg\n\n\xff\xd8\xff\n--b--\n", byte(asStaff|withFiles))
	f.Add("GET", "/assets/../guard.go", "Range: bytes=5-2\r\nIf-None-Match: ZQ\r\n", "", byte(0))
	f.Add("PUT", "*", "Cookie: healthpost_language=ZQ\r\n", "", byte(0))
	f.Add("GET", "http://ZQ/", "", "", byte(0))
	f.Add("CONNECT", "evil.example:443", "", "", byte(asStaff))
}

var namePattern = regexp.MustCompile(`<(?:input|textarea|select|button)[^>]* name="([^"]+)"(?:[^>]* value="([0-9a-f]{32})")?`)

// fields fills in the forms of a page: hidden ids as they are, everything else with the marker.
func fields(page string) string {
	var list []string
	for _, m := range namePattern.FindAllStringSubmatch(page, -1) {
		value := m[2]
		if value == "" {
			value = "ZQ"
		}
		if pair := m[1] + "=" + value; !slices.Contains(list, pair) {
			list = append(list, pair)
		}
	}
	return strings.Join(list, "&")
}

// FuzzRequest sends whatever a network can send to the page: the box is never to
// blame, nothing that was typed becomes markup, and nothing changes but by a form
// of this page's own whose sender is signed in.
func FuzzRequest(f *testing.F) {
	a := newAsker()
	addRequests(f, a)
	f.Fuzz(func(t *testing.T, method, target, header, body string, how byte) {
		fake, people, token := a.renew(t)
		rid := fake.rid(people.child, 1)
		before := fake.holds()
		text := requestText(people, rid, token, method, target, header, body, how)
		var got *httptest.ResponseRecorder
		fuzz.BoundedBy(t, pageBytesMax+uint64(len(text))*64, func() { got, _ = a.ask(text) })
		if got == nil {
			return
		}
		if err := fuzz.Answer(got.Code, got.Header(), got.Body.Bytes()); err != nil {
			t.Errorf("%s %q: %v", method, target, err)
		}
		if got.Code/100 != 3 && strings.HasPrefix(got.Header().Get("Content-Type"), "text/html") {
			if _, err := parsePage(got.Body.String()); err != nil {
				t.Errorf("%s %q: %v", method, target, err)
			}
		}
		may := method == http.MethodPost && how&fromAfar == 0 && how&asStaff != 0
		if after := fake.holds(); after != before && !may {
			t.Errorf("%s %q changed the box from %s to %s", method, target, before, after)
		}
		if bytes.Contains(got.Body.Bytes(), []byte(token)) {
			t.Error("the page shows the session's token")
		}
	})
}

// holds says in a line what a box holds.
func (f *fakeClinic) holds() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, list := range f.records {
		n += len(list)
	}
	return fmt.Sprintf("%d people, %d records, %d staff, %d forms, %d exchanges, %d stick jobs, %v faults",
		len(f.patients), n, len(f.staff), len(f.forms), f.syncNow, len(f.stickJobs), len(f.box.Faults))
}
