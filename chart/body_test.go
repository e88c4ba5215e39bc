package chart_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/fhir/sample"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// helper is what testing.T and rapid.T share.
type helper interface {
	Helper()
	Fatal(...any)
}

func resource(t helper, raw string) fhir.Resource {
	t.Helper()
	r, err := fhir.ParseResource([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBodyComesBackByteForByte(t *testing.T) {
	r := resource(t, `{ "resourceType" : "Observation", "id":"o", "status":"final", "code":{"text":"\u0041"}, "valueQuantity":{"value":1.50}}`)
	r.FullURL = "http://a.example/Observation/o"
	base := chart.RefOf(record.RID{1, 2, 3, 4, 5, 6, 7, 8, 9}, 513)
	want := chart.Body{Reason: "wrong child", Items: []chart.Item{chart.PutItem(r, base),
		{Op: chart.OpRetract, Type: "Observation", ID: "x", FullURL: "urn:x", Base: []chart.Ref{base}}}}
	enc, err := chart.EncodeBody(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := chart.DecodeBody(enc)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
	}
	if enc[0] != 1 {
		t.Errorf("version byte %d", enc[0])
	}
}

func TestEncodeBodyRefuses(t *testing.T) {
	put := chart.PutItem(resource(t, `{"resourceType":"Patient","id":"p"}`))
	ref := chart.Ref{Index: 1}
	many := make([]chart.Ref, chart.BasesMax+1)
	for i := range many {
		many[i].Index = uint16(i)
	}
	for name, b := range map[string]chart.Body{
		"nothing":           {},
		"too many":          {Items: slicesRepeat(put, chart.ItemsMax+1)},
		"long reason":       {Reason: strings.Repeat("a", chart.ReasonSizeMax+1), Items: []chart.Item{put}},
		"reason not UTF-8":  {Reason: "\xff", Items: []chart.Item{put}},
		"no operation":      {Items: []chart.Item{{JSON: put.JSON}}},
		"put of nothing":    {Items: []chart.Item{{Op: chart.OpPut}}},
		"retract nothing":   {Items: []chart.Item{{Op: chart.OpRetract, Type: "Patient"}}},
		"retract no type":   {Items: []chart.Item{{Op: chart.OpRetract, Type: "Thing", Base: []chart.Ref{ref}}}},
		"retract + content": {Items: []chart.Item{{Op: chart.OpRetract, Type: "Patient", Base: []chart.Ref{ref}, JSON: put.JSON}}},
		"base twice":        {Items: []chart.Item{{Op: chart.OpPut, Base: []chart.Ref{ref, ref}, JSON: put.JSON}}},
		"too many bases":    {Items: []chart.Item{{Op: chart.OpPut, Base: many, JSON: put.JSON}}},
	} {
		if _, err := chart.EncodeBody(b); !errors.Is(err, chart.ErrBody) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func slicesRepeat(it chart.Item, n int) []chart.Item {
	out := make([]chart.Item, n)
	for i := range out {
		out[i] = it
	}
	return out
}

func TestDecodeBodyRefusesOtherFormsOfTheSame(t *testing.T) {
	enc, err := chart.EncodeBody(chart.Body{Items: []chart.Item{chart.PutItem(resource(t, `{"resourceType":"Patient","id":"p"}`))}})
	if err != nil {
		t.Fatal(err)
	}
	long := append([]byte{1, 0x98, 0x02}, enc[2:]...) // the outer array with a two byte length
	for name, b := range map[string][]byte{"empty": {}, "version": append([]byte{2}, enc[1:]...), "longer": append(bytes.Clone(enc), 0),
		"cut": enc[:len(enc)-1], "not shortest": long, "no resource": bytes.Replace(enc, []byte("Patient"), []byte("Patienz"), 1)} {
		if _, err := chart.DecodeBody(b); !errors.Is(err, chart.ErrBody) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefText(t *testing.T) {
	want := chart.Ref{RID: [8]byte{0xab, 1}, Index: 65535}
	got, err := chart.ParseRef(want.String())
	if err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "ab01000000000000", "ab01000000000000.65536", "AB01000000000000.1", "ab01000000000000.01", "xx01000000000000.1"} {
		if _, err := chart.ParseRef(s); err == nil {
			t.Errorf("accepted %q", s)
		}
	}
}

func FuzzDecodeBody(f *testing.F) {
	saves, err := sample.One(1, 1).Resources()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range saves[:2] {
		b, err := chart.EncodeBody(chart.Body{Reason: "r", Items: chart.PutItems(s)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, err := chart.EncodeBody(chart.Body{Items: []chart.Item{{Op: chart.OpRetract, Type: "Patient", ID: "p", Base: []chart.Ref{{Index: 3}}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	if b, err = chart.EncodeBody(withPhoto()); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, raw []byte) {
		fuzz.Bounded(t, len(raw), func() { chart.DecodeBody(raw) })
		b, err := chart.DecodeBody(raw)
		if err != nil {
			return
		}
		again, err := chart.EncodeBody(b)
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("encodes to other bytes: %v", err)
		}
		c := chart.Fold([]chart.Opened{{RID: record.RID{1}, Body: b}, {RID: record.RID{2}, Body: b}})
		if len(c.Lines) == 0 {
			t.Fatal("items without a line")
		}
	})
}

func FuzzDecodeRow(f *testing.F) {
	b, err := chart.EncodeRow(chart.Row{Given: "Amina", LastVisit: "2026-03-01"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, raw []byte) {
		fuzz.Bounded(t, len(raw), func() { chart.DecodeRow(raw) })
		r, err := chart.DecodeRow(raw)
		if err != nil {
			return
		}
		if again, err := chart.EncodeRow(r); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("encodes to other bytes: %v", err)
		}
	})
}
