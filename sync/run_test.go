package peersync_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// cable is a two-way stream with a delay, a rate and a place where it breaks.
type cable struct {
	ends  [2]*end
	delay time.Duration
	rate  int // bytes a second each way, 0 for no limit

	atSend bool // bytes count when they are sent, so that a cut loses what is under way

	mu    sync.Mutex
	left  int // bytes until it breaks, negative for never
	total int // bytes that arrived
	once  sync.Once
	cut   chan struct{}
}

type chunk struct {
	data []byte
	due  time.Time
}

type end struct {
	c    *cable
	out  chan chunk
	in   chan chunk
	rest []byte
	free time.Time // when the line can take the next byte
}

const kernelBytes = 128 << 10

var errCut = errors.New("cable cut")

// lay gives a cable that breaks after so many bytes; negative for never.
func lay(delay time.Duration, rate, breakAfter int) *cable {
	ab, ba := make(chan chunk, 1024), make(chan chunk, 1024)
	c := &cable{delay: delay, rate: rate, left: breakAfter, cut: make(chan struct{})}
	c.ends = [2]*end{{c: c, out: ab, in: ba}, {c: c, out: ba, in: ab}}
	return c
}

// moved is how many bytes arrived so far.
func (c *cable) moved() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

func (c *cable) sever() { c.once.Do(func() { close(c.cut) }) }

// take lets n bytes arrive, fewer where the cable breaks.
func (c *cable) take(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left >= 0 && n > c.left {
		n = c.left
	}
	if c.left >= 0 {
		c.left -= n
	}
	c.total += n
	if c.left == 0 {
		c.sever()
	}
	return n
}

func (e *end) Write(p []byte) (int, error) {
	now := time.Now()
	if e.c.atSend && e.c.take(len(p)) < len(p) {
		return 0, errCut
	}
	if e.free.Before(now) {
		e.free = now
	}
	if e.c.rate > 0 {
		e.free = e.free.Add(time.Duration(len(p)) * time.Second / time.Duration(e.c.rate))
		full := time.Duration(kernelBytes) * time.Second / time.Duration(e.c.rate)
		select { // the kernel takes what its buffer holds
		case <-time.After(time.Until(e.free.Add(-full))):
		case <-e.c.cut:
			return 0, errCut
		}
	}
	select {
	case e.out <- chunk{append([]byte(nil), p...), e.free.Add(e.c.delay)}:
		return len(p), nil
	case <-e.c.cut:
		return 0, errCut
	}
}

