package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

// spoil turns one bit over in the largest table of a box.
func spoil(t *testing.T, dir string, at int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "db", "index", "*.sst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	var largest []byte
	var name string
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) > len(largest) {
			largest, name = raw, f
		}
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	off := len(largest) * at / 10
	_, err = f.WriteAt([]byte{largest[off] ^ 4}, int64(off)) // in place: a running box has it mapped
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// damage spoils a stopped box until it says so: some bits are nobody's.
func damage(t *testing.T, c *clinic) {
	t.Helper()
	for at := range 8 {
		spoil(t, c.o.Data, at+1)
		n, err := node.Open(c.o)
		if errors.Is(err, node.ErrDamaged) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("eight bits are turned over and the box does not notice")
}

// openToRun opens a box as run does, and starts it.
func (c *clinic) openToRun() (words []string) {
	c.t.Helper()
	n, err := node.OpenToRun(c.t.Context(), c.o, func(s string) { words = append(words, s) })
	if err != nil {
		c.t.Fatalf("opening the box to run: %v", err)
	}
	if err := n.Close(); err != nil {
		c.t.Fatal(err)
	}
	c.start()
	return words
}

// A clinic whose disk lost bits starts, keeps what is sound, and gets the rest from
// the hub.
func TestDamagedClinicIsMadeAnew(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	id := c.register("form-1", "Nakato")
	for i := range 20 {
		if _, err := c.n.SaveVisit(t.Context(), c.token, id, "form-"+string(rune('a'+i)), fhir.Visit{At: time.Now(), Problem: "fever", Note: strings.Repeat("long ", 200)}); err != nil {
			t.Fatal(err)
		}
	}
	c.confirmed()
	before, err := c.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.stop()
	damage(t, c)
	words := strings.Join(c.openToRun(), "\n")
	if !strings.Contains(words, "Making it anew") || !strings.Contains(words, "entries of the ledger") {
		t.Errorf("the box says:\n%s", words)
	}
	if _, err := os.Stat(filepath.Join(c.o.Data, "db.damaged")); err != nil {
		t.Errorf("the damaged folder was not kept: %v", err)
	}
	c.until("the ledger", func(s node.Status) bool { return s.Confirmed >= before.Size && s.Pending+s.Shared == 0 })
	c.signIn()
	if v := c.open(id); len(v.Chart.Visits) != 20 {
		t.Errorf("visits after the start: got %d, want 20", len(v.Chart.Visits))
	}
	rep, err := c.n.Verify(t.Context(), node.VerifyRequest{Full: true}, func(node.Progress) {})
	if err != nil || len(rep.Damage) > 0 {
		t.Errorf("verify: %+v, %v", rep, err)
	}
	s, err := c.n.Status(t.Context())
	if err != nil || s.Refused != 0 {
		t.Errorf("status: %+v, %v", s, err)
	}
}

// A start that was cut short while folders changed places goes on.
func TestRebuiltFolderIsTakenUp(t *testing.T) {
	for name, prepare := range map[string]func(dir string) error{
		"before the old one moved": func(dir string) error {
			return os.CopyFS(filepath.Join(dir, "db.rebuilt"), os.DirFS(filepath.Join(dir, "db")))
		},
		"after it": func(dir string) error { return os.Rename(filepath.Join(dir, "db"), filepath.Join(dir, "db.rebuilt")) },
	} {
		c := newClinic(t)
		c.register("form-1", "Nakato")
		c.stop()
		if err := prepare(c.o.Data); err != nil {
			t.Fatal(err)
		}
		if words := c.openToRun(); len(words) > 0 {
			t.Errorf("%s: the box says %q", name, words)
		}
		c.signIn()
		if found := c.find("testova"); len(found) != 1 {
			t.Errorf("%s: found %d patients, want 1", name, len(found))
		}
		if _, err := os.Stat(filepath.Join(c.o.Data, "db.rebuilt")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the folder is still there: %v", name, err)
		}
		c.stop()
	}
}

// A box alone in its region is not cut down to what is sound: what it confirmed
// would change.
func TestDamagedBoxAloneDoesNotStart(t *testing.T) {
	c := newClinic(t)
	for _, name := range []string{"Nakato", "Babirye", "Amina"} {
		c.register("form-"+name, name)
	}
	c.confirmed()
	c.stop()
	damage(t, c)
	_, err := node.OpenToRun(t.Context(), c.o, func(string) {})
	if !errors.Is(err, node.ErrDamaged) || !strings.Contains(err.Error(), "healthpost export") {
		t.Errorf("got %v", err)
	}
}

// A check that begins behind what an earlier one read says when that was, also when it
// finds damage.
func TestCheckOfADamagedBoxSaysWhatItPassedOver(t *testing.T) {
	c := newClinic(t)
	c.register("form-1", "Nakato")
	c.confirmed()
	before := time.Now().Add(-time.Second)
	if rep, err := c.n.Verify(t.Context(), node.VerifyRequest{}, func(node.Progress) {}); err != nil || len(rep.Damage) > 0 {
		t.Fatalf("the sound box: %+v, %v", rep, err)
	}
	c.stop()
	damage(t, c)
	o := c.o
	o.Store.Salvage = true
	n, err := node.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	rep, err := n.Verify(t.Context(), node.VerifyRequest{}, func(node.Progress) {})
	if err != nil || len(rep.Damage) == 0 {
		t.Fatalf("the damaged box: %+v, %v", rep, err)
	}
	if rep.LastFull.Before(before) {
		t.Errorf("what was passed over was read at %s", rep.LastFull)
	}
}

func TestBoxWaitsForACommandThatLooksAtIt(t *testing.T) {
	dir := t.TempDir()
	if _, err := node.Init(dir, record.RoleStandalone, "Test box"); err != nil {
		t.Fatal(err)
	}
	o := options(dir)
	looking, err := node.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		n, err := node.OpenToRun(t.Context(), o, func(string) {})
		if err == nil {
			err = n.Close()
		}
		opened <- err
	}()
	if err := looking.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("starting while a command looked at the box: %v", err)
	}
}
