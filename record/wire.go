package record

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The short form leaves out what a receiver that holds the record before this
// one computes again. Integers are varints (signed ones zigzag), as in package
// encoding/binary; "delta" is against the record before it in the same frame.
//
//	record = flags(1) millis(delta) counter kind session(delta) size(delta) [compartment] bodyLen [ext] [bodyHash] sig(64) [body]
//	flags  = clock | ext<<3 | body<<4 | compartmentMode<<5
//
// compartmentMode 0 none, 1 that of the record before, 2 sixteen new bytes,
// 3 an index into the compartments met in this frame. The body hash is sent only
// when the body is not.
//
//	run     = lane(1) [epoch(16)] first count record*        lane 0x80 = opening record, no epoch
//	segment = start count time (ref [lane(1) [epoch(16)]] time(delta) [record])*
//
// In a segment ref = feed index<<1 | known; an index one past those met brings a
// new feed; known means the receiver holds the record already. An opening record
// always comes as one past those met, which it does not join: lane 0x80 when it
// is sent, 0x81 with the epoch when it is known.

// ErrGap: the record before the first one is not here, so it cannot be rebuilt.
var ErrGap = errors.New("records before it are missing")

const (
	flagExt     = 1 << 3
	flagBody    = 1 << 4
	compNone    = 0
	compSame    = 1
	compNew     = 2
	compIndex   = 3
	laneOpening = 0x80

	// FrameRecordsMax bounds a run or a segment.
	FrameRecordsMax = 4096
	// heldBytesMax bounds the bodies that a few bytes of a segment can call up.
	heldBytesMax = 16 << 20
)

// wireContext is what both ends of a frame derive from the records before.
type wireContext struct {
	hlc     uint64
	session uint64
	size    uint64
	comp    CompartmentID
	comps   []CompartmentID
	index   map[CompartmentID]int
}

func newWireContext() *wireContext { return &wireContext{index: map[CompartmentID]int{}} }

func (w *wireContext) note(c *Core) {
	w.hlc, w.session, w.size = c.HLC, c.Session, c.Size
	if c.Compartment.IsZero() {
		return
	}
	w.comp = c.Compartment
	if _, ok := w.index[c.Compartment]; !ok {
		w.index[c.Compartment] = len(w.comps)
		w.comps = append(w.comps, c.Compartment)
	}
}

func (w *wireContext) append(dst []byte, r *Record) []byte {
	c := &r.Core
	flags := c.Clock
	if len(c.Ext) > 0 {
		flags |= flagExt
	}
	if r.Body != nil {
		flags |= flagBody
	}
	mode, idx := w.compMode(c.Compartment)
	dst = append(dst, flags|byte(mode)<<5)
	dst = binary.AppendVarint(dst, int64(c.HLC>>16)-int64(w.hlc>>16))
	dst = binary.AppendUvarint(dst, c.HLC&0xffff)
	dst = binary.AppendUvarint(dst, uint64(c.Kind))
	dst = binary.AppendVarint(dst, int64(c.Session-w.session))
	dst = binary.AppendVarint(dst, int64(c.Size-w.size))
	switch mode {
	case compNew:
		dst = append(dst, c.Compartment[:]...)
	case compIndex:
		dst = binary.AppendUvarint(dst, uint64(idx))
	}
	dst = binary.AppendUvarint(dst, uint64(c.BodyLen))
	if len(c.Ext) > 0 {
		ext := mustMarshal(c.Ext)
		dst = binary.AppendUvarint(dst, uint64(len(ext)))
		dst = append(dst, ext...)
	}
	if r.Body == nil {
		dst = append(dst, c.BodyHash[:]...)
	}
	dst = append(dst, r.Sig[:]...)
	dst = append(dst, r.Body...)
	w.note(c)
	return dst
}

func (w *wireContext) compMode(c CompartmentID) (mode, index int) {
	if c.IsZero() {
		return compNone, 0
	}
	if c == w.comp {
		return compSame, 0
	}
	if i, ok := w.index[c]; ok {
		return compIndex, i
	}
	return compNew, 0
}

