package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// timed is a note whose hubs cosigned at these times.
func timed(t testing.TB, times ...int64) []byte {
	t.Helper()
	msg := []byte(record.CheckpointText(regionID.Ledger(1), someHead) + "\n")
	for i, at := range times {
		n, err := record.Cosign(regionID.Ledger(1), someHead, fiveHubs[i].key, at)
		if err != nil {
			t.Fatal(err)
		}
		msg = append(msg, lineOf(n)...)
	}
	return msg
}

var fiveHubs = append(slices.Clone(hubBoxes), newBox("hub four"), newBox("hub five"))

// The time of a checkpoint is one that an honest hub vouches for, whatever fewer
// than half of them claim.
func TestMajorityTime(t *testing.T) {
	const far = 1<<62 - 1
	for _, c := range []struct {
		hubs  int
		times []int64
		want  int64
	}{
		{1, []int64{7}, 7},
		{2, []int64{7, 9}, 7},
		{3, []int64{7, 9}, 7},
		{3, []int64{9, 7}, 7},
		{3, []int64{9}, 0},
		{3, []int64{7, 8, 9}, 8},
		{3, []int64{far, 8, 7}, 8},
		{3, []int64{0, 8, 7}, 7},
		{3, []int64{0, far, 7}, 7},
		{5, []int64{1, 2, 3}, 1},
		{5, []int64{far, far, 5, 4, 3}, 5},
		{5, []int64{0, 0, 5, 4, 3}, 3},
		{5, []int64{6, 7}, 0},
	} {
		cp, err := record.OpenCheckpoint(regionID.Ledger(1), timed(t, c.times...), ids(fiveHubs[:c.hubs]))
		if err != nil || cp.Time != c.want {
			t.Errorf("%d hubs at %v: got %d, %v, want %d", c.hubs, c.times, cp.Time, err, c.want)
		}
	}
}

func TestCompactNote(t *testing.T) {
	l := regionID.Ledger(1)
	for _, c := range []struct {
		hubs  int
		times []int64
		want  int // bytes
	}{
		{1, []int64{7}, 2 + 32 + 76},
		{3, []int64{7, 9}, 2 + 32 + 2*76},
		{3, []int64{7, 8, 9}, 2 + 32 + 2*76},
		{3, []int64{9}, 2 + 32 + 76},
		{5, []int64{9, 3, 7, 1, 8}, 2 + 32 + 3*76},
	} {
		hubs, note := ids(fiveHubs[:c.hubs]), timed(t, c.times...)
		compact, err := record.CompactNote(l, note, hubs)
		if err != nil || len(compact) != c.want {
			t.Fatalf("%v: got %d bytes, %v, want %d", c.times, len(compact), err, c.want)
		}
		if h, err := record.CompactHead(compact); err != nil || h != someHead {
			t.Errorf("%v: got head %v, %v", c.times, h, err)
		}
		back, err := record.ExpandNote(l, compact, hubs)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := record.OpenCheckpoint(l, note, hubs)
		got, err := record.OpenCheckpoint(l, back, hubs)
		if err != nil || got.Head != want.Head || got.Time != want.Time || len(got.Signers) != min(len(want.Signers), record.Needed(c.hubs)) {
			t.Errorf("%v: got %+v, %v", c.times, got, err)
		}
		// Whoever shortens the same again, or in another order, sends the same.
		again, err := record.CompactNote(l, back, hubs)
		if err != nil || !bytes.Equal(again, compact) {
			t.Errorf("%v: again: got %x, %v, want %x", c.times, again, err, compact)
		}
	}
	two, err := record.CompactNote(l, cosigned(t, record.TreeHead{Size: 10_000_000, Root: someHead.Root}, hubBoxes...), ids(hubBoxes))
	if err != nil || len(two) > 188 {
		t.Errorf("two of three hubs, ten million entries: got %d bytes, %v, want at most 188", len(two), err)
	}
}

// Hubs that the reader does not know leave no line; with none left it says so.
func TestExpandNoteOfOtherHubs(t *testing.T) {
	l := regionID.Ledger(1)
	compact, err := record.CompactNote(l, timed(t, 7, 8, 9), ids(fiveHubs[:3]))
	if err != nil {
		t.Fatal(err)
	}
	// The hubs of times 8 and 9 are in it.
	note, err := record.ExpandNote(l, compact, ids([]*box{fiveHubs[4], fiveHubs[1]}))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := record.VerifyFinal(l, note, ids([]*box{fiveHubs[4], fiveHubs[1]})); !errors.Is(err, record.ErrNotFinal) || len(c.Signers) != 1 {
		t.Errorf("one known hub: got %d signers, %v", len(c.Signers), err)
	}
	for name, hubs := range map[string][]record.DeviceID{"no known hub": ids(fiveHubs[3:]), "no hub": nil, "a hub that is not in it": ids(fiveHubs[:1])} {
		if _, err := record.ExpandNote(l, compact, hubs); !errors.Is(err, record.ErrNotFinal) {
			t.Errorf("%s: got %v, want ErrNotFinal", name, err)
		}
	}
	if note, err := record.ExpandNote(regionID.Ledger(2), compact, ids(fiveHubs[:3])); !errors.Is(err, record.ErrNotFinal) {
		t.Errorf("another generation: got %q, %v", note, err)
	}
}

