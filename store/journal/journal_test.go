package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/store/journal"
	"github.com/healthpost/healthpost/store/journal/faultfs"
)

func seeded(t testing.TB) (*rand.Rand, uint64) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1)), seed
}

func payload(seq uint64, n int) []byte {
	b := binary.BigEndian.AppendUint64(nil, seq)
	return append(b, bytes.Repeat([]byte{byte(seq)}, n)...)
}

const (
	checkpointEvery = 7
	scourEvery      = 2 * checkpointEvery
)

// open opens the journal and replays it; got maps sequences to payloads.
func open(t testing.TB, fs journal.FS) (j *journal.Journal, from uint64, got map[uint64][]byte, err error) {
	t.Helper()
	j, err = journal.Open(journal.Options{FS: fs, SegmentBytes: 64 << 10, ChunkBytes: 16 << 10})
	if err != nil {
		return nil, 0, nil, err
	}
	from, _ = j.Last()
	got = map[uint64][]byte{}
	err = j.Replay(func(seq uint64, p []byte) error {
		got[seq] = bytes.Clone(p)
		return nil
	})
	if err != nil {
		return nil, from, got, err
	}
	return j, from, got, nil
}

// work appends frames until n or the first error and returns the last one
// acknowledged. Every few frames it writes a checkpoint.
func work(j *journal.Journal, rng *rand.Rand, n int) (acked uint64, err error) {
	for range n {
		next := j.Next()
		seq, err := j.Append(payload(next, rng.IntN(9000)))
		if err != nil {
			return acked, err
		}
		acked = seq
		if seq%checkpointEvery == 0 {
			last, _ := j.Last()
			if err := j.Checkpoint(max(seq-3, last), []byte("note")); err != nil {
				return acked, err
			}
		}
		if seq%scourEvery == 0 {
			if err := j.Scour(); err != nil {
				return acked, err
			}
		}
	}
	return acked, nil
}

// checkReplay checks that everything acknowledged after the checkpoint is there,
// contiguous and unchanged.
func checkReplay(t *testing.T, from, acked uint64, got map[uint64][]byte) {
	t.Helper()
	for seq := from + 1; seq <= acked; seq++ {
		p, ok := got[seq]
		if !ok || binary.BigEndian.Uint64(p) != seq {
			t.Fatalf("frame %d of %d acknowledged is lost (checkpoint %d)", seq, acked, from)
		}
	}
	for seq := range got {
		if seq <= from || seq > from+uint64(len(got)) {
			t.Fatalf("frame %d was replayed, want %d frames after %d", seq, len(got), from)
		}
	}
}

