package node

import (
	"time"

	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/tpm"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// Version is the software version, set when a release is built.
var Version = "0.1.0-dev"

// Options is everything a box can be told. Make one with NewOptions.
type Options struct {
	Data     string   // folder of this box
	Page     string   // address of the page, host:port; empty for none
	LANPlain bool     // serve the page without TLS on the clinic's network too
	Listen   []string // multiaddrs for peers
	Announce []string // multiaddrs told to others where Listen is not reachable as it is
	Dial     []string // multiaddrs with /p2p/ of boxes to reach; empty takes the hubs in the ledger
	LAN      bool     // find neighbours on the local network by mDNS
	Profile  string   // "lan" or "wan": timers of ordering
	// LogAddress is where a hub serves the ledger for witnesses and auditors,
	// host:port; with an empty one it is not served.
	LogAddress string
	// Here and Away name boxes (by name or device) that stand in this building, and that
	// do not, where their addresses tell otherwise: a copy here is lost with the building.
	Here, Away []string
	Language   []string // the box's languages, first choice first
	Link       Link     // what the way to the hubs costs

	SessionIdle time.Duration  // sign-in ends after this long without use
	PIN         seal.PINParams // cost of one guess of a PIN

	// CosignEvery is how often hubs sign an unchanged ledger anew, so that clinics
	// see that it is of now.
	CosignEvery time.Duration
	// PromiseAfter is within which time a hub promises that what it takes is ordered.
	PromiseAfter time.Duration
	// DoubtAfter is how long a hub's refusal that the own ledger does not confirm
	// stays a doubt before staff are told.
	DoubtAfter time.Duration

	// CarryMax is how many records of other boxes this one holds before they have a
	// place in the ledger; a frame may exceed it.
	CarryMax int

	// Sticks is the folder in which a stick appears as a folder when it is plugged in;
	// empty: sticks are not looked for.
	Sticks string

	// ScrubEvery is how often a running box reads everything it holds; 0 never.
	ScrubEvery time.Duration

	// Stalled has to end the process: the disk does not answer a write any more, so
	// that nothing that waits for it would ever end. nil leaves it to Run's error.
	Stalled func(error)

	// KeyFile is where the key file of this box's lock appears when somebody brings it; empty: nowhere.
	KeyFile string
	// TPM is the device of the TPM 2.0 that a lock can use, or the Unix socket of one that is a program.
	TPM string
	// AskLock gives what opens the lock of a stopped box to a command that takes keys; kind is what it
	// has to be. nil: such commands are refused.
	AskLock func(kind string) (Opener, error)

	Store store.Options
	Log   zerolog.Logger
	Now   func() time.Time

	keys        *seal.Keyring // of this box, whose lock was opened
	whileLocked bool          // open the box although its keys are locked
}

// Link is what the way to the hubs costs, and when it is used. The zero value is a
// link that costs nothing and stands all the time.
type Link struct {
	Metered    bool
	MonthBytes uint64 // that may go over it in a month, 0 for no limit
	// Schedule is when a metered link is used; what is urgent goes at once.
	Schedule peersync.Schedule
}

// NewOptions gives the defaults.
func NewOptions(data string) Options {
	return Options{
		Data: data, Page: "localhost:8080",
		Listen: []string{"/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"},
		LAN:    true, Profile: "wan", Language: []string{"en", "fr"}, TPM: tpm.DefaultPath,
		SessionIdle: 10 * time.Minute, PIN: seal.DefaultPINParams(), ScrubEvery: 7 * 24 * time.Hour,
		CosignEvery: time.Hour, PromiseAfter: 24 * time.Hour, DoubtAfter: time.Minute, CarryMax: 50_000,
		Store: store.NewOptions(), Log: zerolog.Nop(), Now: time.Now,
	}
}

// Timers, each with the reason for its length.
const (
	joinTimeout      = 60 * time.Second // one exchange and one ordered record on a slow link
	inviteLife       = 24 * time.Hour   // long enough to carry a piece of paper to the next clinic
	inviteWait       = 10 * time.Second // what a person waits for, who asked for an invitation
	checkpointEvery  = 250 * time.Millisecond
	closeTimeout     = 10 * time.Second
	accessBatchLines = 50
	accessBatchEvery = 15 * time.Minute
)

func hlcFrom(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) << 16 }

func timeOfHLC(h uint64) time.Time { return time.UnixMilli(int64(h >> 16)) }

// directory is the compartment of what belongs to no patient: places, people,
// medicines, staff. Every member of the region knows its name.
func directory(r record.RegionID) record.CompartmentID { return record.DirectoryCompartment(r) }
