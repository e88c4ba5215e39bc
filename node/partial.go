package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// joinRecent is how many of the newest entries a box that joins takes before all
// others: some weeks of a district, at 1 Mbit/s in less than half a minute.
const joinRecent = 4096

var _ peersync.Partial = replica{}

// IsPartial says whether the ledger calls a device's replica partial.
func (r replica) IsPartial(d record.DeviceID) (bool, error) { return r.n.holdsPart(d) }

func (n *Node) holdsPart(d record.DeviceID) (bool, error) {
	mode, err := record.ModeOf(n.store.State(), d)
	return mode == record.ModePartial, err
}

// selfPartial is holdsPart of this box. Boxes that order hold everything.
func (n *Node) selfPartial() bool {
	part, err := n.holdsPart(n.author.Device)
	if err != nil {
		n.log.Error().Err(err).Msg("the profile of this box cannot be read; it takes whole entries")
	}
	return part && !n.box.Role.Orders()
}

func (r replica) SpanFor(d record.DeviceID, from, to uint64, bytesMax int, pending ...record.Feed) (record.Span, error) {
	s, err := r.Store.SpanFor(d, from, to, bytesMax, pending...)
	return record.Span(s), err
}

// ExtendSpan is Extend with gaps. A box that orders has its ledger from the log.
func (r replica) ExtendSpan(ctx context.Context, s *record.Span, target record.TreeHead, proof []record.Hash) error {
	if r.n.frozen() {
		return errFrozen
	}
	if r.n.box.Role.Orders() {
		return fmt.Errorf("extending the ledger: %w: a box that orders holds every entry", store.ErrRefused)
	}
	if err := r.founded(s.Entries); err != nil {
		return err
	}
	err := r.Store.ExtendSpan(ctx, store.Span(*s), target, proof)
	if err == nil {
		return r.n.checkSeed()
	}
	return errors.Join(err, r.Store.Barrier(ctx))
}

func (r replica) Fill(ctx context.Context, from uint64, entries []record.Entry, openings []record.Record, left, right []record.Hash, head record.TreeHead) (int, error) {
	if r.n.frozen() {
		return 0, errFrozen
	}
	n, err := r.Store.Fill(ctx, from, entries, openings, left, right, head)
	if err != nil {
		return n, errors.Join(err, r.Store.Barrier(ctx))
	}
	return n, nil
}

func (r replica) HolesBefore(size uint64, limit int) ([]record.Hole, error) {
	list, err := r.Store.HolesBefore(size, limit)
	out := make([]record.Hole, 0, len(list))
	for _, h := range list {
		out = append(out, record.Hole(h))
	}
	return out, err
}

func (r replica) GapsOf(c record.CompartmentID, from uint64, limit int) ([]record.Hole, error) {
	return r.Store.GapsOf(c, from, limit)
}

// Missing lists compartments of the profile with entries known to be absent, and
// assigned ones of which nobody gave all yet.
func (r replica) Missing(limit int) ([]record.CompartmentID, error) {
	var out []record.CompartmentID
	if !r.Store.HasHoles() {
		return nil, nil
	}
	self := r.n.author.Device
	known, err := r.Store.Missing(limit)
	if err != nil {
		return nil, err
	}
	for _, c := range known {
		if in, err := r.Store.InProfile(self, c); err != nil {
			return nil, err
		} else if in {
			out = append(out, c)
		}
	}
	more, err := r.Store.Lacking(self, limit)
	return append(out, more...), err
}

// HasAll notes that a hub gave all of a compartment.
func (r replica) HasAll(ctx context.Context, c record.CompartmentID, size uint64) error {
	return r.Store.SetHad(ctx, c, size)
}

// MayHold says whether a device may be given a compartment's entries: every member
// with the region's reading key may, a field device what its profile has.
func (r replica) MayHold(d record.DeviceID, c record.CompartmentID) (bool, error) {
	m, ok, err := r.Store.Member(d)
	if err != nil || !ok || !m.Active() {
		return false, err
	}
	if m.Role != record.RoleField {
		return true, nil
	}
	if part, err := r.n.holdsPart(d); err != nil || !part {
		return err == nil, err
	}
	return r.Store.InProfile(d, c)
}

// chartPatience is how long opening a chart waits for entries that are not here.
const chartPatience = 4 * time.Second

// completeChart asks others for what is known to be missing of a compartment. Where
// nobody can be asked in time the chart opens with what is here.
func (n *Node) completeChart(ctx context.Context, c record.CompartmentID) (fetched bool) {
	missing, err := n.store.MissingOf(c)
	if err != nil || !missing {
		return false
	}
	r := n.up.Load()
	if r == nil {
		return false
	}
	live := r.links.live.Load()
	if live == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, chartPatience)
	defer cancel()
	got, err := live.FetchCompartment(ctx, c, func() (bool, error) { return n.store.MissingOf(c) })
	if err != nil {
		n.log.Info().Err(err).Int("entries", got).Msg("a chart is opened without all of its entries")
	}
	return got > 0
}
