package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Less is what a run leaves out of what its seed draws. Every later choice comes
// from the same generator, so a run with less in it is another run; see Shrink.
type Less struct {
	Off      []string // classes of events, by name
	Hubs     int      // 3 or 5
	Clinics  int      // at most; 0 is as many as the seed draws
	Patients int
	Seconds  int // of the safety phase
	Rounds   int // of the scenario Hubs
	Saves    int
}

// class is one kind of thing that goes on in a region, which can be left out.
type class struct {
	name string
	off  func(*plan)
}

// classes are those that Less.Off may name, the ones that hide most first.
var classes = []class{
	{"lies", func(p *plan) { p.LieIn = 0 }},
	{"clocks", func(p *plan) { p.ClockMillis = 0 }},
	{"old-cards", func(p *plan) { p.RestoreMillis, p.KeepImageIn = 0, 0 }},
	{"copied-cards", func(p *plan) { p.CloneMillis = 0 }},
	{"old-hub-cards", func(p *plan) { p.HubCardMillis = 0 }},
	{"partitions", func(p *plan) { p.SplitMillis = 0 }},
	{"crashes", func(p *plan) { p.CrashMillis = 0 }},
	{"hub-crashes", func(p *plan) { p.HubCrashIn = 0 }},
	{"crashes-in-writes", func(p *plan) { p.WriteCrashIn = 0 }},
	{"old-indexes", func(p *plan) { p.ForgetIndexIn = 0 }},
	{"junk", func(p *plan) { p.JunkIn = 0 }},
	{"again", func(p *plan) { p.AgainIn = 0 }},
	{"neighbours", func(p *plan) { p.NeighboursIn = 0 }},
	{"cuts", func(p *plan) { p.CutIn = 0 }},
	{"carriers", func(p *plan) { p.Fields = 0 }},
	{"turns", func(p *plan) { p.Turns = false }},
	{"parcels", func(p *plan) { p.ParcelMillis = 0 }},
	{"bad-sticks", func(p *plan) { p.StickFaultIn = 0 }},
	{"imports", func(p *plan) { p.ImportMillis = 0 }},
	{"erasures", func(p *plan) { p.EraseMillis = 0 }},
	{"profiles", func(p *plan) { p.AssignMillis = 0 }},
	{"newest-first", func(p *plan) { p.Recent = 0 }},
	{"branches", func(p *plan) { p.BranchMillis = 0 }},
	{"tricks", func(p *plan) { p.TrickIn = 0 }},
	{"changed-bytes", func(p *plan) { p.ShakeIn = 0 }},
	{"flood", func(p *plan) { p.Flood = false }},
	{"wrong-times", func(p *plan) { p.WrongTimes = false }},
	{"slow-links", func(p *plan) { p.Latency, p.BytesPerSec, p.Window = 1, 1_000_000, 64<<10 }},
	{"lagging-hubs", func(p *plan) { p.ApplyMillis = 50 }},
}

// limits are the numbers that Less bounds, by name.
func (l *Less) limits() []struct {
	name string
	at   *int
} {
	return []struct {
		name string
		at   *int
	}{{"hubs", &l.Hubs}, {"clinics", &l.Clinics}, {"patients", &l.Patients}, {"seconds", &l.Seconds}, {"rounds", &l.Rounds}, {"saves", &l.Saves}}
}

// apply takes out of a plan what l leaves out.
func (l *Less) apply(p *plan) {
	for _, c := range classes {
		if slices.Contains(l.Off, c.name) {
			c.off(p)
		}
	}
	bound := func(at *int, most int) {
		if most > 0 {
			*at = min(*at, most)
		}
	}
	bound(&p.Hubs, l.Hubs)
	bound(&p.Clinics, l.Clinics)
	bound(&p.Patients, l.Patients)
	bound(&p.Rounds, l.Rounds)
	p.SavesMax = l.Saves
	if l.Seconds > 0 {
		p.SafetyMillis = min(p.SafetyMillis, int64(l.Seconds)*1000)
	}
	p.Patients = max(p.Patients, min(p.Parts, 1)*(p.Clinics+p.Fields)) // partial replicas have patients of their own
	p.Parts, p.Remote = min(p.Parts, p.Clinics), min(p.Remote, p.Clinics)
}

// String is what ParseLess reads.
func (l Less) String() string {
	var words []string
	for _, x := range l.limits() {
		if *x.at > 0 {
			words = append(words, x.name+"="+strconv.Itoa(*x.at))
		}
	}
	for _, name := range l.Off {
		words = append(words, "no-"+name)
	}
	return strings.Join(words, " ")
}

// ParseLess reads words like clinics=2 and no-crashes.
func ParseLess(text string) (Less, error) {
	var l Less
	for _, word := range strings.Fields(text) {
		if name, off := strings.CutPrefix(word, "no-"); off {
			if !slices.ContainsFunc(classes, func(c class) bool { return c.name == name }) {
				return l, fmt.Errorf("no class of events %q", name)
			}
			l.Off = append(l.Off, name)
			continue
		}
		name, number, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(number)
		known := false
		for _, x := range l.limits() {
			if x.name == name {
				*x.at, known = n, true
			}
		}
		if err != nil || n <= 0 || !known {
			return l, fmt.Errorf("not a number of a plan: %q", word)
		}
	}
	return l, nil
}
