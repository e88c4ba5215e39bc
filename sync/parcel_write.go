package peersync

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// ParcelOptions say what a parcel holds and who may open it.
type ParcelOptions struct {
	Session Options            // of the writer
	Signer  ed25519.PrivateKey // of Session.Device
	Key     ParcelKey
	ID      [parcelIDBytes]byte
	For     record.DeviceID // zero: several boxes

	Pending bool // pending records go in, all of them: an old acknowledgement may be of a disk that is gone
	Entries bool // ordered entries go in, from From on
	// From is the size of the ledger that every receiver is known to hold, HubsAt
	// one as of which it knows the hubs.
	From, HubsAt uint64
	Promises     []record.Receipt

	AsOf int64  // when hubs vouched for the newest final checkpoint here, Unix seconds
	Age  uint64 // seconds since, by the clock of this box
}

// ParcelContent is what went into a parcel.
type ParcelContent struct {
	Records, Entries int
	From, To         uint64 // entries [From, To)
	Blocks           int
	Bytes            int64
	Twice            bool // every block without attachments is there twice
	Attachments      int
}

const (
	parcelTwiceBytes = 4 << 20 // parcels up to here are written twice over
	parcelStepsMax   = 64      // hand-overs and resets on the way
	parcelRejectsMax = 1024
)

