package peersync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/healthpost/healthpost/record"
)

// Windows for Options.Window, in bytes. Run narrows the window to what the link
// carries, but not below WindowSlow.
const (
	WindowSlow    = 8 << 10 // 2G
	WindowDefault = 64 << 10
	WindowLAN     = 256 << 10
)

// Options say what a session may do. The functions are called from the session's
// goroutine and must not call back into it.
type Options struct {
	Region   record.RegionID
	Device   record.DeviceID // this box
	Role     record.Role
	Software string
	// Window bounds bulk bytes under way without an ACK; 0 is WindowDefault. The
	// smaller of both ends' windows is the most, exceeded by at most one frame.
	Window int
	// WantOrdered reports whether the session may extend this box's ledger from the
	// peer; asked again after every change. It does not on hubs, whose ledger raft
	// feeds, nor while confirmation is frozen. nil: never.
	WantOrdered func() bool
	// Partial reports whether this box holds a part of the ledger, by its profile; asked
	// again after every change. nil: it does not.
	Partial func() bool
	// Recent is how many of the newest entries a box that joins takes first, with what
	// its profile has before them; the rest follows while it works. 0: it takes
	// everything from the first entry on.
	Recent uint64
	// Fair is shared by the sessions of a box; nil takes every frame at once.
	Fair *Fair
	// Answers holds this side's HELLO back until the peer's came, which costs no time
	// on a stream that the peer opened, and leaves out of it what the peer just told.
	Answers bool
	// Turn is shared by the sessions of a box; nil for a session alone.
	Turn *Turn

	// Hub reports whether a device is in the hub set. nil: none is.
	Hub func(record.DeviceID) bool
	// PushPending reports whether pending records go to this peer now; asked again
	// after every change. nil: always. A peer's own records always go.
	PushPending func(peer record.DeviceID) bool
	// Allowance is what may go over this link now; asked again after every change.
	// nil: everything.
	Allowance func() Allowance
	// Aged reports whether a pending record has waited so long that it goes with the
	// lane before its own. What clocks say decides nothing else. nil: none has.
	Aged func(*record.Record) bool
	// Resumed says that the session before was cut while something was under way: the
	// peer's HELLO tells how much of it arrived, so that nothing goes twice.
	Resumed bool
	// Pace is what that session, or one before it, told of the link; the zero value
	// when none did.
	Pace Pace
	// Final verifies a checkpoint note against the hub set this box trusts
	// (record.VerifyFinal). An error that wraps record.ErrMalformed blames the
	// peer; any other means "not yet".
	Final func(note []byte) (record.Checkpoint, error)
	// Checkpoint takes a note with a hub's own cosignature, on a hub. nil elsewhere.
	Checkpoint func(from record.DeviceID, note []byte) error
	// Note is the newest note this hub cosigned, for the other hubs; nil elsewhere.
	Note func() []byte
	// Ledger names the ledger whose checkpoints count here; nil: the region's first.
	Ledger func() record.LedgerID
	// Hubs are the hubs whose cosignatures count here, to shorten notes and to read
	// short ones. nil: none, and notes travel whole.
	Hubs func() []record.DeviceID

	// HubsSize is the size of the ledger as of which Hubs answers, where that is
	// more than this box's own: an invitation or a reset named them. nil: never.
	HubsSize func() uint64

	// Evidence gives evidence that is known here, newest first; the newest eight
	// are offered before anything else, and again when they change. It is asked
	// often and must be cheap. What it returns must not be changed later.
	Evidence func() [][]byte
	// TakeEvidence verifies and keeps evidence of a peer; known evidence changes
	// nothing. An error that wraps record.ErrMalformed blames the peer, one that
	// LocalFault knows is this box's, any other leaves the evidence alone.
	TakeEvidence func(from record.DeviceID, b []byte) error
	// LooksAt reports whether a piece that a peer names is worth asking for: what is
	// kept beyond the newest eight, or was seen and not kept, is not. id is the
	// beginning of its SHA-256. nil: all that is not named here.
	LooksAt func(id [8]byte) bool
	// Contradiction takes a verified final note of the peer that the own ledger
	// contradicts. Evidence that comes back is sent at once; empty sends none. From
	// then on the session carries evidence and pending records, no entries. nil:
	// the session ends with ErrFork.
	Contradiction func(from record.DeviceID, note []byte) (evidence []byte)
	// Receipt signs, on a hub, that it holds these records and all before them in
	// their feeds, and by when they will be ordered; ok false promises nothing. It is
	// asked after they are durable, at a quiet moment, at most once a second.
	Receipt func(heads []record.ReceiptHead) (r record.Receipt, ok bool)
	// TakeReceipt keeps a receipt whose signature by the peer, a hub, was verified
	// and whose records are held here. Errors as of TakeEvidence.
	TakeReceipt func(from record.DeviceID, r record.Receipt) error
	// Carry reports whether there is room for more records of an epoch until the
	// ledger has them. nil: there always is.
	Carry func(record.EpochID) bool
	// Promises gives promises of hubs about records of the peer that are open here,
	// when any came after seen, and what to ask with next time. nil: none.
	Promises func(peer record.DeviceID, seen uint64) (list []record.Receipt, now uint64)
	// Handover answers a peer that knows the hubs as of a size of the ledger and
	// cannot verify the newest checkpoint: the whole note of one that it can, or
	// the statement that reset the ledger, or both. ok false: there is none.
	Handover func(size uint64) (note, reset []byte, ok bool)
	// TakeReset takes the statement of a reset. Errors as of TakeEvidence; after nil
	// Ledger, Hubs and Final answer for the generation that it begins.
	TakeReset func(from record.DeviceID, b []byte) error
	// LocalFault tells errors of the replica that are this box's own (a full disk)
	// from what the peer caused. nil: none is.
	LocalFault func(error) bool

	// Blobs is what this box keeps of attachments. nil: none travel.
	Blobs Blobs

	shorts *shorts     // of the box
	claims *blobClaims // of the box
}

