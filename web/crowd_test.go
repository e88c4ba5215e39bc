package web_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/web"
)

// stream is an open answer of /events.
type stream struct {
	t    testing.TB
	body io.ReadCloser
	in   *bufio.Reader
}

func (x *fixture) openStream() (*stream, int) {
	x.t.Helper()
	r, err := http.NewRequest(http.MethodGet, x.server.URL+"/events", nil)
	if err != nil {
		x.t.Fatal(err)
	}
	res, err := x.client.Do(r)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { res.Body.Close() })
	return &stream{x.t, res.Body, bufio.NewReader(res.Body)}, res.StatusCode
}

// next is the next event of a stream, without what is only a sign of life; "" at its end.
func (s *stream) next() string {
	s.t.Helper()
	var lines []string
	for {
		line, err := s.in.ReadString('\n')
		line = strings.TrimSpace(line)
		switch {
		case err != nil:
			return ""
		case line != "":
			lines = append(lines, line)
		case len(lines) > 0 && !strings.HasPrefix(lines[0], ":"):
			return strings.Join(lines, " ")
		default:
			lines = nil
		}
	}
}

func TestStreamsEndWithTheirSession(t *testing.T) {
	for name, end := range map[string]func(x *fixture){
		"locked":                 func(x *fixture) { x.post("/lock", nil) },
		"removed from the staff": func(x *fixture) { x.fake.removeStaff(staffID) },
	} {
		t.Run(name, func(t *testing.T) {
			x := newFixture(t)
			x.signIn()
			x.get("/") // the page whose script listens
			s, status := x.openStream()
			if first := s.next(); status != http.StatusOK || !strings.Contains(first, "event: change") {
				t.Fatalf("status %d, first event %q", status, first)
			}
			end(x)
			if got := s.next(); got != "event: locked data: 0" {
				t.Errorf("got %q, want to be told that the session ended", got)
			}
			if got := s.next(); got != "" {
				t.Errorf("got %q after the end", got)
			}
		})
	}
}

func TestOneMemberOfStaffCannotTakeAllStreams(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	var mine []*stream
	for range 2 * web.StreamsEach {
		s, status := x.openStream()
		if status != http.StatusOK {
			t.Fatalf("status %d: the newest page of a member always gets a place", status)
		}
		s.next()
		mine = append(mine, s)
	}
	for i, s := range mine[:web.StreamsEach] {
		if got := s.next(); got != "retry: 30000" {
			t.Errorf("stream %d: %q, want that it comes back later", i, got)
		}
	}
	other := &fixture{t: t, fake: x.fake, people: x.people, server: x.server, url: x.url, log: x.log, client: newClient(t)}
	if a := other.post("/sign-in", url.Values{"staff": {"staff-2"}, "pin": {"271828"}}); a.status != http.StatusSeeOther {
		t.Fatalf("sign in: status %d", a.status)
	}
	if s, status := other.openStream(); status != http.StatusOK || !strings.Contains(s.next(), "change") {
		t.Errorf("another member gets status %d", status)
	}
}

func TestStreamsAreSharedOut(t *testing.T) {
	room := web.NewStreamRoom()
	var greedy []<-chan struct{}
	for i := range web.StreamsMax {
		ended, _, ok := room.Join(fmt.Sprint("member ", i/web.StreamsEach))
		if !ok {
			t.Fatalf("place %d of %d refused", i, web.StreamsMax)
		}
		greedy = append(greedy, ended)
	}
	_, leave, ok := room.Join("somebody else")
	if !ok {
		t.Fatal("who has none gets no place, though others have many")
	}
	gone := slices.IndexFunc(greedy, func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	})
	if gone < 0 || gone%web.StreamsEach != 0 {
		t.Errorf("place %d was given away, want the oldest of somebody with many", gone)
	}
	leave()
	leave() // a second time is no harm
	if n := room.Total(); n != web.StreamsMax-1 {
		t.Errorf("%d places taken, want %d", n, web.StreamsMax-1)
	}
}

