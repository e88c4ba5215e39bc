package peersync

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/healthpost/healthpost/record"
)

// Attachments travel in parts, after everything else that a session carries. Who
// wants one asks for the parts it lacks; parts are verified against the announced
// root and durable before the next is looked at, so that a cut costs one part, and
// any other peer gives the rest.
//
//	21 WANT   [[id, have]...]            have: bit part%8 of byte part/8 of each part that is here
//	22 CHUNK  id(16), uvarint part, uvarint offset, bytes of that part
//	23 HELD   [[id...], [id...], [id...]] whole and durable here; asked for and not here; whole here, and there?
//
// Parts of one attachment are sent one after the other and each from its beginning.
// What a box was asked for and does not have it offers when it comes.

// Blobs is what a box keeps of attachments. Methods may be called from several
// sessions at once; what a writer accepted is durable when it returns.
type Blobs interface {
	// Wanted lists attachments that this box wants and lacks parts of, the most
	// wanted first, at most max, without those that pass skip. With asked, only
	// those that a person waits for.
	Wanted(max int, asked bool, skip func(record.BlobID) bool) ([]BlobWant, error)
	// Mark is another number whenever Wanted may answer otherwise than before, or an
	// attachment became whole. It is asked at every change and must be cheap.
	Mark() uint64
	// Blob is what was announced, and a bit for each part that is here. ok is false
	// for what no record here announces.
	Blob(id record.BlobID) (b record.Blob, have []byte, ok bool, err error)
	// Part gives a part that is here. ErrNoPart for one that turns out not to be.
	Part(id record.BlobID, part int) ([]byte, error)
	// PutPart keeps a part after verifying it; whole when none is missing any more.
	// ErrNoRoom while the disk or the share of its author is full.
	PutPart(ctx context.Context, from record.DeviceID, id record.BlobID, part int, b []byte) (whole bool, err error)
	// Unconfirmed lists attachments made here that no other box is known to hold.
	Unconfirmed(max int) ([]record.BlobID, error)
	// HeldOf lists attachments of a device, or with a zero one of any other box, that
	// are whole here.
	HeldOf(author record.DeviceID, max int) ([]record.BlobID, error)
	// PutHolder notes that a peer holds attachments durably.
	PutHolder(ctx context.Context, peer record.DeviceID, ids []record.BlobID) error
}

// BlobWant is an attachment to ask for.
type BlobWant struct {
	record.Blob
	Have  []byte // as of Blobs.Blob
	Asked bool   // a person waits for it
}

// ErrNoRoom says that the disk, or the share of the author, has no room for a part:
// the session asks for no more of them.
var ErrNoRoom = errors.New("no room for attachments")

// ErrNoPart says that a part of an attachment is lost or damaged here.
var ErrNoPart = errors.New("part of an attachment is lost")

const (
	protocolBlobs = 3 // from which on a peer knows the frames

	blobsOpenMax  = 4       // asked for and on their way
	blobsAskedMax = 1 << 14 // in one session
	blobsServeMax = 64      // asked for by the peer and not sent yet
	blobIDsMax    = 64      // in one list of a frame
	blobsHeardMax = 1 << 16 // ids that a peer may name in one session
	flagFirst     = 2       // of WANT: before what was asked for earlier

	chunkHeadBytes = 16 + 2 + 3
	blobHaveMax    = (record.BlobChunksMax + 1 + 7) / 8
)

// blobClaims keeps the sessions of a box from asking for the same attachment.
type blobClaims struct {
	mu    sync.Mutex
	by    map[record.BlobID]*Session // guarded by mu
	drops uint64                     // guarded by mu

	freed func() // called without locks when one is given up; must not block
}

func (c *blobClaims) take(id record.BlobID, s *Session) bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[record.BlobID]*Session{}
	}
	if had := c.by[id]; had != nil && had != s {
		return false
	}
	c.by[id] = s
	return true
}

// drop gives a claim up; done says that nobody else needs it.
func (c *blobClaims) drop(id record.BlobID, s *Session, done bool) {
	if c == nil {
		return
	}
	c.mu.Lock()
	was := c.by[id] == s
	if was {
		delete(c.by, id)
		c.drops++
	}
	c.mu.Unlock()
	if was && !done && c.freed != nil {
		c.freed()
	}
}

