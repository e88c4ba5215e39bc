package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	peersync "github.com/healthpost/healthpost/sync"
)

// storm is clinics that return to one hub in the same moment. The hub is a process
// of the program; the clinics are this process, each with a host of its own.
type storm struct {
	handed, confirmed []time.Duration // of each clinic, since the moment
	hubPeakKB         int64
	entries           uint64
}

// stormMax is how long it may take, whatever else the machine does.
const stormMax = 20 * time.Minute

func brew(tb testing.TB, clinics, visits, bodyBytes int) storm {
	tb.Helper()
	hub := newBox(tb, "Hub", "hub")
	hub.Must("region", "create", "Storm")
	hub.Start()
	device, addresses := hub.reached(tb)
	all := newCommon()
	var list []*returning
	var links []*peersync.Links
	for i := range clinics {
		key := hub.admitted(fmt.Sprintf("Clinic %d", i))
		c, err := newReturning(all, key.Signer(), visits, bodyBytes)
		check(tb, "writing a day", err)
		h, err := peersync.NewHost(peersync.HostOptions{Key: key.Signer(), Allow: func(d record.DeviceID) bool { return d == device }})
		check(tb, "starting a host", err)
		tb.Cleanup(func() { h.Close() })
		list = append(list, c)
		links = append(links, peersync.NewLinks(h, c, clinicLinks(tb, hub, c, device, addresses)))
	}
	before := hub.Status().Size
	ctx, stop := context.WithTimeout(context.Background(), stormMax)
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	s := storm{handed: make([]time.Duration, clinics), confirmed: make([]time.Duration, clinics)}
	began := time.Now()
	for _, l := range links {
		work.Go(func() { l.Run(ctx) }) // ends with the context, without an error
	}
	var done sync.WaitGroup
	for i, c := range list {
		done.Go(func() { s.handed[i], s.confirmed[i] = c.times(ctx, began) })
	}
	done.Wait()
	s.hubPeakKB = hub.proc("status", "VmHWM")
	s.entries = hub.Status().Size - before
	if want := uint64(clinics * (visits + 1)); s.entries < want {
		tb.Errorf("the hub ordered %d entries meanwhile, want %d at least", s.entries, want)
	}
	return s
}

// times waits until a clinic has handed its day over, and until it is confirmed;
// zero for what did not come.
func (c *returning) times(ctx context.Context, began time.Time) (handed, confirmed time.Duration) {
	changed := c.Subscribe(ctx)
	for {
		if handed == 0 && c.handed() {
			handed = time.Since(began)
		}
		if c.confirmed() {
			return handed, time.Since(began)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return handed, 0
		}
	}
}

// reached is who a hub is and where it listens.
func (b *box) reached(tb testing.TB) (record.DeviceID, []string) {
	tb.Helper()
	text, err := node.PeerIDOf(b.Dir)
	check(tb, "reading an identity", err)
	id, err := peer.Decode(text)
	check(tb, "reading an identity", err)
	device, err := peersync.DeviceOf(id)
	check(tb, "reading an identity", err)
	return device, []string{"/ip4/127.0.0.1/tcp/" + b.PeerPort}
}

// admitted makes a clinic's box, has it join, and gives its keys.
func (b *box) admitted(name string) *seal.Keyring {
	b.T.Helper()
	var inv node.Invited
	check(b.T, "reading the invitation", json.Unmarshal([]byte(b.Must("region", "invite", "--role", "clinic", "--json")), &inv))
	o := node.NewOptions(filepath.Join(b.T.TempDir(), "box"))
	o.Listen, o.LAN = []string{"/ip4/127.0.0.1/tcp/0"}, false
	o.Store.BallastBytes = 0
	_, err := node.Init(o.Data, record.RoleClinic, name)
	check(b.T, "making a box", err)
	_, err = node.Join(b.T.Context(), o, inv.Text, nil)
	check(b.T, "joining", err)
	keys, _, err := seal.LoadKeyring(filepath.Join(o.Data, "keys"))
	check(b.T, "reading the keys", err)
	return keys
}

func clinicLinks(tb testing.TB, hub *box, c *returning, device record.DeviceID, addresses []string) peersync.LinksOptions {
	tb.Helper()
	region, ok := boxRegion(tb, hub)
	if !ok {
		tb.Fatal("the hub has no region")
	}
	isHub := func(d record.DeviceID) bool { return d == device }
	o := peersync.Options{Region: region, Device: c.self, Role: record.RoleClinic, Software: "bench", Hub: isHub, WantOrdered: func() bool { return true },
		Hubs: func() []record.DeviceID { return []record.DeviceID{device} },
		Final: func(note []byte) (record.Checkpoint, error) {
			return record.VerifyFinal(region.Ledger(1), note, []record.DeviceID{device})
		}}
	return peersync.LinksOptions{Session: o, Hubs: func() []peersync.Address { return []peersync.Address{{Device: device, Addresses: addresses}} }, HubsWanted: 1,
		NoProgress: time.Hour, Allow: isHub, Log: zerolog.Nop()}
}

func boxRegion(tb testing.TB, b *box) (record.RegionID, bool) {
	tb.Helper()
	x, err := node.LoadBox(b.Dir)
	check(tb, "reading the box", err)
	return x.RegionID()
}

// fair holds a storm to what is promised: all come through, and none waits more
// than three times as long as most.
func (s *storm) fair(tb testing.TB) {
	tb.Helper()
	for i, d := range s.confirmed {
		if d == 0 || s.handed[i] == 0 {
			tb.Errorf("clinic %d did not come through", i)
		}
	}
	for what, list := range map[string][]time.Duration{"handed over": s.handed, "confirmed": s.confirmed} {
		if half, last := quantile(list, 0.5), quantile(list, 1); last > 3*half {
			tb.Errorf("%s: half of the clinics after %s, the last after %s, more than three times as long", what, half, last)
		}
	}
	if s.hubPeakKB > 512<<10 {
		tb.Errorf("the hub took %d kB of memory, want 512 MiB at most", s.hubPeakKB)
	}
}

// TestStorm is the small form: sixteen clinics with ten visits each.
func TestStorm(t *testing.T) {
	s := brew(t, 16, 10, 600)
	s.fair(t)
	t.Logf("handed over p50 %s, last %s; confirmed p50 %s, last %s; %d entries; hub's peak %d MiB", quantile(s.handed, 0.5), quantile(s.handed, 1),
		quantile(s.confirmed, 0.5), quantile(s.confirmed, 1), s.entries, s.hubPeakKB>>10)
}

// BenchmarkStorm: 200 clinics return after a day with forty visits each.
func BenchmarkStorm(b *testing.B) {
	for range b.N {
		reportLoad(b)
		s := brew(b, 200, 40, 600)
		s.fair(b)
		b.ReportMetric(quantile(s.handed, 0.5).Seconds(), "handed-p50-s")
		b.ReportMetric(quantile(s.handed, 1).Seconds(), "handed-last-s")
		b.ReportMetric(quantile(s.confirmed, 0.5).Seconds(), "confirmed-p50-s")
		b.ReportMetric(quantile(s.confirmed, 1).Seconds(), "confirmed-last-s")
		b.ReportMetric(float64(s.entries), "entries")
		b.ReportMetric(float64(s.hubPeakKB)/1024, "hub-peak-MiB")
	}
}
