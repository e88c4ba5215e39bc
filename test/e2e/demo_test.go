package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/healthpost/healthpost/test/rig"
)

// TestDemo is the README's first promise in a real browser: one command, cut a
// clinic's link on the console, save a visit there, see it stay on this box,
// restore the link, and watch it reach the regional record without a reload.
func TestDemo(t *testing.T) {
	pages := startDemo(t)
	console := newTab(t, context.Background())
	console.open(pages["Console"])
	console.click(`form:has(input[value="Clinic 1"]) button`)
	console.wait(`document.body.textContent.includes("Restore the link")`)

	clinic := newTab(t, console.ctx)
	clinic.open(pages["Clinic 1"])
	clinic.fill("input[name=pin]", "314159")
	clinic.click("main form button[type=submit]")
	clinic.wait(`location.pathname === "/"`)
	clinic.open(pages["Clinic 1"] + "/register")
	for field, text := range map[string]string{"#given": "Nakato", "#family": "Testova", "#ageYears": "3"} {
		clinic.fill(field, text)
	}
	clinic.click("#sex-female")
	clinic.click("main form button[type=submit]")
	clinic.wait(`location.pathname.startsWith("/patient/")`)
	clinic.open(clinic.text(`location.origin + location.pathname`) + "/visit")
	clinic.fill("[name=temperature]", "38,5")
	clinic.click("input[name=problem][value=fever]")
	clinic.click("main form button[type=submit]")
	const badge = `document.querySelector("main [data-rid]").textContent.replace(/\s+/g, " ").trim()`
	clinic.wait(`location.search.includes("saved=") && ` + badge + ` === "Saved here"`)
	clinic.wait(`document.body.textContent.includes("exists only in this building")`)

	console.click(`form:has(input[value="Clinic 1"]) button`)
	clinic.wait(badge + ` === "In the regional record"`)
	clinic.wait(`document.body.textContent.includes("Everything is in the regional record")`)
}

var demoPage = regexp.MustCompile(`^([A-Z][A-Za-z0-9 ]*): +(http://\S+)`)

// startDemo runs the demo and gives the addresses it prints. The test's end asks
// it to stop, as Ctrl-C does, and sees that no box is left running.
func startDemo(t *testing.T) map[string]string {
	t.Helper()
	cmd := exec.Command(rig.MustProgram(t), "demo", "--data", t.TempDir(), "--console", "127.0.0.1:0", "--no-open", "--patients", "2")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	lines := bufio.NewScanner(out)
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("stopping the demo: %v", err)
		}
		for lines.Scan() { // until its end, so that it can end
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); errors.As(err, &exit) {
			t.Errorf("the demo ended with %v:\n%s", err, log.String())
		}
		for name, page := range pages {
			if c, err := net.DialTimeout("tcp", strings.TrimPrefix(page, "http://"), time.Second); err == nil {
				c.Close()
				t.Errorf("%s still answers after the demo ended", name)
			}
		}
	})
	for lines.Scan() {
		if m := demoPage.FindStringSubmatch(lines.Text()); m != nil {
			pages[m[1]] = m[2]
		}
		if strings.HasPrefix(lines.Text(), "Stop with") {
			return pages
		}
	}
	t.Fatalf("the demo ended before it was ready:\n%s", log.String())
	return nil
}

// tab is one tab of a real browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

const (
	chromium = "/usr/bin/chromium"
	stepMax  = 3 * time.Minute
)

// newTab opens a browser, or another tab of the browser that parent belongs to.
func newTab(t *testing.T, parent context.Context) *tab {
	t.Helper()
	if chromedp.FromContext(parent) == nil {
		opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(chromium), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(stepMax)}
		for _, name := range []string{"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
			"disable-component-update", "disable-sync"} {
			opts = append(opts, chromedp.Flag(name, true))
		}
		var cancel context.CancelFunc
		parent, cancel = chromedp.NewExecAllocator(parent, opts...)
		t.Cleanup(cancel)
	}
	ctx, cancel := chromedp.NewContext(parent)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // the first call owns the browser: no timeout
		t.Fatalf("starting %s: %v", chromium, err)
	}
	return &tab{t, ctx}
}

func (b *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepMax)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%s: %v\n%s", what, err, b.text(`document.body ? location.href + "\n" + document.body.innerText : ""`))
	}
}

func (b *tab) open(url string) { b.t.Helper(); b.do("opening "+url, chromedp.Navigate(url)) }
func (b *tab) click(selector string) {
	b.t.Helper()
	b.do("pressing "+selector, chromedp.Click(chromedp.CSS(selector)))
}

func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.do("filling "+selector, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// wait returns when an expression is true in the page, across navigations.
func (b *tab) wait(expression string) {
	b.t.Helper()
	why := rig.Poll(stepMax, func() string {
		if got := b.text("String(Boolean(" + expression + "))"); got != "true" {
			return got
		}
		return ""
	})
	if why != "" {
		b.t.Fatalf("waiting for %s: %s\n%s", expression, why, b.text(`location.href + "\n" + (document.body ? document.body.innerText : "")`))
	}
}

func (b *tab) text(expression string) string {
	ctx, cancel := context.WithTimeout(b.ctx, stepMax)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		return err.Error()
	}
	return v
}
