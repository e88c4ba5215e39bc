package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// A box reads all it holds once a week, slowly and while nobody works, because a
// card loses bits without saying so. What is damaged it fetches again from
// another box, by hash, and says so.

const (
	noticeRepaired = "damage_repaired"
	noticeDamaged  = "damage_open"

	scrubLook     = 10 * time.Minute // how often a running box looks whether it is time
	scrubShare    = 0.15             // of one core, at most
	scrubPauseMax = 2 * time.Second
	scrubBusy     = 3               // journal frames a second that count as work going on
	scrubWaitMax  = 5 * time.Minute // for work to end, before it goes on all the same
	mendRangeMax  = 4096            // entries fetched in one request
	mendGapMax    = 64              // sound entries fetched again rather than asked around
	mendRangesMax = 1000
	mendAgain     = time.Hour // between tries while no other box could help
)

// scrubLoop checks everything when it is due, and mends what it finds.
func (n *Node) scrubLoop(ctx context.Context) error {
	if n.o.ScrubEvery <= 0 {
		return nil
	}
	tick := time.NewTicker(min(scrubLook, n.o.ScrubEvery))
	defer tick.Stop()
	var again time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		open := n.damageOpen()
		if !n.scrubDue() && (!open || time.Now().Before(again)) {
			continue
		}
		again = time.Now().Add(mendAgain)
		if err := n.scrub(ctx); err != nil && ctx.Err() == nil && n.store.Err() == nil {
			n.log.Error().Err(err).Msg("checking what is on disk")
		}
	}
}

func (n *Node) scrubDue() bool {
	last := n.lastVerified()
	at := time.Unix(last.Full, 0)
	return last.Full == 0 || n.o.Now().Sub(at) >= n.o.ScrubEvery || n.o.Now().Before(at)
}

// damageOpen: an earlier check found damage that is not mended.
func (n *Node) damageOpen() bool {
	_, err := n.store.GetRow(noticeKey(noticeDamaged, []byte{}))
	return err == nil
}

func (n *Node) scrub(ctx context.Context) error {
	p := &pace{n: n, ctx: ctx, share: scrubShare, last: time.Now(), frames: n.store.Stats().Frames}
	o := store.VerifyOptions{Workers: 1, Pause: p.pause}
	rep, _, err := n.verify(ctx, true, o, func(Progress) {})
	if err != nil {
		return err
	}
	found := len(rep.Damage)
	if found == 0 {
		n.log.Info().Uint64("entries", rep.Entries).Msg("everything on disk was checked and is sound")
		return n.tellDamage(0, 0)
	}
	n.log.Error().Int("places", found).Msg("records on disk are damaged")
	if err := n.tellDamage(0, found); err != nil {
		return err
	}
	mendErr := n.mendDamage(ctx, rep.Damage)
	if rep, _, err = n.verify(ctx, true, o, func(Progress) {}); err != nil {
		return errors.Join(mendErr, err)
	}
	if err := n.tellDamage(max(found-len(rep.Damage), 0), len(rep.Damage)); err != nil {
		return err
	}
	if len(rep.Damage) == 0 {
		return nil
	}
	return mendErr
}

// tellDamage tells staff what was put right and what is left.
func (n *Node) tellDamage(repaired, left int) error {
	if repaired > 0 {
		if err := n.notify(noticeRepaired, []byte{}, func(x *notice) bool {
			if x.Seen {
				x.Count = 0
			}
			x.Count += uint64(repaired)
			x.Args = []string{strconv.FormatUint(x.Count, 10), "another box"}
			return true
		}); err != nil {
			return err
		}
	}
	if left == 0 {
		return n.over(noticeDamaged, []byte{})
	}
	return n.notify(noticeDamaged, []byte{}, func(x *notice) bool {
		news := x.Count != uint64(left)
		x.Count, x.Args = uint64(left), []string{strconv.Itoa(left)}
		return news
	})
}

// mendDamage fetches damaged entries again and makes anew what can be computed. The
// error is why not all of it could be.
func (n *Node) mendDamage(ctx context.Context, found []store.DamageError) error {
	r := n.up.Load()
	if r == nil {
		return ErrNotRunning
	}
	live := r.links.live.Load()
	if live == nil {
		return errNoLinks
	}
	var errs []error
	for _, x := range damagedRanges(found, n.store.Head().Size) {
		err := live.FetchRange(ctx, x.from, x.to, func(entries []record.Entry) error {
			_, err := n.store.Repair(ctx, entries)
			return err
		})
		if err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil || errors.Is(err, peersync.ErrNoPeer) {
			break // nobody else is there for the others either
		}
	}
	if _, err := n.store.DropStray(ctx); err != nil {
		errs = append(errs, fmt.Errorf("making indexes anew: %w", err))
	}
	return errors.Join(errs...)
}

// seqRange is entries [from, to).
type seqRange struct{ from, to uint64 }

// damagedRanges are the entries to fetch, in pieces, those close together in one.
func damagedRanges(found []store.DamageError, size uint64) []seqRange {
	var list []seqRange
	for i := range found {
		d := &found[i]
		if !d.HasSeq || d.Seq >= size {
			continue
		}
		list = append(list, seqRange{d.Seq, min(max(d.End, d.Seq+1), size)})
	}
	slices.SortFunc(list, func(a, b seqRange) int { return cmp.Compare(a.from, b.from) })
	var out []seqRange
	for _, x := range list {
		if i := len(out) - 1; i >= 0 && x.from <= out[i].to+mendGapMax {
			out[i].to = max(out[i].to, x.to)
			continue
		}
		out = append(out, x)
	}
	var pieces []seqRange
	for _, x := range out {
		for ; x.from < x.to && len(pieces) < mendRangesMax; x.from += mendRangeMax {
			pieces = append(pieces, seqRange{x.from, min(x.from+mendRangeMax, x.to)})
		}
	}
	return pieces
}

// pace keeps a check in the background: it works for a share of the time, and
// waits while others write.
type pace struct {
	n      *Node
	ctx    context.Context
	share  float64
	last   time.Time // when it last went on
	frames uint64    // of the journal, then
}

func (p *pace) pause(int) {
	worked := time.Since(p.last)
	rest := min(time.Duration(float64(worked)*(1/p.share-1)), scrubPauseMax)
	wait(p.ctx, rest)
	for begun := time.Now(); p.busy(worked+rest) && time.Since(begun) < scrubWaitMax; worked, rest = 0, scrubPauseMax {
		wait(p.ctx, scrubPauseMax)
		if p.ctx.Err() != nil {
			break
		}
	}
	p.last = time.Now()
}

// busy reports whether the box wrote more than a little in the time since it was asked last.
func (p *pace) busy(since time.Duration) bool {
	frames := p.n.store.Stats().Frames
	wrote := frames - p.frames
	p.frames = frames
	return float64(wrote) > 1+scrubBusy*since.Seconds()
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
