package web_test

import (
	"bytes"
	"compress/gzip"
	"flag"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/web"
)

var update = flag.Bool("update", false, "write the golden files")

// pageCase brings one screen up.
type pageCase struct {
	name, template string
	status         int
	show           func(x *fixture) answer
}

// pageCases has every screen of the page at least once.
func pageCases() []pageCase {
	return []pageCase{
		{"first", "first", 200, func(x *fixture) answer { x.emptyBox(); return x.get("/first") }},
		{"first-errors", "first", 422, func(x *fixture) answer {
			x.emptyBox()
			return x.post("/first", url.Values{"name": {"Amina"}, "pin": {"123456"}, "pin_again": {"1"}})
		}},
		{"locked", "locked", 200, func(x *fixture) answer { x.locked(true); return x.get("/") }},
		{"locked-file", "locked", 200, func(x *fixture) answer { x.locked(false); return x.follow(x.get("/patient/1")) }},
		{"locked-wrong", "locked", 422, func(x *fixture) answer { x.locked(true); return x.post("/", url.Values{"passphrase": {"wrong"}}) }},
		{"locked-opening", "locked", 200, func(x *fixture) answer {
			x.locked(true)
			return x.post("/", url.Values{"passphrase": {lockPassphrase}})
		}},
		{"locked-pin", "locked", 422, func(x *fixture) answer {
			x.locked(true).box.PIN = true
			return x.post("/", url.Values{"number": {"3"}, "pin": {"161803"}})
		}},
		{"sign-in-numbers", "signin", 200, func(x *fixture) answer {
			for i := range x.fake.staff {
				x.fake.staff[i].LockNumber = i + 1
			}
			return x.get("/sign-in")
		}},
		{"sign-in", "signin", 200, func(x *fixture) answer { return x.get("/sign-in") }},
		{"sign-in-wrong", "signin", 422, func(x *fixture) answer {
			return x.post("/sign-in", url.Values{"staff": {staffID}, "pin": {"000001"}})
		}},
		{"today", "today", 200, func(x *fixture) answer { x.signIn(); return x.get("/") }},
		{"find", "find", 200, func(x *fixture) answer { x.signIn(); return x.get("/find") }},
		{"found", "find", 200, func(x *fixture) answer {
			x.signIn()
			return x.follow(x.post("/find", url.Values{"q": {"Marie Uwimana"}}))
		}},
		{"found-nobody", "find", 200, func(x *fixture) answer {
			x.signIn()
			return x.follow(x.post("/find", url.Values{"q": {"Zzyzx"}}))
		}},
		{"register", "details", 200, func(x *fixture) answer { x.signIn(); return x.get("/register") }},
		{"register-errors", "details", 422, func(x *fixture) answer {
			x.signIn()
			form := hidden(x.get("/register").body, "/register")
			return x.post("/register", with(form, "birthDay", "31", "birthMonth", "2", "birthYear", "2020", "village", "Kibuye"))
		}},
		{"same", "same", 200, func(x *fixture) answer {
			x.signIn()
			form := hidden(x.get("/register").body, "/register")
			return x.post("/register", with(form, "given", "Eric", "family", "Ndayisaaba", "sex", "male", "ageYears", "2"))
		}},
		{"patient", "patient", 200, func(x *fixture) answer { x.signIn(); return x.get("/patient/" + x.people.child) }},
		{"patient-incomplete", "patient", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.lacks(40)
			return x.get("/patient/" + x.people.waiting)
		}},
		{"patient-unopened", "patient", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.lacksKeys()
			return x.get("/patient/" + x.people.waiting)
		}},
		{"found-not-all", "find", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.lacks(40)
			return x.follow(x.post("/find", url.Values{"q": {"Zzyzx"}}))
		}},
		{"patient-new", "patient", 200, func(x *fixture) answer { x.signIn(); return x.get("/patient/" + x.people.waiting) }},
		{"patient-files", "patient", 200, func(x *fixture) answer { x.signIn(); x.saveFiles(); return x.get("/patient/" + x.people.child) }},
		{"visit-files", "visit", 422, func(x *fixture) answer {
			x.signIn()
			path := "/patient/" + x.people.child + "/visit"
			return x.postFiles(path, url.Values{"form": {strings.Repeat("ab", 16)}, "temperature": {"x"}}, jpegFile, pdfFile, formFile{"x.exe", []byte("MZ")})
		}},
		{"file", "file", 200, func(x *fixture) answer {
			x.signIn()
			return x.get("/patient/" + x.people.child + "/file/" + x.saveFiles())
		}},
		{"patient-conflict", "patient", 200, func(x *fixture) answer { x.signIn(); return x.get("/patient/" + x.people.conflict) }},
		{"patient-devices", "patient", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.devices = []web.FieldDevice{{ID: "d1", Name: "Tablet of Esther", Has: true}, {ID: "d2", Name: "Tablet of Paul", Waits: true}}
			a := x.follow(x.post("/patient/"+x.people.adult+"/give", url.Values{"device": {"d2"}, "give": {"1"}}))
			if !x.fake.devices[1].Has {
				x.t.Error("the chart was not given")
			}
			return a
		}},
		{"visit", "visit", 200, func(x *fixture) answer { x.signIn(); return x.get("/patient/" + x.people.child + "/visit") }},
		{"visit-errors", "visit", 422, func(x *fixture) answer {
			return x.postVisit(x.people.child, "temperature", "390", "weight", "abc", "systolic", "120", "note", "Kept words")
		}},
		{"check", "check", 200, func(x *fixture) answer {
			return x.postVisit(x.people.child, "dangerSigns", "convulsions", "temperature", "41,8", "weight", "19", "problem", "fever")
		}},
		{"details", "details", 200, func(x *fixture) answer { x.signIn(); return x.get("/patient/" + x.people.adult + "/details") }},
		{"conflict", "conflict", 200, func(x *fixture) answer { x.signIn(); return x.get("/patient/" + x.people.conflict + "/conflict") }},
		{"erase", "erase", 200, func(x *fixture) answer { x.signIn(); return x.get("/patient/" + x.people.child + "/erase") }},
		{"erase-errors", "erase", 422, func(x *fixture) answer {
			x.signIn()
			return x.post("/patient/"+x.people.child+"/erase", url.Values{"reason": {"asked"}, "staff": {"staff-2"}, "pin": {"000000"}})
		}},
		{"erase-entry", "erase", 200, func(x *fixture) answer { x.signIn(); return x.get(x.erasePath(x.people.child)) }},
		{"erased", "error", 410, func(x *fixture) answer {
			x.signIn()
			return x.follow(x.post("/patient/"+x.people.child+"/erase", url.Values{"reason": {"asked"}, "staff": {"staff-2"}, "pin": {"271828"}}))
		}},
		{"withdraw", "withdraw", 200, func(x *fixture) answer { x.signIn(); return x.get(x.withdrawPath(x.people.child)) }},
		{"withdraw-errors", "withdraw", 422, func(x *fixture) answer {
			x.signIn()
			path := x.withdrawPath(x.people.child)
			return x.post(path, hidden(x.get(path).body, path))
		}},
		{"links", "links", 200, func(x *fixture) answer { x.signIn(); return x.get("/links") }},
		{"links-faults", "links", 200, func(x *fixture) answer { x.signIn(); x.fake.setFaults(allFaults()...); return x.get("/links") }},
		{"links-frozen", "links", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.setFaults(web.Fault{Code: "split_view", Args: []string{"Nyanza hub, Karongi hub"}})
			return x.get("/links")
		}},
		{"links-metered", "links", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.setLink(web.SyncPage{Missing: web.Missing{Left: 12_000, Size: 980_000, Remaining: 34 * time.Minute}, Why: web.WhyWaiting, NextCall: now.Add(90 * time.Minute), Carried: 212,
				Usage: web.Usage{Metered: true, Month: "2026-11", Bytes: 31_940_112, Budget: 50_000_000}}, web.Counts{Shared: 2, OnlyHere: 40, VisitsOnlyHere: 37})
			return x.get("/links")
		}},
		{"links-field", "links", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.setLink(web.SyncPage{Missing: web.Missing{Left: 41_000, Size: 48_231, Stays: true}, Why: web.WhyNoLink, Clock: web.Clock{Now: now, Wrong: true}}, web.Counts{OnlyHere: 3, VisitsOnlyHere: 2, FilesOnlyHere: 1, Mobile: true})
			return x.get("/links")
		}},
		{"stick", "stick", 200, func(x *fixture) answer { x.signIn(); x.fake.plugIn(web.StickJob{}); return x.get("/stick") }},
		{"stick-none", "stick", 200, func(x *fixture) answer { x.signIn(); return x.get("/stick") }},
		{"stick-busy", "stick", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.plugIn(web.StickJob{Stick: "sda1", Write: false, Active: true, Done: 31, Total: 100})
			return x.get("/stick")
		}},
		{"stick-pulled", "stick", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.plugIn(web.StickJob{Stick: "sda1", Result: web.StickPulled, From: "Nyanza hub", New: 41, Known: 12, Waiting: 3})
			return x.get("/stick")
		}},
		{"stick-wrote", "stick", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.plugIn(web.StickJob{Stick: "sda1", Write: true, Result: web.StickWrote, For: []string{"Nyanza hub", "Karongi hub"}, Records: 37})
			return x.get("/stick")
		}},
		{"today-banners", "today", 200, func(x *fixture) answer { x.signIn(); x.fake.setFaults(bannerFaults()...); return x.get("/") }},
		{"proof", "proof", 200, func(x *fixture) answer { x.signIn(); return x.get(x.proofPath(x.people.child)) }},
		{"no-proof", "error", 409, func(x *fixture) answer {
			x.signIn()
			return x.get("/records/" + x.fake.rid(x.people.adult, 1) + "/proof")
		}},
		{"patient-closed", "patient", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.decided, x.fake.closed = &web.Decided{Rules: "limited", By: "Jean Habimana (Rubavu clinic)", At: now.Add(-72 * time.Hour), Homes: []string{"Rubavu clinic"},
				Grant: "0123456789abcdef0123456789abcdef", Until: now.Add(-time.Hour)}, true
			return x.get("/patient/" + x.people.child)
		}},
		{"patient-granted", "patient", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.decided = &web.Decided{Rules: "care", Grant: "0123456789abcdef0123456789abcdef", Until: now.Add(24 * time.Hour)}
			return x.get("/patient/" + x.people.child)
		}},
		{"emergency", "emergency", 200, func(x *fixture) answer { x.signIn(); return x.get("/patient/" + x.people.child + "/emergency") }},
		{"emergency-wrong", "emergency", 422, func(x *fixture) answer { x.signIn(); return x.breakGlass("staff-2", "000000") }},
		{"emergency-open", "emergency", 200, func(x *fixture) answer {
			x.signIn()
			x.breakGlass("staff-2", "271828")
			return x.get("/patient/" + x.people.child + "/emergency")
		}},
		{"emergencies", "emergencies", 200, func(x *fixture) answer {
			x.signIn()
			x.breakGlass("staff-2", "271828")
			return x.get("/emergencies")
		}},
		{"looks-emergency", "looks", 200, func(x *fixture) answer {
			x.signIn()
			x.breakGlass("staff-2", "271828")
			return x.get("/patient/" + x.people.child + "/looks")
		}},
		{"consent", "consent", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.decideSomething()
			return x.get("/patient/" + x.people.child + "/consent")
		}},
		{"consent-open", "consent", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.consent = web.ConsentPage{Homes: []string{"Kibuye clinic"}}
			return x.get("/patient/" + x.people.child + "/consent")
		}},
		{"consent-errors", "consent", 422, func(x *fixture) answer {
			x.signIn()
			x.fake.decideSomething()
			path := "/patient/" + x.people.child + "/consent"
			form := hidden(x.get(path).body, path)
			form.Set("do", web.DoGrant)
			return x.post(path, form)
		}},
		{"cards", "cards", 200, func(x *fixture) answer {
			x.signIn()
			x.makeCard(url.Values{"pin": {fakeCardPIN}, "pin_again": {fakeCardPIN}})
			x.makeCard(url.Values{"pin": {fakeCardPIN}, "pin_again": {fakeCardPIN}, "holder": {"Grandmother"}, "replace": {"1"}})
			return x.get("/patient/" + x.people.child + "/cards")
		}},
		{"cards-by-card", "cards", 200, func(x *fixture) answer {
			x.signIn()
			x.fake.cards.only = true
			return x.get("/patient/" + x.people.child + "/cards")
		}},
		{"card", "card", 200, func(x *fixture) answer {
			x.signIn()
			return x.makeCard(url.Values{"pin": {fakeCardPIN}, "pin_again": {fakeCardPIN}})
		}},
		{"usecard", "usecard", 200, func(x *fixture) answer { x.signIn(); return x.get("/card") }},
		{"looks", "looks", 200, func(x *fixture) answer { x.signIn(); return x.get("/patient/" + x.people.child + "/looks") }},
		{"root", "root", 200, func(x *fixture) answer { x.signIn(); return x.get("/root") }},
		{"no-root", "error", 409, func(x *fixture) answer { x.signIn(); x.fake.root = web.RootPage{}; return x.get("/root") }},
		{"trust", "trust", 200, func(x *fixture) answer { return x.trustPage() }},
		{"staff", "staff", 200, func(x *fixture) answer { x.signIn(); return x.get("/staff") }},
		{"not-found", "error", 404, func(x *fixture) answer { x.signIn(); return x.get("/patient/00/visit") }},
		{"read-only", "error", 507, func(x *fixture) answer {
			x.fake.fail = web.ErrReadOnly
			x.fake.box.ReadOnly = true
			return x.postVisit(x.people.child, "problem", "fever")
		}},
		{"fault", "error", 507, func(x *fixture) answer {
			x.fake.fail = web.ErrFault
			x.fake.box.Faulted = true
			return x.postVisit(x.people.child, "problem", "fever")
		}},
	}
}

