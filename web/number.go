package web

import (
	"strconv"
	"strings"
	"time"
	"unicode"
)

// digitZeros are the zero digits of the scripts staff may type numbers in:
// Latin, Arabic-Indic, Eastern Arabic-Indic, Devanagari, Bengali.
var digitZeros = []rune{'0', '٠', '۰', '०', '০'}

// latinDigit returns the value of one digit in any known script, or false.
func latinDigit(r rune) (byte, bool) {
	for _, zero := range digitZeros {
		if r >= zero && r <= zero+9 {
			return byte('0' + r - zero), true
		}
	}
	return 0, false
}

// NormaliseNumber turns a typed number into decimal text with Latin digits and a point:
// "٣٨٫٥" and "38,5" become "38.5". Text that is no number comes back without its spaces and with its
// digits made Latin, so that validation can say what is wrong with it.
func NormaliseNumber(typed string) string {
	var b strings.Builder
	for _, r := range typed {
		d, ok := latinDigit(r)
		switch {
		case ok:
			b.WriteByte(d)
		case r == ',' || r == '٫' || r == '·':
			b.WriteByte('.')
		case unicode.IsSpace(r) || unicode.Is(unicode.Cf, r):
			// spacing, joiners and direction marks that keyboards add
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// NormaliseDigits makes digits Latin and drops everything else; used for PINs.
func NormaliseDigits(typed string) string {
	var b strings.Builder
	for _, r := range typed {
		if d, ok := latinDigit(r); ok {
			b.WriteByte(d)
		}
	}
	return b.String()
}

// joinDate joins three date boxes to YYYY, YYYY-MM or YYYY-MM-DD. All empty gives "", true.
// A day without a month, or a day that does not exist, gives false.
func joinDate(day, month, year string) (string, bool) {
	day, month, year = NormaliseNumber(day), NormaliseNumber(month), NormaliseNumber(year)
	if day == "" && month == "" && year == "" {
		return "", true
	}
	y, err := strconv.Atoi(year)
	if err != nil || len(year) != 4 {
		return "", false
	}
	if month == "" {
		return year, day == "" && y > 0
	}
	m, err := strconv.Atoi(month)
	if err != nil || m < 1 || m > 12 {
		return "", false
	}
	if day == "" {
		return year + "-" + twoDigits(m), true
	}
	d, err := strconv.Atoi(day)
	if err != nil {
		return "", false
	}
	t := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
	if t.Day() != d || t.Month() != time.Month(m) {
		return "", false
	}
	return year + "-" + twoDigits(m) + "-" + twoDigits(d), true
}

// splitDate is joinDate backwards.
func splitDate(date string) (day, month, year string) {
	parts := strings.SplitN(date, "-", 3)
	year = parts[0]
	if len(parts) > 1 {
		month = strings.TrimPrefix(parts[1], "0")
	}
	if len(parts) > 2 {
		day = strings.TrimPrefix(parts[2], "0")
	}
	return day, month, year
}

func twoDigits(n int) string {
	if n < 10 {
		return "0" + strconv.Itoa(n)
	}
	return strconv.Itoa(n)
}

// ageMaxYears bounds what an age box takes.
const ageMaxYears = 130

// birthFromAge gives the birth date an age stands for: a month for children under two years
// given in months, a year otherwise.
func birthFromAge(years, months string, now time.Time) (string, bool) {
	years, months = NormaliseNumber(years), NormaliseNumber(months)
	y, errY := atoiEmpty(years)
	m, errM := atoiEmpty(months)
	if errY != nil || errM != nil || y < 0 || y > ageMaxYears || m < 0 || m > 12*ageMaxYears {
		return "", false
	}
	first := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	born := first.AddDate(-y, -m, 0)
	if months == "" && y >= 2 {
		return born.Format("2006"), true
	}
	return born.Format("2006-01"), true
}

func atoiEmpty(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.Atoi(s)
}

// age is a person's age in whole years, or in months under two years.
type age struct {
	Years, Months int
	InMonths      bool
	Known         bool
}

// ageOf computes an age from a partial birth date.
func ageOf(birth string, now time.Time) age {
	var born time.Time
	var err error
	switch len(birth) {
	case 4:
		born, err = time.Parse("2006", birth)
	case 7:
		born, err = time.Parse("2006-01", birth)
	case 10:
		born, err = time.Parse("2006-01-02", birth)
	default:
		return age{}
	}
	if err != nil || born.After(now) {
		return age{}
	}
	months := (now.Year()-born.Year())*12 + int(now.Month()) - int(born.Month())
	if len(birth) == 10 && now.Day() < born.Day() {
		months--
	}
	if len(birth) == 4 {
		years := now.Year() - born.Year()
		return age{Years: years, Months: 12 * years, Known: true}
	}
	return age{Years: months / 12, Months: months, InMonths: months < 24, Known: true}
}
