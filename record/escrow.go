package record

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
)

// Limits of an escrow: as many sheets as EscrowSheetsMax, of which two at least are needed.
const (
	EscrowSheetsMax = 16
	EscrowNeedMin   = 2
	escrowsKeptMax  = 16 // that passed and are listed
)

// escrowSubject is what a vote for an escrow is about.
var escrowSubject = []byte("escrow")

// Escrow is the body of a KindEscrow record: to whom the keys of charts are wrapped besides
// those who may open them, so that a lost box does not lose what it alone could read. The private
// key lies on no box: Need of the Of sheets together give it. A hub's record is a vote
// (see Proposal); what passed counts from its entry on, until another passes.
type Escrow struct {
	_        struct{} `cbor:",toarray"`
	V        uint64   // 1
	Public   []byte   // 32: X25519, to wrap to
	Verifier []byte   // 32: Ed25519, which tells who used it
	Need     uint64
	Of       uint64
}

// DecodeEscrow reads and checks the body of an escrow. Whether anybody has sheets of it is not
// looked at here.
func DecodeEscrow(body []byte) (Escrow, error) {
	var e Escrow
	if err := decodeControl(body, &e, "escrow"); err != nil {
		return e, err
	}
	err := firstError(checkLen(e.Public, 32, "key of an escrow"), checkLen(e.Verifier, ed25519.PublicKeySize, "verifier of an escrow"))
	if err == nil && (e.V != 1 || e.Need < EscrowNeedMin || e.Need > e.Of || e.Of > EscrowSheetsMax) {
		err = fmt.Errorf("%w: version %d, %d of %d sheets", ErrMalformed, e.V, e.Need, e.Of)
	}
	if err != nil {
		return e, fmt.Errorf("reading escrow: %w", err)
	}
	return e, nil
}

// OrderedEscrow is an escrow that passed.
type OrderedEscrow struct {
	Escrow
	Seq uint64 // of the record by which it passed
}

type escrowRow struct {
	_    struct{} `cbor:",toarray"`
	Body []byte
	Seq  uint64
}

type escrowsRow struct {
	_    struct{} `cbor:",toarray"`
	List []escrowRow
}

// EscrowsOf lists the last escrows that passed in the ledger in this state, that in force last.
func EscrowsOf(s interface {
	Registry(key []byte) ([]byte, bool, error)
}) ([]OrderedEscrow, error) {
	b, ok, err := s.Registry([]byte{registryEscrow})
	if err != nil || !ok {
		return nil, err
	}
	var row escrowsRow
	if err := Unmarshal(b, &row); err != nil {
		return nil, fmt.Errorf("reading the list of escrows: %w", errors.Join(ErrState, err))
	}
	list := make([]OrderedEscrow, len(row.List))
	for i := range row.List {
		e, err := DecodeEscrow(row.List[i].Body)
		if err != nil {
			return nil, errors.Join(ErrState, err)
		}
		list[i] = OrderedEscrow{e, row.List[i].Seq}
	}
	return list, nil
}

// setEscrow counts a hub's vote for an escrow. Like erase it never refuses.
func (c *change) setEscrow(r *Record, author DeviceID) error {
	if _, err := DecodeEscrow(r.Body); err != nil {
		return nil
	}
	hubs, err := c.mayAdmit(author)
	if errors.Is(err, errNotAllowed) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := EscrowsOf(registryOf(c.registry))
	if err != nil {
		return err
	}
	if n := len(list); n > 0 && bytes.Equal(mustMarshal(list[n-1].Escrow), r.Body) {
		return c.withdraw(author, escrowSubject, nil, hubs)
	}
	passed, err := c.vote(author, KindEscrow, r.Body)
	if err != nil || !passed {
		return err
	}
	var row escrowsRow
	for _, x := range list[max(0, len(list)+1-escrowsKeptMax):] {
		row.List = append(row.List, escrowRow{Body: mustMarshal(x.Escrow), Seq: x.Seq})
	}
	row.List = append(row.List, escrowRow{Body: slices.Clone(r.Body), Seq: c.o.size})
	c.put([]byte{registryEscrow}, mustMarshal(row))
	return nil
}
