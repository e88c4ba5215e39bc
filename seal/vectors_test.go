package seal_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

var update = flag.Bool("update", false, "write the known answers again")

const vectorsPath = "../test/vectors/seal.json"

// hexBytes is hexadecimal in JSON.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(b []byte) error {
	got, err := hex.DecodeString(string(b))
	*h = got
	return err
}

// vectors holds inputs and bytes. Random is what the source of randomness gives.
type vectors struct {
	Body    []bodyVector    `json:"body"`
	Packed  []packedVector  `json:"packed"`
	Wrap    []wrapVector    `json:"wrap"`
	Wraps   hexBytes        `json:"wraps"` // the wraps above as the body of a record
	Direct  directVector    `json:"direct"`
	Blind   []blindVector   `json:"blind"`
	Row     rowVector       `json:"row"`
	Keyring keyringVector   `json:"keyring"`
	Staff   staffVector     `json:"staff"`
	Derive  []derivedVector `json:"derive"`
	Card    cardVector      `json:"card"`
	Escrow  []escrowVector  `json:"escrow"`
}

type bodyVector struct {
	Key         hexBytes `json:"key"`
	Random      hexBytes `json:"random"`
	Generation  uint64   `json:"generation"`
	Epoch       hexBytes `json:"epoch"`
	Lane        uint8    `json:"lane"`
	N           uint64   `json:"n"`
	Kind        uint16   `json:"kind"`
	Compartment hexBytes `json:"compartment"`
	Packed      hexBytes `json:"packed"`
	Body        hexBytes `json:"body"`
}

// packedVector is read only: another version of the compressor may give other bytes for the same text.
type packedVector struct {
	Packed hexBytes `json:"packed"`
	Plain  hexBytes `json:"plain"`
}

type wrapVector struct {
	Recipient   hexBytes `json:"recipient"`
	RecipientID hexBytes `json:"recipientId"`
	Random      hexBytes `json:"random"`
	Compartment hexBytes `json:"compartment"`
	Generation  uint64   `json:"generation"`
	Key         hexBytes `json:"key"`
	Box         hexBytes `json:"box"`
}

// directVector is read only: the sender's key is drawn by the standard library.
type directVector struct {
	Private  hexBytes `json:"private"`
	PublicID hexBytes `json:"publicId"`
	Info     hexBytes `json:"info"`
	Plain    hexBytes `json:"plain"`
	Box      hexBytes `json:"box"`
}

type blindVector struct {
	Key   hexBytes `json:"key"`
	Label string   `json:"label"`
	Token string   `json:"token"`
	Name  hexBytes `json:"name"`
}

type rowVector struct {
	Key    hexBytes `json:"key"`
	Random hexBytes `json:"random"`
	RowKey hexBytes `json:"rowKey"`
	Plain  hexBytes `json:"plain"`
	Row    hexBytes `json:"row"`
}

type keyringVector struct {
	Random   hexBytes   `json:"random"`
	Reading  []hexBytes `json:"reading"`
	DeviceID hexBytes   `json:"deviceId"`
	File     hexBytes   `json:"file"`
}

type staffVector struct {
	Random hexBytes `json:"random"`
	PIN    string   `json:"pin"`
	Public hexBytes `json:"public"`
	Key    hexBytes `json:"key"`
}

type cardVector struct {
	Secret  hexBytes `json:"secret"`
	Code    string   `json:"code"`
	Find    hexBytes `json:"find"`
	PIN     string   `json:"pin"`
	Random  hexBytes `json:"random"`
	Lock    hexBytes `json:"lock"`
	Private hexBytes `json:"private"`
	Public  hexBytes `json:"public"`
}

type derivedVector struct {
	Root  hexBytes `json:"root"`
	Label string   `json:"label"`
	Key   hexBytes `json:"key"`
}

