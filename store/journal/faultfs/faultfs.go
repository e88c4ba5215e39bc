package faultfs

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"sort"
	"sync"
	"syscall"
	"time"

	"github.com/healthpost/healthpost/store/journal"
)

// Mode is how an operation goes wrong.
type Mode uint8

const (
	// Fail does nothing and returns an error. A failed sync loses the data:
	// reads still see it, later syncs do not write it (fsyncgate).
	Fail Mode = iota
	// FailPersisted does all of it, durably, and returns an error.
	FailPersisted
	// Torn does a first part of it, durably, and returns an error.
	Torn
	// Reordered does some sectors of it, durably, wherever they are, and returns
	// an error.
	Reordered
)

func (m Mode) String() string {
	return [...]string{"fail", "fail but persisted", "torn", "reordered"}[m]
}

// Modes are all of them.
var Modes = []Mode{Fail, FailPersisted, Torn, Reordered}

// ErrIO is what a failed operation returns.
var ErrIO = fmt.Errorf("injected: %w", syscall.EIO)

// Fault is one operation that goes wrong.
type Fault struct {
	Op   int // the first is 1; 0 is none
	Mode Mode
}

const sectorBytes = 512

// FS implements journal.FS.
type FS struct {
	mu    sync.Mutex
	rng   *rand.Rand
	fault Fault
	delay time.Duration
	wait  func() // until a sync may go on; nil for at once
	lies  bool
	ops   int
	log   []string
	names map[string]*inode         // as a process sees them
	safe  map[string]*inode         // as the directory was last synced
	since []func(map[string]*inode) // changes of names since then
}

// inode is a file: its bytes as read and as durable. Sectors in dirty were
// written since the last sync; after a failed one they count as clean and are
// not durable.
type inode struct {
	data  []byte
	safe  []byte
	dirty map[int]bool
}

// New makes an empty directory.
func New(seed uint64) *FS {
	return &FS{rng: rand.New(rand.NewPCG(seed, 7)), names: map[string]*inode{}, safe: map[string]*inode{}}
}

// Inject arms a fault and starts counting operations at 1 again.
func (f *FS) Inject(x Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.ops, f.log = x, 0, nil
}

// Disarm takes a fault back; false when it has happened.
func (f *FS) Disarm() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	waiting := f.ops < f.fault.Op
	f.fault = Fault{}
	return waiting
}

// Delay makes every sync take this long.
func (f *FS) Delay(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

// Hold lets no sync return until release is called. From reached comes a word for
// each that waits.
func (f *FS) Hold() (reached <-chan struct{}, release func()) {
	at, held := make(chan struct{}), make(chan struct{})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wait = func() {
		select {
		case at <- struct{}{}:
			<-held
		case <-held:
		}
	}
	return at, sync.OnceFunc(func() { close(held) })
}

// Lie makes syncs report success and do nothing, as some cards do.
func (f *FS) Lie(lies bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lies = lies
}

// Ops is how many operations there were since New or Inject.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// OpName tells what operation n was.
func (f *FS) OpName(n int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n < 1 || n > len(f.log) {
		return "none"
	}
	return f.log[n-1]
}

// Cut gives the directory after a power cut: synced bytes and names, of the other
// bytes each sector with probability keep, and of the changes of names some first
// ones.
func (f *FS) Cut(keep float64) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := New(f.rng.Uint64())
	names := maps.Clone(f.safe)
	for _, change := range f.since {
		if f.rng.Float64() >= keep {
			break // a file system keeps changes of names in order
		}
		change(names)
	}
	for _, name := range sorted(names) {
		n := names[name]
		after := append([]byte(nil), n.safe...)
		for _, s := range sortedSectors(n.dirty) {
			if f.rng.Float64() < keep {
				after = copySector(after, n.data, s)
			}
		}
		i := &inode{data: append([]byte(nil), after...), safe: after, dirty: map[int]bool{}}
		g.names[name], g.safe[name] = i, i
	}
	return g
}

func sorted(m map[string]*inode) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func sortedSectors(m map[int]bool) []int {
	out := make([]int, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Ints(out)
	return out
}

func copySector(dst, src []byte, s int) []byte {
	from, to := s*sectorBytes, min((s+1)*sectorBytes, len(src))
	if from >= to {
		return dst
	}
	if len(dst) < to {
		dst = append(dst, make([]byte, to-len(dst))...)
	}
	copy(dst[from:to], src[from:to])
	return dst
}

// Flip changes one bit of a file on the device; false when there is none there.
func (f *FS) Flip(name string, at int64, bit uint) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.names[name]
	if n == nil || at >= int64(len(n.data)) {
		return false
	}
	n.data[at] ^= 1 << bit
	if at < int64(len(n.safe)) {
		n.safe[at] ^= 1 << bit
	}
	return true
}

