package node

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// A box that was started from an older image, or whose card was copied into a
// second board, goes on in an epoch of its own and harms nobody. What it has to
// tell staff shows as records arrive:
//
//   - Own records that this process did not write and this disk did not hold when
//     it was opened came back from others: the box was restored.
//   - Two epochs of a device each know of the other's opening: each was written on
//     after the other had begun, so two processes ran with one key. Epochs one
//     after the other never do that, in whatever order they are ordered.
//   - An epoch continues a disk although another disk, which does not descend from
//     it, was written on since: both are in use by turns. A restored box goes on from
//     one disk, and the other one is gone. A board that writes, gives way to another,
//     and writes again tells the same.
//
//	hw/ device     the newest epochs of a device: [[epoch, seq of its opening, hardware, largest ledger it knew, epoch before it]...]

// ownRecords tells what this process wrote from what comes back.
type ownRecords struct {
	// mu is held while an epoch begins, so that nobody sees its opening record
	// before it stands here.
	mu      sync.Mutex
	epochs  map[record.EpochID]bool // begun by this process; guarded by mu
	current record.EpochID          // the newest of them; guarded by mu
	from    record.DeviceID         // who gave own records last; guarded by mu

	held   map[record.Feed]uint64 // feeds of earlier processes: n held; guarded by projectMu
	atOpen uint64                 // ledger size at Open
}

// loadOwn notes what the disk holds of this box before anything arrives.
func (n *Node) loadOwn() error {
	n.own.epochs, n.own.held, n.own.atOpen = map[record.EpochID]bool{}, map[record.Feed]uint64{}, n.store.Head().Size
	n.boards = map[record.DeviceID][]epochSeen{}
	feeds, err := n.store.PendingFeeds()
	if err != nil {
		return err
	}
	for _, f := range feeds {
		if f.Author == n.author.Device {
			n.own.held[f.Feed] = f.HeldN
		}
	}
	refused, err := n.store.Refused() // their feeds are not listed
	for _, x := range refused {
		f := x.Position.Feed()
		n.own.held[f] = max(n.own.held[f], x.Position.N)
	}
	return err
}

// gave notes who brings records of this box.
func (n *Node) gave(from record.DeviceID, recs []record.Record) {
	if len(recs) == 0 || !n.wroteHere(&recs[0]) {
		return
	}
	n.own.mu.Lock()
	n.own.from = from
	n.own.mu.Unlock()
}

// cameBack counts a record of this box that others had and this disk had not.
func (p *projection) cameBack(a store.Arrival, r *record.Record) {
	n, pos := p.n, r.Position()
	n.own.mu.Lock()
	mine := n.own.epochs[pos.Epoch]
	n.own.mu.Unlock()
	if mine || pos.N == 0 || pos.N <= n.own.held[pos.Feed()] || !a.Pending && a.Seq < n.own.atOpen {
		return
	}
	n.own.held[pos.Feed()] = pos.N
	p.back++
	p.put(store.Row{Key: ownBackKey, Value: []byte{1}})
}

// ownBackKey is there once own records came back that this disk did not hold: since then what
// it numbered by itself may be there twice.
var ownBackKey = []byte("at/back")

