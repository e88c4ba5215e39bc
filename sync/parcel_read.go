package peersync

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/healthpost/healthpost/record"
)

// ParcelReadOptions say how a parcel is opened and who is believed.
type ParcelReadOptions struct {
	Session Options
	// Open finds this box's slot; an error when there is none.
	Open func(slots []byte) (ParcelKey, error)
	// Member reports whether a device is a member of the region. Of others only what
	// proves itself is taken: checkpoints, entries and evidence.
	Member   func(record.DeviceID) bool
	Progress func(bytes int64) // nil, or called with the bytes read so far
}

// ParcelReport is what became of a parcel.
type ParcelReport struct {
	ID        [parcelIDBytes]byte
	From, For record.DeviceID // For is zero when it is for several
	Head      record.TreeHead // of the writer's ledger, as it says
	AsOf      int64           // as of ParcelOptions
	Age       uint64

	New, Known, Refused int // records and entries; Refused counts frames that break a rule too
	// Waiting counts those that nothing can be said of yet: what comes before them
	// is missing here.
	Waiting int
	Entries int // of New, entries of the ledger

	Attachments int  // photos and documents that became whole
	Again       bool // reading it once more may take in what waits

	Blocks, Damaged int    // whole blocks, each counted once; places where something else stood
	Missing         uint64 // blocks that are not there, as far as the trailer or a later block tells
	Complete        bool   // everything that was written was read
}

const (
	parcelRefusedMax = 256       // frames that break a rule, before the rest is left alone
	parcelStrayMax   = 256 << 20 // bytes summed in vain, beyond twice what was read
)

// ReadParcel takes in what a parcel holds, verified as in a session. It takes what
// is whole in a damaged file; reading a parcel twice changes nothing. An error
// comes with the report of what was done until then: it wraps ErrNotForHere,
// ErrNoParcel, ErrRegion, ErrVersion, ErrLocal, or is the reader's.
func ReadParcel(ctx context.Context, in io.Reader, r Replica, o ParcelReadOptions) (ParcelReport, error) {
	p := newParcelReader(r, o)
	s := &blockScanner{in: bufio.NewReaderSize(in, parcelBlockMax), progress: o.Progress}
	for {
		if err := ctx.Err(); err != nil {
			return p.done(), fmt.Errorf("reading a parcel: %w", err)
		}
		b, err := s.next()
		p.report.Damaged = s.damaged
		switch {
		case errors.Is(err, io.EOF):
			if err := p.retry(ctx); err != nil {
				return p.done(), fmt.Errorf("reading a parcel: %w", err)
			}
			if rep := p.done(); rep.Blocks > 0 {
				return rep, nil
			}
			return p.done(), p.nothing(s)
		case err == nil:
			err = p.block(ctx, b)
		}
		if err != nil {
			return p.done(), fmt.Errorf("reading a parcel: %w", err)
		}
	}
}

// blockScanner finds the blocks of a file.
type blockScanner struct {
	in       *bufio.Reader
	progress func(int64)
	read     int64
	vain     int64 // bytes summed of what was no block
	damaged  int
	within   bool // damage that was counted goes on
	marked   bool // a marker was there
}

// next gives the next whole block; io.EOF after the last.
func (s *blockScanner) next() (block, error) {
	for {
		head, err := s.in.Peek(parcelHeadBytes)
		if err != nil {
			return block{}, s.end(head, err)
		}
		if n, ok := blockLength(head); ok {
			s.marked = true
			whole, err := s.in.Peek(n)
			if err != nil && !errors.Is(err, io.EOF) {
				return block{}, err
			}
			if b, ok := wholeBlock(whole, n); ok {
				b.slots, b.sealed = bytes.Clone(b.slots), bytes.Clone(b.sealed)
				s.within = false
				return b, s.skip(n)
			}
			if s.vain += int64(len(whole)); s.vain > parcelStrayMax+2*s.read {
				return block{}, misbehaved("a file of marks without blocks")
			}
		}
		if err := s.resync(); err != nil {
			return block{}, err
		}
	}
}

func wholeBlock(b []byte, n int) (block, bool) {
	if len(b) < n {
		return block{}, false
	}
	return readBlock(b)
}

// end deals with the last bytes of a file, too few for a block.
func (s *blockScanner) end(rest []byte, err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if len(rest) > 0 {
		s.damage()
	}
	return io.EOF
}

func (s *blockScanner) damage() {
	if !s.within {
		s.damaged++
	}
	s.within = true
}

// resync moves to the next marker that is in the buffer, or to its end.
func (s *blockScanner) resync() error {
	s.damage()
	b, err := s.in.Peek(s.in.Buffered())
	if err != nil {
		return err
	}
	n := len(b) - len(parcelMarker) + 1
	if i := bytes.Index(b[1:], parcelMarker[:]); i >= 0 {
		n = i + 1
	}
	return s.skip(max(n, 1))
}

