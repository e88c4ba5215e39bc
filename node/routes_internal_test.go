package node

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

var updateRoutes = flag.Bool("update-routes", false, "write the tables of routes into the documents")

func TestEveryWayInHasAnEntry(t *testing.T) {
	for name, table := range map[string]*routes{"commands": openStandalone(t).controlRoutes(), "ledger": logRoutes(nil)} {
		got, want := slices.Sorted(maps.Keys(table.known)), slices.Sorted(maps.Keys(table.table))
		if !slices.Equal(got, want) {
			t.Errorf("%s: registered %v, in the table %v", name, got, want)
		}
	}
}

// withStaff is a box with one member of staff, as a page without a network.
func withStaff(t *testing.T, dir string, now func() time.Time) *Node {
	t.Helper()
	o := NewOptions(dir)
	o.Store.BallastBytes, o.PIN, o.Page, o.Now = 1<<20, seal.PINParams{MemoryKiB: 64, Passes: 1, Threads: 1}, "", now
	n, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func founded(t *testing.T, n *Node) {
	t.Helper()
	if _, err := n.Found(t.Context(), "Test region"); err != nil {
		t.Fatal(err)
	}
	if err := n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Amina Test", PIN: "314159"}); err != nil {
		t.Fatal(err)
	}
}

func TestCommandsRefuseWhatIsNotTheirs(t *testing.T) {
	n := openStandalone(t)
	founded(t, n)
	before := stateOf(t, n)
	h := n.controlHandler()
	for pattern, w := range commandWays {
		method, path, _ := strings.Cut(pattern, " ")
		for _, other := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, "BREW"} {
			if _, taken := commandWays[other+" "+path]; taken {
				continue
			}
			if got := ask(h, other, path, nil, 0); got != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: status %d, want 405", other, path, got)
			}
		}
		if w.bodyMax == endlessBody || w.bodyMax == controlBodyMax {
			continue // a file of any length, read as it comes
		}
		if got := ask(h, method, path, strings.NewReader(strings.Repeat(" ", int(w.bodyMax)+1)), w.bodyMax+1); got != http.StatusRequestEntityTooLarge {
			t.Errorf("%s with a large body: status %d, want 413", pattern, got)
		}
		if w.bodyMax == 0 {
			continue
		}
		if got := ask(h, method, path, strings.NewReader(strings.Repeat(" ", int(w.bodyMax)+1)), -1); got < 400 {
			t.Errorf("%s with a large body of unsaid length: status %d, want a refusal", pattern, got)
		}
		if got := ask(h, method, path, strings.NewReader(`{"a":`), 5); got < 400 {
			t.Errorf("%s with half a body: status %d, want a refusal", pattern, got)
		}
	}
	if after := stateOf(t, n); after != before {
		t.Errorf("the box changed: %s, before %s", after, before)
	}
}

func ask(h http.Handler, method, path string, body io.Reader, length int64) int {
	r := httptest.NewRequest(method, path, body)
	r.ContentLength = length
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// stateOf is what a request could change on a box.
func stateOf(t *testing.T, n *Node) string {
	t.Helper()
	accounts, err := n.accounts()
	if err != nil {
		t.Fatal(err)
	}
	feeds, err := n.store.PendingFeeds()
	if err != nil {
		t.Fatal(err)
	}
	c := n.Counts(t.Context())
	return fmt.Sprint(len(accounts), feeds, c.Pending, c.Shared, c.Confirmed, c.Refused)
}

// The commands' ways are not on the page, whoever is signed in there.
func TestThePageServesNoCommands(t *testing.T) {
	n := openStandalone(t)
	founded(t, n)
	x := newSurfer(t, n)
	x.signIn()
	before := stateOf(t, n)
	own := map[string]bool{"/staff": true, "/root": true} // pages of these names
	for pattern := range commandWays {
		method, path, _ := strings.Cut(pattern, " ")
		if own[path] {
			continue
		}
		if status, _ := x.do(method, path); status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
			t.Errorf("%s on the page: status %d, want 404", pattern, status)
		}
	}
	if after := stateOf(t, n); after != before {
		t.Errorf("the box changed: %s, before %s", after, before)
	}
}

// surfer is a browser at the page of a real box.
type surfer struct {
	t      *testing.T
	n      *Node
	server *httptest.Server
	client http.Client
}

