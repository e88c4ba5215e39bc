package nemesis

import (
	"math/rand/v2"
	"time"
)

// Schedule is one kind of partition among some hubs.
type Schedule struct {
	Name       string
	Hubs       int
	FromLeader bool // position 0 is whoever leads
	Refused    bool // cuts end connections; otherwise each cut draws whether it does
	Swallowed  bool // cuts swallow what is sent, always
	draw       func(d *drawing, least, most time.Duration)
}

// Timing says how long faults and the rests between them last.
type Timing struct {
	Whole                time.Duration // of the schedule
	FaultMin, FaultMax   time.Duration
	HealedMin, HealedMax time.Duration
}

// Steps draws the schedule: faults, each healed, until the time is over. It ends
// healed.
func (s Schedule) Steps(rng *rand.Rand, t Timing) []Step {
	var steps []Step
	var at time.Duration
	for at < t.Whole {
		d := &drawing{rng: rng, n: s.Hubs}
		d.fault = Way{Dropped: true}
		if s.Refused || !s.Swallowed && rng.IntN(2) == 0 {
			d.fault = Way{Refused: true}
		}
		s.draw(d, t.FaultMin, t.FaultMax)
		for i := range d.steps {
			d.steps[i].FromLeader = s.FromLeader
		}
		d.steps[0].After += d.between(t.HealedMin, t.HealedMax) // the network was whole
		d.add(d.stands, "healed", Healthy(s.Hubs))
		d.steps[len(d.steps)-1].Heals = true
		for _, x := range d.steps {
			at += x.After
		}
		steps = append(steps, d.steps...)
	}
	return steps
}

// still is one cut that stands until it is healed.
func still(what string, f func(*drawing) Ways) func(*drawing, time.Duration, time.Duration) {
	return func(d *drawing, least, most time.Duration) {
		d.add(0, what, f(d))
		d.stands = d.between(least, most)
	}
}

// flapping goes between a cut and a whole network, each for a moment.
func flapping(what string, f func(*drawing) Ways) func(*drawing, time.Duration, time.Duration) {
	return func(d *drawing, _, most time.Duration) {
		for total := time.Duration(0); total < most; {
			d.add(d.between(100*time.Millisecond, 4*time.Second), what, f(d))
			d.add(d.between(100*time.Millisecond, 4*time.Second), "whole for a moment", Healthy(d.n))
			total += d.steps[len(d.steps)-1].After + d.steps[len(d.steps)-2].After
		}
	}
}

// swizzle cuts boxes off one by one in one order and joins them again in another.
func swizzle(d *drawing, _, most time.Duration) {
	cut := map[int]bool{}
	network := func() Ways {
		w := Healthy(d.n)
		for x := range cut {
			for i := range d.n {
				if i != x {
					d.both(w, i, x)
				}
			}
		}
		return w
	}
	pause := most / time.Duration(2*d.n)
	for _, x := range d.rng.Perm(d.n) {
		cut[x] = true
		d.add(d.between(pause/4, pause), "one more cut off", network())
	}
	for _, x := range d.rng.Perm(d.n) {
		delete(cut, x)
		d.add(d.between(pause/4, pause), "one joined again", network())
	}
}

// rolling cuts off the leader of the moment, one after the other.
func rolling(d *drawing, _, most time.Duration) {
	for range 3 {
		d.add(d.between(most/6, most/3), "the leader of the moment alone", d.alone(0))
	}
	d.stands = d.between(most/6, most/3)
}

// grudges cuts every direction or not, by chance, again and again.
func grudges(d *drawing, _, most time.Duration) {
	for range 4 {
		w := Healthy(d.n)
		for i := range d.n {
			for j := range d.n {
				if i != j && d.rng.IntN(3) == 0 {
					d.one(w, i, j)
				}
			}
		}
		d.add(d.between(most/8, most/4), "every direction by chance", w)
	}
	d.stands = d.between(most/8, most/4)
}

// slowly delays what some boxes say.
func slowly(least, most time.Duration, who func(*drawing) []int) func(*drawing) Ways {
	return func(d *drawing) Ways {
		w := Healthy(d.n)
		for _, x := range who(d) {
			for i := range d.n {
				if i != x {
					w[x][i].Delay, w[i][x].Delay = d.between(least, most), d.between(least, most)
				}
			}
		}
		return w
	}
}

