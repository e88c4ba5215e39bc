package link_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/test/link"
	"github.com/healthpost/healthpost/test/rig"
)

// joinEntries is how large the ledger is that BenchmarkLinkJoin joins.
func joinEntries(tb testing.TB) int {
	n := os.Getenv("HEALTHPOST_JOIN")
	if n == "" {
		return 20_000
	}
	entries, err := strconv.Atoi(n)
	check(tb, "reading HEALTHPOST_JOIN", err)
	return entries
}

// joinWatch is how long the benchmark follows what comes once the page is useful.
const joinWatch = 90 * time.Second

// BenchmarkLinkJoin: a box joins a region whose ledger is long, at 1 Mbit/s: until it
// opens the chart of the patient who was seen last, and how full the line is after that.
func BenchmarkLinkJoin(b *testing.B) {
	for range b.N {
		metric(b, load(b), "load/core")
		r := newLine(b, 1)
		hub, other := r.hubs[0], r.join("Other clinic", "clinic")
		r.unplug()
		r.lengthen(hub, joinEntries(b))
		r.sameOf(2*time.Hour, []*rig.Box{hub, other})
		patient := at(other).day(r.rnd, 60)
		r.sameOf(time.Minute, []*rig.Box{hub, other})
		metric(b, float64(hub.Status().Size), "entries")
		metric(b, load(b), "load-then/core")
		up, down := both(link.Path{Rate: 1_000_000, Delay: 50 * time.Millisecond, Queue: 2 * deepQueue})
		r.clinic.Stop()
		r.Shape(up, down)
		check(b, "plugging in", r.Plug(true))
		r.joining(patient, down.Rate)
	}
}

// joining admits a box over the link and follows it.
func (r *line) joining(patient string, rate int) {
	r.tb.Helper()
	begun, before := time.Now(), r.counts()
	newcomer := newBox(r.tb, r.Near, link.NearAddress, "Newcomer", "clinic", 1)
	r.Admit(newcomer)
	rig.Eventually(r.tb, 30*time.Minute, "the newcomer to hold a final ledger", func() string {
		if s := newcomer.Status(); s.Confirmed == 0 || s.Confirmed != s.Size {
			return fmt.Sprintf("%d of %d final", s.Confirmed, s.Size)
		}
		return ""
	})
	page := newcomer.Page()
	rig.Eventually(r.tb, time.Minute, "the newcomer to open a chart", func() string {
		a, err := page.Get(patient)
		if err != nil || a.Status != http.StatusOK {
			return fmt.Sprintf("%v, status %d", err, a.Status)
		}
		return ""
	})
	useful, c := time.Since(begun), r.counts().since(before)
	metric(r.tb, useful.Seconds(), "useful-s")
	metric(r.tb, float64(c.up.Bytes+c.down.Bytes), "useful-B")
	began, from := time.Now(), r.counts()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	left := absent(newcomer)
	if left == 0 {
		return // all of it was there by then
	}
	for left > 0 && time.Since(began) < joinWatch {
		<-look.C
		if left = absent(newcomer); left == 0 {
			metric(r.tb, time.Since(begun).Seconds(), "all-s")
		}
	}
	rest := r.counts().since(from)
	metric(r.tb, float64(rest.down.Bytes*8)/time.Since(began).Seconds()/float64(rate), "of-the-line")
	metric(r.tb, float64(absent(newcomer)), "left")
}

func absent(b *rig.Box) uint64 {
	if i := b.Status().Initial; i != nil {
		return i.Left
	}
	return 0
}

// lengthen has a hub's ledger grow by records whose bodies nobody can open: they are
// written into the stopped hub's store, and it orders them like every other.
func (r *line) lengthen(hub *rig.Box, n int) {
	r.tb.Helper()
	size := hub.Status().Size
	hub.Stop()
	keys, _, err := seal.LoadKeyring(filepath.Join(hub.Dir, "keys"))
	check(r.tb, "reading the hub's keys", err)
	o := store.NewOptions()
	o.BallastBytes = 0
	s, err := store.Open(filepath.Join(hub.Dir, "db"), o)
	check(r.tb, "opening the hub's store", err)
	check(r.tb, "writing records", r.writeMany(s, store.Author{Key: keys.Signer(), Device: keys.DeviceID()}, n))
	check(r.tb, "closing the hub's store", s.Close())
	hub.Start()
	rig.Eventually(r.tb, 2*time.Hour, "the hub to order them", func() string {
		if s := hub.Status(); s.Size < size+uint64(n) || s.Confirmed != s.Size {
			return fmt.Sprintf("%d entries, %d final", s.Size, s.Confirmed)
		}
		return ""
	})
}

// writeMany appends n records of 480 bytes to a store, of 2,000 compartments.
func (r *line) writeMany(s *store.Store, a store.Author, n int) error {
	open := func(pred record.EpochID, heads [record.LaneCount]uint64, size uint64, root record.Hash) record.EpochOpen {
		e := record.EpochOpen{Device: a.Device[:], Nonce: make([]byte, 16), Hardware: make([]byte, 32), Predecessor: []byte{}, Heads: []uint64{},
			Software: "link", Size: size, Root: root[:]}
		rand.Read(e.Nonce)
		if pred != (record.EpochID{}) {
			e.Predecessor, e.Heads = pred[:], heads[:]
		}
		return e
	}
	ctx := context.Background()
	if _, err := s.BeginEpoch(ctx, a, open, nil, 0); err != nil {
		return err
	}
	body := func(record.Position) ([]byte, error) {
		b := make([]byte, 480)
		rand.Read(b)
		return b, nil
	}
	for n > 0 {
		drafts := make([]store.Draft, min(n, 256))
		for i := range drafts {
			drafts[i] = store.Draft{Lane: record.LaneBulk, Kind: record.KindClinical, Compartment: record.CompartmentID{1, byte(r.rnd.IntN(8)), byte(r.rnd.IntN(250))}, Seal: body}
		}
		if _, err := s.Append(ctx, drafts, nil); err != nil {
			return err
		}
		n -= len(drafts)
	}
	return nil
}
