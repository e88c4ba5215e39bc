package printed_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/record/printed"
	"github.com/healthpost/healthpost/test/fuzz"
)

// someRoot is a root of region, size and day as given.
func someRoot(name string, generation, size uint64, day int64) printed.Root {
	return printed.Root{Ledger: record.RegionID(sha256.Sum256([]byte("region " + name))).Ledger(generation),
		Head: record.TreeHead{Size: size, Root: sha256.Sum256([]byte(name))}, Day: day}
}

// short is what is known of a root after it was read from its line.
func short(r printed.Root) printed.Root {
	clear(r.Ledger.Region[8:])
	return r
}

var someRoots = []printed.Root{
	someRoot("a", 1, 0, 0),
	someRoot("b", 1, 1_234_567, 20_468),
	someRoot("c", 7, 10_000_000, 20_469),
	someRoot("d", 1<<64-1, 1<<62, 2_932_896),
}

func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HEALTHPOST_TEST_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("HEALTHPOST_TEST_SEED: %v", err)
		}
		seed = v
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("HEALTHPOST_TEST_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 7))
}

func TestLine(t *testing.T) {
	for _, want := range someRoots {
		line := want.Line()
		if len(line) > printed.LineCharsMax {
			t.Errorf("%d characters: %s", len(line), line)
		}
		got, err := printed.Parse(line)
		if err != nil || got != short(want) {
			t.Errorf("%s: got %+v, %v", line, got, err)
		}
		if !got.Of(want.Ledger) || got.Of(want.Ledger.Region.Ledger(want.Ledger.Generation+1)) || got.Of(someRoots[0].Ledger) != (want == someRoots[0]) {
			t.Errorf("%s: of the wrong ledger", line)
		}
	}
}

