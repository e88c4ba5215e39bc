package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// A box verifies checkpoints with the hubs that its own ledger names. When the
// hubs change while it is away, the newest checkpoint may be signed by hubs that
// it does not know yet. So the first final checkpoint after each change is one
// that a majority of the hubs before and a majority of those after signed, and
// every box keeps it: whoever comes later is led from one to the next. Over a reset,
// where the hubs before are gone, the statement that the recovery keys signed
// takes its place.
//
//	hand/hubs             [generation, [device...]]    whose majority made the last final checkpoint
//	hand/note/ size       [generation, note]           that both sets signed
//	hand/reset/ generation [seq, body of the reset record]
//	hand/seed             [generation, size, root, [[device, [address...]]...]]    a reset that was accepted, until the ledger has it
type handover struct {
	mu      sync.Mutex // one final checkpoint at a time
	noticed uint64     // ledger size when the hubs were seen to differ; guarded by mu
	hubs    atomic.Pointer[handoverHubs]
	seed    atomic.Pointer[resetSeed]
	waits   atomic.Pointer[time.Time] // since when a checkpoint waits for the hubs before, by the monotonic clock
}

type handoverHubs struct {
	_          struct{} `cbor:",toarray"`
	Generation uint64
	Hubs       [][]byte
}

type handoverNote struct {
	_          struct{} `cbor:",toarray"`
	Generation uint64
	Note       []byte
}

type handoverReset struct {
	_    struct{} `cbor:",toarray"`
	Seq  uint64
	Body []byte
}

// resetSeed is a reset that this box accepted: its hubs and its generation count
// until the ledger here is longer than Size.
type resetSeed struct {
	_          struct{} `cbor:",toarray"`
	Generation uint64
	Size       uint64
	Root       []byte
	Hubs       []seedHub
}

func (s *resetSeed) devices() []record.DeviceID {
	out := make([]record.DeviceID, 0, len(s.Hubs))
	for _, h := range s.Hubs {
		out = append(out, record.DeviceID(h.Device))
	}
	return out
}

var (
	handoverHubsKey = []byte("hand/hubs")
	resetSeedKey    = []byte("hand/seed")
)

func handoverNoteKey(size uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("hand/note/"), size)
}

func handoverResetKey(generation uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("hand/reset/"), generation)
}

// handoversMax bounds how many changes of the hubs one answer looks through.
const handoversMax = 1000

func (n *Node) loadHandover() error {
	var hubs handoverHubs
	if ok, err := n.plainRow(handoverHubsKey, &hubs); err != nil {
		return err
	} else if ok {
		n.handover.hubs.Store(&hubs)
	}
	var seed resetSeed
	ok, err := n.plainRow(resetSeedKey, &seed)
	if ok {
		n.handover.seed.Store(&seed)
	}
	return err
}

// plainRow reads a row that is not sealed; ok false when there is none.
func (n *Node) plainRow(key []byte, v any) (ok bool, err error) {
	raw, err := n.store.GetRow(key)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		err = record.Unmarshal(raw, v)
	}
	if err != nil {
		return false, fmt.Errorf("reading row %q: %w", key, err)
	}
	return true, nil
}

func putPlain(key []byte, v any) (store.Row, error) {
	raw, err := record.Marshal(v)
	return store.Row{Key: key, Value: raw}, err
}

// resetSeed is the accepted reset that still counts, nil when none does.
func (n *Node) resetSeed() *resetSeed {
	s := n.handover.seed.Load()
	if s == nil || n.store.Head().Size > s.Size {
		return nil
	}
	return s
}

func devicesOf(list [][]byte) []record.DeviceID {
	out := make([]record.DeviceID, 0, len(list))
	for _, d := range list {
		if len(d) == len(record.DeviceID{}) {
			out = append(out, record.DeviceID(d))
		}
	}
	return out
}

func bytesOf(list []record.DeviceID) [][]byte {
	out := make([][]byte, 0, len(list))
	for _, d := range list {
		out = append(out, slices.Clone(d[:]))
	}
	return out
}

// before are the hubs whose majority made the last final checkpoint.
func (h *handover) before() []record.DeviceID {
	if hubs := h.hubs.Load(); hubs != nil {
		return devicesOf(hubs.Hubs)
	}
	return nil
}

// handsOver gives the hubs that have to sign besides those of now; none after a
// reset, which they are not there to see.
func (n *Node) handsOver() []record.DeviceID {
	hubs := n.handover.hubs.Load()
	if hubs == nil || hubs.Generation != n.ledgerID().Generation {
		return nil
	}
	before := devicesOf(hubs.Hubs)
	if sameHubs(before, n.hubs()) {
		return nil
	}
	return before
}

