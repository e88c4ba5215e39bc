package peersync

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// Limits of what one session carries of evidence.
const (
	evidenceBytesMax   = 8 << 10
	evidenceOfferedMax = 8    // of the newest known here
	evidenceHeardMax   = 1024 // offers of the peer
	evidenceTakenMax   = 64   // pieces of the peer
	evidenceSentMax    = 64   // pieces to the peer
)

// evidenceID is the beginning of a piece's SHA-256.
type evidenceID [8]byte

func evidenceIDOf(b []byte) evidenceID {
	h := sha256.Sum256(b)
	return evidenceID(h[:8])
}

// gossip passes evidence on: each side names what it holds, and the other asks
// for what it lacks, so that two boxes that both know it exchange a few bytes. A
// contradiction found in this session is sent without asking.
type gossip struct {
	list [][]byte // newest known here, as of the last look
	ids  []evidenceID

	told map[evidenceID]bool // named to the peer or by it, or sent by either
	gave map[evidenceID]bool // sent

	offer []evidenceID
	ask   []evidenceID
	send  [][]byte

	heard, taken int
}

// refreshEvidence looks for evidence that the peer has not heard of.
func (s *Session) refreshEvidence() {
	g := &s.gossip
	if s.o.Evidence == nil || s.theirs.Max < protocolEvidence {
		return
	}
	list := s.o.Evidence()
	list = list[:min(len(list), evidenceOfferedMax)]
	if slices.EqualFunc(list, g.list, bytes.Equal) {
		return
	}
	g.list, g.ids = list, g.ids[:0]
	for _, b := range list {
		id := evidenceIDOf(b)
		g.ids = append(g.ids, id)
		if !g.told[id] && len(b) <= evidenceBytesMax {
			g.told[id] = true
			g.offer = append(g.offer, id)
		}
	}
}

// tell queues a piece that the peer did not ask for.
func (s *Session) tell(b []byte) {
	g := &s.gossip
	if len(b) == 0 || len(b) > evidenceBytesMax || s.theirs.Max < protocolEvidence {
		return
	}
	g.told[evidenceIDOf(b)] = true
	s.give(b)
}

func (s *Session) give(b []byte) {
	g := &s.gossip
	if id := evidenceIDOf(b); !g.gave[id] && len(g.gave) < evidenceSentMax {
		g.gave[id] = true
		g.send = append(g.send, b)
	}
}

// nextEvidence gives offers and questions first, then a piece at a time.
func (s *Session) nextEvidence() (Frame, bool, error) {
	g := &s.gossip
	m := evidenceMessage{Held: idBytes(&g.offer), Wanted: idBytes(&g.ask), Piece: []byte{}}
	if len(g.send) > 0 {
		m.Piece, g.send = g.send[0], g.send[1:]
	}
	if len(m.Held)+len(m.Wanted)+len(m.Piece) == 0 {
		return Frame{}, false, nil
	}
	f, err := encode(TypeEvidence, m)
	return f, err == nil, err
}

// idBytes takes as many ids from a queue as one frame may hold.
func idBytes(queue *[]evidenceID) [][]byte {
	n := min(len(*queue), evidenceOfferedMax)
	out := make([][]byte, 0, n)
	for _, id := range (*queue)[:n] {
		out = append(out, bytes.Clone(id[:]))
	}
	*queue = (*queue)[n:]
	return out
}

func (s *Session) handleEvidence(p []byte) error {
	m, err := decodeEvidence(p)
	if err != nil {
		return err
	}
	g := &s.gossip
	if g.heard += len(m.Held) + len(m.Wanted); g.heard > evidenceHeardMax {
		return misbehaved("more than %d pieces of evidence named", evidenceHeardMax)
	}
	for _, id := range m.Held {
		s.heardOf(evidenceID(id))
	}
	for _, id := range m.Wanted {
		for i, own := range g.ids {
			if own == evidenceID(id) {
				s.give(g.list[i])
			}
		}
	}
	if len(m.Piece) == 0 {
		return nil
	}
	return s.takeEvidence(m.Piece)
}

// heardOf asks for a piece that the peer named, unless it is known here.
// What was seen here and not kept would otherwise come with every session.
func (s *Session) heardOf(id evidenceID) {
	g := &s.gossip
	known := g.told[id]
	g.told[id] = true
	if !known && s.o.TakeEvidence != nil && len(g.ask) < evidenceHeardMax && (s.o.LooksAt == nil || s.o.LooksAt(id)) {
		g.ask = append(g.ask, id)
	}
}

func (s *Session) takeEvidence(b []byte) error {
	g := &s.gossip
	if g.taken++; g.taken > evidenceTakenMax {
		return misbehaved("more than %d pieces of evidence", evidenceTakenMax)
	}
	g.told[evidenceIDOf(b)] = true
	if s.o.TakeEvidence == nil {
		return nil
	}
	s.dirty = true
	return s.opinion("keeping evidence", s.o.TakeEvidence(s.peer, b))
}

// opinion sorts what Options answer to something that the peer sent: malformed
// is the peer's fault, some errors are this box's, and others change nothing.
func (s *Session) opinion(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case s.o.LocalFault(err):
		return local(what, err)
	case errors.Is(err, record.ErrMalformed):
		return misbehaved("%s: %w", what, err)
	}
	return nil
}
