package fuzz_test

import (
	"html/template"
	"net/http"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/test/fuzz"
)

// watched is a test whose failures are counted instead of failing.
type watched struct {
	testing.TB
	failures int
}

func (w *watched) Errorf(string, ...any) { w.failures++ }

var kept []byte

func TestBoundedSeesWhatIsAllocated(t *testing.T) {
	for _, x := range []struct {
		bytes, input, want int
	}{{64 << 10, 10, 0}, {3 << 20, 10, 1}, {3 << 20, 1 << 20, 0}} {
		w := &watched{TB: t}
		fuzz.Bounded(w, x.input, func() { kept = make([]byte, x.bytes) })
		if w.failures != x.want {
			t.Errorf("%d bytes for an input of %d: got %d failures, want %d", x.bytes, x.input, w.failures, x.want)
		}
	}
	once := 0
	w := &watched{TB: t}
	fuzz.Bounded(w, 1, func() {
		if once++; once == 1 {
			kept = make([]byte, 3<<20) // a table that is made at the first reading
		}
	})
	if w.failures != 0 {
		t.Error("what is made once counts as the input's")
	}
}

func TestAnswerSeesMarkupFromOutside(t *testing.T) {
	page := func(text string) string { return "<!doctype html><p class=\"x\">" + text + "</p>" }
	for name, x := range map[string]struct {
		status int
		kind   string
		body   string
		header map[string]string
		good   bool
	}{
		"escaped":          {200, "text/html", page(template.HTMLEscapeString(fuzz.Marker)), nil, true},
		"in a text":        {200, "text/html", page(fuzz.Marker), nil, false},
		"in an attribute":  {200, "text/html", `<p class="` + fuzz.Marker + `">`, nil, false},
		"a bare attribute": {200, "text/html", `<p class=` + strings.Fields(fuzz.Marker)[1] + `>`, nil, false},
		"a script":         {200, "text/html", page("<script>alert(1)</script>"), nil, false},
		"an event":         {200, "text/html", `<p onclick="x">`, nil, false},
		"a link away":      {200, "text/html", `<a href="//evil.example">`, nil, false},
		"a script link":    {200, "text/html", `<a href="javascript:alert(1)">`, nil, false},
		"sent away":        {303, "text/plain", "", map[string]string{"Location": "//evil.example"}, false},
		"sent on":          {303, "text/plain", "", map[string]string{"Location": "/find?q=1"}, true},
		"blames the box":   {500, "text/plain", "x", nil, false},
		"full":             {507, "text/plain", "x", nil, true},
		"broken JSON":      {200, "application/json", `{"a":`, nil, false},
	} {
		h := http.Header{"Content-Type": {x.kind}, "X-Content-Type-Options": {"nosniff"}}
		for k, v := range x.header {
			h.Set(k, v)
		}
		if err := fuzz.Answer(x.status, h, []byte(x.body)); (err == nil) != x.good {
			t.Errorf("%s: got %v, want good %v", name, err, x.good)
		}
	}
	if err := fuzz.Answer(200, http.Header{"Content-Type": {"text/plain"}}, []byte("x")); err == nil {
		t.Error("a browser may guess the kind, and nothing is said")
	}
}
