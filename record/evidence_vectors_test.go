package record_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/healthpost/healthpost/record"
)

const evidenceVectorsFile = "../test/vectors/evidence.json"

// evidenceVectors is the file's layout; test/vectors/README.md explains it.
type evidenceVectors struct {
	Region     hexBytes              `json:"region"`
	Hubs       []hexBytes            `json:"hubs"`
	HubSeeds   []hexBytes            `json:"hub_seeds"`
	Ordering   []registryOrderVector `json:"ordering"`
	ResetClaim hexBytes              `json:"reset_claim"`
	Receipts   []receiptVector       `json:"receipts"`
	Compact    []compactVector       `json:"compact"`
	Evidence   []evidenceVector      `json:"evidence"`
	BareProofs []bareProofVector     `json:"bare_proofs"`
}

type registryOrderVector struct {
	Why string `json:"why"`
	orderVector
	Registry map[string]hexBytes `json:"registry"`
}

type receiptVector struct {
	Why   string     `json:"why"`
	Bytes hexBytes   `json:"bytes"`
	Holds bool       `json:"holds"`
	Hub   hexBytes   `json:"hub,omitempty"`
	Taken int64      `json:"taken,omitempty"`
	By    int64      `json:"by,omitempty"`
	RIDs  []hexBytes `json:"rids,omitempty"`
}

type compactVector struct {
	Generation uint64   `json:"generation"`
	Note       string   `json:"note"`
	Bytes      hexBytes `json:"bytes"`
	Expanded   string   `json:"expanded"`
	Time       int64    `json:"time"`
}

type evidenceVector struct {
	Why      string     `json:"why"`
	Bytes    hexBytes   `json:"bytes"`
	Holds    bool       `json:"holds"`
	ID       hexBytes   `json:"id,omitempty"`
	Culprits []hexBytes `json:"culprits,omitempty"`
	Final    bool       `json:"final,omitempty"`
	Epoch    hexBytes   `json:"epoch,omitempty"`
	Lane     uint8      `json:"lane,omitempty"`
	N        uint64     `json:"n,omitempty"`
	Size     uint64     `json:"size,omitempty"`
	By       int64      `json:"by,omitempty"`
}

type bareProofVector struct {
	File hexBytes `json:"file"`
	Size uint64   `json:"size"`
	Root hexBytes `json:"root"`
	RID  hexBytes `json:"rid"`
}

func makeEvidenceVectors(t *testing.T) evidenceVectors {
	t.Helper()
	g := newForked(t)
	v := evidenceVectors{Region: g.id[:]}
	for _, h := range g.hubs {
		v.Hubs, v.HubSeeds = append(v.Hubs, hexBytes(h.id[:])), append(v.HubSeeds, hexBytes(h.key.Seed()))
	}
	v.addReceiptsAndNotes(t, g)
	v.addEvidence(t)
	v.addOrdering(t)
	p := g.prove(t, 11).Bare()
	rid, root := g.entries[11].Record.RID(), g.head().Root
	v.BareProofs = []bareProofVector{{record.EncodeProof(&p), g.Size(), root[:], rid[:]}}
	return v
}

func (v *evidenceVectors) addReceiptsAndNotes(t *testing.T, g *forked) {
	r := record.SignReceipt(g.id, proofSeconds, proofSeconds+86400, g.receiptHeads(g.clinics[:]...), g.hubs[1].key)
	x := receiptVector{Why: "both clinics", Bytes: r.Encode(), Holds: true, Hub: r.Hub[:], Taken: r.Taken, By: r.By}
	for i := range r.Heads {
		x.RIDs = append(x.RIDs, r.Heads[i].RID[:])
	}
	v.Receipts = append(v.Receipts, x)
	other := record.SignReceipt(regionID, r.Taken, r.By, r.Heads, g.hubs[1].key)
	v.Receipts = append(v.Receipts, receiptVector{Why: "another region", Bytes: other.Encode()})
	later := r
	later.By++
	v.Receipts = append(v.Receipts, receiptVector{Why: "another time", Bytes: later.Encode()})
	twice := r
	twice.Heads = append(slices.Clone(r.Heads), r.Heads[0])
	v.Receipts = append(v.Receipts, receiptVector{Why: "heads out of order", Bytes: twice.Encode()})
	v.Receipts = append(v.Receipts, receiptVector{Why: "a byte after it", Bytes: append(r.Encode(), 0)})

	for generation := range uint64(2) {
		l := g.id.Ledger(generation + 1)
		msg := []byte(record.CheckpointText(l, g.head()) + "\n")
		for i, h := range g.hubs {
			msg = append(msg, lineOf(noteBy(t, l, g.head(), proofSeconds+int64(i), h))...)
		}
		compact, err := record.CompactNote(l, msg, g.hubIDs())
		if err != nil {
			t.Fatal(err)
		}
		back, err := record.ExpandNote(l, compact, g.hubIDs())
		if err != nil {
			t.Fatal(err)
		}
		c, err := record.VerifyFinal(l, back, g.hubIDs())
		if err != nil {
			t.Fatal(err)
		}
		v.Compact = append(v.Compact, compactVector{generation + 1, string(msg), compact, string(back), c.Time})
	}
}

