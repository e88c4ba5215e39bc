package node

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/web"
)

// countsCache keeps the numbers of the sync line between changes.
type countsCache struct {
	at  time.Time
	val web.Counts
}

const countsEvery = 300 * time.Millisecond

// Counts are the numbers of the sync line. They are counted anew at most every
// countsEvery, whoever asks.
func (n *Node) Counts(context.Context) web.Counts {
	n.countsMu.Lock()
	defer n.countsMu.Unlock()
	if now := time.Now(); now.Sub(n.counted.at) > countsEvery {
		c, err := n.count()
		if err != nil && n.store.Err() == nil && !errors.Is(err, context.Canceled) {
			n.log.Error().Err(err).Msg("counting records")
		}
		if err == nil {
			n.counted = countsCache{now, c}
		}
	}
	return n.counted.val
}

// recount makes the next Counts look: right after a save the line must not say
// that all is in the regional record.
func (n *Node) recount() {
	n.countsMu.Lock()
	n.counted.at = time.Time{}
	n.countsMu.Unlock()
}

// count counts this box's own records by state, so that no number says more than
// the badges do.
func (n *Node) count() (web.Counts, error) {
	n.look()
	c := web.Counts{Mobile: n.box.Role == record.RoleField, Absent: int(min(n.store.Absent(), math.MaxInt32))}
	feeds, err := n.store.PendingFeeds()
	if err != nil {
		return c, err
	}
	refused, count, err := n.ownRefused()
	if err != nil {
		return c, err
	}
	c.Refused = count
	for _, f := range feeds {
		if f.Author != n.author.Device {
			continue
		}
		acked, away := f.OrderedN, f.OrderedN
		holders, err := n.store.Holders(f.Feed)
		if err != nil {
			return c, err
		}
		for d, held := range holders {
			acked = max(acked, held)
			if held > away && n.elsewhere(d) {
				away = held
			}
		}
		not := refused[f.Feed]
		c.Shared += int(acked-f.OrderedN) - between(not, f.OrderedN, acked)
		c.Pending += int(f.HeldN-acked) - between(not, acked, f.HeldN)
		c.OnlyHere += int(f.HeldN-away) - between(not, away, f.HeldN)
		visits, err := n.visitsAfter(f.Feed, away, not)
		if err != nil {
			return c, err
		}
		c.VisitsOnlyHere += visits
	}
	files, err := n.attachmentStatus()
	if err != nil {
		return c, err
	}
	c.FilesOnlyHere = files.OnlyHere
	return c, n.countOrdered(&c)
}

// between counts the places after from, up to to.
func between(places []uint64, from, to uint64) int {
	count := 0
	for _, n := range places {
		if n > from && n <= to {
			count++
		}
	}
	return count
}

// ownRefused are the places of this box's records that wait for nothing any more:
// refused, or written again elsewhere. count is how many were refused and have
// nothing that stands for them.
func (n *Node) ownRefused() (places map[record.Feed][]uint64, count int, err error) {
	list, err := n.store.Refused()
	if err != nil || len(list) == 0 {
		return nil, 0, err
	}
	places = map[record.Feed][]uint64{}
	known := map[record.RID]bool{}
	for _, r := range list {
		d, ok, err := n.store.EpochAuthor(r.Position.Epoch)
		if err != nil {
			return nil, 0, err
		}
		if !ok || d != n.author.Device {
			continue
		}
		places[r.Position.Feed()] = append(places[r.Position.Feed()], r.Position.N)
		known[r.RID] = true
		settled, err := n.settled(&r.Record, r.RID)
		if err != nil {
			return nil, 0, err
		}
		if !settled {
			count++
		}
	}
	err = n.store.ScanRows([]byte("pub/"), writtenAgainMax, func(k, _ []byte) bool {
		if len(k) != len("pub/")+32 {
			return true
		}
		rid := record.RID(k[len("pub/"):])
		if loc, ok, err := n.store.Locate(rid); err == nil && ok && loc.Pending && !known[rid] {
			places[loc.Position.Feed()] = append(places[loc.Position.Feed()], loc.Position.N)
		}
		return true
	})
	return places, count, err
}

// writtenAgainMax bounds how many records that were written again one count looks at.
const writtenAgainMax = 10_000

// settled reports whether nobody needs to look at a refused record: it was written
// again, or it says nothing about a patient.
func (n *Node) settled(r *record.Record, rid record.RID) (bool, error) {
	now, done, err := n.standsFor(rid)
	return done && (now != (record.RID{}) || !r.Core.Kind.Sealed()), err
}

// countOrdered adds what has a place already that no final checkpoint covers yet:
// on a box that orders, for the moment until the hubs cosigned, and for longer
// when too few of them do.
func (n *Node) countOrdered(c *web.Counts) error {
	_, final, _ := n.store.Final()
	c.Confirmed = int(final.Size)
	for from, to := final.Size, min(n.store.Head().Size, final.Size+unconfirmedMax); from < to; {
		entries, err := n.store.Entries(from, to, 256<<10)
		if errors.Is(err, record.ErrHole) { // what is not held was not written here
			from++
			continue
		}
		if err != nil || len(entries) == 0 {
			return err
		}
		for i := range entries {
			r := &entries[i].Record
			if !n.wroteHere(r) {
				continue
			}
			c.Pending++
			c.OnlyHere++
			if isVisit(r) {
				c.VisitsOnlyHere++
			}
		}
		from = entries[len(entries)-1].Seq + 1
	}
	return nil
}

// unconfirmedMax bounds how many entries one count looks at.
const unconfirmedMax = 4096

func isVisit(r *record.Record) bool {
	return r.Core.Kind == record.KindClinical && (r.Core.Lane == record.LaneControl || r.Core.Lane == record.LaneClinical)
}

func (n *Node) visitsAfter(f record.Feed, from uint64, refused []uint64) (int, error) {
	if f.Lane != record.LaneControl && f.Lane != record.LaneClinical {
		return 0, nil
	}
	skip := map[uint64]bool{}
	for _, at := range refused {
		skip[at] = true
	}
	count := 0
	for next := from + 1; ; {
		recs, err := n.store.Pending(f, next, 256<<10)
		if err != nil || len(recs) == 0 {
			return count, err
		}
		for i := range recs {
			if isVisit(&recs[i]) && !skip[recs[i].Core.N] {
				count++
			}
		}
		next = recs[len(recs)-1].Core.N + 1
	}
}
