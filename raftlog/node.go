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
var errReopen = errors.New("raft state on disk was changed")

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
	log   zerolog.Logger // Run's, which renames
	where raft.ServerAddress

	kv      *watchedKV
	logs    *logStore
	stable  stableStore
	snaps   *snapshotStore
	pledges *pledges
	votes   *votes

	ran      atomic.Bool
	closed   chan struct{} // closed by Close
	ended    chan struct{} // closed when Run returned
	once     sync.Once
	inquired bool // Run's: the other hubs were asked
	asking   atomic.Bool

	running    atomic.Pointer[running]
	disk       atomic.Pointer[diskState]     // as it was when raft last started
	servers    atomic.Pointer[configuration] // newest that is committed
	generation atomic.Uint64                 // that the raft state on this disk is for
	allowed    sync.Map                      // record.DeviceID to time.Time: when it was a hub last, of those that speak here

	mu        sync.Mutex // guards what follows
	name      raft.ServerID
	changed   chan struct{} // closed at the next change of leadership
	asked     *resetCall    // that waits for Run
	interrupt func()        // ends the present life of raft, nil between
}

// running is one life of raft inside Run.
type running struct {
	raft     *raft.Raft
	fsm      *fsm
	link     link
	failures chan error // one slot: the first failure
	dead     chan struct{}
	orderer  atomic.Pointer[orderer] // while this hub leads
	had      uint64                  // the last item of the log when raft began
	caughtUp atomic.Bool             // what the log had then is in the ledger
}

// Open reads the raft state of this box. Nothing runs before Run.
func Open(o Options) (*Node, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	kv := &watchedKV{KV: o.KV}
	incarnation, err := openIncarnation(kv, o.Device)
	if err != nil {
		return nil, fmt.Errorf("opening raft: %w", err)
	}
	where, err := addressOf(o.Device)
	if err != nil {
		return nil, fmt.Errorf("opening raft: %w", err)
	}
	logs, err := openLogStore(kv)
	if err != nil {
		return nil, err
	}
	pledges, err := openPledges(kv)
	if err != nil {
		return nil, fmt.Errorf("opening raft: %w", err)
	}
	generation, err := openGeneration(kv)
	if err != nil {
		return nil, fmt.Errorf("opening raft: %w", err)
	}
	n := &Node{o: o, where: where, kv: kv, logs: logs, stable: stableStore{kv}, snaps: &snapshotStore{kv: kv, logs: logs}, pledges: pledges, votes: newVotes(),
		closed: make(chan struct{}), ended: make(chan struct{}), changed: make(chan struct{})}
	n.generation.Store(generation)
	n.rename(serverName(o.Device, incarnation))
	if err := n.finishRenewal(); err != nil {
		return nil, fmt.Errorf("opening raft: %w", err)
	}
	return n, nil
}

func (n *Node) rename(name raft.ServerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.name = name
	n.log = n.o.Log.With().Str("server", string(name)).Logger()
}

func (n *Node) serverName() raft.ServerID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.name
}

// Bootstrap makes this box the only voter of a new region, unless it has raft
// state already, gave it up, or the ledger names other hubs: then it waits to be
// taken in. Only the founder does this.
func (n *Node) Bootstrap() error {
	if guest, err := n.guest(); guest || err != nil {
		return err
	}
	only := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: n.serverName(), Address: n.where}}}
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

// guest reports whether this hub must be taken in by the others.
func (n *Node) guest() (bool, error) {
	_, guest, err := n.kv.Get(keyGuest)
	if err != nil {
		return false, fmt.Errorf("bootstrapping raft: %w", err)
	}
	for _, d := range n.o.Hubs() {
		guest = guest || d != n.o.Device
	}
	return guest, nil
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
	term, err := n.stable.GetUint64(keyTerm)
	switch {
	case errors.Is(err, errNotFound):
		return false, nil
	case err != nil || term != 1:
		return true, err
	}
	return false, n.kv.Update([]Row{{Key: stableKey(keyTerm)}})
}

