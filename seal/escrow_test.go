package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/test/fuzz"
)

func newEscrow(t testing.TB, seed byte, need, of int) (id seal.KeyID, shares []seal.EscrowShare) {
	t.Helper()
	public, shares, err := seal.NewEscrow(reproducible(seed), need, of)
	if err != nil {
		t.Fatal(err)
	}
	return seal.PublicKeyID(public.Exchange), shares
}

// chosen are the shares whose bit is set.
func chosen(shares []seal.EscrowShare, set uint) (out []seal.EscrowShare) {
	for i := range shares {
		if set>>i&1 == 1 {
			out = append(out, shares[i])
		}
	}
	return out
}

// TestEscrowOpensWithAnyEnough goes over every subset: as many as are needed, or more, give the
// key; fewer are refused.
func TestEscrowOpensWithAnyEnough(t *testing.T) {
	for _, x := range []struct{ need, of int }{{2, 2}, {2, 3}, {3, 5}, {5, 5}, {4, 7}, {2, 16}, {3, 9}} {
		id, shares := newEscrow(t, 1, x.need, x.of)
		for set := range uint(1) << x.of {
			n := bits.OnesCount(set)
			if x.of == 16 && n > 3 {
				continue
			}
			priv, err := seal.OpenEscrow(chosen(shares, set))
			switch {
			case n >= x.need && (err != nil || seal.PublicKeyID(priv.Public()) != id):
				t.Fatalf("%d of %d, sheets %b: %v", x.need, x.of, set, err)
			case n < x.need && (!errors.Is(err, seal.ErrEscrow) || priv != nil):
				t.Fatalf("%d of %d, sheets %b: got %v, want ErrEscrow", x.need, x.of, set, err)
			}
		}
	}
}

// shifting gives the bytes of a source, with one part of 16 bytes changed.
type shifting struct {
	from *bytes.Reader
	part int
	mask byte
}

func (s *shifting) Read(b []byte) (int, error) {
	n, err := s.from.Read(b)
	if s.part == 0 && n > 0 {
		b[0] ^= s.mask
	}
	s.part--
	return n, err
}

// TestEscrowKeepsFromTooFew: whatever need-1 holders have in hand, another secret fits it as well. For each
// set of them the one part that none of them has is changed: their sheets are the same letters, but
// for the id of the key, and the key is another.
func TestEscrowKeepsFromTooFew(t *testing.T) {
	letters := func(s *seal.EscrowShare) string {
		var b strings.Builder
		for i, l := range strings.Split(strings.TrimSpace(s.Text()), "\n") {
			if i > 0 {
				b.WriteString(l[:len(l)-2]) // without the sum, in which the id is
			}
		}
		return b.String()
	}
	for _, x := range []struct{ need, of int }{{2, 3}, {3, 5}, {4, 6}} {
		random := make([]byte, 16*64)
		if _, err := reproducible(9).Read(random); err != nil {
			t.Fatal(err)
		}
		part := 0
		for set := range uint(1) << x.of {
			if bits.OnesCount(set) != x.need-1 {
				continue
			}
			_, a, err := seal.NewEscrow(bytes.NewReader(random), x.need, x.of)
			if err != nil {
				t.Fatal(err)
			}
			_, b, err := seal.NewEscrow(&shifting{bytes.NewReader(random), part, 0x40}, x.need, x.of)
			if err != nil {
				t.Fatal(err)
			}
			part++
			if a[0].Key == b[0].Key {
				t.Errorf("%d of %d, holders %b: the part that they lack is not in the secret", x.need, x.of, set)
			}
			for i := range a {
				if same := letters(&a[i]) == letters(&b[i]); same != (set>>i&1 == 1) {
					t.Errorf("%d of %d, holders %b: sheet %d is the same: %v", x.need, x.of, set, i+1, same)
				}
			}
		}
	}
}

