package peersync_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// parcelKey stands for the real one: a slot is the receiver's name and a key.
type parcelKey struct {
	slots []byte
	aead  cipher.AEAD
}

func newParcelKey(slots []byte) *parcelKey {
	block, err := aes.NewCipher(slots[48:80])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &parcelKey{slots, aead}
}

func sealFor(rng *rand.Rand, to ...record.DeviceID) *parcelKey {
	var slots []byte
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(rng.Uint32())
	}
	for _, d := range to {
		slots = append(slots, append(append(make([]byte, 16), d[:]...), key...)...)
	}
	return newParcelKey(slots)
}

func (k *parcelKey) Slots() []byte { return k.slots }
func (k *parcelKey) Seal(i uint32, plain []byte) []byte {
	return k.aead.Seal(nil, binary.BigEndian.AppendUint32(make([]byte, 8), i), plain, nil)
}
func (k *parcelKey) Open(i uint32, box []byte) ([]byte, error) {
	return k.aead.Open(nil, binary.BigEndian.AppendUint32(make([]byte, 8), i), box, nil)
}

var errNoSlot = errors.New("no slot")

func openAs(d record.DeviceID) func([]byte) (peersync.ParcelKey, error) {
	return func(slots []byte) (peersync.ParcelKey, error) {
		for at := 0; at+80 <= len(slots); at += 80 {
			if bytes.Equal(slots[at+16:at+48], d[:]) {
				return newParcelKey(slots[at : at+80]), nil
			}
		}
		return nil, errNoSlot
	}
}

// parcel writes what one replica has for another.
func (w *world) parcel(from *memory, key ed25519.PrivateKey, to *memory, tweak ...func(*peersync.ParcelOptions)) []byte {
	w.t.Helper()
	o := peersync.ParcelOptions{Session: w.options(from), Signer: key, Key: sealFor(w.rng, to.self), For: to.self, Pending: true, Entries: true}
	binary.BigEndian.PutUint64(o.ID[:], w.rng.Uint64())
	for _, f := range tweak {
		f(&o)
	}
	var b bytes.Buffer
	if _, err := peersync.WriteParcel(w.t.Context(), &b, from, o); err != nil {
		w.t.Fatal(err)
	}
	return b.Bytes()
}

func (w *world) readParcel(to *memory, b []byte) (peersync.ParcelReport, error) {
	return peersync.ReadParcel(w.t.Context(), bytes.NewReader(b), to, peersync.ParcelReadOptions{Session: w.options(to), Open: openAs(to.self), Member: w.member})
}

// take reads a parcel, which must do no harm to a replica.
func (w *world) take(to *memory, b []byte) peersync.ParcelReport {
	w.t.Helper()
	rep, err := w.readParcel(to, b)
	if err != nil {
		w.t.Fatal(err)
	}
	w.check(to)
	return rep
}

func noEntries(o *peersync.ParcelOptions) { o.Entries = false }

