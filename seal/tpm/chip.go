package tpm

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

var (
	// ErrNoChip is returned where no TPM 2.0 answers at the path, or it refuses to work.
	ErrNoChip = errors.New("no TPM answers")
	// ErrOtherChip is returned for an object of another chip, or of this one before it was cleared.
	ErrOtherChip = errors.New("another TPM sealed this, or it was cleared since")
	// ErrWrongAuth is returned for an auth value that is not the object's. The chip counted it.
	ErrWrongAuth = errors.New("the TPM refused: wrong auth value")
	// ErrLockout is returned while the chip takes no auth value, after too many wrong ones.
	ErrLockout = errors.New("the TPM takes no auth value until it forgets wrong ones")
)

// DefaultPath is the chip behind the kernel's resource manager.
const DefaultPath = "/dev/tpmrm0"

// Lengths of what is sealed and of what opens it.
const (
	SecretBytes = 32
	AuthBytes   = 32
)

// Chip is a TPM 2.0. Its methods may be called concurrently.
type Chip struct{ path string }

// At gives the chip at the path of its device, or of the Unix socket of one that is a program. Nothing is opened.
func At(path string) Chip { return Chip{path} }

// busy is held while one of the few slots that a chip has for keys and sessions are in use.
var busy sync.Mutex

// Seal has the chip seal a secret. An empty auth value lets whoever asks this chip have it back; any other
// has AuthBytes and falls under the chip's lockout.
func (c Chip) Seal(secret, auth []byte) (Object, error) {
	if len(secret) != SecretBytes || len(auth) != 0 && len(auth) != AuthBytes {
		return Object{}, fmt.Errorf("sealing with the TPM: a secret of %d bytes under %d", len(secret), len(auth))
	}
	var o Object
	err := c.withRoot(func(t transport.TPM, root *rootKey) error {
		made, err := tpm2.Create{
			ParentHandle: root.authorised(),
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
				UserAuth: tpm2.TPM2BAuth{Buffer: authOf(auth)},
				Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
			}},
			InPublic: tpm2.New2B(tpm2.TPMTPublic{
				Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
				ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true, NoDA: len(auth) == 0},
			}),
		}.Execute(t)
		if err != nil {
			return err
		}
		o = Object{root: root.name.Buffer, public: made.OutPublic.Bytes(), private: made.OutPrivate.Buffer}
		return o.check()
	})
	if err != nil {
		return Object{}, fmt.Errorf("sealing with the TPM: %w", err)
	}
	return o, nil
}

// Unseal gives back what this chip sealed. Errors: ErrNoChip, ErrOtherChip, ErrWrongAuth, ErrLockout.
func (c Chip) Unseal(o Object, auth []byte) ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	var secret []byte
	used := false // a right auth value
	err := c.withRoot(func(t transport.TPM, root *rootKey) error {
		if !bytes.Equal(root.name.Buffer, o.root) {
			return ErrOtherChip
		}
		loaded, err := tpm2.Load{
			ParentHandle: root.authorised(),
			InPrivate:    tpm2.TPM2BPrivate{Buffer: o.private},
			InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](o.public),
		}.Execute(t)
		if errors.Is(err, tpm2.TPMRCIntegrity) || errors.Is(err, tpm2.TPMRCSize) || errors.Is(err, tpm2.TPMRCSensitive) {
			return fmt.Errorf("%w: the TPM cannot read it", ErrDamaged)
		}
		if err != nil {
			return err
		}
		defer flush(t, loaded.ObjectHandle)
		given, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
			Handle: loaded.ObjectHandle, Name: loaded.Name,
			Auth: root.session(fromChip, authOf(auth)),
		}}.Execute(t)
		if err != nil {
			return err
		}
		if secret = given.OutData.Buffer; len(secret) != SecretBytes {
			return fmt.Errorf("%w: it gave %d bytes", ErrDamaged, len(secret))
		}
		used = len(auth) > 0
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("asking the TPM: %w", err)
	}
	if used {
		c.settle()
	}
	return secret, nil
}

// settle has the chip write down that nothing wrong is under way: it counts a cut of power after the use of
// an auth value as a wrong one otherwise, and small boxes know nothing but cuts. Where it fails, it counts.
func (c Chip) settle() {
	c.withLink(func(t transport.TPM) error {
		_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(t)
		return err
	})
}

