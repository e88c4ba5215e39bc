package store

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/healthpost/healthpost/record"
)

// ackTable is which peers hold which pending records, as accepted. Guarded by
// Store.mu. A row is dropped when everything it tells is ordered.
type ackTable map[record.Feed]map[record.DeviceID]uint64

const acksPerFeedMax = 256

func (s *Store) loadAcks(l lookup) error {
	s.acks = ackTable{}
	return l.rows.(*view).scan([]byte{pAck}, nil, false, func(key, value []byte) (bool, error) {
		if len(key) != 1+17+32 || len(value) != 8 {
			return false, damagedRow(key, "acknowledgement")
		}
		s.acks.set(feedFrom(key[1:]), record.DeviceID(key[18:]), binary.BigEndian.Uint64(value))
		return true, nil
	})
}

func (a ackTable) set(f record.Feed, d record.DeviceID, n uint64) {
	if a[f] == nil {
		a[f] = map[record.DeviceID]uint64{}
	}
	a[f][d] = n
}

// ordered drops the acknowledgements of a feed up to n. The rows are idempotent:
// a transaction that is given up leaves rows that say nothing new.
func (a ackTable) ordered(t *tx, f record.Feed, n uint64) {
	for d, have := range a[f] {
		if have <= n {
			t.unset(keyAck(f, d))
			delete(a[f], d)
		}
	}
	if len(a[f]) == 0 {
		delete(a, f)
	}
}

// PutAck notes that a peer holds feeds durably up to n, durable on return. What
// this box does not hold as pending changes nothing.
func (s *Store) PutAck(peer record.DeviceID, heads []record.FeedHead) error {
	t, err := s.begin(nil)
	if err != nil {
		return fmt.Errorf("keeping acknowledgement: %w", err)
	}
	type change struct {
		f record.Feed
		n uint64
	}
	var changes []change
	for _, h := range heads {
		f, ok, err := t.lookup().feed(h.Feed)
		if err != nil {
			t.drop()
			return fmt.Errorf("keeping acknowledgement: %w", err)
		}
		have, known := s.acks[h.Feed][peer]
		n := min(h.N, f.Held.N)
		ok = ok && (n > f.Ordered.N || n == 0 && h.Lane == record.LaneControl && !known) && (!known || n > have)
		if ok && (known || len(s.acks[h.Feed]) < acksPerFeedMax) {
			t.put(keyAck(h.Feed, peer), binary.BigEndian.AppendUint64(nil, n))
			changes = append(changes, change{h.Feed, n})
		}
	}
	if len(changes) == 0 {
		t.drop()
		return nil
	}
	for _, c := range changes {
		s.acks.set(c.f, peer, c.n)
	}
	return t.commit()
}

// Acks lists the peers that acknowledged holding the pending record of a position.
func (s *Store) Acks(p record.Position) ([]record.DeviceID, error) {
	var out []record.DeviceID
	err := s.read(func(l lookup) error {
		return l.rows.(*view).scan(keyFeed(pAck, p.Feed()), nil, false, func(key, value []byte) (bool, error) {
			if len(key) != 1+17+32 || len(value) != 8 {
				return false, damagedRow(key, "acknowledgement")
			}
			if binary.BigEndian.Uint64(value) >= p.N {
				out = append(out, record.DeviceID(key[18:]))
			}
			return true, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading acknowledgements: %w", err)
	}
	return out, nil
}

// Acked lists what a peer acknowledged that is not ordered yet.
func (s *Store) Acked(peer record.DeviceID) ([]record.FeedHead, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []record.FeedHead
	for f, peers := range s.acks {
		if n, ok := peers[peer]; ok {
			out = append(out, record.FeedHead{Feed: f, N: n})
		}
	}
	sort.Slice(out, func(a, b int) bool { return string(keyFeed(0, out[a].Feed)) < string(keyFeed(0, out[b].Feed)) })
	return out, nil
}

// Holders tells how far peers acknowledged holding a feed, where that is more than
// what is ordered of it.
func (s *Store) Holders(f record.Feed) (map[record.DeviceID]uint64, error) {
	out := map[record.DeviceID]uint64{}
	err := s.read(func(l lookup) error {
		return l.rows.(*view).scan(keyFeed(pAck, f), nil, false, func(key, value []byte) (bool, error) {
			if len(key) != 1+17+32 || len(value) != 8 {
				return false, damagedRow(key, "acknowledgement")
			}
			out[record.DeviceID(key[18:])] = binary.BigEndian.Uint64(value)
			return true, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading acknowledgements: %w", err)
	}
	return out, nil
}
