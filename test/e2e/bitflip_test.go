package e2e_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/test/rig"
)

const (
	flipsPart  = 4  // flips in each part of a record
	flipsBlind = 12 // flips anywhere in a table
)

// TestBitFlip: one bit of a stored record turns over on a stopped box. The check
// finds it and names the record. The box gives out nothing that was never there.
func TestBitFlip(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 1, 1)
	clinic := r.Clinics[0]
	clinic.Import(rig.Bundles(t)...)
	patient := clinic.Page().Register("Furaha", "Flipped")
	r.WaitSame(r.Boxes()...)
	r.SetLinks(clinic, false)
	for range 10 {
		clinic.Page().MustSave(rig.NewVisit(rnd, patient))
	}
	clinic.Stop()
	clinic.Verify()
	clean := map[string]bool{}
	for _, line := range clinic.Export() {
		clean[line] = true
	}
	parts := storedParts(t, clinic)
	names := []string{"body", "core", "signature", "pending body", "pending core", "pending signature"}
	for _, name := range names {
		if len(parts[name]) == 0 {
			t.Fatalf("no record has a %s", name)
		}
		for range flipsPart {
			p := parts[name][rnd.IntN(len(parts[name]))]
			b := rig.CopyBox(t, clinic)
			where := flipIn(t, rnd, b, p.bytes)
			v := b.Command("", "verify", "--full")
			if v.Code != 3 || !strings.Contains(v.Out, p.rid) || crashed(v) {
				t.Errorf("a bit of the %s of record %s, %s: verify: exit code %d, wants 3 and the record's name\n%s%s", name, p.rid, where, v.Code, v.Out, v.Err)
			}
			nothingWrong(t, b, clean, where)
			os.RemoveAll(b.Dir)
		}
	}
	for range flipsBlind {
		b := rig.CopyBox(t, clinic)
		where := flipAnywhere(t, rnd, b)
		if v := b.Command("", "verify", "--full"); v.Code != 3 && v.Code != 1 && v.Code != 0 || crashed(v) {
			t.Errorf("a bit %s: verify: exit code %d\n%s%s", where, v.Code, v.Out, v.Err)
		}
		nothingWrong(t, b, clean, where)
		os.RemoveAll(b.Dir)
	}
}

func crashed(r rig.Result) bool {
	return strings.Contains(r.Err, "panic:") || strings.Contains(r.Err, "goroutine ") || strings.Contains(r.Err, "fatal error:")
}

// nothingWrong exports a box with a damaged disk: it may refuse or leave out, but
// not give out another value.
func nothingWrong(t *testing.T, b *rig.Box, clean map[string]bool, where string) {
	t.Helper()
	r := b.Command("", "export")
	if crashed(r) {
		t.Errorf("a bit %s: export: exit code %d\n%s", where, r.Code, r.Err)
	}
	for _, line := range strings.FieldsFunc(r.Out, func(c rune) bool { return c == '\n' }) {
		if !clean[line] && !strings.HasPrefix(line, `{"resourceType":"OperationOutcome",`) { // says that something cannot be read
			t.Errorf("a bit %s: exported what was never there: %.300s", where, line)
		}
	}
}

// part is some bytes of a record as they lie on the disk.
type part struct {
	rid   string
	bytes []byte
}

// storedParts reads the records of a stopped box, from a copy that is thrown away.
func storedParts(t *testing.T, box *rig.Box) map[string][]part {
	t.Helper()
	b := rig.CopyBox(t, box)
	defer os.RemoveAll(b.Dir)
	s, err := store.Open(filepath.Join(b.Dir, "db"), store.NewOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	parts := map[string][]part{}
	add := func(kind string, r *record.Record) {
		rid := r.RID().String()
		if len(r.Body) >= 32 {
			parts[kind+"body"] = append(parts[kind+"body"], part{rid, r.Body})
		}
		parts[kind+"core"] = append(parts[kind+"core"], part{rid, r.CoreBytes()})
		parts[kind+"signature"] = append(parts[kind+"signature"], part{rid, r.Sig[:]})
	}
	entries, err := s.Entries(0, s.Head().Size, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		add("", &entries[i].Record)
	}
	feeds, err := s.PendingFeeds()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range feeds {
		recs, err := s.Pending(f.Feed, f.OrderedN+1, 64<<20)
		if err != nil {
			t.Fatal(err)
		}
		for i := range recs {
			add("pending ", &recs[i])
		}
	}
	return parts
}

// flipIn turns one bit over within bytes that lie in the box's tables.
func flipIn(t *testing.T, rnd *rand.Rand, b *rig.Box, in []byte) string {
	t.Helper()
	for _, name := range tables(t, b) {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(raw, in); at >= 0 {
			return flip(t, name, raw, at+rnd.IntN(len(in)), rnd.IntN(8))
		}
	}
	t.Fatalf("%d bytes of a record are in no table of the stopped box", len(in))
	return ""
}

func flipAnywhere(t *testing.T, rnd *rand.Rand, b *rig.Box) string {
	t.Helper()
	files := tables(t, b)
	name := files[rnd.IntN(len(files))]
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return flip(t, name, raw, rnd.IntN(len(raw)), rnd.IntN(8))
}

func flip(t *testing.T, name string, raw []byte, at, bit int) string {
	t.Helper()
	raw[at] ^= 1 << bit
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d of byte %d of %d in %s", bit, at, len(raw), filepath.Base(name))
}

func tables(t *testing.T, b *rig.Box) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.Dir, "db", "index", "*.sst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("a stopped box has no tables: %v", err)
	}
	return files
}

// TestDamagedStart: a box with a damaged record does not start as if nothing
// were; it says what is wrong and leaves the disk as it is.
func TestDamagedStart(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	b := rig.NewBox(t, "Lone clinic", "standalone")
	b.Start()
	rid := b.Page().MustSave(rig.NewVisit(rnd, b.Page().Register("Baraka", "Rotten")))
	b.Stop()
	parts := storedParts(t, b)
	for _, p := range append(parts["body"], parts["pending body"]...) {
		if p.rid == rid {
			flipIn(t, rnd, b, p.bytes)
		}
	}
	if r := b.Command("", "verify", "--full"); r.Code != 3 || crashed(r) {
		t.Errorf("verify: exit code %d\n%s%s", r.Code, r.Out, r.Err)
	}
	if err := b.TryStart(); err == nil {
		t.Fatal("the box runs as if nothing were")
	}
	if code := b.WaitEnd(); code != 3 || !strings.Contains(b.LogTail(), "damaged: ") {
		t.Errorf("the box ended with exit code %d\n%s", code, b.LogTail())
	}
}
