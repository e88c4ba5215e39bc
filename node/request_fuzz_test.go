package node_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/test/fuzz"
)

// requestBytesMax is what answering one request may allocate besides its own
// size: a page, or a tile of 256 entries.
const requestBytesMax = 16 << 20

// leaving is a browser that goes once it has the first part of an answer.
type leaving struct {
	*httptest.ResponseRecorder
	leave func()
}

func (l *leaving) FlushError() error { l.leave(); return errors.New("gone") }

// FuzzBox sends whatever a network can send to the handlers of a running box:
// page, commands and ledger. The commands are fuzzed as who may open their
// socket, so they may say no but nothing else may happen to the box.
func FuzzBox(f *testing.F) {
	c := newClinic(f)
	id := c.register("form-1", "Nakato")
	saved, err := c.n.SaveVisit(f.Context(), c.token, id, "form-2", fhir.Visit{At: time.Now(), Problem: "fever"})
	if err != nil {
		f.Fatal(err)
	}
	c.confirmed()
	handlers := c.n.Handlers()
	addRequests(f)
	f.Fuzz(func(t *testing.T, which byte, method, target, header, body string) {
		again(t, c)
		known := strings.NewReplacer("{patient}", id, "{rid}", saved.RID, "ZQ", url.QueryEscape(fuzz.Marker))
		text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: box.example\r\nContent-Length: %d\r\nCookie: healthpost_session=%s\r\nSec-Fetch-Site: same-origin\r\n%s\r\n%s",
			method, known.Replace(target), len(known.Replace(body)), c.token.Token, header, known.Replace(body))
		before := clinical(t, c)
		var got *httptest.ResponseRecorder
		fuzz.BoundedBy(t, requestBytesMax+64*uint64(len(text)), func() { got = ask(handlers[int(which)%len(handlers)], text) })
		if got == nil {
			return
		}
		page := int(which)%len(handlers) == 0
		switch {
		case got.Code >= 500 && got.Code != http.StatusServiceUnavailable && got.Code != http.StatusInsufficientStorage:
			t.Errorf("%s %q: status %d: %s", method, target, got.Code, got.Body)
		case page:
			if err := fuzz.Answer(got.Code, got.Header(), got.Body.Bytes()); err != nil {
				t.Errorf("%s %q: %v", method, target, err)
			}
		}
		if after := clinical(t, c); after != before && method != http.MethodPost {
			t.Errorf("%s %q made %d clinical records of %d", method, target, after, before)
		}
	})
}

// again signs in anew when an input has locked the page, as far as the box lets it.
func again(t *testing.T, c *clinic) {
	if _, err := c.n.Peek(t.Context(), c.token.Token); err == nil {
		return
	}
	tiles, err := c.n.Staff(t.Context())
	if err != nil || len(tiles) == 0 {
		t.Fatalf("got %d names, %v", len(tiles), err)
	}
	if token, err := c.n.SignIn(t.Context(), tiles[0].ID, pin); err == nil {
		c.token.Token = token
	}
}

func clinical(t *testing.T, c *clinic) int {
	n, err := c.n.Clinical()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ask is one request as bytes, from its own source; nil when it is no HTTP.
func ask(h http.Handler, text string) *httptest.ResponseRecorder {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r.RemoteAddr = "192.0.2.1:1234"
	w := httptest.NewRecorder()
	h.ServeHTTP(&leaving{w, cancel}, r.WithContext(ctx))
	return w
}

func addRequests(f *testing.F) {
	for _, target := range []string{"/", "/find/x", "/patient/{patient}", "/patient/{patient}/visit", "/patient/{patient}/file/" + strings.Repeat("ab", 32),
		"/patient/ZQ", "/records/{rid}/proof", "/root", "/links", "/stick", "/staff", "/events", "/states?rid={rid}&rid=ZQ&at=/links"} {
		f.Add(byte(0), "GET", target, "", "")
	}
	form := "Content-Type: application/x-www-form-urlencoded\r\n"
	id := strings.Repeat("ab", 16)
	f.Add(byte(0), "POST", "/find", form, "q=ZQ")
	f.Add(byte(0), "POST", "/register", form, "form="+id+"&given=ZQ&family=ZQ&sex=male&year=2020&village=ZQ")
	f.Add(byte(0), "POST", "/lock", "", "")
	f.Add(byte(0), "POST", "/patient/{patient}/visit", form, "form="+id+"&note=ZQ&problem=fever&temperature=38,5")
	f.Add(byte(0), "POST", "/patient/{patient}/details", form, "form="+id+"&base=0011223344556677.0&given=ZQ&family=B&sex=male")
	for _, target := range []string{"/status", "/members", "/staff", "/hubs", "/evidence", "/evidence/file?id=ZQ", "/dictionaries", "/region/keys", "/root",
		"/root/check?line=ZQ", "/record?rid={rid}", "/recovery", "/profile", "/export"} {
		f.Add(byte(1), "GET", target, "", "")
	}
	for target, body := range map[string]string{
		"/invite": `{"Role":2}`, "/sync?peer=ZQ": "", "/staff": `{"Name":"B","PIN":"271828"}`, "/prove": `{"record":"{rid}","body":true}`,
		"/hubs/approve?what=ZQ": "", "/hubs/expel": "", "/revoke": "{}", "/assign": `{"patients":["{patient}"]}`, "/release": "", "/recovery": `{"Keys":[]}`, "/keys/open": `{"passphrase":"ZQ"}`, "/keys/change": `{"to":{"file":"ZQ=="}}`,
		"/dictionaries": `{"people":1}`, "/import?name=a.json&dry=true": `{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Patient","name":[{"text":"ZQ"}]}}]}`,
		"/import?name=a.ndjson": `{"resourceType":"Patient","id":"1"}`, "/parcel/read": "HPP1\x8d\r\n\xf1", "/parcel/write?for=ZQ": "", "/verify": `{}`, "/evidence/clear": "",
	} {
		f.Add(byte(1), "POST", target, "", body)
	}
	for _, target := range []string{"/checkpoint", "/tile/0/000", "/tile/entries/000.p/3", "/tile/8/x999/999.p/0", "/tile/ZQ"} {
		f.Add(byte(2), "GET", target, "Range: bytes=0-3\r\n", "")
	}
}
