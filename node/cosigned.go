package node

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// Decisions of patients, their cards, and what sheets of the escrow opened carry, besides the signature
// of the box, one by the staff member who wrote them down: a box whose session is open cannot
// make them up. What a file brought, or an older program wrote, has none, and its page says so.

const (
	cosignDomain    = "hp:cosign:1\x00"
	cosignedVersion = 0x40 // no version of what is inside
)

// cosigned is the plain text of such a record, behind its version byte.
type cosigned struct {
	_         struct{} `cbor:",toarray"`
	Staff     []byte   // 32
	Signature []byte   // 64, over cosignClaim
	Plain     []byte
}

// cosignClaim is what the person signs: domain, device, kind, compartment, plain text.
func cosignClaim(d record.DeviceID, kind record.Kind, c record.CompartmentID, plain []byte) []byte {
	b := append([]byte(cosignDomain), d[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(kind))
	return append(append(b, c[:]...), plain...)
}

// cosign puts the signature of who is signed in around a plain text; without anybody it
// stays as it is.
func (n *Node) cosign(in *signedIn, kind record.Kind, c record.CompartmentID, plain []byte) ([]byte, error) {
	if in == nil || len(in.key) == 0 {
		return plain, nil
	}
	x := cosigned{Staff: in.key.Public().(ed25519.PublicKey), Signature: ed25519.Sign(in.key, cosignClaim(n.author.Device, kind, c, plain)), Plain: plain}
	b, err := record.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("signing a decision: %w", err)
	}
	return append([]byte{cosignedVersion}, b...), nil
}

// openCosigned opens a record and gives what is inside, and who signed it: nil when nobody
// of the staff did. A signature that does not hold is chart.ErrBody.
func (n *Node) openCosigned(x *store.Placed) (plain []byte, staff ed25519.PublicKey, by record.DeviceID, err error) {
	r := &x.Record
	if by, _, err = n.store.EpochAuthor(r.Position().Epoch); err != nil {
		return nil, nil, by, err
	}
	if plain, err = n.vault.open(r); err == nil {
		plain, staff, err = decodeCosigned(plain, by, r.Core.Kind, r.Core.Compartment)
	}
	return plain, staff, by, err
}

func decodeCosigned(b []byte, by record.DeviceID, kind record.Kind, c record.CompartmentID) ([]byte, ed25519.PublicKey, error) {
	if len(b) == 0 || b[0] != cosignedVersion {
		return b, nil, nil
	}
	var x cosigned
	if err := record.Unmarshal(b[1:], &x); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", chart.ErrBody, err)
	}
	if len(x.Staff) != ed25519.PublicKeySize || !ed25519.Verify(x.Staff, cosignClaim(by, kind, c, x.Plain), x.Signature) {
		return nil, nil, fmt.Errorf("%w: its staff did not sign it", chart.ErrBody)
	}
	return x.Plain, x.Staff, nil
}

// signerName is who wrote a record down: who signed it, where that is known.
func (n *Node) signerName(r *record.Record, staff ed25519.PublicKey) string {
	var e staffEntry
	if len(staff) == 0 {
		return n.authorName(r)
	}
	if ok, err := n.readRow(whoKey(staff), &e); err != nil || !ok {
		return n.authorName(r)
	}
	return e.Name + " (" + n.boxName(r.Core.Epoch) + ")"
}
