package record_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/bits"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

const proofSeconds = startMillis/1000 + 60

// proven is a region's ledger with what is needed to prove its entries.
type proven struct {
	*region
	tree storedTree
}

func newProven(t testing.TB) *proven {
	t.Helper()
	g := &proven{region: newRegion(t)}
	c := g.clinics[0]
	g.mustOrder(t, c.session(staffKey("nurse")), c.visit("a", "one"), c.visit("b", "two"), c.visit("a", "three"), g.clinics[1].visit("a", "four"))
	for i := range g.entries {
		g.tree = g.tree.append(t, g.entries[i].EncodeLeaf())
	}
	return g
}

// checkpoint is a note of the whole ledger by some of the hubs.
func (g *proven) checkpoint(t testing.TB, by ...*box) []byte {
	t.Helper()
	var out []byte
	for _, b := range by {
		n, err := record.Cosign(g.id.Ledger(1), g.head(), b.key, proofSeconds)
		if err == nil && out != nil {
			n, err = record.MergeCosignatures(g.id.Ledger(1), out, n, g.hubIDs())
		}
		if err != nil {
			t.Fatal(err)
		}
		out = n
	}
	return out
}

func (g *proven) author(e *record.Entry) record.DeviceID {
	return g.epochs[e.Record.Position().Epoch].Device
}

func (g *proven) prove(t testing.TB, seq uint64) record.Proof {
	t.Helper()
	e := &g.entries[seq]
	p, err := record.NewProof(g.id.Ledger(1), g.author(e), e, g.tree.inclusion(t, int64(g.Size()), int64(seq)), g.checkpoint(t, g.hubs[:]...), g.hubIDs())
	if err != nil {
		t.Fatalf("proving entry %d: %v", seq, err)
	}
	return p
}

// hold is whether a file proves anything to who has these keys.
func hold(b []byte, region record.RegionID, hubs []record.DeviceID) error {
	p, err := record.DecodeProof(b)
	if err != nil {
		return err
	}
	_, _, err = p.Verify(region.Ledger(1), hubs)
	return err
}

func TestProofHolds(t *testing.T) {
	g := newProven(t)
	for seq := range g.Size() {
		want := g.entries[seq]
		made := g.prove(t, seq)
		file := record.EncodeProof(&made)
		p, err := record.DecodeProof(file)
		if err != nil || !bytes.Equal(record.EncodeProof(&p), file) {
			t.Fatalf("entry %d: %v, or other bytes back", seq, err)
		}
		e, cp, err := p.Verify(g.id.Ledger(1), g.hubIDs())
		if err != nil {
			t.Fatalf("entry %d: %v", seq, err)
		}
		if e.Record.RID() != want.Record.RID() || e.Seq != seq || e.Time != want.Time || e.PrevSeq != want.PrevSeq || p.Device != g.author(&want) {
			t.Errorf("entry %d: got %+v", seq, e)
		}
		if cp.Head != g.head() || len(cp.Signers) != 2 || cp.Time != proofSeconds {
			t.Errorf("entry %d: got %d signers of %v at %d, want the fewest that are a majority", seq, len(cp.Signers), cp.Head, cp.Time)
		}
		// The checkpoint it stands for is a C2SP note like any other.
		if again, err := record.VerifyFinal(g.id.Ledger(1), cp.Note, g.hubIDs()); err != nil || again.Head != g.head() {
			t.Errorf("entry %d: its checkpoint: %v", seq, err)
		}
	}
}

func TestNewProofRefuses(t *testing.T) {
	g := newProven(t)
	e := &g.entries[10]
	path := g.tree.inclusion(t, int64(g.Size()), 10)
	all := g.checkpoint(t, g.hubs[:]...)
	moved := *e
	moved.Seq = 9
	for name, make := range map[string]func() (record.Proof, error){
		"one hub of three": func() (record.Proof, error) {
			return record.NewProof(g.id.Ledger(1), g.author(e), e, path, g.checkpoint(t, g.hubs[0]), g.hubIDs())
		},
		"another author": func() (record.Proof, error) {
			return record.NewProof(g.id.Ledger(1), g.hubs[0].id, e, path, all, g.hubIDs())
		},
		"another place": func() (record.Proof, error) {
			return record.NewProof(g.id.Ledger(1), g.author(e), &moved, path, all, g.hubIDs())
		},
		"a short path": func() (record.Proof, error) {
			return record.NewProof(g.id.Ledger(1), g.author(e), e, path[1:], all, g.hubIDs())
		},
		"other hubs": func() (record.Proof, error) {
			return record.NewProof(g.id.Ledger(1), g.author(e), e, path, all, ids([]*box{newBox("x")}))
		},
		"another region": func() (record.Proof, error) {
			return record.NewProof(regionID.Ledger(1), g.author(e), e, path, all, g.hubIDs())
		},
	} {
		if _, err := make(); err == nil {
			t.Errorf("%s: a proof was made", name)
		}
	}
}

