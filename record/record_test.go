package record_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/healthpost/healthpost/record"
)

// cores draws any core that the rules admit.
func cores() *rapid.Generator[record.Core] {
	return rapid.Custom(func(t *rapid.T) record.Core {
		c := record.Core{
			HLC: rapid.Uint64().Draw(t, "hlc"), Clock: rapid.Uint8Range(0, 4).Draw(t, "clock"),
			Session: rapid.Uint64().Draw(t, "session"), Size: rapid.Uint64().Draw(t, "size"),
			BodyLen: rapid.Uint32Range(0, record.BodyBytesMax).Draw(t, "bodyLen"),
		}
		copy(c.BodyHash[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "bodyHash"))
		if rapid.IntRange(0, 4).Draw(t, "extended") == 0 {
			c.Ext = rapid.MapOfN(rapid.Uint64(), rapid.SliceOfN(rapid.Byte(), 0, 64), 1, 3).Draw(t, "ext")
		}
		c.Kind = record.Kind(rapid.Uint16Range(1, math.MaxUint16).Draw(t, "kind"))
		if c.Kind == record.KindEpochOpen {
			return c
		}
		copy(c.Epoch[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "epoch"))
		copy(c.Prev[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "prev"))
		c.Lane = record.Lane(rapid.IntRange(0, record.LaneCount-1).Draw(t, "lane"))
		c.N = rapid.Uint64Range(1, math.MaxUint64).Draw(t, "n")
		if rapid.Bool().Draw(t, "of a patient") {
			copy(c.Compartment[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "compartment"))
		}
		return c
	})
}

func TestCoreRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := cores().Draw(t, "core")
		b := want.Encode()
		got, err := record.DecodeCore(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
		if !bytes.Equal(got.Encode(), b) {
			t.Fatal("it does not encode back to itself")
		}
	})
}

// corePart builds a core by hand from hex fields, to break one at a time.
type corePart map[string]string

var coreOrder = []string{"v", "epoch", "lane", "n", "prev", "hlc", "clock", "kind", "session", "size", "compartment", "bodyLen", "bodyHash", "ext"}

func (p corePart) bytes(t *testing.T, change corePart) []byte {
	t.Helper()
	var body string
	count := 0
	for _, name := range coreOrder {
		v, ok := change[name]
		if !ok {
			v = p[name]
		}
		if v != "" {
			body += v
			count++
		}
	}
	return append([]byte{0x80 | byte(count)}, fromHex(t, body)...)
}

func hexRun(prefix string, b byte, n int) string {
	out := prefix
	for range n {
		out += string("0123456789abcdef"[b>>4]) + string("0123456789abcdef"[b&15])
	}
	return out
}

