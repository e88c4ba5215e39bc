package chart

import (
	"strings"

	"github.com/healthpost/healthpost/fhir"
)

// indexNames notes every text by which a reference can mean a line. A name that two lines claim means the first.
// It gives the encounter reference of each line.
func (c *Chart) indexNames() []string {
	encounters := make([]string, len(c.Lines))
	for i := range c.Lines {
		var names []string
		names, encounters[i] = c.Lines[i].Resource().Links()
		for _, name := range names {
			if _, taken := c.index[name]; !taken {
				c.index[name] = i
			}
		}
	}
	return encounters
}

// Find resolves a reference text of a resource in this chart: a full URL, urn:uuid, "Type/id" (also at the end of a URL, with or
// without a version), or "Type?identifier=system|value". A retracted line is found too.
func (c *Chart) Find(reference string) (*Line, bool) {
	for _, name := range fhir.ReferenceForms(reference) {
		if i, ok := c.index[name]; ok {
			return &c.Lines[i], true
		}
	}
	return nil, false
}

// Line finds the line that has ref among its versions.
func (c *Chart) Line(ref Ref) (*Line, bool) {
	for i := range c.Lines {
		l := &c.Lines[i]
		for _, list := range [][]Version{l.Heads, l.Past} {
			for _, v := range list {
				if v.Ref == ref {
					return l, true
				}
			}
		}
	}
	return nil, false
}

// Retraction gives the items that take out what ref is a version of: of an encounter, with everything recorded in it.
func (c *Chart) Retraction(ref Ref) []Item {
	l, ok := c.Line(ref)
	if !ok || l.Retracted {
		return nil
	}
	items := []Item{l.Retraction()}
	if l.Type != "Encounter" {
		return items
	}
	for i := range c.Lines {
		part := &c.Lines[i]
		if part.Retracted || part.Type == "Encounter" || part.Type == "Patient" || len(items) >= ItemsMax {
			continue
		}
		name := part.Resource().EncounterReference()
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		if e, ok := c.Find(name); ok && e.Key == l.Key {
			items = append(items, part.Retraction())
		}
	}
	return items
}
