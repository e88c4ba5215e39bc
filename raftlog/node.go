package raftlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
	"github.com/rs/zerolog"
)

// errReopen: the raft state on disk was repaired in a way that the running raft
// cannot notice, so it starts again.
var errReopen = errors.New("raft starts again on a repaired log")

const (
	fetchRetryMin = time.Second
	fetchRetryMax = 30 * time.Second
	handOverMax   = 5 * time.Second // how long Run waits for another leader when it ends
	windDownMax   = time.Second     // how long it waits before that for batches under way
	watchEvery    = time.Second
)

// Node is this box's part in the agreement of the hubs.
type Node struct {
	o     Options
	log   zerolog.Logger
	name  raft.ServerID
	where raft.ServerAddress

	logs   *logStore
	stable stableStore
	snaps  *snapshotStore

	ran    atomic.Bool
	closed chan struct{} // closed by Close
	ended  chan struct{} // closed when Run returned
	once   sync.Once

	running atomic.Pointer[running]

	mu      sync.Mutex    // guards changed
	changed chan struct{} // closed at the next change of leadership
}

// running is one life of raft inside Run.
type running struct {
	raft     *raft.Raft
	fsm      *fsm
	link     link
	failures chan error // one slot: the first failure
	dead     chan struct{}
	orderer  atomic.Pointer[orderer] // while this hub leads
}

// Open reads the raft state of this box. Nothing runs before Run.
func Open(o Options) (*Node, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	incarnation, err := openIncarnation(o.KV, o.Device)
	if err != nil {
		return nil, fmt.Errorf("opening raft: %w", err)
	}
	where, err := addressOf(o.Device)
	if err != nil {
		return nil, fmt.Errorf("opening raft: %w", err)
	}
	logs, err := openLogStore(o.KV)
	if err != nil {
		return nil, err
	}
	n := &Node{o: o, name: serverName(o.Device, incarnation), where: where, logs: logs, stable: stableStore{o.KV},
		closed: make(chan struct{}), ended: make(chan struct{}), changed: make(chan struct{})}
	n.log = o.Log.With().Str("server", string(n.name)).Logger()
	n.snaps = &snapshotStore{kv: o.KV, logs: logs}
	return n, nil
}

// Bootstrap makes this box the only voter of a new region, unless it has raft
// state already. Only the founder does this.
func (n *Node) Bootstrap() error {
	only := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: n.name, Address: n.where}}}
	if r := n.running.Load(); r != nil {
		err := r.raft.BootstrapCluster(only).Error()
		if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return fmt.Errorf("bootstrapping raft: %w", err)
		}
		n.campaign(r)
		return nil
	}
	has, err := n.bootstrapped()
	if err == nil && !has {
		err = raft.BootstrapCluster(n.config(), n.logs, n.stable, n.snaps, nil, only)
	}
	if err != nil {
		return fmt.Errorf("bootstrapping raft: %w", err)
	}
	return nil
}

// bootstrapped reports whether there is raft state. Raft bootstraps in two
// writes, the term and then the log; what a crash left of the first is undone.
func (n *Node) bootstrapped() (bool, error) {
	last, err := n.logs.LastIndex()
	if err != nil {
		return false, err
	}
	snapshots, err := n.snaps.List()
	if err != nil || last > 0 || len(snapshots) > 0 {
		return true, err
	}
	term, err := n.stable.GetUint64([]byte("CurrentTerm"))
	switch {
	case errors.Is(err, errNotFound):
		return false, nil
	case err != nil || term != 1:
		return true, err
	}
	return false, n.o.KV.Update([]Row{{Key: stableKey([]byte("CurrentTerm"))}})
}

func (n *Node) config() *raft.Config {
	c := raft.DefaultConfig()
	p, l := n.o.Profile, n.o.Limits
	c.LocalID = n.name
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout, c.CommitTimeout = p.Heartbeat, p.Election, p.Lease, p.Commit
	c.MaxAppendEntries, c.BatchApplyCh = p.MaxAppend, true
	c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = l.TrailingItems, l.SnapshotThreshold, l.SnapshotInterval
	c.ShutdownOnRemove = false // a revoked hub keeps its ledger and may be asked what it has
	c.NoSnapshotRestoreOnStart = true
	c.NoLegacyTelemetry = true
	c.Logger = newHCLogger(n.log)
	return c
}

// Run takes part until ctx ends or Close, which it answers with nil after it
// handed over leadership and stopped everything it started. Any error means that
// this box must not go on without a person or a restart. It may be called once.
func (n *Node) Run(ctx context.Context) error {
	if n.ran.Swap(true) {
		return fmt.Errorf("running raft: %w", ErrClosed)
	}
	defer close(n.ended)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-n.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		err := n.live(ctx)
		if errors.Is(err, errReopen) {
			n.log.Warn().Msg("a lost leader's items were replaced, raft starts again")
			continue
		}
		if err == nil {
			return nil
		}
		if !n.o.Rests(err) {
			return fmt.Errorf("running raft: %w", err)
		}
		n.log.Warn().Err(err).Msg("ordering rests")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(restEvery):
		}
	}
}

// restEvery is how often raft is started again after an error that will pass.
const restEvery = 3 * time.Second

