package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// Lists are made of what this box opens. What is sealed under closed keys that it was not handed is in none of
// them, and each list says how much that is:
//
//	shut/ compartment     8 bytes: how many entries of the chart
//	shv/ ^hlc rid         sealed: the compartment of one that was written on this box

const (
	shutVisitPrefix = "shv/"
	shutVisitsMax   = 100 // counted for one list
	shutRowsMax     = 1 << 20
)

// shutVisit is an entry of this box that it cannot open any more.
type shutVisit struct {
	hlc uint64
	rid record.RID
}

func shutKey(c record.CompartmentID) []byte { return append([]byte("shut/"), c[:]...) }

// shut keeps the rows. Where nothing is closed, and nothing was, there is none.
func (p *projection) shut(c record.CompartmentID, left *unread) error {
	was, err := p.n.store.GetRow(shutKey(c))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if left.closed.Records == 0 && was == nil {
		return nil
	}
	var now []byte // none: the row goes
	if left.closed.Records > 0 {
		now = binary.BigEndian.AppendUint64(nil, uint64(left.closed.Records))
	}
	if !bytes.Equal(was, now) {
		p.put(store.Row{Key: shutKey(c), Value: now})
	}
	for _, v := range left.shut {
		if err := p.putChanged(visitKey(shutVisitPrefix, v.hlc, v.rid), c[:]); err != nil {
			return err
		}
	}
	if was == nil {
		return nil
	}
	return p.reopened(c, left)
}

// reopened removes the rows of what opens again.
func (p *projection) reopened(c record.CompartmentID, left *unread) error {
	var keys [][]byte
	err := p.n.store.ScanRows([]byte(shutVisitPrefix), shutRowsMax, func(k, _ []byte) bool { keys = append(keys, slices.Clone(k)); return true })
	for _, k := range keys {
		if err != nil {
			return err
		}
		var of []byte
		if of, _, err = p.n.rowPlain(k); err == nil && bytes.Equal(of, c[:]) &&
			!slices.ContainsFunc(left.shut, func(v shutVisit) bool { return bytes.HasSuffix(k, v.rid[:]) }) {
			p.put(store.Row{Key: k})
		}
	}
	return err
}

// shutKnown tells that the rows of all charts were made once.
var shutKnown = []byte("at/shut")

// shutAll makes the rows of charts that were limited before there were such rows: once.
func (n *Node) shutAll(ctx context.Context) error {
	if n.hasRow(shutKnown) || n.keys.Locked() {
		return nil
	}
	n.projectMu.Lock()
	defer n.projectMu.Unlock()
	p := &projection{n: n, ctx: ctx, dirty: map[record.CompartmentID]bool{}}
	err := n.store.ScanRows([]byte("may/"), shutRowsMax, func(k, v []byte) bool {
		if c := bytes.TrimPrefix(k, []byte("may/")); !bytes.Equal(v, openToAll) && len(c) == len(record.CompartmentID{}) {
			p.touch(record.CompartmentID(c))
		}
		return ctx.Err() == nil
	})
	for _, c := range p.order {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		err = p.compartment(c)
	}
	if err != nil {
		return err
	}
	p.put(store.Row{Key: shutKnown, Value: []byte{1}})
	return p.flush()
}

// shutIn is how many entries of a chart are sealed under keys that are not here.
func (n *Node) shutIn(c record.CompartmentID) (int, error) {
	raw, err := n.store.GetRow(shutKey(c))
	if errors.Is(err, store.ErrNotFound) || err == nil && len(raw) != 8 {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return int(min(binary.BigEndian.Uint64(raw), math.MaxInt32)), nil
}

// shutSince counts what was written here since a time and cannot be opened here any more, as far as it is
// counted for a list.
func (n *Node) shutSince(at time.Time) (count int, err error) {
	err = n.store.ScanRows([]byte(shutVisitPrefix), shutVisitsMax, func(k, _ []byte) bool {
		if len(k) < len(shutVisitPrefix)+8 || timeOfHLC(hlcOfKey(k, shutVisitPrefix)).Before(at) {
			return false
		}
		count++
		return true
	})
	return count, err
}
