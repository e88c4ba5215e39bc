package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/healthpost/healthpost/record/printed"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// The keys of a box can lie under a lock: a passphrase, a key file that is kept away from it, or a TPM (lockchip.go). The
// device's key stays readable, so a box that starts locked exchanges, carries and orders at once: what
// it holds and passes on is sealed. It computes no lists, reads no parcels, admits nobody and serves
// one page, which asks for the passphrase. When the lock is opened the box closes and opens again with
// all its keys (Start).
//
//	lock/tries       wrong passphrases and until when none is tried
//	tls/locked       copy of the page's authority (authority.go) for while the box is locked, sealed
//	                 under the device's key

// ErrKeysLocked: it takes keys that are under a lock.
var ErrKeysLocked = errors.New("the keys of this box are locked")

var (
	lockTriesKey       = []byte("lock/tries")
	lockedAuthorityKey = []byte("tls/locked")
)

// keyFileLook is how often a locked box looks for its key file.
const keyFileLook = 500 * time.Millisecond

// lockRoom is what a box knows of its lock while it runs.
type lockRoom struct {
	mu     sync.Mutex    // one try at a time
	opened chan struct{} // closed when the lock was opened
	keys   *seal.Keyring // by then; guarded by mu
	tries  lockTries     // counted while the disk was full; guarded by mu
	ring   sync.Mutex    // guards n.keys against two who change and save them
}

type lockTries struct {
	_     struct{} `cbor:",toarray"`
	Fails uint8    // in a row
	Until int64    // Unix seconds of this box's clock until which nothing is tried
}

// openKeys reads the box's keys, and opens their lock with what o has for it.
func (b *Box) openKeys(o *Options) (*seal.Keyring, error) {
	keys, warning, err := seal.LoadKeyring(b.path("keys"))
	if err != nil {
		return nil, fmt.Errorf("reading the keys of this box: %w", err)
	}
	if warning != "" {
		o.Log.Warn().Str("warning", warning).Msg("file of keys")
	}
	if !keys.Locked() {
		return keys, nil
	}
	if o.keys != nil && o.keys.Device == keys.Device {
		return o.keys, nil
	}
	if keys.LockKind() == seal.KeyFileLock && o.KeyFile != "" {
		whole, err := openWithFile(keys, o.KeyFile)
		if err == nil {
			return whole, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			o.Log.Warn().Err(err).Msg("opening the lock")
		}
	}
	if keys.LockKind() == seal.TPMLock {
		whole, err := openWithChip(keys, o.TPM)
		if err == nil {
			return whole, nil
		}
		o.Log.Warn().Err(err).Msg("opening the lock")
	}
	if !o.whileLocked && o.AskLock != nil {
		by, err := o.AskLock(keys.LockKind().String())
		if err != nil {
			return nil, err
		}
		return by.open(keys)
	}
	if !o.whileLocked {
		return nil, fmt.Errorf("%w: start the box and open its lock first, on its page or with 'healthpost keys open'", ErrKeysLocked)
	}
	return keys, nil
}

func openWithFile(keys *seal.Keyring, path string) (*seal.Keyring, error) {
	k, err := seal.LoadKeyFile(path)
	if err != nil {
		return nil, err
	}
	return keys.Open(seal.FileKey(k))
}

// Start opens the box in o.Data and runs it until ctx ends. A box whose keys are locked runs without
// them until somebody opens the lock, and then with them. say and ready are as OpenToRun and Run have them.
func Start(ctx context.Context, o Options, say func(string), ready func(page string)) error {
	o.whileLocked = true
	for {
		n, err := OpenToRun(ctx, o, say)
		if err != nil {
			return err
		}
		if n.keys.Locked() {
			say("The keys of this box are locked. It exchanges with others; charts open once somebody opens the lock.")
		}
		err = n.Run(ctx, ready)
		keys := n.openedKeys()
		if err = errors.Join(err, n.Close()); err != nil || keys == nil || ctx.Err() != nil {
			return err
		}
		o.keys = keys
		say("The lock was opened.")
	}
}