func (v *evidenceVectors) addEvidence(t *testing.T) {
	g, all := kindsOfEvidence(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		e := all[name]
		f, err := e.Verify(g.id, g.hubIDs())
		if err != nil {
			t.Fatal(err)
		}
		id := e.ID()
		x := evidenceVector{Why: name, Bytes: e.Encode(), Holds: true, ID: id[:], Final: f.Final, N: f.N, Lane: uint8(f.Feed.Lane), Size: f.Size, By: f.By}
		if f.Kind == record.EvidenceEquivocation {
			x.Epoch = f.Feed.Epoch[:]
		}
		for i := range f.Culprits {
			x.Culprits = append(x.Culprits, f.Culprits[i][:])
		}
		spoiled := e.Encode()
		spoiled[len(spoiled)-1] ^= 1
		v.Evidence = append(v.Evidence, x, evidenceVector{Why: name + ", its last bit changed", Bytes: spoiled},
			evidenceVector{Why: name + ", a byte after it", Bytes: append(e.Encode(), 0)})
	}
}

// addOrdering runs a region through votes, a frozen feed and a reset.
func (v *evidenceVectors) addOrdering(t *testing.T) {
	g := &region{ledger: newLedger(), hubs: [3]*box{newBox("hub one"), newBox("hub two"), newBox("hub three")}, clinics: [2]*box{newBox("clinic one"), newBox("clinic two")}}
	one, two, three, clinic := g.hubs[0], g.hubs[1], g.hubs[2], g.clinics[0]
	millis := int64(startMillis)
	order := func(why string, records ...record.Record) {
		item := record.Batch{LeaderMillis: millis, Records: records}
		o := registryOrderVector{Why: why, orderVector: orderVector{LeaderMillis: millis, Batch: item.Encode()}, Registry: map[string]hexBytes{}}
		for _, out := range g.order(t, millis, records...) {
			o.Outcomes = append(o.Outcomes, outcomeVector{hexBytes(out.RID[:]), out.Verdict.String(), out.Seq, out.Want})
		}
		h := g.head()
		o.Size, o.Root, o.LastTime = h.Size, h.Root[:], g.LastTime()
		for k, row := range g.registry {
			key, _ := hexBytes(k).MarshalText()
			o.Registry[string(key)] = row
		}
		v.Ordering, millis = append(v.Ordering, o), millis+1000
	}
	opening, founding := one.open(), one.found("Vector region")
	g.id = record.RegionID(founding.RID())
	order("founded", opening, founding)
	order("the only hub admits a second, and a clinic", one.add(two, record.RoleHub), one.add(clinic, record.RoleClinic), two.open(), clinic.open())
	order("one of two votes for a third", one.add(three, record.RoleHub))
	order("the second does too", two.add(three, record.RoleHub), three.open())
	order("two of three want each other out", one.revoke(two), two.revoke(one))
	order("recovery keys, two of three people", one.recovery(2, people...), three.recovery(2, people...))
	known, a, b := g.branches(clinic)
	e, err := record.NewEquivocation(known, a, b)
	if err != nil {
		t.Fatal(err)
	}
	attest := record.Attest{Size: g.Size(), Root: make([]byte, 32)}
	order("an attestation, and two records for one place", two.write(2, record.KindAttest, record.CompartmentID{}, mustMarshal(attest)), a, b)
	order("evidence freezes the feed", two.write(0, record.KindEvidence, record.CompartmentID{}, e.Encode()), clinic.visit("a", "next"), clinic.session(staffKey("nurse")))
	reset := g.resetBody(t, []*box{two, clinic}, 0, 2)
	v.ResetClaim = record.ResetClaim(g.id, reset.Generation, reset.Size, record.Hash(reset.Root), reset.Members)
	early := g.signReset(reset, 0)
	was := *clinic
	order("a reset by one person", clinic.reset(early))
	*clinic = was
	order("a reset by two people", clinic.reset(reset), one.add(newBox("x"), record.RoleClinic))
	g.Check(t)
}