func TestKnownAnswers(t *testing.T) {
	stored, err := readVectors()
	if err != nil && !(*update && errors.Is(err, fs.ErrNotExist)) {
		t.Fatal(err)
	}
	got := computeVectors(t, stored)
	if *update {
		b, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorsPath, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(stored, got); diff != "" {
		t.Errorf("bytes differ from %s (-want +got):\n%s", vectorsPath, diff)
	}
	checkReadable(t, stored)
}

func readVectors() (v vectors, err error) {
	b, err := os.ReadFile(vectorsPath)
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(b, &v)
}

// computeVectors does again what can be done again, and takes over the rest of stored.
func computeVectors(t *testing.T, stored vectors) vectors {
	t.Helper()
	v := vectors{Packed: packedVectors(t, stored.Packed), Direct: directAnswer(t, stored.Direct)}
	for i, packed := range []seal.Packed{{0}, append(seal.Packed{0}, "Temperature 38.5"...), append(seal.Packed{0}, noise(31)...), append(seal.Packed{0}, noise(300)...)} {
		v.Body = append(v.Body, bodyAnswer(t, byte(i), packed))
	}
	var wraps []seal.Wrap
	for i := range byte(3) {
		a, w := wrapAnswer(t, i)
		v.Wrap, wraps = append(v.Wrap, a), append(wraps, w)
	}
	var err error
	if v.Wraps, err = seal.EncodeWraps(wraps); err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"", "rows", "search"} {
		root := newKey(t, 60)
		k, name := seal.Derive(root, label), seal.Blind(root, label, []byte("amina"))
		v.Derive = append(v.Derive, derivedVector{root[:], label, k[:]})
		v.Blind = append(v.Blind, blindVector{root[:], label, "amina", name[:]})
	}
	key, rowKey, plain := newKey(t, 61), []byte("chart/0001"), []byte("a row")
	row, err := seal.SealRow(reproducible(62), key, rowKey, plain)
	if err != nil {
		t.Fatal(err)
	}
	v.Row = rowVector{key[:], random(62, 24), rowKey, plain, row}
	v.Keyring, v.Staff, v.Card, v.Escrow = keyringAnswer(t), staffAnswer(t), cardAnswer(t), escrowAnswers(t)
	return v
}

func random(n byte, size int) hexBytes {
	b := make(hexBytes, size)
	reproducible(n).Read(b)
	return b
}

func bodyAnswer(t *testing.T, i byte, packed seal.Packed) bodyVector {
	t.Helper()
	key, gen := newKey(t, 10+i), []uint64{0, 1, 128, 1 << 40}[i%4]
	pos := record.Position{Epoch: record.EpochID(random(20+i, 16)), Lane: record.Lane(i % 4), N: 1 << (7 * i)}
	kind, comp := record.KindSealed+record.Kind(i), record.CompartmentID(random(30+i, 16))
	body, err := packed.Seal(reproducible(40+i), key, gen, pos, kind, comp)
	if err != nil {
		t.Fatal(err)
	}
	return bodyVector{key[:], random(40+i, 8), gen, pos.Epoch[:], uint8(pos.Lane), pos.N, uint16(kind), comp[:], hexBytes(packed), body}
}

func wrapAnswer(t *testing.T, i byte) (wrapVector, seal.Wrap) {
	t.Helper()
	recipient, dek, comp := newKey(t, 50), newKey(t, 51+i), record.CompartmentID(random(55, 16))
	w, err := seal.WrapKey(reproducible(56+i), recipient, comp, uint64(i), dek)
	if err != nil {
		t.Fatal(err)
	}
	return wrapVector{recipient[:], w.Recipient[:], random(56+i, 8), comp[:], uint64(i), dek[:], w.Box}, w
}

func keyringAnswer(t *testing.T) keyringVector {
	t.Helper()
	ring, err := seal.NewKeyring(reproducible(70))
	if err != nil {
		t.Fatal(err)
	}
	v := keyringVector{Random: random(70, 96)}
	for i := range byte(3) {
		key := newKey(t, 71+i)
		if _, err := ring.AddReading(key); err != nil {
			t.Fatal(err)
		}
		v.Reading = append(v.Reading, key[:])
	}
	id := ring.DeviceID()
	v.DeviceID = id[:]
	if v.File, err = ring.Encode(); err != nil {
		t.Fatal(err)
	}
	return v
}