// The path climbs as that of package tlog, for every entry of every small tree.
func TestProofPathLikeTlog(t *testing.T) {
	g := newProven(t)
	const sizeMax = 70
	leaf := g.entries[10].EncodeLeaf()
	for size := int64(1); size <= sizeMax; size++ {
		for seq := range size {
			var s storedTree
			for i := range size {
				if i == seq {
					s = s.append(t, leaf)
				} else {
					s = s.append(t, leafNumber(i))
				}
			}
			head := s.head(t, size)
			p := record.Proof{Seq: uint64(seq), Size: uint64(size), Device: g.author(&g.entries[10]), Leaf: leaf, Hashes: s.inclusion(t, size, seq)}
			p.Cosignatures = []record.Cosignature{cosignature(t, g.id, head, g.hubs[0])}
			if _, cp, err := p.Verify(g.id.Ledger(1), g.hubIDs()[:1]); err != nil || cp.Head != head {
				t.Fatalf("entry %d of %d: got %v, %v", seq, size, cp.Head, err)
			}
			if _, err := p.Bare().VerifyAt(head); err != nil {
				t.Fatalf("entry %d of %d, by its root: %v", seq, size, err)
			}
		}
	}
}

// cosignature is one hub's, taken from the blob of its note.
func cosignature(t testing.TB, region record.RegionID, h record.TreeHead, by *box) record.Cosignature {
	t.Helper()
	msg, err := record.Cosign(region.Ledger(1), h, by.key, proofSeconds)
	if err != nil {
		t.Fatal(err)
	}
	raw := noteBlob(t, msg)
	return record.Cosignature{KeyID: binary.BigEndian.Uint32(raw), Seconds: binary.BigEndian.Uint64(raw[4:]), Sig: [64]byte(raw[12:])}
}

// A tree of ten million entries is made up: random siblings, and the root that
// package tlog finds for them.
func TestProofSize(t *testing.T) {
	rng := newRand(testSeed(t))
	c := newBox("clinic one")
	c.open()
	core := c.next(record.LaneBulk, 0xffff, compartment("a"))
	core.N, core.Session, core.Size, core.HLC, core.Clock = 65535, 65535, 1<<32-1, 1<<64-1, 4
	hubs := []*box{newBox("hub one"), newBox("hub two"), newBox("hub three")}
	const size, seq = 10_000_000, 4_194_303 // the deepest place of this tree
	e := record.Entry{Seq: seq, Time: startMillis / 1000, PrevSeq: size, Record: c.sign(core, make([]byte, 65535))}
	path := make([]record.Hash, bits.Len(size-1))
	for i := range path {
		path[i] = record.Hash(randomBytes(rng, 32))
	}
	h := tlog.RecordHash(e.EncodeLeaf())
	for level, sibling := range path {
		if seq>>level&1 == 0 {
			h = tlog.NodeHash(h, tlog.Hash(sibling))
		} else {
			h = tlog.NodeHash(tlog.Hash(sibling), h)
		}
	}
	head := record.TreeHead{Size: size, Root: record.Hash(h)}
	if err := record.VerifyInclusion(head, seq, record.LeafHash(e.EncodeLeaf()), path); err != nil {
		t.Fatal(err)
	}
	p, err := record.NewProof(regionID.Ledger(1), c.id, &e, path, cosigned(t, head, hubs...), ids(hubs))
	if err != nil {
		t.Fatal(err)
	}
	file := record.EncodeProof(&p)
	t.Logf("%d bytes: leaf %d, path of %d hashes, %d cosignatures", len(file), len(p.Leaf), len(p.Hashes), len(p.Cosignatures))
	if len(file) > 1200 || len(p.Cosignatures) != 2 || len(p.Hashes) != 24 {
		t.Errorf("got %d bytes, want at most 1,200 with 24 hashes and 2 cosignatures", len(file))
	}
	if err := hold(file, regionID, ids(hubs)); err != nil {
		t.Error(err)
	}
}

