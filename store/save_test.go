package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/store/journal/faultfs"
)

// saver saves n visits from each of some goroutines and gives the latencies.
func savers(t testing.TB, s *store.Store, writers, each, bytes int) []time.Duration {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(1, uint64(w)))
			drafts := make([]store.Draft, each)
			for i := range drafts {
				drafts[i] = visit(byte(w), bytes, r)
			}
			mine := make([]time.Duration, 0, each)
			for i := range drafts {
				start := time.Now()
				if _, err := s.Append(ctx, drafts[i:i+1], nil); err != nil {
					t.Error(err)
					return
				}
				mine = append(mine, time.Since(start))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		}()
	}
	wg.Wait()
	sort.Slice(took, func(a, b int) bool { return took[a] < took[b] })
	return took
}

// TestFlushesPerSave counts flushes: one for a lone save, fewer when savers come
// together.
func TestFlushesPerSave(t *testing.T) {
	for _, c := range []struct {
		writers, each int
		flush         time.Duration // long enough that all of them come meanwhile, on a busy machine too
		want          float64
	}{{1, 60, 5 * time.Millisecond, 1}, {16, 10, 60 * time.Millisecond, 0.25}} {
		fs := faultfs.New(1)
		b := &box{t: t, dir: t.TempDir(), o: options(), a: author(1), role: record.RoleStandalone, wall: 1_800_000_000_000}
		b.o.JournalFS, b.o.SegmentBytes = fs, 32<<20
		b.open()
		b.found()
		if err := b.s.Barrier(ctx); err != nil {
			t.Fatal(err)
		}
		fs.Delay(c.flush)
		before := b.s.Stats()
		savers(t, b.s, c.writers, c.each, 900)
		after := b.s.Stats()
		got := float64(after.Flushes-before.Flushes) / float64(c.writers*c.each)
		t.Logf("%d savers: %.3f flushes a save", c.writers, got)
		if got > c.want {
			t.Errorf("%d savers: %.3f flushes a save, want at most %.2f", c.writers, got, c.want)
		}
		fs.Delay(0)
		b.close()
	}
}

