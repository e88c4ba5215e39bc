package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// ordering is a hub's part in making the ledger: raft, and the cosignatures.
type ordering struct {
	n        *Node
	raft     *raftlog.Node
	cosigner *cosigner
	links    *links

	profile        raftlog.Profile
	looking        atomic.Bool // other boxes are looked to for what this disk lacks
	lastGeneration atomic.Uint64
}

func (n *Node) newOrdering(l *links) (*ordering, error) {
	profile, err := raftlog.ProfileNamed(n.o.Profile)
	if err != nil {
		return nil, err
	}
	o := &ordering{n: n, links: l, profile: profile}
	_, founded := n.box.RegionID()
	o.raft, err = raftlog.Open(raftlog.Options{
		Device: n.author.Device, Host: l.host.Libp2p(), AllowHub: n.isHub, Hubs: n.store.Hubs, Region: n.box.RegionID,
		Ledger: n.store, Pending: waiting{n.store}, KV: raftRows{n.store.KV("r")}, Fetcher: o, Profile: profile,
		Rests: func(err error) bool { return errors.Is(err, store.ErrFull) }, Refused: o.refused,
		RolledBack: o.rolledBack, Keep: o.keep, Generation: o.generation, Clock: func() int64 { return n.o.Now().UnixMilli() }, Log: n.log.With().Str("part", "raft").Logger()})
	if err != nil {
		return nil, err
	}
	if n.mayBootstrap(founded) {
		if err := o.raft.Bootstrap(); err != nil {
			return nil, errors.Join(err, o.raft.Close())
		}
	}
	o.cosigner = newCosigner(n, n.ledgerID, o.raft.IsLeader, o.raft.CaughtUp)
	l.order = o
	return o, nil
}

// rolledBack tells staff that this hub runs on an older image of its disk: it
// gave up its vote and waits until the others take it in again.
func (o *ordering) rolledBack(raftlog.RolledBack) {
	n := o.n
	if !n.isHub(n.author.Device) {
		return // it was retired, and that is why the others know it no more
	}
	if err := n.notifyOnce(noticeRolledBack, n.author.Device[:], n.deviceName(n.author.Device)); err != nil && n.store.Err() == nil {
		n.log.Error().Err(err).Msg("telling staff that this hub was rolled back")
	}
}

// keep makes records pending that stood in the raft log alone. What the store
// does not take is no record that could be ordered.
func (o *ordering) keep(ctx context.Context, recs []record.Record) error {
	for _, r := range recs {
		_, err := o.n.store.Ingest(ctx, o.n.author.Device, []record.Record{r})
		if ownFault(err) || ctx.Err() != nil {
			return err
		}
		if err != nil {
			o.n.log.Warn().Err(err).Str("rid", r.RID().Short()).Msg("a record of the raft log is not kept")
		}
	}
	return nil
}

// generation is the ledger's, which a new hub knows before it has the ledger;
// what cannot be read is the same as before.
func (o *ordering) generation() uint64 {
	if g := o.n.ledgerID().Generation; g > 0 {
		o.lastGeneration.Store(g)
	}
	return max(o.lastGeneration.Load(), 1)
}

// mayBootstrap: only the founder starts a raft of its own; a hub that was
// invited waits to be taken in. The founder is who has no hub list from a join.
func (n *Node) mayBootstrap(founded bool) bool {
	return n.seed == nil && (founded || n.box.Role == record.RoleStandalone)
}

func (o *ordering) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		o.lookAround(ctx, o.profile.RestoreWait)
		err := o.raft.Run(ctx)
		if errors.Is(err, raftlog.ErrStalled) && o.n.o.Stalled != nil {
			o.n.o.Stalled(err) // a write that hangs would hold up the end of everything else
		}
		return err
	})
	g.Go(func() error { return o.cosigner.run(ctx) })
	g.Go(func() error { return o.followLeader(ctx) })
	return errors.Join(g.Wait(), o.raft.Close())
}

// followLeader wakes the sessions whenever another hub leads, because pending
// records go to the leader.
func (o *ordering) followLeader(ctx context.Context) error {
	for {
		changed := o.raft.LeaderChanged()
		o.links.wake()
		o.cosigner.wake()
		o.n.dirty.tell()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// wantsPending: between hubs, pending records go to the leader alone.
func (o *ordering) wantsPending(peer record.DeviceID) bool {
	if !o.n.isHub(peer) {
		return false // a clinic gets ordered records from a hub, nobody's pending ones
	}
	leader, ok := o.raft.Leader()
	return ok && leader == peer
}

// Fetch pulls an ordered range for a snapshot that names it.
func (o *ordering) Fetch(ctx context.Context, head record.TreeHead) error {
	live := o.links.live.Load()
	if live == nil {
		return errNoLinks
	}
	return live.Fetch(ctx, head)
}

var errNoLinks = errors.New("fetching entries: this box has no links yet")

// refused keeps a record that can never be ordered, with the reason, and lets
// the sessions tell its author.
func (o *ordering) refused(out record.Outcome, r record.Record) {
	if err := o.n.store.PutRefused(out, o.n.author.Device); err != nil && o.n.store.Err() == nil {
		o.n.log.Error().Err(err).Str("rid", out.RID.Short()).Msg("keeping a refused record")
	}
}

func (o *ordering) describe() string {
	s := o.raft.Status()
	voters := 0
	for _, h := range s.Hubs {
		if h.Voter {
			voters++
		}
	}
	leader := "no leader"
	if s.HasLeader {
		leader = "led by " + o.n.deviceName(s.Leader)
	}
	if s.State == "asking" {
		return fmt.Sprintf("waits until enough of the other hubs say what this one promised them; %d of them are named", len(o.n.hubs())-1)
	}
	return fmt.Sprintf("%s, %s, %d of %d hubs vote, term %d", s.State, leader, voters, len(s.Hubs), s.Term)
}

func (o *ordering) voters() int {
	voters := 0
	for _, h := range o.raft.Status().Hubs {
		if h.Voter {
			voters++
		}
	}
	return voters
}