func sameHubs(a, b []record.DeviceID) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(d record.DeviceID) bool { return !slices.Contains(b, d) })
}

// handoverGrace is how long a checkpoint that the hubs of now made final waits for
// the word of those before.
const handoverGrace = 10 * time.Minute

// finalForAll reports whether a note is final for boxes that know the hubs of now
// and for those that know the ones before. Where too few of the ones before are hubs
// still, or do not sign for a while, the region goes on without: a box that was away
// then joins again.
func (n *Node) finalForAll(note []byte) bool {
	l, now := n.ledgerID(), n.hubs()
	if _, err := record.VerifyFinal(l, note, now); err != nil {
		return false
	}
	before := n.handsOver()
	stayed := slices.DeleteFunc(slices.Clone(before), func(d record.DeviceID) bool { return !slices.Contains(now, d) })
	if len(stayed) <= len(before)/2 { // nobody listens to the others any more
		return true
	}
	if _, err := record.VerifyFinal(l, note, before); err == nil {
		n.handover.waits.Store(nil)
		return true
	}
	began := time.Now()
	if !n.handover.waits.CompareAndSwap(nil, &began) {
		began = *n.handover.waits.Load()
	}
	return time.Since(began) >= handoverGrace
}

// keepFinal keeps a final checkpoint that was verified, and what hands over to it.
// A later note of the same head counts when it is later by a good part of an hour.
func (n *Node) keepFinal(note []byte, head record.TreeHead) error {
	n.handover.mu.Lock()
	defer n.handover.mu.Unlock()
	_, had, ok := n.store.Final()
	if ok && head == had && !n.muchLater(note) {
		return nil
	}
	if err := n.store.PutFinal(note, head); err != nil {
		return err
	}
	n.heardTime()
	rows, err := n.handoverRows(note, head)
	if err != nil || len(rows) == 0 {
		return err
	}
	return n.store.PutRows(context.Background(), rows)
}

func (n *Node) muchLater(note []byte) bool {
	cp, err := record.OpenCheckpoint(n.ledgerID(), note, n.hubs())
	return err == nil && cp.Time-n.finalTime() >= int64(n.o.CosignEvery.Seconds()/2)
}

// handoverRows notes whose majority counts from here on, once the checkpoint lies
// behind the change.
func (n *Node) handoverRows(note []byte, head record.TreeHead) ([]store.Row, error) {
	l, now := n.ledgerID(), n.hubs()
	before := n.handsOver()
	hubs := n.handover.hubs.Load()
	if hubs != nil && hubs.Generation == l.Generation && before == nil {
		n.handover.noticed = 0
		return nil, nil
	}
	next := &handoverHubs{Generation: l.Generation, Hubs: bytesOf(now)}
	row, err := putPlain(handoverHubsKey, next)
	if err != nil {
		return nil, err
	}
	rows := []store.Row{row}
	if before != nil {
		if n.handover.noticed == 0 {
			n.handover.noticed = n.store.Head().Size // the change is in here somewhere
		}
		if head.Size < n.handover.noticed {
			return nil, nil
		}
		if _, err := record.VerifyFinal(l, note, before); err == nil {
			hand, err := putPlain(handoverNoteKey(head.Size), handoverNote{Generation: l.Generation, Note: note})
			if err != nil {
				return nil, err
			}
			rows = append(rows, hand)
		}
	}
	n.handover.noticed = 0
	n.handover.hubs.Store(next)
	return rows, nil
}

// handOver answers a peer whose ledger has size and which cannot verify the newest
// checkpoint.
func (n *Node) handOver(size uint64) (note, reset []byte, ok bool) {
	var stop uint64 // seq of the first reset that the peer's ledger lacks
	var newest []byte
	err := n.store.ScanRows([]byte("hand/reset/"), handoversMax, func(_, v []byte) bool {
		var r handoverReset
		if record.Unmarshal(v, &r) == nil {
			newest = r.Body
			if r.Seq >= size {
				stop, reset = r.Seq, r.Body
			}
		}
		return reset == nil
	})
	if err != nil {
		return nil, nil, false
	}
	after := size
	if reset != nil {
		if note := n.handoverAfter(size); note.size != 0 && note.size <= stop {
			return note.note, nil, true
		}
		after = stop
	}
	found := n.handoverAfter(after)
	if found.note == nil && reset == nil {
		reset = newest // whose ledger is longer may have confirmed what the reset did not know of
	}
	return found.note, reset, found.note != nil || reset != nil
}

