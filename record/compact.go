package record

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
)

// cosignedHead is a checkpoint without what a reader who knows ledger and hubs
// writes again: the short form of a note on a link and inside evidence.
//
//	compact     = uvarint size || root(32) || cosignature...
//	cosignature = keyID(4) || time(8) || Ed25519(64)          by ascending key id
type cosignedHead struct {
	Head         TreeHead
	Cosignatures []Cosignature
}

// cosignedHeadOf keeps the verified cosignatures of the hubs given, in the order
// of the note; the caller sorts them.
func cosignedHeadOf(l LedgerID, msg []byte, hubs []DeviceID) (cosignedHead, error) {
	n, err := openNote(l, msg, hubs)
	if err != nil {
		return cosignedHead{}, err
	}
	h, err := parseCheckpointText(l, n.Text)
	if err != nil {
		return cosignedHead{}, err
	}
	c := cosignedHead{Head: h}
	for _, s := range n.Sigs {
		x, err := cosignatureFrom(s)
		if err != nil {
			return cosignedHead{}, err
		}
		c.Cosignatures = append(c.Cosignatures, x)
	}
	return c, nil
}

func (c *cosignedHead) sort() {
	slices.SortStableFunc(c.Cosignatures, func(a, b Cosignature) int { return cmp.Compare(a.KeyID, b.KeyID) })
	c.Cosignatures = slices.CompactFunc(c.Cosignatures, func(a, b Cosignature) bool { return a.KeyID == b.KeyID })
}

// fewest keeps as many cosignatures as a majority of n hubs needs, those of the
// latest times, so that the time that a majority vouches for stays.
func (c *cosignedHead) fewest(n int) {
	slices.SortStableFunc(c.Cosignatures, func(a, b Cosignature) int { return cmp.Compare(b.at(), a.at()) })
	all := c.Cosignatures
	c.Cosignatures = nil
	for i := range all {
		if !slices.ContainsFunc(c.Cosignatures, func(x Cosignature) bool { return x.KeyID == all[i].KeyID }) && len(c.Cosignatures) < Needed(n) {
			c.Cosignatures = append(c.Cosignatures, all[i])
		}
	}
	c.sort()
}

func (c *Cosignature) at() int64 { return int64(c.Seconds & (1<<62 - 1)) }

func (c *cosignedHead) encode() []byte {
	b := binary.AppendUvarint(nil, c.Head.Size)
	b = append(b, c.Head.Root[:]...)
	for i := range c.Cosignatures {
		b = c.Cosignatures[i].appendTo(b)
	}
	return b
}

func decodeCosignedHead(b []byte) (cosignedHead, error) {
	var c cosignedHead
	size, n := binary.Uvarint(b)
	rest := b[max(n, 0):]
	if n <= 0 || size > treeSizeMax || len(rest) < 32 || (len(rest)-32)%cosignatureBytes != 0 || (len(rest)-32)/cosignatureBytes > hubsMax {
		return c, fmt.Errorf("reading compact checkpoint: %w: %d bytes", ErrMalformed, len(b))
	}
	c.Head = TreeHead{size, Hash(rest[:32])}
	for rest = rest[32:]; len(rest) > 0; rest = rest[cosignatureBytes:] {
		x := readCosignature(rest)
		if k := len(c.Cosignatures); k > 0 && c.Cosignatures[k-1].KeyID >= x.KeyID {
			return c, fmt.Errorf("reading compact checkpoint: %w: cosignatures out of order", ErrMalformed)
		}
		c.Cosignatures = append(c.Cosignatures, x)
	}
	if !bytes.Equal(c.encode(), b) {
		return c, fmt.Errorf("reading compact checkpoint: %w: a number in a longer form", ErrMalformed)
	}
	return c, nil
}

// note writes the C2SP signed note with the lines of the hubs given. unknown
// counts the cosignatures by other keys, which have no line.
func (c *cosignedHead) note(l LedgerID, hubs []DeviceID) (msg []byte, unknown int) {
	text := CheckpointText(l, c.Head)
	msg = []byte(text + "\n")
	for i := range c.Cosignatures {
		x := &c.Cosignatures[i]
		k, ok := x.by(l, text, hubs)
		if !ok {
			unknown++
			continue
		}
		msg = append(msg, "— "+k.name+" "+base64.StdEncoding.EncodeToString(x.appendTo(nil))+"\n"...)
	}
	return msg, unknown
}

// by finds whose key id this is. Ids are short: where two hubs share one, it is
// whose signature verifies.
func (c *Cosignature) by(l LedgerID, text string, hubs []DeviceID) (found key, ok bool) {
	for _, d := range hubs {
		k := hubKey(l, d)
		if k.hash != c.KeyID {
			continue
		}
		if !ok {
			found, ok = k, true
		} else if blob := c.appendTo(nil); k.Verify([]byte(text), blob[4:]) {
			found = k
		}
	}
	return found, ok
}

// CompactNote gives the short form of a final note for who knows the ledger and
// its hubs: size, root and just as many cosignatures as a majority needs.
func CompactNote(l LedgerID, note []byte, hubs []DeviceID) ([]byte, error) {
	c, err := cosignedHeadOf(l, note, hubs)
	if err != nil {
		return nil, err
	}
	c.fewest(len(hubs))
	return c.encode(), nil
}

// ExpandNote writes the note again that CompactNote shortened. It verifies
// nothing. Cosignatures of keys that are none of the hubs given are left out; the
// error wraps ErrNotFinal when none is left, ErrMalformed when these are no
// bytes of CompactNote.
func ExpandNote(l LedgerID, compact []byte, hubs []DeviceID) (note []byte, err error) {
	c, err := decodeCosignedHead(compact)
	if err != nil {
		return nil, err
	}
	note, unknown := c.note(l, hubs)
	if unknown == len(c.Cosignatures) {
		return nil, fmt.Errorf("reading compact checkpoint of size %d: %w: no cosignature of a known hub", c.Head.Size, ErrNotFinal)
	}
	return note, nil
}

// CompactHead is the tree head that a compact note claims, unverified.
func CompactHead(compact []byte) (TreeHead, error) {
	c, err := decodeCosignedHead(compact)
	return c.Head, err
}
