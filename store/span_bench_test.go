package store_test

import (
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// BenchmarkSpanForNewcomer serves a ledger of b.N entries (-benchtime 1000000x) to
// a device that holds none of them, as far as a joining box takes it before its
// newest entries: ask-ms of the first asker, again-ms of the next one, and the
// bytes of hashes.
func BenchmarkSpanForNewcomer(b *testing.B) {
	x := &box{t: b, dir: b.TempDir(), o: store.NewOptions(), a: author(1), role: record.RoleStandalone, wall: 1_800_000_000_000}
	x.o.BallastBytes = 0
	x.open()
	x.found()
	for done := 0; done < b.N; done += 2000 {
		x.fill(min(2000, b.N-done), 300)
		x.order()
	}
	if err := x.s.Barrier(ctx); err != nil {
		b.Fatal(err)
	}
	size := x.s.Head().Size
	b.ResetTimer()
	for i, name := range []string{"ask-ms", "again-ms"} {
		start, bytes := time.Now(), 0
		for from := uint64(0); from < size; {
			span, err := x.s.SpanFor(record.DeviceID{byte(9 + i)}, from, size, 64<<10)
			if err != nil {
				b.Fatal(err)
			}
			for _, g := range span.Gaps {
				bytes += 32 * len(g.Hashes)
			}
			from = span.To
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), name)
		b.ReportMetric(float64(bytes), "gap-B")
	}
	b.StopTimer()
	x.s.Close()
	x.s = nil
}