// wireReader takes a frame apart; the first error sticks.
type wireReader struct {
	b   []byte
	err error
}

func (r *wireReader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("reading frame: %w: %s", ErrMalformed, what)
	}
	r.b = nil
}

func (r *wireReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.fail("integer")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *wireReader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *wireReader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail("too short")
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *wireReader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *wireReader) fixed(dst []byte) { copy(dst, r.take(uint64(len(dst)))) }

// read rebuilds one record at pos, with the body hash and core computed again.
func (w *wireContext) read(r *wireReader, pos Position, prev RID, opening bool) Record {
	flags := r.byte()
	c := Core{Epoch: pos.Epoch, Lane: pos.Lane, N: pos.N, Prev: prev, Clock: flags & 7}
	millis := int64(w.hlc>>16) + r.varint()
	counter := r.uvarint()
	if millis < 0 || millis >= 1<<48 || counter > 0xffff {
		r.fail("clock")
	}
	c.HLC = uint64(millis)<<16 | counter
	kind := r.uvarint()
	if kind == 0 || kind > 0xffff || opening != (Kind(kind) == KindEpochOpen) {
		r.fail("kind")
	}
	c.Kind = Kind(kind)
	c.Session = w.session + uint64(r.varint())
	c.Size = w.size + uint64(r.varint())
	c.Compartment = w.readCompartment(r, int(flags>>5))
	bodyLen := r.uvarint()
	if bodyLen > BodyBytesMax || flags&0x80 != 0 || c.Clock > 4 {
		r.fail("body length or flags")
	}
	c.BodyLen = uint32(bodyLen)
	if flags&flagExt != 0 {
		if n := r.uvarint(); n > coreBytesMax {
			r.fail("extensions")
		} else if err := Unmarshal(r.take(n), &c.Ext); r.err == nil && (err != nil || len(c.Ext) == 0) {
			r.fail("extensions")
		}
	}
	return w.finish(r, c, flags&flagBody != 0)
}

func (w *wireContext) finish(r *wireReader, c Core, hasBody bool) Record {
	if !hasBody {
		r.fixed(c.BodyHash[:])
	}
	var sig [64]byte
	r.fixed(sig[:])
	var body []byte
	if hasBody {
		body = append([]byte{}, r.take(uint64(c.BodyLen))...)
	}
	if r.err != nil {
		return Record{}
	}
	if hasBody {
		c.BodyHash = hashBody(body)
	}
	core := c.Encode()
	c, err := DecodeCore(core)
	if err != nil {
		r.fail("record breaks the rules of a core")
		return Record{}
	}
	w.note(&c)
	return newRecord(c, core, sig, body)
}

func (w *wireContext) readCompartment(r *wireReader, mode int) CompartmentID {
	switch mode & 3 {
	case compSame:
		if w.comp.IsZero() {
			r.fail("compartment")
		}
		return w.comp
	case compNew:
		var c CompartmentID
		r.fixed(c[:])
		if c.IsZero() {
			r.fail("compartment")
		}
		return c
	case compIndex:
		if i := r.uvarint(); i < uint64(len(w.comps)) {
			return w.comps[i]
		}
		r.fail("compartment index")
	}
	return CompartmentID{}
}

// AppendRun adds at least one record of one feed, contiguous in n, to a frame. All are
// opening records or none is; a run of opening records has one element.
func AppendRun(dst []byte, records []Record) []byte {
	pos := records[0].Position()
	if records[0].Core.opening() {
		dst = append(dst, laneOpening)
	} else {
		dst = append(dst, byte(pos.Lane))
		dst = append(dst, pos.Epoch[:]...)
	}
	dst = binary.AppendUvarint(dst, pos.N)
	dst = binary.AppendUvarint(dst, uint64(len(records)))
	w := newWireContext()
	for i := range records {
		dst = w.append(dst, &records[i])
	}
	return dst
}

