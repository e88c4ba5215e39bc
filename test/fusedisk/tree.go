package fusedisk

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Mode is what a cut leaves of what was not synced.
type Mode string

const (
	Dropped   Mode = "dropped"
	Torn      Mode = "torn"
	Reordered Mode = "reordered"
)

// Modes are all of them.
var Modes = []Mode{Dropped, Torn, Reordered}

// tree is the content of the disk.
type tree struct {
	mu      sync.Mutex
	frozen  bool          // the power is gone
	dark    chan struct{} // closed when frozen: who waits for a sync ends
	rng     *rand.Rand
	folder  string // of the host, for the files' bytes
	root    *inode
	lastIno uint64
	state   State
	armed   armed
	stats   Stats
}

func newTree(folder string, seed uint64) *tree {
	t := &tree{rng: rand.New(rand.NewPCG(seed, 11)), folder: folder, dark: make(chan struct{})}
	t.root = t.newDir(0o755, "")
	return t
}

func (t *tree) newDir(mode uint32, path string) *inode {
	t.lastIno++
	return &inode{ino: t.lastIno, mode: mode&0o7777 | syscall.S_IFDIR, path: path, names: map[string]*inode{}, safe: map[string]*inode{}}
}

// newFile makes a file, a socket or a pipe.
func (t *tree) newFile(mode uint32, path string) (*inode, error) {
	t.lastIno++
	if mode&syscall.S_IFMT == 0 {
		mode |= syscall.S_IFREG
	}
	f, err := os.OpenFile(filepath.Join(t.folder, fmt.Sprint(t.lastIno)), os.O_CREATE|os.O_RDWR, 0o600)
	return &inode{ino: t.lastIno, mode: mode, path: path, host: f, dirty: map[int64][]byte{}, lost: map[int64][]byte{}}, err
}

// set tells the disk its state and starts counting at 1.
func (t *tree) set(s State) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state, t.armed, t.stats = s, armed{Fault: s.Fault}, Stats{}
}

func (t *tree) counts() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	s.Frozen = t.frozen
	t.walk(t.root, func(i *inode) { s.Unsynced += len(i.dirty) + len(i.lost) })
	return s
}

func (t *tree) walk(i *inode, f func(*inode)) {
	f(i)
	for _, name := range slices.Sorted(maps.Keys(i.names)) {
		t.walk(i.names[name], f)
	}
}

// begin counts an operation that the caller is about to do with mu held. wrong
// says that it goes wrong by the armed fault.
func (t *tree) begin(op Op, path string) (wrong bool, errno syscall.Errno) {
	if t.frozen {
		return false, syscall.EIO
	}
	if n := t.state.CutAfter; n > 0 && op != Read && t.stats.Writes+t.stats.Syncs+t.stats.Names >= n {
		t.freezeLocked()
		return false, syscall.EIO
	}
	t.stats.count(op)
	if t.state.ReadOnly && (op == Write || op == Name) {
		return false, syscall.EROFS
	}
	if t.armed.hits(op, path) {
		t.stats.Failed++
		return true, 0
	}
	return false, 0
}

// writeAt is a write of a process, or of the kernel for one.
func (t *tree) writeAt(i *inode, p []byte, at int64, mapped bool) syscall.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	wrong, errno := t.begin(Write, i.path)
	if errno != 0 {
		return errno
	}
	if mapped {
		t.stats.Mapped++
	}
	if !wrong && !t.room(i, at, int64(len(p))) {
		return syscall.ENOSPC
	}
	if wrong {
		switch t.state.Fault.How {
		case Fails:
			return syscall.EIO
		case TornHalf:
			p = p[:t.rng.IntN(len(p)+1)/sectorBytes*sectorBytes]
		}
	}
	if err := i.write(p, at); err != nil {
		return errnoOf(err)
	}
	if wrong {
		i.persist(always)
		return syscall.EIO
	}
	return 0
}

func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return syscall.EIO
}

