package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/record/printed"
	"github.com/healthpost/healthpost/web"
)

func TestPrintedProofHoldsAndSaysNothing(t *testing.T) {
	c := newClinic(t)
	id := c.register("form-1", "Nakato")
	saved, err := c.n.SaveVisit(t.Context(), c.token, id, "form-2", fhir.Visit{At: time.Now(), Problem: "fever", Note: "drinks well"})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.n.Proof(t.Context(), c.token, saved.RID); err != nil && !errors.Is(err, web.ErrNotConfirmed) { // a box alone may be done already
		t.Fatalf("proof of a new record: %+v, %v", p, err)
	}
	c.confirmed()
	page, err := c.n.Proof(t.Context(), c.token, saved.RID)
	if err != nil {
		t.Fatal(err)
	}
	if page.RID != saved.RID || page.PatientID != id || page.Name != "Nakato Testova" || len(page.Hubs) != 1 || page.Hubs[0] != "Test box" || page.Signed.IsZero() {
		t.Errorf("page %+v", page)
	}
	if len(page.Payload) > web.ProofPayloadMax {
		t.Errorf("a proof of %d letters does not fit its code", len(page.Payload))
	}
	file, err := printed.FromQR(page.Payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"Nakato", "Testova", "fever", "drinks", "Mbale", "Amina"} {
		if strings.Contains(string(file), secret) {
			t.Errorf("the proof holds %q", secret)
		}
	}
	proof, err := record.DecodeProof(file)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := c.n.Keys()
	if err != nil {
		t.Fatal(err)
	}
	region, hubs, err := keys.IDs()
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := proof.Verify(region, hubs)
	if err != nil {
		t.Fatalf("what was printed does not hold: %v", err)
	}
	if got := e.Record.RID().String(); got != saved.RID {
		t.Errorf("it proves record %s, want %s", got, saved.RID)
	}
}

func TestProofsOfNothing(t *testing.T) {
	c := newClinic(t)
	for _, text := range []string{"", "00", strings.Repeat("0", 64), strings.Repeat("Z", 64), "../../etc"} {
		if _, err := c.n.Proof(t.Context(), c.token, text); !errors.Is(err, web.ErrNotFound) {
			t.Errorf("%q: %v, want not found", text, err)
		}
	}
	gone := web.Session{Token: "none"}
	_, err1 := c.n.Proof(t.Context(), gone, strings.Repeat("0", 64))
	_, err2 := c.n.RootSheet(t.Context(), gone)
	err3 := c.n.SeenFault(t.Context(), gone, "restored")
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, web.ErrNotSignedIn) {
			t.Errorf("without a session: %v", err)
		}
	}
}

func TestRootSheetIsTheNewestCheckpoint(t *testing.T) {
	c := newClinic(t)
	c.register("form-1", "Nakato")
	c.confirmed()
	page, err := c.n.RootSheet(t.Context(), c.token)
	if err != nil {
		t.Fatal(err)
	}
	root, err := printed.Parse(page.Line)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if root.Head.Size != s.Confirmed || page.Size != s.Confirmed || page.Day != time.Unix(root.Day*24*60*60, 0).UTC().Format(time.DateOnly) || !strings.HasPrefix(s.Region, page.RegionID) {
		t.Errorf("sheet %+v of a box with %+v", page, s)
	}
	if head, err := printed.ParseWords(page.Size, page.Words); err != nil || head != root.Head {
		t.Errorf("words give %+v, %v; the line %+v", head, err, root.Head)
	}
}

func TestLastingFaultsAreNotDismissed(t *testing.T) {
	c := newClinic(t)
	for code, want := range map[string]error{"split_view": web.ErrRefused, "stale_view": web.ErrRefused, "restored": nil, "no such code": nil, "x/../y": nil} {
		if err := c.n.SeenFault(t.Context(), c.token, code); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", code, err, want)
		}
	}
}

// codePattern finds the codes of faults that this package's files name.
var codePattern = regexp.MustCompile(`\bnotice[A-Z]\w*\s*=\s*"([a-z_]+)"|web\.Fault\{Code: "([a-z_]+)"`)

func TestThePageHasWordsForEveryFault(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range codePattern.FindAllStringSubmatch(string(text), -1) {
			found++
			if code := m[1] + m[2]; !web.FaultKnown(code) {
				t.Errorf("%s: the page has no words for %q", name, code)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d codes found: the pattern no longer fits the files", found)
	}
}
