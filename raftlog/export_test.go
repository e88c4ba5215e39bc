package raftlog

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
	"github.com/rs/zerolog"
)

// What black-box tests need from inside.

var (
	EncodeLog       = encodeLog
	DecodeLog       = decodeLog
	DecodeReference = decodeReference
	DecodeSnapshot  = decodeSnapshot
	DecodeTestimony = decodeTestimony
	ErrNotFoundText = errNotFound
)

type (
	Pledge    = pledge
	Testimony = testimony
)

func OpenPledges(kv KV) (*pledges, error) { return openPledges(kv) }

// Witnessed is what this hub knows that a server pledged.
func (n *Node) Witnessed(server string) Pledge { return n.pledges.by(raft.ServerID(server)) }

func (p *pledges) Witness(q Pledge)        { p.witness(q) }
func (p *pledges) Learn(list []Pledge)     { p.learn(list) }
func (p *pledges) By(server string) Pledge { return p.by(raft.ServerID(server)) }
func (p *pledges) List() []Pledge          { return p.list() }
func (p *pledges) Stirred() bool           { return p.stirred() }
func (p *pledges) Save() error             { return p.save() }

func OpenLogStore(kv KV) (raft.LogStore, error) { return openLogStore(kv) }
func LastCommand(s raft.LogStore, upTo uint64) (uint64, error) {
	return s.(*logStore).lastCommand(upTo)
}
func OpenStable(kv KV) raft.StableStore    { return stableStore{kv} }
func NewLogger(l zerolog.Logger) *hcLogger { return newHCLogger(l) }

// PledgedBy is what this hub knows that another server pledged.
func (n *Node) PledgedBy(server string) Pledge { return n.pledges.by(raft.ServerID(server)) }

// SetCareless leaves the log as it is when a snapshot is stored, and tells.
func (n *Node) SetCareless(told func()) { n.snaps.careless = told }

// TakeSnapshot takes a snapshot and gives its raft index.
func (n *Node) TakeSnapshot() (uint64, error) {
	f := n.running.Load().raft.Snapshot()
	if err := f.Error(); err != nil {
		return 0, err
	}
	meta, rc, err := f.Open()
	if err != nil {
		return 0, err
	}
	rc.Close()
	return meta.Index, nil
}

// Propose puts any bytes into the raft log.
func (n *Node) Propose(item []byte) error { return n.running.Load().raft.Apply(item, 0).Error() }

// MemNet connects nodes in one process, and cuts them apart.
type MemNet struct {
	Pipelined bool
	Asked     atomic.Int64 // questions between hubs

	mu    sync.Mutex // guards what follows
	links map[raft.ServerAddress]*memLink
	apart map[raft.ServerAddress]bool
	votes map[vote]string // for whom a server voted in a term
	twice []string        // votes that contradict
}

// vote names the one vote that a server has in a term.
type vote struct {
	server string
	term   uint64
}

// voted takes down a vote that counts.
func (m *MemNet) voted(server string, term uint64, candidate string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := vote{server, term}
	if before, ok := m.votes[v]; ok && before != candidate {
		m.twice = append(m.twice, fmt.Sprintf("%s in term %d: %s and %s", server, term, before, candidate))
	}
	m.votes[v] = candidate
}

// Twice lists the votes that servers gave to two candidates in one term.
func (m *MemNet) Twice() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.twice...)
}

// Believe makes a node trust its disk without asking.
func (n *Node) Believe() { n.inquired = true }

func NewMemNet() *MemNet {
	return &MemNet{links: map[raft.ServerAddress]*memLink{}, apart: map[raft.ServerAddress]bool{},
		votes: map[vote]string{}}
}

// Attach makes o use the net.
func (m *MemNet) Attach(o *Options) {
	p := o.Profile
	o.link = func(self local) (link, error) {
		_, t := raft.NewInmemTransportWithTimeout(self.address, p.Call)
		l := &memLink{InmemTransport: t, net: m, self: self}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.links[self.address] = l
		return l, nil
	}
}

