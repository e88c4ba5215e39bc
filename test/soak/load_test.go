package soak_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
)

const (
	usualVisit = 8 * time.Hour / 200 // from one visit to the next in a clinic
	atOnce     = 100                 // times as fast
)

// worker is the staff of one clinic.
type worker struct {
	t     *testing.T
	box   *rig.Box
	rnd   *rand.Rand
	saved *rig.Saved
	dir   string   // for files
	to    *rig.Box // gets its parcels; may be nil

	photo    []byte
	patients []string
	follow   context.CancelFunc // of its open page
	pages    sync.WaitGroup

	visits, refused atomic.Uint64 // refused: what a box that was down did not take
}

func newWorker(t *testing.T, b *rig.Box, rnd *rand.Rand) *worker {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 640, 480))
	for i := range img.Pix {
		img.Pix[i] = uint8(i/4%640/8) ^ uint8(rnd.IntN(16))
	}
	var photo bytes.Buffer
	if err := jpeg.Encode(&photo, img, nil); err != nil {
		t.Fatal(err)
	}
	w := &worker{t: t, box: b, rnd: rnd, saved: rig.NewSaved(), dir: t.TempDir(), photo: photo.Bytes(), follow: func() {}}
	for i := range 5 {
		w.patients = append(w.patients, b.Page().Register("Amina", fmt.Sprintf("Uwase %d", i)))
	}
	return w
}

// run has a visit a tick, until ctx ends.
func (w *worker) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	defer w.pages.Wait()
	defer func() { w.follow() }()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !w.box.Running() {
			w.refused.Add(1)
			continue
		}
		if err := w.visit(ctx, n); err != nil && ctx.Err() == nil {
			w.refused.Add(1)
			_ = w.box.Page().SignIn() // a box that was killed knows nobody; one that is down is asked again
		}
	}
}

// visit is one visit and what goes with it.
func (w *worker) visit(ctx context.Context, n int) error {
	p := w.box.Page()
	if err := w.look(p); err != nil {
		return err
	}
	patient := w.patients[w.rnd.IntN(len(w.patients))]
	if err := see(p, "/patient/"+patient); err != nil {
		return err
	}
	v := rig.NewVisit(w.rnd, patient)
	w.saved.Posted(v)
	var rid string
	var err error
	if n%25 == 24 {
		rid, err = p.SaveFile(v, "photo.jpg", w.photo)
	} else {
		rid, _, err = p.Save(v)
	}
	if err != nil {
		return err
	}
	w.visits.Add(1)
	if err := w.saved.Acked(v, rid); err != nil {
		w.t.Error(err)
	}
	if err := see(p, "/"); err != nil {
		return err
	}
	return w.aside(ctx, p, n)
}

// look finds somebody by name.
func (w *worker) look(p *rig.Page) error {
	a, err := p.Post("/find", url.Values{"q": {fmt.Sprintf("uwase %d", w.rnd.IntN(5))}})
	if err != nil {
		return err
	}
	if !strings.HasPrefix(a.Location, "/find/") {
		return fmt.Errorf("looking for somebody: status %d", a.Status)
	}
	return see(p, a.Location)
}

func see(p *rig.Page, path string) error {
	a, err := p.Get(path)
	if err == nil && a.Status != 200 {
		err = fmt.Errorf("%s: status %d to %q", path, a.Status, a.Location)
	}
	return err
}

// aside is what happens now and then.
func (w *worker) aside(ctx context.Context, p *rig.Page, n int) error {
	var err error
	if n%8 == 0 {
		err = w.register(p, n)
	}
	if err == nil && n%10 == 3 {
		w.openPage(ctx, p)
	}
	if err == nil && n%20 == 5 {
		w.box.Command("", "sync")
	}
	if err == nil && n%40 == 7 {
		err = w.takeIn(n)
	}
	if err == nil && n%30 == 11 && w.to != nil {
		w.carry()
	}
	if err == nil && n%50 == 13 {
		if _, err = p.Post("/lock", url.Values{}); err == nil {
			err = p.SignIn()
		}
	}
	return err
}

func (w *worker) register(p *rig.Page, n int) error {
	id, err := p.TryRegister("Beata", fmt.Sprintf("Uwase %d", n))
	if err == nil {
		w.patients = append(w.patients, id)
	}
	return err
}

// openPage leaves the page that was open, as somebody who goes on to another.
func (w *worker) openPage(ctx context.Context, p *rig.Page) {
	w.follow()
	ctx, w.follow = context.WithCancel(ctx)
	w.pages.Go(func() { _ = p.Follow(ctx) }) // ends with the page, or with its box
}

// takeIn imports one person from elsewhere.
func (w *worker) takeIn(n int) error {
	id := func(i int) string { return fmt.Sprintf("%08x-%04x-4000-8000-%012x", w.rnd.Uint32(), n&0xffff, i) }
	person := id(0)
	text := fmt.Sprintf(`{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","id":%q,"name":[{"family":"Mugisha %d","given":["Grace"]}],"gender":"female","birthDate":"1988-03-04"}},{"resource":{"resourceType":"Encounter","id":%q,"status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/%s"}}}]}`,
		person, n, id(1), person)
	path := filepath.Join(w.dir, "elsewhere.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	w.box.Command("", "import", "--json", path)
	return nil
}

// carry takes a parcel to the neighbour.
func (w *worker) carry() {
	path := filepath.Join(w.dir, "parcel")
	if r := w.box.Command("", "parcel", "write", path, "--for", w.to.Name); r.Code == 0 && w.to.Running() {
		w.to.Command("", "parcel", "read", path)
	}
	_ = os.Remove(path) // the next one is written anew
}
