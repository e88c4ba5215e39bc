package peersync

import (
	"bytes"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// messages are the decoders of frames whose payload is one CBOR array: what each
// reads, when it reads the bytes.
var messages = map[string]func([]byte) (any, error){
	"hello":    message(decodeHello),
	"pull":     message(decodePull),
	"ask":      message(decodeAsk),
	"filled":   message(decodeFilled),
	"ack":      message(decodeAck),
	"receipt":  message(decodeReceipt),
	"evidence": message(decodeEvidence),
	"reject":   message(decodeReject),
	"bye":      message(decodeBye),
	"want":     message(decodeWant),
	"held":     message(decodeHeld),
	"parcel":   message(decodeParcelHead),
	"trailer":  message(decodeParcelTrailer),
}

func message[T any](decode func([]byte) (T, error)) func([]byte) (any, error) {
	return func(b []byte) (any, error) { return decode(b) }
}

// FuzzCanonical: a message has one form, so that what one box reads another reads
// too and nothing can hide between two readings.
func FuzzCanonical(f *testing.F) {
	id, hash, blob := make([]byte, 16), make([]byte, 32), make([]byte, 16)
	for _, v := range []any{
		hello{Min: 1, Max: 2, Region: hash, Device: hash, Role: "clinic", Software: "1", Root: hash, Frontier: []epochFrontier{{Epoch: id, Held: make([]uint64, record.LaneCount)}}, Window: windowMin},
		pull{From: 1, To: 9}, ask{Kind: askCompartment, From: 1, To: 2, Size: 3, Of: id}, filled{}, ack{Size: 1},
		receipt{Heads: []receiptHead{{Epoch: id}}, Sig: make([]byte, 64)}, evidenceMessage{}, reject{}, bye{Reason: "done"},
		wantMessage{List: []wantedBlob{{ID: blob, Have: []byte{1}}}}, heldMessage{Held: [][]byte{blob}},
		parcelHead{Version: parcelVersion, ID: id, Region: hash, From: hash}, parcelTrailer{Blocks: 1, Sum: hash},
	} {
		b, err := record.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, decode := range messages {
			fuzz.Bounded(t, len(b), func() { decode(b) })
			v, err := decode(b)
			switch {
			case err == nil:
				if again, err := record.Marshal(v); err != nil || !bytes.Equal(again, b) {
					t.Errorf("%s: %x reads as what is %x, %v", name, b, again, err)
				}
			case !errors.Is(err, ErrMisbehaved) && !errors.Is(err, ErrVersion):
				t.Errorf("%s: error without a family: %v", name, err)
			}
		}
	})
}

// FuzzParts takes apart what stands in frames and files beside CBOR.
func FuzzParts(f *testing.F) {
	hashes := []record.Hash{{1}, {2}}
	r := parcelRange{target: 9, proof: hashes, left: hashes[:1], rest: []byte{1}}
	f.Add(r.frame(false).Payload, byte(0))
	f.Add(r.frame(true).Payload, byte(rangeFlagSpan))
	f.Add(appendBlock(nil, 3, make([]byte, 2*parcelSlotBytes), []byte("sealed")), byte(0))
	f.Add(appendProof(nil, hashes, hashes[:1]), byte(0))
	f.Add(append(make([]byte, 16), 1, 0, 7), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, flags byte) {
		fuzz.Bounded(t, len(b), func() { readRange(Frame{Flags: flags, Payload: b}) })
		if r, err := readRange(Frame{Flags: flags, Payload: b}); err == nil {
			again, err := readRange(r.frame(flags&rangeFlagSpan != 0))
			if err != nil || again.target != r.target || len(again.proof) != len(r.proof) || !bytes.Equal(again.rest, r.rest) {
				t.Errorf("range of %x: got %+v, %v back", b, again, err)
			}
		}
		if n, ok := blockLength(b); ok && n <= len(b) {
			if x, ok := readBlock(b[:n]); ok && !bytes.Equal(appendBlock(nil, x.index, x.slots, x.sealed), b[:n]) {
				t.Errorf("block %x does not write back", b[:n])
			}
		}
		before := []record.Hash{{1}, {3}}
		if proof, rest, err := readProof(b, before); err == nil {
			again, tail, err := readProof(append(appendProof(nil, proof, before), rest...), before)
			if err != nil || len(again) != len(proof) || !bytes.Equal(tail, rest) {
				t.Errorf("proof of %x: got %d hashes back, %v", b, len(again), err)
			}
		}
		if _, _, _, data, err := readChunk(b); err == nil && (len(data) == 0 || len(data) > len(b)) {
			t.Errorf("chunk of %d bytes in %d", len(data), len(b))
		}
		if got, err := readBounded(bytes.NewReader(b)); err == nil && !bytes.Equal(got, b) {
			t.Errorf("read %d bytes of %d", len(got), len(b))
		}
	})
}

// FuzzAddress: an address from a hub, an invitation or a configuration is one that
// names a box, or none.
func FuzzAddress(f *testing.F) {
	f.Add("/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
	f.Add("/dns4/hub.example/udp/4001/quic-v1")
	f.Fuzz(func(t *testing.T, s string) {
		fuzz.Bounded(t, len(s), func() { SplitAddress(s) })
		d, dial, err := SplitAddress(s)
		if err != nil {
			return
		}
		whole := dial.String()
		if id, err := PeerID(d); err == nil && d != (record.DeviceID{}) {
			whole += "/p2p/" + id.String()
		}
		if again, to, err := SplitAddress(whole); err != nil || again != d || !to.Equal(dial) {
			t.Errorf("%q is %s at %v; %q is %s at %v, %v", s, d.Short(), dial, whole, again.Short(), to, err)
		}
	})
}