// Isolate cuts a device off, or joins it again.
func (m *MemNet) Isolate(d record.DeviceID, apart bool) {
	a, err := addressOf(d)
	if err != nil {
		panic(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.apart[a] = apart
	for _, l := range m.links {
		if apart {
			l.Disconnect(a)
			if l.self.address == a {
				l.DisconnectAll()
			}
		}
	}
}

type memLink struct {
	*raft.InmemTransport
	net  *MemNet
	self local
}

// route makes the transport reach a server, or says why it cannot.
func (l *memLink) route(id raft.ServerID, a raft.ServerAddress) error {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	peer := l.net.links[a]
	switch {
	case peer == nil || l.net.links[l.self.address] != l:
		return fmt.Errorf("nobody at this address")
	case a != l.self.address && (l.net.apart[a] || l.net.apart[l.self.address]):
		return fmt.Errorf("cut off")
	case peer.self.name != id:
		return fmt.Errorf("meant for another server")
	}
	l.Connect(a, peer.InmemTransport)
	return nil
}

func (l *memLink) AppendEntriesPipeline(id raft.ServerID, a raft.ServerAddress) (raft.AppendPipeline, error) {
	if !l.net.Pipelined {
		return nil, raft.ErrPipelineReplicationNotSupported
	}
	if err := l.route(id, a); err != nil {
		return nil, err
	}
	return l.InmemTransport.AppendEntriesPipeline(id, a)
}

func (l *memLink) AppendEntries(id raft.ServerID, a raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := l.route(id, a); err != nil {
		return err
	}
	return l.InmemTransport.AppendEntries(id, a, args, resp)
}

func (l *memLink) RequestVote(id raft.ServerID, a raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := l.route(id, a); err != nil {
		return err
	}
	l.net.voted(string(args.ID), args.Term, string(args.ID))
	err := l.InmemTransport.RequestVote(id, a, args, resp)
	if err == nil && resp.Granted {
		l.net.voted(string(id), args.Term, string(args.ID))
	}
	return err
}

func (l *memLink) RequestPreVote(id raft.ServerID, a raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := l.route(id, a); err != nil {
		return err
	}
	return l.InmemTransport.RequestPreVote(id, a, args, resp)
}

func (l *memLink) InstallSnapshot(id raft.ServerID, a raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := l.route(id, a); err != nil {
		return err
	}
	return l.InmemTransport.InstallSnapshot(id, a, args, resp, data)
}

func (l *memLink) TimeoutNow(id raft.ServerID, a raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if err := l.route(id, a); err != nil {
		return err
	}
	return l.InmemTransport.TimeoutNow(id, a, args, resp)
}

func (l *memLink) ask(_ context.Context, d record.DeviceID) (testimony, error) {
	l.net.Asked.Add(1)
	a, err := addressOf(d)
	if err != nil {
		return testimony{}, err
	}
	l.net.mu.Lock()
	peer := l.net.links[a]
	cut := l.net.apart[a] || l.net.apart[l.self.address]
	l.net.mu.Unlock()
	if peer == nil || cut {
		return testimony{}, fmt.Errorf("nobody at this address")
	}
	return recoded(peer.self.testify(l.self.address))
}

// recoded passes a testimony through its form on the wire.
func recoded(t testimony) (testimony, error) {
	b, err := record.Marshal(t)
	if err != nil {
		return t, err
	}
	return decodeTestimony(b)
}

func (l *memLink) sweep() {}

func (l *memLink) Close() error {
	l.net.mu.Lock()
	if l.net.links[l.self.address] == l {
		delete(l.net.links, l.self.address)
	}
	l.net.mu.Unlock()
	return l.InmemTransport.Close()
}

// PipeNet carries the calls of the real transport through pipes in this process
// and counts what a network would carry.
type PipeNet struct {
	Bytes, Writes atomic.Int64
	Delay         time.Duration // one way

	mu     sync.Mutex // guards what follows
	layers map[raft.ServerAddress]*pipeLayer
}

func NewPipeNet() *PipeNet { return &PipeNet{layers: map[raft.ServerAddress]*pipeLayer{}} }

// Attach makes o use the net.
func (n *PipeNet) Attach(o *Options) {
	p, log := o.Profile, newHCLogger(o.Log)
	o.link = func(self local) (link, error) {
		l := &pipeLayer{net: n, self: self, accepted: make(chan net.Conn), done: make(chan struct{})}
		n.mu.Lock()
		n.layers[self.address] = l
		n.mu.Unlock()
		return newNetLink(l, p, log), nil
	}
}

type pipeLayer struct {
	net      *PipeNet
	self     local
	accepted chan net.Conn
	done     chan struct{}
	once     sync.Once
	mu       sync.Mutex // guards open
	open     []net.Conn
}

// countedConn counts what is written and delivers it after the delay, in order.
type countedConn struct {
	net.Conn
	net   *PipeNet
	queue chan delayed
	gone  chan struct{}
	once  *sync.Once
}

type delayed struct {
	at time.Time
	p  []byte
}

func (n *PipeNet) wrap(c net.Conn) countedConn {
	w := countedConn{c, n, make(chan delayed, 1<<16), make(chan struct{}), new(sync.Once)}
	if n.Delay > 0 {
		go w.deliver()
	}
	return w
}

func (c countedConn) deliver() {
	for {
		select {
		case d := <-c.queue:
			<-time.After(time.Until(d.at)) // the link
			if _, err := c.Conn.Write(d.p); err != nil {
				return
			}
		case <-c.gone:
			return
		}
	}
}

func (c countedConn) Write(p []byte) (int, error) {
	c.net.Bytes.Add(int64(len(p)))
	c.net.Writes.Add(1)
	if c.net.Delay == 0 {
		return c.Conn.Write(p)
	}
	select {
	case c.queue <- delayed{time.Now().Add(c.net.Delay), append([]byte(nil), p...)}:
		return len(p), nil
	case <-c.gone:
		return 0, net.ErrClosed
	}
}

func (c countedConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

func (l *pipeLayer) Dial(a raft.ServerAddress, _ time.Duration) (net.Conn, error) {
	where, name, _ := strings.Cut(string(a), targetSeparator)
	l.net.mu.Lock()
	peer := l.net.layers[raft.ServerAddress(where)]
	l.net.mu.Unlock()
	if peer == nil || string(peer.self.name) != name {
		return nil, fmt.Errorf("nobody at this address")
	}
	a1, a2 := net.Pipe()
	here, there := l.net.wrap(a1), l.net.wrap(a2)
	select {
	case peer.accepted <- there:
	case <-peer.done:
		here.Close()
		there.Close()
		return nil, net.ErrClosed
	}
	for _, end := range []struct {
		l *pipeLayer
		c net.Conn
	}{{l, here}, {peer, there}} {
		end.l.mu.Lock()
		end.l.open = append(end.l.open, end.c)
		end.l.mu.Unlock()
	}
	return here, nil
}

func (l *pipeLayer) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeLayer) Addr() net.Addr { return streamAddr(l.self.address) }

func (l *pipeLayer) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, c := range l.open {
			c.Close()
		}
	})
	return nil
}

func (l *pipeLayer) ask(_ context.Context, d record.DeviceID) (testimony, error) {
	a, err := addressOf(d)
	if err != nil {
		return testimony{}, err
	}
	l.net.mu.Lock()
	peer := l.net.layers[a]
	l.net.mu.Unlock()
	if peer == nil {
		return testimony{}, fmt.Errorf("nobody at this address")
	}
	return recoded(peer.self.testify(l.self.address))
}

func (l *pipeLayer) sweep() {}
func (l *pipeLayer) wait()  {}
