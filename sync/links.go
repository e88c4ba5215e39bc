package peersync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/record"
)

// Address says where a device can be reached: multiaddrs, with or without /p2p/.
type Address struct {
	Device    record.DeviceID
	Addresses []string
}

// LinksOptions say whom this box keeps sessions with.
type LinksOptions struct {
	// Session is the pattern for every session; Turn and Fair are filled in. Its Window is
	// for links to hubs, other links use WindowLAN.
	Session Options
	// Hubs are the hubs to dial, preferred first, asked again for every attempt.
	Hubs func() []Address
	// HubsWanted is how many hubs to keep sessions with, 0 for all of Hubs.
	HubsWanted int
	// NoProgress is how long what this box wrote may stay pending while a hub's
	// session stands, before another hub is tried; 0 is 30 s.
	NoProgress time.Duration
	// LookAround is how often, with HubsWanted set, one hub more is met for a moment
	// without sending it anything, so that a hub that shows an old ledger is found
	// out: first twenty seconds after Run began, or after LookAround where that is
	// less. 0 is six hours.
	LookAround time.Duration
	// Neighbours are other boxes to dial at known addresses; nil for none.
	Neighbours func() []Address
	// LAN finds neighbours by mDNS.
	LAN bool
	// Schedule says when hubs are called over a link that the host's meter counts;
	// the zero value keeps the connection. What is urgent, or asked for by SyncNow and
	// Hurry, is not put off.
	Schedule Schedule
	// Allow admits members, as in HostOptions. Name is what staff call a box.
	Allow func(record.DeviceID) bool
	Name  func(record.DeviceID) string
	Log   zerolog.Logger
}

// PeerStatus is what this box knows of its contact with another.
type PeerStatus struct {
	Device            record.DeviceID
	Name              string
	Role              string // what the peer says it is
	Hub               bool
	Connected         bool      // the peer's HELLO came
	Since             time.Time // of Connected
	LastContact       time.Time // last frame exchange, zero for never since this process started
	Address           string    // of the connection
	BytesIn, BytesOut uint64    // of frames, since this process started
	Sent, Received    uint64    // records and entries
	Size, Target      uint64    // peer's ledger; where this box's ledger is heading
	Settled           bool      // nothing left to exchange
	Forked            bool      // its ledger contradicts this one: pending records and evidence are exchanged, entries are not
	LastError         string    // why the last session or attempt ended
}

// Links keeps sessions with hubs and neighbours: it dials, accepts, backs off,
// and holds one session for each peer. Run it; everything else may be called at
// any time.
type Links struct {
	host *Host
	r    Replica
	o    LinksOptions

	kick chan struct{}

	mu       sync.Mutex // guards what follows
	off      bool
	closed   bool
	ctx      context.Context // of Run; nil before
	contacts map[record.DeviceID]*contact
	bell     chan struct{} // closed and replaced at every change
	work     sync.WaitGroup
	looks    int // attempts left to meet one hub more for a moment
	calls    calls
	waiting  bool // something that this box wrote waits to be ordered
}

// contact is one other box, known as long as this process runs.
type contact struct {
	status     PeerStatus
	live       *live // session under way
	dialling   bool
	failures   int
	notBefore  time.Time // of the next attempt
	barred     bool      // notBefore also holds for its own attempts
	neighbour  []ma.Multiaddr
	heard      time.Time // by mDNS
	totals     Progress  // of ended sessions
	configured bool
	deferred   bool // let the other side dial first, once
	doubtedAt  time.Time
	levelAt    time.Time          // when its ledger was as long as this one last
	glance     bool               // met for a moment only
	lastErr    error              // of the last session, nil when it ended well
	cut        bool               // its last session ended while something was under way
	pace       Pace               // of the link to it, as a session found last
	served     context.CancelFunc // of the stream on which a range goes to it
	strange    time.Time          // since when it has a session and is no member, as far as was looked
}

// live is one session of a contact.
type live struct {
	cancel  context.CancelFunc
	wake    chan struct{}
	dialled bool
	began   time.Time
	now     Progress
	looked  uint64
	paid    bool      // over a connection that this box pays for
	quietAt time.Time // since when nothing is left to exchange; zero while there is
	hangUp  bool      // the call is over
	relayed bool      // through a hub
}

// Backoff between attempts.
const (
	retryMin     = time.Second
	retryMax     = 30 * time.Second
	hubRetryMax  = 2 * time.Second // between hubs
	barMin       = time.Minute
	barMax       = time.Hour
	goodSession  = time.Minute      // after which failures are forgotten
	sameTime     = 10 * time.Second // two sessions begun so close to each other are one meeting
	contactsMax  = 1024
	lookInterval = 5 * time.Second // at who should be dialled, when nothing happens
)

