package node

import (
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/BurntSushi/toml"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

// EscrowPublic is the public file of an escrow: what was made where its sheets were, carried to
// the hubs, and voted for there.
type EscrowPublic struct {
	Format int    `toml:"format" json:"format"`
	Region string `toml:"region" json:"region"`
	Name   string `toml:"name" json:"name"`
	Key    string `toml:"key" json:"key"`       // X25519, 64 hexadecimal digits
	Verify string `toml:"verify" json:"verify"` // Ed25519, 64 hexadecimal digits
	ID     string `toml:"id" json:"id"`         // of the key, as the sheets show it
	Need   int    `toml:"need" json:"need"`
	Of     int    `toml:"of" json:"of"`
}

const (
	escrowPublicFormat = 1
	// EscrowPublicBytesMax is the longest file that ParseEscrowPublic reads.
	EscrowPublicBytesMax = 8 << 10
)

// Text is the file as TOML, to carry.
func (p EscrowPublic) Text() ([]byte, error) {
	body, err := toml.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("writing the escrow: %w", err)
	}
	return append([]byte("# Public half of a recovery escrow. Nothing here is secret. Carry it to the hubs and vote for\n"+
		"# it on each: healthpost region escrow vote FILE. Compare the id with the sheets first.\n"), body...), nil
}

// ParseEscrowPublic reads what Text gave. A setting that it does not know is an error.
func ParseEscrowPublic(b []byte) (EscrowPublic, error) {
	var p EscrowPublic
	if len(b) > EscrowPublicBytesMax {
		return p, fmt.Errorf("reading the escrow: more than %d bytes", EscrowPublicBytesMax)
	}
	meta, err := toml.Decode(string(b), &p)
	if err != nil {
		return p, fmt.Errorf("reading the escrow: %w", err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return p, fmt.Errorf("reading the escrow: a setting %q that this program does not know", unknown[0].String())
	}
	_, err = p.escrow()
	return p, err
}

// escrow is the body that hubs vote for. A key that nothing can be sealed to is refused.
func (p *EscrowPublic) escrow() (record.Escrow, error) {
	if p.Format != escrowPublicFormat {
		return record.Escrow{}, fmt.Errorf("reading the escrow: format %d, this program knows %d", p.Format, escrowPublicFormat)
	}
	raw, err := hex.DecodeString(p.Key)
	verifier, err2 := hex.DecodeString(p.Verify)
	if err != nil || err2 != nil || len(raw) != 32 || len(verifier) != 32 {
		return record.Escrow{}, errors.New("reading the escrow: a key is not 64 hexadecimal digits")
	}
	key, err := ecdh.X25519().NewPublicKey(raw)
	if err == nil {
		_, err = seal.SealTo(key, nil, nil)
	}
	if err != nil || seal.PublicKeyID(key).String() != p.ID {
		return record.Escrow{}, errors.New("reading the escrow: the key is none, or not the one that the id names")
	}
	if p.Of < 0 || p.Need < 0 {
		return record.Escrow{}, errors.New("reading the escrow: numbers of sheets")
	}
	e := record.Escrow{V: 1, Public: raw, Verifier: verifier, Need: uint64(p.Need), Of: uint64(p.Of)}
	body, err := record.Marshal(e)
	if err == nil {
		_, err = record.DecodeEscrow(body)
	}
	return e, err
}

// NewEscrow draws an escrow for a region and splits it. It is in the shares alone when this returns.
func NewEscrow(rand io.Reader, region RegionKeys, need, of int) (EscrowPublic, []seal.EscrowShare, error) {
	key, shares, err := seal.NewEscrow(rand, need, of)
	if err != nil {
		return EscrowPublic{}, nil, err
	}
	return EscrowPublic{Format: escrowPublicFormat, Region: region.Region, Name: region.Name, Key: hex.EncodeToString(key.Exchange.Bytes()), Verify: hex.EncodeToString(key.Verifier),
		ID: seal.PublicKeyID(key.Exchange).String(), Need: need, Of: of}, shares, nil
}
