package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// Key prefixes; doc.go has the table.
const (
	pEntry     = 'e'
	pBody      = 'b'
	pPosition  = 'f'
	pRID       = 'i'
	pPending   = 'p'
	pFeed      = 'h'
	pWork      = 'w'
	pEpoch     = 'g'
	pMember    = 'd'
	pRegistry  = 'n'
	pScope     = 's'
	pScopeOpen = 'u'
	pScopeLast = 'l'
	pTile      = 't'
	pAck       = 'y'
	pRefused   = 'z'
	pArrival   = 'a'
	pMeta      = 'm'
	pRow       = 'x'
	pKV        = 'k'
	pHole      = 'o'
	pLoose     = 'O'
	pMissing   = 'q'
	pAwaited   = 'v'
)

var (
	keyJournal = []byte("mjournal")
	keyLedger  = []byte("mledger") // lastTime, applied index and term, edge
	keyClock   = []byte("mclock")
	keyFinal   = []byte("mfinal")
	keySigned  = []byte("msigned")
	keyRegion  = []byte("mregion")
	keyFloor   = []byte("mfloor")  // head known of a longer ledger, which this one must grow into
	keyCounts  = []byte("mcounts") // rows that no record accounts for: number and combined hash of each kind
)

func keySeq(prefix byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, seq)
}

func keyFeed(prefix byte, f record.Feed) []byte {
	b := append(make([]byte, 0, 32), prefix)
	b = append(b, f.Epoch[:]...)
	return append(b, byte(f.Lane))
}

func keyPosition(prefix byte, p record.Position) []byte {
	return binary.BigEndian.AppendUint64(keyFeed(prefix, p.Feed()), p.N)
}

func keyRID(prefix byte, r record.RID) []byte { return append([]byte{prefix}, r[:]...) }

// keyIndexRID holds half of a rid: a lookup compares the record that it finds.
func keyIndexRID(r record.RID) []byte { return append([]byte{pRID}, r[:16]...) }

func keyEpoch(e record.EpochID) []byte { return append([]byte{pEpoch}, e[:]...) }

func keyMember(d record.DeviceID) []byte { return append([]byte{pMember}, d[:]...) }

func keyRegistry(key []byte) []byte { return append([]byte{pRegistry}, key...) }

// ownPrefix begins the row of the last epoch that a device opened here.
var ownPrefix = []byte("mown")

func keyOwn(d record.DeviceID) []byte { return append([]byte("mown"), d[:]...) }

func keyScope(c record.CompartmentID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte{pScope}, c[:]...), seq)
}

func keyScopePending(c record.CompartmentID, p record.Position) []byte {
	return append(append([]byte{pScopeOpen}, c[:]...), keyPosition(pPending, p)[1:]...)
}

func keyScopeLast(c record.CompartmentID) []byte { return append([]byte{pScopeLast}, c[:]...) }

func keyTile(level int, index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{pTile, byte(level)}, index)
}

func keyAck(f record.Feed, peer record.DeviceID) []byte { return append(keyFeed(pAck, f), peer[:]...) }

func positionFrom(b []byte) record.Position {
	return record.Position{Epoch: record.EpochID(b[:16]), Lane: record.Lane(b[16]), N: binary.BigEndian.Uint64(b[17:25])}
}

func feedFrom(b []byte) record.Feed {
	return record.Feed{Epoch: record.EpochID(b[:16]), Lane: record.Lane(b[16])}
}

const (
	positionBytes = 25
	tagBytes      = 8
)

// tag binds a value to its key: the last eight bytes of every row.
func tag(key, value []byte) [tagBytes]byte {
	h := sha256.New()
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(key)))
	h.Write(n[:])
	h.Write(key)
	h.Write(value)
	return [tagBytes]byte(h.Sum(nil)[:tagBytes])
}

func sealRow(key, value []byte) []byte {
	t := tag(key, value)
	return append(append(make([]byte, 0, len(value)+tagBytes), value...), t[:]...)
}

