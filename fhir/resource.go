package fhir

import (
	"fmt"
	"strings"
)

// ResourceSizeMax is the most bytes of JSON one resource may have.
const ResourceSizeMax = 256 << 10

// Resource is one FHIR R4 resource: its JSON exactly as received or built, and the few header fields the box needs.
type Resource struct {
	Type    string
	ID      string // "" when the resource has none
	FullURL string // of its Bundle entry; "" when there was none
	JSON    []byte // one object, at most ResourceSizeMax

	Content []Content // what ParseLarge took out of JSON
}

// Name is "Type/ID", the FullURL of a resource without an ID, or the type alone: for reports, never empty.
func (r Resource) Name() string {
	switch {
	case r.ID != "":
		return r.Type + "/" + r.ID
	case r.FullURL != "":
		return r.FullURL
	}
	return r.Type
}

// ResourceError says which element of a resource breaks which rule. It holds no values of the resource.
type ResourceError struct {
	Element string // as "Patient.name[0].family"; "" for the bytes as a whole
	Reason  string
}

func (e *ResourceError) Error() string {
	if e.Element == "" {
		return "resource " + e.Reason
	}
	return e.Element + " " + e.Reason
}

// ParseResource checks raw against the rules in the package doc and reads its header. The result shares raw's memory, trimmed of the
// white space around the object. The error is a *ResourceError.
func ParseResource(raw []byte) (Resource, error) {
	if len(raw) > ResourceSizeMax {
		return Resource{}, &ResourceError{Reason: fmt.Sprintf("has more than %d bytes", ResourceSizeMax)}
	}
	v, err := parseJSON(raw)
	if err != nil {
		return Resource{}, asResourceError(err)
	}
	if v.kind != kindObject {
		return Resource{}, &ResourceError{Reason: "is not a JSON object"}
	}
	typ, err := checkResource(v, "", "")
	if err != nil {
		return Resource{}, err
	}
	return Resource{Type: typ, ID: v.get("id").text, JSON: v.raw}, nil
}

func asResourceError(err error) error {
	e := err.(*jsonError)
	if e.path == "" {
		return &ResourceError{Reason: fmt.Sprintf("%s (at byte %d)", e.reason, e.pos)}
	}
	return &ResourceError{Element: e.path, Reason: fmt.Sprintf("%s (at byte %d)", e.reason, e.pos)}
}

// checkResource checks a whole resource; at and container are "" at the root, else the element and the resource that contains it.
func checkResource(v value, at, container string) (string, error) {
	typ := v.get("resourceType")
	if typ.kind != kindText {
		return "", &ResourceError{Element: sub(at, "resourceType"), Reason: "is missing"}
	}
	if !KnownType(typ.text) {
		return "", &ResourceError{Element: sub(at, "resourceType"), Reason: "is no R4 resource type"}
	}
	if at == "" {
		at = typ.text
	}
	if id := v.get("id"); v.has("id") && (id.kind != kindText || !isID(id.text)) {
		return "", &ResourceError{Element: at + ".id", Reason: "is not 1 to 64 letters, digits, '-' or '.'"}
	}
	c := checker{}
	c.object(v, at)
	c.rules(v, at, typ.text)
	if c.err != nil {
		return "", c.err
	}
	for i, inner := range v.get("contained").list() {
		inside := fmt.Sprintf("%s.contained[%d]", at, i)
		if container != "" || inner.kind != kindObject || inner.get("resourceType").text == "Bundle" {
			return "", &ResourceError{Element: inside, Reason: "cannot be contained here"}
		}
		if _, err := checkResource(inner, inside, typ.text); err != nil {
			return "", err
		}
	}
	return typ.text, nil
}

