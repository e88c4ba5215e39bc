package peersync

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
)

// gatherMux makes one message of what is said within a moment. The multiplexer
// hands each of its frames, often of twelve bytes, to the secure channel alone, and
// each then costs thirty bytes of framing and a packet of its own.
type gatherMux struct {
	mux    *yamux.Transport
	prompt func(peer.ID) bool // peers for which nothing is gathered
}

// NewConn implements network.Multiplexer.
func (m *gatherMux) NewConn(c net.Conn, isServer bool, scope network.PeerScope) (network.MuxedConn, error) {
	if p, ok := c.(interface{ RemotePeer() peer.ID }); ok && m.prompt(p.RemotePeer()) {
		return m.mux.NewConn(c, isServer, scope)
	}
	return m.mux.NewConn(newGatherConn(c), isServer, scope)
}

const (
	gatherTime     = 2 * time.Millisecond
	gatherBytes    = 1200     // from which on nothing is waited for
	gatherBytesMax = 16 << 10 // held at most; a writer waits
	gatherClose    = time.Second
	gatherPing     = 5 * time.Second // for what nobody waits for, and may as well travel with a message
)

// gatherConn is a connection whose writer runs beside it. A write that returned may
// fail later; the next one tells.
type gatherConn struct {
	net.Conn
	more chan struct{} // of one slot: there is something to send, or the end
	full chan struct{} // of one slot: enough for a packet
	talk chan struct{} // of one slot: something that somebody waits for
	done chan struct{} // the writer ended

	mu      sync.Mutex // guards what follows
	room    *sync.Cond
	buf     []byte
	talks   bool // buf has something that somebody waits for
	err     error
	closing bool
}

func newGatherConn(c net.Conn) *gatherConn {
	g := &gatherConn{Conn: c, more: make(chan struct{}, 1), full: make(chan struct{}, 1), talk: make(chan struct{}, 1), done: make(chan struct{})}
	g.room = sync.NewCond(&g.mu)
	go g.run()
	return g
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Write holds p until a moment is over or there is enough for a packet.
func (g *gatherConn) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.buf) >= gatherBytesMax && g.err == nil && !g.closing {
		g.room.Wait()
	}
	if g.err != nil {
		return 0, g.err
	}
	if g.closing {
		return 0, net.ErrClosed
	}
	if g.neverOpenedLocked(p) {
		return len(p), nil
	}
	g.buf = append(g.buf, p...)
	if !g.talks && !canWait(p) {
		g.talks = true
		signal(g.talk)
	}
	signal(g.more)
	if len(g.buf) >= gatherBytes {
		signal(g.full)
	}
	return len(p), nil
}

// Places in a header of yamux, and its values (yamux spec, "Framing").
const (
	muxHeaderBytes  = 12
	muxType         = 1 // 0 data, 1 window update
	muxFlags        = 3 // low byte: 1 opens a stream, 2 accepts it, 8 resets it
	muxStream       = 4
	muxLength       = 8
	muxData         = 0
	muxWindowUpdate = 1
	muxPing         = 2
	muxOpen         = 1
	muxAccept       = 2
	muxReset        = 8
)

// canWait: pings measure the link, and that a stream was opened or accepted shows in
// what is said on it.
func canWait(p []byte) bool {
	return len(p) == muxHeaderBytes && (p[muxType] == muxPing || p[muxType] == muxWindowUpdate && (p[muxFlags] == muxOpen || p[muxFlags] == muxAccept))
}

// neverOpenedLocked takes back the opening of a stream that is reset before it left.
// Streams for which no room is allowed end so, one on every connection.
func (g *gatherConn) neverOpenedLocked(p []byte) bool {
	if len(p) != muxHeaderBytes || p[muxType] != muxWindowUpdate || p[muxFlags]&muxReset == 0 {
		return false
	}
	opened, frames := -1, 0
	for at := 0; at+muxHeaderBytes <= len(g.buf); {
		h := g.buf[at : at+muxHeaderBytes]
		if bytes.Equal(h[muxStream:muxLength], p[muxStream:muxLength]) {
			if frames++; h[muxType] == muxWindowUpdate && h[muxFlags] == muxOpen {
				opened = at
			}
		}
		at += muxHeaderBytes
		if h[muxType] == muxData {
			at += int(binary.BigEndian.Uint32(h[muxLength:]))
		}
	}
	if opened < 0 || frames != 1 {
		return false
	}
	g.buf = slices.Delete(g.buf, opened, opened+muxHeaderBytes)
	return true
}

// run is the writer; Close ends it and waits.
func (g *gatherConn) run() {
	defer close(g.done)
	var out []byte
	moment := time.NewTimer(gatherTime)
	defer moment.Stop()
	for range g.more {
		moment.Reset(gatherPing)
		select {
		case <-moment.C:
		case <-g.talk:
		}
		moment.Reset(gatherTime)
		select {
		case <-moment.C:
		case <-g.full:
		}
		g.mu.Lock()
		out, g.buf, g.talks = g.buf, out[:0], false
		closing := g.closing
		g.room.Broadcast()
		g.mu.Unlock()
		if len(out) > 0 {
			if _, err := g.Conn.Write(out); err != nil {
				g.fail(err)
				return
			}
		}
		if closing {
			return
		}
	}
}

func (g *gatherConn) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
	g.room.Broadcast()
}

// Close sends what is held, for a second at most, and closes the connection.
func (g *gatherConn) Close() error {
	g.mu.Lock()
	again := g.closing
	g.closing = true
	g.room.Broadcast()
	g.mu.Unlock()
	if !again {
		_ = g.Conn.SetWriteDeadline(time.Now().Add(gatherClose)) // a peer that takes nothing is left alone
		signal(g.more)
		signal(g.talk)
		signal(g.full)
		<-g.done
	}
	return g.Conn.Close()
}
