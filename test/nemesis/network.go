package nemesis

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Way is how the network treats what one box sends to another.
type Way struct {
	Dropped bool          // it swallows everything and tells nobody
	Refused bool          // connections end, and none begin
	Delay   time.Duration // one way
}

// Ways is the network among some boxes, by sender and receiver.
type Ways [][]Way

// Healthy is a network among n boxes without faults.
func Healthy(n int) Ways {
	w := make(Ways, n)
	for i := range w {
		w[i] = make([]Way, n)
	}
	return w
}

// Step changes the network.
type Step struct {
	After time.Duration // since the step before
	What  string
	// Ways is by position. Position 0 is whoever leads when the step is taken, if
	// FromLeader; the others follow in their order.
	Ways       Ways
	FromLeader bool
	// Heals marks a network without faults that stays for a while.
	Heals bool
}

// For gives the network by the boxes' own numbers.
func (s Step) For(leader int) Ways {
	if !s.FromLeader || leader <= 0 {
		return s.Ways
	}
	n := len(s.Ways)
	w := Healthy(n)
	for i := range n {
		for j := range n {
			w[(i+leader)%n][(j+leader)%n] = s.Ways[i][j]
		}
	}
	return w
}

func (w Ways) String() string {
	var b strings.Builder
	for i, row := range w {
		for j, x := range row {
			switch {
			case i == j || x == (Way{}):
			case x.Refused:
				fmt.Fprintf(&b, " %d/%d", i, j)
			case x.Dropped:
				fmt.Fprintf(&b, " %d-%d", i, j)
			default:
				fmt.Fprintf(&b, " %d~%d:%v", i, j, x.Delay)
			}
		}
	}
	if b.Len() == 0 {
		return "whole"
	}
	return strings.TrimSpace(b.String())
}

// drawing draws the steps of one fault.
type drawing struct {
	rng    *rand.Rand
	n      int
	steps  []Step
	fault  Way           // how cuts are made this time
	stands time.Duration // how long the last step stands
}

// add appends a step that comes after the one before it.
func (d *drawing) add(after time.Duration, what string, w Ways) {
	d.steps = append(d.steps, Step{After: after, What: what, Ways: w})
}

// between draws a duration.
func (d *drawing) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.rng.Int64N(int64(most-least)))
}

// one cuts what from sends to to.
func (d *drawing) one(w Ways, from, to int) {
	w[from][to] = d.fault
}

// both cuts two boxes from each other.
func (d *drawing) both(w Ways, a, b int) {
	d.one(w, a, b)
	d.one(w, b, a)
}

// groups cuts between boxes that are in no group together.
func (d *drawing) groups(groups ...[]int) Ways {
	w := Healthy(d.n)
	together := map[[2]int]bool{}
	for _, g := range groups {
		for _, a := range g {
			for _, b := range g {
				together[[2]int{a, b}] = true
			}
		}
	}
	for a := range d.n {
		for b := range d.n {
			if a != b && !together[[2]int{a, b}] {
				d.one(w, a, b)
			}
		}
	}
	return w
}

// alone cuts one box off.
func (d *drawing) alone(x int) Ways {
	w := Healthy(d.n)
	for i := range d.n {
		if i != x {
			d.both(w, i, x)
		}
	}
	return w
}

// mute makes a box hear and not be heard; deaf the other way round.
func (d *drawing) mute(x int) Ways {
	w := Healthy(d.n)
	for i := range d.n {
		if i != x {
			d.one(w, x, i)
		}
	}
	return w
}

func (d *drawing) deaf(x int) Ways {
	w := Healthy(d.n)
	for i := range d.n {
		if i != x {
			d.one(w, i, x)
		}
	}
	return w
}

// line lets each box speak with its neighbours in the order of the list alone; closed
// joins its ends.
func (d *drawing) line(order []int, closed bool) Ways {
	var pairs [][]int
	for i := range order[1:] {
		pairs = append(pairs, order[i:i+2])
	}
	if closed {
		pairs = append(pairs, []int{order[len(order)-1], order[0]})
	}
	return d.groups(pairs...)
}

// some draws a box, not the one at position 0.
func (d *drawing) some() int { return 1 + d.rng.IntN(d.n-1) }
