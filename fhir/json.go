package fhir

import (
	"errors"
	"strconv"
	"unicode/utf8"
)

// DepthMax is the deepest nesting of objects and arrays that is read.
const DepthMax = 32

type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindText
	kindArray
	kindObject
)

// value is one JSON value. raw is a slice of the input; text is the decoded string of a kindText.
type value struct {
	kind    kind
	raw     []byte
	text    string
	items   []value  // kindArray
	members []member // kindObject, in the order of the input
}

type member struct {
	name  string
	value value
}

// get returns the member called name; the zero value (a null) when there is none.
func (v value) get(name string) value {
	for i := range v.members {
		if v.members[i].name == name {
			return v.members[i].value
		}
	}
	return value{}
}

func (v value) has(name string) bool {
	for i := range v.members {
		if v.members[i].name == name {
			return true
		}
	}
	return false
}

// at follows a path of member names; an array on the way stands for its first item.
func (v value) at(path ...string) value {
	for _, name := range path {
		v = v.first().get(name)
	}
	return v.first()
}

// first is the first item of an array, and v itself when it is none.
func (v value) first() value {
	if v.kind != kindArray {
		return v
	}
	if len(v.items) == 0 {
		return value{}
	}
	return v.items[0]
}

// list is the items of an array; one value counts as a list of one.
func (v value) list() []value {
	switch v.kind {
	case kindArray:
		return v.items
	case kindNull:
		return nil
	}
	return []value{v}
}

// str is the text of a string, the digits of a number, "true" or "false"; "" for the rest.
func (v value) str() string {
	switch v.kind {
	case kindText:
		return v.text
	case kindNumber, kindBool:
		return string(v.raw)
	}
	return ""
}

// jsonError says what is wrong and where: pos is a byte offset, path the element.
type jsonError struct {
	path   string
	pos    int
	reason string
}

func (e *jsonError) Error() string {
	where := e.path
	if where == "" {
		where = "byte " + strconv.Itoa(e.pos)
	}
	return where + ": " + e.reason
}

// parseJSON reads exactly one JSON value (RFC 8259), refusing what FHIR or a second reader could take differently: bytes that are not
// UTF-8, a name twice in one object, a surrogate without its pair, control characters, nesting past DepthMax.
func parseJSON(raw []byte) (value, error) {
	if !utf8.Valid(raw) {
		return value{}, &jsonError{reason: "is not UTF-8"}
	}
	p := parser{in: raw}
	v, err := p.value()
	if err == nil {
		if p.space(); p.pos < len(p.in) {
			err = p.fail("more after the end of the value")
		}
	}
	if err != nil {
		return value{}, err
	}
	return v, nil
}

type parser struct {
	in    []byte
	pos   int
	depth int
	path  []string
}

func (p *parser) fail(reason string) error {
	return &jsonError{path: joinPath(p.path), pos: p.pos, reason: reason}
}

func joinPath(path []string) string {
	s := ""
	for i, part := range path {
		if i > 0 && part[0] != '[' {
			s += "."
		}
		s += part
	}
	return s
}

