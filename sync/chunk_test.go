package peersync_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// memoryBlobs keeps attachments in memory. wants says which it asks for.
type memoryBlobs struct {
	blobs   map[record.BlobID]*memoryBlob
	wants   bool
	room    int // parts that it still takes
	holders map[record.BlobID][]record.DeviceID
	mark    uint64
}

type memoryBlob struct {
	record.Blob
	parts map[int][]byte
	asked bool
	own   bool
}

func newMemoryBlobs(wants bool) *memoryBlobs {
	return &memoryBlobs{blobs: map[record.BlobID]*memoryBlob{}, wants: wants, room: 1 << 20, holders: map[record.BlobID][]record.DeviceID{}}
}

// make keeps a new attachment of so many bytes.
func (m *memoryBlobs) make(t *testing.T, size int, rng *rand.Rand) record.Blob {
	t.Helper()
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	chunks := slices.Collect(slices.Chunk(b, record.BlobChunkBytes))
	blob, leaves, err := record.BlobOf(chunks)
	if err != nil {
		t.Fatal(err)
	}
	x := &memoryBlob{Blob: blob, parts: map[int][]byte{}, own: true}
	for _, h := range leaves {
		x.parts[0] = append(x.parts[0], h[:]...)
	}
	for i, c := range chunks {
		x.parts[i+1] = c
	}
	m.blobs[blob.ID()] = x
	return blob
}

// announce lets others know of an attachment, as its record would.
func (m *memoryBlobs) announce(b record.Blob) {
	if m.blobs[b.ID()] == nil {
		m.blobs[b.ID()] = &memoryBlob{Blob: b, parts: map[int][]byte{}}
	}
}

func (x *memoryBlob) have() []byte {
	bits := make([]byte, (x.Parts()+7)/8)
	for part := range x.Parts() {
		if x.parts[part] != nil || part == 0 && x.Chunks() == 1 {
			bits[part/8] |= 1 << (part % 8)
		}
	}
	return bits
}

func (x *memoryBlob) whole() bool {
	for part := 1; part < x.Parts(); part++ {
		if x.parts[part] == nil {
			return false
		}
	}
	return true
}

func (m *memoryBlobs) Wanted(max int, asked bool, skip func(record.BlobID) bool) (out []peersync.BlobWant, err error) {
	for id, x := range m.blobs {
		if (m.wants && !asked || x.asked) && !x.whole() && !skip(id) {
			out = append(out, peersync.BlobWant{Blob: x.Blob, Have: x.have(), Asked: x.asked})
		}
	}
	slices.SortFunc(out, func(a, b peersync.BlobWant) int {
		if a.Asked != b.Asked {
			return map[bool]int{true: -1, false: 1}[a.Asked]
		}
		return cmp.Or(cmp.Compare(a.Bytes, b.Bytes), bytes.Compare(a.Root[:], b.Root[:]))
	})
	return out[:min(len(out), max)], nil
}

// Mark moves at every question: no look is left out.
func (m *memoryBlobs) Mark() uint64 { m.mark++; return m.mark }

func (m *memoryBlobs) Blob(id record.BlobID) (record.Blob, []byte, bool, error) {
	x := m.blobs[id]
	if x == nil {
		return record.Blob{}, nil, false, nil
	}
	return x.Blob, x.have(), true, nil
}

func (m *memoryBlobs) Part(id record.BlobID, part int) ([]byte, error) {
	return slices.Clone(m.blobs[id].parts[part]), nil
}

func (m *memoryBlobs) PutPart(_ context.Context, _ record.DeviceID, id record.BlobID, part int, b []byte) (bool, error) {
	x := m.blobs[id]
	if m.room--; m.room < 0 {
		return false, fmt.Errorf("keeping: %w", peersync.ErrNoRoom)
	}
	switch {
	case x == nil:
		return false, errors.New("not announced")
	case part == 0:
		if _, err := x.Leaves(b); err != nil {
			return false, err
		}
	default:
		leaf := x.Root
		if x.Chunks() > 1 && x.parts[0] == nil {
			return false, errors.New("its list of hashes is not here")
		}
		if x.Chunks() > 1 {
			leaf = record.Hash(x.parts[0][32*(part-1):])
		}
		if err := x.VerifyChunk(part-1, leaf, b); err != nil {
			return false, err
		}
	}
	x.parts[part] = b
	return x.whole(), nil
}

