package record_test

import (
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/healthpost/healthpost/record"
)

// leveled is a tree of made-up leaf hashes, held as its complete levels.
type leveled struct {
	size   int64
	levels [][]tlog.Hash
}

// makeTree has one true leaf, the others are hashes of their place.
func makeTree(size, at int64, leaf tlog.Hash) *leveled {
	row := make([]tlog.Hash, size)
	for i := range row {
		for j := range 8 {
			row[i][j] = byte(i >> (8 * j))
		}
		row[i][31] = 1
	}
	row[at] = leaf
	x := &leveled{size: size}
	for len(row) > 0 {
		x.levels = append(x.levels, row)
		next := make([]tlog.Hash, len(row)/2)
		for i := range next {
			next[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
		row = next
	}
	return x
}

func (x *leveled) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		if level >= len(x.levels) || n >= int64(len(x.levels[level])) {
			return nil, fmt.Errorf("no hash %d at level %d", n, level)
		}
		out[i] = x.levels[level][n]
	}
	return out, nil
}

// benchmarkProof makes, writes, reads and checks the proof of an entry of a ledger
// of a size, with the cosignatures of two of three hubs and against a printed root.
func benchmarkProof(b *testing.B, size int64) {
	c := newBox("clinic one")
	c.open()
	hubs := []*box{newBox("hub one"), newBox("hub two"), newBox("hub three")}
	seq := size/2 - 1
	e := record.Entry{Seq: uint64(seq), Time: startMillis / 1000, PrevSeq: uint64(seq), Record: c.visit("a", "one")}
	x := makeTree(size, seq, tlog.RecordHash(e.EncodeLeaf()))
	root, err := tlog.TreeHash(size, x)
	if err != nil {
		b.Fatal(err)
	}
	l, head := regionID.Ledger(1), record.TreeHead{Size: uint64(size), Root: record.Hash(root)}
	note := noteBy(b, l, head, startMillis/1000, hubs...)
	make := func() record.Proof {
		found, err := tlog.ProveRecord(size, seq, x)
		if err != nil {
			b.Fatal(err)
		}
		path := make([]record.Hash, len(found))
		for i := range found {
			path[i] = record.Hash(found[i])
		}
		p, err := record.NewProof(l, c.id, &e, path, note, ids(hubs))
		if err != nil {
			b.Fatal(err)
		}
		return p
	}
	p := make()
	bare := p.Bare()
	file, bareFile := record.EncodeProof(&p), record.EncodeProof(&bare)
	b.Run("make", func(b *testing.B) {
		for b.Loop() {
			make()
		}
		b.ReportMetric(float64(len(file)), "bytes")
	})
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			p, err := record.DecodeProof(file)
			if err != nil {
				b.Fatal(err)
			}
			if _, _, err := p.Verify(l, ids(hubs)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(file)), "bytes")
	})
	b.Run("check by root", func(b *testing.B) {
		for b.Loop() {
			p, err := record.DecodeProof(bareFile)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := p.VerifyAt(head); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(bareFile)), "bytes")
	})
}

func BenchmarkProof1M(b *testing.B)  { benchmarkProof(b, 1_000_000) }
func BenchmarkProof10M(b *testing.B) { benchmarkProof(b, 10_000_000) }

func BenchmarkConsistency10M(b *testing.B) {
	const size, old = 10_000_000, 6_543_210
	x := makeTree(size, 0, tlog.Hash{})
	root, err := tlog.TreeHash(size, x)
	if err != nil {
		b.Fatal(err)
	}
	before, err := tlog.TreeHash(old, x)
	if err != nil {
		b.Fatal(err)
	}
	found, err := tlog.ProveTree(size, old, x)
	if err != nil {
		b.Fatal(err)
	}
	proof := make([]record.Hash, len(found))
	for i := range found {
		proof[i] = record.Hash(found[i])
	}
	for b.Loop() {
		if err := record.VerifyConsistency(record.TreeHead{Size: old, Root: record.Hash(before)}, record.TreeHead{Size: size, Root: record.Hash(root)}, proof); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(proof)*32), "bytes")
}

// BenchmarkCheckpoint is what a hub does for one: it signs, and verifies that of
// another hub.
func BenchmarkCheckpoint(b *testing.B) {
	l, hubs := regionID.Ledger(1), ids(hubBoxes)
	note := cosigned(b, someHead, hubBoxes[:2]...)
	b.Run("sign", func(b *testing.B) {
		for b.Loop() {
			if _, err := record.Cosign(l, someHead, hubBoxes[0].key, 1_768_435_200); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify final", func(b *testing.B) {
		for b.Loop() {
			if _, err := record.VerifyFinal(l, note, hubs); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(note)), "bytes")
	})
	b.Run("compact and back", func(b *testing.B) {
		var n int
		for b.Loop() {
			compact, err := record.CompactNote(l, note, hubs)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := record.ExpandNote(l, compact, hubs); err != nil {
				b.Fatal(err)
			}
			n = len(compact)
		}
		b.ReportMetric(float64(n), "bytes")
	})
}

func BenchmarkEvidence(b *testing.B) {
	g, all := kindsOfEvidence(b)
	for name, e := range all {
		file := e.Encode()
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				e, err := record.DecodeEvidence(file)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.Verify(g.id, g.hubIDs()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(file)), "bytes")
		})
	}
}