func (p *parser) space() {
	for p.pos < len(p.in) {
		switch p.in[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

func (p *parser) peek() byte {
	p.space()
	if p.pos >= len(p.in) {
		return 0
	}
	return p.in[p.pos]
}

func (p *parser) value() (value, error) {
	switch c := p.peek(); {
	case c == '{':
		return p.object()
	case c == '[':
		return p.array()
	case c == '"':
		start := p.pos
		s, err := p.text()
		return value{kind: kindText, raw: p.in[start:p.pos], text: s}, err
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case c == 't':
		return p.word("true", kindBool)
	case c == 'f':
		return p.word("false", kindBool)
	case c == 'n':
		return p.word("null", kindNull)
	}
	if p.pos >= len(p.in) {
		return value{}, p.fail("ends too early")
	}
	return value{}, p.fail("is not JSON")
}

func (p *parser) word(w string, k kind) (value, error) {
	if len(p.in)-p.pos < len(w) || string(p.in[p.pos:p.pos+len(w)]) != w {
		return value{}, p.fail("is not JSON")
	}
	p.pos += len(w)
	return value{kind: k, raw: p.in[p.pos-len(w) : p.pos]}, nil
}

// enter counts one level of nesting; the caller leaves it with p.depth--.
func (p *parser) enter() error {
	if p.depth++; p.depth > DepthMax {
		return p.fail("is nested too deep")
	}
	p.pos++
	return nil
}

func (p *parser) object() (value, error) {
	start := p.pos
	if err := p.enter(); err != nil {
		return value{}, err
	}
	v := value{kind: kindObject}
	names := nameSet{}
	for p.peek() != '}' {
		if len(v.members) > 0 {
			if p.peek() != ',' {
				return value{}, p.fail("a comma or closing brace is missing")
			}
			p.pos++
		}
		m, err := p.member(&names, v.members)
		if err != nil {
			return value{}, err
		}
		if v.members == nil {
			v.members = make([]member, 0, 4)
		}
		v.members = append(v.members, m)
	}
	p.pos++
	p.depth--
	v.raw = p.in[start:p.pos]
	return v, nil
}

func (p *parser) member(names *nameSet, before []member) (member, error) {
	if p.peek() != '"' {
		return member{}, p.fail("a member name is missing")
	}
	name, err := p.text()
	if err != nil {
		return member{}, err
	}
	if name == "" {
		return member{}, p.fail("a member name is empty")
	}
	p.path = append(p.path, name)
	if names.seen(name, before) {
		return member{}, p.fail("is given twice")
	}
	if p.peek() != ':' {
		return member{}, p.fail("a colon is missing")
	}
	p.pos++
	v, err := p.value()
	if err != nil {
		return member{}, err
	}
	p.path = p.path[:len(p.path)-1]
	return member{name, v}, nil
}

// nameSet finds a name given twice: by comparing while there are few, by a map past that.
type nameSet map[string]struct{}

func (s *nameSet) seen(name string, before []member) bool {
	if len(before) < 24 {
		for i := range before {
			if before[i].name == name {
				return true
			}
		}
		return false
	}
	if len(*s) == 0 {
		*s = make(nameSet, 2*len(before))
		for i := range before {
			(*s)[before[i].name] = struct{}{}
		}
	}
	_, twice := (*s)[name]
	(*s)[name] = struct{}{}
	return twice
}

func (p *parser) array() (value, error) {
	start := p.pos
	if err := p.enter(); err != nil {
		return value{}, err
	}
	v := value{kind: kindArray}
	for p.peek() != ']' {
		if len(v.items) > 0 {
			if p.peek() != ',' {
				return value{}, p.fail("a comma or closing bracket is missing")
			}
			p.pos++
		}
		p.path = append(p.path, "["+strconv.Itoa(len(v.items))+"]")
		item, err := p.value()
		if err != nil {
			return value{}, err
		}
		p.path = p.path[:len(p.path)-1]
		v.items = append(v.items, item)
	}
	p.pos++
	p.depth--
	v.raw = p.in[start:p.pos]
	return v, nil
}

// numberSizeMax bounds the digits of one number; R4 asks for 18 digits of precision.
const numberSizeMax = 64

func (p *parser) number() (value, error) {
	start := p.pos
	digits := func() bool {
		from := p.pos
		for p.pos < len(p.in) && p.in[p.pos] >= '0' && p.in[p.pos] <= '9' {
			p.pos++
		}
		return p.pos > from
	}
	is := func(set string) bool {
		for i := 0; i < len(set) && p.pos < len(p.in); i++ {
			if p.in[p.pos] == set[i] {
				p.pos++
				return true
			}
		}
		return false
	}
	is("-")
	ok := is("0") || digits()
	if ok && is(".") {
		ok = digits()
	}
	if ok && is("eE") {
		is("+-")
		ok = digits()
	}
	if !ok || p.pos-start > numberSizeMax || p.pos < len(p.in) && p.in[p.pos] >= '0' && p.in[p.pos] <= '9' {
		return value{}, p.fail("is not a number")
	}
	return value{kind: kindNumber, raw: p.in[start:p.pos]}, nil
}

// text reads a string at p.pos, which stands on its opening quote.
func (p *parser) text() (string, error) {
	p.pos++
	start := p.pos
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; {
		case c == '"':
			p.pos++
			return string(p.in[start : p.pos-1]), nil
		case c == '\\':
			return p.escapedText(start)
		case c < 0x20:
			return "", p.fail("has a control character in a string")
		}
		p.pos++
	}
	return "", p.fail("a string does not end")
}

// escapedText goes on with a string whose first escape is at p.pos.
func (p *parser) escapedText(start int) (string, error) {
	out := append([]byte(nil), p.in[start:p.pos]...)
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; {
		case c == '"':
			p.pos++
			return string(out), nil
		case c < 0x20:
			return "", p.fail("has a control character in a string")
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, c)
			p.pos++
		}
	}
	return "", p.fail("a string does not end")
}