// dropped counts the claims that were given up.
func (c *blobClaims) dropped() uint64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drops
}

// blobs is what a session asked for, what it was asked for, and what it has to
// tell.
type blobs struct {
	asked map[record.BlobID]*blobAsk
	open  int // of asked, those that the peer is to send
	full  bool
	seen  blobView // as of the last look
	ask   []BlobWant
	in    blobPart

	serve  []*blobServe
	out    blobPart
	before bool // offered what the peer may hold already

	held, lacked, offered []record.BlobID
	heard                 int
}

// blobView is all that the answer to what to ask for depends on.
type blobView struct {
	mark, drops uint64
	open, asked int
	allows      Allowance
}

type blobAsk struct {
	blob record.Blob
	open bool // the peer is to send it
}

type blobServe struct {
	id    record.BlobID
	have  []byte // there, or sent
	first bool
	idle  bool // nothing to send before this replica changes
}

// blobPart is a part under way; data is what has been sent or what came.
type blobPart struct {
	id   record.BlobID
	part int
	data []byte
	at   int
}

func (s *Session) blobsOn() bool {
	return s.o.Blobs != nil && s.theirs.Max >= protocolBlobs && !s.fetch.only
}

// refreshBlobs looks for attachments to ask for, and for ones that came and that
// the peer waits for.
func (s *Session) refreshBlobs() error {
	if !s.blobsOn() {
		return nil
	}
	b := &s.blobs
	if b.asked == nil {
		b.asked = map[record.BlobID]*blobAsk{}
	}
	if !b.before {
		b.before = true
		ids, err := s.o.Blobs.Unconfirmed(blobIDsMax)
		if err != nil {
			return local("listing attachments", err)
		}
		b.offered = append(b.offered, ids...)
	}
	now := blobView{s.o.Blobs.Mark(), s.o.claims.dropped(), b.open, len(b.asked), s.lanes.allows}
	if now == b.seen {
		return nil
	}
	if err := s.refreshServed(); err != nil {
		return err
	}
	b.seen = now
	if b.full || b.open >= blobsOpenMax || len(b.asked) >= blobsAskedMax || len(b.ask) > 0 || !s.lanes.allows.Entries {
		return nil
	}
	list, err := s.o.Blobs.Wanted(blobsOpenMax-b.open, !s.lanes.allows.Later, func(id record.BlobID) bool { return b.asked[id] != nil })
	if err != nil {
		return local("listing wanted attachments", err)
	}
	for _, w := range list {
		if id := w.ID(); s.o.claims.take(id, s) {
			b.asked[id] = &blobAsk{blob: w.Blob, open: true}
			b.open++
			b.ask = append(b.ask, w)
		}
	}
	b.seen.open, b.seen.asked = b.open, len(b.asked)
	return nil
}

// refreshServed offers what the peer asked for in vain and what is here now.
func (s *Session) refreshServed() error {
	b := &s.blobs
	kept := b.serve[:0]
	for _, w := range b.serve {
		if w.idle {
			blob, have, ok, err := s.o.Blobs.Blob(w.id)
			if err != nil {
				return local("reading an attachment", err)
			}
			if ok && allParts(blob, have) {
				b.offered = append(b.offered, w.id)
				continue
			}
		}
		kept = append(kept, w)
	}
	b.serve = kept
	return nil
}

func hasPart(have []byte, part int) bool {
	return part/8 < len(have) && have[part/8]>>(part%8)&1 == 1
}

func allParts(b record.Blob, have []byte) bool {
	for part := range b.Parts() {
		if !hasPart(have, part) {
			return false
		}
	}
	return true
}

// nextHeld tells what is here, what is not, and asks for more.
func (s *Session) nextHeld() (Frame, bool, error) {
	b := &s.blobs
	if len(b.held)+len(b.lacked)+len(b.offered) > 0 {
		f, err := encode(TypeHeld, heldMessage{Held: blobIDs(&b.held), Lacked: blobIDs(&b.lacked), Offered: blobIDs(&b.offered)})
		return f, err == nil, err
	}
	if len(b.ask) == 0 {
		return Frame{}, false, nil
	}
	first := b.ask[0].Asked
	n := slices.IndexFunc(b.ask, func(w BlobWant) bool { return w.Asked != first })
	if n < 0 {
		n = len(b.ask)
	}
	m := wantMessage{List: make([]wantedBlob, 0, n)}
	for _, w := range b.ask[:n] {
		id := w.ID()
		m.List = append(m.List, wantedBlob{ID: id[:], Have: w.Have})
	}
	b.ask = b.ask[n:]
	f, err := encode(TypeWant, m)
	if first {
		f.Flags |= flagFirst
	}
	return f, err == nil, err
}