func TestEscrowRefusesWrongSheets(t *testing.T) {
	_, a := newEscrow(t, 1, 3, 5)
	_, b := newEscrow(t, 2, 3, 5)
	_, c := newEscrow(t, 1, 2, 5)
	forged := seal.ForgedShare(b[2], a[2]) // the letters of b under the name of a
	for name, x := range map[string]struct {
		shares []seal.EscrowShare
		says   string
	}{
		"none":                       {nil, "no sheet"},
		"two":                        {a[:2], "2 of them, 3 are needed"},
		"one twice":                  {[]seal.EscrowShare{a[0], a[1], a[0]}, "sheet 1 is there twice"},
		"of two keys":                {[]seal.EscrowShare{a[0], a[1], b[2]}, "different keys"},
		"of another number":          {[]seal.EscrowShare{a[0], a[1], c[2]}, "different keys"},
		"forged under a sound name":  {[]seal.EscrowShare{a[0], a[1], forged}, "contradict each other"},
		"numbers that no sheet says": {[]seal.EscrowShare{{Number: 1, Need: 2, Of: 3}}, "does not belong"},
		"the numbers of nothing":     {[]seal.EscrowShare{{}}, "does not belong"},
	} {
		priv, err := seal.OpenEscrow(x.shares)
		if !errors.Is(err, seal.ErrEscrow) || priv != nil || !strings.Contains(fmt.Sprint(err), x.says) {
			t.Errorf("%s: got %v, want ErrEscrow with %q", name, err, x.says)
		}
	}
	// Of three sheets of three, each of which has a part of its own, no other contradicts.
	_, d := newEscrow(t, 1, 3, 3)
	_, e := newEscrow(t, 2, 3, 3)
	if _, err := seal.OpenEscrow([]seal.EscrowShare{d[0], d[1], seal.ForgedShare(e[2], d[2])}); !errors.Is(err, seal.ErrEscrow) || !strings.Contains(fmt.Sprint(err), "another key") {
		t.Errorf("a forged sheet that contradicts none: %v", err)
	}
	for _, x := range []struct{ need, of int }{{0, 0}, {1, 3}, {4, 3}, {2, 17}, {8, 16}, {-1, 3}, {2, -3}, {5, 9}} {
		if _, _, err := seal.NewEscrow(reproducible(1), x.need, x.of); err == nil {
			t.Errorf("%d of %d: made", x.need, x.of)
		}
	}
}

func TestEscrowTextAsPeopleTypeIt(t *testing.T) {
	id, shares := newEscrow(t, 3, 3, 5)
	typed := func(s *seal.EscrowShare, change func(lines []string) []string) (seal.EscrowShare, error) {
		lines := strings.Split(strings.TrimSpace(s.Text()), "\n")
		return seal.ParseEscrowShare(strings.Join(change(lines), "\r\n"))
	}
	var back []seal.EscrowShare
	for i, change := range []func([]string) []string{
		func(l []string) []string { return l },
		func(l []string) []string {
			for i := range l[1:] {
				l[i+1] = fmt.Sprintf("%d. %s", i+1, strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(l[i+1], "-", " "), "0", "o")))
			}
			return append([]string{"", strings.ToLower(l[0])}, l[1:]...)
		},
		func(l []string) []string {
			for i := range l[1:] {
				l[i+1] = fmt.Sprintf("  %2d %s \u00a0", i+1, strings.ReplaceAll(strings.ReplaceAll(l[i+1], "-", "\u2013"), "1", "I"))
			}
			return l
		},
	} {
		s, err := typed(&shares[i+1], change)
		if err != nil || s.Text() != shares[i+1].Text() {
			t.Fatalf("sheet %d: came back as another: %v", i+2, err)
		}
		back = append(back, s)
	}
	if priv, err := seal.OpenEscrow(back); err != nil || seal.PublicKeyID(priv.Public()) != id {
		t.Errorf("as typed: %v", err)
	}
	_, others := newEscrow(t, 4, 3, 5)
	for name, change := range map[string]func([]string) []string{
		"nothing":           func([]string) []string { return nil },
		"no letters":        func(l []string) []string { return l[:1] },
		"a line too few":    func(l []string) []string { return l[:len(l)-1] },
		"a line too many":   func(l []string) []string { return append(l, l[1]) },
		"two lines swapped": func(l []string) []string { l[1], l[2] = l[2], l[1]; return l },
		"a line of another": func(l []string) []string {
			l[3] = strings.Split(others[0].Text(), "\n")[3]
			return l
		},
		"a letter short":   func(l []string) []string { l[4] = l[4][:len(l[4])-1]; return l },
		"another letter":   func(l []string) []string { l[5] = "U" + l[5][1:]; return l },
		"another number":   func(l []string) []string { l[0] = strings.Replace(l[0], "1/3/5", "2/3/5", 1); return l },
		"no number":        func(l []string) []string { l[0] = strings.Replace(l[0], "1/3/5", "0/3/5", 1); return l },
		"another key":      func(l []string) []string { l[0] = l[0][:10] + "0123456789abcdef"; return l },
		"another magic":    func(l []string) []string { l[0] = "HPE2" + l[0][4:]; return l },
		"far too much":     func(l []string) []string { return append(l, strings.Repeat(" ", seal.EscrowTextMax)) },
		"a word in a line": func(l []string) []string { l[2] += " END"; return l },
	} {
		if _, err := typed(&shares[0], change); !errors.Is(err, seal.ErrEscrow) {
			t.Errorf("%s: got %v, want ErrEscrow", name, err)
		}
	}
}

