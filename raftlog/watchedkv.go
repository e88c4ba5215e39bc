package raftlog

import (
	"sync"
	"time"
)

// watchedKV knows how long the oldest write under way has taken: a hanging disk
// answers nothing at all. Only time in which somebody looked counts: while the whole
// process stands still, or its machine sleeps, no disk could have answered.
type watchedKV struct {
	KV

	mu     sync.Mutex // guards what follows
	next   uint64
	looked time.Time                // last
	writes map[uint64]time.Duration // begun and not ended: waited for so far
}

func (k *watchedKV) Update(rows []Row) error {
	k.mu.Lock()
	if k.writes == nil {
		k.writes = map[uint64]time.Duration{}
	}
	id := k.next
	k.next++
	k.writes[id] = 0
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.writes, id)
	}()
	return k.KV.Update(rows)
}

// stalled gives how long the oldest write was waited for. Who asks does so again at
// latest after every; more than twice that since the last time was spent standing still.
func (k *watchedKV) stalled(every time.Duration) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	since := min(now.Sub(k.looked), 2*every)
	k.looked = now
	var longest time.Duration
	for id := range k.writes {
		k.writes[id] += since
		longest = max(longest, k.writes[id])
	}
	return longest
}
