package raftlog_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/store/journal"
	"github.com/rs/zerolog"
)

// These tests and benchmarks run on the real store, wired as node wires it.

type storeKV struct{ *store.KV }

func (k storeKV) Get(key []byte) ([]byte, bool, error) {
	v, err := k.KV.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	return v, err == nil, err
}

func (k storeKV) Update(rows []raftlog.Row) error {
	out := make([]store.Row, len(rows))
	for i, r := range rows {
		out[i] = store.Row(r)
	}
	return k.KV.Update(out)
}

type storePending struct{ *store.Store }

func (p storePending) PendingFeeds() ([]raftlog.PendingFeed, error) {
	list, err := p.Store.PendingFeeds()
	var out []raftlog.PendingFeed
	for _, f := range list {
		out = append(out, raftlog.PendingFeed{Feed: f.Feed, OrderedN: f.OrderedN, HeldN: f.HeldN, Opening: f.Opening})
	}
	return out, err
}

var _ raftlog.Ledger = (*store.Store)(nil)

// storeHub is a hub on a real store.
type storeHub struct {
	box   *box
	dir   string
	store *store.Store
	apart string       // folder of a database for the raft log alone; "" keeps it with the ledger
	log   *store.Store // of apart
	node  *raftlog.Node
	stop  context.CancelFunc
	ended chan error
	peers *[]*storeHub

	forgot atomic.Int64 // how often it was told that its disk did

	attach func(*raftlog.Options) // instead of a MemNet
	disk   journal.FS             // of the store's journal, nil for files
}

func (h *storeHub) Fetch(ctx context.Context, head record.TreeHead) error {
	for _, p := range *h.peers {
		if p == h || p.store.Head().Size < head.Size {
			continue
		}
		for at := h.store.Head().Size; at < head.Size; at = h.store.Head().Size {
			entries, err := p.store.Entries(at, min(head.Size, at+100), 1<<20)
			if err != nil {
				return err
			}
			proof, err := p.store.ConsistencyProof(at+uint64(len(entries)), head.Size)
			if err != nil {
				return err
			}
			if err := h.store.Extend(ctx, entries, head, proof); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("no peer has it")
}

func (h *storeHub) start(t testing.TB, net *raftlog.MemNet, profile raftlog.Profile, limits raftlog.Limits, bootstrap bool) {
	t.Helper()
	var err error
	o := store.NewOptions()
	o.FreeBytesMin, o.BallastBytes, o.JournalFS = 0, 0, h.disk
	h.store, err = store.Open(h.dir, o)
	check(t, "opening store", err)
	h.log = h.store
	if h.apart != "" {
		h.log, err = store.Open(h.apart, o)
		check(t, "opening the log's store", err)
	}
	ro := raftlog.Options{Device: h.box.id, Ledger: h.store, Pending: storePending{h.store}, KV: storeKV{h.log.KV("r")}, Fetcher: h, Hubs: h.store.Hubs,
		Profile: profile, Limits: limits, Log: zerolog.Nop(), RolledBack: func(raftlog.RolledBack) { h.forgot.Add(1) },
		Generation: func() uint64 { return must(h.store.Generation()) },
		Region:     func() (record.RegionID, bool) { id, _, ok := h.store.Region(); return id, ok }}
	if h.attach != nil {
		h.attach(&ro)
	} else {
		net.Attach(&ro)
	}
	h.node, err = raftlog.Open(ro)
	check(t, "opening node", err)
	if bootstrap {
		check(t, "bootstrapping", h.node.Bootstrap())
	}
	ctx, stop := context.WithCancel(context.Background())
	h.stop, h.ended = stop, make(chan error, 1)
	go func() { h.ended <- h.node.Run(ctx) }()
}

func (h *storeHub) shut(t testing.TB) {
	t.Helper()
	if h.stop == nil {
		t.Fatal("a hub is shut twice")
	}
	h.stop()
	h.stop = nil
	check(t, "running", <-h.ended)
	check(t, "closing store", h.store.Close())
	if h.log != h.store {
		check(t, "closing the log's store", h.log.Close())
	}
}

// eventuallyMax is for a machine that is many times slower than a quiet one.
const eventuallyMax = 4 * time.Minute

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < eventuallyMax; {
		if ok() {
			return
		}
		<-tick.C
	}
	t.Fatalf("not in time: %s", what)
}

// storeRegion founds a region of hubs on real stores.
func storeRegion(t testing.TB, hubs int, clinics []*box, profile raftlog.Profile, limits raftlog.Limits) (*raftlog.MemNet, []*storeHub) {
	return storeRegionWith(t, hubs, clinics, profile, limits, func(*storeHub) {})
}

func storeRegionWith(t testing.TB, hubs int, clinics []*box, profile raftlog.Profile, limits raftlog.Limits, each func(*storeHub)) (*raftlog.MemNet, []*storeHub) {
	net := raftlog.NewMemNet()
	net.Pipelined = true
	all := make([]*storeHub, 0, hubs)
	names := boxes("hub", hubs)
	for _, b := range names {
		all = append(all, &storeHub{box: b, dir: t.TempDir(), peers: &all})
		each(all[len(all)-1])
	}
	first := all[0]
	first.start(t, net, profile, limits, true)
	eventually(t, "the founder leads", first.node.IsLeader)
	eventually(t, "the region is founded", func() bool {
		_, err := first.node.Submit(context.Background(), founding(names, clinics))
		return err == nil
	})
	for _, h := range all[1:] {
		h.start(t, net, profile, limits, false)
	}
	eventually(t, "all hubs vote", func() bool {
		voters := 0
		for _, s := range first.node.Status().Hubs {
			if s.Voter {
				voters++
			}
		}
		return voters == hubs
	})
	return net, all
}

func storeLeader(hubs []*storeHub) *storeHub {
	for _, h := range hubs {
		if h.node.IsLeader() {
			return h
		}
	}
	return nil
}

// awaitLeader is storeLeader once there is one: on a busy machine that changes.
func awaitLeader(t testing.TB, hubs []*storeHub) (l *storeHub) {
	t.Helper()
	eventually(t, "somebody leads", func() bool { l = storeLeader(hubs); return l != nil })
	return l
}

func sameHeads(hubs []*storeHub, size uint64) bool {
	for _, h := range hubs {
		if head := h.store.Head(); head != hubs[0].store.Head() || head.Size < size {
			return false
		}
	}
	return true
}

// TestOnRealStore orders pending records on real stores, restarts a follower
// that then has to fetch, and checks that all have one ledger.
func TestOnRealStore(t *testing.T) {
	clinics := boxes("clinic", 3)
	limits := raftlog.DefaultLimits()
	limits.TrailingItems = 2
	net, hubs := storeRegion(t, 3, clinics, quick(), limits)
	want := hubs[0].store.Head().Size
	write := func(n int) {
		for range n {
			for _, b := range clinics {
				r := b.visit(500)
				eventually(t, "a record is taken", func() bool {
					l := storeLeader(hubs)
					if l == nil {
						return false
					}
					in, err := l.store.Ingest(context.Background(), b.id, []record.Record{r})
					return err == nil && in.New+in.Known == 1
				})
				want++
			}
		}
		eventually(t, "all is ordered", func() bool { l := storeLeader(hubs); return l != nil && l.store.Head().Size == want })
	}
	write(20)
	var down *storeHub
	for _, h := range hubs {
		if h != storeLeader(hubs) {
			down = h
		}
	}
	down.shut(t)
	up := make([]*storeHub, 0, 2)
	for _, h := range hubs {
		if h != down {
			up = append(up, h)
		}
	}
	hubs = up
	write(30)
	check(t, "taking a snapshot", errOf(awaitLeader(t, hubs).node.TakeSnapshot()))
	down.start(t, net, quick(), limits, false)
	hubs = append(hubs, down)
	write(5)
	eventually(t, "ledgers are equal", func() bool { return sameHeads(hubs, want) })
	for _, h := range hubs {
		h.shut(t)
	}
}

// BenchmarkOrder is ordered records a second on three hubs in one process, on
// real stores, signatures checked on each: 1 kB bodies, one record a call.
func BenchmarkOrder(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { benchmarkOrder(b, clients, func(*storeHub) {}) })
	}
}