func TestEvidenceVectors(t *testing.T) {
	got, err := json.MarshalIndent(makeEvidenceVectors(t), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(evidenceVectorsFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(evidenceVectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the code makes other vectors than the published ones:\n%s", cmp.Diff(string(want), string(got)))
	}
	var v evidenceVectors
	if err := json.Unmarshal(want, &v); err != nil {
		t.Fatal(err)
	}
	region := record.RegionID(v.Region)
	var hubs []record.DeviceID
	for _, h := range v.Hubs {
		hubs = append(hubs, record.DeviceID(h))
	}
	readReceiptVectors(t, v, region, hubs)
	readEvidenceVectors(t, v, region, hubs)
	readRegistryVectors(t, v)
}

func readReceiptVectors(t *testing.T, v evidenceVectors, region record.RegionID, hubs []record.DeviceID) {
	for _, x := range v.Receipts {
		r, err := record.DecodeReceipt(x.Bytes)
		if err == nil {
			err = r.Verify(region)
		}
		if (err == nil) != x.Holds || x.Holds && (r.Taken != x.Taken || r.By != x.By || !bytes.Equal(r.Hub[:], x.Hub) || len(r.Heads) != len(x.RIDs)) {
			t.Errorf("receipt, %s: got %+v, %v", x.Why, r, err)
		}
	}
	for i, x := range v.Compact {
		l := region.Ledger(x.Generation)
		compact, err := record.CompactNote(l, []byte(x.Note), hubs)
		if err != nil || !bytes.Equal(compact, x.Bytes) {
			t.Errorf("compact note %d: got %x, %v", i, compact, err)
		}
		note, err := record.ExpandNote(l, x.Bytes, hubs)
		if err != nil || string(note) != x.Expanded {
			t.Errorf("compact note %d: got %q, %v", i, note, err)
		}
		if c, err := record.VerifyFinal(l, note, hubs); err != nil || c.Time != x.Time {
			t.Errorf("compact note %d: got time %d, %v", i, c.Time, err)
		}
	}
	for i, x := range v.BareProofs {
		p, err := record.DecodeProof(x.File)
		if err != nil {
			t.Fatal(err)
		}
		e, err := p.VerifyAt(record.TreeHead{Size: x.Size, Root: record.Hash(x.Root)})
		if rid := e.Record.RID(); err != nil || !bytes.Equal(rid[:], x.RID) {
			t.Errorf("proof %d: got %s, %v", i, rid, err)
		}
	}
}

func readEvidenceVectors(t *testing.T, v evidenceVectors, region record.RegionID, hubs []record.DeviceID) {
	for _, x := range v.Evidence {
		e, err := record.DecodeEvidence(x.Bytes)
		var f record.Finding
		if err == nil {
			f, err = e.Verify(region, hubs)
		}
		if (err == nil) != x.Holds {
			t.Errorf("%s: got %v", x.Why, err)
		}
		if !x.Holds {
			continue
		}
		id := e.ID()
		if !bytes.Equal(id[:], x.ID) || f.Final != x.Final || f.N != x.N || f.Size != x.Size || f.By != x.By || len(f.Culprits) != len(x.Culprits) ||
			!bytes.Equal(f.Culprits[0][:], x.Culprits[0]) || x.Epoch != nil && f.Feed != (record.Feed{Epoch: record.EpochID(x.Epoch), Lane: record.Lane(x.Lane)}) {
			t.Errorf("%s: got %+v", x.Why, f)
		}
	}
}

func readRegistryVectors(t *testing.T, v evidenceVectors) {
	l := newLedger()
	for _, o := range v.Ordering {
		b, err := record.DecodeBatch(o.Batch)
		if err != nil {
			t.Fatalf("%s: %v", o.Why, err)
		}
		for j, out := range l.order(t, b.LeaderMillis, b.Records...) {
			if want := o.Outcomes[j]; out.Verdict.String() != want.Verdict || out.Seq != want.Seq || out.Want != want.Want {
				t.Errorf("%s, record %d: got %+v, want %+v", o.Why, j, out, want)
			}
		}
		if h := l.head(); h.Size != o.Size || h.Root != record.Hash(o.Root) || l.LastTime() != o.LastTime {
			t.Errorf("%s: got head %v at %d", o.Why, h, l.LastTime())
		}
		got := map[string]hexBytes{}
		for k, row := range l.registry {
			key, _ := hexBytes(k).MarshalText()
			got[string(key)] = row
		}
		if d := cmp.Diff(o.Registry, got); d != "" {
			t.Errorf("%s: registry (-want +got):\n%s", o.Why, d)
		}
	}
}
