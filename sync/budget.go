package peersync

import (
	"fmt"
	"sync"
	"time"

	"github.com/healthpost/healthpost/record"
)

// Usage is what a metered link cost this month.
type Usage struct {
	Metered           bool
	Month             string    // of the box's clock in UTC, such as 2026-11
	BytesIn, BytesOut uint64    // TCP payload and an estimate of its headers
	Budget            uint64    // bytes for a month, 0 for no limit
	Next              time.Time // of the next call by schedule; zero while one goes on or none is planned
}

// Left is how many bytes of the budget are not used.
func (u Usage) Left() uint64 { return u.Budget - min(u.BytesIn+u.BytesOut, u.Budget) }

// MeterOptions say what a metered link may carry. Load gives what Save kept last,
// a zero Usage for nothing; of it only month and bytes count.
type MeterOptions struct {
	MonthBytes uint64 // 0 for no limit
	Load       func() (Usage, error)
	Save       func(Usage) error
	Now        func() time.Time
}

// Meter counts what goes over the connections that this box pays for: those that
// it dials over TCP to other than neighbours on the LAN.
type Meter struct {
	o    MeterOptions
	bell chan struct{} // the allowance changed, or there is something to save

	mu    sync.Mutex // guards what follows
	usage Usage
	saved uint64 // bytes of usage that Save was given
	level level
}

// level is how much of a month's budget is left.
type level int

const (
	levelFull  level = iota
	levelLow         // less than a fifth
	levelEmpty       // nothing
)

const (
	lowPart       = 5        // of the budget
	usageEvery    = 64 << 10 // bytes until the usage is saved; a crash forgets at most as many
	packetBytes   = 1400
	headerBytes   = 52 // of IP and TCP with time stamps
	openingBytes  = 3*60 + 4*headerBytes
	yearOfNoClock = 2020 // a clock before it was never set
)

// NewMeter reads what was used before.
func NewMeter(o MeterOptions) (*Meter, error) {
	u, err := o.Load()
	if err != nil {
		return nil, fmt.Errorf("reading the link's usage: %w", err)
	}
	m := &Meter{o: o, bell: make(chan struct{}, 1)}
	m.usage = Usage{Metered: true, Month: u.Month, BytesIn: u.BytesIn, BytesOut: u.BytesOut, Budget: o.MonthBytes}
	m.saved = u.BytesIn + u.BytesOut
	m.mu.Lock()
	m.turnLocked()
	m.mu.Unlock()
	return m, nil
}

// turnLocked begins a month when the clock says so. A clock that was never set
// says nothing.
func (m *Meter) turnLocked() {
	now := m.o.Now().UTC()
	if month := now.Format("2006-01"); m.usage.Month == "" || month != m.usage.Month && now.Year() >= yearOfNoClock {
		m.usage.Month, m.usage.BytesIn, m.usage.BytesOut, m.saved = month, 0, 0, 0
		m.ring()
	}
	was := m.level
	switch left := m.usage.Left(); {
	case m.usage.Budget == 0 || left*lowPart >= m.usage.Budget:
		m.level = levelFull
	case left > 0:
		m.level = levelLow
	default:
		m.level = levelEmpty
	}
	if m.level != was {
		m.ring()
	}
}

func (m *Meter) ring() {
	select {
	case m.bell <- struct{}{}:
	default:
	}
}

// Usage is what was counted so far.
func (m *Meter) Usage() Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turnLocked()
	return m.usage
}

// allowance is what may still go: everything; or what staff wrote and entries, which
// carry confirmations and what others wrote; or control and urgent records alone.
func (m *Meter) allowance() Allowance {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turnLocked()
	switch m.level {
	case levelLow:
		return Allowance{Last: record.LaneClinical, Entries: true}
	case levelEmpty:
		return Allowance{Last: record.LaneControl}
	}
	return Everything
}

func (m *Meter) levelNow() level {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turnLocked()
	return m.level
}

// add counts n bytes of payload one way and the packets that they made: one for
// each 1,400 bytes, and the other way one acknowledgement for two.
func (m *Meter) add(n int, out bool) {
	packets := uint64((n + packetBytes - 1) / packetBytes)
	there, back := uint64(n)+packets*headerBytes, packets*headerBytes/2
	if !out {
		there, back = back, there
	}
	m.count(back, there)
}

func (m *Meter) count(in, out uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.usage.BytesIn += in
	m.usage.BytesOut += out
	if m.usage.BytesIn+m.usage.BytesOut >= m.saved+usageEvery {
		m.ring()
	}
	m.turnLocked()
}

// save keeps what was counted since it was saved last.
func (m *Meter) save() error {
	m.mu.Lock()
	u := m.usage
	total := u.BytesIn + u.BytesOut
	changed := total != m.saved
	m.mu.Unlock()
	if !changed {
		return nil
	}
	if err := m.o.Save(u); err != nil {
		return fmt.Errorf("keeping the link's usage: %w", err)
	}
	m.mu.Lock()
	m.saved = total
	m.mu.Unlock()
	return nil
}
