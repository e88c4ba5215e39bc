package record_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/healthpost/healthpost/record"
)

var (
	regionID = record.RegionID(sha256.Sum256([]byte("region of the checkpoint tests")))
	hubBoxes = []*box{newBox("hub one"), newBox("hub two"), newBox("hub three")}
	someHead = record.TreeHead{Size: 1234, Root: record.Hash(sha256.Sum256([]byte("root")))}
)

func ids(boxes []*box) []record.DeviceID {
	var out []record.DeviceID
	for _, b := range boxes {
		out = append(out, b.id)
	}
	return out
}

// cosigned is a note of the head with the hubs' lines.
func cosigned(t testing.TB, h record.TreeHead, hubs ...*box) []byte {
	t.Helper()
	var out []byte
	for _, b := range hubs {
		n, err := record.Cosign(regionID.Ledger(1), h, b.key, 1_768_435_200)
		if err != nil {
			t.Fatalf("cosigning: %v", err)
		}
		if out == nil {
			out = n
		} else if out, err = record.MergeCosignatures(regionID.Ledger(1), out, n, ids(hubs)); err != nil {
			t.Fatalf("joining: %v", err)
		}
	}
	return out
}

// handSigned makes one cosignature line from the words of C2SP tlog-cosignature
// alone, over any text, under any name.
func handSigned(name, text string, key ed25519.PrivateKey, seconds uint64) string {
	pub := key.Public().(ed25519.PublicKey)
	id := sha256.Sum256(append([]byte(name+"\n\x04"), pub...))
	sig := ed25519.Sign(key, []byte(fmt.Sprintf("cosignature/v1\ntime %d\n%s", seconds, text)))
	blob := append(bytes.Clone(id[:4]), binary.BigEndian.AppendUint64(nil, seconds)...)
	return "— " + name + " " + base64.StdEncoding.EncodeToString(append(blob, sig...)) + "\n"
}

func hubName(b *box) string { return regionID.Ledger(1).Origin() + "/hub-" + b.id.Short() }

