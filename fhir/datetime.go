package fhir

import (
	"strings"
	"time"
)

// primitiveOf gives the check of the elements that hold a date or time wherever they stand; nil for all others.
func primitiveOf(name string) func(string) bool {
	switch name {
	case "birthDate", "valueDate", "deceasedDate", "onsetDate", "occurrenceDate":
		return isDate
	case "issued", "lastUpdated", "valueInstant":
		return isInstant
	case "date", "created", "authoredOn", "recordedDate", "whenHandedOver", "whenPrepared", "assertedDate":
		return isDateTime
	}
	if strings.HasSuffix(name, "DateTime") && name[0] != '_' {
		return isDateTime
	}
	return nil
}

// isDate is an R4 date: YYYY, YYYY-MM or YYYY-MM-DD, a day that exists.
func isDate(s string) bool {
	for _, layout := range [...]string{"2006", "2006-01", "2006-01-02"} {
		if len(s) == len(layout) {
			_, err := time.Parse(layout, s)
			return err == nil && s[:4] != "0000"
		}
	}
	return false
}

// isDateTime is an R4 dateTime: a date, or a day and a time with seconds and a zone.
func isDateTime(s string) bool { return isDate(s) || isInstant(s) }

// isInstant is an R4 instant. 24:00 is not allowed; a leap second (60) is.
func isInstant(s string) bool {
	if len(s) < len("2006-01-02T15:04:05Z") || s[10] != 'T' || s[:4] == "0000" {
		return false
	}
	if s[17] == '6' && s[18] == '0' {
		s = s[:17] + "59" + s[19:]
	}
	if strings.IndexByte(s, ',') >= 0 {
		return false
	}
	_, err := time.Parse(time.RFC3339Nano, s)
	return err == nil
}

// ParseTime reads an R4 date, dateTime or instant for sorting and display: a date is its first moment in UTC.
func ParseTime(s string) (time.Time, bool) {
	if isInstant(s) {
		t, err := time.Parse(time.RFC3339Nano, s)
		return t, err == nil
	}
	if isDate(s) {
		t, err := time.Parse("2006-01-02"[:len(s)], s)
		return t, err == nil
	}
	return time.Time{}, false
}
