package rig

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Saved collects the visits of a test and what the page said about each.
type Saved struct {
	mu     sync.Mutex
	visits []Visit           // posted, answered or not; guarded by mu
	rid    map[string]string // of those answered with "saved", by marker; guarded by mu
}

// NewSaved is an empty book.
func NewSaved() *Saved { return &Saved{rid: map[string]string{}} }

// Posted notes a visit that goes to the page now.
func (s *Saved) Posted(v Visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visits = append(s.visits, v)
}

// Acked notes an answer; another record for the same form is a failure.
func (s *Saved) Acked(v Visit, rid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.rid[v.Marker]; ok && first != rid {
		return fmt.Errorf("form %s was saved as record %s and again as %s", v.Values.Get("form"), first, rid)
	}
	s.rid[v.Marker] = rid
	return nil
}

// RecordOf is the record that a visit was saved as, or empty.
func (s *Saved) RecordOf(v Visit) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rid[v.Marker]
}

// All gives what was posted, and by marker the record ids of what was answered.
func (s *Saved) All() (visits []Visit, rid map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rid = map[string]string{}
	for k, v := range s.rid {
		rid[k] = v
	}
	return slices.Clone(s.visits), rid
}

// MarkersOnce holds a box's export to the markers of the acknowledged visits:
// each of them in one resource exactly.
func (s *Saved) MarkersOnce(t testing.TB, b *Box) {
	t.Helper()
	if lost, twice, all := s.Compare(b.Export()); lost+twice > 0 {
		t.Errorf("%s: of %d acknowledged visits %d are lost and %d are there twice", b.Name, all, lost, twice)
	}
}

// Compare counts the acknowledged visits that an export lacks, and those that it has
// more than once.
func (s *Saved) Compare(export []string) (lost, twice, all int) {
	_, rid := s.All()
	count := map[string]int{}
	for _, line := range export {
		for _, word := range strings.FieldsFunc(line, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
			if strings.HasPrefix(word, "marker-") {
				count[word]++
			}
		}
	}
	for marker := range rid {
		switch n := count[marker]; {
		case n == 0:
			lost++
		case n > 1:
			twice++
		}
	}
	return lost, twice, len(rid)
}

// WaitConfirmed waits until every acknowledged visit is confirmed on its box.
func (s *Saved) WaitConfirmed(b *Box) {
	b.T.Helper()
	_, rid := s.All()
	b.Eventually(ConvergeMax, "every visit of "+b.Name+" to be in the regional record", func() string {
		for marker, id := range rid {
			st, err := b.RecordState(id)
			if err != nil {
				return err.Error()
			}
			if st.State == "confirmed" {
				delete(rid, marker)
				continue
			}
			return fmt.Sprintf("%s is %s, %d to look at", id, st.State, len(rid))
		}
		return ""
	})
}
