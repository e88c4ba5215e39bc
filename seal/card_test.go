package seal_test

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

var cheapPIN = seal.PINParams{MemoryKiB: 64, Passes: 1, Threads: 1}

func cardOf(t testing.TB, seed byte) seal.CardSecret {
	t.Helper()
	s, err := seal.NewCardSecret(rand.NewChaCha8([32]byte{seed}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCardCodes(t *testing.T) {
	s := cardOf(t, 1)
	code := s.Code()
	if len(code) != 28+6 || strings.Count(code, "-") != 6 {
		t.Errorf("a code of %d letters: not seven groups of four", len(code))
	}
	for name, typed := range map[string]string{
		"as shown": code, "in small letters": strings.ToLower(code), "with spaces": strings.ReplaceAll(code, "-", " "), "without anything": strings.ReplaceAll(code, "-", ""),
		"with letters for digits": strings.NewReplacer("0", "o", "1", "l").Replace(code),
	} {
		if got, err := seal.ParseCardCode(typed); err != nil || got.Code() != code {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, typed := range map[string]string{"nothing": "", "one letter less": code[:len(code)-1], "one more": code + "7", "long": strings.Repeat(code, 9), "a U": "U" + code[1:], "not ASCII": "é" + code[1:]} {
		if _, err := seal.ParseCardCode(typed); !errors.Is(err, seal.ErrCardCode) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCardCodesNoticeSlips: of all codes with one letter changed or two neighbours
// swapped nearly none is taken for a code.
func TestCardCodesNoticeSlips(t *testing.T) {
	plain := strings.ReplaceAll(cardOf(t, 2).Code(), "-", "")
	tried, taken := 0, 0
	try := func(b []byte) {
		if string(b) == plain {
			return
		}
		tried++
		if _, err := seal.ParseCardCode(string(b)); err == nil {
			taken++
		}
	}
	for i := range plain {
		for _, c := range "0123456789ABCDEFGHJKMNPQRSTVWXYZ" {
			b := []byte(plain)
			b[i] = byte(c)
			try(b)
		}
		if i > 0 {
			b := []byte(plain)
			b[i-1], b[i] = b[i], b[i-1]
			try(b)
		}
	}
	if tried < 800 || taken > tried/100 {
		t.Errorf("%d of %d slips were taken for a code", taken, tried)
	}
}

func TestCardOpensWithItsPINAlone(t *testing.T) {
	s, other := cardOf(t, 3), cardOf(t, 4)
	l, pub, err := seal.NewCardLock(rand.NewChaCha8([32]byte{5}), s, "4711", cheapPIN)
	if err != nil {
		t.Fatal(err)
	}
	again, err := seal.DecodeCardLock(l.Encode())
	if err != nil || again != l {
		t.Fatalf("came back as another lock: %v", err)
	}
	for _, x := range []struct {
		secret seal.CardSecret
		pin    string
		want   bool
	}{{s, "4711", true}, {s, "4712", false}, {s, "", false}, {s, "47110", false}, {other, "4711", false}, {seal.CardSecret{}, "4711", false}, {s, strings.Repeat("4", 99), false}} {
		key, got := again.Open(x.secret, x.pin)
		if got != x.want || got != (key != nil) || got && !key.PublicKey().Equal(pub) {
			t.Errorf("a PIN of %d digits: opens %v, want %v, with the card's key", len(x.pin), got, x.want)
		}
	}
	if s.Find() == other.Find() || strings.Contains(fmt.Sprintf("%x", s.Find()), fmt.Sprintf("%x", s[:4])) {
		t.Error("what a card is found by gives its secret away, or is another's")
	}
}

// TestCardKeyIsNotInWhatBoxesKeep: a key wrapped to a card opens with secret and PIN, and not with what a
// box keeps of the card, used as a key; two cards of one secret and PIN have keys of their own.
func TestCardKeyIsNotInWhatBoxesKeep(t *testing.T) {
	s := cardOf(t, 3)
	l, pub, err := seal.NewCardLock(rand.NewChaCha8([32]byte{5}), s, "4711", cheapPIN)
	if err != nil {
		t.Fatal(err)
	}
	comp, dek := record.CompartmentID{7}, seal.Key{1, 2, 3}
	w, err := seal.WrapKeyTo(pub, comp, 9, dek)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := l.Open(s, "4711")
	if !ok {
		t.Fatal("the card does not open")
	}
	if got, err := seal.UnwrapKeyWith(key, w); err != nil || got != dek {
		t.Errorf("with the card and its PIN: %v", err)
	}
	find := s.Find()
	for name, kept := range map[string][]byte{"the sum of the lock": l.Sum[:], "the salt": append(l.Salt[:], l.Salt[:]...), "what it is found by": append(find[:], find[:]...), "the secret": append(s[:], s[:]...)} {
		priv, err := ecdh.X25519().NewPrivateKey(kept)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(key.Bytes(), kept) {
			t.Errorf("%s is the key", name)
		}
		if _, err := seal.OpenWith(priv, nil, w.Box); err == nil {
			t.Errorf("%s opens a wrap", name)
		}
	}
	_, second, err := seal.NewCardLock(rand.NewChaCha8([32]byte{6}), s, "4711", cheapPIN)
	if err != nil || second.Equal(pub) {
		t.Errorf("another salt, the same key: %v", err)
	}
}

func TestCardPINs(t *testing.T) {
	for pin, ok := range map[string]bool{"4711": true, "271828": true, "": false, "123": false, "1111": false, "1234": false, "4321": false, "47a1": false, strings.Repeat("47", 7): false} {
		if err := seal.CheckCardPIN(pin); (err == nil) != ok || err != nil && !errors.Is(err, seal.ErrWeakPIN) {
			t.Errorf("%d digits: %v, want allowed %v", len(pin), err, ok)
		}
	}
	if _, _, err := seal.NewCardLock(rand.NewChaCha8([32]byte{5}), cardOf(t, 1), "1111", cheapPIN); !errors.Is(err, seal.ErrWeakPIN) {
		t.Errorf("a weak PIN: %v", err)
	}
	if _, _, err := seal.NewCardLock(rand.NewChaCha8([32]byte{5}), cardOf(t, 1), "4711", seal.PINParams{MemoryKiB: 1 << 30, Passes: 1, Threads: 1}); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a PIN that takes all memory: %v", err)
	}
}

func TestCardSecretsDoNotPrint(t *testing.T) {
	s := cardOf(t, 1)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%x %v %+v %s %q", s, s, &s, s, s), fmt.Sprintf("%v", struct{ S seal.CardSecret }{s})} {
		if strings.Contains(text, fmt.Sprintf("%x", s[:3])) || strings.Contains(text, s.Code()[:4]) {
			t.Error("a secret prints itself")
		}
	}
	if b, _ := s.MarshalText(); bytes.Contains(b, s[:2]) {
		t.Error("a secret marshals itself")
	}
}

func FuzzParseCardCode(f *testing.F) {
	f.Add(cardOf(f, 1).Code())
	f.Add("0000-0000-0000-0000-0000-0000-0000")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := seal.ParseCardCode(text)
		if err != nil {
			if !errors.Is(err, seal.ErrCardCode) {
				t.Errorf("an error of no family: %v", err)
			}
			return
		}
		if again, err := seal.ParseCardCode(s.Code()); err != nil || again.Code() != s.Code() {
			t.Errorf("a code came back as another: %v", err)
		}
	})
}

func FuzzDecodeCardLock(f *testing.F) {
	l, _, err := seal.NewCardLock(rand.NewChaCha8([32]byte{5}), cardOf(f, 3), "4711", cheapPIN)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := seal.DecodeCardLock(b)
		if err != nil {
			if !errors.Is(err, seal.ErrDamaged) && !errors.Is(err, seal.ErrNewer) {
				t.Errorf("an error of no family: %v", err)
			}
			return
		}
		if !bytes.Equal(l.Encode(), b) {
			t.Error("a lock has two forms")
		}
	})
}
