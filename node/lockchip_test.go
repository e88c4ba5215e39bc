package node_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/tpm"
	"github.com/healthpost/healthpost/test/chip"
	"github.com/healthpost/healthpost/web"
)

const (
	spareWords = "copper lantern mosquito harvest violin"
	otherPIN   = "271828"
)

// newChipClinic is a clinic with a patient whose keys a TPM keeps for its staff: Amina has number 1, Jean
// Habimana number 2.
func newChipClinic(t *testing.T) (*clinic, *chip.TPM) {
	t.Helper()
	board := chip.New(t)
	c := newClinic(t)
	c.stop()
	c.o.TPM = board.Path
	c.start()
	c.signIn()
	c.register("form-1", "Nakato")
	if err := c.n.ChangeLock(t.Context(), node.LockChange{To: &node.Opener{Passphrase: spareWords}, Chip: node.ChipPINs}); err != nil {
		t.Fatal(err)
	}
	c.signIn() // which gives her a number
	if err := c.n.AddStaff(t.Context(), &c.token, web.NewStaff{Name: "Jean Habimana", PIN: otherPIN}); err != nil {
		t.Fatal(err)
	}
	return c, board
}

// openLocked opens a box as running it does, and closes it at the test's end.
func (c *clinic) openLocked() *node.Node {
	c.t.Helper()
	n, err := node.OpenLocked(c.o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if err := n.Close(); err != nil {
			c.t.Error(err)
		}
	})
	return n
}

