package web_test

import (
	"context"
	"fmt"
	"html"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/healthpost/healthpost/web"
)

// Text that would act if a page took it for markup. It comes from forms, from other boxes and from
// files: the fake keeps it in every text that it has, and all screens are shown with it.

// hostileMark is what all of it would do.
const hostileMark = "hit=1"

const (
	fewPayloads = 50
	textsEach   = 50 // texts that a fixture has, at least
)

// payloadCount is how many texts are tried: HEALTHPOST_PAYLOADS, or a few.
func payloadCount(t testing.TB) int {
	text := os.Getenv("HEALTHPOST_PAYLOADS")
	if text == "" {
		return fewPayloads
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("HEALTHPOST_PAYLOADS is %q: use a number", text)
	}
	return n
}

// pageLoads is how many pages are timed; more in the long form.
func pageLoads() int {
	if os.Getenv("HEALTHPOST_PAYLOADS") != "" {
		return 300
	}
	return 30
}

// payloads combines ways out of a place in a page with things that act there.
func payloads(n int) []string {
	outs := []string{"", `">`, `'>`, `"/>`, "</title>", "</textarea>", "</script>", "--><!---->", "]]>", `" `, "' ", "` ", "</style>", "</option></select>",
		"</svg>", "{{", "%22%3E", "&quot;>", "\x3e", `\"`, "</bdi></p>", "\uff1c", "\u00a0\">"}
	acts := []string{"<script>hit=1</script>", "<img src=x onerror=hit=1>", "<svg onload=hit=1>", "<svg><animate onbegin=hit=1 attributeName=x dur=1s>", "<iframe srcdoc='<script>parent.hit=1</script>'>",
		"<body onload=hit=1>", "<details open ontoggle=hit=1>", "<input autofocus onfocus=hit=1>", "<a href=javascript:hit=1>x</a>", "<math><mtext></mtext><script>hit=1</script></math>",
		"onmouseover=hit=1 autofocus onfocus=hit=1 x=", "<form action=javascript:hit=1><button autofocus>", "<object data=javascript:hit=1>", "<embed src=javascript:hit=1>", "<base href=//evil.example/>",
		"<meta http-equiv=refresh content='0;url=javascript:hit=1'>", "<link rel=stylesheet href=//evil.example/x.css>", "<style>*{background:url(//evil.example/hit=1)}</style>", "<video><source onerror=hit=1></video>", "<template><script>hit=1</script></template>",
		"javascript:hit=1//", "${hit=1}", "{{constructor.constructor('hit=1')()}}", "=cmd|'/c hit=1'!A0", "<ScRiPt >hit=1</ScRiPt >", "<svg><use href='data:image/svg+xml,<svg onload=hit=1>'/></svg>"}
	var all []string
	for round := 0; len(all) < n; round++ { // every way out with every act, in an order that varies both at once
		for i := range acts {
			all = append(all, outs[(i+round)%len(outs)]+acts[i])
		}
	}
	return all[:n]
}

// hostileFixture is a page whose box keeps hostile text; each text it has gets the next one from the
// one at first on.
func hostileFixture(t testing.TB, all []string, first int) (*fixture, *heldPages) {
	t.Helper()
	fake := newFake()
	next := first
	fake.taint = func(s string) string {
		p := all[next%len(all)]
		next++
		return s + " " + p
	}
	defer func() {
		if next-first < textsEach {
			t.Errorf("%d texts, want %d at least", next-first, textsEach)
		}
	}()
	x := &fixture{t: t, fake: fake, people: seed(t, fake), log: &strings.Builder{}}
	h := &heldPages{Handler: web.New(fake, x.options())}
	x.serve(h)
	return x, h
}

// hostileAnswer brings a screen up; nil when hostile names lead to another one.
func (c *pageCase) hostileAnswer(x *fixture) *answer {
	show := c.show
	if c.name == "same" { // who is looked for has the name that is there
		show = func(x *fixture) answer {
			x.signIn()
			x.fake.mu.Lock()
			row := x.fake.viewLocked(x.people.child).Row
			x.fake.mu.Unlock()
			return x.post("/register", with(hidden(x.get("/register").body, "/register"), "given", row.Given, "family", row.Family, "sex", "male", "ageYears", "2"))
		}
	}
	a := show(x)
	if a.status != c.status {
		return nil
	}
	return &a
}

func TestHostileTextStaysText(t *testing.T) {
	all := payloads(payloadCount(t))
	shown := map[string]bool{}
	for first := 0; first < len(all); first += textsEach {
		for _, c := range pageCases() {
			if len(all) == fewPayloads && shown[c.template] {
				continue
			}
			x, _ := hostileFixture(t, all, first)
			a := c.hostileAnswer(x)
			x.server.Close()
			if a == nil {
				continue
			}
			shown[c.template] = true
			if err := harmless(a.body); err != nil {
				t.Errorf("%s, texts from %d on: %v", c.name, first, err)
			}
		}
	}
	for _, c := range pageCases() {
		if !shown[c.template] {
			t.Errorf("the screen %s was never shown with hostile text", c.template)
		}
	}
}