func (e *end) Read(p []byte) (int, error) {
	for len(e.rest) == 0 {
		select {
		case x := <-e.in:
			select {
			case <-time.After(time.Until(x.due)):
			case <-e.c.cut:
				return 0, errCut
			}
			n := len(x.data)
			if !e.c.atSend {
				n = e.c.take(n)
			}
			if e.rest = x.data[:n]; n == 0 {
				return 0, errCut
			}
		case <-e.c.cut:
			return 0, errCut
		}
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func (e *end) Close() error {
	e.c.sever()
	return nil
}

// meeting is two sessions under way over a cable.
type meeting struct {
	pace    peersync.Pace // that the first side found, once both ended
	c       *cable
	stop    context.CancelFunc
	settled [2]chan struct{}
	ended   [2]chan error
}

func (w *world) begin(a, b *memory, c *cable, window int) *meeting {
	ctx, stop := context.WithCancel(context.Background())
	m := &meeting{c: c, stop: stop}
	oa, ob := w.options(a), w.options(b)
	oa.Window, ob.Window = window, peersync.WindowLAN
	sessions := [2]*peersync.Session{peersync.NewSession(a, b.self, oa), peersync.NewSession(b, a.self, ob)}
	for i, s := range sessions {
		settled, ended := make(chan struct{}, 1), make(chan error, 1)
		m.settled[i], m.ended[i] = settled, ended
		go func() {
			ended <- peersync.Run(ctx, c.ends[i], s, peersync.RunOptions{Progress: func(p peersync.Progress) {
				if i == 0 {
					m.pace = p.Pace
				}
				if p.Settled {
					select {
					case settled <- struct{}{}:
					default:
					}
				}
			}})
		}()
	}
	return m
}

// end stops both sides and gives why each ended.
func (m *meeting) end() (a, b error) {
	m.stop()
	return <-m.ended[0], <-m.ended[1]
}

func linkOnly(err error) bool {
	return errors.Is(err, errCut) || errors.Is(err, peersync.ErrStopped) || errors.Is(err, peersync.ErrBye) || errors.Is(err, io.ErrUnexpectedEOF)
}

// TestCutAnywhere cuts meetings at random bytes: they always come to the same
// state, lose little, and have nothing to say afterwards.
func TestCutAnywhere(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, 2)
			a, b := w.clinics[0], w.clinics[1]
			rng := rand.New(rand.NewPCG(seed, 2))
			for range 4 {
				w.save(a, record.Lane(rng.IntN(4)), rng.IntN(40))
				w.save(b, record.Lane(rng.IntN(4)), rng.IntN(40))
			}
			moved, cuts := 0, 0
			for ; cuts < 15; cuts++ {
				c := lay(time.Duration(rng.IntN(400))*time.Millisecond, 0, rng.IntN(6000))
				m := w.begin(a.memory, b.memory, c, peersync.WindowSlow)
				synctest.Wait()
				time.Sleep(time.Minute)
				ea, eb := m.end()
				if !linkOnly(ea) || !linkOnly(eb) {
					t.Fatalf("seed %d, cut %d: %v; %v", seed, cuts, ea, eb)
				}
				moved += c.moved()
				w.check(a.memory)
				w.check(b.memory)
			}
			last := lay(50*time.Millisecond, 0, -1)
			m := w.begin(a.memory, b.memory, last, peersync.WindowSlow)
			time.Sleep(time.Minute)
			m.end()
			if a.sum() != b.sum() {
				t.Fatalf("seed %d: the two differ at the end", seed)
			}
			again := lay(50*time.Millisecond, 0, -1)
			m = w.begin(a.memory, b.memory, again, peersync.WindowSlow)
			time.Sleep(time.Minute)
			m.end()
			if again.moved() > 1000 {
				t.Errorf("seed %d: nothing new took %d bytes", seed, again.moved())
			}
			need := 0
			for _, r := range a.allPending() {
				need += 130 + len(r.Body)
			}
			if most := need*11/10 + (cuts+1)*(2*600+peersync.WindowSlow/4+200); moved+last.moved() > most {
				t.Errorf("seed %d: %d bytes in %d meetings for records of %d bytes, at most %d", seed, moved+last.moved(), cuts+1, need, most)
			}
		})
	}
}

// TestEntriesUnderCuts lets a clinic catch up over a line that keeps breaking.
func TestEntriesUnderCuts(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, 2)
			w.save(w.clinics[0], record.LaneClinical, 120)
			if _, _, err := w.meet(w.clinics[0].memory, w.hub, noLimit); err != nil {
				t.Fatal(err)
			}
			w.orderAll()
			b, rng := w.clinics[1], rand.New(rand.NewPCG(seed, 3))
			start, cuts, moved := b.Head().Size, 0, 0
			for ; b.Head() != w.hub.Head() && cuts < 200; cuts++ {
				c := lay(350*time.Millisecond, 0, 1500+rng.IntN(6000))
				m := w.begin(b.memory, w.hub, c, peersync.WindowSlow)
				time.Sleep(2 * time.Minute) // of the bubble's time: so long they meet
				m.end()
				moved += c.moved()
				w.check(b.memory)
			}
			if b.Head() != w.hub.Head() {
				t.Fatalf("seed %d: at size %d after %d meetings from %d, want %d", seed, b.Head().Size, cuts, start, w.hub.Head().Size)
			}
			if seed == 0 {
				t.Logf("%d entries in %d meetings, %d bytes", w.hub.Head().Size-start, cuts, moved)
			}
		})
	}
}