// A member of staff opens the box with a number and a PIN on its page, which names nobody; nothing that
// reads is on its disk. Who has left opens nothing.
func TestAMembersPINOpensALockedBox(t *testing.T) {
	c, _ := newChipClinic(t)
	tiles, err := c.n.Staff(t.Context())
	if err != nil || len(tiles) != 2 || tiles[0].LockNumber != 1 || tiles[1].LockNumber != 2 {
		t.Fatalf("staff: %+v, %v", tiles, err)
	}
	c.stop()
	c.o.Page = "127.0.0.1:0"
	s := c.serve()
	at := s.page()
	if _, _, body := get(t, at+"/"); !strings.Contains(body, `name="number"`) || strings.Contains(body, "Amina") || strings.Contains(body, "Jean") {
		t.Errorf("the locked page: %s", body)
	}
	browser := http.Client{}
	defer browser.CloseIdleConnections()
	try := func(number, pin string) (int, string) {
		res, err := browser.PostForm(at+"/", url.Values{"number": {number}, "pin": {pin}})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	for _, wrong := range [][2]string{{"1", otherPIN}, {"7", pin}} {
		if status, body := try(wrong[0], wrong[1]); status != http.StatusUnprocessableEntity || !strings.Contains(body, "not right") || !s.isLocked() {
			t.Errorf("number %s: status %d", wrong[0], status)
		}
	}
	if status, body := try("2", otherPIN); status != http.StatusOK || !strings.Contains(body, "opening") {
		t.Fatalf("the right PIN: status %d", status)
	}
	s.page()
	if i, err := s.cl.Lock(t.Context()); err != nil || i.Locked || i.Kind != "TPM and PIN" || i.Chip == nil || i.Chip.Members != 2 || i.Chip.Wrong != 1 || i.Chip.Fault != "" {
		t.Errorf("the lock: %+v, %+v, %v", i, i.Chip, err)
	}
	if err := s.cl.EndStaff(t.Context(), tiles[1].ID); err != nil {
		t.Fatal(err)
	}
	c.stop()
	n := c.openLocked()
	if err := n.OpenLockByPIN(t.Context(), 2, otherPIN); !errors.Is(err, web.ErrWrongPIN) {
		t.Errorf("who has left: %v", err)
	}
	if err := n.OpenLockByPIN(t.Context(), 1, pin); err != nil {
		t.Errorf("who stayed: %v", err)
	}
}

// The chip is of one board: on another one, and while it takes no PIN, the passphrase opens and nothing
// else does.
func TestAStolenCardOpensOnNoOtherBoard(t *testing.T) {
	c, board := newChipClinic(t)
	c.stop()
	n := c.openLocked()
	for _, wrong := range []string{"161803", "141421", "173205"} {
		if err := n.OpenLockByPIN(t.Context(), 1, wrong); !errors.Is(err, web.ErrWrongPIN) {
			t.Errorf("a wrong PIN: %v", err)
		}
	}
	if err := n.OpenLockByPIN(t.Context(), 1, pin); !errors.Is(err, web.ErrChipRests) {
		t.Errorf("the right PIN after too many wrong ones: %v", err)
	}
	if i, err := n.LockWithChip(); err != nil || i.Chip == nil || i.Chip.Wrong != i.Chip.Max || i.Chip.Recovers == 0 {
		t.Errorf("the chip says: %+v, %v", i.Chip, err)
	}
	board.Off()
	if err := n.OpenLockByPIN(t.Context(), 1, pin); !errors.Is(err, web.ErrNoChip) {
		t.Errorf("without its chip: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	c.o.TPM = chip.New(t).Path
	if n, err := node.OpenLocked(c.o); err != nil {
		t.Error(err)
	} else {
		if err := n.OpenLockByPIN(t.Context(), 1, pin); !errors.Is(err, web.ErrNoChip) {
			t.Errorf("on another board: %v", err)
		}
		if err := n.OpenLock(t.Context(), node.Opener{Passphrase: spareWords}); err != nil {
			t.Errorf("the passphrase on another board: %v", err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	keys, _, err := seal.LoadKeyring(filepath.Join(c.o.Data, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := keys.Open(seal.Passphrase(spareWords))
	if err != nil {
		t.Fatal(err)
	}
	hidden := secrets{}
	for _, name := range []string{"Nakato", "Testova", "Amina", "Habimana", spareWords} {
		hidden.text(name, name)
	}
	secret, _, _ := whole.LockSecret()
	hidden.key("the lock's secret", secret)
	hidden.key("the rows' key", whole.Local)
	for _, k := range whole.Reading {
		hidden.key("a reading key", k)
	}
	for file, list := range hidden.foundUnder(t, c.o.Data) {
		t.Errorf("%s holds %v", file, list)
	}
}

// A box whose TPM opens it alone needs nobody on its own board, and its passphrase on any other.
func TestATPMOpensItsOwnBox(t *testing.T) {
	board := chip.New(t)
	c := &clinic{t: t, o: options(t.TempDir())}
	c.o.TPM = board.Path
	if _, err := node.InitWithTPM(c.o.Data, record.RoleStandalone, "Test box", board.Path, node.ChipBox, node.Opener{Passphrase: spareWords}); err != nil {
		t.Fatal(err)
	}
	c.start()
	if c.n.Lock() != (node.LockInfo{Kind: "TPM"}) {
		t.Errorf("the lock: %+v", c.n.Lock())
	}
	if err := c.n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Amina Test", PIN: pin}); err != nil {
		t.Fatal(err)
	}
	if tiles, err := c.n.Staff(t.Context()); err != nil || len(tiles) != 1 || tiles[0].LockNumber != 0 {
		t.Errorf("staff: %+v, %v", tiles, err)
	}
	c.stop()
	board.Off()
	board.On() // a power cut
	c.start()
	c.stop()
	c.o.TPM = chip.New(t).Path
	if _, err := node.Open(c.o); !errors.Is(err, node.ErrKeysLocked) {
		t.Errorf("the card in another board: %v", err)
	}
	c.o.AskLock = func(kind string) (node.Opener, error) {
		if kind != "TPM" {
			t.Errorf("asked for a %s", kind)
		}
		return node.Opener{Passphrase: spareWords}, nil
	}
	c.start()
	if err := c.n.ChangeLock(t.Context(), node.LockChange{}); err == nil {
		t.Error("the lock was taken off by who cannot open it")
	}
	if err := c.n.ChangeLock(t.Context(), node.LockChange{From: &node.Opener{Passphrase: spareWords}}); err != nil || c.n.Lock().Kind != "none" {
		t.Errorf("taking the lock off: %v", err)
	}
}

// A lock that the chip cannot keep is not put on, and a member whose part it could not make gets it at the
// next sign-in.
func TestAMissingTPMLocksNobodyOut(t *testing.T) {
	c, board := newChipClinic(t)
	board.Off()
	if err := c.n.AddStaff(t.Context(), &c.token, web.NewStaff{Name: "Late Test", PIN: "161803"}); err != nil {
		t.Fatal(err)
	}
	late := func() (found web.StaffTile) {
		tiles, err := c.n.Staff(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range tiles {
			if x.Name == "Late Test" {
				found = x
			}
		}
		return found
	}
	if got := late(); got.ID == "" || got.LockNumber != 0 {
		t.Errorf("added without the chip: %+v", got)
	}
	words := node.Opener{Passphrase: spareWords}
	if err := c.n.ChangeLock(t.Context(), node.LockChange{From: &words, To: &words, Chip: node.ChipPINs}); err == nil {
		t.Error("a lock without a chip was put on")
	}
	if _, err := node.InitWithTPM(t.TempDir(), record.RoleClinic, "One", board.Path, node.ChipBox, words); !errors.Is(err, tpm.ErrNoChip) {
		t.Errorf("a box made without a chip: %v", err)
	}
	board.On()
	if _, err := c.n.SignIn(t.Context(), late().ID, "161803"); err != nil || late().LockNumber != 3 {
		t.Errorf("after the next sign-in: %+v, %v", late(), err)
	}
}
