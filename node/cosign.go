package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
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
	ledger func() record.LedgerID
	leads  func() bool

	hurry chan struct{} // one slot: another hub may lead now

	mu     sync.Mutex
	open   map[record.TreeHead][]byte // proposed notes, largest few, whatever tree they speak of; guarded by mu
	newest []byte                     // the largest note that this hub signed; guarded by mu
}

// openNotesMax bounds what a slow or silent majority can pile up.
const openNotesMax = 16

func newCosigner(n *Node, ledger func() record.LedgerID, leads func() bool) *cosigner {
	return &cosigner{n: n, ledger: ledger, leads: leads, hurry: make(chan struct{}, 1), open: map[record.TreeHead][]byte{}}
}

// note is what other hubs are told: the newest that this hub signed, and after a
// start, until it signs again, what was final before.
func (c *cosigner) note() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.newest == nil {
		note, _, _ := c.n.store.Final()
		return note
	}
	return c.newest
}

// wake makes run look again at who leads.
func (c *cosigner) wake() {
	select {
	case c.hurry <- struct{}{}:
	default:
	}
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
		case <-c.hurry:
		}
		pause.Reset(checkpointEvery)
	}
}

func (c *cosigner) step() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	if head := c.n.store.Head(); c.leads() && c.owesLocked(head) {
		if err := c.signLocked(head, nil); err != nil {
			errs = append(errs, err)
		}
	}
	for head, note := range c.open {
		if head.Size <= c.n.store.Head().Size {
			if err := c.takeLocked(note); err != nil { // of one hub; the others' go on
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// owesLocked reports whether the leader has to propose head: it is larger than
// what was signed, or it was signed and the note was lost with the power before
// it became final.
func (c *cosigner) owesLocked(head record.TreeHead) bool {
	signed := c.n.store.Signed()
	if head.Size > signed.Size {
		return true
	}
	_, final, _ := c.n.store.Final()
	return head == signed && head.Size > final.Size && c.open[head] == nil
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
	cp, err := record.OpenCheckpoint(c.ledger(), note, c.n.hubs())
	if err != nil {
		return err
	}
	if _, head, ok := c.n.store.Final(); ok && cp.Head.Size <= head.Size {
		delete(c.open, cp.Head)
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
		delete(c.open, cp.Head)
		c.n.log.Error().Uint64("size", cp.Head.Size).Msg("hubs disagree about the ledger: this checkpoint is not cosigned")
		return fmt.Errorf("checkpoint of size %d: %w", cp.Head.Size, errSplitView)
	}
	signed := c.n.store.Signed()
	if cp.Head.Size > signed.Size || cp.Head == signed && !slices.Contains(cp.Signers, c.n.author.Device) {
		return c.signLocked(cp.Head, note)
	}
	return c.mergeLocked(cp.Head, note) // signed already, or smaller than what was: only collected
}

// keepLocked remembers a note for a size that this ledger has not reached.
func (c *cosigner) keepLocked(cp record.Checkpoint) error {
	c.dropSmallestLocked(cp.Head)
	c.open[cp.Head] = c.joinLocked(cp.Head, cp.Note)
	return nil
}

// joinLocked adds the cosignatures that were collected for a head before. What
// was collected may have no cosignature that counts any more: hubs come and go.
func (c *cosigner) joinLocked(head record.TreeHead, note []byte) []byte {
	have, ok := c.open[head]
	if !ok {
		return note
	}
	merged, err := record.MergeCosignatures(c.ledger(), have, note, c.n.hubs())
	if err != nil {
		return note
	}
	return merged
}

// dropSmallestLocked makes room for the note of a head.
func (c *cosigner) dropSmallestLocked(next record.TreeHead) {
	if _, ok := c.open[next]; ok || len(c.open) < openNotesMax {
		return
	}
	smallest := record.TreeHead{Size: math.MaxUint64}
	for head := range c.open {
		if head.Size < smallest.Size {
			smallest = head
		}
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
	own, err := record.Cosign(c.ledger(), head, c.n.author.Key, c.n.o.Now().Unix())
	if err != nil {
		return err
	}
	if note != nil {
		if own, err = record.MergeCosignatures(c.ledger(), note, own, c.n.hubs()); err != nil {
			return err
		}
	}
	return c.mergeLocked(head, own)
}

// mergeLocked collects cosignatures of a tree that is this hub's own.
func (c *cosigner) mergeLocked(head record.TreeHead, note []byte) error {
	note = c.joinLocked(head, note)
	c.dropSmallestLocked(head)
	c.open[head] = note
	if head.Size >= c.n.store.Signed().Size {
		c.newest = note
	}
	if _, err := record.VerifyFinal(c.ledger(), note, c.n.hubs()); err != nil {
		return nil // not yet
	}
	if err := c.n.store.PutFinal(note, head); err != nil {
		return err
	}
	for old := range c.open {
		if old.Size <= head.Size {
			delete(c.open, old)
		}
	}
	return nil
}
