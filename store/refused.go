package store

import (
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// Refusal is a final verdict on a record held here. The record stays on disk and
// on screen.
type Refusal struct {
	record.Outcome
	Position record.Position
	By       record.DeviceID // whose answer it is; zero for this box's own ordering
	Record   record.Record   // with its body

	moved bool // the row holds the record itself
}

// refusedArray is a refusal at rest. Header and body are set when the record gave
// up its place to the one that was ordered there.
type refusedArray struct {
	_       struct{} `cbor:",toarray"`
	Epoch   []byte
	Lane    uint8
	N       uint64
	Verdict uint8
	Seq     uint64
	Want    uint64
	By      []byte
	Header  []byte
	Body    []byte
}

func (l lookup) refusal(rid record.RID) (Refusal, bool, error) {
	key := keyRID(pRefused, rid)
	b, ok, err := l.get(key)
	if err != nil || !ok {
		return Refusal{}, false, err
	}
	r, err := l.decodeRefusal(key, rid, b)
	return r, err == nil, err
}

func (l lookup) decodeRefusal(key []byte, rid record.RID, b []byte) (Refusal, error) {
	var a refusedArray
	if err := record.Unmarshal(b, &a); err != nil || len(a.Epoch) != 16 || len(a.By) != 32 || a.Lane >= record.LaneCount {
		return Refusal{}, damagedRow(key, "refusal")
	}
	r := Refusal{Outcome: record.Outcome{RID: rid, Verdict: record.Verdict(a.Verdict), Seq: a.Seq, Want: a.Want},
		Position: record.Position{Epoch: record.EpochID(a.Epoch), Lane: record.Lane(a.Lane), N: a.N}, By: record.DeviceID(a.By)}
	if len(a.Header) > 0 {
		rec, err := record.DecodeHeader(a.Header)
		if err != nil || rec.RID() != rid {
			return r, damagedRow(key, "record of a refusal")
		}
		r.Record, r.moved = rec.WithBody(a.Body), true
		return r, nil
	}
	p, ok, err := l.pending(r.Position)
	if err == nil && (!ok || p.Record.RID() != rid) {
		err = &DamageError{What: "refused record is missing", RID: rid}
	}
	r.Record = p.Record
	return r, err
}

// Limits of what is kept of the records of one author that never were pending
// here. The oldest stay: whoever writes a thousand second records has proven
// enough.
const (
	refusedKeptMax  = 1000
	refusedBytesMax = 16 << 20
)

// refusedKept is how much of an author's refused records is kept with its bytes.
type refusedKept struct{ records, bytes int }

// ofAuthor says whether a verdict proves that the author signed what no rule lets
// it write, whoever passed the record on.
func ofAuthor(v record.Verdict) bool {
	return v == record.Equivocation || v == record.BadPrev || v == record.Frozen
}

// keepRefused keeps a record, verified to be the author's, that has no place here.
func (t *tx) keepRefused(r *record.Record, author record.DeviceID, out record.Outcome) error {
	have, change := t.s.kept[author], t.kept[author]
	size := len(r.Body) + record.HeaderBytesMax
	if have.records+change.records >= refusedKeptMax || have.bytes+change.bytes+size > refusedBytesMax {
		return nil
	}
	return t.putRefusal(out, r.Position(), record.DeviceID{}, r)
}

// countKept counts a refusal that is written or removed.
func (t *tx) countKept(r *record.Record, sign int) error {
	e, ok, err := t.lookup().epoch(r.Position().Epoch)
	if err != nil || !ok {
		return err
	}
	k := t.kept[e.Device]
	k.records += sign
	k.bytes += sign * (len(r.Body) + record.HeaderBytesMax)
	t.kept[e.Device] = k
	return nil
}

// loadKept counts the refusals on the disk. What is damaged is not counted: Verify
// names it.
func (s *Store) loadKept(l lookup) error {
	s.kept = map[record.DeviceID]refusedKept{}
	return l.rows.(*view).scanRaw([]byte{pRefused}, nil, false, func(key, row []byte) (bool, error) {
		var a refusedArray
		value, err := openRow(key, row)
		if err != nil || record.Unmarshal(value, &a) != nil || len(a.Epoch) != 16 || len(a.Header) == 0 {
			return true, nil
		}
		e, _, err := l.epoch(record.EpochID(a.Epoch))
		if err != nil && !errors.Is(err, ErrDamaged) {
			return false, err
		}
		k := s.kept[e.Device]
		k.records, k.bytes = k.records+1, k.bytes+len(a.Body)+record.HeaderBytesMax
		s.kept[e.Device] = k
		return true, nil
	})
}

// dropRefusal removes a refusal of a record that is an entry now.
func (t *tx) dropRefusal(rid record.RID) error {
	r, ok, err := t.lookup().refusal(rid)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	if err == nil && ok && r.moved {
		if err := t.countKept(&r.Record, -1); err != nil {
			return err
		}
	}
	if ok || err != nil {
		t.unset(keyRID(pRefused, rid))
	}
	return nil
}

func (t *tx) putRefusal(out record.Outcome, pos record.Position, by record.DeviceID, moved *record.Record) error {
	a := refusedArray{Epoch: pos.Epoch[:], Lane: uint8(pos.Lane), N: pos.N, Verdict: uint8(out.Verdict), Seq: out.Seq, Want: out.Want, By: by[:], Header: []byte{}, Body: []byte{}}
	if moved != nil {
		a.Header, a.Body = moved.EncodeHeader(), moved.Body
		if err := t.countKept(moved, 1); err != nil {
			return err
		}
	}
	b, err := record.Marshal(a)
	if err != nil {
		return err
	}
	t.put(keyRID(pRefused, out.RID), b)
	return nil
}

// moveRefused keeps a pending record as refused, with its bytes, and frees its place.
func (t *tx) moveRefused(p pendingRow, v record.Verdict) error {
	rid, pos := p.Record.RID(), p.Record.Position()
	if err := t.putRefusal(record.Outcome{RID: rid, Verdict: v}, pos, record.DeviceID{}, &p.Record); err != nil {
		return err
	}
	t.unset(keyIndexRID(rid))
	return t.removePending(&p)
}

// refuse notes this box's own final verdict on a record that it holds pending. Of
// one that it does not hold it keeps what ofAuthor says.
func (t *tx) refuse(out record.Outcome, r *record.Record) error {
	pos := r.Position()
	p, ok, err := t.lookup().pending(pos)
	if err != nil {
		return err
	}
	if !ok || p.Record.RID() != out.RID {
		return t.refuseStranger(out, r)
	}
	if err := t.putRefusal(out, pos, record.DeviceID{}, nil); err != nil {
		return err
	}
	if pos.N == 0 {
		e, _, err := t.lookup().epoch(pos.Epoch)
		e.Refused = true
		t.put(keyEpoch(pos.Epoch), e.encode())
		return err
	}
	f, _, err := t.lookup().feed(pos.Feed())
	if err == nil && (f.Refused == 0 || pos.N < f.Refused || f.Refused <= f.Ordered.N) {
		f.Refused = pos.N
		t.put(keyFeed(pFeed, pos.Feed()), f.encode())
	}
	return err
}

func (t *tx) refuseStranger(out record.Outcome, r *record.Record) error {
	known, err := t.has(keyRID(pRefused, out.RID))
	if err != nil || known || !ofAuthor(out.Verdict) {
		return err
	}
	e, ok, err := t.lookup().epoch(r.Position().Epoch)
	if err != nil || !ok || r.Body == nil || t.s.checkRecord(r, e.Device) != record.Ordered {
		return err
	}
	return t.keepRefused(r, e.Device, out)
}

// refuseBranch notes what was pending behind a record that lost its place: it
// continues nothing now. The records stay where they are, and on screen.
func (t *tx) refuseBranch(f record.Feed, from, to uint64) error {
	for n := from; n <= to && n < from+refusedMax; n++ {
		p, ok, err := t.lookup().pending(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: n})
		if errors.Is(err, ErrDamaged) || err == nil && !ok {
			continue
		}
		if err != nil {
			return err
		}
		if err := t.putRefusal(record.Outcome{RID: p.Record.RID(), Verdict: record.BadPrev}, p.Record.Position(), record.DeviceID{}, nil); err != nil {
			return err
		}
	}
	return nil
}

