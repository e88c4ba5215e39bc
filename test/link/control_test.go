package link_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/link"
	"github.com/healthpost/healthpost/test/rig"
)

// connected gives both ends of a TCP connection through a link.
func connected(tb testing.TB, l *link.Link) (near, far net.Conn) {
	tb.Helper()
	listener, err := l.Far.Listen(link.FarAddress + ":7000")
	check(tb, "listening", err)
	defer listener.Close()
	near, err = l.Near.Dial(link.FarAddress + ":7000")
	check(tb, "dialling", err)
	tb.Cleanup(func() { near.Close() })
	far, err = listener.Accept()
	check(tb, "accepting", err)
	tb.Cleanup(func() { far.Close() })
	return near, far
}

func newLink(tb testing.TB) *link.Link {
	tb.Helper()
	l, err := link.New(rig.NewSeed(tb))
	check(tb, "making the link", err)
	tb.Cleanup(l.Close)
	return l
}

// pass sends n bytes and gives the time until the last one came.
func pass(tb testing.TB, from, to net.Conn, n int) time.Duration {
	tb.Helper()
	sent := bytes.Repeat([]byte{7}, n)
	begun := time.Now()
	wrote := make(chan error, 1)
	go func() {
		_, err := from.Write(sent)
		wrote <- err
	}()
	got := make([]byte, n)
	_, err := io.ReadFull(to, got)
	check(tb, "receiving", err)
	check(tb, "sending", <-wrote)
	if !bytes.Equal(got, sent) {
		tb.Fatal("other bytes came than were sent")
	}
	return time.Since(begun)
}

// tries is how often a transfer may come late before the rig is blamed for it: the
// machine may have been busy with something else.
const tries = 20

// TestRate: a bare TCP transfer gets the rate that is set, each way its own, and
// its bytes are all counted.
func TestRate(t *testing.T) {
	l := newLink(t)
	near, far := connected(t, l)
	l.Shape(link.Path{Rate: 800_000, Delay: 5 * time.Millisecond}, link.Path{Rate: 2_400_000, Delay: 5 * time.Millisecond})
	for _, way := range []struct {
		name     string
		from, to net.Conn
		rate     float64
		count    func() link.Count
	}{
		{"up", near, far, 800_000, func() link.Count { c, _ := l.Counts(); return c }},
		{"down", far, near, 2_400_000, func() link.Count { _, c := l.Counts(); return c }},
	} {
		var got float64
		for i := 0; i < tries && got < 0.8*way.rate; i++ {
			before, n := way.count(), 60_000
			took := pass(t, way.from, way.to, n)
			c := way.count().Since(before)
			if c.Payload != int64(n) || c.Lost != 0 {
				t.Errorf("%s: counted %+v, want a payload of %d and nothing lost", way.name, c, n)
			}
			got = float64(c.Bytes*8) / took.Seconds()
		}
		if got < 0.8*way.rate || got > 1.05*way.rate {
			t.Errorf("%s: %.0f bit/s, want about %.0f", way.name, got, way.rate)
		}
	}
}

// TestUnshaped: the rig itself is far from being what limits.
func TestUnshaped(t *testing.T) {
	l := newLink(t)
	near, far := connected(t, l)
	n, took := 1_000_000, time.Hour
	for i := 0; i < tries && took > time.Second; i++ {
		took = pass(t, near, far, n)
	}
	if took > time.Second {
		t.Errorf("%d bytes took %s without a shape", n, took)
	}
}

// TestDelayAndJitter: a byte there and back takes both delays and at most the
// jitter and a little more.
func TestDelayAndJitter(t *testing.T) {
	l := newLink(t)
	near, far := connected(t, l)
	l.Shape(link.Path{Delay: 60 * time.Millisecond}, link.Path{Delay: 20 * time.Millisecond, Jitter: 30 * time.Millisecond})
	least, most := time.Hour, time.Duration(0)
	for range 10 {
		took := pass(t, near, far, 1) + pass(t, far, near, 1)
		least, most = min(least, took), max(most, took)
	}
	if least < 80*time.Millisecond {
		t.Errorf("a round trip of %s, shorter than the delays", least)
	}
	if most-least < 2*time.Millisecond {
		t.Errorf("all round trips took %s to %s; there is no jitter", least, most)
	}
}

