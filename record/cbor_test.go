package record_test

import (
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/healthpost/healthpost/record"
)

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("hex in a test: %v", err)
	}
	return b
}

// shape has one field of every kind that this package decodes.
type shape struct {
	_      struct{} `cbor:",toarray"`
	Int    uint64
	Signed int64
	Small  uint8
	Bytes  []byte
	Text   string
	List   []uint64
	Map    map[uint64][]byte
}

func TestUnmarshalRefuses(t *testing.T) {
	const good = "87 01 20 02 41aa 6161 8103 a2 0141bb 0241cc"
	var v shape
	if err := record.Unmarshal(fromHex(t, good), &v); err != nil {
		t.Fatalf("the sound one: %v", err)
	}
	for _, c := range []struct{ name, hex string }{
		{"nothing", ""},
		{"cut", "87 01 20 02 41aa 6161 8103 a2 0141bb 0241"},
		{"trailing byte", good + "00"},
		{"trailing value", good + good},
		{"a field less", "86 01 20 02 41aa 6161 8103"},
		{"a field more", "88 01 20 02 41aa 6161 8103 a1 0141bb 00"},
		{"array length in two bytes", "9807 01 20 02 41aa 6161 8103 a1 0141bb"},
		{"integer in two bytes", "87 1801 20 02 41aa 6161 8103 a1 0141bb"},
		{"integer in three bytes", "87 190001 20 02 41aa 6161 8103 a1 0141bb"},
		{"integer in five bytes", "87 1a00000001 20 02 41aa 6161 8103 a1 0141bb"},
		{"integer in nine bytes", "87 1b0000000000000001 20 02 41aa 6161 8103 a1 0141bb"},
		{"byte string length in two bytes", "87 01 20 02 5801aa 6161 8103 a1 0141bb"},
		{"negative for unsigned", "87 20 20 02 41aa 6161 8103 a1 0141bb"},
		{"256 in a byte", "87 01 20 190100 41aa 6161 8103 a1 0141bb"},
		{"half float", "87 f93c00 20 02 41aa 6161 8103 a1 0141bb"},
		{"double", "87 fb3ff0000000000000 20 02 41aa 6161 8103 a1 0141bb"},
		{"not a number", "87 f97e00 20 02 41aa 6161 8103 a1 0141bb"},
		{"true", "87 f5 20 02 41aa 6161 8103 a1 0141bb"},
		{"null for an integer", "87 f6 20 02 41aa 6161 8103 a1 0141bb"},
		{"null for bytes", "87 01 20 02 f6 6161 8103 a1 0141bb"},
		{"null for text", "87 01 20 02 41aa f6 8103 a1 0141bb"},
		{"null for a list", "87 01 20 02 41aa 6161 f6 a1 0141bb"},
		{"null for a map", "87 01 20 02 41aa 6161 8103 f6"},
		{"null in a map", "87 01 20 02 41aa 6161 8103 a1 01f6"},
		{"null for all", "f6"},
		{"undefined", "87 01 20 02 f7 6161 8103 a1 0141bb"},
		{"text for bytes", "87 01 20 02 6161 6161 8103 a1 0141bb"},
		{"bytes for text", "87 01 20 02 41aa 4161 8103 a1 0141bb"},
		{"integers for bytes", "87 01 20 02 8101 6161 8103 a1 0141bb"},
		{"invalid UTF-8", "87 01 20 02 41aa 61ff 8103 a1 0141bb"},
		{"tag", "87 c101 20 02 41aa 6161 8103 a1 0141bb"},
		{"tag on bytes", "87 01 20 02 d84041aa 6161 8103 a1 0141bb"},
		{"big number", "87 c24101 20 02 41aa 6161 8103 a1 0141bb"},
		{"self-described", "d9d9f7 87 01 20 02 41aa 6161 8103 a1 0141bb"},
		{"open array", "9f 01 20 02 41aa 6161 8103 a1 0141bb ff"},
		{"open byte string", "87 01 20 02 5f41aaff 6161 8103 a1 0141bb"},
		{"open text", "87 01 20 02 41aa 7f6161ff 8103 a1 0141bb"},
		{"open list", "87 01 20 02 41aa 6161 9f03ff a1 0141bb"},
		{"open map", "87 01 20 02 41aa 6161 8103 bf0141bbff"},
		{"a key twice", "87 01 20 02 41aa 6161 8103 a2 0141bb 0141cc"},
		{"keys out of order", "87 01 20 02 41aa 6161 8103 a2 0241cc 0141bb"},
		{"a long key twice", "87 01 20 02 41aa 6161 8103 a2 0141bb 180141cc"},
		{"reserved length", "87 1c 20 02 41aa 6161 8103 a1 0141bb"},
		{"break alone", "ff"},
		{"a map for the array", "a1 0141bb"},
		{"bytes longer than all", "87 01 20 02 5b7fffffffffffffff"},
		{"an array of very many", "9b7fffffffffffffff"},
		{"a list of very many", "87 01 20 02 41aa 6161 9affffffff"},
		{"a map of very many", "87 01 20 02 41aa 6161 8103 baffffffff"},
		{"deep", strings.Repeat("81", 100_000) + "00"},
		{"a little too deep", "87 01 20 02 41aa 6161" + strings.Repeat("81", 9) + "00 a0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v shape
			if err := record.Unmarshal(fromHex(t, c.hex), &v); !errors.Is(err, record.ErrMalformed) {
				t.Errorf("got error %v and %+v, want ErrMalformed", err, v)
			}
		})
	}
}

func TestMarshalWritesNothingAsEmpty(t *testing.T) {
	got, err := record.Marshal(shape{})
	if want := fromHex(t, "87 00 00 00 40 60 80 a0"); err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %x, %v, want %x", got, err, want)
	}
}

func shapes() *rapid.Generator[shape] {
	return rapid.Custom(func(t *rapid.T) shape {
		return shape{
			Int: rapid.Uint64().Draw(t, "int"), Signed: rapid.Int64().Draw(t, "signed"), Small: rapid.Uint8().Draw(t, "small"),
			Bytes: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes"), Text: strings.ToValidUTF8(rapid.String().Draw(t, "text"), "?"),
			List: rapid.SliceOfN(rapid.Uint64(), 0, 40).Draw(t, "list"),
			Map:  rapid.MapOfN(rapid.Uint64(), rapid.SliceOfN(rapid.Byte(), 0, 9), 0, 40).Draw(t, "map"),
		}
	})
}

func TestMarshalRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := shapes().Draw(t, "value")
		b, err := record.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got shape
		if err := record.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(shape{}, "_")); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
		// One bit changed is either refused or another value, never the same one.
		i := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
		b[i/8] ^= 1 << (i % 8)
		var other shape
		if record.Unmarshal(b, &other) == nil && cmp.Equal(want, other, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(shape{}, "_")) {
			t.Fatalf("two encodings of one value: bit %d", i)
		}
	})
}

func TestMarshalRefusesWhatCannotBeEncoded(t *testing.T) {
	if b, err := record.Marshal(make(chan int)); err == nil {
		t.Errorf("got %x for a channel", b)
	}
	if err := record.Unmarshal([]byte{0x18, math.MaxUint8}, new(chan int)); !errors.Is(err, record.ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
}
