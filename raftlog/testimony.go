package raftlog

import (
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
)

const (
	testimonyVersion  = 1
	testimonyBytesMax = pledgesBytesMax
)

// testimony is a hub's answer to another that asks what it knows of the past.
type testimony struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Name    string // raft server id of the answering hub
	Ready   bool   // raft runs: it keeps its name
	// Generation that its raft state is for.
	Generation uint64
	Applied    uint64 // raft index of the last item in its ledger
	Term       uint64 // its current term
	Led        bool   // it follows a leader, or is one
	ConfigAt   uint64 // raft index of its newest configuration
	Known      string // server id that the configuration has for who asks, "" for none
	Pledges    []pledge
}

func decodeTestimony(b []byte) (testimony, error) {
	var t testimony
	if len(b) > testimonyBytesMax {
		return t, fmt.Errorf("reading a testimony: %w: %d bytes", record.ErrMalformed, len(b))
	}
	if err := record.Unmarshal(b, &t); err != nil {
		return t, fmt.Errorf("reading a testimony: %w", err)
	}
	if t.Version != testimonyVersion || t.Name == "" || len(t.Name) > serverNameBytesMax || len(t.Known) > serverNameBytesMax || t.Term > termMax {
		return t, fmt.Errorf("reading a testimony: %w: version %d, server id of %d bytes", record.ErrMalformed, t.Version, len(t.Name))
	}
	return t, checkPledges(t.Pledges)
}

// testify answers a hub. Before raft runs it says what the disk says, so that
// hubs which all wait for each other get their answers.
func (n *Node) testify(asker raft.ServerAddress) testimony {
	t := testimony{Version: testimonyVersion, Name: string(n.serverName()), Generation: n.generation.Load(), Pledges: n.pledges.list()}
	self := pledge{Server: t.Name}
	if r := n.running.Load(); r != nil {
		t.Ready = true
		t.Term = r.raft.CurrentTerm()
		_, leader := r.raft.LeaderWithID()
		t.Led = leader != ""
		self.Voted, _ = n.stable.GetUint64(keyVoteTerm) // 0 when it cannot be read: said by others too
	} else if d := n.disk.Load(); d != nil {
		t.Term, self.Voted = d.term, d.voted
	}
	if c := n.servers.Load(); c != nil {
		t.ConfigAt, t.Known = c.at, string(namedIn(c.Configuration, asker))
	}
	self.Term = t.Term
	var last raft.Log
	if _, i := n.logs.bounds(); i > 0 && n.logs.GetLog(i, &last) == nil && last.Term == t.Term {
		// An item of an older term may still give way to the leader's.
		self.Index, self.ItemTerm = last.Index, last.Term
	}
	t.Pledges = withPledge(t.Pledges, self)
	return t
}

// withPledge puts one pledge in front and keeps the list short enough to send.
func withPledge(list []pledge, p pledge) []pledge {
	out := append(make([]pledge, 0, len(list)+1), p)
	for _, x := range list {
		if x.Server != p.Server && len(out) < pledgesMax {
			out = append(out, x)
		}
	}
	return out
}
