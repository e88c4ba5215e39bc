package peersync

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// A range of entries that this box holds already, or held before its disk lost
// them, comes whole: the short form of a segment needs the state before it.
//
//	ENTRIES uvarint start, uvarint count, count * (uvarint length || leaf, uvarint 0 or length+1 || body)
//
// The leaf is record.Entry.EncodeLeaf; whoever takes it compares its hash with the
// tree.

// span is what a session for a range asks for.
type span struct {
	from, to uint64 // from moves as entries are taken
	take     func([]record.Entry) error
	asked    bool
}

const entryLeafMax = 4 << 10

// newRange prepares a session that takes [from, to) and then ends.
func newRange(r Replica, peer record.DeviceID, p *span, o Options) *Session {
	s := NewSession(r, peer, o.bare())
	s.fetch.only, s.span = true, p
	return s
}

// nextSpan asks for the range.
func (s *Session) nextSpan() (Frame, bool, error) {
	p := s.span
	if p.asked || p.from >= p.to {
		return Frame{}, false, nil
	}
	if s.theirs.Max < protocolEvidence {
		return Frame{}, false, fmt.Errorf("asking for a range: %w", ErrVersion)
	}
	p.asked = true
	f, err := encode(TypePull, pull{From: p.from, To: p.to, Flags: pullWhole})
	return f, err == nil, err
}

func (s *Session) handleEntries(ctx context.Context, b []byte) error {
	p := s.span
	if p == nil || !p.asked {
		return misbehaved("entries that nobody asked for")
	}
	entries, err := readEntries(b)
	if err != nil {
		return err
	}
	if n := uint64(len(entries)); entries[0].Seq != p.from || n > p.to-p.from {
		return misbehaved("entries from %d, %d of them, asked for %d to %d", entries[0].Seq, n, p.from, p.to)
	}
	if err := p.take(entries); err != nil {
		return s.replicaError(ctx, "taking entries", err)
	}
	p.from += uint64(len(entries))
	s.stats.received.Add(uint64(len(entries)))
	return nil
}

// nextEntries gives the next frame of a range asked for whole.
func (s *Session) nextEntries() (Frame, bool, error) {
	v := &s.serve
	entries, err := s.r.Entries(v.at, v.target.Size, s.frameBytes())
	if err != nil {
		return Frame{}, false, local("reading entries", err)
	}
	if len(entries) == 0 {
		return Frame{}, false, nil
	}
	p := appendEntries(nil, entries, s.frameBytes())
	_, n := binary.Uvarint(p)
	count, _ := binary.Uvarint(p[n:])
	v.at += count
	s.stats.sent.Add(count)
	return Frame{Type: TypeEntries, Payload: p}, true, nil
}

// appendEntries adds as many entries as fit into about bytesMax, at least one.
func appendEntries(dst []byte, entries []record.Entry, bytesMax int) []byte {
	var list []byte
	n := 0
	for ; n < min(len(entries), segmentEntriesMax); n++ {
		e := &entries[n]
		leaf := e.EncodeLeaf()
		if n > 0 && len(list)+len(leaf)+len(e.Record.Body) > bytesMax {
			break
		}
		list = binary.AppendUvarint(list, uint64(len(leaf)))
		list = append(list, leaf...)
		if e.Record.Body == nil {
			list = append(list, 0)
			continue
		}
		list = binary.AppendUvarint(list, uint64(len(e.Record.Body))+1)
		list = append(list, e.Record.Body...)
	}
	dst = binary.AppendUvarint(dst, entries[0].Seq)
	dst = binary.AppendUvarint(dst, uint64(n))
	return append(dst, list...)
}

// readEntries takes a frame apart. Bodies match their headers; nothing else is
// verified.
func readEntries(b []byte) ([]record.Entry, error) {
	start, count, err := segmentSpan(b)
	if err != nil || count > segmentEntriesMax {
		return nil, misbehaved("entries without start and count")
	}
	_, n := binary.Uvarint(b)
	_, m := binary.Uvarint(b[n:])
	b = b[n+m:]
	var entries []record.Entry
	for i := range count {
		var e record.Entry
		if e, b, err = readEntry(start+i, b); err != nil {
			return nil, misbehaved("entry %d: %w", start+i, err)
		}
		entries = append(entries, e)
	}
	if len(b) != 0 {
		return nil, misbehaved("bytes after the last entry")
	}
	return entries, nil
}

func readEntry(seq uint64, b []byte) (e record.Entry, rest []byte, err error) {
	leaf, b, ok := cutBytes(b, 0)
	if !ok || len(leaf) > entryLeafMax {
		return e, nil, fmt.Errorf("leaf: %w", record.ErrMalformed)
	}
	if e, err = record.DecodeLeaf(seq, leaf); err != nil {
		return e, nil, err
	}
	if len(b) > 0 && b[0] == 0 {
		return e, b[1:], nil // without its body
	}
	body, b, ok := cutBytes(b, 1)
	if !ok {
		return e, nil, fmt.Errorf("body: %w", record.ErrMalformed)
	}
	e.Record = e.Record.WithBody(body)
	return e, b, e.Record.VerifyBody()
}

// cutBytes takes what a length in front, less minus, says.
func cutBytes(b []byte, minus uint64) (part, rest []byte, ok bool) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n < minus || n-minus > uint64(len(b)-k) {
		return nil, nil, false
	}
	end := k + int(n-minus)
	return b[k:end:end], b[end:], true
}
