package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// A feed is never repaired in place. When a record of this box is refused for
// good, nothing behind it in its feed can be ordered either; the box begins
// another epoch at once and writes all of it again there:
//
//  1. refused, and the refusal is believed
//  2. a new epoch, unless the refused record is of an epoch before this one; who
//     is signed in stays so, by a session record in the new epoch
//  3. for each record its new version and the row that says so  <- one transaction for some of them
//
// Stopped anywhere, the next start goes on with what has no row. A version written
// again names the first one, its clock and the staff key in extensions: charts know
// it by the first one's id and time, so that later amendments find it, and show one
// of the two.
//
//	pub/ rid       rid of the record that stands for a refused one; empty when none can
const (
	extOriginal = 2 // rid of the record that this one stands for; 32 bytes
	extStaff    = 4 // staff key in whose session that was written; 32 bytes
	extHLC      = 6 // hybrid clock of that record; 8 bytes, big-endian
)

// epochsMax bounds how many epochs one process begins because of refusals.
const epochsMax = 16

// epochs is which epoch this process writes in. Sessions keep a handle instead of
// a place in an epoch, so that a save that waits while the epoch changes is never
// signed in somebody else's session.
type epochs struct {
	mu      sync.RWMutex      // held for reading while a record is placed, for writing while the epoch changes
	handles map[uint64]uint64 // session handle to n of its record in lane 0 of the epoch; guarded by mu
	last    uint64            // handle given last; guarded by mu
	begun   int               // because of refusals; guarded by mu
	mending sync.Mutex        // one repair at a time
}

// session gives a handle for the session record at n.
func (e *epochs) session(n uint64) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.handles == nil {
		e.handles = map[uint64]uint64{}
	}
	e.last++
	e.handles[e.last] = n
	return e.last
}

// place writes drafts whose sessions are handles.
func (n *Node) place(ctx context.Context, drafts []store.Draft, rows func([]record.Record) ([]store.Row, error)) ([]record.Record, error) {
	n.epochs.mu.RLock()
	defer n.epochs.mu.RUnlock()
	placed := slices.Clone(drafts)
	for i := range placed {
		placed[i].Session = n.epochs.handles[placed[i].Session] // 0, the machine, has none
	}
	recs, err := n.store.Append(ctx, placed, rows)
	n.written.wrote(drafts)
	return recs, err
}

// nextEpoch begins another epoch in this process and carries the sessions over.
func (n *Node) nextEpoch(ctx context.Context) error {
	n.epochMu.Lock()
	defer n.epochMu.Unlock()
	n.epochs.mu.Lock()
	defer n.epochs.mu.Unlock()
	if n.epochs.begun >= epochsMax {
		return fmt.Errorf("beginning an epoch: %d were begun since the start because of refusals: ask for support", n.epochs.begun)
	}
	if err := n.beginEpoch(ctx); err != nil {
		return err
	}
	n.epochOpen = true
	n.epochs.begun++
	old := n.epochs.handles
	n.epochs.handles = map[uint64]uint64{}
	for _, s := range n.staff.sessions() {
		if _, ok := old[s.n]; !ok {
			continue
		}
		placed, err := n.store.Append(ctx, []store.Draft{n.sessionDraft(s.key)}, nil)
		if err != nil {
			return err // what this person writes from here on is the machine's
		}
		n.epochs.handles[s.n] = placed[0].Core.N
	}
	return nil
}

// sessionDraft is the record that opens a session.
func (n *Node) sessionDraft(staff ed25519.PrivateKey) store.Draft {
	return store.Draft{Lane: record.LaneControl, Kind: record.KindSessionOpen, Seal: func(pos record.Position) ([]byte, error) {
		return record.Marshal(record.SessionOpen{Staff: staff.Public().(ed25519.PublicKey), IdleSeconds: uint64(n.staff.idle / time.Second),
			Claim: ed25519.Sign(staff, record.SessionClaim(pos, n.author.Device))})
	}}
}

func pubKey(rid record.RID) []byte { return append([]byte("pub/"), rid[:]...) }

// standsFor is the record that was written again for a refused one.
func (n *Node) standsFor(rid record.RID) (now record.RID, done bool, err error) {
	raw, err := n.store.GetRow(pubKey(rid))
	if errors.Is(err, store.ErrNotFound) {
		return now, false, nil
	}
	if err == nil && len(raw) == len(now) {
		copy(now[:], raw)
	}
	return now, err == nil, err
}

