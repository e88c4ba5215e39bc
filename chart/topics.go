package chart

import (
	"slices"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
)

// Sight is what somebody may see of what is kept apart by sensitive topics. The zero value sees none of it.
type Sight struct {
	Topics    fhir.Topics // all that is of these
	Medicines fhir.Topics // of these the medicines only
}

// sees reports whether a line is in sight: for what is of several topics, all of them have to be.
// Who somebody is, and what harms them, everybody sees.
func (s Sight) sees(l *Line) bool {
	switch l.Type {
	case "Patient", "AllergyIntolerance":
		return true
	case "MedicationRequest", "Medication":
		return l.Topics&^(s.Topics|s.Medicines) == 0
	}
	return l.Topics&^s.Topics == 0
}

// topics says of each line what it is kept apart by: what the labels of any of its versions say, now or
// before, and those of the visit that it belongs to. A medicine that an order means is of the order's topics.
func (c *Chart) topics(encounters []string) {
	apart := false
	for i := range c.Lines {
		l := &c.Lines[i]
		for _, list := range [][]Version{l.Heads, l.Past} {
			for j := range list {
				l.Topics |= list[j].Resource.Topics()
			}
		}
		apart = apart || l.Topics != 0
	}
	if !apart {
		return
	}
	for i, ref := range encounters {
		if e, ok := c.Find(ref); ok && e.Type == "Encounter" {
			c.Lines[i].Topics |= e.Topics
		}
	}
	for i := range c.Lines {
		if l := &c.Lines[i]; l.Topics != 0 && l.Type == "MedicationRequest" {
			for _, ref := range l.Resource().ReferenceTexts() {
				if m, ok := c.Find(ref); ok && m.Type == "Medication" {
					m.Topics |= l.Topics
				}
			}
		}
	}
}

// Topics are those that something in the chart is kept apart by.
func (c *Chart) Topics() (t fhir.Topics) {
	for i := range c.Lines {
		t |= c.Lines[i].Topics
	}
	return t
}

// Seen is the chart as somebody may see it: what is out of sight is in no list and no count of it, and
// nothing says that there was more.
func (c *Chart) Seen(s Sight) Chart {
	if !slices.ContainsFunc(c.Lines, func(l Line) bool { return !s.sees(&l) }) {
		return *c
	}
	var lines []Line
	for i := range c.Lines {
		if l := c.Lines[i]; s.sees(&l) {
			lines = append(lines, l.withOwnBlobs())
		}
	}
	out := ofLines(lines)
	out.Incomplete, out.Closed = c.Incomplete, c.Closed
	return out
}

// withOwnBlobs leaves out the content that other items of the same records have.
func (l Line) withOwnBlobs() Line {
	own := func(list []Version) []Version {
		list = slices.Clone(list)
		for i := range list {
			list[i] = list[i].withOwnBlobs()
		}
		return list
	}
	l.Heads, l.Past, l.Shown = own(l.Heads), own(l.Past), l.Shown.withOwnBlobs()
	return l
}

func (v Version) withOwnBlobs() Version {
	if len(v.Blobs) == 0 {
		return v
	}
	var own []Blob
	for _, a := range v.Attached() {
		own = append(own, a.Blob)
	}
	v.Blobs = own
	return v
}

// Hides reports whether a record says something that is out of sight.
func (c *Chart) Hides(s Sight, rid record.RID) bool {
	for i := range c.Lines {
		l := &c.Lines[i]
		said := func(v Version) bool { return v.RID == rid }
		if !s.sees(l) && (slices.ContainsFunc(l.Heads, said) || slices.ContainsFunc(l.Past, said)) {
			return true
		}
	}
	return false
}
