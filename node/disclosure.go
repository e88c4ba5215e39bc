package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

// Disclosure is a proof together with what its record says: the sealed body and
// the key that opens this body alone. Whoever holds the file can read that one
// record, and check that it says what was signed and ordered.
//
//	disclosure = "hpopen" ‖ version(1) ‖ uvarint proofLength ‖ proof ‖ sealed(1) ‖ key(32 when sealed) ‖ body…
//
// sealed is 0 for a readable body and 1 for a sealed one. It is 2 for one that was
// packed with a dictionary of the ledger, which then stands as uvarint length ‖
// bytes between key and body, so that the file can be read without the ledger.
type Disclosure struct {
	Proof      []byte   // record.EncodeProof
	Key        seal.Key // zero for a record with a readable body
	Dictionary []byte   // nil when none is needed
	Body       []byte   // as the record carries it
}

const (
	disclosureMagic   = "hpopen"
	disclosureVersion = 1

	disclosedReadable       = 0
	disclosedSealed         = 1
	disclosedWithDictionary = 2

	// DisclosureBytesMax is the longest file that DecodeDisclosure reads.
	DisclosureBytesMax = record.BodyBytesMax + record.ProofBytesMax + record.DictionaryBytesMax + 64
)

// Encode gives the file.
func (d *Disclosure) Encode() []byte {
	b := append([]byte(disclosureMagic), disclosureVersion)
	b = binary.AppendUvarint(b, uint64(len(d.Proof)))
	b = append(b, d.Proof...)
	switch {
	case d.Key.IsZero():
		b = append(b, disclosedReadable)
	case d.Dictionary == nil:
		b = append(append(b, disclosedSealed), d.Key[:]...)
	default:
		b = append(append(b, disclosedWithDictionary), d.Key[:]...)
		b = binary.AppendUvarint(b, uint64(len(d.Dictionary)))
		b = append(b, d.Dictionary...)
	}
	return append(b, d.Body...)
}

// IsDisclosure tells a disclosure from a proof alone.
func IsDisclosure(b []byte) bool { return bytes.HasPrefix(b, []byte(disclosureMagic)) }

// DecodeDisclosure reads a file and refuses every other than the one encoding of
// its content. It verifies nothing. The error wraps record.ErrMalformed.
func DecodeDisclosure(b []byte) (Disclosure, error) {
	var d Disclosure
	bad := func(what string) (Disclosure, error) {
		return Disclosure{}, fmt.Errorf("reading disclosed record: %w: %s", record.ErrMalformed, what)
	}
	if len(b) > DisclosureBytesMax || !IsDisclosure(b) {
		return bad("not such a file")
	}
	rest := b[len(disclosureMagic):]
	if len(rest) == 0 || rest[0] != disclosureVersion {
		return bad("another version")
	}
	length, n := binary.Uvarint(rest[1:])
	if n <= 0 || length > record.ProofBytesMax || uint64(len(rest)-1-n) < length {
		return bad("cut short")
	}
	rest = rest[1+n:]
	d.Proof, rest = bytes.Clone(rest[:length]), rest[length:]
	switch {
	case len(rest) > 0 && rest[0] == disclosedReadable:
		rest = rest[1:]
	case len(rest) > len(d.Key) && rest[0] == disclosedSealed:
		d.Key, rest = seal.Key(rest[1:1+len(d.Key)]), rest[1+len(d.Key):]
	case len(rest) > len(d.Key) && rest[0] == disclosedWithDictionary:
		d.Key, rest = seal.Key(rest[1:1+len(d.Key)]), rest[1+len(d.Key):]
		length, n := binary.Uvarint(rest)
		if n <= 0 || length == 0 || length > record.DictionaryBytesMax || uint64(len(rest)-n) < length {
			return bad("cut short")
		}
		d.Dictionary, rest = bytes.Clone(rest[n:n+int(length)]), rest[n+int(length):]
	default:
		return bad("cut short")
	}
	d.Body = bytes.Clone(rest)
	if !bytes.Equal(d.Encode(), b) {
		return bad("a number in a longer form")
	}
	return d, nil
}

