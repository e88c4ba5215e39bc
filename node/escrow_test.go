package node_test

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/skip2/go-qrcode"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/test/fuzz"
)

// escrowFor makes an escrow for the region of a box.
func escrowFor(t testing.TB, c *clinic, need, of int) (node.EscrowPublic, []seal.EscrowShare) {
	t.Helper()
	keys, err := c.n.Keys()
	if err != nil {
		t.Fatal(err)
	}
	public, shares, err := node.NewEscrow(rand.Reader, keys, need, of)
	if err != nil {
		t.Fatal(err)
	}
	return public, shares
}

// TestEscrowOfTheLedger: what the hubs voted for is the escrow on a clinic too, also after a
// restart; a second one takes its place, and the first stays known.
func TestEscrowOfTheLedger(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Kibuye")
	first, _ := escrowFor(t, hub, 3, 5)
	second, _ := escrowFor(t, hub, 2, 3)
	if c.n.EscrowKeyID() != "" {
		t.Error("an escrow before any vote")
	}
	if _, err := c.n.SetEscrow(t.Context(), first); err == nil {
		t.Error("a clinic votes")
	}
	for name, change := range map[string]func(p *node.EscrowPublic){
		"of another region":         func(p *node.EscrowPublic) { p.Region = strings.Repeat("0", 64) },
		"whose id is of another":    func(p *node.EscrowPublic) { p.ID = second.ID },
		"that nothing is sealed to": func(p *node.EscrowPublic) { p.Key = strings.Repeat("0", 64) },
		"of one sheet":              func(p *node.EscrowPublic) { p.Need = 1 },
		"of no number of sheets":    func(p *node.EscrowPublic) { p.Of = -1 },
		"of another format":         func(p *node.EscrowPublic) { p.Format = 2 },
	} {
		bad := first
		change(&bad)
		if _, err := hub.n.SetEscrow(t.Context(), bad); err == nil {
			t.Errorf("a vote for an escrow %s", name)
		}
	}
	for i, p := range []node.EscrowPublic{first, second} {
		if v, err := hub.n.SetEscrow(t.Context(), p); err != nil || !v.Passed || !strings.Contains(v.Words, p.ID) {
			t.Fatalf("the only hub's vote: %+v, %v", v, err)
		}
		if _, err := hub.n.SetEscrow(t.Context(), p); err == nil {
			t.Error("a vote for what is in force")
		}
		c.until("the escrow", func(node.Status) bool { return c.n.EscrowKeyID() == p.ID })
		if list, err := c.n.Escrows(); err != nil || len(list.List) != i+1 || list.List[0].Key != first.ID || list.List[0].Need != 3 || list.List[0].Of != 5 || len(list.Open) != 0 {
			t.Errorf("listed: %+v, %v", list, err)
		}
	}
	c.stop()
	c.start()
	if got := c.n.EscrowKeyID(); got != second.ID {
		t.Errorf("after a restart the escrow is %s, want %s", got, second.ID)
	}
}

func TestEscrowPublicFile(t *testing.T) {
	public, _, err := node.NewEscrow(rand.Reader, node.RegionKeys{Region: strings.Repeat("ab", 32), Name: `Lake "region"`}, 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	text, err := public.Text()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := node.ParseEscrowPublic(text); err != nil || got != public {
		t.Errorf("got %+v back, %v", got, err)
	}
	for name, bad := range map[string]string{"nothing": "", "another setting": string(text) + "private = \"x\"\n", "prose": "the key is under the mat",
		"another key": strings.Replace(string(text), public.Key[:8], "00000000", 1), "far too long": string(text) + strings.Repeat("#", node.EscrowPublicBytesMax)} {
		if _, err := node.ParseEscrowPublic([]byte(bad)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	if key, err := hex.DecodeString(public.Key); err != nil || len(key) != 32 {
		t.Errorf("key %q", public.Key)
	}
}

func FuzzParseEscrowPublic(f *testing.F) {
	public, _, err := node.NewEscrow(rand.Reader, node.RegionKeys{Region: strings.Repeat("ab", 32), Name: "Lake"}, 2, 3)
	if err != nil {
		f.Fatal(err)
	}
	text, err := public.Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("format = 1\nneed = 2\nof = 3\nkey = \"\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { node.ParseEscrowPublic(b) })
		p, err := node.ParseEscrowPublic(b)
		if err != nil {
			return
		}
		if p.Need < record.EscrowNeedMin || p.Of > record.EscrowSheetsMax {
			t.Errorf("read as %+v", p)
		}
		text, err := p.Text()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := node.ParseEscrowPublic(text); err != nil || again != p {
			t.Errorf("came back as %+v, %v", again, err)
		}
	})
}

// TestEscrowSheetsComeBack: what is printed is read again: the file, the lines alone, a picture of the QR
// code, and sheets that were typed one after the other.
func TestEscrowSheetsComeBack(t *testing.T) {
	public, sheets, err := node.MakeEscrow(node.RegionKeys{Region: strings.Repeat("ab", 32), Name: "Lake region"}, 3, 5)
	if err != nil || len(sheets) != 5 {
		t.Fatalf("%d sheets, %v", len(sheets), err)
	}
	picture, err := qrcode.Encode(sheets[2].Code, qrcode.Medium, 900)
	if err != nil {
		t.Fatal(err)
	}
	typed := node.SplitShares("\nSHARE\n" + sheets[3].Lines + "\nEND\n\n" + strings.ToLower(sheets[4].Lines) + "\n")
	if len(typed) != 2 {
		t.Fatalf("%d typed sheets, want 2", len(typed))
	}
	var shares []seal.EscrowShare
	for name, x := range map[string][]byte{"1 the file": []byte(sheets[0].Text), "2 the lines": []byte(sheets[1].Lines), "3 a picture": picture, "4 typed": []byte(typed[0]), "5 typed": []byte(typed[1])} {
		text, err := node.EscrowShareText(x)
		var s seal.EscrowShare
		if err == nil {
			s, err = seal.ParseEscrowShare(text)
		}
		if err != nil || s.Number != int(name[0]-'0') {
			t.Errorf("%s: sheet %d, %v", name, s.Number, err)
		}
		shares = append(shares, s)
	}
	key, err := seal.OpenEscrow(shares)
	if err != nil || seal.PublicKeyID(key.Public()).String() != public.ID {
		t.Errorf("together: %v", err)
	}
	for name, bad := range map[string][]byte{"a picture of nothing": picture[:200], "far too much": make([]byte, node.EscrowShareBytesMax+1)} {
		if _, err := node.EscrowShareText(bad); !errors.Is(err, seal.ErrEscrow) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