// Session is one exchange with one peer as a state machine: no goroutine, no
// clock, no link. One goroutine calls Handle with what arrives and Next for what
// to send; Run does that over a stream. An error from either ends the session.
type Session struct {
	o    Options
	r    Replica
	peer record.DeviceID
	hub  bool // the peer is in the hub set, as of the last look

	helloSent, helloSeen, over bool
	theirs                     hello
	theirSize                  uint64
	dirty                      bool // the replica changed since Next looked
	unknown                    int  // frames skipped

	credit   credit
	lanes    lanes
	acks     acks
	push     push
	serve    serve
	spans    spans
	fetch    fetch
	part     partial
	notes    notes
	gossip   gossip
	receipts receipts
	carried  carried
	tally    tally
	fork     fork
	blobs    blobs
	span     *span // nil but in a session for a range

	stats counters
}

// counters are read by other goroutines.
type counters struct {
	sent, received atomic.Uint64 // records and entries
	size, target   atomic.Uint64
	settled        atomic.Bool
}

// notes are the checkpoints passed on to the peer.
type notes struct {
	own      []byte          // of this hub, sent last
	sent     []byte          // final one sent last
	head     record.TreeHead // of sent
	seenSize uint64          // of the last final one received
	weighed  []byte          // own final one whose time was looked at last
	time     int64           // latest that either side told
	paced    bool            // the shell says when the moment has come
	due      bool            // it has
	held     bool            // one waits for its moment
}

const unknownFramesMax = 4096