// openRow gives the value of a sealed row, or a DamageError.
func openRow(key, sealed []byte) ([]byte, error) {
	if len(sealed) < tagBytes {
		return nil, damagedRow(key, "row is too short")
	}
	value := sealed[:len(sealed)-tagBytes]
	if t := tag(key, value); string(t[:]) != string(sealed[len(value):]) {
		return nil, damagedRow(key, "row does not match its hash")
	}
	return value, nil
}

// feedRow is what this replica holds of one feed.
type feedRow struct {
	Ordered record.Head // last ordered; n 0 with the opening rid
	Held    record.Head // last held, ordered or pending
	Refused uint64      // lowest n refused for good by this box's own ordering, 0 none
}

const feedRowBytes = 8 + 32 + 8 + 32 + 8

func (f *feedRow) encode() []byte {
	b := make([]byte, 0, feedRowBytes)
	b = binary.BigEndian.AppendUint64(b, f.Ordered.N)
	b = append(b, f.Ordered.RID[:]...)
	b = binary.BigEndian.AppendUint64(b, f.Held.N)
	b = append(b, f.Held.RID[:]...)
	return binary.BigEndian.AppendUint64(b, f.Refused)
}

func decodeFeedRow(b []byte) (feedRow, error) {
	if len(b) != feedRowBytes {
		return feedRow{}, fmt.Errorf("reading feed row: %w: %d bytes", record.ErrMalformed, len(b))
	}
	return feedRow{Ordered: record.Head{N: binary.BigEndian.Uint64(b), RID: record.RID(b[8:40])},
		Held: record.Head{N: binary.BigEndian.Uint64(b[40:]), RID: record.RID(b[48:80])}, Refused: binary.BigEndian.Uint64(b[80:])}, nil
}

// epochRow is what this replica knows of one epoch. Seq is meaningful when Ordered.
type epochRow struct {
	Device  record.DeviceID
	Opening record.RID
	Ordered bool
	Seq     uint64
	Refused bool // its opening record was refused for good by this box's own ordering
	Loose   bool // its opening record has a place in a hole: it is held by itself
}

// open says whether the opening record has no place in the ledger yet.
func (e *epochRow) open() bool { return !e.Ordered && !e.Loose }

const epochRowBytes = 32 + 32 + 1 + 8

func (e *epochRow) encode() []byte {
	b := make([]byte, 0, epochRowBytes)
	b = append(b, e.Device[:]...)
	b = append(b, e.Opening[:]...)
	var flags byte
	if e.Ordered {
		flags |= 1
	}
	if e.Refused {
		flags |= 2
	}
	if e.Loose {
		flags |= 4
	}
	return binary.BigEndian.AppendUint64(append(b, flags), e.Seq)
}

func decodeEpochRow(b []byte) (epochRow, error) {
	if len(b) != epochRowBytes || b[64] > 7 {
		return epochRow{}, fmt.Errorf("reading epoch row: %w", record.ErrMalformed)
	}
	return epochRow{Device: record.DeviceID(b[:32]), Opening: record.RID(b[32:64]), Ordered: b[64]&1 != 0, Refused: b[64]&2 != 0, Loose: b[64]&4 != 0, Seq: binary.BigEndian.Uint64(b[65:])}, nil
}

// ridRow says where a record is: an entry, or pending at a position.
type ridRow struct {
	Pending  bool
	Seq      uint64
	Position record.Position
}

func (r *ridRow) encode() []byte {
	if r.Pending {
		return append([]byte{1}, keyPosition(0, r.Position)[1:]...)
	}
	return binary.BigEndian.AppendUint64([]byte{0}, r.Seq)
}

func decodeRIDRow(b []byte) (ridRow, error) {
	switch {
	case len(b) == 9 && b[0] == 0:
		return ridRow{Seq: binary.BigEndian.Uint64(b[1:])}, nil
	case len(b) == 1+positionBytes && b[0] == 1:
		return ridRow{Pending: true, Position: positionFrom(b[1:])}, nil
	}
	return ridRow{}, fmt.Errorf("reading record index: %w", record.ErrMalformed)
}

