package node_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/klauspost/compress/zstd"
	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/fhir/sample"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// secrets are byte strings that must not be found, by a word for the report.
type secrets map[string][]byte

// text adds a string in the forms in which a program could have left it.
func (s secrets) text(what, v string) {
	s[what+", as it is"] = []byte(v)
	wide := []byte{}
	for _, u := range utf16.Encode([]rune(v)) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	s[what+", UTF-16"] = wide
	for shift := range 3 { // base64 of a text that has it anywhere
		enc := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat(" ", shift) + v))
		if part := enc[min(4*shift, len(enc)):max(4*shift, len(enc)-4)]; len(part) >= 8 {
			s[fmt.Sprintf("%s, base64 %d", what, shift)] = []byte(part)
		}
	}
}

// key adds a key, raw and as text.
func (s secrets) key(what string, k seal.Key) {
	s[what] = bytes.Clone(k[:])
	s[what+", as hexadecimal"] = []byte(hex.EncodeToString(k[:]))
	s[what+", as base64"] = []byte(base64.RawStdEncoding.EncodeToString(k[:]))
}

// found lists what is in b, also in what zstd frames in it hold.
func (s secrets) found(b []byte) (list []string) {
	var squeezed bytes.Buffer // without empty pages, of which files that were made in advance have many
	for page := range slices.Chunk(b, 4096) {
		if len(bytes.Trim(page, "\x00")) > 0 {
			squeezed.Write(page)
		}
	}
	parts := [][]byte{squeezed.Bytes()}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return []string{err.Error()}
	}
	defer dec.Close()
	for rest := squeezed.Bytes(); ; {
		_, after, ok := bytes.Cut(rest, []byte{0x28, 0xb5, 0x2f, 0xfd})
		if !ok {
			break
		}
		if plain, _ := dec.DecodeAll(append([]byte{0x28, 0xb5, 0x2f, 0xfd}, after...), nil); len(plain) > 0 {
			parts = append(parts, plain)
		}
		rest = after
	}
	for _, what := range slices.Sorted(maps.Keys(s)) {
		if slices.ContainsFunc(parts, func(p []byte) bool { return bytes.Contains(p, s[what]) }) {
			list = append(list, what)
		}
	}
	return list
}

// foundUnder lists what is in the files of a folder, by file.
func (s secrets) foundUnder(t *testing.T, dir string) map[string][]string {
	t.Helper()
	list, size := map[string][]string{}, 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		size += len(b)
		name, err := filepath.Rel(dir, path)
		if got := s.found(append([]byte(name+"\n"), b...)); len(got) > 0 {
			list[name] = got
		}
		return err
	})
	if err != nil || size == 0 {
		t.Fatalf("reading %s: %d bytes, %v", dir, size, err)
	}
	return list
}

// told are the texts in a FHIR resource that tell of somebody.
func told(v any, under string, tell func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			told(x, k, tell)
		}
	case []any:
		for _, x := range v {
			told(x, under, tell)
		}
	case string:
		switch under {
		case "family", "given", "text", "value", "display", "line", "city", "district", "valueString", "birthDate":
			if len(v) >= 5 {
				tell(v)
			}
		}
	}
}

