package record

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// What is allowed in a region is text that the ledger carries: the body of a KindRules
// record as it stands. A hub's record is a vote for it (see Proposal); what passed counts
// from its entry on, until other rules pass. What the text means is not looked at here.
const (
	RulesTextMax = 32 << 10 // bytes
	rulesKeptMax = 8        // that passed and are listed
)

// rulesSubject is what a vote for rules is about.
var rulesSubject = []byte("rules")

// OrderedRules are rules that passed.
type OrderedRules struct {
	_    struct{} `cbor:",toarray"`
	Name []byte   // SHA-256 of the text
	Seq  uint64   // of the record by which they passed, whose body they are
}

type rulesRow struct {
	_    struct{} `cbor:",toarray"`
	List []OrderedRules
}

// CheckRulesText refuses what no KindRules record may have as its body. The error wraps
// ErrMalformed.
func CheckRulesText(text []byte) error {
	if len(text) == 0 || len(text) > RulesTextMax || !utf8.Valid(text) {
		return fmt.Errorf("reading rules: %w: %d bytes, want 1 to %d of text", ErrMalformed, len(text), RulesTextMax)
	}
	return nil
}

// RulesOf lists the last rules that passed in the ledger in this state, the newest last.
func RulesOf(s interface {
	Registry(key []byte) ([]byte, bool, error)
}) ([]OrderedRules, error) {
	b, ok, err := s.Registry([]byte{registryRules})
	if err != nil || !ok {
		return nil, err
	}
	var row rulesRow
	if err := Unmarshal(b, &row); err != nil {
		return nil, fmt.Errorf("reading the list of rules: %w", errors.Join(ErrState, err))
	}
	for i := range row.List {
		if err := checkLen(row.List[i].Name, len(Hash{}), "name of rules"); err != nil {
			return nil, errors.Join(ErrState, err)
		}
	}
	return row.List, nil
}

// setRules counts a hub's vote for rules. Like erase it never refuses.
func (c *change) setRules(r *Record, author DeviceID) error {
	if CheckRulesText(r.Body) != nil {
		return nil
	}
	hubs, err := c.mayAdmit(author)
	if errors.Is(err, errNotAllowed) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := RulesOf(registryOf(c.registry))
	if err != nil {
		return err
	}
	name := sha256.Sum256(r.Body)
	if len(list) > 0 && bytes.Equal(list[len(list)-1].Name, name[:]) {
		return c.withdraw(author, rulesSubject, nil, hubs)
	}
	passed, err := c.vote(author, KindRules, r.Body)
	if err != nil || !passed {
		return err
	}
	list = append(slices.Clone(list[max(0, len(list)+1-rulesKeptMax):]), OrderedRules{Name: name[:], Seq: c.o.size})
	c.put([]byte{registryRules}, mustMarshal(rulesRow{List: list}))
	return nil
}