// harmless tells whether a page has the elements of its templates and no others that act.
func harmless(body string) error {
	elements, err := parsePage(body)
	if err != nil {
		return err
	}
	scripts := 0
	for _, e := range elements {
		switch e.name {
		case "script":
			scripts++
		case "iframe", "object", "embed", "base", "style", "math", "video", "template", "animate":
			return fmt.Errorf("<%s> is in the page", e.name)
		}
		for name, value := range e.attrs {
			if strings.HasPrefix(name, "on") || name == "style" || name == "srcdoc" {
				return fmt.Errorf("<%s> has %s", e.name, name)
			}
			if link := strings.ToLower(html.UnescapeString(value)); (name == "href" || name == "src" || name == "action") && !strings.HasPrefix(link, "/") && !strings.HasPrefix(link, "#") && !strings.HasPrefix(link, "data:image/jpeg;base64,") {
				return fmt.Errorf("<%s> leads to %q", e.name, value)
			}
		}
	}
	if scripts != 1 {
		return fmt.Errorf("%d scripts, want the page's own", scripts)
	}
	return nil
}

func TestBrowserRunsNoHostileText(t *testing.T) {
	n := payloadCount(t)
	all, b := payloads(n), newBrowser(t)
	b.dismissDialogs()
	for first := 0; first < len(all); first += textsEach {
		seen := map[string]bool{}
		for _, c := range pageCases() {
			if n == fewPayloads && seen[c.template] {
				continue
			}
			seen[c.template] = true
			x, h := hostileFixture(t, all, first)
			b.t = t
			a := c.hostileAnswer(x)
			if a == nil {
				continue
			}
			h.held = *a
			b.open(x.server.URL + "/held")
			if evaluate[bool](b, `typeof window.hit!=='undefined'`) {
				t.Errorf("%s, texts from %d on: something acted", c.name, first)
			}
			b.do(chromedp.Navigate("about:blank"))
			b.check()
			x.server.Close()
		}
	}
}

// The control: text that a page does not escape acts where there is no policy, is stopped where there is
// one, and both are seen.
func TestBrowserSeesUnescapedText(t *testing.T) {
	x, h := hostileFixture(t, []string{`"><img src=x onerror=hit=1>`}, 0)
	x.signIn()
	a := x.get("/patient/" + x.people.child)
	if harmless(a.body) != nil {
		t.Fatal("the page is not harmless to begin with")
	}
	a.body = html.UnescapeString(a.body)
	if harmless(a.body) == nil {
		t.Error("unescaped text passes for harmless")
	}
	b := newBrowser(t)
	b.dismissDialogs()
	b.useSession(x)
	h.held = a
	b.open(x.server.URL + "/held")
	waitFor(b, `performance.getEntriesByType('navigation')[0].loadEventEnd>0`)
	if evaluate[bool](b, `typeof window.hit!=='undefined'`) {
		t.Error("a script ran against the policy")
	}
	b.do(chromedp.Navigate("about:blank"))
	b.mu.Lock()
	if len(b.faults) == 0 {
		t.Error("what the policy stopped was not seen")
	}
	b.mu.Unlock()
	h.held.header = a.header.Clone()
	h.held.header.Del("Content-Security-Policy")
	b.open(x.server.URL + "/held")
	waitFor(b, `typeof window.hit!=='undefined'`)
}

func waitFor(b *browser, expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepMax)
	defer cancel()
	for {
		_, err := chromedp.Run(ctx, chromedp.Poll[bool](expression))
		if err == nil {
			return
		}
		if ctx.Err() != nil { // before that: the page was left while it was asked
			b.t.Fatalf("waiting for %s: %v", expression, err)
		}
	}
}

// dismissDialogs closes what a page opens, and counts it as a fault.
func (b *browser) dismissDialogs() {
	b.t.Helper()
	if err := chromedp.Listen(b.ctx, func(ev any) {
		if d, ok := ev.(*page.EventJavascriptDialogOpening); ok {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.faults = append(b.faults, "dialog: "+d.Message)
		}
	}); err != nil {
		b.t.Fatal(err)
	}
}

// After the screen is locked, nothing of a patient comes back with the back button.
func TestBrowserShowsNothingAfterLocking(t *testing.T) {
	x := newFixture(t)
	b := newBrowser(t)
	b.size(360, 740)
	b.signIn(x)
	b.open(x.server.URL + "/patient/" + x.people.child)
	if !strings.Contains(b.text("main"), "Ndayisaba") {
		t.Fatal("the chart is not shown to begin with")
	}
	b.open(x.server.URL + "/patient/" + x.people.child + "/visit")
	b.press(".lock button")
	for range 3 {
		was := evaluate[string](b, `location.href`)
		b.do(chromedp.Evaluate[chromedp.Void](`void setTimeout(function(){history.back()},0)`))
		waitFor(b, `document.readyState==='complete'&&location.href!==`+quote(was))
		if got := evaluate[string](b, `document.documentElement.outerHTML`); strings.Contains(got, "Ndayisaba") {
			t.Errorf("after locking, the back button shows a patient at %s", evaluate[string](b, `location.pathname`))
		}
	}
	b.check()
}
