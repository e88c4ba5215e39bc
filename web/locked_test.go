package web_test

import (
	"context"
	"fmt"
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
	fault error // of the chip
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

func (f *fakeLocked) OpenLockByPIN(_ context.Context, number int, pin string) error {
	f.tries = append(f.tries, fmt.Sprint(number, " ", pin))
	switch {
	case f.wait > 0:
		return &web.LockedError{Until: f.wait}
	case f.fault != nil:
		return f.fault
	case number != 3 || pin != staffPIN:
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

// A member's number and PIN open the box, in the digits of any script; what is wrong is told in words, and
// the PIN comes back nowhere.
func TestANumberAndAPINOpenALockedBox(t *testing.T) {
	x := newFixture(t)
	f := x.locked(true)
	try := func(number, pin string) answer { return x.post("/", url.Values{"number": {number}, "pin": {pin}}) }
	if a := try("3", staffPIN); a.status != http.StatusUnprocessableEntity || len(f.tries) != 0 {
		t.Errorf("a box that no PIN opens: status %d, %d tries", a.status, len(f.tries))
	}
	f.box.PIN = true
	for _, wrong := range []struct{ number, pin, says string }{
		{"", staffPIN, "Type your number"}, {"0", staffPIN, "Type your number"}, {"Amina", staffPIN, "Type your number"}, {"99999999", staffPIN, "Type your number"},
		{"3", "12345", "6 digits"}, {"3", "", "6 digits"}, {"3", "918273", "not right"}, {"4", staffPIN, "not right"},
	} {
		a := try(wrong.number, wrong.pin)
		if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, wrong.says) || wrong.pin != "" && strings.Contains(a.body, wrong.pin) {
			t.Errorf("number %q: status %d, says %s", wrong.number, a.status, words(a.body))
		}
	}
	for err, says := range map[error]string{web.ErrChipRests: "takes no PIN now", web.ErrNoChip: "does not answer", nil: "opening"} {
		f.fault = err
		if a := try("٣", staffPIN); !strings.Contains(a.body, says) || (a.status == http.StatusOK) != (err == nil) {
			t.Errorf("%v: status %d, says %s", err, a.status, words(a.body))
		}
	}
	f.wait = 90 * time.Second
	if a := try("3", staffPIN); !strings.Contains(a.body, "Too many wrong PINs. Wait 2 minutes") {
		t.Errorf("while the box takes no try: %s", words(a.body))
	}
	if strings.Contains(x.log.String(), staffPIN) {
		t.Error("a PIN is in the log")
	}
}
