package web

import (
	"errors"
	"html/template"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/healthpost/healthpost/fhir"
)

// A form with files arrives as multipart/form-data. Its text comes first, because the
// page puts the files last; the files are read when the session is known, one at a
// time.

const (
	uploadBytesMax = 2*FileBytesMax + formBytesMax // of one form
	uploadTime     = 5 * time.Minute               // for a phone at the edge of the Wi-Fi
	uploadsMax     = 2                             // forms whose files are read at once
)

// upload is what of a posted form has not been read yet.
type upload struct {
	parts *multipart.Reader
	next  *multipart.Part // nil after the last
}

func isMultipart(r *http.Request) bool {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && t == "multipart/form-data"
}

// readParts reads the text of a form up to its first file.
func (q *request) readParts() error {
	q.r.Body = http.MaxBytesReader(q.w, q.r.Body, uploadBytesMax)
	parts, err := q.r.MultipartReader()
	if err != nil {
		return err
	}
	q.r.PostForm = url.Values{}
	q.upload = &upload{parts: parts}
	return q.readTexts()
}

// readTexts reads the text fields before the next file.
func (q *request) readTexts() error {
	u := q.upload
	left := int64(formBytesMax)
	for {
		p, err := u.parts.NextPart()
		if err == io.EOF {
			u.next = nil
			return nil
		}
		if err != nil {
			return err
		}
		if p.FileName() != "" || p.FormName() == fileField {
			u.next = p
			return nil
		}
		b, err := io.ReadAll(io.LimitReader(p, left+1))
		if err != nil {
			return err
		}
		if left -= int64(len(b)); left < 0 || len(q.r.PostForm) >= formFieldsMax {
			return errBadForm
		}
		q.r.PostForm.Add(p.FormName(), string(b))
	}
}

const fileField = "files"

// keepFiles hands the files of a posted form to the box. The problems are in words;
// the form is shown again with them, and what was kept stays.
func (q *request) keepFiles(formID string) ([]fieldProblem, error) {
	u := q.upload
	if u == nil {
		return nil, nil
	}
	select {
	case q.uploads <- struct{}{}:
		defer func() { <-q.uploads }()
	case <-q.r.Context().Done():
		return nil, q.r.Context().Err()
	}
	c := http.NewResponseController(q.w)
	for _, set := range []func(time.Time) error{c.SetReadDeadline, c.SetWriteDeadline} {
		if err := set(time.Now().Add(uploadTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return nil, err
		}
	}
	var problems []fieldProblem
	for u.next != nil {
		name := u.next.FileName()
		content, err := io.ReadAll(io.LimitReader(u.next, FileBytesMax+1))
		if err == nil && len(content) > 0 { // a form without a chosen file sends an empty one
			err = q.keepFile(formID, name, content)
		}
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return append(problems, q.fileProblem(ErrFileTooLarge)), nil
		}
		if key := fileKey(err); err != nil && key == "" {
			return problems, err
		} else if err != nil {
			problems = append(problems, q.fileProblem(err))
		}
		if err := q.readTexts(); errors.As(err, &tooLarge) {
			return append(problems, q.fileProblem(ErrFileTooLarge)), nil
		} else if err != nil {
			return problems, errBadForm
		}
	}
	return problems, nil
}

func (q *request) keepFile(formID, name string, content []byte) error {
	if len(content) > FileBytesMax {
		return ErrFileTooLarge
	}
	return q.clinic.Attach(q.r.Context(), q.session, q.r.PathValue("patient"), formID, name, content)
}

// fileKey is the catalogue key of why a file was not taken; "" for any other error.
func fileKey(err error) string {
	switch {
	case errors.Is(err, ErrFileType):
		return "error.file_type"
	case errors.Is(err, ErrFileTooLarge):
		return "error.file_large"
	case errors.Is(err, ErrFilesMax):
		return "error.files_max"
	}
	return ""
}

func (q *request) fileProblem(err error) fieldProblem {
	return fieldProblem{fileField, q.words.Text(fileKey(err), FileBytesMax>>20, fhir.FilesMax)}
}

// keptFile is a file of the form as its page shows it.
type keptFile struct {
	ID, Name string
	Thumb    template.URL
}

// keptFiles lists the files of a form.
func (q *request) keptFiles(formID string) ([]keptFile, []fhir.File, error) {
	if !validFormID(formID) {
		return nil, nil, nil
	}
	list, err := q.clinic.Attached(q.r.Context(), q.session, formID)
	var out []keptFile
	var files []fhir.File
	for _, a := range list {
		out = append(out, keptFile{a.ID, firstOf(a.File.Title, q.fileWord(a.File.Type)), thumbOf(a.Thumb)})
		files = append(files, a.File)
	}
	return out, files, err
}

func (q *request) fileWord(typ string) string {
	if slices.Contains([]string{"image/jpeg", "image/png"}, typ) {
		return q.words.Text("file.photo")
	}
	return q.words.Text("file.document")
}
