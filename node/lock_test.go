package node_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

// keyFile makes a key file and the opener of it.
func keyFile(t *testing.T) (path string, by node.Opener) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "box.key")
	secret, err := node.MakeKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, node.Opener{File: secret}
}

// lockWith locks a running box and stops it.
func (c *clinic) lockWith(by node.Opener) {
	c.t.Helper()
	if err := c.n.ChangeLock(c.t.Context(), node.LockChange{To: &by}); err != nil {
		c.t.Fatal(err)
	}
	c.stop()
}

// service is a box that runs as the program runs it; pages tells each time its page answers.
type service struct {
	*clinic
	pages chan string
	cl    *node.Client
}

func (c *clinic) serve() *service {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, done := &service{clinic: c, pages: make(chan string, 8)}, make(chan error, 1)
	go func() { done <- node.Start(ctx, c.o, func(string) {}, func(page string) { s.pages <- page }) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("stopping the box: %v", err)
		}
	})
	c.t.Cleanup(func() { c.stop() })
	return s
}

// page waits for the page, and reaches the box for commands.
func (s *service) page() string {
	s.t.Helper()
	select {
	case at := <-s.pages:
		cl, err := node.Dial(s.t.Context(), s.o)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { cl.Close() })
		s.cl = cl
		return at
	case <-time.After(time.Minute):
		s.t.Fatal("the page did not come")
	}
	return ""
}

func (s *service) isLocked() bool {
	s.t.Helper()
	i, err := s.cl.Lock(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return i.Locked
}

func get(t *testing.T, at string) (status int, location, body string) {
	t.Helper()
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer c.CloseIdleConnections()
	res, err := c.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("Location"), string(b)
}

func TestALockedBoxShowsNothingUntilItIsOpened(t *testing.T) {
	c := newClinic(t)
	id := c.register("form-1", "Nakato")
	_, by := keyFile(t)
	if err := c.n.ChangeLock(t.Context(), node.LockChange{To: &by}); err != nil {
		t.Fatal(err)
	}
	if c.open(id).Row.Given != "Nakato" || c.n.Lock() != (node.LockInfo{Kind: "key file"}) {
		t.Errorf("the box that runs: lock %+v", c.n.Lock())
	}
	c.stop()
	if _, err := node.Open(c.o); !errors.Is(err, node.ErrKeysLocked) {
		t.Fatalf("opening the copy of a locked card: got %v, want ErrKeysLocked", err)
	}
	var log bytes.Buffer
	c.o.Page, c.o.Log = "127.0.0.1:0", zerolog.New(zerolog.SyncWriter(&log))
	s := c.serve()
	at := s.page()
	for _, path := range []string{"/", "/find", "/patient/" + id, "/staff", "/sign-in", "/links", "/events", "/first", "/stick"} {
		status, location, body := get(t, at+path)
		if path == "/" && status != http.StatusOK || path != "/" && (status != http.StatusSeeOther || location != "/") {
			t.Errorf("%s of a locked box: status %d to %q", path, status, location)
		}
		for _, name := range []string{"Nakato", "Testova", "Amina", "Mbale"} {
			if strings.Contains(body, name) {
				t.Errorf("%s of a locked box shows %q", path, name)
			}
		}
	}
	if _, err := s.cl.Staff(t.Context()); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("the staff of a locked box: %v", err)
	}
	if _, err := s.cl.Export(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("the export of a locked box: %v", err)
	}
	if rep, err := s.cl.Verify(t.Context(), node.VerifyRequest{Full: true}, func(node.Progress) {}); err != nil || len(rep.Damage) != 0 {
		t.Errorf("verify of a locked box: %+v, %v", rep, err)
	}
	if st, err := s.cl.Status(t.Context()); err != nil || !st.Lock.Locked || st.Size == 0 {
		t.Errorf("status of a locked box: %+v, %v", st, err)
	}
	if !s.isLocked() {
		t.Fatal("it is not locked")
	}
	if err := s.cl.OpenLock(t.Context(), by); err != nil {
		t.Fatal(err)
	}
	at = s.page()
	if status, location, _ := get(t, at+"/"); status != http.StatusSeeOther || location != "/sign-in" || s.isLocked() {
		t.Errorf("after opening: status %d to %q", status, location)
	}
	if tiles, err := s.cl.Staff(t.Context()); err != nil || len(tiles) != 1 || tiles[0].Name != "Amina Test" {
		t.Errorf("after opening: staff %v, %v", tiles, err)
	}
	if err := s.cl.ChangeLock(t.Context(), node.LockChange{}); err == nil {
		t.Error("the lock was taken off by who cannot open it")
	}
	if err := s.cl.ChangeLock(t.Context(), node.LockChange{From: &by}); err != nil {
		t.Error(err)
	}
	c.stop()
	c.o.Page = ""
	c.start()
	c.signIn()
	if c.open(id).Row.Given != "Nakato" {
		t.Error("the chart after the lock was taken off")
	}
	c.stop()
	if strings.Contains(log.String(), "Nakato") {
		t.Error("the log names somebody")
	}
}

