package web_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/web"
)

const lockPassphrase = "copper lantern mosquito harvest violin"

// fakeLocked is a locked box that opens by lockPassphrase.
type fakeLocked struct {
	box   web.LockedBox
	tries []string
	wait  time.Duration
}

func (f *fakeLocked) Box(context.Context) web.LockedBox { return f.box }

func (f *fakeLocked) OpenLock(_ context.Context, passphrase string) error {
	f.tries = append(f.tries, passphrase)
	switch {
	case f.wait > 0:
		return &web.LockedError{Until: f.wait}
	case passphrase != lockPassphrase:
		return web.ErrWrongPIN
	}
	return nil
}

// locked serves the page of a locked box from here on.
func (x *fixture) locked(passphrase bool) *fakeLocked {
	x.t.Helper()
	f := &fakeLocked{box: web.LockedBox{Name: x.fake.box.Name, Languages: x.fake.box.Languages, Passphrase: passphrase}}
	x.serve(web.NewLocked(f, x.options()))
	return f
}

// Everything that the page of an open box has leads to the one that asks for the passphrase, for whoever
// has whatever cookie.
func TestEveryRouteOfALockedBoxShowsNothing(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	token := x.token()
	f := x.locked(true)
	open := map[string]bool{"/{$}": true}
	for _, rt := range web.LockedRoutes() {
		open[rt.Path] = true
	}
	for _, c := range append(calls(web.Routes()), calls(web.LockedRoutes())...) {
		if c.Post && c.Path == "/{$}" {
			continue
		}
		r := x.request(c)
		r.AddCookie(&http.Cookie{Name: "healthpost_session", Value: token})
		a := x.do(r)
		if err := armoured(c, a); err != nil {
			t.Errorf("%s: %v", c, err)
		}
		if !open[c.Path] && !(a.status == http.StatusSeeOther && a.location == "/") && a.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: status %d to %q", c, a.status, a.location)
		}
		for _, secret := range []string{"Uwimana", "Kibuye hospital", staffPIN} {
			if strings.Contains(a.body, secret) {
				t.Errorf("%s shows %q", c, secret)
			}
		}
	}
	if len(f.tries) != 0 {
		t.Errorf("%d tries were made by no passphrase", len(f.tries))
	}
}

func TestPassphrasesAreNeverShownLoggedOrTakenFromElsewhere(t *testing.T) {
	x := newFixture(t)
	f := x.locked(true)
	for _, from := range []string{"cross-site", "same-site"} {
		r, err := http.NewRequest(http.MethodPost, x.url+"/", strings.NewReader(url.Values{"passphrase": {lockPassphrase}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", from)
		if a := x.do(r); a.status != http.StatusForbidden {
			t.Errorf("from %s: status %d", from, a.status)
		}
	}
	x.get("/?passphrase=" + url.QueryEscape(lockPassphrase))
	if len(f.tries) != 0 {
		t.Error("a passphrase was taken from an address, or from another site")
	}
	for _, words := range []string{"", "mosquito wrong words", strings.Repeat("mosquito ", 80), lockPassphrase} {
		a := x.post("/", url.Values{"passphrase": {words}})
		if strings.Contains(a.body, "mosquito") || strings.Contains(a.location, "mosquito") {
			t.Errorf("%d bytes of passphrase come back", len(words))
		}
		if good := words == lockPassphrase; good != (a.status == http.StatusOK) || good != (a.header.Get("Refresh") != "") {
			t.Errorf("%d bytes of passphrase: status %d", len(words), a.status)
		}
	}
	f.wait = 90 * time.Second
	if a := x.post("/", url.Values{"passphrase": {lockPassphrase}}); !strings.Contains(a.body, "Wait 2 minutes") {
		t.Errorf("while the box takes no try: %s", words(a.body))
	}
	f.wait = 0
	for range 2 * web.TriesEach {
		x.post("/", url.Values{"passphrase": {"wrong"}})
	}
	if a := x.post("/", url.Values{"passphrase": {lockPassphrase}}); a.status != http.StatusTooManyRequests {
		t.Errorf("after many wrong ones from an address: status %d", a.status)
	}
	if strings.Contains(x.log.String(), "mosquito") {
		t.Error("a passphrase is in the log")
	}
}
