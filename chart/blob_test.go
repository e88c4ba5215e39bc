package chart_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
)

// withPhoto is a body with one photo of a document.
func withPhoto() chart.Body {
	h := fhir.HashContent([]byte("content"))
	doc := `{"resourceType":"DocumentReference","id":"d","status":"current","content":[{"attachment":{"contentType":"image/jpeg","title":"arm","data":"` +
		`7XACtDnprIRfIjV9giusFERzD722AW0+yUMil7nsn3M="}}]}`
	r, err := fhir.ParseResource([]byte(doc))
	if err != nil {
		panic(err)
	}
	return chart.Body{Items: []chart.Item{chart.PutItem(r)}, Blobs: []chart.Blob{{Blob: record.Blob{Root: record.Hash{1}, Bytes: 20_000}, Hash: h, Key: chart.BlobKey{9},
		Type: "image/jpeg", Size: 7, Thumb: []byte{0xff, 0xd8}}}}
}

// A body with an attachment comes back, and the chart names what stands where.
func TestBodyWithBlobs(t *testing.T) {
	want := withPhoto()
	enc, err := chart.EncodeBody(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := chart.DecodeBody(enc)
	if err != nil || !reflect.DeepEqual(got, want) || enc[0] != 2 {
		t.Fatalf("%v, version %d\ngot  %+v\nwant %+v", err, enc[0], got, want)
	}
	if a := got.Announcements(); len(a) != 1 || a[0] != want.Blobs[0].Blob {
		t.Errorf("announces %v", a)
	}
	c := chart.Fold([]chart.Opened{{RID: record.RID{1}, Body: got}})
	list := c.Lines[0].Shown.Attached()
	if len(list) != 1 || list[0].Title != "arm" || list[0].Hash != want.Blobs[0].Hash {
		t.Errorf("attached: %+v", list)
	}
	if b, ok := c.Blob(want.Blobs[0].Hash); !ok || b.Key != want.Blobs[0].Key {
		t.Errorf("found %v", ok)
	}
	if _, ok := c.Blob(fhir.ContentHash{1}); ok {
		t.Error("found what is nowhere")
	}
	if text := fmt.Sprintf("%v %+v", got.Blobs[0].Key, got.Blobs); strings.Contains(text, "[9 0") {
		t.Error("the key prints itself")
	}
}

func TestBlobsRefused(t *testing.T) {
	for name, change := range map[string]func(*chart.Body){
		"twice":        func(b *chart.Body) { b.Blobs = append(b.Blobs, b.Blobs[0]) },
		"no bytes":     func(b *chart.Body) { b.Blobs[0].Bytes = 0 },
		"too long":     func(b *chart.Body) { b.Blobs[0].Bytes = 1 << 30 },
		"large thumb":  func(b *chart.Body) { b.Blobs[0].Thumb = make([]byte, chart.ThumbSizeMax+1) },
		"type in rows": func(b *chart.Body) { b.Blobs[0].Type = "a\nb" },
		"too many": func(b *chart.Body) {
			for i := range record.BlobsMax {
				x := b.Blobs[0]
				x.Hash = fhir.ContentHash{byte(i)}
				b.Blobs = append(b.Blobs, x)
			}
		},
	} {
		b := withPhoto()
		change(&b)
		if _, err := chart.EncodeBody(b); !errors.Is(err, chart.ErrBody) {
			t.Errorf("%s: got %v, want %v", name, err, chart.ErrBody)
		}
	}
}
