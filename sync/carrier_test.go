package peersync_test

import (
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// TestCarrier takes records from a clinic to a hub that it never meets, and brings
// back the hub's word for them, then their places.
func TestCarrier(t *testing.T) {
	w := newWorld(t, 60, 2)
	a, c := w.clinics[0], w.clinics[1]
	p := w.promising(w.hubKey, w.region)
	first := w.tweak
	w.tweak = func(m *memory, o *peersync.Options) {
		first(m, o)
		if m.self == c.self {
			o.Promises = func(peer record.DeviceID, seen uint64) ([]record.Receipt, uint64) {
				if list := p.list(); uint64(len(list)) != seen && peer == a.self {
					return list, uint64(len(list))
				}
				return nil, seen
			}
		}
	}
	w.save(a, record.LaneControl, 2)
	w.save(a, record.LaneClinical, 20)
	meet := func(x, y *memory) *exchange {
		t.Helper()
		_, ex, err := w.meet(x, y, noLimit)
		if err != nil {
			t.Fatal(err)
		}
		w.check(x)
		w.check(y)
		return ex
	}
	meet(a.memory, c.memory)
	meet(c.memory, w.hub)
	if got := len(w.hub.allPending()); got != 23 {
		t.Fatalf("the hub holds %d records, want 23", got)
	}
	clinical := record.Feed{Epoch: a.author.epoch, Lane: record.LaneClinical}
	if got := a.acked[w.hub.self][clinical]; got != 0 {
		t.Fatalf("the clinic believes that the hub holds %d before anybody said so", got)
	}
	x := meet(c.memory, a.memory)
	if got := a.acked[w.hub.self][clinical]; got != 20 || x.frames[peersync.TypePromise] == 0 {
		t.Errorf("after the way back: acknowledged by the hub up to n %d, want 20; frames %v", got, x.frames)
	}
	if len(c.allPending()) != 23 {
		t.Error("the carrier dropped records that no final checkpoint has")
	}
	w.orderAll()
	meet(c.memory, w.hub)
	if len(c.allPending()) != 0 {
		t.Error("the carrier keeps what a final checkpoint has")
	}
	meet(c.memory, a.memory)
	if a.Head() != w.hub.Head() || len(a.allPending()) != 0 {
		t.Errorf("clinic at %d with %d pending, want %d with none", a.Head().Size, len(a.allPending()), w.hub.Head().Size)
	}
}

// TestPromiseOfAnother: what somebody passes on counts only with a hub's signature
// over the very records that are held here.
func TestPromiseOfAnother(t *testing.T) {
	w := newWorld(t, 61, 2)
	a, c := w.clinics[0], w.clinics[1]
	w.promising(w.hubKey, w.region)
	w.save(a, record.LaneClinical, 3)
	at := record.Position{Epoch: a.author.epoch, Lane: record.LaneClinical, N: 3}
	rid, _, _ := a.HeldRID(at)
	head := record.ReceiptHead{Position: at, RID: rid}
	other := head
	other.RID[0] ^= 1
	forged := record.SignReceipt(w.region, 1, 2, []record.ReceiptHead{head}, w.hubKey)
	forged.By++
	for _, x := range []struct {
		name string
		r    record.Receipt
		want error
		n    uint64
	}{
		{"of no hub", record.SignReceipt(w.region, 1, 2, []record.ReceiptHead{head}, c.key), nil, 0},
		{"of other records", record.SignReceipt(w.region, 1, 2, []record.ReceiptHead{other}, w.hubKey), nil, 0},
		{"of another region", record.SignReceipt(record.RegionID{1}, 1, 2, []record.ReceiptHead{head}, w.hubKey), peersync.ErrMisbehaved, 0},
		{"changed", forged, peersync.ErrMisbehaved, 0},
		{"good", record.SignReceipt(w.region, 1, 2, []record.ReceiptHead{head}, w.hubKey), nil, 3},
	} {
		s := w.greeted(t, a.memory, c.memory)
		err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypePromise, Payload: x.r.Encode()})
		if !errors.Is(err, x.want) || x.want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", x.name, err, x.want)
		}
		if got := a.acked[w.hub.self][at.Feed()]; got != x.n {
			t.Errorf("%s: acknowledged up to n %d, want %d", x.name, got, x.n)
		}
	}
}

