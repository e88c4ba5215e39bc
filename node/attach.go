package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node/photo"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// A file of a form is sealed and durable before the form is: the page may come back
// with a question, and a browser does not send a file again by itself.
//
//	att/ form index       sealed: stagedFile
//	ask/ id               a person waits for this attachment

// stagedFile is a file of a form that is not saved yet.
type stagedFile struct {
	_       struct{} `cbor:",toarray"`
	Patient []byte
	Hash    []byte
	Root    []byte
	Bytes   uint32
	Key     []byte
	Type    string
	Size    uint32
	Thumb   []byte
	Title   string
	At      int64 // Unix seconds
}

const (
	stagedLife   = 7 * 24 * 60 * 60 // seconds, as long as a draft
	stagedOldMax = 64               // dropped at a time
	fileNameMax  = 100              // bytes
)

var stagedPrefix = []byte("att/")

func stagedKey(formID string, index byte) []byte {
	return append(append([]byte("att/"), formKey(formID)[len("form/"):]...), index)
}

func (f *stagedFile) blob() chart.Blob {
	return chart.Blob{Blob: record.Blob{Root: record.Hash(f.Root), Bytes: f.Bytes}, Hash: fhir.ContentHash(f.Hash), Key: chart.BlobKey(f.Key), Type: f.Type, Size: f.Size, Thumb: f.Thumb}
}

func (f *stagedFile) file() fhir.File {
	return fhir.File{Hash: fhir.ContentHash(f.Hash), Type: f.Type, Size: int(f.Size), Title: f.Title}
}

func (n *Node) stagedFiles(in *signedIn, formID string) ([]stagedFile, error) {
	var out []stagedFile
	n.staff.mu.Lock()
	if l := in.lentFilesLocked(formID); l != nil {
		out = slices.Clone(l.files)
	}
	n.staff.mu.Unlock()
	if len(out) > 0 {
		return out, nil
	}
	for i := range byte(fhir.FilesMax) {
		var f stagedFile
		ok, err := n.readRow(stagedKey(formID, i), &f)
		if err != nil {
			return nil, err
		}
		if ok && len(f.Hash) == 32 && len(f.Root) == 32 && len(f.Key) == 32 {
			out = append(out, f)
		}
	}
	return out, nil
}

// Attach keeps a file for a form.
func (n *Node) Attach(ctx context.Context, s web.Session, patientID, formID, name string, content []byte) error {
	in, err := n.allow(ctx, s, policy.Write, patientID)
	if err != nil {
		return err
	}
	if formID == "" || len(formID) > formIDMax {
		return web.ErrNotFound
	}
	c, ch, err := n.patientFor(in, patientID)
	if err != nil {
		return err
	}
	content, thumb, err := prepareFile(content)
	if err != nil {
		return err
	}
	unlock := n.forms.lock(formID)
	defer unlock()
	if err := n.dropStaged(ctx); err != nil {
		return explain(err)
	}
	files, err := n.stagedFiles(in, formID)
	if err != nil {
		return explain(err)
	}
	hash := fhir.HashContent(content)
	for i := range files {
		if fhir.ContentHash(files[i].Hash) == hash {
			return nil
		}
	}
	if len(files) == fhir.FilesMax {
		return web.ErrFilesMax
	}
	blob, known := ch.Blob(hash)
	if !known {
		if blob, err = n.sealFile(ctx, content, thumb); err != nil {
			return explain(err)
		}
	}
	f := n.stagedFile(c, fileName(name), &blob)
	if _, ok := n.passFor(in, c); ok {
		n.stageLent(in, formID, f)
		return nil
	}
	return explain(n.stage(ctx, formID, &f))
}

// prepareFile makes a photo small and looks at what a document is.
func prepareFile(content []byte) (out, thumb []byte, err error) {
	if len(content) > web.FileBytesMax {
		return nil, nil, web.ErrFileTooLarge
	}
	switch photo.Sniff(content) {
	case photo.PDF:
		return content, nil, nil
	case "":
		return nil, nil, web.ErrFileType
	}
	out, thumb, err = photo.Prepare(content)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", web.ErrFileType, err)
	}
	return out, thumb, nil
}

// sealFile seals content and keeps it, staged.
func (n *Node) sealFile(ctx context.Context, content, thumb []byte) (chart.Blob, error) {
	key, chunks, err := seal.SealBlob(rand.Reader, content)
	if err != nil {
		return chart.Blob{}, err
	}
	b, err := n.store.SaveBlob(ctx, chunks, n.o.Now().Unix())
	return chart.Blob{Blob: b, Hash: fhir.HashContent(content), Key: chart.BlobKey(key), Type: photo.Sniff(content), Size: uint32(len(content)), Thumb: thumb}, err
}