func TestWrongPINsAreCountedByAddress(t *testing.T) {
	x := newFixture(t)
	at := now
	opts := x.options()
	var mu sync.Mutex
	opts.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return at }
	x.serve(web.New(x.fake, opts))
	wrong := func(i int) int {
		return x.post("/sign-in", url.Values{"staff": {fmt.Sprint("staff-", i%3+1)}, "pin": {"000000"}}).status
	}
	right := func() int { return x.post("/sign-in", url.Values{"staff": {staffID}, "pin": {staffPIN}}).status }
	for i := range web.TriesEach {
		if status := wrong(i); status != http.StatusUnprocessableEntity {
			t.Fatalf("try %d: status %d, want 422", i, status)
		}
		if i == web.TriesEach/2 {
			for range 2 * web.TriesEach { // those that are right do not count
				if status := right(); status != http.StatusSeeOther {
					t.Fatalf("the right PIN: status %d", status)
				}
			}
		}
	}
	a := x.post("/sign-in", url.Values{"staff": {staffID}, "pin": {staffPIN}})
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "Too many wrong PINs") {
		t.Errorf("after %d wrong PINs: status %d, want 429 in words", web.TriesEach, a.status)
	}
	mu.Lock()
	at = at.Add(web.TriesWithin)
	mu.Unlock()
	if status := right(); status != http.StatusSeeOther {
		t.Errorf("later: status %d, want to be let in", status)
	}
}

func TestTurnsAreForEachCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := web.NewTurns()
		var mine []func()
		for range web.TurnsEach {
			leave, ok := turns.Take(t.Context(), "greedy")
			if !ok {
				t.Fatal("no turn though there are some")
			}
			mine = append(mine, leave)
		}
		begun := time.Now()
		if _, ok := turns.Take(t.Context(), "greedy"); ok || time.Since(begun) != 5*time.Second {
			t.Errorf("one more: %t after %s, want a refusal after 5 s", ok, time.Since(begun))
		}
		begun = time.Now()
		leave, ok := turns.Take(t.Context(), "another")
		if !ok || time.Since(begun) != 0 {
			t.Errorf("another waits %s", time.Since(begun))
		}
		leave()
		go func() { time.Sleep(time.Second); mine[0]() }()
		if leave, ok = turns.Take(t.Context(), "greedy"); !ok {
			t.Error("a turn that is given back is not given on")
		}
		leave()
		for _, leave := range mine[1:] {
			leave()
		}
		if n := turns.Callers(); n != 0 {
			t.Errorf("%d callers are remembered after all left", n)
		}
	})
}

// pipes is a listener whose connections stay in memory, so that time is the bubble's.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipes) Close() error   { close(l.done); return nil }
func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func TestSlowFormsAreLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		people := seed(t, fake)
		x := &fixture{t: t, fake: fake, people: people, log: &strings.Builder{}}
		token, err := fake.SignIn(context.Background(), staffID, staffPIN)
		if err != nil {
			t.Fatal(err)
		}
		srv, l, ended := web.NewServer(web.New(fake, x.options())), newPipes(), make(chan error, 1)
		go func() { ended <- srv.Serve(l) }()
		before := fake.state()
		for _, rt := range web.Routes() {
			if !rt.Post {
				continue
			}
			a, b := net.Pipe()
			l.conns <- b
			begun := time.Now()
			go fmt.Fprintf(a, "POST %s HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\nCookie: healthpost_session=%s\r\n"+
				"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nf", x.concrete(rt.Path), token)
			res, err := http.ReadResponse(bufio.NewReader(a), nil)
			if err != nil {
				t.Fatalf("%s: %v", rt.Path, err)
			}
			if res.StatusCode != http.StatusRequestTimeout || time.Since(begun) != web.FormTimeout {
				t.Errorf("%s: status %d after %s, want 408 after %s", rt.Path, res.StatusCode, time.Since(begun), web.FormTimeout)
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				t.Errorf("%s: reading the answer: %v", rt.Path, err)
			}
			a.Close()
		}
		if after := fake.state(); after != before {
			t.Errorf("the box changed: %s, before %s", after, before)
		}
		// without a session nobody waits for the body
		a, b := net.Pipe()
		l.conns <- b
		begun := time.Now()
		go fmt.Fprintf(a, "POST /register HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nf")
		res, err := http.ReadResponse(bufio.NewReader(a), nil)
		if err != nil || res.StatusCode != http.StatusSeeOther || time.Since(begun) != 0 {
			t.Errorf("a slow form of a stranger: %v, %v after %s, want to be sent to sign in at once", res, err, time.Since(begun))
		}
		a.Close()
		// nor for a header that does not end
		c, d := net.Pipe()
		l.conns <- d
		begun = time.Now()
		go fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ")
		_, _ = io.Copy(io.Discard, c) // until the other end closes, in whatever way
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("a header that does not end holds a connection for %s", took)
		}
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
}
