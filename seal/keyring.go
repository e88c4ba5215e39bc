package seal

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// Keyring holds a box's own keys. It does not synchronise its callers.
type Keyring struct {
	Device   Key           // Ed25519 seed: who this box is
	Exchange Key           // X25519 scalar: what others seal to
	Local    Key           // root of the keys that never leave this box; see Derive
	Reading  map[KeyID]Key // the region's reading keys, old ones included
	Current  KeyID         // the reading key that new wraps are made under; zero before the box joined

	lock   *lock  // nil: the file lies in the clear
	sealed []byte // of a locked keyring: all keys, sealed; the fields above are zero but for Device
}

// ReadingKeysMax bounds a keyring: a key a month for twenty years.
const ReadingKeysMax = 256

// NewKeyring draws the keys of a new box. It has no reading key yet.
func NewKeyring(rand io.Reader) (*Keyring, error) {
	k := &Keyring{Reading: map[KeyID]Key{}}
	for _, key := range []*Key{&k.Device, &k.Exchange, &k.Local} {
		var err error
		if *key, err = NewKey(rand); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// Signer is the device's signing key.
func (k *Keyring) Signer() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(k.Device[:]) }

// DeviceID names the device: its public signing key.
func (k *Keyring) DeviceID() record.DeviceID {
	return record.DeviceID(k.Signer().Public().(ed25519.PublicKey))
}

// ExchangeKey is the device's X25519 key; its public half goes into a request to join.
func (k *Keyring) ExchangeKey() *ecdh.PrivateKey {
	priv, err := ecdh.X25519().NewPrivateKey(k.Exchange[:])
	if err != nil {
		panic(err) // any 32 bytes are an X25519 scalar
	}
	return priv
}

// AddReading keeps a reading key and makes it the current one.
func (k *Keyring) AddReading(key Key) (KeyID, error) {
	id := key.ID()
	if _, known := k.Reading[id]; !known && len(k.Reading) >= ReadingKeysMax {
		return KeyID{}, fmt.Errorf("adding a reading key: %w: %d already", ErrTooLarge, len(k.Reading))
	}
	if k.Reading == nil {
		k.Reading = map[KeyID]Key{}
	}
	k.Reading[id], k.Current = key, id
	return id, nil
}

// CurrentReading is the reading key for new wraps, false before the box joined a region.
func (k *Keyring) CurrentReading() (Key, bool) {
	key, ok := k.Reading[k.Current]
	return key, ok
}

// Unwrap opens a wrap with whichever key of the ring it is for. It wraps
// ErrNoKey when there is none.
func (k *Keyring) Unwrap(w Wrap) (Key, error) {
	if key, ok := k.Reading[w.Recipient]; ok {
		return UnwrapKey(key, w)
	}
	if key, mine, err := k.unwrapLetter(w); mine {
		return key, err
	}
	return UnwrapKeyWith(k.ExchangeKey(), w)
}

const (
	keyringMagic    = "healthpost keys"
	keyringVersion  = 1 // in the clear
	lockedVersion   = 2 // under a lock
	chipVersion     = 3 // under a lock whose secret a chip keeps
	keyringBytesMax = 64 << 10
	keyringDomain   = "hp:keyring:1\x00"
)

// keyringFile is the outer layout, the same in every version: what is inside,
// and SHA-256(keyringDomain || version byte || inside).
type keyringFile struct {
	_       struct{} `cbor:",toarray"`
	Magic   string
	Version uint8
	Inside  []byte
	Sum     []byte
}

type keyringArray struct {
	_        struct{} `cbor:",toarray"`
	Device   []byte
	Exchange []byte
	Local    []byte
	Reading  [][]byte // in the order of their ids
	Current  []byte   // id, empty when there is none
}

// Encode gives the bytes of the key file: under its lock, or in the clear where there is none.
func (k *Keyring) Encode() ([]byte, error) {
	if k.Locked() {
		return nil, fmt.Errorf("writing the box's keys: %w: the keys are locked", ErrWrongLock)
	}
	if err := k.check(); err != nil {
		return nil, fmt.Errorf("writing the box's keys: %w", err)
	}
	a := keyringArray{Device: k.Device[:], Exchange: k.Exchange[:], Local: k.Local[:], Reading: [][]byte{}, Current: []byte{}}
	for _, id := range slices.SortedFunc(maps.Keys(k.Reading), KeyID.compare) {
		key := k.Reading[id]
		a.Reading = append(a.Reading, key[:])
	}
	if !k.Current.IsZero() {
		a.Current = k.Current[:]
	}
	inside, version := mustMarshal(a), uint8(keyringVersion)
	if k.lock != nil {
		var err error
		if inside, version, err = k.encodeLocked(inside); err != nil {
			return nil, fmt.Errorf("writing the box's keys: %w", err)
		}
	}
	return mustMarshal(keyringFile{Magic: keyringMagic, Version: version, Inside: inside, Sum: keyringSum(version, inside)}), nil
}

// DecodeKeyring reads what Encode gave; what was under a lock is still Locked. Its errors wrap ErrDamaged or ErrNewer
// and are written for the person at the box.
func DecodeKeyring(b []byte) (*Keyring, error) {
	if len(b) == 0 || len(b) > keyringBytesMax {
		return nil, fmt.Errorf("%w: it has %d bytes, a key file has 1 to %d", ErrDamaged, len(b), keyringBytesMax)
	}
	var f keyringFile
	if err := record.Unmarshal(b, &f); err != nil || f.Magic != keyringMagic {
		return nil, fmt.Errorf("%w: this is not a key file, or its outer layer is broken", ErrDamaged)
	}
	if slices.Compare(f.Sum, keyringSum(f.Version, f.Inside)) != 0 {
		return nil, fmt.Errorf("%w: the checksum of the box's keys does not match its content", ErrDamaged)
	}
	var k *Keyring
	var err error
	switch f.Version {
	case keyringVersion:
		k, err = decodeKeyringInside(f.Inside)
	case lockedVersion:
		k, err = decodeLockedInside(f.Inside)
	case chipVersion:
		k, err = decodeChipInside(f.Inside)
	default:
		return nil, fmt.Errorf("%w: the box's keys have version %d, this program reads versions up to %d", ErrNewer, f.Version, chipVersion)
	}
	if errors.Is(err, ErrNewer) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the box's keys hold something else than keys: %v", ErrDamaged, err)
	}
	return k, nil
}

