package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

var (
	// ErrNoBox: the folder holds no box.
	ErrNoBox = errors.New("no box here")
	// ErrBoxExists: the folder holds a box already.
	ErrBoxExists = errors.New("a box is here already")
)

const boxFormat = 1

// Box is what a box knows of itself before its replica is open: box.toml.
type Box struct {
	Format int         `toml:"format"`
	Role   record.Role `toml:"role"`
	Name   string      `toml:"name"`
	Region string      `toml:"region,omitempty"` // region id once it belongs to one; guarded by mu
	// Began is what the box was before a reset made it a hub: for its staff it still is.
	Began record.Role `toml:"began,omitempty"`

	dir string
	mu  sync.Mutex
}

// forStaff is what the box is for those who work at it.
func (b *Box) forStaff() record.Role {
	if b.Began != "" {
		return b.Began
	}
	return b.Role
}

func (b *Box) path(name string) string { return filepath.Join(b.dir, name) }

// RegionID is the region this box belongs to; ok false before it joined or founded one.
func (b *Box) RegionID() (id record.RegionID, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id, err := record.ParseRegionID(b.Region)
	return id, err == nil
}

// Init makes a box in an empty or new folder: its name, its role and its keys.
// ErrBoxExists when there is one, and an error in words for any other content.
func Init(dir string, role record.Role, name string) (*Box, error) {
	return makeBox(dir, role, name, nil)
}

// InitLocked is Init of a box whose keys are under a lock from the beginning: they never lie on its disk
// without it, where flash could keep them.
func InitLocked(dir string, role record.Role, name string, by Opener) (*Box, error) {
	return makeBox(dir, role, name, by.lock)
}

func makeBox(dir string, role record.Role, name string, lock func(*seal.Keyring) error) (*Box, error) {
	if !plainName(name, boxNameMax) {
		return nil, fmt.Errorf("naming the box: a name has 1 to %d bytes of text on one line", boxNameMax)
	}
	if err := emptyFolder(dir); err != nil {
		return nil, err
	}
	keys, err := seal.NewKeyring(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the keys: %w", err)
	}
	if lock != nil {
		if err := lock(keys); err != nil {
			return nil, fmt.Errorf("locking the keys: %w", err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil { // it may have been made for everybody
		return nil, fmt.Errorf("closing the data folder to others: %w", err)
	}
	b := &Box{Format: boxFormat, Role: role, Name: name, dir: dir}
	if err := keys.Save(b.path("keys")); err != nil {
		return nil, fmt.Errorf("saving the keys: %w", err)
	}
	return b, b.save()
}

const boxNameMax = 120

// plainName reports whether a name can stand in a list on a page or a terminal: a
// name with control characters could rewrite what others read around it.
func plainName(s string, bytesMax int) bool {
	return s != "" && len(s) <= bytesMax && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func emptyFolder(dir string) error {
	if err := makeFolder(dir); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading the data folder: %w", err)
	}
	for _, e := range entries {
		switch e.Name() {
		case "box.toml":
			return fmt.Errorf("%s: %w", dir, ErrBoxExists)
		case "config.toml", "keys", "keys.new", "box.toml.new", "lost+found": // an init cut short starts over
		default:
			return fmt.Errorf("%s holds %q, which is not part of a box: choose an empty folder", dir, e.Name())
		}
	}
	return nil
}

// LoadBox reads box.toml. ErrNoBox when the folder holds none.
func LoadBox(dir string) (*Box, error) {
	b := &Box{dir: dir}
	raw, err := os.ReadFile(b.path("box.toml"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoBox)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the box: %w", err)
	}
	if err := toml.Unmarshal(raw, b); err != nil {
		return nil, fmt.Errorf("reading %s: %w", b.path("box.toml"), err)
	}
	if b.Format != boxFormat {
		return nil, fmt.Errorf("reading %s: format %d, this program knows %d: use a newer version", b.path("box.toml"), b.Format, boxFormat)
	}
	return b, nil
}

// belongTo makes the region known to this box for good.
func (b *Box) belongTo(id record.RegionID) error {
	b.mu.Lock()
	b.Region = id.String()
	b.mu.Unlock()
	return b.save()
}

func (b *Box) save() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	raw, err := toml.Marshal(b)
	if err != nil {
		return fmt.Errorf("saving the box: %w", err)
	}
	if err := replaceFile(b.path("box.toml"), raw); err != nil {
		return fmt.Errorf("saving the box: %w", err)
	}
	return nil
}

// replaceFile writes a file so that after a crash it holds the old bytes or the
// new ones: path.new synced, renamed, folder synced.
func replaceFile(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncNames(filepath.Dir(path))
}

// makeFolder makes a folder and those above it that are missing, durable on return.
func makeFolder(dir string) error {
	above := filepath.Dir(filepath.Clean(dir))
	if above != dir && !exists(above) {
		if err := makeFolder(above); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := syncNames(above); err != nil && !errors.Is(err, fs.ErrPermission) { // who may not open it made nothing in it
		return err
	}
	return nil
}

// syncNames makes the names in a folder durable.
func syncNames(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
