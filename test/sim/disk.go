package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/healthpost/healthpost/store/journal/faultfs"
)

// disk is what a box's replica lies on: the journal in memory, the index in a
// directory, and of the index a copy as of the last checkpoint, which is all of
// it that is sure to be there after a power cut.
type disk struct {
	*faultfs.FS
	dir  string
	safe string
	mu   sync.Mutex // the copy and the names move together
	spy  spy
}

func newDisk(seed uint64, dir string) *disk {
	return &disk{FS: faultfs.New(seed), dir: dir, safe: dir + ".safe"}
}

func (d *disk) index() string { return filepath.Join(d.dir, "index") }

// Rename implements journal.FS. It comes right after the index was synced for a
// checkpoint.
func (d *disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.safe != "" {
		if err := replaceDir(d.safe, d.index()); err != nil {
			return err
		}
	}
	return d.FS.Rename(from, to)
}

// cut is what the disk holds after a power cut: of what was not synced each
// sector with probability keep. With forget the index is as of the last
// checkpoint. end ends the process, which from here on writes nothing more.
func (d *disk) cut(keep float64, forget bool, end func() error) (*disk, error) {
	d.mu.Lock()
	n := &disk{FS: d.FS.Cut(keep), dir: d.dir, safe: d.safe}
	d.FS.Inject(faultfs.Fault{Op: 1, Mode: faultfs.Fail})
	d.safe = ""
	d.mu.Unlock()
	_ = end() // a process without its disk ends with an error
	if !forget {
		return n, nil
	}
	return n, replaceDir(n.index(), n.safe)
}

// image is a copy of everything that is sure to be on the disk, as a person
// copies a card.
type image struct {
	journal *faultfs.FS
	index   string
	acked   int // hubs: items of the log that the disk held
}

func (d *disk) image(dir string) (*image, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &image{journal: d.FS.Cut(0), index: dir}, replaceDir(dir, d.safe)
}

// restore puts an image in the place of what the disk held.
func (d *disk) restore(i *image) (*disk, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := &disk{FS: i.journal.Cut(0), dir: d.dir, safe: d.safe}
	return n, errors.Join(replaceDir(n.index(), i.index), replaceDir(n.safe, i.index))
}

// replaceDir puts what an index holds at one moment in the place of another. A
// store that is open may write a table out at any time, so it is copied until
// nothing changed meanwhile.
func replaceDir(to, from string) error {
	for {
		before, err := listing(from)
		if err == nil {
			err = copyDir(to, from)
		}
		if err != nil {
			return fmt.Errorf("replacing a folder: %w", err)
		}
		if after, err := listing(from); err != nil || after == before {
			return err
		}
	}
}

// listing changes when tables come or go: the manifest grows, logs are removed.
func listing(dir string) (string, error) {
	names, err := os.ReadDir(dir)
	text := ""
	for _, n := range names {
		text += n.Name() + "\n"
		if st, err := n.Info(); err == nil && n.Name() == "MANIFEST" {
			text += strconv.FormatInt(st.Size(), 10) + "\n"
		}
	}
	return text, err
}

func copyDir(to, from string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	names, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := copyFile(filepath.Join(to, n.Name()), filepath.Join(from, n.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("copying %s: %w", n.Name(), err)
		}
	}
	return nil
}

// copyFile keeps holes. A memtable log is written in order, so its first empty
// block is its end.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	zeros, buf := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := in.ReadAt(buf, at)
		empty := bytes.Equal(buf[:n], zeros[:n])
		if n > 0 && !empty {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		if at += int64(n); errors.Is(err, io.EOF) || empty && strings.HasSuffix(from, ".mem") {
			return out.Truncate(st.Size())
		}
		if err != nil {
			return err
		}
	}
}
