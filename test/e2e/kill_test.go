package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
)

// TestHubLeaderKilled: the hub that leads dies while two clinics save.
func TestHubLeaderKilled(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 2)
	all := []*rig.Saved{rig.NewSaved(), rig.NewSaved()}
	var stop atomic.Bool
	var load sync.WaitGroup
	for i, b := range r.Clinics {
		p, mine := b.Page(), rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))
		patient := p.Register("Amani", fmt.Sprintf("Load %d", i))
		load.Go(func() {
			for !stop.Load() {
				v := rig.NewVisit(mine, patient)
				all[i].Posted(v)
				rid, _, err := p.Save(v)
				if err == nil {
					err = all[i].Acked(v, rid)
				}
				if err != nil {
					t.Errorf("%s: %v", b.Name, err)
					return
				}
			}
		})
	}
	defer load.Wait()
	defer stop.Store(true)
	for round := range 2 {
		lead := r.WaitLeader()
		grown := r.Clinics[0].Status().Size
		r.Eventually(rig.ConvergeMax, "load to be ordered", func() string {
			return rig.UntilSize(r.Clinics[0], grown+20)
		})
		lead.Kill()
		t.Logf("round %d: killed %s", round, lead.Name)
		size := r.Clinics[1].Status().Size
		begun := time.Now()
		r.Eventually(rig.ConvergeMax, "order to go on without "+lead.Name, func() string {
			return rig.UntilSize(r.Clinics[1], size+20)
		})
		t.Logf("order went on after %s", time.Since(begun).Round(time.Millisecond))
		lead.Start()
	}
	stop.Store(true)
	load.Wait()
	r.WaitSame(r.Boxes()...)
	for i, b := range r.Clinics {
		visits, rid := all[i].All()
		t.Logf("%s: %d visits posted, %d acknowledged", b.Name, len(visits), len(rid))
		all[i].WaitConfirmed(b)
		for _, x := range r.Boxes() {
			all[i].MarkersOnce(t, x)
		}
	}
	r.Check(r.Boxes()...)
}

const (
	killsMin  = 40
	killsTime = 90 * time.Second
	killers   = 3 // clinics that are killed at the same time
)

// kills gives how many kills to make, or 0 for as many as fit into killsTime.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("HEALTHPOST_KILLS")
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("HEALTHPOST_KILLS=%q", text)
	}
	return n
}

// TestClinicKilled: clinics die at random moments while staff save and the hubs
// order. Whatever the page called saved is there afterwards, once.
func TestClinicKilled(t *testing.T) {
	rnd := rig.NewRand(t)
	wanted := kills(t)
	r := rig.NewRegion(t, 1, killers)
	end := time.Now().Add(killsTime)
	var done atomic.Int64
	more := func() bool {
		if wanted > 0 {
			return done.Load() < int64(wanted)
		}
		return done.Load() < killsMin || time.Now().Before(end)
	}
	all := make([]*rig.Saved, killers)
	var wg sync.WaitGroup
	for i, b := range r.Clinics {
		all[i] = rig.NewSaved()
		k := &killed{t: t, box: b, saved: all[i], rnd: rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))}
		k.patient = b.Page().Register("Zawadi", fmt.Sprintf("Kill %d", i))
		wg.Go(func() {
			for more() && k.round() {
				done.Add(1)
			}
		})
	}
	wg.Wait()
	r.WaitSame(r.Boxes()...)
	total := 0
	for i, b := range r.Clinics {
		_, rid := all[i].All()
		total += len(rid)
		all[i].WaitConfirmed(b)
		for _, x := range r.Boxes() {
			all[i].MarkersOnce(t, x)
		}
	}
	t.Logf("%d kills, %d acknowledged visits", done.Load(), total)
	if wanted == 0 && done.Load() < killsMin {
		t.Errorf("%d kills, at least %d", done.Load(), killsMin)
	}
	r.Check(r.Boxes()...)
}

// killed is one clinic that dies again and again.
type killed struct {
	t       *testing.T
	box     *rig.Box
	saved   *rig.Saved
	rnd     *rand.Rand
	patient string
	open    []rig.Visit // posted in the last round
}

const savers = 3 // forms posted at the same time

// round saves from several pages, kills the box under them, starts it and looks
// for what the page called saved.
func (k *killed) round() bool {
	k.open = nil
	var mu sync.Mutex
	var wg sync.WaitGroup
	p := k.box.Page()
	for range savers {
		mine := rand.New(rand.NewPCG(k.rnd.Uint64(), 1))
		wg.Go(func() {
			for {
				v := rig.NewVisit(mine, k.patient)
				k.saved.Posted(v)
				mu.Lock()
				k.open = append(k.open, v)
				mu.Unlock()
				rid, a, err := p.Save(v)
				switch {
				case err == nil:
					err = k.saved.Acked(v, rid)
				case a.Status == 0:
					return // the box is dead
				}
				if err != nil {
					k.t.Errorf("%s: %v", k.box.Name, err)
					return
				}
			}
		})
	}
	timer := time.NewTimer(time.Duration(k.rnd.IntN(400)) * time.Millisecond)
	<-timer.C
	k.box.Kill()
	wg.Wait()
	if err := k.box.TryStart(); err != nil {
		k.t.Errorf("%s does not open after a kill: %v", k.box.Name, err)
		return false
	}
	return k.look(p)
}

// look asks for every acknowledged visit of the round, then posts the round's
// forms once more: one form stays one record.
func (k *killed) look(p *rig.Page) bool {
	if err := p.SignIn(); err != nil {
		k.t.Errorf("%s: %v", k.box.Name, err)
		return false
	}
	_, acked := k.saved.All()
	for _, v := range k.open {
		id, ok := acked[v.Marker]
		if !ok {
			continue
		}
		if st, err := k.box.RecordState(id); err != nil || st.State == "refused" {
			k.t.Errorf("%s: acknowledged record %s: %s, %v", k.box.Name, id, st.State, err)
			return false
		}
	}
	for _, v := range k.open {
		rid, _, err := p.Save(v)
		if err == nil {
			err = k.saved.Acked(v, rid)
		}
		if err != nil {
			k.t.Errorf("%s: posting again after a kill: %v", k.box.Name, err)
			return false
		}
	}
	return true
}
