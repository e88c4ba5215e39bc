package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/healthpost/healthpost/record"
)

// A checkpoint of the journal says: the index holds every frame up to a
// sequence, on the device. The index's own tables are synced and checksummed by
// Badger; its memtable logs are neither, and Badger drops a log's tail without a
// word. So the note of a checkpoint lists each log with how much of it counted
// and a hash of that, and Open compares before Badger sees the files. After a
// clean Close the note lists all small files of the index that way.

// digest is one file of the index as a checkpoint saw it.
type digest struct {
	_      struct{} `cbor:",toarray"`
	Name   string
	Length int64
	Sum    []byte
}

// checkpointNote is the note in the journal's checkpoint. The ledger had at least
// this size then, with this root: an index from which the newest entries were
// taken away does not open.
type checkpointNote struct {
	_     struct{} `cbor:",toarray"`
	Clean bool     // written by Close: the lengths are whole files
	Files []digest
	Size  uint64
	Root  []byte
}

// checkpointNoteShort is the note of the first release.
type checkpointNoteShort struct {
	_     struct{} `cbor:",toarray"`
	Clean bool
	Files []digest
}

func decodeCheckpointNote(raw []byte) (n checkpointNote, err error) {
	if err = record.Unmarshal(raw, &n); err != nil {
		var short checkpointNoteShort
		if record.Unmarshal(raw, &short) != nil {
			return n, err
		}
		n = checkpointNote{Clean: short.Clean, Files: short.Files, Root: make([]byte, 32)}
	}
	if len(n.Root) != 32 || len(n.Files) > digestsMax {
		return n, record.ErrMalformed
	}
	return n, nil
}

const digestsMax = 64

// checkpointing is a checkpoint whose files are being synced in the background.
type checkpointing struct {
	seq  uint64
	note []byte
	done chan error
}

// checkpointWhenDue starts a checkpoint when a journal segment is full, and ends
// one that is ready. Called by the committer after a group was applied.
func (s *Store) checkpointWhenDue(seq uint64) error {
	if s.ckpt != nil {
		select {
		case err := <-s.ckpt.done:
			return s.finishCheckpoint(err)
		default:
			if s.journal.Live() <= 4*s.o.SegmentBytes {
				return nil
			}
			return s.endCheckpoint() // the disk does not keep up: wait for it
		}
	}
	if s.journal.Live() == 0 {
		return nil
	}
	note, err := indexNote(s.indexPath(), false, s.end)
	if err != nil {
		return fmt.Errorf("checkpointing: %w", err)
	}
	c := &checkpointing{seq: seq, note: note, done: make(chan error, 1)}
	s.ckpt = c
	go func() { c.done <- syncIndexFiles(s.indexPath()) }()
	return nil
}

// endCheckpoint waits for a checkpoint in progress.
func (s *Store) endCheckpoint() error {
	if s.ckpt == nil {
		return nil
	}
	return s.finishCheckpoint(<-s.ckpt.done)
}

func (s *Store) finishCheckpoint(err error) error {
	c := s.ckpt
	s.ckpt = nil
	if err != nil {
		return fmt.Errorf("checkpointing: %w", err)
	}
	return s.journal.Checkpoint(c.seq, c.note)
}

// writeCheckpoint syncs the index and writes a checkpoint at seq, to which
// everything was applied.
func (s *Store) writeCheckpoint(seq uint64, clean bool) error {
	dir := s.indexPath()
	note, err := indexNote(dir, clean, s.end)
	if err != nil {
		return fmt.Errorf("checkpointing: %w", err)
	}
	if err := syncIndexFiles(dir); err != nil {
		return fmt.Errorf("checkpointing: %w", err)
	}
	return s.journal.Checkpoint(seq, note)
}