// drawnGroups cuts a random order of the boxes into groups of these sizes.
func drawnGroups(sizes ...int) func(*drawing) Ways {
	return func(d *drawing) Ways {
		order := d.rng.Perm(d.n)
		var groups [][]int
		for _, n := range sizes {
			groups = append(groups, order[:n])
			order = order[n:]
		}
		return d.groups(groups...)
	}
}

// Schedules are the partitions that are tried.
var Schedules = []Schedule{
	{Name: "pair", Hubs: 3, draw: still("two do not hear each other", func(d *drawing) Ways {
		w := Healthy(d.n)
		a := d.rng.IntN(d.n)
		d.both(w, a, (a+1)%d.n)
		return w
	})},
	{Name: "leader and one follower", Hubs: 3, FromLeader: true, draw: still("the leader and one do not hear each other", func(d *drawing) Ways {
		w := Healthy(d.n)
		d.both(w, 0, d.some())
		return w
	})},
	{Name: "leader alone, swallowed", Hubs: 3, FromLeader: true, Swallowed: true, draw: still("the leader alone", func(d *drawing) Ways { return d.alone(0) })},
	{Name: "leader alone, refused", Hubs: 3, FromLeader: true, Refused: true, draw: still("the leader alone", func(d *drawing) Ways { return d.alone(0) })},
	{Name: "follower alone", Hubs: 3, FromLeader: true, draw: still("a follower alone", func(d *drawing) Ways { return d.alone(d.some()) })},
	{Name: "no majority of three", Hubs: 3, draw: still("everybody alone", drawnGroups(1, 1, 1))},
	{Name: "leader mute", Hubs: 3, FromLeader: true, draw: still("the leader is not heard", func(d *drawing) Ways { return d.mute(0) })},
	{Name: "leader deaf", Hubs: 3, FromLeader: true, draw: still("the leader does not hear", func(d *drawing) Ways { return d.deaf(0) })},
	{Name: "follower mute", Hubs: 3, FromLeader: true, draw: still("a follower is not heard", func(d *drawing) Ways { return d.mute(d.some()) })},
	{Name: "follower deaf", Hubs: 3, FromLeader: true, draw: still("a follower does not hear", func(d *drawing) Ways { return d.deaf(d.some()) })},
	{Name: "circle of one way", Hubs: 3, draw: still("each hears the one before it alone", func(d *drawing) Ways {
		w := Healthy(d.n)
		for i := range d.n {
			d.one(w, i, (i+d.n-1)%d.n)
		}
		return w
	})},
	{Name: "flapping leader", Hubs: 3, FromLeader: true, draw: flapping("the leader alone", func(d *drawing) Ways { return d.alone(0) })},
	{Name: "flapping pairs", Hubs: 3, draw: flapping("two do not hear each other", func(d *drawing) Ways {
		w := Healthy(d.n)
		a := d.rng.IntN(d.n)
		d.both(w, a, (a+1)%d.n)
		return w
	})},
	{Name: "swizzle of three", Hubs: 3, draw: swizzle},
	{Name: "slow leader", Hubs: 3, FromLeader: true, draw: still("the leader is slow", slowly(200*time.Millisecond, 3*time.Second, func(*drawing) []int { return []int{0} }))},
	{Name: "slow everywhere", Hubs: 3, draw: still("everything is slow", slowly(200*time.Millisecond, 2*time.Second, func(d *drawing) []int { return []int{0, 1, 2} }))},
	{Name: "majority and minority", Hubs: 5, draw: still("three and two", drawnGroups(3, 2))},
	{Name: "leader in the minority", Hubs: 5, FromLeader: true, draw: still("the leader with one, and three", func(d *drawing) Ways {
		order := append([]int{0}, plusOne(d.rng.Perm(d.n-1))...)
		return d.groups(order[:2], order[2:])
	})},
	{Name: "no majority of five", Hubs: 5, draw: still("two, two and one", drawnGroups(2, 2, 1))},
	{Name: "bridge", Hubs: 5, draw: still("two halves and one that both hear", func(d *drawing) Ways {
		o := d.rng.Perm(d.n)
		return d.groups([]int{o[0], o[1], o[2]}, []int{o[2], o[3], o[4]})
	})},
	{Name: "ring", Hubs: 5, draw: still("each hears its two neighbours", func(d *drawing) Ways { return d.line(d.rng.Perm(d.n), true) })},
	{Name: "swizzle of five", Hubs: 5, draw: swizzle},
	{Name: "one after the other", Hubs: 5, FromLeader: true, draw: rolling},
	{Name: "grudges", Hubs: 5, draw: grudges},
}

func plusOne(list []int) []int {
	for i := range list {
		list[i]++
	}
	return list
}
