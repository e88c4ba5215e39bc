package node

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node/photo"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// ImportRequest is one file to take in.
type ImportRequest struct {
	Name   string // for the report
	Size   int64
	DryRun bool
}

// ImportRefusal is one thing that was not taken in, and why.
type ImportRefusal struct {
	File     string `json:"file"`
	Resource string `json:"resource"`
	Reason   string `json:"reason"`
}

// ImportReport is what became of a file or of several.
type ImportReport struct {
	Files        int             `json:"files"`
	Added        int             `json:"added"`   // resources stored now, amendments of known ones among them
	Known        int             `json:"known"`   // resources that are here already, word for word
	Records      int             `json:"records"` // records written
	RefusedCount int             `json:"refusedCount"`
	Refused      []ImportRefusal `json:"refused"` // at most importRefusalsMax
}

const (
	importRefusalsMax  = 1000
	importAppendBytes  = 400 << 10 // sealed bytes in one transaction
	importAppendDrafts = 64
)

// Add joins two reports.
func (r *ImportReport) Add(o ImportReport) {
	r.Files += o.Files
	r.Added += o.Added
	r.Known += o.Known
	r.Records += o.Records
	r.RefusedCount += o.RefusedCount
	r.Refused = append(r.Refused, o.Refused...)
	if len(r.Refused) > importRefusalsMax {
		r.Refused = r.Refused[:importRefusalsMax]
	}
}

func (r *ImportReport) refuse(file, resource, reason string) {
	r.Add(ImportReport{RefusedCount: 1, Refused: []ImportRefusal{{file, resource, reason}}})
}

// Import takes in one Bundle, or NDJSON when the name ends so. Each resource
// stays as it came, digit for digit and in its order, without white space between
// its elements. A resource that is here already, word for word, is not stored again; another version of a known one is an amendment. Nothing is
// changed by a dry run.
func (n *Node) Import(ctx context.Context, q ImportRequest, r io.Reader, progress func(Progress)) (ImportReport, error) {
	rep := ImportReport{Files: 1, Refused: []ImportRefusal{}}
	if _, ok := n.box.RegionID(); !ok {
		return rep, ErrNoRegion
	}
	n.importMu.Lock()
	defer n.importMu.Unlock()
	if err := n.projectNow(); err != nil {
		return rep, err
	}
	b, err := readImport(q.Name, r)
	if err != nil {
		rep.refuse(q.Name, "the whole file", fileReason(err))
		return rep, nil
	}
	plan := fhir.Plan(b, n.resolvePatient)
	for _, x := range plan.Refused {
		rep.refuse(q.Name, x.Resource, x.Reason)
	}
	i := &importer{n: n, ctx: ctx, file: q.Name, dry: q.DryRun, plan: &plan, rep: &rep, patients: make([]importPatient, len(plan.Patients)), taken: map[[2]int]bool{}, batch: map[string]bool{}, blobs: map[string]chart.Blob{}}
	strangers, err := n.strangers(&plan)
	if err != nil {
		return rep, err
	}
	if err := i.decisions(strangers); err != nil {
		return rep, err
	}
	for k, s := range plan.Saves {
		if strangers[s.Patient] {
			i.refuse(s)
		} else if err := i.save(k, s); err != nil {
			return rep, err
		}
		progress(Progress{Done: uint64(k + 1), Total: uint64(len(plan.Saves))})
	}
	if err := i.flush(); err != nil {
		return rep, err
	}
	return rep, n.projectNow()
}

func readImport(name string, r io.Reader) (fhir.Bundle, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	if strings.EqualFold(filepath.Ext(name), ".ndjson") {
		return fhir.ReadNDJSON(in, controlBodyMax)
	}
	return fhir.ReadBundle(in, controlBodyMax)
}

// fileReason says in words why a whole file cannot be read.
func fileReason(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends in the middle of its JSON: copy the file again"
	}
	return err.Error()
}

