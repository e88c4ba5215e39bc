package node

import (
	"crypto/ecdh"
	"crypto/rand"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

// audience is who may be handed the keys of a closed chart, by what holds at the time of asking.
type audience struct {
	to    []recipient
	boxes map[record.DeviceID]bool
	may   map[seal.KeyID]bool // those of to, and what opens to no more than these
}

// recipient is one whom a key is handed to.
type recipient struct {
	id      seal.KeyID
	public  *ecdh.PublicKey
	reading seal.Key // of the region, where there is no public key
	also    seal.KeyID
}

func (r *recipient) wrap(c record.CompartmentID, k dek) (seal.Wrap, error) {
	if r.public == nil {
		return seal.WrapKey(rand.Reader, r.reading, c, k.gen, k.key)
	}
	return seal.WrapKeyTo(r.public, c, k.gen, k.key)
}

// has reports whether a key was handed to the recipient, by who had it.
func (r *recipient) has(g *generation) bool { return g.had[r.id] || g.had[r.also] }

func (a *audience) add(r recipient) {
	if !a.may[r.id] {
		a.may[r.id] = true
		a.to = append(a.to, r)
	}
}

// addKey adds the holder of a key. One to which nothing can be sealed is left out: nobody keeps the
// others from their chart by it.
func (a *audience) addKey(n *Node, raw []byte) bool {
	key, err := ecdh.X25519().NewPublicKey(raw)
	if err == nil {
		_, err = seal.SealTo(key, nil, nil)
	}
	if err != nil {
		n.log.Warn().Msg("a key that nothing can be sealed to is left out")
		return false
	}
	a.add(recipient{id: seal.PublicKeyID(key), public: key})
	return true
}

// audience lists them: the boxes at home, those with a permission, the patient's cards, the
// escrow, and this box, unless it writes by a card.
func (n *Node) audience(c record.CompartmentID, k *custody, escrow *ecdh.PublicKey, byCard bool) (*audience, error) {
	now := n.grantTime()
	a := &audience{boxes: map[record.DeviceID]bool{n.author.Device: true}, may: map[seal.KeyID]bool{}}
	if !byCard {
		a.addKey(n, n.keys.ExchangeKey().PublicKey().Bytes())
	}
	members, err := n.store.Members()
	if err != nil {
		return nil, err
	}
	for i := range members {
		if m := &members[i]; m.Active() && k.allows(m.Device, now) && m.Role != record.RoleHub && a.addKey(n, m.Encryption[:]) {
			a.boxes[m.Device] = true
		}
	}
	cards, err := n.cardsInCustody(c, k)
	if err != nil {
		return nil, err
	}
	for _, card := range cards {
		a.addKey(n, card)
	}
	a.addKey(n, escrow.Bytes())
	if k.everybody(now) {
		return a, n.addRegion(a)
	}
	return a, nil
}

// addRegion adds everybody who may read in the region.
func (n *Node) addRegion(a *audience) error {
	members, err := n.store.Members()
	if err != nil {
		return err
	}
	for i := range members {
		if m := &members[i]; m.Active() {
			a.boxes[m.Device] = true
		}
	}
	all, err := n.vault.region()
	if err != nil {
		return err
	}
	for _, r := range all {
		a.add(r)
	}
	for id, reading := range n.keys.Reading {
		a.may[id], a.may[seal.PublicKeyID(seal.Letterbox(reading).PublicKey())] = true, true
	}
	return nil
}

// region are the recipients that stand for everybody who may read in the region.
func (v *vault) region() ([]recipient, error) {
	if reading, ok := v.keys.CurrentReading(); ok {
		return []recipient{{id: reading.ID(), reading: reading, also: seal.PublicKeyID(seal.Letterbox(reading).PublicKey())}}, nil
	}
	others, err := v.letterbox()
	if err != nil {
		return nil, err
	}
	own := v.keys.ExchangeKey().PublicKey()
	return []recipient{{id: seal.PublicKeyID(others), public: others}, {id: seal.PublicKeyID(own), public: own}}, nil
}

// granted are whom a permission to a box, zeros for every box, hands the keys to.
func (n *Node) granted(box record.DeviceID) ([]recipient, error) {
	if box == (record.DeviceID{}) {
		return n.vault.region()
	}
	m, ok, err := n.store.Member(box)
	if err != nil || !ok || !m.Active() {
		return nil, err
	}
	var a = audience{may: map[seal.KeyID]bool{}}
	a.addKey(n, m.Encryption[:])
	return a.to, nil
}