func (n *Node) cameBackOnce() (bool, error) {
	_, err := n.store.GetRow(ownBackKey)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// restored tells staff what came back in this batch.
func (p *projection) restored() error {
	n := p.n
	if p.back == 0 || n.isCloned(n.author.Device) { // then they are the other board's
		return nil
	}
	n.notices.mu.Lock()
	defer n.notices.mu.Unlock()
	row, _, err := n.changedNotice(noticeRestored, nil, func(x *notice) bool {
		x.Count += p.back
		x.Args = []string{n.giver()}
		return true
	})
	if err == nil {
		p.put(row)
	}
	return err
}

// giver is the name of the box that own records came from.
func (n *Node) giver() string {
	n.own.mu.Lock()
	from := n.own.from
	n.own.mu.Unlock()
	if from != (record.DeviceID{}) {
		return n.deviceName(from)
	}
	if r := n.up.Load(); r != nil {
		if live := r.links.live.Load(); live != nil {
			for _, peer := range live.Peers() { // hubs first
				if peer.Connected {
					return peer.Name
				}
			}
		}
	}
	_, name, _ := n.store.Region()
	return name
}

// epochSeen is one process start of a device, as the ledger shows it.
type epochSeen struct {
	_        struct{} `cbor:",toarray"`
	Epoch    []byte
	Opened   uint64 // seq of the opening record
	Hardware []byte
	Knows    uint64 // largest ledger size that its records name
	Before   []byte // the epoch that its disk had before; empty for none
}

// epochsSeenMax is how many process starts of a device are compared.
const epochsSeenMax = 8

func boardsKey(d record.DeviceID) []byte { return append([]byte("hw/"), d[:]...) }

func (p *projection) boards(d record.DeviceID) ([]epochSeen, error) {
	if list, ok := p.n.boards[d]; ok {
		return list, nil
	}
	var list []epochSeen
	raw, err := p.n.store.GetRow(boardsKey(d))
	if err == nil {
		err = record.Unmarshal(raw, &list)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("reading what is known of a device's boards: %w", err)
	}
	p.n.boards[d] = list
	return list, nil
}

// compareEpochs looks at one ordered record for signs of a second board.
func (p *projection) compareEpochs(seq uint64, r *record.Record, d record.DeviceID) error {
	list, err := p.boards(d)
	if err != nil {
		return err
	}
	id := r.Position().Epoch
	at := -1
	for i := range list {
		if record.EpochID(list[i].Epoch) == id {
			at = i
		}
	}
	changed := false
	if at < 0 {
		if r.Core.Kind != record.KindEpochOpen {
			return nil // of long ago
		}
		open, err := record.DecodeEpochOpen(r.Body)
		if err != nil {
			return nil // ordered by rules that a newer version has
		}
		list = append(list, epochSeen{Epoch: id[:], Opened: seq, Hardware: open.Hardware, Knows: open.Size, Before: orNone(open.Predecessor)})
		list = list[max(0, len(list)-epochsSeenMax):]
		at, changed = len(list)-1, true
	} else if r.Core.Size > list[at].Knows {
		changed = passes(list, list[at].Knows, r.Core.Size)
		list[at].Knows = r.Core.Size
	}
	p.n.boards[d] = list
	if !changed {
		return nil
	}
	raw, err := record.Marshal(list)
	if err != nil {
		return err
	}
	p.put(store.Row{Key: boardsKey(d), Value: raw})
	if !twoBoards(list, at) && !p.besideThis(list, at, d) {
		return nil
	}
	if d == p.n.author.Device {
		if err := p.n.over(noticeRestored, []byte{}); err != nil { // they were the other board's
			return err
		}
	}
	return p.n.notifyOnce(noticeCloned, d[:], p.n.deviceName(d))
}

// passes reports whether an opening lies in [from, to): only then is there
// anything new to compare.
func passes(list []epochSeen, from, to uint64) bool {
	for i := range list {
		if list[i].Opened >= from && list[i].Opened < to {
			return true
		}
	}
	return false
}

// twoBoards reports whether one of these epochs was written side by side with
// another.
func twoBoards(list []epochSeen, at int) bool {
	b := &list[at]
	for i := range list {
		a := &list[i]
		if i != at && a.Knows > b.Opened && b.Knows > a.Opened {
			return true
		}
		if i < at-1 && string(a.Hardware) == string(b.Hardware) && string(list[at-1].Hardware) != string(b.Hardware) {
			return true // a board, another, and the first again
		}
	}
	return byTurns(list, at)
}

// byTurns reports whether an epoch continues a disk after another disk was
// written on, one of these two being list[at].
func byTurns(list []epochSeen, at int) bool {
	for x := range list {
		p := epochAt(list, list[x].Before)
		for y := range list {
			if p >= 0 && (x == at || y == at) && x != y && y != p && list[y].Knows > list[p].Opened && !descends(list, y, p) {
				return true
			}
		}
	}
	return false
}

func epochAt(list []epochSeen, epoch []byte) int {
	return slices.IndexFunc(list, func(e epochSeen) bool { return len(epoch) != 0 && string(e.Epoch) == string(epoch) })
}

// descends reports whether the disk of y held p.
func descends(list []epochSeen, y, p int) bool {
	for range list { // predecessors are what a device claims: they may go in circles
		if y == p {
			return true
		}
		if y = epochAt(list, list[y].Before); y < 0 {
			return false
		}
	}
	return false
}

func orNone(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// besideThis reports whether an epoch of this box that this process did not begin
// knows of the one that it did: somebody else runs with this box's key now.
func (p *projection) besideThis(list []epochSeen, at int, d record.DeviceID) bool {
	if d != p.n.author.Device {
		return false
	}
	p.n.own.mu.Lock()
	defer p.n.own.mu.Unlock()
	if p.n.own.epochs[record.EpochID(list[at].Epoch)] {
		return false
	}
	for i := range list {
		if record.EpochID(list[i].Epoch) == p.n.own.current {
			return list[at].Knows > list[i].Opened
		}
	}
	return false
}

// isCloned reports whether staff are told of a second board of a device and have
// not read it.
func (n *Node) isCloned(d record.DeviceID) bool {
	var x notice
	ok, err := n.plainRow(noticeKey(noticeCloned, d[:]), &x)
	return err == nil && ok && !x.Seen
}
