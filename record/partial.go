package record

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// A partial replica holds some entries of the ledger and, for the runs between
// them, hashes of subtrees: enough to reach the same root as a full one.

// Subtree names a perfect subtree of the ledger's tree: the entries
// [Index<<Level, (Index+1)<<Level).
type Subtree struct {
	Level int
	Index uint64
}

// From is the first entry of the subtree.
func (s Subtree) From() uint64 { return s.Index << s.Level }

// To is one past the last entry of the subtree.
func (s Subtree) To() uint64 { return (s.Index + 1) << s.Level }

// GapShape gives the fewest perfect subtrees that make up the entries [from, to),
// left to right: at most 124. From 0 they are those of a Range of size to.
func GapShape(from, to uint64) []Subtree {
	var out []Subtree
	if to > treeSizeMax {
		return nil
	}
	for from < to {
		level := min(bits.TrailingZeros64(from), bits.Len64(to-from)-1)
		out = append(out, Subtree{level, from >> level})
		from += 1 << level
	}
	return out
}

// GapHashes is a run of entries [From, To) that is given as the hashes of the subtrees
// of GapShape.
type GapHashes struct {
	From, To uint64
	Hashes   []Hash
}

// Check says whether the gap is well formed: not empty, and with as many hashes as
// its shape has. The error wraps ErrMalformed.
func (g *GapHashes) Check() error {
	if g.From >= g.To || g.To > treeSizeMax || len(g.Hashes) != len(GapShape(g.From, g.To)) {
		return fmt.Errorf("reading gap: %w: %d hashes for entries %d to %d", ErrMalformed, len(g.Hashes), g.From, g.To)
	}
	return nil
}

// AppendGap appends the bytes of a gap: from and length as uvarints, then the
// hashes.
func AppendGap(b []byte, g *GapHashes) []byte {
	b = binary.AppendUvarint(b, g.From)
	b = binary.AppendUvarint(b, g.To-g.From)
	for _, h := range g.Hashes {
		b = append(b, h[:]...)
	}
	return b
}

// TakeGap reads a gap from the front of b and gives the rest. The error wraps
// ErrMalformed.
func TakeGap(b []byte) (g GapHashes, rest []byte, err error) {
	var n uint64
	for _, v := range []*uint64{&g.From, &n} {
		x, w := binary.Uvarint(b)
		if w <= 0 || w > 1 && b[w-1] == 0 { // the shortest form only
			return GapHashes{}, nil, fmt.Errorf("reading gap: %w: its bounds", ErrMalformed)
		}
		*v, b = x, b[w:]
	}
	if n == 0 || n > treeSizeMax || g.From > treeSizeMax-n {
		return GapHashes{}, nil, fmt.Errorf("reading gap: %w: %d entries from %d", ErrMalformed, n, g.From)
	}
	g.To = g.From + n
	shape := GapShape(g.From, g.To)
	if len(b) < 32*len(shape) {
		return GapHashes{}, nil, fmt.Errorf("reading gap: %w: %d bytes for %d hashes", ErrMalformed, len(b), len(shape))
	}
	g.Hashes = make([]Hash, len(shape))
	for i := range shape {
		g.Hashes[i] = Hash(b[32*i:])
	}
	return g, b[32*len(shape):], nil
}

// AppendSubtree adds the hash of a perfect subtree of 1<<level entries and returns
// the subtree hashes that became complete by it, its own first. ErrMalformed when
// the tree does not end where such a subtree can begin.
func (r *Range) AppendSubtree(level int, h Hash) ([]Hash, error) {
	if level < 0 || level > 61 || r.Size&(1<<level-1) != 0 || r.Size > treeSizeMax-1<<level {
		return nil, fmt.Errorf("adding a subtree: %w: level %d at size %d", ErrMalformed, level, r.Size)
	}
	made := []Hash{h}
	for s := r.Size >> level; s&1 == 1; s >>= 1 {
		left := r.Hashes[len(r.Hashes)-1]
		r.Hashes = r.Hashes[:len(r.Hashes)-1]
		h = nodeHash(left, h)
		made = append(made, h)
	}
	r.Hashes = append(r.Hashes, h)
	r.Size += 1 << level
	return made, nil
}

// AppendGap adds a gap that begins where the tree ends.
func (r *Range) AppendGap(g *GapHashes) error {
	if err := g.Check(); err != nil {
		return err
	}
	if g.From != r.Size {
		return fmt.Errorf("adding a gap: %w: it begins at %d, the tree has size %d", ErrMalformed, g.From, r.Size)
	}
	for i, s := range GapShape(g.From, g.To) {
		if _, err := r.AppendSubtree(s.Level, g.Hashes[i]); err != nil {
			return err
		}
	}
	return nil
}