// A thief who has a stopped clinic's card, a hub's disk, a parcel, the logs and what commands say, and
// the keys of none, reads of no person of the sample: not by grep and not by the product.
func TestRawDisksTellOfNobody(t *testing.T) {
	node.WithRule(t, closedToClinicians)
	s, log := secrets{}, &bytes.Buffer{}
	hub := newBox(t, record.RoleHub, "Hub")
	hub.o.Log = zerolog.New(zerolog.SyncWriter(log))
	if _, err := node.CreateRegion(t.Context(), hub.o, "Lake region"); err != nil {
		t.Fatal(err)
	}
	hub.start()
	one := newMember(t, hub, "One")
	one.stop()
	one.o.Log = hub.o.Log
	one.start()
	one.signIn()
	for i := range 6 {
		raw, err := sample.Bundle(11, i)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		told(v, "", func(text string) { s.text(fmt.Sprintf("text %d %q", i, text), text) })
		one.take(string(raw))
	}
	if len(s) < 100 {
		t.Fatalf("the sample has %d texts", len(s))
	}
	id := one.register("form-1", "Nyirahabimana")
	if _, err := one.n.SaveVisit(t.Context(), one.token, id, "form-3", fhir.Visit{At: time.Now(), Problem: "fever", Treatment: "vitamins against xerophthalmia", Note: "whispered something at the door"}); err != nil {
		t.Fatal(err)
	}
	one.attach(id, "form-4", "grandmother.jpg", photograph(t, 64, 1)) // of a form that nobody saved
	if len(one.find("nyirahabimana")) != 1 || len(one.find("unheardof")) != 0 {
		t.Fatal("the search")
	}
	doctor, second := one.signedInAs(t, "Godelieve Ward", "clinician"), one.signedInAs(t, "Prosper Desk", "registrar")
	one.mustBreak(doctor, id, "form-5", second)
	if p, err := one.n.Emergency(t.Context(), doctor, id); err != nil || p.Until.IsZero() {
		t.Fatalf("the summary: %+v, %v", p, err)
	}
	one.decides(id, "form-6", web.Decision{Do: web.DoLimit})
	for _, text := range []string{reason, secondPIN, doctor.Token, "Prosper", "Nyirahabimana", "xerophthalmia", "whispered something", "grandmother", "unheardof", "Amina Test", "Godelieve", pin, one.token.Token} {
		s.text(fmt.Sprintf("text %q", text), text)
	}
	one.confirmed()
	var parcel bytes.Buffer
	if _, err := one.n.WriteParcel(t.Context(), &parcel, node.ParcelRequest{Full: true}); err != nil {
		t.Fatal(err)
	}
	said, err := json.Marshal([]any{status(t, one), status(t, hub), statusOfLock(t, one)})
	if err != nil {
		t.Fatal(err)
	}
	keys, _, err := seal.LoadKeyring(filepath.Join(one.o.Data, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	inKeys := secrets{}
	inKeys.key("the exchange key", keys.Exchange)
	inKeys.key("the local key", keys.Local)
	for id, k := range keys.Reading {
		inKeys.key("reading key "+id.String(), k)
	}
	for i, k := range one.n.CompartmentKeys() {
		s.key(fmt.Sprintf("compartment key %d", i), k)
	}
	copyOfCard := t.TempDir()
	_, by := keyFile(t)
	one.stop()
	if got := inKeys.foundUnder(t, one.o.Data); len(got) != 1 || len(got["keys"]) < 3 {
		t.Errorf("without a lock the keys are in %v, want keys alone", got)
	}
	one.start()
	one.lockWith(by)
	hub.stop()
	maps.Copy(s, inKeys)
	for where, got := range map[string]map[string][]string{"the clinic's card": s.foundUnder(t, one.o.Data), "the parcel": {"": s.found(parcel.Bytes())}, "the log": {"": s.found(log.Bytes())}, "status": {"": s.found(said)}} {
		for file, list := range got {
			if len(list) > 0 {
				t.Errorf("%s %s tells of %d things, among them %s", where, file, len(list), list[0])
			}
		}
	}
	got := s.foundUnder(t, hub.o.Data) // whose reading key is not under a lock
	delete(got, "keys")
	if len(got) > 0 {
		t.Errorf("the hub's disk tells of %v", got)
	}
	if err := os.CopyFS(copyOfCard, os.DirFS(one.o.Data)); err != nil {
		t.Fatal(err)
	}
	thief := one.o
	thief.Data = copyOfCard
	if _, err := node.Open(thief); err == nil {
		t.Error("the copy of the card opens")
	}
	plantOne(t, one, by)
	if got := s.foundUnder(t, one.o.Data); len(got) == 0 {
		t.Error("a name in a plain row is not found: this test finds nothing")
	}
}

func statusOfLock(t *testing.T, c *clinic) any {
	t.Helper()
	m, err := c.n.Members()
	if err != nil {
		t.Fatal(err)
	}
	return []any{c.n.Lock(), m}
}

// plantOne writes what this test must find.
func plantOne(t *testing.T, c *clinic, by node.Opener) {
	t.Helper()
	if err := unlock(t, c.o, by); err != nil {
		t.Fatal(err)
	}
	c.start()
	if err := c.n.Store().PutRows(t.Context(), []store.Row{{Key: []byte("plain"), Value: []byte("Nyirahabimana")}}); err != nil {
		t.Fatal(err)
	}
	c.stop()
}

// The accounts on a locked card are no oracle for PINs: what a PIN could be tried on is sealed under a key
// that is not there. The control is a card without a lock, where the key lies beside them.
func TestNoPINCanBeTriedOnALockedCard(t *testing.T) {
	c := newClinic(t)
	_, by := keyFile(t)
	tiles, err := c.n.Staff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	row, err := c.n.Store().GetRow([]byte("staff/" + tiles[0].ID))
	if err != nil {
		t.Fatal(err)
	}
	rowKey := []byte("staff/" + tiles[0].ID)
	opens := func() (keys int) {
		raw, _, err := seal.LoadKeyring(filepath.Join(c.o.Data, "keys"))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []seal.Key{raw.Local, raw.Device, raw.Exchange, {}} {
			for _, label := range []string{"rows", "page", ""} {
				if _, err := seal.OpenRow(seal.Derive(k, label), rowKey, row); err == nil {
					keys++
				}
			}
			if _, err := seal.OpenRow(k, rowKey, row); err == nil {
				keys++
			}
		}
		return keys
	}
	if opens() != 1 {
		t.Error("a card without a lock: its account does not open, this test finds nothing")
	}
	c.lockWith(by)
	if n := opens(); n != 0 {
		t.Errorf("%d keys of a locked card open an account", n)
	}
	if _, err := seal.DecodeStaffKey(row); err == nil {
		t.Error("an account lies in the clear")
	}
}