// TestEveryOperationFails makes each write, sync and rename of a workload fail in
// each way, cuts the power, and opens again.
func TestEveryOperationFails(t *testing.T) {
	_, seed := seeded(t)
	for _, mode := range faultfs.Modes {
		for op := 1; ; op++ {
			fs := faultfs.New(seed)
			fs.Inject(faultfs.Fault{Op: op, Mode: mode})
			j, _, _, err := open(t, fs)
			if err == nil {
				err = j.Checkpoint(0, nil)
			}
			var acked uint64
			if err == nil {
				acked, err = work(j, rand.New(rand.NewPCG(seed, uint64(op))), 25)
			}
			if fs.Ops() < op {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			name := fmt.Sprintf("%s at operation %d, %s", mode, op, fs.OpName(op))
			if !errors.Is(err, faultfs.ErrIO) {
				t.Fatalf("%s: error %v, want the injected one", name, err)
			}
			if j != nil {
				if _, err := j.Append(payload(1, 1)); !errors.Is(err, faultfs.ErrIO) {
					t.Fatalf("%s: a later append gave %v, want the same error", name, err)
				}
			}
			for _, keep := range []float64{0, 0.5, 1} {
				j, from, got, err := open(t, fs.Cut(keep))
				if err != nil {
					t.Fatalf("%s, keeping %.1f: %v", name, keep, err)
				}
				checkReplay(t, from, acked, got)
				if err := j.Checkpoint(j.Next()-1, nil); err != nil {
					t.Fatal(err)
				}
				if more, err := work(j, rand.New(rand.NewPCG(seed, 2)), 3); err != nil || more < acked+3 {
					t.Fatalf("%s: appending after recovery gave %d, %v", name, more, err)
				}
			}
		}
	}
}

// TestCutsInARow cuts the power at random moments over and over, sometimes
// during recovery.
func TestCutsInARow(t *testing.T) {
	rng, seed := seeded(t)
	fs := faultfs.New(seed)
	var acked uint64
	for round := range 200 {
		fs.Inject(faultfs.Fault{Op: 1 + rng.IntN(60), Mode: faultfs.Modes[rng.IntN(3)]})
		j, from, got, err := open(t, fs)
		if err == nil {
			checkReplay(t, from, acked, got)
			if err = j.Checkpoint(j.Next()-1, nil); err == nil {
				var a uint64
				a, err = work(j, rng, rng.IntN(20))
				acked = max(acked, a)
			}
		}
		if err != nil && !errors.Is(err, faultfs.ErrIO) {
			t.Fatalf("round %d: %v", round, err)
		}
		fs = fs.Cut(rng.Float64())
	}
	if acked < 100 {
		t.Errorf("only %d frames in all rounds: the test shows little", acked)
	}
}

// TestControlForgetsWithoutSync shows that the disk of these tests loses what is
// not synced: a file written without a sync is gone after a cut.
func TestControlForgetsWithoutSync(t *testing.T) {
	fs := faultfs.New(1)
	f, err := fs.Open("x", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("acknowledged"), 0); err != nil {
		t.Fatal(err)
	}
	if got := fs.Cut(0).Size("x"); got != -1 {
		t.Errorf("an unsynced file of %d bytes survived", got)
	}
}

// TestTornAtEveryByte cuts the last frame at each page boundary and one byte
// around it: the frame is dropped, the others stay.
func TestTornAtEveryByte(t *testing.T) {
	for _, size := range []int{0, 1, 4032, 4033, 9000} {
		whole := 64 + 8 + size
		for cut := 0; cut < whole; cut++ {
			if cut > 130 && cut < whole-70 && cut%4096 > 1 && cut%4096 < 4095 {
				continue
			}
			fs := faultfs.New(1)
			j, _, _, err := open(t, fs)
			if err != nil {
				t.Fatal(err)
			}
			if err := j.Checkpoint(0, nil); err != nil {
				t.Fatal(err)
			}
			for seq := uint64(1); seq <= 3; seq++ {
				if _, err := j.Append(payload(seq, size)); err != nil {
					t.Fatal(err)
				}
			}
			pages := (int64(whole) + 4095) / 4096 * 4096
			f, err := fs.Open("0000000000000001.seg", false)
			if err != nil {
				t.Fatal(err)
			}
			at := 4096 + 2*pages + int64(cut)
			if _, err := f.WriteAt(make([]byte, pages-int64(cut)), at); err != nil {
				t.Fatal(err)
			}
			_, _, got, err := open(t, fs)
			want := 2
			if cut >= 64+8 && size > 0 && bytes.Equal(make([]byte, whole-cut), payload(3, size)[cut-64:]) {
				want = 3
			}
			if err != nil || len(got) != want {
				t.Fatalf("size %d cut at %d: %d frames, %v; want %d", size, cut, len(got), err, want)
			}
		}
	}
}

// lenient reads what is left of a damaged journal: frames in order with their
// own bytes.
func lenient(t *testing.T, fs journal.FS) (frames int) {
	t.Helper()
	j, err := journal.Open(journal.Options{FS: fs, SegmentBytes: 64 << 10, ChunkBytes: 16 << 10, Lenient: true})
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	err = j.Replay(func(seq uint64, p []byte) error {
		if seq <= last || binary.BigEndian.Uint64(p) != seq || bytes.Count(p[8:], []byte{byte(seq)}) != len(p)-8 {
			t.Fatalf("frame %d after %d, or it has wrong bytes", seq, last)
		}
		last = seq
		frames++
		return nil
	})
	if err != nil && !errors.Is(err, journal.ErrDamaged) {
		t.Fatal(err)
	}
	return frames
}

// TestDamageIsReported flips bits in a journal that was closed. Each open gives
// all frames, or an error, or all but the last frame; never anything else.
func TestDamageIsReported(t *testing.T) {
	rng, seed := seeded(t)
	const frames = 30
	reported := 0
	for range 400 {
		fs := faultfs.New(seed)
		j, _, _, err := open(t, fs)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Checkpoint(0, []byte("note")); err != nil {
			t.Fatal(err)
		}
		for seq := uint64(1); seq <= frames; seq++ {
			if _, err := j.Append(payload(seq, rng.IntN(5000))); err != nil {
				t.Fatal(err)
			}
		}
		names, _ := fs.Names()
		name := names[rng.IntN(len(names))]
		at := rng.Int64N(fs.Size(name))
		fs.Flip(name, at, uint(rng.IntN(8)))
		_, _, got, err := open(t, fs)
		for seq, p := range got {
			if binary.BigEndian.Uint64(p) != seq || bytes.Count(p[8:], []byte{byte(seq)}) != len(p)-8 {
				t.Fatalf("bit at %d of %s: frame %d has wrong bytes", at, name, seq)
			}
		}
		switch {
		case err != nil && !errors.Is(err, journal.ErrDamaged):
			t.Fatalf("bit at %d of %s: %v, want damage", at, name, err)
		case err != nil:
			reported++
		case len(got) < frames-1:
			t.Fatalf("bit at %d of %s: %d frames without an error, want %d", at, name, len(got), frames)
		}
		if kept := lenient(t, fs); kept < frames-1 {
			t.Fatalf("bit at %d of %s: %d frames are salvaged, want all but one of %d", at, name, kept, frames)
		}
	}
	if reported < 100 {
		t.Errorf("damage was reported %d times of 400: the test shows little", reported)
	}
}

func TestOneSyncAFrame(t *testing.T) {
	j, _, _, err := open(t, journal.Dir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Checkpoint(0, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(payload(1, 100)); err != nil {
		t.Fatal(err)
	}
	before := j.Stats()
	for seq := uint64(2); seq <= 11; seq++ {
		if _, err := j.Append(payload(seq, 100)); err != nil {
			t.Fatal(err)
		}
	}
	after := j.Stats()
	if got := after.Syncs - before.Syncs; got != 10 {
		t.Errorf("%d syncs for 10 frames, want 10", got)
	}
}

func TestSegmentsAreUsedAgain(t *testing.T) {
	fs := faultfs.New(1)
	j, _, _, err := open(t, fs)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Checkpoint(0, nil); err != nil {
		t.Fatal(err)
	}
	for range 400 {
		seq, err := j.Append(payload(j.Next(), 3000))
		if err != nil {
			t.Fatal(err)
		}
		if j.Live() > 0 {
			if err := j.Checkpoint(seq, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	names, _ := fs.Names()
	if len(names) > 5 {
		t.Errorf("files %s after 400 frames, want a few that are used again", strings.Join(names, " "))
	}
}

// TestScourForgets: what the last checkpoint covers is in no file any more, and what
// came after it stays.
func TestScourForgets(t *testing.T) {
	fs := faultfs.New(1)
	j, _, _, err := open(t, fs)
	if err == nil {
		err = j.Checkpoint(0, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("what nobody is to find")
	for _, p := range [][]byte{payload(1, 70_000), append(payload(2, 10), secret...)} {
		if _, err := j.Append(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(j.Checkpoint(2, nil), j.Scour()); err != nil {
		t.Fatal(err)
	}
	if seq, err := j.Append(payload(3, 10)); err != nil || seq != 3 {
		t.Fatalf("the next frame is %d, %v", seq, err)
	}
	if err := errors.Join(j.Scour(), j.Close()); err != nil {
		t.Fatal(err)
	}
	names, err := fs.Names()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := fs.Open(name, false)
		if err != nil {
			t.Fatal(err)
		}
		n, err := f.Size()
		b := make([]byte, n)
		if _, rerr := f.ReadAt(b, 0); err != nil || rerr != nil && !errors.Is(rerr, io.EOF) {
			t.Fatal(err, rerr)
		}
		if bytes.Contains(b, secret) {
			t.Errorf("%s still holds it", name)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, from, got, err := open(t, fs)
	if err != nil {
		t.Fatal(err)
	}
	checkReplay(t, from, 3, got)
}
