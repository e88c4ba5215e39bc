package record_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/healthpost/healthpost/record"
)

var update = flag.Bool("update", false, "write the published vectors anew")

const vectorsFile = "../test/vectors/record.json"

// hexBytes is bytes that JSON shows in hexadecimal.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(s []byte) error {
	b, err := hex.DecodeString(string(s))
	*h = b
	return err
}

// vectors is the file's layout; test/vectors/README.md explains it.
type vectors struct {
	Records     []recordVector     `json:"records"`
	Refused     []refusedVector    `json:"refused_cores"`
	Runs        []runVector        `json:"runs"`
	Ordering    []orderVector      `json:"ordering"`
	Segments    []segmentVector    `json:"segments"`
	Tree        treeVector         `json:"tree"`
	Checkpoints []checkpointVector `json:"checkpoints"`
}

type recordVector struct {
	Name       string     `json:"name"`
	DeviceSeed hexBytes   `json:"device_seed"`
	Device     hexBytes   `json:"device"`
	Core       coreVector `json:"core"`
	Body       hexBytes   `json:"body"`
	CoreBytes  hexBytes   `json:"core_bytes"`
	RID        hexBytes   `json:"rid"`
	Signature  hexBytes   `json:"signature"`
	Header     hexBytes   `json:"header"`
	Leaf       leafVector `json:"leaf"`
}

type coreVector struct {
	Epoch       hexBytes          `json:"epoch"`
	Lane        uint8             `json:"lane"`
	N           uint64            `json:"n"`
	Prev        hexBytes          `json:"prev"`
	HLC         uint64            `json:"hlc,string"`
	Clock       uint8             `json:"clock"`
	Kind        uint16            `json:"kind"`
	Session     uint64            `json:"session"`
	Size        uint64            `json:"size"`
	Compartment hexBytes          `json:"compartment"`
	BodyLen     uint32            `json:"body_len"`
	BodyHash    hexBytes          `json:"body_hash"`
	Ext         map[string]string `json:"ext,omitempty"`
}

type leafVector struct {
	Time    int64    `json:"time"`
	PrevSeq uint64   `json:"prev_seq"`
	Bytes   hexBytes `json:"bytes"`
	Hash    hexBytes `json:"hash"`
}

type refusedVector struct {
	Why       string   `json:"why"`
	CoreBytes hexBytes `json:"core_bytes"`
}

type runVector struct {
	Records []string `json:"records"`
	Bodies  bool     `json:"bodies"`
	Prev    hexBytes `json:"prev"`
	Bytes   hexBytes `json:"bytes"`
}

type orderVector struct {
	LeaderMillis int64           `json:"leader_millis"`
	Batch        hexBytes        `json:"batch"`
	Outcomes     []outcomeVector `json:"outcomes"`
	Size         uint64          `json:"size"`
	Root         hexBytes        `json:"root"`
	LastTime     int64           `json:"last_time"`
}

type outcomeVector struct {
	RID     hexBytes `json:"rid"`
	Verdict string   `json:"verdict"`
	Seq     uint64   `json:"seq"`
	Want    uint64   `json:"want"`
}

type segmentVector struct {
	Start uint64   `json:"start"`
	Count uint64   `json:"count"`
	Known []uint64 `json:"known"`
	Bytes hexBytes `json:"bytes"`
}

type treeVector struct {
	LeafHashes  []hexBytes          `json:"leaf_hashes"`
	Roots       []hexBytes          `json:"roots"`
	Inclusion   []inclusionVector   `json:"inclusion"`
	Consistency []consistencyVector `json:"consistency"`
}

type inclusionVector struct {
	Size  uint64     `json:"size"`
	Seq   uint64     `json:"seq"`
	Proof []hexBytes `json:"proof"`
}

type consistencyVector struct {
	Old   uint64     `json:"old"`
	New   uint64     `json:"new"`
	Proof []hexBytes `json:"proof"`
}

