package peersync

import (
	"bytes"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/p2p/security/noise"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multistream"
)

// eagerConn is an outgoing connection that takes for granted that the other side
// speaks Noise: the proposal travels with the first message of the handshake, for
// one round trip less, and the answer is compared when it comes.
type eagerConn struct {
	manet.Conn
	answer  []byte // not given to the reader yet
	checked bool   // the real one came and was the same
	held    []byte // the proposal, until the handshake begins
	begun   bool
}

// accepted is the answer of who takes the proposal.
var accepted = append(token(multistream.ProtocolID), token(string(noise.ID))...)

// token is a line of the negotiation: its length and a newline.
func token(s string) []byte { return append([]byte{byte(len(s) + 1)}, s+"\n"...) }

func newEagerConn(c manet.Conn) *eagerConn { return &eagerConn{Conn: c, answer: accepted} }

func (c *eagerConn) Read(p []byte) (int, error) {
	if len(c.answer) > 0 {
		n := copy(p, c.answer)
		c.answer = c.answer[n:]
		return n, nil
	}
	if !c.checked {
		got := make([]byte, len(accepted))
		if _, err := io.ReadFull(c.Conn, got); err != nil {
			return 0, fmt.Errorf("agreeing on a secure channel: %w", err)
		}
		if !bytes.Equal(got, accepted) {
			return 0, fmt.Errorf("agreeing on a secure channel: the other side does not speak %s", noise.ID)
		}
		c.checked = true
	}
	return c.Conn.Read(p)
}

func (c *eagerConn) Write(p []byte) (int, error) {
	if c.begun {
		return c.Conn.Write(p)
	}
	if c.held == nil {
		c.held = bytes.Clone(p)
		return len(p), nil
	}
	c.begun = true
	n, err := c.Conn.Write(append(c.held, p...))
	return max(n-len(c.held), 0), err
}
