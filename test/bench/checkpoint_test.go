package bench_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
)

// BenchmarkCheckpointLag measures how far the newest final checkpoint is behind the
// ledger of the leading hub while it orders what a clinic brings: for each size that was
// seen, the time until a final checkpoint covered it. HEALTHPOST_BUNDLES is taken in,
// else the bundles of the tests.
func BenchmarkCheckpointLag(b *testing.B) {
	for range b.N {
		r := newRegion(b, 3, 1)
		dir, _ := bundles()
		reportLoad(b)
		clinic, hub := r.clinics[0], r.hubs[0]
		clinic.linked(false)
		clinic.Import(dir)
		ctx, stop := context.WithCancel(context.Background())
		watched := make(chan []seenSize, 1)
		go func() { watched <- watchSizes(ctx, b, hub) }()
		begun := time.Now()
		clinic.linked(true)
		r.waitSame(r.boxes()...)
		took := time.Since(begun)
		stop()
		samples := <-watched
		lags := checkpointLags(samples)
		if len(lags) == 0 {
			b.Fatal("nothing was ordered while the hub was watched")
		}
		slices.Sort(lags)
		b.ReportMetric(float64(lags[len(lags)/2].Milliseconds()), "lag-p50-ms")
		b.ReportMetric(float64(lags[len(lags)-1].Milliseconds()), "lag-max-ms")
		b.ReportMetric(float64(samples[len(samples)-1].size), "records")
		b.ReportMetric(took.Seconds(), "s")
	}
}

// seenSize is what a hub said at one time.
type seenSize struct {
	at          time.Time
	size, final uint64
}

// watchSizes asks a hub again and again until ctx ends.
func watchSizes(ctx context.Context, b *testing.B, hub *box) []seenSize {
	c, err := node.Dial(ctx, node.NewOptions(hub.Dir))
	if err != nil {
		b.Error(err)
		return nil
	}
	defer c.Close()
	var out []seenSize
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return out
		case <-tick.C:
		}
		s, err := c.Status(ctx)
		if err != nil {
			if ctx.Err() == nil {
				b.Error(err)
			}
			return out
		}
		out = append(out, seenSize{time.Now(), s.Size, s.Confirmed})
	}
}

// checkpointLags is, for each size when it was first seen, how long it took until
// the final checkpoint had it.
func checkpointLags(samples []seenSize) []time.Duration {
	var out []time.Duration
	size := uint64(0)
	for i, s := range samples {
		if i == 0 {
			size = s.size
			continue
		}
		if s.size == size {
			continue
		}
		size = s.size
		for _, later := range samples[i:] {
			if later.final >= size {
				out = append(out, later.at.Sub(s.at))
				break
			}
		}
	}
	return out
}
