package peersync

import (
	"errors"

	"github.com/healthpost/healthpost/record"
)

// serve is the ordered range that this side streams to the peer.
type serve struct {
	active, follow, full, whole bool

	at     uint64          // next seq to send
	to     uint64          // asked for by number; 0 is the final checkpoint
	target record.TreeHead // of the range under way
	before []record.Hash   // proof of the segment sent last
	answer answer          // to a peer that cannot verify the newest checkpoint
}

func (s *Session) handlePull(p []byte) error {
	m, err := decodePull(p)
	if err != nil {
		return err
	}
	if m.To != 0 && m.Flags&pullHandover == 0 && !s.hub { // raft vouches to hubs for more than is final
		if _, final, _ := s.r.Final(); m.To > final.Size {
			return ErrBehind
		}
	}
	s.dirty, s.spans.span = true, false
	v := &s.serve
	*v = serve{active: m.Flags&pullStop == 0, follow: m.Flags&pullFollow != 0, full: m.Flags&pullFull != 0, whole: m.Flags&pullWhole != 0,
		at: m.From, before: v.before, answer: v.answer}
	if m.From > s.theirSize {
		s.theirSize = m.From
		s.stats.size.Store(m.From)
	}
	switch {
	case m.Flags&pullHandover != 0:
		return s.answerHandover(m)
	case s.fork.on && v.active && !v.whole:
		v.active = false
		s.refuse()
	}
	v.to = m.To
	return nil
}

// aim sets the head that the next segments lead to: the last checkpoint that was
// sent. ok is false when there is nothing to send.
func (s *Session) aim() (ok bool, err error) {
	v := &s.serve
	switch {
	case !v.active || v.at < v.target.Size:
		return v.active, nil
	case v.to != 0 && v.at >= v.to && v.follow && s.spans.span:
		v.to = 0
		return s.aim()
	case v.to != 0:
		return s.aimAt(v.to)
	case v.target.Size != 0 && !v.follow:
		v.active = false
		return false, nil
	case s.notes.head.Size <= v.at:
		return false, nil
	}
	v.target = s.notes.head
	return true, nil
}

func (s *Session) aimAt(size uint64) (bool, error) {
	if s.serve.at >= size {
		s.serve.active = false
		return false, nil
	}
	if s.r.Head().Size < size {
		s.serve.active = false
		return false, ErrBehind
	}
	root, err := s.r.RootAt(size)
	if err != nil {
		return false, s.unserved("reading root", err)
	}
	s.serve.target = record.TreeHead{Size: size, Root: root}
	return true, nil
}

func (s *Session) nextSegment() (Frame, bool, error) {
	if !s.lanes.allows.Entries {
		return Frame{}, false, nil
	}
	ok, err := s.aim()
	if err == nil && ok {
		ok, err = s.mayServe()
	}
	if err != nil {
		return Frame{}, false, err
	}
	if !ok {
		return s.nextFill()
	}
	v := &s.serve
	switch {
	case v.whole:
		return s.nextEntries()
	case s.spans.span:
		return s.nextSpanFrame()
	}
	entries, err := s.collect()
	if err != nil || len(entries) == 0 {
		return Frame{}, false, err
	}
	end := v.at + uint64(len(entries))
	proof := []record.Hash{}
	if end < v.target.Size {
		if proof, err = s.r.ConsistencyProof(end, v.target.Size); err != nil {
			return Frame{}, false, s.unserved("proving consistency", err)
		}
	}
	p := appendProof(nil, proof, v.before)
	p = record.AppendSegment(p, entries, s.knows)
	v.at, v.before = end, proof
	s.stats.sent.Add(uint64(len(entries)))
	return Frame{Type: TypeSegment, Payload: p}, true, nil
}

// collect reads entries for one frame. Those that the peer holds cost a few
// bytes, so it reads on until the frame is full.
func (s *Session) collect() ([]record.Entry, error) {
	v := &s.serve
	var entries []record.Entry
	size := 0
	for at := v.at; at < v.target.Size; at = v.at + uint64(len(entries)) {
		more, err := s.r.Entries(at, v.target.Size, s.frameBytes())
		if err != nil {
			return nil, local("reading entries", err)
		}
		if len(more) == 0 {
			break
		}
		for i := range more {
			size += s.entryBytes(&more[i])
			if len(entries) > 0 && (size > s.frameBytes() || len(entries) == segmentEntriesMax) {
				return entries, nil
			}
			entries = append(entries, more[i])
		}
	}
	return entries, nil
}

// unserved ends the stream where this replica lacks what it takes.
func (s *Session) unserved(what string, err error) error {
	if !errors.Is(err, record.ErrHole) {
		return local(what, err)
	}
	s.serve.active = false
	s.refuse()
	return nil
}

// segmentEntriesMax bounds what one Extend has to take at once.
const segmentEntriesMax = 1024

func (s *Session) entryBytes(e *record.Entry) int {
	if s.knows(e.Record.Position()) {
		return 4
	}
	return recordWireBytes + len(e.Record.Body)
}

// knows reports whether the peer holds a record in pending: it said so, or sent
// it.
func (s *Session) knows(p record.Position) bool {
	e, ok := s.push.epochs[p.Epoch]
	if !ok || s.serve.full {
		return false
	}
	if p.N == 0 {
		return e.opening
	}
	return p.N <= e.held[p.Lane]
}
