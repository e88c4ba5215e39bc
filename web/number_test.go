package web_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/healthpost/healthpost/test/fuzz"
	"github.com/healthpost/healthpost/web"
)

func TestNormaliseNumber(t *testing.T) {
	for typed, want := range map[string]string{
		"38.5": "38.5", "38,5": "38.5", " 38,5 ": "38.5", "٣٨٫٥": "38.5", "۳۸٫۵": "38.5", "३८.५": "38.5", "৩৮.৫": "38.5",
		"1\u202f200": "1200", "\u200e38": "38", "abc": "abc", "": "", "38..5": "38..5", "-1": "-1",
	} {
		if got := web.NormaliseNumber(typed); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
	if got := web.NormaliseDigits("٣1-4 १5९"); got != "314159" {
		t.Errorf("digits %q, want 314159", got)
	}
}

func TestJoinDate(t *testing.T) {
	for _, c := range []struct {
		day, month, year, want string
		ok                     bool
	}{
		{"", "", "", "", true}, {"", "", "1981", "1981", true}, {"", "3", "2024", "2024-03", true}, {"29", "2", "2024", "2024-02-29", true},
		{"٧", "०३", "۲۰۲۴", "2024-03-07", true}, {"29", "2", "2023", "", false}, {"31", "4", "2024", "", false}, {"5", "", "2024", "", false},
		{"1", "1", "24", "", false}, {"1", "13", "2024", "", false}, {"x", "1", "2024", "", false}, {"1", "1", "", "", false}, {"-1", "1", "2024", "", false},
	} {
		got, ok := web.JoinDate(c.day, c.month, c.year)
		if ok != c.ok || (ok && got != c.want) {
			t.Errorf("%s/%s/%s: %q %v, want %q %v", c.day, c.month, c.year, got, ok, c.want, c.ok)
		}
	}
}

func TestBirthFromAge(t *testing.T) {
	for _, c := range []struct {
		years, months, want string
		ok                  bool
	}{
		{"45", "", "1981", true}, {"2", "", "2024", true}, {"1", "", "2025-11", true}, {"", "7", "2026-04", true}, {"1", "6", "2025-05", true},
		{"0", "", "2026-11", true}, {"131", "", "", false}, {"-1", "", "", false}, {"a", "", "", false}, {"", "9999", "", false},
	} {
		got, ok := web.BirthFromAge(c.years, c.months, now)
		if ok != c.ok || got != c.want {
			t.Errorf("%s years %s months: %q %v, want %q %v", c.years, c.months, got, ok, c.want, c.ok)
		}
	}
}

func TestAges(t *testing.T) {
	en := catalogues(t)["en"]
	for birth, want := range map[string]string{
		"1981": "45 years", "2024-03": "2 years", "2025-12": "11 months", "2026-11-01": "0 months", "2025-11-22": "11 months", "2025-11-21": "12 months",
		"": "", "2030": "", "nonsense": "", "2024-11-21": "2 years",
	} {
		if got := web.AgeText(en, birth, now); got != want {
			t.Errorf("born %q: %q, want %q", birth, got, want)
		}
	}
}

func TestEasyPIN(t *testing.T) {
	for pin, want := range map[string]bool{"111111": true, "123456": true, "654321": true, "314159": false, "112233": false} {
		if got := web.EasyPIN(pin); got != want {
			t.Errorf("%s: easy %v, want %v", pin, got, want)
		}
	}
}

func FuzzNormaliseNumber(f *testing.F) {
	for _, seed := range []string{"38,5", "٣٨٫٥", "\u200e1", "0\u2000\u200e", "\xff", strings.Repeat("9", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		fuzz.Bounded(t, len(typed), func() { web.NormaliseNumber(typed) })
		once := web.NormaliseNumber(typed)
		if twice := web.NormaliseNumber(once); twice != once {
			t.Errorf("%q: once %q, twice %q", typed, once, twice)
		}
		if !utf8.ValidString(once) {
			t.Errorf("%q gave text that is not UTF-8", typed)
		}
	})
}

func FuzzJoinDate(f *testing.F) {
	f.Add("29", "2", "2024")
	f.Add("", "", "0000")
	f.Fuzz(func(t *testing.T, day, month, year string) {
		date, ok := web.JoinDate(day, month, year)
		if ok && date != "" && len(date) != 4 && len(date) != 7 && len(date) != 10 {
			t.Errorf("%q %q %q gave %q", day, month, year, date)
		}
	})
}

func FuzzParseRefs(f *testing.F) {
	f.Add("0011223344556677.0 8899aabbccddeeff.65535")
	f.Add(" . ")
	f.Add(strings.Repeat("0011223344556677.1 ", 40))
	f.Fuzz(func(t *testing.T, text string) {
		fuzz.Bounded(t, len(text), func() { web.ParseRefs(text) })
		refs, err := web.ParseRefs(text)
		if err != nil {
			return
		}
		again, err := web.ParseRefs(web.EncodeRefs(refs))
		if err != nil || len(again) != len(refs) || len(refs) == 0 || len(refs) > 32 {
			t.Errorf("%q: %v, then %v: %v", text, refs, again, err)
		}
	})
}