// TestLoss: about the share is lost that is set, TCP sends it again, and a seed
// gives the same losses.
func TestLoss(t *testing.T) {
	l := newLink(t)
	near, far := connected(t, l)
	l.Shape(link.Path{Rate: 20_000_000, Loss: 0.1}, link.Path{})
	packet, n := make([]byte, 200), 0
	for range 600 {
		if _, err := near.Write(packet); err != nil {
			t.Fatal(err)
		}
		n += len(packet)
		if _, err := io.ReadFull(far, packet); err != nil {
			t.Fatal(err)
		}
		if c, _ := l.Counts(); c.Packets > 150 && c.Lost > 8 {
			break
		}
	}
	c, _ := l.Counts()
	if share := float64(c.Lost) / float64(c.Packets); share < 0.02 || share > 0.3 {
		t.Errorf("%d of %d packets lost, want about a tenth", c.Lost, c.Packets)
	}
	if c.Again == 0 {
		t.Error("nothing was sent again, although packets were lost")
	}
	if c.Payload != int64(n) {
		t.Errorf("counted %d bytes of payload, %d were sent", c.Payload, n)
	}
}

// TestQueueOverflows: what does not fit is not sent.
func TestQueueOverflows(t *testing.T) {
	l := newLink(t)
	l.Shape(link.Path{Rate: 100_000, Queue: 3000}, link.Path{})
	near, far := connected(t, l)
	pass(t, near, far, 20_000)
	if c, _ := l.Counts(); c.Overflow == 0 {
		t.Errorf("counted %+v, want packets that found the queue full", c)
	}
}

// TestCut: connections are forgotten at a byte, both ends hear of it, new ones pass.
func TestCut(t *testing.T) {
	l := newLink(t)
	near, far := connected(t, l)
	pass(t, near, far, 1)
	pass(t, far, near, 1)
	rnd := rand.New(rand.NewPCG(rig.NewSeed(t), 3))
	told := make(chan struct{})
	l.CutAfter(1+rnd.Int64N(50_000), func() { close(told) })
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, far)
		ended <- err
	}()
	for {
		if _, err := near.Write(make([]byte, 1000)); err != nil {
			break
		}
	}
	<-told
	if err := <-ended; err == nil {
		t.Error("the far end saw an orderly end")
	}
	near, far = connected(t, l)
	pass(t, near, far, 1000)
}

// TestSilence: a silent link swallows, and goes on where it was.
func TestSilence(t *testing.T) {
	l := newLink(t)
	near, far := connected(t, l)
	pass(t, near, far, 100)
	before, _ := l.Counts()
	l.Silence(true)
	if _, err := near.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	far.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := far.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes came over a silent link", n)
	}
	if after, _ := l.Counts(); after != before {
		t.Errorf("a silent link counted %+v", after.Since(before))
	}
	l.Silence(false)
	far.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(far, make([]byte, 100)); err != nil {
		t.Errorf("after the silence: %v", err)
	}
}

// TestPlug: without the device the near side knows at once that there is no network.
func TestPlug(t *testing.T) {
	l := newLink(t)
	check(t, "unplugging", l.Plug(false))
	begun := time.Now()
	if c, err := l.Near.Dial(link.FarAddress + ":7000"); err == nil {
		c.Close()
		t.Error("connected without a device")
	}
	if took := time.Since(begun); took > time.Minute { // who waits for an answer waits two
		t.Errorf("it took %s to know that there is no network", took)
	}
	check(t, "plugging in", l.Plug(true))
	near, far := connected(t, l)
	pass(t, near, far, 1)
}
