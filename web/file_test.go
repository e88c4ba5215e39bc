package web_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"image"
	"image/jpeg"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/web"
)

// fakeFiles keeps the files of forms and charts in memory.
type fakeFiles struct {
	forms  map[string][]web.Attachment // by form id
	given  map[string]web.File         // by id
	states map[string]web.FileState
}

// thumb is a preview as a box makes it.
var thumb = func() []byte {
	img := image.NewRGBA(image.Rect(0, 0, 96, 72))
	for i := range img.Pix {
		img.Pix[i] = uint8(90 + i/200)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}()

func (f *fakeClinic) Attach(_ context.Context, _ web.Session, patientID, formID, name string, content []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	typ := map[byte]string{0xff: "image/jpeg", '%': "application/pdf"}[content[0]]
	h := fhir.HashContent(content)
	id := hex.EncodeToString(h[:])
	had := f.files.forms[formID]
	switch {
	case f.records[patientID] == nil:
		return web.ErrNotFound
	case typ == "":
		return web.ErrFileType
	case slices.ContainsFunc(had, func(a web.Attachment) bool { return a.ID == id }):
		return nil
	case len(had) == fhir.FilesMax:
		return web.ErrFilesMax
	}
	if f.files.forms == nil {
		f.files = fakeFiles{map[string][]web.Attachment{}, map[string]web.File{}, map[string]web.FileState{}}
	}
	f.tainted(&name)
	a := web.Attachment{ID: id, File: fhir.File{Hash: h, Type: typ, Size: len(content), Title: name}}
	if typ == "image/jpeg" {
		a.Thumb = thumb
	}
	f.files.forms[formID] = append(had, a)
	f.files.given[id] = web.File{Type: typ, Name: name, Content: content, Held: 2, Parts: 2}
	f.files.states[id] = web.FileState{Held: 2, Parts: 2}
	return nil
}

func (f *fakeClinic) Attached(_ context.Context, _ web.Session, formID string) ([]web.Attachment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.files.forms[formID]), nil
}

func (f *fakeClinic) Detach(_ context.Context, _ web.Session, formID, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files.forms[formID] = slices.DeleteFunc(f.files.forms[formID], func(a web.Attachment) bool { return a.ID == id })
	return nil
}

func (f *fakeClinic) File(_ context.Context, _ web.Session, _, id string) (web.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, ok := f.files.given[id]
	if !ok {
		return web.File{}, web.ErrNotFound
	}
	return file, nil
}

// giveLocked puts files into the newest of a chart's records.
func (x *fakeFiles) giveLocked(records []chart.Opened, files []fhir.File) {
	body := &records[len(records)-1].Body
	for i, f := range files {
		b := chart.Blob{Blob: record.Blob{Root: record.Hash{byte(i)}, Bytes: 9}, Hash: f.Hash, Type: f.Type, Size: uint32(f.Size)}
		if f.Type == "image/jpeg" {
			b.Thumb = thumb
		}
		body.Blobs = append(body.Blobs, b)
	}
}

type formFile struct {
	name    string
	content []byte
}

