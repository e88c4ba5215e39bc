package record

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/note"
)

// ErrNotProven: the proof is well formed but does not prove its entry to who
// has these region and hub keys.
var ErrNotProven = errors.New("the proof does not hold")

// Proof shows that an entry stands in the region's ledger, to somebody who has
// nothing but the region's id and the hubs' keys. The file leaves out what the
// checker computes again (docs/PROTOCOL.md section 15):
//
//	proof = "hpproof" ‖ version(1) ‖ uvarint seq ‖ uvarint size ‖ device(32)
//	        ‖ uvarint leafLength ‖ leaf ‖ hash(32)… ‖ count(1) ‖ cosignature…
//	cosignature = keyID(4) ‖ time(8) ‖ Ed25519(64)
type Proof struct {
	Seq          uint64
	Size         uint64        // of the tree that the hubs cosigned
	Device       DeviceID      // who signed the record
	Leaf         []byte        // as Entry.EncodeLeaf gives it
	Hashes       []Hash        // inclusion path, from the leaf's sibling up (RFC 6962 section 2.1.1)
	Cosignatures []Cosignature // by ascending key id, no two alike
}

// Cosignature is one hub's cosignature/v1: the blob of C2SP tlog-cosignature.
type Cosignature struct {
	KeyID   uint32
	Seconds uint64 // Unix, as the hub claims
	Sig     [64]byte
}

// ProofBytesMax is the longest file that DecodeProof reads.
const ProofBytesMax = 8 << 10

const (
	proofMagic           = "hpproof"
	proofVersion         = 1
	leafBytesMax         = coreBytesMax + 96 // time, prevSeq, signature, CBOR heads
	proofCosignaturesMax = 64
	cosignatureBytes     = 4 + 8 + 64
)

// NewProof joins an entry, its inclusion path in the tree of a final checkpoint
// and as many of the checkpoint's cosignatures as a majority of the hubs needs.
// It gives no proof that it could not verify itself.
func NewProof(l LedgerID, device DeviceID, e *Entry, path []Hash, checkpoint []byte, hubs []DeviceID) (Proof, error) {
	c, err := cosignedHeadOf(l, checkpoint, hubs)
	if err != nil {
		return Proof{}, err
	}
	c.fewest(len(hubs))
	p := Proof{Seq: e.Seq, Size: c.Head.Size, Device: device, Leaf: e.EncodeLeaf(), Hashes: slices.Clone(path), Cosignatures: c.Cosignatures}
	if err := p.check(); err != nil {
		return Proof{}, err
	}
	_, _, err = p.Verify(l, hubs)
	return p, err
}

func cosignatureFrom(s note.Signature) (c Cosignature, err error) {
	b, err := base64.StdEncoding.DecodeString(s.Base64)
	if err != nil || len(b) != cosignatureBytes {
		return c, fmt.Errorf("reading cosignature: %w", ErrMalformed)
	}
	return readCosignature(b), nil
}

func readCosignature(b []byte) Cosignature {
	return Cosignature{binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[4:]), [64]byte(b[12:cosignatureBytes])}
}

func (c *Cosignature) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, c.KeyID)
	b = binary.BigEndian.AppendUint64(b, c.Seconds)
	return append(b, c.Sig[:]...)
}

// pathLength is how many hashes prove entry seq in a tree of a size: one for each
// level below the place where the ways to it and to the last entry part, and one
// for each complete subtree left of that place.
func pathLength(seq, size uint64) int {
	below := bits.Len64(seq ^ (size - 1))
	return below + bits.OnesCount64(seq>>below)
}

// rootOf climbs from a leaf hash to the root; the path has pathLength hashes.
func rootOf(seq, size uint64, leaf Hash, path []Hash) Hash {
	below := bits.Len64(seq ^ (size - 1))
	h := leaf
	for level, sibling := range path {
		if level < below && seq>>level&1 == 0 {
			h = nodeHash(h, sibling)
		} else {
			h = nodeHash(sibling, h)
		}
	}
	return h
}

// check holds a proof against what its file can say.
func (p *Proof) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("reading proof: %w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
	if p.Size > treeSizeMax || p.Seq >= p.Size {
		return bad("seq %d in a tree of size %d", p.Seq, p.Size)
	}
	if want := pathLength(p.Seq, p.Size); len(p.Hashes) != want {
		return bad("%d hashes in the path, want %d", len(p.Hashes), want)
	}
	if len(p.Leaf) == 0 || len(p.Leaf) > leafBytesMax {
		return bad("leaf of %d bytes", len(p.Leaf))
	}
	if _, err := DecodeLeaf(p.Seq, p.Leaf); err != nil {
		return fmt.Errorf("reading proof: %w", err)
	}
	if n := len(p.Cosignatures); n > proofCosignaturesMax {
		return bad("%d cosignatures", n)
	}
	for i := 1; i < len(p.Cosignatures); i++ {
		if p.Cosignatures[i-1].KeyID >= p.Cosignatures[i].KeyID {
			return bad("cosignatures out of order")
		}
	}
	return nil
}

// EncodeProof gives the file. The proof is one that NewProof or DecodeProof gave.
func EncodeProof(p *Proof) []byte {
	b := append([]byte(proofMagic), proofVersion)
	b = binary.AppendUvarint(b, p.Seq)
	b = binary.AppendUvarint(b, p.Size)
	b = append(b, p.Device[:]...)
	b = binary.AppendUvarint(b, uint64(len(p.Leaf)))
	b = append(b, p.Leaf...)
	for i := range p.Hashes {
		b = append(b, p.Hashes[i][:]...)
	}
	b = append(b, byte(len(p.Cosignatures)))
	for i := range p.Cosignatures {
		b = p.Cosignatures[i].appendTo(b)
	}
	return b
}