// sync makes a file or a folder durable, as far as the state of the disk allows.
func (t *tree) sync(i *inode) syscall.Errno {
	if errno := t.waitSync(); errno != 0 {
		return errno
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	wrong, errno := t.begin(Sync, i.path)
	switch {
	case errno != 0:
		return errno
	case wrong && t.state.Fault.How == Fails:
		i.persist(never)
		i.since = nil // lost, though still seen
	case wrong && t.state.Fault.How == TornHalf:
		i.persist(t.halfOfPages())
		i.since = nil
	case !t.state.Lies && !i.isDir():
		i.persist(always)
		fallthrough
	case !t.state.Lies:
		t.commitNames(i)
	}
	if wrong {
		return syscall.EIO
	}
	return 0
}

// commitNames makes names durable: of the folder that was synced, and, as file
// systems with a journal do, of every other one too.
func (t *tree) commitNames(synced *inode) {
	t.walk(t.root, func(i *inode) {
		if i.isDir() && (i == synced || !t.state.Strict) {
			i.safe, i.since = maps.Clone(i.names), nil
		}
	})
}

func (t *tree) waitSync() syscall.Errno {
	t.mu.Lock()
	wait, dark := t.state.SyncWait, t.dark
	t.mu.Unlock()
	if wait == 0 {
		return 0
	}
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return 0
	case <-dark:
		return syscall.EIO
	}
}

func (t *tree) halfOfPages() func(int64) bool {
	pages := map[int64]bool{}
	return func(sector int64) bool {
		page := sector * sectorBytes / pageBytes
		if _, ok := pages[page]; !ok {
			pages[page] = t.rng.IntN(2) == 0
		}
		return pages[page]
	}
}

// change changes names of one folder, or of two.
func (t *tree) change(changes map[*inode]change) syscall.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	path := ""
	for _, c := range changes {
		for name := range c {
			path = name
		}
	}
	wrong, errno := t.begin(Name, path)
	if errno != 0 {
		return errno
	}
	if wrong && t.state.Fault.How == Fails {
		return syscall.EIO
	}
	for dir, c := range changes {
		dir.rename(c)
		if wrong {
			dir.safe, dir.since = maps.Clone(dir.names), nil
		}
	}
	if wrong {
		return syscall.EIO
	}
	return 0
}

// freeze ends everything: what was begun is done, nothing else is.
func (t *tree) freeze() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.freezeLocked()
}

func (t *tree) freezeLocked() {
	if !t.frozen {
		t.frozen = true
		close(t.dark)
	}
}

// cut takes back what was not synced.
func (t *tree) cut(m Mode) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := map[*inode]bool{}
	t.walk(t.root, func(i *inode) { old[i] = true })
	if err := t.cutInode(t.root, m, old); err != nil {
		return fmt.Errorf("cutting the power: %w", err)
	}
	for i := range old { // nothing names them any more
		if i.host != nil {
			if err := errors.Join(i.host.Close(), os.Remove(i.host.Name())); err != nil {
				return fmt.Errorf("cutting the power: %w", err)
			}
		}
	}
	t.state, t.armed = State{}, armed{}
	t.frozen, t.dark = false, make(chan struct{})
	return nil
}

func (t *tree) cutInode(i *inode, m Mode, gone map[*inode]bool) error {
	delete(gone, i)
	if !i.isDir() {
		keep, size := t.kept(i, m)
		return i.cut(keep, size)
	}
	for _, c := range i.since { // a file system keeps a folder's changes in order
		if m != Reordered || t.rng.IntN(3) == 0 {
			break
		}
		c.apply(i.safe)
	}
	i.names, i.since = maps.Clone(i.safe), nil
	for _, name := range slices.Sorted(maps.Keys(i.names)) {
		if err := t.cutInode(i.names[name], m, gone); err != nil {
			return err
		}
	}
	return nil
}

// kept says what of a file's unsynced bytes a cut leaves, and its length.
func (t *tree) kept(i *inode, m Mode) (keep func(int64) bool, size int64) {
	switch {
	case i.cutOff(): // a file system makes a file shorter in one step or not at all
		if m == Dropped || t.rng.IntN(2) == 0 {
			return never, i.safeSize
		}
		return func(s int64) bool { return s*sectorBytes >= i.shortest }, i.shortest
	case m == Torn && i.last.to > i.last.from:
		first := i.last.from / sectorBytes
		n := int64(t.rng.IntN(int((i.last.to-1)/sectorBytes-first) + 2))
		size = i.safeSize
		if n > 0 {
			size = max(size, min(i.size, (first+n)*sectorBytes))
		}
		return func(s int64) bool { return s >= first && s < first+n }, size
	case m == Reordered:
		size = i.safeSize
		if t.rng.IntN(2) == 0 {
			size = i.size
		}
		return t.halfOfPages(), size
	}
	return never, i.safeSize
}