func staffAnswer(t *testing.T) staffVector {
	t.Helper()
	k, err := seal.NewStaffKey(reproducible(80), goodPIN, seal.PINParams{MemoryKiB: 128, Passes: 2, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	return staffVector{random(80, 48), goodPIN, hexBytes(k.Public), k.Encode()}
}

func cardAnswer(t *testing.T) cardVector {
	t.Helper()
	s, pin := seal.CardSecret(random(81, 16)), "4711"
	l, pub, err := seal.NewCardLock(reproducible(82), s, pin, seal.PINParams{MemoryKiB: 128, Passes: 2, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	key, ok := l.Open(s, pin)
	if !ok {
		t.Fatal("the card does not open")
	}
	find := s.Find()
	return cardVector{s[:], s.Code(), find[:], pin, random(82, 16), l.Encode(), key.Bytes(), pub.Bytes()}
}

func packedVectors(t *testing.T, stored []packedVector) []packedVector {
	t.Helper()
	if !*update {
		return stored
	}
	var out []packedVector
	for _, plain := range [][]byte{{}, []byte("Temperature 38.5"), testVisit, testSave} {
		p, err := seal.Pack(plain)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, packedVector{hexBytes(p), plain})
	}
	return append(out, packedVector{append(hexBytes{1}, frame(t, testVisit)...), testVisit})
}

func directAnswer(t *testing.T, stored directVector) directVector {
	t.Helper()
	if len(stored.Box) > 0 {
		return stored
	}
	priv, info, plain := newExchange(t, 90), []byte("region key"), noise(32)
	box, err := seal.SealTo(priv.PublicKey(), info, plain)
	if err != nil {
		t.Fatal(err)
	}
	id := seal.PublicKeyID(priv.PublicKey())
	return directVector{priv.Bytes(), id[:], info, plain, box}
}

// checkReadable opens everything that is stored: what a released version wrote stays readable.
func checkReadable(t *testing.T, v vectors) {
	t.Helper()
	for i, b := range v.Body {
		pos := record.Position{Epoch: record.EpochID(b.Epoch), Lane: record.Lane(b.Lane), N: b.N}
		got, err := seal.Open(only(b.Generation, seal.Key(b.Key)), pos, record.Kind(b.Kind), record.CompartmentID(b.Compartment), b.Body)
		if err != nil || !bytes.Equal(got, b.Packed[1:]) {
			t.Errorf("body %d: %x, %v", i, got, err)
		}
	}
	for i, p := range v.Packed {
		if got, err := seal.Packed(p.Packed).Unpack(); err != nil || !bytes.Equal(got, p.Plain) {
			t.Errorf("packed %d: %x, %v", i, got, err)
		}
	}
	wraps, err := seal.DecodeWraps(v.Wraps)
	if err != nil || len(wraps) != len(v.Wrap) {
		t.Fatalf("wraps: %d, %v", len(wraps), err)
	}
	for i, w := range wraps {
		if got, err := seal.UnwrapKey(seal.Key(v.Wrap[i].Recipient), w); err != nil || got != seal.Key(v.Wrap[i].Key) {
			t.Errorf("wrap %d: %v", i, err)
		}
	}
	if got, err := seal.OpenRow(seal.Key(v.Row.Key), v.Row.RowKey, v.Row.Row); err != nil || !bytes.Equal(got, v.Row.Plain) {
		t.Errorf("row: %x, %v", got, err)
	}
	if got, err := seal.OpenWith(newExchange(t, 90), v.Direct.Info, v.Direct.Box); err != nil || !bytes.Equal(got, v.Direct.Plain) {
		t.Errorf("direct: %x, %v", got, err)
	}
	if ring, err := seal.DecodeKeyring(v.Keyring.File); err != nil || len(ring.Reading) != len(v.Keyring.Reading) {
		t.Errorf("keyring: %v", err)
	}
	if l, err := seal.DecodeCardLock(v.Card.Lock); err != nil {
		t.Errorf("card: %v", err)
	} else if key, ok := l.Open(seal.CardSecret(v.Card.Secret), v.Card.PIN); !ok || !bytes.Equal(key.PublicKey().Bytes(), v.Card.Public) {
		t.Error("card: its secret and PIN do not open it")
	}
	if k, err := seal.DecodeStaffKey(v.Staff.Key); err != nil {
		t.Errorf("staff key: %v", err)
	} else if _, err := k.Unlock(v.Staff.PIN); err != nil {
		t.Errorf("staff key: %v", err)
	}
}