func (x *fixture) emptyBox() {
	x.fake.mu.Lock()
	defer x.fake.mu.Unlock()
	x.fake.staff, x.fake.box.NeedsFirstStaff = nil, true
	x.fake.records, x.fake.patients = map[string][]chart.Opened{}, nil
}

// postVisit signs in, opens the visit form of a person and posts it with some answers.
func (x *fixture) postVisit(patient string, pairs ...string) answer {
	x.t.Helper()
	x.signIn()
	path := "/patient/" + patient + "/visit"
	return x.post(path, with(hidden(x.get(path).body, path), pairs...))
}

// bannerFaults are the faults of a bad day.
func bannerFaults() []web.Fault {
	return []web.Fault{{Code: "restored", Args: []string{"14", "Nyanza hub"}}, {Code: "stale_view", Args: []string{now.Add(-50 * time.Hour).Format(time.RFC3339)}},
		{Code: "split_view", Args: []string{"Nyanza hub, Karongi hub"}}, {Code: "hub_rolled_back", Args: []string{"Karongi hub"}}}
}

var proofLink = regexp.MustCompile(`href="(/records/[0-9a-f]{64}/proof)"`)

func (x *fixture) proofPath(patient string) string {
	x.t.Helper()
	m := proofLink.FindStringSubmatch(x.get("/patient/" + patient).body)
	if m == nil {
		x.t.Fatal("no link to a proof")
	}
	return m[1]
}

