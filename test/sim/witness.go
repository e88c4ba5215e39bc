package sim

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// witness is what a box does about lies: it keeps evidence that it verified,
// passes it on, and confirms nothing more once a majority of the hubs lied. It
// survives a crash, as rows of the replica do.
type witness struct {
	shelf    [][]byte // newest first
	finds    []record.Finding
	known    map[record.Hash]bool
	seen     map[[8]byte]bool    // kept, or not worth it
	looked   map[record.RID]bool // refusals
	frozen   bool
	lied     bool            // evidence says so: frozen, unless a hook prevents it
	frozenAt record.TreeHead // what was final then
	stale    bool            // staff are told as of when the regional view is
	blamed   map[record.DeviceID]int
	promises []promise
}

// promise is one head of a receipt that is not known to be ordered.
type promise struct {
	head    record.ReceiptHead
	receipt record.Receipt
}

func newWitness() *witness {
	return &witness{known: map[record.Hash]bool{}, seen: map[[8]byte]bool{}, looked: map[record.RID]bool{}, blamed: map[record.DeviceID]int{}}
}

// perCulprit bounds what a box takes from others about one device: whoever lies
// can make any number of pieces against itself. What the box found out itself and
// what freezes it is kept whatever there is.
const perCulprit = 16

// passedOn is what a box passes on: first that a majority lied, then what is
// newest; nothing about feeds that the ledger has frozen.
func (w *world) passedOn(b *box) [][]byte {
	var first, rest [][]byte
	for i, f := range b.wit.finds {
		switch f.Kind {
		case record.EvidenceSplitView:
			if f.Final && len(first) == 0 {
				first = append(first, b.wit.shelf[i])
				continue
			}
		case record.EvidenceEquivocation:
			if frozen, err := w.isFrozen(b, f.Feed); err == nil && frozen {
				continue
			}
		}
		rest = append(rest, b.wit.shelf[i])
	}
	return append(first, rest...)
}

// watch adds a witness's part to a box's session.
func (w *world) watch(b *box, o *peersync.Options) {
	o.Evidence = func() [][]byte { return w.passedOn(b) }
	o.TakeEvidence = func(_ record.DeviceID, piece []byte) error { return w.takeEvidence(b, piece, false) }
	o.LooksAt = func(id [8]byte) bool { return !b.wit.seen[id] }
	o.Contradiction = func(_ record.DeviceID, note []byte) []byte { return w.contradicted(b, note) }
	if w.gang != nil {
		o.TakeReceipt = func(_ record.DeviceID, r record.Receipt) error {
			b.promised(r)
			return nil
		}
		if b.hub() {
			o.Receipt = func(heads []record.ReceiptHead) (record.Receipt, bool) { return w.receipt(b, heads), true }
		}
	}
	if w.o.Hooks.KeepQuiet {
		o.Evidence = func() [][]byte { return nil }
		o.Contradiction = func(record.DeviceID, []byte) []byte { return nil }
	}
}

// takeEvidence verifies a piece and keeps it.
func (w *world) takeEvidence(b *box, piece []byte, own bool) error {
	e, err := record.DecodeEvidence(piece)
	if err != nil {
		return err
	}
	if b.wit.known[e.ID()] {
		return nil
	}
	f, err := e.Verify(w.region, w.hubIDs())
	if err != nil && !w.o.Hooks.BelieveAll {
		return err
	}
	if f.Kind == record.EvidenceEquivocation {
		if _, ok, err := b.st.Member(f.Culprits[0]); err != nil || !ok {
			return errors.Join(err, errStranger)
		}
	}
	if !own && !(f.Kind == record.EvidenceSplitView && f.Final) && b.against(f) >= perCulprit {
		b.wit.seen[prefix(e)] = true
		return nil
	}
	return w.keepEvidence(b, e, f)
}

// prefix is what sessions call a piece.
func prefix(e record.Evidence) [8]byte {
	id := e.ID()
	return [8]byte(id[:8])
}

// against counts the pieces about the first culprit of a finding.
func (b *box) against(f record.Finding) (n int) {
	for _, x := range b.wit.finds {
		if len(f.Culprits) > 0 && slices.Contains(x.Culprits, f.Culprits[0]) {
			n++
		}
	}
	return n
}

var errStranger = errors.New("evidence about a device that is no member")

