package bench_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/test/rig"
)

// BenchmarkRegion lets a clinic behind a cut link take in a folder of bundles
// (HEALTHPOST_BUNDLES, else those of the tests), restores the link, saves one
// more visit, and measures the clinic at rest, at its start and while it finds
// somebody. It fails when a box ends with another ledger, another export, or
// damage.
func BenchmarkRegion(b *testing.B) {
	for range b.N {
		s := &scenario{B: b, region: newRegion(b, 3, 2)}
		s.dir, s.quiet = bundles()
		s.away, s.other = s.region.clinics[0], s.region.clinics[1]
		reportLoad(b)
		s.takeIn()
		s.catchUp()
		s.export()
		s.oneVisit()
		s.rest()
		s.page()
		s.verify()
		s.restart()
	}
}

type scenario struct {
	*testing.B
	region      *region
	dir         string
	quiet       time.Duration
	away, other *box
	records     int
	somebody    string // a family name among the patients
	browser     *page
}

// ReportMetric also logs, for the line of a benchmark that failed is not printed.
func (s *scenario) ReportMetric(v float64, unit string) {
	s.B.ReportMetric(v, unit)
	s.Logf("%12.6g %s", v, unit)
}

func (s *scenario) takeIn() {
	s.browser = newPage(s.away)
	s.browser.first()
	s.region.waitSame(s.region.boxes()...)
	s.away.linked(false)
	w := watch(s.browser, "/")
	written := deviceWrites(s, s.away.Dir)
	begun := time.Now()
	rep := s.away.Import(s.dir)
	took := time.Since(begun)
	pages := w.end()
	if rep.RefusedCount > 0 || rep.Added == 0 {
		s.Errorf("import: %d added, %d refused", rep.Added, rep.RefusedCount)
	}
	s.records = rep.Records
	s.ReportMetric(float64(rep.Added), "import-resources")
	s.ReportMetric(float64(rep.Records), "import-records")
	s.ReportMetric(took.Seconds(), "import-s")
	s.ReportMetric(millis(quantile(pages, 0.5)), "import-page-p50-ms")
	s.ReportMetric(millis(quantile(pages, 1)), "import-page-max-ms")
	s.ReportMetric(float64(s.away.proc("status", "VmHWM"))/1024, "import-rss-peak-MiB")
	s.ReportMetric(float64(deviceWrites(s, s.away.Dir)-written)/float64(rep.Records), "import-device-B/record")
}

func (s *scenario) catchUp() {
	before, size := s.away.wire(), s.region.hubs[0].Status().Size
	var cpu []time.Duration
	for _, b := range s.region.boxes() {
		cpu = append(cpu, b.cpu())
	}
	begun := time.Now()
	s.away.linked(true)
	rig.Eventually(s, convergeMax, "the clinic to call again", func() string {
		if s.away.received() == before.down {
			return "not yet"
		}
		return ""
	})
	s.ReportMetric(time.Since(begun).Seconds(), "redial-s")
	begun = time.Now()
	rig.Eventually(s, convergeMax, "the hubs to order the import", func() string {
		if s.region.hubs[0].Status().Size < size+uint64(s.records) {
			return "not yet"
		}
		return ""
	})
	ordered := time.Since(begun)
	s.region.waitSame(s.away)
	confirmed := time.Since(begun)
	s.region.waitSame(s.region.boxes()...)
	all := time.Since(begun)
	w, n := s.away.wire().since(before), float64(s.records)
	for i, b := range s.region.boxes() {
		s.ReportMetric((b.cpu() - cpu[i]).Seconds(), strings.ReplaceAll(b.Name, " ", "-")+"-cpu-s")
	}
	s.ReportMetric(ordered.Seconds(), "ordered-s")
	s.ReportMetric(n/ordered.Seconds(), "ordered-records/s")
	s.ReportMetric(confirmed.Seconds(), "confirmed-s")
	s.ReportMetric(all.Seconds(), "everywhere-s")
	s.ReportMetric(float64(w.up)/n, "up-B/record")
	s.ReportMetric(float64(w.down)/n, "down-B/record")
	s.ReportMetric(float64(w.up), "up-B")
	s.ReportMetric(float64(w.down), "down-B")
	s.ReportMetric(float64(w.appUp), "app-up-B")
	s.ReportMetric(float64(w.appDown), "app-down-B")
	s.ReportMetric(float64(s.region.hubs[0].proc("status", "VmHWM"))/1024, "hub-rss-peak-MiB")
}

// oneVisit is a save on the page with the link up, until the clinic has it
// confirmed; then links are watched for what they cost at rest.
func (s *scenario) oneVisit() {
	patient := s.browser.patient(s.somebody)
	s.region.waitSame(s.region.boxes()...)
	before := s.away.wire()
	begun := time.Now()
	s.browser.saveVisit(patient)
	s.ReportMetric(millis(time.Since(begun)), "visit-page-ms")
	s.region.waitSame(s.away)
	s.ReportMetric(millis(time.Since(begun)), "visit-confirmed-ms")
	w := s.away.wire().since(before)
	s.ReportMetric(float64(w.up), "visit-up-B")
	s.ReportMetric(float64(w.down), "visit-down-B")
	s.ReportMetric(float64(w.appUp), "visit-app-up-B")
	s.ReportMetric(float64(w.appDown), "visit-app-down-B")
}

