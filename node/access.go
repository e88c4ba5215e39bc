package node

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
)

// Every look at a chart leaves a line: first in a chain on this box, durable
// before anything is shown, then, some dozens at a time, in an access record of
// the ledger. A batch says where its chain starts and ends, so a gap shows.
//
//	acc/ n (8)      sealed line, deleted by the transaction that puts it into a record
//	at/access       sealed: n and hash of the newest line of the chain

type accessAction uint8

const (
	accessView   accessAction = 1
	accessExport accessAction = 2
	accessPrint  accessAction = 3 // a proof on paper

	// accessRefused with the code of an action: it was asked for and not allowed.
	accessRefused accessAction = 0x80
)

// actionCodes number what can be refused. The numbers stand in the ledger.
var actionCodes = map[policy.Action]accessAction{policy.View: accessView, policy.Prove: accessPrint,
	policy.Identify: 4, policy.Write: 5, policy.Amend: 6, policy.Retract: 7, policy.Give: 8, policy.Find: 9,
	policy.Register: 10, policy.Links: 11, policy.Carry: 12, policy.Staff: 13, policy.Review: 14}

func actionCode(a policy.Action) accessAction { return actionCodes[a] }

// accessRepeat: opening the same chart again within this time is the same look,
// as a page that reloads after a save is.
const accessRepeat = 5 * time.Minute

type accessLine struct {
	_           struct{} `cbor:",toarray"`
	N           uint64
	Prev        []byte // SHA-256 of the line before, as encoded; zeros for the first
	HLC         uint64
	Action      uint8
	Staff       string // staff id on this box; empty for a command
	Compartment []byte // 16, or empty for all
}

type accessBatch struct {
	_     struct{} `cbor:",toarray"`
	V     uint8
	Lines [][]byte // accessLine each, in order
}

type accessHead struct {
	_    struct{} `cbor:",toarray"`
	N    uint64
	Hash []byte
}

type accessLog struct {
	mu     sync.Mutex // orders the chain
	loaded bool
	head   accessHead // newest line; guarded by mu
	open   int        // lines not yet in a record; guarded by mu
}

var accessHeadKey = []byte("at/access")

func accessKey(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte("acc/"), n) }

// seenLook is what makes two lines of a session the same look.
type seenLook struct {
	action accessAction
	about  record.CompartmentID // zeros for what is about no chart
}

// noteAccess makes the line durable. The same person doing the same with the same chart
// again within accessRepeat is the same look.
func (n *Node) noteAccess(ctx context.Context, in *signedIn, c record.CompartmentID, a accessAction) error {
	if err := n.noteLook(ctx, in, seenLook{a, c}, c[:]); err != nil {
		return fmt.Errorf("noting the access: %w", err)
	}
	return nil
}

func (n *Node) noteLook(ctx context.Context, in *signedIn, l seenLook, about []byte) error {
	n.staff.mu.Lock()
	last, again := in.seen[l]
	n.staff.mu.Unlock()
	now := n.staff.now()
	if again && now.Sub(last) < accessRepeat && !now.Before(last) {
		return nil
	}
	if err := n.accessLine(ctx, in.session.StaffID, about, l.action); err != nil {
		return err
	}
	n.staff.mu.Lock()
	in.seen[l] = now
	n.staff.mu.Unlock()
	return nil
}

func (n *Node) accessLine(ctx context.Context, staff string, c []byte, a accessAction) error {
	n.access.mu.Lock()
	defer n.access.mu.Unlock()
	if err := n.loadAccessLocked(); err != nil {
		return err
	}
	line := accessLine{N: n.access.head.N + 1, Prev: n.access.head.Hash, HLC: hlcFrom(n.o.Now()), Action: uint8(a), Staff: staff, Compartment: c}
	plain, err := record.Marshal(line)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(plain)
	head := accessHead{N: line.N, Hash: sum[:]}
	headPlain, err := record.Marshal(head)
	if err != nil {
		return err
	}
	row, err := n.sealedRow(accessKey(line.N), plain)
	if err != nil {
		return err
	}
	headRow, err := n.sealedRow(accessHeadKey, headPlain)
	if err != nil {
		return err
	}
	if err := n.store.PutRowsReserved(ctx, []store.Row{row, headRow}); err != nil {
		return err
	}
	n.access.head = head
	n.access.open++
	if n.access.open >= accessBatchLines {
		err = n.flushAccessLocked(ctx)
	}
	if errors.Is(err, store.ErrFull) { // the line is durable; its record waits for room
		return nil
	}
	return err
}

func (n *Node) loadAccessLocked() error {
	if n.access.loaded {
		return nil
	}
	n.access.head = accessHead{Hash: make([]byte, 32)}
	if _, err := n.readRow(accessHeadKey, &n.access.head); err != nil {
		return err
	}
	open := 0
	if err := n.store.ScanRows([]byte("acc/"), 100_000, func(_, _ []byte) bool { open++; return true }); err != nil {
		return err
	}
	n.access.open, n.access.loaded = open, true
	return nil
}

// flushAccess puts the open lines into an access record.
func (n *Node) flushAccess(ctx context.Context) error {
	n.access.mu.Lock()
	defer n.access.mu.Unlock()
	if err := n.loadAccessLocked(); err != nil {
		return err
	}
	return n.flushAccessLocked(ctx)
}

func (n *Node) flushAccessLocked(ctx context.Context) error {
	region, ok := n.box.RegionID()
	if !ok || n.access.open == 0 {
		return nil
	}
	for n.access.open > 0 {
		batch := accessBatch{V: 1}
		var gone []store.Row
		var bad error
		err := n.store.ScanRows([]byte("acc/"), accessBatchLines, func(k, v []byte) bool {
			key := append([]byte(nil), k...)
			var l accessLine
			if _, bad = n.readRow(key, &l); bad != nil {
				return false
			}
			plain, err := record.Marshal(l)
			bad = err
			batch.Lines = append(batch.Lines, plain)
			gone = append(gone, store.Row{Key: key})
			return bad == nil
		})
		if err := errors.Join(err, bad); err != nil {
			return fmt.Errorf("reading the access log: %w", err)
		}
		if len(gone) == 0 {
			n.access.open = 0
			return nil
		}
		if err := n.appendAccess(ctx, region, batch, gone); err != nil {
			return fmt.Errorf("writing the access record: %w", err)
		}
		n.access.open -= len(gone)
	}
	return nil
}

func (n *Node) appendAccess(ctx context.Context, region record.RegionID, b accessBatch, gone []store.Row) error {
	plain, err := record.Marshal(b)
	if err != nil {
		return err
	}
	draft, err := n.sealedDraft(record.LaneAudit, record.KindAccess, directory(region), 0, plain)
	if err != nil {
		return err
	}
	if err := n.openEpoch(ctx); err != nil {
		return err
	}
	_, err = n.place(ctx, []store.Draft{draft}, func([]record.Record) ([]store.Row, error) { return gone, nil })
	return err
}

// accessLoop puts open lines into a record now and then, so that a quiet day's
// looks reach the ledger too.
func (n *Node) accessLoop(ctx context.Context) error {
	t := time.NewTicker(accessBatchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := n.flushAccess(ctx); err != nil && !errors.Is(err, store.ErrFull) && n.store.Err() == nil && ctx.Err() == nil {
				return err
			}
		}
	}
}