// NewSession prepares a session with an authenticated peer.
func NewSession(r Replica, peer record.DeviceID, o Options) *Session {
	if o.Window == 0 {
		o.Window = WindowDefault
	}
	o.Window = min(max(o.Window, windowMin), windowMax)
	if o.Hub == nil {
		o.Hub = func(record.DeviceID) bool { return false }
	}
	if o.PushPending == nil {
		o.PushPending = func(record.DeviceID) bool { return true }
	}
	if o.WantOrdered == nil {
		o.WantOrdered = func() bool { return false }
	}
	if o.Partial == nil {
		o.Partial = func() bool { return false }
	}
	if o.Ledger == nil {
		o.Ledger = func() record.LedgerID { return o.Region.Ledger(1) }
	}
	if o.HubsSize == nil {
		o.HubsSize = func() uint64 { return 0 }
	}
	if o.Hubs == nil {
		o.Hubs = func() []record.DeviceID { return nil }
	}
	if o.Allowance == nil {
		o.Allowance = func() Allowance { return Everything }
	}
	if o.Aged == nil {
		o.Aged = func(*record.Record) bool { return false }
	}
	if o.LocalFault == nil {
		o.LocalFault = func(error) bool { return false }
	}
	s := &Session{o: o, r: r, peer: peer, hub: o.Hub(peer), dirty: true, lanes: newLanes(), part: newPartial(r)}
	s.push.epochs = map[record.EpochID]*peerEpoch{}
	s.acks.heads, s.acks.waiting = map[record.Feed]ackHead{}, map[record.Feed]bool{}
	s.push.told = map[record.RID]bool{}
	s.gossip.told, s.gossip.gave = map[evidenceID]bool{}, map[evidenceID]bool{}
	s.receipts.heads = map[record.Feed]record.ReceiptHead{}
	if o.Resumed {
		s.credit.resume(o.Pace)
	}
	s.credit.window = uint64(min(o.Window, WindowSlow)) // until the peer names its own
	return s
}

// newFetch prepares a session that pulls the ordered range up to a head which
// the caller trusts, and then ends.
func newFetch(r Replica, peer record.DeviceID, head record.TreeHead, o Options) *Session {
	s := NewSession(r, peer, o.bare())
	s.fetch.only = true
	s.fetch.target = head
	return s
}

// bare leaves what a session for one range needs.
func (o Options) bare() Options {
	return Options{Region: o.Region, Device: o.Device, Role: o.Role, Software: o.Software, Window: o.Window, Hub: o.Hub, LocalFault: o.LocalFault,
		PushPending: func(record.DeviceID) bool { return false }}
}

// Peer is the device at the other end.
func (s *Session) Peer() record.DeviceID { return s.peer }

// Handle takes one frame that arrived. What the frame brought is durable when it
// returns.
func (s *Session) Handle(ctx context.Context, f Frame) error {
	if !s.helloSeen && f.Type != TypeHello {
		return misbehaved("first frame is of type %#02x", byte(f.Type))
	}
	s.stats.settled.Store(false)
	switch f.Type {
	case TypeHello:
		return s.handleHello(ctx, f.Payload, f.Flags)
	case TypeCheckpoint:
		switch {
		case f.Flags&flagAnswer != 0:
			return s.answered(f.Payload)
		case f.Flags&flagRefusal != 0:
			s.fork.heard = true
			s.halt()
			return nil
		}
		return s.handleNote(f.Payload)
	case TypePull:
		return s.handlePull(f.Payload)
	case TypeSegment:
		s.credit.received += uint64(len(f.Payload))
		return s.handleSegment(ctx, f.Payload)
	case TypeEntries:
		s.credit.received += uint64(len(f.Payload))
		return s.handleEntries(ctx, f.Payload)
	case TypeSpan:
		s.credit.received += uint64(len(f.Payload))
		return s.handleSpan(ctx, f.Payload)
	case TypeFill:
		s.credit.received += uint64(len(f.Payload))
		return s.handleFill(ctx, f.Payload)
	case TypeFilled:
		return s.handleFilled(ctx, f.Payload)
	case TypeAsk:
		return s.handleAsk(f.Payload)
	case TypePending:
		s.credit.received += uint64(len(f.Payload))
		return s.handlePending(ctx, f.Payload)
	case TypeWant:
		return s.handleWant(f)
	case TypeChunk:
		s.credit.received += uint64(len(f.Payload))
		return s.handleChunk(ctx, f.Payload)
	case TypeHeld:
		return s.handleHeld(ctx, f.Payload)
	case TypeAck:
		return s.handleAck(f.Payload)
	case TypeReceipt:
		return s.handleReceipt(f.Payload)
	case TypePromise:
		return s.handlePromise(f.Payload)
	case TypeReject:
		return s.handleReject(f.Payload)
	case TypeEvidence:
		return s.handleEvidence(f.Payload)
	case TypeReset:
		return s.handleReset(f.Payload)
	case TypeBye:
		return s.handleBye(f.Payload)
	}
	s.unknown++
	if f.Critical() || s.unknown > unknownFramesMax {
		return misbehaved("frame of unknown type %#02x", byte(f.Type))
	}
	return nil
}