type checkpointVector struct {
	Region   hexBytes   `json:"region"`
	Hubs     []hexBytes `json:"hubs"`
	HubSeeds []hexBytes `json:"hub_seeds"`
	Size     uint64     `json:"size"`
	Root     hexBytes   `json:"root"`
	Seconds  int64      `json:"seconds"`
	Signers  int        `json:"signers"`
	Final    bool       `json:"final"`
	Note     string     `json:"note"`
}

func vectorOf(name string, key ed25519.PrivateKey, r record.Record, at int64, prevSeq uint64) recordVector {
	e := record.Entry{Time: at, PrevSeq: prevSeq, Record: r}
	leaf := e.EncodeLeaf()
	hash, rid := record.LeafHash(leaf), r.RID()
	c := r.Core
	v := recordVector{Name: name, DeviceSeed: hexBytes(key.Seed()), Device: hexBytes(key.Public().(ed25519.PublicKey)), Body: r.Body, CoreBytes: r.CoreBytes(),
		RID: rid[:], Signature: r.Sig[:], Header: r.EncodeHeader(), Leaf: leafVector{at, prevSeq, leaf, hash[:]}}
	v.Core = coreVector{Lane: uint8(c.Lane), N: c.N, HLC: c.HLC, Clock: c.Clock, Kind: uint16(c.Kind), Session: c.Session, Size: c.Size, BodyLen: c.BodyLen, BodyHash: c.BodyHash[:]}
	if c.Kind != record.KindEpochOpen {
		v.Core.Epoch, v.Core.Prev = c.Epoch[:], c.Prev[:]
	}
	if !c.Compartment.IsZero() {
		v.Core.Compartment = c.Compartment[:]
	}
	for k, b := range c.Ext {
		if v.Core.Ext == nil {
			v.Core.Ext = map[string]string{}
		}
		v.Core.Ext[fmt.Sprint(k)] = hex.EncodeToString(b)
	}
	return v
}

func hexAll(hs []record.Hash) []hexBytes {
	out := []hexBytes{}
	for _, h := range hs {
		out = append(out, hexBytes(h[:]))
	}
	return out
}

