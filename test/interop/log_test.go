package interop_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/formats/log"
	cosigv1 "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	"github.com/healthpost/healthpost/fhir/sample"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

// entriesMin makes a full tile of leaves, a second one and a level above.
const entriesMin = 300

// hub is a region of one that serves its ledger.
type hub struct {
	t     *testing.T
	n     *node.Node
	keys  node.RegionKeys
	log   *client.HTTPFetcher
	url   string
	given int // sample patients so far
}

func newHub(t *testing.T) *hub {
	t.Helper()
	dir := t.TempDir()
	if _, err := node.Init(dir, record.RoleHub, "Hub"); err != nil {
		t.Fatal(err)
	}
	o := node.NewOptions(dir)
	o.Page, o.LAN, o.Listen, o.Profile, o.LogAddress = "", false, []string{"/ip4/127.0.0.1/tcp/0"}, "lan", "127.0.0.1:0"
	o.Store.BallastBytes = 1 << 20
	if _, err := node.CreateRegion(t.Context(), o, "Lake region"); err != nil {
		t.Fatal(err)
	}
	n, err := node.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- n.Run(ctx, func(string) { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, n.Close()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("the hub stopped at its start: %v", err)
	}
	h := &hub{t: t, n: n}
	s, err := n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if h.keys, err = n.Keys(); err != nil {
		t.Fatal(err)
	}
	h.url = s.Log
	root, err := url.Parse(s.Log + "/")
	if err != nil {
		t.Fatal(err)
	}
	if h.log, err = client.NewHTTPFetcher(root, http.DefaultClient); err != nil {
		t.Fatal(err)
	}
	return h
}

// grow takes sample patients in until the checkpoint covers so many entries.
func (h *hub) grow(size uint64) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	for changed := h.n.Watch(ctx); ; {
		s, err := h.n.Status(ctx)
		if err != nil {
			h.t.Fatal(err)
		}
		switch {
		case s.Confirmed >= size && s.Confirmed == s.Size && s.Pending == 0:
			return
		case s.Size+uint64(s.Pending+s.Shared) < size:
			raw, err := sample.Bundle(7, h.given)
			if err != nil {
				h.t.Fatal(err)
			}
			h.given++
			if _, err := h.n.Import(ctx, node.ImportRequest{Name: fmt.Sprint(h.given), Size: int64(len(raw))}, bytes.NewReader(raw), func(node.Progress) {}); err != nil {
				h.t.Fatal(err)
			}
			continue
		}
		if _, ok := <-changed; !ok {
			h.t.Fatalf("the ledger does not grow: %+v", s)
		}
	}
}

// verifiers are the hubs' keys, read from the text that the region gives out.
func (h *hub) verifiers() []note.Verifier {
	h.t.Helper()
	var out []note.Verifier
	for _, k := range h.keys.Hubs {
		v, err := cosigv1.NewVerifierForCosignatureV1(k.Verifier)
		if err != nil {
			h.t.Fatalf("reading the key %q: %v", k.Verifier, err)
		}
		out = append(out, v)
	}
	return out
}

func (h *hub) origin() string {
	ledger, _, err := h.keys.IDs()
	if err != nil {
		h.t.Fatal(err)
	}
	return ledger.Origin()
}