func (s *scenario) rest() {
	s.region.waitSame(s.region.boxes()...)
	settle := time.NewTimer(s.quiet)
	defer settle.Stop()
	<-settle.C
	before, cpu := s.away.wire(), s.away.cpu()
	watched := time.NewTimer(s.quiet)
	defer watched.Stop()
	<-watched.C
	used, w := s.away.cpu()-cpu, s.away.wire().since(before)
	s.ReportMetric(float64(s.away.proc("status", "VmRSS"))/1024, "rest-rss-MiB")
	s.ReportMetric(float64(s.away.proc("status", "RssAnon"))/1024, "rest-rss-anon-MiB")
	s.ReportMetric(float64(s.region.hubs[0].proc("status", "VmRSS"))/1024, "rest-hub-rss-MiB")
	s.ReportMetric(100*used.Seconds()/s.quiet.Seconds(), "rest-cpu-%")
	s.ReportMetric(float64(w.up+w.down)/s.quiet.Minutes(), "rest-B/min")
}

func (s *scenario) page() {
	var found []time.Duration
	for range 50 {
		begun := time.Now()
		s.browser.patient(s.somebody)
		found = append(found, time.Since(begun))
	}
	s.ReportMetric(millis(quantile(found, 0.5)), "find-p50-ms")
	s.ReportMetric(millis(quantile(found, 0.95)), "find-p95-ms")
	today := s.browser.timed("/", 20)
	s.ReportMetric(millis(quantile(today, 0.5)), "today-p50-ms")
}

// export holds what every other box writes out to the files.
func (s *scenario) export() {
	in := readBundles(s, s.dir)
	s.somebody = in.family
	s.ReportMetric(float64(in.bytes), "import-json-B")
	begun := time.Now()
	text := s.other.Must("export")
	s.ReportMetric(time.Since(begun).Seconds(), "export-s")
	sameResources(s.other, text, in.values)
	sameResources(s.region.hubs[2], s.region.hubs[2].Must("export"), in.values)
}

// verify checks every box while it runs.
func (s *scenario) verify() {
	for _, b := range s.region.boxes() {
		rep := b.verify()
		if len(rep.Damage) > 0 {
			s.Errorf("%s: verify: %v", b.Name, rep.Damage)
		}
		if b == s.away {
			s.ReportMetric(float64(rep.Entries)/rep.Took.Seconds(), "verify-records/s")
		}
	}
}

// restart stops the clinic, measures its folder, and starts it until the sign-in
// page is there, and for comparison a box with nothing in it.
func (s *scenario) restart() {
	s.ReportMetric(s.away.stopped().Seconds(), "stop-s")
	s.disk()
	s.ReportMetric(millis(s.away.firstPage()), "start-first-page-ms")
	s.ReportMetric(millis(newBox(s, "Empty", "standalone").firstPage()), "start-empty-first-page-ms")
}

// firstPage starts a box and gives the time until its sign-in page, or the page
// that asks for the first member, is answered.
func (b *box) firstPage() time.Duration {
	b.T.Helper()
	begun := time.Now()
	b.Start()
	resp, err := http.Get("http://" + b.PageAddress + "/sign-in")
	check(b.T, "the first page", err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b.T.Fatalf("the first page: %s", resp.Status)
	}
	return time.Since(begun)
}

// disk compares the stopped clinic's folder with the records in it: core,
// signature and sealed body.
func (s *scenario) disk() {
	o := store.NewOptions()
	o.BallastBytes = 0
	st, err := store.Open(filepath.Join(s.away.Dir, "db"), o)
	check(s, "opening the replica", err)
	size, bytes := st.Head().Size, 0
	for seq := uint64(0); seq < size; {
		entries, err := st.Entries(seq, size, 1<<20)
		check(s, "reading the ledger", err)
		for i := range entries {
			r := &entries[i].Record
			bytes += len(r.CoreBytes()) + len(r.Sig) + len(r.Body)
		}
		seq += uint64(len(entries))
	}
	check(s, "closing the replica", st.Close())
	n, index := float64(size), dirBytes(s, filepath.Join(s.away.Dir, "db", "index"))
	s.ReportMetric(n, "ledger-entries")
	s.ReportMetric(float64(bytes)/n, "sealed-B/entry")
	s.ReportMetric(float64(index)/n, "disk-index-B/entry")
	s.ReportMetric(float64(index)/float64(bytes), "disk-index/sealed")
	s.ReportMetric(float64(dirBytes(s, filepath.Join(s.away.Dir, "db", "journal")))/(1<<20), "disk-journal-MiB")
}