// DecodeProof reads a file and refuses every other than the one encoding of its
// proof. It verifies nothing. The error wraps ErrMalformed.
func DecodeProof(b []byte) (Proof, error) {
	if len(b) > ProofBytesMax {
		return Proof{}, fmt.Errorf("reading proof: %w: more than %d bytes", ErrMalformed, ProofBytesMax)
	}
	if len(b) <= len(proofMagic) || string(b[:len(proofMagic)]) != proofMagic {
		return Proof{}, fmt.Errorf("reading proof: %w: not a proof file", ErrMalformed)
	}
	if v := b[len(proofMagic)]; v != proofVersion {
		return Proof{}, fmt.Errorf("reading proof: %w: version %d, this program knows %d", ErrMalformed, v, proofVersion)
	}
	p, ok := readProof(proofCursor{rest: b[len(proofMagic)+1:]})
	if !ok {
		return Proof{}, fmt.Errorf("reading proof: %w: cut short", ErrMalformed)
	}
	if err := p.check(); err != nil {
		return Proof{}, err
	}
	if !bytes.Equal(EncodeProof(&p), b) {
		return Proof{}, fmt.Errorf("reading proof: %w: bytes that belong to no field, or a number in a longer form", ErrMalformed)
	}
	return p, nil
}

// readProof reads the fields after the version; ok false when the bytes end early.
func readProof(c proofCursor) (p Proof, ok bool) {
	p.Seq, p.Size = c.uvarint(), c.uvarint()
	copy(p.Device[:], c.take(len(p.Device)))
	p.Leaf = bytes.Clone(c.take(c.length(leafBytesMax)))
	if !c.short && p.Seq < p.Size && p.Size <= treeSizeMax {
		for range pathLength(p.Seq, p.Size) {
			var h Hash
			copy(h[:], c.take(len(h)))
			p.Hashes = append(p.Hashes, h)
		}
	}
	if count := c.take(1); !c.short && count[0] <= proofCosignaturesMax {
		for range count[0] {
			if blob := c.take(cosignatureBytes); !c.short {
				p.Cosignatures = append(p.Cosignatures, readCosignature(blob))
			}
		}
	}
	return p, !c.short
}

// proofCursor reads fields in turn; short once one was not there.
type proofCursor struct {
	rest  []byte
	short bool
}

func (c *proofCursor) take(n int) []byte {
	if c.short || n > len(c.rest) {
		c.short = true
		return nil
	}
	out := c.rest[:n]
	c.rest = c.rest[n:]
	return out
}

func (c *proofCursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 {
		c.short = true
		return 0
	}
	c.take(n)
	return v
}

// length reads a number of bytes; past most it counts as a field cut short.
func (c *proofCursor) length(most uint64) int {
	v := c.uvarint()
	c.short = c.short || v > most
	return int(min(v, most))
}

// Head is the tree head that leaf and path lead to: what the hubs must have
// cosigned. The proof is one that NewProof or DecodeProof gave.
func (p *Proof) Head() TreeHead {
	return TreeHead{p.Size, rootOf(p.Seq, p.Size, LeafHash(p.Leaf), p.Hashes)}
}

// Bare is the proof without cosignatures, for who has the tree head in print and
// VerifyAt.
func (p Proof) Bare() Proof { p.Cosignatures = nil; return p }

// Verify computes the root from leaf and path, writes the checkpoint that the
// hubs must have cosigned, and checks that a majority of the hubs given did, each
// cosignature in the proof being by one of them; and that Device signed the
// record. Errors wrap ErrNotProven, or ErrMalformed for a proof that no file has;
// one without cosignatures, which only VerifyAt can check, wraps ErrNotFinal too.
func (p Proof) Verify(ledger LedgerID, hubs []DeviceID) (Entry, Checkpoint, error) {
	if err := p.check(); err != nil {
		return Entry{}, Checkpoint{}, err
	}
	not := func(err error) (Entry, Checkpoint, error) {
		return Entry{}, Checkpoint{}, fmt.Errorf("%w: %w", ErrNotProven, err)
	}
	if len(p.Cosignatures) == 0 {
		return not(fmt.Errorf("%w: it has no cosignature and needs a printed root", ErrNotFinal))
	}
	c := cosignedHead{p.Head(), p.Cosignatures}
	cp, err := c.verify(ledger, hubs)
	if err != nil {
		return not(err)
	}
	if len(cp.Signers) <= len(hubs)/2 {
		return not(fmt.Errorf("%w: %d of %d", ErrNotFinal, len(cp.Signers), len(hubs)))
	}
	e, err := p.entry()
	if err != nil {
		return not(err)
	}
	return e, cp, nil
}

// VerifyAt checks the entry against a tree head that the caller trusts, from
// paper or an SMS, and that Device signed the record. Cosignatures play no part.
// Errors wrap ErrNotProven or ErrMalformed.
func (p Proof) VerifyAt(head TreeHead) (Entry, error) {
	if err := p.check(); err != nil {
		return Entry{}, err
	}
	if got := p.Head(); got != head {
		return Entry{}, fmt.Errorf("%w: it is of another tree of size %d than the one of size %d", ErrNotProven, got.Size, head.Size)
	}
	e, err := p.entry()
	if err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrNotProven, err)
	}
	return e, nil
}

// entry is the entry of the leaf, when Device signed its record.
func (p *Proof) entry() (Entry, error) {
	e, err := DecodeLeaf(p.Seq, p.Leaf)
	if err != nil {
		return Entry{}, err
	}
	return e, e.Record.VerifySignature(p.Device)
}
