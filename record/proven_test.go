package record_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/record"
)

// TestVerifiedCosignatureVouchesForNoOther changes every byte of a cosignature, and
// what it signs, after the sound note was verified.
func TestVerifiedCosignatureVouchesForNoOther(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	hub := record.DeviceID(key.Public().(ed25519.PublicKey))
	ledger := record.RegionID{1}.Ledger(1)
	note, err := record.Cosign(ledger, record.TreeHead{Size: 7}, key, 1_800_000_000)
	if err != nil {
		t.Fatal(err)
	}
	holds := func(note string) bool {
		_, err := record.VerifyFinal(ledger, []byte(note), []record.DeviceID{hub})
		return err == nil
	}
	sound := string(note)
	if !holds(sound) || !holds(sound) {
		t.Fatal("a sound note does not verify twice")
	}
	if holds(strings.Replace(sound, "\n7\n", "\n8\n", 1)) {
		t.Error("another size verifies under the same cosignature")
	}
	at := strings.LastIndex(sound, " ") + 1
	sig, err := base64.StdEncoding.DecodeString(strings.TrimSpace(sound[at:]))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sig {
		sig[i] ^= 1
		if holds(sound[:at] + base64.StdEncoding.EncodeToString(sig) + "\n") {
			t.Errorf("byte %d may be any", i)
		}
		sig[i] ^= 1
	}
	if !holds(sound) {
		t.Error("the sound note verifies no more")
	}
}