// Close ends Run and waits for it.
func (n *Node) Close() error {
	n.once.Do(func() { close(n.closed) })
	if !n.ran.Swap(true) {
		close(n.ended)
	}
	<-n.ended
	return nil
}

// live runs raft once, from the boot check to its end.
func (n *Node) live(ctx context.Context) error {
	r := &running{failures: make(chan error, 1), dead: make(chan struct{})}
	fail := func(err error) {
		select {
		case r.failures <- err:
		default: // the first one counts
		}
	}
	fetches, stopFetches := context.WithCancel(ctx)
	defer stopFetches()
	r.fsm = &fsm{ctx: fetches, ledger: n.o.Ledger, fetcher: n.o.Fetcher, region: n.o.Region, fail: fail, log: n.log}
	n.snaps.mustReopen = func() { fail(errReopen) }
	if err := n.connect(r); err != nil {
		return err
	}
	released := make(chan struct{})
	err := n.start(ctx, r, parkingStable{n.stable, fail, released})
	if err != nil || r.raft == nil {
		_ = r.link.Close() // err is the news
		return err
	}
	n.running.Store(r)
	n.campaign(r)
	lead, err := n.watch(ctx, r)
	stopFetches()
	n.running.Store(nil)
	stopping := r.raft.Shutdown()
	close(released)
	if !errors.Is(err, ErrStalled) { // else raft hangs in the write
		if again := stopping.Error(); err == nil {
			err = again
		}
	}
	close(r.dead)
	lead.end()
	_ = r.link.Close() // what ended raft is the news; a link that is slow to close is not
	n.signal()
	return err
}

// connect makes the link, so that this hub answers questions even while it
// fetches.
func (n *Node) connect(r *running) (err error) {
	self := n.local(r.fsm)
	switch {
	case n.o.link != nil:
		r.link, err = n.o.link(self)
	case n.o.Host == nil:
		r.link = newSoloLink(self, n.o.Profile)
	default:
		id, err := peerOf(n.o.Device)
		if err != nil || id != n.o.Host.ID() {
			return fmt.Errorf("starting raft: the host is not this device")
		}
		s := newStreams(n.o.Host, self, n.o.AllowHub, n.o.Profile.Call)
		r.link = newNetLink(s, n.o.Profile, newHCLogger(n.log))
	}
	return err
}

func (n *Node) local(f *fsm) local {
	return local{name: n.name, address: n.where, state: func() hubState {
		return hubState{Name: string(n.name), Applied: f.applied.Load(), Size: n.o.Ledger.Head().Size}
	}}
}

// start does the boot check and starts raft. r.raft stays nil when ctx ended.
func (n *Node) start(ctx context.Context, r *running, stable raft.StableStore) error {
	for delay := fetchRetryMin; ; delay = min(2*delay, fetchRetryMax) {
		err := r.fsm.boot(ctx, n.snaps)
		if err == nil {
			break
		}
		if r.fsm.failed != nil || errors.Is(err, record.ErrMalformed) {
			return err
		}
		n.log.Warn().Err(err).Msg("this disk lacks what its newest snapshot names, trying again")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
	}
	var err error
	if r.raft, err = raft.NewRaft(n.config(), r.fsm, n.logs, stable, n.snaps, r.link); err != nil {
		return fmt.Errorf("starting raft: %w", err)
	}
	return nil
}

// campaign makes the only voter lead without waiting for a timer.
func (n *Node) campaign(r *running) {
	f := r.raft.GetConfiguration()
	if f.Error() != nil || r.raft.State() != raft.Follower {
		return
	}
	if s := f.Configuration().Servers; len(s) != 1 || s[0].ID != n.name || s[0].Suffrage != raft.Voter {
		return
	}
	var resp raft.TimeoutNowResponse
	if err := r.link.TimeoutNow(n.name, n.where, &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, &resp); err != nil {
		n.log.Debug().Err(err).Msg("standing for election takes a timeout")
	}
}

// watch follows leadership until ctx ends or something failed, and then gives
// leadership away.
func (n *Node) watch(ctx context.Context, r *running) (lead *leadership, err error) {
	seen := make(chan raft.Observation, 16)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r.raft.RegisterObserver(observer)
	defer r.raft.DeregisterObserver(observer)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for err == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case err = <-r.failures:
		case leads := <-r.raft.LeaderCh():
			lead.end()
			if lead = nil; leads {
				lead = n.lead(ctx, r)
			}
			n.signal()
		case <-seen:
			n.signal()
		case <-tick.C:
			r.link.sweep()
			if n.logs.stalled() > n.o.Limits.StallMax {
				err = ErrStalled
			}
		}
	}
	if err == nil && lead != nil {
		lead.wind(windDownMax)
		n.handOver(r)
	}
	return lead, err
}

// handOver makes another hub lead, if there is one that can.
func (n *Node) handOver(r *running) {
	ctx, cancel := context.WithTimeout(context.Background(), min(handOverMax, n.o.Profile.Election))
	defer cancel()
	f := r.raft.GetConfiguration()
	if f.Error() != nil {
		return
	}
	for _, s := range f.Configuration().Servers {
		if s.ID != n.name && s.Suffrage == raft.Voter {
			if err := await(ctx, r.raft.LeadershipTransfer()); err != nil {
				n.log.Debug().Err(err).Msg("no other hub took over leadership")
			}
			return
		}
	}
}

func (n *Node) signal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}
