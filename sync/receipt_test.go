package peersync_test

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// promises has the hub sign receipts and gives what the clinics keep of them.
type promises struct {
	mu   sync.Mutex // guards kept
	kept []record.Receipt
}

func (p *promises) list() []record.Receipt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.kept)
}

func (w *world) promising(by ed25519.PrivateKey, region record.RegionID) *promises {
	p := &promises{}
	w.tweak = func(m *memory, o *peersync.Options) {
		if m.self == w.hub.self {
			o.Receipt = func(heads []record.ReceiptHead) (record.Receipt, bool) {
				return record.SignReceipt(region, w.now, w.now+86400, heads, by), true
			}
			return
		}
		o.TakeReceipt = func(from record.DeviceID, r record.Receipt) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.kept = append(p.kept, r)
			return nil
		}
	}
	return p
}

func TestHubPromises(t *testing.T) {
	w := newWorld(t, 50, 2)
	p := w.promising(w.hubKey, w.region)
	c := w.clinics[0]
	w.save(c, record.LaneClinical, 20)
	w.save(c, record.LaneControl, 2)
	_, x, err := w.meet(c.memory, w.hub, noLimit)
	if err != nil {
		t.Fatal(err)
	}
	last := map[record.Feed]record.ReceiptHead{}
	for _, r := range p.list() {
		if err := r.Verify(w.region); err != nil || r.Hub != w.hub.self || r.Taken != w.now || r.By != w.now+86400 {
			t.Errorf("receipt %+v: %v", r, err)
		}
		for _, h := range r.Heads {
			last[h.Feed()] = h
		}
	}
	for lane, n := range map[record.Lane]uint64{record.LaneClinical: 20, record.LaneControl: 2} {
		h := last[record.Feed{Epoch: c.author.epoch, Lane: lane}]
		if h.N != n || h.RID != c.author.heads[lane].RID {
			t.Errorf("lane %d is promised up to n %d, want %d", lane, h.N, n)
		}
	}
	t.Logf("%d receipts for %d frames of pending records", x.frames[peersync.TypeReceipt], x.frames[peersync.TypePending])
	// Nothing new: nothing promised again. Neighbours promise nothing.
	kept := len(p.list())
	for _, peer := range []*memory{w.hub, w.clinics[1].memory} {
		if _, x, err = w.meet(c.memory, peer, noLimit); err != nil || x.frames[peersync.TypeReceipt] != 0 {
			t.Errorf("%d receipts more, %v", x.frames[peersync.TypeReceipt], err)
		}
	}
	if n := len(p.list()); n != kept {
		t.Errorf("%d receipts, want %d", n, kept)
	}
	// Ordered with the rest, it is evidence of nothing; a promise about a neighbour's
	// records goes to whoever brought them.
	w.save(w.clinics[1], record.LaneBulk, 3)
	for _, pair := range [][2]*memory{{w.clinics[1].memory, c.memory}, {c.memory, w.hub}} {
		if _, _, err := w.meet(pair[0], pair[1], noLimit); err != nil {
			t.Fatal(err)
		}
	}
	list := p.list()
	if r := list[len(list)-1]; r.Heads[len(r.Heads)-1].Epoch != w.clinics[1].author.epoch {
		t.Errorf("the carrier heard of %+v", r.Heads)
	}
}

// TestReceiptsAreGathered: a day's records over a slow link bring a few receipts.
func TestReceiptsAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 51, 1)
		p := w.promising(w.hubKey, w.region)
		c := w.clinics[0]
		w.save(c, record.LaneClinical, 250)
		line := lay(350*time.Millisecond, 2500, -1)
		m := w.begin(c.memory, w.hub, line, 0)
		<-m.settled[0]
		time.Sleep(time.Minute)
		day := p.list()
		if len(day) == 0 || len(day) > 8 {
			t.Errorf("%d receipts for 250 records", len(day))
		}
		if h := day[len(day)-1].Heads; h[len(h)-1].N != 250 {
			t.Errorf("promised up to %+v", h)
		}
		before := line.moved()
		w.save(c, record.LaneClinical, 1)
		time.Sleep(3 * time.Second)
		if n := len(p.list()) - len(day); n != 1 {
			t.Errorf("%d receipts for one visit within three seconds, want 1", n)
		}
		t.Logf("%d receipts for 250 records; one visit with its receipt took %d bytes", len(day), line.moved()-before)
		m.end()
	})
}

