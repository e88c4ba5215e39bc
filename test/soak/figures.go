package soak

import (
	"fmt"
	"slices"
	"time"
)

// Sample is what one process takes at one time.
type Sample struct {
	At         time.Duration
	Goroutines uint64
	HeapLive   uint64 // bytes
	Anonymous  uint64 // bytes of memory that are no file's
	Resident   uint64 // bytes, files among them
	Files      uint64 // open descriptors
	Disk       uint64 // bytes in the box's folder, without what is kept in reserve
	Entries    uint64 // of the ledger, and own records that are not in it
}

// Limit says how much of one figure may be more at the end than after the warm-up.
type Limit struct {
	Name   string
	Of     func(Sample) uint64
	Share  float64 // of what it was
	Spare  float64 // besides
	ByData float64 // for each entry that came meanwhile
}

// Growth is how one figure went.
type Growth struct {
	Name             string
	Before, After    uint64 // lower quartiles, after the warm-up and at the end
	Entries          uint64 // that came between
	Allowed, PerHour float64
}

// OverLimit says whether it grew by more than it may.
func (g *Growth) OverLimit() bool { return float64(g.After)-float64(g.Before) > g.Allowed }

func (g *Growth) String() string {
	return fmt.Sprintf("%s %d to %d over %d entries (%.0f an hour), allowed %.0f more", g.Name, g.Before, g.After, g.Entries, g.PerHour, g.Allowed)
}

// Judge leaves out the first third as the warm-up, and compares the lower quartiles of
// the first and the last third of the rest: a figure that only now and then goes up
// comes back there, one that leaks does not, and one low sample decides nothing.
func Judge(samples []Sample, limits []Limit) []Growth {
	samples = samples[len(samples)/3:]
	third := len(samples) / 3
	if third == 0 {
		return nil
	}
	first, last := samples[:third], samples[len(samples)-third:]
	entries := quartile(last, func(s Sample) uint64 { return s.Entries }) - quartile(first, func(s Sample) uint64 { return s.Entries })
	between := last[len(last)/2].At - first[len(first)/2].At
	var out []Growth
	for _, l := range limits {
		g := Growth{Name: l.Name, Before: quartile(first, l.Of), After: quartile(last, l.Of), Entries: entries}
		g.Allowed = l.Share*float64(g.Before) + l.Spare + l.ByData*float64(entries)
		g.PerHour = (float64(g.After) - float64(g.Before)) / between.Hours()
		out = append(out, g)
	}
	return out
}

// Together adds up what several processes take: what moves from one to another, as
// the work of who leads does, is no growth. Samples that one of them lacks are left out.
func Together(lives ...[]Sample) []Sample {
	n := len(lives[0])
	for _, l := range lives {
		n = min(n, len(l))
	}
	out := make([]Sample, n)
	for i := range out {
		out[i].At, out[i].Entries = lives[0][i].At, lives[0][i].Entries
		for _, l := range lives {
			s := l[i]
			out[i].Goroutines, out[i].Files = out[i].Goroutines+s.Goroutines, out[i].Files+s.Files
			out[i].HeapLive, out[i].Anonymous, out[i].Resident, out[i].Disk = out[i].HeapLive+s.HeapLive, out[i].Anonymous+s.Anonymous, out[i].Resident+s.Resident, out[i].Disk+s.Disk
		}
	}
	return out
}

func quartile(samples []Sample, of func(Sample) uint64) uint64 {
	var list []uint64
	for _, s := range samples {
		list = append(list, of(s))
	}
	slices.Sort(list)
	return list[len(list)/4]
}