func TestCoreRules(t *testing.T) {
	ordinary := corePart{"v": "01", "epoch": hexRun("50", 0xe1, 16), "lane": "01", "n": "07", "prev": hexRun("5820", 0xaa, 32), "hlc": "1b019bbf0000000000",
		"clock": "03", "kind": "1820", "session": "02", "size": "1864", "compartment": hexRun("50", 0xcc, 16), "bodyLen": "190100", "bodyHash": hexRun("5820", 0xbb, 32)}
	opening := corePart{"v": "01", "epoch": "40", "lane": "00", "n": "00", "prev": "40", "hlc": "1b019bbf0000000000",
		"clock": "03", "kind": "01", "session": "00", "size": "1864", "compartment": "40", "bodyLen": "18a0", "bodyHash": hexRun("5820", 0xbb, 32)}
	for _, c := range []struct {
		name   string
		from   corePart
		change corePart
		sound  bool
	}{
		{"ordinary", ordinary, nil, true},
		{"opening", opening, nil, true},
		{"without compartment", ordinary, corePart{"compartment": "40"}, true},
		{"with extensions", ordinary, corePart{"ext": "a1 01 43010203"}, true},
		{"largest body", ordinary, corePart{"bodyLen": "1a00030000"}, true},
		{"last kind", ordinary, corePart{"kind": "19ffff"}, true},
		{"version 0", ordinary, corePart{"v": "00"}, false},
		{"version 2", ordinary, corePart{"v": "02"}, false},
		{"no epoch", ordinary, corePart{"epoch": "40"}, false},
		{"short epoch", ordinary, corePart{"epoch": hexRun("4f", 0xe1, 15)}, false},
		{"long epoch", ordinary, corePart{"epoch": hexRun("51", 0xe1, 17)}, false},
		{"lane 4", ordinary, corePart{"lane": "04"}, false},
		{"n 0", ordinary, corePart{"n": "00"}, false},
		{"no prev", ordinary, corePart{"prev": "40"}, false},
		{"short prev", ordinary, corePart{"prev": hexRun("581f", 0xaa, 31)}, false},
		{"null prev", ordinary, corePart{"prev": "f6"}, false},
		{"negative clock", ordinary, corePart{"hlc": "20"}, false},
		{"clock trust 5", ordinary, corePart{"clock": "05"}, false},
		{"kind 0", ordinary, corePart{"kind": "00"}, false},
		{"kind 65536", ordinary, corePart{"kind": "1a00010000"}, false},
		{"compartment of zeros", ordinary, corePart{"compartment": hexRun("50", 0, 16)}, false},
		{"short compartment", ordinary, corePart{"compartment": hexRun("4f", 0xcc, 15)}, false},
		{"null compartment", ordinary, corePart{"compartment": "f6"}, false},
		{"body too large", ordinary, corePart{"bodyLen": "1a00030001"}, false},
		{"short body hash", ordinary, corePart{"bodyHash": hexRun("581f", 0xbb, 31)}, false},
		{"no body hash", ordinary, corePart{"bodyHash": "40"}, false},
		{"empty extensions", ordinary, corePart{"ext": "a0"}, false},
		{"null extensions", ordinary, corePart{"ext": "f6"}, false},
		{"null extension", ordinary, corePart{"ext": "a1 01 f6"}, false},
		{"extensions out of order", ordinary, corePart{"ext": "a2 02 40 01 40"}, false},
		{"an extension that is no bytes", ordinary, corePart{"ext": "a1 01 02"}, false},
		{"extensions past 512 bytes", ordinary, corePart{"ext": "a1 01" + hexRun("590180", 7, 384)}, false},
		{"opening with an epoch", opening, corePart{"epoch": hexRun("50", 0xe1, 16)}, false},
		{"opening with null for the epoch", opening, corePart{"epoch": "f6"}, false},
		{"opening with prev", opening, corePart{"prev": hexRun("5820", 0xaa, 32)}, false},
		{"opening in lane 1", opening, corePart{"lane": "01"}, false},
		{"opening with n 1", opening, corePart{"n": "01"}, false},
		{"opening with a compartment", opening, corePart{"compartment": hexRun("50", 0xcc, 16)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.from.bytes(t, c.change)
			core, err := record.DecodeCore(b)
			if c.sound && (err != nil || !bytes.Equal(core.Encode(), b)) {
				t.Errorf("got error %v and %x, want %x", err, core.Encode(), b)
			}
			if !c.sound && !errors.Is(err, record.ErrMalformed) {
				t.Errorf("got error %v, want ErrMalformed", err)
			}
		})
	}
}