// NewLinks prepares the host for sessions over a replica.
func NewLinks(h *Host, r Replica, o LinksOptions) *Links {
	if o.Hubs == nil {
		o.Hubs = func() []Address { return nil }
	}
	if o.Neighbours == nil {
		o.Neighbours = func() []Address { return nil }
	}
	if o.NoProgress == 0 {
		o.NoProgress = noProgressDefault
	}
	if o.LookAround == 0 {
		o.LookAround = lookAroundDefault
	}
	if o.Name == nil {
		o.Name = record.DeviceID.Short
	}
	if o.Allow == nil {
		o.Allow = func(record.DeviceID) bool { return false }
	}
	l := &Links{host: h, r: r, o: o, kick: make(chan struct{}, 1), contacts: map[record.DeviceID]*contact{}, bell: make(chan struct{})}
	l.o.Session.Fair = NewFair(FairSlots)
	l.o.Session.Turn, l.o.Session.shorts = NewTurn(l.Wake), &shorts{}
	if h.meter != nil {
		l.calls.schedule = o.Schedule
	}
	l.calls.begin(time.Now())
	l.o.Session.claims = &blobClaims{freed: l.Wake}
	return l
}

// Run keeps the sessions until the context ends, then ends them and waits.
func (l *Links) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	punching, err := l.host.punch(ctx, l.quicHubs)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.ctx = ctx
	l.mu.Unlock()
	l.host.h.SetStreamHandler(SyncProtocol, l.accept)
	l.host.h.SetStreamHandler(FetchProtocol, l.acceptFetch)
	defer l.host.h.RemoveStreamHandler(SyncProtocol)
	defer l.host.h.RemoveStreamHandler(FetchProtocol)
	if l.o.LAN {
		l.work.Go(func() { listenLAN(ctx, l.host.h, l.heard) })
	}
	l.work.Go(func() { l.watchProgress(ctx) })
	if l.host.relays {
		l.work.Go(func() { l.keepPlaces(ctx) })
	}
	if l.calls.active() {
		l.work.Go(func() { l.watchUrgent(ctx) })
	}
	if l.host.meter != nil {
		l.work.Go(func() { l.keepUsage(ctx) })
	}
	for ctx.Err() == nil {
		wait := l.hangUp(time.Now())
		next := time.NewTimer(min(wait, l.dialDue()))
		select {
		case <-ctx.Done():
		case <-next.C:
		case <-l.kick:
		}
		next.Stop()
	}
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	cancel()
	l.work.Wait()
	return punching.Close()
}

// look makes Run consider dialling at once.
func (l *Links) look() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// Wake makes every session look again at what Options answer, for instance when
// another hub leads or a membership ended.
func (l *Links) Wake() {
	defer l.look()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.contacts {
		if c.live != nil {
			c.live.nudge()
		}
	}
}

func (v *live) nudge() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// SetLink cuts this box off from all others, or lets it connect again.
func (l *Links) SetLink(on bool) {
	l.mu.Lock()
	l.off = !on
	for _, c := range l.contacts {
		if c.live != nil && !on {
			c.live.cancel()
		}
		c.notBefore, c.failures = time.Time{}, 0
	}
	if on {
		l.calls.begin(time.Now())
	}
	l.mu.Unlock()
	l.host.setLink(on)
	l.look()
}

// Peers lists the boxes that this one met or is to meet, hubs first.
func (l *Links) Peers() []PeerStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]PeerStatus, 0, len(l.contacts))
	for _, c := range l.contacts {
		list = append(list, l.statusLocked(c))
	}
	slices.SortFunc(list, func(a, b PeerStatus) int {
		if a.Hub != b.Hub {
			if a.Hub {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Device[:], b.Device[:]))
	})
	return list
}

func (l *Links) statusLocked(c *contact) PeerStatus {
	s := c.status
	s.Name, s.Hub = l.o.Name(s.Device), l.isHub(s.Device)
	p := c.totals
	if c.live != nil {
		n := c.live.now
		p = Progress{BytesIn: p.BytesIn + n.BytesIn, BytesOut: p.BytesOut + n.BytesOut, Sent: p.Sent + n.Sent, Received: p.Received + n.Received}
		s.Size, s.Target, s.Settled, s.Forked = n.Size, n.Target, n.Settled, n.Forked
	}
	s.BytesIn, s.BytesOut, s.Sent, s.Received = p.BytesIn, p.BytesOut, p.Sent, p.Received
	return s
}

func (l *Links) isHub(d record.DeviceID) bool { return l.o.Session.Hub != nil && l.o.Session.Hub(d) }

// SyncNow makes one exchange with a peer, or with a zero device any hub or
// neighbour, and returns its status when nothing is left to exchange. Without a
// peer that answers it gives the last error, which wraps ErrNoPeer.
func (l *Links) SyncNow(ctx context.Context, peer record.DeviceID) (PeerStatus, error) {
	l.hurry(peer)
	var asked *live
	var before uint64
	for {
		l.mu.Lock()
		bell := l.bell
		c := l.pickLocked(peer)
		if c == nil || c.live == nil {
			err := l.hopelessLocked(peer)
			l.mu.Unlock()
			if err != nil {
				return PeerStatus{}, err
			}
		} else if v := c.live; v != asked {
			asked, before = v, v.looked
			v.nudge()
			l.mu.Unlock()
		} else {
			status, done := l.statusLocked(c), c.status.Connected && v.now.Settled && v.looked > before
			l.mu.Unlock()
			if done {
				return status, nil
			}
		}
		select {
		case <-bell:
		case <-ctx.Done():
			return PeerStatus{}, fmt.Errorf("syncing: %w", ctx.Err())
		}
	}
}

