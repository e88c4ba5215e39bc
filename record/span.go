package record

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Span is a stretch of the ledger as a partial replica takes it: the entries that
// it holds, ascending, and between them gaps. Together they make up [From, To).
type Span struct {
	From, To uint64
	Entries  []Entry
	// Openings are records that the entries need to be judged by and that are not
	// among them: of the author's epoch, of the session, of a key.
	Openings []Record
	Gaps     []GapHashes
}

// Hole is a run of entries [From, To) of which a replica holds only the hashes.
type Hole struct{ From, To uint64 }

// ErrHole: the entries asked for are in a hole of this replica.
var ErrHole = errors.New("entries are not here")

// The short form of a span:
//
//	span    = from length openings opening* piece*      pieces make up the length
//	opening = lane [epoch n prev(32)] record            lane 0x80: of an epoch, without what is in brackets
//	piece   = count<<1 | 1 hash(32)*                    a gap: the hashes of GapShape
//	        | count<<1 entry*
//	entry   = ref [lane [epoch]] [n [prev(32)]] time(delta) back [record]
//	ref     = feed index<<2 | continues<<1 | known
//
// A new feed and the lanes 0x80 and 0x81 are as in a segment. n stands unless the
// entry continues the one before it of its feed in this span; prev unless it
// continues or is known. back is how far the entry before it in its compartment
// lies behind, 0 for none.
const (
	spanContinues = 2
	spanKnown     = 1

	spanOpeningsMax = 1024
	spanPiecesMax   = 2*FrameRecordsMax + 1
)

// Tiles checks that entries and gaps make up [From, To), each where the one before
// it ends. The error wraps ErrMalformed.
func (s *Span) Tiles() error {
	at, gaps := s.From, s.Gaps
	for i := 0; at < s.To; {
		switch {
		case i < len(s.Entries) && s.Entries[i].Seq == at:
			i++
			at++
		case len(gaps) > 0 && gaps[0].From == at && gaps[0].To <= s.To && gaps[0].Check() == nil:
			at, gaps = gaps[0].To, gaps[1:]
		default:
			return fmt.Errorf("reading span: %w: nothing for entry %d", ErrMalformed, at)
		}
		if at == s.To && i == len(s.Entries) && len(gaps) == 0 {
			return nil
		}
	}
	return fmt.Errorf("reading span: %w: %d to %d", ErrMalformed, s.From, s.To)
}

// AppendSpan adds a span to a frame. known says which records the receiver holds
// already; those are named, not sent. The span must be one that Tiles accepts.
func AppendSpan(dst []byte, s *Span, known func(Position) bool) []byte {
	dst = binary.AppendUvarint(dst, s.From)
	dst = binary.AppendUvarint(dst, s.To-s.From)
	w := spanWriter{w: newWireContext(), feeds: map[Feed]uint64{}, last: map[Feed]uint64{}, known: known}
	dst = binary.AppendUvarint(dst, uint64(len(s.Openings)))
	for i := range s.Openings {
		dst = w.opening(dst, &s.Openings[i])
	}
	entries, gaps := s.Entries, s.Gaps
	for at := s.From; at < s.To; {
		if len(gaps) > 0 && gaps[0].From == at {
			dst = binary.AppendUvarint(dst, (gaps[0].To-at)<<1|1)
			for _, h := range gaps[0].Hashes {
				dst = append(dst, h[:]...)
			}
			at, gaps = gaps[0].To, gaps[1:]
			continue
		}
		n := uint64(len(entries))
		if len(gaps) > 0 {
			n = min(n, gaps[0].From-at)
		}
		if n == 0 {
			return dst
		}
		dst = binary.AppendUvarint(dst, n<<1)
		for i := range entries[:n] {
			dst = w.entry(dst, &entries[i])
		}
		at, entries = at+n, entries[n:]
	}
	return dst
}

type spanWriter struct {
	w     *wireContext
	feeds map[Feed]uint64
	last  map[Feed]uint64 // n
	known func(Position) bool
	time  int64
}

func (w *spanWriter) opening(dst []byte, r *Record) []byte {
	if r.Core.opening() {
		dst = append(dst, laneOpening)
	} else {
		p := r.Position()
		dst = append(dst, byte(p.Lane))
		dst = append(dst, p.Epoch[:]...)
		dst = binary.AppendUvarint(dst, p.N)
		dst = append(dst, r.Core.Prev[:]...)
	}
	return w.w.append(dst, r)
}

func (w *spanWriter) entry(dst []byte, e *Entry) []byte {
	pos, opening := e.Record.Position(), e.Record.Core.opening()
	feed, skip := pos.Feed(), w.known(pos)
	n, ok := w.last[feed]
	continues := ok && pos.N == n+1
	dst = w.ref(dst, pos, opening, skip, continues)
	if !opening {
		if !continues {
			dst = binary.AppendUvarint(dst, pos.N)
			if !skip {
				dst = append(dst, e.Record.Core.Prev[:]...)
			}
		}
		w.last[feed] = pos.N
	}
	dst = binary.AppendVarint(dst, e.Time-w.time)
	w.time = e.Time
	back := uint64(0)
	if e.PrevSeq != 0 {
		back = e.Seq + 1 - e.PrevSeq
	}
	dst = binary.AppendUvarint(dst, back)
	if skip {
		return dst
	}
	return w.w.append(dst, &e.Record)
}