func TestSignVerify(t *testing.T) {
	g := newRegion(t)
	c, other := g.clinics[0], g.clinics[1]
	r := c.visit("a", "the body")
	if err := r.VerifySignature(c.id); err != nil {
		t.Errorf("its own device: %v", err)
	}
	if err := r.VerifySignature(other.id); !errors.Is(err, record.ErrSignature) {
		t.Errorf("another device: got %v, want ErrSignature", err)
	}
	if err := r.VerifyBody(); err != nil {
		t.Errorf("its own body: %v", err)
	}
	for _, body := range [][]byte{[]byte("the bodY"), []byte("the bod"), []byte("the body "), {}} {
		other := r.WithBody(body)
		if err := other.VerifyBody(); !errors.Is(err, record.ErrBodyHash) {
			t.Errorf("body %q: got %v, want ErrBodyHash", body, err)
		}
	}
	absent := r.WithBody(nil)
	if err := absent.VerifyBody(); err != nil || absent.RID() != r.RID() {
		t.Errorf("an absent body: %v", err)
	}
	// The words of the layout, computed apart from the code.
	sum := sha256.Sum256(append([]byte("hp:rec:1\x00"), r.CoreBytes()...))
	if r.RID() != record.RID(sum) {
		t.Errorf("got rid %v, want %x", r.RID(), sum)
	}
	if !ed25519.Verify(c.id[:], append([]byte("hp:sig:1\x00"), sum[:]...), r.Sig[:]) {
		t.Error("the signature is not over the rid with its domain")
	}
	if ed25519.Verify(c.id[:], sum[:], r.Sig[:]) {
		t.Error("the signature holds without its domain")
	}
	if o := c.open(); o.Position() != (record.Position{Epoch: record.EpochID(func() []byte { rid := o.RID(); return rid[:16] }())}) {
		t.Errorf("got position %v of an opening record", o.Position())
	}
}

// No changed byte of a header survives: it is refused, or it is another record
// that the author's signature does not cover.
func TestFlippedHeader(t *testing.T) {
	g := newRegion(t)
	c := g.clinics[0]
	for _, r := range []record.Record{c.visit("a", "the body"), c.open()} {
		header := r.EncodeHeader()
		if back, err := record.DecodeHeader(header); err != nil || back.RID() != r.RID() || back.Sig != r.Sig || back.Body != nil {
			t.Fatalf("reading a sound header: %v", err)
		}
		for i := range header {
			for bit := range 8 {
				b := bytes.Clone(header)
				b[i] ^= 1 << bit
				got, err := record.DecodeHeader(b)
				if err == nil && got.VerifySignature(c.id) == nil {
					t.Errorf("byte %d, bit %d: accepted", i, bit)
				}
				if err != nil && !errors.Is(err, record.ErrMalformed) {
					t.Errorf("byte %d, bit %d: got %v, want ErrMalformed", i, bit, err)
				}
			}
		}
		for n := range header {
			if _, err := record.DecodeHeader(header[:n]); !errors.Is(err, record.ErrMalformed) {
				t.Errorf("the first %d bytes: got %v, want ErrMalformed", n, err)
			}
		}
	}
}

func TestFlippedLeaf(t *testing.T) {
	g := newRegion(t)
	g.mustOrder(t, g.clinics[0].visit("a", "1"), g.clinics[0].visit("a", "2"))
	e := g.entries[g.Size()-1]
	leaf := e.EncodeLeaf()
	want := record.LeafHash(leaf)
	for i := range leaf {
		for bit := range 8 {
			b := bytes.Clone(leaf)
			b[i] ^= 1 << bit
			got, err := record.DecodeLeaf(e.Seq, b)
			if err != nil && !errors.Is(err, record.ErrMalformed) {
				t.Errorf("byte %d, bit %d: got %v, want ErrMalformed", i, bit, err)
			}
			if err == nil && (record.LeafHash(got.EncodeLeaf()) == want || !bytes.Equal(got.EncodeLeaf(), b)) {
				t.Errorf("byte %d, bit %d: another entry under the same leaf", i, bit)
			}
		}
	}
}

func TestLeafRoundTrip(t *testing.T) {
	key := newBox("author").key
	rapid.Check(t, func(t *rapid.T) {
		r := record.Sign(cores().Draw(t, "core"), rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "body"), key)
		want := record.Entry{Seq: rapid.Uint64().Draw(t, "seq"), Time: rapid.Int64().Draw(t, "time"), PrevSeq: rapid.Uint64().Draw(t, "prevSeq"), Record: r}
		got, err := record.DecodeLeaf(want.Seq, want.EncodeLeaf())
		if err != nil {
			t.Fatal(err)
		}
		if got.Seq != want.Seq || got.Time != want.Time || got.PrevSeq != want.PrevSeq || got.Record.RID() != r.RID() || got.Record.Sig != r.Sig || got.Record.Body != nil {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		plain := sha256.Sum256(append([]byte{0}, want.EncodeLeaf()...))
		if record.LeafHash(want.EncodeLeaf()) != record.Hash(plain) {
			t.Fatal("the leaf hash is not RFC 6962's")
		}
	})
}