// VerifyRange checks that leaf hashes stand from an entry on in the tree of head.
// left and right are the hashes of GapShape(0, from) and of GapShape(from +
// len(leaves), head.Size).
func VerifyRange(head TreeHead, from uint64, leaves, left, right []Hash) error {
	to := from + uint64(len(leaves))
	if head.Size > treeSizeMax || from > head.Size || to > head.Size || to < from {
		return fmt.Errorf("verifying entries: %w: %d from %d in a tree of size %d", ErrMalformed, len(leaves), from, head.Size)
	}
	r, err := NewRange(from, left)
	if err != nil {
		return fmt.Errorf("verifying entries: %w", err)
	}
	for _, h := range leaves {
		r.Append(h)
	}
	if to < head.Size {
		if err := r.AppendGap(&GapHashes{From: to, To: head.Size, Hashes: right}); err != nil {
			return fmt.Errorf("verifying entries: %w", err)
		}
	} else if len(right) != 0 {
		return fmt.Errorf("verifying entries: %w: %d hashes behind the last entry", ErrMalformed, len(right))
	}
	if r.Head() != head {
		return fmt.Errorf("verifying entries %d to %d: they are not in the tree of size %d", from, to, head.Size)
	}
	return nil
}

// Nodes are the hashes of subtrees of one tree, as far as they are known.
type Nodes map[Subtree]Hash

// AddGap takes in the hashes of GapShape(from, to).
func (n Nodes) AddGap(from, to uint64, hashes []Hash) {
	for i, s := range GapShape(from, to) {
		if i < len(hashes) {
			n[s] = hashes[i]
		}
	}
}

// Hash gives the hash of a subtree: the one that is known, or made of those below
// it, down to a level where all are known.
func (n Nodes) Hash(s Subtree) (Hash, bool) {
	h, ok := n[s]
	if ok || s.Level == 0 {
		return h, ok
	}
	left, ok := n.Hash(Subtree{s.Level - 1, 2 * s.Index})
	if !ok {
		return h, false
	}
	right, ok := n.Hash(Subtree{s.Level - 1, 2*s.Index + 1})
	if !ok {
		return h, false
	}
	h = nodeHash(left, right)
	n[s] = h
	return h, true
}

// HeldByAll says whether every replica, partial ones too, holds the entry: who is
// a member, what orders, what was assigned must be known to judge what follows.
// Left out are the beginnings of epochs and sessions, which come with the records
// that need them, what others attested, and what belongs to a compartment.
func (e *Entry) HeldByAll() bool {
	c := &e.Record.Core
	if e.Seq < 2 {
		return true
	}
	switch c.Kind {
	case KindEpochOpen, KindSessionOpen, KindAttest:
		return false
	case KindKeyWrap:
		return c.Compartment.IsZero()
	}
	return !c.Kind.Sealed()
}

// Skip goes past entries that are not held, up to a seq. From here on the Orderer
// knows that it does not know everything: see Place.
func (o *Orderer) Skip(to uint64) {
	o.size, o.sparse = max(o.size, to), true
}

// Sparse says that entries before the first call are not all held.
func (o *Orderer) Sparse() { o.sparse = true }

// Place judges an entry that a ledger has at its place, and takes it in when the
// verdict is Ordered. Where every entry before is held that is Add, and time and
// previous entry must come out the same. Otherwise those that are not held are
// taken to say what lets this one stand: its feed may have gone on meanwhile, and
// its compartment too. That the ledger has the entry is for the tree to prove.
// An error means that the state could not be read and nothing was decided.
func (o *Orderer) Place(e *Entry) (Outcome, error) {
	bad := Outcome{RID: e.Record.rid, Verdict: NotAllowed, Seq: e.Seq}
	if e.Seq != o.size || e.Time < o.time {
		return bad, nil
	}
	last, err := o.compartmentLast(e.Record.Core.Compartment)
	if err != nil {
		return bad, err
	}
	known := e.PrevSeq == last || o.sparse && e.PrevSeq > last && e.PrevSeq <= e.Seq && !e.Record.Core.Compartment.IsZero()
	if !known {
		return bad, nil
	}
	if !o.sparse {
		return o.Add(e.Time, e.Record)
	}
	r := e.Record
	out, device, err := o.judge(&r)
	if err != nil || out.Verdict != Ordered {
		return out, err
	}
	c := &change{o: o, time: e.Time}
	if v, err := c.allowed(&r, device); err != nil || v != Ordered {
		out.Verdict = v
		return out, err
	}
	out.Seq = e.Seq
	o.take(c)
	o.append(*e, device)
	return out, nil
}

// continues says whether a record can be the next of its feed after the head that
// is known: the next, or in a sparse ledger a later one.
func (o *Orderer) continues(r *Record, head Head) (v Verdict, want uint64) {
	switch n := r.Core.N; {
	case n == head.N+1 && r.Core.Prev == head.RID:
		return Ordered, 0
	case n == head.N+1:
		return BadPrev, 0
	case o.sparse && n > head.N:
		return Ordered, 0
	case o.sparse: // the ledger has them in their order
		return BadPrev, 0
	}
	return Gap, head.N + 1
}