func (m *memoryBlobs) Unconfirmed(max int) (out []record.BlobID, err error) {
	for id, x := range m.blobs {
		if x.own && len(m.holders[id]) == 0 {
			out = append(out, id)
		}
	}
	return out[:min(len(out), max)], nil
}

func (m *memoryBlobs) HeldOf(_ record.DeviceID, max int) (out []record.BlobID, err error) {
	for id, x := range m.blobs {
		if !x.own && x.whole() {
			out = append(out, id)
		}
	}
	return out[:min(len(out), max)], nil
}

func (m *memoryBlobs) PutHolder(_ context.Context, peer record.DeviceID, ids []record.BlobID) error {
	for _, id := range ids {
		m.holders[id] = append(m.holders[id], peer)
	}
	return nil
}

// blobWorld is a hub that wants all attachments, a clinic that made some, and one
// that wants what a person asks for.
func blobWorld(t *testing.T, seed uint64) (w *world, hub, author, reader *memoryBlobs) {
	w = newWorld(t, seed, 2)
	hub, author, reader = newMemoryBlobs(true), newMemoryBlobs(false), newMemoryBlobs(false)
	by := map[record.DeviceID]*memoryBlobs{w.hub.self: hub, w.clinics[0].self: author, w.clinics[1].self: reader}
	w.tweak = func(m *memory, o *peersync.Options) { o.Blobs = by[m.self] }
	return w, hub, author, reader
}

// Attachments reach the hub after the records, smallest first, and the clinic hears
// that they are there; another clinic gets one when somebody asks for it.
func TestBlobsTravel(t *testing.T) {
	w, hub, author, reader := blobWorld(t, 41)
	var all []record.Blob
	for _, size := range []int{9 * record.BlobChunkBytes, 700, 3*record.BlobChunkBytes + 9, record.BlobChunkBytes} {
		b := author.make(t, size, w.rng)
		all = append(all, b)
		hub.announce(b)
		reader.announce(b)
	}
	c := w.clinics[0]
	w.save(c, record.LaneBulk, 30)
	a, b := w.pair(c.memory, w.hub)
	x := &exchange{a: a, b: b}
	var order []record.BlobID
	late := 0
	x.tap = func(toA bool, f peersync.Frame) []peersync.Frame {
		switch {
		case f.Type == peersync.TypeChunk && !slices.Contains(order, record.BlobID(f.Payload[:16])):
			order = append(order, record.BlobID(f.Payload[:16]))
		case f.Type == peersync.TypePending && len(order) > 0:
			late++
		}
		return []peersync.Frame{f}
	}
	if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
		t.Fatal(err)
	}
	if want := []record.BlobID{all[1].ID(), all[3].ID(), all[2].ID(), all[0].ID()}; !slices.Equal(order, want) {
		t.Errorf("sent %v, want the smallest first: %v", order, want)
	}
	if late > 0 {
		t.Errorf("%d frames of records came after an attachment", late)
	}
	for _, b := range all {
		if !hub.blobs[b.ID()].whole() || !slices.Equal(author.holders[b.ID()], []record.DeviceID{w.hub.self}) {
			t.Errorf("%d bytes: whole %v, held by %v", b.Bytes, hub.blobs[b.ID()].whole(), author.holders[b.ID()])
		}
	}
	if len(w.hub.allPending()) != 31 {
		t.Errorf("the hub holds %d records, want 31", len(w.hub.allPending()))
	}
	reader.blobs[all[2].ID()].asked = true
	_, y, err := w.meet(w.clinics[1].memory, w.hub, noLimit)
	if err != nil {
		t.Fatal(err)
	}
	if !reader.blobs[all[2].ID()].whole() || y.frames[peersync.TypeWant] != 1 {
		t.Errorf("what was asked for: whole %v, frames %v", reader.blobs[all[2].ID()].whole(), y.frames)
	}
	if n, z, err := w.meet(c.memory, w.hub, noLimit); err != nil || n > 1000 || z.frames[peersync.TypeWant]+z.frames[peersync.TypeHeld]+z.frames[peersync.TypeChunk] != 0 {
		t.Errorf("nothing new: %d bytes, frames %v, %v", n, z.frames, err)
	}
}

