package rig_test

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

// TestLinkCounts: each direction is counted apart, to the byte, and a cut ends
// what goes through.
func TestLinkCounts(t *testing.T) {
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	_, port, err := net.SplitHostPort(far.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l := rig.NewLink(t, nil, &rig.Box{T: t, PeerPort: port})
	near, err := net.Dial("tcp", "127.0.0.1:"+l.Port)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	end, err := far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	pass := func(to, from net.Conn, n int) {
		t.Helper()
		sent := bytes.Repeat([]byte{7}, n)
		go to.Write(sent)
		got := make([]byte, n)
		if _, err := io.ReadFull(from, got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes did not pass: %v", n, err)
		}
	}
	pass(near, end, 1234)
	pass(end, near, 567)
	if out, in := l.Out.Load(), l.In.Load(); out != 1234 || in != 567 {
		t.Errorf("counted %d out, %d in; want 1234, 567", out, in)
	}
	l.Set(false)
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("a cut link still gives bytes")
	}
}