func TestParcelThereAndBack(t *testing.T) {
	w := newWorld(t, 40, 1)
	c := w.clinics[0]
	w.save(c, record.LaneClinical, 30)
	w.save(c, record.LaneControl, 2)
	w.save(c, record.LaneBulk, 5)
	up := w.parcel(c.memory, c.key, w.hub, noEntries)
	rep := w.take(w.hub, up)
	if rep.New != 38 || rep.Known != 0 || rep.Refused != 0 || rep.Waiting != 0 || !rep.Complete || rep.From != c.self || rep.For != w.hub.self {
		t.Fatalf("the hub read %+v", rep)
	}
	before := w.hub.sum()
	if rep = w.take(w.hub, up); rep.New != 0 || rep.Known != 38 || w.hub.sum() != before {
		t.Fatalf("a second time: %+v", rep)
	}

	// What comes back says that the hub holds them, before they are ordered.
	rep = w.take(c.memory, w.parcel(w.hub, w.hubKey, c.memory, func(o *peersync.ParcelOptions) { o.From = c.Head().Size; o.Pending = false }))
	if got := c.acked[w.hub.self][record.Feed{Epoch: c.author.epoch, Lane: record.LaneClinical}]; got != 30 {
		t.Errorf("acknowledged up to n %d, want 30", got)
	}
	w.orderAll()
	down := w.parcel(w.hub, w.hubKey, c.memory, func(o *peersync.ParcelOptions) { o.From = c.Head().Size; o.Pending = false })
	rep = w.take(c.memory, down)
	if rep.Entries != 38 || rep.Refused != 0 || !rep.Complete {
		t.Errorf("the clinic read %+v", rep)
	}
	if c.Head() != w.hub.Head() || len(c.allPending()) != 0 {
		t.Fatalf("clinic at %d with %d pending, want %d with none", c.Head().Size, len(c.allPending()), w.hub.Head().Size)
	}
	if rep, err := peersync.PeekParcel(bytes.NewReader(down), c.memory, peersync.ParcelReadOptions{Session: w.options(c.memory), Open: openAs(c.self)}); err != nil || rep.From != w.hub.self || rep.For != c.self {
		t.Errorf("looked at: %+v, %v", rep, err)
	}
	if rep = w.take(c.memory, down); rep.New != 0 || rep.Known != 38 {
		t.Errorf("a second time: %+v", rep)
	}
	if _, head, ok := c.Final(); !ok || head != w.hub.Head() {
		t.Errorf("final at %d, want %d", head.Size, w.hub.Head().Size)
	}
}

func TestParcelForAnother(t *testing.T) {
	w := newWorld(t, 41, 2)
	w.save(w.clinics[0], record.LaneClinical, 3)
	b := w.parcel(w.clinics[0].memory, w.clinics[0].key, w.hub)
	before := w.clinics[1].sum()
	if rep, err := w.readParcel(w.clinics[1].memory, b); !errors.Is(err, peersync.ErrNotForHere) || rep.New != 0 {
		t.Errorf("another box read it: %+v, %v", rep, err)
	}
	if w.clinics[1].sum() != before {
		t.Error("another box took something in")
	}
	if _, err := w.readParcel(w.hub, []byte("holiday pictures")); !errors.Is(err, peersync.ErrNoParcel) {
		t.Errorf("another file: got %v, want ErrNoParcel", err)
	}
}

