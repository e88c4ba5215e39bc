package sim

import (
	"maps"
	"slices"
	"sync"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/store/journal"
)

// spy looks at what a replica shows its readers while the disk is still busy with
// what was just written.
type spy struct {
	mu   sync.Mutex
	look func() // nil: nobody looks
}

// watchedFile is a file of the journal whose syncs a spy sees.
type watchedFile struct {
	journal.File
	d *disk
}

// Open implements journal.FS.
func (d *disk) Open(name string, create bool) (journal.File, error) {
	f, err := d.FS.Open(name, create)
	if err != nil {
		return nil, err
	}
	return &watchedFile{f, d}, nil
}

// Sync implements journal.File.
func (f *watchedFile) Sync() error {
	s := &f.d.spy
	s.mu.Lock()
	if s.look != nil {
		s.look()
	}
	s.mu.Unlock()
	return f.File.Sync()
}

func (s *spy) watch(look func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look = look
}

// unshown runs a write that has to be durable before anybody sees it. What a
// session would send while the disk syncs is what it would have sent before.
func (b *box) unshown(what string, write func() error) error {
	w, st, d := b.w, b.st, b.disk
	before, err := st.PendingFeeds()
	if err != nil {
		return err
	}
	head, seen := st.Head(), false
	d.spy.watch(func() {
		now, err := st.PendingFeeds()
		seen = seen || err == nil && (st.Head() != head || !slices.EqualFunc(now, before, sameFeed))
	})
	err = write()
	d.spy.watch(nil)
	if seen {
		return w.violated(DurableFirst, "%s shows what it is %s before that is on its disk", b, what)
	}
	return err
}

// keeps notes records that a box took in.
func (b *box) keeps(recs []record.Record, refused []record.Outcome) {
	for i := range recs {
		rid := recs[i].RID()
		if !slices.ContainsFunc(refused, func(o record.Outcome) bool { return o.RID == rid }) {
			b.left[rid] = true
		}
	}
	if len(b.left) > leftMax { // the ledger has an eye on what is ordered
		maps.DeleteFunc(b.left, func(rid record.RID, _ bool) bool {
			_, ordered := b.w.model.rids[rid]
			return ordered
		})
	}
}

func sameFeed(a, b store.PendingFeed) bool { return a == b }

// Pending implements peersync.Replica: what it gives leaves the box.
func (r *replica) Pending(f record.Feed, n uint64, bytesMax int) ([]record.Record, error) {
	recs, err := r.Store.Pending(f, n, bytesMax)
	r.b.keeps(recs, nil)
	return recs, err
}

const leftMax = 4096

// checkLeft: what left a box that lost its power is still on it when it is back.
func (w *world) checkLeft(b *box) error {
	if b.behind {
		clear(b.left)
	}
	if b.leftAt == b.starts {
		return nil
	}
	b.leftAt = b.starts
	for _, rid := range sortedRIDs(b.left) {
		a := w.authored[rid]
		if a == nil || w.ofTwice(a.r.Position().Epoch) {
			continue
		}
		if seq, ordered := w.model.rids[rid]; ordered && w.parts != nil && seq < b.st.Head().Size {
			continue // a partial replica drops what it carried once it has a place
		}
		_, ok, err := b.st.ByRID(rid)
		if err != nil {
			return err
		}
		if !ok && !w.keptRefused(b, rid) {
			return w.violated(DurableFirst, "%s took or sent record %s and does not hold it after a crash", b, rid.Short())
		}
	}
	return nil
}

func (w *world) keptRefused(b *box, rid record.RID) bool {
	list, err := b.st.Refused()
	return err == nil && slices.ContainsFunc(list, func(x store.Refusal) bool { return x.RID == rid })
}

func sortedRIDs(m map[record.RID]bool) []record.RID {
	out := make([]record.RID, 0, len(m))
	for rid := range m {
		out = append(out, rid)
	}
	slices.SortFunc(out, func(a, b record.RID) int { return slices.Compare(a[:], b[:]) })
	return out
}
