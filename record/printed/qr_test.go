package printed_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record/printed"
	"github.com/healthpost/healthpost/test/fuzz"
)

func TestQR(t *testing.T) {
	// The examples of RFC 9285 section 4.
	for plain, want := range map[string]string{"AB": "BB8", "Hello!!": "%69 VD92EX0", "base-45": "UJCLQE7W581", "ietf!": "QED8WEX0", "": ""} {
		got := printed.QR([]byte(plain))
		if got != "HPP1:"+want {
			t.Errorf("%q: got %q, want %q", plain, got, want)
		}
		if back, err := printed.FromQR(got); err != nil || string(back) != plain {
			t.Errorf("%q: got %q back, %v", plain, back, err)
		}
	}
	rng := newRand(t)
	for n := range 300 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		if got, err := printed.FromQR(printed.QR(b) + "\r\n"); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%x: got %x, %v", b, got, err)
		}
	}
}

func TestQRRefused(t *testing.T) {
	for name, text := range map[string]string{"nothing": "", "no magic": "BB8", "another magic": "HPP2:BB8", "small letters": "HPP1:bb8", "a digit too many": "HPP1:BB8B",
		"three digits past 65535": "HPP1:GGW", "three of the last digit": "HPP1::::", "two digits past 255": "HPP1:::", "a comma": "HPP1:B,8", "too long": printed.QR(make([]byte, 4000))} {
		if got, err := printed.FromQR(text); !errors.Is(err, printed.ErrMalformed) {
			t.Errorf("%s: got %x, %v", name, got, err)
		}
	}
}

func FuzzFromQR(f *testing.F) {
	f.Add(printed.QR([]byte("hpproof")))
	f.Add("HPP1:%69 VD92EX0")
	f.Fuzz(func(t *testing.T, s string) {
		fuzz.Bounded(t, len(s), func() { printed.FromQR(s) })
		b, err := printed.FromQR(s)
		if err != nil {
			if !errors.Is(err, printed.ErrMalformed) {
				t.Errorf("got %v", err)
			}
			return
		}
		if again, err := printed.FromQR(printed.QR(b)); err != nil || !bytes.Equal(again, b) {
			t.Errorf("got %x back, %v, want %x", again, err, b)
		}
	})
}
