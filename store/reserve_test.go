package store_test

import (
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// TestReserve writes into the reserve of a store whose disk counts as full until it
// is used up: what it took is there afterwards, and nothing else was written.
func TestReserve(t *testing.T) {
	b := newBox(t, 1, record.RoleStandalone)
	b.found()
	b.close()
	b.o.SegmentBytes, b.o.ChunkBytes = 256<<10, 16<<10
	free := b.o.FreeBytesMin
	b.o.FreeBytesMin = 1 << 60
	b.open()
	if err := b.s.PutRows(ctx, []store.Row{{Key: []byte("k"), Value: []byte("v")}}); !errors.Is(err, store.ErrFull) {
		t.Fatalf("a row on a full disk gave %v, want ErrFull", err)
	}
	notes := putReserved(b, 1000)
	if notes < 20 || notes > 64 {
		t.Errorf("%d rows found place in a segment of 64 pages", notes)
	}
	if err := b.s.PutRows(ctx, []store.Row{{Key: []byte("k"), Value: []byte("v")}}); !errors.Is(err, store.ErrFull) {
		t.Errorf("a row on a full disk gave %v, want ErrFull", err)
	}
	b.close()
	b.open()
	heldReserved(b, notes)
	if again := putReserved(b, 1000); again < 20 {
		t.Errorf("%d rows found place after a start, want as many as before", again)
	}
	b.close()
	b.o.FreeBytesMin = free
	b.open()
	heldReserved(b, notes)
	b.beginEpoch()
	b.append(visit(1, 100, rng(t)))
	check(t, b.s)
	b.close()
}