type handoverAt struct {
	size uint64
	note []byte
}

// handoverAfter is the first handover past a size.
func (n *Node) handoverAfter(size uint64) (out handoverAt) {
	prefix := []byte("hand/note/")
	err := n.store.ScanRows(prefix, handoversMax, func(k, v []byte) bool {
		var x handoverNote
		if at := k[len(prefix):]; len(at) == 8 && binary.BigEndian.Uint64(at) > size && record.Unmarshal(v, &x) == nil {
			out = handoverAt{binary.BigEndian.Uint64(at), x.Note}
		}
		return out.note == nil
	})
	if err != nil {
		return handoverAt{}
	}
	return out
}

// sawReset keeps the statement of a reset that came with the ledger, for boxes
// that were away.
func (p *projection) sawReset(seq uint64, r *record.Record) error {
	if r.Core.Kind != record.KindReset {
		return nil
	}
	body, err := record.DecodeReset(r.Body)
	if err != nil {
		return nil
	}
	row, err := putPlain(handoverResetKey(body.Generation), handoverReset{Seq: seq, Body: r.Body})
	if err == nil {
		p.put(row)
	}
	return err
}

// takeReset accepts the statement that begins the next generation of the ledger,
// when the recovery keys of the own ledger signed it and it takes back nothing
// that was confirmed here.
func (n *Node) takeReset(from record.DeviceID, b []byte) error {
	reset, err := record.DecodeReset(b)
	if err != nil {
		return err
	}
	if n.box.Role.Orders() {
		return fmt.Errorf("accepting a reset: a hub is reset by its operator")
	}
	region, _ := n.box.RegionID()
	if own := n.ledgerID().Generation; reset.Generation != own+1 {
		return fmt.Errorf("accepting a reset: it begins generation %d, the ledger here is of generation %d", reset.Generation, own)
	}
	keys, ok, err := record.RecoveryOf(n.store.State())
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("accepting a reset: the ledger here names no recovery keys")
	}
	if err := reset.Verify(region, keys); err != nil {
		return fmt.Errorf("accepting a reset: %w", err)
	}
	head := n.store.Head()
	if head.Size > reset.Size || head.Size == reset.Size && head != reset.Head() {
		return errors.Join(n.notifyOnce(noticeReset, []byte{}), n.freeze(record.Hash{}), fmt.Errorf("accepting a reset: it would take back confirmed records"))
	}
	seed := resetSeed{Generation: reset.Generation, Size: reset.Size, Root: slices.Clone(reset.Root)}
	for i := range reset.Members {
		if reset.Members[i].Role.Orders() {
			m := &reset.Members[i]
			seed.Hubs = append(seed.Hubs, seedHub{Device: slices.Clone(m.Device), Addresses: append([]string{}, m.Addresses...)})
		}
	}
	row, err := putPlain(resetSeedKey, seed)
	if err != nil {
		return err
	}
	if err := n.store.PutRows(context.Background(), []store.Row{row, {Key: frozenKey}}); err != nil {
		return fmt.Errorf("accepting a reset: %v", err) // not told apart: a full box goes on in the generation that it knows
	}
	n.handover.seed.Store(&seed)
	n.evidence.frozen.Store(false)
	n.log.Warn().Uint64("generation", seed.Generation).Uint64("size", seed.Size).Str("from", from.Short()).Msg("a reset of the region is accepted")
	return n.over(noticeSplitView, nil)
}

// freeze ends confirmation on this box for another reason than evidence.
func (n *Node) freeze(evidence record.Hash) error {
	row, err := putPlain(frozenKey, frozenRow{At: n.o.Now().Unix(), Evidence: evidence[:]})
	if err != nil {
		return err
	}
	if err := n.store.PutRows(context.Background(), []store.Row{row}); err != nil {
		return err
	}
	n.evidence.frozen.Store(true)
	return nil
}

// checkSeed compares the ledger with the reset that was accepted, when it has come
// so far.
func (n *Node) checkSeed() error {
	s := n.handover.seed.Load()
	if s == nil || n.store.Head().Size < s.Size || s.Size == 0 {
		return nil
	}
	root, err := n.store.RootAt(s.Size)
	if errors.Is(err, store.ErrHole) {
		return nil // the entry of the reset names its size, and that is judged
	}
	if err != nil {
		return err
	}
	if string(root[:]) == string(s.Root) {
		return nil
	}
	return errors.Join(n.notifyOnce(noticeReset, []byte{}), n.freeze(record.Hash{}))
}
