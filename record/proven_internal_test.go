package record

import (
	"crypto/ed25519"
	"testing"
)

// TestProvenIsExact: a signature that verified once answers for itself alone, however its
// bytes and the message's are divided.
func TestProvenIsExact(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	pub := DeviceID(key.Public().(ed25519.PublicKey))
	msg := []byte("what was signed")
	sig := ed25519.Sign(key, msg)
	for range 2 {
		if !verifyCosignature(pub, msg, sig) {
			t.Fatal("a signature does not verify")
		}
	}
	all := append(append([]byte(nil), sig...), msg...)
	for _, at := range []int{0, 63, 65, len(all)} {
		if verifyCosignature(pub, all[at:], all[:at]) {
			t.Errorf("accepted with %d bytes of signature", at)
		}
	}
	for i := range all {
		changed := append([]byte(nil), all...)
		changed[i] ^= 1
		if verifyCosignature(pub, changed[64:], changed[:64]) {
			t.Errorf("accepted with byte %d changed", i)
		}
	}
}
