package chart

import (
	"github.com/healthpost/healthpost/fhir"
)

// Line is one thing in a chart with everything that was ever said about it.
type Line struct {
	Key       string
	Type      string
	Shown     Version     // the first head with content; of a retracted line the last content there was
	Heads     []Version   // what stands now; several when people wrote without knowing of each other
	Past      []Version   // what was replaced, oldest first
	Conflict  bool        // the heads say different things
	Retracted bool        // no head has content
	Topics    fhir.Topics // that it is kept apart by
}

// Refs are the heads: the base of an item that amends, retracts or resolves the line.
func (l Line) Refs() []Ref {
	refs := make([]Ref, len(l.Heads))
	for i, h := range l.Heads {
		refs[i] = h.Ref
	}
	return refs
}

// Resource is the shown version's resource.
func (l Line) Resource() fhir.Resource { return l.Shown.Resource }

// Retraction is the item that takes the line out of the chart.
func (l Line) Retraction() Item {
	r := l.Shown.Resource
	return Item{Op: OpRetract, FullURL: r.FullURL, Type: l.Type, ID: r.ID, Base: l.Refs()}
}

// lines groups the versions of records, which are in order, by what they are versions of.
func lines(records []Opened) []*Line {
	var out []*Line
	byKey := map[string]*Line{}
	for r := range records {
		for i := range records[r].Body.Items {
			it := &records[r].Body.Items[i]
			v := records[r].version(i)
			key := it.Key()
			if key == "" {
				key = it.Type + " " + v.Ref.String()
			}
			l := byKey[key]
			if l == nil {
				l = &Line{Key: key, Type: it.Type}
				byKey[key] = l
				out = append(out, l)
			}
			l.Past = append(l.Past, v)
		}
	}
	for _, l := range out {
		l.fold()
	}
	return out
}

// fold parts the versions, all in Past, into heads and past ones.
func (l *Line) fold() {
	replaced := map[Ref]bool{}
	for _, v := range l.Past {
		if v.State.Kind == Refused && !v.Ordered {
			continue
		}
		for _, ref := range v.Base {
			if ref != v.Ref {
				replaced[ref] = true
			}
		}
	}
	all := l.Past
	l.Heads, l.Past = part(all, func(v Version) bool { return !replaced[v.Ref] })
	if len(l.Heads) == 0 { // only bases that go round in a circle do this: hide nothing
		l.Heads, l.Past = all, nil
	}
	l.show()
}

func part(all []Version, in func(Version) bool) (yes, no []Version) {
	for _, v := range all {
		if in(v) {
			yes = append(yes, v)
		} else {
			no = append(no, v)
		}
	}
	return yes, no
}

func (l *Line) show() {
	standing, _ := part(l.Heads, func(v Version) bool { return v.Ordered || v.State.Kind != Refused })
	if len(standing) == 0 {
		standing = l.Heads
	}
	l.Conflict = !sameContent(standing)
	withContent, _ := part(standing, func(v Version) bool { return v.Op == OpPut })
	if len(withContent) > 0 {
		l.Shown = withContent[0]
		return
	}
	l.Retracted = true
	l.Conflict = false
	l.Shown = standing[0]
	for _, v := range l.Past {
		if v.Op == OpPut {
			l.Shown = v
		}
	}
}

func sameContent(versions []Version) bool {
	for _, v := range versions[1:] {
		a, b := versions[0], v
		if a.Op != b.Op || a.Op == OpPut && string(a.Resource.JSON) != string(b.Resource.JSON) &&
			!fhir.JSONEqual(a.Resource.JSON, b.Resource.JSON) {
			return false
		}
	}
	return true
}
