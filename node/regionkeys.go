package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/BurntSushi/toml"

	"github.com/healthpost/healthpost/record"
)

// RegionKeys is what somebody needs to check proofs of a region: public, and to
// be had from somebody they trust.
type RegionKeys struct {
	Format int    `toml:"format" json:"format"`
	Region string `toml:"region" json:"region"`
	Name   string `toml:"name" json:"name"`
	// Generation is that of the ledger; left out it is 1.
	Generation uint64   `toml:"generation" json:"generation"`
	Hubs       []HubKey `toml:"hubs" json:"hubs"`
}

// HubKey is one hub with its device key, and the same key as public tools read it
// (C2SP signed-note, cosignature/v1), which nobody here does.
type HubKey struct {
	Name     string `toml:"name" json:"name"`
	Device   string `toml:"device" json:"device"`
	Verifier string `toml:"verifier,omitempty" json:"verifier,omitempty"`
}

const (
	regionKeysFormat = 1
	regionKeysMax    = 64 // hubs
	// RegionKeysBytesMax is the longest file that ParseRegionKeys reads.
	RegionKeysBytesMax = 64 << 10
)

// Keys are the region's public keys, as this box knows them.
func (n *Node) Keys() (RegionKeys, error) {
	id, ok := n.box.RegionID()
	if !ok {
		return RegionKeys{}, ErrNoRegion
	}
	_, name, _ := n.store.Region()
	ledger := n.ledgerID()
	k := RegionKeys{Format: regionKeysFormat, Region: id.String(), Name: name, Generation: ledger.Generation, Hubs: []HubKey{}}
	for _, d := range n.hubs() {
		k.Hubs = append(k.Hubs, HubKey{n.deviceName(d), d.String(), record.VerifierKey(ledger, d)})
	}
	if len(k.Hubs) == 0 {
		return k, errors.New("this box knows no hub of its region yet: let it sync first")
	}
	return k, nil
}

// Text is the keys as TOML, to print or to share.
func (k RegionKeys) Text() ([]byte, error) {
	body, err := toml.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("writing the keys: %w", err)
	}
	return append([]byte("# Public keys of a healthpost region: with them 'healthpost check-proof' checks a\n"+
		"# proof. Nothing here is secret; take it from somebody you trust.\n"), body...), nil
}

// ParseRegionKeys reads TOML or JSON. A setting that it does not know is an
// error, and so is a key that is none or stands there twice.
func ParseRegionKeys(b []byte) (RegionKeys, error) {
	var k RegionKeys
	if len(b) > RegionKeysBytesMax {
		return k, fmt.Errorf("reading the keys: more than %d bytes", RegionKeysBytesMax)
	}
	if err := k.decode(b); err != nil {
		return k, fmt.Errorf("reading the keys: %w", err)
	}
	if k.Format != regionKeysFormat {
		return k, fmt.Errorf("reading the keys: format %d, this program knows %d", k.Format, regionKeysFormat)
	}
	if len(k.Hubs) == 0 || len(k.Hubs) > regionKeysMax {
		return k, fmt.Errorf("reading the keys: %d hubs, want 1 to %d", len(k.Hubs), regionKeysMax)
	}
	if _, _, err := k.IDs(); err != nil {
		return k, fmt.Errorf("reading the keys: %w", err)
	}
	return k, nil
}

func (k *RegionKeys) decode(b []byte) error {
	if trimmed := bytes.TrimSpace(b); len(trimmed) > 0 && trimmed[0] == '{' {
		dec := json.NewDecoder(bytes.NewReader(trimmed))
		dec.DisallowUnknownFields()
		if err := dec.Decode(k); err != nil {
			return err
		}
		if dec.More() {
			return errors.New("more than one value")
		}
		return nil
	}
	meta, err := toml.Decode(string(b), k)
	if err != nil {
		return err
	}
	if u := meta.Undecoded(); len(u) > 0 {
		return fmt.Errorf("there is no setting %q", u[0].String())
	}
	return nil
}

// IDs are the ledger and the hub keys, to verify with.
func (k RegionKeys) IDs() (record.LedgerID, []record.DeviceID, error) {
	region, err := record.ParseRegionID(k.Region)
	ledger := region.Ledger(max(k.Generation, 1))
	if err != nil {
		return ledger, nil, err
	}
	var hubs []record.DeviceID
	for _, h := range k.Hubs {
		d, err := record.ParseDeviceID(h.Device)
		if err != nil {
			return ledger, nil, err
		}
		if slices.Contains(hubs, d) {
			return ledger, nil, fmt.Errorf("hub %s stands there twice", d.Short())
		}
		hubs = append(hubs, d)
	}
	return ledger, hubs, nil
}
