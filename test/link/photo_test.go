package link_test

import (
	"bytes"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"mime/multipart"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/test/link"
)

// photograph is a picture with the detail of a phone's, of so many pixels a side.
func photograph(tb testing.TB, rnd *rand.Rand, side int) []byte {
	tb.Helper()
	img := image.NewRGBA(image.Rect(0, 0, side, side*3/4))
	for i := range img.Pix {
		img.Pix[i] = uint8(i/4%side/8) ^ uint8(rnd.IntN(24))
	}
	var b bytes.Buffer
	check(tb, "making a photo", jpeg.Encode(&b, img, nil))
	return b.Bytes()
}

// saveWithPhoto posts a visit with a photo and gives the record's id.
func (p *page) saveWithPhoto(rnd *rand.Rand, patient string, v fhir.Visit, photo []byte) string {
	p.tb.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, list := range visitForm(rnd, v) {
		for _, value := range list {
			check(p.tb, "writing the form", w.WriteField(name, value))
		}
	}
	f, err := w.CreateFormFile("files", "photo.jpg")
	check(p.tb, "writing the form", err)
	_, err = f.Write(photo)
	check(p.tb, "writing the form", err)
	check(p.tb, "writing the form", w.Close())
	a, err := p.Send(patient+"/visit", w.FormDataContentType(), &b)
	check(p.tb, "posting a visit", err)
	_, rid, ok := strings.Cut(a.Location, "?saved=")
	if !ok || rid == "" {
		p.tb.Fatalf("a visit with a photo was not saved: status %d", a.Status)
	}
	return rid
}

// photoAndUrgent saves a visit with a photo while there is no network, and an urgent
// visit while the photo goes up. It gives the photo's sealed bytes, and how long
// everything took.
func (r *line) photoAndUrgent(side int, up, down link.Path, limit time.Duration) (t *taken, photo int64, all time.Duration) {
	r.tb.Helper()
	patient := at(r.clinic).day(r.rnd, 1)
	r.same(time.Minute)
	r.unplug()
	at(r.clinic).saveWithPhoto(r.rnd, patient, fhir.Visit{Problem: "wound"}, photograph(r.tb, r.rnd, side))
	photo = int64(r.clinic.Status().Attachments.OnlyHereBytes)
	var saved time.Time
	var rid string
	t = r.exchangedUntil(up, down, limit, func(t *taken, s node.Status) bool {
		under := r.counts().since(t.before).up.Bytes
		if rid == "" && s.Pending == 0 && under > photo/4 {
			saved = time.Now()
			rid = at(r.clinic).save(r.rnd, patient, urgentVisit)
		}
		if rid != "" {
			r.arrival(t, rid, saved)
		}
		return rid != "" && t.urgent > 0 && s.Attachments.OnlyHere == 0
	})
	return t, photo, time.Since(t.begun)
}

// BenchmarkLinkPhoto: a photo as the page makes it goes up over GPRS; an urgent visit
// saved meanwhile does not wait for it.
func BenchmarkLinkPhoto(b *testing.B) {
	for range b.N {
		metric(b, load(b), "load/core")
		r := newLine(b, 1)
		up, down := gprs()
		t, photo, all := r.photoAndUrgent(1600, up, down, 30*time.Minute)
		metric(b, float64(photo), "photo-B")
		metric(b, all.Seconds(), "photo-s")
		t.report(b)
		r.same(time.Minute)
		r.clinic.Verify()
		r.hubs[0].Verify()
	}
}

// TestPhotoWaitsForUrgent is BenchmarkLinkPhoto with a small photo on a quicker link.
func TestPhotoWaitsForUrgent(t *testing.T) {
	r := newLine(t, 1)
	p := link.Path{Rate: 200_000, Delay: 100 * time.Millisecond, Queue: deepQueue}
	x, photo, all := r.photoAndUrgent(600, p, p, time.Minute)
	t.Logf("photo of %d bytes in %s, the urgent visit at the hub after %s", photo, all, x.urgent)
	if x.urgent > 3*time.Second {
		t.Errorf("the urgent visit took %s, want at most 3 s", x.urgent)
	}
	r.hubs[0].Verify()
}
