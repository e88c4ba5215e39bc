package node

import (
	"crypto/ecdh"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

// KeysAtHand are all keys that a box has: those of its vault for a chart, and its own.
func (n *Node) KeysAtHand(patient string) ([]seal.Key, error) {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return nil, err
	}
	held, err := n.vault.held(c)
	keys := append(n.CompartmentKeys(), n.keys.Device, n.keys.Exchange, n.keys.Local, n.rowKey())
	for _, k := range held {
		keys = append(keys, k)
	}
	for _, k := range n.keys.Reading {
		keys = append(keys, k)
	}
	return keys, err
}

// ByCard are the keys that a card and its PIN open with all wraps that a box has.
func (n *Node) ByCard(patient, code, pin string) (keys []seal.Key, err error) {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return nil, err
	}
	secret, err := seal.ParseCardCode(code)
	if err != nil {
		return nil, err
	}
	var row cardRow
	if _, err := n.readRow(n.cardKey("card/", secret.Find()), &row); err != nil {
		return nil, err
	}
	lock, err := seal.DecodeCardLock(row.Lock)
	if err != nil {
		return nil, err
	}
	opens, ok := lock.Open(secret, pin)
	if !ok {
		return nil, nil
	}
	lent, err := n.openedBy(opens, c)
	for _, k := range lent {
		keys = append(keys, k)
	}
	return keys, err
}

// OpensWith reports whether one of keys opens a record's body, which must be here.
func (n *Node) OpensWith(rid string, keys []seal.Key) (bool, error) {
	id, err := record.ParseRID(rid)
	if err != nil {
		return false, err
	}
	r, ok, err := n.store.ByRID(id)
	if err != nil || !ok || r.Body == nil {
		return false, errNotHere
	}
	for _, k := range keys {
		_, err := n.vault.dictionaries.Open(func(uint64) (seal.Key, bool) { return k, true }, r.Position(), r.Core.Kind, r.Core.Compartment, r.Body)
		if err == nil {
			return true, nil
		}
		if priv, err := ecdh.X25519().NewPrivateKey(k[:]); err == nil { // a scalar may be what it was wrapped to
			for gen, dek := range wrappedTo(priv, r.Core.Compartment, n.wrapsHere(priv, r.Core.Compartment)) {
				if g, err := seal.Generation(r.Body); err == nil && g == gen && !dek.IsZero() {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

var errNotHere = record.ErrMalformed

// wrapsHere ends the process where wraps cannot be read: a thief without them would seem to be stopped.
func (n *Node) wrapsHere(to *ecdh.PrivateKey, c record.CompartmentID) (wraps []cardWrap) {
	err := n.eachWrap(c, func(w seal.Wrap, by record.DeviceID) {
		if w.Recipient == seal.PublicKeyID(to.PublicKey()) {
			wraps = append(wraps, cardWrap{w, by})
		}
	})
	if err != nil {
		panic(err)
	}
	return wraps
}

// Readable is everything that a box can read: each row as it lies and opened, each record's
// body as it lies and opened.
func (n *Node) Readable(patient string) (all [][]byte, err error) {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return nil, err
	}
	err = n.store.ScanRows(nil, 1<<20, func(k, v []byte) bool {
		all = append(all, append([]byte(nil), k...), append([]byte(nil), v...))
		if plain, err := seal.OpenRow(n.rowKey(), k, v); err == nil {
			all = append(all, plain)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	recs, err := n.store.Compartment(c)
	for i := range recs {
		all = append(all, recs[i].Record.Body)
		if plain, err := n.vault.open(&recs[i].Record); err == nil {
			all = append(all, plain)
		}
	}
	return all, err
}
