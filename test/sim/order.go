package sim

import (
	"errors"
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// item is one agreed item of the ordering log. Indexes have gaps, as raft's own
// entries make them.
type item struct {
	index, term uint64
	bytes       []byte
}

// place is how many items of the log have an index up to this one.
func (w *world) place(index uint64) uint64 {
	n, _ := slices.BinarySearchFunc(w.log, index+1, func(x item, i uint64) int {
		if x.index < i {
			return -1
		}
		return 1
	})
	return uint64(n)
}

// agree adds an item to the list, as a majority of hubs does.
func (w *world) agree(b []byte) error {
	x := item{index: 1, term: 1, bytes: b}
	if n := len(w.log); n > 0 {
		x.index, x.term = w.log[n-1].index+1+uint64(w.rng.IntN(3)/2), w.log[n-1].term
		if w.chance(10) {
			x.term++
		}
	}
	w.log = append(w.log, x)
	w.acknowledge()
	twice, err := w.model.apply(x.index, b)
	if err != nil {
		return err
	}
	if twice != nil {
		return w.violated(OneLeaf, "record %s", twice.Short())
	}
	head := w.model.head()
	w.tracef("item %d of %d bytes: size %d, root %x", x.index, len(b), head.Size, head.Root[:4])
	for _, h := range w.hubs {
		w.applySoon(h)
	}
	return nil
}

func (w *world) applySoon(h *box) {
	if h.busy || h.st == nil {
		return
	}
	h.busy = true
	w.after(w.between(1, w.plan.ApplyMillis), func() error {
		h.busy = false
		return w.applyNext(h)
	})
}

// applyNext applies the next item of the log on a hub.
func (w *world) applyNext(h *box) error {
	if h.st == nil || h.next >= uint64(len(w.log)) || w.isolated(h) {
		return nil
	}
	x := w.log[h.next]
	if w.o.Hooks.SwapItems && h.next+1 < uint64(len(w.log)) && h.n == 1 {
		x.bytes = w.log[h.next+1].bytes
	}
	if err := w.apply(h, x); err != nil {
		return h.failed("applying", err)
	}
	h.next++
	h.acked = max(h.acked, int(h.next))
	if err := w.rejoin(h); err != nil {
		return err
	}
	if w.o.Hooks.ApplyTwice && h.n == 1 && w.chance(4) {
		x.index++
		if _, err := h.st.Order(x.index, x.term, x.bytes); err != nil && !errors.Is(err, record.ErrMalformed) {
			return h.failed("applying", err)
		}
	}
	if err := w.flush(h); err != nil {
		return err
	}
	if h.st != nil && h.next < uint64(len(w.log)) {
		w.applySoon(h)
	}
	return w.touch(h)
}

func (w *world) apply(h *box, x item) error {
	before, _, _ := h.st.Applied()
	head := h.st.Head()
	outs, err := h.st.Order(x.index, x.term, x.bytes)
	want, batch := w.model.outcomes[x.index]
	if err != nil && (batch || !errors.Is(err, record.ErrMalformed)) {
		return err
	}
	index, _, _ := h.st.Applied()
	now := h.st.Head()
	w.tracef("%s applies %d at %d: size %d", h, x.index, before, now.Size)
	if x.index <= before {
		if index != before || now != head {
			return w.violated(ApplyRepeats, "%s at index %d applied %d again: index %d, size %d to %d", h, before, x.index, index, head.Size, now.Size)
		}
		return nil
	}
	w.res.Applied += now.Size - head.Size
	if at, ok := w.model.at[index]; !ok || at != now {
		return w.violated(SameIndexSameRoot, "%s at index %d has size %d root %x, want size %d root %x", h, index, now.Size, now.Root[:4], at.Size, at.Root[:4])
	}
	if batch && !slices.Equal(outs, want) {
		return w.violated(SameIndexSameRoot, "%s at index %d answers %v, want %v", h, index, outs, want)
	}
	h.lazy++
	return nil
}

// flush makes what a hub applied durable now and then, long before the store does
// so by itself: its own timing could not be repeated.
func (w *world) flush(h *box) error {
	if h.st == nil || h.lazy < 16 && !w.chance(4) {
		return nil
	}
	h.lazy = 0
	if err := h.st.Barrier(w.context()); err != nil {
		return h.failed("flushing", err)
	}
	return nil
}

// reaches counts the voting hubs that a hub can talk to, itself included.
func (w *world) reaches(h *box) int {
	n := 0
	for _, o := range w.hubs {
		if o.st != nil && !o.rolledBack && !w.cutOff[pair(h, o)] {
			n++
		}
	}
	return n
}

// isolated hubs learn of no new items.
func (w *world) isolated(h *box) bool { return w.gang == nil && w.reaches(h)*2 <= len(w.hubs) }

// underWayMax is how many items a leader proposes before they are applied.
const underWayMax = 4

// order is the leader's turn: it collects what is pending into one item. Another
// hub leads when this one cannot reach a majority.
func (w *world) order() error {
	if w.leader != nil && (w.leader.st == nil || w.isolated(w.leader)) {
		w.leader = nil
	}
	if w.leader == nil {
		return w.elect()
	}
	h := w.leader
	if h.next >= uint64(len(w.log)) {
		clear(w.marks) // the replica says what is ordered
		w.settled = true
	} else if w.applySoon(h); !w.settled || uint64(len(w.log))-h.next >= underWayMax {
		return nil // what was agreed before it led comes first, and only so much at once
	}
	if w.chance(w.plan.AgainIn) {
		clear(w.marks)
	}
	recs, err := w.collect(h)
	if err != nil {
		return h.failed("collecting", err)
	}
	if w.safety && w.chance(w.plan.JunkIn) && w.chance(8) {
		return w.agree(w.bytes(w.rng.IntN(40)))
	}
	if len(recs) == 0 {
		return nil
	}
	b := record.Batch{LeaderMillis: h.millis(), Records: recs}
	return w.agree(b.Encode())
}

// elect lets some hub that reaches a majority lead.
func (w *world) elect() error {
	can := []*box{}
	for _, h := range w.hubs {
		if h.st != nil && !w.isolated(h) && w.wins(h) {
			can = append(can, h)
		}
	}
	if len(can) == 0 {
		return nil
	}
	w.leader, w.settled = can[w.rng.IntN(len(can))], false
	clear(w.marks)
	w.tracef("%s leads", w.leader)
	if w.plan.Votes && w.leader.acked < len(w.log) {
		return w.violated(AgreedStays, "%s leads with %d of %d items", w.leader, w.leader.acked, len(w.log))
	}
	for _, h := range w.hubs {
		if h.st != nil {
			w.wake(h)
		}
		if h.st != nil {
			if err := w.rejoin(h); err != nil {
				return err
			}
		}
	}
	return nil
}

// collect takes pending records that were not proposed yet: openings, then lane
// by lane.
func (w *world) collect(h *box) ([]record.Record, error) {
	feeds, err := h.st.PendingFeeds()
	if err != nil {
		return nil, err
	}
	turn := 0
	if len(feeds) > 0 {
		turn = w.rng.IntN(len(feeds))
		feeds = append(feeds[turn:len(feeds):len(feeds)], feeds[:turn]...)
	}
	recs, opened := []record.Record{}, map[record.EpochID]bool{}
	take := func(f record.Feed, from uint64) error {
		if len(recs) >= w.plan.BatchMax {
			return nil
		}
		more, err := h.st.Pending(f, from, w.plan.BatchBytes)
		recs = append(recs, more[:min(len(more), w.plan.BatchMax-len(recs))]...)
		return err
	}
	for _, f := range feeds {
		if f.Opening && !opened[f.Epoch] {
			opened[f.Epoch] = true
			if err := w.takeOpening(h, f, &recs); err != nil {
				return nil, err
			}
		}
	}
	for lane := record.LaneControl; lane <= record.LaneBulk; lane++ {
		for _, f := range feeds {
			if f.Lane != lane {
				continue
			}
			n, from := len(recs), max(f.OrderedN, w.marks[f.Feed])+1
			if from > f.HeldN {
				continue
			}
			if err := take(f.Feed, from); err != nil {
				return nil, err
			}
			if len(recs) > n {
				w.marks[f.Feed] = recs[len(recs)-1].Position().N
			}
		}
	}
	return recs, nil
}

func (w *world) takeOpening(h *box, f store.PendingFeed, recs *[]record.Record) error {
	key := record.Feed{Epoch: f.Epoch, Lane: 0xff}
	if w.marks[key] != 0 || len(*recs) >= w.plan.BatchMax {
		return nil
	}
	more, err := h.st.Pending(record.Feed{Epoch: f.Epoch}, 0, 1)
	if err != nil {
		return err
	}
	if len(more) == 0 || more[0].Position().N != 0 {
		return fmt.Errorf("the opening record of %s is not there", f.Epoch)
	}
	w.marks[key] = 1
	*recs = append(*recs, more[0])
	return nil
}