func indexFiles(dir string, want func(name string) bool) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if want(e.Name()) {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

func isLog(name string) bool { return strings.HasSuffix(name, ".mem") }

// isSmall are the files of the index other than tables and its lock.
func isSmall(name string) bool { return !strings.HasSuffix(name, ".sst") && name != "LOCK" }

// indexNote hashes the memtable logs, of a closed index all small files.
func indexNote(dir string, clean bool, end record.TreeHead) ([]byte, error) {
	want := isLog
	if clean {
		want = isSmall
	}
	names, err := indexFiles(dir, want)
	if err != nil {
		return nil, err
	}
	n := checkpointNote{Clean: clean, Files: []digest{}, Size: end.Size, Root: end.Root[:]}
	for _, name := range names {
		read := readLog
		if clean {
			read = os.ReadFile
		}
		b, err := read(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) { // flushed to a table meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		n.Files = append(n.Files, digest{Name: name, Length: int64(len(b)), Sum: sum[:]})
	}
	if len(n.Files) > digestsMax {
		return nil, fmt.Errorf("%d memtable logs", len(n.Files))
	}
	return record.Marshal(n)
}

// syncIndexFiles makes the memtable logs and all names durable.
func syncIndexFiles(dir string) error {
	names, err := indexFiles(dir, isLog)
	if err != nil {
		return err
	}
	for _, name := range append(names, ".") {
		f, err := os.Open(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// checkIndexFiles compares the index's files with the last checkpoint, and reads
// the tables, before Badger opens them.
func (s *Store) checkIndexFiles() error {
	dir := s.indexPath()
	_, raw := s.journal.Last()
	var note checkpointNote
	if raw != nil {
		var err error
		if note, err = decodeCheckpointNote(raw); err != nil {
			return &DamageError{Key: "checkpoint", What: "note of the checkpoint is not readable"}
		}
		s.end = record.TreeHead{Size: note.Size, Root: record.Hash(note.Root)}
	}
	present := note.Files[:0:0]
	for _, d := range note.Files {
		ok, err := checkDigest(dir, d, note.Clean)
		if err := s.excuse(err); err != nil {
			return err
		}
		if ok {
			present = append(present, d)
		}
	}
	if err := s.checkTables(dir); err != nil {
		return err
	}
	if !s.o.Salvage {
		if err := dropEmptyLogs(dir); err != nil {
			return err
		}
	}
	if raw == nil || s.o.Salvage || !note.Clean && len(present) == len(note.Files) {
		return nil
	}
	return s.forget(present)
}

// dropEmptyLogs removes logs that a power cut left with a name and no bytes, which
// Badger does not open. Whatever was written to them is in the journal.
func dropEmptyLogs(dir string) error {
	names, err := indexFiles(dir, func(name string) bool { return isLog(name) || strings.HasSuffix(name, ".vlog") })
	for _, name := range names {
		path := filepath.Join(dir, name)
		if st, serr := os.Stat(path); serr == nil && st.Size() == 0 {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// forget takes files out of the note that may change from now on, or whose name
// may be used again.
func (s *Store) forget(present []digest) error {
	logs := []digest{}
	for _, d := range present {
		if isLog(d.Name) {
			d := d
			logs = append(logs, d)
		}
	}
	raw, err := record.Marshal(checkpointNote{Files: logs, Size: s.end.Size, Root: s.end.Root[:]})
	if err != nil {
		return err
	}
	seq, _ := s.journal.Last()
	return s.journal.Amend(seq, raw)
}

// checkDigest says whether a file is there; a difference is damage.
func checkDigest(dir string, d digest, clean bool) (bool, error) {
	if filepath.Base(d.Name) != d.Name {
		return false, &DamageError{Key: "checkpoint", What: "name in the checkpoint"}
	}
	read, path := readLog, filepath.Join(dir, d.Name)
	if clean {
		read = os.ReadFile
	}
	if st, err := os.Stat(path); !clean && err == nil && st.Size() == 0 {
		return false, nil // flushed to a table: Badger empties a log before it removes it
	}
	b, err := read(path)
	if errors.Is(err, fs.ErrNotExist) && !clean {
		return false, nil // flushed to a table
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, &DamageError{Key: indexDir + "/" + d.Name, What: "file is missing"}
	}
	if err != nil {
		return false, err
	}
	if d.Length < 0 || int64(len(b)) < d.Length || clean && int64(len(b)) != d.Length {
		return false, &DamageError{Key: indexDir + "/" + d.Name, What: "file is shorter than it was"}
	}
	if sum := sha256.Sum256(b[:d.Length]); !bytes.Equal(sum[:], d.Sum) {
		return false, &DamageError{Key: indexDir + "/" + d.Name, What: "file does not match its hash"}
	}
	return true, nil
}

// recover brings the index up to the journal's last frame.
func (s *Store) recover() error {
	from, _ := s.journal.Last()
	indexed, err := s.indexedSeq()
	if err != nil {
		return err
	}
	if indexed < from {
		err := &DamageError{Key: indexDir, What: fmt.Sprintf("index is at frame %d, the checkpoint at %d", indexed, from)}
		if err := s.excuse(err); err != nil {
			return err
		}
	}
	a := applier{db: s.db}
	err = s.journal.Replay(func(seq uint64, payload []byte) error {
		if err := decodeGroup(payload, func(key, row []byte) error { return a.set(bytes.Clone(key), bytes.Clone(row)) }); err != nil {
			return err
		}
		return a.finish(seq)
	})
	if err != nil {
		return damagedJournal(err)
	}
	last := s.journal.Next() - 1
	if s.o.Salvage {
		return nil
	}
	if indexed > last {
		return &DamageError{Key: journalDir, What: fmt.Sprintf("index is at frame %d, the journal ends at %d", indexed, last)}
	}
	return s.writeCheckpoint(last, false)
}

func (s *Store) indexedSeq() (uint64, error) {
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	b, ok, err := getIndexed(txn, keyJournal)
	if err != nil || !ok {
		return 0, err
	}
	if len(b) != 8 {
		return 0, damagedRow(keyJournal, "journal row")
	}
	return binary.BigEndian.Uint64(b), nil
}