func decodeKeyringInside(b []byte) (*Keyring, error) {
	var a keyringArray
	if err := record.Unmarshal(b, &a); err != nil {
		return nil, err
	}
	if len(a.Reading) > ReadingKeysMax {
		return nil, errors.New("too many reading keys")
	}
	k := &Keyring{Reading: make(map[KeyID]Key, len(a.Reading))}
	for _, p := range []struct {
		to   *Key
		from []byte
	}{{&k.Device, a.Device}, {&k.Exchange, a.Exchange}, {&k.Local, a.Local}} {
		if len(p.from) != keyBytes {
			return nil, errors.New("a key of another length")
		}
		*p.to = Key(p.from)
	}
	var last KeyID
	for i, b := range a.Reading {
		if len(b) != keyBytes {
			return nil, errors.New("a reading key of another length")
		}
		id := Key(b).ID()
		if i > 0 && last.compare(id) >= 0 {
			return nil, errors.New("reading keys out of order")
		}
		k.Reading[id], last = Key(b), id
	}
	switch len(a.Current) {
	case 0:
	case len(k.Current):
		k.Current = KeyID(a.Current)
	default:
		return nil, errors.New("a key id of another length")
	}
	return k, k.check()
}

func (k *Keyring) check() error {
	if k.Device.IsZero() || k.Exchange.IsZero() || k.Local.IsZero() {
		return errors.New("a key of the box is missing")
	}
	if len(k.Reading) > ReadingKeysMax {
		return fmt.Errorf("%w: %d reading keys", ErrTooLarge, len(k.Reading))
	}
	for id, key := range k.Reading {
		if key.IsZero() || key.ID() != id {
			return errors.New("a reading key is filed under another key's name")
		}
	}
	if _, ok := k.Reading[k.Current]; !ok && !k.Current.IsZero() {
		return errors.New("the current reading key is missing")
	}
	return nil
}

func keyringSum(version uint8, inside []byte) []byte {
	h := sha256.New()
	io.WriteString(h, keyringDomain)
	h.Write([]byte{version})
	h.Write(inside)
	return h.Sum(nil)
}