// openedKeys are those of a box whose lock was opened while it ran.
func (n *Node) openedKeys() *seal.Keyring {
	n.lock.mu.Lock()
	defer n.lock.mu.Unlock()
	return n.lock.keys
}

var errLockOpened = errors.New("the lock was opened")

// lockLoop ends when the lock is opened. Where the lock is a key file it looks for it.
func (n *Node) lockLoop(ctx context.Context) error {
	look := time.NewTicker(keyFileLook)
	defer look.Stop()
	wrong := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.lock.opened:
			return errLockOpened
		case <-look.C:
		}
		if n.o.KeyFile == "" || n.keys.LockKind() != seal.KeyFileLock {
			continue
		}
		keys, _, err := seal.LoadKeyring(n.box.path("keys"))
		var whole *seal.Keyring
		if err == nil {
			whole, err = openWithFile(keys, n.o.KeyFile)
		}
		switch {
		case err == nil:
			n.opened(whole)
		case errors.Is(err, fs.ErrNotExist):
		case err.Error() != wrong:
			wrong = err.Error()
			n.log.Warn().Err(err).Msg("opening the lock")
		}
	}
}

func (n *Node) opened(whole *seal.Keyring) {
	n.lock.mu.Lock()
	defer n.lock.mu.Unlock()
	n.openedLocked(whole)
}

func (n *Node) openedLocked(whole *seal.Keyring) {
	if n.lock.keys == nil {
		n.lock.keys = whole
		close(n.lock.opened)
	}
}

// Opener is what opens a lock: a passphrase, or the secret of a key file.
type Opener struct {
	Passphrase string `json:"passphrase,omitempty"`
	File       []byte `json:"file,omitempty"`
}

// opener is the same for package seal; it answers ErrWrongLock for what can be neither.
func (o Opener) opener() (seal.Opener, error) {
	switch {
	case o.Passphrase != "" && len(o.File) == 0 && len(o.Passphrase) <= seal.PassphraseBytesMax:
		return seal.Passphrase(o.Passphrase), nil
	case o.Passphrase == "" && len(o.File) == len(seal.Key{}):
		return seal.FileKey(seal.Key(o.File)), nil
	}
	return seal.Opener{}, fmt.Errorf("%w: give a passphrase or a key file", seal.ErrWrongLock)
}

func (o Opener) open(keys *seal.Keyring) (*seal.Keyring, error) {
	by, err := o.opener()
	if err != nil {
		return nil, err
	}
	return keys.Open(by)
}

// lock puts a lock on keys that this opens.
func (o Opener) lock(keys *seal.Keyring) error {
	to, err := o.opener()
	if err == nil {
		err = keys.Lock(rand.Reader, to)
	}
	return err
}

// OpenLock opens the lock of this box for the page. Wrong ones are counted as wrong PINs are, on disk and
// so across restarts; web.ErrWrongPIN or *web.LockedError then.
func (n *Node) OpenLock(ctx context.Context, by Opener) error {
	return n.openLock(func(keys *seal.Keyring) (*seal.Keyring, error) {
		return n.tryLocked(ctx, func() (*seal.Keyring, error) { return by.open(keys) })
	})
}

// OpenLockHere is OpenLock for a command, whose owner may read the file of the keys and try anything on it
// anyway: nothing is counted, so that nobody on the network keeps the box shut. It wraps seal.ErrWrongLock.
func (n *Node) OpenLockHere(by Opener) error {
	if n.keys.Locked() && !n.isRunning() {
		return ErrNotRunning
	}
	return n.openLock(by.open)
}

