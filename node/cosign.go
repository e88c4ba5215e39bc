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
	// caughtUp: the ledger has all that this hub may have signed before it started.
	caughtUp func() bool

	hurry chan struct{} // one slot: another hub may lead now

	mu     sync.Mutex
	open   map[record.TreeHead][]byte // proposed notes, largest few, whatever tree they speak of; guarded by mu
	newest []byte                     // the largest note that this hub signed; guarded by mu

	signedAt time.Time                               // when this process signed last; guarded by mu
	floor    uint64                                  // largest size that others show this hub signed, which its disk may have forgotten; guarded by mu
	lies     map[record.DeviceID][]record.Checkpoint // of other trees than this hub's, until they are proven; guarded by mu
}

// openNotesMax bounds what a slow or silent majority can pile up.
const openNotesMax = 16

func newCosigner(n *Node, ledger func() record.LedgerID, leads, caughtUp func() bool) *cosigner {
	return &cosigner{n: n, ledger: ledger, leads: leads, caughtUp: caughtUp, hurry: make(chan struct{}, 1), open: map[record.TreeHead][]byte{},
		lies: map[record.DeviceID][]record.Checkpoint{}}
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
		wait := c.n.o.CosignEvery / 4
		if !c.caughtUp() {
			wait = checkpointEvery
		}
		idle := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-c.hurry:
		case <-idle.C:
		}
		idle.Stop()
		pause.Reset(checkpointEvery)
	}
}

func (c *cosigner) step() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n.frozen() || !c.caughtUp() {
		return nil
	}
	var errs []error
	if head := c.n.store.Head(); c.leads() && (c.owesLocked(head) || c.staleLocked(head)) {
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

// staleLocked reports whether the head that is final was cosigned so long ago
// that clinics could take an idle region for one that hides something.
func (c *cosigner) staleLocked(head record.TreeHead) bool {
	_, final, ok := c.n.store.Final()
	return ok && head == final && c.dueLocked()
}

// dueLocked reports whether neither the final note nor this hub's last signature
// is of late.
func (c *cosigner) dueLocked() bool {
	now, every := c.n.o.Now(), c.n.o.CosignEvery
	return now.Sub(c.signedAt) >= every/2 && now.Sub(time.Unix(c.n.finalTime(), 0)) >= every
}

// hubs are whose cosignatures are collected: the hubs of now, and those that must
// hand over to them.
func (c *cosigner) hubs() []record.DeviceID {
	hubs := c.n.hubs()
	for _, d := range c.n.handover.before() {
		if !slices.Contains(hubs, d) {
			hubs = append(slices.Clone(hubs), d)
		}
	}
	return hubs
}

// offered takes a note from another hub. An error blames the sender.
func (c *cosigner) offered(from record.DeviceID, note []byte) error {
	if c.n.frozen() {
		return nil
	}
	if !slices.Contains(c.hubs(), from) {
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
	cp, err := record.OpenCheckpoint(c.ledger(), note, c.hubs())
	if err != nil {
		return err
	}
	if slices.Contains(cp.Signers, c.n.author.Device) {
		c.floor = max(c.floor, cp.Head.Size)
	}
	if _, final, ok := c.n.store.Final(); ok && cp.Head.Size <= final.Size && !(cp.Head == final && c.againLocked(cp)) {
		delete(c.open, cp.Head)
		return c.checkOldLocked(cp)
	}
	if cp.Head.Size > c.n.store.Head().Size || !c.caughtUp() {
		return c.keepLocked(cp)
	}
	root, err := c.n.store.RootAt(cp.Head.Size)
	if err != nil {
		return err
	}
	if root != cp.Head.Root {
		delete(c.open, cp.Head)
		return c.liedLocked(cp)
	}
	signed := c.n.store.Signed()
	if cp.Head.Size > signed.Size || cp.Head == signed && !slices.Contains(cp.Signers, c.n.author.Device) {
		return c.signLocked(cp.Head, note)
	}
	return c.mergeLocked(cp.Head, note) // signed already, or smaller than what was: only collected
}

// againLocked reports whether a note of the final head belongs to a round that
// signs it anew: one that is under way here, or that this hub is due to join.
func (c *cosigner) againLocked(cp record.Checkpoint) bool {
	return c.open[cp.Head] != nil || c.dueLocked() && !slices.Contains(cp.Signers, c.n.author.Device)
}

// checkOldLocked looks whether a note that is of no more use tells of another
// tree.
func (c *cosigner) checkOldLocked(cp record.Checkpoint) error {
	root, err := c.n.store.RootAt(cp.Head.Size)
	if err != nil || root == cp.Head.Root {
		return err
	}
	return c.liedLocked(cp)
}

// liesMax bounds the notes of other trees that are kept of one hub.
const liesMax = 4

// liedLocked remembers a note of another tree than this hub's and looks whether
// its signers signed this one too.
func (c *cosigner) liedLocked(cp record.Checkpoint) error {
	c.n.log.Error().Uint64("size", cp.Head.Size).Msg("hubs disagree about the ledger: this checkpoint is not cosigned")
	for _, d := range cp.Signers {
		if list := c.lies[d]; d != c.n.author.Device && !slices.ContainsFunc(list, func(x record.Checkpoint) bool { return x.Head == cp.Head }) {
			c.lies[d] = append(list[max(0, len(list)+1-liesMax):], cp)
		}
	}
	note, _, _ := c.n.store.Final()
	c.proveLocked(note)
	c.proveLocked(c.newest)
	return fmt.Errorf("checkpoint of size %d: %w", cp.Head.Size, errSplitView)
}

// proveLocked makes evidence of every remembered note whose signer also signed
// this one, which is of the own tree.
func (c *cosigner) proveLocked(own []byte) {
	for d, list := range c.lies {
		c.lies[d] = slices.DeleteFunc(list, func(lie record.Checkpoint) bool {
			e, err := c.n.splitView(lie, own)
			return err == nil && c.n.keepEvidence(c.n.author.Device, e) == nil
		})
		if len(c.lies[d]) == 0 {
			delete(c.lies, d)
		}
	}
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
	merged, err := record.MergeCosignatures(c.ledger(), have, note, c.hubs())
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
	if head.Size < c.floor { // an older disk: nothing smaller is signed than before
		if note == nil {
			return nil
		}
		return c.mergeLocked(head, note)
	}
	if err := c.n.store.PutSigned(head); err != nil {
		return err
	}
	c.signedAt = c.n.o.Now()
	own, err := record.Cosign(c.ledger(), head, c.n.author.Key, c.signedAt.Unix())
	if err != nil {
		return err
	}
	if note != nil {
		if own, err = record.MergeCosignatures(c.ledger(), note, own, c.hubs()); err != nil {
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
	if len(c.lies) > 0 {
		c.proveLocked(note)
	}
	if !c.n.finalForAll(note) {
		return nil // not yet
	}
	if err := c.n.keepFinal(note, head); err != nil {
		return err
	}
	for old := range c.open {
		if old.Size <= head.Size {
			delete(c.open, old)
		}
	}
	return nil
}