func (n *Node) stagedFile(c record.CompartmentID, name string, b *chart.Blob) stagedFile {
	thumb := b.Thumb
	if thumb == nil {
		thumb = []byte{}
	}
	return stagedFile{Patient: c[:], Hash: b.Hash[:], Root: b.Root[:], Bytes: b.Bytes, Key: b.Key[:], Type: b.Type, Size: b.Size,
		Thumb: thumb, Title: name, At: n.o.Now().Unix()}
}

func (n *Node) stage(ctx context.Context, formID string, f *stagedFile) error {
	plain, err := record.Marshal(f)
	if err != nil {
		return err
	}
	for i := range byte(fhir.FilesMax) {
		key := stagedKey(formID, i)
		if _, err := n.store.GetRow(key); err == nil {
			continue
		}
		row, err := n.sealedRow(key, plain)
		if err != nil {
			return err
		}
		return n.store.PutRows(ctx, []store.Row{row})
	}
	return web.ErrFilesMax
}

// fileName is the last part of a file's name, on one line and of a bounded length.
func fileName(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, path.Base(strings.ReplaceAll(name, `\`, "/")))
	if name == "." || name == "/" {
		return ""
	}
	for len(name) > fileNameMax {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return strings.TrimSpace(name)
}

// Attached lists the files of a form.
func (n *Node) Attached(ctx context.Context, s web.Session, formID string) ([]web.Attachment, error) {
	in, err := n.allow(ctx, s, policy.Write, "")
	if err != nil {
		return nil, err
	}
	files, err := n.stagedFiles(in, formID)
	if err != nil {
		return nil, explain(err)
	}
	var out []web.Attachment
	for i := range files {
		out = append(out, web.Attachment{ID: hex.EncodeToString(files[i].Hash), File: files[i].file(), Thumb: files[i].Thumb})
	}
	return out, nil
}

// Detach takes a file from a form. Its sealed bytes go with what is staged for long.
func (n *Node) Detach(ctx context.Context, s web.Session, formID, id string) error {
	in, err := n.allow(ctx, s, policy.Write, "")
	if err != nil {
		return err
	}
	unlock := n.forms.lock(formID)
	defer unlock()
	n.staff.mu.Lock()
	if l := in.lentFilesLocked(formID); l != nil {
		l.files = slices.DeleteFunc(slices.Clone(l.files), func(f stagedFile) bool { return hex.EncodeToString(f.Hash) == id })
	}
	n.staff.mu.Unlock()
	for i := range byte(fhir.FilesMax) {
		var f stagedFile
		key := stagedKey(formID, i)
		ok, err := n.readRow(key, &f)
		if err == nil && ok && hex.EncodeToString(f.Hash) == id {
			err = n.store.PutRows(ctx, []store.Row{{Key: key}})
		}
		if err != nil {
			return explain(err)
		}
	}
	return nil
}

// filesOf puts a form's files into its visit. A file that was dropped because the
// form lay for long is a field to correct.
func (n *Node) filesOf(in *signedIn, formID string, v *fhir.Visit) ([]chart.Blob, error) {
	v.Files = nil
	files, err := n.stagedFiles(in, formID)
	if err != nil {
		return nil, err
	}
	var blobs []chart.Blob
	for i := range files {
		b := files[i].blob()
		if _, ok, err := n.store.Blob(b.ID()); err != nil {
			return nil, err
		} else if !ok {
			return nil, &web.FieldsError{Fields: []fhir.FieldError{{Field: "files", Code: "error.file_lost"}}}
		}
		blobs, v.Files = append(blobs, b), append(v.Files, files[i].file())
	}
	return blobs, nil
}

// dropStaged drops what was staged for longer than a draft lives.
func (n *Node) dropStaged(ctx context.Context) error {
	old := n.o.Now().Unix() - stagedLife
	ids, err := n.store.StagedBlobs(old, stagedOldMax)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := n.store.DropBlob(ctx, id); err != nil {
			return err
		}
	}
	var rows []store.Row
	err = n.store.ScanRows(stagedPrefix, stagedRowsMax, func(key, _ []byte) bool {
		var f stagedFile
		if ok, err := n.readRow(key, &f); err != nil || !ok || f.At <= old {
			rows = append(rows, store.Row{Key: key})
		}
		return len(rows) < stagedOldMax
	})
	if err != nil {
		return err
	}
	return n.store.PutRows(ctx, rows)
}

const stagedRowsMax = 4096