var withdrawLink = regexp.MustCompile(`href="(/patient/[0-9a-f]+/withdraw/[^"]+)"`)

func (x *fixture) withdrawPath(patient string) string {
	x.t.Helper()
	m := withdrawLink.FindStringSubmatch(x.get("/patient/" + patient).body)
	if m == nil {
		x.t.Fatal("no link to withdraw")
	}
	return m[1]
}

var eraseLink = regexp.MustCompile(`href="(/patient/[0-9a-f]+/erase/[0-9a-f]{64})"`)

func (x *fixture) erasePath(patient string) string {
	x.t.Helper()
	m := eraseLink.FindStringSubmatch(x.get("/patient/" + patient).body)
	if m == nil {
		x.t.Fatal("no link to erase an entry")
	}
	return m[1]
}

// inEachPage runs a check on every screen in every language.
func inEachPage(t *testing.T, check func(t *testing.T, c pageCase, language string, a answer)) {
	for _, c := range pageCases() {
		for _, language := range []string{"en", "fr"} {
			t.Run(c.name+"/"+language, func(t *testing.T) {
				x := newFixture(t)
				x.fake.box.Languages = []string{language, "en"}
				a := c.show(x)
				if a.status != c.status {
					t.Fatalf("status %d, want %d; page: %s", a.status, c.status, words(a.body))
				}
				check(t, c, language, a)
			})
		}
	}
}