// PutRefused keeps another box's final verdict on a record held pending here,
// durable on return. It goes away when the record is ordered after all. A record
// that is not pending here changes nothing.
func (s *Store) PutRefused(out record.Outcome, by record.DeviceID) error {
	if !out.Verdict.Final() {
		return fmt.Errorf("keeping a refusal: %w: verdict %q is not final", ErrRefused, out.Verdict)
	}
	t, err := s.begin(nil)
	if err != nil {
		return fmt.Errorf("keeping a refusal: %w", err)
	}
	row, ok, err := t.lookup().locate(out.RID)
	var p pendingRow
	if err == nil && ok && row.Pending {
		p, ok, err = t.lookup().pending(row.Position)
	}
	have := false
	if err == nil {
		have, err = t.has(keyRID(pRefused, out.RID))
	}
	if err != nil || !ok || !row.Pending || have || p.Record.RID() != out.RID {
		t.drop()
		return err
	}
	err = t.putRefusal(out, row.Position, by, nil)
	if err == nil {
		err = t.lookAgain(row.Position)
	}
	if err != nil {
		t.drop()
		return err
	}
	return t.commit()
}

// lookAgain has the work list take in what was said of a pending record: of an
// opening record in every lane of its epoch.
func (t *tx) lookAgain(pos record.Position) error {
	if pos.N > 0 {
		t.put(keyFeed(pWork, pos.Feed()), nil)
		return nil
	}
	e, ok, err := t.lookup().epoch(pos.Epoch)
	if err == nil && ok {
		t.put(keyEpoch(pos.Epoch), e.encode())
	}
	return err
}

const refusedMax = 10_000

// Refused lists the records held here that were refused for good, at most 10,000.
// One that is damaged is left out: Verify names it.
func (s *Store) Refused() ([]Refusal, error) {
	var out []Refusal
	err := s.read(func(l lookup) error {
		return l.rows.(*view).scanRaw([]byte{pRefused}, nil, false, func(key, row []byte) (bool, error) {
			value, err := openRow(key, row)
			if err != nil || len(key) != 33 {
				return true, nil
			}
			r, err := l.decodeRefusal(key, record.RID(key[1:]), value)
			if errors.Is(err, ErrDamaged) {
				return true, nil
			}
			out = append(out, r)
			return len(out) < refusedMax, err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing refused records: %w", err)
	}
	return out, nil
}

// RefusedMark changes whenever a refusal comes or goes: as long as it is the same,
// so is what Refused lists.
func (s *Store) RefusedMark() uint64 {
	c := s.shown.Load().state.counts.kinds[countRefused]
	return c.xor + c.n
}
