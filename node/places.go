package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// A copy is worth most when it is under another roof. Which boxes are elsewhere is
// decided from where they were met last: one that was reached over this building's
// own network is in the building; a field device goes about and is never counted on;
// whoever set the box up may know better (Options.Here, Options.Away).
//
//	met/ device    meeting, not secret: it holds for the next run, in which an
//	               acknowledgement of this one still counts
type meeting struct {
	_     struct{} `cbor:",toarray"`
	At    int64    // Unix seconds of this box's clock
	Near  bool     // over the building's own network
	Guess bool     // the clock showed a time that was over
}

// places is what this process knows of meetings.
type places struct {
	mu  sync.Mutex
	met map[record.DeviceID]place // guarded by mu
}

type place struct {
	meeting
	address string // where Near was decided for
	kept    meeting
	run     bool // met in this process
}

const (
	placesEvery = 5 * time.Second
	meetingKept = 10 * time.Minute // a meeting that lasts is written this often
	placesMax   = 1024
)

func meetingKey(d record.DeviceID) []byte { return append([]byte("met/"), d[:]...) }

// loadPlaces reads the meetings of earlier runs.
func (n *Node) loadPlaces() error {
	p := &n.places
	p.mu.Lock()
	defer p.mu.Unlock()
	p.met = map[record.DeviceID]place{}
	var bad error
	err := n.store.ScanRows([]byte("met/"), placesMax, func(k, v []byte) bool {
		var m meeting
		if len(k) != len("met/")+32 {
			return true
		}
		if bad = record.Unmarshal(v, &m); bad != nil {
			return false
		}
		p.met[record.DeviceID(k[len("met/"):])] = place{meeting: m, kept: m}
		return true
	})
	if err := errors.Join(err, bad); err != nil {
		return fmt.Errorf("reading where others were met: %w", err)
	}
	return nil
}

// placesLoop notes meetings, and the time, until ctx ends.
func (n *Node) placesLoop(ctx context.Context) error {
	tick := time.NewTicker(placesEvery)
	defer tick.Stop()
	var told time.Time
	for {
		rows, err := n.meetings()
		if now := time.Now(); err == nil && (len(rows) > 0 || now.Sub(told) >= keepTimeEach) {
			told = now
			err = n.store.PutRows(ctx, append(rows, n.timeRow()))
		}
		if err != nil && ctx.Err() == nil && n.store.Err() == nil && !errors.Is(err, store.ErrFull) {
			n.log.Error().Err(err).Msg("noting who was met")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// meetings looks at every peer and gives the rows to keep.
func (n *Node) meetings() ([]store.Row, error) {
	n.look()
	n.places.mu.Lock()
	defer n.places.mu.Unlock()
	var rows []store.Row
	for d, p := range n.places.met {
		if p.meeting == p.kept || p.Near == p.kept.Near && p.Guess == p.kept.Guess && p.At >= p.kept.At && p.At-p.kept.At < int64(meetingKept/time.Second) {
			continue
		}
		v, err := record.Marshal(p.meeting)
		if err != nil {
			return nil, err
		}
		p.kept = p.meeting
		n.places.met[d] = p
		rows = append(rows, store.Row{Key: meetingKey(d), Value: v})
	}
	return rows, nil
}

// look takes what the links say of meetings in this process.
func (n *Node) look() {
	r := n.up.Load()
	if r == nil {
		return
	}
	live := r.links.live.Load()
	if live == nil {
		return
	}
	now, guess := n.o.Now(), n.clock.trust() == clockWrong
	n.places.mu.Lock()
	defer n.places.mu.Unlock()
	for _, x := range live.Peers() {
		if x.LastContact.IsZero() {
			continue
		}
		p, known := n.places.met[x.Device]
		if !known && len(n.places.met) >= placesMax {
			continue
		}
		if p.address != x.Address && x.Address != "" || !p.run {
			p.address, p.Near = x.Address, nearby(x.Address, ownNetworks())
		}
		p.At, p.Guess, p.run = now.Add(-time.Since(x.LastContact)).Unix(), guess, true
		n.places.met[x.Device] = p
	}
}

// elsewhere tells of a device whether what it holds is under another roof than this
// box. On a field device every other one is: it is carried away from all of them.
func (n *Node) elsewhere(d record.DeviceID) bool {
	name := n.deviceName(d)
	called := func(list []string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, name) || s == d.String() || s == d.Short() })
	}
	switch {
	case called(n.o.Here):
		return false
	case called(n.o.Away), n.box.Role == record.RoleField:
		return true
	}
	if m, ok, err := n.store.Member(d); err != nil || !ok || m.Role == record.RoleField {
		return false
	}
	n.places.mu.Lock()
	defer n.places.mu.Unlock()
	p, ok := n.places.met[d]
	return ok && !p.Near
}

// contact is when a peer was met last. unsure: in an earlier run, by a clock that
// cannot be compared with now.
func (n *Node) contact(d record.DeviceID) (at time.Time, unsure bool) {
	n.places.mu.Lock()
	p, ok := n.places.met[d]
	n.places.mu.Unlock()
	if !ok {
		return time.Time{}, false
	}
	at = time.Unix(p.At, 0)
	return at, !p.run && (p.Guess || n.clock.trust() == clockWrong || at.After(n.o.Now()))
}

// nearby reports whether an address lies in the building: on one of its networks, on
// this machine, or behind a relay, where nobody can tell.
func nearby(address string, own []netip.Prefix) bool {
	a, err := ma.NewMultiaddr(address)
	if err != nil {
		return true
	}
	if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return true
	}
	ip, err := manet.ToIP(a)
	if err != nil {
		return false // a name: it is looked up out there
	}
	at, ok := netip.AddrFromSlice(ip)
	at = at.Unmap()
	if !ok || at.IsLoopback() || at.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Contains(at) })
}

// ownNetworks are the networks that this box is on together with others in the
// building. A tunnel or a modem is a way out, not such a network.
func ownNetworks() []netip.Prefix {
	list, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, i := range list {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagPointToPoint != 0 || i.Flags&net.FlagBroadcast == 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Masked())
			}
		}
	}
	return out
}
