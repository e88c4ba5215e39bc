package store_test

import (
	"crypto/ed25519"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// cpu is the processor time of this process so far, which other processes on the
// machine hardly change.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkVerify verifies as many records of 1 kB as the benchmark asks for
// (-benchtime 100000x), from disk, and reports processor time: records a second and
// core, bare ed25519.Verify a second and core in the same run, and how many of
// the latter one record costs; and what verifying again from there takes.
func BenchmarkVerify(b *testing.B) {
	x := &box{t: b, dir: b.TempDir(), o: store.NewOptions(), a: author(1), role: record.RoleStandalone, wall: 1_800_000_000_000}
	x.o.BallastBytes = 0
	x.open()
	x.found()
	for done := 0; done < b.N; done += 2000 {
		x.fill(min(2000, b.N-done), 1000)
		x.order()
	}
	if err := x.s.Close(); err != nil {
		b.Fatal(err)
	}
	x.open()
	defer func() { x.s.Close(); x.s = nil }()
	bare := bareVerify(b)
	b.ResetTimer()
	before := cpu(b)
	rep, err := x.s.Verify(ctx, store.VerifyOptions{}, nil)
	took := cpu(b) - before
	b.StopTimer()
	if err != nil || len(rep.Damage) > 0 {
		b.Fatalf("verify: %v, %v", rep.Damage, err)
	}
	bare = (bare + bareVerify(b)) / 2
	each := took / time.Duration(rep.Entries)
	b.ReportMetric(float64(time.Second)/float64(each), "verified/s/core")
	b.ReportMetric(float64(time.Second)/float64(bare), "bare/s/core")
	b.ReportMetric(float64(each)/float64(bare), "bare/record")
	start := time.Now()
	again, err := x.s.Verify(ctx, store.VerifyOptions{From: rep.Head.Size, State: rep.State}, nil)
	if err != nil || again.Entries != 0 || len(again.Damage) > 0 {
		b.Fatalf("verifying again: %d entries, %v, %v", again.Entries, again.Damage, err)
	}
	b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "again-ms")
}

// bareVerify is the processor time of one ed25519.Verify of a record id.
func bareVerify(b *testing.B) time.Duration {
	const n = 3000
	k := key(7)
	pub := k.Public().(ed25519.PublicKey)
	msg := make([]byte, 41)
	sig := ed25519.Sign(k, msg)
	before := cpu(b)
	for range n {
		if !ed25519.Verify(pub, msg, sig) {
			b.Fatal("signature")
		}
	}
	return (cpu(b) - before) / n
}
