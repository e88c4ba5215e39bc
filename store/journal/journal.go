package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrDamaged is wrapped by a DamageError: acknowledged bytes do not verify.
var ErrDamaged = errors.New("journal is damaged")

// DamageError says where acknowledged bytes do not verify.
type DamageError struct {
	File   string
	Offset int64
	Seq    uint64 // first frame that is missing, 0 when not a frame
	What   string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("journal file %s at byte %d, frame %d: %s", e.File, e.Offset, e.Seq, e.What)
}

// Is makes errors.Is(err, ErrDamaged) hold.
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

// Options of a journal. FS is required; zero values take the defaults.
type Options struct {
	FS           FS
	SegmentBytes int64 // 16 MiB; a larger frame has a segment of its own
	ChunkBytes   int64 // zeros written ahead in a new segment, 1 MiB
	// Lenient reads a damaged journal as far as it goes: Replay gives every frame
	// that verifies and then the damage. Such a journal is not written to.
	Lenient bool
}

const (
	segmentBytesDefault = 16 << 20
	chunkBytesDefault   = 1 << 20
	sparesMax           = 1
	checkpointName      = "checkpoint"
)

// Stats counts what the journal asked of the device since Open.
type Stats struct {
	Frames     uint64
	Syncs      uint64 // of segments; one for each frame
	Bytes      uint64 // written, headers, padding and zeros included
	LastSync   time.Duration
	SyncedLast uint64 // sequence
}

// Journal is an open journal. Append, Checkpoint and Close are called by one
// goroutine at a time; Stats, Live, Last and Err by any.
type Journal struct {
	o Options

	mu     sync.Mutex // guards segs, spares and the checkpoint
	segs   []segment  // in order; the last one is written to
	spares []string

	next uint64 // sequence of the next frame; owned by Append
	cur  *open  // owned by Append
	err  atomic.Pointer[error]

	frames, syncs, bytes, lastSync, synced atomic.Uint64

	damage error // that a lenient Open went past

	ckptSeq  uint64 // guarded by mu
	ckptNote []byte // as found by Open
}

// segment is one segment file that may hold frames that are still needed.
type segment struct {
	segmentHead
	name string
}

// open is the segment being written.
type open struct {
	f      File
	head   segmentHead
	at     int64 // where the next frame goes
	zeroed int64 // bytes of the file that are written
	buf    []byte
}

// Open reads a journal or makes an empty one. Replay must follow, then
// Checkpoint, before the first Append.
func Open(o Options) (*Journal, error) {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = segmentBytesDefault
	}
	if o.ChunkBytes == 0 {
		o.ChunkBytes = chunkBytesDefault
	}
	j := &Journal{o: o}
	names, err := o.FS.Names()
	if err != nil {
		return nil, fmt.Errorf("opening journal: %w", err)
	}
	sort.Strings(names)
	if err := j.excuse(j.readCheckpoint(names)); err != nil {
		return nil, fmt.Errorf("opening journal: %w", err)
	}
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, ".seg"):
			err = j.excuse(j.readSegmentHead(name))
		case strings.HasSuffix(name, ".spare"):
			j.spares = append(j.spares, name)
		}
		if err != nil {
			return nil, fmt.Errorf("opening journal: %w", err)
		}
	}
	sort.Slice(j.segs, func(a, b int) bool { return j.segs[a].number < j.segs[b].number })
	return j, nil
}

// excuse keeps damage for Replay when the journal is read leniently.
func (j *Journal) excuse(err error) error {
	if !j.o.Lenient || !errors.Is(err, ErrDamaged) {
		return err
	}
	j.damage = errors.Join(j.damage, err)
	return nil
}