// A meeting that is cut costs one part; another peer gives the rest.
func TestBlobsResume(t *testing.T) {
	for seed := range uint64(8) {
		w, hub, author, reader := blobWorld(t, 50+seed)
		tweak := w.tweak
		w.tweak = func(m *memory, o *peersync.Options) { tweak(m, o); o.Window = peersync.WindowSlow }
		b := author.make(t, 20*record.BlobChunkBytes+5, w.rng)
		hub.announce(b)
		reader.announce(b)
		reader.blobs[b.ID()].asked = true
		total, meetings := 0, 0
		for ; !hub.blobs[b.ID()].whole(); meetings++ {
			if meetings > 100 {
				t.Fatalf("seed %d: not there after %d meetings", seed, meetings)
			}
			n, _, err := w.meet(w.clinics[0].memory, w.hub, 30_000+w.rng.IntN(60_000))
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			total += n
			if _, _, err := w.meet(w.clinics[1].memory, w.hub, 20_000+w.rng.IntN(30_000)); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if most := int(b.Bytes) + meetings*(record.BlobChunkBytes+peersync.WindowSlow+5000); total > most {
			t.Errorf("seed %d: %d bytes in %d meetings, want at most %d", seed, total, meetings, most)
		}
		// The hub's acknowledgement may have been cut off: the author offers again.
		for range 2 {
			if _, _, err := w.meet(w.clinics[0].memory, w.hub, noLimit); err != nil {
				t.Fatal(err)
			}
		}
		if len(author.holders[b.ID()]) == 0 {
			t.Errorf("seed %d: the author does not know that the hub has it", seed)
		}
		if _, _, err := w.meet(w.clinics[1].memory, w.clinics[0].memory, noLimit); err != nil {
			t.Fatal(err)
		}
		if !reader.blobs[b.ID()].whole() {
			t.Errorf("seed %d: the author did not give the rest", seed)
		}
	}
}

// What a hub does not have yet it offers as soon as it came.
func TestBlobOfferedLater(t *testing.T) {
	w, hub, author, reader := blobWorld(t, 60)
	b := author.make(t, 40_000, w.rng)
	hub.announce(b)
	reader.announce(b)
	reader.blobs[b.ID()].asked = true
	a, h := w.pair(w.clinics[1].memory, w.hub)
	x := &exchange{a: a, b: h}
	if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
		t.Fatal(err)
	}
	if reader.blobs[b.ID()].whole() {
		t.Fatal("it came from nowhere")
	}
	if _, _, err := w.meet(w.clinics[0].memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	h.Changed()
	if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
		t.Fatal(err)
	}
	if !reader.blobs[b.ID()].whole() {
		t.Error("it did not go on to who asked for it")
	}
}

