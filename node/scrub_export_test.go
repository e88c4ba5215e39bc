package node

import (
	"context"

	"github.com/healthpost/healthpost/store"
)

// Mend treats entries [from, to) as damaged.
func (n *Node) Mend(ctx context.Context, from, to uint64) error {
	return n.mendDamage(ctx, []store.DamageError{{Seq: from, End: to, HasSeq: true}})
}

// Scrub checks everything now, as a running box does once a week.
func (n *Node) Scrub(ctx context.Context) error { return n.scrub(ctx) }

// TellDamage tells staff of it.
func (n *Node) TellDamage(repaired, left int) error { return n.tellDamage(repaired, left) }
