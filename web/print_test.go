package web_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/healthpost/healthpost/web"
)

// media makes the browser show a page as for "print" or "screen".
func (b *browser) media(kind string) {
	b.t.Helper()
	b.call(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: kind})
		return err
	})
}

// paper is a sheet of paper; a dot of the browser is 1/96 inch.
type paper struct {
	name          string
	width, height float64 // mm
}

var papers = []paper{{"A4", 210, 297}, {"A5", 148, 210}, {"letter", 215.9, 279.4}}

const mmInch, dotsInch = 25.4, 96

// pdf prints the page.
func (b *browser) pdf(p paper) []byte {
	b.t.Helper()
	var out []byte
	b.call(func(ctx context.Context, t *chromedp.Target) error {
		res, err := cdp.Call(ctx, t, page.PrintToPDF, page.PrintToPDFParams{PaperWidth: p.width / mmInch, PaperHeight: p.height / mmInch})
		out = res.Data
		return err
	})
	return out
}

var pdfPage = regexp.MustCompile(`/Type\s*/Page\b[^s]`)

// shown is the text a page shows, which leaves out what its style hides.
func (b *browser) shown() string {
	b.t.Helper()
	return strings.TrimSpace(spacePattern.ReplaceAllString(evaluate[string](b, `document.body.innerText`), " "))
}

func TestBrowserSheetsOnPaper(t *testing.T) {
	for language, check := range map[string]string{"en": "How to check this paper", "fr": "Comment vérifier ce papier"} {
		x := newFixture(t)
		x.fake.box.Languages = []string{language}
		x.fake.setFaults(bannerFaults()...)
		x.signIn()
		b := newBrowser(t)
		b.size(360, 740)
		b.useSession(x)
		for name, path := range map[string]string{"proof": x.proofPath(x.people.child), "root": "/root"} {
			b.open(x.server.URL + path)
			b.onOnePage(name + "-" + language)
			b.media("print")
			text := b.shown()
			for _, screen := range []string{"Today", "Envoi", "Sending", "Lock", "Français", "regional records", "Amina", "Eric", "Kibuye", "Go to the main part", "healthpost 0.1.0"} {
				if strings.Contains(text, screen) {
					t.Errorf("%s: the paper holds %q: %s", name, screen, text)
				}
			}
			if !strings.Contains(text, "Lake region") || !strings.Contains(text, check) {
				t.Errorf("%s: the paper holds only %s", name, text)
			}
			b.media("")
			if name == "proof" {
				b.click(`label[for="own"]`)
				b.onOnePage("own-" + language)
			}
		}
		b.check()
	}
}

// onOnePage prints the page on each paper.
func (b *browser) onOnePage(name string) {
	b.t.Helper()
	for _, p := range papers {
		out := b.pdf(p)
		if n := len(pdfPage.FindAll(out, -1)); n != 1 {
			b.t.Errorf("%s takes %d pages of %s, want one", name, n, p.name)
		}
		if *shots != "" {
			if err := os.WriteFile(filepath.Join(*shots, name+"-"+p.name+".pdf"), out, 0o644); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

func TestBrowserOwnCopyHasTheName(t *testing.T) {
	for _, script := range []bool{true, false} {
		x := newFixture(t)
		b := newBrowser(t)
		b.size(360, 740)
		if !script {
			b.scriptOff()
		}
		b.signIn(x)
		x.signIn()
		b.open(x.server.URL + x.proofPath(x.people.child))
		b.media("print")
		if text := b.shown(); strings.Contains(text, "Eric") {
			t.Errorf("the name is printed without asking: %s", text)
		}
		b.media("")
		b.click(`label[for="own"]`)
		b.media("print")
		if text := b.shown(); !strings.Contains(text, "This copy belongs to Eric Ndayisaba") {
			t.Errorf("the person's own copy has no name: %s", text)
		}
		b.media("")
		if got := evaluate[bool](b, `document.querySelector('button[data-print]').offsetParent!==null`); got != script {
			t.Errorf("button to print is shown: %v, want %v", got, script)
		}
		b.check()
	}
}

func TestBrowserCodesReadFromThePrintedPage(t *testing.T) {
	x := newFixture(t)
	b := newBrowser(t)
	b.size(360, 740)
	b.signIn(x)
	x.signIn()
	path := x.proofPath(x.people.child)
	b.media("print")
	for _, letters := range []int{900, 1500, 1805, web.ProofPayloadMax} {
		x.fake.proof.Payload = alphanumeric(letters)
		for _, p := range papers {
			width := int64((p.width - 24) / mmInch * dotsInch)
			b.do(chromedp.EmulateViewport(width, int64(p.height/mmInch*dotsInch), chromedp.EmulateScale(2))) // 192 dots an inch, the least a printer makes
			b.open(x.server.URL + path)
			b.paperPicture(fmt.Sprintf("paper-%d-%s", letters, p.name))
			got := b.readScreen()
			if got != x.fake.proof.Payload {
				t.Errorf("%d letters on %s: read %.20q", letters, p.name, got)
			}
		}
	}
	b.open(x.server.URL + "/root")
	b.paperPicture("paper-root")
	if got := b.readScreen(); got != x.fake.root.Line {
		t.Errorf("weekly sheet: read %q", got)
	}
	b.check()
}

// paperPicture writes what the paper shows, when pictures are asked for.
func (b *browser) paperPicture(name string) {
	b.t.Helper()
	if *shots == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, stepMax)
	defer cancel()
	shot, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatalf("picture: %v", err)
	}
	if err := os.WriteFile(filepath.Join(*shots, name+".png"), shot, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// readScreen reads the code that the browser shows.
func (b *browser) readScreen() string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepMax)
	defer cancel()
	shot, err := chromedp.Run(ctx, chromedp.Screenshot(chromedp.CSS("svg.qr")))
	if err != nil {
		b.t.Fatalf("picture: %v", err)
	}
	text, err := readCode(decodePNG(b.t, bytes.TrimSpace(shot)))
	if err != nil {
		b.t.Errorf("reading the code: %v", err)
	}
	return text
}

func TestBrowserBannersChangeLive(t *testing.T) {
	x := newFixture(t)
	b := newBrowser(t)
	b.size(360, 740)
	b.signIn(x)
	if n := evaluate[int](b, `document.querySelectorAll('.banner').length`); n != 0 {
		t.Fatalf("%d banners on a good day", n)
	}
	x.fake.setFaults(web.Fault{Code: "split_view"})
	b.waitText("#banners", "The hubs signed two different regional records. Nothing more is confirmed here. Saving goes on, nothing is lost.")
	x.fake.setFaults(web.Fault{Code: "restored", Args: []string{"2", "Nyanza hub"}})
	b.waitText("#banners", "This box was set back. 2 records came back from Nyanza hub.")
	b.press("#banners a")
	if got := evaluate[string](b, `location.pathname+location.hash`); got != "/links#faults" {
		t.Errorf("a banner leads to %s", got)
	}
	x.fake.setFaults(web.Fault{Code: "restored", Args: []string{"3", "Nyanza hub"}})
	b.waitText("#banners", "Something here has changed. Show this page again.")
	b.press("#banners a")
	if got := b.text("#faults h3"); got != "This box was set back. 3 records came back from Nyanza hub." {
		t.Errorf("the page shown again says %q", got)
	}
	b.waitText("#banners", "")
	b.press(`form[action="/links/seen"] button`)
	b.waitText(".notice", "Noted. It is not shown again unless it happens again.")
	b.open(x.server.URL + "/")
	x.fake.setFaults()
	b.waitText("#banners", "")
	b.check()
}
