package node

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// A field device is carried about and may be lost. It is given no reading key of the
// region: it opens what it wrote itself and what was assigned to it (profile.go), and
// carries everything else sealed. The keys of patients that it registers it wraps to
// itself and to the region's letterbox, which the others can open.
//
//	letterbox    public half of the letterbox, 32 bytes, on field devices

var letterboxRow = []byte("letterbox")

const joinFieldInfo = "hp:join:field:1"

// fieldKeys is what a field device is given when it joins, sealed to it.
type fieldKeys struct {
	_         struct{} `cbor:",toarray"`
	Letterbox []byte   // 32
	Wraps     []byte   // seal.EncodeWraps: the directory's key
}

// sealFieldKeys makes the answer to a field device that joins.
func (n *Node) sealFieldKeys(encryption *ecdh.PublicKey) ([]byte, error) {
	current, ok := n.keys.CurrentReading()
	if !ok {
		return nil, seal.ErrNoKey
	}
	region, ok := n.box.RegionID()
	if !ok {
		return nil, ErrNoRegion
	}
	w, err := n.vault.wrapTo(encryption, directory(region))
	if err != nil {
		return nil, err
	}
	wraps, err := seal.EncodeWraps([]seal.Wrap{w})
	if err != nil {
		return nil, err
	}
	plain, err := record.Marshal(fieldKeys{Letterbox: seal.Letterbox(current).PublicKey().Bytes(), Wraps: wraps})
	if err != nil {
		return nil, err
	}
	return seal.SealTo(encryption, []byte(joinFieldInfo), plain)
}

// keepFieldKeys takes that answer, durable on return.
func (n *Node) keepFieldKeys(ctx context.Context, sealed []byte) error {
	plain, err := seal.OpenWith(n.keys.ExchangeKey(), []byte(joinFieldInfo), sealed)
	if err != nil {
		return err
	}
	var k fieldKeys
	if err := record.Unmarshal(plain, &k); err != nil {
		return err
	}
	if _, err := ecdh.X25519().NewPublicKey(k.Letterbox); err != nil {
		return fmt.Errorf("%w: letterbox: %w", seal.ErrDamaged, err)
	}
	wraps, err := seal.DecodeWraps(k.Wraps)
	if err != nil {
		return fmt.Errorf("reading key wraps: %w", err)
	}
	rows, err := n.vault.wrapRows(wraps)
	if err != nil {
		return err
	}
	return n.store.PutRows(ctx, append(rows, store.Row{Key: letterboxRow, Value: k.Letterbox}))
}

// letterbox is where a box without a reading key wraps keys for the region.
func (v *vault) letterbox() (*ecdh.PublicKey, error) {
	b, err := v.store.GetRow(letterboxRow)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: this box has no reading key yet", seal.ErrNoKey)
	}
	if err != nil {
		return nil, err
	}
	return ecdh.X25519().NewPublicKey(b)
}

// wrapTo hands the key that a compartment began with to one device.
func (v *vault) wrapTo(encryption *ecdh.PublicKey, c record.CompartmentID) (seal.Wrap, error) {
	k, err := v.key(c, firstGen)
	if err != nil {
		return seal.Wrap{}, err
	}
	return seal.WrapKeyTo(encryption, c, firstGen, k)
}

// wrapsForRegion hands a key to everybody who may read in the region.
func (v *vault) wrapsForRegion(c record.CompartmentID, k dek) ([]seal.Wrap, error) {
	all, err := v.region()
	if err != nil {
		return nil, fmt.Errorf("handing a key to the region: %w", err)
	}
	var wraps []seal.Wrap
	for i := range all {
		w, err := all[i].wrap(c, k)
		if err != nil {
			return nil, err
		}
		wraps = append(wraps, w)
	}
	return wraps, nil
}
