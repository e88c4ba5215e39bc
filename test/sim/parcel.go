package sim

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"errors"
	"slices"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	peersync "github.com/healthpost/healthpost/sync"
)

// In the scenario Parcels some clinics never have a link: everything goes in and out
// on sticks, which are lost, damaged, cut short, copied in pieces, read twice and read
// again weeks later.

// parcelsPlan makes a plan with three or five hubs and clinics without links.
func (w *world) parcelsPlan() {
	p := &w.plan
	pick := func(list ...int64) int64 { return list[w.rng.IntN(len(list))] }
	p.Hubs = int(pick(3, 5))
	p.Clinics, p.Fields = 3+w.rng.IntN(3), 1
	p.Remote = 1 + w.rng.IntN(2)
	p.ParcelMillis, p.StickFaultIn = pick(1_000, 4_000), int(pick(0, 2, 4))
	p.RestoreMillis, p.Latency, p.BytesPerSec = 0, min(p.Latency, 300), max(p.BytesPerSec, 15_000)
}

// sticks are the parcels of a run.
type sticks struct {
	keys map[*box]*ecdh.PrivateKey
	said map[[2]*box]uint64 // what one box heard that another's ledger holds
	old  []*stick
}

// stick is a parcel on its way.
type stick struct {
	from, to *box
	b        []byte
	size     uint64 // final at the writer
	entries  bool
	pending  []record.Feed
	heads    []uint64 // of pending
	whole    bool
}

func (w *world) newSticks() error {
	w.sticks = &sticks{keys: map[*box]*ecdh.PrivateKey{}, said: map[[2]*box]uint64{}}
	for _, b := range w.boxes {
		key, err := ecdh.X25519().NewPrivateKey(w.bytes(32))
		if err != nil {
			return err
		}
		w.sticks.keys[b] = key
	}
	return nil
}

// remote clinics have no link.
func (w *world) remote(b *box) bool {
	return b.n >= len(w.hubs) && b.n < len(w.hubs)+w.plan.Remote
}

// mail has somebody take a stick from or to a remote clinic.
func (w *world) mail() error {
	far, other := w.clinics[w.rng.IntN(w.plan.Remote)], w.boxes[w.rng.IntN(len(w.boxes))]
	if w.chance(2) {
		other = w.hubs[w.rng.IntN(len(w.hubs))]
	}
	if w.chance(2) {
		return w.send(far, other)
	}
	return w.send(other, far)
}

