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
	if _, err := other.s.Verify(ctx, store.VerifyOptions{}, nil); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds()/float64(runtime.GOMAXPROCS(0)), "verified/s/core")
	b.StopTimer()
	hub.s.Close()
	other.s.Close()
	hub.s, other.s = nil, nil
}

// BenchmarkHeld holds as many records as the benchmark asks for (-benchtime
// 100000x) and reports the size on disk, the time to open and the memory of this
// process that is not file pages.
func BenchmarkHeld(b *testing.B) {
	x := &box{t: b, dir: b.TempDir(), o: store.NewOptions(), a: author(1), role: record.RoleStandalone, wall: 1_800_000_000_000}
	x.o.BallastBytes = 0
	x.open()
	x.found()
	b.ResetTimer()
	for done := 0; done < b.N; done += 2000 {
		x.fill(min(2000, b.N-done), 1000)
		x.order()
	}
	b.StopTimer()
	if err := x.s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(dirBytes(b, x.dir))/float64(b.N), "B/record")
	debug.FreeOSMemory()
	start := time.Now()
	x.open()
	b.ReportMetric(float64(time.Since(start).Milliseconds()), "open-ms")
	debug.FreeOSMemory()
	b.ReportMetric(float64(rss(b)>>20), "anon-MiB")
	start = time.Now()
	rep, err := x.s.Verify(ctx, store.VerifyOptions{}, nil)
	if err != nil || len(rep.Damage) > 0 {
		b.Fatalf("verify: %v, %v", rep.Damage, err)
	}
	b.ReportMetric(float64(rep.Entries)/time.Since(start).Seconds(), "verified/s")
	x.s.Close()
	x.s = nil
}

func dirBytes(t testing.TB, dir string) (n int64) {
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
func rss(t testing.TB) int64 {
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
