package sim

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Shrunk is the smallest run that was found to break an invariant.
type Shrunk struct {
	Violation *Violation
	Less      Less
	Runs      int      // that were tried
	Script    []string // what happens in it, without the frames of sessions
}

// Line is the run as testdata/seeds.txt keeps it.
func (s *Shrunk) Line() string {
	return strings.TrimSpace(fmt.Sprintf("%s %d %s", s.Violation.Scenario, s.Violation.Seed, s.Less))
}

func (s *Shrunk) String() string {
	v := s.Violation
	script := s.Script
	if n := len(script); n > linesShown {
		script = append([]string{fmt.Sprintf("... %d lines before", n-linesShown)}, script[n-linesShown:]...)
	}
	return fmt.Sprintf("%s: %s\nafter %d runs, to be kept in testdata/seeds.txt:\n%s\n\n%s", v.Invariant, v.What, s.Runs, s.Line(), strings.Join(script, "\n"))
}

// linesShown is how much of a script is printed: a violation is at its end.
const linesShown = 120

// shrinker looks for smaller runs that break the same invariant.
type shrinker struct {
	o     Options
	best  Shrunk
	limit int // runs
}

// seedsEach is how many seeds each smaller plan gets: with less in it a seed
// draws another run.
const seedsEach = 6

// Shrink makes a run that broke an invariant smaller: it leaves out one class of
// events after the other, and halves what can be counted, as long as one of a few
// seeds still breaks the same invariant, for so many runs. o are the options of that
// run; Dir is where the folders of the runs go.
func Shrink(v *Violation, o Options, limit int) (*Shrunk, error) {
	s := &shrinker{o: o, best: Shrunk{Violation: v, Less: o.Less}, limit: limit}
	for smaller := true; smaller; {
		smaller = false
		for _, next := range s.candidates() {
			ok, err := s.try(next)
			if err != nil {
				return nil, err
			}
			smaller = smaller || ok
		}
	}
	s.o.Less = s.best.Less
	_, script, err := s.run(s.best.Violation.Seed)
	if v := (*Violation)(nil); !errors.As(err, &v) {
		return nil, fmt.Errorf("%s does not repeat: %w", s.best.Line(), err)
	}
	s.best.Script = script
	return &s.best, nil
}

// candidates are changes that make the best plan so far smaller: numbers first,
// then all classes of events at once, halves of them, and so on down to each.
func (s *shrinker) candidates() []func(*Less) {
	v := s.best.Violation
	full := newWorld(v.Seed, s.withLess(s.best.Less)).plan
	var out []func(*Less)
	halve := func(now int, at func(*Less) *int) {
		for _, n := range []int{1, now / 2, now - 1} {
			if n > 0 && n < now {
				out = append(out, func(l *Less) { *at(l) = n })
			}
		}
	}
	if full.Hubs > 3 {
		out = append(out, func(l *Less) { l.Hubs = 3 })
	}
	halve(full.Clinics, func(l *Less) *int { return &l.Clinics })
	halve(full.Patients, func(l *Less) *int { return &l.Patients })
	var on []class
	for _, c := range classes {
		if p := full; func() bool { c.off(&p); return p != full }() {
			on = append(on, c)
		}
	}
	for size := len(on); size > 0; size /= 2 {
		for part := range slices.Chunk(on, size) {
			out = append(out, func(l *Less) { l.leaveOut(part) })
		}
	}
	out = append(out, func(l *Less) { l.Seconds = int(v.At/1000) + 1 }) // what would come later changes nothing before
	halve(int(full.SafetyMillis/1000), func(l *Less) *int { return &l.Seconds })
	halve(full.Rounds, func(l *Less) *int { return &l.Rounds })
	halve(v.Saves, func(l *Less) *int { return &l.Saves })
	return out
}

func (l *Less) leaveOut(list []class) {
	l.Off = slices.Clone(l.Off)
	for _, c := range list {
		if !slices.Contains(l.Off, c.name) {
			l.Off = append(l.Off, c.name)
		}
	}
}

func (s *shrinker) withLess(l Less) Options {
	o := s.o
	o.Less = l
	return o
}

// try says whether a smaller plan breaks the invariant with some seed, and keeps it.
func (s *shrinker) try(change func(*Less)) (bool, error) {
	less := s.best.Less
	if change(&less); less.String() == s.best.Less.String() {
		return false, nil
	}
	was := newWorld(s.best.Violation.Seed, s.withLess(s.best.Less)).plan
	s.o.Less = less
	for n := range uint64(seedsEach) {
		if s.best.Runs >= s.limit {
			return false, nil
		}
		seed := s.best.Violation.Seed + n
		if n > 0 && !fits(newWorld(seed, s.o).plan, was) {
			continue
		}
		_, _, err := s.run(seed)
		var v *Violation
		if errors.As(err, &v) && v.Invariant == s.best.Violation.Invariant {
			s.best.Violation, s.best.Less = v, less
			return true, nil
		}
		if err != nil && v == nil {
			return false, err
		}
	}
	return false, nil
}

// fits: another seed's plan counts no more than the one before.
func fits(p, was plan) bool {
	return p.Clinics <= was.Clinics && p.Patients <= was.Patients && p.SafetyMillis <= was.SafetyMillis && p.Rounds <= was.Rounds
}

func (s *shrinker) run(seed uint64) (Result, []string, error) {
	s.best.Runs++
	dir, err := os.MkdirTemp(s.o.Dir, "shrink")
	if err != nil {
		return Result{}, nil, err
	}
	o := s.o
	o.Dir, o.story = dir, true
	w := newWorld(seed, o)
	r, err := w.finished()
	var script []string
	for _, line := range w.story {
		if !strings.Contains(line, " sends 0x") {
			script = append(script, line)
		}
	}
	if rerr := os.RemoveAll(dir); rerr != nil {
		return r, nil, errors.Join(err, rerr)
	}
	return r, script, err
}
