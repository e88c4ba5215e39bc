package link_test

import (
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/link"
)

// TestLink holds small forms of the figures: one clinic and one hub, links as bad
// as those of the figures, less to send. Bounds have room for a busy machine where
// time counts and none where bytes do.
func TestLink(t *testing.T) {
	r := newLine(t, 1)
	patient := at(r.clinic).day(r.rnd, 1)
	r.same(time.Minute)
	up, down := gprs()
	r.part(t, "nothing new", func(t *testing.T) {
		r.unplug()
		x := r.exchange(up, down, time.Minute)
		x.report(t)
		most(t, "bytes of frames up", x.application.up.Bytes, 400)
		most(t, "bytes of frames down", x.application.down.Bytes, 400)
		most(t, "bytes on the wire", x.wire(), 6500)
	})
	r.part(t, "one urgent record", func(t *testing.T) {
		r.unplug()
		rid := at(r.clinic).save(r.rnd, patient, urgentVisit)
		x := r.exchangeOf(up, down, time.Minute, rid)
		x.report(t)
		most(t, "bytes on the wire", x.wire(), 9000)
		most(t, "seconds to the hub", int64(x.urgent.Seconds()), 12)
	})
	r.part(t, "a morning and an urgent record", func(t *testing.T) {
		r.unplug()
		at(r.clinic).day(r.rnd, 8)
		records := int64(r.clinic.Status().Pending)
		x := r.exchangeWith(up, down, time.Minute, patient)
		x.report(t)
		most(t, "bytes on the wire a record", (x.wire()-6500)/records, 700)
		most(t, "seconds of the urgent record", int64(x.urgent.Seconds()), 10)
	})
	r.part(t, "10 kbit/s and every tenth packet lost", func(t *testing.T) {
		r.unplug()
		at(r.clinic).day(r.rnd, 2)
		up, down := both(link.Path{Rate: 10_000, Delay: 200 * time.Millisecond, Loss: 0.1, Queue: deepQueue})
		r.exchange(up, down, 2*time.Minute).report(t)
	})
	r.part(t, "cuts", func(t *testing.T) {
		up, down := both(link.Path{Rate: 128_000, Delay: 60 * time.Millisecond, Queue: deepQueue})
		f := r.measureCuts(r.visits(10), 3, up, down, time.Minute)
		t.Logf("%+v: ratio %.2f, %d bytes a cut", f, f.ratio(), f.lost())
		if f.cuts == 0 {
			t.Error("the link was never cut")
		}
		most(t, "bytes sent twice for a cut, besides its greeting", f.lost(), 8<<10)
	})
	for _, b := range r.boxes() {
		b.Verify()
	}
}

// part is a subtest on the region of the whole test. Over an unshaped link all boxes
// end with the same.
func (r *line) part(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	if !t.Run(name, func(t *testing.T) {
		f(t)
		r.Shape(link.Path{}, link.Path{})
		r.same(time.Minute)
	}) {
		t.FailNow()
	}
}

func most(t *testing.T, what string, got, want int64) {
	t.Helper()
	if got > want {
		t.Errorf("%d %s, want at most %d", got, what, want)
	}
}
