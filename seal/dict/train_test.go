package dict_test

import (
	"encoding/binary"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// How v1 was trained.
const (
	historyBytesMax = 48 << 10
	segmentBytes    = 2 << 10
	gramBytes       = 8
)

// train builds a zstd dictionary from sample bodies. The same samples give the
// same bytes: nothing here depends on the order of a map.
func train(id uint32, samples [][]byte, historyMax int) ([]byte, error) {
	return zstd.BuildDict(zstd.BuildDictOptions{
		ID: id, Contents: samples, History: history(samples, historyMax),
		Offsets: [3]int{1, 4, 8}, Level: zstd.SpeedBetterCompression,
	})
}

// history picks the segments of the samples whose 8-byte grams occur in most
// samples, counting each gram for the first segment that brings it. The best
// come last, nearest to what will be compressed.
func history(samples [][]byte, bytesMax int) []byte {
	counts := gramCounts(samples)
	text := slices.Concat(samples...)
	rounds := bytesMax / segmentBytes
	stride := max(len(text)/rounds, segmentBytes)
	var picked [][]byte
	total := 0
	for total < bytesMax {
		before := total
		for start := 0; start < len(text) && total < bytesMax; start += stride {
			seg := bestSegment(text[start:min(start+stride, len(text))], counts)
			seg = trimSegment(seg, counts)
			for i := range grams(seg) {
				delete(counts, gram(seg[i:]))
			}
			if len(seg) > 0 {
				picked = append(picked, seg)
				total += len(seg)
			}
		}
		if total == before {
			break
		}
	}
	slices.Reverse(picked)
	out := slices.Concat(picked...)
	return out[max(0, len(out)-bytesMax):]
}

// gramCounts tells in how many samples each gram occurs, leaving out those of a single one.
func gramCounts(samples [][]byte) map[uint64]int {
	counts, last := map[uint64]int{}, map[uint64]int{}
	for n, s := range samples {
		for i := range grams(s) {
			g := gram(s[i:])
			if last[g] != n+1 {
				last[g] = n + 1
				counts[g]++
			}
		}
	}
	for g, c := range counts {
		if c < 2 {
			delete(counts, g)
		}
	}
	return counts
}

// bestSegment slides a window over text and returns the one with the highest sum of distinct grams.
func bestSegment(text []byte, counts map[uint64]int) []byte {
	inside := map[uint64]int{}
	score, best, bestAt := 0, 0, -1
	window := segmentBytes - gramBytes + 1
	for i := range grams(text) {
		g := gram(text[i:])
		if inside[g]++; inside[g] == 1 {
			score += counts[g]
		}
		if i >= window {
			old := gram(text[i-window:])
			if inside[old]--; inside[old] == 0 {
				score -= counts[old]
			}
		}
		if score > best {
			best, bestAt = score, max(0, i-window+1)
		}
	}
	if bestAt < 0 {
		return nil
	}
	return text[bestAt:min(bestAt+segmentBytes, len(text))]
}

// trimSegment drops what counts nothing from both ends.
func trimSegment(seg []byte, counts map[uint64]int) []byte {
	first, last := -1, -1
	for i := range grams(seg) {
		if counts[gram(seg[i:])] > 0 {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return nil
	}
	return seg[first : last+gramBytes]
}

func grams(s []byte) int { return max(0, len(s)-gramBytes+1) }

func gram(s []byte) uint64 { return binary.LittleEndian.Uint64(s) }