// mend writes again everything behind refusals of this box's records.
func (n *Node) mend(ctx context.Context) error {
	n.epochs.mending.Lock()
	defer n.epochs.mending.Unlock()
	lost, err := n.stranded()
	if err != nil || len(lost) == 0 {
		return err
	}
	n.own.mu.Lock()
	current := n.own.current
	n.own.mu.Unlock()
	if slices.ContainsFunc(lost, func(x strandedRecord) bool { return x.Position().Epoch == current }) {
		if err := n.nextEpoch(ctx); err != nil {
			return err
		}
	} else if err := n.openEpoch(ctx); err != nil {
		return err
	}
	written, err := n.writeAgain(ctx, lost, nil)
	return errors.Join(err, n.wroteAgain(written))
}

// wroteAgain tells how many records were written again.
func (n *Node) wroteAgain(written uint64) (err error) {
	if written > 0 {
		err = n.notify(noticeRepublished, nil, func(x *notice) bool {
			x.Count += written
			return true
		})
	}
	n.recount()
	return errors.Join(err, n.projectNow())
}

// strandedRecord is a record of this box that can have no entry where it stands.
type strandedRecord struct {
	record.Record
	verdict record.Verdict // its own; 0 for one that only stands behind another
}

// strandedMax bounds what one call takes in; the next goes on.
const (
	strandedMax      = 4096
	strandedBytesMax = 4 << 20
)

// stranded lists records of this box that were refused, or stand behind one that
// was, and were not written again yet; by feed and n.
func (n *Node) stranded() ([]strandedRecord, error) {
	refused, err := n.store.Refused()
	if err != nil || len(refused) == 0 {
		return nil, err
	}
	first := map[record.Feed]uint64{}
	list := map[record.RID]strandedRecord{}
	for _, x := range refused {
		d, ok, err := n.store.EpochAuthor(x.Position.Epoch)
		if err != nil {
			return nil, err
		}
		if !ok || d != n.author.Device || !comesAgain(x.Verdict) {
			continue
		}
		list[x.RID] = strandedRecord{x.Record, x.Verdict}
		lanes := []record.Lane{x.Position.Lane}
		if x.Position.N == 0 { // the whole epoch hangs on its opening record
			lanes = []record.Lane{record.LaneControl, record.LaneClinical, record.LaneAudit, record.LaneBulk}
		}
		for _, lane := range lanes {
			f := record.Feed{Epoch: x.Position.Epoch, Lane: lane}
			if at, ok := first[f]; !ok || x.Position.N < at {
				first[f] = x.Position.N
			}
		}
	}
	for f, from := range first {
		if err := n.pendingFrom(f, from, list); err != nil {
			return nil, err
		}
	}
	return n.unwritten(list)
}

// comesAgain tells refusals of a place from refusals of the box.
func comesAgain(v record.Verdict) bool {
	switch v {
	case record.Revoked, record.Quarantined, record.UnknownDevice:
		return false
	}
	return v.Final()
}

func (n *Node) pendingFrom(f record.Feed, from uint64, list map[record.RID]strandedRecord) error {
	for next, bytes := max(from, 1), 0; len(list) < strandedMax && bytes < strandedBytesMax; {
		recs, err := n.store.Pending(f, next, 256<<10)
		if err != nil || len(recs) == 0 {
			return err
		}
		for _, r := range recs {
			if _, ok := list[r.RID()]; !ok {
				list[r.RID()] = strandedRecord{Record: r}
			}
			bytes += len(r.Body)
		}
		next = recs[len(recs)-1].Core.N + 1
	}
	return nil
}

func (n *Node) unwritten(list map[record.RID]strandedRecord) ([]strandedRecord, error) {
	var out []strandedRecord
	for rid, x := range list {
		if _, done, err := n.standsFor(rid); err != nil {
			return nil, err
		} else if done {
			continue
		}
		if loc, ok, err := n.store.Locate(rid); err != nil {
			return nil, err
		} else if ok && !loc.Pending {
			continue // ordered after all
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b strandedRecord) int {
		if c := int(a.Core.Lane) - int(b.Core.Lane); c != 0 { // keys stand in lane 0
			return c
		}
		switch {
		case a.Core.HLC < b.Core.HLC:
			return -1
		case a.Core.HLC > b.Core.HLC:
			return 1
		}
		return slices.Compare(a.CoreBytes(), b.CoreBytes())
	})
	return out, nil
}

