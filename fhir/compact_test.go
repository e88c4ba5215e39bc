package fhir_test

import (
	"testing"

	"github.com/healthpost/healthpost/fhir"
)

func TestCompact(t *testing.T) {
	for _, tc := range []struct{ raw, want string }{
		{"{\n  \"a\" : [ 1.50 , -0 ],\t\"b\": \" two  \\\" spaces \\\\\"\r\n}", `{"a":[1.50,-0],"b":" two  \" spaces \\"}`},
		{`{"a":1}`, `{"a":1}`},
		{`{ "a": 1e0, "c": "\u00e9 \/" }`, `{"a":1e0,"c":"\u00e9 \/"}`},
		{`{ "not": json }`, `{ "not": json }`},
		{`{"a": 1 2}`, `{"a": 1 2}`},
		{``, ``},
	} {
		if got := string(fhir.Compact([]byte(tc.raw))); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.raw, got, tc.want)
		}
	}
}

func FuzzCompact(f *testing.F) {
	f.Add([]byte("{ \"a\" : [ 1.50 , \"x \\\" y\" ] }"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := fhir.Compact(b)
		if !fhir.JSONEqual(b, b) {
			if string(got) != string(b) {
				t.Errorf("what does not parse was changed: %q", got)
			}
			return
		}
		if !fhir.JSONEqual(got, b) || string(fhir.Compact(got)) != string(got) {
			t.Errorf("got %q of %q", got, b)
		}
	})
}
