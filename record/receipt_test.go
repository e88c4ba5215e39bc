package record_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

func someReceipt(t testing.TB) (*region, record.Receipt) {
	t.Helper()
	g := newRegion(t)
	g.clinics[0].visit("a", "1")
	g.clinics[1].session(staffKey("nurse"))
	return g, record.SignReceipt(g.id, startMillis/1000, startMillis/1000+86400, g.receiptHeads(g.clinics[:]...), g.hubs[0].key)
}

func TestReceipt(t *testing.T) {
	g, r := someReceipt(t)
	if err := r.Verify(g.id); err != nil || r.Hub != g.hubs[0].id {
		t.Errorf("got hub %s, %v", r.Hub.Short(), err)
	}
	b := r.Encode()
	got, err := record.DecodeReceipt(b)
	if err != nil || !bytes.Equal(got.Encode(), b) {
		t.Fatalf("got %v, or other bytes", err)
	}
	if d := cmp.Diff(r, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	var heads []any
	for _, h := range r.Heads {
		heads = append(heads, []any{h.Epoch[:], uint8(h.Lane), h.N, h.RID[:]})
	}
	claim := append(append([]byte("hp:receipt:1\x00"), g.id[:]...), mustMarshal([]any{r.Taken, r.By, heads})...)
	if !ed25519.Verify(r.Hub[:], claim, r.Sig[:]) {
		t.Error("the signature is not over the claim as it is described")
	}
	if err := r.Verify(regionID); !errors.Is(err, record.ErrSignature) {
		t.Errorf("another region: got %v", err)
	}
}

// The order and number of heads given does not show: one a feed, the furthest.
func TestReceiptIsCanonical(t *testing.T) {
	g, want := someReceipt(t)
	c := g.clinics[0]
	heads := g.receiptHeads(g.clinics[:]...)
	less := heads[1]
	less.N, less.RID = 0, c.opened
	if less.Lane != record.LaneClinical {
		t.Fatal("not the head of the visits")
	}
	before := slices.Clone(heads)
	slices.Reverse(heads)
	given := slices.Clone(heads)
	heads = append(heads, less, before[0])
	got := record.SignReceipt(g.id, want.Taken, want.By, heads, g.hubs[0].key)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if !slices.Equal(heads[:len(given)], given) {
		t.Error("the caller's heads were moved")
	}
}

func TestReceiptRefused(t *testing.T) {
	g, sound := someReceipt(t)
	changed := func(f func(r *record.Receipt)) record.Receipt {
		r := sound
		r.Heads = slices.Clone(r.Heads)
		f(&r)
		return r
	}
	for name, r := range map[string]record.Receipt{
		"no heads":            changed(func(r *record.Receipt) { r.Heads = nil }),
		"65 heads":            changed(func(r *record.Receipt) { r.Heads = make([]record.ReceiptHead, 65) }),
		"lane 4":              changed(func(r *record.Receipt) { r.Heads[0].Lane = 4 }),
		"n 0 of another lane": changed(func(r *record.Receipt) { r.Heads = r.Heads[:1]; r.Heads[0].Lane, r.Heads[0].N = 1, 0 }),
		"out of order":        changed(func(r *record.Receipt) { slices.Reverse(r.Heads) }),
		"a feed twice":        changed(func(r *record.Receipt) { r.Heads[1] = r.Heads[0] }),
		"before it was taken": changed(func(r *record.Receipt) { r.By = r.Taken - 1 }),
		"before 1970":         changed(func(r *record.Receipt) { r.Taken = -1 }),
		"never":               changed(func(r *record.Receipt) { r.By = 1<<62 + 1 }),
	} {
		if _, err := record.DecodeReceipt(r.Encode()); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: read: %v", name, err)
		}
		if err := r.Verify(g.id); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: verified: %v", name, err)
		}
	}
	for name, r := range map[string]record.Receipt{
		"another hub":      changed(func(r *record.Receipt) { r.Hub = g.hubs[1].id }),
		"a later time":     changed(func(r *record.Receipt) { r.By++ }),
		"an earlier time":  changed(func(r *record.Receipt) { r.Taken-- }),
		"another n":        changed(func(r *record.Receipt) { r.Heads[1].N++ }),
		"another record":   changed(func(r *record.Receipt) { r.Heads[1].RID[3] ^= 1 }),
		"another epoch":    changed(func(r *record.Receipt) { r.Heads[len(r.Heads)-1].Epoch[0] = 0xff }),
		"a head less":      changed(func(r *record.Receipt) { r.Heads = r.Heads[1:] }),
		"no signature":     changed(func(r *record.Receipt) { r.Sig = [64]byte{} }),
		"a signature more": changed(func(r *record.Receipt) { r.Sig[63] ^= 0x80 }),
	} {
		if err := r.Verify(g.id); !errors.Is(err, record.ErrSignature) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestReceiptMutated(t *testing.T) {
	rng := newRand(testSeed(t))
	g, r := someReceipt(t)
	for range mutations {
		x := mutate(rng, r.Encode())
		got, err := record.DecodeReceipt(x)
		if err == nil {
			err = got.Verify(g.id)
		}
		if !errors.Is(err, record.ErrMalformed) && !errors.Is(err, record.ErrSignature) {
			t.Fatalf("%x: got %v", x, err)
		}
	}
}

func FuzzDecodeReceipt(f *testing.F) {
	g, r := someReceipt(f)
	f.Add(r.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.DecodeReceipt(b) })
		got, err := record.DecodeReceipt(b)
		if err != nil {
			wantMalformed(t, err)
			return
		}
		if !bytes.Equal(got.Encode(), b) {
			t.Errorf("got %x back", got.Encode())
		}
		if got.Verify(g.id) == nil && slices.Contains(g.hubIDs(), got.Hub) && !bytes.Equal(b, r.Encode()) {
			t.Error("a receipt that no hub signed")
		}
	})
}
