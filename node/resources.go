package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

// What an import asks of what is here already. A resource's own key counts inside
// of its compartment only: two hospitals that number from 1 mean different things
// by one number, and a file about one patient never moves what another one has.
// The ways in which other resources name a patient are the region's.

// resourceRow says where a resource is kept.
type resourceRow struct {
	_           struct{} `cbor:",toarray"`
	Compartment []byte
	RID         []byte // 8 bytes
	Index       uint16
	Hash        []byte // SHA-256 of its JSON
}

func (n *Node) resourceKey(name string) []byte {
	b := seal.Blind(n.rowKey(), "res", []byte(name))
	return append([]byte("res/"), b[:]...)
}

func (n *Node) resource(name string) (resourceRow, bool, error) {
	var r resourceRow
	ok, err := n.readRow(n.resourceKey(name), &r)
	return r, ok, err
}

// keyName is the text under which a compartment's resource is found again.
func keyName(c record.CompartmentID, item chart.Item) string {
	if k := item.Key(); k != "" {
		return c.String() + " k " + k
	}
	h := sha256.Sum256(item.JSON)
	return versionName(c, h[:])
}

// versionName is the text under which a version is found that was replaced since.
func versionName(c record.CompartmentID, hash []byte) string {
	return c.String() + " h " + hex.EncodeToString(hash)
}

// patientName is the text under which a reference finds a patient.
func patientName(reference string) string { return "p " + reference }

// resources keeps where each resource of a compartment is, under its key and,
// for a patient, under each name that others may use. The last version counts;
// those before it stay known by their content, so that an old file brings
// nothing new.
func (p *projection) resources(c record.CompartmentID, opened []chart.Opened) error {
	rows := map[string]resourceRow{}
	var names []string
	put := func(name string, r resourceRow) {
		if _, ok := rows[name]; !ok {
			names = append(names, name)
		}
		rows[name] = r
	}
	for _, o := range opened {
		for i, item := range o.Body.Items {
			if item.Op != chart.OpPut {
				continue
			}
			ref, h := chart.RefOf(o.RID, i), sha256.Sum256(item.JSON)
			r := resourceRow{Compartment: c[:], RID: ref.RID[:], Index: ref.Index, Hash: h[:]}
			key := keyName(c, item)
			if old, ok := rows[key]; ok && !bytes.Equal(old.Hash, r.Hash) {
				put(versionName(c, old.Hash), old)
			}
			put(key, r)
			if item.Type == "Patient" {
				for _, name := range fhir.ReferenceNames(item.Resource()) {
					put(patientName(name), r)
				}
			}
		}
	}
	for _, name := range names {
		if err := p.resource(name, rows[name]); err != nil {
			return err
		}
	}
	return nil
}

func (p *projection) resource(name string, r resourceRow) error {
	plain, err := record.Marshal(r)
	if err != nil {
		return err
	}
	return p.putChanged(p.n.resourceKey(name), plain)
}
