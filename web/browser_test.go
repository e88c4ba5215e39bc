package web_test

import (
	"context"
	"flag"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/web"
)

var shots = flag.String("shots", "", "write a picture of every screen to this folder")

// chromium is the browser these tests need; without it they fail.
const chromium = "/usr/bin/chromium"

// plainHost is a name that a browser does not take for a secure place, as it does localhost: a box in the
// building has such a name, and browsers then send no Sec-Fetch headers.
const plainHost = "clinic.home.arpa"

// stepMax bounds one step in the browser, on a busy machine.
const stepMax = 3 * time.Minute

// browser is one tab of a real browser, with what went wrong in it.
type browser struct {
	t   testing.TB
	ctx context.Context

	mu     sync.Mutex
	faults []string // script errors, refused loads, policy violations; guarded by mu
}

func newBrowser(t testing.TB) *browser {
	t.Helper()
	if _, err := os.Stat(chromium); err != nil {
		t.Fatalf("these tests need a browser at %s: %v", chromium, err)
	}
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(chromium), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(stepMax)}
	for _, name := range []string{"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
		"disable-component-update", "disable-sync", "hide-scrollbars"} {
		opts = append(opts, chromedp.Flag(name, true))
	}
	opts = append(opts, chromedp.Flag("host-resolver-rules", "MAP "+plainHost+" 127.0.0.1"))
	alloc, cancelAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() { cancel(); cancelAlloc() })
	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil { // the first call owns the browser: no timeout
		t.Fatal(err)
	}
	if err := chromedp.Listen(ctx, b.note); err != nil {
		t.Fatal(err)
	}
	b.call(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, log.Enable, cdp.Empty{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, target, runtime.Enable, cdp.Empty{})
		return err
	})
	return b
}

// note keeps script errors and what the browser logs as errors. A status that a page answers on
// purpose (422, 404) is not one of the page's faults.
func (b *browser) note(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		b.faults = append(b.faults, "script: "+ev.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		if ev.Entry.Level == "error" && !strings.Contains(ev.Entry.Text, "the server responded with a status of") {
			b.faults = append(b.faults, string(ev.Entry.Source)+": "+ev.Entry.Text)
		}
	}
}

// check fails the test when the browser saw a fault, or an answer it was not meant to get.
func (b *browser) check() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.faults {
		b.t.Errorf("browser: %s", f)
	}
	b.faults = nil
}

func (b *browser) call(f func(ctx context.Context, t *chromedp.Target) error) {
	b.t.Helper()
	b.do(chromedp.Func(f))
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepMax)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

func (b *browser) size(width, height int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height, chromedp.EmulateMobile, chromedp.EmulateTouch))
}

func (b *browser) scriptOff() {
	b.t.Helper()
	b.call(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	})
}

func (b *browser) open(url string) { b.t.Helper(); b.do(chromedp.Navigate(url)) }

// press clicks and waits for the next page.
func (b *browser) press(selector string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepMax)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		b.t.Fatalf("pressing %s: %v", selector, err)
	}
}

func (b *browser) click(selector string) { b.t.Helper(); b.do(chromedp.Click(chromedp.CSS(selector))) }

func (b *browser) typeIn(selector, text string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepMax)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("evaluating %s: %v", expression, err)
	}
	return v
}

func (b *browser) text(selector string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepMax)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.TextContent(chromedp.CSS(selector)))
	if err != nil {
		b.t.Fatalf("reading %s: %v", selector, err)
	}
	return strings.TrimSpace(spacePattern.ReplaceAllString(v, " "))
}

// waitText waits until an element reads as wanted.
func (b *browser) waitText(selector, want string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepMax)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Poll[bool](`document.querySelector(`+quote(selector)+`)?.textContent.replace(/\s+/g,' ').trim()===`+quote(want), chromedp.WithPollingTimeout(0)))
	if err != nil {
		b.t.Fatalf("%s reads %q, want %q: %v", selector, b.text(selector), want, err)
	}
}

func quote(s string) string {
	return `"` + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `"`, `\"`) + `"`
}

// signInBrowser signs in by tapping a name and typing the PIN.
func (b *browser) signIn(x *fixture) {
	b.t.Helper()
	b.open(x.server.URL + "/sign-in")
	b.click(`label[for="staff-0"]`)
	b.typeIn("#pin", staffPIN)
	b.press("main button.main")
	if got := b.text("h1"); got != "Today" {
		b.t.Fatalf("after sign in: %q", got)
	}
}