func TestEveryPageIsWellFormed(t *testing.T) {
	inEachPage(t, func(t *testing.T, c pageCase, language string, a answer) {
		all, err := parsePage(a.body)
		if err != nil {
			t.Fatal(err)
		}
		checkElements(t, all)
		if got := all[0].attrs["lang"]; got != language {
			t.Errorf("lang %q, want %q", got, language)
		}
		if text := words(a.body); strings.Contains(text, "{1}") || strings.Contains(text, "{2}") || missingKey.MatchString(text) {
			t.Errorf("words missing: %s", missingKey.FindString(text))
		}
		if wantError := c.status >= 400; strings.Contains(a.body, "<title>Err") != wantError {
			t.Errorf("title starts with Error: %v, want %v", !wantError, wantError)
		}
	})
}

// missingKey finds a catalogue key where words should be.
var missingKey = regexp.MustCompile(`\b(visit|error|signin|locked|patient|state|line|links|why|form|page|label|measure|short|check|conflict|consent|withdraw|details|register|staff|find|today|time|age|month|fault|proof|root|sheet)\.[a-z_]+\b`)

// checkElements holds the rules that each page's markup keeps.
func checkElements(t *testing.T, all []element) {
	t.Helper()
	ids := map[string]bool{}
	for _, e := range all {
		if id, ok := e.attrs["id"]; ok {
			if ids[id] {
				t.Errorf("id %q twice", id)
			}
			ids[id] = true
		}
	}
	counts := map[string]int{}
	level := byte('1')
	for _, e := range all {
		counts[e.name]++
		if len(e.name) == 2 && e.name[0] == 'h' && e.name[1] >= '1' && e.name[1] <= '6' {
			if e.name[1] > level+1 {
				t.Errorf("<%s> follows a heading of level %c", e.name, level)
			}
			level = e.name[1]
		}
		for _, name := range []string{"placeholder", "style", "onclick", "onsubmit", "required", "autofocus"} {
			if _, ok := e.attrs[name]; ok {
				t.Errorf("<%s> has %s", e.name, name)
			}
		}
		for _, name := range []string{"for", "aria-describedby"} {
			if target, ok := e.attrs[name]; ok && !ids[target] {
				t.Errorf("<%s %s=%q> points nowhere", e.name, name, target)
			}
		}
		if to := e.attrs["href"]; strings.HasPrefix(to, "#") && !ids[to[1:]] {
			t.Errorf("link %q points nowhere", to)
		}
		if e.name == "select" || e.name == "style" || e.name == "iframe" {
			t.Errorf("<%s> is not used here", e.name)
		}
		if _, described := e.attrs["alt"]; e.name == "img" && (!described || !strings.HasPrefix(e.attrs["src"], "data:image/jpeg;base64,")) {
			t.Error("<img> that is no preview, or without a word for those who do not see it")
		}
		if e.name == "input" && e.attrs["type"] == "" {
			t.Error("<input> without a type")
		}
	}
	if counts["h1"] != 1 || counts["main"] != 1 || counts["script"] != 1 {
		t.Errorf("h1 %d, main %d, script %d; want one each", counts["h1"], counts["main"], counts["script"])
	}
	if !ids["line"] && !ids["locked"] {
		t.Error("no sync line")
	}
}

