package web_test

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"github.com/healthpost/healthpost/web"
)

func TestEveryFaultSaysWhatItMeansAndWhatToDo(t *testing.T) {
	for language, c := range catalogues(t) {
		for _, code := range append(web.FaultCodes(), "unknown") {
			for _, part := range []string{"what", "means", "do", "call"} {
				key := "fault." + code + "." + part
				if !c.Has(key) && !(c.Has(key+".one") && c.Has(key+".other")) {
					t.Errorf("%s: no words for %s", language, key)
				}
			}
		}
	}
}

func TestFaultWords(t *testing.T) {
	all := catalogues(t)
	for _, c := range []struct {
		language string
		fault    web.Fault
		want     string
	}{
		{"en", web.Fault{Code: "restored", Args: []string{"1", "Nyanza hub"}}, "This box was set back. 1 record came back from Nyanza hub."},
		{"en", web.Fault{Code: "restored", Args: []string{"14", "Nyanza hub"}}, "This box was set back. 14 records came back from Nyanza hub."},
		{"en", web.Fault{Code: "restored"}, "This box was set back. 0 records came back from –."},
		{"fr", web.Fault{Code: "stale_view", Args: []string{"2026-11-19T08:30:00Z"}}, "Le registre régional vu ici est ancien : 19 nov. 2026, 08:30."},
		{"en", web.Fault{Code: "stale_view", Args: []string{"yesterday"}}, "The regional record seen here is old: yesterday."},
		{"en", web.Fault{Code: "promise_broken"}, "– took records but did not pass them on."},
		{"en", web.Fault{Code: "{2}"}, "Something is wrong ({2})."},
	} {
		if got := web.FaultWhat(all[c.language], c.fault); got != c.want {
			t.Errorf("%+v: %q, want %q", c.fault, got, c.want)
		}
	}
}

func TestReadFaultsGoAway(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	x.fake.setFaults(web.Fault{Code: "restored", Args: []string{"3", "Nyanza hub"}}, web.Fault{Code: "split_view"})
	page := x.get("/links")
	if n := strings.Count(page.body, `action="/links/seen"`); n != 1 {
		t.Fatalf("%d buttons to say that a fault was read, want 1", n)
	}
	form := hidden(page.body, "/links/seen")
	if got := form.Get("code"); got != "restored" {
		t.Fatalf("the button is for %q", got)
	}
	after := x.follow(x.post("/links/seen", form))
	if strings.Contains(after.body, "came back") || !strings.Contains(after.body, "Noted.") {
		t.Errorf("after reading: %s", words(after.body))
	}
	for code, want := range map[string]int{"split_view": 403, "": 400, strings.Repeat("x", 41): 400, "nothing_like_it": 303} {
		if a := x.post("/links/seen", url.Values{"code": {code}}); a.status != want {
			t.Errorf("code %.20q: status %d, want %d", code, a.status, want)
		}
	}
	if a := x.get("/"); !strings.Contains(a.body, "The hubs signed two different regional records.") {
		t.Error("a lasting fault could be dismissed")
	}
}

func TestBannersOnEveryPage(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	x.fake.setFaults(bannerFaults()...)
	for _, path := range []string{"/", "/find", "/register", "/staff", "/root", "/patient/" + x.people.child} {
		a := x.get(path)
		first, second := strings.Index(a.body, "The hubs signed two"), strings.Index(a.body, "The regional record seen here is old")
		if first < 0 || second < first {
			t.Errorf("%s: grave fault at %d, the next at %d", path, first, second)
		}
		if n := strings.Count(a.body, `<div class="banner`); n != 4 {
			t.Errorf("%s: %d banners, want three and one that counts the rest", path, n)
		}
		if !strings.Contains(a.body, "1 more thing is wrong") {
			t.Errorf("%s does not say that there is more", path)
		}
	}
	if a := x.get("/links"); strings.Contains(a.body, `class="banner`) || strings.Count(a.body, `<div class="fault `) != 4+1 { // and the fault of a peer
		t.Error("the page of links tells a fault twice, or not at all")
	}
	x.post("/lock", nil)
	a := x.get("/sign-in")
	if !strings.Contains(a.body, "The hubs signed two") || strings.Contains(a.body, "came back") {
		t.Error("before sign in the grave fault and only that one is told")
	}
}

func TestNothingIsWellWhileTheRecordIsInDoubt(t *testing.T) {
	x := newFixture(t)
	x.emptyBox()
	x.fake.box.NeedsFirstStaff = false
	x.fake.counts = web.Counts{Confirmed: 12}
	for _, code := range []string{"split_view", "reset_conflict"} {
		x.fake.setFaults(web.Fault{Code: code})
		if a := x.get("/sign-in"); strings.Contains(a.body, "Everything is in the regional record") || !strings.Contains(a.body, "The regional record is in doubt") {
			t.Errorf("%s: the line says %s", code, words(a.body))
		}
	}
	x.fake.setFaults()
	if a := x.get("/sign-in"); !strings.Contains(a.body, "Everything is in the regional record") {
		t.Error("without doubt the line does not say so")
	}
}