// useSession gives the browser the session of the fixture's client.
func (b *browser) useSession(x *fixture) {
	b.t.Helper()
	base, err := url.Parse(x.server.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	b.call(func(ctx context.Context, t *chromedp.Target) error {
		if _, err := cdp.Call(ctx, t, network.ClearBrowserCookies, cdp.Empty{}); err != nil {
			return err
		}
		for _, c := range x.client.Jar.Cookies(base) {
			if _, err := cdp.Call(ctx, t, network.SetCookie, network.SetCookieParams{Name: c.Name, Value: c.Value, URL: x.server.URL}); err != nil {
				return err
			}
		}
		return nil
	})
}

// heldPages serves answers that were got by posting, so that a browser can look at them.
type heldPages struct {
	http.Handler
	mu   sync.Mutex
	held answer // guarded by mu
}

func (h *heldPages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/held" {
		h.Handler.ServeHTTP(w, r)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range []string{"Content-Type", "Content-Security-Policy", "Cache-Control", "X-Content-Type-Options"} {
		w.Header().Set(name, h.held.header.Get(name))
	}
	_, _ = w.Write([]byte(h.held.body))
}

// tooSmall finds things to tap that are lower than a finger. Links inside sentences are let be.
const tooSmall = `Array.from(document.querySelectorAll('button,a.button,.menu a,.rows a,.line a,summary,.pick label,.tile label,input[type=text],input[type=tel],input[type=password],textarea'))
.filter(function(e){return e.offsetParent!==null && e.getBoundingClientRect().height<47.5}).map(function(e){return e.outerHTML.slice(0,80)+' '+e.getBoundingClientRect().height})`

// tooWide finds elements that stick out of the window.
const tooWide = `(function(){var w=document.documentElement.clientWidth,o=[];if(document.scrollingElement.scrollWidth>w)o.push('page '+document.scrollingElement.scrollWidth+' in '+w);
Array.from(document.querySelectorAll('main *')).forEach(function(e){var r=e.getBoundingClientRect();if(r.width>0&&r.right>w+1)o.push(e.outerHTML.slice(0,80))});return o.slice(0,5)})()`

func TestBrowserEveryPageFits(t *testing.T) {
	b := newBrowser(t)
	for _, c := range pageCases() {
		for _, language := range []string{"en", "fr"} {
			t.Run(c.name+"/"+language, func(t *testing.T) {
				b.t = t
				fake := newFake()
				x := &fixture{t: t, fake: fake, people: seed(t, fake), log: &strings.Builder{}}
				h := &heldPages{Handler: web.New(fake, x.options())}
				x.serve(h)
				fake.box.Languages = []string{language}
				if *shots != "" && !strings.Contains(c.name, "conflict") && c.name != "links" {
					fake.setState(x.people.conflict, chart.State{Kind: chart.Confirmed, Seq: 7}) // an ordinary day, for the pictures
				}
				h.held = c.show(x)
				b.useSession(x)
				b.size(320, 640)
				b.open(x.server.URL + "/held")
				for _, found := range evaluate[[]string](b, tooWide) {
					t.Errorf("too wide at 320: %s", found)
				}
				for _, found := range evaluate[[]string](b, tooSmall) {
					t.Errorf("too low to tap: %s", found)
				}
				evaluate[string](b, `document.documentElement.style.fontSize='200%'`)
				for _, found := range evaluate[[]string](b, tooWide) {
					t.Errorf("too wide at 320 with text at 200 %%: %s", found)
				}
				evaluate[string](b, `document.documentElement.style.fontSize=''`)
				if strings.HasPrefix(c.name, "links") {
					b.open(x.server.URL + "/links") // its script asks what is told at this address
				}
				b.picture(c.name, language)
				b.do(chromedp.Navigate("about:blank"))
				b.check()
			})
		}
	}
}

// picture writes what a phone of 360 by 740 shows, when asked to.
func (b *browser) picture(name, language string) {
	b.t.Helper()
	b.pictureAt(name+"-"+language, 360, 740)
	if strings.Contains(name, "proof") || name == "root" || strings.Contains(name, "faults") || strings.Contains(name, "banners") || name == "patient" {
		b.pictureAt(name+"-"+language+"-wide", 1280, 900)
	}
}

func (b *browser) pictureAt(name string, width, height int64) {
	b.t.Helper()
	if *shots == "" {
		return
	}
	b.size(width, height)
	ctx, cancel := context.WithTimeout(b.ctx, stepMax)
	defer cancel()
	for suffix, shot := range map[string]chromedp.Action[[]byte]{"": chromedp.CaptureScreenshot(), "-whole": chromedp.FullScreenshot(100)} {
		png, err := chromedp.Run(ctx, shot)
		if err != nil {
			b.t.Fatalf("picture: %v", err)
		}
		if err := os.WriteFile(filepath.Join(*shots, name+suffix+".png"), png, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

func TestBrowserVisitWithScriptOff(t *testing.T) {
	x := newFixture(t)
	b := newBrowser(t)
	b.size(360, 740)
	b.scriptOff()
	b.signIn(x)
	b.open(x.server.URL + "/register")
	b.typeIn("#given", "Olivier")
	b.typeIn("#family", "Nkusi")
	b.click(`label[for="sex-male"]`)
	b.typeIn("#ageYears", "3")
	b.press("main form button.main")
	if got := b.text("h1"); got != "Olivier Nkusi" {
		t.Fatalf("after registering: %q", got)
	}
	b.press("main a.button.main")
	b.click(`label[for="danger-0"]`)
	if act := b.text(".act"); !strings.Contains(act, "refer now") {
		t.Errorf("danger text %q", act)
	}
	b.typeIn("#temperature", "39,4")
	b.typeIn("#breaths", "52")
	b.click(`label[for="problem-fever"]`)
	b.typeIn("#treatment", "Paracetamol")
	b.press(`main form[action$="/visit"] button.main`)
	if got := b.text("h1"); got != "Check before saving" {
		t.Fatalf("danger sign without urgent led to %q", got)
	}
	b.click(`label[for="reason-2"]`)
	b.press("main button.main")
	if got := b.text(".notice"); got != "The visit is saved.Saved here" { // two elements: the words and the badge
		t.Errorf("notice %q", got)
	}
	card := b.text("article")
	for _, want := range []string{"39.4 °C", "52 /min", "Fever", "Paracetamol", "Cannot drink or breastfeed", "Saved here", "Checked before saving: Emergency."} {
		if !strings.Contains(card, want) {
			t.Errorf("chart lacks %q: %s", want, card)
		}
	}
	b.check()
}

func TestBrowserBadgesChangeLive(t *testing.T) {
	x := newFixture(t)
	b := newBrowser(t)
	b.size(360, 740)
	b.signIn(x)
	b.open(x.server.URL + "/patient/" + x.people.adult)
	b.waitText("article .badge", "Saved here")
	b.waitText("#line", "1 record was not accepted. 1 visit exists only in this building")
	x.fake.setState(x.people.conflict, chart.State{Kind: chart.Confirmed, Seq: 3})
	b.waitText("#line", "1 visit exists only in this building")
	x.fake.setState(x.people.adult, chart.State{Kind: chart.Copied, To: []string{"Nyanza hub"}})
	b.waitText("article .badge", "Copied to Nyanza hub")
	if got := evaluate[string](b, `document.querySelector('article .badge use').getAttribute('href')`); got != "#shape-copied" {
		t.Errorf("shape %q", got)
	}
	x.fake.setState(x.people.adult, chart.State{Kind: chart.Confirmed, Seq: 99})
	b.waitText("article .badge", "In the regional record")
	if got := evaluate[string](b, `document.querySelector('article .badge').className`); got != "badge confirmed" {
		t.Errorf("class %q", got)
	}
	b.check()
}

func TestBrowserLinksChangeLive(t *testing.T) {
	x := newFixture(t)
	b := newBrowser(t)
	b.size(360, 740)
	b.signIn(x)
	x.fake.setLink(web.SyncPage{Why: web.WhyNoLink}, web.Counts{OnlyHere: 4, VisitsOnlyHere: 4})
	b.open(x.server.URL + "/links")
	b.waitText("#now .why h2", "Why nothing moves")
	x.fake.setState(x.people.adult, chart.State{Kind: chart.Confirmed, Seq: 99})
	x.fake.setLink(web.SyncPage{}, web.Counts{})
	b.waitText("#now .big", "1 record exists only in this building")
	if n := evaluate[int](b, `document.querySelectorAll('.why').length`); n != 0 {
		t.Error("why nothing moves is still there")
	}
	b.check()
}

func TestBrowserThreeTapsSaveOnce(t *testing.T) {
	for _, script := range []bool{true, false} {
		t.Run(map[bool]string{true: "script on", false: "script off"}[script], func(t *testing.T) {
			x := newFixture(t)
			b := newBrowser(t)
			b.size(360, 740)
			if !script {
				b.scriptOff()
			}
			b.signIn(x)
			before := x.fake.visitCount(x.people.adult)
			b.open(x.server.URL + "/patient/" + x.people.adult + "/visit")
			b.click(`label[for="problem-pain"]`)
			point := evaluate[[]float64](b, `(function(){var s=document.querySelector('main form button.main');s.scrollIntoView();var r=s.getBoundingClientRect();return [r.left+20,r.top+20]})()`)
			b.do(chromedp.MouseClickXY(point[0], point[1]), chromedp.MouseClickXY(point[0], point[1]), chromedp.MouseClickXY(point[0], point[1]))
			b.do(chromedp.WaitVisible(chromedp.CSS(".notice")))
			if got := x.fake.visitCount(x.people.adult); got != before+1 {
				t.Errorf("%d new visits, want 1", got-before)
			}
			for id, asked := range x.fake.savesAsked() {
				if script && asked != 1 {
					t.Errorf("form %s was handed in %d times with script on, want 1", id, asked)
				}
			}
			if n := len(x.fake.savesAsked()); n != 1 {
				t.Errorf("%d form ids, want 1", n)
			}
			b.check()
		})
	}
}

func TestBrowserKeepsWhatIsTyped(t *testing.T) {
	x := newFixture(t)
	b := newBrowser(t)
	b.size(360, 740)
	b.signIn(x)
	form := x.server.URL + "/patient/" + x.people.adult + "/visit"
	b.open(form)
	b.typeIn("#note", "Came on foot")
	deadline := time.Now().Add(stepMax)
	for kept := false; !kept; { // the script rests before it sends; ask the page until the draft is there
		b.open(x.server.URL + "/")
		b.open(form)
		kept = evaluate[string](b, `document.getElementById('note').value`) == "Came on foot"
		if !kept && time.Now().After(deadline) {
			t.Fatal("what was typed is gone")
		}
		if !kept {
			b.do(chromedp.Evaluate[chromedp.Void](`void (document.getElementById('note').value = '')`)) // a part of it may have been kept
			b.typeIn("#note", "Came on foot")
			b.do(chromedp.Sleep(450 * time.Millisecond))
		}
	}
	if got := b.text(".notice"); !strings.Contains(got, "not saved yet") {
		t.Errorf("notice %q", got)
	}
	b.click(`label[for="problem-pain"]`)
	b.press(`main form[action$="/visit"] button.main`)
	b.open(form)
	if got := evaluate[string](b, `document.getElementById('note').value`); got != "" {
		t.Errorf("draft %q is still there after saving", got)
	}
	b.check()
}

func TestBrowserErrorSummaryTakesFocus(t *testing.T) {
	x := newFixture(t)
	b := newBrowser(t)
	b.size(360, 740)
	b.signIn(x)
	b.open(x.server.URL + "/patient/" + x.people.adult + "/visit")
	b.typeIn("#temperature", "390")
	b.press(`main form[action$="/visit"] button.main`)
	if got := evaluate[string](b, `document.activeElement.id`); got != "summary" {
		t.Errorf("focus on %q, want the summary", got)
	}
	if got := evaluate[string](b, `document.title`); !strings.HasPrefix(got, "Error: Visit") {
		t.Errorf("title %q", got)
	}
	b.click("#summary a")
	if got := evaluate[string](b, `document.activeElement.id+'='+document.activeElement.value`); got != "temperature=390" {
		t.Errorf("link leads to %q", got)
	}
	b.check()
}

func TestBrowserAtAPlainAddress(t *testing.T) {
	x := newFixture(t)
	x.server.URL = strings.Replace(x.server.URL, "127.0.0.1", plainHost, 1)
	b := newBrowser(t)
	b.size(360, 740)
	b.signIn(x)
	b.open(x.server.URL + "/patient/" + x.people.adult + "/visit")
	if evaluate[bool](b, "window.isSecureContext") {
		t.Fatal("the address is a secure place: this test shows nothing")
	}
	b.click(`label[for="problem-pain"]`)
	b.press(`main form[action$="/visit"] button.main`)
	if got := b.text(".notice"); !strings.HasPrefix(got, "The visit is saved.") {
		t.Errorf("notice %q", got)
	}
	x.fake.setState(x.people.adult, chart.State{Kind: chart.Confirmed})
	b.waitText("article .badge", "In the regional record")
	b.check()
}
