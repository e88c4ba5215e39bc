package web_test

import (
	"io/fs"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/web"
)

func catalogues(t *testing.T) map[string]*web.Catalogue {
	t.Helper()
	all, err := web.LoadCatalogues()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCataloguesHaveTheSameKeys(t *testing.T) {
	all := catalogues(t)
	if len(all) != 2 {
		t.Fatalf("%d catalogues, want 2", len(all))
	}
	en := all["en"]
	for language, c := range all {
		if diff := cmp.Diff(en.Keys(), c.Keys()); diff != "" {
			t.Errorf("keys of %s differ from en:\n%s", language, diff)
		}
	}
	for _, key := range en.Keys() {
		if got, want := holes(all["fr"].Text(key)), holes(en.Text(key)); !cmp.Equal(got, want) {
			t.Errorf("%s: values %v in fr, %v in en", key, got, want)
		}
	}
}

var hole = regexp.MustCompile(`\{\d\}`)

func holes(text string) []string {
	found := hole.FindAllString(text, -1)
	sort.Strings(found)
	return found
}

func TestMissingWordsFallBackAndAreCounted(t *testing.T) {
	en := catalogues(t)["en"]
	sw, err := web.ParseCatalogue("sw", "[menu]\ntoday = \"Leo\"\n")
	if err != nil {
		t.Fatal(err)
	}
	web.SetFallback(sw, en)
	for key, want := range map[string]string{"menu.today": "Leo", "menu.find": "Find", "no.such.key": "no.such.key"} {
		if got := sw.Text(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if got := sw.Missing(); got != 2 {
		t.Errorf("%d missing, want 2", got)
	}
	if _, err := web.ParseCatalogue("xx", "[menu]\ntoday = 3\n"); err == nil {
		t.Error("a number was taken as words")
	}
}

func TestWordsUsedByTemplatesExist(t *testing.T) {
	en := catalogues(t)["en"]
	used := regexp.MustCompile(`\b(t|tn) "([a-z0-9_.]+)"|\(field \$?[a-zA-Z.]* "[a-zA-Z_]+" "([a-z_.]+)" "[a-z]+" "" "([a-z_.]*)"`)
	names, err := fs.Glob(web.TemplateFiles, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	console, err := fs.Glob(web.TemplateFiles, "templates/console/*.html")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range append(names, console...) {
		text, err := fs.ReadFile(web.TemplateFiles, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range used.FindAllStringSubmatch(string(text), -1) {
			for _, key := range []string{m[2], m[3], m[4]} {
				found++
				if m[1] == "tn" && key != "" {
					key += ".other"
				}
				if key != "" && !en.Has(key) {
					t.Errorf("%s uses %q, which is not in the catalogue", name, key)
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d uses found: the pattern no longer fits the templates", found)
	}
}

func TestCodesOfFormsHaveWords(t *testing.T) {
	en := catalogues(t)["en"]
	var keys []string
	for _, code := range []string{fhir.CodeRequired, fhir.CodeTooLong, fhir.CodeText, fhir.CodeChoice, fhir.CodeDate, fhir.CodeFuture, fhir.CodeNumber,
		fhir.CodeRange, fhir.CodeUnusual, fhir.CodePair, fhir.CodePressure, fhir.CodeEmptyForm} {
		keys = append(keys, code)
	}
	for _, m := range fhir.Measures {
		keys = append(keys, "measure."+m.Field)
	}
	for _, c := range fhir.DangerSigns {
		keys = append(keys, "danger."+c.Code)
	}
	for _, c := range fhir.Problems {
		keys = append(keys, "problem."+c.Code)
	}
	for _, key := range keys {
		if !en.Has(key) {
			t.Errorf("no words for %q", key)
		}
	}
}

// sentenceWordsMax keeps sentences short enough to be read standing up.
const sentenceWordsMax = 12

func TestSentencesAreShortAndPlain(t *testing.T) {
	for language, c := range catalogues(t) {
		for _, key := range c.Keys() {
			text := c.Text(key)
			for _, sentence := range regexp.MustCompile(`[.:?!]\s+`).Split(text, -1) {
				if n := len(strings.Fields(sentence)); n > sentenceWordsMax && language == "en" {
					t.Errorf("%s: %d words in %q, want at most %d", key, n, sentence, sentenceWordsMax)
				}
			}
			for _, word := range []string{"sync", "upload", "error 5", "*", "please contact your administrator", "invalid input"} {
				if strings.Contains(strings.ToLower(text), word) {
					t.Errorf("%s in %s holds %q", key, language, word)
				}
			}
		}
	}
}

func TestPlurals(t *testing.T) {
	all := catalogues(t)
	for _, c := range []struct {
		language string
		n        int
		want     string
	}{{"en", 0, "0 persons found"}, {"en", 1, "1 person found"}, {"en", 2, "2 persons found"}, {"fr", 0, "0 personne trouvée"}, {"fr", 1, "1 personne trouvée"}, {"fr", 2, "2 personnes trouvées"}} {
		if got := all[c.language].Count("find.found", c.n); got != c.want {
			t.Errorf("%s %d: %q, want %q", c.language, c.n, got, c.want)
		}
	}
}

func TestSyncLineSaysWhatMattersMost(t *testing.T) {
	en := catalogues(t)["en"]
	for _, c := range []struct {
		counts     web.Counts
		kind, text string
	}{
		{web.Counts{}, "saved", "Nothing is recorded yet"},
		{web.Counts{Pending: 40, OnlyHere: 41, VisitsOnlyHere: 37, Shared: 2, Confirmed: 9}, "saved", "37 visits exist only in this building"},
		{web.Counts{Pending: 1, OnlyHere: 1, Confirmed: 9}, "saved", "1 record exists only in this building"},
		{web.Counts{Shared: 3, OnlyHere: 3, VisitsOnlyHere: 2, Confirmed: 9}, "saved", "2 visits exist only in this building"},
		{web.Counts{Pending: 1, OnlyHere: 1, VisitsOnlyHere: 1, Mobile: true}, "saved", "1 visit exists only on this device"},
		{web.Counts{FilesOnlyHere: 1, Confirmed: 9}, "saved", "1 photo or document exists only on this box"},
		{web.Counts{Shared: 2, Confirmed: 9}, "copied", "2 records are copied and wait for their place"},
		{web.Counts{Confirmed: 9}, "confirmed", "Everything is in the regional record"},
		{web.Counts{Refused: 1, Confirmed: 9}, "refused", "1 record was not accepted"},
		{web.Counts{Refused: 1, Pending: 2, OnlyHere: 2, VisitsOnlyHere: 2}, "refused", "1 record was not accepted. 2 visits exist only in this building"},
	} {
		if kind, text := web.LineWords(en, c.counts); kind != c.kind || text != c.text {
			t.Errorf("%+v: %s %q, want %s %q", c.counts, kind, text, c.kind, c.text)
		}
	}
}

func TestEveryWhyHasWords(t *testing.T) {
	for language, c := range catalogues(t) {
		for _, code := range web.WhyCodes {
			if !c.Has("why."+code+".what") || !c.Has("why."+code+".do") {
				t.Errorf("%s has no words for why nothing moves: %q", language, code)
			}
		}
	}
}

func TestEveryRefusalHasWords(t *testing.T) {
	for language, c := range catalogues(t) {
		for v := record.Ordered; v <= record.Frozen; v++ {
			if v.Final() && !c.Has("refusal."+strings.ReplaceAll(v.String(), " ", "_")) {
				t.Errorf("%s has no words for a record refused as %q", language, v)
			}
		}
		if got := web.RefusalWords(c, "a new reason"); !strings.Contains(got, "(a new reason)") {
			t.Errorf("%s: an unknown reason reads %q", language, got)
		}
	}
}