// Open checks the body against the record that the proof is about, and gives what
// it says. e is what verifying d.Proof gave.
func (d *Disclosure) Open(e record.Entry) (Disclosed, error) {
	r := e.Record.WithBody(d.Body)
	if d.Body == nil || uint64(len(d.Body)) != uint64(r.Core.BodyLen) {
		return Disclosed{}, fmt.Errorf("%w: the body is not the record's", record.ErrNotProven)
	}
	if err := r.VerifyBody(); err != nil {
		return Disclosed{}, fmt.Errorf("%w: %w", record.ErrNotProven, err)
	}
	if !r.Core.Kind.Sealed() {
		if !d.Key.IsZero() {
			return Disclosed{}, fmt.Errorf("%w: a key for a body that is not sealed", record.ErrNotProven)
		}
		return Disclosed{Plain: d.Body}, nil
	}
	var dictionaries seal.Dictionaries
	if d.Dictionary != nil {
		// The body's seal covers the ID that it was packed with, which is of its hash.
		x, err := record.DecodeDictionary(d.Dictionary)
		if err == nil {
			err = dictionaries.Add(x)
		}
		if err != nil {
			return Disclosed{}, fmt.Errorf("%w: %w", record.ErrNotProven, err)
		}
	}
	plain, err := dictionaries.OpenDisclosed(d.Key, r.Position(), r.Core.Kind, r.Core.Compartment, d.Body)
	if err != nil {
		return Disclosed{}, fmt.Errorf("%w: %w", record.ErrNotProven, err)
	}
	return disclosed(r.Core.Kind, plain), nil
}

// Disclosed is what one record says.
type Disclosed struct {
	Plain  []byte   // the opened body
	Reason string   // why it was written, when it says
	Items  [][]byte // FHIR resources as JSON, when it holds some; a retraction is named by its type and id
}

func disclosed(k record.Kind, plain []byte) Disclosed {
	out := Disclosed{Plain: plain}
	body, err := chart.DecodeBody(plain)
	if err != nil {
		return out // of a kind that holds no resources
	}
	out.Reason = body.Reason
	for _, item := range body.Items {
		if item.Op == chart.OpPut {
			out.Items = append(out.Items, item.JSON)
			continue
		}
		out.Items = append(out.Items, fmt.Appendf(nil, "{%q:%q,%q:%q}", "retracted", item.Type, "id", item.ID))
	}
	return out
}

// disclose joins a proof with the body of its record and the key to that body.
func (n *Node) disclose(p Proved) (Disclosure, error) {
	rid, err := record.ParseRID(strings.TrimSpace(p.RID))
	if err != nil {
		return Disclosure{}, err
	}
	r, ok, err := n.store.ByRID(rid)
	if err != nil {
		return Disclosure{}, err
	}
	if !ok || r.Body == nil {
		return Disclosure{}, fmt.Errorf("record %s: what it says is not on this box", rid.Short())
	}
	d := Disclosure{Proof: p.File, Body: r.Body}
	if !r.Core.Kind.Sealed() {
		return d, nil
	}
	var keyErr error
	d.Key, err = seal.Disclose(func(gen uint64) (seal.Key, bool) {
		k, err := n.vault.key(r.Core.Compartment, gen)
		keyErr = err
		return k, err == nil
	}, r.Position(), r.Core.Kind, r.Core.Compartment, r.Body)
	var unknown *seal.UnknownDictionary
	if errors.As(err, &unknown) { // to who has the body alone
		if b, ok := n.vault.dictionaries.Bytes(unknown.ID); ok {
			d.Dictionary, err = b, nil
		}
	}
	if err != nil {
		return Disclosure{}, fmt.Errorf("disclosing record %s: %w", rid.Short(), errors.Join(err, keyErr))
	}
	return d, nil
}
