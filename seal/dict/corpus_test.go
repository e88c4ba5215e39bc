package dict_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/klauspost/compress/zstd"
)

// A corpus file is zstd over (uvarint length || body) for each body.
const corpusBytesMax = 64 << 20

func readCorpus(path string) ([][]byte, error) {
	packed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(corpusBytesMax))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	b, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	var bodies [][]byte
	for len(b) > 0 {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, fmt.Errorf("reading %s: %w", path, errors.New("a length points past the end"))
		}
		bodies = append(bodies, b[n:n+int(size)])
		b = b[n+int(size):]
	}
	return bodies, nil
}

func writeCorpus(path string, bodies [][]byte) error {
	var b []byte
	for _, body := range bodies {
		b = append(binary.AppendUvarint(b, uint64(len(body))), body...)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return err
	}
	defer enc.Close()
	return os.WriteFile(path, enc.EncodeAll(b, nil), 0o644)
}
