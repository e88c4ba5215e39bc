package peersync

import (
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// Protocol versions this build speaks.
const (
	protocolMin = 1
	protocolMax = 3

	protocolCarried  = 3 // from which on a peer reads promises that others pass on
	protocolEvidence = 2 // from which on a peer reads short notes, handovers, receipts and evidence
	protocolPartial  = 3 // spans and what fills holes
)

// Flags of a CHECKPOINT: it answers a handover, empty when there is none; it
// is empty and says that no entries come until a checkpoint without this flag does.
const (
	flagAnswer  = 2
	flagRefusal = 4
)

// Limits of what a message may hold.
const (
	epochsMax    = 1024 // of a frontier, and tracked for one peer
	ackHeadsMax  = 1024
	proofMax     = 64
	nameBytesMax = 64
	noteBytesMax = 8 << 10
	reasonMax    = 200
	rejectsMax   = 64
	laneOpening  = 0x80 // in ACK: the epoch's opening record, n 0
	windowMin    = 1 << 10
	windowMax    = 1 << 20
)

// hello opens a session from each side.
type hello struct {
	_        struct{} `cbor:",toarray"`
	Min, Max uint64   // protocol versions
	Region   []byte   // 32
	Device   []byte   // 32
	Role     string   // a claim, for display
	Software string
	Window   uint64 // bulk bytes this side sends and accepts without an ACK
	Size     uint64 // ordered ledger
	Root     []byte // 32
	Note     []byte // final checkpoint, or empty
	Want     bool   // stream ordered entries from Size on
	Frontier []epochFrontier
}

// epochFrontier is what the sender holds pending of one epoch: the opening
// record or not, and per lane the last n held, 0 for a lane without pending.
type epochFrontier struct {
	_       struct{} `cbor:",toarray"`
	Epoch   []byte   // 16
	Opening bool
	Held    []uint64 // LaneCount
}

// pull asks for ordered entries [From, To), To 0 meaning the newest final
// checkpoint of the other side. With pullHandover, To is the size of the ledger as
// of which the asking side knows the hubs.
type pull struct {
	_     struct{} `cbor:",toarray"`
	From  uint64
	To    uint64
	Flags uint64
}

const (
	pullFollow = 1 // keep streaming as checkpoints come
	pullFull   = 2 // send every record, name none as known
	pullStop   = 4 // send no more until the next pull

	// pullHandover asks for a checkpoint that a box with a ledger of this size can
	// verify, and for the entries up to it unless pullStop says not to.
	pullHandover = 8
	// pullWhole asks for [From, To) in ENTRIES, each as it is at rest.
	pullWhole = 16
)

// ack gives credit back and says what is durable.
type ack struct {
	_      struct{} `cbor:",toarray"`
	Credit uint64   // bulk payload bytes dealt with since the session began
	Size   uint64   // ordered ledger
	Heads  []ackHead
}

// ackHead answers for one feed. State 0: durable up to N. 1: a gap, what is here
// ends at N. 2: the author is not known here yet.
type ackHead struct {
	_     struct{} `cbor:",toarray"`
	Epoch []byte   // 16
	Lane  uint64   // or laneOpening
	N     uint64
	State uint64

	restart bool // N is where both agree, not how far the feed is held
}

const (
	ackDurable = 0
	ackGap     = 1
	ackHold    = 2
)

// receipt is record.Receipt without what the receiver knows: the hub, which is
// the peer, and the ids of the records, which it sent.
type receipt struct {
	_         struct{} `cbor:",toarray"`
	Taken, By int64
	Heads     []receiptHead
	Sig       []byte // 64
}

type receiptHead struct {
	_     struct{} `cbor:",toarray"`
	Epoch []byte   // 16
	Lane  uint64
	N     uint64
}

// evidenceMessage names pieces of evidence by the first eight bytes of their
// SHA-256, and carries one or none.
type evidenceMessage struct {
	_      struct{} `cbor:",toarray"`
	Held   [][]byte // 8 each
	Wanted [][]byte // 8 each
	Piece  []byte
}

// ask asks for what a replica with holes lacks. askSpan: spans from From to To, 0
// for the newest checkpoint, of which the newest Recent entries come whole.
// askRange: the entries [From, To), proven in the tree of Size. askCompartment: those
// of one compartment among them, which Of names. askFeed: the entries of the records
// [From, To) of a feed, all of which the asking side holds; Of is epoch, lane and the
// rid of the first.
type ask struct {
	_        struct{} `cbor:",toarray"`
	Kind     uint64
	From, To uint64
	Size     uint64
	Recent   uint64
	Flags    uint64
	Of       []byte
}

const (
	askSpan        = 1
	askRange       = 2
	askCompartment = 3
	askFeed        = 4

	askFeedBytes = 16 + 1 + 32

	askFollow = 1 // go on as checkpoints come
	askFull   = 2 // send every record, name none as known
)

// filled ends what was asked for.
type filled struct {
	_   struct{} `cbor:",toarray"`
	Why uint64
}

// reject names records that can never be ordered.
type reject struct {
	_    struct{} `cbor:",toarray"`
	List []rejected
}

type rejected struct {
	_       struct{} `cbor:",toarray"`
	RID     []byte   // 32
	Epoch   []byte   // 16
	Lane    uint64
	N       uint64
	Verdict uint64
}

// bye ends the session.
type bye struct {
	_      struct{} `cbor:",toarray"`
	Code   uint64
	Reason string
}

const (
	byeStopped    = 0
	byeMisbehaved = 1
	byeLocal      = 2
	byeBehind     = 3
)

func encode(t Type, v any) (Frame, error) {
	p, err := record.Marshal(v)
	if err != nil {
		return Frame{}, local("encoding frame", err)
	}
	f := Frame{Type: t, Payload: p}
	if t == TypeHello {
		f.Flags = FlagCritical
	}
	return f, nil
}

func decodeHello(p []byte) (hello, error) {
	var h hello
	if err := record.Unmarshal(p, &h); err != nil {
		return h, misbehaved("reading hello: %w", err)
	}
	bad := len(h.Region) != 32 || len(h.Device) != 32 || len(h.Root) != 32 || len(h.Role) > nameBytesMax || len(h.Software) > nameBytesMax ||
		len(h.Note) > noteBytesMax || len(h.Frontier) > epochsMax || h.Size > 1<<62 || h.Min > h.Max || h.Window < windowMin || h.Window > windowMax
	for _, e := range h.Frontier {
		bad = bad || len(e.Epoch) != 16 || len(e.Held) != record.LaneCount
	}
	if bad {
		return h, misbehaved("hello out of bounds")
	}
	return h, nil
}

func decodePull(p []byte) (pull, error) {
	var m pull
	if err := record.Unmarshal(p, &m); err != nil {
		return m, misbehaved("reading pull: %w", err)
	}
	if m.From > 1<<62 || m.To > 1<<62 || m.Flags > 31 || m.To != 0 && m.To < m.From ||
		m.Flags&pullHandover != 0 && m.Flags&pullWhole != 0 || m.Flags&pullWhole != 0 && (m.To <= m.From || m.Flags&^pullWhole != 0) {
		return m, misbehaved("pull out of bounds")
	}
	return m, nil
}

func decodeAsk(p []byte) (ask, error) {
	var m ask
	if err := record.Unmarshal(p, &m); err != nil {
		return m, misbehaved("reading ask: %w", err)
	}
	bad := m.From > maxSeq || m.To > maxSeq || m.Size > maxSeq || m.Recent > maxSeq || m.Flags > askFollow|askFull || m.To != 0 && m.To < m.From
	switch m.Kind {
	case askSpan:
		bad = bad || len(m.Of) != 0
	case askRange:
		bad = bad || len(m.Of) != 0 || m.To <= m.From || m.To > m.Size
	case askCompartment:
		bad = bad || len(m.Of) != 16 || m.To <= m.From || m.To > m.Size
	case askFeed:
		bad = bad || len(m.Of) != askFeedBytes || m.To <= m.From || m.Of[16] >= record.LaneCount
	default:
		bad = true
	}
	if bad {
		return m, misbehaved("ask out of bounds")
	}
	return m, nil
}

func (m *ask) compartment() record.CompartmentID { return record.CompartmentID(m.Of) }

// feed gives what askFeed asks for, and the rid of the first record.
func (m *ask) feed() (record.Feed, record.RID) {
	return record.Feed{Epoch: record.EpochID(m.Of[:16]), Lane: record.Lane(m.Of[16])}, record.RID(m.Of[17:])
}

func decodeFilled(p []byte) (filled, error) {
	var m filled
	if err := record.Unmarshal(p, &m); err != nil {
		return m, misbehaved("reading the end of an answer: %w", err)
	}
	if m.Why > filledPartial {
		return m, misbehaved("end of an answer out of bounds")
	}
	return m, nil
}

func decodeAck(p []byte) (ack, error) {
	var m ack
	if err := record.Unmarshal(p, &m); err != nil {
		return m, misbehaved("reading ack: %w", err)
	}
	if len(m.Heads) > ackHeadsMax || m.Size > 1<<62 {
		return m, misbehaved("ack out of bounds")
	}
	for _, h := range m.Heads {
		if len(h.Epoch) != 16 || h.Lane >= record.LaneCount && h.Lane != laneOpening || h.Lane == laneOpening && h.N != 0 || h.State > ackHold {
			return m, misbehaved("ack of a feed that cannot be")
		}
	}
	return m, nil
}

func decodeReceipt(p []byte) (receipt, error) {
	var m receipt
	if err := record.Unmarshal(p, &m); err != nil {
		return m, misbehaved("reading receipt: %w", err)
	}
	bad := len(m.Heads) == 0 || len(m.Heads) > record.ReceiptHeadsMax || len(m.Sig) != 64
	for _, h := range m.Heads {
		bad = bad || len(h.Epoch) != 16 || h.Lane >= record.LaneCount
	}
	if bad {
		return m, misbehaved("receipt out of bounds")
	}
	return m, nil
}

func decodeEvidence(p []byte) (evidenceMessage, error) {
	var m evidenceMessage
	if err := record.Unmarshal(p, &m); err != nil {
		return m, misbehaved("reading evidence: %w", err)
	}
	bad := len(m.Held) > evidenceOfferedMax || len(m.Wanted) > evidenceOfferedMax || len(m.Piece) > evidenceBytesMax
	for _, id := range slices.Concat(m.Held, m.Wanted) {
		bad = bad || len(id) != len(evidenceID{})
	}
	if bad {
		return m, misbehaved("evidence out of bounds")
	}
	return m, nil
}

func decodeReject(p []byte) (reject, error) {
	var m reject
	if err := record.Unmarshal(p, &m); err != nil {
		return m, misbehaved("reading reject: %w", err)
	}
	if len(m.List) > rejectsMax {
		return m, misbehaved("reject of %d records", len(m.List))
	}
	for _, r := range m.List {
		if len(r.RID) != 32 || len(r.Epoch) != 16 || r.Lane >= record.LaneCount || r.Verdict > 255 || !record.Verdict(r.Verdict).Final() {
			return m, misbehaved("reject without a final verdict")
		}
	}
	return m, nil
}

func decodeBye(p []byte) (bye, error) {
	var m bye
	if err := record.Unmarshal(p, &m); err != nil {
		return m, misbehaved("reading bye: %w", err)
	}
	if len(m.Reason) > reasonMax {
		return m, misbehaved("bye out of bounds")
	}
	return m, nil
}

// A segment frame is: count(1) of proof hashes, then for each a reference(1) to
// a hash of the segment frame before it in this session or 0xff and 32 bytes,
// then the segment of package record. The proof leads from the segment's end to
// the checkpoint; neighbours share most of it.
const proofLiteral = 0xff

func appendProof(dst []byte, proof, before []record.Hash) []byte {
	dst = append(dst, byte(len(proof)))
	for _, h := range proof {
		ref := proofLiteral
		for i, b := range before {
			if b == h {
				ref = i
				break
			}
		}
		dst = append(dst, byte(ref))
		if ref == proofLiteral {
			dst = append(dst, h[:]...)
		}
	}
	return dst
}

func readProof(p []byte, before []record.Hash) (proof []record.Hash, segment []byte, err error) {
	bad := func() ([]record.Hash, []byte, error) {
		return nil, nil, misbehaved("segment's proof is malformed")
	}
	if len(p) == 0 || p[0] > proofMax {
		return bad()
	}
	n := int(p[0])
	p = p[1:]
	proof = make([]record.Hash, 0, n)
	for range n {
		switch {
		case len(p) == 0:
			return bad()
		case p[0] == proofLiteral:
			if len(p) < 33 {
				return bad()
			}
			proof = append(proof, record.Hash(p[1:33]))
			p = p[33:]
		case int(p[0]) < len(before):
			proof = append(proof, before[p[0]])
			p = p[1:]
		default:
			return bad()
		}
	}
	return proof, p, nil
}

func (h *hello) check(region record.RegionID, peer record.DeviceID) error {
	switch {
	case h.Min > protocolMax || h.Max < protocolMin:
		return fmt.Errorf("peer speaks %d to %d: %w", h.Min, h.Max, ErrVersion)
	case record.RegionID(h.Region) != region:
		return ErrRegion
	case record.DeviceID(h.Device) != peer:
		return misbehaved("hello names another device than the link does")
	}
	return nil
}
