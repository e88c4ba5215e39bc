package record

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/mod/sumdb/tlog"
)

// Entry is a record with its place in the ledger.
type Entry struct {
	Seq     uint64
	Time    int64  // ledger time, Unix seconds; never decreases
	PrevSeq uint64 // seq+1 of the previous entry of the same compartment, 0 for the first and for control records
	Record  Record
}

// leaf is the bytes that the tree hashes.
type leaf struct {
	_       struct{} `cbor:",toarray"`
	Time    int64
	PrevSeq uint64
	Core    cbor.RawMessage
	Sig     []byte
}

// EncodeLeaf gives the bytes under the Merkle tree, which are also the row at rest.
func (e *Entry) EncodeLeaf() []byte {
	return mustMarshal(leaf{Time: e.Time, PrevSeq: e.PrevSeq, Core: e.Record.core, Sig: e.Record.Sig[:]})
}

// DecodeLeaf reads a leaf; the body is absent and seq is what the caller says.
func DecodeLeaf(seq uint64, b []byte) (Entry, error) {
	var l leaf
	if err := Unmarshal(b, &l); err != nil {
		return Entry{}, fmt.Errorf("reading entry %d: %w", seq, err)
	}
	r, err := fromParts(l.Core, l.Sig, nil)
	if err != nil {
		return Entry{}, fmt.Errorf("reading entry %d: %w", seq, err)
	}
	return Entry{Seq: seq, Time: l.Time, PrevSeq: l.PrevSeq, Record: r}, nil
}

// LeafHash is the RFC 6962 hash of a leaf.
func LeafHash(leaf []byte) Hash { return Hash(tlog.RecordHash(leaf)) }

// Batch is one raft log item: what the leader proposes and every hub applies.
type Batch struct {
	LeaderMillis int64 // Unix milliseconds of the leader, a claim that ordering bounds
	Records      []Record
}

// Limits of a batch.
const (
	BatchRecordsMax = 512
	BatchBytesMax   = 256 << 10
)

type batchArray struct {
	_       struct{} `cbor:",toarray"`
	V       uint8
	Millis  int64
	Records []batchRecord
}

type batchRecord struct {
	_    struct{} `cbor:",toarray"`
	Core cbor.RawMessage
	Sig  []byte
	Body []byte
}

// Encode gives the bytes of the raft log item.
func (b *Batch) Encode() []byte {
	a := batchArray{V: Version, Millis: b.LeaderMillis, Records: make([]batchRecord, 0, len(b.Records))}
	for i := range b.Records {
		r := &b.Records[i]
		a.Records = append(a.Records, batchRecord{Core: r.core, Sig: r.Sig[:], Body: r.Body})
	}
	return mustMarshal(a)
}

// DecodeBatch reads a raft log item. Body hashes are checked by Orderer, not here.
func DecodeBatch(p []byte) (Batch, error) {
	if len(p) > BatchBytesMax+BodyBytesMax+(64<<10) {
		return Batch{}, fmt.Errorf("reading batch: %w: %d bytes", ErrMalformed, len(p))
	}
	var a batchArray
	if err := Unmarshal(p, &a); err != nil {
		return Batch{}, fmt.Errorf("reading batch: %w", err)
	}
	if a.V != Version || len(a.Records) > BatchRecordsMax {
		return Batch{}, fmt.Errorf("reading batch: %w: version %d, %d records", ErrMalformed, a.V, len(a.Records))
	}
	b := Batch{LeaderMillis: a.Millis, Records: make([]Record, 0, len(a.Records))}
	for _, x := range a.Records {
		r, err := fromParts(x.Core, x.Sig, x.Body)
		if err != nil {
			return Batch{}, fmt.Errorf("reading batch: %w", err)
		}
		b.Records = append(b.Records, r)
	}
	return b, nil
}
