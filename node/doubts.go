package node

import (
	"context"
	"sync"
	"time"

	"github.com/healthpost/healthpost/record"
)

// A hub's word that a record can never be ordered is checked by the own ledger:
// the rules are the same everywhere. What the rules would order is not refused
// because somebody says so; it stays pending, another hub gets it, and when the own
// ledger has caught up with the hub's and still would order it, staff are told.
type doubts struct {
	mu   sync.Mutex
	open map[record.RID]doubt // guarded by mu
}

type doubt struct {
	out   record.Outcome
	by    record.DeviceID
	since time.Time
	told  bool
}

const (
	doubtsMax    = 1024
	judgeMax     = 4096 // records of a feed before the one that is judged
	judgeTries   = 3
	doubtsLooked = 5 * time.Second
)

// heardRefusal takes another box's final verdict on a record that is pending here.
func (n *Node) heardRefusal(out record.Outcome, by record.DeviceID) error {
	own, err := n.judge(out.RID)
	if err != nil || own == 0 {
		return err
	}
	if own.Final() {
		out.Verdict = own
		return n.store.PutRefused(out, by)
	}
	if r, ok, err := n.store.ByRID(out.RID); err != nil || !ok || !n.wroteHere(&r) {
		return err // its author will judge
	}
	n.doubts.mu.Lock()
	defer n.doubts.mu.Unlock()
	if n.doubts.open == nil {
		n.doubts.open = map[record.RID]doubt{}
	}
	if _, known := n.doubts.open[out.RID]; !known && len(n.doubts.open) < doubtsMax {
		n.doubts.open[out.RID] = doubt{out: out, by: by, since: time.Now()}
	}
	return nil
}

// judgeDoubts looks again at verdicts that the own ledger did not confirm.
func (n *Node) judgeDoubts(context.Context) error {
	n.doubts.mu.Lock()
	defer n.doubts.mu.Unlock()
	for rid, d := range n.doubts.open {
		own, err := n.judge(rid)
		if err != nil {
			return err
		}
		switch {
		case own == 0: // ordered meanwhile, or gone
			delete(n.doubts.open, rid)
		case own.Final():
			d.out.Verdict = own
			if err := n.store.PutRefused(d.out, d.by); err != nil {
				return err
			}
			delete(n.doubts.open, rid)
		case !d.told && time.Since(d.since) >= n.o.DoubtAfter && n.caughtUpWith(d.by):
			if err := n.notifyOnce(noticeUnjust, d.by[:], n.deviceName(d.by)); err != nil {
				return err
			}
			n.anotherThan(d.by)
			d.told = true
			n.doubts.open[rid] = d
		}
	}
	return nil
}

// inDoubt reports whether a verdict waits to be judged again.
func (n *Node) inDoubt() bool {
	n.doubts.mu.Lock()
	defer n.doubts.mu.Unlock()
	return len(n.doubts.open) > 0
}

// caughtUpWith reports whether this box's ledger reaches as far as the peer's.
func (n *Node) caughtUpWith(d record.DeviceID) bool {
	r := n.up.Load()
	if r == nil {
		return false
	}
	live := r.links.live.Load()
	if live == nil {
		return false
	}
	for _, p := range live.Peers() {
		if p.Device == d {
			return n.store.Head().Size >= p.Size
		}
	}
	return true
}

// judge is what the ordering rules say of a pending record after all before it in
// its feed; 0 when it is not pending here.
func (n *Node) judge(rid record.RID) (record.Verdict, error) {
	for range judgeTries {
		head := n.store.Head()
		v, err := n.judgeOnce(rid)
		if err != nil || n.store.Head() == head {
			return v, err
		}
	}
	return record.Gap, nil // the ledger moves: not decided
}

func (n *Node) judgeOnce(rid record.RID) (record.Verdict, error) {
	loc, ok, err := n.store.Locate(rid)
	if err != nil || !ok || !loc.Pending {
		return 0, err
	}
	o := record.NewOrderer(n.store.State(), func(x record.RID, _ [64]byte) bool { return x != rid }) // the others were checked when they came
	at, feed := n.o.Now().Unix(), loc.Position.Feed()
	opening, err := n.store.Pending(record.Feed{Epoch: feed.Epoch}, 0, 1)
	if err != nil {
		return 0, err
	}
	if len(opening) > 0 && opening[0].Core.Kind == record.KindEpochOpen {
		out, err := o.Add(at, opening[0])
		if err != nil || opening[0].RID() == rid {
			return out.Verdict, err
		}
	}
	for next, seen := uint64(1), 0; seen < judgeMax; {
		recs, err := n.store.Pending(feed, next, 256<<10)
		if err != nil || len(recs) == 0 {
			return record.Gap, err
		}
		for i := range recs {
			if recs[i].Core.Kind == record.KindEpochOpen {
				continue
			}
			out, err := o.Add(at, recs[i])
			if err != nil || recs[i].RID() == rid {
				return out.Verdict, err
			}
			next, seen = recs[i].Core.N+1, seen+1
		}
	}
	return record.Gap, nil
}

// anotherThan asks for an exchange with a hub besides this one.
func (n *Node) anotherThan(d record.DeviceID) {
	if r := n.up.Load(); r != nil {
		r.links.another(d)
	}
}
