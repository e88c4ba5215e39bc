package fhir

import "strings"

// Patient is what a page shows of a Patient resource.
type Patient struct {
	Given, Family  string
	Text           string // the whole name as written
	Sex            string // female, male, other, unknown or ""
	BirthDate      string
	BirthEstimated bool
	Deceased       string // "", "true" or a date
	Village        string
	Mother         string
	Phone          string
	Card           string
	Identifiers    []Identifier
}

// Patient reads the view of a Patient; the first official name wins, else the first one.
func (r Resource) Patient() Patient {
	v := r.tree()
	name := v.get("name").first()
	for _, n := range v.get("name").list() {
		if n.get("use").text == "official" {
			name = n
			break
		}
	}
	p := Patient{
		Given: givenOf(name), Family: name.get("family").text, Text: nameOf(name),
		Sex: v.get("gender").text, BirthDate: v.get("birthDate").text,
		Deceased:    choiceOf(v, "deceased"),
		Village:     villageOf(v.get("address").first()),
		Identifiers: identifiersOf(v),
	}
	if p.Deceased == "false" {
		p.Deceased = ""
	}
	if p.Given == "" && p.Family == "" {
		p.Given = p.Text
	}
	for _, e := range v.at("_birthDate").get("extension").list() {
		if e.get("url").text == ExtensionBirthEst {
			p.BirthEstimated = e.get("valueBoolean").str() == "true"
		}
	}
	if i := phoneIndex(v.get("telecom")); i >= 0 {
		p.Phone = v.get("telecom").list()[i].get("value").text
	}
	if i := motherIndex(v.get("contact")); i >= 0 {
		p.Mother = nameOf(v.get("contact").list()[i].get("name"))
	}
	for _, id := range p.Identifiers {
		if id.System == SystemCard {
			p.Card = id.Value
		}
	}
	return p
}

func villageOf(address value) string {
	for _, name := range []string{"city", "district", "text"} {
		if s := address.get(name).text; s != "" {
			return s
		}
	}
	return ""
}

func phoneIndex(telecom value) int {
	for i, t := range telecom.list() {
		if t.get("system").text == "phone" && t.get("value").text != "" {
			return i
		}
	}
	return -1
}

// motherIndex finds the contact that is the mother; without one the first contact.
func motherIndex(contact value) int {
	for i, c := range contact.list() {
		for _, role := range c.get("relationship").list() {
			for _, k := range role.get("coding").list() {
				if k.get("code").text == "MTH" {
					return i
				}
			}
		}
	}
	if len(contact.list()) > 0 {
		return 0
	}
	return -1
}

// RegistrationOf fills the form for changing a person's details.
func RegistrationOf(r Resource) Registration {
	p := r.Patient()
	return Registration{Given: p.Given, Family: p.Family, Sex: p.Sex, BirthDate: p.BirthDate, BirthEstimated: p.BirthEstimated,
		Village: p.Village, Mother: p.Mother, Phone: p.Phone, Card: p.Card}
}

// Amend gives current with what the form changed. Everything else in current stays as it is, byte for byte: other names, identifiers,
// extensions. The id and FullURL stay the same.
func (r Registration) Amend(current Resource) (Resource, error) {
	if err := firstHard(r.Validate()); err != nil {
		return Resource{}, err
	}
	r = r.trimmed()
	v, was := current.tree(), RegistrationOf(current).trimmed()
	if was == r {
		return current, nil
	}
	e := editor{v}
	if was.Given != r.Given || was.Family != r.Family {
		e.setFirst("name", nameIndex(v.get("name")), r.nameJSON())
	}
	if was.Sex != r.Sex {
		e.set("gender", r.Sex)
	}
	if was.BirthDate != r.BirthDate || was.BirthEstimated != r.BirthEstimated {
		e.set("birthDate", textOrNone(r.BirthDate))
		e.set("_birthDate", nil)
		if r.BirthEstimated && r.BirthDate != "" {
			e.set("_birthDate", estimatedJSON())
		}
	}
	if was.Village != r.Village {
		e.setFirst("address", 0, objectOrNone(r.Village, object{{"city", r.Village}}))
	}
	if was.Phone != r.Phone {
		e.setFirst("telecom", phoneIndex(v.get("telecom")), objectOrNone(r.Phone, r.phoneJSON()))
	}
	if was.Mother != r.Mother {
		e.setFirst("contact", motherIndex(v.get("contact")), objectOrNone(r.Mother, r.motherJSON()))
	}
	if was.Card != r.Card {
		e.setFirst("identifier", cardIndex(v.get("identifier")), objectOrNone(r.Card, r.cardJSON()))
	}
	out, err := ParseResource(appendJSON(nil, e.object()))
	out.FullURL = current.FullURL
	return out, err
}

func nameIndex(names value) int {
	for i, n := range names.list() {
		if n.get("use").text == "official" {
			return i
		}
	}
	return 0
}

func cardIndex(ids value) int {
	for i, id := range ids.list() {
		if id.get("system").text == SystemCard {
			return i
		}
	}
	return -1
}

func textOrNone(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func objectOrNone(s string, o object) any {
	if s == "" {
		return nil
	}
	return o
}

// editor changes members of an object and keeps the bytes of the others.
type editor struct{ v value }

// set replaces a member, adds it at the end, or drops it when to is nil.
func (e *editor) set(name string, to any) {
	var members []member
	found := false
	for _, m := range e.v.members {
		if m.name == name {
			found = true
			if to == nil {
				continue
			}
			m.value = value{raw: appendJSON(nil, to)}
		}
		members = append(members, m)
	}
	if !found && to != nil {
		members = append(members, member{name, value{raw: appendJSON(nil, to)}})
	}
	e.v.members = members
}

// setFirst replaces item i of a list, puts to in front when there is no such item, or drops item i when to is nil.
func (e *editor) setFirst(name string, i int, to any) {
	var items list
	old := e.v.get(name).list()
	if (i < 0 || i >= len(old)) && to != nil {
		items = append(items, to)
	}
	for j, item := range old {
		if j != i {
			items = append(items, raw(item.raw))
		} else if to != nil {
			items = append(items, merged(item, to.(object)))
		}
	}
	if len(items) == 0 {
		e.set(name, nil)
		return
	}
	e.set(name, items)
}

// merged keeps what the old item says beside the form's own elements: a name's use, an address's country.
func merged(old value, to object) object {
	out := object{}
	for _, m := range old.members {
		if !to.has(m.name) && !staleBeside(m.name) {
			out = out.with(m.name, raw(m.value.raw))
		}
	}
	return append(out, to...)
}

// staleBeside names elements that repeat what the form changes, and would contradict it.
func staleBeside(name string) bool {
	switch strings.TrimPrefix(name, "_") {
	case "text", "given", "family", "prefix", "suffix", "line", "postalCode":
		return true
	}
	return strings.HasPrefix(name, "_")
}

func (o object) has(name string) bool {
	for _, p := range o {
		if p.name == name {
			return true
		}
	}
	return false
}

func (e *editor) object() object {
	var o object
	for _, m := range e.v.members {
		o = o.with(m.name, raw(m.value.raw))
	}
	return o
}