func (w *world) keepEvidence(b *box, e record.Evidence, f record.Finding) error {
	for _, d := range f.Culprits {
		if !w.guilty[d] && !(f.Kind == record.EvidencePromise && w.leadersLie()) {
			return w.violated(HonestUnblamed, "%s takes evidence (%s) against %s", b, f.Kind, d.Short())
		}
	}
	if len(f.Culprits) == 0 {
		return w.violated(HonestUnblamed, "%s takes evidence (%s) against nobody", b, e.Kind)
	}
	wit := b.wit
	if f.Kind == record.EvidenceEquivocation && slices.ContainsFunc(wit.finds, func(x record.Finding) bool { return x.Kind == f.Kind && x.Feed == f.Feed }) {
		wit.seen[prefix(e)] = true
		return nil // one piece freezes the feed
	}
	wit.known[e.ID()], wit.seen[prefix(e)] = true, true
	wit.shelf = slices.Insert(wit.shelf, 0, e.Encode())
	wit.finds = slices.Insert(wit.finds, 0, f)
	w.res.Evidence++
	w.tracef("%s keeps evidence: %s by %d, final %v", b, f.Kind, len(f.Culprits), f.Final)
	if f.Kind == record.EvidenceSplitView && f.Final && !wit.frozen && !w.o.Hooks.NoFreeze {
		wit.frozen = true
	}
	if f.Kind == record.EvidenceSplitView && f.Final && !wit.lied {
		wit.lied = true
		_, wit.frozenAt, _ = b.st.Final() // zero where nothing is final: nothing may become so
	}
	w.wake(b)
	return nil
}

// leadersLie: who makes the ledger may leave out what an honest hub took in good
// faith, and its promise is broken all the same.
func (w *world) leadersLie() bool { return w.gang != nil && len(w.gang.liars) > 0 }

// promiseSeconds is how long a hub gives itself to have a record ordered.
const promiseSeconds = 24 * 3600

func (w *world) receipt(h *box, heads []record.ReceiptHead) record.Receipt {
	now := (startMillis + w.now) / 1000
	return record.SignReceipt(w.region, now, now+promiseSeconds, heads, h.author.Key)
}

// promised keeps the oldest promise of a hub about a feed until it is kept, and
// besides it the furthest.
func (b *box) promised(r record.Receipt) {
	for _, h := range r.Heads {
		b.w.given = append(b.w.given, given{b, h, r.By})
		same := func(p promise) bool { return p.receipt.Hub == r.Hub && p.head.Feed() == h.Feed() }
		at := slices.IndexFunc(b.wit.promises, same)
		if b.w.o.Hooks.NewestPromise {
			b.wit.promises = slices.DeleteFunc(b.wit.promises, same)
		} else if at >= 0 {
			rest := slices.DeleteFunc(slices.Clone(b.wit.promises[at+1:]), same)
			b.wit.promises = append(b.wit.promises[:at+1:at+1], rest...)
		}
		b.wit.promises = append(b.wit.promises, promise{h, r})
	}
}

// checkPromises forgets what was kept, and makes evidence of what a majority of
// the hubs says is overdue.
func (w *world) checkPromises(b *box) error {
	note, final, ok := b.st.Final()
	if !ok {
		return nil
	}
	cp, err := w.verifyFinal(note)
	if err != nil {
		return err
	}
	left := b.wit.promises[:0]
	for _, p := range b.wit.promises {
		loc, ok, err := b.st.Locate(p.head.RID)
		switch {
		case err != nil:
			return err
		case ok && !loc.Pending && loc.Seq < final.Size:
			continue
		case cp.Time <= p.receipt.By:
			left = append(left, p)
			continue
		}
		e, err := record.NewBrokenPromise(w.region.Ledger(1), p.receipt, note, w.hubIDs())
		if err != nil {
			return w.violated(PromisesProven, "%s cannot prove a broken promise: %v", b, err)
		}
		if err := w.takeEvidence(b, e.Encode(), true); err != nil {
			return err
		}
		w.res.Promises++
	}
	b.wit.promises = left
	return nil
}

// checkOverdue looks at the promises from outside: whatever a box was promised, is
// overdue by the checkpoint that it holds, and is not in its ledger, it can prove.
// Somebody who has the ledger up to there sees that it is missing.
func (w *world) checkOverdue(b *box) error {
	note, final, ok := b.st.Final()
	if !ok {
		return nil
	}
	cp, err := w.verifyFinal(note)
	if err != nil {
		return err
	}
	m := w.modelOf(b)
	for _, g := range w.given {
		if g.to != b || g.by >= cp.Time {
			continue
		}
		if seq, ok := m.rids[g.head.RID]; ok && seq < final.Size {
			continue
		}
		if !slices.ContainsFunc(b.wit.finds, func(f record.Finding) bool {
			return f.Kind == record.EvidencePromise && (missing(f, m, g.head) || holdsUp(f, m, g.head, final.Size))
		}) {
			return w.violated(PromisesProven, "%s was promised lane %d n %d of %s by %d, it is %d, and it can prove nothing", b, g.head.Lane, g.head.N, g.head.Epoch, g.by, cp.Time)
		}
	}
	return nil
}

