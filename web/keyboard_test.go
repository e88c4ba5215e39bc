package web_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// tabsMax is how often the Tab key may be needed to come to anything on a page.
const tabsMax = 60

// key presses one key where the focus is.
func (b *browser) key(k string) { b.t.Helper(); b.do(chromedp.KeyEvent(k)) }

// tabTo moves the focus forward to an element, and checks on the way that each stop shows it.
func (b *browser) tabTo(selector string) {
	b.t.Helper()
	for range tabsMax {
		b.key(kb.Tab)
		at := evaluate[[]string](b, `(function(){var e=document.activeElement,s=getComputedStyle(e);
var l=e.nextElementSibling?getComputedStyle(e.nextElementSibling):s;
return [e.matches(`+quote(selector)+`)?'1':'',(s.outlineStyle!=='none'&&s.outlineWidth!=='0px')||l.boxShadow!=='none'?'1':'',e.outerHTML.slice(0,80)]})()`)
		if at[1] == "" && !strings.HasPrefix(at[2], "<body") {
			b.t.Errorf("the focus does not show at %s", at[2])
		}
		if at[0] != "" {
			return
		}
	}
	b.t.Fatalf("no way by keys to %s", selector)
}

// enter presses Enter and waits for the next page.
func (b *browser) enter(heading string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepMax)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
		b.t.Fatalf("on the way to %s: %v", heading, err)
	}
	if got := b.text("h1"); got != heading {
		b.t.Fatalf("on page %q, want %q", got, heading)
	}
}

func TestBrowserKeysReachEverything(t *testing.T) {
	x := newFixture(t)
	b := newBrowser(t)
	b.size(1280, 800)
	b.open(x.server.URL + "/sign-in")
	b.tabTo("#staff-0")
	b.key(" ")
	b.tabTo("#pin")
	b.key(staffPIN)
	b.enter("Today")

	x.fake.setFaults(bannerFaults()...)
	b.open(x.server.URL + "/")
	b.key(kb.Tab)
	if got := evaluate[string](b, `document.activeElement.className`); got != "skip" {
		t.Errorf("the first stop is %q, want the way to the main part", got)
	}
	b.tabTo(".banner a")
	b.enter("Sending")
	b.tabTo(`form[action="/links/seen"] button`)
	b.enter("Sending")
	if got := b.text(".notice"); !strings.HasPrefix(got, "Noted.") {
		t.Errorf("notice %q", got)
	}
	b.tabTo(`a[href="/root"]`)
	b.enter("Weekly sheet")
	b.tabTo("button[data-print]")

	b.open(x.server.URL + "/patient/" + x.people.child)
	b.tabTo(`a[href^="/records/"]`)
	b.enter("Proof of a record")
	b.tabTo("#own")
	b.key(" ")
	if !strings.Contains(b.shown(), "This copy belongs to Eric Ndayisaba") {
		t.Error("the space bar does not tick the box for the own copy")
	}
	b.tabTo("button[data-print]")
	b.check()
}

func TestBrowserVisitByKeys(t *testing.T) {
	x := newFixture(t)
	b := newBrowser(t)
	b.size(1280, 800)
	b.signIn(x)
	b.open(x.server.URL + "/patient/" + x.people.adult)
	b.tabTo(`a[href$="/visit"]`)
	b.enter("Visit")
	b.tabTo("#danger-0")
	b.tabTo("#temperature")
	b.key("37,2")
	b.tabTo(`input[name="problem"]`)
	b.key(kb.ArrowDown)
	b.tabTo("#treatment")
	b.key("Rest")
	b.tabTo("main form[action$='/visit'] button.main")
	b.enter("Marie Chantal Uwimana")
	if got := b.text(".notice"); !strings.HasPrefix(got, "The visit is saved.") {
		t.Errorf("notice %q", got)
	}
	b.check()
}

func TestFaultsOfEveryKindInBothLanguages(t *testing.T) {
	for _, language := range []string{"en", "fr"} {
		x := newFixture(t)
		x.fake.box.Languages = []string{language}
		x.signIn()
		for _, f := range allFaults() {
			x.fake.setFaults(f)
			for _, path := range []string{"/", "/links"} {
				a := x.get(path)
				if _, err := parsePage(a.body); err != nil || a.status != 200 {
					t.Errorf("%s %s %s: status %d, %v", language, f.Code, path, a.status, err)
				}
				if text := words(a.body); strings.Contains(text, "{1}") || strings.Contains(text, "{2}") || missingKey.MatchString(text) || strings.Contains(text, "–.") {
					t.Errorf("%s %s %s: words missing: %s", language, f.Code, path, text)
				}
			}
			if a := x.post("/links/seen", url.Values{"code": {f.Code}}); a.status != 303 && a.status != 403 {
				t.Errorf("%s %s: reading it: status %d", language, f.Code, a.status)
			}
		}
	}
}
