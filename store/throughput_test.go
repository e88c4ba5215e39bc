package store_test

import (
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// fill appends n visits of 1 kB, many in one transaction.
func (b *box) fill(n, bytes int) {
	b.t.Helper()
	r := rand.New(rand.NewPCG(9, uint64(n)))
	for n > 0 {
		k := min(n, 200)
		drafts := make([]store.Draft, k)
		for i := range drafts {
			drafts[i] = visit(byte(r.IntN(250)), bytes, r)
		}
		b.append(drafts...)
		n -= k
	}
}

// BenchmarkOrder orders visits of 1 kB in batches of up to 64 kB, with signatures
// that this process has not checked before.
func BenchmarkOrder(b *testing.B) {
	hub, clinic := pair(b)
	clinic.fill(b.N, 1000)
	feeds, _ := clinic.s.PendingFeeds()
	var items [][]byte
	for _, f := range feeds {
		for n := uint64(0); n <= f.HeldN; {
			p, err := clinic.s.Pending(f.Feed, n, 64<<10)
			if err != nil {
				b.Fatal(err)
			}
			if len(p) == 0 {
				break
			}
			batch := record.Batch{LeaderMillis: int64(hub.wall), Records: p}
			items = append(items, batch.Encode())
			n = p[len(p)-1].Core.N + 1
		}
	}
	b.ResetTimer()
	start := time.Now()
	for _, item := range items {
		hub.raft++
		if _, err := hub.s.Order(hub.raft, 1, item); err != nil {
			b.Fatal(err)
		}
	}
	if err := hub.s.Barrier(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "records/s")
	b.StopTimer()
	hub.s.Close()
	clinic.s.Close()
	hub.s, clinic.s = nil, nil
}

// BenchmarkExtend and verify: entries of 1 kB in frames of 64 kB.
func BenchmarkExtend(b *testing.B) {
	hub := standalone(b)
	other := newBox(b, 3, record.RoleClinic)
	hub.fill(b.N, 1000)
	hub.order()
	hub.s.Barrier(ctx)
	b.ResetTimer()
	start := time.Now()
	other.pull(hub)
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "records/s")
	start = time.Now()
	if _, err := other.s.Verify(ctx, nil); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds()/float64(runtime.GOMAXPROCS(0)), "verified/s/core")
	b.StopTimer()
	hub.s.Close()
	other.s.Close()
	hub.s, other.s = nil, nil
}

// TestMemory holds 100,000 records and looks at the memory of this process. It
// takes a while, so it runs on request only.
func TestMemory(t *testing.T) {
	want := os.Getenv("HEALTHPOST_STORE_RECORDS")
	if want == "" {
		t.Skip("set HEALTHPOST_STORE_RECORDS to a number of records")
	}
	n, err := strconv.Atoi(want)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, dir: t.TempDir(), o: store.NewOptions(), a: author(1), role: record.RoleStandalone, wall: 1_800_000_000_000}
	b.o.BallastBytes = 0
	b.open()
	b.found()
	start := time.Now()
	for done := 0; done < n; done += 2000 {
		b.fill(2000, 1000)
		b.order()
	}
	t.Logf("made %d records in %v", n, time.Since(start))
	if err := b.s.Close(); err != nil {
		t.Fatal(err)
	}
	disk := dirBytes(t, b.dir)
	t.Logf("%d bytes a record on disk, %.2f times header and body", disk/int64(n), float64(disk)/float64(n)/1200)
	debug.FreeOSMemory()
	before := rss(t)
	start = time.Now()
	b.open()
	t.Logf("opened in %v", time.Since(start))
	runtime.GC()
	debug.FreeOSMemory()
	t.Logf("resident %d MiB open, %d MiB before", rss(t)>>20, before>>20)
	start = time.Now()
	rep, err := b.s.Verify(ctx, nil)
	if err != nil || len(rep.Damage) > 0 {
		t.Fatalf("verify: %v, %v", rep.Damage, err)
	}
	t.Logf("verified %d rows in %v", rep.Rows, time.Since(start))
	debug.FreeOSMemory()
	t.Logf("resident %d MiB after verify", rss(t)>>20)
	b.s.Close()
	b.s = nil
}

func dirBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	for _, d := range []string{"", "/index", "/journal"} {
		names, err := os.ReadDir(dir + d)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range names {
			if st, err := e.Info(); err == nil && !e.IsDir() {
				n += st.Size()
			}
		}
	}
	return n
}

// rss is the resident memory of this process that is not file pages.
func rss(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "RssAnon:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}