func (n *Node) openLock(open func(*seal.Keyring) (*seal.Keyring, error)) error {
	if !n.keys.Locked() {
		return nil
	}
	n.lock.mu.Lock()
	defer n.lock.mu.Unlock()
	if n.lock.keys != nil {
		return nil
	}
	keys, _, err := seal.LoadKeyring(n.box.path("keys")) // the lock may be another since the box started
	if err == nil && keys.Locked() {
		keys, err = open(keys)
	}
	if err == nil {
		n.openedLocked(keys)
	}
	return err
}

// tryLocked opens keys and counts a try that was wrong. The caller holds n.lock.mu.
func (n *Node) tryLocked(ctx context.Context, open func() (*seal.Keyring, error)) (*seal.Keyring, error) {
	t, now := n.lock.tries, n.o.Now()
	if t == (lockTries{}) {
		if _, err := n.plainRow(lockTriesKey, &t); err != nil {
			return nil, err
		}
	}
	if wait, most := time.Unix(t.Until, 0).Sub(now), pinLockFor(t.Fails); wait > most { // the clock was set back
		t.Until = now.Add(most).Unix()
		return nil, errors.Join(n.keepTries(ctx, t), &web.LockedError{Until: most})
	} else if wait > 0 {
		return nil, &web.LockedError{Until: wait}
	}
	whole, err := open()
	if !errors.Is(err, seal.ErrWrongLock) {
		if err == nil && t.Fails != 0 {
			err = n.keepTries(ctx, lockTries{})
		}
		return whole, err
	}
	t.Fails, t.Until = countWrong(t.Fails, now)
	if err := n.keepTries(ctx, t); err != nil {
		return nil, explain(err) // a try that cannot be counted is not answered
	}
	if t.Until > now.Unix() {
		return nil, &web.LockedError{Until: pinLockFor(t.Fails)}
	}
	return nil, web.ErrWrongPIN
}

// keepTries keeps the count on disk, and in memory until there is room.
func (n *Node) keepTries(ctx context.Context, t lockTries) error {
	row, err := putPlain(lockTriesKey, t)
	if err != nil {
		return err
	}
	if err = n.store.PutRowsReserved(ctx, []store.Row{row}); errors.Is(err, store.ErrFull) {
		n.lock.tries = t
		return nil
	}
	n.lock.tries = lockTries{}
	return err
}

// LockChange says how the lock of this box is to be. From opens the lock of now, where there is one; To
// nil takes it off.
type LockChange struct {
	From *Opener `json:"from,omitempty"`
	To   *Opener `json:"to,omitempty"`
	Chip ChipUse `json:"chip,omitempty"` // a TPM keeps the secret of the lock, and To is the passphrase besides
}

// LockInfo is the lock of a box.
type LockInfo struct {
	Kind   string    `json:"kind"`             // none, passphrase, key file, TPM, TPM and PIN
	Locked bool      `json:"locked,omitempty"` // nobody opened it since the box started
	Chip   *ChipInfo `json:"chip,omitempty"`   // where a TPM keeps its secret, when that was asked for
}

// Lock tells how the keys of this box are kept.
func (n *Node) Lock() LockInfo {
	n.lock.ring.Lock()
	defer n.lock.ring.Unlock()
	return LockInfo{Kind: n.keys.LockKind().String(), Locked: n.keys.Locked()}
}

// ChangeLock puts a lock on the keys of this box, another in its place, or takes it off, durable on
// return. It opens a box that runs locked.
func (n *Node) ChangeLock(ctx context.Context, c LockChange) error {
	n.lock.mu.Lock()
	defer n.lock.mu.Unlock()
	n.lock.ring.Lock()
	defer n.lock.ring.Unlock()
	keys, err := n.keysToChange(c.From)
	if err != nil {
		return err
	}
	switch {
	case c.To == nil:
		err = keys.TakeLockOff()
	case c.Chip != NoChip:
		err = c.To.lockWithChip(keys, c.Chip, n.o.TPM)
	default:
		err = c.To.lock(keys)
	}
	if err == nil {
		err = n.copyAuthority(ctx, c.To != nil)
	}
	if err == nil {
		err = keys.Save(n.box.path("keys"))
	}
	if err != nil {
		return fmt.Errorf("changing the lock: %w", err)
	}
	if err := n.dropMemberLocks(ctx); err != nil { // they are of the lock before, and open nothing
		n.log.Warn().Err(err).Msg("parts of the lock before stay on the disk")
	}
	if n.keys.Locked() {
		n.openedLocked(keys)
	} else {
		n.keys.UseLockOf(keys)
	}
	return nil
}

