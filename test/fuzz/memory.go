package fuzz

import (
	"runtime/metrics"
	"testing"
)

// What reading an input of n bytes may allocate: FixedBytes and perByte for each
// byte of it. All that is allocated on the way counts, so the peak lies below.
const (
	FixedBytes = 1 << 20
	perByte    = 64
)

// Bounded fails t when f, which reads an input of n bytes, allocates more than
// such a reading may. f may run again: the first run also pays for tables that
// are made once.
func Bounded(t testing.TB, n int, f func()) {
	t.Helper()
	BoundedBy(t, FixedBytes+perByte*uint64(n), f)
}

// BoundedBy is Bounded with a limit in bytes of its own.
func BoundedBy(t testing.TB, limit uint64, f func()) {
	t.Helper()
	var got uint64
	for range 3 {
		before := allocated()
		f()
		if got = allocated() - before; got <= limit {
			return
		}
	}
	t.Errorf("allocated %d bytes, want at most %d", got, limit)
}

// allocated is how many bytes the program has allocated so far.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
