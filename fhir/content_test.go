package fhir_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/test/fuzz"
)

func content(size int) []byte {
	r := rand.New(rand.NewPCG(uint64(size), 7))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func document(parts ...string) []byte {
	return []byte(`{ "resourceType":"DocumentReference","id":"d1","status":"current","content":[` + strings.Join(parts, ",") + `]}`)
}

func part(data string) string {
	return `{"attachment":{"contentType":"image/jpeg", "data" : "` + data + `","title":"wound"}}`
}

// Large content is taken out and comes back byte for byte; small content, and what
// would not come back the same, stays.
func TestContentOutAndBack(t *testing.T) {
	large, other, small := content(300_000), content(fhir.ContentSizeMin), content(900)
	b64 := base64.StdEncoding.EncodeToString
	escaped := strings.Replace(b64(large), "/", `\/`, 1)
	for name, x := range map[string]struct {
		raw  []byte
		want [][]byte
	}{
		"one":        {document(part(b64(large))), [][]byte{large}},
		"several":    {document(part(b64(large)), part(b64(small)), part(b64(other)), part(b64(large))), [][]byte{large, other, large}},
		"small":      {document(part(b64(small))), nil},
		"escaped":    {document(part(escaped)), nil},
		"line ends":  {document(part(b64(other)[:400] + `\n` + b64(other)[400:])), nil},
		"binary":     {[]byte(`{"resourceType":"Binary","id":"b","contentType":"application/pdf","data":"` + b64(other) + `"}`), [][]byte{other}},
		"not base64": {document(part(strings.Repeat("1 2 ", 9000))), nil},
		"same words": {[]byte(`{"resourceType":"Basic","id":"b","extension":[{"url":"data","valueString":"\"data\":"}],"code":{"text":"` + strings.Repeat("x", 20_000) + `"}}`), nil},
	} {
		r, err := fhir.ParseLarge(x.raw)
		if len(x.want) == 0 && len(x.raw) > fhir.ResourceSizeMax {
			var e *fhir.ResourceError
			if !errors.As(err, &e) {
				t.Errorf("%s: got %v, want a refusal", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		byHash := map[fhir.ContentHash][]byte{}
		if len(r.Content) != len(x.want) {
			t.Errorf("%s: took %d out, want %d", name, len(r.Content), len(x.want))
			continue
		}
		for i, c := range r.Content {
			if !bytes.Equal(c.Data, x.want[i]) {
				t.Errorf("%s: content %d differs", name, i)
			}
			byHash[fhir.HashContent(c.Data)] = c.Data
		}
		named := 0
		for _, a := range r.Attachments() {
			if byHash[a.Hash] != nil {
				named++
			}
		}
		if named != len(x.want) {
			t.Errorf("%s: names %d, want %d", name, named, len(x.want))
		}
		back, err := fhir.Attach(r.JSON, func(h fhir.ContentHash) ([]byte, bool, error) { return byHash[h], byHash[h] != nil, nil })
		if err != nil || !fhir.JSONEqual(back, x.raw) {
			t.Errorf("%s: did not come back, %v", name, err)
		}
	}
}

// Content that is known of and not here is told as absent, and that is FHIR.
func TestContentAbsent(t *testing.T) {
	r, err := fhir.ParseLarge(document(part(base64.StdEncoding.EncodeToString(content(50_000)))))
	if err != nil {
		t.Fatal(err)
	}
	out, err := fhir.Attach(r.JSON, func(fhir.ContentHash) ([]byte, bool, error) { return nil, true, nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fhir.ParseResource(out); err != nil || !bytes.Contains(out, []byte(`"temp-unknown"`)) || bytes.Contains(out, []byte(`"data"`)) {
		t.Errorf("got %s, %v", out, err)
	}
	if _, err := fhir.Attach(r.JSON, func(fhir.ContentHash) ([]byte, bool, error) { return nil, false, fmt.Errorf("disk") }); err == nil {
		t.Error("an error of whoever keeps the content is not told")
	}
}

func TestContentTooLarge(t *testing.T) {
	raw := document(part(base64.StdEncoding.EncodeToString(make([]byte, fhir.ContentSizeMax+1))))
	var e *fhir.ResourceError
	if _, err := fhir.ParseLarge(raw); !errors.As(err, &e) {
		t.Errorf("got %v, want a refusal", err)
	}
}

// A visit with a photo alone is a visit; its document belongs to the encounter.
func TestVisitFiles(t *testing.T) {
	h := fhir.HashContent([]byte("jpeg"))
	v := fhir.Visit{At: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), Files: []fhir.File{{Hash: h, Type: "image/jpeg", Size: 4, Title: `a "b".jpg`}}}
	res, err := v.Resources(rand.NewChaCha8([32]byte{}), "p1", "Amina")
	if err != nil {
		t.Fatal(err)
	}
	doc := res[len(res)-1]
	if doc.Type != "DocumentReference" || doc.EncounterReference() != "Encounter/"+res[0].ID || doc.SubjectReference() != "Patient/p1" {
		t.Errorf("got %s of %s and %s", doc.Type, doc.EncounterReference(), doc.SubjectReference())
	}
	if got := doc.Attachments(); len(got) != 1 || got[0] != (fhir.Attachment{Hash: h, Type: "image/jpeg", Title: `a "b".jpg`}) {
		t.Errorf("got %v", got)
	}
	v.Files = make([]fhir.File, fhir.FilesMax+1)
	if errs := v.Validate(); len(errs) != 1 || errs[0].Field != "files" {
		t.Errorf("too many files: got %v", errs)
	}
}

// FuzzParseLarge: whatever is taken out of a resource comes back the same.
func FuzzParseLarge(f *testing.F) {
	f.Add(document(part(base64.StdEncoding.EncodeToString(content(20_000)))))
	f.Add([]byte(`{"resourceType":"Binary","contentType":"x","data":"` + base64.StdEncoding.EncodeToString(content(17_000)) + `"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		fuzz.Bounded(t, len(raw), func() { fhir.ParseLarge(raw) })
		r, err := fhir.ParseLarge(raw)
		if err != nil {
			return
		}
		byHash := map[fhir.ContentHash][]byte{}
		for _, c := range r.Content {
			byHash[fhir.HashContent(c.Data)] = c.Data
		}
		back, err := fhir.Attach(r.JSON, func(h fhir.ContentHash) ([]byte, bool, error) { return byHash[h], byHash[h] != nil, nil })
		if err != nil || !fhir.JSONEqual(back, raw) {
			t.Fatalf("did not come back: %v", err)
		}
		touch(r)
	})
}
