package node_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node/photo"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// photograph is a picture as a phone gives it, of a side's length.
func photograph(t *testing.T, side int, seed uint64) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	img := image.NewRGBA(image.Rect(0, 0, side, side*3/4))
	for i := range img.Pix {
		img.Pix[i] = uint8(i>>6) ^ uint8(r.IntN(32))
	}
	img.SetRGBA(0, 0, color.RGBA{255, 0, 0, 255})
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (c *clinic) attach(id, form, name string, content []byte) {
	c.t.Helper()
	if err := c.n.Attach(c.t.Context(), c.token, id, form, name, content); err != nil {
		c.t.Fatal(err)
	}
}

// files are the ids of a chart's attachments, oldest line first.
func files(v web.PatientView) (ids []string) {
	for _, l := range v.Chart.Lines {
		for _, a := range l.Shown.Attached() {
			ids = append(ids, hex.EncodeToString(a.Hash[:]))
		}
	}
	return ids
}

func (c *clinic) file(id, file string) web.File {
	c.t.Helper()
	f, err := c.n.File(c.t.Context(), c.token, id, file)
	if err != nil {
		c.t.Fatal(err)
	}
	return f
}

func (c *clinic) verify() {
	c.t.Helper()
	rep, err := c.n.Store().Verify(c.t.Context(), store.VerifyOptions{}, nil)
	if err != nil || len(rep.Damage) > 0 {
		c.t.Errorf("verify: %v, %v", rep.Damage, err)
	}
}

func (c *clinic) export() string {
	c.t.Helper()
	var b bytes.Buffer
	if _, err := c.n.Export(c.t.Context(), &b); err != nil {
		c.t.Fatal(err)
	}
	return b.String()
}

var documentPDF = append([]byte("%PDF-1.4\n"), bytes.Repeat([]byte("a letter from the hospital\n"), 3000)...)

// A photo on a visit is on the disk before the visit is, is in the chart of another
// clinic as a preview, and opens there once somebody asked for it. The hub holds
// it without being able to read it. What is exported holds it.
func TestPhotoTravels(t *testing.T) {
	hub := newHub(t)
	a, b := newMember(t, hub, "Clinic A"), newMember(t, hub, "Clinic B")
	id := a.register("form-1", "Nakato")
	raw := photograph(t, 1900, 1)
	a.attach(id, "form-2", `C:\fakepath\wound.jpg`, raw)
	a.attach(id, "form-2", "wound.jpg", raw) // the form came back and was sent again
	a.attach(id, "form-2", "letter.pdf", documentPDF)
	a.stop() // the box loses its power before the form is saved
	a.start()
	a.signIn()
	visit := fhir.Visit{At: time.Now()}
	saved, err := a.n.SaveVisit(t.Context(), a.token, id, "form-2", visit)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := a.n.SaveVisit(t.Context(), a.token, id, "form-2", visit); err != nil || again.RID != saved.RID {
		t.Errorf("a second tap: %v, %v", again, err)
	}
	view := a.open(id)
	ids := files(view)
	if len(ids) != 2 {
		t.Fatalf("the chart has %d files, want 2", len(ids))
	}
	mine := a.file(id, ids[0])
	if mine.Type != photo.JPEG || mine.Name != "wound.jpg" || len(mine.Content) == 0 || len(mine.Content) >= len(raw) {
		t.Errorf("the photo: %s %q, %d bytes of %d", mine.Type, mine.Name, len(mine.Content), len(raw))
	}
	hub.eventually("the hub holds both", func() bool {
		n := 0
		err := hub.n.Store().MissingBlobs(9, func(store.BlobState) bool { n++; return true })
		only, oerr := a.n.Store().BlobsOnlyHere(9)
		return err == nil && oerr == nil && n == 0 && len(only) == 0
	})
	if to := a.open(id).Files[ids[0]].To; len(to) != 1 || to[0] != hub.name() {
		t.Errorf("copied to %v", to)
	}
	b.eventually("the chart is at the other clinic", func() bool {
		v, err := b.n.Open(t.Context(), b.token, id)
		return err == nil && len(files(v)) == 2
	})
	view = b.open(id)
	var preview []byte
	for _, l := range view.Chart.Lines {
		for _, x := range l.Shown.Attached() {
			preview = append(preview, x.Thumb...)
		}
	}
	if photo.Sniff(preview) != photo.JPEG || view.Files[ids[0]].Held == view.Files[ids[0]].Parts {
		t.Errorf("before anybody asked: preview %d bytes, %+v", len(preview), view.Files)
	}
	if out := b.export(); !strings.Contains(out, "temp-unknown") || strings.Contains(out, base64.StdEncoding.EncodeToString(mine.Content)) {
		t.Error("an export does not tell that the photo is not here")
	}
	if f := b.file(id, ids[0]); f.Content != nil {
		t.Error("it was there before it was asked for")
	}
	b.eventually("the photo is at the other clinic", func() bool { return b.file(id, ids[0]).Content != nil })
	if f := b.file(id, ids[0]); !bytes.Equal(f.Content, mine.Content) {
		t.Error("another picture came")
	}
	if came, own := b.open(id).Files[ids[0]].Came, a.open(id).Files[ids[0]].Came; !came || own {
		t.Errorf("came from another box: %v where it did, %v where it was made", came, own)
	}
	if out := b.export(); !strings.Contains(out, base64.StdEncoding.EncodeToString(mine.Content)) {
		t.Error("an export lacks the photo")
	}
	for _, x := range []*clinic{hub, a, b} {
		x.verify()
	}
}

