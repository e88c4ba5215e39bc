package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store/journal"
)

// Store is an open replica. All methods may be called concurrently.
type Store struct {
	o       Options
	dir     string
	lock    *os.File
	db      *badger.DB
	journal *journal.Journal

	gate *gate // entered while the index is in use

	// mu is the write mutex: one transaction is built at a time.
	mu        sync.Mutex
	own       *ownEpoch                       // guarded by mu
	acks      ackTable                        // guarded by mu
	kept      map[record.DeviceID]refusedKept // guarded by mu
	verified  *Verified
	interests interests
	// arrivalOf is the number that a record arrives under while the store is
	// rebuilt, nil otherwise. Guarded by mu.
	arrivalOf func(record.RID) (uint64, bool)

	// qmu guards the queue. It is held for moments only, never across I/O.
	qmu         sync.Mutex
	queue       []*layer     // accepted, in no frame yet
	draining    bool         // nothing more is accepted
	rest        bool         // the disk is nearly full: the index shall rest
	refusing    bool         // the disk is full
	flushLazy   bool         // Barrier asks for a frame
	scouring    []chan error // Scour waits for the committer
	subscribers map[chan struct{}]struct{}
	accepted    atomic.Pointer[shown] // written under qmu: every layer that the index does not hold
	shown       atomic.Pointer[shown] // written under qmu: the visible ones of them

	wake        chan struct{} // one slot: the queue changed
	committed   chan struct{} // closed when the committer ended
	lastWaiters int           // owned by the committer
	ckpt        *checkpointing
	end         record.TreeHead // of the ledger as the index holds it; owned by the committer, set by open
	resting     bool            // the index does not compact; owned by the committer, set by open
	memTable    int64           // fixed by open
	counted     bool            // the store was made with counts of rows; fixed by open
	unmeasured  int             // bytes since measureHeadroom; owned by the committer
	headroom    atomic.Int64    // bytes that a compaction may need
	applied     int64           // bytes of rows since the index was opened; owned by the committer, set by open
	reserve     atomic.Int64    // bytes that are written ahead for rows that a full disk takes too

	salvaged  []error       // damage that Open went past, fixed by open
	index     string        // the folder that is read instead of the index, fixed by open
	excluded  bool          // tables could not be read: rows may be older than they were; fixed by open
	unchecked []string      // tables for the background, fixed by open
	closing   chan struct{} // closed by Close
	scrubbed  chan struct{} // closed when the background ended

	fault   atomic.Pointer[error]
	faulted chan struct{}
}

const (
	indexDir   = "index"
	journalDir = "journal"
	lockFile   = "LOCK"
)

// Open opens or makes the store in a directory. It replays what the journal
// holds and the index may not, and checks that what the store promised is there:
// ErrDamaged says what is not. ErrLocked when another process has it.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{o: o.withDefaults(), dir: dir, gate: newGate(), wake: make(chan struct{}, 1), committed: make(chan struct{}), faulted: make(chan struct{}), closing: make(chan struct{}), scrubbed: make(chan struct{}),
		subscribers: map[chan struct{}]struct{}{}}
	if s.verified = o.Verified; s.verified == nil {
		s.verified = NewVerified(verifiedMax)
	}
	if err := s.open(); err != nil {
		s.release()
		return nil, fmt.Errorf("opening store: %w", err)
	}
	go s.commits()
	go s.scrub()
	if !s.o.Salvage {
		if err := s.followRules(); err != nil {
			return nil, fmt.Errorf("opening store: %w", errors.Join(err, s.Close()))
		}
	}
	return s, nil
}

func (s *Store) open() error {
	for _, d := range []string{s.dir, filepath.Join(s.dir, indexDir), filepath.Join(s.dir, journalDir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if err := checkFilesLimit(s.indexPath()); err != nil {
		return err
	}
	if err := s.takeLock(); err != nil {
		return err
	}
	if err := releaseBallast(s.dir); err != nil {
		return err
	}
	var err error
	s.memTable, s.counted, err = pinFormat(s.dir)
	if err := s.excuse(err); err != nil {
		return err
	}
	s.memTable = max(s.memTable, memTableBytes)
	if s.o.JournalFS == nil {
		s.o.JournalFS = journal.Dir(filepath.Join(s.dir, journalDir))
	}
	s.journal, err = journal.Open(journal.Options{FS: s.o.JournalFS, SegmentBytes: s.o.SegmentBytes, ChunkBytes: s.o.ChunkBytes, Lenient: s.o.Salvage})
	if err != nil {
		return damagedJournal(err)
	}
	if err := s.excuse(s.checkIndexFiles()); err != nil {
		return err
	}
	if err := s.measureHeadroom(); err != nil {
		return err
	}
	if s.o.Salvage {
		if err := s.prepareSalvage(); err != nil {
			return err
		}
	}
	free, err := freeBytes(s.dir)
	if err != nil {
		return err
	}
	s.rest = free < restBelow(s.freeMin()) || s.o.Salvage
	s.resting = s.rest
	if err := s.excuse(s.roomToOpen()); err != nil {
		return err
	}
	if err := s.openIndex(); err != nil {
		return err
	}
	if err := s.excuse(s.recover()); err != nil {
		return err
	}
	if err := s.load(); err != nil {
		return err
	}
	if s.o.Salvage {
		readOnly := fmt.Errorf("%w: opened for reading only: %w", ErrDamaged, errors.Join(s.salvaged...))
		s.fault.Store(&readOnly)
		return nil
	}
	if err := s.makeReserve(); err != nil {
		return err
	}
	return makeBallast(s.dir, s.o.BallastBytes, s.freeMin())
}

// excuse keeps damage for later where the store is opened to be salvaged.
func (s *Store) excuse(err error) error {
	if err == nil || !s.o.Salvage || !errors.Is(err, ErrDamaged) {
		return err
	}
	s.salvaged = append(s.salvaged, err)
	return nil
}

func damagedJournal(err error) error {
	var d *journal.DamageError
	if errors.As(err, &d) {
		return &DamageError{Key: d.File, What: d.Error()}
	}
	return err
}

func (s *Store) takeLock() error {
	f, err := os.OpenFile(filepath.Join(s.dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(ErrLocked, f.Close())
	}
	s.lock = f
	return nil
}

// openIndex opens Badger. Damage in its files can make it panic.
func (s *Store) openIndex() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &DamageError{Key: indexDir, What: fmt.Sprintf("index cannot be opened: %v", p)}
		}
	}()
	o := badgerOptions(s.indexPath(), s.memTable, s.o.Log)
	if s.resting {
		o = o.WithNumCompactors(0).WithNumLevelZeroTablesStall(1 << 10)
	}
	db, err := badger.Open(o)
	if err != nil { // what it returns then must not be closed
		return fmt.Errorf("%w: %w", &DamageError{Key: indexDir, What: "index cannot be opened"}, err)
	}
	s.db = db
	return nil
}