func TestBatchRoundTrip(t *testing.T) {
	key := newBox("author").key
	rapid.Check(t, func(t *rapid.T) {
		want := record.Batch{LeaderMillis: rapid.Int64().Draw(t, "millis")}
		for range rapid.IntRange(0, 8).Draw(t, "count") {
			want.Records = append(want.Records, record.Sign(cores().Draw(t, "core"), rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "body"), key))
		}
		b := want.Encode()
		got, err := record.DecodeBatch(b)
		if err != nil {
			t.Fatal(err)
		}
		if got.LeaderMillis != want.LeaderMillis || len(got.Records) != len(want.Records) || !bytes.Equal(got.Encode(), b) {
			t.Fatalf("got %d records at %d, want %d at %d", len(got.Records), got.LeaderMillis, len(want.Records), want.LeaderMillis)
		}
		for i := range got.Records {
			w, g := want.Records[i], got.Records[i]
			if w.RID() != g.RID() || w.Sig != g.Sig || !bytes.Equal(w.Body, g.Body) || g.VerifyBody() != nil {
				t.Fatalf("record %d differs", i)
			}
		}
	})
}

func TestBatchBounds(t *testing.T) {
	c := newBox("author")
	c.open()
	full := record.Batch{LeaderMillis: 1}
	for range record.BatchRecordsMax {
		full.Records = append(full.Records, c.visit("a", "1"))
	}
	if _, err := record.DecodeBatch(full.Encode()); err != nil {
		t.Errorf("a full batch: %v", err)
	}
	full.Records = append(full.Records, c.visit("a", "1"))
	over := full.Encode()
	big := record.Batch{Records: []record.Record{c.write(1, 32, compartment("a"), make([]byte, record.BodyBytesMax))}}
	if _, err := record.DecodeBatch(big.Encode()); err != nil {
		t.Errorf("one record with the largest body: %v", err)
	}
	null := big.Encode()
	null = append(bytes.Clone(null[:len(null)-record.BodyBytesMax-5]), 0xf6)
	for name, b := range map[string][]byte{
		"a record too many": over,
		"too many bytes":    append(over, make([]byte, 1<<20)...),
		"version 2":         append([]byte{0x83, 0x02}, (&record.Batch{}).Encode()[2:]...),
		"null for a body":   null,
		"a header":          big.Records[0].EncodeHeader(),
	} {
		if _, err := record.DecodeBatch(b); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", name, err)
		}
	}
}

func TestParseIDs(t *testing.T) {
	rid := record.RID{1, 2, 31: 0xff}
	if got, err := record.ParseRID(rid.String()); err != nil || got != rid {
		t.Errorf("got %v, %v, want %v", got, err, rid)
	}
	comp := compartment("a")
	if got, err := record.ParseCompartmentID(comp.String()); err != nil || got != comp {
		t.Errorf("got %v, %v, want %v", got, err, comp)
	}
	device := newBox("a").id
	if got, err := record.ParseDeviceID(device.String()); err != nil || got != device {
		t.Errorf("got %v, %v, want %v", got, err, device)
	}
	if got, err := record.ParseRegionID(rid.String()); err != nil || got != record.RegionID(rid) {
		t.Errorf("got %v, %v, want %v", got, err, rid)
	}
	for _, s := range []string{"", "00", rid.String() + "00", rid.String()[1:], "g" + rid.String()[1:], comp.String()} {
		if got, err := record.ParseRID(s); err == nil {
			t.Errorf("%q: got %v", s, got)
		}
	}
}
