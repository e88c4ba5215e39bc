package node

import (
	"context"
	"errors"
	"time"

	"github.com/healthpost/healthpost/store"
)

// watchEvery bounds how often a box looks at what changed; watchIdle is how often
// it looks when nothing did, because promises and doubts end by time.
const (
	watchEvery = 500 * time.Millisecond
	watchIdle  = 10 * time.Minute
)

// watchLoop holds what others did against what they signed, and does what follows.
func (n *Node) watchLoop(ctx context.Context) error {
	changed := n.store.Subscribe(ctx)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		for _, duty := range []func(context.Context) error{n.judgeDoubts, n.expose, n.mend, n.publishEvidence, n.checkPromises, n.attest, n.freshen} {
			if err := duty(ctx); err != nil && ctx.Err() == nil && n.store.Err() == nil && !errors.Is(err, store.ErrFull) {
				n.log.Error().Err(err).Msg("watching what others signed")
			}
		}
		idle := min(watchIdle, n.o.CosignEvery)
		if n.inDoubt() {
			idle = doubtsLooked
		}
		again := time.NewTimer(idle)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again.C:
		}
		again.Stop()
		pause.Reset(watchEvery)
	}
}