// TestHundredCuts cuts one session at a hundred random bytes: beside a greeting
// for each cut it costs a tenth more than uncut at most, and where only four records
// fit between two cuts, most of a record for each; nothing is lost or comes twice.
func TestHundredCuts(t *testing.T) {
	for _, x := range []struct {
		records int
		line    func(breakAfter int) *cable
		most    float64 // times uncut, besides greetings
	}{
		{400, fast, 1.25}, {3000, fast, 1.1},
		{300, gprs, 1.8}, // what such a link has under way is about what lies between two cuts: 2 times without care
	} {
		hundredCuts(t, x.records, x.line, x.most)
	}
}

func fast(breakAfter int) *cable { return lay(20*time.Millisecond, 125_000, breakAfter) }

func gprs(breakAfter int) *cable {
	c := lay(350*time.Millisecond, 2500, breakAfter)
	c.atSend = true
	return c
}

func hundredCuts(t *testing.T, records int, lay func(breakAfter int) *cable, most float64) {
	synctest.Test(t, func(t *testing.T) {
		const cuts = 100
		var pace peersync.Pace
		greeting := 0 // what a meeting costs in which there is nothing to send
		day := func(breaks []int) (moved, meetings int) {
			w := newWorld(t, 17, 1)
			c := w.clinics[0]
			w.save(c, record.LaneClinical, records)
			for {
				line := lay(-1)
				if meetings < len(breaks) {
					line = lay(breaks[meetings])
				}
				w.tweak = func(_ *memory, o *peersync.Options) { o.Resumed, o.Pace = meetings > 0, pace }
				m := w.begin(c.memory, w.hub, line, 0)
				time.Sleep(2 * time.Minute) // of the bubble's time: so long they meet
				m.end()
				if m.pace != (peersync.Pace{}) {
					pace = m.pace
				}
				moved, meetings = moved+line.moved(), meetings+1
				w.check(w.hub)
				if got := len(w.hub.allPending()); got == records+1 {
					line := lay(-1)
					m := w.begin(c.memory, w.hub, line, 0)
					time.Sleep(time.Minute)
					m.end()
					greeting = line.moved()
					return moved, meetings
				} else if meetings > len(breaks) {
					t.Fatalf("%d records after %d meetings, want %d", got, meetings, records+1)
				}
			}
		}
		uncut, _ := day(nil)
		if greeting > 1000 { // else what goes again and again would count as greeting
			t.Fatalf("a meeting with nothing to send costs %d bytes, want 1000 at most", greeting)
		}
		rng := rand.New(rand.NewPCG(17, 4))
		at := make([]int, cuts)
		for i := range at {
			at[i] = rng.IntN(uncut)
		}
		slices.Sort(at)
		breaks := make([]int, cuts)
		for i := range at {
			breaks[i] = at[i] + greeting
			if i > 0 {
				breaks[i] -= at[i-1]
			}
		}
		moved, meetings := day(breaks)
		times := float64(moved-meetings*greeting) / float64(uncut)
		t.Logf("%d records, %d bytes uncut; %d bytes in %d meetings, %.3f times without greetings of %d", records, uncut, moved, meetings, times, greeting)
		if times > most {
			t.Errorf("%d records with %d cuts took %.3f times the bytes, want %.2f at most", records, cuts, times, most)
		}
	})
}