func TestCheckpointText(t *testing.T) {
	want := "healthpost/" + regionID.String()[:32] + "/g1\n1234\n" + base64.StdEncoding.EncodeToString(someHead.Root[:]) + "\n"
	if got := record.CheckpointText(regionID.Ledger(1), someHead); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The lines are those of C2SP, byte for byte, made here a second time by hand.
func TestCosignIsC2SP(t *testing.T) {
	text := record.CheckpointText(regionID.Ledger(1), someHead)
	hub := hubBoxes[0]
	want := text + "\n" + handSigned(hubName(hub), text, hub.key, 1_768_435_200)
	got, err := record.Cosign(regionID.Ledger(1), someHead, hub.key, 1_768_435_200)
	if err != nil || string(got) != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
	both := text + "\n" + handSigned(hubName(hub), text, hub.key, 1_768_435_200) + handSigned(hubName(hubBoxes[1]), text, hubBoxes[1].key, 7)
	if c, err := record.VerifyFinal(regionID.Ledger(1), []byte(both), ids(hubBoxes)); err != nil || c.Head != someHead || len(c.Signers) != 2 || c.Time != 7 {
		t.Errorf("written by hand: got %+v, %v", c, err)
	}
}

func TestMajority(t *testing.T) {
	five := append([]*box{newBox("hub four"), newBox("hub five")}, hubBoxes...)
	for _, c := range []struct {
		of, by int
		final  bool
	}{{1, 1, true}, {2, 1, false}, {2, 2, true}, {3, 1, false}, {3, 2, true}, {3, 3, true}, {4, 2, false}, {4, 3, true}, {5, 2, false}, {5, 3, true}} {
		msg := cosigned(t, someHead, five[:c.by]...)
		got, err := record.VerifyFinal(regionID.Ledger(1), msg, ids(five[:c.of]))
		if c.final != (err == nil) || !c.final && !errors.Is(err, record.ErrNotFinal) {
			t.Errorf("%d of %d: got error %v, want final %v", c.by, c.of, err, c.final)
		}
		if got.Head != someHead || len(got.Signers) != c.by || !bytes.Equal(got.Note, msg) {
			t.Errorf("%d of %d: got %d signers of %v", c.by, c.of, len(got.Signers), got.Head)
		}
	}
	if _, err := record.VerifyFinal(regionID.Ledger(1), cosigned(t, someHead, hubBoxes...), nil); err == nil {
		t.Error("final with no hub at all")
	}
}

func TestNobodyCountsTwice(t *testing.T) {
	text := record.CheckpointText(regionID.Ledger(1), someHead)
	one := hubBoxes[0]
	early, late := handSigned(hubName(one), text, one.key, 1), handSigned(hubName(one), text, one.key, 2)
	for name, lines := range map[string]string{
		"one line twice":                 early + early,
		"two lines of different times":   early + late,
		"one line many times":            strings.Repeat(early, 20),
		"with a stranger's line":         early + handSigned(hubName(newBox("x")), text, newBox("x").key, 1),
		"with a line of an unknown kind": early + "— " + hubName(hubBoxes[1]) + " " + base64.StdEncoding.EncodeToString(append([]byte{1, 2, 3, 4}, make([]byte, 64)...)) + "\n",
	} {
		c, err := record.VerifyFinal(regionID.Ledger(1), []byte(text+"\n"+lines), ids(hubBoxes))
		if !errors.Is(err, record.ErrNotFinal) || len(c.Signers) != 1 {
			t.Errorf("%s: got %d signers, %v, want one and ErrNotFinal", name, len(c.Signers), err)
		}
	}
	// The list of hubs is ours, but naming one twice must not lower the bar.
	twice := []record.DeviceID{one.id, one.id, hubBoxes[1].id}
	if c, err := record.VerifyFinal(regionID.Ledger(1), cosigned(t, someHead, one), twice); !errors.Is(err, record.ErrNotFinal) || len(c.Signers) != 1 {
		t.Errorf("a hub listed twice: got %d signers, %v", len(c.Signers), err)
	}
}

func TestCheckpointRefused(t *testing.T) {
	root := base64.StdEncoding.EncodeToString(someHead.Root[:])
	origin := regionID.Ledger(1).Origin()
	other := record.RegionID(sha256.Sum256([]byte("another region")))
	for _, c := range []struct{ name, text string }{
		{"another region's origin", record.CheckpointText(other.Ledger(1), someHead)},
		{"another generation", strings.Replace(record.CheckpointText(regionID.Ledger(1), someHead), "/g1", "/g2", 1)},
		{"an extension line", record.CheckpointText(regionID.Ledger(1), someHead) + "more\n"},
		{"an empty extension line", record.CheckpointText(regionID.Ledger(1), someHead) + "\n"},
		{"no root", origin + "\n1234\n"},
		{"no size", origin + "\n" + root + "\n"},
		{"a sign", origin + "\n+1234\n" + root + "\n"},
		{"a leading zero", origin + "\n01234\n" + root + "\n"},
		{"a negative size", origin + "\n-1\n" + root + "\n"},
		{"a size in hexadecimal", origin + "\n0x4d2\n" + root + "\n"},
		{"a size past 62 bits", origin + "\n4611686018427387905\n" + root + "\n"},
		{"a size past 63 bits", origin + "\n9223372036854775808\n" + root + "\n"},
		{"a blank after the size", origin + "\n1234 \n" + root + "\n"},
		{"a short root", origin + "\n1234\n" + base64.StdEncoding.EncodeToString(someHead.Root[:31]) + "\n"},
		{"a long root", origin + "\n1234\n" + base64.StdEncoding.EncodeToString(make([]byte, 33)) + "\n"},
		{"a root without padding", origin + "\n1234\n" + strings.TrimRight(root, "=") + "\n"},
		{"a root in the URL alphabet", origin + "\n1234\n" + base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 32)) + "\n"},
		{"a root with loose bits", origin + "\n1234\n" + root[:42] + string(root[42]+1) + "=\n"},
		{"another first line", "another.example/log\n1234\n" + root + "\n"},
		{"lines of a note", "some words\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg := c.text + "\n"
			for _, b := range hubBoxes {
				msg += handSigned(hubName(b), c.text, b.key, 5)
			}
			if got, err := record.VerifyFinal(regionID.Ledger(1), []byte(msg), ids(hubBoxes)); !errors.Is(err, record.ErrMalformed) {
				t.Errorf("got %+v, %v, want ErrMalformed", got.Head, err)
			}
			if _, err := record.MergeCosignatures(regionID.Ledger(1), []byte(msg), []byte(msg), ids(hubBoxes)); !errors.Is(err, record.ErrMalformed) {
				t.Errorf("joining: got %v, want ErrMalformed", err)
			}
		})
	}
}

