package nemesis_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/nemesis"
	"github.com/healthpost/healthpost/test/rig"
)

// attack is a region in use while its boxes and its network are disturbed.
type attack struct {
	*region
	t       testing.TB
	rng     *rand.Rand
	history *nemesis.History
	stop    chan struct{}
	work    sync.WaitGroup
	resumes []time.Duration // from each healing until there was a newer entry
	hubs    []time.Duration // until every hub had one
	follows []time.Duration // and until every clinic had one confirmed
}

// staff is one staff member at a clinic's page.
type staff struct {
	*attack
	number  int
	box     *rig.Box
	page    *rig.Page
	patient string
	rng     *rand.Rand
	details uint64 // record of the patient's details
}

func (a *attack) stopped() bool {
	select {
	case <-a.stop:
		return true
	default:
		return false
	}
}

// begin lets staff work at every clinic, and looks at every box now and then.
func (a *attack) begin() {
	for i, b := range a.Clinics {
		s := &staff{attack: a, number: i, box: b, page: b.Page(), rng: rand.New(rand.NewPCG(a.rng.Uint64(), 1))}
		s.patient = s.page.Register("Amani", fmt.Sprintf("Watched %d", i))
		if list := s.read(); len(list) > 0 {
			s.details = list[len(list)-1].Record
		}
		a.work.Go(s.day)
	}
	a.work.Go(func() {
		for i := 0; !a.stopped(); i++ {
			if b := a.Boxes()[i%len(a.Boxes())]; b.Running() {
				head(a.history, 1000, b)
			}
			a.wait(poll)
		}
	})
}

// wait lets time pass, or less when the attack is over.
func (a *attack) wait(d time.Duration) {
	select {
	case <-a.stop:
	case <-time.After(d):
	}
}

// day saves, changes details and reads, one after the other.
func (s *staff) day() {
	for !s.stopped() {
		switch n := s.rng.IntN(10); {
		case n < 6:
			s.save()
		case n < 7:
			s.amend()
		default:
			s.read()
		}
		s.wait(time.Duration(s.rng.IntN(100)) * time.Millisecond)
	}
}

// patience is how long one form is posted again while the box does not answer.
const patience = 3 * time.Minute

// insist does something until the box answers. A box that was started again wants
// staff to sign in first.
func (s *staff) insist(what string, try func() (rig.Answer, error)) bool {
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); s.pause() {
		a, err := try()
		switch {
		case err == nil:
			return true
		case strings.HasPrefix(a.Location, "/sign-in"):
			err = s.page.SignIn()
		case a.Status != 0:
			s.t.Errorf("%s: %s: %v", s.box.Name, what, err)
			return false
		}
		last = err
	}
	s.t.Errorf("%s: %s: no answer in %v: %v", s.box.Name, what, patience, last)
	return false
}

// pause is between two tries, also at the end of an attack.
func (s *staff) pause() { <-time.After(poll) }

func (s *staff) save() {
	v := rig.NewVisit(s.rng, s.patient)
	op := s.history.Begin(nemesis.Op{Client: s.number, Box: s.box.Name, Kind: nemesis.Save, Device: s.number, Form: v.Values.Get("form")})
	var rid string
	if s.insist("saving a visit", func() (a rig.Answer, err error) { rid, a, err = s.page.Save(v); return a, err }) {
		op.Record = namedText(s.t, rid)
		s.history.End(op)
	} else {
		s.history.Unanswered(op)
	}
}

