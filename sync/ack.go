package peersync

import (
	"github.com/healthpost/healthpost/record"
)

// acks are the answers owed to the peer.
type acks struct {
	heads    map[record.Feed]ackHead
	order    []record.Feed
	openings []record.EpochID
	size     uint64               // told last
	waiting  map[record.Feed]bool // of which the peer waits for this ledger to grow
	gaps     bool                 // an answer of heads says that something is missing, or is to wait
	gapSize  uint64               // of the ledger when the first of them was found
	urgent   bool                 // an answer that somebody waits for
	paced    bool                 // the shell says when the moment has come
	due      bool
}

// ackBytes is how much bulk on a slow link is answered at once; less waits for a
// moment, so that one answer does for several frames.
const ackBytes = 2 << 10

func (a *acks) put(f record.Feed, h ackHead) {
	if h.Lane == laneOpening {
		a.openings = append(a.openings, f.Epoch)
		return
	}
	if h.State == ackGap && !h.restart && a.heads[f].State == ackHold {
		return // what follows on a record that is to wait waits with it
	}
	a.urgent = a.urgent || h.State != ackDurable || f.Lane == record.LaneControl
	if h.State == ackDurable {
		delete(a.waiting, f)
	} else if len(a.waiting) < ackHeadsMax {
		a.waiting[f] = true
	}
	if _, ok := a.heads[f]; !ok {
		a.order = append(a.order, f)
	}
	a.heads[f] = h
}

func (s *Session) nextAck() (Frame, bool, error) {
	a := &s.acks
	size := s.r.Head().Size
	s.stats.target.Store(max(size, s.fetch.target.Size))
	owed := s.credit.received - s.credit.receivedIn
	grown := len(a.waiting) > 0 && size > a.size
	if owed == 0 && len(a.order) == 0 && len(a.openings) == 0 && !grown || s.owesAck() && !grown {
		return Frame{}, false, nil
	}
	m := ack{Credit: s.credit.received, Size: size, Heads: make([]ackHead, 0, len(a.order)+len(a.openings))}
	for _, id := range a.openings {
		m.Heads = append(m.Heads, ackHead{Epoch: append([]byte(nil), id[:]...), Lane: laneOpening})
	}
	for _, f := range a.order {
		h := a.heads[f]
		if h.State != ackDurable && a.gaps && size > a.gapSize && !h.restart { // the peer reads it beside the size of now
			n, err := s.heldN(f)
			if err != nil {
				return Frame{}, false, err
			}
			if h.N = n; n == 0 || h.State == ackHold { // the author or the epoch may have been unknown then: the peer is to wait for the entries since, which are here
				m.Size = a.gapSize
			}
		}
		h.Epoch = append([]byte(nil), f.Epoch[:]...)
		m.Heads = append(m.Heads, h)
	}
	a.heads, a.order, a.openings, a.size, a.gaps = map[record.Feed]ackHead{}, nil, nil, m.Size, false
	a.urgent, a.due = false, false
	s.credit.receivedIn = s.credit.received
	f, err := encode(TypeAck, m)
	return f, err == nil, err
}

// owesAck reports whether an answer waits for its moment, which releaseAck brings.
func (s *Session) owesAck() bool {
	a, owed := &s.acks, s.credit.received-s.credit.receivedIn
	return a.paced && !a.due && !a.urgent && owed > 0 && owed < ackBytes
}

func (s *Session) releaseAck() { s.acks.due = true }

func (s *Session) handleAck(p []byte) error {
	m, err := decodeAck(p)
	if err != nil {
		return err
	}
	if m.Credit < s.credit.acked || m.Credit > s.credit.sent {
		return misbehaved("ack of %d bytes, %d were sent", m.Credit, s.credit.sent)
	}
	s.credit.take(m.Credit)
	if m.Size > s.theirSize {
		s.theirSize = m.Size
		s.stats.size.Store(m.Size)
	}
	var heads []record.FeedHead
	for _, h := range m.Heads {
		if head, durable := s.ackHead(h); durable {
			heads = append(heads, head)
		}
	}
	return s.putHeads(heads)
}

// ackHead takes the answer for one feed; durable when it says that the peer holds
// it up to the head given back.
func (s *Session) ackHead(h ackHead) (head record.FeedHead, durable bool) {
	id := record.EpochID(h.Epoch)
	e, ok := s.push.epochs[id]
	if !ok {
		return head, false
	}
	if h.Lane == laneOpening {
		e.opening, e.openingTold = true, false
		return record.FeedHead{Feed: record.Feed{Epoch: id}}, true
	}
	lane := record.Lane(h.Lane)
	head = record.FeedHead{Feed: record.Feed{Epoch: id, Lane: lane}, N: h.N}
	if h.State == ackDurable {
		e.assumed[lane] = false
		e.held[lane] = max(e.held[lane], h.N)
		return head, true
	}
	if s.credit.acked <= e.rewoundAt[lane] {
		return head, false // an answer to what was under way when the first gap was told
	}
	e.rewinds++
	own, base := s.pendingFeed(head.Feed), e.base[lane]
	if h.State == ackGap && (e.assumed[lane] && h.N < e.held[lane] || h.N == 0 && own.Opening && e.opening && !e.openingSent) {
		s.doubtAssumed()
	}
	e.assumed[lane], e.rewoundAt[lane] = false, s.credit.sent
	if h.N == 0 {
		e.opening, e.openingSent = false, false
	}
	switch {
	case h.State == ackHold: // it does not know the author
		for l := range e.from {
			e.from[l] = s.sizeToWaitFor()
		}
	case own.OrderedN > h.N, h.N == 0 && base == 1 && !own.Opening && own.HeldN != 0:
		// It misses entries of this lane, or all of the epoch, which is in the ledger.
		// Which of both does not show: the other lanes find out for themselves, for a
		// peer that was shown another ledger may never get these entries.
		e.from[lane] = s.sizeToWaitFor()
	}
	if e.rewinds > rewindsMax { // it is asked again when it learned something, later each time: a session between hubs may last for ever
		e.from[lane] = max(e.from[lane], s.theirSize+1<<min(e.rests, restsMax))
		e.rewinds, e.rests = 0, e.rests+1
	}
	e.held[lane], e.sent[lane], e.base[lane] = h.N, h.N, 0
	return head, false
}

// doubtAssumed: the peer lacks what it acknowledged in an earlier session, as one does
// that runs on an older card of its, or would have named it. Nothing that it
// acknowledged then counts, but what its greeting listed, opening records too.
func (s *Session) doubtAssumed() {
	for _, e := range s.push.epochs {
		if e.openingTold {
			e.opening, e.openingTold = false, false
		}
		for lane := range e.assumed {
			if e.assumed[lane] {
				e.assumed[lane], e.held[lane] = false, 0
			}
		}
	}
}

// sizeToWaitFor is of the peer's ledger, before it is asked again to take what
// follows on entries that it misses. They come with the ledger up to the final
// checkpoint; asking at every step of that would use up the rewinds.
func (s *Session) sizeToWaitFor() uint64 {
	_, final, _ := s.r.Final()
	return max(final.Size, s.theirSize+1)
}

// pendingFeed is what is pending here of a feed, zero for nothing.
func (s *Session) pendingFeed(f record.Feed) PendingFeed {
	for _, p := range s.push.feeds {
		if p.Feed == f {
			return p
		}
	}
	return PendingFeed{}
}
