package node_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/node"
)

// firstLine closes said when a line with these words is logged.
type firstLine struct {
	words string
	once  sync.Once
	said  chan struct{}
}

func (f *firstLine) Write(b []byte) (int, error) {
	if strings.Contains(string(b), f.words) {
		f.once.Do(func() { close(f.said) })
	}
	return len(b), nil
}

// TestCommandsWaitForABoxThatEnds: a box that has its folder and answers nobody is waited for.
func TestCommandsWaitForABoxThatEnds(t *testing.T) {
	c := newClinic(t)
	c.stop()
	n, err := node.Open(c.o)
	if err != nil {
		t.Fatal(err)
	}
	o, asks := c.o, &firstLine{words: "waiting for a box", said: make(chan struct{})}
	o.Log = zerolog.New(asks)
	ended := make(chan error, 1)
	go func() {
		<-asks.said
		ended <- n.Close()
	}()
	cl, err := node.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := <-ended; err != nil || cl.Running {
		t.Errorf("the box that ended: %v, running %t", err, cl.Running)
	}
}
