package record_test

import (
	"testing"

	"github.com/healthpost/healthpost/record"
	"pgregory.net/rapid"
)

// How records are cut into batches, how often each is handed in and what refused
// ones stand between them decides nothing; a revocation stands from its place on,
// whatever the order, and nothing of the device after it gets a leaf.
func TestBatchingChangesNothing(tt *testing.T) {
	rapid.Check(tt, func(t *rapid.T) {
		g, cut := newRegion(tt), newRegion(tt)
		var records []record.Record
		revoked := 0 // how many had been written when the first clinic was revoked; 0 for never
		for i := range rapid.IntRange(1, 16).Draw(t, "records") {
			c := g.clinics[rapid.IntRange(0, len(g.clinics)-1).Draw(t, "clinic")]
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				if revoked == 0 && i > 0 {
					records = append(records, g.hubs[0].revoke(g.clinics[0]))
					revoked = len(records)
				}
			case 1:
				records = append(records, g.hubs[1].visit("h", "hub"))
			default:
				records = append(records, c.visit(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "patient"), "x"))
			}
		}
		whole := g.order(tt, startMillis, records...)
		for len(records) > 0 {
			n := rapid.IntRange(1, len(records)).Draw(t, "batch")
			batch := append([]record.Record{}, records[:n]...)
			if rapid.Bool().Draw(t, "twice") {
				batch = append(batch, records[:n]...)
			}
			cut.order(tt, startMillis, batch...)
			records = records[n:]
		}
		if g.head() != cut.head() {
			t.Fatalf("in one batch: %v, cut up: %v", g.head(), cut.head())
		}
		if revoked > 0 {
			from := g.Size()
			for i := range whole[revoked:] {
				if whole[revoked+i].Verdict == record.Ordered {
					from--
				}
			}
			for _, e := range g.entries[from:] {
				if e.Record.Core.Epoch == g.clinics[0].epoch {
					t.Fatalf("entry %d is of a device that was revoked before it", e.Seq)
				}
			}
		}
	})
}
