package fusedisk

import (
	"maps"
	"os"
	"slices"
	"syscall"
)

const (
	sectorBytes = 512
	pageBytes   = 4096
)

// inode is a file or a folder. The disk's mutex guards all of it.
type inode struct {
	ino  uint64
	mode uint32
	path string // as it was last named, for faults that ask for it

	// A folder's names, as processes see them and as they are durable, with the
	// changes between.
	names, safe map[string]*inode
	since       []change

	// A file's bytes lie in a file of the host. Sectors that are not durable are
	// kept as they are on the disk: dirty ones are made durable by the next sync,
	// lost ones by none. nil is a sector beyond what is durable.
	host     *os.File
	size     int64
	safeSize int64
	dirty    map[int64][]byte
	lost     map[int64][]byte
	last     span  // of the last write
	shortest int64 // length since the last sync; less than safeSize where it was cut off
}

type span struct{ from, to int64 }

// change is one change of a folder's names; nil takes a name away.
type change map[string]*inode

func (i *inode) isDir() bool { return i.mode&syscall.S_IFMT == syscall.S_IFDIR }

// rename changes names of a folder in one step.
func (i *inode) rename(c change) {
	c.apply(i.names)
	i.since = append(i.since, c)
}

func (c change) apply(names map[string]*inode) {
	for name, n := range c {
		if n == nil {
			delete(names, name)
		} else {
			names[name] = n
		}
	}
}

// remember keeps the durable bytes of the sectors that are about to change.
func (i *inode) remember(from, to int64) error {
	for s := from / sectorBytes; s*sectorBytes < to; s++ {
		if _, ok := i.dirty[s]; ok {
			continue
		}
		if old, ok := i.lost[s]; ok {
			i.dirty[s] = old
			delete(i.lost, s)
			continue
		}
		if s*sectorBytes >= i.safeSize {
			i.dirty[s] = nil
			continue
		}
		old := make([]byte, sectorBytes)
		if _, err := i.host.ReadAt(old, s*sectorBytes); err != nil && s*sectorBytes+sectorBytes <= i.size {
			return err
		}
		i.dirty[s] = old
	}
	return nil
}

func (i *inode) write(p []byte, at int64) error {
	end := at + int64(len(p))
	if err := i.remember(at, end); err != nil {
		return err
	}
	if _, err := i.host.WriteAt(p, at); err != nil {
		return err
	}
	i.size = max(i.size, end)
	i.last = span{at, end}
	return nil
}

func (i *inode) truncate(size int64) error {
	if size < i.size {
		if err := i.remember(size, min(i.size, i.safeSize)); err != nil {
			return err
		}
	}
	i.size, i.shortest = size, min(i.shortest, size)
	return i.host.Truncate(size)
}

// persist makes dirty sectors durable for which keep says so; the others are lost.
func (i *inode) persist(keep func(sector int64) bool) {
	for _, s := range slices.Sorted(maps.Keys(i.dirty)) {
		if !keep(s) {
			i.lost[s] = i.dirty[s]
		}
	}
	i.dirty = map[int64][]byte{}
	i.safeSize, i.shortest = i.size, i.size
}

func always(int64) bool { return true }
func never(int64) bool  { return false }

// cut takes back the sectors that are not durable, but those of the last writes
// that keep names.
func (i *inode) cut(keep func(sector int64) bool, size int64) error {
	for s, old := range i.dirty {
		if keep(s) {
			continue
		}
		if err := i.putBack(s, old); err != nil {
			return err
		}
	}
	for s, old := range i.lost {
		if err := i.putBack(s, old); err != nil {
			return err
		}
	}
	i.dirty, i.lost, i.last = map[int64][]byte{}, map[int64][]byte{}, span{}
	i.size, i.safeSize, i.shortest = size, size, size
	return i.host.Truncate(size)
}

// cutOff says that bytes which are durable were cut off since the last sync.
func (i *inode) cutOff() bool { return i.shortest < i.safeSize }

func (i *inode) putBack(sector int64, old []byte) error {
	if old == nil {
		old = make([]byte, sectorBytes)
	}
	_, err := i.host.WriteAt(old, sector*sectorBytes)
	return err
}
