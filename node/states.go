package node

import (
	"sync"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
)

// states answers how far records have come, as of one moment: nothing is said to
// be in the regional record before its place lies under a final checkpoint that
// this box verified.
type states struct {
	n       *Node
	final   uint64
	refused map[record.RID]record.Outcome
	again   bool // records were written again
}

func (n *Node) newStates() (*states, error) {
	n.look()
	s := &states{n: n, refused: map[record.RID]record.Outcome{}}
	if _, head, ok := n.store.Final(); ok {
		s.final = head.Size
	}
	list, err := n.store.Refused()
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		s.refused[r.RID] = r.Outcome
	}
	return s, n.store.ScanRows([]byte("pub/"), 1, func(_, _ []byte) bool { s.again = true; return false })
}

func (s *states) of(rid record.RID) (chart.State, error) {
	st, _, err := s.find(rid)
	return st, err
}

func (s *states) find(rid record.RID) (chart.State, bool, error) {
	loc, ok, err := s.n.store.Locate(rid)
	if err != nil {
		return chart.State{}, false, err
	}
	if ok && !loc.Pending && loc.Seq < s.final {
		return chart.State{Kind: chart.Confirmed, Seq: loc.Seq}, true, nil
	}
	if s.again {
		now, done, err := s.n.standsFor(rid)
		if err != nil {
			return chart.State{}, false, err
		}
		if done && now != (record.RID{}) && now != rid {
			return s.find(now)
		}
	}
	if out, bad := s.refused[rid]; bad && (loc.Pending || !ok) { // not ok: it gave its place to what was ordered there
		return chart.State{Kind: chart.Refused, Reason: refusalCode(out.Verdict)}, true, nil
	}
	if !ok {
		return chart.State{}, false, nil
	}
	holders, err := s.n.store.Acks(loc.Position)
	if err != nil {
		return chart.State{}, true, err
	}
	if len(holders) == 0 {
		return chart.State{Kind: chart.Saved}, true, nil
	}
	st := chart.State{Kind: chart.Copied, Near: true}
	for _, d := range holders {
		st.Near = st.Near && !s.n.elsewhere(d)
		st.To = append(st.To, s.n.deviceName(d))
	}
	return st, true, nil
}

func refusalCode(v record.Verdict) string {
	switch v {
	case record.Equivocation:
		return "equivocation"
	case record.Revoked, record.UnknownDevice:
		return "revoked"
	case record.Quarantined:
		return "quarantined"
	}
	return v.String()
}

// deviceName is what people call a member.
func (n *Node) deviceName(d record.DeviceID) string {
	m, ok, err := n.store.Member(d)
	if err != nil || !ok || m.Name == "" {
		return d.Short()
	}
	return m.Name
}

// names caches who a session belongs to; sessions never change.
type names struct {
	mu    sync.Mutex
	known map[record.Position]string // guarded by mu
}

const namesMax = 4096

// authorName is the staff member whose session a record was written in, or the
// box's name for what it wrote by itself.
func (n *Node) authorName(r *record.Record) string {
	if staff := r.Core.Ext[extStaff]; len(staff) == 32 {
		var e staffEntry
		if ok, err := n.readRow(whoKey(staff), &e); err == nil && ok {
			return e.Name + " (" + n.boxName(r.Core.Epoch) + ")"
		}
	}
	if r.Core.Session == 0 {
		return n.boxName(r.Core.Epoch)
	}
	pos := record.Position{Epoch: r.Core.Epoch, Lane: record.LaneControl, N: r.Core.Session}
	n.names.mu.Lock()
	name, ok := n.names.known[pos]
	n.names.mu.Unlock()
	if ok {
		return name
	}
	name, final := n.staffName(pos)
	if final {
		n.names.mu.Lock()
		if n.names.known == nil || len(n.names.known) >= namesMax {
			n.names.known = map[record.Position]string{}
		}
		n.names.known[pos] = name
		n.names.mu.Unlock()
	}
	return name
}

// staffName reads the session record and the directory; final when neither can
// still be on its way.
func (n *Node) staffName(pos record.Position) (name string, final bool) {
	box := n.boxName(pos.Epoch)
	r, ok, err := n.store.Held(pos)
	if err != nil || !ok || r.Core.Kind != record.KindSessionOpen {
		return box, false
	}
	s, err := record.DecodeSessionOpen(r.Body)
	if err != nil {
		return box, true
	}
	var e staffEntry
	if ok, err := n.readRow(whoKey(s.Staff), &e); err != nil || !ok {
		return box, false
	}
	return e.Name + " (" + box + ")", true
}

func (n *Node) boxName(e record.EpochID) string {
	ep, ok, err := n.store.EpochAuthor(e)
	if err != nil || !ok {
		return "?"
	}
	return n.deviceName(ep)
}