// amend changes the patient's details.
func (s *staff) amend() {
	path := "/patient/" + s.patient
	var form url.Values
	got := s.insist("opening the details", func() (rig.Answer, error) {
		a, err := s.page.Get(path + "/details")
		if err == nil && a.Status != 200 {
			return a, fmt.Errorf("status %d to %q", a.Status, a.Location)
		}
		form = rig.HiddenOf(a.Body)
		return a, err
	})
	if !got {
		return
	}
	for name, value := range map[string]string{"given": "Amani", "family": fmt.Sprintf("Watched %d", s.number), "sex": "female", "birthYear": "1990", "village": fmt.Sprintf("Village %d", s.rng.IntN(1000))} {
		form.Set(name, value)
	}
	op := s.history.Begin(nemesis.Op{Client: s.number, Box: s.box.Name, Kind: nemesis.Amend, Device: s.number, Form: form.Get("form"), Base: s.details})
	saved := s.insist("changing details", func() (rig.Answer, error) {
		a, err := s.page.Post(path+"/details", form)
		if err == nil && a.Location != path+"?done=changed" {
			err = fmt.Errorf("status %d to %q", a.Status, a.Location)
		}
		return a, err
	})
	list := s.read()
	if !saved || len(list) == 0 {
		s.history.Unanswered(op)
		return
	}
	s.details = list[len(list)-1].Record
	op.Record = s.details
	s.history.End(op)
}

// read loads the patient's page and what the box says of its checkpoint.
func (s *staff) read() []nemesis.Seen {
	op := s.history.Begin(nemesis.Op{Client: s.number, Box: s.box.Name, Kind: nemesis.Read, Device: s.number})
	got := s.insist("reading a chart", func() (rig.Answer, error) {
		a, err := s.page.Get("/patient/" + s.patient)
		if err == nil && a.Status != 200 {
			return a, fmt.Errorf("status %d to %q", a.Status, a.Location)
		}
		op.Seen = seen(s.t, a.Body)
		return a, err
	})
	if !got {
		return nil
	}
	if st, why := s.box.TryStatus(); why == "" && st.Running {
		op.Size, op.Confirmed = st.Size, st.Confirmed
	}
	s.history.End(op)
	return op.Seen
}

// strike carries out one blow and undoes it.
func (a *attack) strike(b nemesis.Blow) {
	boxes := a.Boxes()
	a.wait(b.Rests)
	leader := max(a.leader(), 0)
	whole := nemesis.Healthy(len(a.Hubs))
	if len(b.Alone) > 0 {
		a.network(whole, b.Alone)
	}
	for _, i := range b.Kill {
		a.kill(boxes[i])
	}
	for _, i := range b.Pause {
		boxes[i].Signal(syscall.SIGSTOP)
	}
	for _, s := range b.Steps {
		a.wait(s.After)
		if s.FromLeader {
			leader = max(a.leader(), 0)
		}
		a.network(s.For(leader), b.Alone)
	}
	a.wait(b.Stands)
	for _, i := range b.Pause {
		boxes[i].Signal(syscall.SIGCONT)
	}
	for _, i := range b.Kill {
		boxes[i].Start()
	}
	began := time.Now()
	a.network(whole, nil)
	a.healed(b.What, began)
}

func (a *attack) kill(b *rig.Box) {
	b.Kill()
	a.history.End(a.history.Begin(nemesis.Op{Client: 1001, Box: b.Name, Kind: nemesis.Ended}))
}

func (a *attack) network(hubs nemesis.Ways, alone []int) {
	a.t.Helper()
	check(a.t, "setting the network", a.lan.set(nemesis.Cut(hubs, len(a.Boxes()), alone)))
}

// healed waits for an entry that was made after the network was whole: at some hub, at
// every hub, and confirmed at every clinic. Times count from when healing began.
func (a *attack) healed(what string, began time.Time) {
	a.t.Helper()
	var size uint64
	for _, h := range a.Hubs {
		if s, why := h.TryStatus(); why == "" {
			size = max(size, s.Size)
		}
	}
	newer := func(h *rig.Box) string {
		s, why := h.TryStatus()
		if why == "" && s.Size <= size {
			why = rig.Describe(s)
		}
		return why
	}
	a.Eventually(resumeLimit, "an order after: "+what, func() (why string) {
		for _, h := range a.Hubs {
			if why = newer(h); why == "" {
				return ""
			}
		}
		return why
	})
	a.resumes = append(a.resumes, time.Since(began))
	for _, h := range a.Hubs {
		h.Eventually(resumeLimit, h.Name+" to have it after: "+what, func() string { return newer(h) })
	}
	a.hubs = append(a.hubs, time.Since(began))
	for _, c := range a.Clinics {
		c.Eventually(resumeLimit, c.Name+" to have it after: "+what, func() string { return rig.UntilSize(c, size+1) })
	}
	a.follows = append(a.follows, time.Since(began))
	i := len(a.resumes) - 1
	a.t.Logf("%s: order again after %v, at every hub after %v, at every clinic after %v", what, a.resumes[i].Round(time.Millisecond), a.hubs[i].Round(time.Millisecond), a.follows[i].Round(time.Millisecond))
}

