package record

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// EvidenceKind says what somebody did.
type EvidenceKind uint8

const (
	EvidenceEquivocation EvidenceKind = 1 // a device signed two records for one place
	EvidenceSplitView    EvidenceKind = 2 // hubs signed two ledgers
	EvidencePromise      EvidenceKind = 3 // a hub promised to have records ordered that are not
)

func (k EvidenceKind) String() string {
	switch k {
	case EvidenceEquivocation:
		return "equivocation"
	case EvidenceSplitView:
		return "split view"
	case EvidencePromise:
		return "broken promise"
	}
	return fmt.Sprintf("evidence %d", uint8(k))
}

// EvidenceBytesMax is the longest encoding.
const EvidenceBytesMax = 8 << 10

const evidenceVersion = 1

// Evidence is what anybody can check with public keys alone: that a device or
// some hubs signed what they cannot both have meant. Make one with a constructor
// or DecodeEvidence; treat it as immutable.
//
//	evidence     = [1, kind, part]
//	equivocation = [opening core, opening body, core, sig(64), core, sig(64)]      by ascending rid
//	split view   = [generation, smaller, larger, root at smaller(32), proof]       compact checkpoints; hashes of 32 bytes
//	promise      = [generation, receipt, compact checkpoint]
type Evidence struct {
	Kind EvidenceKind

	equivocation equivocation
	split        splitView
	promise      brokenPromise
	encoded      []byte
}

// Finding is what evidence shows once it is verified.
type Finding struct {
	Kind       EvidenceKind
	Culprits   []DeviceID // equivocation: the device; otherwise hubs, in the order given
	Final      bool       // split view: a majority signed each of the two ledgers
	Feed       Feed       // equivocation: the place, with N
	N          uint64
	Generation uint64        // split view and promise: of the ledger
	Size       uint64        // split view: the smaller ledger's; promise: that of the later checkpoint
	By         int64         // promise: until when, Unix seconds
	Missing    []ReceiptHead // promise: what it was about; one of them is not in the ledger of Size entries, whoever holds that sees
}

type equivocation struct {
	opening Core
	device  DeviceID
	a, b    Record
}

type splitView struct {
	generation      uint64
	smaller, larger cosignedHead
	rootAtSmaller   Hash
	proof           []Hash
}

type brokenPromise struct {
	generation uint64
	receipt    Receipt
	later      cosignedHead
}

type evidenceArray struct {
	_    struct{} `cbor:",toarray"`
	V    uint8
	Kind uint8
	Part cbor.RawMessage
}

type equivocationPart struct {
	_           struct{} `cbor:",toarray"`
	OpeningCore []byte
	OpeningBody []byte
	CoreA, SigA []byte
	CoreB, SigB []byte
}

type splitViewPart struct {
	_               struct{} `cbor:",toarray"`
	Generation      uint64
	Smaller, Larger []byte
	RootAtSmaller   []byte
	Proof           []byte
}

type promisePart struct {
	_             struct{} `cbor:",toarray"`
	Generation    uint64
	Receipt, Note []byte
}

// encodeEvidence gives the evidence of a part by way of its own bytes, so that
// what is made here is what everybody else reads.
func encodeEvidence(kind EvidenceKind, part any) (Evidence, error) {
	return DecodeEvidence(mustMarshal(evidenceArray{V: evidenceVersion, Kind: uint8(kind), Part: mustMarshal(part)}))
}

// Encode gives the bytes.
func (e Evidence) Encode() []byte { return bytes.Clone(e.encoded) }

// ID names the evidence: SHA-256 of its bytes.
func (e Evidence) ID() Hash { return sha256.Sum256(e.encoded) }

// DecodeEvidence reads and checks the form of what Encode gave, and verifies no
// signature. The error wraps ErrMalformed.
func DecodeEvidence(b []byte) (Evidence, error) {
	if len(b) > EvidenceBytesMax {
		return Evidence{}, fmt.Errorf("reading evidence: %w: %d bytes", ErrMalformed, len(b))
	}
	var a evidenceArray
	if err := Unmarshal(b, &a); err != nil {
		return Evidence{}, fmt.Errorf("reading evidence: %w", err)
	}
	if a.V != evidenceVersion {
		return Evidence{}, fmt.Errorf("reading evidence: %w: version %d", ErrMalformed, a.V)
	}
	e := Evidence{Kind: EvidenceKind(a.Kind), encoded: bytes.Clone(b)}
	var err error
	switch e.Kind {
	case EvidenceEquivocation:
		e.equivocation, err = decodeEquivocation(a.Part)
	case EvidenceSplitView:
		e.split, err = decodeSplitView(a.Part)
	case EvidencePromise:
		e.promise, err = decodeBrokenPromise(a.Part)
	default:
		err = fmt.Errorf("%w: kind %d", ErrMalformed, a.Kind)
	}
	if err != nil {
		return Evidence{}, fmt.Errorf("reading evidence: %w", err)
	}
	return e, nil
}