// What is on paper is typed with other blanks and letters, and SMS programs break
// lines where they like.
func TestLineAsTyped(t *testing.T) {
	want := someRoots[2]
	line := want.Line()
	f := strings.Fields(line)
	for name, text := range map[string]string{
		"line ends":              "\n " + strings.Join(f, "\r\n") + "\n\n",
		"tabs and blanks":        strings.Join(f, " \t  "),
		"capitals":               strings.Join([]string{f[0], strings.ToUpper(f[1]), f[2], f[3], f[4], f[5], strings.ToUpper(f[6])}, " "),
		"the root in two pieces": strings.Replace(line, f[4], f[4][:20]+"\n"+f[4][20:], 1),
		"the root in four":       strings.Replace(line, f[4], f[4][:10]+" "+f[4][10:20]+" "+f[4][20:30]+" "+f[4][30:], 1),
	} {
		if got, err := printed.Parse(text); err != nil || got != short(want) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestLineRefused(t *testing.T) {
	line := someRoots[1].Line()
	f := strings.Fields(line)
	with := func(i int, s string) string {
		g := append([]string(nil), f...)
		g[i] = s
		return strings.Join(g, " ")
	}
	for name, text := range map[string]string{
		"nothing": "", "blanks": "  \n", "another magic": with(0, "HPR2"), "small letters": with(0, "hpr1"),
		"a short region": with(1, f[1][:15]), "a long region": with(1, f[1]+"00"), "another region": with(1, strings.Repeat("0", 16)),
		"no g": with(2, "1"), "a generation of words": with(2, "gone"), "another generation": with(2, "g2"), "a longer generation": with(2, "g01"),
		"another size": with(3, "1234568"), "a sign": with(3, "+1234567"), "a longer size": with(3, "01234567"), "a size past 2^62": with(3, "4611686018427387905"),
		"a short root": with(4, f[4][:42]), "a long root": with(4, f[4]+"A"), "another root": with(4, strings.Repeat("A", 43)), "a root with loose bits": with(4, f[4][:42]+"1"),
		"a day that is none": with(5, "20260230"), "another day": with(5, "20260116"), "a day before 1970": with(5, "19691231"),
		"another check": with(6, "00000000"), "no check": strings.Join(f[:6], " "), "a field more": line + " x", "twice": line + " " + line,
		"words before it": "root " + line, "too long": line + strings.Repeat(" ", 2000),
	} {
		if got, err := printed.Parse(text); !errors.Is(err, printed.ErrMalformed) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

// A changed line is refused, or it is the same root in another spelling.
func TestLineChanged(t *testing.T) {
	rng := newRand(t)
	want := someRoots[3]
	line := want.Line()
	const signs = "0123456789abcdefgABCDEFGHPRxyz-_ +/=\n"
	refused := 0
	for range 4000 {
		b := []byte(line)
		for range 1 + rng.IntN(3) {
			i := rng.IntN(len(b))
			switch rng.IntN(4) {
			case 0:
				b[i] = signs[rng.IntN(len(signs))]
			case 1:
				j := rng.IntN(len(b))
				b[i], b[j] = b[j], b[i]
			case 2:
				b = append(b[:i], b[i+1:]...)
			case 3:
				b = append(b[:i], append([]byte{signs[rng.IntN(len(signs))]}, b[i:]...)...)
			}
		}
		got, err := printed.Parse(string(b))
		if err != nil {
			refused++
			continue
		}
		if got != short(want) {
			t.Fatalf("%q read as another root", b)
		}
	}
	if refused < 3000 {
		t.Errorf("only %d of 4,000 were refused", refused)
	}
}

func TestWords(t *testing.T) {
	// Published examples of BIP-39, 256 bits.
	for b, want := range map[byte]string{
		0x00: strings.Repeat("abandon ", 23) + "art",
		0x7f: strings.Repeat("legal winner thank year wave sausage worth useful ", 2) + "legal winner thank year wave sausage worth title",
		0xff: strings.Repeat("zoo ", 23) + "vote",
	} {
		var x [32]byte
		for i := range x {
			x[i] = b
		}
		if got := strings.Join(printed.Words(x), " "); got != want {
			t.Errorf("%#x: got %q, want %q", b, got, want)
		}
		if got, err := printed.FromWords(strings.Fields(want)); err != nil || got != x {
			t.Errorf("%#x: got %x, %v", b, got, err)
		}
	}
	rng := newRand(t)
	for range 500 {
		var x [32]byte
		for i := range x {
			x[i] = byte(rng.Uint32())
		}
		words := printed.Words(x)
		got, err := printed.FromWords(words)
		if err != nil || got != x {
			t.Fatalf("got %x, %v, want %x", got, err, x)
		}
		for i, w := range words {
			words[i] = strings.ToUpper(w[:min(4, len(w))])
		}
		if got, err := printed.FromWords(words); err != nil || got != x {
			t.Fatalf("by four letters: got %x, %v, want %x", got, err, x)
		}
	}
}

func TestParseWords(t *testing.T) {
	r := someRoots[2]
	words := r.Words()
	if got, err := printed.ParseWords(r.Head.Size, words); err != nil || got != r.Head {
		t.Errorf("got %v, %v", got, err)
	}
	swapped := append([]string(nil), words...)
	swapped[3], swapped[9] = swapped[9], swapped[3]
	for name, list := range map[string][]string{"none": nil, "23": words[:23], "25": append(words[:24:24], "zoo"), "no word": append(words[:23:23], "healthpost"),
		"an empty one": append(words[:23:23], ""), "three letters of a longer one": append(words[:23:23], "aba")} {
		if _, err := printed.ParseWords(1, list); !errors.Is(err, printed.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := printed.ParseWords(1<<62+1, words); !errors.Is(err, printed.ErrMalformed) {
		t.Errorf("a size past 2^62: got %v", err)
	}
	// Eight bits: another order is told 255 times of 256, and is never this root.
	if got, err := printed.ParseWords(r.Head.Size, swapped); err == nil && got == r.Head {
		t.Error("two words exchanged are the same root")
	}
}

func FuzzParse(f *testing.F) {
	for _, r := range someRoots {
		f.Add(r.Line())
	}
	f.Fuzz(func(t *testing.T, s string) {
		fuzz.Bounded(t, len(s), func() { printed.Parse(s) })
		r, err := printed.Parse(s)
		if err != nil {
			if !errors.Is(err, printed.ErrMalformed) {
				t.Errorf("got %v", err)
			}
			return
		}
		if again, err := printed.Parse(r.Line()); err != nil || again != r {
			t.Errorf("got %+v back, %v, want %+v", again, err, r)
		}
	})
}

func FuzzFromWords(f *testing.F) {
	f.Add(strings.Join(someRoots[0].Words(), " "))
	f.Fuzz(func(t *testing.T, s string) {
		fuzz.Bounded(t, len(s), func() { printed.FromWords(strings.Fields(s)) })
		words := strings.Fields(s)
		b, err := printed.FromWords(words)
		if err != nil {
			if !errors.Is(err, printed.ErrMalformed) {
				t.Errorf("got %v", err)
			}
			return
		}
		for i, w := range printed.Words(b) {
			if !strings.HasPrefix(w, strings.ToLower(words[i])) {
				t.Errorf("word %d: got %q back, want %q", i, w, words[i])
			}
		}
	})
}

func ExampleRoot_Line() {
	r := printed.Root{Ledger: record.RegionID{0xc0, 0xff, 0xee}.Ledger(1), Head: record.TreeHead{Size: 42, Root: record.EmptyRoot}, Day: 20_468}
	fmt.Println(r.Line())
	// Output: HPR1 c0ffee0000000000 g1 42 47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU 20260115 95dfe5b0
}