// Wrong ones are counted across restarts, and the pause grows; a command is not held up by it.
func TestTriesAtTheLockAreCounted(t *testing.T) {
	c := newClinic(t)
	_, by := keyFile(t)
	c.lockWith(by)
	clock := time.Now()
	c.o.Now = func() time.Time { return clock }
	open := func() *node.Node {
		n, err := node.OpenLocked(c.o)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := open()
	defer func() { n.Close() }()
	wrong := node.Opener{File: bytes.Repeat([]byte{7}, 32)}
	wrongs := func(count int) {
		t.Helper()
		for range count {
			if err := n.OpenLock(t.Context(), wrong); !errors.Is(err, web.ErrWrongPIN) {
				t.Errorf("a wrong one: %v", err)
			}
		}
	}
	pause := func(by node.Opener, most time.Duration) {
		t.Helper()
		var locked *web.LockedError
		if err := n.OpenLock(t.Context(), by); !errors.As(err, &locked) || locked.Until > most || locked.Until < most-2*time.Second {
			t.Errorf("got %v, want a pause of %v", err, most)
		}
	}
	wrongs(3)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = open()
	if err := n.OpenLock(t.Context(), node.Opener{Passphrase: "copper lantern mosquito harvest violin"}); !errors.Is(err, web.ErrWrongPIN) {
		t.Errorf("a passphrase for a key file: %v", err)
	}
	pause(wrong, 5*time.Minute)
	pause(by, 5*time.Minute)
	clock = clock.Add(5*time.Minute + time.Second)
	wrongs(4)
	pause(wrong, 10*time.Minute)
	clock = clock.Add(-time.Hour * 24 * 365) // nobody waits a year because a clock went back
	pause(by, 10*time.Minute)
	if err := n.OpenLockHere(wrong); err == nil {
		t.Error("a command opens with a wrong one")
	}
	clock = clock.Add(10*time.Minute + time.Second)
	if err := n.OpenLock(t.Context(), by); err != nil {
		t.Errorf("the right one, after the pause: %v", err)
	}
}

func TestALockedBoxOpensWhenItsKeyFileAppears(t *testing.T) {
	c := newClinic(t)
	path, by := keyFile(t)
	c.lockWith(by)
	away := path + ".away"
	if err := os.Rename(path, away); err != nil {
		t.Fatal(err)
	}
	c.o.KeyFile = path
	s := c.serve()
	s.page()
	if !s.isLocked() {
		t.Fatal("open without its key file")
	}
	if err := os.Rename(away, path); err != nil {
		t.Fatal(err)
	}
	s.page()
	if s.isLocked() {
		t.Error("locked although its key file is there")
	}
	c.stop()
	c.start() // with the file there from the start
	c.signIn()
}

// A passphrase typed on the page opens the box, with everything that it took in meanwhile.
func TestALockedClinicTakesInAndSends(t *testing.T) {
	hub := newHub(t)
	one := newMember(t, hub, "One")
	one.confirmed()
	before := status(t, hub).Size
	words := "copper lantern mosquito harvest violin"
	hub.stop()
	one.register("form-1", "Nakato") // on this box alone
	one.lockWith(node.Opener{Passphrase: words})
	raw, err := os.ReadFile(filepath.Join(one.o.Data, "keys"))
	if err != nil || bytes.Contains(raw, []byte(words)) {
		t.Fatalf("the keys hold the passphrase, %v", err)
	}
	one.o.Page = "127.0.0.1:0"
	s := one.serve()
	at := s.page()
	hub.start()
	hub.until("what the locked box wrote before", func(s node.Status) bool { return s.Size >= before+2 })
	one.eventually("the locked box to follow", func() bool {
		st, err := s.cl.Status(t.Context())
		return err == nil && st.Confirmed >= before+2 && st.Pending == 0 && st.Lock.Locked
	})
	browser := http.Client{}
	defer browser.CloseIdleConnections()
	res, err := browser.PostForm(at+"/", url.Values{"passphrase": {"  Copper LANTERN mosquito harvest violin"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(b), "opening") || strings.Contains(string(b), "mosquito") {
		t.Errorf("the right passphrase: status %d, %v", res.StatusCode, err)
	}
	s.page()
	var out bytes.Buffer
	if _, err := s.cl.Export(t.Context(), &out); err != nil || !strings.Contains(out.String(), "Nakato") {
		t.Errorf("the chart that was written before: %d bytes, %v", out.Len(), err)
	}
}

// unlock takes the lock off a stopped box.
func unlock(t *testing.T, o node.Options, by node.Opener) error {
	t.Helper()
	cl, err := node.Dial(t.Context(), o)
	if err != nil {
		return err
	}
	return errors.Join(cl.ChangeLock(t.Context(), node.LockChange{From: &by}), cl.Close())
}

// What is neither long words nor a key file locks nothing, and says nothing of what was typed.
func TestALockTakesNoPIN(t *testing.T) {
	c := newClinic(t)
	for _, by := range []node.Opener{{}, {Passphrase: "314159"}, {File: []byte("short")}, {Passphrase: "one two three four", File: make([]byte, 32)}} {
		err := c.n.ChangeLock(t.Context(), node.LockChange{To: &by})
		if err == nil || by.Passphrase != "" && strings.Contains(err.Error(), by.Passphrase) {
			t.Errorf("got %v", err)
		}
	}
	keys, _, err := seal.LoadKeyring(filepath.Join(c.o.Data, "keys"))
	if err != nil || keys.Locked() || c.n.Lock().Kind != "none" {
		t.Errorf("the keys: %v, %+v", err, c.n.Lock())
	}
	var wait *web.LockedError
	if err := c.n.OpenLock(t.Context(), node.Opener{}); errors.As(err, &wait) {
		t.Errorf("a box without a lock counts tries: %v", err)
	}
	if _, err := record.ParseRegionID(status(t, c).Region); err != nil {
		t.Error(err)
	}
}

// A box that is made under a lock never has its keys in the clear, and joins with them.
func TestABoxMadeUnderALockJoins(t *testing.T) {
	hub := newHub(t)
	path, by := keyFile(t)
	c := newBox(t, record.RoleClinic, "One")
	c.o.Data = t.TempDir()
	if _, err := node.InitLocked(c.o.Data, record.RoleClinic, "One", by); err != nil {
		t.Fatal(err)
	}
	text := hub.invite(record.RoleClinic)
	if _, err := node.Join(t.Context(), c.o, text, nil); !errors.Is(err, node.ErrKeysLocked) {
		t.Errorf("joining without the key file: %v", err)
	}
	asked := 0
	c.o.AskLock = func(kind string) (node.Opener, error) {
		if asked++; kind != "key file" || asked > 1 {
			t.Errorf("asked %d times, for a %s", asked, kind)
		}
		return by, nil
	}
	if _, err := node.Join(t.Context(), c.o, text, nil); err != nil {
		t.Fatal(err)
	}
	keys, _, err := seal.LoadKeyring(filepath.Join(c.o.Data, "keys"))
	if err != nil || !keys.Locked() {
		t.Errorf("after joining: locked %t, %v", keys.Locked(), err)
	}
	c.o.AskLock, c.o.KeyFile = nil, path
	c.start()
	c.until("the ledger", func(s node.Status) bool { return s.Confirmed >= 3 && !s.Lock.Locked })
}