// refuses wants each of the proofs of entry 10, spoiled, not to hold.
func (g *proven) refuses(t *testing.T, spoiled map[string]func(p *record.Proof)) {
	t.Helper()
	for name, spoil := range spoiled {
		p := g.prove(t, 10)
		spoil(&p)
		if _, _, err := p.Verify(g.id.Ledger(1), g.hubIDs()); !errors.Is(err, record.ErrNotProven) && !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := hold(record.EncodeProof(&p), g.id, g.hubIDs()); err == nil {
			t.Errorf("%s: the file holds", name)
		}
	}
}

func TestProofRefused(t *testing.T) {
	g := newProven(t)
	const seq = 10
	g.refuses(t, map[string]func(p *record.Proof){
		"a hash changed":         func(p *record.Proof) { p.Hashes[1][7] ^= 1 },
		"two siblings swapped":   func(p *record.Proof) { p.Hashes[0], p.Hashes[1] = p.Hashes[1], p.Hashes[0] },
		"a sibling missing":      func(p *record.Proof) { p.Hashes = p.Hashes[1:] },
		"a sibling too many":     func(p *record.Proof) { p.Hashes = append(p.Hashes, record.Hash{}) },
		"the path the other way": func(p *record.Proof) { slices.Reverse(p.Hashes) },
		"the place before":       func(p *record.Proof) { p.Seq-- },
		"the place after":        func(p *record.Proof) { p.Seq++ },
		"a place past the end":   func(p *record.Proof) { p.Seq = p.Size },
		"a tree one smaller":     func(p *record.Proof) { p.Size-- },
		"a tree one larger":      func(p *record.Proof) { p.Size++ },
		"no tree":                func(p *record.Proof) { p.Size = 0 },
		"a tree past 2^62":       func(p *record.Proof) { p.Size = 1<<62 + 1 },
		"another entry":          func(p *record.Proof) { p.Leaf = g.entries[seq+1].EncodeLeaf() },
		"another time":           func(p *record.Proof) { e := g.entries[seq]; e.Time++; p.Leaf = e.EncodeLeaf() },
		"a record of nobody":     func(p *record.Proof) { p.Leaf[len(p.Leaf)-1] ^= 1 },
		"no leaf":                func(p *record.Proof) { p.Leaf = nil },
		"a leaf too long":        func(p *record.Proof) { p.Leaf = make([]byte, 700) },
		"another author":         func(p *record.Proof) { p.Device = g.hubs[0].id },
		"an author of zeros":     func(p *record.Proof) { p.Device = record.DeviceID{} },
	})
}

func TestProofCosignaturesRefused(t *testing.T) {
	g := newProven(t)
	g.refuses(t, map[string]func(p *record.Proof){
		"one hub of three":            func(p *record.Proof) { p.Cosignatures = p.Cosignatures[:1] },
		"no hub":                      func(p *record.Proof) { p.Cosignatures = nil },
		"one hub twice":               func(p *record.Proof) { p.Cosignatures[1] = p.Cosignatures[0] },
		"cosignatures out of order":   func(p *record.Proof) { slices.Reverse(p.Cosignatures) },
		"cosignatures under one key":  func(p *record.Proof) { p.Cosignatures[1].KeyID = p.Cosignatures[0].KeyID },
		"a cosignature's key changed": func(p *record.Proof) { p.Cosignatures[1].KeyID++ },
		"a cosignature's time":        func(p *record.Proof) { p.Cosignatures[0].Seconds++ },
		"a cosignature changed":       func(p *record.Proof) { p.Cosignatures[1].Sig[3] ^= 1 },
		"signatures exchanged": func(p *record.Proof) {
			p.Cosignatures[0].Sig, p.Cosignatures[1].Sig = p.Cosignatures[1].Sig, p.Cosignatures[0].Sig
		},
		"a stranger's cosignature": func(p *record.Proof) { p.Cosignatures[1] = cosignature(t, g.id, g.head(), newBox("stranger")) },
		"a spare one by a stranger": func(p *record.Proof) {
			p.Cosignatures = append(p.Cosignatures, cosignature(t, g.id, g.head(), newBox("stranger")))
			slices.SortFunc(p.Cosignatures, func(a, b record.Cosignature) int { return int(int64(a.KeyID) - int64(b.KeyID)) })
		},
		"of a hub over another tree":  func(p *record.Proof) { p.Cosignatures[0] = cosignature(t, g.id, someHead, g.hubs[0]) },
		"a hub in another region":     func(p *record.Proof) { p.Cosignatures[0] = cosignature(t, regionID, g.head(), g.hubs[0]) },
		"more cosignatures than read": func(p *record.Proof) { p.Cosignatures = make([]record.Cosignature, 65) },
	})
}

