package dict_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/healthpost/healthpost/seal/dict"
)

var (
	update = flag.Bool("update", false, "train the dictionary again from its corpus")
	corpus = flag.Bool("corpus", false, "write the corpus again, for a dictionary that was not released yet")
)

const (
	corpusPath     = "v1.corpus.zst"
	v1HistoryBytes = 48 << 10
)

func TestTrainingGivesTheShippedDictionary(t *testing.T) {
	if *corpus {
		if err := writeCorpus(corpusPath, corpusBodies(t)); err != nil {
			t.Fatal(err)
		}
	}
	samples, err := readCorpus(corpusPath)
	if err != nil {
		t.Fatal(err)
	}
	got, err := dict.Train([][][]byte{texts(samples)}, dict.TrainOptions{Number: 1, HistoryBytesMax: v1HistoryBytes})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		writeDictionary(t, got)
		return
	}
	if want := dict.All()[0].Bytes; !bytes.Equal(got, want) {
		t.Errorf("training gave %d bytes with hash %s, shipped are %d with %s", len(got), hash(got), len(want), hash(want))
	}
}

func TestNamesAreHashes(t *testing.T) {
	for i, d := range dict.All() {
		if got := hash(d.Bytes); got != d.SHA256 {
			t.Errorf("dictionary %d: hash %s, named %s", d.ID, got, d.SHA256)
		}
		if d.ID != uint32(i+1) || !dict.Known(uint64(d.ID)) {
			t.Errorf("dictionary at place %d has number %d", i+1, d.ID)
		}
		info, err := zstd.InspectDictionary(d.Bytes)
		if err != nil {
			t.Fatalf("dictionary %d: %v", d.ID, err)
		}
		if info.ID() != d.ID {
			t.Errorf("dictionary %d says it is %d", d.ID, info.ID())
		}
	}
	if dict.Known(0) || dict.Known(uint64(len(dict.All()))+1) {
		t.Error("a dictionary that does not exist is known")
	}
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func writeDictionary(t *testing.T, b []byte) {
	t.Helper()
	name := fmt.Sprintf("// Written by go test -update.\n\npackage dict\n\nconst v1SHA256 = %q\n", hash(b))
	for path, content := range map[string][]byte{"v1.zdict": b, "name.go": []byte(name)} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
