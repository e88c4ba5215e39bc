package record_test

import (
	"fmt"
	"testing"

	"github.com/healthpost/healthpost/record"
)

// workday is a clinic's day of 344 records: 200 visits, 25 registrations, 60
// results, 25 key wraps, 16 batches of access records, 11 sessions, an opening
// record and 6 urgent referrals, by lane, with bodies of the usual length.
func workday(c *box) (opening record.Record, lanes [record.LaneCount][]record.Record) {
	opening = c.open()
	add := func(lane record.Lane, kind record.Kind, patient string, bodyBytes int) {
		var comp record.CompartmentID
		if patient != "" {
			comp = compartment(patient)
		}
		core := c.next(lane, kind, comp)
		if n := c.heads[record.LaneControl].N; kind.Sealed() && n > 0 {
			core.Session = n
		}
		r := c.sign(core, make([]byte, bodyBytes))
		c.heads[lane] = record.Head{N: r.Core.N, RID: r.RID()}
		lanes[lane] = append(lanes[lane], r)
	}
	for i := range 200 {
		patient := fmt.Sprint("patient ", i)
		if i%19 == 0 {
			r := c.session(staffKey(fmt.Sprint("nurse ", i%3)))
			lanes[record.LaneControl] = append(lanes[record.LaneControl], r)
		}
		if i%8 == 0 {
			add(record.LaneClinical, record.KindRegistration, patient, 313)
			add(record.LaneControl, record.KindKeyWrap, "", 180)
		}
		add(record.LaneClinical, record.KindClinical, patient, 601)
		if i%10 < 3 {
			add(record.LaneClinical, record.KindClinical, patient, 217)
		}
		if i%12 == 0 && i < 192 {
			add(record.LaneAudit, record.KindAccess, "", 441)
		}
		if i%33 == 5 {
			add(record.LaneControl, record.KindClinical, patient, 601)
		}
		if i%7 == 0 {
			c.size += 31 // the ledger as the box comes to know it
		}
	}
	return opening, lanes
}

func TestSizes(t *testing.T) {
	g := newRegion(t)
	c := g.clinics[0]
	c.size, c.millis = 4_600_000, startMillis
	opening, lanes := workday(c)

	var all []record.Record
	runs := record.AppendRun(nil, []record.Record{opening})
	all = append(all, opening)
	for _, records := range lanes {
		if len(records) > 0 {
			runs = record.AppendRun(runs, records)
		}
		all = append(all, records...)
	}
	if len(all) != 344 {
		t.Fatalf("got a day of %d records, want 344", len(all))
	}

	rest, restMax, bodies := 0, 0, 0
	for i := range all {
		n := len(all[i].EncodeHeader())
		rest, restMax, bodies = rest+n, max(restMax, n), bodies+len(all[i].Body)
	}
	if restMax > record.HeaderBytesMax {
		t.Errorf("header at rest: got %d bytes, want at most %d", restMax, record.HeaderBytesMax)
	}
	run := float64(len(runs)-bodies) / float64(len(all))
	if run > record.WireBytesMax {
		t.Errorf("header in a run: got %.1f bytes, want at most %d", run, record.WireBytesMax)
	}
	// Each alone is the worst case of a run: a frame of its own for one record.
	alone := 0
	for i := range all {
		alone = max(alone, len(record.AppendRun(nil, all[i:i+1]))-len(all[i].Body))
	}

	for _, out := range g.order(t, startMillis, all...) {
		if out.Verdict != record.Ordered {
			t.Fatalf("got %q, want ordered", out.Verdict)
		}
	}
	entries := g.entries[g.Size()-uint64(len(all)):]
	segment := record.AppendSegment(nil, entries, func(record.Position) bool { return false })
	seg := float64(len(segment)-bodies) / float64(len(all))
	if seg > record.WireBytesMax {
		t.Errorf("header in a segment: got %.1f bytes, want at most %d", seg, record.WireBytesMax)
	}
	known := record.AppendSegment(nil, entries, func(record.Position) bool { return true })
	named := float64(len(known)) / float64(len(all))
	if named > 4 {
		t.Errorf("a known record in a segment: got %.1f bytes, want at most 4", named)
	}
	leaves := 0
	for i := range entries {
		leaves += len(entries[i].EncodeLeaf())
	}
	t.Logf("%d records, bytes a record: header at rest %.1f (at most %d), leaf %.1f, in a run %.1f (alone at most %d), in a segment %.1f, known in a segment %.1f; the day is %d bytes on the wire, %d of them bodies",
		len(all), float64(rest)/float64(len(all)), restMax, float64(leaves)/float64(len(all)), run, alone, seg, named, len(runs), bodies)
}

// The longest header of an ordinary record: 65,535 records in one lane of an
// epoch, a ledger of four billion entries, the last kind, a body under 64 KiB.
func TestLongestOrdinaryHeader(t *testing.T) {
	c := newBox("clinic one")
	c.open()
	core := c.next(record.LaneBulk, 0xffff, compartment("a"))
	core.N, core.Session, core.Size, core.HLC, core.Clock = 65535, 65535, 1<<32-1, 1<<64-1, 4
	r := c.sign(core, make([]byte, 65535))
	if n := len(r.EncodeHeader()); n > record.HeaderBytesMax {
		t.Errorf("got %d bytes, want at most %d", n, record.HeaderBytesMax)
	}
}
