package record

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// ErrNotFinal: the checkpoint is well formed but fewer than a majority of the
// hub keys cosigned it.
var ErrNotFinal = errors.New("not cosigned by a majority of the hubs")

const (
	checkpointBytesMax = 8 << 10
	algCosignatureV1   = 0x04
)

// LedgerID names one generation of a region's ledger. The first is 1; after a
// majority of the hubs was lost for good, a reset begins the next one on the same
// tree, and checkpoints of the generation before count no more.
type LedgerID struct {
	Region     RegionID
	Generation uint64
}

// Ledger names a generation of the region's ledger.
func (r RegionID) Ledger(generation uint64) LedgerID { return LedgerID{r, generation} }

// Origin is the first line of every checkpoint of a ledger, and the start of its
// hubs' key names (C2SP tlog-checkpoint).
func (l LedgerID) Origin() string {
	return "healthpost/" + l.Region.String()[:32] + "/g" + strconv.FormatUint(l.Generation, 10)
}

// CheckpointText is the signed text: origin, size and root, a line each.
func CheckpointText(l LedgerID, h TreeHead) string {
	return l.Origin() + "\n" + strconv.FormatUint(h.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(h.Root[:]) + "\n"
}

// Checkpoint is a tree head of a region with the hubs that cosigned it.
type Checkpoint struct {
	Head    TreeHead
	Signers []DeviceID // whose signatures were verified, in the order given
	Note    []byte     // C2SP signed note
	Time    int64      // the latest that a majority of the hubs given vouches for, Unix seconds; 0 when fewer signed
}

// Cosign gives a note with one cosignature/v1 (C2SP tlog-cosignature) over the
// head, at the time given in Unix seconds.
func Cosign(l LedgerID, h TreeHead, hub ed25519.PrivateKey, unixSeconds int64) ([]byte, error) {
	id := DeviceID(hub.Public().(ed25519.PublicKey))
	return note.Sign(&note.Note{Text: CheckpointText(l, h)}, cosigner{hubKey(l, id), hub, uint64(unixSeconds)})
}

// MergeCosignatures joins the signature lines of two notes of one text, one line
// a hub in the order of hubs. Where both have one of a hub, a's stays.
func MergeCosignatures(l LedgerID, a, b []byte, hubs []DeviceID) ([]byte, error) {
	na, err := openNote(l, a, hubs)
	if err != nil {
		return nil, err
	}
	nb, err := openNote(l, b, hubs)
	if err != nil {
		return nil, err
	}
	if na.Text != nb.Text {
		return nil, fmt.Errorf("joining cosignatures: the checkpoints differ")
	}
	if _, err := parseCheckpointText(l, na.Text); err != nil {
		return nil, err
	}
	merged := &note.Note{Text: na.Text}
	for _, d := range hubs {
		for _, s := range slices.Concat(na.Sigs, nb.Sigs) {
			if hubKey(l, d).made(s) {
				merged.Sigs = append(merged.Sigs, s)
				break
			}
		}
	}
	return note.Sign(merged)
}

func openNote(l LedgerID, msg []byte, hubs []DeviceID) (*note.Note, error) {
	if len(msg) > checkpointBytesMax {
		return nil, fmt.Errorf("reading checkpoint: %w: %d bytes", ErrMalformed, len(msg))
	}
	verifiers := make([]note.Verifier, 0, len(hubs))
	for i, h := range hubs {
		if !slices.Contains(hubs[:i], h) {
			verifiers = append(verifiers, hubKey(l, h))
		}
	}
	n, err := note.Open(msg, note.VerifierList(verifiers...))
	if err != nil {
		return nil, fmt.Errorf("reading checkpoint: %w", err)
	}
	return n, nil
}

// OpenCheckpoint reads a note and keeps the cosignatures of the hubs given. It
// refuses a note without any of them, of another region, or with other lines.
func OpenCheckpoint(l LedgerID, msg []byte, hubs []DeviceID) (Checkpoint, error) {
	n, err := openNote(l, msg, hubs)
	if err != nil {
		return Checkpoint{}, err
	}
	h, err := parseCheckpointText(l, n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	c := Checkpoint{Head: h, Note: append([]byte(nil), msg...)}
	var times []int64
	for _, s := range n.Sigs {
		i := slices.IndexFunc(hubs, func(d DeviceID) bool { return hubKey(l, d).made(s) })
		if i >= 0 && !slices.Contains(c.Signers, hubs[i]) {
			c.Signers = append(c.Signers, hubs[i])
			times = append(times, cosignedAt(s))
		}
	}
	// Fewer than a majority may lie: neither ahead nor behind moves this time
	// past what an honest hub signed.
	if slices.Sort(times); len(times) > len(hubs)/2 {
		c.Time = times[len(times)-len(hubs)/2-1]
	}
	return c, nil
}

// cosignedAt is the time inside a cosignature/v1 that was verified.
func cosignedAt(s note.Signature) int64 {
	c, err := cosignatureFrom(s)
	if err != nil {
		return 0
	}
	return c.at()
}

// VerifyFinal is OpenCheckpoint with more than half of the hubs required.
func VerifyFinal(l LedgerID, msg []byte, hubs []DeviceID) (Checkpoint, error) {
	c, err := OpenCheckpoint(l, msg, hubs)
	if err != nil {
		return c, err
	}
	if len(c.Signers) <= len(hubs)/2 {
		return c, fmt.Errorf("verifying checkpoint of size %d: %w: %d of %d", c.Head.Size, ErrNotFinal, len(c.Signers), len(hubs))
	}
	return c, nil
}

func parseCheckpointText(l LedgerID, text string) (TreeHead, error) {
	bad := func(what string) (TreeHead, error) {
		return TreeHead{}, fmt.Errorf("reading checkpoint: %w: %s", ErrMalformed, what)
	}
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return bad("want origin, size and root")
	}
	if lines[0] != l.Origin() {
		return bad("another ledger's origin")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil || size > treeSizeMax || strconv.FormatUint(size, 10) != lines[1] {
		return bad("size")
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != 32 {
		return bad("root")
	}
	h := TreeHead{Size: size, Root: Hash(root)}
	if text != CheckpointText(l, h) { // base64 skips line ends
		return bad("not the text of its head")
	}
	return h, nil
}

// key is a hub's name and public key as note.Verifier.
type key struct {
	name string
	hash uint32
	pub  DeviceID
}

func hubKey(l LedgerID, d DeviceID) key {
	name := l.Origin() + "/hub-" + d.Short()
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', algCosignatureV1})
	h.Write(d[:])
	return key{name, binary.BigEndian.Uint32(h.Sum(nil)), d}
}

func (k key) Name() string    { return k.name }
func (k key) KeyHash() uint32 { return k.hash }

// made tells whether a verified signature is this key's: names are short, so
// two keys may share one.
func (k key) made(s note.Signature) bool { return s.Name == k.name && s.Hash == k.hash }

func cosigned(seconds uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(seconds, 10)+"\n"), text...)
}

func (k key) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	return verifyCosignature(k.pub, cosigned(binary.BigEndian.Uint64(sig), msg), sig[8:])
}

type cosigner struct {
	key
	priv    ed25519.PrivateKey
	seconds uint64
}

func (c cosigner) Sign(msg []byte) ([]byte, error) {
	out := binary.BigEndian.AppendUint64(nil, c.seconds)
	return append(out, ed25519.Sign(c.priv, cosigned(c.seconds, msg))...), nil
}
