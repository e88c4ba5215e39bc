package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
)

// TestHubsKilled: hubs die at random moments while two clinics save: who leads, who
// follows, two, all three within a second, and again while they start. Order goes on,
// what was in the regional record stays there, and nothing is lost or there twice.
func TestHubsKilled(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	wanted := kills(t)
	h := newHubKills(t, rnd, 3, 2)
	for _, b := range h.r.Hubs[1:] { // their journals and logs turn over all the time
		b.Stop()
		breakable(t, b)
		b.Start()
	}
	end := h.load(rnd)
	h.leaderAway()
	for h.kills < int(wanted) && !t.Failed() {
		switch h.rnd.IntN(6) {
		case 0:
			h.leaderAway()
		case 1, 2:
			h.die(h.r.Hubs[h.rnd.IntN(3)])
		case 3:
			i := h.rnd.IntN(3)
			h.die(h.r.Hubs[i], h.r.Hubs[(i+1)%3])
		default:
			h.die(h.r.Hubs...)
		}
		h.goesOn()
	}
	end()
	t.Logf("%d kills of hubs; %s", h.kills, &h.took)
	h.check()
}

// hubKills is a region whose hubs die.
type hubKills struct {
	t     *testing.T
	r     *rig.Region
	rnd   *rand.Rand
	saved []*rig.Saved // by clinic
	kills int
	took  starts
	held  uint64 // entries that some clinic saw confirmed
}

func newHubKills(t *testing.T, rnd *rand.Rand, hubs, clinics int) *hubKills {
	t.Helper()
	h := &hubKills{t: t, r: rig.NewRegion(t, hubs, clinics), rnd: rnd}
	for range clinics {
		h.saved = append(h.saved, rig.NewSaved())
	}
	return h
}

// saveEvery is how often each clinic saves a visit.
const saveEvery = 50 * time.Millisecond

// load saves at every clinic; end ends it.
func (h *hubKills) load(rnd *rand.Rand) (end func()) {
	h.t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, b := range h.r.Clinics {
		p, mine := b.Page(), rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))
		var patients []string // many in a long run: a chart of a thousand visits is no clinic's
		for n := range 1 + kills(h.t)/4 {
			patients = append(patients, p.Register("Amani", fmt.Sprintf("Load %d %d", i, n)))
		}
		wg.Go(func() {
			tick := time.NewTicker(saveEvery)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				v := rig.NewVisit(mine, patients[mine.IntN(len(patients))])
				h.saved[i].Posted(v)
				rid, _, err := p.Save(v)
				if err == nil {
					err = h.saved[i].Acked(v, rid)
				}
				if err != nil {
					h.t.Errorf("%s: %v", b.Name, err)
					return
				}
			}
		})
	}
	var once sync.Once
	end = func() { once.Do(func() { close(stop); wg.Wait() }) }
	h.t.Cleanup(end)
	return end
}

// leaderAway kills the hub that leads and starts it when order went on without it.
func (h *hubKills) leaderAway() {
	h.t.Helper()
	lead := h.r.WaitLeader()
	h.note()
	lead.Kill()
	h.kills++
	begun, size := time.Now(), h.confirmed()
	h.r.Eventually(rig.ConvergeMax, "order to go on without "+lead.Name, func() string {
		return rig.UntilSize(h.r.Clinics[0], size+20)
	})
	h.t.Logf("order went on %s after %s, which led, died", time.Since(begun).Round(time.Millisecond), lead.Name)
	h.start(lead)
}

// die kills hubs within a second and starts them, some of them dying once more on
// the way.
func (h *hubKills) die(hubs ...*rig.Box) {
	h.t.Helper()
	h.note()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, b := range hubs {
		after := time.Duration(h.rnd.Int64N(int64(time.Second)))
		var again []time.Duration
		for h.rnd.IntN(4) == 0 && len(again) < 3 {
			again = append(again, time.Duration(h.rnd.Int64N(int64(400*time.Millisecond))))
		}
		wg.Go(func() {
			<-time.After(after)
			b.Kill()
			for _, after := range again {
				if err := b.Launch(); err != nil {
					h.t.Error(err)
					return
				}
				<-time.After(after)
				b.Kill()
			}
			mu.Lock()
			h.kills += 1 + len(again)
			mu.Unlock()
			h.start(b)
		})
	}
	wg.Wait()
}

func (h *hubKills) start(b *rig.Box) {
	if err := b.TryStart(); err != nil {
		h.t.Errorf("%s does not open after a kill: %v", b.Name, err)
		return
	}
	h.took.add(b.StartedIn)
}

// confirmed is the most that some clinic saw confirmed.
func (h *hubKills) confirmed() (n uint64) {
	h.t.Helper()
	for _, b := range h.r.Clinics {
		n = max(n, b.Status().Confirmed)
	}
	return n
}

func (h *hubKills) note() { h.t.Helper(); h.held = max(h.held, h.confirmed()) }

// back is "" when a hub that leads has all that clinics saw confirmed.
func (h *hubKills) back() string {
	lead := h.r.Leader()
	if lead == nil {
		return "no hub leads"
	}
	s, why := lead.TryStatus()
	if why == "" && s.Size < h.held {
		why = fmt.Sprintf("%s leads with %d entries, a clinic saw %d confirmed", lead.Name, s.Size, h.held)
	}
	return why
}

// goesOn waits until the hubs have what clinics saw confirmed, and order more.
func (h *hubKills) goesOn() {
	h.t.Helper()
	h.r.Eventually(rig.ConvergeMax, "the hubs to have what was confirmed", h.back)
	size := h.confirmed()
	h.r.Eventually(rig.ConvergeMax, "order to go on", func() string {
		return rig.UntilSize(h.r.Clinics[0], size+1)
	})
}

// check compares everything at the end of a quiet time.
func (h *hubKills) check() {
	h.t.Helper()
	h.r.WaitSameIn(5*rig.ConvergeMax, h.r.Boxes()...)
	for i, b := range h.r.Clinics {
		visits, rid := h.saved[i].All()
		h.t.Logf("%s: %d visits posted, %d acknowledged", b.Name, len(visits), len(rid))
		h.saved[i].WaitConfirmed(b)
		h.r.Each(h.r.Boxes(), func(x *rig.Box) { h.saved[i].MarkersOnce(h.t, x) })
	}
	h.r.NoEvidence(h.r.Boxes()...)
	h.r.Check(h.r.Boxes()...)
}

// TestForgetfulHubsAreSeen: hubs whose stores say "on disk" too early forget, all
// killed at once, what clinics saw confirmed, and the check of the test above sees it.
func TestForgetfulHubsAreSeen(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	h := newHubKills(t, rnd, 1, 1)
	for _, b := range h.r.Hubs {
		b.Stop()
		breakable(t, b, "HEALTHPOST_FORGETFUL=1")
		b.Start()
	}
	h.load(rnd)
	hub, clinic := h.r.Hubs[0], h.r.Clinics[0]
	for n := 1; n <= 10; n++ {
		h.goesOn()
		hub.Kill()
		h.r.SetLinks(clinic, false) // nothing comes from there to fill the gap
		h.note()
		hub.Start()
		h.r.WaitLeader()
		if why := rig.Poll(5*time.Second, h.back); why != "" {
			t.Logf("after %d kills: %s", n, why)
			return
		}
		h.r.SetLinks(clinic, true)
	}
	t.Error("the hub had everything that it said it had, although nothing was on its disk")
}
