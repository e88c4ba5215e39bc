package bench_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/fhir/sample"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/store/journal"
	"github.com/healthpost/healthpost/test/rig"
	"github.com/healthpost/healthpost/web"
)

const (
	idleDays = 4
	// fastHour is what an hour takes here: the boxes' clocks run that fast, and hubs
	// sign their ledger anew as often.
	fastHour = 150 * time.Millisecond
)

// BenchmarkIdleDay measures what a day costs a region of three hubs and two clinics in
// which nobody writes, and one with a single record of a person a day, after which
// every clinic attests.
func BenchmarkIdleDay(b *testing.B) {
	for _, writes := range []int{0, 1} {
		b.Run(fmt.Sprintf("patients=%d", writes), func(b *testing.B) {
			for range b.N {
				idleDay(b, writes)
			}
		})
	}
}

// registering signs in at a clinic and gives what registers one patient.
func registering(b *testing.B, n *node.Node) func(i int) {
	ctx := context.Background()
	check(b, "adding staff", n.AddStaff(ctx, nil, web.NewStaff{Name: rig.StaffName, PIN: rig.StaffPIN}))
	staff, err := n.Staff(ctx)
	check(b, "listing staff", err)
	return func(i int) {
		token, err := n.SignIn(ctx, staff[0].ID, rig.StaffPIN) // every day: nobody stays signed in so long
		check(b, "signing in", err)
		session, err := n.Session(ctx, token)
		check(b, "signing in", err)
		_, err = n.Register(ctx, session, fmt.Sprint("patient ", i), sample.One(1, i).Registration)
		check(b, "registering", err)
	}
}

type idleBox struct {
	node           *node.Node
	flushes, bytes atomic.Int64
}

func idleDay(b *testing.B, writes int) {
	r := newRegion(b, 3, 2)
	for _, x := range r.boxes() {
		x.Stop()
	}
	began := time.Now()
	clock := func() time.Time { return began.Add(time.Since(began) * time.Duration(time.Hour/fastHour)) }
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	var boxes []*idleBox
	for _, x := range r.boxes() {
		boxes = append(boxes, openIdle(b, ctx, &work, x, r, clock))
	}
	hub, clinic := boxes[0], boxes[len(boxes)-1]
	write := func(int) {}
	if writes > 0 {
		write = registering(b, clinic.node)
	}
	settle(b, boxes)
	reportLoad(b)
	flushes, bytes, size := clinic.flushes.Load(), clinic.bytes.Load(), sizeOf(b, hub.node)
	hubBytes := hub.bytes.Load()
	for day := range idleDays {
		write(day)
		next := time.NewTimer(24 * fastHour) // a day has to pass
		<-next.C
	}
	settle(b, boxes)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(sizeOf(b, hub.node)-size)/idleDays, "entries/day")
	b.ReportMetric(float64(clinic.bytes.Load()-bytes)/idleDays, "clinic-journal-B/day")
	b.ReportMetric(float64(clinic.flushes.Load()-flushes)/idleDays, "clinic-flushes/day")
	b.ReportMetric(float64(hub.bytes.Load()-hubBytes)/idleDays, "hub-journal-B/day")
}

func openIdle(b *testing.B, ctx context.Context, work *sync.WaitGroup, x *box, r *region, clock func() time.Time) *idleBox {
	out := &idleBox{}
	o := node.NewOptions(x.Dir)
	o.Page, o.LAN, o.Profile, o.Log, o.Now, o.CosignEvery = "", false, "lan", zerolog.Nop(), clock, time.Hour
	o.Listen = []string{"/ip4/127.0.0.1/tcp/" + x.PeerPort}
	o.Store.JournalFS = meteredFS{journal.Dir(filepath.Join(x.Dir, "db", "journal")), 0, &out.flushes, &out.bytes}
	for _, h := range r.hubs {
		if h == x {
			continue
		}
		id, err := node.PeerIDOf(h.Dir)
		check(b, "reading an identity", err)
		o.Dial = append(o.Dial, "/ip4/127.0.0.1/tcp/"+h.PeerPort+"/p2p/"+id)
	}
	var err error
	out.node, err = node.Open(o)
	check(b, "opening "+x.Name, err)
	ready := make(chan struct{})
	work.Go(func() {
		err := out.node.Run(ctx, func(string) { close(ready) })
		if err := out.node.Close(); err != nil {
			b.Error(err)
		}
		if err != nil && ctx.Err() == nil {
			b.Error(err)
		}
	})
	<-ready
	return out
}

func sizeOf(b *testing.B, n *node.Node) uint64 {
	s, err := n.Status(context.Background())
	check(b, "status", err)
	return s.Size
}

// settle waits until all have one ledger under a final checkpoint.
func settle(b *testing.B, boxes []*idleBox) {
	rig.Eventually(b, time.Minute, "one ledger everywhere", func() string {
		first, err := boxes[0].node.Status(context.Background())
		check(b, "status", err)
		for _, x := range boxes {
			s, err := x.node.Status(context.Background())
			check(b, "status", err)
			if s.Root != first.Root || s.Confirmed != s.Size || s.Pending != 0 {
				return fmt.Sprintf("%s has %d of %d, %d pending", s.Name, s.Confirmed, first.Size, s.Pending)
			}
		}
		return ""
	})
}