// writeAgain places what can be written again, some records in a transaction.
func (n *Node) writeAgain(ctx context.Context, lost []strandedRecord, lent lentKeys) (written uint64, err error) {
	for from := 0; from < len(lost); {
		to := from
		for bytes := 0; to < len(lost) && to-from < 256 && (to == from || bytes+len(lost[to].Body) <= 512<<10); to++ {
			bytes += len(lost[to].Body)
		}
		count, err := n.writeSomeAgain(ctx, lost[from:to], lent)
		if err != nil {
			return written, err
		}
		written, from = written+count, to
	}
	return written, nil
}

func (n *Node) writeSomeAgain(ctx context.Context, lost []strandedRecord, lent lentKeys) (uint64, error) {
	var drafts []store.Draft
	var old []record.RID
	var rows []store.Row
	for i := range lost {
		d, ok, err := n.draftAgain(&lost[i], lent)
		if err != nil {
			return 0, err
		}
		if ok {
			drafts, old = append(drafts, d), append(old, lost[i].RID())
		} else {
			rows = append(rows, store.Row{Key: pubKey(lost[i].RID()), Value: []byte{}})
		}
	}
	if len(drafts) == 0 {
		return 0, n.store.PutRows(ctx, rows)
	}
	_, err := n.place(ctx, drafts, func(placed []record.Record) ([]store.Row, error) {
		for i := range placed {
			rid := placed[i].RID()
			rows = append(rows, store.Row{Key: pubKey(old[i]), Value: rid[:]})
		}
		return rows, nil
	})
	return uint64(len(drafts)), err
}

// draftAgain makes a draft of a record for another place; ok false when it stays
// where it is: what opened an epoch or a session, what the rules refuse wherever
// it stands, and what cannot be read any more.
func (n *Node) draftAgain(x *strandedRecord, lent lentKeys) (store.Draft, bool, error) {
	r := &x.Record
	switch r.Core.Kind {
	case record.KindEpochOpen, record.KindRegionFound, record.KindSessionOpen:
		return store.Draft{}, false, nil
	}
	if x.verdict == record.NotAllowed || r.Body == nil || r.VerifyBody() != nil || n.store.Erased(r) {
		return store.Draft{}, false, nil
	}
	d := store.Draft{Lane: r.Core.Lane, Kind: r.Core.Kind, Compartment: r.Core.Compartment, Ext: n.extensions(r)}
	if !r.Core.Kind.Sealed() {
		body := r.Body
		d.Seal = func(record.Position) ([]byte, error) { return body, nil }
		return d, true, nil
	}
	plain, err := n.vault.openWith(r, lent)
	if errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrDamaged) || errors.Is(err, seal.ErrNewer) {
		n.log.Error().Str("rid", r.RID().Short()).Msg("a refused record cannot be read here and stays as it is")
		return d, false, nil
	}
	if err != nil {
		return d, false, err
	}
	packed, err := n.vault.dictionaries.Pack(plain)
	if err != nil {
		return d, false, err
	}
	gen, err := seal.Generation(r.Body)
	if err != nil {
		return d, false, err
	}
	key, ok := lent[gen]
	if !ok {
		if key, err = n.vault.key(r.Core.Compartment, gen); err != nil {
			return d, false, err
		}
	}
	d.Seal = func(pos record.Position) ([]byte, error) {
		return packed.Seal(rand.Reader, key, gen, pos, d.Kind, d.Compartment)
	}
	return d, true, nil
}

// extensions names the first version of a record, however often it was written,
// and who wrote it.
func (n *Node) extensions(r *record.Record) map[uint64][]byte {
	rid := r.RID()
	ext := map[uint64][]byte{extOriginal: rid[:], extHLC: binary.BigEndian.AppendUint64(nil, r.Core.HLC)}
	if first, ok := original(r); ok {
		ext[extOriginal], ext[extHLC] = first[:], r.Core.Ext[extHLC]
	}
	if blobs := r.Core.Ext[record.ExtBlobs]; len(blobs) > 0 {
		ext[record.ExtBlobs] = blobs
	}
	if staff := r.Core.Ext[extStaff]; len(staff) == 32 {
		ext[extStaff] = staff
	} else if s, ok, err := n.sessionAt(r); err == nil && ok {
		ext[extStaff] = s.Staff
	}
	return ext
}

