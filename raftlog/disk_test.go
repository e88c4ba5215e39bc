package raftlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/store/journal/faultfs"
)

// hubDisk is what raft's log, its votes and the ledger lie on: the journal in
// memory, and of the index a copy as of the last checkpoint, which is all of it
// that is sure to be there after a power cut.
type hubDisk struct {
	*faultfs.FS
	t           testing.TB
	index, safe string
	mu          sync.Mutex // the copy and the names move together
}

func newHubDisk(t testing.TB, seed uint64, dir string) *hubDisk {
	d := &hubDisk{FS: faultfs.New(seed), t: t, index: filepath.Join(dir, "index"), safe: filepath.Join(t.TempDir(), "safe")}
	check(t, "making the copy", os.MkdirAll(d.safe, 0o700))
	return d
}

// Rename implements journal.FS. A checkpoint renames right after it synced the
// index.
func (d *hubDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for same := to != "checkpoint"; !same; { // files come and go meanwhile
		before, err := os.ReadFile(filepath.Join(d.index, "MANIFEST"))
		if err != nil {
			return err
		}
		if err := os.RemoveAll(d.safe); err != nil {
			return err
		}
		err = os.CopyFS(d.safe, os.DirFS(d.index))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		after, rerr := os.ReadFile(filepath.Join(d.index, "MANIFEST"))
		if rerr != nil {
			return rerr
		}
		same = err == nil && bytes.Equal(before, after)
	}
	return d.FS.Rename(from, to)
}

// cut leaves what a power cut would.
func (d *hubDisk) cut(keep float64) *hubDisk {
	n := &hubDisk{FS: d.FS.Cut(keep), t: d.t, index: d.index, safe: d.safe}
	copyTree(d.t, d.safe, d.index)
	return n
}

// TestEveryLogOperationFails makes writes and syncs of a hub's disk fail in each
// way while it orders: raft's log, its votes and the ledger share it. After the
// failure nothing is acknowledged and the node ends; after a power cut it starts
// again, and every record that a client was told is ordered stands at its place.
// A few operations in each way; HEALTHPOST_TEST_OPS=all fails a hundred.
func TestEveryLogOperationFails(t *testing.T) {
	ops := 4
	if os.Getenv("HEALTHPOST_TEST_OPS") == "all" {
		ops = 100
	}
	rng := testSeed(t)
	limits := raftlog.DefaultLimits()
	for _, mode := range faultfs.Modes {
		seed := rng.Uint64()
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 2))
			clinics := boxes("clinic", 1)
			net, hubs := storeRegionWith(t, 1, clinics, quick(), limits, func(h *storeHub) { h.disk = newHubDisk(t, seed, h.dir) })
			h, all, next := hubs[0], []acked{}, clinics[0].visit(500)
			for i := range ops {
				op := 1 + i%4
				if i >= 4 {
					op = 1 + rng.IntN(40)
				}
				d := h.disk.(*hubDisk)
				term := h.node.Status().Term
				d.Inject(faultfs.Fault{Op: op, Mode: mode})
				refused := 0
				for { // the last one is submitted again after the start
					ctx, cancel := context.WithTimeout(context.Background(), eventuallyMax)
					out, err := h.node.Submit(ctx, []record.Record{next})
					cancel()
					if err != nil {
						break
					}
					if v := out[0].Verdict; v != record.Ordered && v != record.Duplicate { // no acknowledgement: a client asks again
						if refused++; refused > 1000 {
							t.Fatalf("%s: a record is not ordered: verdict %v", mode, v)
						}
						t.Logf("%s: verdict %v", mode, v)
						<-time.After(20 * time.Millisecond)
						continue
					}
					all = append(all, acked{next.RID(), next.Position(), out[0].Seq})
					next = clinics[0].visit(500)
				}
				when := fmt.Sprintf("%s at operation %d, %s", mode, op, d.OpName(op))
				if err := <-h.ended; err == nil || !errors.Is(h.store.Err(), store.ErrFault) {
					t.Fatalf("%s: the node ended with %v, the store has %v", when, err, h.store.Err())
				}
				h.stop()
				if _, err := h.node.Submit(context.Background(), []record.Record{next}); err == nil {
					t.Fatalf("%s: a record was ordered after the failure", when)
				}
				if err := h.store.Close(); err != nil {
					t.Fatalf("%s: closing: %v", when, err)
				}
				h.disk = d.cut([]float64{0, 0.5, 1}[i%3])
				h.start(t, net, quick(), limits, false)
				eventually(t, "it leads again, "+when, func() bool { return h.node.IsLeader() && h.node.CaughtUp() })
				if now := h.node.Status().Term; now <= term {
					t.Fatalf("%s: term %d after term %d", when, now, term)
				}
				for _, a := range all {
					e, err := h.store.Entry(a.seq)
					if err != nil || e.Record.RID() != a.rid {
						t.Fatalf("%s: acknowledged record %s is not at %d: %v", when, a.rid.Short(), a.seq, err)
					}
				}
			}
			if len(all) == 0 {
				t.Error("nothing was acknowledged: the test shows nothing")
			}
			h.shut(t)
		})
	}
}
