package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/healthpost/healthpost/record"
)

// A checkpoint becomes final when more than half of the hubs cosigned it. The
// leader proposes the tree that its own ledger has; every hub signs only what
// its own ledger has at that size, never a smaller size than before, never a
// second root for a size: what it will sign is on disk before it signs.
type cosigner struct {
	n      *Node
	region func() record.RegionID
	leads  func() bool

	mu     sync.Mutex
	open   map[uint64][]byte // proposed notes by size, newest few; guarded by mu
	newest []byte            // the largest note that this hub signed; guarded by mu
}

// openNotesMax bounds what a slow or silent majority can pile up.
const openNotesMax = 16

func newCosigner(n *Node, region func() record.RegionID, leads func() bool) *cosigner {
	return &cosigner{n: n, region: region, leads: leads, open: map[uint64][]byte{}}
}

// note is what other hubs are told.
func (c *cosigner) note() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest
}

// run proposes and cosigns as the ledger grows.
func (c *cosigner) run(ctx context.Context) error {
	changed := c.n.store.Subscribe(ctx)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		if err := c.step(); err != nil {
			if c.n.store.Err() != nil {
				return nil // watchFault says it
			}
			c.n.log.Warn().Err(err).Msg("cosigning waits")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		pause.Reset(checkpointEvery)
	}
}

func (c *cosigner) step() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leads() {
		if head := c.n.store.Head(); head.Size > c.n.store.Signed().Size {
			if err := c.signLocked(head, nil); err != nil {
				return err
			}
		}
	}
	for size, note := range c.open {
		if size <= c.n.store.Head().Size {
			if err := c.takeLocked(note); err != nil {
				return err
			}
		}
	}
	return nil
}

// offered takes a note from another hub. An error blames the sender.
func (c *cosigner) offered(from record.DeviceID, note []byte) error {
	if !c.n.isHub(from) {
		return fmt.Errorf("checkpoint from %s: not a hub", from.Short())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.takeLocked(note)
	if errors.Is(err, record.ErrMalformed) || errors.Is(err, errSplitView) {
		return err
	}
	if err != nil {
		c.n.log.Warn().Err(err).Msg("cosigning waits")
	}
	return nil
}

var errSplitView = errors.New("another root for a size of this ledger")

func (c *cosigner) takeLocked(note []byte) error {
	cp, err := record.OpenCheckpoint(c.region(), note, c.n.hubs())
	if err != nil {
		return err
	}
	if _, head, ok := c.n.store.Final(); ok && cp.Head.Size <= head.Size {
		delete(c.open, cp.Head.Size)
		return nil
	}
	if cp.Head.Size > c.n.store.Head().Size {
		return c.keepLocked(cp)
	}
	root, err := c.n.store.RootAt(cp.Head.Size)
	if err != nil {
		return err
	}
	if root != cp.Head.Root {
		c.n.log.Error().Uint64("size", cp.Head.Size).Msg("hubs disagree about the ledger: cosigning stops at the size before")
		return fmt.Errorf("checkpoint of size %d: %w", cp.Head.Size, errSplitView)
	}
	signed := c.n.store.Signed()
	if cp.Head.Size > signed.Size || cp.Head == signed {
		return c.signLocked(cp.Head, note)
	}
	return c.mergeLocked(cp.Head, note) // smaller than what this hub signed: only collected
}

// keepLocked remembers a note for a size that this ledger has not reached.
func (c *cosigner) keepLocked(cp record.Checkpoint) error {
	if have, ok := c.open[cp.Head.Size]; ok {
		merged, err := record.MergeCosignatures(c.region(), have, cp.Note, c.n.hubs())
		if err != nil {
			return err
		}
		c.open[cp.Head.Size] = merged
		return nil
	}
	c.dropSmallestLocked()
	c.open[cp.Head.Size] = cp.Note
	return nil
}

func (c *cosigner) dropSmallestLocked() {
	if len(c.open) < openNotesMax {
		return
	}
	smallest := ^uint64(0)
	for size := range c.open {
		smallest = min(smallest, size)
	}
	delete(c.open, smallest)
}

// signLocked adds this hub's cosignature over its own tree; note may be nil.
func (c *cosigner) signLocked(head record.TreeHead, note []byte) error {
	if head.Size == 0 {
		return nil
	}
	if err := c.n.store.PutSigned(head); err != nil {
		return err
	}
	own, err := record.Cosign(c.region(), head, c.n.author.Key, c.n.o.Now().Unix())
	if err != nil {
		return err
	}
	if note != nil {
		if own, err = record.MergeCosignatures(c.region(), note, own, c.n.hubs()); err != nil {
			return err
		}
	}
	return c.mergeLocked(head, own)
}

func (c *cosigner) mergeLocked(head record.TreeHead, note []byte) error {
	if have, ok := c.open[head.Size]; ok {
		merged, err := record.MergeCosignatures(c.region(), have, note, c.n.hubs())
		if err != nil {
			return err
		}
		note = merged
	}
	c.dropSmallestLocked()
	c.open[head.Size] = note
	if head.Size >= c.n.store.Signed().Size {
		c.newest = note
	}
	if _, err := record.VerifyFinal(c.region(), note, c.n.hubs()); err != nil {
		return nil // not yet
	}
	if err := c.n.store.PutFinal(note, head); err != nil {
		return err
	}
	for size := range c.open {
		if size <= head.Size {
			delete(c.open, size)
		}
	}
	return nil
}
