package nemesis

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Blow is one fault of a region of real boxes, hubs first, then clinics. It stands
// for a while and is undone.
type Blow struct {
	What   string
	Rests  time.Duration // before it
	Stands time.Duration
	Kill   []int  // processes that end at once, and are started again when it is undone
	Pause  []int  // processes that stand still
	Steps  []Step // of the network among the hubs
	Alone  []int  // boxes that nobody hears
}

func (b Blow) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "after %v %s for %v", b.Rests.Round(time.Millisecond), b.What, b.Stands.Round(time.Millisecond))
	for _, x := range []struct {
		what string
		list []int
	}{{"kill", b.Kill}, {"pause", b.Pause}, {"alone", b.Alone}} {
		if len(x.list) > 0 {
			fmt.Fprintf(&s, " %s %v", x.what, x.list)
		}
	}
	for _, x := range b.Steps {
		leader := ""
		if x.FromLeader {
			leader = " from the leader"
		}
		fmt.Fprintf(&s, "; +%v%s %v", x.After.Round(time.Millisecond), leader, x.Ways)
	}
	return s.String()
}

// Blows draws faults for a region: each kind once in every round, in random order.
func Blows(rng *rand.Rand, hubs, clinics int, t Timing) []Blow {
	d := &drawing{rng: rng, n: hubs}
	var list []Blow
	var at time.Duration
	for at < t.Whole {
		for _, kind := range rng.Perm(blowKinds) {
			b := d.blow(kind, clinics, t)
			b.Rests = d.between(t.HealedMin, t.HealedMax)
			if at += b.Rests + b.Stands; at >= t.Whole && len(list) > 0 {
				return list
			}
			list = append(list, b)
		}
	}
	return list
}

const blowKinds = 9

func (d *drawing) blow(kind, clinics int, t Timing) Blow {
	stands := d.between(t.FaultMin, t.FaultMax)
	clinic := d.n + d.rng.IntN(clinics)
	switch kind {
	case 0:
		return Blow{What: "a hub is killed", Stands: stands, Kill: []int{d.rng.IntN(d.n)}}
	case 1:
		return Blow{What: "a clinic is killed", Stands: stands, Kill: []int{clinic}}
	case 2:
		return Blow{What: "a hub stands still", Stands: stands, Pause: []int{d.rng.IntN(d.n)}}
	case 3:
		most := d.rng.Perm(d.n)[:d.n/2+1]
		return Blow{What: "most hubs are killed", Stands: stands, Kill: most}
	case 4:
		return Blow{What: "a clinic is cut off", Stands: stands, Alone: []int{clinic}}
	case 5:
		return Blow{What: "a clinic is cut off and killed", Stands: stands, Alone: []int{clinic}, Kill: []int{clinic}}
	}
	return d.partition(stands, t)
}

// partition takes one fault of a schedule for that many hubs.
func (d *drawing) partition(stands time.Duration, t Timing) Blow {
	fit := slices.DeleteFunc(slices.Clone(Schedules), func(s Schedule) bool { return s.Hubs != d.n })
	s := fit[d.rng.IntN(len(fit))]
	steps := s.Steps(d.rng, Timing{Whole: 1, FaultMin: t.FaultMin, FaultMax: t.FaultMax, HealedMin: 0, HealedMax: 1})
	b := Blow{What: "partition: " + s.Name, Stands: stands}
	for _, x := range steps {
		if x.Heals {
			b.Stands = x.After
		} else {
			b.Steps = append(b.Steps, x)
		}
	}
	return b
}

// Cut gives the network of a whole region: that among its hubs, and boxes that nobody
// hears.
func Cut(hubs Ways, boxes int, alone []int) Ways {
	w := Healthy(boxes)
	for i := range hubs {
		copy(w[i], hubs[i])
	}
	for _, x := range alone {
		for i := range boxes {
			if i != x {
				w[x][i].Dropped, w[i][x].Dropped = true, true
			}
		}
	}
	return w
}