// TestManyAtOnce saves, orders, reads and scans at the same time, and checks
// that readers never see a record before it is durable.
func TestManyAtOnce(t *testing.T) {
	b := standalone(t)
	var done atomic.Bool
	var wg sync.WaitGroup
	run := func(f func() error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for !done.Load() {
				if err := f(); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	run(func() error { return orderAll(b) })
	run(func() error {
		head := b.s.Head()
		root, err := b.s.RootAt(head.Size)
		if err == nil && root != head.Root {
			err = fmt.Errorf("root of size %d differs from head", head.Size)
		}
		return err
	})
	run(func() error { _, err := b.s.Compartment(record.CompartmentID{1, 1}); return err })
	run(func() error {
		rep, err := b.s.Verify(ctx, store.VerifyOptions{}, nil)
		for i := range rep.Damage {
			err = errors.Join(err, &rep.Damage[i])
		}
		return err
	})
	var cursor uint64
	run(func() error {
		list, err := b.s.Arrivals(cursor+1, 50)
		for _, a := range list {
			if a.N <= cursor {
				return fmt.Errorf("arrival %d after %d", a.N, cursor)
			}
			cursor = a.N
		}
		return err
	})
	savers(t, b.s, 8, 40, 500)
	done.Store(true)
	wg.Wait()
	b.order()
	b.s.Barrier(ctx)
	if got := b.s.Head().Size; got != 2+8*40 {
		t.Errorf("ledger of size %d, want %d", got, 2+8*40)
	}
	b.reopen()
}

// TestUnsyncedIsInvisible holds a flush back and looks.
func TestUnsyncedIsInvisible(t *testing.T) {
	fs := faultfs.New(1)
	b := &box{t: t, dir: t.TempDir(), o: options(), a: author(1), role: record.RoleStandalone, wall: 1_800_000_000_000}
	b.o.JournalFS = fs
	b.open()
	b.found()
	if err := b.s.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	before := b.s.Arrived()
	reached, release := fs.Hold()
	defer release()
	saved := make(chan record.RID, 1)
	changed := b.s.Subscribe(ctx)
	go func() { saved <- b.append(visit(1, 100, rand.New(rand.NewPCG(1, 1))))[0].RID() }()
	<-reached
	select {
	case <-saved:
		t.Fatal("a save returned before its flush")
	case <-time.After(100 * time.Millisecond): // the flush is under way
		if got := b.s.Arrived(); got != before {
			t.Errorf("a record is visible before its flush: arrival %d after %d", got, before)
		}
	}
	release()
	rid := <-saved
	<-changed
	if _, ok, err := b.s.Locate(rid); !ok || err != nil {
		t.Errorf("saved record: %v, %v", ok, err)
	}
}

// TestCosignatureIsNotedFirst: a hub that cosigned and forgot it in a power cut could
// cosign a smaller tree, or another one. PutSigned returns when the note is on the disk.
func TestCosignatureIsNotedFirst(t *testing.T) {
	fs := faultfs.New(1)
	b := &box{t: t, dir: t.TempDir(), o: options(), a: author(1), role: record.RoleStandalone, wall: 1_800_000_000_000}
	b.o.JournalFS = fs
	b.open()
	b.found()
	if err := b.s.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	reached, release := fs.Hold()
	defer release()
	noted := make(chan error, 1)
	go func() { noted <- b.s.PutSigned(b.s.Head()) }()
	select {
	case <-noted:
		t.Fatal("noted, and nothing was flushed")
	case <-reached:
	}
	select {
	case <-noted:
		t.Fatal("noted before it was flushed")
	case <-time.After(50 * time.Millisecond): // the flush is under way
	}
	release()
	if err := <-noted; err != nil {
		t.Error(err)
	}
}

// TestSealMayRead: what a caller runs inside a save may read the store, also
// while the store closes.
func TestSealMayRead(t *testing.T) {
	for range 20 {
		b := standalone(t)
		inside, done := make(chan struct{}), make(chan error)
		go func() {
			_, err := b.s.Append(ctx, []store.Draft{{Lane: 1, Kind: record.KindClinical, Seal: func(record.Position) ([]byte, error) {
				close(inside)
				for range 50 {
					if _, err := b.s.GetRow([]byte("k")); !errors.Is(err, store.ErrNotFound) {
						return nil, err
					}
				}
				return []byte("body"), nil
			}}}, nil)
			done <- err
		}()
		<-inside
		if err := b.s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("a save while closing: %v", err)
		}
		b.s = nil
	}
}

func benchBox(b *testing.B, fs *faultfs.FS) *box {
	x := &box{t: b, dir: b.TempDir(), o: store.NewOptions(), a: author(1), role: record.RoleStandalone, wall: 1_800_000_000_000}
	x.o.BallastBytes = 0
	if fs != nil {
		x.o.JournalFS = fs
	}
	x.open()
	x.found()
	return x
}

// report gives flushes and journal bytes a save, and latencies.
func report(b *testing.B, s *store.Store, before store.Stats, took []time.Duration, elapsed time.Duration) {
	after := s.Stats()
	n := float64(len(took))
	b.ReportMetric(float64(after.Flushes-before.Flushes)/n, "flushes/save")
	b.ReportMetric(float64(after.JournalBytes-before.JournalBytes)/n, "journalB/save")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(n/elapsed.Seconds(), "saves/s")
}

// BenchmarkSave saves visits of 1 kB one after the other, and for comparison
// appends as many bytes to a preallocated file with a raw fdatasync each.
func BenchmarkSave(b *testing.B) {
	b.Run("raw", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		f.Write(make([]byte, 4096*4096))
		f.Sync()
		page := make([]byte, 4096)
		took := []time.Duration{}
		for i := 0; b.Loop(); i++ {
			start := time.Now()
			f.WriteAt(page, int64(i%4096)*4096)
			if err := syscall.Fdatasync(int(f.Fd())); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		sort.Slice(took, func(a, b int) bool { return took[a] < took[b] })
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	})
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("savers=%d", writers), func(b *testing.B) {
			x := benchBox(b, nil)
			before := x.s.Stats()
			b.ResetTimer()
			start := time.Now()
			took := savers(b, x.s, writers, max(1, b.N/writers), 1000)
			report(b, x.s, before, took, time.Since(start))
		})
	}
}

// BenchmarkSaveSlowFlush saves on a disk whose flush takes 10 ms.
func BenchmarkSaveSlowFlush(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("savers=%d", writers), func(b *testing.B) {
			fs := faultfs.New(1)
			x := benchBox(b, fs)
			x.s.Barrier(ctx)
			fs.Delay(10 * time.Millisecond)
			before := x.s.Stats()
			b.ResetTimer()
			start := time.Now()
			took := savers(b, x.s, writers, max(1, b.N/writers), 1000)
			report(b, x.s, before, took, time.Since(start))
			fs.Delay(0)
		})
	}
}