// keysToChange are the keys as they are on disk, opened.
func (n *Node) keysToChange(from *Opener) (*seal.Keyring, error) {
	keys, _, err := seal.LoadKeyring(n.box.path("keys"))
	if err != nil || !keys.Locked() {
		return keys, err
	}
	if from == nil {
		return nil, fmt.Errorf("%w: what opens the lock of now is needed to change it", ErrKeysLocked)
	}
	return from.open(keys)
}

// lockRoutes are the commands about the lock, and what a locked box answers besides.
func (n *Node) lockRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("GET /keys", func(*http.Request) (any, error) { return n.LockWithChip() })
	reply("POST /keys/open", func(r *http.Request) (any, error) {
		var by Opener
		if err := json.NewDecoder(r.Body).Decode(&by); err != nil {
			return nil, errors.New("reading the request: it is none") // the decoder's words could show what was typed
		}
		return struct{}{}, n.OpenLockHere(by)
	})
	reply("POST /keys/change", func(r *http.Request) (any, error) {
		var c LockChange
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			return nil, errors.New("reading the request: it is none")
		}
		return struct{}{}, n.ChangeLock(r.Context(), c)
	})
}

// answeredLocked are the commands that take no keys.
var answeredLocked = map[string]bool{
	"GET /status": true, "GET /members": true, "GET /hubs": true, "POST /sync": true, "POST /link": true, "POST /verify": true,
	"GET /region/keys": true, "GET /root": true, "GET /root/check": true, "GET /keys": true, "POST /keys/open": true, "POST /keys/change": true,
}

// whileLocked answers what takes no keys, and says of everything else why not.
func whileLocked(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern == "" || answeredLocked[pattern] {
			mux.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusLocked)
		why := wireError{Error: ErrKeysLocked.Error() + ": open them with 'healthpost keys open' or on its page"}
		json.NewEncoder(w).Encode(struct { // the reader is gone when this fails
			wireError
			Failure wireError `json:"failure"` // for who waits for a stream
		}{why, why})
	})
}

// Lock, OpenLock and ChangeLock do on the box what the methods of the same name on Node say.
func (c *Client) Lock(ctx context.Context) (i LockInfo, err error) {
	return i, c.call(ctx, http.MethodGet, "/keys", nil, &i)
}

func (c *Client) OpenLock(ctx context.Context, by Opener) error {
	return c.call(ctx, http.MethodPost, "/keys/open", by, &struct{}{})
}

func (c *Client) ChangeLock(ctx context.Context, change LockChange) error {
	return c.call(ctx, http.MethodPost, "/keys/change", change, &struct{}{})
}

// KeyFile reads the secret of a key file, MakeKeyFile makes one where there is none.
func KeyFile(path string) ([]byte, error) {
	k, err := seal.LoadKeyFile(path)
	return k[:], err
}

func MakeKeyFile(path string) ([]byte, error) {
	k, err := seal.MakeKeyFile(rand.Reader, path)
	return k[:], err
}

// passphraseWords of 2,048 each have 77 bits.
const passphraseWords = 7

// MakePassphrase draws a passphrase.
func MakePassphrase(rand io.Reader) (string, error) {
	seed, err := seal.NewKey(rand)
	if err != nil {
		return "", err
	}
	return strings.Join(printed.Words(seed)[:passphraseWords], " "), nil
}
