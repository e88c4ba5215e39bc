package store

import (
	"runtime"
	"sync"

	"github.com/healthpost/healthpost/record"
)

// verifiedMax bounds the memory of signatures that were checked already, where
// Options bring none.
const verifiedMax = 16 << 10

// signed names a record together with its signature: a record id does not cover
// the signature bytes.
type signed struct {
	rid record.RID
	sig [64]byte
}

// Verified remembers records whose signature this process has checked, for one
// store or for several. A ring forgets the oldest. Verify does not look at it.
type Verified struct {
	mu   sync.Mutex
	have map[signed]struct{}
	ring []signed
	at   int
}

// NewVerified remembers up to n records.
func NewVerified(n int) *Verified {
	return &Verified{have: map[signed]struct{}{}, ring: make([]signed, 0, n)}
}

func (c *Verified) add(r *record.Record) {
	k := signed{r.RID(), r.Sig}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.have[k]; ok {
		return
	}
	if len(c.ring) < cap(c.ring) {
		c.ring = append(c.ring, k)
	} else {
		delete(c.have, c.ring[c.at])
		c.ring[c.at] = k
		c.at = (c.at + 1) % len(c.ring)
	}
	c.have[k] = struct{}{}
}

// has says whether this very signature of a record was checked.
func (c *Verified) has(rid record.RID, sig [64]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.have[signed{rid, sig}]
	return ok
}

// checkRecord is the check of bytes that the ordering rules make: body, then
// signature.
func (s *Store) checkRecord(r *record.Record, d record.DeviceID) record.Verdict {
	if r.Body == nil && r.Core.BodyLen != 0 || r.VerifyBody() != nil {
		return record.BadBody
	}
	if s.verified.has(r.RID(), r.Sig) {
		return record.Ordered
	}
	if r.VerifySignature(d) != nil {
		return record.BadSignature
	}
	s.verified.add(r)
	return record.Ordered
}

// checkRecords checks records on all cores. authors tells whose each is; a record
// without an author is left unchecked (0).
func (s *Store) checkRecords(recs []record.Record, authors []*record.DeviceID) []record.Verdict {
	out := make([]record.Verdict, len(recs))
	workers := min(runtime.GOMAXPROCS(0), (len(recs)+7)/8)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; i < len(recs); i += workers {
				if authors[i] != nil {
					out[i] = s.checkRecord(&recs[i], *authors[i])
				}
			}
		}()
	}
	wg.Wait()
	return out
}

// authors finds who must have signed each record: from the epochs known here,
// ordered or pending, and from opening records among the records themselves.
func (l lookup) authors(recs []record.Record) ([]*record.DeviceID, error) {
	known := map[record.EpochID]*record.DeviceID{}
	out := make([]*record.DeviceID, len(recs))
	for i := range recs {
		r := &recs[i]
		id := r.Position().Epoch
		if d, ok := known[id]; ok {
			out[i] = d
			continue
		}
		if r.Core.Kind == record.KindEpochOpen {
			if e, err := record.DecodeEpochOpen(r.Body); err == nil && r.VerifyBody() == nil {
				d := record.DeviceID(e.Device)
				known[id], out[i] = &d, &d
			}
			continue
		}
		e, ok, err := l.epoch(id)
		if err != nil {
			return nil, err
		}
		if ok {
			d := e.Device
			known[id], out[i] = &d, &d
		}
	}
	return out, nil
}

// checkAhead checks signatures on all cores before the write mutex is taken; the
// ordering rules then find them in the cache.
func (s *Store) checkAhead(l lookup, recs []record.Record) error {
	authors, err := l.authors(recs)
	if err != nil {
		return err
	}
	s.checkRecords(recs, authors)
	return nil
}
