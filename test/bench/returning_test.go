package bench_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// returning is a clinic that was away for a day: the shipped session and links over
// a replica in memory. What a hub sends it is held to the tree; signatures are
// not checked again, for what is measured is the hub.
type returning struct {
	all  *common
	self record.DeviceID
	open record.Record
	own  [record.LaneCount][]record.Record

	mu      sync.Mutex // guards what follows
	size    uint64
	heads   map[record.Feed]record.Head
	known   bool                   // the opening record is ordered
	acked   map[record.Feed]uint64 // by hubs
	note    []byte                 // of final
	final   record.TreeHead
	changed map[int]chan struct{}
	next    int
}

// common is the ledger as whichever clinic came that far first verified it against
// a checkpoint; the others compare.
type common struct {
	mu   sync.Mutex // guards what follows
	edge record.Range
	root []record.Hash // by size
	rids []record.RID
	last map[record.CompartmentID]uint64
}

func newCommon() *common {
	return &common{root: []record.Hash{record.EmptyRoot}, last: map[record.CompartmentID]uint64{}}
}

var errOther = errors.New("entries are not the ledger's")

// take appends an entry, or compares it with the one of its place.
func (c *common) take(e *record.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Seq < uint64(len(c.rids)) {
		if c.rids[e.Seq] != e.Record.RID() {
			return errOther
		}
		return nil
	}
	e.PrevSeq = 0
	if of := e.Record.Core.Compartment; of != (record.CompartmentID{}) {
		e.PrevSeq = c.last[of]
		c.last[of] = e.Seq + 1
	}
	c.edge.Append(record.LeafHash(e.EncodeLeaf()))
	c.rids, c.root = append(c.rids, e.Record.RID()), append(c.root, c.edge.Root())
	return nil
}

func (c *common) rootAt(size uint64) (record.Hash, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if size >= uint64(len(c.root)) {
		return record.Hash{}, false
	}
	return c.root[size], true
}

// newReturning writes a day of visits.
func newReturning(all *common, key ed25519.PrivateKey, visits, bodyBytes int) (*returning, error) {
	d, err := newDevice("")
	if err != nil {
		return nil, err
	}
	seed := sha256.Sum256(key)
	d.key, d.id = key, record.DeviceID(key.Public().(ed25519.PublicKey))
	body, err := record.Marshal(record.EpochOpen{Device: d.id[:], Nonce: seed[:16], Hardware: make([]byte, 32), Predecessor: []byte{}, Heads: []uint64{}, Software: "bench", Root: record.EmptyRoot[:]})
	if err != nil {
		return nil, err
	}
	d.first = record.Sign(record.Core{Kind: record.KindEpochOpen}, body, d.key)
	d.epoch = d.first.OpenedEpoch()
	for i := range d.heads {
		d.heads[i] = record.Head{RID: d.first.RID()}
	}
	c := &returning{all: all, self: d.id, open: d.first, heads: map[record.Feed]record.Head{}, acked: map[record.Feed]uint64{}, changed: map[int]chan struct{}{}}
	text := make([]byte, bodyBytes)
	for i := range visits {
		copy(text, fmt.Sprintf("%x %d", seed[:4], i))
		of := record.CompartmentID(seed[:16])
		of[0] = byte(i % 16) // patients
		c.own[record.LaneClinical] = append(c.own[record.LaneClinical], d.write(record.LaneClinical, record.KindClinical, of, append([]byte(nil), text...)))
	}
	return c, nil
}

// handed reports whether a hub holds the whole day; confirmed, whether it lies under
// a checkpoint that this clinic holds.
func (c *returning) handed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := record.Feed{Epoch: c.open.OpenedEpoch(), Lane: record.LaneClinical}
	return max(c.acked[f], c.heads[f].N) >= uint64(len(c.own[record.LaneClinical]))
}

func (c *returning) confirmed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := record.Feed{Epoch: c.open.OpenedEpoch(), Lane: record.LaneClinical}
	return c.final.Size == c.size && c.heads[f].N >= uint64(len(c.own[record.LaneClinical]))
}

func (c *returning) Head() record.TreeHead {
	c.mu.Lock()
	defer c.mu.Unlock()
	root, _ := c.all.rootAt(c.size)
	return record.TreeHead{Size: c.size, Root: root}
}

func (c *returning) RootAt(size uint64) (record.Hash, error) {
	root, ok := c.all.rootAt(size)
	if !ok {
		return root, fmt.Errorf("root of size %d is not known", size)
	}
	return root, nil
}

func (c *returning) Final() ([]byte, record.TreeHead, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.note, c.final, c.note != nil
}