func TestCompactNoteRefused(t *testing.T) {
	l, hubs := regionID.Ledger(1), ids(hubBoxes)
	sound, err := record.CompactNote(l, cosigned(t, someHead, hubBoxes...), hubs)
	if err != nil {
		t.Fatal(err)
	}
	lines := sound[2+32:]
	for name, b := range map[string][]byte{
		"nothing": nil, "a size alone": sound[:2], "half a root": sound[:20], "half a cosignature": sound[:2+32+40], "a byte more": append(bytes.Clone(sound), 0),
		"a longer size":    append([]byte{sound[0], sound[1] | 0x80, 0}, sound[2:]...),
		"a size past 2^62": append(binary.AppendUvarint(nil, 1<<62+1), sound[2:]...),
		"out of order":     slices.Concat(sound[:34], lines[76:], lines[:76]),
		"a hub twice":      slices.Concat(sound[:34], lines[:76], lines[:76]),
		"33 hubs":          slices.Concat(sound[:34], make([]byte, 33*76)),
	} {
		if _, err := record.ExpandNote(l, b, hubs); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := record.CompactNote(l, []byte("noise"), hubs); err == nil {
		t.Error("noise was shortened")
	}
}

// One who makes a key whose short id is another hub's spoils nothing.
func TestCompactNoteOfSharedKeyIDs(t *testing.T) {
	l := regionID.Ledger(1)
	a, b := sharedKeyID(t, l)
	hubs := []record.DeviceID{a.id, b.id, fiveHubs[0].id}
	for _, order := range [][]record.DeviceID{hubs, {b.id, a.id, fiveHubs[0].id}} {
		for _, by := range []*box{a, b} {
			msg := append([]byte(record.CheckpointText(l, someHead)+"\n"), lineOf(noteBy(t, l, someHead, 7, by))...)
			msg = append(msg, lineOf(noteBy(t, l, someHead, 7, fiveHubs[0]))...)
			compact, err := record.CompactNote(l, msg, order)
			if err != nil {
				t.Fatal(err)
			}
			back, err := record.ExpandNote(l, compact, order)
			if err != nil {
				t.Fatal(err)
			}
			if c, err := record.VerifyFinal(l, back, order); err != nil || !slices.Contains(c.Signers, by.id) {
				t.Errorf("by %s: got %d signers, %v", by.name, len(c.Signers), err)
			}
		}
	}
}

// All three cosigned, two of them under one id: what is left makes a majority.
func TestProofOfSharedKeyIDs(t *testing.T) {
	l := regionID.Ledger(1)
	a, b := sharedKeyID(t, l)
	hubs := []record.DeviceID{a.id, b.id, fiveHubs[0].id}
	c := newBox("clinic one")
	c.open()
	e := record.Entry{Record: c.visit("a", "1")}
	head := record.TreeHead{Size: 1, Root: record.LeafHash(e.EncodeLeaf())}
	var note []byte
	for i, by := range []*box{a, b, fiveHubs[0]} {
		n := noteBy(t, l, head, int64(9-i), by)
		if i > 0 {
			n = lineOf(n)
		}
		note = append(note, n...)
	}
	p, err := record.NewProof(l, c.id, &e, nil, note, hubs)
	if err != nil || len(p.Cosignatures) != 2 {
		t.Errorf("got %d cosignatures, %v", len(p.Cosignatures), err)
	}
}

func TestCheckpointMutated(t *testing.T) {
	rng := newRand(testSeed(t))
	l, hubs := regionID.Ledger(1), ids(hubBoxes)
	note := cosigned(t, someHead, hubBoxes[:2]...)
	compact, err := record.CompactNote(l, note, hubs)
	if err != nil {
		t.Fatal(err)
	}
	for range mutations {
		if x := mutate(rng, note); true {
			if c, err := record.VerifyFinal(l, x, hubs); err == nil && (c.Head != someHead || c.Time != 1_768_435_200) {
				t.Fatalf("%q: final at %v", x, c.Head)
			}
		}
		x := mutate(rng, compact)
		back, err := record.ExpandNote(l, x, hubs)
		if err == nil {
			_, err = record.VerifyFinal(l, back, hubs)
		}
		if err == nil {
			t.Fatalf("%x: final", x)
		}
	}
}

func FuzzExpandNote(f *testing.F) {
	l, hubs := regionID.Ledger(1), ids(hubBoxes)
	for _, by := range [][]*box{hubBoxes, hubBoxes[:1]} {
		b, err := record.CompactNote(l, cosigned(f, someHead, by...), hubs)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.ExpandNote(l, b, hubs) })
		note, err := record.ExpandNote(l, b, hubs)
		if err != nil {
			if !errors.Is(err, record.ErrNotFinal) {
				wantMalformed(t, err)
			}
			return
		}
		c, err := record.OpenCheckpoint(l, note, hubs)
		if err != nil {
			return
		}
		if h, err := record.CompactHead(b); err != nil || h != c.Head || c.Head != someHead {
			t.Errorf("got head %v, %v, of a note at %v", h, err, c.Head)
		}
	})
}