// resolvePatient finds the patient of this box that a reference text means.
func (n *Node) resolvePatient(reference string) (string, bool) {
	r, ok, err := n.resource(patientName(reference))
	if err != nil || !ok {
		return "", false
	}
	return record.CompartmentID(r.Compartment).String(), true
}

// importer writes the saves of one plan.
type importer struct {
	n        *Node
	ctx      context.Context
	file     string
	dry      bool
	plan     *fhir.Import
	rep      *ImportReport
	patients []importPatient
	taken    map[[2]int]bool // resources, by save and place, that are decisions and nothing else

	drafts []store.Draft
	bytes  int
	added  int
	batch  map[string]bool // what this file brought already: patient, key, content

	contents map[fhir.ContentHash][]byte // of the save under way, kept apart from its resources
	blobs    map[string]chart.Blob       // sealed already: compartment, content
}

type importPatient struct {
	ready bool
	c     record.CompartmentID
	first dek // what decisions are sealed under
	key   dek // what all else is
}

func (i *importer) save(k int, s fhir.Save) error {
	var items []chart.Item
	i.contents = map[fhir.ContentHash][]byte{}
	for at, r := range s.Resources {
		for _, c := range r.Content {
			i.contents[fhir.HashContent(c.Data)] = c.Data
		}
		if i.taken[[2]int{k, at}] {
			continue
		}
		item, fresh, err := i.item(s, r)
		if err != nil {
			return err
		}
		if !fresh {
			i.rep.Known++
			continue
		}
		items = append(items, item)
	}
	if len(items) == 0 {
		return nil
	}
	if i.dry {
		i.rep.Added += len(items)
		i.rep.Records++
		return nil
	}
	return i.draft(s, items)
}

func (i *importer) refuse(s fhir.Save) {
	for _, r := range s.Resources {
		i.rep.refuse(i.file, r.Name(), otherPersonReason)
	}
}

// item decides what a resource is here: known, new, or another version.
func (i *importer) item(s fhir.Save, r fhir.Resource) (chart.Item, bool, error) {
	asItCame := sha256.Sum256(r.JSON)
	r.JSON = fhir.Compact(r.JSON)
	item := chart.PutItem(r)
	h := sha256.Sum256(r.JSON)
	c, here := i.known(s)
	same := fmt.Sprint(s.Patient, " ", item.Key(), " ", hex.EncodeToString(h[:]))
	if i.batch[same] {
		return item, false, nil
	}
	i.batch[same] = true
	if !here {
		return item, true, nil
	}
	have, ok, err := i.n.resource(keyName(c, item))
	if err != nil || !ok {
		return item, true, err
	}
	for _, h := range [][sha256.Size]byte{h, asItCame} { // what earlier versions took in has its white space
		if bytes.Equal(have.Hash, h[:]) {
			return item, false, nil
		}
		if _, ok, err := i.n.resource(versionName(c, h[:])); err != nil || ok {
			return item, false, err // replaced since
		}
	}
	item.Base = []chart.Ref{{RID: [8]byte(have.RID), Index: have.Index}}
	return item, true, nil
}

// known is the compartment that a save goes to, when it exists already.
func (i *importer) known(s fhir.Save) (record.CompartmentID, bool) {
	if s.Patient == fhir.NoPatient {
		region, _ := i.n.box.RegionID()
		return directory(region), true
	}
	c, err := record.ParseCompartmentID(i.plan.Patients[s.Patient].Known)
	return c, err == nil
}

