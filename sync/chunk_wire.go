package peersync

import (
	"encoding/binary"
	"slices"

	"github.com/healthpost/healthpost/record"
)

type wantMessage struct {
	_    struct{} `cbor:",toarray"`
	List []wantedBlob
}

type wantedBlob struct {
	_    struct{} `cbor:",toarray"`
	ID   []byte   // 16
	Have []byte
}

type heldMessage struct {
	_                     struct{} `cbor:",toarray"`
	Held, Lacked, Offered [][]byte // 16 each
}

func decodeWant(p []byte) (wantMessage, error) {
	var m wantMessage
	if err := record.Unmarshal(p, &m); err != nil {
		return m, misbehaved("reading want: %w", err)
	}
	bad := len(m.List) > blobIDsMax
	for _, w := range m.List {
		bad = bad || len(w.ID) != 16 || len(w.Have) > blobHaveMax
	}
	if bad {
		return m, misbehaved("want out of bounds")
	}
	return m, nil
}

func decodeHeld(p []byte) (heldMessage, error) {
	var m heldMessage
	if err := record.Unmarshal(p, &m); err != nil {
		return m, misbehaved("reading held: %w", err)
	}
	for _, list := range [][][]byte{m.Held, m.Lacked, m.Offered} {
		if len(list) > blobIDsMax || slices.ContainsFunc(list, func(id []byte) bool { return len(id) != 16 }) {
			return m, misbehaved("held out of bounds")
		}
	}
	return m, nil
}

// readChunk takes a CHUNK apart.
func readChunk(p []byte) (id record.BlobID, part, at uint64, data []byte, err error) {
	if len(p) < 16 {
		return id, 0, 0, nil, misbehaved("chunk without a name")
	}
	part, n := binary.Uvarint(p[16:])
	if n <= 0 {
		return id, 0, 0, nil, misbehaved("chunk without its part")
	}
	at, m := binary.Uvarint(p[16+n:])
	if m <= 0 || len(p) == 16+n+m {
		return id, 0, 0, nil, misbehaved("chunk without its place")
	}
	return record.BlobID(p[:16]), part, at, p[16+n+m:], nil
}
