package store

import "sync"

// gate lets readers use the index until it is closed. A reader may enter again
// while it is inside (a caller's function that seals a body reads rows), which a
// sync.RWMutex with a waiting writer would turn into a deadlock.
type gate struct {
	mu      sync.Mutex
	changed sync.Cond // readers became 0, or alone became false
	readers int
	alone   bool // the index is being replaced
	closed  bool
}

func newGate() *gate {
	g := &gate{}
	g.changed.L = &g.mu
	return g
}

// enter counts a reader in; ErrClosed when the index is closed for good.
func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.alone {
		g.changed.Wait()
	}
	if g.closed {
		return ErrClosed
	}
	g.readers++
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.readers--; g.readers == 0 {
		g.changed.Broadcast()
	}
}

// exclusive runs f while no reader is inside. New ones keep entering until there
// is such a moment.
func (g *gate) exclusive(f func() error) error {
	g.mu.Lock()
	for g.readers > 0 {
		g.changed.Wait()
	}
	g.alone = true
	g.mu.Unlock()
	err := f()
	g.mu.Lock()
	g.alone = false
	g.changed.Broadcast()
	g.mu.Unlock()
	return err
}

// close lets nobody in any more and waits for those inside; false when it was
// closed before.
func (g *gate) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.closed
	g.closed = true
	for g.readers > 0 || g.alone {
		g.changed.Wait()
	}
	return !was
}