// checkpoint fetches and verifies the newest one.
func (h *hub) checkpoint() *log.Checkpoint {
	h.t.Helper()
	raw, err := h.log.ReadCheckpoint(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	v := h.verifiers()
	cp, rest, _, err := log.ParseCheckpoint(raw, h.origin(), v[0], v[1:]...)
	if err != nil || len(rest) != 0 {
		h.t.Fatalf("checkpoint: %v, %q after its three lines\n%s", err, rest, raw)
	}
	return cp
}

func TestCheckpoint(t *testing.T) {
	h := newHub(t)
	h.grow(5)
	raw, err := h.log.ReadCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v := h.verifiers()
	cp, _, n, err := log.ParseCheckpoint(raw, h.origin(), v[0])
	if err != nil || cp.Size < 5 || len(n.Sigs) != 1 {
		t.Fatalf("got %+v, %v", cp, err)
	}
	at, err := cosigv1.CoSigV1Timestamp(n.Sigs[0])
	if err != nil || time.Since(at).Abs() > time.Hour {
		t.Errorf("the cosignature's time: got %s, %v", at, err)
	}
	size := fmt.Sprintf("\n%d\n", cp.Size)
	for name, bad := range map[string]struct {
		raw    []byte
		origin string
	}{
		"another size":   {bytes.Replace(raw, []byte(size), []byte(fmt.Sprintf("\n%d\n", cp.Size+1)), 1), h.origin()},
		"another origin": {raw, h.origin() + "0"},
		"a line more":    {bytes.Replace(raw, []byte("\n\n"), []byte("\nmore\n\n"), 1), h.origin()},
	} {
		if _, _, _, err := log.ParseCheckpoint(bad.raw, bad.origin, v[0]); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// Every leaf comes as an entry whose hash stands in the tree, and proves itself
// in the checkpoint; two checkpoints prove each other.
func TestTree(t *testing.T) {
	h := newHub(t)
	h.grow(entriesMin)
	ctx := t.Context()
	older := h.checkpoint()
	builder, err := client.NewProofBuilder(ctx, older.Size, h.log.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := client.FetchLeafHashes(ctx, h.log.ReadTile, 0, older.Size, older.Size)
	if err != nil || uint64(len(hashes)) != older.Size {
		t.Fatalf("leaf hashes: got %d of %d, %v", len(hashes), older.Size, err)
	}
	seq := uint64(0)
	for bundle := range older.Size/layout.EntryBundleWidth + 1 {
		b, err := client.GetEntryBundle(ctx, h.log.ReadEntryBundle, bundle, older.Size)
		if err != nil {
			t.Fatal(err)
		}
		for _, leaf := range b.Entries {
			if got := rfc6962.DefaultHasher.HashLeaf(leaf); !bytes.Equal(got, hashes[seq]) {
				t.Fatalf("entry %d has another hash than the tree", seq)
			}
			if _, err := record.DecodeLeaf(seq, leaf); err != nil {
				t.Errorf("entry %d: %v", seq, err)
			}
			seq++
		}
	}
	if seq != older.Size {
		t.Errorf("entries: got %d, want %d", seq, older.Size)
	}
	for _, seq := range []uint64{0, 1, 255, 256, 257, older.Size - 1} {
		path, err := builder.InclusionProof(ctx, seq)
		if err == nil {
			err = proof.VerifyInclusion(rfc6962.DefaultHasher, seq, older.Size, hashes[seq], path, older.Hash)
		}
		if err != nil {
			t.Errorf("entry %d is not in the checkpoint: %v", seq, err)
		}
		other := slices.Clone(hashes[seq])
		other[0] ^= 1
		if proof.VerifyInclusion(rfc6962.DefaultHasher, seq, older.Size, other, path, older.Hash) == nil {
			t.Errorf("entry %d: another leaf was taken", seq)
		}
	}
	h.grow(older.Size + 1)
	newer := h.checkpoint()
	if builder, err = client.NewProofBuilder(ctx, newer.Size, h.log.ReadTile); err != nil {
		t.Fatal(err)
	}
	path, err := builder.ConsistencyProof(ctx, older.Size, newer.Size)
	if err == nil {
		err = proof.VerifyConsistency(rfc6962.DefaultHasher, older.Size, newer.Size, path, older.Hash, newer.Hash)
	}
	if err != nil {
		t.Errorf("size %d does not continue size %d: %v", newer.Size, older.Size, err)
	}
}

// An outside witness that follows the log takes every step of it.
func TestTrackerFollows(t *testing.T) {
	h := newHub(t)
	h.grow(10)
	consensus := client.UnilateralConsensus(h.log.ReadCheckpoint)
	tracker, err := client.NewLogStateTracker(t.Context(), h.log.ReadTile, nil, h.verifiers()[0], h.origin(), consensus)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		before := tracker.Latest().Size
		h.grow(before + 40)
		if _, _, _, err := tracker.Update(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after := tracker.Latest().Size; after < before+40 {
			t.Errorf("the witness stands at %d, after %d and 40 more", after, before)
		}
	}
}

// What a proof file carries is what the other library computes from the tiles.
func TestProofFileHasThePath(t *testing.T) {
	h := newHub(t)
	h.grow(entriesMin)
	ctx := t.Context()
	cp := h.checkpoint()
	b, err := client.GetEntryBundle(ctx, h.log.ReadEntryBundle, 0, cp.Size)
	if err != nil {
		t.Fatal(err)
	}
	e, err := record.DecodeLeaf(42, b.Entries[42])
	if err != nil {
		t.Fatal(err)
	}
	made, err := h.n.Prove(e.Record.RID().String())
	if err != nil {
		t.Fatal(err)
	}
	p, err := record.DecodeProof(made.File)
	if err != nil || p.Size != cp.Size {
		t.Fatalf("proof in size %d, %v; want %d", p.Size, err, cp.Size)
	}
	builder, err := client.NewProofBuilder(ctx, cp.Size, h.log.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	want, err := builder.InclusionProof(ctx, 42)
	if err != nil || len(want) != len(p.Hashes) {
		t.Fatalf("got %d hashes in the file, want %d, %v", len(p.Hashes), len(want), err)
	}
	for i := range want {
		if !bytes.Equal(want[i], p.Hashes[i][:]) {
			t.Errorf("hash %d of the path differs", i)
		}
	}
	if got := binary.BigEndian.Uint32(p.Cosignatures[0].Sig[:]); got == 0 {
		t.Error("no cosignature in the file")
	}
}

// The log answers what C2SP tlog-tiles says, and nothing is listed.
func TestHeaders(t *testing.T) {
	h := newHub(t)
	h.grow(entriesMin)
	for path, want := range map[string]string{"/checkpoint": "text/plain; charset=utf-8", "/tile/0/000": "application/octet-stream", "/tile/entries/000": "application/octet-stream"} {
		resp, err := http.Get(h.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		immutable := strings.Contains(resp.Header.Get("Cache-Control"), "immutable")
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != want || immutable != (path != "/checkpoint") {
			t.Errorf("%s: %s, %s, %q", path, resp.Status, resp.Header.Get("Content-Type"), resp.Header.Get("Cache-Control"))
		}
	}
	for _, path := range []string{"/", "/tile/", "/tile/0/", "/status"} {
		resp, err := http.Get(h.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