func TestProofKeysRefused(t *testing.T) {
	g := newProven(t)
	p := g.prove(t, 10)
	others := []record.DeviceID{newBox("x").id, newBox("y").id, newBox("z").id}
	for name, c := range map[string]struct {
		region record.RegionID
		hubs   []record.DeviceID
	}{
		"another region":           {regionID, g.hubIDs()},
		"other hubs":               {g.id, others},
		"no hub":                   {g.id, nil},
		"hubs of a larger region":  {g.id, append(g.hubIDs(), others[:1]...)},
		"two of the hubs replaced": {g.id, append(others[:2:2], g.hubIDs()[0])},
		"hubs listed twice":        {g.id, append(g.hubIDs(), g.hubIDs()...)},
	} {
		if _, _, err := p.Verify(c.region.Ledger(1), c.hubs); !errors.Is(err, record.ErrNotProven) {
			t.Errorf("%s: got %v, want ErrNotProven", name, err)
		}
	}
}

func TestProofFileRefused(t *testing.T) {
	g := newProven(t)
	p := g.prove(t, 10)
	file := record.EncodeProof(&p)
	longer := append(bytes.Clone(file[:8]), 0x80|file[8], 0)
	for name, b := range map[string][]byte{
		"another magic": append([]byte("HPPROOF"), file[7:]...), "version 0": append(append(bytes.Clone(file[:7]), 0), file[8:]...),
		"version 2": append(append(bytes.Clone(file[:7]), 2), file[8:]...), "a byte after it": append(bytes.Clone(file), 0),
		"twice": append(bytes.Clone(file), file...), "a number in a longer form": append(longer, file[9:]...),
		"more than 8 KiB": append(bytes.Clone(file), make([]byte, record.ProofBytesMax)...),
	} {
		if _, err := record.DecodeProof(b); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", name, err)
		}
	}
	for n := range file {
		if _, err := record.DecodeProof(file[:n]); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("cut after %d bytes: got %v, want ErrMalformed", n, err)
		}
	}
}

func TestFlippedProof(t *testing.T) {
	g := newProven(t)
	p := g.prove(t, 10)
	file := record.EncodeProof(&p)
	for i := range file {
		for bit := range 8 {
			x := bytes.Clone(file)
			x[i] ^= 1 << bit
			if hold(x, g.id, g.hubIDs()) == nil {
				t.Errorf("byte %d, bit %d: it holds", i, bit)
			}
		}
	}
}

// A thousand files, each with some random bytes changed, put in, taken out or
// moved: none holds.
func TestMutatedProofFile(t *testing.T) {
	rng := newRand(testSeed(t))
	g := newProven(t)
	for range 1000 {
		p := g.prove(t, rng.Uint64N(g.Size()))
		file := record.EncodeProof(&p)
		x := bytes.Clone(file)
		for range 1 + rng.IntN(4) {
			i := rng.IntN(len(x))
			switch j := rng.IntN(len(x)); rng.IntN(4) {
			case 0:
				x[i] = byte(rng.Uint32())
			case 1:
				x = slices.Insert(x, i, byte(rng.Uint32()))
			case 2:
				x = slices.Delete(x, i, i+1)
			case 3:
				x[i], x[j] = x[j], x[i]
			}
		}
		if !bytes.Equal(x, file) && hold(x, g.id, g.hubIDs()) == nil {
			t.Fatalf("%x holds, made from %x", x, file)
		}
	}
}