// eventually looks until something is so, or fails after a while.
func (c *clinic) eventually(what string, so func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	changed := c.n.Watch(ctx)
	look := time.NewTicker(50 * time.Millisecond) // what another box holds changes without a word to this one
	defer look.Stop()
	for !so() {
		select {
		case <-changed:
		case <-look.C:
		}
		if ctx.Err() != nil {
			c.t.Fatalf("never: %s", what)
		}
	}
}

func (c *clinic) name() string { return c.n.Box(c.t.Context()).Name }

// What is no photo or document, is too large or one too many is not taken; what was
// taken away is not in the visit; the same photo again is kept once.
func TestAttachIsBounded(t *testing.T) {
	c := newClinic(t)
	id := c.register("form-1", "Nakato")
	for name, x := range map[string]struct {
		content []byte
		want    error
	}{"a program": {[]byte("MZ\x90"), web.ErrFileType}, "a broken picture": {[]byte("\xff\xd8\xff\xe0 no"), web.ErrFileType}, "too large": {make([]byte, web.FileBytesMax+1), web.ErrFileTooLarge}} {
		if err := c.n.Attach(t.Context(), c.token, id, "form-2", name, x.content); !errors.Is(err, x.want) {
			t.Errorf("%s: got %v, want %v", name, err, x.want)
		}
	}
	for i := range fhir.FilesMax {
		c.attach(id, "form-2", "photo", photograph(t, 64, uint64(i)))
	}
	if err := c.n.Attach(t.Context(), c.token, id, "form-2", "one more", documentPDF); !errors.Is(err, web.ErrFilesMax) {
		t.Errorf("one too many: got %v, want %v", err, web.ErrFilesMax)
	}
	kept, err := c.n.Attached(t.Context(), c.token, "form-2")
	if err != nil || len(kept) != fhir.FilesMax {
		t.Fatalf("kept %d, %v", len(kept), err)
	}
	if err := c.n.Detach(t.Context(), c.token, "form-2", kept[1].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.n.SaveVisit(t.Context(), c.token, id, "form-2", fhir.Visit{At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if got := files(c.open(id)); len(got) != fhir.FilesMax-1 {
		t.Errorf("the visit has %d files, want %d", len(got), fhir.FilesMax-1)
	}
	only, err := c.n.Store().BlobsOnlyHere(99)
	if err != nil {
		t.Fatal(err)
	}
	c.attach(id, "form-3", "again", photograph(t, 64, 0))
	if _, err := c.n.SaveVisit(t.Context(), c.token, id, "form-3", fhir.Visit{At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if now, err := c.n.Store().BlobsOnlyHere(99); err != nil || len(now) != len(only) {
		t.Errorf("%d attachments are kept, want %d: %v", len(now), len(only), err)
	}
	c.confirmed()
	c.verify()
}

// A large attachment of an imported document is kept apart and comes back in the
// export, byte for byte; the same file again brings nothing.
func TestImportedAttachment(t *testing.T) {
	c := newClinic(t)
	picture := photograph(t, 700, 3)
	if len(picture) < fhir.ContentSizeMin {
		t.Fatalf("a picture of %d bytes", len(picture))
	}
	data := base64.StdEncoding.EncodeToString(picture)
	doc := `{"resourceType":"DocumentReference","id":"d1","status":"current","subject":{"reference":"Patient/1"},"content":[{"attachment":{"contentType":"image/jpeg","data":"` + data + `"}}]}`
	file := strings.Replace(hospitalFile("1", "Okello", "female", "o1", "60"), `"entry":[`, `"entry":[{"resource":`+doc+`},`, 1)
	if rep := c.take(file); rep.Added != 3 || rep.RefusedCount != 0 {
		t.Fatalf("got %+v", rep)
	}
	if rep := c.take(file); rep.Added != 0 || rep.Known != 3 {
		t.Errorf("again: got %+v", rep)
	}
	if out := c.export(); !strings.Contains(out, doc) {
		t.Error("the document did not come back as it was")
	}
	c.confirmed()
	c.verify()
}
