package raftlog

import (
	"fmt"
	"time"

	"github.com/healthpost/healthpost/record"
)

// mark is how far a feed was proposed and not yet seen in the ledger.
type mark struct {
	n       uint64
	blocked bool // its next record was refused for good
	retryAt time.Time
	delay   time.Duration
}

// laneOpening is the key of an epoch's opening record among the marks.
const laneOpening record.Lane = 0xff

func openingKey(e record.EpochID) record.Feed { return record.Feed{Epoch: e, Lane: laneOpening} }

// step is one feed's turn.
type step struct {
	feed    record.Feed
	next    uint64 // n to read from; 0 for the opening record
	held    uint64
	opening bool
}

func (s *step) key() record.Feed {
	if s.opening {
		return openingKey(s.feed.Epoch)
	}
	return s.feed
}

// fill adds pending records to the batch: opening records first, then lane by
// lane, and within a lane feed by feed in turns. more says that something was
// left for the next batch.
func (o *orderer) fill() (more bool, err error) {
	feeds, err := o.pending.PendingFeeds()
	if err != nil {
		return false, fmt.Errorf("listing pending feeds: %w", err)
	}
	o.forget(feeds)
	o.turn++
	for _, round := range o.plan(feeds) {
		for len(round) > 0 {
			s := round[0]
			round = round[1:]
			if o.full() {
				return true, nil
			}
			again, err := o.read(&s)
			if err != nil {
				return false, err
			}
			if again {
				round = append(round, s)
			}
		}
	}
	return false, nil
}

// forget drops the marks of feeds that have nothing pending any more.
func (o *orderer) forget(feeds []PendingFeed) {
	if len(o.marks) == 0 {
		return
	}
	pending := make(map[record.Feed]bool, len(feeds))
	for _, f := range feeds {
		pending[f.Feed] = true
		if f.Opening {
			pending[openingKey(f.Feed.Epoch)] = true
		}
	}
	for key := range o.marks {
		if !pending[key] {
			delete(o.marks, key)
		}
	}
}

// plan sorts the turns into rounds: openings, then one round for each lane.
func (o *orderer) plan(feeds []PendingFeed) [][]step {
	rounds := make([][]step, 1+record.LaneCount)
	now := time.Now()
	o.wakeAt = time.Time{}
	for _, m := range o.marks {
		if !m.blocked && m.retryAt.After(now) {
			o.wakeBy(m.retryAt)
		}
	}
	unopened := map[record.EpochID]bool{} // true when nothing of the epoch can be ordered now
	for _, f := range feeds {
		e := f.Feed.Epoch
		if _, seen := unopened[e]; !f.Opening || seen {
			continue
		}
		m := o.marks[openingKey(e)]
		unopened[e] = m != nil && !m.open(now) && m.n == 0
		if m.open(now) && (m == nil || m.n == 0) {
			rounds[0] = append(rounds[0], step{feed: record.Feed{Epoch: e, Lane: record.LaneControl}, opening: true})
		}
	}
	for i := range feeds {
		f := feeds[(i+o.turn)%len(feeds)]
		m := o.marks[f.Feed]
		if f.Feed.Lane >= record.LaneCount || unopened[f.Feed.Epoch] || !m.open(now) {
			continue
		}
		s := step{feed: f.Feed, next: f.OrderedN + 1, held: f.HeldN}
		if m != nil {
			s.next = max(s.next, m.n+1)
		}
		if s.next <= s.held {
			rounds[1+f.Feed.Lane] = append(rounds[1+f.Feed.Lane], s)
		}
	}
	return rounds
}

func (m *mark) open(now time.Time) bool { return m == nil || !m.blocked && !now.Before(m.retryAt) }

// read takes one turn of a feed; again says that the feed has more.
func (o *orderer) read(s *step) (again bool, err error) {
	if !s.opening && o.marks[openingKey(s.feed.Epoch)].unread() {
		return false, nil
	}
	records, err := o.pending.Pending(s.feed, s.next, feedQuantum)
	if err != nil {
		return false, fmt.Errorf("reading pending records: %w", err)
	}
	took := false
	for i := range records {
		r := &records[i]
		want := record.Position{Epoch: s.feed.Epoch, Lane: s.feed.Lane, N: s.next}
		if r.Position() != want || r.Body == nil && r.Core.BodyLen != 0 {
			break
		}
		if o.full() || !o.fits(1, recordBytes(r)) {
			return true, nil
		}
		o.add(*r, nil)
		took = true
		o.proposed(s)
		if s.opening {
			return false, nil
		}
		s.next++
	}
	if !took {
		o.later(s.key())
		return false, nil
	}
	return s.next <= s.held, nil
}

// unread: the opening record was wanted and was not there.
func (m *mark) unread() bool { return m != nil && m.n == 0 }

func (o *orderer) proposed(s *step) {
	m := o.marks[s.key()]
	if m == nil {
		m = &mark{}
		o.marks[s.key()] = m
	}
	m.n = max(s.next, 1)
}

// later puts a feed aside for a while that doubles each time.
func (o *orderer) later(key record.Feed) {
	m := o.marks[key]
	if m == nil {
		m = &mark{}
		o.marks[key] = m
	}
	m.n = 0
	m.delay = min(max(2*m.delay, retryMin), retryMax)
	m.retryAt = time.Now().Add(m.delay)
	o.wakeBy(m.retryAt)
}

func (o *orderer) wakeBy(t time.Time) {
	if o.wakeAt.IsZero() || t.Before(o.wakeAt) {
		o.wakeAt = t
	}
}

// judge acts on the outcome of a pending record.
func (o *orderer) judge(out record.Outcome, r record.Record) {
	pos := r.Position()
	key := pos.Feed()
	if pos.N == 0 {
		key = openingKey(pos.Epoch)
	}
	switch {
	case out.Verdict == record.Ordered || out.Verdict == record.Duplicate:
		if m := o.marks[key]; m != nil {
			m.delay = 0
		}
	case out.Verdict.Final():
		o.log.Warn().Str("rid", out.RID.Short()).Stringer("verdict", out.Verdict).Msg("record refused")
		o.marks[key] = &mark{blocked: true}
		o.refused(out, r)
	default:
		o.later(key)
	}
}
