package bench_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/fhir/sample"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/store/journal"
	"github.com/healthpost/healthpost/test/rig"
	"github.com/healthpost/healthpost/web"
)

// meteredFS is a journal's folder that counts flushes and makes each one slower.
type meteredFS struct {
	journal.FS
	delay   time.Duration
	flushes *atomic.Int64
	bytes   *atomic.Int64 // zeros written ahead among them
}

func (f meteredFS) Open(name string, create bool) (journal.File, error) {
	file, err := f.FS.Open(name, create)
	if err != nil {
		return nil, err
	}
	return meteredFile{file, f}, nil
}

type meteredFile struct {
	journal.File
	fs meteredFS
}

func (f meteredFile) WriteAt(p []byte, at int64) (int, error) {
	f.fs.bytes.Add(int64(len(p)))
	return f.File.WriteAt(p, at)
}

func (f meteredFile) Sync() error {
	f.fs.flushes.Add(1)
	err := f.File.Sync()
	if f.fs.delay > 0 {
		slow := time.NewTimer(f.fs.delay) // a flush is time that passes on a device
		<-slow.C
	}
	return err
}

const (
	saveFor      = 4 * time.Second
	savePatients = 500
)

// BenchmarkSaveVisit saves visits as the page does: checked, folded, sealed,
// signed, durable, and in the lists of the box. In the same run a bare file takes
// one page and one fdatasync at a time.
func BenchmarkSaveVisit(b *testing.B) {
	dir := joinedClinic(b)
	for _, delay := range []time.Duration{0, 10 * time.Millisecond} {
		b.Run(fmt.Sprintf("flush+%dms/bare", delay.Milliseconds()), func(b *testing.B) { bareDisk(b, delay) })
		for _, savers := range []int{1, 16} {
			b.Run(fmt.Sprintf("flush+%dms/savers=%d", delay.Milliseconds(), savers), func(b *testing.B) { saveVisits(b, dir, savers, delay) })
		}
	}
}

// joinedClinic is the folder of a clinic that belongs to a region and is stopped.
func joinedClinic(b *testing.B) string {
	r := newRegion(b, 1, 1)
	for _, x := range r.boxes() {
		x.Stop()
	}
	return r.clinics[0].Dir
}

func bareDisk(b *testing.B, delay time.Duration) {
	f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	check(b, "making a file", err)
	defer f.Close()
	page := make([]byte, 4096)
	_, err = f.Write(make([]byte, 16<<20))
	check(b, "preallocating", err)
	check(b, "preallocating", f.Sync())
	file := meteredFile{bareFile{f}, meteredFS{delay: delay, flushes: new(atomic.Int64), bytes: new(atomic.Int64)}}
	var took []time.Duration
	reportLoad(b)
	begun := time.Now()
	for i := int64(0); time.Since(begun) < saveFor; i++ {
		one := time.Now()
		_, err := f.WriteAt(page, i%4096*4096)
		check(b, "writing", err)
		check(b, "flushing", file.Sync())
		took = append(took, time.Since(one))
	}
	reportSaves(b, took, time.Since(begun))
}

type bareFile struct{ *os.File }

func (f bareFile) Sync() error          { return syscall.Fdatasync(int(f.Fd())) }
func (f bareFile) Size() (int64, error) { return 0, nil }

func reportSaves(b *testing.B, took []time.Duration, elapsed time.Duration) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(len(took))/elapsed.Seconds(), "saves/s")
	b.ReportMetric(millis(quantile(took, 0.5)), "p50-ms")
	b.ReportMetric(millis(quantile(took, 0.99)), "p99-ms")
}

// savingBox is a clinic opened in this process, with patients and one session.
type savingBox struct {
	node     *node.Node
	session  web.Session
	patients []string
	flushes  atomic.Int64
	bytes    atomic.Int64 // of the journal
}

func openSaving(b *testing.B, dir string, delay time.Duration) *savingBox {
	x := &savingBox{}
	o := node.NewOptions(dir)
	o.SessionIdle = time.Hour
	o.Store.JournalFS = meteredFS{journal.Dir(filepath.Join(dir, "db", "journal")), delay, &x.flushes, &x.bytes}
	var err error
	x.node, err = node.Open(o)
	check(b, "opening the clinic", err)
	ctx := context.Background()
	staff, err := x.node.Staff(ctx)
	check(b, "listing staff", err)
	if len(staff) == 0 {
		check(b, "adding staff", x.node.AddStaff(ctx, nil, web.NewStaff{Name: rig.StaffName, PIN: rig.StaffPIN}))
		staff, err = x.node.Staff(ctx)
		check(b, "listing staff", err)
	}
	token, err := x.node.SignIn(ctx, staff[0].ID, rig.StaffPIN)
	check(b, "signing in", err)
	x.session, err = x.node.Session(ctx, token)
	check(b, "signing in", err)
	for i := range savePatients {
		id, err := x.node.Register(ctx, x.session, fmt.Sprintf("patient %d at %d", i, time.Now().UnixNano()), sample.One(1, i).Registration)
		check(b, "registering", err)
		x.patients = append(x.patients, id)
	}
	return x
}

// saveVisits lets savers save one after the other, each its own patients.
func saveVisits(b *testing.B, dir string, savers int, delay time.Duration) {
	x := openSaving(b, dir, delay)
	flushes, journaled, written := x.flushes.Load(), x.bytes.Load(), deviceWrites(b, dir)
	took := make([][]time.Duration, savers)
	var work sync.WaitGroup
	reportLoad(b)
	begun := time.Now()
	for w := range savers {
		work.Go(func() {
			for i := w; time.Since(begun) < saveFor; i += savers {
				one := time.Now()
				_, err := x.node.SaveVisit(context.Background(), x.session, x.patients[i%savePatients], fmt.Sprintf("visit %d at %d", i, begun.UnixNano()), ordinaryVisit(i))
				if err != nil {
					b.Errorf("saving a visit: %v", err)
					return
				}
				took[w] = append(took[w], time.Since(one))
			}
		})
	}
	work.Wait()
	elapsed := time.Since(begun)
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	n := float64(len(all))
	flushes, journaled, written = x.flushes.Load()-flushes, x.bytes.Load()-journaled, deviceWrites(b, dir)-written
	reportSaves(b, all, elapsed)
	b.ReportMetric(float64(flushes)/n, "flushes/save")
	b.ReportMetric(float64(journaled)/n, "journal-B/save")
	b.ReportMetric(float64(written)/n, "device-B/save")
	check(b, "closing the clinic", x.node.Close())
}

func ordinaryVisit(i int) fhir.Visit {
	return fhir.Visit{At: time.Now(), Temperature: "38.4", Breaths: "44", Weight: "11.2", Problem: "cough", Treatment: "Amoxicillin 250 mg, 2 times a day, 5 days",
		Note: "Cough for three days, no chest indrawing, drinks well. Seen as number " + strconv.Itoa(i)}
}

// deviceWrites is what the disk under a folder was given to write so far, by
// everybody. The count of a process (/proc/PID/io) is no measure where the file
// system has large folios: one page written there counts as two megabytes.
func deviceWrites(tb testing.TB, dir string) int64 {
	tb.Helper()
	var st syscall.Stat_t
	check(tb, "finding the disk", syscall.Stat(dir, &st))
	raw, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", st.Dev>>8&0xfff, st.Dev&0xff|st.Dev>>12&0xfff00))
	check(tb, "reading the disk's counters", err)
	sectors, err := strconv.ParseInt(strings.Fields(string(raw))[6], 10, 64)
	check(tb, "reading the disk's counters", err)
	return sectors * 512
}