// hurry forgets the waiting time of a peer, or of all.
func (l *Links) hurry(peer record.DeviceID) {
	l.mu.Lock()
	for d, c := range l.contacts {
		if (peer == record.DeviceID{} || d == peer) && !c.barred {
			c.notBefore, c.failures, c.deferred = time.Time{}, 0, true
		}
	}
	l.calls.begin(time.Now())
	l.mu.Unlock()
	l.look()
}

// pickLocked finds the contact that SyncNow talks to.
func (l *Links) pickLocked(peer record.DeviceID) *contact {
	if peer != (record.DeviceID{}) {
		return l.contacts[peer]
	}
	var best *contact
	for d, c := range l.contacts {
		if c.live == nil {
			continue
		}
		if best == nil || l.isHub(d) && (!l.isHub(best.status.Device) || best.glance) {
			best = c
		}
	}
	return best
}

// hopelessLocked says why nobody will answer: every attempt failed and waits.
func (l *Links) hopelessLocked(peer record.DeviceID) error {
	if l.off || l.closed {
		return fmt.Errorf("the link is cut: %w", ErrNoPeer)
	}
	last := ""
	for d, c := range l.contacts {
		if peer != (record.DeviceID{}) && d != peer {
			continue
		}
		if c.dialling || c.live != nil || c.failures == 0 && !c.barred && (c.configured || len(c.neighbour) > 0) {
			return nil
		}
		last = c.status.LastError
	}
	if last == "" {
		if l.ctx == nil || len(l.o.Hubs())+len(l.o.Neighbours()) > len(l.contacts) {
			return nil // not tried yet
		}
		return ErrNoPeer
	}
	return fmt.Errorf("%w: %s", ErrNoPeer, last)
}

// ringLocked tells waiters that something changed.
func (l *Links) ringLocked() {
	close(l.bell)
	l.bell = make(chan struct{})
}

// contactLocked finds or makes the note on a peer; nil when there are too many.
func (l *Links) contactLocked(d record.DeviceID) *contact {
	c, ok := l.contacts[d]
	if !ok {
		if len(l.contacts) >= contactsMax {
			return nil
		}
		c = &contact{status: PeerStatus{Device: d}}
		l.contacts[d] = c
	}
	return c
}

// heard notes a neighbour that mDNS found.
func (l *Links) heard(d record.DeviceID, addresses []ma.Multiaddr) {
	if d == l.host.device || !l.o.Allow(d) {
		return
	}
	l.mu.Lock()
	near := 0
	for _, c := range l.contacts {
		if len(c.neighbour) > 0 {
			near++
		}
	}
	if c := l.contactLocked(d); c != nil && (len(c.neighbour) > 0 || near < lanNeighbours) {
		c.neighbour, c.heard = addresses, time.Now()
	}
	l.mu.Unlock()
	l.look()
}

func (l *Links) accept(s network.Stream) {
	d, err := DeviceOf(s.Conn().RemotePeer())
	if err != nil || !l.o.Allow(d) {
		_ = s.Reset() // nobody is owed an answer here; a stream that is gone already is as good
		return
	}
	if err := l.session(d, &stream{Stream: s}, false); errors.Is(err, errRefused) {
		_ = s.Reset() // as above
	}
}

// acceptFetch serves one ordered range to a member; its next stream ends the one
// before.
func (l *Links) acceptFetch(s network.Stream) {
	d, err := DeviceOf(s.Conn().RemotePeer())
	ctx, done := l.begin()
	if done != nil {
		defer done()
	}
	if err != nil || done == nil || !l.o.Allow(d) {
		_ = s.Reset() // as in accept
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !l.serving(d, cancel) {
		_ = s.Reset() // as in accept
		return
	}
	o := l.o.Session.bare()
	o.Window = WindowLAN
	err = Run(ctx, &stream{Stream: s}, NewSession(l.r, d, o), RunOptions{})
	l.o.Log.Debug().Stringer("peer", d).AnErr("end", err).Msg("range served")
}

func (l *Links) serving(d record.DeviceID, cancel context.CancelFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.contactLocked(d)
	if c == nil {
		return false
	}
	if c.served != nil {
		c.served()
	}
	c.served = cancel
	return true
}

// begin counts a piece of work; done is nil when Run is not running.
func (l *Links) begin() (ctx context.Context, done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.closed || l.off {
		return nil, nil
	}
	l.work.Add(1)
	return l.ctx, l.work.Done
}

// Hurry tries every peer at once, whatever waiting time it has, and makes
// running sessions look again.
func (l *Links) Hurry() {
	l.hurry(record.DeviceID{})
	l.Wake()
}