func FuzzDecodeProof(f *testing.F) {
	g := newProven(f)
	known := map[string]bool{}
	for seq := range g.Size() {
		p := g.prove(f, seq)
		file := record.EncodeProof(&p)
		known[string(file)] = true
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.DecodeProof(b) })
		p, err := record.DecodeProof(b)
		if err != nil {
			wantMalformed(t, err)
			return
		}
		if !bytes.Equal(record.EncodeProof(&p), b) {
			t.Errorf("got %x back", record.EncodeProof(&p))
		}
		if _, _, err := p.Verify(g.id.Ledger(1), g.hubIDs()); err == nil && !known[string(b)] {
			t.Errorf("a proof that nobody made holds: %x", b)
		}
	})
}

const proofVectorsFile = "../test/vectors/proof.json"

type proofVectors struct {
	Region hexBytes      `json:"region"`
	Hubs   []hexBytes    `json:"hubs"`
	Proofs []proofVector `json:"proofs"`
}

type proofVector struct {
	Why    string     `json:"why"`
	File   hexBytes   `json:"file"`
	Holds  bool       `json:"holds"`
	RID    hexBytes   `json:"rid,omitempty"`
	Seq    uint64     `json:"seq"`
	Time   int64      `json:"time,omitempty"`
	Device hexBytes   `json:"device,omitempty"`
	Size   uint64     `json:"size,omitempty"`
	Root   hexBytes   `json:"root,omitempty"`
	By     []hexBytes `json:"signers,omitempty"`
	Note   string     `json:"checkpoint,omitempty"`
}

func makeProofVectors(t *testing.T) proofVectors {
	g := newProven(t)
	v := proofVectors{Region: g.id[:]}
	for _, h := range g.hubIDs() {
		v.Hubs = append(v.Hubs, hexBytes(h[:]))
	}
	for seq := range g.Size() {
		p := g.prove(t, seq)
		e, cp, err := p.Verify(g.id.Ledger(1), g.hubIDs())
		if err != nil {
			t.Fatal(err)
		}
		rid := e.Record.RID()
		x := proofVector{Why: "an entry", File: record.EncodeProof(&p), Holds: true, RID: rid[:], Seq: seq, Time: e.Time, Device: p.Device[:],
			Size: cp.Head.Size, Root: cp.Head.Root[:], Note: string(cp.Note)}
		for _, s := range cp.Signers {
			x.By = append(x.By, hexBytes(s[:]))
		}
		v.Proofs = append(v.Proofs, x)
	}
	p := g.prove(t, 10)
	file := record.EncodeProof(&p)
	refused := func(why string, b []byte) { v.Proofs = append(v.Proofs, proofVector{Why: why, File: b, Seq: 10}) }
	refused("cut short", file[:len(file)-1])
	refused("a byte after it", append(bytes.Clone(file), 0))
	refused("version 2", append(append(bytes.Clone(file[:7]), 2), file[8:]...))
	one, spare := p, p
	one.Cosignatures = p.Cosignatures[:1]
	refused("one hub of three", record.EncodeProof(&one))
	spare.Cosignatures = append(slices.Clone(p.Cosignatures), cosignature(t, g.id, g.head(), newBox("stranger")))
	slices.SortFunc(spare.Cosignatures, func(a, b record.Cosignature) int { return int(int64(a.KeyID) - int64(b.KeyID)) })
	refused("two hubs of three and a stranger", record.EncodeProof(&spare))
	author := p
	author.Device = g.hubs[0].id
	refused("another author", record.EncodeProof(&author))
	return v
}