func (s *blockScanner) skip(n int) error {
	m, err := s.in.Discard(n)
	s.read += int64(m)
	if s.progress != nil {
		s.progress(s.read)
	}
	return err
}

// parcelReader deals with blocks.
type parcelReader struct {
	r Replica
	o ParcelReadOptions

	key     ParcelKey
	head    parcelHead // of the first whole block
	s       *Session
	seen    []byte    // bits
	last    uint32    // highest index seen
	sum     hash.Hash // of the signatures of the blocks [0, summed)
	summed  uint32
	early   map[uint32][]byte // signatures of blocks after that
	trailer *parcelTrailer
	tried   int // slots that opened nothing
	bad     int // frames that broke a rule
	note    []byte
	waiting []waitingFrame
	kept    int  // bytes in waiting
	more    bool // there was no room for another
	report  ParcelReport
}

// waitingFrame is one that something before it was missing for.
type waitingFrame struct {
	Frame
	note  []byte // the checkpoint that was read before it
	count int    // records or entries that wait
}

// parcelWaitingBytes bounds what is kept to be looked at once more at the end.
const parcelWaitingBytes = 8 << 20

func newParcelReader(r Replica, o ParcelReadOptions) *parcelReader {
	return &parcelReader{r: r, o: o, sum: sha256.New(), early: map[uint32][]byte{}}
}

// parcelSlotTriesMax bounds the keys that are tried on a file, each for 256 slots.
const parcelSlotTriesMax = 64

func (p *parcelReader) block(ctx context.Context, b block) error {
	if p.had(b.index) {
		return nil
	}
	head, rest, sig, err := p.look(b)
	switch {
	case errors.Is(err, ErrVersion) || errors.Is(err, ErrRegion):
		return err
	case err != nil || p.s != nil && (!bytes.Equal(head.ID, p.head.ID) || !bytes.Equal(head.From, p.head.From)):
		p.report.Damaged++ // or left over from a parcel that was on the stick before
		return nil
	}
	p.begin(head)
	err = p.frames(ctx, rest)
	p.mark(b.index, sig)
	return err
}

// look opens a block and verifies who wrote it; rest gives the frames after the
// first.
func (p *parcelReader) look(b block) (head parcelHead, rest *FrameReader, sig []byte, err error) {
	plain, ok := p.open(b)
	if !ok || len(plain) < parcelSigBytes {
		return head, nil, nil, ErrNotForHere
	}
	frames, sig := plain[:len(plain)-parcelSigBytes], plain[len(plain)-parcelSigBytes:]
	rest = NewFrameReader(bytes.NewReader(frames))
	first, err := rest.Read()
	if err != nil || first.Type != TypeParcel || first.Flags&parcelFlagTrailer != 0 {
		return head, nil, nil, misbehaved("a block does not say whose it is")
	}
	if head, err = decodeParcelHead(first.Payload); err != nil {
		return head, nil, nil, err
	}
	if !ed25519.Verify(head.From, parcelClaim(record.RegionID(head.Region), b.index, frames), sig) {
		return head, nil, nil, misbehaved("a block's signature is not its writer's")
	}
	if record.RegionID(head.Region) != p.o.Session.Region {
		return head, nil, nil, ErrRegion
	}
	return head, rest, sig, nil
}

// PeekParcel tells whose parcel a file is without taking anything in. Errors as of
// ReadParcel.
func PeekParcel(in io.Reader, r Replica, o ParcelReadOptions) (ParcelReport, error) {
	p := newParcelReader(r, o)
	s := &blockScanner{in: bufio.NewReaderSize(io.LimitReader(in, parcelPeekBytes), parcelBlockMax)}
	for {
		b, err := s.next()
		if errors.Is(err, io.EOF) {
			return p.done(), p.nothing(s)
		}
		if err != nil {
			return p.done(), fmt.Errorf("looking at a parcel: %w", err)
		}
		head, _, _, err := p.look(b)
		if errors.Is(err, ErrVersion) || errors.Is(err, ErrRegion) {
			return p.done(), fmt.Errorf("looking at a parcel: %w", err)
		}
		if err == nil {
			p.begin(head)
			return p.done(), nil
		}
	}
}

// parcelPeekBytes is how far PeekParcel looks for a whole block.
const parcelPeekBytes = 4 * parcelBlockMax

func (p *parcelReader) begin(head parcelHead) {
	if p.s != nil {
		return
	}
	p.head = head
	p.report.ID, p.report.From, p.report.AsOf, p.report.Age = [parcelIDBytes]byte(head.ID), record.DeviceID(head.From), head.AsOf, head.Age
	if len(head.For) == 32 {
		p.report.For = record.DeviceID(head.For)
	}
	p.s = newParcelSession(p.r, p.report.From, p.o.Session)
}

