package node

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	peersync "github.com/healthpost/healthpost/sync"
)

// links is this box's contact with others.
type links struct {
	n     *Node
	host  *peersync.Host
	order *ordering                      // set before run on boxes that order
	live  atomic.Pointer[peersync.Links] // nil before the box belongs to a region

	cutMu sync.Mutex
	cut   bool // somebody cut the links, perhaps before there were any; guarded by cutMu
}

// newLinks starts the host. On a box that orders, newOrdering completes it.
func (n *Node) newLinks() (*links, error) {
	meter, err := n.newMeter()
	if err != nil {
		return nil, err
	}
	h, err := peersync.NewHost(peersync.HostOptions{Meter: meter, Prompt: func(d record.DeviceID) bool { return n.box.Role.Orders() && n.isHub(d) },
		Key: n.keys.Signer(), Listen: n.o.Listen, Hub: n.box.Role.Orders(), Allow: n.isMember, AllowStrangers: n.openInvitations})
	if err != nil {
		return nil, err
	}
	return &links{n: n, host: h}, nil
}

func (l *links) run(ctx context.Context) error {
	n := l.n
	region, ok := n.box.RegionID()
	for changed := n.store.Subscribe(ctx); !ok; region, ok = n.box.RegionID() { // a standalone box founds its region meanwhile
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
	live := peersync.NewLinks(l.host, replica{n.store, n, region}, peersync.LinksOptions{
		Session: l.sessionOptions(region), Hubs: l.hubs, HubsWanted: l.hubsWanted(), Neighbours: l.neighbours, LAN: n.o.LAN, Schedule: n.o.Link.Schedule, Allow: n.isMember, Name: n.deviceName,
		Log: n.log.With().Str("part", "sync").Logger()})
	if n.box.Role.Orders() && !n.keys.Locked() {
		l.host.HandleJoin(n.handleJoin)
	}
	l.begin(live)
	return live.Run(ctx)
}

func (l *links) sessionOptions(region record.RegionID) peersync.Options {
	n := l.n
	o := peersync.Options{Region: region, Device: n.author.Device, Role: n.box.Role, Software: Version, Hub: n.isHub,
		WantOrdered: func() bool {
			return n.collecting || l.order != nil && l.order.looking.Load() || !n.box.Role.Orders() && !n.frozen()
		},
		Evidence: n.knownEvidence, TakeEvidence: n.takeEvidence, LooksAt: n.evidence.seenIDs.lacks, Contradiction: n.contradiction, Handover: n.handOver, TakeReset: n.takeReset, TakeReceipt: n.takeReceipt, Promises: n.passedOn, Carry: n.mayCarry, Ledger: n.ledgerID, Hubs: n.hubs, HubsSize: n.hubsSize,
		Final: func(note []byte) (record.Checkpoint, error) {
			return record.VerifyFinal(n.ledgerID(), note, n.hubs())
		},
		Aged: n.aged, Partial: n.selfPartial, Blobs: blobs{n},
		LocalFault: ownFault}
	if !n.box.Role.Orders() && !n.collecting {
		o.Recent = joinRecent
	}
	if l.order != nil {
		o.Receipt = n.promise
		o.Checkpoint, o.Note, o.PushPending = l.order.cosigner.offered, l.order.cosigner.note, l.order.wantsPending
	}
	return o
}

// hubsWanted is one for a box that pays for its link: one copy at a hub is enough,
// and the hubs hand it on. Hubs talk to all.
func (l *links) hubsWanted() int {
	if l.n.box.Role.Orders() || l.n.collecting {
		return 0
	}
	return 1
}

// hubs are dialled by boxes of every role; neighbours are what a configuration
// names besides.
func (l *links) hubs() []peersync.Address { return l.addresses(true) }

func (l *links) neighbours() []peersync.Address { return l.addresses(false) }

func (l *links) addresses(hubs bool) []peersync.Address {
	var out []peersync.Address
	for _, a := range l.n.dialAddresses() {
		d, _, err := peersync.SplitAddress(a)
		if err != nil || d == (record.DeviceID{}) || d == l.n.author.Device || l.n.isHub(d) != hubs {
			continue
		}
		i := slices.IndexFunc(out, func(x peersync.Address) bool { return x.Device == d })
		if i < 0 {
			out = append(out, peersync.Address{Device: d})
			i = len(out) - 1
		}
		out[i].Addresses = append(out[i].Addresses, a)
	}
	return out
}

// announced are the addresses told to others: as configured, else where this box
// listens, on every interface that others can reach.
func (n *Node) announced() []string {
	id, err := peersync.PeerID(n.author.Device)
	if err != nil {
		return nil
	}
	list := n.o.Announce
	if len(list) == 0 {
		list = listenAddresses(n.o.Listen)
	}
	out := []string{}
	for _, a := range list {
		if !strings.Contains(a, "/p2p/") {
			a += "/p2p/" + id.String()
		}
		out = append(out, a)
	}
	return out[:min(len(out), announcedMax)]
}

const (
	announcedMax    = 12
	exchangeTimeout = 5 * time.Minute // a day of visits at 20 kbit/s
)

// listenAddresses replaces "every interface" by the interfaces there are.
func listenAddresses(listen []string) []string {
	var out []string
	for _, a := range listen {
		rest, any4 := strings.CutPrefix(a, "/ip4/0.0.0.0/")
		if !any4 {
			out = append(out, a)
			continue
		}
		ips := ownIPv4()
		if len(ips) == 0 {
			ips = []string{"127.0.0.1"}
		}
		for _, ip := range ips {
			out = append(out, "/ip4/"+ip+"/"+rest)
		}
	}
	return out
}

func ownIPv4() []string {
	var out []string
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	sort.Strings(out)
	return out
}

// PeerIDOf reads who the stopped or running box in a folder is, as others dial it.
func PeerIDOf(dir string) (string, error) {
	b, err := LoadBox(dir)
	if err != nil {
		return "", err
	}
	keys, _, err := seal.LoadKeyring(b.path("keys"))
	if err != nil {
		return "", err
	}
	id, err := peersync.PeerID(keys.DeviceID())
	return id.String(), err
}

func (l *links) close() error { return l.host.Close() }

// syncNow forgets waiting times, so that every peer is tried at once.
func (l *links) syncNow() {
	if live := l.live.Load(); live != nil {
		live.Hurry()
	}
}

// exchange makes one exchange with the peer of that name or id, or with any.
func (l *links) exchange(ctx context.Context, name string) error {
	live := l.live.Load()
	if live == nil {
		return ErrNotRunning
	}
	var d record.DeviceID
	if name != "" {
		var ok bool
		if d, ok = findPeer(live, name); !ok {
			return fmt.Errorf("no peer %q: 'healthpost status' lists them", name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	_, err := live.SyncNow(ctx, d)
	return err
}

func findPeer(live *peersync.Links, name string) (record.DeviceID, bool) {
	for _, p := range live.Peers() {
		if strings.EqualFold(p.Name, name) || p.Device.String() == name || p.Device.Short() == name {
			return p.Device, true
		}
	}
	return record.DeviceID{}, false
}

// another asks for an exchange with a hub besides this one.
func (l *links) another(d record.DeviceID) {
	if live := l.live.Load(); live != nil {
		live.Another(d)
	}
}

// wake makes sessions look again at who leads.
func (l *links) wake() {
	if live := l.live.Load(); live != nil {
		live.Wake()
	}
}

// begin makes live the box's links, cut if somebody cut them already.
func (l *links) begin(live *peersync.Links) {
	l.cutMu.Lock()
	defer l.cutMu.Unlock()
	l.live.Store(live)
	if l.cut {
		live.SetLink(false)
	}
}

func (l *links) setUp(up bool) {
	l.cutMu.Lock()
	defer l.cutMu.Unlock()
	l.cut = !up
	if live := l.live.Load(); live != nil {
		live.SetLink(up)
	}
}

// peerStatus lists peers: connected ones first, then by name.
func (n *Node) peerStatus(r *running) ([]PeerStatus, error) {
	out := []PeerStatus{}
	live := r.links.live.Load()
	if live == nil {
		return out, nil
	}
	n.look()
	for _, p := range live.Peers() {
		s := PeerStatus{Device: p.Device.String(), Name: p.Name, Link: "down", Sent: int(p.Sent), Received: int(p.Received),
			BytesOut: p.BytesOut, BytesIn: p.BytesIn}
		if m, ok, err := n.store.Member(p.Device); err == nil && ok {
			s.Role = m.Role
		}
		at, unsure := n.contact(p.Device)
		s.LastContact, s.ContactSure, s.Elsewhere = at, !unsure, n.elsewhere(p.Device)
		var err error
		if s.Waiting, err = n.waitingFor(p.Device); err != nil {
			return nil, err
		}
		switch {
		case p.Connected && p.Forked:
			s.Link, s.Trouble = "up", "its ledger is not the one of this box: pending records go to it, nothing is confirmed by it"
		case p.Connected:
			s.Link, s.Relayed = "up", strings.Contains(p.Address, peersync.AnyHub)
		default:
			s.Trouble = p.LastError
		}
		out = append(out, s)
	}
	sort.SliceStable(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if (a.Link == "up") != (b.Link == "up") {
			return a.Link == "up"
		}
		return a.Name < b.Name
	})
	return out, nil
}