func TestStatesTellOfBanners(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	ask := func() (answer struct{ Banners, Tag string }) {
		t.Helper()
		if err := json.Unmarshal([]byte(x.get("/states").body), &answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	none := ask()
	x.fake.setFaults(web.Fault{Code: "other_ledger", Args: []string{`<b>"Rubavu"</b>`}})
	one := ask()
	if none.Banners != "" || one.Tag == none.Tag {
		t.Errorf("banners %q under %q, then %q under %q", none.Banners, none.Tag, one.Banners, one.Tag)
	}
	if strings.Contains(one.Banners, "<b>\"") || !strings.Contains(one.Banners, "&lt;b&gt;") {
		t.Errorf("a name is taken for markup: %s", one.Banners)
	}
	if page := x.get("/"); !strings.Contains(page.body, `data-tag="`+one.Tag+`"`) {
		t.Error("the page has another tag than the script is told")
	}
}

func TestProofsOfConfirmedRecordsOnly(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	child, adult := x.get("/patient/"+x.people.child), x.get("/patient/"+x.people.adult)
	if n := len(proofLink.FindAllString(child.body, -1)); n != 2 { // of the older visit and the vaccination; the new visit has no place yet
		t.Errorf("%d links to proofs for the child, want 2", n)
	}
	if n := len(proofLink.FindAllString(adult.body, -1)); n != 0 {
		t.Errorf("%d links to proofs for a visit that waits, want none", n)
	}
	for path, want := range map[string]int{
		"/records/" + x.fake.rid(x.people.adult, 1) + "/proof": 409, "/records/" + strings.Repeat("0", 64) + "/proof": 404,
		"/records/%3Cscript%3E/proof": 404, "/records//proof": 404, x.proofPath(x.people.child): 200,
	} {
		if a := x.get(path); a.status != want && a.status != 301 && a.status != 307 {
			t.Errorf("%s: status %d, want %d", path, a.status, want)
		}
	}
	x.fake.proof.Payload = alphanumeric(web.ProofPayloadMax + 1)
	if a := x.get(x.proofPath(x.people.child)); a.status != 500 {
		t.Errorf("a proof that fits no code: status %d, want 500", a.status)
	}
}

// printed is what a sheet's paper shows: the page without what the print style hides. It holds the
// name only in an element that is hidden until the box is ticked.
var ownName = regexp.MustCompile(`<p class="own-name" hidden>.*?</p>`)

func TestPrintedProofTellsNothingOfAPerson(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	a := x.get(x.proofPath(x.people.child))
	_, rest, _ := strings.Cut(a.body, `<section class="sheet"`)
	sheet, _, _ := strings.Cut(rest, "</section>")
	title, _, _ := strings.Cut(a.body, "</head>")
	if !ownName.MatchString(sheet) || strings.Count(a.body, "Eric Ndayisaba") != 2 {
		t.Fatalf("the name stands %d times, want once for the screen and once hidden", strings.Count(a.body, "Eric Ndayisaba"))
	}
	paper := title + ownName.ReplaceAllString(sheet, "")
	for _, secret := range []string{"Eric", "Ndayisaba", "Rubavu", "Malaria", "Measles", "Artemether", "Jean Habimana", "Kibuye clinic", x.people.child} {
		if strings.Contains(paper, secret) {
			t.Errorf("the paper holds %q", secret)
		}
	}
}

// drawn paints the QR code of a page as a printer does, with dots of a module.
func drawn(t testing.TB, body string, dots int) *image.Gray {
	t.Helper()
	m := regexp.MustCompile(`<svg class="qr"[^>]*viewBox="0 0 (\d+) (\d+)"[^>]*>.*?<path d="([^"]*)"`).FindStringSubmatch(body)
	if m == nil {
		t.Fatal("no code on the page")
	}
	side, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	img := image.NewGray(image.Rect(0, 0, side*dots, side*dots))
	for i := range img.Pix {
		img.Pix[i] = 0xff
	}
	x, y := 0, 0
	for _, step := range regexp.MustCompile(`[Mmh][^Mmh]+`).FindAllString(m[3], -1) {
		var at [2]int
		for i, n := range strings.Fields(strings.TrimSuffix(step[1:], ".5")) {
			if at[i], err = strconv.Atoi(n); err != nil {
				t.Fatal(err)
			}
		}
		switch step[0] {
		case 'M':
			x, y = at[0], at[1]
		case 'm':
			x, y = x+at[0], y+at[1]
		case 'h':
			for py := y * dots; py < (y+1)*dots; py++ {
				for px := x * dots; px < (x+at[0])*dots; px++ {
					img.SetGray(px, py, color.Gray{})
				}
			}
			x += at[0]
		}
	}
	return img
}

// views are how a hand holds a phone over a paper: how far away, and turned by how much (radians).
var views = []struct{ away, turn float64 }{{1, 0}, {1.3, 0.02}, {1.7, -0.05}, {1.1, 0.06}, {2.2, 0.03}, {1.5, -0.02}, {2.6, 0}}

// readCode reads a QR code in a picture with a reader that is not ours, from the first view that it can read:
// in about every fourth it takes a chance pattern for one of the marks.
func readCode(img image.Image) (text string, err error) {
	for _, v := range views {
		bits, err2 := gozxing.NewBinaryBitmapFromImage(seen(img, v.away, v.turn))
		if err2 != nil {
			return "", err2
		}
		var r *gozxing.Result
		if r, err = qrcode.NewQRCodeReader().Decode(bits, nil); err == nil {
			return r.GetText(), nil
		}
	}
	return "", err
}

// seen is a picture as a phone sees it: each dot is the mean of nine places, what is outside is white.
func seen(img image.Image, away, turn float64) image.Image {
	b := img.Bounds()
	sin, cos := math.Sincos(turn)
	midX, midY := float64(b.Dx())/2, float64(b.Dy())/2
	out := image.NewGray(image.Rect(0, 0, int(2*midX/away*1.1), int(2*midY/away*1.1)))
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			sum := 0
			for i := range 9 {
				px := (float64(x)+(float64(i%3)+.5)/3)*away - midX*1.1
				py := (float64(y)+(float64(i/3)+.5)/3)*away - midY*1.1
				at := image.Pt(b.Min.X+int(math.Floor(px*cos-py*sin+midX)), b.Min.Y+int(math.Floor(px*sin+py*cos+midY)))
				if !at.In(b) {
					sum += 0xff
					continue
				}
				sum += int(color.GrayModel.Convert(img.At(at.X, at.Y)).(color.Gray).Y)
			}
			out.SetGray(x, y, color.Gray{Y: uint8(sum / 9)})
		}
	}
	return out
}

