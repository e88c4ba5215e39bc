package record

// Attest is the body by which a member says, in the ledger itself, which ledger
// it has verified. It is ordered whatever it says: a history that somebody forked
// has to lack these records or be contradicted by them.
type Attest struct {
	_    struct{} `cbor:",toarray"`
	Size uint64
	Root []byte // 32
}

// Head is size and root.
func (a *Attest) Head() TreeHead { return TreeHead{a.Size, Hash(a.Root)} }

// DecodeAttest reads and checks the body of an attestation.
func DecodeAttest(body []byte) (Attest, error) {
	var a Attest
	if err := decodeControl(body, &a, "attestation"); err != nil {
		return a, err
	}
	return a, firstError(checkLen(a.Root, 32, "root"), checkSize(a.Size))
}