func TestEveryTemplateIsShown(t *testing.T) {
	covered := map[string]bool{}
	for _, c := range pageCases() {
		covered[c.template] = true
	}
	names, err := fs.Glob(web.TemplateFiles, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		base := strings.TrimSuffix(filepath.Base(name), ".html")
		if !strings.HasPrefix(base, "_") && !covered[base] {
			t.Errorf("template %s is in no case", base)
		}
	}
}

func TestEveryPageCarriesItsHeaders(t *testing.T) {
	want := map[string]string{
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
		"Content-Type": "text/html; charset=utf-8", "X-Frame-Options": "DENY",
	}
	inEachPage(t, func(t *testing.T, _ pageCase, _ string, a answer) {
		for name, value := range want {
			if got := a.header.Get(name); got != value {
				t.Errorf("%s %q, want %q", name, got, value)
			}
		}
		policy := a.header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("policy %q lacks %q", policy, part)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("policy %q allows what it should not", policy)
		}
	})
}

// zipped is a body's size on the wire.
func zipped(t *testing.T, body []byte) int {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Len()
}

// Budgets in bytes on the wire, compressed.
const (
	styleMax, scriptMax = 8 << 10, 4 << 10
	firstMax, laterMax  = 40 << 10, 6 << 10
	sheetMax            = 10 << 10 // a page with a QR code of the largest proof
)

