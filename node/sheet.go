package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/record/printed"
)

// A recovery sheet is paper with the seed of an Ed25519 key in 24 words. Enough of
// them together begin a new generation of the ledger when too few hubs are left.
// The words are made where the command runs, printed, and kept by no box: boxes
// learn the public keys alone.

// Sheet is one of them.
type Sheet struct {
	Words []string
	Key   ed25519.PrivateKey
}

// NewSheet draws a key.
func NewSheet() (Sheet, error) {
	var seed [ed25519.SeedSize]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return Sheet{}, fmt.Errorf("drawing a recovery key: %w", err)
	}
	return Sheet{printed.Words(seed), ed25519.NewKeyFromSeed(seed[:])}, nil
}

// Public is the key that boxes know.
func (s *Sheet) Public() []byte { return s.Key.Public().(ed25519.PublicKey) }

func (s *Sheet) sign(claim []byte) []byte { return ed25519.Sign(s.Key, claim) }

// KeyID is what a person compares: the first 8 digits of the public key.
func (s *Sheet) KeyID() string { return recoveryKeyID(s.Public()) }

func recoveryKeyID(public []byte) string { return hex.EncodeToString(public[:4]) }

const (
	sheetBegin = "WORDS"
	sheetEnd   = "END"
	// SheetBytesMax is the longest file that ParseSheet reads.
	SheetBytesMax = 64 << 10
)

// Text is the sheet to print, one of people of which needed are needed.
func (s *Sheet) Text(region RegionKeys, number, people, needed int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "RECOVERY SHEET %d of %d, region %q (%.16s)\n\n", number, people, region.Name, region.Region)
	fmt.Fprintf(&b, "Key %s. Any %d of the %d sheets together begin the region's ledger anew on one box\nwhen most of its hubs are lost for good. Fewer can do nothing.\n\n", s.KeyID(), needed, people)
	b.WriteString("Keep this paper where only you can take it, away from any box and from the other\nsheets. Do not photograph it, do not type it into anything but the command below.\n\n")
	fmt.Fprintf(&b, "%s\n", sheetBegin)
	for i, w := range s.Words {
		fmt.Fprintf(&b, "%4d %-10s", i+1, w)
		if i%6 == 5 {
			b.WriteString("\n")
		}
	}
	fmt.Fprintf(&b, "%s\n\nWhen it is needed: on a box of the region that is stopped, type the words of each\nsheet into a file of its own and run\n\n  healthpost region reset --sheet FILE --sheet FILE\n\nThen destroy the files.\n", sheetEnd)
	return b.String()
}

// ParseSheet reads a sheet as it was printed, or its 24 words alone. Numbers and
// punctuation do not matter, nor does the case of letters. Errors name no word.
func ParseSheet(text []byte) (Sheet, error) {
	if len(text) > SheetBytesMax {
		return Sheet{}, fmt.Errorf("reading the sheet: more than %d bytes", SheetBytesMax)
	}
	words := strings.FieldsFunc(betweenMarks(string(text), sheetBegin), func(r rune) bool { return !unicode.IsLetter(r) })
	if len(words) != 24 {
		return Sheet{}, fmt.Errorf("reading the sheet: %d words, want 24: type the words alone, without the text around them", len(words))
	}
	seed, err := printed.FromWords(words)
	if err != nil {
		return Sheet{}, fmt.Errorf("reading the sheet: %w", err)
	}
	return Sheet{printed.Words(seed), ed25519.NewKeyFromSeed(seed[:])}, nil
}

// betweenMarks is what stands between the lines of a printed sheet that say where
// what is on it begins and ends, whatever an editor made of line ends and blanks; a text
// without them is words alone.
func betweenMarks(text, first string) string {
	lines := strings.FieldsFunc(strings.TrimPrefix(text, "\ufeff"), func(r rune) bool { return r == '\n' || r == '\r' })
	mark := func(word string) int {
		return slices.IndexFunc(lines, func(l string) bool { return strings.TrimSpace(l) == word })
	}
	begin := mark(first)
	if begin < 0 {
		return text
	}
	lines = lines[begin+1:]
	if end := mark(sheetEnd); end >= 0 {
		lines = lines[:end]
	}
	return strings.Join(lines, "\n")
}

// RecoveryInfo is who may reset the region.
type RecoveryInfo struct {
	Needed int      `json:"needed"`
	Keys   []string `json:"keys"` // public, in hexadecimal
	IDs    []string `json:"ids"`  // the first 8 digits, as on the sheets
}

// Recovery tells which recovery keys count now; none when the region has none.
func (n *Node) Recovery() (RecoveryInfo, error) {
	info := RecoveryInfo{Keys: []string{}, IDs: []string{}}
	r, ok, err := record.RecoveryOf(n.store.State())
	if err != nil || !ok {
		return info, err
	}
	info.Needed = int(r.Needed)
	for _, k := range r.Keys {
		info.Keys, info.IDs = append(info.Keys, hex.EncodeToString(k)), append(info.IDs, recoveryKeyID(k))
	}
	return info, nil
}

// RecoveryRequest names the recovery keys that are to count.
type RecoveryRequest struct {
	Needed int      `json:"needed"`
	Keys   [][]byte `json:"keys"` // public
}

// SetRecovery votes for recovery keys.
func (n *Node) SetRecovery(ctx context.Context, q RecoveryRequest) (Voted, error) {
	if err := n.mayVote("naming recovery keys"); err != nil {
		return Voted{}, err
	}
	if q.Needed < 1 || q.Needed > len(q.Keys) {
		return Voted{}, fmt.Errorf("naming recovery keys: %d needed of %d", q.Needed, len(q.Keys))
	}
	body, err := record.Marshal(record.Recovery{Needed: uint64(q.Needed), Keys: slices.Clone(q.Keys)})
	if err != nil {
		return Voted{}, err
	}
	if _, err := record.DecodeRecovery(body); err != nil {
		return Voted{}, err
	}
	return n.vote(ctx, &ProposalInfo{Action: actionRecovery, Keys: len(q.Keys), KeysMin: q.Needed, kind: record.KindRecovery, body: body})
}

func (n *Node) recoveryRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("GET /recovery", func(*http.Request) (any, error) { return n.Recovery() })
	reply("POST /recovery", func(r *http.Request) (any, error) {
		var q RecoveryRequest
		if err := readJSON(r, &q); err != nil {
			return nil, err
		}
		return n.SetRecovery(r.Context(), q)
	})
}

// Recovery and SetRecovery do on the box what the methods of the same name on
// Node say.
func (c *Client) Recovery(ctx context.Context) (r RecoveryInfo, err error) {
	return r, c.call(ctx, http.MethodGet, "/recovery", nil, &r)
}

func (c *Client) SetRecovery(ctx context.Context, q RecoveryRequest) (v Voted, err error) {
	return v, c.call(ctx, http.MethodPost, "/recovery", q, &v)
}
