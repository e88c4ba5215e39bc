package record_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
)

// startMillis is what the clocks of these tests say first: 15 January 2026.
const startMillis = 1_768_435_200_000

// testSeed is HEALTHPOST_TEST_SEED or a new one, and is printed on failure.
func testSeed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HEALTHPOST_TEST_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("HEALTHPOST_TEST_SEED: %v", err)
		}
		seed = v
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("HEALTHPOST_TEST_SEED=%d", seed)
		}
	})
	return seed
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// box is a device that writes records.
type box struct {
	name   string
	key    ed25519.PrivateKey
	id     record.DeviceID
	starts int
	epoch  record.EpochID
	opened record.RID
	heads  [record.LaneCount]record.Head
	millis uint64
	size   uint64 // ledger size it has verified
}

func newBox(name string) *box {
	seed := sha256.Sum256([]byte("box " + name))
	key := ed25519.NewKeyFromSeed(seed[:])
	return &box{name: name, key: key, id: record.DeviceID(key.Public().(ed25519.PublicKey)), millis: startMillis}
}

func (b *box) member(role record.Role) record.MemberAdd {
	enc := sha256.Sum256([]byte("encryption key of " + b.name))
	return record.MemberAdd{Device: b.id[:], Encryption: enc[:], Role: role, Name: b.name}
}

func (b *box) openBody() record.EpochOpen {
	nonce := sha256.Sum256(fmt.Appendf(nil, "start %d of %s", b.starts, b.name))
	hardware := sha256.Sum256([]byte("board of " + b.name))
	body := record.EpochOpen{Device: b.id[:], Nonce: nonce[:16], Hardware: hardware[:], ClockMillis: int64(b.millis),
		Software: "healthpost test", Size: b.size, Root: record.EmptyRoot[:]}
	if b.starts > 0 {
		body.Predecessor = b.epoch[:]
		for _, h := range b.heads {
			body.Heads = append(body.Heads, h.N)
		}
	}
	return body
}

// open starts an epoch and gives its opening record.
func (b *box) open() record.Record {
	body := mustMarshal(b.openBody())
	r := record.Sign(record.Core{HLC: b.tick(), Clock: 3, Kind: record.KindEpochOpen, Size: b.size}, body, b.key)
	b.starts++
	b.epoch, b.opened = r.OpenedEpoch(), r.RID()
	for lane := range b.heads {
		b.heads[lane] = record.Head{RID: b.opened}
	}
	return r
}

func (b *box) tick() uint64 {
	b.millis += 90_000
	return b.millis << 16
}

// next is the core that continues a lane.
func (b *box) next(lane record.Lane, kind record.Kind, comp record.CompartmentID) record.Core {
	h := b.heads[lane]
	return record.Core{Epoch: b.epoch, Lane: lane, N: h.N + 1, Prev: h.RID, HLC: b.tick(), Clock: 3, Kind: kind, Size: b.size, Compartment: comp}
}

func (b *box) sign(c record.Core, body []byte) record.Record { return record.Sign(c, body, b.key) }

// write continues a lane and remembers the record as its head.
func (b *box) write(lane record.Lane, kind record.Kind, comp record.CompartmentID, body []byte) record.Record {
	r := b.sign(b.next(lane, kind, comp), body)
	b.heads[lane] = record.Head{N: r.Core.N, RID: r.RID()}
	return r
}

func (b *box) visit(patient string, body string) record.Record {
	return b.write(record.LaneClinical, record.KindClinical, compartment(patient), []byte(body))
}

func (b *box) add(other *box, role record.Role) record.Record {
	return b.write(record.LaneControl, record.KindMemberAdd, record.CompartmentID{}, mustMarshal(other.member(role)))
}

func (b *box) revoke(other *box) record.Record {
	return b.write(record.LaneControl, record.KindMemberRevoke, record.CompartmentID{}, mustMarshal(record.MemberRevoke{Device: other.id[:], Reason: "stolen"}))
}

