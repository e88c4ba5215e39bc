package peersync_test

import (
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

var joinEntries = flag.Int("join.entries", 20_000, "size of the ledger that BenchmarkJoin takes")

// forge orders records whose signatures nobody has to look at again: the hub made
// them itself.
func (m *memory) forge(t int64, recs []record.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := record.NewOrderer(state{m}, func(record.RID, [64]byte) bool { return true })
	for _, r := range recs {
		if out, err := o.Add(t, r); err != nil || out.Verdict != record.Ordered {
			panic(out.Verdict.String())
		}
	}
	m.applyLocked(o)
}

// day has the other clinics' work of one day ordered in rounds, and one partial
// clinic of them work and exchange in each. It gives the bytes of the exchanges both
// ways, without the PENDING frames that carry its own records up.
func day(t testing.TB, w *world, rounds, each int) (extra, own int) {
	p := w.clinics[0]
	for range rounds {
		var all []record.Record
		for _, c := range w.clinics[1:] {
			if !c.opened {
				c.opened = true
				all = append(all, c.author.open)
			}
			for range each {
				all = append(all, c.author.write(record.LaneClinical, record.KindClinical, make([]byte, 40)))
			}
		}
		for batch := range slices.Chunk(all, 512) {
			w.now++
			w.hub.forge(w.now, batch)
		}
		w.save(p, record.LaneClinical, each)
		for range 2 { // what it wrote goes up, and comes back ordered
			a, b := w.pair(p.memory, w.hub)
			x := &exchange{a: a, b: b}
			up := 0
			x.tap = func(toA bool, f peersync.Frame) []peersync.Frame {
				if n := len(peersync.AppendFrame(nil, f)); !toA && f.Type == peersync.TypePending {
					up += n
				}
				return []peersync.Frame{f}
			}
			n, err := x.run(t.Context(), w.rng, noLimit)
			if err != nil {
				t.Fatal(err)
			}
			extra, own = extra+n-up, own+up
			w.orderAll()
		}
	}
	return extra, own
}

// TestPartialDay: what a day of 50 clinics costs a partial replica beyond its own
// records.
func TestPartialDay(t *testing.T) {
	w := partialWorld(t, 61, 50, 1)
	w.mustMeet(w.clinics[0].memory, w.hub)
	before := w.hub.Head().Size
	extra, own := day(t, w, 8, 5)
	t.Logf("%d entries of a day: %d bytes beyond the %d of its own records", w.hub.Head().Size-before, extra, own)
	if extra > 20_000 {
		t.Errorf("%d bytes beyond its own records, want at most 20,000", extra)
	}
	w.mustMeet(w.clinics[0].memory, w.hub)
	w.checkPart(w.clinics[0].memory)
}

// BenchmarkPartialDay is TestPartialDay with 344 records of each clinic, sent in 8
// exchanges.
func BenchmarkPartialDay(b *testing.B) {
	for b.Loop() {
		t := &testing.T{}
		w := partialWorld(t, 62, 50, 1)
		w.mustMeet(w.clinics[0].memory, w.hub)
		before := w.hub.Head().Size
		extra, own := day(b, w, 8, 43)
		b.ReportMetric(float64(extra), "B/extra")
		b.ReportMetric(float64(own), "B/own")
		b.ReportMetric(float64(w.hub.Head().Size-before), "entries")
	}
}

// BenchmarkJoin takes a whole ledger as a box that joins does: bytes until the page
// is useful, which is when the newest 4,096 entries are here under a final checkpoint,
// and until everything is; and the seconds that they take at 1 Mbit/s.
func BenchmarkJoin(b *testing.B) {
	for b.Loop() {
		t := &testing.T{}
		w := partialWorld(t, 63, 50, 0)
		for made := 0; made < *joinEntries; {
			c := w.clinics[1+w.rng.IntN(49)]
			var recs []record.Record
			if !c.opened {
				c.opened = true
				recs = append(recs, c.author.open)
			}
			for range 64 {
				recs = append(recs, c.author.write(record.LaneClinical, record.KindClinical, make([]byte, 480)))
			}
			w.now++
			w.hub.forge(w.now, recs)
			made += len(recs)
		}
		w.checkpoint()
		m := w.fresh(0)
		w.tweak = func(x *memory, o *peersync.Options) {
			if x == m {
				o.Recent = 4096
			}
		}
		sm, sh := w.pair(m, w.hub)
		x := &exchange{a: sm, b: sh}
		useful, began, atUseful := 0, time.Now(), time.Duration(0)
		x.onStep = func() {
			if useful == 0 && m.final.Size > 0 {
				useful, atUseful = x.toA.bytes+x.toB.bytes, time.Since(began)
			}
		}
		n, err := x.run(b.Context(), w.rng, noLimit)
		if err != nil || len(m.holes) != 0 || m.Head() != w.hub.Head() {
			b.Fatalf("%v, %d holes", err, len(m.holes))
		}
		b.ReportMetric(float64(useful), "B/useful")
		b.ReportMetric(float64(n), "B/all")
		b.ReportMetric(float64(useful)*8/1e6, "s/useful-1Mbit")
		b.ReportMetric(float64(n)*8/1e6, "s/all-1Mbit")
		b.ReportMetric(atUseful.Seconds(), "s/cpu-useful")
	}
}
