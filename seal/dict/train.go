package dict

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/healthpost/healthpost/record"
)

// TrainOptions say what a dictionary is made for.
type TrainOptions struct {
	// Number is what frames will carry; 0 is record.DictionaryNumber.
	Number uint32
	// HistoryBytesMax bounds the text in it; 0 is HistoryBytesMax.
	HistoryBytesMax int
	// PeopleMin is of how many people each piece of text in it must come at least;
	// 0 keeps every piece. A dictionary of the ledger can be read by everybody who
	// holds the ledger, so nothing that only a few people's records say may be in it.
	PeopleMin int
}

// What a dictionary of the ledger is trained with.
const (
	HistoryBytesMax = 110 << 10
	PeopleMin       = 5

	segmentBytes = 2 << 10
	gramBytes    = 8
	samplesMax   = 1 << 20
	sampleMin    = 8
)

// ErrTooFew: the samples have too little in common to train on.
var ErrTooFew = errors.New("too few samples, or too little that they share")

// Train builds a dictionary in the format of RFC 8878 section 5 from texts, as
// SetUUIDsAside gives them, of bodies by the person they are about. The same
// samples in the same order give the same bytes: nothing here depends on the
// order of a map.
func Train(people [][][]byte, o TrainOptions) ([]byte, error) {
	if o.HistoryBytesMax == 0 {
		o.HistoryBytesMax = HistoryBytesMax
	}
	samples := slices.Concat(people...)
	if len(samples) < sampleMin || len(samples) > samplesMax {
		return nil, fmt.Errorf("training a dictionary: %w: %d samples", ErrTooFew, len(samples))
	}
	shown := samples
	if o.PeopleMin > 1 {
		shown = onlyShared(people, o.PeopleMin)
	}
	text := history(shown, o.HistoryBytesMax)
	if len(text) < segmentBytes {
		return nil, fmt.Errorf("training a dictionary: %w", ErrTooFew)
	}
	if o.Number == 0 {
		o.Number = record.DictionaryNumber
	}
	b, err := zstd.BuildDict(zstd.BuildDictOptions{
		ID: o.Number, Contents: samples, History: text,
		Offsets: [3]int{1, 4, 8}, Level: zstd.SpeedBetterCompression,
	})
	if err != nil {
		return nil, fmt.Errorf("training a dictionary: %w", err)
	}
	return b, nil
}

// onlyShared cuts each sample down to the runs of text all of whose 8-byte grams
// occur with at least peopleMin people.
func onlyShared(people [][][]byte, peopleMin int) [][]byte {
	counts, last := map[uint64]int{}, map[uint64]int{}
	for n, samples := range people {
		for _, s := range samples {
			for i := range grams(s) {
				if g := gram(s[i:]); last[g] != n+1 {
					last[g] = n + 1
					counts[g]++
				}
			}
		}
	}
	var out [][]byte
	for _, samples := range people {
		for _, s := range samples {
			out = append(out, sharedRuns(s, counts, peopleMin))
		}
	}
	return out
}

func sharedRuns(s []byte, counts map[uint64]int, peopleMin int) []byte {
	out, end := make([]byte, 0, len(s)), 0
	for i := range grams(s) {
		if counts[gram(s[i:])] >= peopleMin {
			out = append(out, s[max(i, end):i+gramBytes]...)
			end = i + gramBytes
		}
	}
	return out
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
