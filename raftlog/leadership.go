package raftlog

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// leadership is what runs while this hub leads.
type leadership struct {
	stop context.CancelFunc
	work sync.WaitGroup
	r    *running
	done chan struct{} // closed when the orderer answered everything
}

func (n *Node) lead(ctx context.Context, r *running) *leadership {
	ctx, stop := context.WithCancel(ctx)
	l := &leadership{stop: stop, r: r, done: make(chan struct{})}
	o := newOrderer(&n.o, r.dead)
	o.log = n.log
	o.propose = func(item []byte) raft.ApplyFuture { return r.raft.Apply(item, 0) }
	o.hold = n.awaitsReset
	o.settle = func(ctx context.Context) error { return await(ctx, r.raft.Barrier(n.o.Profile.Call)) }
	m := newMembers(r.raft, r.link, n.local(r.fsm), &n.o)
	m.log, m.hold, m.generation = n.log, n.awaitsReset, n.generation.Load
	r.orderer.Store(o)
	l.work.Go(func() {
		defer close(l.done)
		o.run(ctx)
	})
	l.work.Go(func() { m.run(ctx) })
	return l
}

// end stops the work and waits for it; raft answers what is under way.
func (l *leadership) end() {
	if l == nil {
		return
	}
	l.stop()
	l.work.Wait()
	l.r.orderer.Store(nil)
}

// wind stops the work and gives what is under way some time to be ordered.
func (l *leadership) wind(atMost time.Duration) {
	l.stop()
	t := time.NewTimer(atMost)
	defer t.Stop()
	select {
	case <-l.done:
	case <-t.C:
	}
}