// WriteParcel writes what this replica has for others: how far it holds their
// records, evidence, promises of hubs, pending records by their urgency and ordered
// entries with the checkpoints that they lead to. A parcel of at most 4 MiB holds
// each block twice, the second time after all others, for sticks that are damaged
// in places.
func WriteParcel(ctx context.Context, w io.Writer, r Replica, o ParcelOptions) (ParcelContent, error) {
	o.Session.WantOrdered, o.Session.Turn, o.Session.Hubs = nil, nil, nil
	p := &parcelWriter{ctx: ctx, w: w, r: r, o: o, s: NewSession(r, o.For, o.Session), sum: sha256.New(), opened: map[record.EpochID]bool{}}
	p.wrote.From, p.wrote.To = o.From, o.From
	for _, part := range []func() error{p.begin, p.greeting, p.evidence, p.promises, p.rejects, p.urgent, p.entries, p.rest, p.attachments, p.trailer} {
		if err := part(); err != nil {
			return p.wrote, fmt.Errorf("writing a parcel: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return p.wrote, fmt.Errorf("writing a parcel: %w", err)
		}
	}
	if p.twice.Len() > 0 {
		p.wrote.Twice = true
		if err := p.write(p.twice.Bytes()); err != nil {
			return p.wrote, fmt.Errorf("writing a parcel: %w", err)
		}
	}
	return p.wrote, nil
}

type parcelWriter struct {
	ctx   context.Context
	w     io.Writer
	r     Replica
	o     ParcelOptions
	s     *Session // finds what to say; it is never run
	sum   hash.Hash
	twice bytes.Buffer // the blocks so far; empty when there are too many

	head   []byte // the PARCEL frame that begins each block
	frames []byte // of the block under way
	index  uint32
	note   []byte                  // the checkpoint that ranges lead to now
	noted  bool                    // it stands in the block under way
	once   bool                    // blocks are not written twice now
	single int64                   // bytes of those
	opened map[record.EpochID]bool // runs whose opening record is written
	wrote  ParcelContent
}

func (p *parcelWriter) begin() error {
	to := []byte{}
	if p.o.For != (record.DeviceID{}) {
		to = p.o.For[:]
	}
	f, err := encode(TypeParcel, parcelHead{Version: parcelVersion, ID: p.o.ID[:], Region: p.o.Session.Region[:], From: p.o.Session.Device[:], For: to,
		AsOf: max(p.o.AsOf, 0), Age: p.o.Age})
	p.head = AppendFrame(nil, f)
	p.frames = slices.Clone(p.head)
	return err
}

// put adds a frame to the block under way, or to the next.
func (p *parcelWriter) put(frames ...Frame) error {
	var b []byte
	for _, f := range frames {
		b = AppendFrame(b, f)
	}
	if len(p.frames)+len(b) > p.room() && len(p.frames) > len(p.head) {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.frames = append(p.frames, b...)
	return nil
}

// room is how much the block under way should hold.
func (p *parcelWriter) room() int {
	if p.index < parcelFirstBlocks {
		return parcelFirstBytes
	}
	return parcelBlockBytes
}

// flush seals the block under way and writes it.
func (p *parcelWriter) flush() error {
	if p.index >= parcelIndexMax-1 {
		return fmt.Errorf("more than %d blocks: %w", parcelIndexMax, ErrLocal)
	}
	sig := ed25519.Sign(p.o.Signer, parcelClaim(p.o.Session.Region, p.index, p.frames))
	p.sum.Write(sig)
	sealed := p.o.Key.Seal(p.index, append(p.frames, sig...))
	b := appendBlock(nil, p.index, p.o.Key.Slots(), sealed)
	switch {
	case p.once:
		p.single += int64(len(b))
	case p.wrote.Bytes-p.single+int64(len(b)) > parcelTwiceBytes:
		p.twice = bytes.Buffer{}
	default:
		p.twice.Write(b)
	}
	p.index++
	p.wrote.Blocks++
	p.frames, p.noted = slices.Clone(p.head), false
	return p.write(b)
}

func (p *parcelWriter) write(b []byte) error {
	n, err := p.w.Write(b)
	p.wrote.Bytes += int64(n)
	return err
}

func (p *parcelWriter) greeting() error {
	f, err := p.s.hello()
	if err != nil {
		return err
	}
	return p.put(f)
}

func (p *parcelWriter) evidence() error {
	if p.o.Session.Evidence == nil {
		return nil
	}
	list := p.o.Session.Evidence()
	for _, b := range list[:min(len(list), evidenceOfferedMax)] {
		if len(b) > evidenceBytesMax {
			continue
		}
		f, err := encode(TypeEvidence, evidenceMessage{Held: [][]byte{}, Wanted: [][]byte{}, Piece: b})
		if err == nil {
			err = p.put(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *parcelWriter) promises() error {
	for i := range p.o.Promises {
		if err := p.put(Frame{Type: TypePromise, Payload: p.o.Promises[i].Encode()}); err != nil {
			return err
		}
	}
	return nil
}

func (p *parcelWriter) rejects() error {
	if !p.o.Session.Role.Orders() {
		return nil
	}
	list, err := p.r.Refused()
	if err != nil {
		return local("reading refusals", err)
	}
	for _, x := range list[:min(len(list), parcelRejectsMax)] {
		if x.Verdict.Final() {
			p.s.queueReject(x)
		}
		if len(p.s.push.rejects) < rejectsMax {
			continue
		}
		if err := p.putRejects(); err != nil {
			return err
		}
	}
	return p.putRejects()
}

func (p *parcelWriter) putRejects() error {
	f, ok, err := p.s.nextReject()
	if err != nil || !ok {
		return err
	}
	return p.put(f)
}

func (p *parcelWriter) urgent() error { return p.lanes(record.LaneControl, record.LaneClinical) }

func (p *parcelWriter) rest() error { return p.lanes(record.LaneAudit, record.LaneBulk) }

// lanes writes pending records, lane by lane.
func (p *parcelWriter) lanes(first, last record.Lane) error {
	if !p.o.Pending {
		return nil
	}
	feeds, err := p.r.PendingFeeds()
	if err != nil {
		return local("reading pending feeds", err)
	}
	for lane := first; lane <= last; lane++ {
		for _, f := range feeds {
			if f.Opening && !p.opened[f.Epoch] { // before any record of its run, whatever lane that is in
				p.opened[f.Epoch] = true
				if _, err := p.run(record.Feed{Epoch: f.Epoch}, 0); err != nil {
					return err
				}
			}
			for n := f.OrderedN + 1; f.Lane == lane && n <= f.HeldN; {
				next, err := p.run(f.Feed, n)
				if err != nil || next == n {
					return err
				}
				n = next
			}
		}
	}
	return nil
}

// run writes one run of a feed and gives the n after it; the same n when nothing is
// there any more.
func (p *parcelWriter) run(feed record.Feed, n uint64) (next uint64, err error) {
	if err := p.ctx.Err(); err != nil {
		return n, err
	}
	recs, err := p.r.Pending(feed, n, p.room()/2)
	if err != nil {
		return n, local("reading pending records", err)
	}
	if len(recs) == 0 || recs[0].Position() != (record.Position{Epoch: feed.Epoch, Lane: feed.Lane, N: n}) {
		return n, nil // ordered meanwhile
	}
	if n == 0 {
		recs = recs[:1]
	}
	recs = fitBytes(recs, p.room()/2)
	p.wrote.Records += len(recs)
	return n + uint64(len(recs)), p.put(Frame{Type: TypePending, Payload: record.AppendRun(nil, recs)})
}

// entries writes the ordered range, by way of the checkpoints that lead from one
// hub set to the next.
func (p *parcelWriter) entries() error {
	if !p.o.Entries {
		return nil
	}
	at := p.o.From
	for range parcelStepsMax {
		note, reset, head, ok, err := p.s.step(max(at, p.o.HubsAt))
		if err != nil {
			return err
		}
		if len(reset) > 0 {
			if err := p.put(Frame{Type: TypeReset, Payload: reset}); err != nil {
				return err
			}
		}
		if !ok {
			note, head, ok = p.r.Final()
		}
		if !ok || head.Size <= at || len(note) > noteBytesMax {
			return nil
		}
		if err := p.upTo(at, head, note); err != nil {
			return err
		}
		at = head.Size
	}
	return nil
}

func (p *parcelWriter) upTo(at uint64, target record.TreeHead, note []byte) error {
	p.note, p.noted = note, false
	for at < target.Size {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		r := parcelRange{target: target.Size}
		end, count, span, err := p.ranged(&r, at)
		if errors.Is(err, record.ErrHole) || err == nil && end == at {
			return nil // this box does not hold them itself
		}
		if err != nil {
			return local("reading entries", err)
		}
		if end < target.Size {
			if r.proof, err = p.r.ConsistencyProof(end, target.Size); err != nil {
				return local("proving consistency", err)
			}
		}
		if err := p.putRange(r.frame(span)); err != nil {
			return err
		}
		p.wrote.Entries += count
		at, p.wrote.To = end, end
	}
	return nil
}

// ranged reads what goes into one frame from an entry on: what the receiver's profile
// has, when it holds a part, or whole entries.
func (p *parcelWriter) ranged(r *parcelRange, at uint64) (end uint64, count int, span bool, err error) {
	part := p.s.part.p
	if part != nil && p.o.For != (record.DeviceID{}) {
		if span, err = part.IsPartial(p.o.For); err != nil {
			return at, 0, false, err
		}
	}
	if span {
		s, err := part.SpanFor(p.o.For, at, r.target, p.room()/2)
		if err == nil {
			r.rest = record.AppendSpan(nil, &s, func(record.Position) bool { return false })
		}
		return s.To, len(s.Entries), true, err
	}
	entries, err := p.r.Entries(at, r.target, p.room()/2)
	if err != nil || len(entries) == 0 {
		return at, 0, false, err
	}
	r.rest, count = appendSomeEntries(nil, entries, p.room()/2)
	end = at + uint64(count)
	if part != nil {
		r.left, r.right, err = part.RangeProof(at, end, r.target)
	}
	return end, count, false, err
}

// putRange sees that the checkpoint stands before a range, in the same block.
func (p *parcelWriter) putRange(f Frame) error {
	note := Frame{Type: TypeCheckpoint, Payload: p.note}
	if p.noted && len(p.frames)+len(f.Payload)+8 <= p.room() {
		return p.put(f)
	}
	err := p.put(note, f)
	p.noted = true
	return err
}

func (p *parcelWriter) trailer() error {
	if len(p.frames) > len(p.head) {
		if err := p.flush(); err != nil {
			return err
		}
	}
	f, err := encode(TypeParcel, parcelTrailer{Blocks: uint64(p.index) + 1, Sum: p.sum.Sum(nil)})
	if err != nil {
		return err
	}
	f.Flags |= parcelFlagTrailer
	if err := p.put(f); err != nil {
		return err
	}
	return p.flush()
}
