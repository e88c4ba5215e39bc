package web_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/web"
)

// testAuthority stands for a certificate; the page only shows and gives it.
var testAuthority = []byte("a certificate of the box at Kibuye")

// from asks a handler as somebody at an address of the clinic's network, over TLS or not.
func (x *fixture) from(h http.Handler, address string, secure bool, r *http.Request) answer {
	r.RemoteAddr, r.Host = address, "clinic.home.arpa:8080"
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(10, 77, 0, 1), Port: 8080}))
	if strings.HasPrefix(address, "127.") {
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}))
	}
	if secure {
		r.TLS = &tls.ConnectionState{}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return answer{w.Code, w.Body.String(), w.Header(), w.Header().Get("Location")}
}

// trustPage is the set-up page as the box's own screen shows it.
func (x *fixture) trustPage() answer {
	opts := x.options()
	opts.Authority = testAuthority
	return x.from(web.New(x.fake, opts), "127.0.0.1:40000", false, httptest.NewRequest(http.MethodGet, "/trust", nil))
}

const tablet = "10.77.0.23:40000"

func TestPlainHTTPOnTheNetworkShowsHowToTrustAndNothingElse(t *testing.T) {
	x := newFixture(t)
	opts := x.options()
	opts.Authority = testAuthority
	h := web.New(x.fake, opts)
	token, err := x.fake.SignIn(t.Context(), staffID, staffPIN)
	if err != nil {
		t.Fatal(err)
	}
	before := x.fake.state()
	open := map[string]bool{"/trust": true, "/trust/authority": true, "/language": true, "/assets/{file}": true}
	for _, c := range calls(web.Routes()) {
		r := x.request(c)
		r.Header.Set("Cookie", "healthpost_session="+token)
		a := x.from(h, tablet, false, r)
		switch {
		case open[c.Path]:
			if a.status >= 500 || a.status == http.StatusForbidden {
				t.Errorf("%s: status %d", c, a.status)
			}
		case c.method == http.MethodPost || c.Machine:
			if a.status != http.StatusForbidden {
				t.Errorf("%s: status %d, want 403", c, a.status)
			}
		case c.Path == "/{$}":
			if a.status != http.StatusSeeOther || a.location != "/trust" {
				t.Errorf("%s: status %d to %q, want the page that explains", c, a.status, a.location)
			}
		case a.status != http.StatusSeeOther || !strings.HasPrefix(a.location, "https://clinic.home.arpa:8080/"):
			t.Errorf("%s: status %d to %q, want TLS", c, a.status, a.location)
		}
		if strings.Contains(a.body, "Ndayisaba") || strings.Contains(a.body, "Amina") {
			t.Errorf("%s over plain HTTP names a person", c)
		}
		if err := armoured(c, a); err != nil && !open[c.Path] {
			t.Errorf("%s: %v", c, err)
		}
	}
	if after := x.fake.state(); after != before {
		t.Errorf("the box changed: %s, before %s", after, before)
	}
	// on the box itself, and where somebody chose it, plain HTTP is the page
	home := func() *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Cookie", "healthpost_session="+token)
		return r
	}
	if a := x.from(h, "10.77.0.1:40000", false, home()); a.status != http.StatusOK {
		t.Errorf("on the box, by its own address: status %d", a.status)
	}
	if a := x.from(h, "127.0.0.1:40000", false, home()); a.status != http.StatusOK {
		t.Errorf("on the box: status %d", a.status)
	}
	opts.LANPlain = true
	if a := x.from(web.New(x.fake, opts), tablet, false, home()); a.status != http.StatusOK {
		t.Errorf("with lan_plain: status %d", a.status)
	}
}

func TestCookiesAndHeadersUnderTLS(t *testing.T) {
	x := newFixture(t)
	opts := x.options()
	opts.Authority = testAuthority
	h := web.New(x.fake, opts)
	post := func(path string, v url.Values) *http.Request {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(v.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return r
	}
	for path, v := range map[string]url.Values{"/sign-in": {"staff": {staffID}, "pin": {staffPIN}}, "/language": {"language": {"fr"}}, "/lock": {}} {
		a := x.from(h, tablet, true, post(path, v))
		cookie := a.header.Get("Set-Cookie")
		for _, want := range []string{"__Host-", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"} {
			if !strings.Contains(cookie, want) {
				t.Errorf("%s: cookie %q lacks %q", path, cookie, want)
			}
		}
		if strings.Contains(cookie, "Domain") || a.header.Get("Strict-Transport-Security") == "" {
			t.Errorf("%s: cookie %q, headers %v", path, cookie, a.header)
		}
	}
	// a session that was begun over plain HTTP is none under TLS
	token, err := x.fake.SignIn(t.Context(), staffID, staffPIN)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Cookie", "healthpost_session="+token)
	if a := x.from(h, tablet, true, r); a.status != http.StatusSeeOther {
		t.Errorf("a cookie that plain HTTP could have set is taken under TLS: status %d", a.status)
	}
	if a := x.get("/trust"); a.status != http.StatusNotFound {
		t.Errorf("a box without an authority explains how to trust it: status %d", a.status)
	}
}

func TestTheTrustPageShowsTheFingerprint(t *testing.T) {
	body := newFixture(t).trustPage().body
	sum := sha256.Sum256(testAuthority)
	_, rest, _ := strings.Cut(body, `<p class="id">`)
	shown, _, _ := strings.Cut(rest, "</p>")
	if got := strings.ReplaceAll(words(shown), " ", ""); got != strings.ToUpper(hex.EncodeToString(sum[:])) {
		t.Errorf("the page shows %q, want the SHA-256 of what it gives", got)
	}
}
