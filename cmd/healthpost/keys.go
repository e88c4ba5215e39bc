package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/healthpost/healthpost/node"
)

func keysCommand(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "keys", Short: "Lock the keys of this box under a passphrase, a key file or its TPM, open the lock, take it off",
		Long: "The keys of a box lie beside its records. Under a lock, who takes the box or a copy of its card reads nothing without the\npassphrase or the key file. A locked box that starts exchanges with others at once; charts open when the lock is opened.",
	}
	onlyParent(c)
	c.AddCommand(keysShow(g), keysLock(g), keysOpen(g), keysChange(g), keysUnlock(g))
	return c
}

func keysShow(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Say how the keys of this box are kept", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return g.withLock(c, func(cl *node.Client, now node.LockInfo) error {
				return g.print(c, now, func(w io.Writer) {
					state := ""
					if now.Locked {
						state = ", and nobody opened it since the box started"
					}
					fmt.Fprintf(w, "lock: %s%s\n", now.Kind, state)
					showChip(w, now)
				})
			})
		},
	}
}

// showChip says what the TPM that keeps a lock's secret tells.
func showChip(w io.Writer, now node.LockInfo) {
	i := now.Chip
	if i == nil {
		return
	}
	if now.Kind == "TPM and PIN" {
		fmt.Fprintf(w, "members whose PIN opens it: %d\n", i.Members)
	}
	if i.Fault != "" {
		fmt.Fprintf(w, "the TPM does not answer: %s\n", i.Fault)
		return
	}
	fmt.Fprintf(w, "the TPM counts %d wrong tries of %d, and forgets one every %d seconds\n", i.Wrong, i.Max, i.Recovers)
}

// withLock runs f with the box of this command and its lock.
func (g *global) withLock(c *cobra.Command, f func(*node.Client, node.LockInfo) error) error {
	cl, err := g.client(c)
	if err != nil {
		return err
	}
	defer cl.Close()
	now, err := cl.Lock(c.Context())
	if err != nil {
		return err
	}
	return f(cl, now)
}

// newLock are the flags that say what a lock is to be.
type newLock struct {
	passphrase, made bool
	file             string
	tpm, tpmPIN      bool
}

func (l *newLock) flags(c *cobra.Command) {
	c.Flags().BoolVar(&l.passphrase, "passphrase", false, "a passphrase, read from standard input twice")
	c.Flags().BoolVar(&l.made, "make", false, "a passphrase that is made and printed once")
	c.Flags().StringVar(&l.file, "key-file", "", "a key file, made when there is none at this path: on a stick that is not kept with the box")
	c.Flags().BoolVar(&l.tpm, "tpm", false, "the TPM of this board, which opens the box by itself: a card in another board reads nothing. With a passphrase besides, made and printed once or with --passphrase")
	c.Flags().BoolVar(&l.tpmPIN, "tpm-pin", false, "the TPM of this board for the PIN of a member of staff: a stolen box reads nothing. With a passphrase besides, as with --tpm")
}

func (l *newLock) isAsked() bool {
	return l.passphrase || l.made || l.file != "" || l.chip() != node.NoChip
}

// chip is whom a TPM is to open the box for.
func (l *newLock) chip() node.ChipUse {
	switch {
	case l.tpmPIN:
		return node.ChipPINs
	case l.tpm:
		return node.ChipBox
	}
	return node.NoChip
}

func (l *newLock) check() error {
	if l.chip() != node.NoChip {
		if btoi(l.tpm)+btoi(l.tpmPIN)+btoi(l.file != "") != 1 || l.passphrase && l.made {
			return usagef("say one of --tpm and --tpm-pin, with --passphrase or without")
		}
		l.made = !l.passphrase
		return nil
	}
	if count := btoi(l.passphrase) + btoi(l.made) + btoi(l.file != ""); count != 1 {
		return usagef("say one of --passphrase, --make, --key-file FILE, --tpm and --tpm-pin")
	}
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// opener asks for, makes or reads what the lock is to open by.
func (l *newLock) opener(c *cobra.Command, in *secretReader) (*node.Opener, error) {
	switch {
	case l.file != "":
		b, err := node.KeyFile(l.file)
		if errors.Is(err, fs.ErrNotExist) {
			if b, err = node.MakeKeyFile(l.file); err == nil {
				fmt.Fprintf(c.ErrOrStderr(), "Made %s. Keep a copy in another place: without it nobody reads what exists on this box alone.\n", l.file)
			}
		}
		return &node.Opener{File: b}, err
	case l.made:
		p, err := node.MakePassphrase(rand.Reader)
		if err == nil {
			fmt.Fprintf(c.ErrOrStderr(), "The passphrase, shown this once. Write it on paper and keep that away from the box:\n\n  %s\n\n", p)
		}
		return &node.Opener{Passphrase: p}, err
	}
	first, err := in.read("New passphrase: ")
	if err != nil {
		return nil, err
	}
	again, err := in.read("The same again: ")
	if err == nil && first != again {
		err = errors.New("the two passphrases differ: nothing was changed")
	}
	return &node.Opener{Passphrase: first}, err
}

// openerOf is what opens the lock of now: file where it is a key file, else what is typed.
func openerOf(now node.LockInfo, file string, in *secretReader) (*node.Opener, error) {
	switch now.Kind {
	case "passphrase", "TPM", "TPM and PIN":
		p, err := in.read("Passphrase: ")
		return &node.Opener{Passphrase: p}, err
	case "key file":
		if file == "" {
			return nil, usagef("the lock of this box is a key file: say where it is")
		}
		b, err := node.KeyFile(file)
		return &node.Opener{File: b}, err
	}
	return nil, errors.New("the keys of this box are under no lock")
}

const lockSet = "The keys of this box are locked from its next start on. Without what opens them nobody reads what exists on this box alone.\n"

// tellStaff says what members of staff have to do before their PINs open the box.
func (l *newLock) tellStaff(c *cobra.Command) {
	if l.chip() == node.ChipPINs {
		fmt.Fprint(c.ErrOrStderr(), "Each member of staff signs in once more: the number that then stands beside the name opens the box together with the PIN.\n")
	}
}

func keysLock(g *global) *cobra.Command {
	var l newLock
	c := &cobra.Command{
		Use: "lock", Short: "Put a lock on the keys", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := l.check(); err != nil {
				return err
			}
			return g.withLock(c, func(cl *node.Client, now node.LockInfo) error {
				if now.Kind != "none" {
					return errors.New("the keys of this box are under a lock already: use 'healthpost keys change'")
				}
				to, err := l.opener(c, newSecretReader(c))
				if err != nil {
					return err
				}
				if err := cl.ChangeLock(c.Context(), node.LockChange{To: to, Chip: l.chip()}); err != nil {
					return err
				}
				fmt.Fprint(c.ErrOrStderr(), lockSet)
				l.tellStaff(c)
				return nil
			})
		},
	}
	l.flags(c)
	return c
}