// original is the record that r stands for.
func original(r *record.Record) (record.RID, bool) {
	b := r.Core.Ext[extOriginal]
	if len(b) != 32 || len(r.Core.Ext[extHLC]) != 8 {
		return record.RID{}, false
	}
	return record.RID(b), true
}

// asFirst gives a record the id and the time that charts know it by.
func asFirst(r record.Record) (record.Record, record.RID) {
	first, ok := original(&r)
	if !ok {
		return r, r.RID()
	}
	r.Core.HLC = binary.BigEndian.Uint64(r.Core.Ext[extHLC])
	return r, first
}

// sessionAt reads the session that a record was written in.
func (n *Node) sessionAt(r *record.Record) (record.SessionOpen, bool, error) {
	if r.Core.Session == 0 {
		return record.SessionOpen{}, false, nil
	}
	s, ok, err := n.store.Held(record.Position{Epoch: r.Core.Epoch, Lane: record.LaneControl, N: r.Core.Session})
	if err != nil || !ok || s.Core.Kind != record.KindSessionOpen {
		return record.SessionOpen{}, false, err
	}
	open, err := record.DecodeSessionOpen(s.Body)
	return open, err == nil, err
}

// refusedCache keeps refused records by compartment, as of a mark of the store.
type refusedCache struct {
	mu    sync.Mutex
	mark  uint64                                  // guarded by mu
	known bool                                    // guarded by mu
	of    map[record.CompartmentID][]store.Placed // guarded by mu
}

// withRefused adds the records of a compartment that lost their place: they are
// shown until others stand for them.
func (n *Node) withRefused(c record.CompartmentID, recs []store.Placed) ([]store.Placed, error) {
	n.refusedOf.mu.Lock()
	defer n.refusedOf.mu.Unlock()
	if at := n.store.RefusedMark(); !n.refusedOf.known || at != n.refusedOf.mark {
		list, err := n.store.Refused()
		if err != nil {
			return nil, err
		}
		n.refusedOf.of = map[record.CompartmentID][]store.Placed{}
		for _, x := range list {
			if id := x.Record.Core.Compartment; !id.IsZero() {
				n.refusedOf.of[id] = append(n.refusedOf.of[id], store.Placed{Record: x.Record})
			}
		}
		n.refusedOf.mark, n.refusedOf.known = at, true
	}
	lost := n.refusedOf.of[c]
	if len(lost) == 0 {
		return recs, nil
	}
	held := map[record.RID]bool{}
	for i := range recs {
		held[recs[i].Record.RID()] = true
	}
	for _, x := range lost {
		if !held[x.Record.RID()] {
			recs = append(recs, x)
		}
	}
	return recs, nil
}

// oneOfEach leaves one of a record and the one that stands for it: the first
// version when that was ordered after all, else the later one. Only the same
// device's word counts.
func (n *Node) oneOfEach(recs []store.Placed) ([]store.Placed, error) {
	at := map[record.RID]int{}
	again := false
	for i := range recs {
		at[recs[i].Record.RID()] = i
		again = again || len(recs[i].Record.Core.Ext[extOriginal]) == 32
	}
	if !again {
		return recs, nil
	}
	drop := map[int]bool{}
	for i := range recs {
		first, ok := original(&recs[i].Record)
		j, here := at[first]
		if !ok || !here {
			continue
		}
		same, err := n.sameAuthor(&recs[i].Record, &recs[j].Record)
		if err != nil {
			return nil, err
		}
		switch {
		case !same:
		case recs[j].Ordered:
			drop[i] = true
		default:
			drop[j] = true
		}
	}
	out := make([]store.Placed, 0, len(recs))
	for i := range recs {
		if !drop[i] {
			out = append(out, recs[i])
		}
	}
	return out, nil
}

func (n *Node) sameAuthor(a, b *record.Record) (bool, error) {
	x, ok, err := n.store.EpochAuthor(a.Position().Epoch)
	if err != nil || !ok {
		return false, err
	}
	y, ok, err := n.store.EpochAuthor(b.Position().Epoch)
	return ok && x == y, err
}
