package fhir_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/fhir"
)

// bundles reads the test bundles; the map is by file name.
func bundles(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../test/testdata/fhir/*.json")
	if err != nil || len(files) < 7 {
		t.Fatalf("found %d test bundles, %v", len(files), err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = raw
	}
	return out
}

func nobody(string) (string, bool) { return "", false }

func TestReadBundleTakesRealFilesByteForByte(t *testing.T) {
	for name, raw := range bundles(t) {
		b, err := fhir.ReadBundle(bytes.NewReader(raw), 1<<20)
		if err != nil || len(b.Refused) > 0 {
			t.Errorf("%s: %v, refused %v", name, err, b.Refused)
			continue
		}
		if want := bytes.Count(raw, []byte(`"fullUrl"`)); len(b.Entries) != want {
			t.Errorf("%s: %d entries, want %d", name, len(b.Entries), want)
		}
		at := 0
		for _, e := range b.Entries {
			i := bytes.Index(raw[at:], e.Resource.JSON)
			if i < 0 {
				t.Fatalf("%s: bytes of %s are not in the file after byte %d", name, e.Resource.Name(), at)
			}
			at += i + len(e.Resource.JSON)
		}
	}
}

func TestReadBundleRefusesFiles(t *testing.T) {
	for _, c := range []struct {
		name, raw string
		want      error
	}{
		{"not JSON", `hello`, fhir.ErrNotBundle},
		{"resource", `{"resourceType":"Patient","type":"x"}`, fhir.ErrNotBundle},
		{"no type", `{"resourceType":"Bundle"}`, fhir.ErrNotBundle},
		{"history", `{"resourceType":"Bundle","type":"history"}`, fhir.ErrBundleType},
		{"entry twice", `{"resourceType":"Bundle","type":"batch","entry":[],"entry":[]}`, fhir.ErrNotBundle},
		{"entry an object", `{"resourceType":"Bundle","type":"batch","entry":{}}`, fhir.ErrNotBundle},
		{"more after the end", `{"resourceType":"Bundle","type":"batch"} x`, fhir.ErrNotBundle},
		{"too large", `{"resourceType":"Bundle","type":"batch","language":"` + strings.Repeat("a", 5000) + `"}`, fhir.ErrTooLarge},
		{"cut off", `{"resourceType":"Bundle","type":"batch","entry":[{"resource":`, nil},
	} {
		_, err := fhir.ReadBundle(strings.NewReader(c.raw), 4096)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestReadBundleGoesOnAfterABadEntry(t *testing.T) {
	raw := `{"resourceType":"Bundle","type":"batch","entry":[
		{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Patient","gender":7}},
		{"resource":{"resourceType":"Patient","id":"b"}},
		{"request":{"method":"DELETE","url":"Patient/b"}},
		{"fullUrl":"urn:uuid:4"}, 7]}`
	b, err := fhir.ReadBundle(strings.NewReader(raw), 4096)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Entries) != 1 || b.Entries[0].Resource.ID != "b" || b.Entries[0].Index != 1 {
		t.Errorf("entries %+v", b.Entries)
	}
	var refused []string
	for _, r := range b.Refused {
		refused = append(refused, r.Resource)
	}
	if got, want := strings.Join(refused, " "), "urn:uuid:1 entry[2] urn:uuid:4 entry[4]"; got != want {
		t.Errorf("refused %q, want %q", got, want)
	}
}

func TestReadNDJSON(t *testing.T) {
	raw := "{\"resourceType\":\"Patient\",\"id\":\"a\"}\n{\"resourceType\":\"Nothing\"}\n{\n \"resourceType\":\"Patient\",\n \"id\":\"b\"}\n"
	b, err := fhir.ReadNDJSON(strings.NewReader(raw), 4096)
	if err != nil || len(b.Entries) != 2 || len(b.Refused) != 1 || b.Entries[1].Resource.ID != "b" {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err := fhir.ReadNDJSON(strings.NewReader(raw), 20); !errors.Is(err, fhir.ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
}
