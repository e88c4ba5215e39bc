package seal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Save replaces the key file at path. When it returns nil the new keys are on
// the disk; after an error or a crash the file holds the old keys or the new,
// never a mixture. Only one Save per path at a time.
//
//  1. path.new is written with mode 0600 and synced
//  2. path.new takes the name path         <- the commit point
//  3. the folder is synced
//
// A path.new that a crash left behind is overwritten by the next Save and never read.
func (k *Keyring) Save(path string) error {
	b, err := k.Encode()
	if err != nil {
		return err
	}
	fresh := path + ".new"
	if err := writeSynced(fresh, b); err != nil {
		return errors.Join(fmt.Errorf("writing the box's keys: %w", err), removeIfThere(fresh))
	}
	if err := os.Rename(fresh, path); err != nil {
		return errors.Join(fmt.Errorf("replacing the box's keys: %w", err), removeIfThere(fresh))
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return fmt.Errorf("syncing the folder of the box's keys: %w", err)
	}
	return nil
}

// LoadKeyring reads the key file at path. warning is empty, or says in words
// that others on this machine may read the file. Errors wrap fs.ErrNotExist,
// ErrDamaged or ErrNewer.
func LoadKeyring(path string) (k *Keyring, warning string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("opening the box's keys: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", fmt.Errorf("opening the box's keys: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, "", fmt.Errorf("reading the box's keys: %w: it is not a regular file", ErrDamaged)
	}
	b, err := io.ReadAll(io.LimitReader(f, keyringBytesMax+1))
	if err != nil {
		return nil, "", fmt.Errorf("reading the box's keys: %w", err)
	}
	if k, err = DecodeKeyring(b); err != nil {
		return nil, "", fmt.Errorf("reading the box's keys: %w", err)
	}
	return k, exposure(info.Mode()), nil
}

func exposure(mode fs.FileMode) string {
	if mode.Perm()&0o077 == 0 {
		return ""
	}
	return fmt.Sprintf("the box's keys can be reached by other users of this machine (mode %04o); their file should have mode 0600", mode.Perm())
}

func writeSynced(path string, b []byte) error {
	if err := removeIfThere(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