// Verify checks the evidence with the region's id and hub keys alone. Errors wrap
// ErrMalformed, or ErrNotProven: another region's, hubs that are none of those
// given, a signature that does not verify, or no contradiction.
func (e Evidence) Verify(region RegionID, hubs []DeviceID) (Finding, error) {
	var f Finding
	var err error
	switch e.Kind {
	case EvidenceEquivocation:
		f, err = e.equivocation.verify()
	case EvidenceSplitView:
		f, err = e.split.verify(region, hubs)
	case EvidencePromise:
		f, err = e.promise.verify(region, hubs)
	default:
		return Finding{}, fmt.Errorf("verifying evidence: %w: kind %d", ErrMalformed, uint8(e.Kind))
	}
	if err != nil {
		return Finding{}, fmt.Errorf("verifying %s: %w: %w", e.Kind, ErrNotProven, err)
	}
	f.Kind = e.Kind
	return f, nil
}

// NewEquivocation joins two records that one device signed for one place with
// the opening record, and its body, of their epoch.
func NewEquivocation(opening Record, a, b Record) (Evidence, error) {
	if bytes.Compare(a.rid[:], b.rid[:]) > 0 {
		a, b = b, a
	}
	e, err := encodeEvidence(EvidenceEquivocation, equivocationPart{OpeningCore: opening.core, OpeningBody: opening.Body,
		CoreA: a.core, SigA: a.Sig[:], CoreB: b.core, SigB: b.Sig[:]})
	if err != nil {
		return Evidence{}, err
	}
	_, err = e.Verify(RegionID{}, nil)
	return e, err
}

func decodeEquivocation(part []byte) (q equivocation, err error) {
	var p equivocationPart
	if err := Unmarshal(part, &p); err != nil {
		return q, err
	}
	opening, err := fromParts(p.OpeningCore, make([]byte, 64), p.OpeningBody)
	if err != nil {
		return q, err
	}
	if !opening.Core.opening() || !bodyMatches(&opening) {
		return q, fmt.Errorf("%w: no opening record with its body", ErrMalformed)
	}
	body, err := DecodeEpochOpen(opening.Body)
	if err != nil {
		return q, err
	}
	q.opening, q.device = opening.Core, DeviceID(body.Device)
	if q.a, err = fromParts(p.CoreA, p.SigA, nil); err != nil {
		return q, err
	}
	if q.b, err = fromParts(p.CoreB, p.SigB, nil); err != nil {
		return q, err
	}
	if at := q.a.Position(); at != q.b.Position() || at.Epoch != opening.OpenedEpoch() {
		return q, fmt.Errorf("%w: not two records for one place of the epoch", ErrMalformed)
	}
	if bytes.Compare(q.a.rid[:], q.b.rid[:]) >= 0 {
		return q, fmt.Errorf("%w: records out of order", ErrMalformed)
	}
	return q, nil
}

func (q *equivocation) verify() (Finding, error) {
	at := q.a.Position()
	return Finding{Culprits: []DeviceID{q.device}, Feed: at.Feed(), N: at.N}, errors.Join(q.a.VerifySignature(q.device), q.b.VerifySignature(q.device))
}

// NewSplitView joins two notes of one ledger of which the larger does not continue
// the smaller: its tree has another root at the smaller's size, and proof leads
// from there to its head. Equal sizes need no proof. It gives no evidence against
// nobody: some hub of those given must have signed both.
func NewSplitView(l LedgerID, smaller, larger []byte, rootAtSmaller Hash, proof []Hash, hubs []DeviceID) (Evidence, error) {
	s, err := cosignedHeadOf(l, smaller, hubs)
	if err != nil {
		return Evidence{}, err
	}
	g, err := cosignedHeadOf(l, larger, hubs)
	if err != nil {
		return Evidence{}, err
	}
	s.sort()
	g.sort()
	if s.Head.Size == g.Head.Size {
		if bytes.Compare(s.Head.Root[:], g.Head.Root[:]) > 0 {
			s, g = g, s
		}
		rootAtSmaller, proof = g.Head.Root, nil
	}
	part := splitViewPart{Generation: l.Generation, Smaller: s.encode(), Larger: g.encode(), RootAtSmaller: rootAtSmaller[:]}
	for i := range proof {
		part.Proof = append(part.Proof, proof[i][:]...)
	}
	e, err := encodeEvidence(EvidenceSplitView, part)
	if err != nil {
		return Evidence{}, err
	}
	_, err = e.Verify(l.Region, hubs)
	return e, err
}

const treeProofMax = 64 // hashes, for any size that this package computes with