// RunHead tells where a run starts without rebuilding it.
func RunHead(b []byte) (first Position, opening bool, count uint64, err error) {
	r := &wireReader{b: b}
	first, opening, count = readRunHead(r)
	return first, opening, count, r.err
}

func readRunHead(r *wireReader) (first Position, opening bool, count uint64) {
	lane := r.byte()
	if opening = lane == laneOpening; !opening {
		if lane >= LaneCount {
			r.fail("lane")
		}
		first.Lane = Lane(lane)
		r.fixed(first.Epoch[:])
	}
	first.N = r.uvarint()
	count = r.uvarint()
	if count == 0 || count > FrameRecordsMax || opening != (first.N == 0) || opening && count != 1 {
		r.fail("count")
	}
	return first, opening, count
}

// ReadRun rebuilds the records of one run that fills b. prev gives the rid at a
// position that the receiver holds (n 0 of any lane is the opening record). The
// error wraps ErrGap when prev does not know it, ErrMalformed otherwise. Nothing
// is verified but the form: signatures are the caller's next step.
func ReadRun(b []byte, prev func(Position) (RID, bool)) ([]Record, error) {
	r := &wireReader{b: b}
	pos, opening, count := readRunHead(r)
	if r.err != nil {
		return nil, r.err
	}
	var last RID
	if !opening {
		rid, ok := prev(Position{pos.Epoch, pos.Lane, pos.N - 1})
		if !ok {
			return nil, fmt.Errorf("reading run at n %d: %w", pos.N, ErrGap)
		}
		last = rid
	}
	w := newWireContext()
	records := make([]Record, 0, min(count, 256))
	for range count {
		rec := w.read(r, pos, last, opening)
		if r.err != nil {
			return nil, r.err
		}
		records = append(records, rec)
		last = rec.rid
		pos.N++
	}
	if len(r.b) != 0 {
		return nil, fmt.Errorf("reading run: %w: trailing bytes", ErrMalformed)
	}
	return records, nil
}

// AppendSegment adds contiguous entries to a frame. known says which records the
// receiver holds already; those are named, not sent.
func AppendSegment(dst []byte, entries []Entry, known func(Position) bool) []byte {
	dst = binary.AppendUvarint(dst, entries[0].Seq)
	dst = binary.AppendUvarint(dst, uint64(len(entries)))
	dst = binary.AppendVarint(dst, entries[0].Time)
	w := newWireContext()
	feeds := map[Feed]uint64{}
	last := entries[0].Time
	for i := range entries {
		e := &entries[i]
		pos := e.Record.Position()
		skip := known(pos)
		dst = appendFeedRef(dst, feeds, pos, e.Record.Core.opening(), skip)
		dst = binary.AppendVarint(dst, e.Time-last)
		last = e.Time
		if !skip {
			dst = w.append(dst, &e.Record)
		}
	}
	return dst
}

func appendFeedRef(dst []byte, feeds map[Feed]uint64, pos Position, opening, known bool) []byte {
	var k uint64
	if known {
		k = 1
	}
	if idx, ok := feeds[pos.Feed()]; ok && !opening {
		return binary.AppendUvarint(dst, idx<<1|k)
	}
	dst = binary.AppendUvarint(dst, uint64(len(feeds))<<1|k)
	switch {
	case opening && !known:
		return append(dst, laneOpening)
	case opening:
		dst = append(dst, laneOpening|1)
		return append(dst, pos.Epoch[:]...)
	}
	feeds[pos.Feed()] = uint64(len(feeds))
	dst = append(dst, byte(pos.Lane))
	return append(dst, pos.Epoch[:]...)
}

// Holder is what a receiver of a segment looks things up in.
type Holder interface {
	// Head is the last ordered record of a feed; ok false for an unknown epoch.
	Head(Feed) (Head, bool, error)
	// Held gives a record that this replica holds in pending.
	Held(Position) (Record, bool, error)
}

