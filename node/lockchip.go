package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/tpm"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// The secret of a lock can be kept by a TPM, which gives it to the box alone, or to members of staff who
// type a number and their PIN on the page of the locked box. A member's part is made when the PIN is typed:
// as the account is made, or at the next sign-in; it ends in the transaction that ends the account. The page
// of a locked box lists nobody, so members type a number, which says nothing to a thief.
//
//	lock/pin/ID      seal.MemberLock of the account with this ID, as staff/ID; in the clear

var memberLockKey = []byte("lock/pin/")

// ChipUse says whom a TPM gives the secret of a lock.
type ChipUse string

const (
	NoChip   ChipUse = ""
	ChipBox  ChipUse = "box"   // to the box itself, when it starts
	ChipPINs ChipUse = "staff" // to each member of staff, for a PIN
)

// lockWithChip puts a lock on keys whose secret the TPM at path keeps, and this passphrase opens besides.
func (o Opener) lockWithChip(keys *seal.Keyring, use ChipUse, path string) error {
	spare, err := o.opener()
	if err != nil {
		return err
	}
	chip := tpm.At(path)
	switch use {
	case ChipBox:
		return keys.LockWithChip(rand.Reader, seal.TPMLock, spare, func(secret seal.Key) ([]byte, error) {
			object, err := chip.Seal(secret[:], nil)
			if err != nil {
				return nil, err
			}
			return object.Encode()
		})
	case ChipPINs:
		if _, err := chip.Lockout(); err != nil { // a lock that no PIN will open is none to put on
			return err
		}
		return keys.LockWithChip(rand.Reader, seal.TPMPINLock, spare, func(seal.Key) ([]byte, error) { return nil, nil })
	}
	return fmt.Errorf("locking the keys: %w: a TPM serves the box or its staff", seal.ErrWrongLock)
}

// openWithChip opens keys whose secret the TPM gives the box itself.
func openWithChip(keys *seal.Keyring, path string) (*seal.Keyring, error) {
	object, err := tpm.DecodeObject(keys.ChipObject())
	if err != nil {
		return nil, err
	}
	return openWithObject(keys, path, object, nil)
}

func openWithObject(keys *seal.Keyring, path string, object tpm.Object, auth []byte) (*seal.Keyring, error) {
	secret, err := tpm.At(path).Unseal(object, auth)
	if err != nil {
		return nil, err
	}
	return keys.Open(seal.ChipSecret(seal.Key(secret)))
}

// OpenLockByPIN opens the lock of this box by a member's number and PIN, as OpenLock does by a passphrase.
// web.ErrChipRests or web.ErrNoChip where the TPM takes no PIN now.
func (n *Node) OpenLockByPIN(ctx context.Context, number int, pin string) error {
	return n.openLock(func(keys *seal.Keyring) (*seal.Keyring, error) {
		return n.tryLocked(ctx, func() (*seal.Keyring, error) { return n.openByPIN(keys, number, pin) })
	})
}

// openByPIN is one try; wrong ones wrap seal.ErrWrongLock.
func (n *Node) openByPIN(keys *seal.Keyring, number int, pin string) (*seal.Keyring, error) {
	if keys.LockKind() != seal.TPMPINLock || !pinShape(pin) {
		return nil, seal.ErrWrongLock
	}
	list, err := n.memberLocks(keys.LockID())
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		if int(m.Number) != number {
			continue
		}
		object, err := tpm.DecodeObject(m.Object)
		if err != nil {
			return nil, err
		}
		auth, err := m.Auth(pin)
		if err != nil {
			return nil, err
		}
		whole, err := openWithObject(keys, n.o.TPM, object, auth[:])
		return whole, n.pageWords(err)
	}
	return nil, seal.ErrWrongLock
}

// pageWords gives what a TPM answered the error family that the page has words for.
func (n *Node) pageWords(err error) error {
	switch {
	case errors.Is(err, tpm.ErrWrongAuth):
		return fmt.Errorf("%w: %w", seal.ErrWrongLock, err)
	case errors.Is(err, tpm.ErrLockout):
		return fmt.Errorf("%w: %w", web.ErrChipRests, err)
	case errors.Is(err, tpm.ErrNoChip), errors.Is(err, tpm.ErrOtherChip), errors.Is(err, tpm.ErrDamaged):
		n.log.Warn().Err(err).Msg("opening the lock by a PIN")
		return fmt.Errorf("%w: %w", web.ErrNoChip, err)
	}
	return err
}

// memberLocks are the members' parts of one lock, by the account's ID.
func (n *Node) memberLocks(of seal.LockID) (map[string]seal.MemberLock, error) {
	list, bad := map[string]seal.MemberLock{}, error(nil)
	err := n.store.ScanRows(memberLockKey, 10_000, func(k, v []byte) bool {
		m, err := seal.DecodeMemberLock(v)
		if err != nil {
			bad = err
		} else if m.Of == of {
			list[strings.TrimPrefix(string(k), string(memberLockKey))] = m
		}
		return true
	})
	if err == nil && len(list) == 0 {
		err = bad // a damaged part keeps nobody else out
	}
	return list, err
}

