package record_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/record"
)

// benchRecords is a run of visits with bodies of 1 KiB.
func benchRecords(b *testing.B, g *region, n int) []record.Record {
	b.Helper()
	out := make([]record.Record, 0, n)
	for i := range n {
		out = append(out, g.clinics[0].write(record.LaneClinical, record.KindClinical, compartment(string(rune('a'+i%26))), make([]byte, 1024)))
	}
	return out
}

func BenchmarkSign(b *testing.B) {
	g := newRegion(b)
	core, body := g.clinics[0].next(record.LaneClinical, record.KindClinical, compartment("a")), make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		record.Sign(core, body, g.clinics[0].key)
	}
}

func BenchmarkVerify(b *testing.B) {
	g := newRegion(b)
	r := benchRecords(b, g, 1)[0]
	b.ReportAllocs()
	for b.Loop() {
		if r.VerifyBody() != nil || r.VerifySignature(g.clinics[0].id) != nil {
			b.Fatal("a sound record does not verify")
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	r := benchRecords(b, newRegion(b), 1)[0]
	b.ReportAllocs()
	for b.Loop() {
		r.EncodeHeader()
	}
}

func BenchmarkDecode(b *testing.B) {
	r := benchRecords(b, newRegion(b), 1)[0]
	header := r.EncodeHeader()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := record.DecodeHeader(header); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadRun(b *testing.B) {
	g := newRegion(b)
	prev := g.clinics[0].opened
	records := benchRecords(b, g, 64)
	frame := record.AppendRun(nil, records)
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		if _, err := record.ReadRun(frame, func(record.Position) (record.RID, bool) { return prev, true }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/record")
}

func benchmarkAdd(b *testing.B, verified func(record.RID, [64]byte) bool) {
	g := newRegion(b)
	records := benchRecords(b, g, 256)
	b.ReportAllocs()
	for b.Loop() {
		o := record.NewOrderer(g, verified)
		for _, r := range records {
			if out, err := o.Add(startMillis/1000, r); err != nil || out.Verdict != record.Ordered {
				b.Fatal(out, err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/record")
}

func BenchmarkOrdererAdd(b *testing.B) { benchmarkAdd(b, nil) }

func BenchmarkOrdererAddVerified(b *testing.B) {
	benchmarkAdd(b, func(record.RID, [64]byte) bool { return true })
}

// BenchmarkVote is a hub that keeps voting, with as many large proposals open as
// three hubs may have.
func BenchmarkVote(b *testing.B) {
	g := newRegion(b)
	vote := func(h *box, i int) record.Record {
		m := newBox(fmt.Sprintf("%s wants %d", h.name, i)).member(record.RoleHub)
		for range 16 {
			m.Addresses = append(m.Addresses, strings.Repeat("a", 256))
		}
		return h.write(record.LaneControl, record.KindMemberAdd, record.CompartmentID{}, mustMarshal(m))
	}
	for _, h := range g.hubs {
		for i := range 8 {
			g.mustOrder(b, vote(h, i))
		}
	}
	var records []record.Record
	for i := range 64 {
		records = append(records, vote(g.hubs[0], 8+i))
	}
	b.ReportAllocs()
	for b.Loop() {
		o := record.NewOrderer(g, func(record.RID, [64]byte) bool { return true })
		for _, r := range records {
			if out, err := o.Add(startMillis/1000, r); err != nil || out.Verdict != record.Ordered {
				b.Fatal(out, err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/record")
}