// resumeLimit is far more than it may take, for a machine that is busy.
const resumeLimit = 4 * time.Minute

// judge ends the work, waits until all boxes are the same and judges.
func (a *attack) judge() []nemesis.Finding {
	a.t.Helper()
	close(a.stop)
	a.work.Wait()
	if a.t.Failed() {
		return nil
	}
	a.WaitSameIn(resumeLimit, a.Boxes()...)
	for i, b := range a.Boxes() {
		head(a.history, 2000+i, b)
	}
	a.Each(a.Boxes(), func(b *rig.Box) { b.Verify() })
	return nemesis.Check(a.history.Ops(), a.replicas())
}

// keep writes the history where a person finds it.
func (a *attack) keep() {
	name := filepath.Join(os.TempDir(), fmt.Sprintf("healthpost-nemesis-%d.jsonl", os.Getpid()))
	if err := a.history.Write(name); err != nil {
		a.t.Error(err)
		return
	}
	a.t.Logf("the history is in %s", name)
}

// timing gives how long an attack lasts: as HEALTHPOST_NEMESIS says, or as much as a
// run of all tests can afford.
func timing(t testing.TB) nemesis.Timing {
	t.Helper()
	x := nemesis.Timing{Whole: 6 * time.Second, FaultMin: time.Second, FaultMax: 3 * time.Second, HealedMin: 200 * time.Millisecond, HealedMax: time.Second}
	if text := os.Getenv("HEALTHPOST_NEMESIS"); text != "" {
		whole, err := time.ParseDuration(text)
		check(t, "HEALTHPOST_NEMESIS", err)
		x = nemesis.Timing{Whole: whole, FaultMin: 2 * time.Second, FaultMax: 30 * time.Second, HealedMin: time.Second, HealedMax: 5 * time.Second}
	}
	return x
}

func newAttack(t testing.TB, seed uint64, program string, hubs, clinics int) *attack {
	t.Helper()
	return &attack{region: newRegion(t, program, hubs, clinics), t: t, rng: rand.New(rand.NewPCG(seed, 5)), history: nemesis.NewHistory(), stop: make(chan struct{})}
}

// TestAttack disturbs hubs and clinics while staff work: three hubs, and five too when
// there is time.
func TestAttack(t *testing.T) {
	for _, hubs := range []int{3, 5} {
		if hubs == 3 || os.Getenv("HEALTHPOST_NEMESIS") != "" {
			t.Run(fmt.Sprintf("hubs=%d", hubs), func(t *testing.T) { attackOnce(t, hubs, 2) })
		}
	}
}

func attackOnce(t *testing.T, hubs, clinics int) {
	seed := rig.NewSeed(t)
	a := newAttack(t, seed, "", hubs, clinics)
	blows := nemesis.Blows(a.rng, hubs, clinics, timing(t))
	for _, b := range blows {
		t.Logf("%v", b)
	}
	a.begin()
	for _, b := range blows {
		a.strike(b)
	}
	found := a.judge()
	t.Logf("%d blows, %d operations, order again within %v, at every hub within %v, at every clinic within %v", len(blows), a.history.Count(),
		slices.Max(a.resumes).Round(time.Millisecond), slices.Max(a.hubs).Round(time.Millisecond), slices.Max(a.follows).Round(time.Millisecond))
	if len(found) > 0 {
		t.Errorf("found:\n%s", nemesis.Words(found))
	}
	if t.Failed() {
		a.keep()
	}
}