func TestProofVectors(t *testing.T) {
	got, err := json.MarshalIndent(makeProofVectors(t), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(proofVectorsFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(proofVectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the code makes other vectors than the published ones:\n%s", cmp.Diff(string(want), string(got)))
	}
	var v proofVectors
	if err := json.Unmarshal(want, &v); err != nil {
		t.Fatal(err)
	}
	var hubs []record.DeviceID
	for _, h := range v.Hubs {
		hubs = append(hubs, record.DeviceID(h))
	}
	for i, x := range v.Proofs {
		if err := hold(x.File, record.RegionID(v.Region), hubs); (err == nil) != x.Holds {
			t.Errorf("proof %d, %s: got %v", i, x.Why, err)
		}
	}
}

// noteBlob is what stands in base64 at the end of a note of one signature.
func noteBlob(t testing.TB, msg []byte) []byte {
	t.Helper()
	fields := bytes.Fields(msg)
	raw, err := base64.StdEncoding.DecodeString(string(fields[len(fields)-1]))
	if err != nil || len(raw) != 4+8+64 {
		t.Fatalf("reading the note's signature: %d bytes, %v", len(raw), err)
	}
	return raw
}

// A proof without cosignatures is worth what the printed head is worth.
func TestBareProof(t *testing.T) {
	g := newProven(t)
	for seq := range g.Size() {
		full := g.prove(t, seq)
		if full.Head() != g.head() {
			t.Errorf("entry %d: got head %v", seq, full.Head())
		}
		bare := full.Bare()
		if len(full.Cosignatures) != 2 {
			t.Fatal("the proof itself lost its cosignatures")
		}
		b := record.EncodeProof(&bare)
		p, err := record.DecodeProof(b)
		if err != nil || !bytes.Equal(record.EncodeProof(&p), b) {
			t.Fatalf("entry %d: %v, or other bytes back", seq, err)
		}
		if _, _, err := p.Verify(g.id.Ledger(1), g.hubIDs()); !errors.Is(err, record.ErrNotProven) || !errors.Is(err, record.ErrNotFinal) {
			t.Errorf("entry %d: verified without cosignatures: %v", seq, err)
		}
		for _, x := range []record.Proof{full, p} {
			e, err := x.VerifyAt(g.head())
			if err != nil || e.Record.RID() != g.entries[seq].Record.RID() || e.Seq != seq {
				t.Errorf("entry %d: got %+v, %v", seq, e, err)
			}
			for name, h := range map[string]record.TreeHead{"another root": {Size: g.Size()}, "a larger tree": {Size: g.Size() + 1, Root: g.head().Root}, "a smaller one": {Size: g.Size() - 1, Root: g.head().Root}, "nothing": {}} {
				if _, err := x.VerifyAt(h); !errors.Is(err, record.ErrNotProven) {
					t.Errorf("entry %d, %s: got %v", seq, name, err)
				}
			}
		}
	}
}

func TestBareProofRefused(t *testing.T) {
	g := newProven(t)
	for name, spoil := range map[string]func(p *record.Proof){
		"a hash changed":        func(p *record.Proof) { p.Hashes[1][7] ^= 1 },
		"a sibling missing":     func(p *record.Proof) { p.Hashes = p.Hashes[1:] },
		"siblings swapped":      func(p *record.Proof) { p.Hashes[0], p.Hashes[1] = p.Hashes[1], p.Hashes[0] },
		"the place before":      func(p *record.Proof) { p.Seq-- },
		"a tree one smaller":    func(p *record.Proof) { p.Size-- },
		"another entry":         func(p *record.Proof) { p.Leaf = g.entries[11].EncodeLeaf() },
		"another author":        func(p *record.Proof) { p.Device = g.hubs[0].id },
		"a record of nobody":    func(p *record.Proof) { p.Leaf[len(p.Leaf)-1] ^= 1 },
		"no tree":               func(p *record.Proof) { p.Size = 0 },
		"a tree past 2^62":      func(p *record.Proof) { p.Size = 1<<62 + 1 },
		"too many cosigners":    func(p *record.Proof) { p.Cosignatures = make([]record.Cosignature, 65) },
		"cosigners in disorder": func(p *record.Proof) { p.Cosignatures = make([]record.Cosignature, 2) },
	} {
		p := g.prove(t, 10).Bare()
		spoil(&p)
		if _, err := p.VerifyAt(g.head()); !errors.Is(err, record.ErrNotProven) && !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestProofMutated(t *testing.T) {
	rng := newRand(testSeed(t))
	g := newProven(t)
	full := g.prove(t, 10)
	bare := full.Bare()
	for range mutations {
		if x := mutate(rng, record.EncodeProof(&full)); hold(x, g.id, g.hubIDs()) == nil {
			t.Fatalf("%x holds", x)
		}
		x := mutate(rng, record.EncodeProof(&bare))
		p, err := record.DecodeProof(x)
		if err == nil {
			_, err = p.VerifyAt(g.head())
		}
		if !errors.Is(err, record.ErrMalformed) && !errors.Is(err, record.ErrNotProven) {
			t.Fatalf("%x: got %v", x, err)
		}
	}
}
