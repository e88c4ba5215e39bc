package fhir

import (
	"strings"
	"unicode/utf8"
)

// Measure is one value that a visit can hold: how the page asks for it, what is possible, and how it is coded (LOINC, UCUM).
type Measure struct {
	Field               string // form field
	Label               string // LOINC display
	Unit, UCUM          string // as shown, as coded
	LOINC               string
	Low, High           string // possible: outside is refused
	UsualLow, UsualHigh string // outside is asked about
}

// Measures are the values of a visit in the order the page asks for them. LOINC codes and displays: copyright Regenstrief Institute.
var Measures = []Measure{
	{"temperature", "Body temperature", "°C", "Cel", "8310-5", "25", "45", "35.0", "41.0"},
	{"breaths", "Respiratory rate", "/min", "/min", "9279-1", "4", "150", "10", "70"},
	{"weight", "Body weight", "kg", "kg", "29463-7", "0.3", "350", "1.5", "130"},
	{"muac", "Circumference Mid upper arm - left", "mm", "mm", "56072-2", "50", "600", "90", "400"},
	{"height", "Body height", "cm", "cm", "8302-2", "20", "250", "40", "200"},
	{"systolic", "Systolic blood pressure", "mmHg", "mm[Hg]", "8480-6", "40", "300", "80", "180"},
	{"diastolic", "Diastolic blood pressure", "mmHg", "mm[Hg]", "8462-4", "20", "200", "40", "110"},
	{"pulse", "Heart rate", "/min", "/min", "8867-4", "20", "300", "50", "180"},
	{"spo2", "Oxygen saturation in Arterial blood by Pulse oximetry", "%", "%", "59408-5", "30", "100", "90", "100"},
}

// MeasureOf finds a measure by its form field.
func MeasureOf(field string) (Measure, bool) {
	for _, m := range Measures {
		if m.Field == field {
			return m, true
		}
	}
	return Measure{}, false
}

func (m Measure) check(text string) []FieldError {
	if text == "" {
		return nil
	}
	d, ok := Decimal(text)
	switch {
	case !ok:
		return []FieldError{{Field: m.Field, Code: CodeNumber}}
	case CompareDecimal(d, m.Low) < 0 || CompareDecimal(d, m.High) > 0:
		return []FieldError{{Field: m.Field, Code: CodeRange, Args: []string{m.Low, m.High, m.Unit}}}
	case CompareDecimal(d, m.UsualLow) < 0 || CompareDecimal(d, m.UsualHigh) > 0:
		return []FieldError{{Field: m.Field, Code: CodeUnusual, Args: []string{m.UsualLow, m.UsualHigh, m.Unit}, Soft: true}}
	}
	return nil
}

// decimalSizeMax bounds the digits of a typed number.
const decimalSizeMax = 12

// Decimal reads a number as people type it, with a point or comma and the digits of any of the scripts that Unicode calls decimal
// ones in use here (Latin, Arabic, Persian, Devanagari, Bengali), and gives its JSON text: digits are kept, "37.50" stays "37.50".
func Decimal(text string) (string, bool) {
	var out strings.Builder
	points, digits := 0, 0
	for _, c := range strings.TrimSpace(text) {
		if utf8.RuneLen(c) < 0 || out.Len() > decimalSizeMax {
			return "", false
		}
		switch d := digitOf(c); {
		case d >= 0:
			out.WriteByte(byte('0' + d))
			digits++
		case c == '.' || c == ',' || c == '٫':
			if points++; points > 1 || digits == 0 {
				return "", false
			}
			out.WriteByte('.')
		default:
			return "", false
		}
	}
	s := out.String()
	if digits == 0 || strings.HasSuffix(s, ".") {
		return "", false
	}
	for len(s) > 1 && s[0] == '0' && s[1] != '.' {
		s = s[1:]
	}
	return s, true
}

func digitOf(c rune) int {
	for _, zero := range [...]rune{'0', '٠', '۰', '०', '০'} {
		if c >= zero && c <= zero+9 {
			return int(c - zero)
		}
	}
	return -1
}

// CompareDecimal orders two unsigned decimal texts by value: -1, 0 or +1.
func CompareDecimal(a, b string) int {
	wa, fa, _ := strings.Cut(a, ".")
	wb, fb, _ := strings.Cut(b, ".")
	wa, wb = strings.TrimLeft(wa, "0"), strings.TrimLeft(wb, "0")
	if len(wa) != len(wb) {
		if len(wa) < len(wb) {
			return -1
		}
		return 1
	}
	if c := strings.Compare(wa, wb); c != 0 {
		return c
	}
	return strings.Compare(strings.TrimRight(fa, "0"), strings.TrimRight(fb, "0"))
}