func (j *Journal) readCheckpoint(names []string) error {
	f, err := j.o.FS.Open(checkpointName, false)
	if errors.Is(err, errNotExist) {
		for _, n := range names {
			if strings.HasSuffix(n, ".spare") {
				return &DamageError{File: checkpointName, What: "missing"}
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	b, err := readAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	seq, note, err := decodeCheckpoint(b)
	if err != nil {
		return &DamageError{File: checkpointName, What: err.Error()}
	}
	j.ckptSeq, j.ckptNote = seq, note
	return nil
}

func readAll(f File) ([]byte, error) {
	n, err := f.Size()
	if err != nil {
		return nil, err
	}
	if n > noteBytesMax+pageBytes {
		return nil, &DamageError{File: checkpointName, What: fmt.Sprintf("file of %d bytes", n)}
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

func (j *Journal) readSegmentHead(name string) error {
	number, err := strconv.ParseUint(strings.TrimSuffix(name, ".seg"), 16, 64)
	if err != nil {
		return &DamageError{File: name, What: "name of a segment"}
	}
	f, err := j.o.FS.Open(name, false)
	if err != nil {
		return err
	}
	b := make([]byte, pageBytes)
	_, err = f.ReadAt(b, 0)
	if err = ignoreEOF(err); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	h, err := decodeSegmentHead(b)
	if err != nil || h.number != number {
		h = segmentHead{number: number} // base 0 marks an unreadable header
	}
	j.segs = append(j.segs, segment{h, name})
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Last is the last checkpoint: every frame up to seq is elsewhere. The note is
// the one that Open found.
func (j *Journal) Last() (seq uint64, note []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ckptSeq, j.ckptNote
}

// Next is the sequence that the next frame gets. It holds after Replay.
func (j *Journal) Next() uint64 { return j.next }

func (j *Journal) fault(err error) error {
	j.err.CompareAndSwap(nil, &err)
	return *j.err.Load()
}

// Err is the first write or sync error.
func (j *Journal) Err() error {
	if p := j.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Stats may be called at any time.
func (j *Journal) Stats() Stats {
	return Stats{Frames: j.frames.Load(), Syncs: j.syncs.Load(), Bytes: j.bytes.Load(), LastSync: time.Duration(j.lastSync.Load()), SyncedLast: j.synced.Load()}
}

// Append writes one frame and returns its sequence when it is on the device.
// After an error nothing more is accepted.
func (j *Journal) Append(payload []byte) (uint64, error) {
	if err := j.Err(); err != nil {
		return 0, err
	}
	if len(payload) > PayloadBytesMax {
		return 0, fmt.Errorf("appending to journal: frame of %d bytes", len(payload))
	}
	n := frameBytes(len(payload))
	if j.cur == nil || j.cur.at > pageBytes && j.cur.at+n > j.o.SegmentBytes {
		if err := j.startSegment(); err != nil {
			return 0, j.fault(fmt.Errorf("starting journal segment: %w", err))
		}
	}
	if err := j.write(payload, n); err != nil {
		return 0, j.fault(fmt.Errorf("appending to journal: %w", err))
	}
	seq := j.next
	j.next++
	j.frames.Add(1)
	j.synced.Store(seq)
	return seq, nil
}

func (j *Journal) write(payload []byte, n int64) error {
	c := j.cur
	c.buf = appendFrame(c.buf[:0], j.next, c.head.nonce, payload)
	if end := c.at + n; end > c.zeroed {
		// Zeros first: the file never ends inside a page that a frame needs.
		upTo := max(end, min(c.zeroed+j.o.ChunkBytes, j.o.SegmentBytes))
		if _, err := c.f.WriteAt(make([]byte, upTo-c.zeroed), c.zeroed); err != nil {
			return err
		}
		j.bytes.Add(uint64(upTo - c.zeroed))
		c.zeroed = upTo
	}
	if _, err := c.f.WriteAt(c.buf, c.at); err != nil {
		return err
	}
	j.bytes.Add(uint64(len(c.buf)))
	if err := j.sync(c.f); err != nil {
		return err
	}
	c.at += n
	if cap(c.buf) > 8<<20 {
		c.buf = nil
	}
	return nil
}

func (j *Journal) sync(f File) error {
	start := time.Now()
	err := f.Sync()
	j.lastSync.Store(uint64(time.Since(start)))
	j.syncs.Add(1)
	return err
}

// nextSegment gives a number above every one in use, and a spare if there is one.
func (j *Journal) nextSegment() (number uint64, spare string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segs {
		number = max(number, s.number)
	}
	for _, s := range j.spares {
		if n, err := strconv.ParseUint(strings.TrimSuffix(s, ".spare"), 16, 64); err == nil {
			number = max(number, n)
		}
	}
	if len(j.spares) > 0 {
		spare, j.spares = j.spares[0], j.spares[1:]
	}
	return number + 1, spare
}

func (j *Journal) startSegment() error {
	number, spare := j.nextSegment()
	if j.cur != nil {
		if err := j.cur.f.Close(); err != nil {
			return err
		}
		j.cur = nil
	}
	var nonce [8]byte
	rand.Read(nonce[:])
	h := segmentHead{number: number, base: j.next, nonce: binary.BigEndian.Uint64(nonce[:])}
	name := fmt.Sprintf("%016x.seg", number)
	if spare != "" {
		if err := j.o.FS.Rename(spare, name); err != nil {
			return err
		}
	}
	f, err := j.o.FS.Open(name, true)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil {
		_, err = f.WriteAt(h.encode(), 0)
	}
	if err == nil {
		err = j.sync(f)
	}
	if err == nil {
		err = j.o.FS.SyncDir()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	j.bytes.Add(pageBytes)
	j.cur = &open{f: f, head: h, at: pageBytes, zeroed: max(size/pageBytes*pageBytes, pageBytes)}
	j.mu.Lock()
	j.segs = append(j.segs, segment{h, name})
	j.mu.Unlock()
	return nil
}

// Reserve writes the rest of a segment ahead, so that frames find room there
// whatever becomes of the disk. Where there is none for it nothing is wrong. Like
// Append it is called by one goroutine at a time.
func (j *Journal) Reserve() error {
	if err := j.Err(); err != nil {
		return err
	}
	if j.cur == nil || j.cur.at > j.o.SegmentBytes/2 {
		if err := j.startSegment(); err != nil {
			return j.fault(fmt.Errorf("starting journal segment: %w", err))
		}
	}
	zeros := make([]byte, min(j.o.ChunkBytes, j.o.SegmentBytes))
	for c := j.cur; c.zeroed < j.o.SegmentBytes; {
		n, err := c.f.WriteAt(zeros[:min(int64(len(zeros)), j.o.SegmentBytes-c.zeroed)], c.zeroed)
		if errors.Is(err, syscall.ENOSPC) {
			return nil
		}
		if err != nil {
			return j.fault(fmt.Errorf("reserving room in the journal: %w", err))
		}
		c.zeroed += int64(n)
		j.bytes.Add(uint64(n))
	}
	if err := j.sync(j.cur.f); err != nil {
		return j.fault(fmt.Errorf("reserving room in the journal: %w", err))
	}
	return nil
}

// Room is how many bytes of frames find their place in what is written ahead.
func (j *Journal) Room() int64 {
	if j.cur == nil {
		return 0
	}
	return min(j.cur.zeroed, j.o.SegmentBytes) - j.cur.at
}

// Live is how many bytes of frames the next recovery would have to read, in
// whole segments before the one being written.
func (j *Journal) Live() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return int64(max(len(j.segs)-1, 0)) * j.o.SegmentBytes
}

// Checkpoint records that every frame up to seq is durable elsewhere, with a
// note of the caller, and frees the segments that held only such frames.
func (j *Journal) Checkpoint(seq uint64, note []byte) error {
	if err := j.Err(); err != nil {
		return err
	}
	j.mu.Lock()
	last := j.ckptSeq
	j.mu.Unlock()
	if len(note) > noteBytesMax || seq < last || seq >= j.next {
		return fmt.Errorf("writing journal checkpoint: frame %d after %d, note of %d bytes", seq, last, len(note))
	}
	if err := j.writeCheckpoint(seq, note); err != nil {
		return j.fault(fmt.Errorf("writing journal checkpoint: %w", err))
	}
	if err := j.free(seq); err != nil {
		return j.fault(fmt.Errorf("freeing journal segments: %w", err))
	}
	return nil
}

func (j *Journal) writeCheckpoint(seq uint64, note []byte) error {
	const tmp = checkpointName + ".tmp"
	if err := j.o.FS.Remove(tmp); err != nil && !errors.Is(err, errNotExist) {
		return err
	}
	f, err := j.o.FS.Open(tmp, true)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(encodeCheckpoint(seq, note), 0); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := j.o.FS.Rename(tmp, checkpointName); err != nil {
		return err
	}
	return j.o.FS.SyncDir()
}

// free turns the segments whose frames are all at or before seq into spares.
func (j *Journal) free(seq uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ckptSeq = seq
	keep := j.segs[:0:0]
	for i, s := range j.segs {
		current := j.cur != nil && s.number == j.cur.head.number
		end := j.next // one past the last frame it can hold
		if i+1 < len(j.segs) {
			end = j.segs[i+1].base
		}
		if current || end > seq+1 {
			keep = append(keep, s)
			continue
		}
		if err := j.retire(s); err != nil {
			return err
		}
	}
	j.segs = keep
	return nil
}

func (j *Journal) retire(s segment) error {
	if len(j.spares) >= sparesMax {
		return j.o.FS.Remove(s.name)
	}
	spare := strings.TrimSuffix(s.name, ".seg") + ".spare"
	if err := j.o.FS.Rename(s.name, spare); err != nil {
		return err
	}
	j.spares = append(j.spares, spare)
	return nil
}

// Scour goes on in a new file and removes every other one whose frames are all at or
// before the last checkpoint, spares too: what stood in them is in the folder no
// more. Like Append it is called by one goroutine at a time.
func (j *Journal) Scour() error {
	if err := j.Err(); err != nil {
		return err
	}
	err := j.removeSpares()
	if err == nil {
		err = j.startSegment()
	}
	if err == nil {
		seq, _ := j.Last()
		err = j.free(seq)
	}
	if err == nil {
		err = j.removeSpares()
	}
	if err == nil {
		err = j.o.FS.SyncDir()
	}
	if err != nil {
		return j.fault(fmt.Errorf("scouring the journal: %w", err))
	}
	return nil
}

func (j *Journal) removeSpares() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.spares) > 0 {
		if err := j.o.FS.Remove(j.spares[0]); err != nil {
			return err
		}
		j.spares = j.spares[1:]
	}
	return nil
}

// Close closes the files. Every frame that Append returned for is durable
// already.
func (j *Journal) Close() error {
	if j.cur == nil {
		return nil
	}
	err := j.cur.f.Close()
	j.cur = nil
	if err != nil {
		return fmt.Errorf("closing journal: %w", err)
	}
	return nil
}

// Amend replaces the note of the checkpoint that Open found. It frees nothing.
func (j *Journal) Amend(seq uint64, note []byte) error {
	if err := j.Err(); err != nil {
		return err
	}
	if err := j.writeCheckpoint(seq, note); err != nil {
		return j.fault(fmt.Errorf("writing journal checkpoint: %w", err))
	}
	return nil
}
