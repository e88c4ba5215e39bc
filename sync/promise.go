package peersync

import "github.com/healthpost/healthpost/record"

// A hub's promise is signed, so anybody may pass it on: who carried the records of
// a box to a hub brings back the hub's word for them, which is as good as an
// acknowledgement from the hub itself.

// promisesMax bounds the promises that one session takes, and those that it sends.
const promisesMax = 256

// carried is what this side passes on to the peer.
type carried struct {
	list        []record.Receipt
	seen        uint64 // of what Options answered last
	sent, heard int
}

// refreshPromises looks for promises about records of the peer.
func (s *Session) refreshPromises() {
	c := &s.carried
	if s.o.Promises == nil || s.theirs.Max < protocolCarried || s.hub {
		return
	}
	c.list, c.seen = s.o.Promises(s.peer, c.seen)
}

func (s *Session) nextPromise() (Frame, bool, error) {
	c := &s.carried
	if len(c.list) == 0 || c.sent >= promisesMax || s.fetch.only {
		return Frame{}, false, nil
	}
	r := c.list[0]
	c.list = c.list[1:]
	c.sent++
	return Frame{Type: TypePromise, Payload: r.Encode()}, true, nil
}

// handlePromise takes a hub's promise that somebody passes on.
func (s *Session) handlePromise(b []byte) error {
	r, err := record.DecodeReceipt(b)
	if err != nil {
		return misbehaved("reading a promise: %w", err)
	}
	if s.carried.heard++; s.carried.heard > promisesMax {
		return misbehaved("more than %d promises", promisesMax)
	}
	if s.o.TakeReceipt == nil || !s.o.Hub(r.Hub) || r.Hub == s.o.Device {
		return nil
	}
	if err := r.Verify(s.o.Region); err != nil {
		return misbehaved("promise: %w", err)
	}
	var held []record.FeedHead
	for _, h := range r.Heads {
		rid, ok, err := s.r.HeldRID(h.Position)
		if err != nil {
			return local("reading held record", err)
		}
		if ok && rid == h.RID {
			held = append(held, record.FeedHead{Feed: h.Feed(), N: h.N})
		}
	}
	if len(held) == 0 {
		return nil // it says nothing of what is here
	}
	if s.push.feeds, err = s.r.PendingFeeds(); err != nil {
		return local("reading pending feeds", err)
	}
	if err := s.putHeadsOf(r.Hub, held); err != nil {
		return err
	}
	return s.opinion("keeping promise", s.o.TakeReceipt(r.Hub, r))
}
