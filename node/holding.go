package node

import (
	"cmp"
	"crypto/ecdh"
	"maps"
	"slices"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

// holding is which of the generations that are known hold which others.
type holding struct {
	known map[uint64]*generation
	ids   map[seal.KeyID]seal.Key
	holds map[seal.Key][]uint64
}

// add looks at a wrap of one of them.
func (h *holding) add(w *seal.Wrap) {
	newer, ok := h.ids[w.Recipient]
	if g := h.known[w.Generation]; !ok || newer == g.key || slices.Contains(h.holds[newer], w.Generation) {
		return
	} else if under, err := seal.UnwrapKey(newer, *w); err == nil && under == g.key {
		h.holds[newer] = append(h.holds[newer], w.Generation)
	}
}

// heads are those that no other holds, the highest first. Of some that hold each other in a circle, which
// nobody makes but to have them missed, there is one too.
func (h *holding) heads() (heads []*generation) {
	held, seen := map[uint64]bool{}, map[uint64]bool{}
	for _, older := range h.holds {
		for _, gen := range older {
			held[gen] = true
		}
	}
	see := func(head uint64) {
		for next := []uint64{head}; len(next) > 0; next = next[1:] {
			if gen := next[0]; !seen[gen] {
				seen[gen] = true
				next = append(next, h.holds[h.known[gen].key]...)
			}
		}
	}
	gens := slices.SortedFunc(maps.Keys(h.known), func(a, b uint64) int { return cmp.Compare(b, a) })
	for _, circles := range []bool{false, true} {
		for _, gen := range gens {
			if !seen[gen] && (circles || !held[gen]) {
				heads = append(heads, h.known[gen])
				see(gen)
			}
		}
	}
	slices.SortFunc(heads, func(a, b *generation) int { return cmp.Compare(b.gen, a.gen) })
	return heads
}

// handers tell whose word it is that a key was handed to somebody: that of who has it. Others say it to keep
// it from whom it is for.
type handers struct {
	own    record.DeviceID
	keys   map[record.DeviceID]seal.KeyID // of the members
	region []recipient
}

func (n *Node) handers() (handers, error) {
	h := handers{own: n.author.Device, keys: map[record.DeviceID]seal.KeyID{}}
	members, err := n.store.Members()
	if err != nil {
		return h, err
	}
	for i := range members {
		if key, err := ecdh.X25519().NewPublicKey(members[i].Encryption[:]); err == nil {
			h.keys[members[i].Device] = seal.PublicKeyID(key)
		}
	}
	if h.region, err = n.vault.region(); unreadable(err) {
		err = nil // of nobody that is known here
	}
	return h, err
}

// had reports whether a box had a key when it handed it on.
func (h *handers) had(g *generation, by record.DeviceID) bool {
	if key, ok := h.keys[by]; ok && g.had[key] || by == h.own || by == g.maker {
		return true
	}
	return slices.ContainsFunc(h.region, func(r recipient) bool { return r.has(g) })
}