// makeVectors runs the same small region every time.
func makeVectors(t *testing.T) vectors {
	t.Helper()
	var v vectors
	g := &region{ledger: newLedger()}
	hub, second, clinic := newBox("hub one"), newBox("hub two"), newBox("clinic one")
	named := map[string]record.Record{}
	add := func(name string, b *box, r record.Record) record.Record {
		named[name] = r
		v.Records = append(v.Records, vectorOf(name, b.key, r, startMillis/1000, 0))
		return r
	}
	order := func(millis int64, records ...record.Record) {
		item := record.Batch{LeaderMillis: millis, Records: records}
		o := orderVector{LeaderMillis: millis, Batch: item.Encode()}
		for _, out := range g.order(t, millis, records...) {
			o.Outcomes = append(o.Outcomes, outcomeVector{hexBytes(out.RID[:]), out.Verdict.String(), out.Seq, out.Want})
		}
		h := g.head()
		o.Size, o.Root, o.LastTime = h.Size, h.Root[:], g.LastTime()
		v.Ordering = append(v.Ordering, o)
	}

	hubOpening, founding := add("hub opens", hub, hub.open()), add("hub founds", hub, hub.found("Vector region"))
	g.id = record.RegionID(founding.RID())
	order(startMillis, hubOpening, founding)
	admitHub, admitClinic := add("hub admits a hub", hub, hub.add(second, record.RoleHub)), add("hub admits a clinic", hub, hub.add(clinic, record.RoleClinic))
	order(startMillis+1000, admitHub, admitClinic, second.open())
	clinic.size = g.Size()
	opening := add("clinic opens", clinic, clinic.open())
	session := add("session", clinic, clinic.session(staffKey("nurse")))
	core := clinic.next(record.LaneClinical, record.KindClinical, compartment("a"))
	core.Session = 1
	visit := add("visit", clinic, clinic.sign(core, []byte("a sealed body is noise to this package")))
	clinic.heads[record.LaneClinical] = record.Head{N: 1, RID: visit.RID()}
	next := add("next visit of another patient", clinic, clinic.visit("b", "two"))
	third := add("third visit, first patient", clinic, clinic.visit("a", "three"))
	core = clinic.next(record.LaneBulk, record.KindAccess, record.CompartmentID{})
	core.Ext = map[uint64][]byte{2: []byte("ignorable"), 24: {}}
	extended := add("with extensions", clinic, clinic.sign(core, []byte("body")))
	clinic.heads[record.LaneBulk] = record.Head{N: 1, RID: extended.RID()}
	order(startMillis+2500, opening, session, visit, third, next, third, visit)
	was := *clinic
	was.heads[record.LaneClinical] = record.Head{N: 2, RID: next.RID()}
	stranger := newBox("stranger")
	order(startMillis-5000, was.visit("a", "another third"), signedBy(extended, hub), extended.WithBody([]byte("bodY")), stranger.open(), extended, clinic.add(stranger, record.RoleClinic))
	late := clinic.visit("a", "before it knew")
	clinic.size = g.Size() + 1
	order(startMillis+400*24*3600*1000, hub.revoke(clinic), late, clinic.open())
	g.Check(t)

	v.Refused = refusedCores(t)
	clinicRun := []record.Record{visit, next, third}
	bare := slices.Clone(clinicRun)
	for i := range bare {
		bare[i] = bare[i].WithBody(nil)
	}
	openedRID := opening.RID()
	v.Runs = []runVector{
		{[]string{"clinic opens"}, true, nil, record.AppendRun(nil, []record.Record{opening})},
		{[]string{"session"}, true, openedRID[:], record.AppendRun(nil, []record.Record{session})},
		{[]string{"visit", "next visit of another patient", "third visit, first patient"}, true, openedRID[:], record.AppendRun(nil, clinicRun)},
		{[]string{"visit", "next visit of another patient", "third visit, first patient"}, false, openedRID[:], record.AppendRun(nil, bare)},
		{[]string{"with extensions"}, true, openedRID[:], record.AppendRun(nil, []record.Record{extended})},
	}
	for _, s := range []segmentVector{{Start: 0, Count: g.Size()}, {Start: 5, Count: g.Size() - 5, Known: []uint64{5, 6, 7}}, {Start: 5, Count: g.Size() - 5, Known: []uint64{6, 8, 9}}} {
		s.Bytes = record.AppendSegment(nil, g.entries[s.Start:s.Start+s.Count], func(p record.Position) bool {
			seq, _, _, _ := g.Ordered(p)
			return slices.Contains(s.Known, seq)
		})
		v.Segments = append(v.Segments, s)
	}
	v.Tree = makeTreeVector(t, g.ledger)
	v.Checkpoints = makeCheckpointVectors(t, g, []*box{hub, second, newBox("hub three")})
	return v
}

