package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// saved collects the visits of a test and what the page said about each.
type saved struct {
	mu     sync.Mutex
	visits []Visit           // posted, answered or not; guarded by mu
	rid    map[string]string // of those answered with "saved", by marker; guarded by mu
}

func newSaved() *saved { return &saved{rid: map[string]string{}} }

func (s *saved) posted(v Visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visits = append(s.visits, v)
}

// acked notes an answer; another record for the same form is a failure.
func (s *saved) acked(v Visit, rid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.rid[v.marker]; ok && first != rid {
		return fmt.Errorf("form %s was saved as record %s and again as %s", v.values.Get("form"), first, rid)
	}
	s.rid[v.marker] = rid
	return nil
}

func (s *saved) all() (visits []Visit, rid map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rid = map[string]string{}
	for k, v := range s.rid {
		rid[k] = v
	}
	return slices.Clone(s.visits), rid
}

// markersOnce holds a box's export to the markers of the acknowledged visits:
// each of them in one resource exactly.
func (s *saved) markersOnce(t *testing.T, b *Box) {
	t.Helper()
	lines := b.Export()
	_, rid := s.all()
	count := map[string]int{}
	for _, line := range lines {
		for _, word := range strings.FieldsFunc(line, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
			if strings.HasPrefix(word, "marker-") {
				count[word]++
			}
		}
	}
	lost, twice := 0, 0
	for marker := range rid {
		switch n := count[marker]; {
		case n == 0:
			lost++
		case n > 1:
			twice++
		}
	}
	if lost+twice > 0 {
		t.Errorf("%s: of %d acknowledged visits %d are lost and %d are there twice", b.name, len(rid), lost, twice)
	}
}

// waitConfirmed waits until every acknowledged visit is confirmed on its box.
func (s *saved) waitConfirmed(b *Box) {
	b.t.Helper()
	_, rid := s.all()
	b.eventually(convergeMax, "every visit of "+b.name+" to be in the regional record", func() string {
		for marker, id := range rid {
			st, err := b.recordState(id)
			if err != nil {
				return err.Error()
			}
			if st.State == "confirmed" {
				delete(rid, marker)
				continue
			}
			return fmt.Sprintf("%s is %s, %d to look at", id, st.State, len(rid))
		}
		return ""
	})
}

// TestHubLeaderKilled: the hub that leads dies while two clinics save.
func TestHubLeaderKilled(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	r := newRegion(t, 3, 2)
	all := []*saved{newSaved(), newSaved()}
	var stop atomic.Bool
	var load sync.WaitGroup
	for i, b := range r.clinics {
		p, mine := b.Page(), rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))
		patient := p.Register("Amani", fmt.Sprintf("Load %d", i))
		load.Go(func() {
			for !stop.Load() {
				v := newVisit(mine, patient)
				all[i].posted(v)
				rid, _, err := p.Save(v)
				if err == nil {
					err = all[i].acked(v, rid)
				}
				if err != nil {
					t.Errorf("%s: %v", b.name, err)
					return
				}
			}
		})
	}
	defer load.Wait()
	defer stop.Store(true)
	for round := range 2 {
		lead := r.waitLeader()
		grown := r.clinics[0].Status().Size
		r.eventually(convergeMax, "load to be ordered", func() string {
			return untilSize(r.clinics[0], grown+20)
		})
		lead.Kill()
		t.Logf("round %d: killed %s", round, lead.name)
		size := r.clinics[1].Status().Size
		begun := time.Now()
		r.eventually(convergeMax, "order to go on without "+lead.name, func() string {
			return untilSize(r.clinics[1], size+20)
		})
		t.Logf("order went on after %s", time.Since(begun).Round(time.Millisecond))
		lead.Start()
	}
	stop.Store(true)
	load.Wait()
	r.waitSame(r.boxes()...)
	for i, b := range r.clinics {
		visits, rid := all[i].all()
		t.Logf("%s: %d visits posted, %d acknowledged", b.name, len(visits), len(rid))
		all[i].waitConfirmed(b)
		for _, x := range r.boxes() {
			all[i].markersOnce(t, x)
		}
	}
	r.check(r.boxes()...)
}

func untilSize(b *Box, size uint64) string {
	s, why := b.tryStatus()
	if why == "" && (s.Size < size || s.Confirmed < size) {
		why = describe(s)
	}
	return why
}

func (r *Region) waitLeader() *Box {
	r.t.Helper()
	var lead *Box
	r.eventually(convergeMax, "a hub that leads", func() string {
		if lead = r.leader(); lead == nil {
			return "no hub leads"
		}
		return ""
	})
	return lead
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
	rnd := newRand(t)
	wanted := kills(t)
	r := newRegion(t, 1, killers)
	end := time.Now().Add(killsTime)
	var done atomic.Int64
	more := func() bool {
		if wanted > 0 {
			return done.Load() < int64(wanted)
		}
		return done.Load() < killsMin || time.Now().Before(end)
	}
	all := make([]*saved, killers)
	var wg sync.WaitGroup
	for i, b := range r.clinics {
		all[i] = newSaved()
		k := &killed{t: t, box: b, saved: all[i], rnd: rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))}
		k.patient = b.Page().Register("Zawadi", fmt.Sprintf("Kill %d", i))
		wg.Go(func() {
			for more() && k.round() {
				done.Add(1)
			}
		})
	}
	wg.Wait()
	r.waitSame(r.boxes()...)
	total := 0
	for i, b := range r.clinics {
		_, rid := all[i].all()
		total += len(rid)
		all[i].waitConfirmed(b)
		for _, x := range r.boxes() {
			all[i].markersOnce(t, x)
		}
	}
	t.Logf("%d kills, %d acknowledged visits", done.Load(), total)
	if wanted == 0 && done.Load() < killsMin {
		t.Errorf("%d kills, at least %d", done.Load(), killsMin)
	}
	r.check(r.boxes()...)
}

// killed is one clinic that dies again and again.
type killed struct {
	t       *testing.T
	box     *Box
	saved   *saved
	rnd     *rand.Rand
	patient string
	open    []Visit // posted in the last round
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
				v := newVisit(mine, k.patient)
				k.saved.posted(v)
				mu.Lock()
				k.open = append(k.open, v)
				mu.Unlock()
				rid, a, err := p.Save(v)
				switch {
				case err == nil:
					err = k.saved.acked(v, rid)
				case a.status == 0:
					return // the box is dead
				}
				if err != nil {
					k.t.Errorf("%s: %v", k.box.name, err)
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
		k.t.Errorf("%s does not open after a kill: %v", k.box.name, err)
		return false
	}
	return k.look(p)
}

// look asks for every acknowledged visit of the round, then posts the round's
// forms once more: one form stays one record.
func (k *killed) look(p *Page) bool {
	if err := p.SignIn(); err != nil {
		k.t.Errorf("%s: %v", k.box.name, err)
		return false
	}
	_, acked := k.saved.all()
	for _, v := range k.open {
		id, ok := acked[v.marker]
		if !ok {
			continue
		}
		if st, err := k.box.recordState(id); err != nil || st.State == "refused" {
			k.t.Errorf("%s: acknowledged record %s: %s, %v", k.box.name, id, st.State, err)
			return false
		}
	}
	for _, v := range k.open {
		rid, _, err := p.Save(v)
		if err == nil {
			err = k.saved.acked(v, rid)
		}
		if err != nil {
			k.t.Errorf("%s: posting again after a kill: %v", k.box.name, err)
			return false
		}
	}
	return true
}
