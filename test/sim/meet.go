package sim

import (
	"bytes"
	"context"
	"errors"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// meetSome has two boxes that have no session exchange everything at once, twice.
func (w *world) meetSome() error {
	a, b := w.clinics[w.rng.IntN(len(w.clinics))], w.boxes[w.rng.IntN(len(w.boxes))]
	if a.author.Device == b.author.Device || a.st == nil || b.st == nil || a.armed || b.armed || w.links[pair(a, b)] != nil || w.shuns(a, b) {
		return nil
	}
	_, err := w.meet(a, b)
	return err
}

// meet runs two exchanges to their end and gives the bytes of the second.
func (w *world) meet(a, b *box) (int, error) {
	_, _, err := w.exchange(a, b)
	if err != nil {
		return 0, err
	}
	if err := w.checkUnion(a, b); err != nil {
		return 0, err
	}
	took, n, err := w.exchange(a, b)
	if err == nil && took != 0 { // what lies behind a refused record of his goes when nobody has said so yet
		err = w.violated(SyncTerminates, "a second exchange of %s and %s took %d records", a, b, took)
	}
	if err == nil {
		err = w.checkSilent(a, b)
	}
	if err == nil {
		err = w.touch(a)
	}
	if err == nil {
		err = w.touch(b)
	}
	return n, err
}

const exchangeSteps = 20_000

// exchange steps two sessions until neither has anything to say.
func (w *world) exchange(a, b *box) (took, total int, err error) {
	var rep [2]*replica
	var s [2]*peersync.Session
	for i, x := range []*box{a, b} {
		peer := []*box{b, a}[i]
		o := w.session(x)
		o.Turn = nil
		var r peersync.Replica
		r, rep[i] = w.replicaOf(x, peer, true)
		s[i] = peersync.NewSession(r, peer.author.Device, o)
		defer s[i].Close()
	}
	w.repeated = 0
	var queue [2][]peersync.Frame // to s[i]
	for idle, step := 0, 0; idle < 8; step++ {
		if step > exchangeSteps {
			return 0, total, w.violated(SyncTerminates, "%s and %s do not come to an end", a, b)
		}
		i := w.rng.IntN(2)
		if idle > 4 {
			i = idle % 2
		}
		idle++
		if len(queue[i]) > 0 {
			f := queue[i][0]
			queue[i], idle = queue[i][1:], 0
			if err := s[i].Handle(context.Background(), f); err != nil {
				return 0, total, w.exchangeFailed(rep[i].b, rep[1-i].b, err)
			}
			s[i].Changed()
		}
		f, ok, err := s[i].Next(context.Background())
		if err != nil {
			return 0, total, w.exchangeFailed(rep[i].b, rep[1-i].b, err)
		}
		if ok {
			wire := peersync.AppendFrame(nil, f)
			got, err := peersync.NewFrameReader(bytes.NewReader(wire)).Read()
			if err != nil {
				return 0, total, w.violated(HonestUnblamed, "%s sends what is no frame: %v", a, err)
			}
			total, idle = total+len(wire), 0
			if carriesRecords(f.Type) {
				w.repeated++
			}
			queue[1-i] = append(queue[1-i], got)
		}
	}
	w.tracef("%s and %s exchange %d bytes, %d records", a, b, total, rep[0].took+rep[1].took)
	return rep[0].took + rep[1].took, total, nil
}

func (w *world) exchangeFailed(a, b *box, err error) error {
	var bad *Violation
	if errors.As(err, &bad) {
		return bad
	}
	return w.violated(HonestUnblamed, "%s of %s: %v", a, b, err)
}

// checkUnion: after an exchange a clinic has every entry that the other's final
// checkpoint covers, and each holds what the other has pending, as far as it goes
// to that kind of box.
func (w *world) checkUnion(a, b *box) error {
	for i, x := range []*box{a, b} {
		y := []*box{b, a}[i]
		if err := w.checkOwn(x, y); err != nil {
			return err
		}
		_, final, _ := y.st.Final()
		takes, err := w.takesFrom(x, y)
		if err != nil {
			return err
		}
		if !x.hub() && x.st.Head().Size < final.Size && takes {
			return w.violated(SyncTerminates, "%s stays at size %d after an exchange with %s, whose checkpoint is of %d", x, x.st.Head().Size, y, final.Size)
		}
		if x.hub() && w.leader == nil && y.hub() || y.hub() {
			continue // a hub hands pending records to the leader alone
		}
		if err := w.checkHolds(x, y); err != nil {
			return err
		}
	}
	return nil
}

// checkHolds: x holds all that y has pending, where x knows the author.
func (w *world) checkHolds(x, y *box) error {
	feeds, err := y.st.PendingFeeds()
	if err != nil {
		return err
	}
	for _, f := range feeds {
		if w.ofTwice(f.Epoch) || w.isRevoked(f.Author) {
			continue
		}
		if ready, err := w.canTake(x, f); err != nil {
			return err
		} else if !ready {
			continue
		}
		if ok, err := w.reachesUp(x, f); err != nil || ok {
			if err != nil {
				return err
			}
			continue
		}
		if ok, err := w.believes(y, x, f); err != nil || ok {
			if err != nil {
				return err
			}
			continue
		}
		_, fx, _ := x.st.Final()
		_, fy, _ := y.st.Final()
		return w.violated(SyncTerminates, "%s (size %d, final %d) misses lane %d n %d to %d of %s after an exchange with %s (size %d, final %d)", x, x.st.Head().Size, fx.Size,
			f.Lane, f.OrderedN+1, f.HeldN, f.Epoch, y, y.st.Head().Size, fy.Size)
	}
	return nil
}

// believes: x told y once that it holds this, and y does not know of all that x has in
// its ledger, nor gets it from x. Before it does, nothing tells y that x lost it.
func (w *world) believes(y, x *box, f store.PendingFeed) (bool, error) {
	takes, err := w.takesFrom(y, x)
	if err != nil || takes || y.st.Head().Size >= x.st.Head().Size {
		return false, err
	}
	heads, err := y.st.Acked(x.author.Device)
	for _, h := range heads {
		if h.Feed == f.Feed && h.N >= f.HeldN {
			return true, err
		}
	}
	return false, err
}

// canTake: x knows the author, and what y has of the feed in its ledger.
func (w *world) canTake(x *box, f store.PendingFeed) (bool, error) {
	if _, known, err := x.st.Member(f.Author); err != nil || !known {
		return false, err
	}
	if f.Opening {
		return true, nil
	}
	_, ok, err := x.st.HeldRID(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: f.OrderedN})
	return ok, err
}

func (w *world) reachesUp(x *box, f store.PendingFeed) (bool, error) {
	_, ok, err := x.st.HeldRID(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: f.HeldN})
	return ok, err
}
