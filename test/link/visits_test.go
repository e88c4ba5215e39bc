package link_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// bundleDir is where visits are taken from.
func bundleDir() string {
	if dir := os.Getenv("HEALTHPOST_BUNDLES"); dir != "" {
		return dir
	}
	return filepath.Join("..", "testdata", "fhir")
}

// resource is one entry of a bundle.
type resource struct {
	FullURL  string          `json:"fullUrl,omitempty"`
	Resource json.RawMessage `json:"resource"`
	kind, id string
	visit    string // what its encounter element names
}

func (r *resource) read(tb testing.TB) {
	tb.Helper()
	var head struct {
		ResourceType, ID string
		Encounter        struct{ Reference string }
		Context          struct{ Reference string }
	}
	check(tb, "reading a resource", json.Unmarshal(r.Resource, &head))
	r.kind, r.id, r.visit = head.ResourceType, head.ID, head.Encounter.Reference+head.Context.Reference
}

// history is one patient's bundle, taken apart: who and where, and each visit
// with what belongs to it, claims left out.
type history struct {
	base   []resource
	visits [][]resource
}

func readHistory(tb testing.TB, path string) (h history) {
	tb.Helper()
	raw, err := os.ReadFile(path)
	check(tb, "reading a bundle", err)
	var b struct {
		ResourceType string
		Entry        []resource
	}
	check(tb, "reading "+path, json.Unmarshal(raw, &b))
	at := map[string]int{}
	for i := range b.Entry {
		r := &b.Entry[i]
		r.read(tb)
		if r.kind == "Encounter" {
			at[r.FullURL], at["Encounter/"+r.id] = len(h.visits), len(h.visits)
			h.visits = append(h.visits, []resource{*r})
		}
	}
	for _, r := range b.Entry {
		i, visited := at[r.visit]
		switch {
		case r.kind == "Claim", r.kind == "ExplanationOfBenefit", r.kind == "Encounter":
		case visited:
			h.visits[i] = append(h.visits[i], r)
		case slices.Contains([]string{"Patient", "Practitioner", "Organization", "Location", "PractitionerRole"}, r.kind):
			h.base = append(h.base, r)
		}
	}
	return h
}

// patientFiles are the files of bundleDir with a patient, every second one held out.
func patientFiles(tb testing.TB) (train, heldOut []string) {
	tb.Helper()
	n := 0
	err := filepath.WalkDir(bundleDir(), func(path string, d fs.DirEntry, err error) error {
		name := filepath.Base(path)
		if err != nil || filepath.Ext(path) != ".json" || os.Getenv("HEALTHPOST_BUNDLES") == "" && !strings.HasPrefix(name, "synthea-us") {
			return err
		}
		if n++; n%2 == 0 {
			train = append(train, path)
		} else {
			heldOut = append(heldOut, path)
		}
		return nil
	})
	check(tb, "listing the bundles", err)
	return train, heldOut
}

func readHistories(tb testing.TB) (all []history) {
	tb.Helper()
	_, files := patientFiles(tb)
	for _, path := range files {
		if h := readHistory(tb, path); len(h.visits) > 0 {
			all = append(all, h)
		}
	}
	if len(all) == 0 {
		tb.Fatalf("no patient with visits in %s", bundleDir())
	}
	return all
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// renamed gives the text with every id replaced by one of this copy.
func renamed(text []byte, copied int) []byte {
	if copied == 0 {
		return text
	}
	return uuid.ReplaceAllFunc(text, func(id []byte) []byte {
		h := fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%d %s", copied, id)))
		return []byte(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32])
	})
}

func writeBundle(tb testing.TB, path string, entries []resource, copied int) {
	tb.Helper()
	var out bytes.Buffer
	check(tb, "writing a bundle", json.NewEncoder(&out).Encode(map[string]any{"resourceType": "Bundle", "type": "collection", "entry": entries}))
	check(tb, "writing a bundle", os.WriteFile(path, renamed(out.Bytes(), copied), 0o600))
}

// writeVisits writes two folders: who and where, and n visits of those patients, at most
// three of each; when the bundles hold fewer, patients come again under other ids. It gives the bytes of JSON and the resources of the visits.
func writeVisits(tb testing.TB, rnd *rand.Rand, n int) (base, visits string, size, resources int) {
	tb.Helper()
	all := readHistories(tb)
	base, visits = tb.TempDir(), tb.TempDir()
	for i := 0; n > 0; i++ {
		h := all[i%len(all)]
		copied := i / len(all)
		rnd.Shuffle(len(h.visits), func(a, b int) { h.visits[a], h.visits[b] = h.visits[b], h.visits[a] })
		take := h.visits[:min(3, n, len(h.visits))]
		n -= len(take)
		name := fmt.Sprintf("%03d.json", i)
		writeBundle(tb, filepath.Join(base, name), h.base, copied)
		// References to the patient stay as they are, so the patient comes along; it is
		// known by then and not stored again.
		entries := slices.DeleteFunc(slices.Clone(h.base), func(r resource) bool { return r.kind != "Patient" })
		for _, v := range take {
			entries = append(entries, v...)
			for _, r := range v {
				size += len(r.Resource)
				resources++
			}
		}
		writeBundle(tb, filepath.Join(visits, name), entries, copied)
	}
	return base, visits, size, resources
}
