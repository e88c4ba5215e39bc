package fhir

import "strings"

// Coding is one code of a CodeableConcept.
type Coding struct{ System, Code, Display string }

// Concept is a CodeableConcept as a page shows it.
type Concept struct {
	Text    string // the text, or the first display, or the first code
	Codings []Coding
}

// Code gives the code of the first coding in system; "" when there is none.
func (c Concept) Code(system string) string {
	for _, k := range c.Codings {
		if k.System == system {
			return k.Code
		}
	}
	return ""
}

// LOINC is the code among them that is one of LOINC's, or "".
func (c Concept) LOINC() string { return c.Code(systemLOINC) }

// Quantity keeps its number as text, digit for digit.
type Quantity struct{ Comparator, Value, Unit, Code string }

func (q Quantity) String() string { return strings.TrimSpace(q.Comparator + q.Value + " " + q.Unit) }

// Identifier is one business identifier.
type Identifier struct{ System, Value string }

// tree is what the views below are read from. A resource that does not parse (none that ParseResource made) gives empty views.
func (r Resource) tree() value {
	v, err := parseJSON(r.JSON)
	if err != nil {
		return value{}
	}
	return v
}

func conceptOf(v value) Concept {
	v = v.first()
	c := Concept{Text: v.get("text").text}
	for _, k := range v.get("coding").list() {
		c.Codings = append(c.Codings, Coding{k.get("system").text, k.get("code").text, k.get("display").text})
	}
	for i := 0; c.Text == "" && i < len(c.Codings); i++ {
		c.Text = c.Codings[i].Display
	}
	if c.Text == "" && len(c.Codings) > 0 {
		c.Text = c.Codings[0].Code
	}
	return c
}

func quantityOf(v value) Quantity {
	q := Quantity{v.get("comparator").text, v.get("value").str(), v.get("unit").text, v.get("code").text}
	if q.Unit == "" {
		q.Unit = q.Code
	}
	return q
}

// referenceOf is the reference text of a Reference; a logical one reads "Type?identifier=system|value".
func referenceOf(v value, typ string) string {
	v = v.first()
	if text := v.get("reference").text; text != "" {
		return text
	}
	if id := v.get("identifier"); id.get("value").text != "" {
		if given := v.get("type").text; given != "" {
			typ = given
		}
		return ConditionalReference(typ, id.get("system").text, id.get("value").text)
	}
	return ""
}

// ConditionalReference is the reference to what has an identifier: "Patient?identifier=system|value".
func ConditionalReference(typ, system, val string) string {
	return typ + "?identifier=" + system + "|" + val
}

// nameOf shows a HumanName.
func nameOf(v value) string {
	if text := v.get("text").text; text != "" {
		return text
	}
	return strings.TrimSpace(givenOf(v) + " " + v.get("family").text)
}

func givenOf(v value) string {
	var given []string
	for _, g := range v.get("given").list() {
		if g.text != "" {
			given = append(given, g.text)
		}
	}
	return strings.Join(given, " ")
}

// choiceOf shows any type of a choice element: value[x] with stem "value".
func choiceOf(v value, stem string) string {
	for i := range v.members {
		m := &v.members[i]
		rest, ok := strings.CutPrefix(m.name, stem)
		if ok && dataTypes[rest] {
			return shown(m.value, rest)
		}
	}
	return ""
}

func shown(v value, typ string) string {
	switch typ {
	case "Quantity", "Age", "Duration", "Count", "Distance", "Money":
		return quantityOf(v).String()
	case "CodeableConcept":
		return conceptOf(v).Text
	case "Coding":
		if d := v.get("display").text; d != "" {
			return d
		}
		return v.get("code").text
	case "Period", "Range":
		if typ == "Range" {
			return quantityOf(v.get("low")).String() + " – " + quantityOf(v.get("high")).String()
		}
		return v.get("start").text
	case "Ratio":
		return quantityOf(v.get("numerator")).String() + " / " + quantityOf(v.get("denominator")).String()
	case "Reference":
		if d := v.get("display").text; d != "" {
			return d
		}
		return referenceOf(v, "")
	case "Timing":
		return v.at("event").text
	}
	return v.str()
}

func identifiersOf(v value) []Identifier {
	var ids []Identifier
	for _, id := range v.get("identifier").list() {
		if val := id.get("value").text; val != "" {
			ids = append(ids, Identifier{id.get("system").text, val})
		}
	}
	return ids
}

// Identifiers are the business identifiers of any resource.
func (r Resource) Identifiers() []Identifier { return identifiersOf(r.tree()) }

// SubjectReference is the text of the resource's subject or patient; "" when it names none.
func (r Resource) SubjectReference() string {
	v := r.tree()
	if s := referenceOf(v.get("subject"), "Patient"); s != "" {
		return s
	}
	return referenceOf(v.get("patient"), "Patient")
}

// EncounterReference is the text of the resource's encounter wherever its type keeps it; "" when it names none.
func (r Resource) EncounterReference() string { return encounterOf(r.tree()) }

func encounterOf(v value) string {
	for _, path := range [][]string{{"encounter"}, {"context", "encounter"}, {"context"}, {"item", "encounter"}} {
		at := v
		for _, name := range path {
			at = at.first().get(name)
		}
		if s := referenceOf(at, "Encounter"); s != "" {
			return s
		}
	}
	return ""
}

// ReferenceTexts are all reference texts of the resource, in the order of its JSON, at most 10,000.
func (r Resource) ReferenceTexts() []string {
	var out []string
	var walk func(v value)
	walk = func(v value) {
		for i := range v.members {
			m := &v.members[i]
			if m.name == "reference" && m.value.kind == kindText && len(out) < 10_000 {
				out = append(out, m.value.text)
			}
			walk(m.value)
		}
		for i := range v.items {
			walk(v.items[i])
		}
	}
	walk(r.tree())
	return out
}

// Summary is one line about a resource of any type: its code, name or text; for types without a view of their own.
type Summary struct {
	Title string
	Value string
	Date  string // as it stands in the resource
}

// Summarise reads what most types have in common.
func (r Resource) Summarise() Summary {
	v := r.tree()
	s := Summary{Value: choiceOf(v, "value")}
	for _, name := range []string{"code", "vaccineCode", "medicationCodeableConcept", "type", "category", "description"} {
		if s.Title = conceptOf(v.get(name)).Text; s.Title != "" {
			break
		}
	}
	for _, name := range []string{"name", "title", "description", "deviceName"} {
		if s.Title != "" {
			break
		}
		if item := v.get(name).first(); item.kind == kindObject {
			s.Title = nameOf(item)
		} else {
			s.Title = item.str()
		}
	}
	s.Date = dateOf(v)
	return s
}

// dateOf is the clinically relevant date of most types.
func dateOf(v value) string {
	for _, stem := range []string{"effective", "occurrence", "performed", "onset"} {
		if d := choiceOf(v, stem); len(d) >= 4 && isDateTime(d) {
			return d
		}
	}
	for _, name := range []string{"authoredOn", "recordedDate", "date", "issued", "created", "recorded", "startDate", "started"} {
		if d := v.get(name).text; d != "" {
			return d
		}
	}
	for _, name := range []string{"period", "billablePeriod"} {
		if d := v.at(name, "start").text; d != "" {
			return d
		}
	}
	return ""
}