func sub(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// isID is the R4 regular expression of id: [A-Za-z0-9\-\.]{1,64}.
func isID(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}

// isElementName tells the names that R4 elements can have: letters and digits, with "_" in front for the extensions of a primitive.
func isElementName(s string) bool {
	s = strings.TrimPrefix(s, "_")
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return s != ""
}

// checker keeps the first rule that was broken.
type checker struct{ err error }

func (c *checker) fail(element, reason string) {
	if c.err == nil {
		c.err = &ResourceError{Element: element, Reason: reason}
	}
}

// object applies the rules of json.html and of the datatypes that every type shares.
func (c *checker) object(v value, at string) {
	if len(v.members) == 0 {
		c.fail(at, "is empty")
	}
	for i := range v.members {
		if c.err != nil {
			return
		}
		m := &v.members[i]
		el := at + "." + m.name
		if !isElementName(m.name) {
			c.fail(el, "is no element name")
		}
		if m.name == "contained" {
			if m.value.kind != kindArray || len(m.value.items) == 0 {
				c.fail(el, "is not a list of resources")
			}
			continue // checkResource goes into these
		}
		c.member(v, m, el)
		c.choice(v, m, el)
		c.common(m, el)
	}
}

func (c *checker) member(owner value, m *member, el string) {
	switch m.value.kind {
	case kindNull:
		c.fail(el, "is null")
	case kindText:
		c.text(m.value, el)
	case kindObject:
		c.object(m.value, el)
	case kindArray:
		c.array(owner, m, el)
	}
	if strings.HasPrefix(m.name, "_") && m.value.kind != kindObject && m.value.kind != kindArray {
		c.fail(el, "is neither an object nor a list")
	}
}

func (c *checker) text(v value, el string) {
	if v.text == "" {
		c.fail(el, "is empty")
	}
	for i := range len(v.text) {
		if b := v.text[i]; b < 0x20 && b != '\t' && b != '\n' && b != '\r' {
			c.fail(el, "has a control character")
			return
		}
	}
}

// array checks the items. A null stands only where the other half of a primitive list ("given" and "_given") has something.
func (c *checker) array(owner value, m *member, el string) {
	if len(m.value.items) == 0 {
		c.fail(el, "is an empty list")
	}
	other := "_" + m.name
	if strings.HasPrefix(m.name, "_") {
		other = m.name[1:]
	}
	objects := 0
	for i, item := range m.value.items {
		if c.err != nil {
			return
		}
		at := fmt.Sprintf("%s[%d]", el, i)
		switch item.kind {
		case kindNull:
			half := owner.get(other).items
			if i >= len(half) || half[i].kind == kindNull {
				c.fail(at, "is null")
			}
			objects++
		case kindArray:
			c.fail(at, "is a list inside a list")
		case kindText:
			c.text(item, at)
		case kindObject:
			objects++
			c.object(item, at)
		}
	}
	if objects != 0 && objects != len(m.value.items) && m.value.items[0].kind == kindObject {
		c.fail(el, "mixes objects and plain values")
	}
}

// choices are the stems of choice elements (value[x], ...) that no R4 type uses for two elements side by side.
var choices = []string{"value", "effective", "onset", "abatement", "deceased", "multipleBirth", "medication", "occurrence", "performed"}

// choice refuses two types for one choice element.
func (c *checker) choice(owner value, m *member, el string) {
	stem := choiceStem(m.name)
	if stem == "" {
		return
	}
	complexType := complexTypes[m.name[len(stem):]]
	if k := m.value.kind; k == kindArray || complexType != (k == kindObject) {
		c.fail(el, "is of the wrong kind")
	}
	for i := range owner.members {
		other := owner.members[i].name
		if other != m.name && choiceStem(other) == stem {
			c.fail(el, "is a second value beside "+other)
		}
	}
}

func choiceStem(name string) string {
	for _, stem := range choices {
		if rest, ok := strings.CutPrefix(name, stem); ok && rest != "" && rest[0] >= 'A' && rest[0] <= 'Z' && dataTypes[rest] {
			return stem
		}
	}
	return ""
}

// common checks the elements that mean the same wherever they stand.
func (c *checker) common(m *member, el string) {
	switch m.name {
	case "extension", "modifierExtension":
		c.each(m.value, el, func(item value, at string) {
			if item.kind != kindObject || item.get("url").kind != kindText {
				c.fail(at+".url", "is missing")
			}
		})
	case "coding":
		c.each(m.value, el, func(item value, at string) {
			if item.kind != kindObject {
				c.fail(at, "is not an object")
			}
			for _, name := range [...]string{"system", "version", "code", "display"} {
				if item.has(name) && item.get(name).kind != kindText {
					c.fail(at+"."+name, "is not a string")
				}
			}
		})
	case "meta":
		if m.value.kind != kindObject {
			c.fail(el, "is not an object")
		}
		if m.value.has("profile") && m.value.get("profile").kind != kindArray {
			c.fail(el+".profile", "is not a list")
		}
	case "reference":
		if m.value.kind == kindText && strings.ContainsAny(m.value.text, " \t\r\n") {
			c.fail(el, "is not a reference")
		}
	}
	if check := primitiveOf(m.name); check != nil && (m.value.kind != kindText || !check(m.value.text)) {
		c.fail(el, "is not a date or time that R4 allows")
	}
	if strings.HasSuffix(m.name, "Quantity") && m.value.get("value").kind == kindText {
		c.fail(el+".value", "is not a number")
	}
}

func (c *checker) each(v value, el string, check func(value, string)) {
	if v.kind != kindArray {
		c.fail(el, "is not a list")
		return
	}
	for i, item := range v.items {
		check(item, fmt.Sprintf("%s[%d]", el, i))
	}
}
