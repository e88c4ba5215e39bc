package sim

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// box is one device of the region with its disk.
type box struct {
	w      *world
	n      int
	name   string
	role   record.Role
	board  int // what it runs on, as far as its opening records tell
	author store.Author
	disk   *disk

	st       *store.Store // nil while it is down
	changed  <-chan struct{}
	starts   int
	opened   bool // its epoch of this start
	armed    bool // a write is about to fail
	skew     int64
	clockMax int64 // the furthest that its own clock said
	turn     *peersync.Turn
	freed    bool

	next  uint64 // hubs: place in the log to apply next
	lazy  int    // hubs: items applied since the last flush
	busy  bool   // hubs: an apply is due
	notes notes
	acked int // items that the disk holds and the others were told of
	had   int // acked when it started: it signs nothing before it applied them
	// rolledBack hubs have an old card: they do not vote or sign until they caught up.
	rolledBack bool

	wit *witness

	final   record.TreeHead // newest that was durable
	signed  record.TreeHead // hubs: largest that was durable
	card    *image
	cardAt  int // number of saves in the world at that time
	behind  bool
	session int                 // counts, for names of links
	left    map[record.RID]bool // pending records that it took or sent
	leftAt  int                 // start at which they were looked for
	seen    seen
}

func (b *box) String() string { return b.name }

func (b *box) hub() bool { return b.role == record.RoleHub }

// startMillis is the real time at virtual time 0.
const startMillis = 1_800_000_000_000

// millis is what the box's clock says.
func (b *box) millis() int64 { return max(0, startMillis+b.w.now+b.skew) }

func (w *world) newBox(n int, role record.Role) *box {
	b := &box{w: w, n: n, name: fmt.Sprintf("%s%d", role, n), role: role, left: map[record.RID]bool{}}
	b.wit = newWitness()
	b.author.Key = ed25519.NewKeyFromSeed(w.bytes(32))
	b.author.Device = record.DeviceID(b.author.Key.Public().(ed25519.PublicKey))
	b.disk = newDisk(w.rng.Uint64(), filepath.Join(w.o.Dir, b.name))
	if w.plan.ClockMillis > 0 {
		b.skew = w.between(-3_600_000, 3_600_000)
	}
	if w.plan.Turns {
		b.turn = peersync.NewTurn(func() { b.freed = true })
	}
	return b
}

// start opens the replica, as a new process does.
func (b *box) start() error {
	w := b.w
	o := store.NewOptions()
	o.Now = func() time.Time { return time.UnixMilli(b.millis()) }
	o.FreeBytesMin, o.BallastBytes, o.VerifyBytes = 1, 0, 8<<20
	o.SegmentBytes, o.ChunkBytes, o.LazyMax = 64<<20, 64<<10, 24*time.Hour // flushes only when the simulator asks
	o.JournalFS, o.Verified = b.disk, w.verified
	b.disk.Lie(w.o.Hooks.SyncLies && b.role == record.RoleClinic)
	st, err := store.Open(b.disk.dir, o)
	if err != nil {
		return w.violated(BoxOpens, "%s: %v", b, err)
	}
	b.st, b.opened, b.armed, b.lazy, b.seen = st, false, false, 0, seen{}
	b.starts++
	b.changed = st.Subscribe(context.Background())
	b.notes = newNotes()
	index, _, size := st.Applied()
	w.tracef("%s starts %d: size %d, index %d, clock %d", b, b.starts, size, index, b.millis())
	if b.hub() && len(w.log) > 0 {
		b.next = uint64(w.rng.IntN(int(w.place(index)) + 1)) // raft applies again what came after its snapshot
		b.had = min(b.acked, len(w.log))
		w.applySoon(b)
	}
	if err := b.adopt(); err != nil {
		return err
	}
	if head := st.Head(); w.o.Hooks.SignOld && b.rolledBack && head.Size > st.Signed().Size {
		if err := w.sign(b, head, nil); err != nil {
			return err
		}
	}
	return w.check(b)
}

// adopt notes own records that were written and never acknowledged.
func (b *box) adopt() error {
	feeds, err := b.st.PendingFeeds()
	if err != nil {
		return err
	}
	for _, f := range feeds {
		if f.Author != b.author.Device {
			continue
		}
		from := f.OrderedN + 1
		if f.Opening && f.Lane == record.LaneControl {
			from = 0
		}
		if err := b.adoptFeed(f.Feed, from, f.HeldN); err != nil {
			return err
		}
	}
	return nil
}

func (b *box) adoptFeed(f record.Feed, from, to uint64) error {
	for n := from; n <= to; {
		recs, err := b.st.Pending(f, n, 64<<10)
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			return nil
		}
		for i := range recs {
			r := &recs[i]
			if b.w.authored[r.RID()] == nil && r.VerifySignature(b.author.Device) == nil {
				b.w.authored[r.RID()] = &authored{r: *r, by: b}
			}
		}
		n = recs[len(recs)-1].Position().N + 1
	}
	return nil
}

// ensureEpoch begins the epoch of this start before its first record.
func (b *box) ensureEpoch() error {
	if b.opened {
		return nil
	}
	w := b.w
	nonce := w.bytes(16)
	tick := func(last uint64) uint64 { return max(last+1, uint64(b.millis())<<16) }
	if w.o.Hooks.SameNonce {
		nonce, tick = make([]byte, 16), func(last uint64) uint64 { return last + 1 }
	}
	id, err := b.st.BeginEpoch(context.Background(), b.author, b.openingOf(nonce), tick, 1)
	if err != nil {
		return err
	}
	b.opened = true
	who := fmt.Sprintf("%s start %d", b, b.starts)
	if other, ok := w.epochs[id]; ok {
		return w.violated(EpochsUnshared, "%s is of %s and of %s", id, other, who)
	}
	w.epochs[id] = who
	w.tracef("%s opens epoch %s", b, id)
	return b.adoptFeed(record.Feed{Epoch: id}, 0, 0)
}

// crash takes the power away. The sessions of the box end where they are.
func (w *world) crash(b *box, why string) error {
	keep := float64(w.rng.IntN(3)) / 2
	forget := w.chance(w.plan.ForgetIndexIn)
	w.tracef("%s loses power, %s: keeps %.1f, forgets %v", b, why, keep, forget)
	w.res.Crashes++
	w.dropLinks(b)
	if w.leader == b {
		w.leader = nil
	}
	st := b.st
	b.st = nil
	var err error
	if b.disk, err = b.disk.cut(keep, forget, st.Close); err != nil {
		return err
	}
	w.after(w.between(100, 15_000), func() error { return w.restart(b) })
	return nil
}

func (w *world) restart(b *box) error {
	if b.st != nil {
		return nil
	}
	return b.start()
}
