package fhir

import "strings"

// Contact is somebody to call about a patient.
type Contact struct {
	Name     string
	Relation string // in the words of the resource, or ""
	Phone    string
}

// Contacts reads whom a Patient names, the patient's own phone first, or the person that a RelatedPerson is.
func (r Resource) Contacts() []Contact {
	v := r.tree()
	var out []Contact
	add := func(c Contact) {
		if c.Name+c.Phone != "" {
			out = append(out, c)
		}
	}
	switch r.Type {
	case "Patient":
		add(Contact{Phone: phoneOf(v.get("telecom"))})
		for _, c := range v.get("contact").list() {
			add(Contact{Name: nameOf(c.get("name")), Relation: relationOf(c), Phone: phoneOf(c.get("telecom"))})
		}
	case "RelatedPerson":
		add(Contact{Name: nameOf(v.get("name").first()), Relation: relationOf(v), Phone: phoneOf(v.get("telecom"))})
	}
	return out
}

func phoneOf(telecom value) string {
	if i := phoneIndex(telecom); i >= 0 {
		return telecom.list()[i].get("value").text
	}
	return ""
}

func relationOf(v value) string {
	var words []string
	for _, role := range v.get("relationship").list() {
		if c := conceptOf(role); c.Text != "" {
			words = append(words, c.Text)
		}
	}
	return strings.Join(words, ", ")
}