func TestBudgets(t *testing.T) {
	sizes := map[string]int{}
	for _, name := range []string{"style.css", "page.js", "icon.svg", "console.js"} {
		raw, err := fs.ReadFile(web.AssetFiles, "assets/"+name)
		if err != nil {
			t.Fatal(err)
		}
		sizes[name] = zipped(t, raw)
	}
	if sizes["style.css"] > styleMax || sizes["page.js"] > scriptMax || sizes["console.js"] > scriptMax {
		t.Errorf("assets %v, want style at most %d, scripts %d", sizes, styleMax, scriptMax)
	}
	files := sizes["style.css"] + sizes["page.js"] + sizes["icon.svg"]
	largest := 0
	inEachPage(t, func(t *testing.T, _ pageCase, _ string, a answer) {
		size := zipped(t, []byte(a.body))
		largest = max(largest, size)
		limit := laterMax
		if strings.Contains(a.body, `class="qr"`) {
			limit = sheetMax
		}
		if size > limit || size+files > firstMax {
			t.Errorf("page %d bytes, with files %d; want at most %d and %d", size, size+files, limit, firstMax)
		}
		if nodes := strings.Count(a.body, "<"); nodes > 2*800 {
			t.Errorf("%d tags, want at most 800 elements", nodes)
		}
	})
	t.Logf("style %d, script %d, icon %d, largest page %d, first load at most %d", sizes["style.css"], sizes["page.js"], sizes["icon.svg"], largest, files+largest)
}

func TestCompressedAndPlainAreTheSame(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	plain, err := http.NewRequest(http.MethodGet, x.server.URL+"/patient/"+x.people.child, nil)
	if err != nil {
		t.Fatal(err)
	}
	plain.Header.Set("Accept-Encoding", "identity")
	a, b := x.do(plain), x.get("/patient/"+x.people.child)
	if a.body != b.body {
		t.Error("compressed page differs from the plain one")
	}
	if a.header.Get("Content-Encoding") != "" {
		t.Errorf("encoding %q for a browser that takes none", a.header.Get("Content-Encoding"))
	}
}

var changing = regexp.MustCompile(`-[0-9a-f]{8}\.(css|js|svg)|value="[0-9a-f]{32}"`)

func TestGolden(t *testing.T) {
	for _, name := range []string{"today", "patient", "check", "conflict", "links", "links-faults", "links-metered", "links-field", "today-banners", "proof", "root", "looks", "patient-closed", "patient-unopened", "looks-emergency", "emergency", "emergency-open", "emergencies", "consent", "cards", "card", "usecard", "visit-errors"} {
		for _, language := range []string{"en", "fr"} {
			t.Run(name+"/"+language, func(t *testing.T) {
				x := newFixture(t)
				x.fake.box.Languages = []string{language}
				var got string
				for _, c := range pageCases() {
					if c.name == name {
						_, main, _ := strings.Cut(c.show(x).body, `<div class="line`)
						got = strings.ReplaceAll(changing.ReplaceAllString(main, ""), "\r", "")
					}
				}
				path := filepath.Join("testdata", name+"."+language+".golden")
				if *update {
					if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
					return
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if got != string(want) {
					t.Errorf("page differs from %s; run with -update and look at the change", path)
				}
			})
		}
	}
}

func BenchmarkPatientPage(b *testing.B) {
	x := newFixture(b)
	x.signIn()
	path := "/patient/" + x.people.child
	b.ReportAllocs()
	for b.Loop() {
		if a := x.get(path); a.status != http.StatusOK {
			b.Fatalf("status %d", a.status)
		}
	}
}

func BenchmarkProofPage(b *testing.B) {
	x := newFixture(b)
	x.signIn()
	path := x.proofPath(x.people.child)
	b.ReportAllocs()
	for b.Loop() {
		if a := x.get(path); a.status != http.StatusOK {
			b.Fatalf("status %d", a.status)
		}
	}
}
