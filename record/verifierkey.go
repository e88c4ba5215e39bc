package record

import (
	"encoding/base64"
	"fmt"
)

// VerifierKey is a hub's key for one ledger as public tools read it: name, key id
// and 0x04 || Ed25519 key in base64 (C2SP signed-note, cosignature/v1).
func VerifierKey(l LedgerID, hub DeviceID) string {
	k := hubKey(l, hub)
	return fmt.Sprintf("%s+%08x+%s", k.name, k.hash, base64.StdEncoding.EncodeToString(append([]byte{algCosignatureV1}, hub[:]...)))
}