func decodeSplitView(part []byte) (s splitView, err error) {
	var p splitViewPart
	if err := Unmarshal(part, &p); err != nil {
		return s, err
	}
	if err := checkLen(p.RootAtSmaller, 32, "root"); err != nil {
		return s, err
	}
	s.generation, s.rootAtSmaller = p.Generation, Hash(p.RootAtSmaller)
	if s.smaller, err = decodeCosignedHead(p.Smaller); err != nil {
		return s, err
	}
	if s.larger, err = decodeCosignedHead(p.Larger); err != nil {
		return s, err
	}
	if len(p.Proof)%32 != 0 || len(p.Proof) > treeProofMax*32 {
		return s, fmt.Errorf("%w: proof of %d bytes", ErrMalformed, len(p.Proof))
	}
	for rest := p.Proof; len(rest) > 0; rest = rest[32:] {
		s.proof = append(s.proof, Hash(rest[:32]))
	}
	small, large := s.smaller.Head, s.larger.Head
	if small.Size == 0 || small.Size > large.Size || s.rootAtSmaller == small.Root {
		return s, fmt.Errorf("%w: the checkpoints do not contradict each other", ErrMalformed)
	}
	if small.Size == large.Size && bytes.Compare(small.Root[:], large.Root[:]) > 0 {
		return s, fmt.Errorf("%w: checkpoints out of order", ErrMalformed)
	}
	return s, nil
}

func (s *splitView) verify(region RegionID, hubs []DeviceID) (Finding, error) {
	l := region.Ledger(s.generation)
	small, err := s.smaller.verify(l, hubs)
	if err != nil {
		return Finding{}, err
	}
	large, err := s.larger.verify(l, hubs)
	if err != nil {
		return Finding{}, err
	}
	if err := VerifyConsistency(TreeHead{small.Head.Size, s.rootAtSmaller}, large.Head, s.proof); err != nil {
		return Finding{}, err
	}
	f := Finding{Generation: s.generation, Size: small.Head.Size, Final: len(small.Signers) > len(hubs)/2 && len(large.Signers) > len(hubs)/2}
	for i, d := range hubs {
		if slices.Contains(small.Signers, d) && slices.Contains(large.Signers, d) && !slices.Contains(hubs[:i], d) {
			f.Culprits = append(f.Culprits, d)
		}
	}
	if len(f.Culprits) == 0 {
		return Finding{}, errors.New("no hub signed both")
	}
	return f, nil
}

// verify checks each cosignature. Every one must be by a hub given: one that
// nobody checks could be anything.
func (c *cosignedHead) verify(l LedgerID, hubs []DeviceID) (Checkpoint, error) {
	msg, unknown := c.note(l, hubs)
	if unknown > 0 || len(c.Cosignatures) == 0 {
		return Checkpoint{}, fmt.Errorf("checkpoint of size %d: %d of %d cosignatures by keys that are none of the region's hubs", c.Head.Size, unknown, len(c.Cosignatures))
	}
	return OpenCheckpoint(l, msg, hubs)
}

// NewBrokenPromise joins a receipt with a final note of a later time. Who holds
// the ledger of the note's size sees which record of the receipt is not in it;
// that it is missing is the caller's word until then.
func NewBrokenPromise(l LedgerID, r Receipt, note []byte, hubs []DeviceID) (Evidence, error) {
	c, err := cosignedHeadOf(l, note, hubs)
	if err != nil {
		return Evidence{}, err
	}
	c.fewest(len(hubs))
	e, err := encodeEvidence(EvidencePromise, promisePart{Generation: l.Generation, Receipt: r.Encode(), Note: c.encode()})
	if err != nil {
		return Evidence{}, err
	}
	_, err = e.Verify(l.Region, hubs)
	return e, err
}

func decodeBrokenPromise(part []byte) (b brokenPromise, err error) {
	var p promisePart
	if err := Unmarshal(part, &p); err != nil {
		return b, err
	}
	b.generation = p.Generation
	if b.receipt, err = DecodeReceipt(p.Receipt); err != nil {
		return b, err
	}
	b.later, err = decodeCosignedHead(p.Note)
	return b, err
}

func (b *brokenPromise) verify(region RegionID, hubs []DeviceID) (Finding, error) {
	if err := b.receipt.Verify(region); err != nil {
		return Finding{}, err
	}
	if !slices.Contains(hubs, b.receipt.Hub) {
		return Finding{}, errors.New("the receipt is by none of the region's hubs")
	}
	cp, err := b.later.verify(region.Ledger(b.generation), hubs)
	if err != nil {
		return Finding{}, err
	}
	if len(cp.Signers) <= len(hubs)/2 {
		return Finding{}, fmt.Errorf("checkpoint of size %d: %w", cp.Head.Size, ErrNotFinal)
	}
	if cp.Time <= b.receipt.By {
		return Finding{}, errors.New("the checkpoint is not later than the promise")
	}
	return Finding{Culprits: []DeviceID{b.receipt.Hub}, Generation: b.generation, Size: cp.Head.Size, By: b.receipt.By, Missing: slices.Clone(b.receipt.Heads)}, nil
}