// Without an allowance nothing goes but what a person asked for; without room
// nothing is asked for.
func TestBlobsHeldBack(t *testing.T) {
	w, hub, author, _ := blobWorld(t, 61)
	asked, other := author.make(t, 30_000, w.rng), author.make(t, 20_000, w.rng)
	hub.announce(asked)
	hub.announce(other)
	hub.blobs[asked.ID()].asked = true
	tweak, allows := w.tweak, peersync.Allowance{Last: record.LaneBulk, Entries: true}
	w.tweak = func(m *memory, o *peersync.Options) {
		tweak(m, o)
		o.Allowance = func() peersync.Allowance { return allows }
	}
	if _, _, err := w.meet(w.clinics[0].memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	if !hub.blobs[asked.ID()].whole() || len(hub.blobs[other.ID()].parts) != 0 {
		t.Errorf("asked for: %v; other: %d parts", hub.blobs[asked.ID()].whole(), len(hub.blobs[other.ID()].parts))
	}
	allows.Later, hub.room = true, 1
	if _, _, err := w.meet(w.clinics[0].memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	if n := len(hub.blobs[other.ID()].parts); n != 1 {
		t.Errorf("took %d parts, want 1", n)
	}
}

// A stick brings what a clinic made to the hub, and the next one back says so; with
// the way back heard, nothing is written again.
func TestBlobsInParcel(t *testing.T) {
	w, hub, author, _ := blobWorld(t, 75)
	large, small := author.make(t, 6*record.BlobChunkBytes+3, w.rng), author.make(t, 500, w.rng)
	hub.announce(large)
	hub.announce(small)
	c := w.clinics[0]
	w.save(c, record.LaneClinical, 3)
	there := w.parcel(c.memory, c.key, w.hub)
	for round := range 2 {
		rep := w.take(w.hub, there)
		if want := 2 * (1 - round); rep.Attachments != want || !rep.Complete || rep.Refused != 0 {
			t.Errorf("reading %d: %+v, want %d attachments", round, rep, want)
		}
	}
	if !hub.blobs[large.ID()].whole() || !hub.blobs[small.ID()].whole() {
		t.Fatal("the hub lacks what the stick brought")
	}
	w.take(c.memory, w.parcel(w.hub, w.hubKey, c.memory))
	if len(author.holders[large.ID()]) != 1 || len(author.holders[small.ID()]) != 1 {
		t.Errorf("the clinic knows of %v", author.holders)
	}
	if again := w.parcel(c.memory, c.key, w.hub); len(again) > len(there)/4 {
		t.Errorf("written again: %d bytes, %d the first time", len(again), len(there))
	}
	spoilt := bytes.Clone(author.blobs[small.ID()].parts[1])
	spoilt[9] ^= 1
	author.blobs[small.ID()].parts[1], author.holders = spoilt, map[record.BlobID][]record.DeviceID{}
	delete(hub.blobs[small.ID()].parts, 1)
	if rep := w.take(w.hub, w.parcel(c.memory, c.key, w.hub)); rep.Attachments != 0 || hub.blobs[small.ID()].whole() {
		t.Errorf("a part that does not verify: %+v", rep)
	}
}

// A peer that sends what nobody asked for, or what is not what was announced, is
// left; what it sent is not kept.
func TestHostileBlobs(t *testing.T) {
	for name, spoil := range map[string]func(f *peersync.Frame){
		"another name": func(f *peersync.Frame) { f.Payload[3] ^= 1 },
		"other bytes":  func(f *peersync.Frame) { f.Payload[len(f.Payload)-1] ^= 1 },
		"another part": func(f *peersync.Frame) { f.Payload[16] ^= 3 },
		"a part past the last": func(f *peersync.Frame) {
			f.Payload = append(binary.AppendUvarint(f.Payload[:16:16], 500), f.Payload[17:]...)
		},
		"another place": func(f *peersync.Frame) { f.Payload[17] ^= 64 },
		"cut":           func(f *peersync.Frame) { f.Payload = f.Payload[:17] },
		"nothing":       func(f *peersync.Frame) { f.Payload = nil },
	} {
		w, hub, author, _ := blobWorld(t, 70)
		b := author.make(t, 3*record.BlobChunkBytes, w.rng)
		hub.announce(b)
		a, h := w.pair(w.clinics[0].memory, w.hub)
		x := &exchange{a: a, b: h, tap: func(toA bool, f peersync.Frame) []peersync.Frame {
			if f.Type == peersync.TypeChunk {
				f.Payload = bytes.Clone(f.Payload)
				spoil(&f)
			}
			return []peersync.Frame{f}
		}}
		if _, err := x.run(t.Context(), w.rng, noLimit); !errors.Is(err, peersync.ErrMisbehaved) {
			t.Errorf("%s: got %v, want %v", name, err, peersync.ErrMisbehaved)
		}
		if n := len(hub.blobs[b.ID()].parts); n != 0 {
			t.Errorf("%s: %d parts were kept", name, n)
		}
	}
}

// FuzzBlobFrames: no frame about attachments does more than end a session.
func FuzzBlobFrames(f *testing.F) {
	want, _ := record.Marshal([]any{[]any{[]any{make([]byte, 16), []byte{1}}}})
	held, _ := record.Marshal([]any{[][]byte{make([]byte, 16)}, [][]byte{}, [][]byte{make([]byte, 16)}})
	f.Add(byte(peersync.TypeWant), byte(2), want)
	f.Add(byte(peersync.TypeHeld), byte(0), held)
	f.Add(byte(peersync.TypeChunk), byte(0), make([]byte, 40))
	f.Fuzz(func(t *testing.T, typ, flags byte, payload []byte) {
		w, hub, author, _ := blobWorld(t, 80)
		hub.announce(author.make(t, 20_000, w.rng))
		a, h := w.pair(w.clinics[0].memory, w.hub)
		x := &exchange{a: a, b: h}
		if _, err := x.run(t.Context(), w.rng, 400); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*peersync.Session{a, h} {
			if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.Type(0x21 + typ%3), Flags: flags &^ 1, Payload: payload}); err != nil && !errors.Is(err, peersync.ErrMisbehaved) {
				t.Errorf("got %v", err)
			}
		}
	})
}
