package link_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/test/link"
	"github.com/healthpost/healthpost/test/rig"
)

// Links of the figures.
const deepQueue = 32 << 10

func gprs() (up, down link.Path) {
	return link.Path{Rate: 20_000, Delay: 350 * time.Millisecond, Loss: 0.01, Queue: deepQueue},
		link.Path{Rate: 40_000, Delay: 350 * time.Millisecond, Loss: 0.01, Queue: deepQueue}
}

// BenchmarkLinkDay: a clinic's day of 200 visits, saved on the page while there was
// no network, goes up; an urgent visit saved half-way overtakes it.
func BenchmarkLinkDay(b *testing.B) {
	for range b.N {
		metric(b, load(b), "load/core")
		r := newLine(b, 3)
		r.unplug()
		patient := at(r.clinic).day(r.rnd, 200)
		metric(b, float64(r.clinic.Status().Pending), "records")
		up, down := gprs()
		t := r.exchangeWith(up, down, 20*time.Minute, patient)
		t.report(b)
		r.same(time.Minute)
	}
}

// BenchmarkLinkVisits: 200 visits of Synthea patients, taken in while there was no
// network, go up, and an urgent visit saved half-way overtakes them. Once as a new
// region packs them, once with a dictionary trained on other patients.
func BenchmarkLinkVisits(b *testing.B) {
	for _, c := range []struct {
		name    string
		trained bool
	}{{"built-in", false}, {"trained", true}} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				linkVisits(b, c.trained)
			}
		})
	}
}

func linkVisits(b *testing.B, trained bool) {
	metric(b, load(b), "load/core")
	r := newLine(b, 3)
	if trained {
		train, _ := patientFiles(b)
		r.publishDictionary(train...)
	}
	base, visits, size, resources := writeVisits(b, r.rnd, 200)
	patient := at(r.clinic).day(r.rnd, 1)
	r.takeIn(base)
	r.same(time.Minute)
	r.unplug()
	first := r.clinic.Status().Size
	rep := r.takeIn(visits)
	metric(b, float64(size), "json-B")
	metric(b, float64(resources), "resources")
	metric(b, float64(rep.Records), "records")
	up, down := gprs()
	r.exchangeWith(up, down, 20*time.Minute, patient).report(b)
	r.same(time.Minute)
	metric(b, float64(r.sealed(first, r.hubs[0].Status().Size)), "sealed-B")
}

// publishDictionary trains one on these files.
func (r *line) publishDictionary(train ...string) {
	r.tb.Helper()
	file := filepath.Join(r.tb.TempDir(), "region.zdict")
	r.tb.Log(r.hubs[0].Must(append([]string{"dictionary", "train", "--without", "Claim,ExplanationOfBenefit", "--out", file}, train...)...))
	r.hubs[0].Must("dictionary", "publish", file)
	r.same(time.Minute)
}

// BenchmarkLinkUrgent: one urgent visit, saved while there was no network, by a
// clinic that pays for its link and by one that does not.
func BenchmarkLinkUrgent(b *testing.B) {
	paying(b, func(b *testing.B, metered bool) {
		metric(b, load(b), "load/core")
		r := newLine(b, 3)
		patient := at(r.clinic).day(r.rnd, 1)
		r.same(time.Minute)
		r.unplug()
		if metered {
			r.meter()
		}
		rid := at(r.clinic).save(r.rnd, patient, urgentVisit)
		metric(b, float64(r.clinic.Status().Pending), "records")
		up, down := gprs()
		t := r.exchangeOf(up, down, 5*time.Minute, rid)
		t.report(b)
		t.timeline(b)
	})
}