func keysChange(g *global) *cobra.Command {
	var l newLock
	var from string
	c := &cobra.Command{
		Use: "change", Short: "Put another lock in the place of the one that is there", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := l.check(); err != nil {
				return err
			}
			return g.withLock(c, func(cl *node.Client, now node.LockInfo) error {
				in := newSecretReader(c)
				old, err := openerOf(now, from, in)
				if err != nil {
					return err
				}
				to, err := l.opener(c, in)
				if err != nil {
					return err
				}
				if err := cl.ChangeLock(c.Context(), node.LockChange{From: old, To: to, Chip: l.chip()}); err != nil {
					return err
				}
				l.tellStaff(c)
				return nil
			})
		},
	}
	l.flags(c)
	c.Flags().StringVar(&from, "from", "", "the key file of the lock of now, where it is one")
	return c
}

func keysUnlock(g *global) *cobra.Command {
	return lockCommand(g, "unlock", "Take the lock off: the keys lie in the clear again", func(c *cobra.Command, cl *node.Client, old node.Opener) error {
		return cl.ChangeLock(c.Context(), node.LockChange{From: &old})
	})
}

func keysOpen(g *global) *cobra.Command {
	return lockCommand(g, "open", "Open the lock of the running box until it stops", func(c *cobra.Command, cl *node.Client, by node.Opener) error {
		return cl.OpenLock(c.Context(), by)
	})
}

// lockCommand is a command that takes what opens the lock of now.
func lockCommand(g *global, use, short string, do func(*cobra.Command, *node.Client, node.Opener) error) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return g.withLock(c, func(cl *node.Client, now node.LockInfo) error {
				by, err := openerOf(now, file, newSecretReader(c))
				if err != nil {
					return err
				}
				return do(c, cl, *by)
			})
		},
	}
	c.Flags().StringVar(&file, "key-file", "", "the key file, where the lock is one")
	return c
}

// askLock asks whoever runs a command on a stopped locked box.
func askLock(kind string) (node.Opener, error) {
	if kind == "key file" {
		return node.Opener{}, fmt.Errorf("%w: say where the key file is, with key_file in the configuration or HEALTHPOST_KEY_FILE", node.ErrKeysLocked)
	}
	in := &secretReader{prompt: os.Stderr, file: os.Stdin, lines: bufio.NewReader(io.LimitReader(os.Stdin, secretBytesMax))}
	p, err := in.read("Passphrase of this box: ")
	return node.Opener{Passphrase: p}, err
}

// secretReader reads lines that are not shown on a terminal.
type secretReader struct {
	prompt io.Writer
	file   *os.File // nil: no terminal
	lines  *bufio.Reader
}

const secretBytesMax = 4 << 10

func newSecretReader(c *cobra.Command) *secretReader {
	r := &secretReader{prompt: c.ErrOrStderr(), lines: bufio.NewReader(io.LimitReader(c.InOrStdin(), secretBytesMax))}
	r.file, _ = c.InOrStdin().(*os.File) // nil where input is no file: it is read line by line, without a terminal
	return r
}

func (r *secretReader) read(prompt string) (string, error) {
	fmt.Fprint(r.prompt, prompt)
	if r.file != nil {
		if before, err := unix.IoctlGetTermios(int(r.file.Fd()), unix.TCGETS); err == nil {
			quiet := *before
			quiet.Lflag &^= unix.ECHO
			unix.IoctlSetTermios(int(r.file.Fd()), unix.TCSETS, &quiet) // shown is better than not taken
			defer func() {
				unix.IoctlSetTermios(int(r.file.Fd()), unix.TCSETS, before)
				fmt.Fprintln(r.prompt)
			}()
		}
	}
	line, err := r.lines.ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("reading what opens the lock: %w", err)
	}
	return strings.TrimSpace(line), nil
}