func newSurfer(t *testing.T, n *Node) *surfer {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	x := &surfer{t: t, n: n, client: http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	x.at(n)
	return x
}

// at serves the page of a box under the address of before.
func (x *surfer) at(n *Node) {
	x.server, x.n = httptest.NewServer(n.pageHandler(nil)), n
	x.t.Cleanup(x.server.Close)
}

func (x *surfer) do(method, path string) (status int, location string) {
	x.t.Helper()
	r, err := http.NewRequestWithContext(x.t.Context(), method, x.server.URL+path, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	res, err := x.client.Do(r)
	if err != nil {
		x.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode, res.Header.Get("Location")
}

func (x *surfer) signIn() {
	x.t.Helper()
	tiles, err := x.n.Staff(context.Background())
	if err != nil || len(tiles) == 0 {
		x.t.Fatalf("staff %v, %v", tiles, err)
	}
	res, err := x.client.PostForm(x.server.URL+"/sign-in", url.Values{"staff": {tiles[0].ID}, "pin": {"314159"}})
	if err != nil {
		x.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusSeeOther {
		x.t.Fatalf("sign in: status %d", res.StatusCode)
	}
}

func (x *surfer) wantIn(in bool, when string) {
	x.t.Helper()
	status, location := x.do(http.MethodGet, "/")
	if in && status != http.StatusOK || !in && (status != http.StatusSeeOther || location != "/sign-in") {
		x.t.Errorf("%s: status %d to %q, want let in %t", when, status, location, in)
	}
}

func TestSessionsEndWithUseAndProcess(t *testing.T) {
	at, dir := time.Now(), t.TempDir()
	now := func() time.Time { return at }
	if _, err := Init(dir, record.RoleStandalone, "Test box"); err != nil {
		t.Fatal(err)
	}
	n := withStaff(t, dir, now)
	founded(t, n)
	x := newSurfer(t, n)
	x.signIn()
	x.wantIn(true, "signed in")
	at = at.Add(n.o.SessionIdle - time.Second)
	x.wantIn(true, "used in time")
	at = at.Add(n.o.SessionIdle + time.Second)
	x.wantIn(false, "idle too long")
	x.signIn()
	for range int(sessionLasts / n.o.SessionIdle) {
		at = at.Add(n.o.SessionIdle - time.Second)
		x.wantIn(true, "used all day")
	}
	at = at.Add(n.o.SessionIdle - time.Second)
	x.wantIn(false, "used for longer than a day's work")
	x.signIn()
	x.wantIn(true, "signed in again")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = withStaff(t, dir, now)
	t.Cleanup(func() { n.Close() })
	x.at(n)
	x.wantIn(false, "after a restart")
}

func TestOneMemberCannotTakeAllSessions(t *testing.T) {
	n := openStandalone(t)
	n.o.PIN = seal.PINParams{MemoryKiB: 64, Passes: 1, Threads: 1}
	founded(t, n)
	tiles, err := n.Staff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var tokens []string
	for range 2 * sessionsEach {
		token, err := n.SignIn(t.Context(), tiles[0].ID, "314159")
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	if open := len(n.staff.sessions()); open != sessionsEach {
		t.Errorf("%d sessions of one member are open, want %d", open, sessionsEach)
	}
	for i, token := range tokens {
		if _, err := n.Peek(t.Context(), token); (err == nil) != (i >= sessionsEach) {
			t.Errorf("session %d of %d: %v, want the newest to be open", i, len(tokens), err)
		}
	}
}

func TestWaysAreWrittenDown(t *testing.T) {
	const file = "../docs/ROUTES.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(doc)
	for name, table := range map[string]map[string]way{"commands": commandWays, "ledger": ledgerWays} {
		var b strings.Builder
		b.WriteString("| | path | at most | changes |\n|---|---|---|---|\n")
		for _, pattern := range slices.SortedFunc(maps.Keys(table), func(a, b string) int {
			_, pa, _ := strings.Cut(a, " ")
			_, pb, _ := strings.Cut(b, " ")
			return strings.Compare(pa+a, pb+b)
		}) {
			method, path, _ := strings.Cut(pattern, " ")
			size := "no body"
			switch w := table[pattern]; {
			case w.bodyMax == endlessBody:
				size = "a file, read as it comes"
			case w.bodyMax > 0:
				size = fmt.Sprintf("%d KiB", w.bodyMax>>10)
			}
			fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", method, path, size, table[pattern].changes)
		}
		head, rest, ok1 := strings.Cut(text, "<!-- table: "+name+" -->\n")
		old, tail, ok2 := strings.Cut(rest, "<!-- end: "+name+" -->")
		if !ok1 || !ok2 {
			t.Fatalf("%s has no table %q", file, name)
		}
		if old != b.String() && !*updateRoutes {
			t.Errorf("the table %q of %s is not the program's; run go test -update-routes and read what changed:\n%s", name, file, b.String())
		}
		text = head + "<!-- table: " + name + " -->\n" + b.String() + "<!-- end: " + name + " -->" + tail
	}
	if *updateRoutes {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
