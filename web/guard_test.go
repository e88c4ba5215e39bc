package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/web"
)

func TestLimits(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.child + "/visit"
	form := hidden(x.get(path).body, path)
	if a := x.post(path, with(form, "note", strings.Repeat("x", 70<<10))); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("large body: status %d, want 413", a.status)
	}
	many := with(form)
	for i := range 200 {
		many.Set("field"+string(rune('a'+i%26))+strings.Repeat("z", i/26), "1")
	}
	if a := x.post(path, many); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("many fields: status %d, want 413", a.status)
	}
	if a := x.post(path, url.Values{"problem": {"fever"}}); a.status != http.StatusBadRequest {
		t.Errorf("no form id: status %d, want 400", a.status)
	}
	if a := x.get("/no/such/page"); a.status != http.StatusNotFound || !strings.Contains(a.body, "This is not here") {
		t.Errorf("unknown path: status %d", a.status)
	}
	srv := web.NewServer(http.NotFoundHandler())
	if srv.ReadHeaderTimeout == 0 || srv.ReadTimeout == 0 || srv.WriteTimeout == 0 || srv.IdleTimeout == 0 || srv.MaxHeaderBytes == 0 {
		t.Error("server without a limit")
	}
}

func TestSessionCookie(t *testing.T) {
	x := newFixture(t)
	a := x.post("/sign-in", url.Values{"staff": {staffID}, "pin": {staffPIN}})
	cookie := a.header.Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("cookie %q lacks %s", cookie, want)
		}
	}
	if strings.Contains(cookie, staffID) || strings.Contains(cookie, staffPIN) {
		t.Errorf("cookie %q tells who or how", cookie)
	}
	if a := x.post("/lock", nil); a.location != "/sign-in" || len(x.fake.sessions) != 0 {
		t.Errorf("lock leads to %q with %d sessions", a.location, len(x.fake.sessions))
	}
	if a := x.get("/"); a.location != "/sign-in" {
		t.Errorf("after lock: %q", a.location)
	}
}

func TestSigningInEndsTheSessionOfBefore(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	first := x.token()
	x.signIn()
	if second := x.token(); second == first || len(x.fake.sessions) != 1 {
		t.Errorf("after signing in again the token is the same %t, %d sessions are open", second == first, len(x.fake.sessions))
	}
	if _, err := x.fake.Peek(t.Context(), first); err == nil {
		t.Error("the session of before goes on")
	}
}

func TestPINIsNeverShownOrLogged(t *testing.T) {
	x := newFixture(t)
	const pin = "998877"
	shown := x.post("/sign-in", url.Values{"staff": {staffID}, "pin": {pin}}).body
	x.signIn()
	shown += x.post("/staff", url.Values{"name": {""}, "pin": {pin}, "pin_again": {pin}}).body
	shown += x.post("/draft", url.Values{"path": {"/register"}, "pin": {pin}}).body + x.get("/register").body
	if strings.Contains(shown, pin) {
		t.Error("a page shows the PIN")
	}
	if strings.Contains(x.log.String(), pin) {
		t.Error("the log holds the PIN")
	}
	if a := x.get("/sign-in?staff=" + staffID + "&pin=" + staffPIN); a.status != http.StatusOK || a.header.Get("Set-Cookie") != "" {
		t.Errorf("PIN in an address: status %d, cookie %q", a.status, a.header.Get("Set-Cookie"))
	}
	r, err := http.NewRequest(http.MethodPost, x.server.URL+"/sign-in?staff="+staffID+"&pin="+staffPIN, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := x.do(r); a.status != http.StatusUnprocessableEntity {
		t.Errorf("PIN in the address of a post: status %d, want 422", a.status)
	}
}

func TestLogHoldsNoNamesAndNoIDs(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	x.get("/patient/" + x.people.child)
	x.follow(x.post("/find", url.Values{"q": {"Marie Uwimana"}}))
	x.fake.fail = http.ErrBodyNotAllowed // some error that has no page of its own
	x.postVisit(x.people.child, "problem", "fever", "note", "Secretnote")
	log := x.log.String()
	for _, word := range []string{"Marie", "Uwimana", "Secretnote", x.people.child, "Amina"} {
		if strings.Contains(log, word) {
			t.Errorf("log holds %q: %s", word, log)
		}
	}
	if !strings.Contains(log, `"page":"/patient/{patient}/visit"`) {
		t.Errorf("log lacks the page's pattern: %s", log)
	}
}

func TestSignInAgainLeadsOnlyHere(t *testing.T) {
	for next, want := range map[string]string{
		"/patient/ab/visit": "/patient/ab/visit", "//evil.example": "/", "https://evil.example": "/", "/\\evil.example": "/",
		"/a\r\nSet-Cookie: b": "/", "": "/", "javascript:alert(1)": "/",
	} {
		if got := web.LocalPath(next); got != want {
			t.Errorf("%q leads to %q, want %q", next, got, want)
		}
		x := newFixture(t)
		a := x.post("/sign-in", url.Values{"staff": {staffID}, "pin": {staffPIN}, "next": {next}})
		if a.location != want {
			t.Errorf("signing in with next %q leads to %q, want %q", next, a.location, want)
		}
	}
}

func TestWhatIsTypedCannotBecomeMarkup(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	evil := `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	form := hidden(x.get("/register").body, "/register")
	page := x.follow(x.post("/register", with(form, "given", evil, "sex", "female", "village", evil))).body
	path := "/patient/" + x.people.child + "/visit"
	page += x.post(path, with(hidden(x.get(path).body, path), "temperature", evil, "note", evil+"\n</textarea>", "problem", evil)).body
	page += x.follow(x.post("/find", url.Values{"q": {evil}})).body
	if strings.Contains(page, "<script>") || strings.Contains(page, "<img") {
		t.Error("typed text became markup")
	}
	if !strings.Contains(page, "&lt;script&gt;") {
		t.Error("typed text is not shown at all")
	}
}
