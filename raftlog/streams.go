package raftlog

import (
	"bytes"
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
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Protocol is the libp2p protocol that hubs speak among themselves.
const Protocol protocol.ID = "/healthpost/raft/1"

// Kinds of stream, the first byte.
const (
	streamCalls    = 1
	streamQuestion = 3 // 2 was a question with a shorter answer
)

const (
	serverNameBytesMax = 32
	conversationsMax   = 256 // open inbound streams
)

// streams is a raft.StreamLayer on the streams of a host: it accepts calls of
// hubs that mean this server and dials servers by "peer id/server id".
type streams struct {
	host     host.Host
	self     local
	allow    func(record.DeviceID) bool
	deadline time.Duration

	accepted chan net.Conn
	done     chan struct{}
	inbound  sync.WaitGroup // one for each tracked inbound conversation

	mu     sync.Mutex // guards what follows
	open   map[*conversation]struct{}
	heard  map[network.Conn]time.Time // when a connection gave anything last
	closed bool
}

func newStreams(h host.Host, self local, allow func(record.DeviceID) bool, deadline time.Duration) *streams {
	s := &streams{host: h, self: self, allow: allow, deadline: deadline, accepted: make(chan net.Conn), done: make(chan struct{}),
		open: map[*conversation]struct{}{}, heard: map[network.Conn]time.Time{}}
	h.SetStreamHandler(Protocol, s.handle)
	return s
}

// conversation is a stream as the net.Conn that raft wants.
type conversation struct {
	network.Stream
	owner   *streams
	device  record.DeviceID
	inbound bool
	asked   atomic.Int64 // when a deadline was set last, Unix nanoseconds
}

type streamAddr string

func (streamAddr) Network() string  { return string(Protocol) }
func (a streamAddr) String() string { return string(a) }

func (c *conversation) LocalAddr() net.Addr  { return streamAddr(c.owner.self.address) }
func (c *conversation) RemoteAddr() net.Addr { return streamAddr(c.Conn().RemotePeer().String()) }

func (c *conversation) Close() error {
	c.owner.forget(c)
	if err := c.Stream.Close(); err != nil {
		return c.Reset()
	}
	return nil
}

func (s *streams) track(c *conversation) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || c.inbound && len(s.open) >= conversationsMax {
		return false
	}
	s.open[c] = struct{}{}
	if c.inbound {
		s.inbound.Add(1)
	}
	return true
}

func (s *streams) forget(c *conversation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[c]; !ok {
		return
	}
	delete(s.open, c)
	if c.inbound {
		s.inbound.Done()
	}
}

// handle takes one stream of another box.
func (s *streams) handle(st network.Stream) {
	d, err := deviceOf(st.Conn().RemotePeer())
	if err != nil || !s.allow(d) {
		_ = st.Reset()
		return
	}
	c := &conversation{Stream: st, owner: s, device: d, inbound: true}
	if !s.track(c) {
		_ = st.Reset()
		return
	}
	if err := s.greet(c); err != nil {
		s.forget(c)
		_ = st.Reset()
	}
}

// greet reads what the stream is for and hands it on.
func (s *streams) greet(c *conversation) error {
	if err := c.SetDeadline(time.Now().Add(s.deadline)); err != nil {
		return err
	}
	var head [2]byte
	if _, err := io.ReadFull(c, head[:1]); err != nil {
		return err
	}
	switch head[0] {
	case streamQuestion:
		asker, err := addressOf(c.device)
		if err != nil {
			return err
		}
		return s.answer(c, s.self.testify(asker))
	case streamCalls:
	default:
		return fmt.Errorf("reading raft stream: kind %d", head[0])
	}
	if _, err := io.ReadFull(c, head[1:]); err != nil {
		return err
	}
	if int(head[1]) > serverNameBytesMax {
		return fmt.Errorf("reading raft stream: server id of %d bytes", head[1])
	}
	name := make([]byte, head[1])
	if _, err := io.ReadFull(c, name); err != nil {
		return err
	}
	if raft.ServerID(name) != s.self.name {
		return fmt.Errorf("reading raft stream: meant for another server")
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	select {
	case s.accepted <- c:
		return nil
	case <-s.done:
		return net.ErrClosed
	}
}

func (s *streams) answer(c *conversation, t testimony) error {
	b, err := record.Marshal(t)
	if err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	return c.Close()
}

// ask opens a stream for one question.
func (s *streams) ask(ctx context.Context, d record.DeviceID) (testimony, error) {
	b, err := s.question(ctx, d)
	if err != nil {
		return testimony{}, fmt.Errorf("asking hub %s: %w", d.Short(), err)
	}
	return decodeTestimony(b)
}

func (s *streams) question(ctx context.Context, d record.DeviceID) ([]byte, error) {
	id, err := peerOf(d)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	st, err := s.stream(ctx, id)
	if err != nil {
		return nil, err
	}
	defer st.Reset()
	c := &conversation{Stream: st, owner: s, device: d}
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := c.Write([]byte{streamQuestion}); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(c, testimonyBytesMax+1))
}

// Dial opens a stream for calls; raft.StreamLayer.
func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	where, name, ok := strings.Cut(string(address), targetSeparator)
	if !ok || len(name) > serverNameBytesMax {
		return nil, fmt.Errorf("dialing hub: address without server id")
	}
	if raft.ServerAddress(where) == s.self.address {
		return s.dialSelf()
	}
	id, err := peer.Decode(where)
	if err != nil {
		return nil, fmt.Errorf("dialing hub: %w", err)
	}
	d, err := deviceOf(id)
	if err != nil {
		return nil, fmt.Errorf("dialing hub: %w", err)
	}
	if !s.allow(d) {
		return nil, fmt.Errorf("dialing hub %s: not a hub of this region", d.Short())
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	st, err := s.stream(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("dialing hub %s: %w", d.Short(), err)
	}
	c := &conversation{Stream: st, owner: s, device: d}
	greeting := append([]byte{streamCalls, byte(len(name))}, name...)
	if err := c.SetDeadline(time.Now().Add(timeout)); err == nil {
		_, err = io.Copy(c, bytes.NewReader(greeting))
		if err == nil && s.track(c) {
			return c, nil
		}
	}
	_ = st.Reset()
	return nil, fmt.Errorf("dialing hub %s: stream closed", d.Short())
}

// dialSelf connects this server with itself: the only voter tells itself to
// stand for election without waiting for a timer.
func (s *streams) dialSelf() (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case s.accepted <- there:
		return here, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Accept gives the next stream with calls; raft.StreamLayer.
func (s *streams) Accept() (net.Conn, error) {
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Addr is this server's raft address; raft.StreamLayer.
func (s *streams) Addr() net.Addr { return streamAddr(s.self.address) }

// Close ends every stream; raft.StreamLayer.
func (s *streams) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.host.RemoveStreamHandler(Protocol)
	close(s.done)
	for c := range s.open {
		_ = c.Reset()
	}
	return nil
}

// wait returns when no inbound conversation is served any more.
func (s *streams) wait() { s.inbound.Wait() }

// sweep ends the conversations of devices that are no longer allowed, and forgets
// connections that are gone.
func (s *streams) sweep() {
	s.mu.Lock()
	for conn := range s.heard {
		if conn.IsClosed() {
			delete(s.heard, conn)
		}
	}
	open := make([]*conversation, 0, len(s.open))
	for c := range s.open {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		if !s.allow(c.device) {
			_ = c.Reset()
		}
	}
}
