package raftlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
)

// errWidowed: the other voter of two gave up its name, or is no hub any more, so no
// leader can be elected by it and this hub together.
var errWidowed = errors.New("the other voter of two is gone")

// partner is the other voter when there are two, one of them this hub.
func (n *Node) partner(c raft.Configuration) (other raft.Server, ok bool) {
	voters := votersOf(c)
	if len(voters) != 2 {
		return other, false
	}
	name := n.serverName()
	switch name {
	case voters[0].ID:
		return voters[1], true
	case voters[1].ID:
		return voters[0], true
	}
	return other, false
}

// gone reports whether what a device says means that a server of it will never
// speak again: it answers to another name, under which nobody has taken it in.
func (n *Node) gone(other raft.Server, t testimony) bool {
	return t.Ready && t.Generation == n.generation.Load() && t.Name != string(other.ID) && t.ConfigAt == 0
}

// expelled reports whether the ledger took the other voter of two out, so that this
// hub is the only one. The other may never let itself be taken out of raft: no hub
// takes its streams any more. The ledger has to be as far as the configuration, or it
// may not know yet that the other came in.
func (n *Node) expelled(config uint64) bool {
	hubs := n.o.Hubs()
	if len(hubs) != 1 || hubs[0] != n.o.Device {
		return false
	}
	applied, _, _ := n.o.Ledger.Applied()
	first, _ := n.logs.bounds()
	for i := config; i > applied && i >= first && i > 0; i-- {
		var l raft.Log
		if err := n.logs.GetLog(i, &l); err != nil || l.Type == raft.LogCommand {
			return false
		}
	}
	return true
}

// widowed reports whether the other voter of two is gone for good. Everything
// that was ever ordered by the two stands in the log of this one.
func (q *inquiry) widowed() bool {
	other, ok := q.n.partner(q.disk.config.Configuration)
	if !ok {
		return false
	}
	if q.n.expelled(q.disk.config.at) {
		return true
	}
	d, err := deviceAt(other.Address)
	t, said := q.said[d]
	return err == nil && said && q.n.gone(other, t)
}

// goAlone puts a configuration in which this hub votes alone at the end of its
// log, as the leader of a new term would.
func (q *inquiry) goAlone() error {
	n := q.n
	term := q.term() + 1
	only := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: n.serverName(), Address: n.where}}}
	item := &raft.Log{Index: q.disk.last + 1, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(only)}
	if err := n.spendVote(term); err != nil {
		return err
	}
	if err := n.logs.StoreLog(item); err != nil {
		return fmt.Errorf("going on alone: %w", err)
	}
	n.log.Warn().Msg("the other voter of two is gone, this hub votes alone until another is taken in")
	return errReopen
}

// mourn ends this life of raft when it waits for a partner that is gone.
func (n *Node) mourn(ctx context.Context, r *running, fail func(error)) {
	f := r.raft.GetConfiguration()
	if _, leader := r.raft.LeaderWithID(); leader != "" || f.Error() != nil {
		return
	}
	other, ok := n.partner(f.Configuration())
	d, err := deviceAt(other.Address)
	if !ok || err != nil {
		return
	}
	if n.expelled(f.Index()) {
		fail(errWidowed)
		return
	}
	if t, err := n.askOne(ctx, r.link, d); err == nil && n.gone(other, t) {
		fail(errWidowed)
	}
}

// lingers is how long a hub that was taken out may still speak raft, in Reconciles: it
// may have voted for that itself, and hears that the entry has its place by no other
// way than the one by which it heard of the entry.
const lingers = 3

// allows reports whether a device may speak raft with this hub. Of two voters one
// that is no hub any more still may: without it the other can neither lead nor
// take it out.
func (n *Node) allows(d record.DeviceID) bool {
	if n.o.AllowHub(d) {
		n.allowed.Store(d, time.Now())
		return true
	}
	if at, ok := n.allowed.Load(d); ok {
		if time.Since(at.(time.Time)) < lingers*n.o.Profile.Reconcile {
			return true
		}
		n.allowed.Delete(d)
	}
	c := n.servers.Load()
	if c == nil {
		return false
	}
	other, ok := n.partner(c.Configuration)
	at, err := deviceAt(other.Address)
	return ok && err == nil && at == d
}
