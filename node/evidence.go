package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// Evidence is kept once it is verified, offered to every peer before anything
// else, and acted upon:
//
//   - Two ledgers signed by a majority: what this box calls confirmed would depend
//     on whom it met first. Nothing more is confirmed here until an operator at the
//     box or a reset of the region ends it; staff go on, peers carry what they write.
//   - Two ledgers signed by fewer, a broken promise: staff and operators are told.
//   - Two records for one place: a hub puts the evidence into the ledger, which
//     freezes the feed on every box alike.
//
// Rows:
//
//	evidence/ id     [Unix seconds of arrival, device it came from, evidence]
//	frozen           [Unix seconds, id of the evidence]
type evidenceRow struct {
	_     struct{} `cbor:",toarray"`
	At    int64
	From  []byte // 32; this box's own when it found out itself
	Bytes []byte
}

type frozenRow struct {
	_        struct{} `cbor:",toarray"`
	At       int64
	Evidence []byte // id
}

// Limits of what is kept, so that nobody fills disks with true but useless
// variants of one lie.
const (
	evidenceMax        = 1000
	evidencePerCulprit = 16
	evidenceOffered    = 8
)

var frozenKey = []byte("frozen")

func evidenceKey(id record.Hash) []byte { return append([]byte("evidence/"), id[:]...) }

// evidenceRoom is the evidence of this box.
type evidenceRoom struct {
	mu      sync.Mutex           // one piece at a time
	against map[culprit]int      // pieces kept; guarded by mu
	count   int                  // guarded by mu
	seen    map[record.RID]bool  // refusals looked at; guarded by mu
	written map[record.Hash]bool // put into the ledger by this process; guarded by mu
	seenIDs evidenceIDs
	offered atomic.Pointer[[]offered] // newest first
	frozen  atomic.Bool               // confirmation is
}

// culprit is who did what.
type culprit struct {
	device record.DeviceID
	kind   record.EvidenceKind
}

type offered struct {
	at    int64
	bytes []byte
	final bool // a majority of the hubs showed two ledgers
}

// errNoEvidence: evidence that what this box knows explains otherwise.
var errNoEvidence = errors.New("no evidence against anybody")

// errKept: a promise that the ledger shows kept. No larger ledger will show otherwise.
var errKept = fmt.Errorf("%w: kept", errNoEvidence)

// loadEvidence reads what was kept.
func (n *Node) loadEvidence() error {
	n.evidence.against, n.evidence.seen, n.evidence.written = map[culprit]int{}, map[record.RID]bool{}, map[record.Hash]bool{}
	var list []offered
	var bad error
	err := n.store.ScanRows([]byte("evidence/"), evidenceMax, func(_, v []byte) bool {
		var row evidenceRow
		if bad = record.Unmarshal(v, &row); bad != nil {
			return false
		}
		n.evidence.count++
		piece := offered{at: row.At, bytes: row.Bytes}
		if e, err := record.DecodeEvidence(row.Bytes); err == nil {
			n.evidence.seenIDs.add(e.ID())
			if f, err := n.verifyEvidence(e); err == nil {
				piece.final = f.Final
				for _, d := range f.Culprits {
					n.evidence.against[culprit{d, e.Kind}]++
				}
			}
		}
		list = append(list, piece)
		return true
	})
	if err := errors.Join(err, bad); err != nil {
		return fmt.Errorf("reading evidence: %w", err)
	}
	n.offer(list)
	_, err = n.store.GetRow(frozenKey)
	n.evidence.frozen.Store(err == nil)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return err
}

// offer takes what a majority did first: a hub can make any number of newer pieces
// against itself, and they must not crowd it out.
func (n *Node) offer(list []offered) {
	sort.SliceStable(list, func(i, j int) bool {
		if list[i].final != list[j].final {
			return list[i].final
		}
		return list[i].at > list[j].at
	})
	list = list[:min(len(list), evidenceOffered)]
	n.evidence.offered.Store(&list)
}

// knownEvidence is what sessions offer: what a majority did, then the newest.
func (n *Node) knownEvidence() [][]byte {
	var out [][]byte
	if list := n.evidence.offered.Load(); list != nil {
		for _, x := range *list {
			out = append(out, x.bytes)
		}
	}
	return out
}