func refusedCores(t *testing.T) []refusedVector {
	good := corePart{"v": "01", "epoch": hexRun("50", 0xe1, 16), "lane": "01", "n": "07", "prev": hexRun("5820", 0xaa, 32), "hlc": "1b019bbf0000000000",
		"clock": "03", "kind": "1820", "session": "02", "size": "1864", "compartment": hexRun("50", 0xcc, 16), "bodyLen": "190100", "bodyHash": hexRun("5820", 0xbb, 32)}
	var out []refusedVector
	for _, c := range []struct{ why, field, hex string }{
		{"version 2", "v", "02"}, {"n 0 outside an opening record", "n", "00"}, {"lane 4", "lane", "04"}, {"n in a longer integer", "n", "1807"},
		{"null for the compartment", "compartment", "f6"}, {"compartment of zeros", "compartment", hexRun("50", 0, 16)}, {"clock trust 5", "clock", "05"},
		{"body past 192 KiB", "bodyLen", "1a00030001"}, {"epoch of 15 bytes", "epoch", hexRun("4f", 0xe1, 15)}, {"kind 0", "kind", "00"},
		{"empty extensions", "ext", "a0"}, {"extension keys out of order", "ext", "a2 02 40 01 40"}, {"an extension key twice", "ext", "a2 01 40 01 41ff"},
		{"a float", "size", "f95640"}, {"a tag", "n", "c107"}, {"an open byte string", "epoch", "5f" + hexRun("50", 0xe1, 16) + "ff"},
	} {
		out = append(out, refusedVector{c.why, good.bytes(t, corePart{c.field: c.hex})})
	}
	return append(out, refusedVector{"a byte after the core", append(good.bytes(t, nil), 0)})
}

func makeTreeVector(t *testing.T, l *ledger) treeVector {
	var v treeVector
	var r record.Range
	var s storedTree
	root := r.Root()
	v.Roots = append(v.Roots, hexBytes(root[:]))
	for i := range l.entries {
		leaf := l.entries[i].EncodeLeaf()
		hash := record.LeafHash(leaf)
		r.Append(hash)
		root := r.Root()
		v.LeafHashes, v.Roots = append(v.LeafHashes, hexBytes(hash[:])), append(v.Roots, hexBytes(root[:]))
		s = s.append(t, leaf)
	}
	n := int64(len(l.entries))
	for seq := range n {
		v.Inclusion = append(v.Inclusion, inclusionVector{uint64(n), uint64(seq), hexAll(s.inclusion(t, n, seq))})
	}
	for old := int64(1); old < n; old++ {
		v.Consistency = append(v.Consistency, consistencyVector{uint64(old), uint64(n), hexAll(s.consistency(t, old, n))})
	}
	return v
}

func makeCheckpointVectors(t *testing.T, g *region, hubs []*box) []checkpointVector {
	var out []checkpointVector
	var hubIDs []record.DeviceID
	v := checkpointVector{Region: g.id[:], Size: g.Size(), Seconds: startMillis / 1000}
	root := g.head().Root
	v.Root = root[:]
	for _, h := range hubs {
		hubIDs = append(hubIDs, h.id)
		v.Hubs, v.HubSeeds = append(v.Hubs, hexBytes(h.id[:])), append(v.HubSeeds, hexBytes(h.key.Seed()))
	}
	var msg []byte
	for i, h := range hubs {
		n, err := record.Cosign(g.id.Ledger(1), g.head(), h.key, v.Seconds)
		if err == nil && i > 0 {
			n, err = record.MergeCosignatures(g.id.Ledger(1), msg, n, hubIDs)
		}
		if err != nil {
			t.Fatal(err)
		}
		msg = n
		v.Note, v.Signers, v.Final = string(msg), i+1, i > 0
		out = append(out, v)
	}
	return out
}

func TestVectors(t *testing.T) {
	got, err := json.MarshalIndent(makeVectors(t), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(vectorsFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the code makes other vectors than the published ones; a released layout never changes, otherwise -update writes them:\n%s",
			cmp.Diff(string(want), string(got)))
	}
}