func (p *parser) escape() (rune, error) {
	if p.pos+1 >= len(p.in) {
		return 0, p.fail("a string does not end")
	}
	c := p.in[p.pos+1]
	p.pos += 2
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		return p.unicodeEscape()
	}
	return 0, p.fail("has an unknown escape")
}

func (p *parser) unicodeEscape() (rune, error) {
	r, ok := p.hex4()
	if ok && r >= 0xd800 && r < 0xdc00 && len(p.in)-p.pos >= 6 && p.in[p.pos] == '\\' && p.in[p.pos+1] == 'u' {
		p.pos += 2
		var low rune
		if low, ok = p.hex4(); ok && low >= 0xdc00 && low < 0xe000 {
			return 0x10000 + (r-0xd800)<<10 + (low - 0xdc00), nil
		}
		ok = false
	}
	if !ok || r == 0 || r >= 0xd800 && r < 0xe000 {
		return 0, p.fail("has an escape that is no character")
	}
	return r, nil
}

func (p *parser) hex4() (rune, bool) {
	if len(p.in)-p.pos < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p.in[p.pos:p.pos+4]), 16, 16)
	if err != nil || p.in[p.pos] == '+' {
		return 0, false
	}
	p.pos += 4
	return rune(n), true
}

// JSONEqual says whether a and b are the same JSON value: members in any order, strings by their characters, numbers digit for digit
// ("1.50" differs from "1.5"). Input that does not parse equals nothing.
func JSONEqual(a, b []byte) bool {
	va, errA := parseJSON(a)
	vb, errB := parseJSON(b)
	return errors.Join(errA, errB) == nil && equal(va, vb)
}

func equal(a, b value) bool {
	if a.kind != b.kind || len(a.items) != len(b.items) || len(a.members) != len(b.members) {
		return false
	}
	switch a.kind {
	case kindText:
		return a.text == b.text
	case kindArray:
		for i := range a.items {
			if !equal(a.items[i], b.items[i]) {
				return false
			}
		}
		return true
	case kindObject:
		return equalMembers(a, b)
	}
	return string(a.raw) == string(b.raw)
}

func equalMembers(a, b value) bool {
	var index map[string]int
	if len(b.members) > 24 {
		index = make(map[string]int, len(b.members))
		for i := range b.members {
			index[b.members[i].name] = i
		}
	}
	for i, m := range a.members {
		other, ok := b.members[i].value, b.members[i].name == m.name
		if !ok && index != nil {
			j, found := index[m.name]
			if found {
				other, ok = b.members[j].value, true
			}
		} else if !ok {
			other, ok = b.get(m.name), b.has(m.name)
		}
		if !ok || !equal(m.value, other) {
			return false
		}
	}
	return true
}
