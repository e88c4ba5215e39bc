package peersync_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// world is a region: one hub that orders, and clinics.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	region  record.RegionID
	hubKey  ed25519.PrivateKey
	hub     *memory
	founder *author
	clinics []*clinic
	now     int64
	tweak   func(m *memory, o *peersync.Options) // nil, or what a test adds to every session
}

type clinic struct {
	*memory
	key    ed25519.PrivateKey
	author *author
	opened bool
}

func newWorld(t *testing.T, seed uint64, clinics int) *world {
	t.Helper()
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), hubKey: deviceKey(0, 'h'), now: 1_700_000_000}
	w.founder = newAuthor(w.hubKey, 9)
	w.hub = newMemory(w.founder.device)
	found := w.founder.write(0, record.KindRegionFound, mustMarshal(record.RegionFound{Name: "north", Nonce: make([]byte, 16),
		Founder: record.MemberAdd{Device: w.founder.device[:], Encryption: make([]byte, 32), Role: record.RoleHub, Name: "hub", Addresses: []string{}}}))
	w.region = record.RegionID(found.RID())
	recs := []record.Record{w.founder.open, found}
	for i := range clinics {
		c := &clinic{key: deviceKey(byte(i), 'c')}
		c.author = newAuthor(c.key, byte(i+1))
		c.memory = newMemory(c.author.device)
		w.clinics = append(w.clinics, c)
		recs = append(recs, w.founder.write(0, record.KindMemberAdd, mustMarshal(record.MemberAdd{Device: c.author.device[:], Encryption: make([]byte, 32),
			Role: record.RoleClinic, Name: fmt.Sprintf("clinic %d", i), Addresses: []string{}})))
	}
	for _, out := range w.hub.order(w.now, recs) {
		if out.Verdict != record.Ordered {
			t.Fatalf("founding the region: %s", out.Verdict)
		}
	}
	w.checkpoint()
	for _, c := range w.clinics { // a joined clinic holds the founding entries
		if err := w.copyTo(c.memory); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// copyTo brings a replica to the hub's final checkpoint without a link.
func (w *world) copyTo(m *memory) error {
	note, head, _ := w.hub.Final()
	entries, err := w.hub.Entries(m.Head().Size, head.Size, 1<<30)
	if err != nil || len(entries) == 0 {
		return err
	}
	if err := m.Extend(w.t.Context(), entries, head, nil); err != nil {
		return err
	}
	return m.PutFinal(note, head)
}

// copyFounding gives a replica the entries that found the region.
func (w *world) copyFounding(m *memory) error {
	n := uint64(2 + len(w.clinics))
	entries, err := w.hub.Entries(0, n, 1<<30)
	if err != nil {
		return err
	}
	root, err := w.hub.RootAt(n)
	if err != nil {
		return err
	}
	return m.Extend(w.t.Context(), entries, record.TreeHead{Size: n, Root: root}, nil)
}

func (w *world) checkpoint() { w.sign(w.hub) }

// sign makes the head of a hub's ledger final.
func (w *world) sign(hub *memory) {
	w.t.Helper()
	head := hub.Head()
	note, err := record.Cosign(w.region.Ledger(1), head, w.hubKey, w.now)
	if err == nil {
		err = hub.PutFinal(note, head)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// orderAll orders what the hub holds pending and makes a final checkpoint.
func (w *world) orderAll() {
	w.now += 5
	w.hub.order(w.now, w.hub.allPending())
	w.checkpoint()
}

func (w *world) save(c *clinic, lane record.Lane, n int) {
	w.t.Helper()
	if !c.opened {
		c.opened = true
		keep(w.t, c.memory, c.author.open)
	}
	for range n {
		body := make([]byte, 20+w.rng.IntN(900))
		for i := range body {
			body[i] = byte(w.rng.Uint32())
		}
		keep(w.t, c.memory, c.author.write(lane, record.KindClinical, body))
	}
}

func (w *world) final(note []byte) (record.Checkpoint, error) {
	return record.VerifyFinal(w.region.Ledger(1), note, []record.DeviceID{w.hub.self})
}

var errLocal = errors.New("disk")

func (w *world) options(m *memory) peersync.Options {
	o := peersync.Options{Region: w.region, Device: m.self, Role: record.RoleClinic, Software: "test", WantOrdered: func() bool { return m.self != w.hub.self }, Final: w.final,
		Hub: func(d record.DeviceID) bool { return d == w.hub.self }, LocalFault: func(err error) bool { return errors.Is(err, errLocal) }}
	o.Hubs = func() []record.DeviceID { return []record.DeviceID{w.hub.self} }
	if m.self == w.hub.self {
		o.Role, o.PushPending = record.RoleHub, func(record.DeviceID) bool { return false }
	}
	if w.tweak != nil {
		w.tweak(m, &o)
	}
	return o
}

func (w *world) pair(a, b *memory) (*peersync.Session, *peersync.Session) {
	return peersync.NewSession(a, b.self, w.options(a)), peersync.NewSession(b, a.self, w.options(b))
}

// pipe carries frames of one direction; a cut drops what is under way.
type pipe struct {
	queue []peersync.Frame
	bytes int
}

// exchange steps two sessions in a random but repeatable order until neither has
// anything to say, or bytesMax bytes crossed. It gives the bytes and frames that
// crossed.
type exchange struct {
	a, b       *peersync.Session
	toA, toB   pipe
	frames     map[peersync.Type]int
	onStep     func()
	tap        func(toA bool, f peersync.Frame) []peersync.Frame // nil, or changes what crosses
	errA, errB error
}

func (x *exchange) run(ctx context.Context, rng *rand.Rand, bytesMax int) (total int, err error) {
	x.frames = map[peersync.Type]int{}
	idle := 0
	for idle < 40 {
		if x.onStep != nil {
			x.onStep()
		}
		moved := false
		switch rng.IntN(4) {
		case 0:
			moved, err = x.send(ctx, x.a, &x.toB)
		case 1:
			moved, err = x.send(ctx, x.b, &x.toA)
		case 2:
			moved, err = x.receive(ctx, x.a, &x.toA, true)
		case 3:
			moved, err = x.receive(ctx, x.b, &x.toB, false)
		}
		if err != nil {
			return x.toA.bytes + x.toB.bytes, err
		}
		if idle++; moved {
			idle = 0
		}
		if total = x.toA.bytes + x.toB.bytes; total >= bytesMax {
			return total, nil
		}
	}
	return total, nil
}

func (x *exchange) send(ctx context.Context, s *peersync.Session, p *pipe) (bool, error) {
	f, ok, err := s.Next(ctx)
	if err != nil || !ok {
		return false, err
	}
	b := peersync.AppendFrame(nil, f)
	got, err := peersync.NewFrameReader(bytes.NewReader(b)).Read()
	if err != nil {
		return false, err
	}
	p.bytes += len(b)
	x.frames[f.Type]++
	p.queue = append(p.queue, got)
	return true, nil
}

func (x *exchange) receive(ctx context.Context, s *peersync.Session, p *pipe, toA bool) (bool, error) {
	if len(p.queue) == 0 {
		return false, nil
	}
	f := p.queue[0]
	p.queue = p.queue[1:]
	list := []peersync.Frame{f}
	if x.tap != nil {
		list = x.tap(toA, f)
	}
	for _, f := range list {
		if err := s.Handle(ctx, f); err != nil {
			return true, err
		}
		s.Changed()
	}
	return true, nil
}

// meet runs one whole exchange between two replicas.
func (w *world) meet(a, b *memory, bytesMax int) (int, *exchange, error) {
	sa, sb := w.pair(a, b)
	defer sa.Close()
	defer sb.Close()
	x := &exchange{a: sa, b: sb}
	n, err := x.run(w.t.Context(), w.rng, bytesMax)
	return n, x, err
}

// check holds a replica to the invariants that every exchange keeps.
func (w *world) check(m *memory) {
	w.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	root, err := m.rootLocked(m.final.Size)
	if m.note != nil && (err != nil || root != m.final.Root) {
		w.t.Fatal("final checkpoint is not in the ledger")
	}
	for i := range m.entries {
		if !m.inHole(uint64(i)) && m.entries[i].Record.RID() != w.hub.entries[i].Record.RID() {
			w.t.Fatalf("entry %d differs from the hub's", i)
		}
	}
	for f, recs := range m.pending {
		head, _, _ := state{m}.Head(f)
		if head.N == 0 {
			head.RID, _, _ = m.heldRIDLocked(record.Position{Epoch: f.Epoch, Lane: f.Lane})
		}
		for _, r := range recs {
			if r.Position().N != head.N+1 || r.Core.Prev != head.RID {
				w.t.Fatalf("pending records of a feed are not contiguous at n %d", r.Position().N)
			}
			head = record.Head{N: r.Position().N, RID: r.RID()}
		}
	}
}
