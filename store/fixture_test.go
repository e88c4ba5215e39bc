package store_test

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

var ctx = context.Background()

// options are small and quick for tests.
func options() store.Options {
	o := store.NewOptions()
	o.FreeBytesMin, o.BallastBytes = 1<<20, 0
	o.SegmentBytes, o.ChunkBytes = 4<<20, 64<<10
	o.LazyMax = 20 * time.Millisecond
	return o
}

// box is a store with its author.
type box struct {
	t    testing.TB
	dir  string
	o    store.Options
	s    *store.Store
	a    store.Author
	role record.Role
	wall uint64 // milliseconds
	raft uint64
}

func key(seed uint64) ed25519.PrivateKey {
	var b [32]byte
	binary.BigEndian.PutUint64(b[:], seed)
	return ed25519.NewKeyFromSeed(b[:])
}

func author(seed uint64) store.Author {
	k := key(seed)
	return store.Author{Key: k, Device: record.DeviceID(k.Public().(ed25519.PublicKey))}
}

func newBox(t testing.TB, seed uint64, role record.Role) *box {
	b := &box{t: t, dir: t.TempDir(), o: options(), a: author(seed), role: role, wall: 1_800_000_000_000}
	b.open()
	return b
}

func (b *box) open() {
	b.t.Helper()
	s, err := store.Open(b.dir, b.o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.s = s
	b.t.Cleanup(func() {
		if b.s == s {
			b.close()
		}
	})
}

// close checks every invariant and closes.
func (b *box) close() {
	b.t.Helper()
	if b.s == nil {
		return
	}
	if b.s.Err() == nil {
		check(b.t, b.s)
	}
	if err := b.s.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.s = nil
}

func (b *box) reopen() {
	b.t.Helper()
	b.close()
	b.open()
}

func (b *box) member() record.MemberAdd {
	return record.MemberAdd{Device: b.a.Device[:], Encryption: make([]byte, 32), Role: b.role, Name: "box " + b.a.Device.Short(), Addresses: []string{}}
}

func (b *box) hlc(last uint64) uint64 {
	b.wall++
	return max(last+1, b.wall<<16)
}

func (b *box) beginEpoch() record.EpochID {
	b.t.Helper()
	id, err := b.s.BeginEpoch(ctx, b.a, func(pred record.EpochID, heads [record.LaneCount]uint64, size uint64, root record.Hash) record.EpochOpen {
		b.wall++
		nonce := make([]byte, 16)
		binary.BigEndian.PutUint64(nonce, b.wall)
		e := record.EpochOpen{Device: b.a.Device[:], Nonce: nonce, Hardware: make([]byte, 32), Predecessor: []byte{}, Heads: []uint64{}, Software: "test", Size: size, Root: root[:]}
		if pred != (record.EpochID{}) {
			e.Predecessor, e.Heads = pred[:], heads[:]
		}
		return e
	}, b.hlc, 1)
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

func body(n int, r *rand.Rand) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func fixed(b []byte) func(record.Position) ([]byte, error) {
	return func(record.Position) ([]byte, error) { return b, nil }
}

func marshal(v any) []byte {
	b, err := record.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (b *box) append(d ...store.Draft) []record.Record {
	b.t.Helper()
	recs, err := b.s.Append(ctx, d, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return recs
}

func visit(c byte, n int, r *rand.Rand) store.Draft {
	return store.Draft{Lane: record.LaneClinical, Kind: record.KindClinical, Compartment: record.CompartmentID{1, c}, Seal: fixed(body(n, r))}
}

// order proposes everything pending, as an orderer would.
func (b *box) order() []record.Outcome {
	b.t.Helper()
	var all []record.Outcome
	for {
		recs := b.pending(64 << 10)
		if len(recs) == 0 {
			return all
		}
		all = append(all, b.orderRecords(recs)...)
	}
}

func (b *box) orderRecords(recs []record.Record) []record.Outcome {
	b.t.Helper()
	b.raft += 2 // raft has items of its own in between
	batch := record.Batch{LeaderMillis: int64(b.wall), Records: recs}
	outs, err := b.s.Order(b.raft, 1, batch.Encode())
	if err != nil {
		b.t.Fatal(err)
	}
	return outs
}

func (b *box) pending(bytesMax int) []record.Record {
	b.t.Helper()
	feeds, err := b.s.PendingFeeds()
	if err != nil {
		b.t.Fatal(err)
	}
	var recs []record.Record
	for _, f := range feeds {
		r, err := b.s.Pending(f.Feed, 0, bytesMax)
		if err != nil {
			b.t.Fatal(err)
		}
		recs = append(recs, r...)
	}
	return recs[:min(len(recs), record.BatchRecordsMax)]
}

// found makes the region with this box as its first member.
func (b *box) found() {
	b.t.Helper()
	b.beginEpoch()
	f := record.RegionFound{Name: "Test", Nonce: make([]byte, 16), Founder: b.member()}
	b.append(store.Draft{Lane: record.LaneControl, Kind: record.KindRegionFound, Seal: fixed(marshal(f))})
	b.order()
	if got := b.s.Head().Size; got != 2 {
		b.t.Fatalf("founded region of size %d, want 2", got)
	}
}

// admit makes another box a member.
func (b *box) admit(other *box) {
	b.t.Helper()
	b.append(store.Draft{Lane: record.LaneControl, Kind: record.KindMemberAdd, Seal: fixed(marshal(other.member()))})
	b.order()
}

// push gives everything pending here to another box.
func (b *box) push(to *box) store.Ingested {
	b.t.Helper()
	in, err := to.s.Ingest(ctx, b.a.Device, b.pending(1<<20))
	if err != nil {
		b.t.Fatal(err)
	}
	return in
}

// pull brings this box's ledger to that of another one.
func (b *box) pull(from *box) {
	b.t.Helper()
	target := from.s.Head()
	for b.s.Head().Size < target.Size {
		entries, err := from.s.Entries(b.s.Head().Size, target.Size, 64<<10)
		if err != nil {
			b.t.Fatal(err)
		}
		proof, err := from.s.ConsistencyProof(entries[len(entries)-1].Seq+1, target.Size)
		if err != nil {
			b.t.Fatal(err)
		}
		if err := b.s.Extend(ctx, entries, target, proof); err != nil {
			b.t.Fatal(err)
		}
	}
	if got := b.s.Head(); got != target {
		b.t.Fatalf("pulled to %v, want %v", got, target)
	}
}

// standalone is a founded region of one.
func standalone(t testing.TB) *box {
	b := newBox(t, 1, record.RoleStandalone)
	b.found()
	return b
}

// pair is a hub and a clinic of one region.
func pair(t testing.TB) (hub, clinic *box) {
	hub = newBox(t, 1, record.RoleHub)
	hub.found()
	clinic = newBox(t, 2, record.RoleClinic)
	hub.admit(clinic)
	clinic.pull(hub)
	clinic.beginEpoch()
	return hub, clinic
}

func rng(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
