package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/BurntSushi/toml"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
)

// Proved is the proof of one record, as a file, with what it proves.
type Proved struct {
	RID  string `json:"record"`
	Seq  uint64 `json:"seq"`
	Size uint64 `json:"size"` // of the tree that the hubs cosigned
	File []byte `json:"file"` // record.EncodeProof
}

// Prove makes the proof of a record that lies under the newest final checkpoint
// of this box. Any other record is an error that says where it is instead.
func (n *Node) Prove(text string) (Proved, error) {
	rid, err := record.ParseRID(text)
	if err != nil {
		return Proved{}, err
	}
	note, head, ok := n.store.Final()
	loc, known, err := n.store.Locate(rid)
	if err != nil {
		return Proved{}, err
	}
	if !known || loc.Pending || !ok || loc.Seq >= head.Size {
		return Proved{}, n.whyNotProven(rid, known && !loc.Pending)
	}
	e, err := n.store.Entry(loc.Seq)
	if err != nil {
		return Proved{}, err
	}
	device, ok, err := n.store.EpochAuthor(e.Record.Position().Epoch)
	if err != nil || !ok {
		return Proved{}, errors.Join(fmt.Errorf("record %s: its author is not on this box", rid.Short()), err)
	}
	path, err := n.store.InclusionProof(loc.Seq, head.Size)
	if err != nil {
		return Proved{}, err
	}
	p, err := record.NewProof(n.ledgerID(), device, &e, path, note, n.hubs())
	if errors.Is(err, record.ErrNotFinal) {
		return Proved{}, fmt.Errorf("record %s: the hubs of the region changed after its checkpoint: wait for the next one", rid.Short())
	}
	if err != nil {
		return Proved{}, fmt.Errorf("proving record %s: %w", rid.Short(), err)
	}
	return Proved{RID: rid.String(), Seq: p.Seq, Size: p.Size, File: record.EncodeProof(&p)}, nil
}

// whyNotProven says in words where a record is that no final checkpoint covers.
func (n *Node) whyNotProven(rid record.RID, ordered bool) error {
	if ordered {
		return fmt.Errorf("record %s: not in the regional record yet: it has its place, and a majority of the hubs has not signed it so far", rid.Short())
	}
	st, err := n.newStates()
	if err != nil {
		return err
	}
	if out, refused := st.refused[rid]; refused {
		return fmt.Errorf("record %s: refused by the region (%s): there is nothing to prove", rid.Short(), refusalCode(out.Verdict))
	}
	state, ok, err := st.find(rid)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("record %s: not on this box", rid.Short())
	case state.Kind == chart.Confirmed:
		return fmt.Errorf("record %s: confirmed just now: ask again", rid.Short())
	}
	return fmt.Errorf("record %s: not in the regional record yet: it waits on this box for a hub", rid.Short())
}

// RegionKeys is what somebody needs to check proofs of a region: public, and to
// be had from somebody they trust.
type RegionKeys struct {
	Format int      `toml:"format" json:"format"`
	Region string   `toml:"region" json:"region"`
	Name   string   `toml:"name" json:"name"`
	Hubs   []HubKey `toml:"hubs" json:"hubs"`
}

// HubKey is one hub with its device key.
type HubKey struct {
	Name   string `toml:"name" json:"name"`
	Device string `toml:"device" json:"device"`
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
	k := RegionKeys{Format: regionKeysFormat, Region: id.String(), Name: name, Hubs: []HubKey{}}
	for _, d := range n.hubs() {
		k.Hubs = append(k.Hubs, HubKey{n.deviceName(d), d.String()})
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

// IDs are the region and the hub keys, to verify with.
func (k RegionKeys) IDs() (record.RegionID, []record.DeviceID, error) {
	region, err := record.ParseRegionID(k.Region)
	if err != nil {
		return region, nil, err
	}
	var hubs []record.DeviceID
	for _, h := range k.Hubs {
		d, err := record.ParseDeviceID(h.Device)
		if err != nil {
			return region, nil, err
		}
		if slices.Contains(hubs, d) {
			return region, nil, fmt.Errorf("hub %s stands there twice", d.Short())
		}
		hubs = append(hubs, d)
	}
	return region, hubs, nil
}

// proofRoutes are what commands ask about proofs.
func (n *Node) proofRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("GET /region/keys", func(*http.Request) (any, error) { return n.Keys() })
	reply("GET /prove", func(r *http.Request) (any, error) { return n.Prove(r.URL.Query().Get("rid")) })
}

// Keys and Prove do on the box what the methods of the same name on Node say.
func (c *Client) Keys(ctx context.Context) (k RegionKeys, err error) {
	return k, c.call(ctx, http.MethodGet, "/region/keys", nil, &k)
}

func (c *Client) Prove(ctx context.Context, rid string) (p Proved, err error) {
	return p, c.call(ctx, http.MethodGet, "/prove?"+url.Values{"rid": {rid}}.Encode(), nil, &p)
}