func blobIDs(queue *[]record.BlobID) [][]byte {
	n := min(len(*queue), blobIDsMax)
	out := make([][]byte, 0, n)
	for _, id := range (*queue)[:n] {
		out = append(out, slices.Clone(id[:]))
	}
	*queue = (*queue)[n:]
	return out
}

// hear bounds what a peer names in one session.
func (s *Session) hear(ids int) error {
	if s.blobs.heard += ids; s.blobs.heard > blobsHeardMax {
		return misbehaved("more than %d attachments named", blobsHeardMax)
	}
	return nil
}

// handleWant takes what the peer asks for. Asked for again, it counts anew.
func (s *Session) handleWant(f Frame) error {
	m, err := decodeWant(f.Payload)
	if err == nil {
		err = s.hear(len(m.List))
	}
	if err != nil || s.o.Blobs == nil {
		return err
	}
	b := &s.blobs
	var now []*blobServe
	for _, w := range m.List {
		id := record.BlobID(w.ID)
		b.serve = slices.DeleteFunc(b.serve, func(x *blobServe) bool { return x.id == id })
		now = append(now, &blobServe{id: id, have: slices.Clone(w.Have), first: f.Flags&flagFirst != 0})
	}
	if f.Flags&flagFirst != 0 {
		b.serve = append(now, b.serve...)
	} else {
		b.serve = append(b.serve, now...)
	}
	for len(b.serve) > blobsServeMax { // the peer asks again when it is offered
		last := b.serve[len(b.serve)-1]
		if !last.idle {
			b.lacked = append(b.lacked, last.id)
		}
		b.serve = b.serve[:len(b.serve)-1]
	}
	return nil
}

// nextChunk gives the next piece of a part.
func (s *Session) nextChunk() (Frame, bool, error) {
	b := &s.blobs
	if s.o.Blobs == nil {
		return Frame{}, false, nil
	}
	if b.out.data == nil {
		if err := s.pickPart(); err != nil {
			return Frame{}, false, err
		}
	}
	o := &b.out
	if o.data == nil {
		return s.nextHeld() // that it is not here
	}
	n := min(len(o.data)-o.at, max(s.frameBytes()-chunkHeadBytes, windowMin))
	p := appendChunk(o.id, o.part, o.at, o.data[o.at:o.at+n])
	if o.at += n; o.at == len(o.data) {
		*o = blobPart{}
	}
	return Frame{Type: TypeChunk, Payload: p}, true, nil
}

// pickPart reads the next part to send into out. What cannot be sent now is told
// and waits.
func (s *Session) pickPart() error {
	b := &s.blobs
	for i := 0; i < len(b.serve); i++ {
		w := b.serve[i]
		if w.idle {
			continue
		}
		part, all := -1, false
		if a := s.lanes.allows; a.Later || a.Entries && w.first {
			blob, have, ok, err := s.o.Blobs.Blob(w.id)
			if err != nil {
				return local("reading an attachment", err)
			}
			if ok {
				part, all = firstPart(blob, have, w.have)
			}
		}
		switch {
		case part >= 0:
			data, err := s.o.Blobs.Part(w.id, part)
			if errors.Is(err, ErrNoPart) {
				w.idle = true
				b.lacked = append(b.lacked, w.id)
				continue
			}
			if err != nil {
				return local("reading a part of an attachment", err)
			}
			for len(w.have) <= part/8 {
				w.have = append(w.have, 0)
			}
			w.have[part/8] |= 1 << (part % 8)
			b.out = blobPart{id: w.id, part: part, data: data}
			return nil
		case all:
			b.serve = slices.Delete(b.serve, i, i+1)
			i--
		default:
			w.idle = true
			b.lacked = append(b.lacked, w.id)
		}
	}
	return nil
}