// BenchmarkLinkNothing: a clinic that has nothing to say and misses nothing meets its hub.
func BenchmarkLinkNothing(b *testing.B) {
	paying(b, func(b *testing.B, metered bool) {
		metric(b, load(b), "load/core")
		r := newLine(b, 3)
		r.unplug()
		if metered {
			r.meter()
			up, down := both(link.Path{})
			r.exchange(up, down, time.Minute) // what the start wrote
			r.unplug()
		}
		up, down := gprs()
		t := r.exchange(up, down, 5*time.Minute)
		t.rest(b, r, 10*time.Second)
		t.report(b)
		t.timeline(b)
	})
}

func paying(b *testing.B, measure func(b *testing.B, metered bool)) {
	for _, c := range []struct {
		name    string
		metered bool
	}{{"metered", true}, {"free", false}} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				measure(b, c.metered)
			}
		})
	}
}

func (r *line) takeIn(dir string) node.ImportReport {
	r.tb.Helper()
	return r.takeInAt(r.clinic, dir)
}

func (r *line) takeInAt(b *rig.Box, dirs ...string) (all node.ImportReport) {
	r.tb.Helper()
	for _, dir := range dirs {
		all.Add(r.takeInFolder(b, dir))
	}
	return all
}

func (r *line) takeInFolder(b *rig.Box, dir string) node.ImportReport {
	r.tb.Helper()
	rep := b.Import(dir)
	if rep.RefusedCount > 0 || rep.Records == 0 {
		r.tb.Fatalf("import: %d records, %d refused: %v", rep.Records, rep.RefusedCount, rep.Refused[:min(len(rep.Refused), 5)])
	}
	return rep
}

func both(p link.Path) (up, down link.Path) { return p, p }

// BenchmarkLinkRecords: a clinic is behind by 2,000 resources of 1.3 kB, once as
// 2,000 records, once as the records of visits of ten, and once taken in from one
// file in which they name no visit; packed with a dictionary trained on others of
// the kind, of other patients.
func BenchmarkLinkRecords(b *testing.B) {
	for name, write := range map[string]func(*maker) []string{
		"alone":  func(m *maker) []string { return m.writeSingle(b, 2000) },
		"visits": func(m *maker) []string { return m.writeVisits(b, 200) },
		"file":   func(m *maker) []string { return m.writeLoose(b, 2000) },
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				up, down := both(link.Path{Rate: 64_000, Delay: 400 * time.Millisecond, Loss: 0.02, Queue: deepQueue})
				behind(b, write, 2000, up, down, 20*time.Minute)
			}
		})
	}
}

// BenchmarkLinkGap: a clinic is behind by 10,000 records of one resource each.
func BenchmarkLinkGap(b *testing.B) {
	for range b.N {
		up, down := both(link.Path{Rate: 256_000, Delay: 300 * time.Millisecond, Queue: 2 * deepQueue})
		behind(b, func(m *maker) []string { return m.writeSingle(b, 10_000) }, 2000, up, down, time.Hour)
	}
}

// behind measures how a clinic catches up with what another one wrote while its
// link was away.
func behind(b *testing.B, write func(*maker) []string, patients int, up, down link.Path, limit time.Duration) {
	metric(b, load(b), "load/core")
	r := newLine(b, 3)
	before := newMaker(r.rnd, patients/10)
	r.publishDictionary(before.writeAll(b, 2000))
	m := newMaker(r.rnd, patients)
	other := r.join("Other clinic", "clinic")
	r.takeInAt(other, m.writePatients(b))
	r.same(20 * time.Minute)
	r.unplug()
	size := r.hubs[0].Status().Size
	rep := r.takeInAt(other, write(m)...)
	metric(b, float64(rep.Records), "records")
	r.sameOf(20*time.Minute, append(slices.Clone(r.hubs), other))
	first, last := size, r.hubs[0].Status().Size
	t := r.exchangedUntil(up, down, limit, func(_ *taken, s node.Status) bool { return s.Size >= last })
	t.report(b)
	r.same(time.Minute)
	sealed := r.sealed(first, last)
	metric(b, float64(sealed), "sealed-B")
	metric(b, float64(sealed)*8/float64(down.Rate), "sealed-at-rate-s")
}
