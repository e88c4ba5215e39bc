package peersync

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	manet "github.com/multiformats/go-multiaddr/net"
)

// TestGatherMakesOneMessage: what is written within a moment goes out as one; what
// fills a packet does not wait, and Close leaves nothing behind.
func TestGatherMakesOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		g := newGatherConn(near)
		got := make(chan string)
		go func() {
			defer close(got)
			for b := make([]byte, 64<<10); ; {
				n, err := far.Read(b)
				if err != nil {
					return
				}
				got <- string(b[:n])
			}
		}()
		say := func(s string) {
			t.Helper()
			if n, err := g.Write([]byte(s)); err != nil || n != len(s) {
				t.Fatalf("writing: %d, %v", n, err)
			}
		}
		began := time.Now()
		say("a")
		say("b")
		if s := <-got; s != "ab" || time.Since(began) != gatherTime {
			t.Errorf("%q after %s, want both letters after %s", s, time.Since(began), gatherTime)
		}
		began = time.Now()
		say(strings.Repeat("x", gatherBytes))
		if s := <-got; len(s) != gatherBytes || time.Since(began) != 0 {
			t.Errorf("%d bytes after %s, want a packet's at once", len(s), time.Since(began))
		}
		say("the end")
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if s := <-got; s != "the end" {
			t.Errorf("%q before the end", s)
		}
		if _, err := g.Write([]byte("c")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("writing after Close: %v", err)
		}
	})
}

// TestGatherTakesBackAStream: a stream that was opened and reset within a moment
// never leaves; one that said something does.
func TestGatherTakesBackAStream(t *testing.T) {
	frame := func(kind, flags, id byte, body string) []byte {
		return append([]byte{0, kind, 0, flags, 0, 0, 0, id, 0, 0, 0, byte(len(body))}, body...)
	}
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		g := newGatherConn(near)
		var want []byte
		for _, f := range [][]byte{frame(2, 1, 0, ""), frame(1, 1, 3, ""), frame(1, 1, 5, ""), frame(0, 0, 5, "hello"), frame(1, 8, 3, ""), frame(1, 8, 5, "")} {
			if _, err := g.Write(f); err != nil {
				t.Fatal(err)
			}
			if f[7] != 3 {
				want = append(want, f...)
			}
		}
		got := make([]byte, 4096)
		n, err := far.Read(got)
		if err != nil || !bytes.Equal(got[:n], want) {
			t.Errorf("%x, %v; want %x", got[:n], err, want)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestGatherLetsPingsWait: a ping, or that a stream was accepted, travels with the
// next message, or alone after a while.
func TestGatherLetsPingsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		g := newGatherConn(near)
		ping, got := []byte{0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7}, make([]byte, 64)
		accepted := []byte{0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0}
		for _, x := range []struct {
			with string
			wait time.Duration
		}{{"hello", 100*time.Millisecond + gatherTime}, {"", gatherPing + gatherTime}} {
			began := time.Now()
			for _, p := range [][]byte{ping, accepted} {
				if _, err := g.Write(p); err != nil {
					t.Fatal(err)
				}
			}
			go func() {
				time.Sleep(100 * time.Millisecond) // of the bubble
				if x.with != "" {
					g.Write([]byte(x.with)) // a failure shows in what is read
				}
			}()
			n, err := far.Read(got)
			if err != nil || string(got[:n]) != string(ping)+string(accepted)+x.with || time.Since(began) != x.wait {
				t.Errorf("%q, %v after %s; want the ping and %q after %s", got[:n], err, time.Since(began), x.with, x.wait)
			}
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestGatherTellsThatThePeerIsGone: a writer that waits for room is let go.
func TestGatherTellsThatThePeerIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		g := newGatherConn(near)
		go func() {
			time.Sleep(time.Minute) // of the bubble
			far.Close()
		}()
		var err error
		for err == nil {
			_, err = g.Write(make([]byte, 4<<10))
		}
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("writing to a peer that is gone: %v", err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestEagerProposal: the proposal goes with the first message of the handshake, and
// another answer than the one taken for granted ends the connection.
func TestEagerProposal(t *testing.T) {
	for _, x := range []struct {
		name, answer string
		ok           bool
	}{{"accepted", "\x13/multistream/1.0.0\n\x07/noise\nhello", true}, {"refused", "\x13/multistream/1.0.0\n\x03na\n12345678", false}, {"cut", "\x13/multi", false}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan []byte, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 8)
			n, _ := io.ReadFull(c, b) // a short one shows below
			heard <- b[:n]
			io.WriteString(c, x.answer)
			c.Close()
		}()
		raw, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		mc, err := manet.WrapNetConn(raw)
		if err != nil {
			t.Fatal(err)
		}
		c := newEagerConn(mc)
		for _, part := range []string{"prop", "osal"} {
			if n, err := c.Write([]byte(part)); n != len(part) || err != nil {
				t.Errorf("%s: writing %q: %d, %v", x.name, part, n, err)
			}
		}
		if got := <-heard; string(got) != "proposal" {
			t.Errorf("%s: the other side heard %q", x.name, got)
		}
		assumed := make([]byte, len(accepted))
		if _, err := io.ReadFull(c, assumed); err != nil || !bytes.Equal(assumed, accepted) {
			t.Errorf("%s: %q, %v", x.name, assumed, err)
		}
		rest, err := io.ReadAll(c)
		if x.ok != (err == nil && string(rest) == "hello") {
			t.Errorf("%s: read %q, %v", x.name, rest, err)
		}
		c.Close()
		l.Close()
	}
}