// Size is the length of a file, -1 when there is none.
func (f *FS) Size(name string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.names[name]; n != nil {
		return int64(len(n.data))
	}
	return -1
}

// op counts one operation and says whether it goes wrong. The caller holds mu.
func (f *FS) op(what string) (Mode, bool) {
	f.ops++
	if len(f.log) < 1<<16 {
		f.log = append(f.log, what)
	}
	return f.fault.Mode, f.fault.Op == f.ops
}

// change runs a change of names, which is one operation.
func (f *FS) change(what string, do func(names map[string]*inode)) error {
	mode, wrong := f.op(what)
	if wrong && mode == Fail {
		return ErrIO
	}
	do(f.names)
	f.since = append(f.since, do)
	if wrong {
		return ErrIO
	}
	return nil
}

// Open implements journal.FS.
func (f *FS) Open(name string, create bool) (journal.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.names[name] == nil {
		if !create {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		i := &inode{dirty: map[int]bool{}}
		if err := f.change("create "+name, func(names map[string]*inode) { names[name] = i }); err != nil {
			return nil, err
		}
	}
	return &file{f, name, f.names[name]}, nil
}

// Rename implements journal.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.names[from] == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	return f.change("rename "+from, func(names map[string]*inode) {
		names[to] = names[from]
		delete(names, from)
	})
}

// Remove implements journal.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.names[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	return f.change("remove "+name, func(names map[string]*inode) { delete(names, name) })
}

// Names implements journal.FS.
func (f *FS) Names() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return sorted(f.names), nil
}

// SyncDir implements journal.FS.
func (f *FS) SyncDir() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	mode, wrong := f.op("sync directory")
	if !wrong || mode == FailPersisted {
		f.safe = maps.Clone(f.names)
	}
	f.since = nil // of a failed sync the changes are lost, though still seen
	if wrong {
		return ErrIO
	}
	return nil
}

type file struct {
	fs   *FS
	name string
	n    *inode
}

func (x *file) ReadAt(p []byte, at int64) (int, error) {
	x.fs.mu.Lock()
	defer x.fs.mu.Unlock()
	if at >= int64(len(x.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, x.n.data[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (x *file) WriteAt(p []byte, at int64) (int, error) {
	x.fs.mu.Lock()
	defer x.fs.mu.Unlock()
	mode, wrong := x.fs.op(fmt.Sprintf("write %s at %d, %d bytes", x.name, at, len(p)))
	if wrong && mode == Fail {
		return 0, ErrIO
	}
	if wrong && mode == Torn {
		p = p[:x.fs.rng.IntN(len(p)+1)]
	}
	end := at + int64(len(p))
	if int64(len(x.n.data)) < end {
		x.n.data = append(x.n.data, make([]byte, end-int64(len(x.n.data)))...)
	}
	copy(x.n.data[at:end], p)
	for s := int(at / sectorBytes); int64(s)*sectorBytes < end; s++ {
		x.n.dirty[s] = true
	}
	if !wrong {
		return len(p), nil
	}
	if mode == Reordered {
		x.persistSome()
	} else {
		x.persist(1)
	}
	return 0, ErrIO
}

// persist makes the first of the dirty sectors durable, a share of them.
func (x *file) persist(share float64) {
	dirty := sortedSectors(x.n.dirty)
	for _, s := range dirty[:int(share*float64(len(dirty)))] {
		x.n.safe = copySector(x.n.safe, x.n.data, s)
	}
	x.n.dirty = map[int]bool{}
}

// persistSome makes each dirty sector durable or not.
func (x *file) persistSome() {
	for _, s := range sortedSectors(x.n.dirty) {
		if x.fs.rng.IntN(2) == 0 {
			x.n.safe = copySector(x.n.safe, x.n.data, s)
		}
	}
	x.n.dirty = map[int]bool{}
}

func (x *file) Sync() error {
	x.fs.mu.Lock()
	delay, wait := x.fs.delay, x.fs.wait
	x.fs.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	if wait != nil {
		wait()
	}
	x.fs.mu.Lock()
	defer x.fs.mu.Unlock()
	mode, wrong := x.fs.op("sync " + x.name)
	switch {
	case wrong && mode == Fail:
		x.persist(0)
	case wrong && mode == Torn:
		x.persist(x.fs.rng.Float64())
	case wrong && mode == Reordered:
		x.persistSome()
	case !x.fs.lies:
		x.persist(1)
	}
	if wrong {
		return ErrIO
	}
	return nil
}

func (x *file) Size() (int64, error) {
	x.fs.mu.Lock()
	defer x.fs.mu.Unlock()
	return int64(len(x.n.data)), nil
}

func (x *file) Close() error { return nil }