// pendingRow is a pending record with its arrival number.
type pendingRow struct {
	Arrival uint64
	Record  record.Record
}

func (p *pendingRow) encode() []byte {
	h := p.Record.EncodeHeader()
	b := make([]byte, 0, 10+len(h)+len(p.Record.Body))
	b = binary.BigEndian.AppendUint64(b, p.Arrival)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h)))
	return append(append(b, h...), p.Record.Body...)
}

func decodePendingRow(b []byte) (pendingRow, error) {
	if len(b) < 10 || len(b) < 10+int(binary.BigEndian.Uint16(b[8:])) {
		return pendingRow{}, fmt.Errorf("reading pending record: %w: cut short", record.ErrMalformed)
	}
	n := 10 + int(binary.BigEndian.Uint16(b[8:]))
	r, err := record.DecodeHeader(b[10:n])
	if err != nil {
		return pendingRow{}, fmt.Errorf("reading pending record: %w", err)
	}
	r = r.WithBody(append([]byte{}, b[n:]...))
	if err := r.VerifyBody(); err != nil {
		return pendingRow{}, fmt.Errorf("reading pending record: %w", err)
	}
	return pendingRow{binary.BigEndian.Uint64(b), r}, nil
}

// arrivalRow is one visible change of a record.
type arrivalRow struct {
	RID     record.RID
	Pending bool
	Seq     uint64
}

func (a *arrivalRow) encode() []byte {
	b := append(make([]byte, 0, 41), a.RID[:]...)
	if a.Pending {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, a.Seq)
}

func decodeArrivalRow(b []byte) (arrivalRow, error) {
	if len(b) != 41 || b[32] > 1 {
		return arrivalRow{}, fmt.Errorf("reading arrival: %w", record.ErrMalformed)
	}
	return arrivalRow{RID: record.RID(b[:32]), Pending: b[32] == 1, Seq: binary.BigEndian.Uint64(b[33:])}, nil
}

// ledgerRow is the ledger's end: one row, rewritten with every entry.
type ledgerRow struct {
	Time        int64
	Index, Term uint64
	Edge        record.Range
}

func (l *ledgerRow) encode() []byte {
	b := make([]byte, 0, 32+32*len(l.Edge.Hashes))
	b = binary.BigEndian.AppendUint64(b, uint64(l.Time))
	b = binary.BigEndian.AppendUint64(b, l.Index)
	b = binary.BigEndian.AppendUint64(b, l.Term)
	b = binary.BigEndian.AppendUint64(b, l.Edge.Size)
	for _, h := range l.Edge.Hashes {
		b = append(b, h[:]...)
	}
	return b
}

func decodeLedgerRow(b []byte) (ledgerRow, error) {
	if len(b) < 32 || len(b)%32 != 0 {
		return ledgerRow{}, fmt.Errorf("reading ledger row: %w", record.ErrMalformed)
	}
	hashes := make([]record.Hash, 0, len(b)/32-1)
	for p := b[32:]; len(p) > 0; p = p[32:] {
		hashes = append(hashes, record.Hash(p[:32]))
	}
	edge, err := record.NewRange(binary.BigEndian.Uint64(b[24:]), hashes)
	if err != nil {
		return ledgerRow{}, err
	}
	return ledgerRow{int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:]), edge}, nil
}

func encodeHead(h record.TreeHead, rest []byte) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 40+len(rest)), h.Size)
	b = append(b, h.Root[:]...)
	return append(b, rest...)
}

func decodeHead(b []byte) (record.TreeHead, []byte, error) {
	if len(b) < 40 {
		return record.TreeHead{}, nil, fmt.Errorf("reading tree head: %w", record.ErrMalformed)
	}
	return record.TreeHead{Size: binary.BigEndian.Uint64(b), Root: record.Hash(b[8:40])}, b[40:], nil
}