// memberLockRow is the row that lets a member open the lock; none where the lock takes no PINs or the
// member can. The caller holds staffRoom.pinMu.
func (n *Node) memberLockRow(id, pin string) ([]store.Row, error) {
	n.lock.ring.Lock()
	secret, of, ok := n.keys.LockSecret()
	ok = ok && n.keys.LockKind() == seal.TPMPINLock
	n.lock.ring.Unlock()
	if !ok {
		return nil, nil
	}
	list, err := n.memberLocks(of)
	if _, has := list[id]; has || err != nil {
		return nil, err
	}
	m, err := seal.NewMemberLock(rand.Reader, of, freeNumber(list), n.o.PIN)
	if err != nil {
		return nil, err
	}
	auth, err := m.Auth(pin)
	if err != nil {
		return nil, err
	}
	object, err := tpm.At(n.o.TPM).Seal(secret[:], auth[:])
	if err != nil {
		return nil, err
	}
	if m.Object, err = object.Encode(); err != nil {
		return nil, err
	}
	return []store.Row{{Key: memberLockRowKey(id), Value: m.Encode()}}, nil
}

func memberLockRowKey(id string) []byte {
	return append(memberLockKey[:len(memberLockKey):len(memberLockKey)], id...)
}

// freeNumber is the smallest that no member has.
func freeNumber(list map[string]seal.MemberLock) uint16 {
	taken := map[uint16]bool{}
	for _, m := range list {
		taken[m.Number] = true
	}
	number := uint16(1)
	for taken[number] {
		number++
	}
	return number
}

// giveLock lets a member who just typed the right PIN open the lock from now on. Where the TPM cannot, that
// member signs in all the same. The caller holds staffRoom.pinMu.
func (n *Node) giveLock(ctx context.Context, id, pin string) {
	rows, err := n.memberLockRow(id, pin)
	if err == nil && len(rows) > 0 {
		err = n.store.PutRows(ctx, rows)
	}
	if err != nil {
		n.log.Warn().Err(err).Msg("a member's PIN does not open the lock yet")
	}
}

// newMemberLock is the row of somebody who is being added.
func (n *Node) newMemberLock(public []byte, pin string) []store.Row {
	n.staff.pinMu.Lock()
	defer n.staff.pinMu.Unlock()
	rows, err := n.memberLockRow(hex.EncodeToString(public[:16]), pin)
	if err != nil {
		n.log.Warn().Err(err).Msg("a new member's PIN does not open the lock yet")
	}
	return rows
}

// dropMemberLocks ends all parts of a lock that is no more.
func (n *Node) dropMemberLocks(ctx context.Context) error {
	var rows []store.Row
	err := n.store.ScanRows(memberLockKey, 10_000, func(k, _ []byte) bool {
		rows = append(rows, store.Row{Key: append([]byte(nil), k...)})
		return true
	})
	if err != nil || len(rows) == 0 {
		return err
	}
	return n.store.PutRowsReserved(ctx, rows)
}

// lockNumbers are the numbers that members type, by the account's ID.
func (n *Node) lockNumbers() (map[string]int, error) {
	n.lock.ring.Lock()
	of, pins := n.keys.LockID(), n.keys.LockKind() == seal.TPMPINLock
	n.lock.ring.Unlock()
	if !pins {
		return nil, nil
	}
	list, err := n.memberLocks(of)
	numbers := make(map[string]int, len(list))
	for id, m := range list {
		numbers[id] = int(m.Number)
	}
	return numbers, err
}

// ChipInfo is a TPM that keeps the secret of a lock.
type ChipInfo struct {
	Members  int    `json:"members"`         // of staff whose PIN opens the lock
	Wrong    uint32 `json:"wrong"`           // PINs that the TPM counts now
	Max      uint32 `json:"max"`             // until it takes none
	Recovers int    `json:"recoversSeconds"` // until it forgets one
	Fault    string `json:"fault,omitempty"` // why it does not answer
}

// LockWithChip is Lock with what the TPM says, where one keeps the secret.
func (n *Node) LockWithChip() (LockInfo, error) {
	i := n.Lock()
	n.lock.ring.Lock()
	of, kind := n.keys.LockID(), n.keys.LockKind()
	n.lock.ring.Unlock()
	if !kind.HasChip() {
		return i, nil
	}
	list, err := n.memberLocks(of)
	if err != nil {
		return i, err
	}
	i.Chip = &ChipInfo{Members: len(list)}
	l, err := tpm.At(n.o.TPM).Lockout()
	if err != nil {
		i.Chip.Fault = err.Error()
	}
	i.Chip.Wrong, i.Chip.Max, i.Chip.Recovers = l.Wrong, l.Max, int(l.Recovers.Seconds())
	return i, nil
}

// InitWithTPM is InitLocked with a lock whose secret the TPM at path keeps; by is a passphrase, for the day
// the TPM is gone.
func InitWithTPM(dir string, role record.Role, name string, path string, use ChipUse, by Opener) (*Box, error) {
	return makeBox(dir, role, name, func(keys *seal.Keyring) error { return by.lockWithChip(keys, use, path) })
}