// BenchmarkDatabases compares the raft log in the ledger's database, as it is,
// with one of its own: one journal and one flush for both, or two.
func BenchmarkDatabases(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("databases=1/clients=%d", clients), func(b *testing.B) { benchmarkOrder(b, clients, func(*storeHub) {}) })
		b.Run(fmt.Sprintf("databases=2/clients=%d", clients), func(b *testing.B) {
			benchmarkOrder(b, clients, func(h *storeHub) { h.apart = b.TempDir() })
		})
	}
}

func benchmarkOrder(b *testing.B, clients int, each func(*storeHub)) {
	writers := boxes("clinic", clients)
	_, hubs := storeRegionWith(b, 3, writers, raftlog.LAN(), raftlog.DefaultLimits(), each)
	leader := storeLeader(hubs)
	records := make([][]record.Record, clients)
	for i := range b.N {
		w := i % clients
		records[w] = append(records[w], writers[w].visit(1000))
	}
	var before, after syscall.Rusage
	check(b, "reading processor time", syscall.Getrusage(syscall.RUSAGE_SELF, &before))
	items := leader.node.Status().Last
	b.ResetTimer()
	var work sync.WaitGroup
	for _, mine := range records {
		work.Go(func() {
			for _, r := range mine {
				out, err := leader.node.Submit(context.Background(), []record.Record{r})
				if err != nil || out[0].Verdict != record.Ordered {
					b.Errorf("submitting: %v %v", out, err)
					return
				}
			}
		})
	}
	work.Wait()
	b.StopTimer()
	check(b, "reading processor time", syscall.Getrusage(syscall.RUSAGE_SELF, &after))
	busy := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(b.N)/float64(leader.node.Status().Last-items), "records/item")
	b.ReportMetric(float64(busy.Microseconds())/float64(b.N), "processor-µs/record")
	eventually(b, "ledgers are equal", func() bool { return sameHeads(hubs, 0) })
	for _, h := range hubs {
		h.shut(b)
	}
}
