package raftlog

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A network that swallows packets leaves connections behind that look whole. TCP tries
// such a one again after pauses that grow as long as the outage was, up to two minutes,
// and every new stream would wait in the same connection. So a connection on which a
// call got no answer in its time, and nothing else came in that time either, is closed:
// the next dial begins at once. A hub that is merely slow still answers heartbeats.

// Read notes that the connection lives, or that it may not.
func (c *conversation) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	switch {
	case n > 0:
		c.owner.hears(c.Conn())
	case err != nil && timedOut(err):
		c.owner.doubt(c.Conn(), time.Unix(0, c.asked.Load()))
	}
	return n, err
}

// SetDeadline and SetReadDeadline note when a call began.
func (c *conversation) SetDeadline(t time.Time) error {
	c.asked.Store(time.Now().UnixNano())
	return c.Stream.SetDeadline(t)
}

func (c *conversation) SetReadDeadline(t time.Time) error {
	c.asked.Store(time.Now().UnixNano())
	return c.Stream.SetReadDeadline(t)
}

func timedOut(err error) bool {
	var e net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &e) && e.Timeout()
}

// stream opens a stream to a hub.
func (s *streams) stream(ctx context.Context, id peer.ID) (network.Stream, error) {
	asked := time.Now()
	st, err := s.host.NewStream(ctx, id, Protocol)
	if err != nil && timedOut(err) {
		for _, c := range s.host.Network().ConnsToPeer(id) {
			s.doubt(c, asked)
		}
	}
	return st, err
}

func (s *streams) hears(c network.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.heard[c] = time.Now()
	}
}

// doubt closes a connection on which nothing came since something was asked, when
// that is as long ago as a call may take.
func (s *streams) doubt(c network.Conn, asked time.Time) {
	s.mu.Lock()
	silent := s.heard[c].Before(asked) && time.Since(asked) >= s.deadline-silenceSlack
	s.mu.Unlock()
	if silent {
		_ = c.Close() // it is dead, and says nothing new in closing
	}
}

// silenceSlack is what a call may have begun before its time was taken.
const silenceSlack = time.Second