// Changed tells the session that the replica or what Options answer changed.
func (s *Session) Changed() {
	s.dirty = true
	s.stats.settled.Store(false)
}

// Next gives the next frame to send, most urgent first; ok false when there is
// none until something arrives or changes.
func (s *Session) Next(ctx context.Context) (f Frame, ok bool, err error) {
	if s.over {
		return Frame{}, false, nil
	}
	switch {
	case !s.helloSent && s.o.Answers && !s.helloSeen:
		return Frame{}, false, nil
	case !s.helloSent:
		f, err := s.hello()
		return f, err == nil, err
	case !s.helloSeen:
		return s.early()
	}
	if s.dirty {
		s.dirty = false
		if err := s.refresh(); err != nil {
			return Frame{}, false, err
		}
	}
	dueReceipt := func() (Frame, bool, error) { return s.nextReceipt(false) }
	quietReceipt := func() (Frame, bool, error) { return s.nextReceipt(true) }
	for _, next := range []func() (Frame, bool, error){s.nextEvidence, s.nextReject, s.nextAck, s.nextPull, s.nextAsk, s.nextAnswer, s.nextNote, dueReceipt, s.nextPromise, s.nextFilled, s.nextHeld, s.nextBulk, s.nextFilled, quietReceipt} {
		if f, ok, err := next(); err != nil || ok {
			return f, ok, err
		}
	}
	s.settle()
	return Frame{}, false, nil
}

func (s *Session) settle() {
	f := &s.fetch
	s.stats.settled.Store(s.credit.sent == s.credit.acked && !s.behind() && !f.asking && !f.handover.open && !f.handover.due && len(s.receipts.heads) == 0 && s.blobsQuiet())
}

// Waiting reports whether the peer owes an answer, so that silence is a fault.
func (s *Session) Waiting() bool {
	return !s.helloSeen || s.credit.sent != s.credit.acked || s.fetch.asking || s.fetch.handover.open || s.fetch.active && s.behind() || s.span != nil || s.blobs.open > 0 || len(s.part.fill.under) > 0
}

// full reports that so many answers wait to be sent that nothing more should be
// read.
func (s *Session) full() bool {
	return len(s.acks.heads)+len(s.acks.openings) >= ackHeadsMax-1 || len(s.push.rejects) >= rejectsMax
}

// done reports that a fetch has what it wanted.
func (s *Session) done() bool {
	if s.span != nil {
		return s.span.from >= s.span.to
	}
	if w := s.part.fill.only; w != nil {
		return w.done
	}
	return s.fetch.only && s.r.Head().Size >= s.fetch.target.Size
}

// Bye is the frame that tells the peer why this side ends the session with err.
func (s *Session) Bye(err error) Frame {
	s.over = true
	b := bye{Code: byeStopped, Reason: "stopped"}
	switch {
	case errors.Is(err, ErrMisbehaved):
		b = bye{Code: byeMisbehaved, Reason: "protocol"}
	case errors.Is(err, ErrLocal):
		b = bye{Code: byeLocal, Reason: "own replica"}
	case errors.Is(err, ErrBehind):
		b = bye{Code: byeBehind, Reason: "range not held"}
	}
	f, encErr := encode(TypeBye, b)
	if encErr != nil {
		return Frame{Type: TypeBye}
	}
	return f
}

// Close gives the turn back. The session is not used afterwards.
func (s *Session) Close() {
	s.over = true
	s.closeAsks()
	s.o.Turn.unclaim(s, nil)
	s.o.Turn.drop(s)
}

