package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// Boxes that do not order say once a day, in the ledger itself, which ledger they
// have verified; opening records say it at every start. Every box compares what
// others say with its own tree: who forks a history has to leave these records out
// or be contradicted by them.
//
//	at/attest      [day of ledger time, size attested last]
//	at/said/ device  size that a box said last that it holds, of this ledger; 8 bytes
type attestRow struct {
	_    struct{} `cbor:",toarray"`
	Day  uint64   // since 1970
	Size uint64
}

var attestKey = []byte("at/attest")

const daySeconds = 24 * 60 * 60

// attest writes what this box has verified, once a day of ledger time when it grew.
func (n *Node) attest(ctx context.Context) error {
	_, head, ok := n.store.Final()
	if !ok || n.box.Role.Orders() || n.frozen() {
		return nil
	}
	day := uint64(max(n.store.State().LastTime(), 0)) / daySeconds
	var last attestRow
	raw, err := n.store.GetRow(attestKey)
	if err == nil {
		err = record.Unmarshal(raw, &last)
	}
	first := errors.Is(err, store.ErrNotFound)
	if err != nil && !first {
		return fmt.Errorf("reading what was attested last: %w", err)
	}
	if !first && (day <= last.Day || head.Size <= last.Size) {
		return nil
	}
	row, err := record.Marshal(attestRow{Day: day, Size: head.Size})
	if err != nil {
		return err
	}
	rows := []store.Row{{Key: attestKey, Value: row}}
	if first { // the opening record speaks for today
		return n.store.PutRows(ctx, rows)
	}
	body, err := record.Marshal(record.Attest{Size: head.Size, Root: head.Root[:]})
	if err != nil {
		return err
	}
	_, err = n.append(ctx, []store.Draft{{Lane: record.LaneAudit, Kind: record.KindAttest, Seal: func(record.Position) ([]byte, error) { return body, nil }}},
		func([]record.Record) ([]store.Row, error) { return rows, nil })
	return err
}

// compareLedgers looks at what an ordered record says of the ledger that its
// author verified.
func (p *projection) compareLedgers(seq uint64, r *record.Record, d record.DeviceID) error {
	var said record.TreeHead
	switch r.Core.Kind {
	case record.KindAttest:
		a, err := record.DecodeAttest(r.Body)
		if err != nil {
			return nil // ordered by rules that a newer version has
		}
		said = a.Head()
	case record.KindEpochOpen:
		open, err := record.DecodeEpochOpen(r.Body)
		if err != nil {
			return nil
		}
		said = record.TreeHead{Size: open.Size, Root: record.Hash(open.Root)}
	default:
		return nil
	}
	if said.Size == 0 || said.Size > seq {
		return nil
	}
	root, err := p.n.store.RootAt(said.Size)
	if errors.Is(err, store.ErrHole) {
		return nil // who holds a part cannot tell
	}
	if err != nil {
		return err
	}
	if root == said.Root {
		p.put(saidRow(d, said.Size))
		return nil
	}
	p.n.log.Error().Uint64("size", said.Size).Str("device", d.Short()).Msg("a box has verified another ledger")
	return p.n.notifyOnce(noticeOtherLedger, d[:], p.n.deviceName(d))
}

func saidRow(d record.DeviceID, size uint64) store.Row {
	return store.Row{Key: append([]byte("at/said/"), d[:]...), Value: binary.BigEndian.AppendUint64(nil, size)}
}

// said is the size of the ledger that a box said last that it holds; 0 when it never
// did.
func (n *Node) said(d record.DeviceID) (uint64, error) {
	b, err := n.store.GetRow(saidRow(d, 0).Key)
	if errors.Is(err, store.ErrNotFound) || err == nil && len(b) != 8 {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading what a box holds: %w", err)
	}
	return binary.BigEndian.Uint64(b), nil
}

// heardEvidence keeps evidence that came by way of the ledger.
func (p *projection) heardEvidence(r *record.Record, d record.DeviceID) error {
	if r.Core.Kind != record.KindEvidence {
		return nil
	}
	e, err := record.DecodeEvidence(r.Body)
	if err != nil {
		return nil
	}
	err = p.n.keepEvidence(d, e)
	if errors.Is(err, record.ErrNotProven) || errors.Is(err, record.ErrMalformed) || errors.Is(err, errNoEvidence) {
		return nil
	}
	return err
}