// TestParcelSeedsABox brings a whole ledger to a box that holds nothing, and to one
// that is somewhere within it.
func TestParcelSeedsABox(t *testing.T) {
	w := newWorld(t, 42, 2)
	a, b := w.clinics[0], w.clinics[1]
	for range 8 {
		w.save(a, record.LaneClinical, 60)
		if _, _, err := w.meet(a.memory, w.hub, noLimit); err != nil {
			t.Fatal(err)
		}
		w.orderAll()
	}
	seed := w.parcel(w.hub, w.hubKey, b.memory)
	rep := w.take(b.memory, seed)
	if b.Head() != w.hub.Head() || !rep.Complete || rep.Refused != 0 || rep.Known == 0 {
		t.Fatalf("seeded up to %d, want %d: %+v", b.Head().Size, w.hub.Head().Size, rep)
	}
	if _, _, err := w.meet(a.memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	if rep = w.take(a.memory, w.parcel(w.hub, w.hubKey, a.memory)); rep.New != 0 || rep.Refused != 0 {
		t.Errorf("a box that has it all read %+v", rep)
	}
	// In the middle of a range.
	m := newMemory(b.self)
	if err := w.copyFounding(m); err != nil {
		t.Fatal(err)
	}
	entries, err := w.hub.Entries(m.Head().Size, 71, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := w.hub.ConsistencyProof(71, w.hub.Head().Size)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Extend(t.Context(), entries[:71-m.Head().Size], w.hub.Head(), proof); err != nil {
		t.Fatal(err)
	}
	if rep = w.take(m, seed); m.Head() != w.hub.Head() || rep.Known != 71 {
		t.Errorf("from 71 up to %d: %+v", m.Head().Size, rep)
	}
}

// TestParcelDamaged damages parcels at random places and holds what is taken in to
// what the blocks hold that are still whole: of each feed and of the ledger all up
// to the first one that is missing, nothing else, and never a wrong byte.
func TestParcelDamaged(t *testing.T) {
	seed := testSeed(t)
	for round := range uint64(5) {
		w := newWorld(t, seed+round, 2)
		a, b := w.clinics[0], w.clinics[1]
		w.save(a, record.LaneClinical, 60)
		if _, _, err := w.meet(a.memory, w.hub, noLimit); err != nil {
			t.Fatal(err)
		}
		w.orderAll()
		if _, _, err := w.meet(a.memory, w.hub, noLimit); err != nil {
			t.Fatal(err)
		}
		for _, lane := range []record.Lane{record.LaneControl, record.LaneClinical, record.LaneAudit, record.LaneBulk} {
			w.save(a, lane, 30+w.rng.IntN(60))
		}
		file := w.parcel(a.memory, a.key, b.memory)
		once := file[:len(file)/2] // the second copy would mend it
		bad := bytes.Clone(once)
		for range w.rng.IntN(4) {
			from := w.rng.IntN(len(bad))
			switch to := min(from+1+w.rng.IntN(3000), len(bad)); w.rng.IntN(4) {
			case 0:
				bad[from] ^= 1 << w.rng.IntN(8)
			case 1:
				clear(bad[from:to])
			case 2:
				bad = append(bad[:from:from], bad[to:]...) // bytes that are gone
			case 3:
				bad = bad[:from]
			}
		}
		w.compareDamaged(round, a, b, once, bad)
		whole := newMemory(b.self)
		if err := w.copyFounding(whole); err != nil {
			t.Fatal(err)
		}
		if rep := w.take(whole, append(bytes.Clone(bad), once...)); !rep.Complete || whole.sum() != a.sum() {
			t.Fatalf("round %d (seed %d): with a whole second copy: %+v", round, seed, rep)
		}
	}
}

// compareDamaged reads a damaged parcel and compares with a replica that reads the
// whole blocks alone, put into a file of their own.
func (w *world) compareDamaged(round uint64, a, b *clinic, once, bad []byte) {
	w.t.Helper()
	var kept []byte
	blocks, left := 0, 0
	for at := 0; at < len(once); blocks++ {
		n := 22 + 80*int(binary.BigEndian.Uint16(once[at+12:])) + int(binary.BigEndian.Uint32(once[at+14:]))
		if i := bytes.Index(bad, once[at:at+n]); i >= 0 {
			kept = append(kept, once[at:at+n]...)
			left++
		}
		at += n
	}
	got, want := newMemory(b.self), newMemory(b.self)
	for _, m := range []*memory{got, want} {
		if err := w.copyFounding(m); err != nil {
			w.t.Fatal(err)
		}
	}
	rep, err := w.readParcel(got, bad)
	if left == 0 {
		if !errors.Is(err, peersync.ErrNoParcel) {
			w.t.Fatalf("round %d: nothing is whole: %+v, %v", round, rep, err)
		}
		return
	}
	ref := w.take(want, kept)
	if err != nil || got.sum() != want.sum() || rep.Blocks != left || rep.New != ref.New || rep.Refused != 0 || rep.Complete != (left == blocks) {
		w.t.Fatalf("round %d: %d of %d blocks whole: got %+v, want as %+v; %v", round, left, blocks, rep, ref, err)
	}
	w.check(got)
	if left < blocks && rep.Damaged == 0 && rep.Missing == 0 && rep.Complete {
		w.t.Fatalf("round %d: damage that nobody is told of: %+v", round, rep)
	}
	// What is missing comes with the next parcel.
	if rep := w.take(got, w.parcel(a.memory, a.key, b.memory)); !rep.Complete || got.sum() != a.sum() {
		w.t.Fatalf("round %d: a later parcel: %+v", round, rep)
	}
}

// testSeed is printed, and taken from HEALTHPOST_TEST_SEED.
func testSeed(t *testing.T) uint64 {
	seed := rand.Uint64() >> 1
	if s := os.Getenv("HEALTHPOST_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("HEALTHPOST_TEST_SEED=%d", seed)
	return seed
}

// TestParcelBlockFullOfMarks: a file that costs more to search than it is long.
func TestParcelBlockFullOfMarks(t *testing.T) {
	w := newWorld(t, 43, 1)
	mark := append([]byte("HPP1\x8d\r\n\xf1"), 0, 0, 0, 0, 0, 1, 0, 4, 0, 0, 1, 2, 3, 4)
	if _, err := w.readParcel(w.hub, bytes.Repeat(mark, 64<<10)); !errors.Is(err, peersync.ErrMisbehaved) {
		t.Errorf("got %v, want ErrMisbehaved", err)
	}
}

// FuzzReadParcel reads any file, any frames that a member signed, and a parcel with
// other bytes somewhere in it.
func FuzzReadParcel(f *testing.F) {
	f.Add([]byte("HPP1\x8d\r\n\xf1\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"), byte(0), uint16(0))
	f.Add(peersync.AppendFrame(nil, peersync.Frame{Type: peersync.TypePending, Payload: []byte{1, 2, 3}}), byte(1), uint16(0))
	f.Add(peersync.AppendFrame(nil, peersync.Frame{Type: peersync.TypeRange, Payload: []byte{9, 1, 2, 3}}), byte(1), uint16(0))
	f.Add(peersync.AppendFrame(nil, peersync.Frame{Type: peersync.TypePromise, Payload: []byte{0x80}}), byte(1), uint16(0))
	f.Add(peersync.AppendFrame(nil, peersync.Frame{Type: peersync.TypeParcel, Flags: 2, Payload: mustMarshal([]any{uint64(1) << 21, make([]byte, 32)})}), byte(1), uint16(0))
	f.Add([]byte{0, 0}, byte(2), uint16(40))
	f.Fuzz(func(t *testing.T, b []byte, how byte, at uint16) {
		w := newWorld(t, 44, 2)
		c := w.clinics[0]
		w.save(c, record.LaneClinical, 3)
		file := b
		switch how % 3 {
		case 1:
			file = w.signedBlock(c, w.clinics[1].self, b)
		case 2:
			file = w.parcel(c.memory, c.key, w.clinics[1].memory)
			copy(file[min(int(at), len(file)):], b)
		}
		m := w.clinics[1].memory
		before := m.Head()
		rep, err := w.readParcel(m, file)
		w.check(m)
		if m.Head() != before {
			t.Fatal("the ledger grew by what no hub signed")
		}
		if rep.New > 4 || err != nil && errors.Is(err, peersync.ErrLocal) {
			t.Fatalf("got %+v, %v", rep, err)
		}
	})
}

// signedBlock is a file of one block in which a member signed whatever frames.
func (w *world) signedBlock(from *clinic, to record.DeviceID, frames []byte) []byte {
	key := sealFor(w.rng, to)
	head := mustMarshal([]any{uint64(1), make([]byte, 16), w.region[:], from.self[:], to[:], int64(0), uint64(0)})
	plain := append(peersync.AppendFrame(nil, peersync.Frame{Type: peersync.TypeParcel, Payload: head}), frames...)
	claim := append(append([]byte("hp:parcel:1\x00"), w.region[:]...), 0, 0, 0, 0)
	sealed := key.Seal(0, append(plain, ed25519.Sign(from.key, append(claim, plain...))...))
	b := append([]byte("HPP1\x8d\r\n\xf1"), 0, 0, 0, 0, 0, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(sealed)))
	rest := append(bytes.Clone(key.slots), sealed...)
	table := crc32.MakeTable(crc32.Castagnoli)
	b = binary.BigEndian.AppendUint32(b, crc32.Update(crc32.Checksum(b[8:], table), table, rest))
	return append(b, rest...)
}
