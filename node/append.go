package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// append writes records of this box. On return they are durable, and the
// projection of what they touch is up to date on this box.
//
//  1. the process's epoch is open       <- its own transaction, once
//  2. the region is founded, or this is the founding
//  3. records, indexes and rows         <- the commit point
//  4. the projection                    <- goes on at the next change or start when cut here
func (n *Node) append(ctx context.Context, drafts []store.Draft, rows func([]record.Record) ([]store.Row, error)) ([]record.Record, error) {
	if err := n.openEpoch(ctx); err != nil {
		return nil, err
	}
	placed, err := n.place(ctx, drafts, rows)
	if err != nil {
		return nil, err
	}
	n.recount()
	if err := n.projectNow(); err != nil && !errors.Is(err, store.ErrFull) {
		return nil, err
	}
	return placed, nil // with the disk full by now the lists follow later; what was saved is saved
}

// appendControl writes one readable control record.
func (n *Node) appendControl(ctx context.Context, k record.Kind, body []byte) (record.Record, error) {
	placed, err := n.append(ctx, []store.Draft{{Lane: record.LaneControl, Kind: k, Seal: func(record.Position) ([]byte, error) { return body, nil }}}, nil)
	if err != nil {
		return record.Record{}, err
	}
	return placed[0], nil
}

// openEpoch begins this process's epoch before its first record. An epoch that
// comes after the founding one waits until the founding is in the ledger, so
// that the ledger always starts with the founder.
func (n *Node) openEpoch(ctx context.Context) error {
	n.epochMu.Lock()
	defer n.epochMu.Unlock()
	if n.epochOpen {
		return nil
	}
	if region, ok := n.box.RegionID(); ok && n.box.Role.Orders() && n.store.Head().Size < 2 {
		if err := n.waitOrdered(ctx, record.RID(region)); err != nil {
			return err
		}
	}
	if err := n.beginEpoch(ctx); err != nil {
		return err
	}
	n.epochOpen = true
	return nil
}

func (n *Node) beginEpoch(ctx context.Context) error {
	n.own.mu.Lock()
	defer n.own.mu.Unlock()
	id, err := n.store.BeginEpoch(ctx, n.author, n.opening, n.hlc, n.clock.trust())
	if err != nil {
		return fmt.Errorf("beginning an epoch: %w", err)
	}
	n.own.epochs[id], n.own.current = true, id
	return nil
}

func (n *Node) opening(pred record.EpochID, heads [record.LaneCount]uint64, size uint64, root record.Hash) record.EpochOpen {
	e := record.EpochOpen{Device: n.author.Device[:], Nonce: make([]byte, 16), Hardware: hardware(), Predecessor: []byte{}, Heads: []uint64{},
		ClockMillis: n.o.Now().UnixMilli(), Software: Version, Size: size, Root: root[:]}
	rand.Read(e.Nonce) // never fails: it ends the process instead
	if pred != (record.EpochID{}) {
		e.Predecessor, e.Heads = pred[:], heads[:]
	}
	return e
}

func (n *Node) hlc(last uint64) uint64 { return max(last+1, hlcFrom(n.o.Now())) }

// hardware is a hash over what tells one board and card from another, where the
// kernel tells it; the same on every start of the same box.
func hardware() []byte {
	h := sha256.New()
	for _, path := range []string{"/sys/firmware/devicetree/base/serial-number", "/sys/block/mmcblk0/device/cid", "/etc/machine-id", "/sys/class/dmi/id/product_uuid"} {
		b, err := os.ReadFile(path)
		if err == nil {
			fmt.Fprintf(h, "%s\x00%s\x00", path, strings.TrimSpace(string(b)))
		}
	}
	return h.Sum(nil)
}
