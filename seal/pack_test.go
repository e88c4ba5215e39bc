package seal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/dict"
)

const (
	stored   = 0
	plainZst = 1
	dictZst  = 2
	uuidsZst = 3
)

// testSave is a visit whose resources carry ids and refer to one another.
var testSave = []byte(`{"resourceType":"Encounter","id":"5f0c1e9a-6c1b-4d0e-9a51-0d2f6f8f3b11","subject":{"reference":"Patient/0b8f2d3c-9a4e-4f6a-8b7d-2c1e5a9f7d20"}}` +
	`{"resourceType":"Observation","id":"c2a7d9e4-3b1f-4c8d-a6e5-7f9b0d1c3e52","subject":{"reference":"Patient/0b8f2d3c-9a4e-4f6a-8b7d-2c1e5a9f7d20"},"encounter":{"reference":"Encounter/5f0c1e9a-6c1b-4d0e-9a51-0d2f6f8f3b11"}}`)

func TestPackChoosesTheShorterForm(t *testing.T) {
	for _, tc := range []struct {
		name   string
		plain  []byte
		method byte
		max    int // packed bytes
	}{
		{"nothing", nil, stored, 1},
		{"one byte", []byte{7}, stored, 2},
		{"noise", noise(4096), stored, 4097},
		{"visit", testVisit, dictZst, len(testVisit) / 4},
		{"save", testSave, uuidsZst, len(testSave) / 3},
		{"long noise", noise(100 << 10), stored, 100<<10 + 1},
		{"long text", bytes.Repeat(testVisit, 150), plainZst, 5000},
	} {
		packed, err := seal.Pack(tc.plain)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if packed[0] != tc.method || len(packed) > tc.max {
			t.Errorf("%s: method %d in %d bytes, want method %d in at most %d", tc.name, packed[0], len(packed), tc.method, tc.max)
		}
		got, err := packed.Unpack()
		if err != nil || !bytes.Equal(got, tc.plain) {
			t.Errorf("%s: unpacked %d bytes, %v, want %d", tc.name, len(got), err, len(tc.plain))
		}
	}
	if _, err := seal.Pack(make([]byte, seal.PlainBytesMax+1)); !errors.Is(err, seal.ErrTooLarge) {
		t.Errorf("one byte over the limit: %v, want ErrTooLarge", err)
	}
}

// A frame that any zstd tool could make: our reader must not depend on our writer's habits.
func frame(t testing.TB, plain []byte, opts ...zstd.EOption) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, append(opts, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))...)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(plain, nil)[4:]
}

func dictFrame(t testing.TB, text []byte) []byte {
	t.Helper()
	return frame(t, text, zstd.WithSingleSegment(true), zstd.WithEncoderDict(dict.Current().Bytes))
}

func TestUnpackIsBounded(t *testing.T) {
	single := zstd.WithSingleSegment(true)
	bomb := frame(t, make([]byte, 64<<20), single)
	liar := bytes.Clone(frame(t, make([]byte, 1<<20), single))
	binary.LittleEndian.PutUint32(liar[1:], 100<<10) // states less than it holds
	short := bytes.Clone(frame(t, make([]byte, 100<<10), single))
	binary.LittleEndian.PutUint32(short[1:], 1<<20) // states more
	two := append(frame(t, testVisit, single), append([]byte{0x28, 0xb5, 0x2f, 0xfd}, frame(t, testVisit, single)...)...)
	for name, p := range map[string]seal.Packed{
		"64 MiB of zeros":        append(seal.Packed{plainZst}, bomb...),
		"states too little":      append(seal.Packed{plainZst}, liar...),
		"states too much":        append(seal.Packed{plainZst}, short...),
		"two frames":             append(seal.Packed{plainZst}, two...),
		"no content size":        append(seal.Packed{plainZst}, frame(t, []byte("hello hello hello hello"), zstd.WithSingleSegment(false))...),
		"empty":                  {},
		"no frame":               {plainZst},
		"cut":                    append(seal.Packed{plainZst}, bomb[:8]...),
		"dictionary 0":           append(seal.Packed{dictZst, 0}, frame(t, testVisit, single)...),
		"dictionary not stated":  append(seal.Packed{dictZst, 1}, frame(t, testVisit, single)...),
		"dictionary not claimed": append(seal.Packed{plainZst}, frame(t, testVisit, single, zstd.WithEncoderDict(dict.Current().Bytes))...),
		"long dictionary number": append(seal.Packed{dictZst, 0x81, 0}, dictFrame(t, testVisit)...),
		"states 2^60 bytes":      {plainZst, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0},
		"no table":               {uuidsZst, 1},
		"table of none":          append(seal.Packed{uuidsZst, 1, 0}, dictFrame(t, testVisit)...),
		"table cut":              append(seal.Packed{uuidsZst, 1, 1}, make([]byte, 15)...),
		"table not used":         append(append(seal.Packed{uuidsZst, 1, 1}, make([]byte, 16)...), dictFrame(t, testVisit)...),
		"mark without a table":   append(append(seal.Packed{uuidsZst, 1, 1}, make([]byte, 16)...), dictFrame(t, []byte("\xff\x00\xff\x00"))...),
		"grows past the limit":   append(append(seal.Packed{uuidsZst, 1, 1}, make([]byte, 16)...), dictFrame(t, append([]byte("\xff\x00"), bytes.Repeat([]byte("\xff\x01"), seal.PlainBytesMax/36+1)...))...),
		"too much stored":        make(seal.Packed, seal.PlainBytesMax+2),
	} {
		if got, err := p.Unpack(); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: %d bytes, %v, want ErrDamaged", name, len(got), err)
		}
	}
	for name, p := range map[string]seal.Packed{
		"method 5":      {5, 1, 2, 3},
		"dictionary 78": {uuidsZst, 78, 1},
		"dictionary 77": append(seal.Packed{dictZst, 77}, frame(t, testVisit, single)...),
	} {
		if got, err := p.Unpack(); !errors.Is(err, seal.ErrNewer) {
			t.Errorf("%s: %d bytes, %v, want ErrNewer", name, len(got), err)
		}
	}
}

func TestPackConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			plain := append(bytes.Clone(testVisit), byte(i))
			for range 20 {
				p, err := seal.Pack(plain)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := p.Unpack(); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("worker %d: %d bytes, %v", i, len(got), err)
				}
			}
		})
	}
	wg.Wait()
}
