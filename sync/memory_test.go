package peersync_test

import (
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// sessionBytesMax is a window, the frontier of a thousand epochs and what else a
// session may note of a peer.
const sessionBytesMax = 4 << 20

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestHostilePeerIsBounded: whatever a peer names, asks for, refuses or claims, and
// however often, a session holds a bounded amount of memory for it, or ends.
func TestHostilePeerIsBounded(t *testing.T) {
	count := uint64(0)
	id := func(n int) []byte {
		count++
		return binary.BigEndian.AppendUint64(make([]byte, n-8), count)
	}
	ids := func(n, size int) (list [][]byte) {
		for range n {
			list = append(list, id(size))
		}
		return list
	}
	stranger := keysOf(77)[0]
	for _, x := range []struct {
		name   string
		frames int
		next   func() peersync.Frame
	}{
		{"evidence named", 60_000, func() peersync.Frame {
			return peersync.Frame{Type: peersync.TypeEvidence, Payload: mustMarshal([]any{ids(8, 8), [][]byte{}, []byte{}})}
		}},
		{"evidence asked for", 60_000, func() peersync.Frame {
			return peersync.Frame{Type: peersync.TypeEvidence, Payload: mustMarshal([]any{[][]byte{}, ids(8, 8), []byte{}})}
		}},
		{"refusals", 3000, func() peersync.Frame {
			var list []any
			for range 32 {
				list = append(list, []any{id(32), id(16), uint64(1), count, uint64(record.Quarantined)})
			}
			return peersync.Frame{Type: peersync.TypeReject, Payload: mustMarshal([]any{list})}
		}},
		{"acknowledgements", 3000, func() peersync.Frame {
			var list []any
			for range 16 {
				list = append(list, []any{id(16), uint64(1), count, uint64(1)})
			}
			return peersync.Frame{Type: peersync.TypeAck, Payload: mustMarshal([]any{uint64(0), uint64(0), list})}
		}},
		{"records of strange epochs", 3000, func() peersync.Frame {
			core := record.Core{Epoch: record.EpochID(id(16)), Lane: record.LaneBulk, N: 1 + count%9, HLC: count, Kind: record.KindClinical}
			return peersync.Frame{Type: peersync.TypePending, Payload: record.AppendRun(nil, []record.Record{record.Sign(core, id(64), stranger)})}
		}},
		{"attachments wanted", 3000, func() peersync.Frame {
			var list []any
			for range 16 {
				list = append(list, []any{id(16), []byte{}})
			}
			return peersync.Frame{Type: peersync.TypeWant, Payload: mustMarshal([]any{list})}
		}},
		{"attachments offered", 3000, func() peersync.Frame {
			return peersync.Frame{Type: peersync.TypeHeld, Payload: mustMarshal([]any{[][]byte{}, [][]byte{}, ids(32, 16)})}
		}},
		{"frames of unknown types", 10_000, func() peersync.Frame { return peersync.Frame{Type: 0x5f, Payload: id(16)} }},
	} {
		t.Run(x.name, func(t *testing.T) {
			w, _, _, _ := blobWorld(t, 88)
			c := w.clinics[0]
			s := w.greeted(t, c.memory, w.hub)
			before, frames := heap(), 0
			for ; frames < x.frames; frames++ {
				err := s.Handle(t.Context(), x.next())
				if errors.Is(err, peersync.ErrMisbehaved) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				for ok := true; ok; {
					if _, ok, err = s.Next(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if grown := heap() - before; grown > sessionBytesMax {
				t.Errorf("after %d frames the session holds %d kB, want at most %d", frames, grown>>10, sessionBytesMax>>10)
			}
			runtime.KeepAlive(s)
			runtime.KeepAlive(w)
		})
	}
}
