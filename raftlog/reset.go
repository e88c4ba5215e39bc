package raftlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
)

// ErrMajorityAnswers: enough hubs answer that they could order without a reset.
var ErrMajorityAnswers = errors.New("a majority of the hubs answers")

// ResetOptions say what ordering goes on from when the majority of hubs is lost.
type ResetOptions struct {
	// Generation that the ledger has once the reset statement is ordered: one
	// more than now.
	Generation uint64
	// Force resets although a majority answers.
	Force bool
}

// generationShift keeps raft indexes of generations apart: a hub that returns
// from an older generation has applied none of the items of this one.
const generationShift = 40

// Reset makes this hub the only voter, with the ledger as it is on this disk, so
// whatever other replicas hold must be in it before. It gives up the old server
// id, hands the records of unordered log items to Keep, and refuses with
// ErrMajorityAnswers unless forced. Nothing pending is ordered, and no hub is
// taken in, before the ledger reaches the generation, for which the caller
// submits the reset statement once this hub leads. Doing it again for the same
// generation changes nothing. It works before Run and while Run runs, which
// then starts raft again.
func (n *Node) Reset(ctx context.Context, o ResetOptions) error {
	q := &resetCall{ctx: ctx, o: o, done: make(chan error, 1)}
	if !n.ran.Load() {
		return n.reset(ctx, o)
	}
	n.mu.Lock()
	if n.asked != nil {
		n.mu.Unlock()
		return fmt.Errorf("resetting raft: another reset is under way")
	}
	n.asked = q
	interrupt := n.interrupt
	n.mu.Unlock()
	if interrupt != nil {
		interrupt()
	}
	select {
	case err := <-q.done:
		return err
	case <-n.ended:
		return fmt.Errorf("resetting raft: %w", ErrClosed)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// resetCall is a Reset that Run has to do.
type resetCall struct {
	ctx  context.Context
	o    ResetOptions
	done chan error // one slot
}

// takeReset gives the call that waits, if there is one.
func (n *Node) takeReset() *resetCall {
	n.mu.Lock()
	defer n.mu.Unlock()
	q := n.asked
	n.asked = nil
	return q
}

// reset does it while raft does not run.
func (n *Node) reset(ctx context.Context, o ResetOptions) error {
	have := n.generation.Load()
	if o.Generation == have && have > 1 {
		return nil
	}
	if o.Generation <= have {
		return fmt.Errorf("resetting raft: generation %d, this disk is at %d", o.Generation, have)
	}
	disk, err := n.readDiskState()
	if err != nil {
		return fmt.Errorf("resetting raft: %w", err)
	}
	n.disk.Store(&disk)
	n.servers.Store(&disk.config)
	term, err := n.canvass(ctx, &disk, o.Force)
	if err != nil {
		return fmt.Errorf("resetting raft: %w", err)
	}
	applied, _, _ := n.o.Ledger.Applied()
	w := renewal{Generation: o.Generation, Alone: true, Term: term + 1, Index: max(o.Generation<<generationShift, disk.last+1, applied+1)}
	if err := n.renew(ctx, w); err != nil {
		return fmt.Errorf("resetting raft: %w", err)
	}
	n.inquired = true
	n.log.Warn().Uint64("generation", o.Generation).Uint64("size", n.o.Ledger.Head().Size).Msg("raft was reset, this hub votes alone")
	return nil
}

// canvass asks all hubs once; it gives the highest term known and refuses when
// those that answer could go on without a reset.
func (n *Node) canvass(ctx context.Context, disk *diskState, force bool) (uint64, error) {
	q := &inquiry{n: n, disk: *disk, said: map[record.DeviceID]testimony{}}
	others, voters := q.others()
	if len(others) > 0 {
		r := &running{fsm: &fsm{ledger: n.o.Ledger}}
		if err := n.connect(r); err != nil {
			return 0, err
		}
		q.link = r.link
		ctx, cancel := context.WithTimeout(ctx, max(n.o.Profile.RestoreWait, time.Second))
		_, err := q.round(ctx, others, func(record.DeviceID, testimony) (bool, error) { return false, nil })
		cancel()
		_ = r.link.Close() // it only asked
		if err != nil {
			return 0, err
		}
	}
	if len(voters) == 0 { // this box did not order: go by the ledger
		for _, d := range others {
			a, err := addressOf(d)
			if err != nil {
				return 0, err
			}
			voters = append(voters, raft.Server{ID: raft.ServerID(q.said[d].Name), Address: a})
		}
	}
	if len(others) > 0 && !force && q.majority(voters) {
		return 0, fmt.Errorf("%w: %d of %d", ErrMajorityAnswers, len(q.said), len(others))
	}
	return q.term(), nil
}

// awaitsReset: raft was reset and the ledger does not say so yet.
func (n *Node) awaitsReset() bool { return n.o.Generation() < n.generation.Load() }

// outlived: the region was reset since the raft state on this disk was made, so
// its servers are gone.
func (n *Node) outlived() bool { return n.o.Generation() > n.generation.Load() }
