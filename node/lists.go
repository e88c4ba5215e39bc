package node

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"sort"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

const (
	findMax       = 20
	candidatesMax = 2000 // people looked at for one search
	recentMax     = 20
	waitingMax    = 50
)

// Find ranks the people who share a token with the query.
func (n *Node) Find(ctx context.Context, s web.Session, query string) ([]web.PatientRow, error) {
	in, err := n.allow(ctx, s, policy.Find, "")
	if err != nil {
		return nil, err
	}
	if err := n.noteBox(ctx, in, policy.Find); err != nil { // who searched, never for what
		return nil, explain(err)
	}
	type hit struct {
		c    record.CompartmentID
		row  chart.Row
		cost int
	}
	seen := map[record.CompartmentID]bool{}
	var hits []hit
	for _, t := range chart.QueryTokens(query) {
		prefix := n.tokenKey(t, record.CompartmentID{})
		prefix = prefix[:len(prefix)-16]
		var found []record.CompartmentID
		err := n.store.ScanRows(prefix, candidatesMax, func(k, _ []byte) bool {
			c := record.CompartmentID(k[len(k)-16:])
			if !seen[c] {
				seen[c] = true
				found = append(found, c)
			}
			return len(seen) < candidatesMax
		})
		if err != nil {
			return nil, explain(err)
		}
		for _, c := range found {
			row, ok, err := n.row(c)
			if err != nil {
				return nil, explain(err)
			}
			if cost, near := chart.Rank(query, row); ok && near {
				hits = append(hits, hit{c, row, cost})
			}
		}
	}
	sort.Slice(hits, func(i, j int) bool {
		a, b := hits[i], hits[j]
		if a.cost != b.cost {
			return a.cost < b.cost
		}
		if a.row.LastVisit != b.row.LastVisit {
			return a.row.LastVisit > b.row.LastVisit
		}
		return a.c.String() < b.c.String()
	})
	out, view := []web.PatientRow{}, n.may(in, policy.View, "")
	for _, h := range hits[:min(findMax, len(hits))] {
		st, err := n.patientState(h.c)
		if err != nil {
			return nil, explain(err)
		}
		row := web.PatientRow{ID: h.c.String(), Row: h.row, State: st}
		if view {
			if row.Sealed, err = n.shutIn(h.c); err != nil {
				return nil, explain(err)
			}
		}
		out = append(out, row)
	}
	return out, nil
}

func (n *Node) row(c record.CompartmentID) (chart.Row, bool, error) {
	p, ok, err := n.personRow(c)
	if err != nil || !ok {
		return chart.Row{}, false, err
	}
	row, err := chart.DecodeRow(p.Row)
	return row, err == nil, err
}

// patientState is that of the compartment's newest record.
func (n *Node) patientState(c record.CompartmentID) (chart.State, error) {
	recs, err := n.store.Compartment(c)
	if err != nil || len(recs) == 0 {
		return chart.State{}, err
	}
	st, err := n.newStates()
	if err != nil {
		return chart.State{}, err
	}
	return st.of(recs[len(recs)-1].Record.RID())
}

// registeredRow is one line of who came today: reg/ ^hlc compartment.
func registeredKey(hlc uint64, c record.CompartmentID) []byte {
	return append(binary.BigEndian.AppendUint64([]byte("reg/"), math.MaxUint64-hlc), c[:]...)
}

func hlcOfKey(k []byte, prefix string) uint64 {
	return math.MaxUint64 - binary.BigEndian.Uint64(k[len(prefix):])
}

// Today lists who waits and what was done last, as far as who asks may know.
func (n *Node) Today(ctx context.Context, s web.Session) (web.Today, error) {
	in, err := n.staff.get(s.Token, true)
	if err != nil {
		return web.Today{}, err
	}
	t := web.Today{Counts: n.Counts(ctx)}
	if n.may(in, policy.Oversee, "") {
		if t.Emergencies, t.Late, err = n.waitingEmergencies(); err != nil {
			return t, explain(err)
		}
	}
	if !n.may(in, policy.Find, "") {
		return t, nil
	}
	if !n.hasSeen(in, seenLook{action: actionCode(policy.Find)}) { // names without a search: a line for each session
		err := n.noteBox(ctx, in, policy.Find)
		if errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrFault) {
			return t, nil // no line, no names; the page says why
		}
		if err != nil {
			return web.Today{}, err
		}
	}
	if t.Recent, err = n.recentVisits(in); err != nil {
		return t, explain(err)
	}
	for i := range t.Recent { // what somebody came with stays closed with the chart
		if v := &t.Recent[i]; !n.may(in, policy.View, v.PatientID) {
			v.Problem = ""
		}
	}
	var since time.Time
	if len(t.Recent) == recentMax { // older ones are in no list
		since = t.Recent[recentMax-1].At
	}
	if t.Sealed, err = n.shutSince(since); err != nil {
		return t, explain(err)
	}
	t.Waiting, err = n.waiting(t.Recent)
	if !n.may(in, policy.View, "") {
		t.Recent, t.Sealed = nil, 0 // it tells what people came with
	}
	return t, explain(err)
}

// waiting are those registered in the last half day who have no visit since, and
// those whose visit of the last half day is urgent; urgent first.
func (n *Node) waiting(recent []web.VisitRow) ([]web.Waiting, error) {
	since := n.o.Now().Add(-12 * time.Hour)
	seen := map[string]bool{}
	var urgent, plain []web.Waiting
	for _, v := range recent {
		if v.Urgent && v.At.After(since) && !seen[v.PatientID] {
			urgent = append(urgent, web.Waiting{PatientID: v.PatientID, Row: v.Row, Urgent: true, Since: v.At})
		}
		if v.At.After(since) {
			seen[v.PatientID] = true
		}
	}
	var keys [][]byte
	err := n.store.ScanRows([]byte("reg/"), 4*waitingMax, func(k, _ []byte) bool {
		if timeOfHLC(hlcOfKey(k, "reg/")).Before(since) {
			return false
		}
		keys = append(keys, append([]byte(nil), k...))
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		c := record.CompartmentID(k[len(k)-16:])
		row, ok, err := n.row(c)
		if err != nil {
			return nil, err
		}
		at := timeOfHLC(hlcOfKey(k, "reg/"))
		if !ok || seen[c.String()] || row.LastVisit >= at.Format(time.DateOnly) {
			continue
		}
		plain = append(plain, web.Waiting{PatientID: c.String(), Row: row, Since: at})
	}
	sort.SliceStable(plain, func(i, j int) bool { return plain[i].Since.Before(plain[j].Since) })
	all := append(urgent, plain...)
	return all[:min(waitingMax, len(all))], nil
}

// visitProblem is the problem's code of our own forms, else its words.
func visitProblem(v *chart.Visit) string {
	if code := v.View.Reason.Code(fhir.SystemProblem); code != "" && code != "other" {
		return code
	}
	if v.View.Reason.Text != "" {
		return v.View.Reason.Text
	}
	return v.View.Type.Text
}
