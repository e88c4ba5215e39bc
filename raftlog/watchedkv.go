package raftlog

import (
	"sync"
	"time"
)

// watchedKV knows how long the oldest write under way has taken: a hanging disk
// answers nothing at all.
type watchedKV struct {
	KV

	mu     sync.Mutex // guards what follows
	next   uint64
	writes map[uint64]time.Time // begun and not ended
}

func (k *watchedKV) Update(rows []Row) error {
	k.mu.Lock()
	if k.writes == nil {
		k.writes = map[uint64]time.Time{}
	}
	id := k.next
	k.next++
	k.writes[id] = time.Now()
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.writes, id)
	}()
	return k.KV.Update(rows)
}

func (k *watchedKV) stalled() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	var longest time.Duration
	for _, began := range k.writes {
		longest = max(longest, time.Since(began))
	}
	return longest
}
