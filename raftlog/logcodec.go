package raftlog

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
)

const (
	logVersion   = 1
	logBytesMax  = 1 << 20
	noAppendTime = 0
)

// encodeLog gives the value of a log row:
//
//	version(1) type(1) term(uvarint) appendedAt(uvarint, Unix nanoseconds, 0 for none)
//	length of extensions(uvarint) extensions data
func encodeLog(l *raft.Log) []byte {
	b := make([]byte, 0, 24+len(l.Extensions)+len(l.Data))
	b = append(b, logVersion, byte(l.Type))
	b = binary.AppendUvarint(b, l.Term)
	at := uint64(noAppendTime)
	if !l.AppendedAt.IsZero() {
		at = uint64(max(l.AppendedAt.UnixNano(), 1))
	}
	b = binary.AppendUvarint(b, at)
	b = binary.AppendUvarint(b, uint64(len(l.Extensions)))
	b = append(b, l.Extensions...)
	return append(b, l.Data...)
}

// decodeLog reads a log row. The slices of out point into b.
func decodeLog(index uint64, b []byte, out *raft.Log) error {
	if len(b) < 2 || len(b) > logBytesMax || b[0] != logVersion || b[1] > uint8(raft.LogConfiguration) {
		return fmt.Errorf("reading raft item %d: %w: %d bytes", index, record.ErrMalformed, len(b))
	}
	l := raft.Log{Index: index, Type: raft.LogType(b[1])}
	b = b[2:]
	var fields [3]uint64
	for i := range fields {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return fmt.Errorf("reading raft item %d: %w: cut short", index, record.ErrMalformed)
		}
		fields[i], b = v, b[n:]
	}
	if fields[2] > uint64(len(b)) || fields[1] > 1<<63-1 {
		return fmt.Errorf("reading raft item %d: %w: extensions of %d bytes", index, record.ErrMalformed, fields[2])
	}
	l.Term = fields[0]
	if fields[1] != noAppendTime {
		l.AppendedAt = time.Unix(0, int64(fields[1]))
	}
	if ext := b[:fields[2]]; len(ext) > 0 {
		l.Extensions = ext
	}
	l.Data = b[fields[2]:]
	*out = l
	return nil
}