// The published bytes alone are read and verified, as another program would.
func TestVectorsAreRead(t *testing.T) {
	file, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(file, &v); err != nil {
		t.Fatal(err)
	}
	named := map[string]record.Record{}
	for _, want := range v.Records {
		r, err := record.DecodeHeader(want.Header)
		if err != nil {
			t.Fatalf("%s: %v", want.Name, err)
		}
		r = r.WithBody(want.Body)
		if r.VerifySignature(record.DeviceID(want.Device)) != nil || r.VerifyBody() != nil {
			t.Errorf("%s does not verify", want.Name)
		}
		got := vectorOf(want.Name, ed25519.NewKeyFromSeed(want.DeviceSeed), r, want.Leaf.Time, want.Leaf.PrevSeq)
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got):\n%s", want.Name, d)
		}
		named[want.Name] = r
	}
	for _, c := range v.Refused {
		if _, err := record.DecodeCore(c.CoreBytes); err == nil {
			t.Errorf("%s: accepted", c.Why)
		}
	}
	for i, run := range v.Runs {
		got, err := record.ReadRun(run.Bytes, func(record.Position) (record.RID, bool) { return record.RID(run.Prev), true })
		if err != nil || len(got) != len(run.Records) {
			t.Fatalf("run %d: got %d records, %v", i, len(got), err)
		}
		for j, name := range run.Records {
			if want := named[name]; got[j].RID() != want.RID() || (got[j].Body != nil) != run.Bodies {
				t.Errorf("run %d: record %d is not %q", i, j, name)
			}
		}
	}
	l := newLedger()
	for i, o := range v.Ordering {
		b, err := record.DecodeBatch(o.Batch)
		if err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
		for j, out := range l.order(t, b.LeaderMillis, b.Records...) {
			if want := o.Outcomes[j]; out.Verdict.String() != want.Verdict || out.Seq != want.Seq || out.Want != want.Want || out.RID != record.RID(want.RID) {
				t.Errorf("batch %d, record %d: got %+v, want %+v", i, j, out, want)
			}
		}
		if h := l.head(); h.Size != o.Size || h.Root != record.Hash(o.Root) || l.LastTime() != o.LastTime {
			t.Errorf("batch %d: got head %v at %d", i, h, l.LastTime())
		}
	}
	verifyReadVectors(t, v, l)
}

func verifyReadVectors(t *testing.T, v vectors, l *ledger) {
	for i, s := range v.Segments {
		rx := replica{l.prefix(t, s.Start), map[record.Position]record.Record{}}
		for _, seq := range s.Known {
			rx.pending[l.entries[seq].Record.Position()] = l.entries[seq].Record
		}
		start, got, err := record.ReadSegment(s.Bytes, rx)
		if err != nil || start != s.Start || uint64(len(got)) != s.Count {
			t.Fatalf("segment %d: got %d entries from %d, %v", i, len(got), start, err)
		}
		for _, e := range got {
			if want := l.entries[e.Seq]; e.Time != want.Time || e.Record.RID() != want.Record.RID() {
				t.Errorf("segment %d: entry %d differs", i, e.Seq)
			}
		}
	}
	head := func(size uint64) record.TreeHead {
		return record.TreeHead{Size: size, Root: record.Hash(v.Tree.Roots[size])}
	}
	proof := func(p []hexBytes) (out []record.Hash) {
		for _, h := range p {
			out = append(out, record.Hash(h))
		}
		return out
	}
	for _, p := range v.Tree.Inclusion {
		if err := record.VerifyInclusion(head(p.Size), p.Seq, record.Hash(v.Tree.LeafHashes[p.Seq]), proof(p.Proof)); err != nil {
			t.Error(err)
		}
	}
	for _, p := range v.Tree.Consistency {
		if err := record.VerifyConsistency(head(p.Old), head(p.New), proof(p.Proof)); err != nil {
			t.Error(err)
		}
	}
	for i, c := range v.Checkpoints {
		var hubs []record.DeviceID
		for _, h := range c.Hubs {
			hubs = append(hubs, record.DeviceID(h))
		}
		got, err := record.VerifyFinal(record.RegionID(c.Region).Ledger(1), []byte(c.Note), hubs)
		if (err == nil) != c.Final || len(got.Signers) != c.Signers || got.Head != l.head() || got.Head.Root != record.Hash(c.Root) {
			t.Errorf("checkpoint %d: got %d signers of %v, %v", i, len(got.Signers), got.Head, err)
		}
	}
}
