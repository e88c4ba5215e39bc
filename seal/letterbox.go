package seal

import "crypto/ecdh"

// Letterbox is the X25519 key of everybody who holds a reading key: what is wrapped to
// its public half can be opened by them, and not by a device that was given that half
// alone. It is derived: HKDF(reading key, "letterbox").
func Letterbox(reading Key) *ecdh.PrivateKey {
	return exchangeOf(Derive(reading, "letterbox"))
}

// exchangeOf is the X25519 key of a scalar.
func exchangeOf(scalar Key) *ecdh.PrivateKey {
	priv, err := ecdh.X25519().NewPrivateKey(scalar[:])
	if err != nil {
		panic(err) // any 32 bytes are an X25519 scalar
	}
	return priv
}

// unwrapLetter opens a wrap to one of the letterboxes of this ring's reading keys.
func (k *Keyring) unwrapLetter(w Wrap) (Key, bool, error) {
	for _, reading := range k.Reading {
		if box := Letterbox(reading); PublicKeyID(box.PublicKey()) == w.Recipient {
			key, err := UnwrapKeyWith(box, w)
			return key, true, err
		}
	}
	return Key{}, false, nil
}
