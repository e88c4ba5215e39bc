package soak_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
	"github.com/healthpost/healthpost/test/soak"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }

// form is how long and how closely.
type form struct {
	clinics               int
	length, sample, fault time.Duration
	tell                  int // samples from one printed to the next, 0 for none
	limits                []soak.Limit
}

// What may grow in long: what a figure scatters by from one part of the run to another,
// and, for memory and disk, what the records themselves need.
func long(minutes int) form {
	return form{clinics: 3, length: time.Duration(minutes) * time.Minute, sample: 5 * time.Second, tell: 24, fault: 20 * time.Second, limits: []soak.Limit{
		{Name: "goroutines", Of: func(s soak.Sample) uint64 { return s.Goroutines }, Share: 0.05, Spare: 8},
		{Name: "open files", Of: func(s soak.Sample) uint64 { return s.Files }, Share: 0.05, Spare: 6},
		{Name: "live heap", Of: func(s soak.Sample) uint64 { return s.HeapLive }, Share: 0.05, Spare: 2 << 20, ByData: 512},
		{Name: "anonymous memory", Of: func(s soak.Sample) uint64 { return s.Anonymous }, Share: 0.10, Spare: 4 << 20, ByData: 1024},
		{Name: "resident memory", Of: func(s soak.Sample) uint64 { return s.Resident }, Share: 0.10, Spare: 16 << 20, ByData: 4096},
		{Name: "disk", Of: func(s soak.Sample) uint64 { return s.Disk }, Spare: 48 << 20, ByData: 8192}, // two segments of the journal, one of the index
	}}
}

// short has too few samples for a slope: it sees what grows with each request.
func short() form {
	return form{clinics: 2, length: 8 * time.Second, sample: 250 * time.Millisecond, fault: 2 * time.Second, limits: []soak.Limit{
		{Name: "goroutines", Of: func(s soak.Sample) uint64 { return s.Goroutines }, Share: 0.15, Spare: 25},
		{Name: "open files", Of: func(s soak.Sample) uint64 { return s.Files }, Share: 0.15, Spare: 15},
		{Name: "anonymous memory", Of: func(s soak.Sample) uint64 { return s.Anonymous }, Share: 0.25, Spare: 24 << 20},
	}}
}

func formOf(t *testing.T) form {
	t.Helper()
	s := os.Getenv("HEALTHPOST_SOAK")
	if s == "" {
		return short()
	}
	minutes, err := strconv.Atoi(s)
	if err != nil || minutes < 1 {
		t.Fatalf("HEALTHPOST_SOAK=%q is no number of minutes", s)
	}
	return long(minutes)
}

// TestSoak: a busy region with faults takes no more at the end than after its warm-up,
// and has lost nothing.
func TestSoak(t *testing.T) {
	f, seed := formOf(t), rig.NewSeed(t)
	r := rig.NewRegion(t, 3, f.clinics)
	hurt := &faults{t: t, region: r, rnd: rand.New(rand.NewPCG(seed, 0)), killed: []*rig.Box{r.Hubs[2], r.Clinics[f.clinics-1]}, count: map[string]int{}}
	seen := &watch{t: t, begun: time.Now(), boxes: r.Boxes(), tell: f.tell}
	var staff []*worker
	for i, b := range r.Clinics {
		w := newWorker(t, b, rand.New(rand.NewPCG(seed, uint64(1+i))))
		w.to = r.Clinics[(i+1)%len(r.Clinics)]
		staff = append(staff, w)
	}
	ctx, stop := context.WithTimeout(t.Context(), f.length)
	defer stop()
	var all sync.WaitGroup
	for _, w := range staff {
		all.Go(func() { w.run(ctx, usualVisit/atOnce) })
	}
	all.Go(func() { seen.run(ctx, f.sample) })
	hurt.run(ctx, f.fault)
	all.Wait()

	var hubs [][]soak.Sample // which of them leads changes
	for _, l := range seen.lives {
		switch {
		case hurt.mayKill(l.box):
		case slices.Contains(r.Hubs, l.box):
			hubs = append(hubs, l.samples)
		default:
			judge(t, l.box.Name, l.samples, f.limits)
		}
	}
	judge(t, "the hubs together", soak.Together(hubs...), f.limits)
	r.WaitSameIn(10*rig.ConvergeMax, r.Boxes()...)
	for _, w := range staff {
		w.saved.MarkersOnce(t, w.box)
		t.Logf("%s: %d visits saved, %d not taken while it was down", w.box.Name, w.visits.Load(), w.refused.Load())
	}
	t.Logf("faults: %v", hurt.count)
	r.Check(r.Boxes()...)
}

func judge(t *testing.T, name string, samples []soak.Sample, limits []soak.Limit) {
	t.Helper()
	for _, g := range soak.Judge(samples, limits) {
		t.Logf("%s, %d samples: %s", name, len(samples), &g)
		if g.OverLimit() {
			t.Errorf("%s: %s", name, &g)
		}
	}
}

// planted keeps something of every page that is looked at: memory, a goroutine, a file.
const planted = `package web

import (
	"net/http"
	"os"
)

var (
	plantedBytes [][]byte
	plantedFiles []*os.File
)

func leak(next http.Handler) http.Handler {
	plant := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plant <- struct{}{}
		plantedBytes = append(plantedBytes, make([]byte, 1<<20))
		for i := range plantedBytes[len(plantedBytes)-1] {
			plantedBytes[len(plantedBytes)-1][i] = 1
		}
		if f, err := os.Open("/dev/null"); err == nil {
			plantedFiles = append(plantedFiles, f)
		}
		go func() { select {} }()
		<-plant
		next.ServeHTTP(w, r)
	})
}
`

// TestLeaksAreSeen: the same bounds see what a build leaks that keeps something of each request.
func TestLeaksAreSeen(t *testing.T) {
	file := t.TempDir() + "/leak.go"
	if err := os.WriteFile(file, []byte(planted), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := rig.Overlaid("leaky", map[string]string{"web/leak.go": file}, map[string][2]string{"web/server.go": {`return s\.log\(secure\(`, `return leak(secure(`}})
	if err != nil {
		t.Fatal(err)
	}
	f := short()
	b := rig.NewBoxOf(t, program, t.TempDir()+"/box", "Clinic", "standalone")
	b.Start()
	w := newWorker(t, b, rig.NewRand(t))
	seen := &watch{t: t, begun: time.Now(), boxes: []*rig.Box{b}}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { w.run(ctx, usualVisit/atOnce/20) })
	all.Go(func() { seen.run(ctx, f.sample) })
	rig.Eventually(t, 3*time.Minute, "visits at a box that leaks", func() string {
		if n := w.visits.Load(); n < 60 {
			return fmt.Sprintf("%d visits", n)
		}
		return ""
	})
	stop()
	all.Wait()
	for _, g := range soak.Judge(seen.lives[0].samples, f.limits) {
		if !g.OverLimit() {
			t.Errorf("a leak was planted and is not seen: %s", &g)
		}
	}
}
