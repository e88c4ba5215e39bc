package node_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/test/fuzz"
)

func TestSheetIsReadAsPrintedAndAsTyped(t *testing.T) {
	sheet, err := node.NewSheet()
	if err != nil {
		t.Fatal(err)
	}
	text := sheet.Text(node.RegionKeys{Name: "Lake \"region\"", Region: strings.Repeat("ab", 32)}, 2, 3, 2)
	for _, want := range []string{"SHEET 2 of 3", "Any 2 of the 3", sheet.KeyID(), sheet.Words[23]} {
		if !strings.Contains(text, want) {
			t.Errorf("the sheet does not say %q:\n%s", want, text)
		}
	}
	for name, typed := range map[string]string{
		"as printed":      text,
		"words alone":     strings.Join(sheet.Words, " "),
		"capitals":        strings.ToUpper(strings.Join(sheet.Words, "\n")),
		"other line ends": strings.ReplaceAll(text, "\n", "\r\n"),
		"with blanks":     strings.ReplaceAll(text, "\n", " \n"),
		"from its words":  "WORDS\n" + strings.SplitN(text, "\nWORDS\n", 2)[1],
		"numbered": func() (s string) {
			for i, w := range sheet.Words {
				s += fmt.Sprintf("%d. %s,\r\n", i+1, w)
			}
			return s
		}(),
	} {
		got, err := node.ParseSheet([]byte(typed))
		if err != nil || !bytes.Equal(got.Key, sheet.Key) {
			t.Errorf("%s: got another key, %v", name, err)
		}
	}
	swapped := append([]string{sheet.Words[1], sheet.Words[0]}, sheet.Words[2:]...)
	for name, typed := range map[string]string{
		"a word less":  strings.Join(sheet.Words[1:], " "),
		"a word twice": strings.Join(append(sheet.Words, sheet.Words[0]), " "),
		"no word":      strings.Join(append([]string{"qqqq"}, sheet.Words[1:]...), " "),
		"empty":        "",
		"long":         strings.Repeat("zoo ", 1<<16),
	} {
		if _, err := node.ParseSheet([]byte(typed)); err == nil {
			t.Errorf("%s: was read", name)
		}
	}
	if got, err := node.ParseSheet([]byte(strings.Join(swapped, " "))); err == nil && swapped[0] != swapped[1] && bytes.Equal(got.Key, sheet.Key) {
		t.Error("words in another order give the same key")
	}
}

func FuzzParseSheet(f *testing.F) {
	f.Add([]byte("\nWORDS\nabandon\nEND"))
	f.Add([]byte(strings.Repeat("abandon ", 23) + "art"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { node.ParseSheet(b) })
		s, err := node.ParseSheet(b)
		if err != nil {
			return
		}
		if again, err := node.ParseSheet([]byte(strings.Join(s.Words, " "))); err != nil || !bytes.Equal(again.Key, s.Key) {
			t.Errorf("%q is read as %q, which is read as another key: %v", b, s.Words, err)
		}
	})
}