func (s *Session) hello() (Frame, error) {
	head := s.r.Head()
	note, final, ok := s.r.Final()
	if !ok || len(note) > noteBytesMax || s.fetch.only {
		note, final = []byte{}, record.TreeHead{}
	}
	feeds, err := s.r.PendingFeeds()
	if err != nil {
		return Frame{}, local("reading pending feeds", err)
	}
	if err := s.lookMode(); err != nil {
		return Frame{}, err
	}
	s.fetch.wanted = s.o.WantOrdered()
	want := s.fetch.wanted && s.part.mode != beginning && (s.hub || s.o.Turn == nil) && s.o.Turn.take(s, false)
	s.fetch.active, s.fetch.asked, s.fetch.follows = want, want, want
	s.helloSent, s.notes.sent, s.notes.head = true, note, final
	short := s.short(note)
	if s.helloSeen && bytes.Equal(short, s.theirs.Note) {
		short = []byte{} // it told the same
	}
	f, err := encode(TypeHello, hello{Min: protocolMin, Max: protocolMax, Region: s.o.Region[:], Device: s.o.Device[:], Role: string(s.o.Role),
		Software: clip(s.o.Software, nameBytesMax), Window: uint64(s.o.Window), Size: head.Size, Root: head.Root[:], Note: short, Want: want && s.part.mode == segments,
		Frontier: frontier(feeds)})
	f.Flags |= s.helloFlags(want)
	return f, err
}

func clip(t string, n int) string {
	if len(t) > n {
		t = t[:n]
	}
	return t
}

func frontier(feeds []PendingFeed) []epochFrontier {
	list := []epochFrontier{}
	index := map[record.EpochID]int{}
	for _, f := range feeds {
		i, ok := index[f.Epoch]
		if !ok {
			if len(list) == epochsMax {
				continue
			}
			i = len(list)
			index[f.Epoch] = i
			list = append(list, epochFrontier{Epoch: slices.Clone(f.Epoch[:]), Held: make([]uint64, record.LaneCount)})
		}
		list[i].Opening = list[i].Opening || f.Opening
		if f.HeldN > f.OrderedN {
			list[i].Held[f.Lane] = f.HeldN
		}
	}
	return list
}

func (s *Session) handleHello(_ context.Context, p []byte, flags byte) error {
	if s.helloSeen {
		return misbehaved("a second hello")
	}
	h, err := decodeHello(p)
	if err != nil {
		return err
	}
	if err := h.check(s.o.Region, s.peer); err != nil {
		return err
	}
	s.helloSeen, s.theirs, s.theirSize, s.dirty = true, h, h.Size, true
	if h.Max < protocolEvidence { // it could not read the short note
		s.notes.sent, s.notes.head = nil, record.TreeHead{}
	}
	switch {
	case h.Want:
		s.serve = serve{active: true, follow: true, at: h.Size}
	case flags&flagWhole != 0:
		s.serveSpans(h.Size, 0, maxSeq, askFollow)
	case flags&flagSpans != 0:
		s.serveSpans(h.Size, 0, 0, askFollow)
	}
	if s.span != nil { // what is here may be damaged
		return nil
	}
	if err := s.checkHead(record.TreeHead{Size: h.Size, Root: record.Hash(h.Root)}); err != nil {
		return err
	}
	s.stats.size.Store(h.Size)
	s.credit.open(uint64(s.o.Window), h.Window)
	if err := s.greetPush(h.Frontier); err != nil {
		return err
	}
	if len(h.Note) != 0 {
		err = s.handleNote(h.Note)
	}
	if s.deaf() {
		s.halt()
	}
	if s.fetch.active && !s.behind() {
		s.o.Turn.rest(s) // the peer has nothing yet
	}
	return err
}

func (s *Session) handleBye(p []byte) error {
	b, err := decodeBye(p)
	if err != nil {
		return err
	}
	s.over = true
	if b.Code == byeBehind {
		return fmt.Errorf("%w: %w", ErrBye, ErrBehind)
	}
	return fmt.Errorf("%w, code %d", ErrBye, b.Code)
}

// replicaError sorts an error of the replica into this box's fault or the peer's.
func (s *Session) replicaError(ctx context.Context, what string, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.o.LocalFault(err):
		return local(what, err)
	}
	return misbehaved("%s: %w", what, err)
}
