package raftlog_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/healthpost/healthpost/raftlog"
)

var errDiskFull = errors.New("disk full")

// memKV is a raftlog.KV in memory. What Update wrote survives a crash.
type memKV struct {
	mu       sync.Mutex
	rows     map[string][]byte
	broken   bool // every write fails
	updates  int
	largest  int           // bytes of the largest update
	leftover int           // updates until broken, when positive
	hang     chan struct{} // updates wait until it is closed
}

func newMemKV() *memKV { return &memKV{rows: map[string][]byte{}} }

func (m *memKV) Get(key []byte) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.rows[string(key)]
	return bytes.Clone(v), ok, nil
}

func (m *memKV) Update(rows []raftlog.Row) error {
	m.mu.Lock()
	if hang := m.hang; hang != nil {
		m.mu.Unlock()
		<-hang
		m.mu.Lock()
	}
	defer m.mu.Unlock()
	if m.leftover > 0 {
		if m.leftover--; m.leftover == 0 {
			m.broken = true
		}
	}
	if m.broken {
		return errDiskFull
	}
	size := 0
	for _, r := range rows {
		size += len(r.Key) + len(r.Value)
		if r.Value == nil {
			delete(m.rows, string(r.Key))
		} else {
			m.rows[string(r.Key)] = bytes.Clone(r.Value)
		}
	}
	m.updates++
	m.largest = max(m.largest, size)
	return nil
}

func (m *memKV) end(prefix []byte, pick func([]string) string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for k := range m.rows {
		if strings.HasPrefix(k, string(prefix)) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, false, nil
	}
	return []byte(pick(keys)), true, nil
}

func (m *memKV) First(prefix []byte) ([]byte, bool, error) {
	return m.end(prefix, func(k []string) string { return slices.Min(k) })
}

func (m *memKV) Last(prefix []byte) ([]byte, bool, error) {
	return m.end(prefix, func(k []string) string { return slices.Max(k) })
}

func (m *memKV) setBroken(broken bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = broken
}

func (m *memKV) writes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.updates
}

// image copies what is on the disk now.
func (m *memKV) image() *memKV {
	m.mu.Lock()
	defer m.mu.Unlock()
	fresh := newMemKV()
	for k, v := range m.rows {
		fresh.rows[k] = bytes.Clone(v)
	}
	return fresh
}
