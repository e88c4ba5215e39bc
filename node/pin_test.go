package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/web"
)

func (c *clinic) try(id, p string) error {
	_, err := c.n.SignIn(c.t.Context(), id, p)
	return err
}

// A box without a clock of its own may start in the past: that must not keep its
// staff out until the time comes round again.
func TestAClockSetBackLocksForNoLonger(t *testing.T) {
	c := newClinic(t)
	c.stop()
	clock := time.Now()
	c.o.Now = func() time.Time { return clock }
	c.start()
	tiles, err := c.n.Staff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var locked *web.LockedError
	for range 5 {
		err = c.try(tiles[0].ID, "999999")
	}
	if !errors.As(err, &locked) {
		t.Fatalf("fifth wrong PIN: got %v, want locked", err)
	}
	clock = clock.AddDate(-1, 0, 0)
	if err := c.try(tiles[0].ID, pin); !errors.As(err, &locked) || locked.Until > 5*time.Minute {
		t.Errorf("right after the clock went back a year: got %v, want locked for 5 minutes at most", err)
	}
	clock = clock.Add(5*time.Minute + time.Second)
	if err := c.try(tiles[0].ID, pin); err != nil {
		t.Errorf("five minutes later: %v", err)
	}
}

// A full disk takes no count, and must not make guessing free.
func TestPINsAreCountedWhileTheDiskIsFull(t *testing.T) {
	c := newClinic(t)
	c.confirmed()
	c.stop()
	o := c.o
	c.o.Store.FreeBytesMin = 1 << 60
	c.start()
	tiles, err := c.n.Staff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if err := c.try(tiles[0].ID, "999999"); !errors.Is(err, web.ErrWrongPIN) {
			t.Fatalf("wrong PIN %d: got %v, want ErrWrongPIN", i+1, err)
		}
	}
	var locked *web.LockedError
	if err := c.try(tiles[0].ID, "999999"); !errors.As(err, &locked) {
		t.Errorf("fifth wrong PIN: got %v, want locked", err)
	}
	if err := c.try(tiles[0].ID, pin); !errors.As(err, &locked) {
		t.Errorf("right PIN while locked: got %v, want locked", err)
	}
	c.stop()
	c.o = o
	c.start()
	if err := c.try(tiles[0].ID, pin); err != nil {
		t.Errorf("right PIN with room again: %v", err)
	}
}

// A PIN that the page's form does not take would keep its owner out for good.
func TestAPINIsWhatThePageAsksFor(t *testing.T) {
	c := newClinic(t)
	for _, p := range []string{"", "27182", "2718281", "27182818", "27182a", "2718\u0662\u0668"} {
		if err := c.n.AddStaff(t.Context(), &c.token, web.NewStaff{Name: "Second", PIN: p}); err == nil {
			t.Errorf("a PIN of %d bytes was taken", len(p))
		}
	}
}

func TestOthersOnTheMachineReachNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Init(dir, record.RoleStandalone, "Box"); err != nil {
		t.Fatal(err)
	}
	c := &clinic{t: t, o: options(dir)}
	c.start()
	for name, want := range map[string]os.FileMode{"": 0o700, "control.sock": 0o600, "keys": 0o600, "box.toml": 0o600, "db": 0o700} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != want {
			t.Errorf("%q: got %v, %v; want %v", name, st.Mode().Perm(), err, want)
		}
	}
}

// Each five wrong PINs in a row are followed by a longer pause, up to an hour, also over restarts; a
// right one begins anew.
func TestPausesAfterWrongPINsGrow(t *testing.T) {
	c := newClinic(t)
	c.stop()
	clock := time.Now()
	c.o.Now = func() time.Time { return clock }
	c.start()
	tiles, err := c.n.Staff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fiveWrong := func() time.Duration {
		t.Helper()
		for range 4 {
			if err := c.try(tiles[0].ID, "999999"); !errors.Is(err, web.ErrWrongPIN) {
				t.Fatalf("wrong PIN: got %v", err)
			}
		}
		var locked *web.LockedError
		if err := c.try(tiles[0].ID, "999999"); !errors.As(err, &locked) {
			t.Fatalf("fifth wrong PIN: got %v", err)
		}
		clock = clock.Add(locked.Until + time.Second)
		return locked.Until
	}
	for i, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
		if i == 3 {
			c.stop()
			c.start()
		}
		if got := fiveWrong(); got != want*time.Minute {
			t.Errorf("pause %d: %v, want %d minutes", i+1, got, want)
		}
	}
	if err := c.try(tiles[0].ID, pin); err != nil {
		t.Fatalf("the right PIN after a pause: %v", err)
	}
	if got := fiveWrong(); got != 5*time.Minute {
		t.Errorf("first pause after a right PIN: %v", got)
	}
}