// ReadSegment rebuilds entries from a frame. Every feed continues at the
// receiver's ordered head, so n and prev are not sent. PrevSeq is left 0: the
// Orderer computes it. The caller verifies everything else.
func ReadSegment(b []byte, h Holder) (start uint64, entries []Entry, err error) {
	r := &wireReader{b: b}
	start = r.uvarint()
	count := r.uvarint()
	t := r.varint()
	if r.err == nil && (count == 0 || count > FrameRecordsMax || start > treeSizeMax) {
		r.fail("count")
	}
	s := segmentReader{r: r, w: newWireContext(), holder: h, heads: map[Feed]Head{}}
	for i := uint64(0); i < count && r.err == nil; i++ {
		rec, dt, err := s.next()
		if err != nil {
			return 0, nil, err
		}
		t += dt
		entries = append(entries, Entry{Seq: start + i, Time: t, Record: rec})
	}
	if r.err == nil && len(r.b) != 0 {
		r.fail("trailing bytes")
	}
	if r.err != nil {
		return 0, nil, r.err
	}
	return start, entries, nil
}

type segmentReader struct {
	r      *wireReader
	w      *wireContext
	holder Holder
	feeds  []Feed
	heads  map[Feed]Head

	heldBytes int
}

func (s *segmentReader) next() (Record, int64, error) {
	ref := s.r.uvarint()
	known := ref&1 == 1
	feed, opening := s.feed(ref>>1, known)
	dt := s.r.varint()
	if s.r.err != nil {
		return Record{}, 0, s.r.err
	}
	pos := Position{Epoch: feed.Epoch, Lane: feed.Lane}
	var prev RID
	if !opening {
		head, err := s.head(feed)
		if err != nil {
			return Record{}, 0, err
		}
		pos.N, prev = head.N+1, head.RID
	}
	rec, err := s.record(pos, prev, opening, known)
	if err != nil {
		return Record{}, 0, err
	}
	if opening {
		for lane := Lane(0); lane < LaneCount; lane++ {
			s.heads[Feed{rec.OpenedEpoch(), lane}] = Head{RID: rec.rid}
		}
	} else {
		s.heads[feed] = Head{N: pos.N, RID: rec.rid}
	}
	return rec, dt, nil
}

func (s *segmentReader) record(pos Position, prev RID, opening, known bool) (Record, error) {
	if !known {
		rec := s.w.read(s.r, pos, prev, opening)
		return rec, s.r.err
	}
	rec, ok, err := s.holder.Held(pos)
	if err != nil {
		return Record{}, fmt.Errorf("reading segment: %w", err)
	}
	if !ok {
		return Record{}, fmt.Errorf("reading segment: %w: a record named as known is not here", ErrGap)
	}
	if s.heldBytes += len(rec.Body); s.heldBytes > heldBytesMax {
		return Record{}, fmt.Errorf("reading segment: %w: it names more than %d bytes of known records", ErrMalformed, heldBytesMax)
	}
	return rec, nil
}

func (s *segmentReader) feed(idx uint64, known bool) (f Feed, opening bool) {
	if idx < uint64(len(s.feeds)) {
		return s.feeds[idx], false
	}
	if idx != uint64(len(s.feeds)) {
		s.r.fail("feed index")
		return f, false
	}
	switch lane := s.r.byte(); {
	case lane == laneOpening && !known:
		return f, true
	case lane == laneOpening|1 && known:
		s.r.fixed(f.Epoch[:])
		return f, true
	case lane >= LaneCount:
		s.r.fail("lane")
	default:
		f.Lane = Lane(lane)
		s.r.fixed(f.Epoch[:])
		s.feeds = append(s.feeds, f)
	}
	return f, false
}

func (s *segmentReader) head(f Feed) (Head, error) {
	if h, ok := s.heads[f]; ok {
		return h, nil
	}
	h, ok, err := s.holder.Head(f)
	if err != nil {
		return Head{}, fmt.Errorf("reading segment: %w", err)
	}
	if !ok {
		return Head{}, fmt.Errorf("reading segment: %w: epoch not in the ledger", ErrGap)
	}
	return h, nil
}
