package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/store/journal"
)

// Options of a store. Take NewOptions and change what is needed.
type Options struct {
	Log zerolog.Logger
	// Now is the wall clock; it only ever feeds hybrid clocks and displays.
	Now func() time.Time
	// FreeBytesMin is the free space under which every write is refused with ErrFull.
	FreeBytesMin int64
	// BallastBytes is the file that Open releases, so that a full disk can be
	// opened, and makes again. 0 keeps none.
	BallastBytes int64
	// JournalFS replaces the journal's directory in tests.
	JournalFS journal.FS
	// SegmentBytes and ChunkBytes size the journal's segments and preallocation.
	SegmentBytes, ChunkBytes int64
	// VerifyBytes is how much of the index Open reads and verifies before it
	// returns; what is beyond is verified in the background.
	VerifyBytes int64
	// BlobBytesPerAuthor is the most that is kept of attachments that one other
	// device announced.
	BlobBytesPerAuthor int64
	// Verified is shared by the stores of one process; nil is one of the store's own.
	Verified *Verified
	// Salvage opens a damaged store for reading: what can be read is read, Verify
	// names the rest, nothing is written and nothing compacts.
	Salvage bool
	// LazyMax is how long a transaction that nobody waits for stays off the disk.
	LazyMax time.Duration
}

// NewOptions gives the defaults of a box.
func NewOptions() Options {
	return Options{Log: zerolog.Nop(), Now: time.Now, FreeBytesMin: 64 << 20, BallastBytes: 64 << 20,
		SegmentBytes: 16 << 20, ChunkBytes: 1 << 20, VerifyBytes: 512 << 20, BlobBytesPerAuthor: 4 << 30, LazyMax: 200 * time.Millisecond}
}

// withDefaults fills in what must not be zero.
func (o Options) withDefaults() Options {
	d := NewOptions()
	if o.Now == nil {
		o.Now = d.Now
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = d.SegmentBytes
	}
	if o.ChunkBytes <= 0 {
		o.ChunkBytes = d.ChunkBytes
	}
	if o.BlobBytesPerAuthor <= 0 {
		o.BlobBytesPerAuthor = d.BlobBytesPerAuthor
	}
	if o.LazyMax <= 0 {
		o.LazyMax = d.LazyMax
	}
	return o
}

// memTableBytes is pinned in the FORMAT file: Badger cannot reopen a memtable
// that was written under a larger value.
const (
	memTableBytes  = 8 << 20
	valueThreshold = 1 << 20 // the largest that Badger takes; rows are smaller
	format         = 1
)

// badgerOptions is the only place where the index is configured. SyncWrites is
// off because the journal is the commit point. Nothing goes to the value log:
// the threshold is the largest that one transaction can hold. The store has a lock
// of its own.
func badgerOptions(dir string, memTable int64, log zerolog.Logger) badger.Options {
	return badger.DefaultOptions(dir).WithSyncWrites(false).WithDetectConflicts(false).
		WithChecksumVerificationMode(options.OnBlockRead).WithVerifyValueChecksum(true).
		WithMemTableSize(memTable).WithNumMemtables(2).WithValueThreshold(valueThreshold).WithValueLogFileSize(1 << 20).
		WithBaseTableSize(8 << 20).WithNumLevelZeroTables(3).WithNumLevelZeroTablesStall(10).WithNumCompactors(2).
		WithBlockCacheSize(8 << 20).WithIndexCacheSize(8 << 20).WithBlockSize(8 << 10).WithCompression(options.None).
		WithMetricsEnabled(false).WithNumGoroutines(2).WithNumVersionsToKeep(1).WithBypassLockGuard(true).WithLogger(badgerLog{log})
}

type badgerLog struct{ log zerolog.Logger }

func (l badgerLog) line(e *zerolog.Event, format string, args []any) {
	e.Str("text", strings.TrimSpace(fmt.Sprintf(format, args...))).Msg("index")
}

func (l badgerLog) Errorf(f string, a ...any)   { l.line(l.log.Error(), f, a) }
func (l badgerLog) Warningf(f string, a ...any) { l.line(l.log.Warn(), f, a) }
func (l badgerLog) Infof(f string, a ...any)    { l.line(l.log.Debug(), f, a) }
func (l badgerLog) Debugf(string, ...any)       {}

const formatFile = "FORMAT"

// pinFormat reads the format of an existing directory or writes that of a new
// one. The memtable size of a directory never becomes smaller. counted says that
// the store was made with counts of rows.
func pinFormat(dir string) (memTable int64, counted bool, err error) {
	name := filepath.Join(dir, formatFile)
	b, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		if err := journal.Dir(filepath.Dir(filepath.Clean(dir))).SyncDir(); err != nil { // the folder itself is new
			return 0, false, fmt.Errorf("making the store's folder: %w", err)
		}
		return memTableBytes, true, writeFormat(dir, memTableBytes, true)
	}
	if err != nil {
		return 0, false, fmt.Errorf("reading store format: %w", err)
	}
	var version int
	if n, err := fmt.Sscanf(string(b), "healthpost store %d\nmemtable %d\n", &version, &memTable); err != nil || n != 2 || memTable < 1<<20 || memTable > 1<<30 {
		return 0, false, &DamageError{Key: formatFile, What: "store format is not readable"}
	}
	if version != format {
		return 0, false, fmt.Errorf("opening store: format %d, this program knows %d", version, format)
	}
	counted = strings.HasSuffix(string(b), countedLine)
	if memTable < memTableBytes {
		return memTableBytes, counted, writeFormat(dir, memTableBytes, counted)
	}
	return memTable, counted, nil
}

const countedLine = "counted\n"

// Counted says whether a store was made with counts of rows, as all are but those of
// the first release. Nothing is opened or changed.
func Counted(dir string) (bool, error) {
	b, err := os.ReadFile(filepath.Join(dir, formatFile))
	if err != nil {
		return false, fmt.Errorf("reading store format: %w", err)
	}
	return strings.HasSuffix(string(b), countedLine), nil
}

func writeFormat(dir string, memTable int64, counted bool) error {
	text := fmt.Sprintf("healthpost store %d\nmemtable %d\n", format, memTable)
	if counted {
		text += countedLine
	}
	if err := writeFileSynced(dir, formatFile, []byte(text)); err != nil {
		return fmt.Errorf("writing store format: %w", err)
	}
	return nil
}

// writeFileSynced replaces a small file so that a crash leaves the old or the new one.
func writeFileSynced(dir, name string, b []byte) error {
	tmp := filepath.Join(dir, name+".tmp")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		return err
	}
	return journal.Dir(dir).SyncDir()
}
