package peersync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// push is what this side knows of the peer's pending records and what it sends.
type push struct {
	epochs   map[record.EpochID]*peerEpoch
	feeds    []PendingFeed // of this box, as of the last refresh
	begun    bool
	allowed  bool
	rejects  []rejected
	told     map[record.RID]bool // refusals sent
	restarts int                 // runs that seemed to continue another branch
	heard    int                 // refusals received
}

// peerEpoch is what the peer holds of one epoch.
type peerEpoch struct {
	opening     bool // durable there
	openingSent bool
	openingTold bool                     // that it is durable there is what the peer acked in an earlier session
	held        [record.LaneCount]uint64 // durable there up to n
	sent        [record.LaneCount]uint64 // sent up to n in this session
	base        [record.LaneCount]uint64 // n of what was sent first, since the lane was last taken back
	assumed     [record.LaneCount]bool   // held is what it acked in an earlier session
	stuck       [record.LaneCount]bool   // a record of this lane was refused
	gave        [record.LaneCount]uint64 // records up to n came from there in this session
	gaveOpening bool
	from        [record.LaneCount]uint64 // nothing goes until the ledger there is of this size
	rewinds     int
	rests       int                      // how often nothing went for a while, for want of an end of rewinds
	rewoundAt   [record.LaneCount]uint64 // bulk bytes sent when the lane was taken back
	first       [record.LaneCount]first  // what goes next
}

const (
	rewindsMax = 8
	restsMax   = 16
	toldMax    = 4096
	heardMax   = 4096
	// restartsMax bounds how many runs of a peer may fit no signature.
	restartsMax = 32
)

// epoch finds or makes the note on an epoch; nil when too many are tracked.
func (s *Session) epoch(id record.EpochID) *peerEpoch {
	e, ok := s.push.epochs[id]
	if !ok {
		if len(s.push.epochs) >= 2*epochsMax {
			s.forget()
		}
		if len(s.push.epochs) >= 2*epochsMax {
			return nil
		}
		e = &peerEpoch{}
		s.push.epochs[id] = e
	}
	return e
}

// forget drops what is known of epochs that have nothing pending here.
func (s *Session) forget() {
	keep := map[record.EpochID]bool{}
	for _, f := range s.push.feeds {
		keep[f.Epoch] = true
	}
	for id := range s.push.epochs {
		if !keep[id] {
			delete(s.push.epochs, id)
		}
	}
}

// early sends own pending records before the peer's hello came, from what the
// peer acknowledged in an earlier session on: for one round trip less. Where the peer
// holds less by now it answers with a gap.
func (s *Session) early() (Frame, bool, error) {
	if s.fetch.only || !s.credit.room() {
		return Frame{}, false, nil
	}
	if !s.push.begun {
		if err := s.beginPush(); err != nil {
			return Frame{}, false, err
		}
		s.push.allowed, s.lanes.allows = s.o.PushPending(s.peer), s.o.Allowance()
	}
	last := record.LaneBulk
	if s.o.Resumed {
		last = record.LaneControl // the rest may be there already
		if s.credit.sent > 0 {
			return Frame{}, false, nil // and so may this, where cuts come fast
		}
	}
	for lane := record.LaneControl; lane <= last; lane++ {
		if f, ok, err := s.nextPending(lane); err != nil || ok {
			s.credit.send(len(f.Payload))
			return f, ok, err
		}
	}
	return Frame{}, false, nil
}

// beginPush starts from what the peer acknowledged before.
func (s *Session) beginPush() error {
	s.push.begun = true
	acked, err := s.r.Acked(s.peer)
	if err != nil {
		return local("reading acknowledgements", err)
	}
	for _, h := range acked {
		if e := s.epoch(h.Epoch); e != nil && h.Lane < record.LaneCount {
			e.held[h.Lane], e.assumed[h.Lane], e.opening, e.openingTold = h.N, h.N != 0, true, true
		}
	}
	s.push.feeds, err = s.r.PendingFeeds()
	if err != nil {
		return local("reading pending feeds", err)
	}
	return nil
}

// greetPush takes what the peer's hello lists instead of what it acknowledged.
func (s *Session) greetPush(list []epochFrontier) error {
	if !s.push.begun {
		if err := s.beginPush(); err != nil {
			return err
		}
	}
	for _, f := range list {
		e := s.epoch(record.EpochID(f.Epoch))
		if e == nil {
			continue
		}
		e.opening, e.openingTold = true, false
		for lane, n := range f.Held {
			if n != 0 {
				e.held[lane], e.assumed[lane] = n, false
			}
		}
	}
	return s.putAcks(list)
}