// authOf is an auth value as the chip has it, 192 bits in letters: chips cut zeros off its end, and the
// library that speaks with them cuts at the first one.
func authOf(auth []byte) []byte {
	if len(auth) == 0 {
		return nil
	}
	return base64.RawURLEncoding.AppendEncode(nil, auth[:authUsed])
}

const authUsed = 24 // bytes, which are 32 letters: no object of SHA-256 has a longer one

// Lockout is how a chip answers wrong auth values.
type Lockout struct {
	Wrong    uint32        // counted now
	Max      uint32        // until it takes none
	Recovers time.Duration // until it forgets one, while it has power
}

// Lockout reads it.
func (c Chip) Lockout() (Lockout, error) {
	var l Lockout
	err := c.withLink(func(t transport.TPM) error {
		for property, to := range map[tpm2.TPMPT]func(uint32){
			tpm2.TPMPTLockoutCounter:  func(v uint32) { l.Wrong = v },
			tpm2.TPMPTMaxAuthFail:     func(v uint32) { l.Max = v },
			tpm2.TPMPTLockoutInterval: func(v uint32) { l.Recovers = time.Duration(v) * time.Second },
		} {
			got, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(property), PropertyCount: 1}.Execute(t)
			if err != nil {
				return err
			}
			list, err := got.CapabilityData.Data.TPMProperties()
			if err != nil || len(list.TPMProperty) != 1 || list.TPMProperty[0].Property != property {
				return fmt.Errorf("%w: it does not tell its lockout", ErrNoChip)
			}
			to(list.TPMProperty[0].Value)
		}
		return nil
	})
	if err != nil {
		return Lockout{}, fmt.Errorf("asking the TPM: %w", err)
	}
	return l, nil
}

// rootKey is the chip's storage root key while it is loaded.
type rootKey struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
}

// Which way a session hides what crosses the bus.
var (
	intoChip = tpm2.AESEncryption(128, tpm2.EncryptIn)
	fromChip = tpm2.AESEncryption(128, tpm2.EncryptOut)
)

// session is one whose key a listener cannot know.
func (r *rootKey) session(hide tpm2.AuthOption, auth []byte) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth(auth), tpm2.Salted(r.handle, r.public), hide)
}

// authorised is the key as the parent of an object.
func (r *rootKey) authorised() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: r.handle, Name: r.name, Auth: r.session(intoChip, nil)}
}

func (c Chip) withRoot(f func(transport.TPM, *rootKey) error) error {
	return c.withLink(func(t transport.TPM) error {
		made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
		if err != nil {
			return err
		}
		defer flush(t, made.ObjectHandle)
		public, err := made.OutPublic.Contents()
		if err != nil {
			return fmt.Errorf("reading its storage root key: %w", err)
		}
		name, err := tpm2.ObjectName(public) // the chip's word for it is not taken
		if err != nil {
			return fmt.Errorf("naming its storage root key: %w", err)
		}
		return f(t, &rootKey{handle: made.ObjectHandle, name: *name, public: *public})
	})
}

// withLink reaches the chip and sorts what it answers.
func (c Chip) withLink(f func(transport.TPM) error) error {
	busy.Lock()
	defer busy.Unlock()
	link, err := c.open()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoChip, err)
	}
	err = f(link)
	err = errors.Join(sorted(err), link.Close())
	return err
}

func (c Chip) open() (transport.TPMCloser, error) {
	info, err := os.Stat(c.path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeSocket != 0 {
		return linuxudstpm.Open(c.path)
	}
	return linuxtpm.Open(c.path)
}

// sorted gives an answer of the chip its family.
func sorted(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrOtherChip), errors.Is(err, ErrDamaged), errors.Is(err, ErrNoChip):
		return err
	case errors.Is(err, tpm2.TPMRCLockout):
		return fmt.Errorf("%w: %w", ErrLockout, err)
	case errors.Is(err, tpm2.TPMRCAuthFail):
		return fmt.Errorf("%w: %w", ErrWrongAuth, err)
	}
	return fmt.Errorf("%w: %w", ErrNoChip, err)
}

// flush empties a slot. Where it fails the kernel does it when the chip is closed.
func flush(t transport.TPM, h tpm2.TPMHandle) { tpm2.FlushContext{FlushHandle: h}.Execute(t) }
