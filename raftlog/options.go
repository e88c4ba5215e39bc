package raftlog

import (
	"context"
	"fmt"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/rs/zerolog"
)

// Options say what a node is made of. Profile, Limits and Clock have defaults.
type Options struct {
	Device record.DeviceID
	// Host reaches the other hubs; its identity must be Device. nil makes a
	// single voter in this process, with no network.
	Host host.Host
	// AllowHub says whether a device may open a raft stream here; it is asked
	// for each stream. Before the ledger is here that is the hub of the invitation.
	AllowHub func(record.DeviceID) bool
	// Hubs is the set that the ledger wants as voters.
	Hubs func() []record.DeviceID
	// Region names the region once it is founded or joined.
	Region func() (record.RegionID, bool)

	Ledger  Ledger
	Pending Pending
	KV      KV
	Fetcher Fetcher // may be nil without Host

	// Rests tells errors of KV and Ledger that wrote nothing and will pass, as a
	// full disk does: raft stops and is started again until they have. Nil: none.
	Rests func(error) bool
	// Refused is told of a pending record whose verdict is final. It may be told
	// of the same record again after leadership changed. nil ignores them.
	Refused func(record.Outcome, record.Record)

	// RolledBack is told once, from Run, when this disk turned out to be an older
	// image of itself or was replaced: its raft state is given up, it has a new
	// server id and waits for a leader to take it in. The ledger stays. nil
	// ignores it.
	RolledBack func(RolledBack)
	// Keep takes records of log items that are dropped before they were ordered
	// here: durable on return, which the store's Ingest is. Records that it has
	// already are given too. nil drops them.
	Keep func(context.Context, []record.Record) error
	// Generation is the ledger's, 1 until a reset. Raft state of an earlier
	// generation is given up. nil is always 1.
	Generation func() uint64

	Profile Profile
	Limits  Limits
	// Clock gives Unix milliseconds for the leader's claim in a batch.
	Clock func() int64
	Log   zerolog.Logger

	link func(local) (link, error) // tests only: instead of Host
}

// Profile is a set of timers that fit a kind of network. All hubs of a region
// use the same one.
type Profile struct {
	Name string
	// Heartbeat without contact makes a follower ask for a vote; Election is how
	// long it waits for the votes; a leader without contact to a majority steps
	// down after Lease. Lease <= Heartbeat <= Election.
	Heartbeat, Election, Lease time.Duration
	// Commit is how long an idle leader waits before it tells followers what is
	// committed; up to twice that.
	Commit time.Duration
	// Call bounds one raft call; it must fit MaxAppend items on the link.
	Call      time.Duration
	MaxAppend int // items in one call
	// Reconcile is how often the leader compares hubs and voters.
	Reconcile time.Duration
	// RestoreWait is how long a hub waits, when it starts, for every other hub to
	// say what it pledged; after that a majority will do.
	RestoreWait time.Duration
	// Share is how often hubs tell each other what was pledged to them, while
	// something is.
	Share time.Duration
}

// LAN fits hubs on fibre or in one building.
func LAN() Profile {
	return Profile{Name: "lan", Heartbeat: 3 * time.Second, Election: 3 * time.Second, Lease: 2 * time.Second, Commit: 200 * time.Millisecond,
		Call: 10 * time.Second, MaxAppend: 64, Reconcile: time.Second, RestoreWait: 5 * time.Second, Share: 5 * time.Second}
}

// WAN fits links of 800 ms round trip, and keeps idle traffic under 20 MB a day
// for each follower, headers of TCP and IP included. A lost leader is replaced
// within a minute; saves on the boxes do not wait for it.
func WAN() Profile {
	return Profile{Name: "wan", Heartbeat: 20 * time.Second, Election: 20 * time.Second, Lease: 15 * time.Second, Commit: 5 * time.Second,
		Call: time.Minute, MaxAppend: 8, Reconcile: 15 * time.Second, RestoreWait: time.Minute, Share: time.Minute}
}

// ProfileNamed finds a profile for a configuration file.
func ProfileNamed(name string) (Profile, error) {
	for _, p := range []Profile{LAN(), WAN()} {
		if p.Name == name {
			return p, nil
		}
	}
	return Profile{}, fmt.Errorf("choosing raft timers: no profile %q, only lan and wan", name)
}

// Limits size batches and the raft log.
type Limits struct {
	FlushBytes  int           // a batch this large does not wait for more
	FlushAfter  time.Duration // nor does one this old
	InFlightMax int           // batches proposed and not yet applied

	TrailingItems     uint64 // log items kept behind a snapshot
	SnapshotThreshold uint64 // log items between snapshots
	SnapshotInterval  time.Duration
	StallMax          time.Duration // a log write longer than this ends the node
}

// DefaultLimits are sized for items of at most 256 KiB: 1024 of them stay
// behind a snapshot, so a follower that is further behind gets a reference and
// fetches the range.
func DefaultLimits() Limits {
	return Limits{FlushBytes: 64 << 10, FlushAfter: 250 * time.Millisecond, InFlightMax: 8,
		TrailingItems: 1024, SnapshotThreshold: 512, SnapshotInterval: 5 * time.Minute, StallMax: 30 * time.Second}
}

func (o *Options) complete() error {
	if o.Profile == (Profile{}) {
		o.Profile = LAN()
	}
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	if o.Clock == nil {
		o.Clock = func() int64 { return time.Now().UnixMilli() }
	}
	if o.Rests == nil {
		o.Rests = func(error) bool { return false }
	}
	if o.Refused == nil {
		o.Refused = func(record.Outcome, record.Record) {}
	}
	if o.RolledBack == nil {
		o.RolledBack = func(RolledBack) {}
	}
	if o.Generation == nil {
		o.Generation = func() uint64 { return 1 }
	}
	if o.Region == nil {
		o.Region = func() (record.RegionID, bool) { return record.RegionID{}, false }
	}
	if o.Hubs == nil {
		o.Hubs = func() []record.DeviceID { return nil }
	}
	if o.AllowHub == nil {
		o.AllowHub = func(record.DeviceID) bool { return false }
	}
	if o.Ledger == nil || o.Pending == nil || o.KV == nil {
		return fmt.Errorf("opening raft: ledger, pending and kv are required")
	}
	if o.Fetcher == nil && (o.Host != nil || o.link != nil) {
		return fmt.Errorf("opening raft: a fetcher is required with a host")
	}
	if o.Limits.InFlightMax < 1 || o.Limits.FlushBytes < 1 || o.Limits.FlushBytes > record.BatchBytesMax {
		return fmt.Errorf("opening raft: batches of %d bytes, %d in flight", o.Limits.FlushBytes, o.Limits.InFlightMax)
	}
	return nil
}