// putAcks notes what the peer's hello says it holds, as far as it is held here.
func (s *Session) putAcks(list []epochFrontier) error {
	var heads []record.FeedHead
	for _, f := range list {
		id := record.EpochID(f.Epoch)
		if f.Opening {
			heads = append(heads, record.FeedHead{Feed: record.Feed{Epoch: id}})
		}
		for lane, n := range f.Held {
			if n != 0 {
				heads = append(heads, record.FeedHead{Feed: record.Feed{Epoch: id, Lane: record.Lane(lane)}, N: n})
			}
		}
	}
	return s.putHeads(heads)
}

func (s *Session) putHeads(heads []record.FeedHead) error { return s.putHeadsOf(s.peer, heads) }

// putHeadsOf notes what a device holds of what is pending here.
func (s *Session) putHeadsOf(d record.DeviceID, heads []record.FeedHead) error {
	own := map[record.Feed]PendingFeed{}
	for _, f := range s.push.feeds {
		own[f.Feed] = f
	}
	kept := heads[:0]
	for _, h := range heads {
		f, ok := own[h.Feed]
		if h.N = min(h.N, f.HeldN); ok && (h.N > f.OrderedN || f.Opening && h.N == 0) {
			kept = append(kept, h)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	if err := s.r.PutAck(d, kept); err != nil {
		return local("keeping acknowledgements", err)
	}
	return nil
}

// refresh reads again what is pending here and what was refused.
func (s *Session) refresh() error {
	feeds, err := s.r.PendingFeeds()
	if err != nil {
		return local("reading pending feeds", err)
	}
	s.push.feeds, s.push.allowed, s.hub = feeds, s.o.PushPending(s.peer), s.o.Hub(s.peer)
	s.lanes.allows = s.o.Allowance()
	if size := s.r.Head().Size; size >= s.theirs.Size {
		// What the peer had ordered before is ordered here too: what is still
		// pending it must have named, or it does not hold it.
		s.doubtAssumed()
	}
	if err := s.lookMode(); err != nil {
		return err
	}
	s.refreshWant()
	s.refreshEvidence()
	s.refreshPromises()
	s.contradict()
	if err := errors.Join(s.notePeersCopies(), s.overtaken(), s.refreshBlobs()); err != nil {
		return err
	}
	return s.queueRefused()
}

// notePeersCopies: who brings records of this very device, which an older card of it
// or a copy of the card wrote, holds them, and is not sent them before its next hello.
func (s *Session) notePeersCopies() error {
	var heads []record.FeedHead
	for _, f := range s.push.feeds {
		e, ok := s.push.epochs[f.Epoch]
		if !ok || f.Author != s.o.Device {
			continue
		}
		if f.Opening && e.gaveOpening {
			heads = append(heads, record.FeedHead{Feed: record.Feed{Epoch: f.Epoch}})
		}
		if n := e.gave[f.Lane]; n > f.OrderedN {
			heads = append(heads, record.FeedHead{Feed: f.Feed, N: n})
		}
	}
	return s.putHeads(heads)
}

// queueRefused tells the peer of records that it holds and that can never be
// ordered.
func (s *Session) queueRefused() error {
	if !s.o.Role.Orders() { // only a box that orders decides
		return nil
	}
	list, err := s.r.Refused()
	if err != nil {
		return local("reading refusals", err)
	}
	for _, x := range list {
		e, ok := s.push.epochs[x.Position.Epoch]
		if ok && x.Verdict.Final() && e.held[x.Position.Lane] >= x.Position.N {
			s.queueReject(x)
		}
	}
	return nil
}

func (s *Session) queueReject(x Refusal) {
	if s.push.told[x.RID] || len(s.push.told) >= toldMax || len(s.push.rejects) >= rejectsMax {
		return
	}
	s.push.told[x.RID] = true
	s.push.rejects = append(s.push.rejects, rejected{RID: x.RID[:], Epoch: x.Position.Epoch[:], Lane: uint64(x.Position.Lane), N: x.Position.N, Verdict: uint64(x.Verdict)})
}

func (s *Session) nextReject() (Frame, bool, error) {
	if len(s.push.rejects) == 0 {
		return Frame{}, false, nil
	}
	f, err := encode(TypeReject, reject{List: s.push.rejects})
	s.push.rejects = nil
	return f, err == nil, err
}

func (s *Session) handleReject(p []byte) error {
	m, err := decodeReject(p)
	if err != nil {
		return err
	}
	if s.push.heard += len(m.List); s.push.heard > heardMax {
		return misbehaved("more than %d rejections", heardMax)
	}
	for _, x := range m.List {
		pos := record.Position{Epoch: record.EpochID(x.Epoch), Lane: record.Lane(x.Lane), N: x.N}
		rid, held, err := s.r.HeldRID(pos)
		if err != nil {
			return local("reading held record", err)
		}
		if e, ok := s.push.epochs[pos.Epoch]; ok && held && rid == record.RID(x.RID) { // else it is of another branch
			e.stuck[pos.Lane] = true
		}
		if !s.hub {
			continue // a neighbour's opinion decides nothing
		}
		if err := s.r.PutRefused(record.Outcome{RID: record.RID(x.RID), Verdict: record.Verdict(x.Verdict)}, s.peer); err != nil {
			return local("keeping refusal", err)
		}
	}
	return nil
}

// mayPush: before the hello only this box's own records go, for others may have
// come from the peer itself; after it, what Options allow and the peer's own.
func (s *Session) mayPush(f *PendingFeed) bool {
	if !s.helloSeen {
		return s.push.allowed && f.Author == s.o.Device
	}
	return s.push.allowed || f.Author == s.peer
}

// nextN is the record of a feed that the peer is to get next.
func (s *Session) nextN(f *PendingFeed, e *peerEpoch) uint64 {
	return max(e.held[f.Lane], e.sent[f.Lane], f.OrderedN) + 1
}

func (e *peerEpoch) wantsOpening(f *PendingFeed) bool {
	return f.Opening && !e.opening && !e.openingSent
}

// due gives the note on a feed of which something is to go to the peer now.
func (s *Session) due(f *PendingFeed) (*peerEpoch, bool) {
	e := s.epoch(f.Epoch)
	if e == nil || s.theirSize < e.from[f.Lane] || e.stuck[f.Lane] || s.credit.acked < e.rewoundAt[f.Lane] {
		return nil, false
	}
	return e, e.wantsOpening(f) || s.nextN(f, e) <= f.HeldN
}

// filled: a hole of the peer's ledger was filled. What it could not take for lack of
// entries in there goes to it once more, although its ledger does not become larger.
func (p *push) filled() {
	for _, e := range p.epochs {
		e.from = [record.LaneCount]uint64{}
	}
}

func (s *Session) pushFeed(f *PendingFeed) (Frame, bool, error) {
	e, ok := s.due(f)
	if !ok {
		return Frame{}, false, nil
	}
	n, opening, feed := s.nextN(f, e), e.wantsOpening(f), f.Feed
	if opening {
		feed.Lane, n = 0, 0
	}
	recs, err := s.r.Pending(feed, n, s.frameBytes())
	if err != nil {
		return Frame{}, false, local("reading pending records", err)
	}
	if len(recs) == 0 || recs[0].Position() != (record.Position{Epoch: feed.Epoch, Lane: feed.Lane, N: n}) {
		s.dirty = true // ordered or gone since refresh
		f.HeldN, f.Opening = 0, false
		return Frame{}, false, nil
	}
	recs = s.fit(recs)
	if opening {
		recs = recs[:1]
		e.openingSent = true
	} else {
		if e.base[f.Lane] == 0 {
			e.base[f.Lane] = n
		}
		e.sent[f.Lane] = recs[len(recs)-1].Position().N
	}
	s.stats.sent.Add(uint64(len(recs)))
	s.receipts.owed++
	return Frame{Type: TypePending, Payload: record.AppendRun(nil, recs)}, true, nil
}

func (s *Session) frameBytes() int { return s.credit.frameBytes() }

const recordWireBytes = record.WireBytesMax + 32

// fit cuts a run at the frame size; one record always fits.
func (s *Session) fit(recs []record.Record) []record.Record {
	size := 0
	for i := range recs {
		size += recordWireBytes + len(recs[i].Body)
		if i > 0 && (size > s.frameBytes() || i == record.FrameRecordsMax) {
			return recs[:i]
		}
	}
	return recs
}

// handlePending stores a run and owes an answer for it.
func (s *Session) handlePending(ctx context.Context, p []byte) error {
	first, opening, count, err := record.RunHead(p)
	if err != nil {
		return misbehaved("reading pending run: %w", err)
	}
	if !opening && s.o.Carry != nil && !s.o.Carry(first.Epoch) {
		return s.answerLater(first.Feed())
	}
	var readErr error
	recs, err := record.ReadRun(p, func(pos record.Position) (record.RID, bool) {
		rid, ok, err := s.r.HeldRID(pos)
		readErr = err
		return rid, ok && err == nil
	})
	switch {
	case readErr != nil:
		return local("reading held record", readErr)
	case errors.Is(err, record.ErrGap):
		return s.answerGap(first.Feed())
	case err != nil:
		return misbehaved("reading pending run: %w", err)
	}
	if opening {
		first = recs[0].Position()
	}
	in, err := s.r.Ingest(ctx, s.peer, recs)
	if errors.Is(err, record.ErrGap) {
		return s.answerGap(first.Feed())
	}
	if err != nil {
		return s.replicaError(ctx, "storing pending records", err)
	}
	s.stats.received.Add(uint64(in.New))
	s.tally.count(in, len(recs))
	return s.answer(first, opening, count, recs, in)
}

func (s *Session) answer(first record.Position, opening bool, count uint64, recs []record.Record, in Ingested) error {
	for _, out := range in.Refused {
		if err := s.answerRefused(first, recs, out); err != nil {
			return err
		}
		if out.Verdict == record.BadSignature {
			return nil // the gap that it leaves has its answer
		}
	}
	if len(in.Refused) != 0 {
		return nil
	}
	s.promise(&recs[len(recs)-1])
	if e := s.epoch(first.Epoch); e != nil {
		if opening {
			e.opening, e.openingTold, e.gaveOpening = true, false, true
		} else {
			e.held[first.Lane] = max(e.held[first.Lane], first.N+count-1)
			e.gave[first.Lane] = max(e.gave[first.Lane], first.N+count-1)
		}
	}
	if opening {
		s.acks.put(first.Feed(), ackHead{Lane: laneOpening})
		return nil
	}
	n := first.N + count - 1
	for _, h := range in.Heads {
		if h.Feed == first.Feed() {
			n = max(n, h.N)
		}
	}
	s.acks.put(first.Feed(), ackHead{Lane: uint64(first.Lane), N: n})
	return nil
}

// answerRefused: a record that continues another branch of its feed is nobody's
// fault at this link, for the peer may hold that branch in good faith.
func (s *Session) answerRefused(first record.Position, recs []record.Record, out record.Outcome) error {
	switch out.Verdict {
	case record.BadSignature:
		if other, err := s.otherBranch(first); err != nil || other {
			return err
		}
		return misbehaved("pending record %s: %s", out.RID.Short(), out.Verdict)
	case record.BadBody:
		return misbehaved("pending record %s: %s", out.RID.Short(), out.Verdict)
	case record.Gap, record.UnknownEpoch:
		return s.answerGap(first.Feed())
	case record.UnknownDevice:
		s.answerMissing(first.Feed(), ackHead{Lane: uint64(first.Lane), N: 0, State: ackHold})
		return nil
	}
	if !out.Verdict.Final() {
		return nil
	}
	i := slices.IndexFunc(recs, func(r record.Record) bool { return r.RID() == out.RID })
	if i < 0 {
		return local("storing pending records", fmt.Errorf("refused a record that is not in the run"))
	}
	s.queueReject(Refusal{Outcome: out, Position: recs[i].Position()})
	return s.answerGap(first.Feed()) // says how far the feed did get
}

// otherBranch: a run leaves out the hash of the record before it. An author who
// signed two for that place makes every signature behind look wrong to who holds
// the other one, and the peer may hold its branch in good faith. It is asked to
// begin where both agree, or further back; what it sent before it hears that looks
// wrong too. Before the first record of a feed there is only its opening record.
func (s *Session) otherBranch(first record.Position) (bool, error) {
	head, _, err := s.r.Holder().Head(first.Feed())
	if err != nil {
		return false, local("reading feed head", err)
	}
	if s.push.restarts++; first.N < 2 || s.push.restarts > restartsMax {
		return false, nil
	}
	n := head.N
	if first.N <= head.N+1 { // the ledger here has another one than the peer
		n = first.N - 2
	}
	s.acks.put(first.Feed(), ackHead{Lane: uint64(first.Lane), N: n, State: ackGap, restart: true})
	return true, nil
}

// answerLater has the peer keep what follows until this ledger grows, which makes
// room for it.
func (s *Session) answerLater(f record.Feed) error {
	n, err := s.heldN(f)
	if err == nil {
		s.answerMissing(f, ackHead{Lane: uint64(f.Lane), N: n, State: ackHold})
	}
	return err
}

// answerGap says how far the feed is held here.
func (s *Session) answerGap(f record.Feed) error {
	n, err := s.heldN(f)
	if err != nil {
		return err
	}
	s.answerMissing(f, ackHead{Lane: uint64(f.Lane), N: n, State: ackGap})
	return nil
}

// answerMissing notes how large the ledger was that did not do.
func (s *Session) answerMissing(f record.Feed, h ackHead) {
	if a := &s.acks; !a.gaps {
		a.gaps, a.gapSize = true, s.r.Head().Size
	}
	s.acks.put(f, h)
}

func (s *Session) heldN(f record.Feed) (uint64, error) {
	head, _, err := s.r.Holder().Head(f)
	if err != nil {
		return 0, local("reading feed head", err)
	}
	feeds, err := s.r.PendingFeeds()
	if err != nil {
		return 0, local("reading pending feeds", err)
	}
	for _, p := range feeds {
		if p.Feed == f {
			return max(head.N, p.HeldN), nil
		}
	}
	return head.N, nil
}
