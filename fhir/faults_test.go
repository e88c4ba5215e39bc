package fhir_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/healthpost/healthpost/fhir"
)

// Every fault is refused with the element named, every untouched control accepted. The faults were put in by others.
func TestSingleFaults(t *testing.T) {
	f, err := os.Open("../test/testdata/fhir/single-faults.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	count := map[string]int{}
	for lines.Scan() {
		var c struct {
			ID, Mutation, Expect string
			Resource             json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		count[c.Expect]++
		_, err := fhir.ParseResource(c.Resource)
		var e *fhir.ResourceError
		switch {
		case c.Expect == "accept" && err != nil:
			t.Errorf("%s %s: %v", c.ID, c.Mutation, err)
		case c.Expect == "reject" && !errors.As(err, &e):
			t.Errorf("%s %s: accepted", c.ID, c.Mutation)
		case c.Expect == "reject" && e.Element == "":
			t.Errorf("%s %s: no element in %v", c.ID, c.Mutation, err)
		}
	}
	if count["accept"] < 10 || count["reject"] < 100 {
		t.Errorf("cases %v", count)
	}
}