func (p *parcelReader) open(b block) (plain []byte, ok bool) {
	if p.key != nil {
		if plain, err := p.key.Open(b.index, b.sealed); err == nil {
			return plain, true
		}
	}
	if p.tried >= parcelSlotTriesMax {
		return nil, false
	}
	p.tried++
	key, err := p.o.Open(b.slots)
	if err != nil {
		return nil, false
	}
	if plain, err = key.Open(b.index, b.sealed); err != nil {
		return nil, false
	}
	if p.key == nil {
		p.key, p.tried = key, 0
	}
	return plain, true
}

func (p *parcelReader) had(i uint32) bool {
	return int(i/8) < len(p.seen) && p.seen[i/8]&(1<<(i%8)) != 0
}

func (p *parcelReader) mark(i uint32, sig []byte) {
	for int(i/8) >= len(p.seen) {
		p.seen = append(p.seen, make([]byte, max(64, len(p.seen)))...)
	}
	p.seen[i/8] |= 1 << (i % 8)
	p.last = max(p.last, i)
	p.report.Blocks++
	if len(p.early) < parcelEarlyMax {
		p.early[i] = sig
	}
	for sig, ok := p.early[p.summed]; ok && !p.ended(p.summed); sig, ok = p.early[p.summed] {
		p.sum.Write(sig)
		delete(p.early, p.summed)
		p.summed++
	}
}

// ended reports whether a block is the one with the trailer.
func (p *parcelReader) ended(i uint32) bool {
	return p.trailer != nil && uint64(i)+1 == p.trailer.Blocks
}

// parcelEarlyMax bounds the blocks behind a missing one whose signatures are kept.
const parcelEarlyMax = 4096

// frames deals with what stands in a block after its first frame.
func (p *parcelReader) frames(ctx context.Context, fr *FrameReader) error {
	for p.bad < parcelRefusedMax {
		f, err := fr.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = p.frame(ctx, f)
		}
		switch {
		case err == nil:
		case errors.Is(err, ErrLocal) || ctx.Err() != nil:
			return err
		default:
			p.bad++
			p.report.Refused++
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
	}
	return nil
}

func (p *parcelReader) frame(ctx context.Context, f Frame) error {
	if f.Type == TypeParcel {
		t, err := decodeParcelTrailer(f.Payload)
		if err == nil {
			p.trailer = &t
		}
		return err
	}
	if f.Type == TypeCheckpoint {
		p.note = f.Payload
	}
	before := p.s.tally.waiting
	err := p.s.handleParcel(ctx, f, p.o.Member(p.report.From))
	if n := p.s.tally.waiting - before; n > 0 {
		p.keep(waitingFrame{f, p.note, n})
	}
	return err
}

func (p *parcelReader) keep(w waitingFrame) {
	if p.kept+len(w.Payload) > parcelWaitingBytes {
		p.more = true
		return
	}
	p.kept += len(w.Payload)
	p.waiting = append(p.waiting, w)
}

// retry looks again at what waits, for as long as that helps.
func (p *parcelReader) retry(ctx context.Context) error {
	for len(p.waiting) > 0 {
		list, before := p.waiting, p.s.tally
		p.waiting, p.kept = nil, 0
		for _, w := range list {
			p.s.tally.waiting -= w.count
			if w.Type == TypeRange && !bytes.Equal(w.note, p.note) {
				if err := p.frame(ctx, Frame{Type: TypeCheckpoint, Payload: w.note}); err != nil {
					return err
				}
			}
			if err := p.frame(ctx, w.Frame); errors.Is(err, ErrLocal) || ctx.Err() != nil {
				return err
			} else if err != nil {
				p.report.Refused++
			}
		}
		if t := p.s.tally; t.waiting == before.waiting && t.fresh == before.fresh && t.entries == before.entries {
			return nil
		}
	}
	return nil
}

// done completes the report.
func (p *parcelReader) done() ParcelReport {
	rep := &p.report
	if p.s != nil {
		t := &p.s.tally
		rep.Head = record.TreeHead{Size: p.s.theirs.Size}
		copy(rep.Head.Root[:], p.s.theirs.Root)
		rep.New, rep.Known, rep.Waiting, rep.Entries, rep.Attachments = t.fresh+t.entries, t.known, t.waiting, t.entries, t.attachments
		rep.Refused += t.refused
		rep.Again = p.more && (t.entries > 0 || t.fresh > 0)
	}
	blocks := uint64(p.last) + 1
	if p.trailer != nil {
		blocks = max(blocks, p.trailer.Blocks)
	}
	rep.Missing = blocks - uint64(rep.Blocks)
	rep.Complete = p.trailer != nil && rep.Missing == 0 && bytes.Equal(p.sum.Sum(nil), p.trailer.Sum)
	return *rep
}

// nothing says why a file gave no block.
func (p *parcelReader) nothing(s *blockScanner) error {
	if p.tried > 0 {
		return fmt.Errorf("reading a parcel: %w", ErrNotForHere)
	}
	if s.marked {
		return fmt.Errorf("reading a parcel: %w", ErrCutShort)
	}
	return fmt.Errorf("reading a parcel: %w", ErrNoParcel)
}
