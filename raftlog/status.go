package raftlog

import (
	"context"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
)

// Status is what there is to know about this hub's part.
type Status struct {
	Server    string // raft server id of this disk
	State     string // starting, asking, follower, candidate, leader, stopped
	Leader    record.DeviceID
	HasLeader bool
	Term      uint64
	Last      uint64 // raft index of the last item on this disk
	Commit    uint64 // raft index that a majority holds, as far as known here
	Applied   uint64 // raft index of the last item in the ledger
	Size      uint64 // ledger size
	Hubs      []HubStatus
}

// HubStatus is one server of the raft configuration.
type HubStatus struct {
	Device record.DeviceID
	Server string
	Voter  bool // false while it catches up
	Self   bool
	Leads  bool
}

// Status gives a view of this moment.
func (n *Node) Status() Status {
	s := Status{Server: string(n.serverName()), State: "starting", Size: n.o.Ledger.Head().Size}
	s.Applied, _, _ = n.o.Ledger.Applied()
	s.Last, _ = n.logs.LastIndex() // a view for people: 0 when it cannot be read, and Run says why
	r := n.running.Load()
	if r == nil {
		if n.ran.Load() && isClosed(n.ended) {
			s.State = "stopped"
		} else if n.asking.Load() {
			s.State = "asking" // the other hubs, before it votes
		}
		return s
	}
	s.State = stateNames[r.raft.State()]
	s.Term, s.Commit = r.raft.CurrentTerm(), r.raft.CommitIndex()
	s.Leader, s.HasLeader = n.Leader()
	f := r.raft.GetConfiguration()
	if f.Error() != nil {
		return s
	}
	for _, x := range f.Configuration().Servers {
		d, err := deviceAt(x.Address)
		if err != nil {
			continue
		}
		s.Hubs = append(s.Hubs, HubStatus{Device: d, Server: string(x.ID), Voter: x.Suffrage == raft.Voter, Self: x.ID == raft.ServerID(s.Server),
			Leads: s.HasLeader && d == s.Leader})
	}
	return s
}

var stateNames = map[raft.RaftState]string{raft.Follower: "follower", raft.Candidate: "candidate", raft.Leader: "leader", raft.Shutdown: "stopped"}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Leader is the hub that leads, as far as this one knows.
func (n *Node) Leader() (record.DeviceID, bool) {
	r := n.running.Load()
	if r == nil {
		return record.DeviceID{}, false
	}
	_, id := r.raft.LeaderWithID()
	f := r.raft.GetConfiguration()
	if id == "" || f.Error() != nil {
		return record.DeviceID{}, false
	}
	for _, s := range f.Configuration().Servers {
		if s.ID == id {
			d, err := deviceAt(s.Address)
			return d, err == nil
		}
	}
	return record.DeviceID{}, false
}

// IsLeader reports whether this hub leads.
func (n *Node) IsLeader() bool {
	r := n.running.Load()
	return r != nil && r.raft.State() == raft.Leader
}

// CaughtUp reports whether the ledger has everything that this disk's log had when
// raft began. A hub signed no tree larger than that: one whose disk is an older copy
// of itself, with all of its log but not with what it signed last, signs nothing
// smaller when it waits for this.
func (n *Node) CaughtUp() bool {
	r := n.running.Load()
	if r == nil {
		return false
	}
	if !r.caughtUp.Load() {
		item, err := n.logs.lastCommand(r.had)
		r.caughtUp.Store(err == nil && r.fsm.applied.Load() >= item)
	}
	return r.caughtUp.Load()
}

// LeaderChanged gives a channel that is closed when leadership may have changed
// since this call.
func (n *Node) LeaderChanged() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// Submit orders records without passing them through Pending: all in one batch,
// in this order. The outcomes match the records. ErrNotLeader and ErrTooLarge
// mean that nothing happened; after ErrOutcomeUnknown or the end of ctx the
// records may be ordered or not, and submitting them again is harmless.
func (n *Node) Submit(ctx context.Context, records []record.Record) ([]record.Outcome, error) {
	s := &submission{records: records, result: make(chan submitted, 1)}
	for i := range records {
		s.bytes += recordBytes(&records[i])
	}
	if len(records) == 0 {
		return nil, nil
	}
	if len(records) > record.BatchRecordsMax || s.bytes > record.BatchBytesMax {
		return nil, ErrTooLarge
	}
	r := n.running.Load()
	if r == nil {
		return nil, ErrNotLeader
	}
	o := r.orderer.Load()
	if o == nil {
		return nil, ErrNotLeader
	}
	return o.submit(ctx, s)
}
