package node_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/store/journal/faultfs"
	"github.com/healthpost/healthpost/web"
)

// card is a disk of which the journal forgets what was not synced. Of the index it
// keeps a copy as of the last checkpoint, which is all that is sure to be there
// after a power cut.
type card struct {
	*faultfs.FS
	index, safe string

	mu sync.Mutex // the copy and the names move together
}

// Rename implements journal.FS. It comes right after the index was synced.
func (d *card) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.RemoveAll(d.safe); err != nil {
		return err
	}
	if err := os.CopyFS(d.safe, os.DirFS(d.index)); err != nil {
		return err
	}
	return d.FS.Rename(from, to)
}

// cut is what the card holds after a power cut at this moment, as a store.
func (d *card) cut(t *testing.T, o store.Options) *store.Store {
	t.Helper()
	d.mu.Lock()
	o.JournalFS = d.FS.Cut(0)
	dir := t.TempDir()
	err := os.CopyFS(filepath.Join(dir, filepath.Base(d.index)), os.DirFS(d.safe))
	d.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// TestNothingIsShownBeforeItsLineIsDurable cuts the power at the moment in which a
// chart is on the screen: the line that says who opened it is on the disk.
func TestNothingIsShownBeforeItsLineIsDurable(t *testing.T) {
	dir := t.TempDir()
	if _, err := node.Init(dir, record.RoleStandalone, "Test box"); err != nil {
		t.Fatal(err)
	}
	c := &clinic{t: t, o: options(dir)}
	d := &card{FS: faultfs.New(1), index: filepath.Join(dir, "db", "index"), safe: filepath.Join(t.TempDir(), "index")}
	c.o.Store.JournalFS = d
	c.start()
	if err := c.n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Amina Test", PIN: pin}); err != nil {
		t.Fatal(err)
	}
	c.signIn()
	lines := func(st *store.Store) (n int) {
		t.Helper()
		if err := st.ScanRows([]byte("acc/"), 1000, func(_, _ []byte) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i, given := range []string{"Nakato", "Okello", "Achieng"} {
		id := c.register("form-"+given, given)
		c.open(id)
		if got := lines(d.cut(t, c.o.Store)); got < i+1 {
			t.Errorf("after %d charts were shown the disk has %d lines", i+1, got)
		}
	}
}
