package peersync

import (
	"cmp"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// Allowance is what may go over a link that costs money or is not for everything.
type Allowance struct {
	Last    record.Lane // records of lanes after it stay here
	Entries bool        // ordered entries are fetched and served
	Later   bool        // attachments, and filling up a replica that is usable already
}

// Everything is the allowance of a link that costs nothing.
var Everything = Allowance{Last: record.LaneBulk, Entries: true, Later: true}

// Shares of the bulk that goes out when more than one class has something, in
// bytes. Before them goes the control lane, after them the bulk lane.
const (
	shareClinical = 6
	shareEntries  = 3
	shareAudit    = 1
)

// share is one class of bulk frames: what it may still send before the others
// have had their turn.
type share struct {
	weight int
	credit int // bytes, negative after a frame that was larger
}

// lanes says what goes first.
type lanes struct {
	shares [3]share // clinical, entries, audit
	allows Allowance
}

func newLanes() lanes {
	return lanes{shares: [3]share{{weight: shareClinical}, {weight: shareEntries}, {weight: shareAudit}}, allows: Everything}
}

// nextBulk gives the next bulk frame: control and urgent records before all else,
// then clinical records, entries and audit by their shares, then the bulk lane.
func (s *Session) nextBulk() (Frame, bool, error) {
	if !s.credit.room() {
		return Frame{}, false, nil
	}
	f, ok, err := s.nextPending(record.LaneControl)
	if err == nil && !ok {
		f, ok, err = s.nextShared()
	}
	if err == nil && !ok {
		f, ok, err = s.nextPending(record.LaneBulk)
	}
	if err == nil && !ok {
		f, ok, err = s.nextChunk()
	}
	if f.Type.bulk() {
		s.credit.send(len(f.Payload))
	}
	return f, ok, err
}

// nextShared is a deficit round robin over the three classes.
func (s *Session) nextShared() (Frame, bool, error) {
	classes := [3]func() (Frame, bool, error){
		func() (Frame, bool, error) { return s.nextPending(record.LaneClinical) },
		s.nextSegment,
		func() (Frame, bool, error) { return s.nextPending(record.LaneAudit) },
	}
	var empty [3]bool
	for !empty[0] || !empty[1] || !empty[2] {
		for i, next := range classes {
			c := &s.lanes.shares[i]
			if empty[i] || c.credit < 0 {
				continue
			}
			f, ok, err := next()
			if err != nil || ok {
				c.credit -= len(f.Payload)
				return f, ok, err
			}
			c.credit, empty[i] = 0, true
		}
		for i := range s.lanes.shares {
			if c := &s.lanes.shares[i]; !empty[i] {
				c.credit += c.weight * s.frameBytes()
			}
		}
	}
	return Frame{}, false, nil
}

// nextPending gives the next run of a lane: of its feeds, the one first whose next
// record knew the smallest ledger when it was written, then the one whose author's
// clock showed less: what a box wrote in several runs alone goes in that order.
func (s *Session) nextPending(lane record.Lane) (Frame, bool, error) {
	type turn struct {
		feed  *PendingFeed
		first first
	}
	var turns []turn
	for i := range s.push.feeds {
		f := &s.push.feeds[i]
		if f.Lane > s.lanes.allows.Last || f.Lane != lane && f.Lane != lane+1 || !s.mayPush(f) {
			continue
		}
		e, ok := s.due(f)
		if !ok {
			continue
		}
		if err := s.look(f, e); err != nil {
			return Frame{}, false, err
		}
		if x := e.first[f.Lane]; x.lane == lane {
			turns = append(turns, turn{f, x})
		}
	}
	slices.SortStableFunc(turns, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.first.size, b.first.size), cmp.Compare(a.first.hlc, b.first.hlc))
	})
	for _, t := range turns {
		if f, ok, err := s.pushFeed(t.feed); err != nil || ok {
			return f, ok, err
		}
	}
	return Frame{}, false, nil
}

// first is what is known of the next record of a feed: the lane that it goes
// with, which is one before its own after it waited for long, and how large the
// ledger was that its author knew.
type first struct {
	n    uint64
	lane record.Lane
	size uint64
	hlc  uint64
}

// look reads the next record of a feed, once.
func (s *Session) look(f *PendingFeed, e *peerEpoch) error {
	n := s.nextN(f, e)
	x := &e.first[f.Lane]
	if x.n == n {
		return nil
	}
	*x = first{n: n, lane: f.Lane}
	if n > f.HeldN {
		return nil // only the opening record
	}
	recs, err := s.r.Pending(f.Feed, n, 1)
	if err != nil {
		return local("reading pending records", err)
	}
	if len(recs) == 0 {
		return nil // pushFeed finds out
	}
	x.size, x.hlc = recs[0].Core.Size, recs[0].Core.HLC
	if f.Lane > record.LaneClinical && s.o.Aged(&recs[0]) {
		x.lane--
	}
	return nil
}