// TestThroughput holds a push over slow lines to what the line carries.
func TestThroughput(t *testing.T) {
	for _, x := range []struct {
		name   string
		rate   int // bytes a second
		delay  time.Duration
		atMost float64 // times what the line needs
	}{{"GPRS", 2500, 350 * time.Millisecond, 1.25}, {"EDGE", 7500, 250 * time.Millisecond, 1.25}, {"VSAT", 32000, 300 * time.Millisecond, 1.5}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 9, 1)
			c := w.clinics[0]
			w.save(c, record.LaneClinical, 400)
			began, line := time.Now(), lay(x.delay, x.rate, -1)
			m := w.begin(c.memory, w.hub, line, 0)
			<-m.settled[0]
			took := time.Since(began)
			need := time.Duration(line.moved()) * time.Second / time.Duration(x.rate)
			t.Logf("%s: %d bytes in %s, the line alone needs %s", x.name, line.moved(), took, need)
			if got := len(w.hub.allPending()); got != 401 {
				t.Errorf("%s: %d records arrived, want 401", x.name, got)
			}
			if took > time.Duration(float64(need)*x.atMost) {
				t.Errorf("%s: took %s, want at most %.2f times %s", x.name, took, x.atMost, need)
			}
			m.end()
		})
	}
}

// TestSlowLink measures in virtual time: 20 kbit/s, 700 ms round trip.
func TestSlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5, 1)
		c := w.clinics[0]
		w.save(c, record.LaneBulk, 250)
		line := lay(350*time.Millisecond, 2500, -1)
		m := w.begin(c.memory, w.hub, line, 0)
		time.Sleep(20 * time.Second) // in the middle of the bulk, the window found
		began := time.Now()
		w.save(c, record.LaneControl, 1)
		feed := record.Feed{Epoch: c.author.epoch, Lane: record.LaneControl}
		acked := func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.acked[w.hub.self][feed] == 1
		}
		for !acked() {
			time.Sleep(50 * time.Millisecond)
		}
		took := time.Since(began)
		if took > 3*time.Second {
			t.Errorf("an urgent record took %s behind bulk", took)
		}
		<-m.settled[0]
		for len(w.hub.allPending()) != 252 {
			time.Sleep(time.Second)
		}
		t.Logf("urgent record acknowledged after %s; %d bytes in all", took, line.moved())
		m.end()
	})
}

func TestRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6, 1)
		c := w.clinics[0]
		w.save(c, record.LaneClinical, 1)
		began := time.Now()
		m := w.begin(c.memory, w.hub, lay(350*time.Millisecond, 0, -1), 0)
		<-m.settled[0]
		if took := time.Since(began); took > 800*time.Millisecond {
			t.Errorf("one record acknowledged after %s, want one round trip of 700 ms", took)
		}
		m.end()
		began = time.Now()
		m = w.begin(c.memory, w.hub, lay(350*time.Millisecond, 0, -1), 0)
		<-m.settled[0]
		if took := time.Since(began); took > 800*time.Millisecond {
			t.Errorf("nothing new after %s, want one round trip of 700 ms", took)
		}
		m.end()
	})
}

func TestSilenceEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 7, 1)
		line := lay(time.Millisecond, 0, -1)
		go io.Copy(io.Discard, line.ends[1])
		err := peersync.Run(t.Context(), line.ends[0], peersync.NewSession(w.clinics[0].memory, w.hub.self, w.options(w.clinics[0].memory)), peersync.RunOptions{})
		if !errors.Is(err, peersync.ErrStalled) {
			t.Errorf("a peer that says nothing: %v, want ErrStalled", err)
		}
	})
}

func TestIdleSessionStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8, 1)
		line := lay(time.Millisecond, 0, -1)
		m := w.begin(w.clinics[0].memory, w.hub, line, 0)
		time.Sleep(24 * time.Hour)
		if line.moved() > 1000 {
			t.Errorf("a day of nothing took %d bytes", line.moved())
		}
		w.save(w.clinics[0], record.LaneClinical, 1)
		time.Sleep(time.Second)
		if got := len(w.hub.allPending()); got != 2 {
			t.Errorf("hub holds %d pending records after a quiet day, want 2", got)
		}
		if a, b := m.end(); !linkOnly(a) || !linkOnly(b) {
			t.Errorf("ended with %v; %v", a, b)
		}
	})
}
