package peersync

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"github.com/healthpost/healthpost/record"
)

// A box that cannot verify the newest checkpoint, because hubs changed since the
// entries that it has, asks to be handed over: to a checkpoint that its hub set
// and the next both signed, or through the statement that reset the ledger. The
// answer is always a CHECKPOINT with flagAnswer, empty when there is none; a
// RESET may come before it.

const resetsMax = 4 // of one session

// handover is the asking side's state.
type handover struct {
	due    bool   // a question is to be sent
	open   bool   // a question went out
	asked  bool   // for size
	size   uint64 // of the own ledger when it was asked last
	ever   bool   // asked in this session
	resets int
}

// answer is what the answering side has to send.
type answer struct {
	due         bool
	refuse      bool // no entries come; goes first
	reset, note []byte
}

// unverified is called with a note that is not final for this box: it asks once
// for each size of its ledger, unless the note only tells of what it has.
func (s *Session) unverified(claim record.TreeHead, known bool) error {
	f := &s.fetch
	if known && claim.Size <= s.r.Head().Size {
		root, err := s.r.RootAt(claim.Size)
		if err != nil && !errors.Is(err, record.ErrHole) {
			return local("reading root", err)
		}
		if err == nil && root == claim.Root {
			return nil
		}
	}
	f.stop = f.stop || f.active
	s.askHandover()
	return nil
}

func (s *Session) askHandover() {
	h, size := &s.fetch.handover, s.r.Head().Size
	if s.fetch.only || h.asked && h.size == size || h.open || s.theirs.Max < protocolEvidence {
		return
	}
	h.due = s.takesEntries() || s.o.TakeReset != nil && !s.o.Role.Orders()
}

func (s *Session) takesEntries() bool { return s.o.WantOrdered() && !s.fork.on && !s.fetch.dry }

// question fills in the pull that asks. ok is false while another session has the
// turn.
func (s *Session) question(m *pull) (ok bool) {
	f := &s.fetch
	m.To, m.Flags = max(m.From, s.o.HubsSize()), pullHandover|pullStop
	if s.takesEntries() && s.part.mode == segments {
		if !s.takeTurn() {
			return false
		}
		m.Flags = pullHandover
		if f.follows = s.hub; f.follows {
			m.Flags |= pullFollow
		}
	}
	f.active, f.asking, f.ask, f.stop = m.Flags&pullStop == 0, false, false, false
	f.handover = handover{open: true, asked: true, ever: true, size: m.From, resets: f.handover.resets}
	return true
}

// answered takes the checkpoint that answers a question.
func (s *Session) answered(note []byte) error {
	f := &s.fetch
	streams := f.handover.open && f.active
	f.handover.open = false
	if len(note) == 0 {
		s.halt()
		return nil
	}
	if streams {
		s.halt()
	}
	cp, ok, err := s.verify(note)
	if err != nil || !ok {
		return err
	}
	if cp.Head.Size > s.r.Head().Size {
		f.target, f.note, f.handover.due = record.TreeHead{}, nil, false // it may lie before what was aimed at
	}
	if err := s.aimFor(cp); err != nil {
		return err
	}
	if s.behind() {
		s.part.aim = cp.Head
	}
	if streams && s.behind() {
		f.active, f.asking = true, true
		s.o.Turn.take(s, false)
	}
	return nil
}

// halt lets go of the peer as a source of entries, until a checkpoint comes.
func (s *Session) halt() {
	f := &s.fetch
	if f.only {
		return
	}
	f.active, f.asking, f.ask, f.dry = false, false, false, true
	s.o.Turn.drop(s)
}

func (s *Session) handleReset(p []byte) error {
	h := &s.fetch.handover
	if !h.ever {
		return misbehaved("a reset that nobody asked for")
	}
	if h.resets++; h.resets > resetsMax {
		return misbehaved("more than %d resets", resetsMax)
	}
	if s.o.TakeReset == nil {
		return nil
	}
	err := s.o.TakeReset(s.peer, p)
	if err == nil {
		h.asked, s.dirty = false, true // what was not final may be now
	}
	return s.opinion("taking reset", err)
}

// step gives the checkpoint that leads a peer on which knows the hubs as of a size,
// and a reset.
func (s *Session) step(size uint64) (note, reset []byte, head record.TreeHead, ok bool, err error) {
	if s.o.Handover == nil {
		return nil, nil, head, false, nil
	}
	note, reset, given := s.o.Handover(size)
	if !given {
		return nil, nil, head, false, nil
	}
	if len(reset) > controlBytesMax {
		reset = nil
	}
	head, ok, err = s.vouched(note)
	return note, reset, head, ok && head.Size > size, err
}

// answerHandover prepares the answer to a peer that cannot verify the newest
// checkpoint, and what is served after it.
func (s *Session) answerHandover(m pull) error {
	note, reset, head, ok, err := s.step(max(m.From, m.To))
	if err != nil {
		return err
	}
	if !ok {
		note, head, ok = s.r.Final()
		ok = ok && head.Size > m.From && len(note) <= noteBytesMax
	}
	if !ok {
		note = nil
	}
	v := &s.serve
	v.answer = answer{due: true, refuse: v.answer.refuse, reset: reset, note: note}
	if v.active = ok && !s.fork.on && m.Flags&pullStop == 0; v.active {
		v.target, s.notes.head = head, head
		s.notes.sent = nil // the newest comes again when the range has gone
	}
	return nil
}

// vouched gives the head of a note, when the own ledger has it.
func (s *Session) vouched(note []byte) (h record.TreeHead, ok bool, err error) {
	h, ok = noteHead(note)
	if !ok || h.Size > s.r.Head().Size {
		return h, false, nil
	}
	root, err := s.r.RootAt(h.Size)
	if errors.Is(err, record.ErrHole) {
		return h, false, nil
	}
	if err != nil {
		return h, false, local("reading root", err)
	}
	return h, root == h.Root, nil
}

// refuse tells the peer that no entries come.
func (s *Session) refuse() {
	if s.theirs.Max >= protocolEvidence {
		s.serve.answer.refuse = true
	}
}

func (s *Session) nextAnswer() (Frame, bool, error) {
	a := &s.serve.answer
	switch {
	case a.refuse:
		a.refuse = false
		return Frame{Type: TypeCheckpoint, Flags: flagRefusal}, true, nil
	case !a.due:
		return Frame{}, false, nil
	case len(a.reset) > 0:
		f := Frame{Type: TypeReset, Payload: a.reset}
		a.reset = nil
		return f, true, nil
	}
	f := Frame{Type: TypeCheckpoint, Flags: flagAnswer, Payload: a.note}
	*a = answer{}
	return f, true, nil
}

// noteHead is the tree head that a note's text claims.
func noteHead(note []byte) (h record.TreeHead, ok bool) {
	if len(note) > noteBytesMax {
		return h, false
	}
	lines := strings.SplitN(string(note), "\n", 4)
	if len(lines) != 4 {
		return h, false
	}
	size, err := strconv.ParseUint(lines[1], 10, 62)
	if err != nil {
		return h, false
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != len(h.Root) {
		return h, false
	}
	return record.TreeHead{Size: size, Root: record.Hash(root)}, true
}