func TestCodesReadBack(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := x.proofPath(x.people.child)
	for _, letters := range []int{60, 500, 1055, 1500, 1805, web.ProofPayloadMax} {
		x.fake.proof.Payload = alphanumeric(letters)
		for _, dots := range []int{3, 8} { // about 100 and 300 dots an inch on paper
			got, err := readCode(drawn(t, x.get(path).body, dots))
			if err != nil || got != x.fake.proof.Payload {
				t.Errorf("%d letters at %d dots: read %.20q, %v", letters, dots, got, err)
			}
		}
	}
	if got, err := readCode(drawn(t, x.get("/root").body, 3)); err != nil || got != x.fake.root.Line {
		t.Errorf("weekly sheet: read %q, %v", got, err)
	}
}

func TestCodesReadBackFromBadPaper(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	img := drawn(t, x.get(x.proofPath(x.people.child)).body, 6)
	side := img.Bounds().Dx()
	for px := side / 2; px < side/2+side/16; px++ { // a stain, and a fold that took the ink off
		for py := side / 2; py < side/2+side/16; py++ {
			img.SetGray(px, py, color.Gray{Y: 0x20})
		}
	}
	for px := range side {
		img.SetGray(px, side/3, color.Gray{Y: 0xff})
		img.SetGray(px, side/3+1, color.Gray{Y: 0xff})
	}
	got, err := readCode(img)
	if err != nil || got != x.fake.proof.Payload {
		t.Errorf("read %.20q, %v", got, err)
	}
}

func TestSheetSaysWhatAHandWouldCopy(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	page := words(x.get("/root").body)
	for _, want := range append([]string{"48\u202f231", x.fake.root.Line, "21 Nov 2026", "Lake region"}, x.fake.root.Words...) {
		if !strings.Contains(page, want) {
			t.Errorf("the sheet lacks %q", want)
		}
	}
	if id := `<span>5e1d</span><span>0c9a</span><span>5e1d</span><span>0c9a</span></span>`; !strings.Contains(x.get("/root").body, id) {
		t.Error("the sheet lacks the region's id")
	}
	x.fake.root.RegionID = "5e" // a box that gives less than it should breaks no page
	if a := x.get("/root"); a.status != 200 {
		t.Errorf("short region id: status %d", a.status)
	}
}

// decodePNG is a picture of the browser.
func decodePNG(t testing.TB, raw []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestLinesOfTimeStayInDay(t *testing.T) {
	en := catalogues(t)["en"]
	at := time.Date(2026, 11, 20, 4, 30, 0, 0, time.FixedZone("", 2*3600)).Format(time.RFC3339)
	if got, want := web.FaultWhat(en, web.Fault{Code: "stale_view", Args: []string{at}}), "The regional record seen here is old: 20 Nov 2026, 02:30."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