func (c *returning) PutFinal(note []byte, head record.TreeHead) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if head.Size >= c.final.Size {
		c.note, c.final = note, head
		c.tellLocked()
	}
	return nil
}

func (c *returning) tellLocked() {
	for _, ch := range c.changed {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (c *returning) Subscribe(ctx context.Context) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ch := c.next, make(chan struct{}, 1)
	c.changed[id], c.next = ch, id+1
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.changed, id)
	})
	return ch
}

func (c *returning) PendingFeeds() ([]peersync.PendingFeed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []peersync.PendingFeed
	for lane, recs := range c.own {
		f := peersync.PendingFeed{Feed: record.Feed{Epoch: c.open.OpenedEpoch(), Lane: record.Lane(lane)}, Author: c.self, HeldN: uint64(len(recs)), Opening: !c.known}
		if f.OrderedN = c.heads[f.Feed].N; len(recs) > 0 && (f.HeldN > f.OrderedN || f.Opening) {
			out = append(out, f)
		}
	}
	return out, nil
}

func (c *returning) Pending(f record.Feed, n uint64, bytesMax int) ([]record.Record, error) {
	if f.Epoch != c.open.OpenedEpoch() {
		return nil, nil
	}
	if n == 0 {
		return []record.Record{c.open}, nil
	}
	recs := c.own[f.Lane][min(n-1, uint64(len(c.own[f.Lane]))):]
	size := 0
	for i := range recs {
		if size += len(recs[i].Body) + record.WireBytesMax; i > 0 && size > bytesMax {
			return recs[:i], nil
		}
	}
	return recs, nil
}

func (c *returning) HeldRID(p record.Position) (record.RID, bool, error) {
	r, ok, err := c.Held(p)
	return r.RID(), ok, err
}

// Held implements record.Holder for own records.
func (c *returning) Held(p record.Position) (record.Record, bool, error) {
	switch {
	case p.Epoch != c.open.OpenedEpoch() || p.N > uint64(len(c.own[p.Lane])):
		return record.Record{}, false, nil
	case p.N == 0:
		return c.open, true, nil
	}
	return c.own[p.Lane][p.N-1], true, nil
}

// orderedHeads implements record.Holder's Head.
type orderedHeads struct{ *returning }

func (h orderedHeads) Head(f record.Feed) (record.Head, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	head, ok := h.heads[f]
	return head, ok, nil
}

func (c *returning) Holder() record.Holder { return orderedHeads{c} }

// Ingest takes nothing: hubs send a clinic only what it wrote itself.
func (c *returning) Ingest(context.Context, record.DeviceID, []record.Record) (peersync.Ingested, error) {
	return peersync.Ingested{}, nil
}

func (c *returning) PutAck(_ record.DeviceID, heads []record.FeedHead) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range heads {
		c.acked[h.Feed] = max(c.acked[h.Feed], h.N)
	}
	c.tellLocked()
	return nil
}

func (c *returning) Acked(record.DeviceID) ([]record.FeedHead, error)       { return nil, nil }
func (c *returning) Refused() ([]peersync.Refusal, error)                   { return nil, nil }
func (c *returning) PutRefused(record.Outcome, record.DeviceID) error       { return nil }
func (c *returning) Entries(uint64, uint64, int) ([]record.Entry, error)    { return nil, nil }
func (c *returning) ConsistencyProof(uint64, uint64) ([]record.Hash, error) { return nil, nil }

func (c *returning) Extend(_ context.Context, entries []record.Entry, target record.TreeHead, _ []record.Hash) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if entries[0].Seq != c.size {
		return fmt.Errorf("%w: they begin at %d, the ledger ends at %d", errOther, entries[0].Seq, c.size)
	}
	for i := range entries {
		if err := c.all.take(&entries[i]); err != nil {
			return err
		}
	}
	end := c.size + uint64(len(entries))
	if root, ok := c.all.rootAt(end); !ok || end == target.Size && root != target.Root {
		return fmt.Errorf("%w: size %d has another root", errOther, end)
	}
	for i := range entries {
		c.followLocked(&entries[i].Record)
	}
	c.size = end
	c.tellLocked()
	return nil
}

// followLocked brings the heads of feeds up to an ordered record.
func (c *returning) followLocked(r *record.Record) {
	if r.Core.Kind == record.KindEpochOpen {
		id := r.OpenedEpoch()
		c.known = c.known || id == c.open.OpenedEpoch()
		for lane := range record.Lane(record.LaneCount) {
			c.heads[record.Feed{Epoch: id, Lane: lane}] = record.Head{RID: r.RID()}
		}
		return
	}
	p := r.Position()
	c.heads[p.Feed()] = record.Head{N: p.N, RID: r.RID()}
}