func (n *Node) config() *raft.Config {
	c := raft.DefaultConfig()
	p, l := n.o.Profile, n.o.Limits
	c.LocalID = n.serverName()
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
		err := n.liveOnce(ctx)
		ends := err != nil && !startsAgain(err) && !n.o.Rests(err)
		if q := n.takeReset(); q != nil {
			if ends {
				q.done <- err
			} else {
				q.done <- n.reset(q.ctx, q.o)
				continue
			}
		}
		switch {
		case err == nil:
			return nil
		case ends:
			return fmt.Errorf("running raft: %w", err)
		case startsAgain(err):
			n.log.Warn().Err(err).Msg("raft starts again")
			n.inquired = n.inquired && !errors.Is(err, errWidowed) // it finds out again, with raft at rest
			continue
		}
		n.log.Warn().Err(err).Msg("ordering rests")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(restEvery):
		}
	}
}

// startsAgain: raft ended to start on what changed on its disk.
func startsAgain(err error) bool {
	return errors.Is(err, errReopen) || errors.Is(err, errRolledBack) || errors.Is(err, errWidowed)
}

// liveOnce runs raft until it ends or a reset is asked for.
func (n *Node) liveOnce(ctx context.Context) error {
	life, stop := context.WithCancel(ctx)
	defer stop()
	n.mu.Lock()
	waits := n.asked != nil
	n.interrupt = stop
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.interrupt = nil
	}()
	if waits {
		return nil
	}
	return n.live(life)
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
	r.fsm = &fsm{ctx: fetches, ledger: n.o.Ledger, fetcher: n.o.Fetcher, region: n.o.Region, fail: fail, configured: n.configured, log: n.log}
	n.snaps.configured = n.configured
	n.snaps.mustReopen = func() { fail(errReopen) }
	disk, err := n.readDiskState()
	if err != nil {
		return fmt.Errorf("reading raft state: %w", err)
	}
	n.disk.Store(&disk)
	n.servers.Store(&disk.config)
	if err := n.connect(r); err != nil {
		return err
	}
	released := make(chan struct{})
	err = n.start(ctx, r, parkingStable{n.stable, n.votes, fail, released})
	if err != nil || r.raft == nil {
		_ = r.link.Close() // err is the news
		return err
	}
	n.running.Store(r)
	var sharing sync.WaitGroup
	sharing.Go(func() { n.share(fetches, r, fail) })
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
		sharing.Wait()
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
		s := newStreams(n.o.Host, self, n.allows, n.o.Profile.Call)
		r.link = newNetLink(s, n.o.Profile, newHCLogger(n.log))
	}
	if err == nil && (n.o.link != nil || n.o.Host != nil) {
		r.link = newTap(r.link, n.pledges, n.votes, n.o.Profile.Call)
	}
	return err
}

func (n *Node) local(f *fsm) local {
	name := n.serverName()
	return local{name: name, address: n.where, applied: f.applied.Load, testify: func(asker raft.ServerAddress) testimony {
		t := n.testify(asker)
		t.Applied = f.applied.Load()
		return t
	}}
}

// start asks the other hubs, does the boot check and starts raft. r.raft stays
// nil when ctx ended.
func (n *Node) start(ctx context.Context, r *running, stable raft.StableStore) error {
	if n.outlived() {
		if err := n.renew(ctx, renewal{Generation: n.o.Generation()}); err != nil {
			return err
		}
		return errRolledBack
	}
	if done, err := n.inquire(ctx, r.link); !done || err != nil {
		return err
	}
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
	_, r.had = n.logs.bounds()
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
	if s := f.Configuration().Servers; len(s) != 1 || s[0].ID != n.serverName() || s[0].Suffrage != raft.Voter {
		return
	}
	var resp raft.TimeoutNowResponse
	if err := r.link.TimeoutNow(n.serverName(), n.where, &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, &resp); err != nil {
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
			switch {
			case n.kv.stalled(watchEvery) > n.o.Limits.StallMax:
				err = ErrStalled
			case n.outlived():
				err = errReopen
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
		if s.ID != n.serverName() && s.Suffrage == raft.Voter {
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