// postFiles sends a form as a browser does, its files last.
func (x *fixture) postFiles(path string, values url.Values, files ...formFile) answer {
	x.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, list := range values {
		for _, v := range list {
			if err := w.WriteField(name, v); err != nil {
				x.t.Fatal(err)
			}
		}
	}
	for _, f := range files {
		p, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="files"; filename="` + f.name + `"`}, "Content-Type": {"application/octet-stream"}})
		if err == nil {
			_, err = p.Write(f.content)
		}
		if err != nil {
			x.t.Fatal(err)
		}
	}
	w.Close()
	r, err := http.NewRequest(http.MethodPost, x.server.URL+path, &b)
	if err != nil {
		x.t.Fatal(err)
	}
	r.Header.Set("Content-Type", w.FormDataContentType())
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return x.do(r)
}

var (
	jpegFile = formFile{"wound.jpg", append([]byte("\xff\xd8\xff"), bytes.Repeat([]byte("pixels"), 5000)...)}
	pdfFile  = formFile{"letter.pdf", []byte("%PDF-1.4 letter")}
)

// A photo is kept although the form comes back with a question, can be taken away
// again, and is in the chart once the visit is saved; it opens with headers that let
// a browser do nothing but show it.
func TestVisitWithFiles(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.child + "/visit"
	form := hidden(x.get(path).body, path)
	form.Set("temperature", "38.x")
	form.Set("note", "see the photo")
	a := x.postFiles(path, form, jpegFile, pdfFile, formFile{"x.exe", []byte("MZ")}, formFile{"", nil})
	if a.status != http.StatusUnprocessableEntity {
		t.Fatalf("status %d", a.status)
	}
	for _, want := range []string{"wound.jpg", "letter.pdf", "Only photos (JPEG, PNG) and PDF", "see the photo", `src="data:image/jpeg;base64,`, `value="` + idOf(pdfFile) + `"`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the form that comes back lacks %q", want)
		}
	}
	form.Set("drop_file", idOf(pdfFile))
	if a = x.postFiles(path, form); strings.Contains(a.body, "letter.pdf") || !strings.Contains(a.body, "wound.jpg") {
		t.Error("the wrong file was taken away")
	}
	form.Del("drop_file")
	form.Set("temperature", "")
	form.Set("note", "")
	a = x.follow(x.postFiles(path, form, jpegFile)) // the browser may send it again
	if n := strings.Count(a.body, "wound.jpg"); n != 1 || !strings.Contains(a.body, "On this box only") {
		t.Errorf("the chart names the photo %d times", n)
	}
	f := x.get("/patient/" + x.people.child + "/file/" + idOf(jpegFile))
	if f.status != http.StatusOK || f.body != string(jpegFile.content) {
		t.Fatalf("opened: status %d, %d bytes", f.status, len(f.body))
	}
	for name, want := range map[string]string{"Content-Type": "image/jpeg", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
		"Content-Disposition": `inline; filename=wound.jpg`, "Cache-Control": "no-store"} {
		if got := f.header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// saveFiles saves a visit with a photo that others hold, a document that is only here
// and a photo of which parts are missing; it gives that one's id.
func (x *fixture) saveFiles() string {
	x.t.Helper()
	path := "/patient/" + x.people.child + "/visit"
	missing := formFile{"back.jpg", append(slices.Clone(jpegFile.content), 'b')}
	x.postFiles(path, hidden(x.get(path).body, path), jpegFile, pdfFile, missing)
	x.fake.mu.Lock()
	defer x.fake.mu.Unlock()
	f := &x.fake.files
	f.states[idOf(jpegFile)] = web.FileState{Held: 2, Parts: 2, To: []string{"Hub One", "Hub Two"}}
	f.states[idOf(missing)] = web.FileState{Held: 3, Parts: 14}
	f.given[idOf(missing)] = web.File{Held: 3, Parts: 14, Name: "back.jpg", From: []string{"Hub One"}}
	return idOf(missing)
}

func idOf(f formFile) string {
	h := fhir.HashContent(f.content)
	return hex.EncodeToString(h[:])
}

// What is not whole on this box is said to be asked for; what is of no known type is
// only offered to be kept.
func TestFileOnItsWay(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.child + "/visit"
	x.postFiles(path, hidden(x.get(path).body, path), jpegFile)
	id := idOf(jpegFile)
	set := func(f web.File) {
		x.fake.mu.Lock()
		defer x.fake.mu.Unlock()
		x.fake.files.given[id], x.fake.files.states[id] = f, web.FileState{Held: f.Held, Parts: f.Parts}
	}
	set(web.File{Held: 3, Parts: 14, From: []string{"Hub One"}})
	if a := x.get("/patient/" + x.people.child); !strings.Contains(a.body, "3 of 14 parts") {
		t.Error("the chart does not tell how much is here")
	}
	a := x.get("/patient/" + x.people.child + "/file/" + id)
	if a.status != http.StatusOK || a.header.Get("Refresh") == "" || !strings.Contains(a.body, "asked for from: Hub One") || !strings.Contains(a.body, "3 of 14 parts") {
		t.Errorf("status %d, page:\n%s", a.status, words(a.body))
	}
	set(web.File{Content: []byte("<script>"), Held: 2, Parts: 2})
	if a = x.get("/patient/" + x.people.child + "/file/" + id); a.header.Get("Content-Type") != "application/octet-stream" || a.header.Get("Content-Disposition") != "attachment" {
		t.Errorf("unknown content is sent as %q, %q", a.header.Get("Content-Type"), a.header.Get("Content-Disposition"))
	}
	if a = x.get("/patient/" + x.people.child + "/file/00"); a.status != http.StatusNotFound {
		t.Errorf("an unknown file: status %d", a.status)
	}
}

// Files are bounded in size and number, and nobody sends any before signing in.
func TestFilesBounded(t *testing.T) {
	x := newFixture(t)
	path := "/patient/" + x.people.child + "/visit"
	if a := x.postFiles(path, url.Values{"form": {randomHex(16)}}, jpegFile); a.status != http.StatusSeeOther || len(x.fake.files.forms) != 0 {
		t.Errorf("without signing in: status %d, kept %d", a.status, len(x.fake.files.forms))
	}
	x.signIn()
	form := hidden(x.get(path).body, path)
	form.Set("note", "typed")
	large := formFile{"large.jpg", append([]byte("\xff\xd8\xff"), make([]byte, web.FileBytesMax)...)}
	if a := x.postFiles(path, form, large, jpegFile); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "too large. At most 10 MB") || !strings.Contains(a.body, "wound.jpg") {
		t.Errorf("one that is too large: status %d", a.status)
	}
	var many []formFile
	for i := range fhir.FilesMax + 1 {
		many = append(many, formFile{"p.jpg", append(slices.Clone(jpegFile.content), byte(i))})
	}
	if a := x.postFiles(path, form, many...); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "at most 4") || !strings.Contains(a.body, "typed") {
		t.Errorf("too many: status %d", a.status)
	}
	form.Set("note", strings.Repeat("x", 80<<10))
	if a := x.postFiles(path, form); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("too much text: status %d", a.status)
	}
}