// TestEscrowSlips: one wrong letter anywhere is told by its line but for one in about a thousand, which
// the key tells.
func TestEscrowSlips(t *testing.T) {
	_, shares := newEscrow(t, 5, 2, 3)
	text := shares[0].Text()
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(text)
		at := rapid.IntRange(strings.IndexByte(text, '\n')+1, len(b)-2).Draw(t, "at")
		b[at] = rapid.SampledFrom([]byte("0123456789ABCDEFGHJKMNPQRSTVWXYZ")).Draw(t, "letter")
		s, err := seal.ParseEscrowShare(string(b))
		if err != nil || s.Text() == text {
			return
		}
		if _, err := seal.OpenEscrow([]seal.EscrowShare{s, shares[1]}); !errors.Is(err, seal.ErrEscrow) {
			t.Fatalf("a slip at %d: got %v", at, err)
		}
	})
}

func TestEscrowSharesDoNotPrint(t *testing.T) {
	_, shares := newEscrow(t, 6, 2, 3)
	secret := strings.Split(shares[0].Text(), "\n")[1][:9]
	for _, text := range []string{fmt.Sprint(shares), fmt.Sprintf("%x %v %+v %#v %q", shares[0], shares[0], &shares[0], shares[0], shares[0])} {
		if strings.Contains(text, secret) || !strings.Contains(text, "sheet 1 of 3") {
			t.Error("a share prints itself")
		}
	}
	key, err := seal.OpenEscrow(shares[:2])
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := key.MarshalText(); fmt.Sprintf("%v %+v %x", key, key, key)+string(text) != strings.Repeat("(key of an escrow) ", 3)[:56]+string(text) || len(text) != 18 {
		t.Errorf("a key prints itself")
	}
	shares[0].Clear()
	if _, err := seal.OpenEscrow(shares[:2]); !errors.Is(err, seal.ErrEscrow) {
		t.Errorf("after Clear: %v", err)
	}
}

func FuzzParseEscrowShare(f *testing.F) {
	for _, x := range []struct{ need, of int }{{2, 2}, {2, 3}, {3, 5}} {
		_, shares := newEscrow(f, 7, x.need, x.of)
		f.Add(shares[1].Text())
	}
	f.Add("HPE1 1/2/3 0123456789abcdef\n0000-0000-0000-0000-0000-0000-0000\n")
	f.Fuzz(func(t *testing.T, text string) {
		fuzz.Bounded(t, len(text), func() { seal.ParseEscrowShare(text) })
		s, err := seal.ParseEscrowShare(text)
		if err != nil {
			if !errors.Is(err, seal.ErrEscrow) {
				t.Errorf("an error of no family: %v", err)
			}
			return
		}
		if again, err := seal.ParseEscrowShare(s.Text()); err != nil || again.Text() != s.Text() {
			t.Errorf("a share came back as another: %v", err)
		}
		if _, err := seal.OpenEscrow([]seal.EscrowShare{s}); !errors.Is(err, seal.ErrEscrow) {
			t.Errorf("one sheet: %v", err)
		}
	})
}