// draft seals items as one record, or as several when they are too large for one.
func (i *importer) draft(s fhir.Save, items []chart.Item) error {
	p, err := i.compartment(s)
	if err != nil {
		return err
	}
	kind := record.KindClinical
	switch {
	case s.Patient == fhir.NoPatient:
		kind = record.KindDirectory
	case s.Encounter == "":
		kind = record.KindRegistration
	}
	blobs, err := i.seal(p.c, items)
	if err != nil {
		return err
	}
	d, err := i.n.bodyDraft(record.LaneBulk, kind, p.c, p.key, 0, chart.Body{Items: items, Blobs: blobs})
	if errors.Is(err, seal.ErrTooLarge) || errors.Is(err, chart.ErrBody) {
		if len(items) == 1 {
			i.rep.refuse(i.file, items[0].Resource().Name(), "too large for one record")
			return nil
		}
		half := len(items) / 2
		if err := i.draft(s, items[:half]); err != nil {
			return err
		}
		return i.draft(s, items[half:])
	}
	if err != nil {
		return err
	}
	i.drafts = append(i.drafts, d)
	i.added += len(items)
	for _, it := range items {
		i.bytes += len(it.JSON) / 4 // about what compressing leaves, at most
	}
	if i.bytes > importAppendBytes || len(i.drafts) >= importAppendDrafts {
		return i.flush()
	}
	return nil
}

// seal keeps the content of items, each once in a compartment.
func (i *importer) seal(c record.CompartmentID, items []chart.Item) ([]chart.Blob, error) {
	if len(i.contents) == 0 {
		return nil, nil
	}
	var out []chart.Blob
	here := map[fhir.ContentHash]bool{}
	for _, it := range items {
		for _, a := range it.Resource().Attachments() {
			content, ok := i.contents[a.Hash]
			if !ok || here[a.Hash] {
				continue
			}
			here[a.Hash] = true
			if len(here) > record.BlobsMax { // draft parts the items
				return append(out, chart.Blob{}), nil
			}
			key := c.String() + string(a.Hash[:])
			b, ok := i.blobs[key]
			if !ok {
				var err error
				if b, err = i.n.sealFile(i.ctx, content, photo.Thumb(content)); err != nil {
					return nil, err
				}
				i.blobs[key] = b
			}
			out = append(out, b)
		}
	}
	return out, nil
}

func (i *importer) compartment(s fhir.Save) (importPatient, error) {
	if s.Patient == fhir.NoPatient {
		region, _ := i.n.box.RegionID()
		k, err := i.n.vault.key(directory(region), firstGen)
		if errors.Is(err, seal.ErrNoKey) {
			err = fmt.Errorf("the region's directory is not on this box yet: let it reach a hub once, then import again: %w", err)
		}
		return importPatient{true, directory(region), dek{firstGen, k}, dek{firstGen, k}}, err
	}
	p := &i.patients[s.Patient]
	if p.ready {
		return *p, nil
	}
	if known := i.plan.Patients[s.Patient].Known; known != "" {
		c, err := record.ParseCompartmentID(known)
		if err != nil {
			return *p, err
		}
		s, err := i.n.sealing(c, 0, nil)
		if err != nil {
			return *p, err
		}
		i.keys(s.wraps)
		*p = importPatient{true, c, s.first, s.dek}
		return *p, nil
	}
	c, k, wrap, err := i.n.vault.newCompartment(0)
	if err != nil {
		return *p, err
	}
	i.keys([]store.Draft{wrap})
	*p = importPatient{true, c, k, k}
	return *p, nil
}

// keys drafts wraps, which are no records that somebody asked for.
func (i *importer) keys(wraps []store.Draft) {
	i.drafts = append(i.drafts, wraps...)
	i.rep.Records -= len(wraps)
}

// flush writes the drafts that wait in one transaction.
func (i *importer) flush() error {
	if len(i.drafts) == 0 {
		return nil
	}
	if err := i.n.openEpoch(i.ctx); err != nil {
		return err
	}
	if _, err := i.n.place(i.ctx, i.drafts, nil); err != nil {
		return err
	}
	i.n.recount()
	i.rep.Added += i.added
	i.rep.Records += len(i.drafts)
	i.drafts, i.bytes, i.added = nil, 0, 0
	return nil
}