func TestHostileReceipts(t *testing.T) {
	w := newWorld(t, 52, 1)
	p := w.promising(w.hubKey, w.region)
	c := w.clinics[0]
	w.save(c, record.LaneClinical, 3)
	epoch, rid := c.author.epoch, c.author.heads[record.LaneClinical].RID
	pos := record.Position{Epoch: epoch, Lane: record.LaneClinical, N: 3}
	wire := func(r record.Receipt) []any {
		heads := []any{}
		for _, h := range r.Heads {
			heads = append(heads, []any{h.Epoch[:], uint64(h.Lane), h.N})
		}
		return []any{r.Taken, r.By, heads, r.Sig[:]}
	}
	sign := func(region record.RegionID, rid record.RID, key ed25519.PrivateKey, change func(m []any)) []any {
		m := wire(record.SignReceipt(region, 100, 200, []record.ReceiptHead{{Position: pos, RID: rid}}, key))
		change(m)
		return m
	}
	keep := func([]any) {}
	many := make([]any, record.ReceiptHeadsMax+1)
	for i := range many {
		many[i] = []any{make([]byte, 16), uint64(0), uint64(i)}
	}
	for _, x := range []struct {
		name string
		m    []any
		kept int
		want error
	}{
		{"true", sign(w.region, rid, w.hubKey, keep), 1, nil},
		{"another region", sign(record.RegionID{1}, rid, w.hubKey, keep), 0, peersync.ErrMisbehaved},
		{"another record", sign(w.region, record.RID{1}, w.hubKey, keep), 0, peersync.ErrMisbehaved},
		{"another hub", sign(w.region, rid, c.key, keep), 0, peersync.ErrMisbehaved},
		{"a later time", sign(w.region, rid, w.hubKey, func(m []any) { m[1] = int64(300) }), 0, peersync.ErrMisbehaved},
		{"a record not held", sign(w.region, rid, w.hubKey, func(m []any) { m[2] = []any{[]any{epoch[:], uint64(1), uint64(9)}} }), 0, nil},
		{"no heads", sign(w.region, rid, w.hubKey, func(m []any) { m[2] = []any{} }), 0, peersync.ErrMisbehaved},
		{"too many heads", sign(w.region, rid, w.hubKey, func(m []any) { m[2] = many }), 0, peersync.ErrMisbehaved},
		{"no such lane", sign(w.region, rid, w.hubKey, func(m []any) { m[2] = []any{[]any{epoch[:], uint64(9), uint64(3)}} }), 0, peersync.ErrMisbehaved},
		{"short epoch", sign(w.region, rid, w.hubKey, func(m []any) { m[2] = []any{[]any{epoch[:8], uint64(1), uint64(3)}} }), 0, peersync.ErrMisbehaved},
		{"short signature", sign(w.region, rid, w.hubKey, func(m []any) { m[3] = make([]byte, 63) }), 0, peersync.ErrMisbehaved},
		{"not an array of four", []any{int64(1)}, 0, peersync.ErrMisbehaved},
	} {
		s := w.pushing(t, c, w.hub)
		before := len(p.list())
		err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypeReceipt, Payload: mustMarshal(x.m)})
		if !errors.Is(err, x.want) || x.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
		if n := len(p.list()) - before; n != x.kept {
			t.Errorf("%s: %d receipts kept, want %d", x.name, n, x.kept)
		}
	}
	// Played again and again, it ends the session.
	s, n := w.pushing(t, c, w.hub), 0
	good := peersync.Frame{Type: peersync.TypeReceipt, Payload: mustMarshal(sign(w.region, rid, w.hubKey, keep))}
	for ; n < 10_000; n++ {
		if err := s.Handle(t.Context(), good); err != nil {
			if !errors.Is(err, peersync.ErrMisbehaved) {
				t.Error(err)
			}
			break
		}
	}
	if n > 5 {
		t.Errorf("%d receipts taken for the few frames that were sent", n)
	}
	// A clinic cannot promise for the hubs.
	w2 := newWorld(t, 53, 2)
	p = w2.promising(w2.hubKey, w2.region)
	w2.save(w2.clinics[0], record.LaneClinical, 3)
	s = w2.pushing(t, w2.clinics[0], w2.clinics[1].memory)
	if err := s.Handle(t.Context(), good); err != nil || len(p.list()) != 0 {
		t.Errorf("a neighbour's receipt: %v, %d kept", err, len(p.list()))
	}
}

// pushing gives a session of a clinic that has sent all it has.
func (w *world) pushing(t *testing.T, c *clinic, peer *memory) *peersync.Session {
	t.Helper()
	s := w.greeted(t, c.memory, peer)
	for {
		_, ok, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return s
		}
	}
}
