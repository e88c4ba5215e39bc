package rig

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// NewSeed gives the seed of one test and prints it.
func NewSeed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HEALTHPOST_TEST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("HEALTHPOST_TEST_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("seed %d (HEALTHPOST_TEST_SEED=%d repeats it)", seed, seed)
	return seed
}

// NewRand gives the random choices of one test and prints their seed.
func NewRand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(NewSeed(t), 0))
}