func (w *spanWriter) ref(dst []byte, pos Position, opening, known, continues bool) []byte {
	var bits uint64
	if known {
		bits |= spanKnown
	}
	if continues {
		bits |= spanContinues
	}
	if idx, ok := w.feeds[pos.Feed()]; ok && !opening {
		return binary.AppendUvarint(dst, idx<<2|bits)
	}
	dst = binary.AppendUvarint(dst, uint64(len(w.feeds))<<2|bits)
	switch {
	case opening && !known:
		return append(dst, laneOpening)
	case opening:
		dst = append(dst, laneOpening|1)
		return append(dst, pos.Epoch[:]...)
	}
	w.feeds[pos.Feed()] = uint64(len(w.feeds))
	dst = append(dst, byte(pos.Lane))
	return append(dst, pos.Epoch[:]...)
}

// ReadSpan rebuilds the span that fills b. held gives a record that the receiver
// holds in pending; where one named as known is not there the error wraps ErrGap.
// Nothing is verified but the form.
func ReadSpan(b []byte, held func(Position) (Record, bool, error)) (Span, error) {
	r := &spanReader{segmentReader: segmentReader{r: &wireReader{b: b}, w: newWireContext(), heads: map[Feed]Head{}}, held: held}
	s, err := r.span()
	if err != nil {
		return Span{}, err
	}
	if r.r.err == nil && len(r.r.b) != 0 {
		r.r.fail("trailing bytes")
	}
	if r.r.err != nil {
		return Span{}, r.r.err
	}
	return s, nil
}

// SpanBounds tells which entries a span speaks of without rebuilding it.
func SpanBounds(b []byte) (from, to uint64, err error) {
	r := &wireReader{b: b}
	from, to = readSpanBounds(r)
	return from, to, r.err
}

func readSpanBounds(r *wireReader) (from, to uint64) {
	from = r.uvarint()
	n := r.uvarint()
	if n == 0 || from > treeSizeMax || n > treeSizeMax-from {
		r.fail("bounds of a span")
	}
	return from, from + n
}

type spanReader struct {
	segmentReader
	held  func(Position) (Record, bool, error)
	time  int64
	count int
}

func (r *spanReader) span() (s Span, err error) {
	s.From, s.To = readSpanBounds(r.r)
	n := r.r.uvarint()
	if n > spanOpeningsMax {
		r.r.fail("openings")
	}
	for i := uint64(0); i < n && r.r.err == nil; i++ {
		s.Openings = append(s.Openings, r.opening())
	}
	for at, pieces := s.From, 0; at < s.To && r.r.err == nil; pieces++ {
		head := r.r.uvarint()
		n := head >> 1
		if n == 0 || n > s.To-at || pieces == spanPiecesMax {
			r.r.fail("piece of a span")
			break
		}
		if head&1 == 1 {
			s.Gaps = append(s.Gaps, r.gap(at, at+n))
			at += n
			continue
		}
		if r.count += int(min(n, FrameRecordsMax+1)); r.count > FrameRecordsMax {
			r.r.fail("entries of a span")
			break
		}
		for ; n > 0 && r.r.err == nil; n-- {
			e, err := r.entry(at)
			if err != nil {
				return s, err
			}
			s.Entries = append(s.Entries, e)
			at++
		}
	}
	return s, nil
}

func (r *spanReader) opening() Record {
	lane := r.r.byte()
	if lane == laneOpening {
		return r.w.read(r.r, Position{}, RID{}, true)
	}
	p := Position{Lane: Lane(lane)}
	r.r.fixed(p.Epoch[:])
	p.N = r.r.uvarint()
	var prev RID
	r.r.fixed(prev[:])
	if lane >= LaneCount || p.N == 0 {
		r.r.fail("opening")
	}
	if r.r.err != nil {
		return Record{}
	}
	return r.w.read(r.r, p, prev, false)
}

func (r *spanReader) gap(from, to uint64) GapHashes {
	g := GapHashes{From: from, To: to}
	for range GapShape(from, to) {
		var h Hash
		if r.r.fixed(h[:]); r.r.err != nil {
			break
		}
		g.Hashes = append(g.Hashes, h)
	}
	return g
}

func (r *spanReader) entry(seq uint64) (Entry, error) {
	ref := r.r.uvarint()
	known, continues := ref&spanKnown != 0, ref&spanContinues != 0
	feed, opening := r.feed(ref>>2, known)
	pos := Position{Epoch: feed.Epoch, Lane: feed.Lane}
	var prev RID
	switch h, ok := r.heads[feed]; {
	case r.r.err != nil || opening && !continues:
	case opening || continues && !ok:
		r.r.fail("feed that does not continue")
	case continues:
		pos.N, prev = h.N+1, h.RID
	default:
		if pos.N = r.r.uvarint(); pos.N == 0 || pos.N > treeSizeMax {
			r.r.fail("n")
		}
		if !known {
			r.r.fixed(prev[:])
		}
	}
	r.time += r.r.varint()
	e := Entry{Seq: seq, Time: r.time}
	if back := r.r.uvarint(); back > seq {
		r.r.fail("entry before it")
	} else if back > 0 {
		e.PrevSeq = seq + 1 - back
	}
	if r.r.err != nil {
		return e, nil
	}
	var err error
	if e.Record, err = r.record(pos, prev, opening, known); err == nil && !opening {
		r.heads[feed] = Head{N: pos.N, RID: e.Record.rid}
	}
	return e, err
}

func (r *spanReader) record(pos Position, prev RID, opening, known bool) (Record, error) {
	if !known {
		return r.w.read(r.r, pos, prev, opening), nil
	}
	rec, ok, err := r.held(pos)
	if err != nil {
		return Record{}, fmt.Errorf("reading span: %w", err)
	}
	if !ok {
		return Record{}, fmt.Errorf("reading span: %w: a record named as known is not here", ErrGap)
	}
	if r.heldBytes += len(rec.Body); r.heldBytes > heldBytesMax {
		return Record{}, fmt.Errorf("reading span: %w: it names more than %d bytes of known records", ErrMalformed, heldBytesMax)
	}
	return rec, nil
}