// frozen reports whether nothing more is confirmed on this box.
func (n *Node) frozen() bool { return n.evidence.frozen.Load() }

// verifyEvidence checks evidence against the hubs of now, then against all that
// ever were: who was expelled for it must stay provable.
func (n *Node) verifyEvidence(e record.Evidence) (record.Finding, error) {
	region, _ := n.box.RegionID()
	f, err := e.Verify(region, n.hubs())
	if err == nil {
		return f, nil
	}
	members, listErr := n.store.Members()
	if listErr != nil {
		return f, listErr
	}
	var ever []record.DeviceID
	for _, m := range members {
		if m.Role.Orders() {
			ever = append(ever, m.Device)
		}
	}
	return e.Verify(region, ever)
}

// takeEvidence keeps what a peer passes on.
func (n *Node) takeEvidence(from record.DeviceID, b []byte) error {
	e, err := record.DecodeEvidence(b)
	if err != nil {
		return err
	}
	return unlessFull(n.keepEvidence(from, e))
}

// unlessFull lets an exchange go on when there is no room for what it brought: what
// staff wrote must get out of a full box.
func unlessFull(err error) error {
	if errors.Is(err, store.ErrFull) {
		return nil
	}
	return err
}

// keepEvidence verifies evidence, keeps it durably and acts upon it. Known
// evidence changes nothing.
func (n *Node) keepEvidence(from record.DeviceID, e record.Evidence) error {
	n.evidence.mu.Lock()
	defer n.evidence.mu.Unlock()
	id := e.ID()
	if _, err := n.store.GetRow(evidenceKey(id)); err == nil {
		return nil
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	f, err := n.verifyEvidence(e)
	if err == nil {
		err = n.plausible(f)
	}
	if errors.Is(err, errKept) {
		n.evidence.seenIDs.add(id)
	}
	if err != nil {
		return fmt.Errorf("keeping evidence: %w", err)
	}
	freezes := n.freezes(f, id)
	if len(f.Culprits) == 0 || len(freezes) == 0 && (n.evidence.count >= evidenceMax || n.evidence.against[culprit{f.Culprits[0], f.Kind}] >= evidencePerCulprit) {
		n.evidence.seenIDs.add(id)
		return nil
	}
	row := evidenceRow{At: n.o.Now().Unix(), From: from[:], Bytes: e.Encode()}
	raw, err := record.Marshal(row)
	if err != nil {
		return err
	}
	rows := append(freezes, store.Row{Key: evidenceKey(id), Value: raw})
	if err := n.store.PutRows(context.Background(), rows); err != nil {
		return fmt.Errorf("keeping evidence: %w", err)
	}
	n.evidence.count++
	n.evidence.seenIDs.add(id)
	for _, d := range f.Culprits {
		n.evidence.against[culprit{d, f.Kind}]++
	}
	n.offer(append(slices.Clone(*n.evidence.offered.Load()), offered{row.At, row.Bytes, f.Final}))
	n.log.Error().Stringer("kind", f.Kind).Bool("final", f.Final).Str("id", hex.EncodeToString(id[:8])).Msg("evidence kept")
	if len(rows) > 1 {
		n.evidence.frozen.Store(true)
	}
	err = n.tellOf(f)
	n.wakeLinks()
	return err
}

// freezes is the row that ends confirmation, when the finding asks for it.
func (n *Node) freezes(f record.Finding, id record.Hash) []store.Row {
	if f.Kind != record.EvidenceSplitView || !f.Final || f.Generation != n.ledgerID().Generation || n.frozen() {
		return nil
	}
	raw, err := record.Marshal(frozenRow{At: n.o.Now().Unix(), Evidence: id[:]})
	if err != nil {
		return nil
	}
	return []store.Row{{Key: frozenKey, Value: raw}}
}

// plausible weighs what evidence leaves open with what this box holds: whether a
// promised record is missing can be seen only in the ledger, and what the ledger
// itself forbade nobody could keep.
func (n *Node) plausible(f record.Finding) error {
	if f.Kind == record.EvidenceEquivocation { // anybody can make keys that contradict themselves
		_, member, err := n.store.Member(f.Culprits[0])
		if err == nil && !member {
			err = fmt.Errorf("%w: about a device that is no member", errNoEvidence)
		}
		return err
	}
	if f.Kind != record.EvidencePromise {
		return nil
	}
	if n.store.Head().Size < f.Size {
		return fmt.Errorf("%w: this ledger ends before the checkpoint", errNoEvidence)
	}
	for _, h := range f.Missing {
		missing, err := n.missing(h, f.Size)
		if err != nil || missing {
			return err
		}
	}
	return fmt.Errorf("%w: all that was promised is in the ledger", errKept)
}

// missing reports whether the record of a receipt could have been ordered before
// size and was not.
func (n *Node) missing(h record.ReceiptHead, size uint64) (bool, error) {
	seq, _, ok, err := n.store.State().Ordered(h.Position)
	if err != nil || ok && seq < size {
		return false, err // it, or another record that took its place
	}
	d, known, err := n.store.EpochAuthor(h.Epoch)
	if err != nil || !known {
		return err == nil, err // nothing here says that it could not be ordered
	}
	m, member, err := n.store.Member(d)
	if err != nil || !member || !m.Active() {
		return false, err
	}
	stuck, err := n.feedFrozen(h.Feed())
	return !stuck, err
}

// feedFrozen reports whether the ledger holds evidence that froze a feed.
func (n *Node) feedFrozen(f record.Feed) (frozen bool, err error) {
	err = n.store.ScanRegistry(record.FrozenPrefix(), func(key, _ []byte) bool {
		at, err := record.FrozenFeed(key)
		frozen = frozen || err == nil && at == f
		return !frozen
	})
	return frozen, err
}

// tellOf tells staff what was found.
func (n *Node) tellOf(f record.Finding) error {
	if f.Kind == record.EvidenceSplitView && f.Final && f.Generation == n.ledgerID().Generation {
		return n.notifyOnce(noticeSplitView, []byte{}, n.namesOf(f.Culprits))
	}
	var errs []error
	for _, d := range f.Culprits {
		switch f.Kind {
		case record.EvidenceSplitView:
			errs = append(errs, n.notifyOnce(noticeTwoViews, d[:], n.deviceName(d)))
		case record.EvidencePromise:
			errs = append(errs, n.notifyOnce(noticePromise, d[:], n.deviceName(d), time.Unix(f.By, 0).UTC().Format(time.RFC3339)))
		case record.EvidenceEquivocation:
			errs = append(errs, n.notifyOnce(noticeForked, d[:], n.deviceName(d)))
		}
	}
	return errors.Join(errs...)
}

func (n *Node) namesOf(list []record.DeviceID) string {
	out := ""
	for i, d := range list {
		if i > 0 {
			out += ", "
		}
		out += n.deviceName(d)
	}
	return out
}

func (n *Node) wakeLinks() {
	if r := n.up.Load(); r != nil {
		r.links.wake()
	}
}

// contradiction makes evidence of a final note that another box verified and that
// this ledger contradicts; nil when what is held here proves nothing.
func (n *Node) contradiction(_ record.DeviceID, note []byte) []byte {
	own, head, ok := n.store.Final()
	if !ok {
		return nil
	}
	cp, err := record.OpenCheckpoint(n.ledgerID(), note, n.hubs())
	if err != nil {
		return nil
	}
	if cp.Head.Size > head.Size { // further than what is final here: a hub's own newest may reach
		if r := n.up.Load(); r != nil && r.ordering != nil {
			own = r.ordering.cosigner.note()
		}
	}
	e, err := n.splitView(cp, own)
	if err == nil {
		err = n.keepEvidence(n.author.Device, e)
	}
	if err != nil {
		n.log.Warn().Err(err).Uint64("size", cp.Head.Size).Msg("a contradiction that proves nothing")
		return nil
	}
	return e.Encode()
}

// splitView joins a note that the own tree contradicts with one of the own tree
// that is as long at least.
func (n *Node) splitView(other record.Checkpoint, own []byte) (record.Evidence, error) {
	l, hubs := n.ledgerID(), n.hubs()
	mine, err := record.OpenCheckpoint(l, own, hubs)
	if err != nil {
		return record.Evidence{}, err
	}
	if mine.Head.Size < other.Head.Size {
		return record.Evidence{}, fmt.Errorf("%w: the own checkpoint is smaller", errNoEvidence)
	}
	root, err := n.store.RootAt(other.Head.Size)
	if err != nil {
		return record.Evidence{}, err
	}
	var proof []record.Hash
	if mine.Head.Size > other.Head.Size {
		if proof, err = n.store.ConsistencyProof(other.Head.Size, mine.Head.Size); err != nil {
			return record.Evidence{}, err
		}
	}
	return record.NewSplitView(l, other.Note, own, root, proof, hubs)
}

// expose makes evidence of records that were refused because their author had
// signed another one for their place.
func (n *Node) expose(context.Context) error {
	list, err := n.store.Refused()
	if err != nil {
		return err
	}
	for i := range list {
		x := &list[i]
		if x.Verdict != record.Equivocation || x.Position.N == 0 || n.exposed(x.RID) {
			continue
		}
		done, err := n.exposeOne(x)
		if err != nil {
			return err
		}
		if done {
			n.setExposed(x.RID)
		}
	}
	return nil
}

// exposed reports whether a refusal was made evidence of, or never can be.
func (n *Node) exposed(rid record.RID) bool {
	n.evidence.mu.Lock()
	defer n.evidence.mu.Unlock()
	return n.evidence.seen[rid]
}

func (n *Node) setExposed(rid record.RID) {
	n.evidence.mu.Lock()
	defer n.evidence.mu.Unlock()
	n.evidence.seen[rid] = true
}

// exposeOne is done once both records are held here. Before, the refusal may be a
// hub's word about the only one, and the other may come yet.
func (n *Node) exposeOne(x *store.Refusal) (done bool, err error) {
	other, ok, err := n.store.Held(x.Position)
	if err != nil || !ok || other.RID() == x.RID || x.Record.RID() != x.RID {
		return false, err
	}
	opening, ok, err := n.store.Held(record.Position{Epoch: x.Position.Epoch})
	if err != nil || !ok {
		return false, err
	}
	e, err := record.NewEquivocation(opening, other, x.Record)
	if err != nil {
		return true, nil // a signature that does not hold
	}
	err = n.keepEvidence(n.author.Device, e)
	if errors.Is(err, record.ErrNotProven) || errors.Is(err, record.ErrMalformed) {
		err = nil
	}
	return err == nil, err
}

// publishAfter is how long the hub that leads has, before any hub puts evidence
// into the ledger.
const publishAfter = time.Minute

// publishEvidence puts equivocations into the ledger, once each.
func (n *Node) publishEvidence(ctx context.Context) error {
	r := n.up.Load()
	if r == nil || r.ordering == nil {
		return nil
	}
	list, err := n.evidenceRows()
	if err != nil {
		return err
	}
	for _, row := range list {
		e, err := record.DecodeEvidence(row.Bytes)
		if err != nil || e.Kind != record.EvidenceEquivocation || !r.ordering.raft.IsLeader() && n.o.Now().Sub(time.Unix(row.At, 0)) < publishAfter {
			continue
		}
		if err := n.publishOne(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) publishOne(ctx context.Context, e record.Evidence) error {
	f, err := n.verifyEvidence(e)
	if err != nil {
		return nil
	}
	if frozen, err := n.feedFrozen(f.Feed); err != nil || frozen {
		return err
	}
	n.evidence.mu.Lock()
	done := n.evidence.written[e.ID()]
	n.evidence.written[e.ID()] = true
	n.evidence.mu.Unlock()
	if done {
		return nil
	}
	if _, ok, err := n.store.State().Epoch(f.Feed.Epoch); err != nil || !ok {
		return err // the epoch is not in the ledger: nothing there to freeze
	}
	_, err = n.appendControl(ctx, record.KindEvidence, e.Encode())
	return err
}

func (n *Node) evidenceRows() ([]evidenceRow, error) {
	var out []evidenceRow
	var bad error
	err := n.store.ScanRows([]byte("evidence/"), evidenceMax, func(_, v []byte) bool {
		var row evidenceRow
		bad = record.Unmarshal(v, &row)
		out = append(out, row)
		return bad == nil
	})
	sort.SliceStable(out, func(i, j int) bool { return out[i].At > out[j].At })
	return out, errors.Join(err, bad)
}
