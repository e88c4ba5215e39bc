package raftlog

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
	"github.com/rs/zerolog"
)

// members makes the voters follow the hubs that the ledger names, while this hub
// leads. It changes one server at a time: a hub starts as a nonvoter, gets its
// vote when it caught up, and loses its place when it is revoked or answers to
// another name than the one it had, because its disk was replaced.
type members struct {
	raft    *raft.Raft
	link    link
	self    local
	hubs    func() []record.DeviceID
	profile Profile
	log     zerolog.Logger
	hold    func() bool // true while nothing is changed
	// generation is that of this hub's raft state.
	generation func() uint64
	// behind is how many items a nonvoter may lack when it gets its vote.
	behind uint64

	observed chan raft.Observation
	suspect  map[raft.ServerID]bool      // voters that do not answer heartbeats
	leaving  map[raft.ServerID]time.Time // since when the ledger does not name them
}

func newMembers(r *raft.Raft, l link, self local, o *Options) *members {
	return &members{raft: r, link: l, self: self, hubs: o.Hubs, profile: o.Profile, log: o.Log, hold: func() bool { return false }, generation: func() uint64 { return 1 }, behind: uint64(o.Profile.MaxAppend),
		observed: make(chan raft.Observation, 64), suspect: map[raft.ServerID]bool{}, leaving: map[raft.ServerID]time.Time{}}
}

func (m *members) run(ctx context.Context) {
	o := raft.NewObserver(m.observed, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation:
			return true
		}
		return false
	})
	m.raft.RegisterObserver(o)
	defer m.raft.DeregisterObserver(o)
	tick := time.NewTicker(m.profile.Reconcile)
	defer tick.Stop()
	for {
		changed, err := m.step(ctx)
		if err != nil && ctx.Err() == nil {
			m.log.Debug().Err(err).Msg("hubs not changed")
		}
		if changed {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case o := <-m.observed:
			m.observe(o)
		case <-tick.C:
		}
	}
}

func (m *members) observe(o raft.Observation) {
	switch data := o.Data.(type) {
	case raft.FailedHeartbeatObservation:
		m.suspect[data.PeerID] = true
	case raft.ResumedHeartbeatObservation:
		delete(m.suspect, data.PeerID)
	}
}

// step makes at most one change.
func (m *members) step(ctx context.Context) (changed bool, err error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if m.hold() {
		return false, nil
	}
	hubs := m.hubs()
	servers, err := m.servers()
	if err != nil || len(hubs) == 0 {
		return false, err
	}
	wanted := make(map[raft.ServerAddress]record.DeviceID, len(hubs))
	for _, d := range hubs {
		a, err := addressOf(d)
		if err != nil {
			return false, err
		}
		wanted[a] = d
	}
	if _, ok := wanted[m.self.address]; !ok {
		return false, m.stepDown(ctx, servers)
	}
	if changed, err := m.removeOne(ctx, servers, wanted); changed || err != nil {
		return changed, err
	}
	var last error
	for _, d := range hubs {
		changed, err := m.place(ctx, d, servers)
		if changed {
			return true, nil
		}
		if err != nil {
			last = err // the other hubs get their turn
		}
	}
	return false, last
}

func (m *members) servers() ([]raft.Server, error) {
	f := m.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("reading raft configuration: %w", err)
	}
	return f.Configuration().Servers, nil
}

// stepDown lets another hub lead, which then takes this one out.
func (m *members) stepDown(ctx context.Context, servers []raft.Server) error {
	for _, s := range servers {
		if s.ID != m.self.name && s.Suffrage == raft.Voter {
			m.log.Info().Msg("this box is no hub any more, handing over leadership")
			return await(ctx, m.raft.LeadershipTransfer())
		}
	}
	return nil // the last voter stays: there is nobody to order without it
}

func (m *members) removeOne(ctx context.Context, servers []raft.Server, wanted map[raft.ServerAddress]record.DeviceID) (bool, error) {
	for _, s := range servers {
		if _, ok := wanted[s.Address]; ok {
			delete(m.leaving, s.ID)
			continue
		}
		since, seen := m.leaving[s.ID]
		if !seen {
			since = time.Now()
			m.leaving[s.ID] = since
		}
		if time.Since(since) < m.profile.Reconcile && !m.suspect[s.ID] {
			continue // it is told first that the entry which takes it out has its place
		}
		delete(m.leaving, s.ID)
		return m.change(ctx, "hub taken out", s.ID, m.raft.RemoveServer(s.ID, 0, m.profile.Call))
	}
	return false, nil
}

// place brings one hub a step closer to being a voter.
func (m *members) place(ctx context.Context, d record.DeviceID, servers []raft.Server) (bool, error) {
	a, err := addressOf(d)
	if err != nil || a == m.self.address {
		return false, err
	}
	var here *raft.Server
	for i := range servers {
		if servers[i].Address == a {
			here = &servers[i]
		}
	}
	if here != nil && here.Suffrage == raft.Voter && !m.suspect[here.ID] {
		return false, nil
	}
	ask, cancel := context.WithTimeout(ctx, m.profile.Heartbeat)
	defer cancel()
	applied := m.self.applied()
	state, err := m.link.ask(ask, d)
	if err != nil {
		return false, err
	}
	if !state.Ready || state.Generation != m.generation() {
		return false, nil // it does not know yet whether it keeps its name
	}
	name := raft.ServerID(state.Name)
	switch {
	case here == nil:
		return m.change(ctx, "hub added, catching up", name, m.raft.AddNonvoter(name, a, 0, m.profile.Call))
	case here.ID != name:
		delete(m.suspect, here.ID)
		return m.change(ctx, "hub has a new disk, its old name is taken out", here.ID, m.raft.RemoveServer(here.ID, 0, m.profile.Call))
	case here.Suffrage != raft.Voter && state.Applied+m.behind >= applied:
		return m.change(ctx, "hub votes", name, m.raft.AddVoter(name, a, 0, m.profile.Call))
	}
	return false, nil
}

// change waits until a change is in force.
func (m *members) change(ctx context.Context, what string, id raft.ServerID, f raft.Future) (bool, error) {
	if err := await(ctx, f); err != nil {
		return false, fmt.Errorf("changing hubs: %w", err)
	}
	m.log.Info().Str("server", string(id)).Msg(what)
	return true, nil
}

// await waits for a future or for ctx. Raft answers every future that it took,
// at the latest when it ends, but offers no other way to stop waiting.
func await(ctx context.Context, f raft.Future) error {
	answer := make(chan error, 1)
	go func() { answer <- f.Error() }()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