// holdsUp reports whether a finding is about an earlier record of a feed, which is
// not in the ledger yet: nothing behind it can be.
func holdsUp(f record.Finding, m *model, head record.ReceiptHead, size uint64) bool {
	return slices.ContainsFunc(f.Missing, func(x record.ReceiptHead) bool {
		seq, ok := m.rids[x.RID]
		return x.Feed() == head.Feed() && x.N < head.N && (!ok || seq >= size)
	})
}

// missing reports whether a finding is about a record, or about a later one of its
// feed, for which a promise holds for all before it, and that one is not in the
// ledger up to its size. A box keeps the oldest and the furthest promise of a feed.
func missing(f record.Finding, m *model, head record.ReceiptHead) bool {
	return slices.ContainsFunc(f.Missing, func(x record.ReceiptHead) bool {
		seq, ok := m.rids[x.RID]
		return x.Feed() == head.Feed() && x.N >= head.N && (!ok || seq >= f.Size)
	})
}

// given is a promise as the simulator saw it arrive.
type given struct {
	to   *box
	head record.ReceiptHead
	by   int64
}

// contradicted makes evidence of a final note and the own one, where the own
// ledger reaches at least as far.
func (w *world) contradicted(b *box, note []byte) []byte {
	cp, err := w.verifyFinal(note)
	own, head, ok := b.st.Final()
	if err != nil || !ok || cp.Head.Size > head.Size {
		return nil
	}
	e, err := w.splitView(b, note, cp.Head, own, head)
	if err != nil {
		w.tracef("%s cannot prove a contradiction: %v", b, err)
		return nil
	}
	piece := e.Encode()
	if err := w.takeEvidence(b, piece, true); err != nil {
		w.late = errors.Join(w.late, err)
		return nil
	}
	return piece
}

func (w *world) splitView(b *box, smaller []byte, at record.TreeHead, larger []byte, head record.TreeHead) (record.Evidence, error) {
	root, err := b.st.RootAt(at.Size)
	if err != nil {
		return record.Evidence{}, err
	}
	proof, err := b.st.ConsistencyProof(at.Size, head.Size)
	if err != nil {
		return record.Evidence{}, err
	}
	return record.NewSplitView(w.region.Ledger(1), smaller, larger, root, proof, w.hubIDs())
}

// hubContradicted is a hub that was offered another tree than its own: evidence
// where one of the signers signed the own one too, and no cosignature.
func (w *world) hubContradicted(h *box, cp record.Checkpoint) error {
	own, head, ok := h.st.Final()
	if ok && cp.Head.Size <= head.Size {
		if e, err := w.splitView(h, cp.Note, cp.Head, own, head); err == nil {
			if err := w.takeEvidence(h, e.Encode(), true); err != nil {
				return err
			}
		}
	}
	return errSplit
}

var errSplit = fmt.Errorf("another root for a size of this ledger: %w", peersync.ErrMisbehaved)

// has reports evidence of a kind on a box's shelf.
func (b *box) has(k record.EvidenceKind, final bool) bool {
	return slices.ContainsFunc(b.wit.finds, func(f record.Finding) bool { return f.Kind == k && (f.Final || !final) })
}

// checkShelf has somebody who holds nothing but the region's id and the hubs' keys
// verify everything that a box keeps.
func (w *world) checkShelf(b *box) error {
	for i, piece := range b.wit.shelf {
		e, err := record.DecodeEvidence(bytes.Clone(piece))
		if err != nil {
			return w.violated(EvidencePortable, "%s keeps evidence that nobody can read: %v", b, err)
		}
		f, err := e.Verify(w.region, w.hubIDs())
		if err != nil {
			return w.violated(EvidencePortable, "%s keeps evidence that does not verify: %v", b, err)
		}
		if fmt.Sprint(f) != fmt.Sprint(b.wit.finds[i]) {
			return w.violated(EvidencePortable, "%s read other evidence than it keeps", b)
		}
		if f.Kind == record.EvidenceEquivocation && len(piece) > 1024 {
			return w.violated(EvidencePortable, "%s keeps %d bytes to say that a device signed twice", b, len(piece))
		}
	}
	if b.wit.lied {
		if _, final, _ := b.st.Final(); final != b.wit.frozenAt {
			return w.violated(FrozenStays, "%s went on from size %d to %d after a majority of the hubs lied to it", b, b.wit.frozenAt.Size, final.Size)
		}
	}
	return nil
}