func (b *box) found(name string) record.Record {
	nonce := sha256.Sum256([]byte("region " + name))
	return b.write(record.LaneControl, record.KindRegionFound, record.CompartmentID{},
		mustMarshal(record.RegionFound{Name: name, Nonce: nonce[:16], Founder: b.member(record.RoleHub)}))
}

func compartment(patient string) record.CompartmentID {
	h := sha256.Sum256([]byte("patient " + patient))
	return record.CompartmentID(h[:16])
}

func mustMarshal(v any) []byte {
	b, err := record.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// ledger is the smallest record.State: what a store keeps, in memory.
type ledger struct {
	entries  []record.Entry
	tree     record.Range
	epochs   map[record.EpochID]record.Epoch
	members  map[record.DeviceID]record.Member
	registry record.RegistryMap
	heads    map[record.Feed]record.Head
	placed   map[record.Position]uint64
	last     map[record.CompartmentID]uint64
}

func newLedger() *ledger {
	return &ledger{epochs: map[record.EpochID]record.Epoch{}, members: map[record.DeviceID]record.Member{}, registry: record.RegistryMap{}, heads: map[record.Feed]record.Head{},
		placed: map[record.Position]uint64{}, last: map[record.CompartmentID]uint64{}}
}

func (l *ledger) Size() uint64 { return uint64(len(l.entries)) }

func (l *ledger) LastTime() int64 {
	if len(l.entries) == 0 {
		return 0
	}
	return l.entries[len(l.entries)-1].Time
}

func (l *ledger) Epoch(id record.EpochID) (record.Epoch, bool, error) {
	e, ok := l.epochs[id]
	return e, ok, nil
}

func (l *ledger) Member(d record.DeviceID) (record.Member, bool, error) {
	m, ok := l.members[d]
	return m, ok, nil
}

func (l *ledger) Head(f record.Feed) (record.Head, bool, error) {
	if h, ok := l.heads[f]; ok {
		return h, true, nil
	}
	e, ok := l.epochs[f.Epoch]
	return record.Head{RID: e.Opening}, ok, nil
}

func (l *ledger) Ordered(p record.Position) (uint64, record.RID, bool, error) {
	seq, ok := l.placed[p]
	if !ok {
		return 0, record.RID{}, false, nil
	}
	return seq, l.entries[seq].Record.RID(), true, nil
}

func (l *ledger) CompartmentLast(c record.CompartmentID) (uint64, error) { return l.last[c], nil }

func (l *ledger) Registry(key []byte) ([]byte, bool, error) { return l.registry.Registry(key) }

// commit stores what an Orderer did.
func (l *ledger) commit(c record.Changes) {
	for _, e := range c.Entries {
		pos := e.Record.Position()
		l.entries = append(l.entries, e)
		l.tree.Append(record.LeafHash(e.EncodeLeaf()))
		l.placed[pos] = e.Seq
		if pos.N > 0 {
			l.heads[pos.Feed()] = record.Head{N: pos.N, RID: e.Record.RID()}
		}
		if !e.Record.Core.Compartment.IsZero() {
			l.last[e.Record.Core.Compartment] = e.Seq + 1
		}
	}
	for _, e := range c.Epochs {
		l.epochs[e.ID] = e
	}
	for _, m := range c.Members {
		l.members[m.Device] = m
	}
	l.registry.Take(c.Registry)
}

// order applies one batch.
func (l *ledger) order(t testing.TB, leaderMillis int64, records ...record.Record) []record.Outcome {
	t.Helper()
	o := record.NewOrderer(l, nil)
	at := o.BatchTime(leaderMillis)
	var outs []record.Outcome
	for _, r := range records {
		out, err := o.Add(at, r)
		if err != nil {
			t.Fatalf("adding a record: %v", err)
		}
		outs = append(outs, out)
	}
	l.commit(o.Changes)
	return outs
}

// mustOrder is order with every record ordered.
func (l *ledger) mustOrder(t testing.TB, records ...record.Record) {
	t.Helper()
	for i, out := range l.order(t, startMillis+int64(l.Size())*1000, records...) {
		if out.Verdict != record.Ordered {
			t.Fatalf("record %d of %d: got verdict %q, want ordered", i, len(records), out.Verdict)
		}
	}
	l.Check(t)
}

func (l *ledger) head() record.TreeHead { return l.tree.Head() }

// Check holds the ledger against everything that must be true of one.
func (l *ledger) Check(t testing.TB) {
	t.Helper()
	heads, last, seen := map[record.Feed]record.Head{}, map[record.CompartmentID]uint64{}, map[record.RID]bool{}
	owners := map[record.EpochID]record.DeviceID{}
	var tree record.Range
	before := int64(0)
	for i, e := range l.entries {
		r := &e.Record
		pos := r.Position()
		if e.Seq != uint64(i) || e.Time < before || seen[r.RID()] {
			t.Errorf("entry %d: seq %d, time %d after %d, seen before %v", i, e.Seq, e.Time, before, seen[r.RID()])
		}
		if pos.N == 0 {
			body, err := record.DecodeEpochOpen(r.Body)
			if err != nil {
				t.Errorf("entry %d: %v", i, err)
			}
			owners[pos.Epoch] = record.DeviceID(body.Device)
			for lane := record.Lane(0); lane < record.LaneCount; lane++ {
				heads[record.Feed{Epoch: pos.Epoch, Lane: lane}] = record.Head{RID: r.RID()}
			}
		} else {
			h := heads[pos.Feed()]
			if pos.N != h.N+1 || r.Core.Prev != h.RID {
				t.Errorf("entry %d: n %d after %d, prev matches %v", i, pos.N, h.N, r.Core.Prev == h.RID)
			}
			heads[pos.Feed()] = record.Head{N: pos.N, RID: r.RID()}
		}
		if r.VerifySignature(owners[pos.Epoch]) != nil || r.VerifyBody() != nil {
			t.Errorf("entry %d: signature or body do not verify", i)
		}
		if c := r.Core.Compartment; e.PrevSeq != last[c] {
			t.Errorf("entry %d: got prevSeq %d, want %d", i, e.PrevSeq, last[c])
		} else if !c.IsZero() {
			last[c] = e.Seq + 1
		}
		tree.Append(record.LeafHash(e.EncodeLeaf()))
		seen[r.RID()], before = true, e.Time
	}
	if tree.Head() != l.tree.Head() {
		t.Errorf("got head %v, want %v", l.tree.Head(), tree.Head())
	}
}

// region is a founded ledger with three hubs and two clinics, all open.
type region struct {
	*ledger
	id      record.RegionID
	hubs    [3]*box
	clinics [2]*box
}

func newRegion(t testing.TB) *region {
	t.Helper()
	g := &region{ledger: newLedger(), hubs: [3]*box{newBox("hub one"), newBox("hub two"), newBox("hub three")},
		clinics: [2]*box{newBox("clinic one"), newBox("clinic two")}}
	first := g.hubs[0]
	opening, founding := first.open(), first.found("Test region")
	g.id = record.RegionID(founding.RID())
	g.mustOrder(t, opening, founding)
	for i, h := range g.hubs[1:] {
		for _, by := range g.hubs[:record.Needed(i+1)] { // more than half of those before it
			g.mustOrder(t, by.add(h, record.RoleHub))
		}
		g.mustOrder(t, h.open())
	}
	for _, c := range g.clinics {
		g.mustOrder(t, first.add(c, record.RoleClinic), c.open())
	}
	g.seen()
	return g
}

// seen tells every box the ledger size of now.
func (g *region) seen() {
	for _, b := range append(g.hubs[:], g.clinics[:]...) {
		b.size = g.Size()
	}
}

func (g *region) hubIDs() []record.DeviceID {
	return []record.DeviceID{g.hubs[0].id, g.hubs[1].id, g.hubs[2].id}
}
