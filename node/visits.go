package node

import (
	"cmp"
	"slices"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// apartVisitRow is one that is kept apart by sensitive topics. It has rows of its own, so that a program
// which knows no topics does not list it.
type apartVisitRow struct {
	_      struct{} `cbor:",toarray"`
	Visit  visitRow
	Topics uint8 // fhir.Topics
}

const (
	visitPrefix      = "vis/"
	apartVisitPrefix = "vst/"
)

// visit keeps the row of one visit.
func (p *projection) visit(v *chart.Visit, hlc uint64, row visitRow) error {
	rid := record.RID(row.RID)
	if v.Topics == 0 {
		plain, err := record.Marshal(row)
		if err != nil {
			return err
		}
		return p.putChanged(visitKey(visitPrefix, hlc, rid), plain)
	}
	if open := visitKey(visitPrefix, hlc, rid); p.n.hasRow(open) { // it was labelled later
		p.put(store.Row{Key: open})
	}
	plain, err := record.Marshal(apartVisitRow{Visit: row, Topics: uint8(v.Topics)})
	if err != nil {
		return err
	}
	return p.putChanged(visitKey(apartVisitPrefix, hlc, rid), plain)
}

// hasRow reports whether there is a row that can be read.
func (n *Node) hasRow(key []byte) bool {
	_, err := n.store.GetRow(key)
	return err == nil
}

// recentVisits are the newest that are no secret to who asks.
func (n *Node) recentVisits(in *signedIn) ([]web.VisitRow, error) {
	st, err := n.newStates()
	if err != nil {
		return nil, err
	}
	list, err := n.visitRows(visitPrefix, func(k []byte) (visitRow, bool, error) {
		var v visitRow
		ok, err := n.readRow(k, &v)
		return v, ok, err
	})
	if err != nil {
		return nil, err
	}
	apart, err := n.visitRows(apartVisitPrefix, func(k []byte) (visitRow, bool, error) {
		var v apartVisitRow
		if ok, err := n.readRow(k, &v); err != nil || !ok || len(v.Visit.Compartment) != len(record.CompartmentID{}) {
			return v.Visit, false, err
		}
		topics := fhir.Topics(v.Topics)
		s, err := n.sight(in, record.CompartmentID(v.Visit.Compartment), topics, policy.Treatment)
		return v.Visit, topics&^s.Topics == 0, err
	})
	if err != nil {
		return nil, err
	}
	list = append(list, apart...)
	slices.SortStableFunc(list, func(a, b keyedVisit) int { return cmp.Compare(b.hlc, a.hlc) })
	var out []web.VisitRow
	for _, v := range list[:min(recentMax, len(list))] {
		row, ok, err := n.row(record.CompartmentID(v.Compartment))
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		state, err := st.of(record.RID(v.RID))
		if err != nil {
			return nil, err
		}
		out = append(out, web.VisitRow{PatientID: record.CompartmentID(v.Compartment).String(), Row: row, RID: record.RID(v.RID).String(),
			At: timeOfHLC(v.hlc), Problem: v.Problem, Urgent: v.Urgent, State: state})
	}
	return out, nil
}

// keyedVisit is a row of a visit with the time in its key.
type keyedVisit struct {
	visitRow
	hlc uint64
}

// visitRows reads the newest rows of visits under a prefix, as far as read takes them.
func (n *Node) visitRows(prefix string, read func(key []byte) (visitRow, bool, error)) ([]keyedVisit, error) {
	var keys [][]byte
	if err := n.store.ScanRows([]byte(prefix), recentMax, func(k, _ []byte) bool { keys = append(keys, slices.Clone(k)); return true }); err != nil {
		return nil, err
	}
	var out []keyedVisit
	for _, k := range keys {
		v, ok, err := read(k)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, keyedVisit{v, hlcOfKey(k, prefix)})
		}
	}
	return out, nil
}