func TestCosignatureRefused(t *testing.T) {
	text := record.CheckpointText(regionID.Ledger(1), someHead)
	hub := hubBoxes[0]
	good := handSigned(hubName(hub), text, hub.key, 5)
	plain := func() string { // a note signature, not a cosignature
		name := hubName(hub)
		pub := hub.key.Public().(ed25519.PublicKey)
		id := sha256.Sum256(append([]byte(name+"\n\x01"), pub...))
		return "— " + name + " " + base64.StdEncoding.EncodeToString(append(id[:4], ed25519.Sign(hub.key, []byte(text))...)) + "\n"
	}()
	for name, msg := range map[string]string{
		"nothing":                          "",
		"no signature":                     text + "\n",
		"no blank line":                    text + good,
		"a stranger's":                     text + "\n" + handSigned(hubName(newBox("x")), text, newBox("x").key, 5),
		"a hub's name with another's key":  text + "\n" + handSigned(hubName(hub), text, hubBoxes[1].key, 5),
		"the name of another region's hub": text + "\n" + handSigned("healthpost/x/g1/hub-"+hub.id.Short(), text, hub.key, 5),
		"a plain note signature":           text + "\n" + plain,
		"over another text":                record.CheckpointText(regionID.Ledger(1), record.TreeHead{Size: 1235, Root: someHead.Root}) + "\n" + good,
		"a size swapped after signing":     strings.Replace(text, "1234", "1243", 1) + "\n" + good,
		"the second of two is bad":         text + "\n" + good + handSigned(hubName(hubBoxes[1]), text+"x", hubBoxes[1].key, 5),
		"more than 8 KiB":                  text + "\n" + good + "— example.org/x " + strings.Repeat("AAAA", 2100) + "\n",
		"a carriage return in the root":    strings.Replace(text, "=", "\r=", 1) + "\n" + good,
	} {
		if c, err := record.OpenCheckpoint(regionID.Ledger(1), []byte(msg), ids(hubBoxes)); err == nil {
			t.Errorf("%s: accepted with %d signers", name, len(c.Signers))
		}
	}
	full := text + "\n" + good + "— example.org/x " + strings.Repeat("AAAA", 1900) + "\n"
	if _, err := record.OpenCheckpoint(regionID.Ledger(1), []byte(full), ids(hubBoxes)); err != nil {
		t.Errorf("lines of witnesses that this region does not know: %v", err)
	}
}

func TestFlippedCheckpoint(t *testing.T) {
	msg := cosigned(t, someHead, hubBoxes[:2]...)
	for i := range msg {
		for bit := range 8 {
			x := bytes.Clone(msg)
			x[i] ^= 1 << bit
			if c, err := record.VerifyFinal(regionID.Ledger(1), x, ids(hubBoxes)); err == nil && c.Head != someHead {
				t.Errorf("byte %d, bit %d: final at %v", i, bit, c.Head)
			}
		}
	}
}

func TestMergeCosignatures(t *testing.T) {
	one, two, three := cosigned(t, someHead, hubBoxes[0]), cosigned(t, someHead, hubBoxes[1]), cosigned(t, someHead, hubBoxes[2])
	hubs := ids(hubBoxes)
	merge := func(a, b []byte) []byte {
		t.Helper()
		out, err := record.MergeCosignatures(regionID.Ledger(1), a, b, hubs)
		if err != nil {
			t.Fatalf("joining: %v", err)
		}
		return out
	}
	all := merge(merge(one, two), three)
	if !bytes.Equal(all, merge(three, merge(two, one))) || !bytes.Equal(all, merge(all, all)) || !bytes.Equal(all, merge(all, two)) {
		t.Errorf("the order of joining shows")
	}
	c, err := record.VerifyFinal(regionID.Ledger(1), all, hubs)
	if err != nil || len(c.Signers) != 3 {
		t.Errorf("got %d signers, %v", len(c.Signers), err)
	}
	other := cosigned(t, record.TreeHead{Size: 1234, Root: record.EmptyRoot}, hubBoxes[1])
	if _, err := record.MergeCosignatures(regionID.Ledger(1), one, other, hubs); err == nil {
		t.Error("two roots of one size were joined")
	}
	if _, err := record.MergeCosignatures(regionID.Ledger(1), one, []byte("noise"), hubs); err == nil {
		t.Error("noise was joined")
	}
	var unverified *note.UnverifiedNoteError
	if _, err := record.MergeCosignatures(regionID.Ledger(1), one, two, hubs[:1]); !errors.As(err, &unverified) {
		t.Errorf("a line of a stranger alone: got %v", err)
	}
}

// sharedKeyID gives two hubs whose keys have the same id of four bytes, as whoever
// tries some hundred thousand keys finds.
func sharedKeyID(t testing.TB, l record.LedgerID) (a, b *box) {
	t.Helper()
	id := func(x *box) [4]byte {
		name := l.Origin() + "/hub-" + x.id.Short()
		sum := sha256.Sum256(append([]byte(name+"\n\x04"), x.id[:]...))
		return [4]byte(sum[:4])
	}
	a, b = newBox("shared 76185"), newBox("shared 143573")
	if id(a) != id(b) {
		t.Fatal("these keys share no id")
	}
	return a, b
}