// TestCarrierIsFull: who has no room takes the rest when the ledger has grown.
func TestCarrierIsFull(t *testing.T) {
	w := newWorld(t, 62, 2)
	a, c := w.clinics[0], w.clinics[1]
	const most = 30
	w.tweak = func(m *memory, o *peersync.Options) {
		o.Window = 4 << 10 // frames of a few records
		if m.self == c.self {
			o.Carry = func(e record.EpochID) bool { return e == c.author.epoch || len(c.allPending()) < most }
		}
	}
	w.save(a, record.LaneClinical, 90)
	for round := range 12 {
		if _, _, err := w.meet(a.memory, c.memory, noLimit); err != nil {
			t.Fatal(err)
		}
		if got := len(c.allPending()); got > most+15 {
			t.Fatalf("round %d: the carrier holds %d records, want at most about %d", round, got, most)
		}
		if _, _, err := w.meet(c.memory, w.hub, noLimit); err != nil {
			t.Fatal(err)
		}
		w.orderAll()
		if _, _, err := w.meet(c.memory, w.hub, noLimit); err != nil {
			t.Fatal(err)
		}
		w.check(c.memory)
	}
	if _, _, err := w.meet(a.memory, c.memory, noLimit); err != nil {
		t.Fatal(err)
	}
	if a.Head() != w.hub.Head() || len(a.allPending()) != 0 {
		t.Errorf("clinic at %d with %d pending, want %d with none", a.Head().Size, len(a.allPending()), w.hub.Head().Size)
	}
}

// TestParcelsAndCarriers lets boxes meet, write parcels that are damaged or read
// late or twice, and in the end every replica holds the same.
func TestParcelsAndCarriers(t *testing.T) {
	seed := testSeed(t)
	for round := range uint64(4) {
		w := newWorld(t, seed+round, 3)
		all := []*clinic{w.clinics[0], w.clinics[1], w.clinics[2], {memory: w.hub, key: w.hubKey}}
		type stick struct {
			to   *clinic
			file []byte
		}
		var sticks []stick
		for range 30 {
			from, to := all[w.rng.IntN(4)], all[w.rng.IntN(4)]
			if from == to {
				continue
			}
			switch w.rng.IntN(5) {
			case 0:
				w.save(w.clinics[w.rng.IntN(3)], record.Lane(w.rng.IntN(4)), w.rng.IntN(12))
			case 1:
				w.orderAll()
			case 2:
				if _, _, err := w.meet(from.memory, to.memory, 200+w.rng.IntN(20000)); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			case 3:
				file := w.parcel(from.memory, from.key, to.memory, func(o *peersync.ParcelOptions) { o.Entries = to.memory != w.hub; o.From = uint64(w.rng.IntN(20)) })
				if w.rng.IntN(2) == 0 {
					file = file[:w.rng.IntN(len(file))]
				}
				sticks = append(sticks, stick{to, file})
			case 4:
				if len(sticks) == 0 {
					continue
				}
				s := sticks[w.rng.IntN(len(sticks))]
				if rep, err := w.readParcel(s.to.memory, s.file); err != nil && !errors.Is(err, peersync.ErrNoParcel) || rep.Refused != 0 {
					t.Fatalf("seed %d: %+v, %v", seed, rep, err)
				}
			}
			for _, c := range all {
				w.check(c.memory)
			}
		}
		w.settle(seed, []*memory{all[0].memory, all[1].memory, all[2].memory, w.hub})
	}
}
