package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/store/journal/faultfs"
)

// disk is a box's whole disk: the journal in memory, and a copy of the index as it
// was at the last checkpoint, which is all of it that is sure to be there after a
// power cut.
type disk struct {
	*faultfs.FS
	index string
	safe  string
	mu    sync.Mutex // the copy and the names move together
}

func newDisk(t testing.TB, seed uint64, index string) *disk {
	return &disk{FS: faultfs.New(seed), index: index, safe: filepath.Join(t.TempDir(), "safe")}
}

// Rename comes right after the index was synced for a checkpoint.
func (d *disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for same := false; !same; { // a compaction may change the files meanwhile
		before, err := manifest(d.index)
		if err != nil {
			return err
		}
		if err := os.RemoveAll(d.safe); err != nil {
			return err
		}
		if err := copyDir(d.safe, d.index); err != nil {
			return err
		}
		after, err := manifest(d.index)
		if err != nil {
			return err
		}
		same = before == after
	}
	return d.FS.Rename(from, to)
}

// manifest is which tables an index has.
func manifest(index string) (string, error) {
	b, err := os.ReadFile(filepath.Join(index, "MANIFEST"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

func copyDir(to, from string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	names, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n.IsDir() {
			continue
		}
		err := copyFile(filepath.Join(to, n.Name()), filepath.Join(from, n.Name()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copyFile keeps holes: memtable logs are mostly zeros.
func copyFile(to, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	zeros, buf := make([]byte, 64<<10), make([]byte, 64<<10)
	var at int64
	for {
		n, err := f.ReadAt(buf, at)
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return err
			}
		} else if n > 0 && strings.HasSuffix(from, ".mem") {
			break // appended to in order
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return out.Truncate(st.Size())
}

// cut leaves what a power cut would: with dropIndex nothing of the index since the
// last checkpoint.
func (d *disk) cut(t testing.TB, keep float64, dropIndex bool) *disk {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	n := newDisk(t, 0, d.index)
	n.FS = d.FS.Cut(keep)
	if err := copyDir(n.safe, d.safe); err != nil {
		t.Fatal(err)
	}
	if dropIndex {
		if err := os.RemoveAll(d.index); err != nil {
			t.Fatal(err)
		}
		if err := copyDir(d.index, d.safe); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// saves runs a workload on a standalone box until an error, and says what was
// acknowledged.
func saves(b *box, r *rand.Rand, n int) (acked []record.Record, err error) {
	for i := range n {
		recs, err := b.s.Append(ctx, []store.Draft{visit(byte(i), 300+r.IntN(2000), r)}, nil)
		if err != nil {
			return acked, err
		}
		acked = append(acked, recs...)
		if i%4 == 3 {
			if err := orderAll(b); err != nil {
				return acked, err
			}
		}
	}
	return acked, b.s.Barrier(ctx)
}

// orderAll is order with an error instead of a failed test.
func orderAll(b *box) error {
	feeds, err := b.s.PendingFeeds()
	if err != nil {
		return err
	}
	var recs []record.Record
	for _, f := range feeds {
		p, err := b.s.Pending(f.Feed, 0, 64<<10)
		if err != nil {
			return err
		}
		recs = append(recs, p...)
	}
	b.raft++
	batch := record.Batch{LeaderMillis: b.s.State().LastTime()*1000 + 1000, Records: recs}
	_, err = b.s.Order(b.raft, 1, batch.Encode())
	return err
}

// checkAcked checks that every acknowledged record is there with its bytes.
func checkAcked(t testing.TB, s *store.Store, acked []record.Record, when string) {
	t.Helper()
	for i := range acked {
		got, ok, err := s.ByRID(acked[i].RID())
		if err != nil || !ok || string(got.Body) != string(acked[i].Body) {
			t.Fatalf("%s: acknowledged record %d of %d is lost: found %v, %v", when, i+1, len(acked), ok, err)
		}
	}
}

// TestEveryJournalOperationFails makes each write and sync of a workload fail in
// each way: nothing is acknowledged after it, and whatever was is there after a
// power cut that drops all that was not synced. Each run takes every fourth operation,
// from another one on; HEALTHPOST_TEST_OPS=all takes every one.
func TestEveryJournalOperationFails(t *testing.T) {
	r := rng(t)
	step := 4
	if os.Getenv("HEALTHPOST_TEST_OPS") == "all" {
		step = 1
	}
	seed := r.Uint64()
	for _, mode := range faultfs.Modes {
		for op := 1 + r.IntN(step); ; op += step {
			b := newFaultBox(t, seed)
			b.found()
			b.s.Barrier(ctx)
			d := b.o.JournalFS.(*disk)
			d.Inject(faultfs.Fault{Op: op, Mode: mode})
			acked, err := saves(b, rand.New(rand.NewPCG(seed, uint64(op))), 12)
			when := fmt.Sprintf("%s at operation %d, %s", mode, op, d.OpName(op))
			if err == nil && d.Disarm() {
				b.close()
				break
			}
			if err == nil { // a checkpoint in the background met the fault
				<-b.s.Fault()
				err = b.s.Err()
			}
			checkPoisoned(t, b, err, when)
			for i, drop := range []bool{false, true} {
				d = d.cut(t, []float64{1, 0.5, 0}[op%3], drop)
				b.o.JournalFS = d
				b.open()
				checkAcked(t, b.s, acked, fmt.Sprintf("%s, cut %d", when, i+1))
				b.close()
			}
		}
	}
}

func newFaultBox(t testing.TB, seed uint64) *box {
	b := &box{t: t, dir: t.TempDir(), o: options(), a: author(1), role: record.RoleStandalone, wall: 1_800_000_000_000}
	b.o.JournalFS = newDisk(t, seed, filepath.Join(b.dir, "index"))
	b.o.SegmentBytes, b.o.ChunkBytes = 64<<10, 16<<10
	b.open()
	return b
}

// checkPoisoned checks that a store takes no write after a fault, and closes it.
func checkPoisoned(t *testing.T, b *box, err error, when string) {
	t.Helper()
	if !errors.Is(err, store.ErrFault) || !errors.Is(err, faultfs.ErrIO) {
		t.Fatalf("%s: workload ended with %v, want the fault", when, err)
	}
	select {
	case <-b.s.Fault():
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: no fault was told", when)
	}
	_, err = b.s.Append(ctx, []store.Draft{visit(1, 100, rand.New(rand.NewPCG(1, 1)))}, nil)
	if !errors.Is(err, store.ErrFault) || b.s.Err() == nil {
		t.Fatalf("%s: a later save gave %v, want the fault", when, err)
	}
	if err := b.s.PutRows(ctx, []store.Row{{Key: []byte("k"), Value: []byte("v")}}); !errors.Is(err, store.ErrFault) {
		t.Fatalf("%s: a later row gave %v, want the fault", when, err)
	}
	if err := b.s.Close(); err != nil {
		t.Fatalf("%s: closing: %v", when, err)
	}
	b.s = nil
}

// TestFailedSyncDropsData is the case that loses 97 of 100 acknowledged records
// when a store goes on after a failed sync: one sync fails once, its data is gone,
// every later one would succeed.
func TestFailedSyncDropsData(t *testing.T) {
	r := rng(t)
	for round := range 10 {
		b := newFaultBox(t, r.Uint64())
		b.found()
		d := b.o.JournalFS.(*disk)
		d.Inject(faultfs.Fault{Op: 2 + r.IntN(60), Mode: faultfs.Fail})
		acked, err := saves(b, r, 60)
		checkPoisoned(t, b, err, fmt.Sprintf("round %d after %d saves, %s", round, len(acked), d.OpName(d.Ops())))
		b.o.JournalFS = d.cut(t, 0, true)
		b.open()
		checkAcked(t, b.s, acked, fmt.Sprintf("round %d", round))
		b.close()
	}
}

// TestCutWithoutWarning cuts the power in the middle of saves that succeed.
func TestCutWithoutWarning(t *testing.T) {
	r := rng(t)
	b := newFaultBox(t, r.Uint64())
	b.found()
	var acked []record.Record
	for round := range 12 {
		got, err := saves(b, r, r.IntN(40))
		if err != nil {
			t.Fatal(err)
		}
		acked = append(acked, got...)
		d := b.o.JournalFS.(*disk).cut(t, r.Float64(), false)
		// The process is gone, not closed: take the index as it was at the last
		// checkpoint, in a directory of its own.
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "index"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := copyDir(filepath.Join(dir, "index"), d.safe); err != nil {
			t.Fatal(err)
		}
		b.s.Close()
		d.index = filepath.Join(dir, "index")
		b.dir, b.o.JournalFS = dir, d
		b.open()
		checkAcked(t, b.s, acked, fmt.Sprintf("round %d", round))
		b.beginEpoch()
	}
	b.close()
}

// TestControlLyingDisk shows that these tests see a loss: a disk that lies about
// syncs loses acknowledged records, and no local design can help.
func TestControlLyingDisk(t *testing.T) {
	r := rng(t)
	b := newFaultBox(t, r.Uint64())
	b.found()
	d := b.o.JournalFS.(*disk)
	d.Lie(true)
	acked, err := saves(b, r, 10)
	if err != nil {
		t.Fatal(err)
	}
	cut := d.cut(t, 0, false)
	b.close()
	dir := t.TempDir()
	if err := copyDir(filepath.Join(dir, "index"), cut.safe); err != nil {
		t.Fatal(err)
	}
	b.o.JournalFS = cut
	s, err := store.Open(dir, b.o)
	if errors.Is(err, store.ErrDamaged) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range acked {
		if _, ok, err := s.ByRID(acked[i].RID()); err == nil && !ok {
			return
		}
	}
	t.Error("a disk that lies lost nothing: these tests prove nothing")
}

// TestStaleIndexIsDetected: a card that says it synced the index and did not.
func TestStaleIndexIsDetected(t *testing.T) {
	r := rng(t)
	b := newBox(t, 1, record.RoleStandalone)
	b.found()
	index, old := filepath.Join(b.dir, "index"), filepath.Join(t.TempDir(), "old")
	journal, oldJournal := filepath.Join(b.dir, "journal"), filepath.Join(t.TempDir(), "journal")
	b.close()
	for to, from := range map[string]string{old: index, oldJournal: journal} {
		if err := copyDir(to, from); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	b.beginEpoch()
	if _, err := saves(b, r, 20); err != nil {
		t.Fatal(err)
	}
	b.close()
	for _, c := range []struct{ what, at, from string }{{"index", index, old}, {"journal", journal, oldJournal}} {
		newest := filepath.Join(t.TempDir(), "newest")
		if err := errors.Join(copyDir(newest, c.at), os.RemoveAll(c.at), copyDir(c.at, c.from)); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(b.dir, b.o)
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("an older %s opens with %v, want damage", c.what, err)
		}
		if err == nil {
			s.Close()
		}
		if err := errors.Join(os.RemoveAll(c.at), copyDir(c.at, newest)); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	b.close()
}

// TestBitRot flips one bit at a time in the files of a store, at random places. Every read afterwards is right, or an error; Open may say so at once.
func TestBitRot(t *testing.T) {
	r := rng(t)
	b := newBox(t, 1, record.RoleStandalone)
	b.found()
	acked, err := saves(b, r, 150)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.s.PutRows(ctx, []store.Row{{Key: []byte("row"), Value: []byte("value")}}); err != nil {
		t.Fatal(err)
	}
	head := b.s.Head()
	// One copy as a killed process leaves it, one closed. The last frame of a
	// killed one holds a row that nobody asks for.
	if err := b.s.PutRows(ctx, []store.Row{{Key: []byte("last"), Value: []byte("frame")}}); err != nil {
		t.Fatal(err)
	}
	killed := t.TempDir()
	copyStore(t, killed, b.dir)
	b.close()
	rounds, found, silent := 120, 0, 0
	if testing.Short() {
		rounds = 30
	}
	for round := range rounds {
		dir := t.TempDir()
		files := copyStore(t, dir, []string{b.dir, killed}[round%2])
		name := files[r.IntN(len(files))]
		at := flip(t, filepath.Join(dir, name), r)
		if at < 0 {
			continue
		}
		wrong, err := readAll(dir, b.o, acked, head)
		if wrong != "" {
			t.Errorf("bit at %d of %s: wrong value shown: %s", at, name, wrong)
		}
		if err != nil && !errors.Is(err, store.ErrDamaged) && name != "FORMAT" { // another version is an error of its own
			t.Errorf("bit at %d of %s: %v, want damage", at, name, err)
		}
		if err != nil {
			found++
		} else {
			silent++
			t.Logf("bit at %d of %s changed nothing that counts", at, name)
		}
		os.RemoveAll(dir)
	}
	t.Logf("damage reported %d times, %d flips changed nothing", found, silent)
	if found == 0 {
		t.Error("no flip was found: the test shows nothing")
	}
}

// TestSalvage damages one block of a table. The store does not open, but opened
// for salvage everything else can be read, and Verify names what cannot.
func TestSalvage(t *testing.T) {
	r := rng(t)
	b := newBox(t, 1, record.RoleStandalone)
	b.found()
	acked, err := saves(b, r, 300)
	if err != nil {
		t.Fatal(err)
	}
	acked = append(acked, b.append(visit(1, 100, r), visit(2, 100, r))...)
	b.close()
	tables, err := filepath.Glob(filepath.Join(b.dir, "index", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	raw, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/3] ^= 1 // among the bodies
	if err := os.WriteFile(tables[0], raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(b.dir, b.o); !errors.Is(err, store.ErrDamaged) {
		t.Fatalf("a damaged store opens with %v", err)
	}
	b.o.Salvage = true
	for range 2 {
		s, err := store.Open(b.dir, b.o)
		if err != nil {
			t.Fatal(err)
		}
		lost := map[record.RID]bool{}
		for i := range acked {
			got, ok, err := s.ByRID(acked[i].RID())
			switch {
			case errors.Is(err, store.ErrDamaged):
				lost[acked[i].RID()] = true
			case err != nil || !ok || !bytes.Equal(got.Body, acked[i].Body):
				t.Errorf("record %d: found %v, %v", i, ok, err)
			}
		}
		rep, err := s.Verify(ctx, store.VerifyOptions{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		named := map[record.RID]bool{}
		for _, d := range rep.Damage {
			named[d.RID] = true
		}
		for rid := range lost {
			if !named[rid] {
				t.Errorf("record %s cannot be read and is not named", rid.Short())
			}
		}
		t.Logf("%d of %d records cannot be read, %d findings", len(lost), len(acked), len(rep.Damage))
		if len(lost) == 0 || len(lost) > 30 {
			t.Errorf("%d records of one block cannot be read", len(lost))
		}
		if err := s.PutRows(ctx, []store.Row{{Key: []byte("k"), Value: []byte("v")}}); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("a write to a store that is being salvaged gave %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func copyStore(t *testing.T, to, from string) (files []string) {
	t.Helper()
	for _, d := range []string{".", "index", "journal"} {
		if err := copyDir(filepath.Join(to, d), filepath.Join(from, d)); err != nil {
			t.Fatal(err)
		}
		names, err := os.ReadDir(filepath.Join(from, d))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if !n.IsDir() && n.Name() != "LOCK" {
				files = append(files, filepath.Join(d, n.Name()))
			}
		}
	}
	return files
}

// flip changes one bit among the bytes that are not trailing zeros.
func flip(t *testing.T, path string, r *rand.Rand) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := len(strings.TrimRight(string(b), "\x00"))
	if n == 0 {
		return -1
	}
	at := r.IntN(n)
	b[at] ^= 1 << r.IntN(8)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return int64(at)
}

// readAll opens a store and reads everything that was acknowledged. wrong says
// what was shown that is not right.
func readAll(dir string, o store.Options, acked []record.Record, head record.TreeHead) (wrong string, err error) {
	s, err := store.Open(dir, o)
	if err != nil {
		return "", err
	}
	defer s.Close()
	if s.Head() != head {
		return fmt.Sprintf("head %v, want %v", s.Head(), head), nil
	}
	var errs []error
	for i := range acked {
		r, ok, err := s.ByRID(acked[i].RID())
		switch {
		case err != nil:
			errs = append(errs, err)
		case !ok:
			return "record is missing", nil
		case string(r.Body) != string(acked[i].Body):
			return "body", nil
		}
	}
	v, err := s.GetRow([]byte("row"))
	if err == nil && string(v) != "value" {
		return "row", nil
	}
	rep, verr := s.Verify(ctx, store.VerifyOptions{}, nil)
	for i := range rep.Damage {
		errs = append(errs, &rep.Damage[i])
	}
	return "", errors.Join(append(errs, err, verr)...)
}