// firstPart is the first part that is here and not there, -1 when there is none;
// all when nothing is missing there.
func firstPart(b record.Blob, here, there []byte) (part int, all bool) {
	all = true
	for part := range b.Parts() {
		if hasPart(there, part) || part == 0 && b.Chunks() == 1 {
			continue
		}
		all = false
		if hasPart(here, part) {
			return part, false
		}
	}
	return -1, all
}

// handleHeld takes in what the peer tells of attachments.
func (s *Session) handleHeld(ctx context.Context, p []byte) error {
	m, err := decodeHeld(p)
	if err == nil {
		err = s.hear(len(m.Held) + len(m.Lacked) + len(m.Offered))
	}
	if err != nil || s.o.Blobs == nil {
		return err
	}
	if len(m.Held) > 0 {
		if err := s.noteHolder(ctx, m.Held); err != nil {
			return err
		}
	}
	for _, id := range m.Lacked {
		s.closeAsk(record.BlobID(id), false)
	}
	for _, id := range m.Offered {
		if err := s.handleOffer(record.BlobID(id)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) noteHolder(ctx context.Context, held [][]byte) error {
	ids := make([]record.BlobID, 0, len(held))
	for _, id := range held {
		ids = append(ids, record.BlobID(id))
	}
	if err := s.o.Blobs.PutHolder(ctx, s.peer, ids); err != nil {
		return local("noting who holds attachments", err)
	}
	return nil
}

// handleOffer tells that an attachment is here, or lets it be asked for again.
func (s *Session) handleOffer(id record.BlobID) error {
	b := &s.blobs
	blob, have, ok, err := s.o.Blobs.Blob(id)
	if err != nil {
		return local("reading an attachment", err)
	}
	if ok && allParts(blob, have) {
		b.held = append(b.held, id)
		return nil
	}
	if a := b.asked[id]; a != nil && !a.open {
		delete(b.asked, id)
		s.dirty = true
	}
	return nil
}

// closeAsk stops waiting for the peer to send an attachment; done when it is whole.
func (s *Session) closeAsk(id record.BlobID, done bool) {
	if a := s.blobs.asked[id]; a != nil && a.open {
		a.open = false
		s.blobs.open--
		s.o.claims.drop(id, s, done)
		s.dirty = true
	}
}

// closeAsks is for the end of the session.
func (s *Session) closeAsks() {
	for id := range s.blobs.asked {
		s.closeAsk(id, false)
	}
}

// handleChunk puts pieces together and keeps a part that is whole.
func (s *Session) handleChunk(ctx context.Context, p []byte) error {
	b := &s.blobs
	id, part, at, data, err := readChunk(p)
	if err != nil {
		return err
	}
	a := b.asked[id]
	if a == nil || part >= uint64(a.blob.Parts()) {
		return misbehaved("chunk that nobody asked for")
	}
	if at == 0 {
		b.in = blobPart{id: id, part: int(part)}
	}
	length := a.blob.PartLen(int(part))
	if b.in.id != id || b.in.part != int(part) || at != uint64(len(b.in.data)) || len(b.in.data)+len(data) > length {
		return misbehaved("chunk at another place than the one before it")
	}
	if b.in.data = append(b.in.data, data...); len(b.in.data) < length {
		return nil
	}
	whole := b.in.data
	b.in = blobPart{}
	return s.putPart(ctx, id, int(part), whole)
}

func (s *Session) putPart(ctx context.Context, id record.BlobID, part int, data []byte) error {
	b := &s.blobs
	if b.full {
		return nil
	}
	whole, err := s.o.Blobs.PutPart(ctx, s.peer, id, part, data)
	if errors.Is(err, ErrNoRoom) {
		b.full = true // what is under way is not kept; nothing more is asked for
		s.closeAsks()
		return nil
	}
	if err != nil {
		return s.replicaError(ctx, "keeping a part of an attachment", err)
	}
	if whole {
		b.held = append(b.held, id)
		s.closeAsk(id, true)
	}
	return nil
}

// blobsQuiet reports whether nothing is to be sent or waited for.
func (s *Session) blobsQuiet() bool {
	b := &s.blobs
	return b.open == 0 && b.out.data == nil && len(b.held)+len(b.lacked)+len(b.offered)+len(b.ask) == 0 &&
		!slices.ContainsFunc(b.serve, func(w *blobServe) bool { return !w.idle })
}