// mailAll has sticks go both ways between every remote clinic and some hub.
func (w *world) mailAll() error {
	for _, far := range w.clinics[:w.plan.Remote] {
		h := w.hubs[w.rng.IntN(len(w.hubs))]
		if err := w.send(far, h); err != nil {
			return err
		}
		if err := w.send(h, far); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) send(from, to *box) error {
	if from == to || from.st == nil || to.st == nil {
		return nil
	}
	s, err := w.write(from, to)
	if err != nil || s == nil {
		return err
	}
	w.after(w.between(500, 10_000), func() error { return w.carried(s) })
	return nil
}

// write makes a parcel, by the rules of package node: a hub gives what is pending to
// hubs alone, and takes entries from none.
func (w *world) write(from, to *box) (*stick, error) {
	key, err := seal.NewParcel(randomness{w.rng}, []*ecdh.PublicKey{w.sticks.keys[to].PublicKey()})
	if err != nil {
		return nil, err
	}
	_, final, _ := from.st.Final()
	s := &stick{from: from, to: to, size: final.Size, entries: !to.hub(), whole: true}
	o := peersync.ParcelOptions{Session: w.session(from), Signer: from.author.Key, Key: key, ID: [16]byte(w.bytes(16)), For: to.author.Device,
		Pending: !from.hub() || to.hub(), Entries: s.entries, From: w.sticks.said[[2]*box{from, to}], HubsAt: w.model.at[1].Size}
	r, _ := w.replicaOf(from, to, true)
	if o.Pending {
		feeds, err := from.st.PendingFeeds()
		if err != nil {
			return nil, from.failed("reading", err)
		}
		for _, f := range feeds {
			s.pending, s.heads = append(s.pending, f.Feed), append(s.heads, f.HeldN)
		}
	}
	var out bytes.Buffer
	c, err := peersync.WriteParcel(context.Background(), &out, r, o)
	if err != nil {
		return nil, from.failed("writing a parcel", err)
	}
	s.b = out.Bytes()
	w.res.Parcels++
	w.tracef("%s writes a parcel for %s: %d records, %d entries from %d, %d bytes", from, to, c.Records, c.Entries, c.From, len(s.b))
	return s, nil
}

// carried is what happens to a stick on its way.
func (w *world) carried(s *stick) error {
	if w.safety && w.chance(w.plan.StickFaultIn) {
		s = w.spoilt(s)
	}
	if s == nil || s.to.st == nil {
		return nil // lost, or nobody there to read it
	}
	if err := w.read(s); err != nil || s.to.st == nil {
		return err
	}
	if w.sticks.old = append(w.sticks.old, s); len(w.sticks.old) > 32 {
		w.sticks.old = slices.Delete(w.sticks.old, 0, 1)
	}
	if err := w.touch(s.to); err != nil || s.to.st == nil {
		return err
	}
	if w.safety && w.chance(8) {
		return w.check(s.to)
	}
	return nil
}

// spoilt is what is read in place of a stick; nil for nothing.
func (w *world) spoilt(s *stick) *stick {
	bad := *s
	bad.b, bad.whole = slices.Clone(s.b), false
	at := w.rng.IntN(len(s.b) + 1)
	switch w.rng.IntN(6) {
	case 0:
		w.tracef("a stick of %s is lost", s.from)
		return nil
	case 1:
		bad.b = bad.b[:at]
	case 2: // copied in another order
		bad.b = append(slices.Clone(s.b[at:]), s.b[:at]...)
	case 3:
		old := w.sticks.old
		if len(old) == 0 {
			return s
		}
		again := *old[w.rng.IntN(len(old))]
		again.whole = false
		return &again
	case 4:
		for i := at; i < min(at+4096, len(bad.b)); i++ {
			bad.b[i] = 0
		}
	default:
		for range 1 + w.rng.IntN(4) {
			bad.b[w.rng.IntN(len(bad.b))] ^= 1 << w.rng.IntN(8)
		}
	}
	return &bad
}

// read takes a parcel in, twice.
func (w *world) read(s *stick) error {
	first, err := w.readOnce(s)
	if err != nil || s.to.st == nil {
		return err
	}
	if s.whole {
		if err := w.checkBrought(s, first); err != nil {
			return err
		}
		w.sticks.said[[2]*box{s.to, s.from}] = max(w.sticks.said[[2]*box{s.to, s.from}], min(first.Head.Size, s.to.st.Head().Size))
	}
	second, err := w.readOnce(s)
	if err != nil || s.to.st == nil {
		return err
	}
	if second.New > 0 && !first.Again {
		return w.violated(ParcelsRepeat, "%s reads a parcel of %s again and takes %d records and entries, after %d", s.to, s.from, second.New, first.New)
	}
	return nil
}

func (w *world) readOnce(s *stick) (peersync.ParcelReport, error) {
	r, _ := w.replicaOf(s.to, s.from, true)
	o := peersync.ParcelReadOptions{Session: w.session(s.to), Member: func(d record.DeviceID) bool {
		_, ok, err := s.to.st.Member(d)
		return err == nil && ok
	}, Open: func(slots []byte) (peersync.ParcelKey, error) {
		key, err := seal.OpenParcel(w.sticks.keys[s.to], slots)
		if err != nil {
			return nil, err
		}
		return key, nil
	}}
	o.Session.Turn = nil
	got, err := peersync.ReadParcel(context.Background(), bytes.NewReader(s.b), r, o)
	w.tracef("%s reads a parcel of %s: %d new, %d known, %d wait, %d refused, whole %v: %v", s.to, s.from, got.New, got.Known, got.Waiting, got.Refused, got.Complete, err)
	var bad *Violation
	switch {
	case errors.As(err, &bad):
		return got, bad
	case err != nil && (errors.Is(err, peersync.ErrLocal) || s.to.st.Err() != nil):
		return got, s.to.failed("reading a parcel", err)
	case s.whole && (err != nil || !got.Complete || got.Refused > 0):
		return got, w.violated(HonestUnblamed, "%s refuses a sound parcel of %s: %d refused, whole %v, %v", s.to, s.from, got.Refused, got.Complete, err)
	}
	return got, nil
}

// checkBrought: who read a whole parcel, of which nothing waits, has what it held.
func (w *world) checkBrought(s *stick, rep peersync.ParcelReport) error {
	if rep.Waiting > 0 {
		return nil
	}
	if s.entries && s.to.st.Head().Size < s.size && !s.to.wit.frozen {
		return w.violated(ParcelsBring, "%s is at size %d after a parcel of %s that reaches %d", s.to, s.to.st.Head().Size, s.from, s.size)
	}
	for i, f := range s.pending {
		_, held, err := s.to.st.HeldRID(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: s.heads[i]})
		if err != nil {
			return s.to.failed("reading", err)
		}
		if !held && !w.ofTwice(f.Epoch) {
			return w.violated(ParcelsBring, "%s does not hold lane %d n %d of %s after a parcel of %s", s.to, f.Lane, s.heads[i], f.Epoch, s.from)
		}
	}
	return nil
}
