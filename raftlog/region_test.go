package raftlog_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/healthpost/healthpost/record"
)

// box is a device that writes records in one epoch.
type box struct {
	key    ed25519.PrivateKey
	id     record.DeviceID
	name   string
	mu     sync.Mutex // guards heads
	epoch  record.EpochID
	heads  [record.LaneCount]record.Head
	opened record.Record
}

func newBox(name string) *box {
	seed := sha256.Sum256([]byte(name))
	key := ed25519.NewKeyFromSeed(seed[:])
	b := &box{key: key, id: record.DeviceID(key.Public().(ed25519.PublicKey)), name: name}
	b.open("first")
	return b
}

// open starts an epoch; its opening record is b.opened.
func (b *box) open(nonce string) record.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := sha256.Sum256([]byte(b.name + nonce))
	body := must(record.Marshal(record.EpochOpen{Device: b.id[:], Nonce: n[:16], Hardware: make([]byte, 32), Predecessor: []byte{}, Heads: []uint64{},
		Software: "test", Root: record.EmptyRoot[:]}))
	b.opened = record.Sign(record.Core{Kind: record.KindEpochOpen}, body, b.key)
	b.epoch = b.opened.OpenedEpoch()
	for i := range b.heads {
		b.heads[i] = record.Head{RID: b.opened.RID()}
	}
	return b.opened
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// write continues a lane.
func (b *box) write(lane record.Lane, kind record.Kind, c record.CompartmentID, body []byte) record.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	head := &b.heads[lane]
	r := record.Sign(record.Core{Epoch: b.epoch, Lane: lane, N: head.N + 1, Prev: head.RID, Kind: kind, Compartment: c}, body, b.key)
	head.N, head.RID = head.N+1, r.RID()
	return r
}

// visit writes a clinical record with a body of some size.
func (b *box) visit(size int) record.Record {
	body := make([]byte, max(size, 8))
	b.mu.Lock()
	binary.BigEndian.PutUint64(body, b.heads[record.LaneClinical].N)
	b.mu.Unlock()
	return b.write(record.LaneClinical, record.KindClinical, record.CompartmentID{1}, body)
}

func (b *box) memberAdd(role record.Role) record.MemberAdd {
	enc := sha256.Sum256(b.id[:])
	return record.MemberAdd{Device: b.id[:], Encryption: enc[:], Role: role, Name: b.name, Addresses: []string{}}
}

func (b *box) admits(other *box, role record.Role) record.Record {
	return b.write(record.LaneControl, record.KindMemberAdd, record.CompartmentID{}, must(record.Marshal(other.memberAdd(role))))
}

func (b *box) revokes(other *box) record.Record {
	return b.write(record.LaneControl, record.KindMemberRevoke, record.CompartmentID{}, must(record.Marshal(record.MemberRevoke{Device: other.id[:], Reason: "test"})))
}

// founding gives the records that found a region with a first hub, and admit the
// other hubs and the clinics, with everybody's opening record.
func founding(hubs, clinics []*box) []record.Record {
	first := hubs[0]
	recs := []record.Record{first.opened, first.write(record.LaneControl, record.KindRegionFound, record.CompartmentID{},
		must(record.Marshal(record.RegionFound{Name: "Test", Nonce: make([]byte, 16), Founder: first.memberAdd(record.RoleHub)})))}
	for i, h := range hubs[1:] {
		for _, by := range hubs[:record.Needed(i+1)] { // more than half of those before it
			recs = append(recs, by.admits(h, record.RoleHub))
		}
		recs = append(recs, h.opened)
	}
	for _, c := range clinics {
		recs = append(recs, first.admits(c, record.RoleClinic), c.opened)
	}
	return recs
}

func boxes(prefix string, n int) []*box {
	var out []*box
	for i := range n {
		out = append(out, newBox(fmt.Sprintf("%s-%d", prefix, i)))
	}
	return out
}

func check(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