// indexPath is the folder of the index.
func (s *Store) indexPath() string {
	if s.index != "" {
		return s.index
	}
	return filepath.Join(s.dir, indexDir)
}

// release closes what open got hold of.
func (s *Store) release() error {
	var err error
	if s.db != nil {
		_, err = s.closeDB()
	}
	if s.journal != nil {
		err = errors.Join(err, s.journal.Close())
	}
	if s.index != "" {
		err = errors.Join(err, os.RemoveAll(s.index))
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// Close writes what is queued, waits for readers, and leaves a store that opens
// without replay. After a fault it only closes: the journal holds the truth.
func (s *Store) Close() error {
	s.qmu.Lock()
	s.draining = true
	if !isClosed(s.closing) {
		close(s.closing)
	}
	s.qmu.Unlock()
	s.wakeCommitter()
	<-s.committed
	<-s.scrubbed
	if !s.gate.close() {
		return nil
	}
	size := s.shown.Load().state.ledger.Edge.Size
	closed, err := s.closeIndex()
	s.db = nil
	if err == nil && closed && s.Err() == nil {
		err = s.writeCheckpoint(s.journal.Stats().SyncedLast, true)
	}
	if err == nil && closed && s.Err() == nil {
		s.noteRules(size)
	}
	if err := errors.Join(err, s.release()); err != nil {
		return fmt.Errorf("closing store: %w", err)
	}
	return nil
}

func (s *Store) closeIndex() (closed bool, err error) {
	// The index writes its memtable into a new table now: it must find space.
	if s.Full() {
		err = releaseBallast(s.dir)
	}
	if s.ckpt != nil && s.Err() != nil {
		<-s.ckpt.done
	} else {
		err = errors.Join(err, s.endCheckpoint())
	}
	closed, cerr := s.closeDB()
	return closed, errors.Join(err, cerr)
}

// closeDB closes Badger, or lets it lie as after a crash when its memtable would
// find no space: the journal and the logs hold everything.
func (s *Store) closeDB() (closed bool, err error) {
	room, err := s.roomToClose()
	if err != nil || !room {
		s.o.Log.Warn().Msg("disk is full: index is left to the journal")
		return false, err
	}
	if s.Err() == nil || s.o.Salvage {
		return true, s.db.Close()
	}
	db, done := s.db, make(chan error, 1)
	go func() { done <- db.Close() }()
	timer := time.NewTimer(closeFaultMax)
	defer timer.Stop()
	select {
	case err := <-done:
		return true, err
	case <-timer.C: // where nothing can be written Badger tries for ever
		s.o.Log.Warn().Msg("disk is faulty: index is left to the journal")
		return false, nil
	}
}

// closeFaultMax is how long the index may take to close after a fault. The process
// ends then, and the next one brings the index up to the journal.
const closeFaultMax = 5 * time.Second

// Dir is the directory of the store.
func (s *Store) Dir() string { return s.dir }

// Stats are counters since Open.
type Stats struct {
	Frames       uint64 // journal frames, one flush each
	Flushes      uint64 // of the journal, segment changes included
	JournalBytes uint64
}

// Stats may be called at any time.
func (s *Store) Stats() Stats {
	j := s.journal.Stats()
	return Stats{Frames: j.Frames, Flushes: j.Syncs, JournalBytes: j.Bytes}
}

// Subscribe gives a channel of one slot that is filled after something became
// visible, until ctx ends.
func (s *Store) Subscribe(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	s.qmu.Lock()
	s.subscribers[c] = struct{}{}
	s.qmu.Unlock()
	context.AfterFunc(ctx, func() {
		s.qmu.Lock()
		delete(s.subscribers, c)
		s.qmu.Unlock()
	})
	return c
}

// signal fills the subscribers' slots. The caller holds qmu.
func (s *Store) signal() {
	for c := range s.subscribers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

var _ record.State = State{}
var _ record.Holder = State{}
