package raftlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
)

const (
	snapshotVersion  = 1
	snapshotsKept    = 2
	referenceFormat  = 1
	referenceMax     = 512 // bytes
	snapshotServers  = 64
	snapshotBytesMax = 64 << 10
)

// reference is the content of a snapshot: a place in the raft log, and the tree
// head that every hub has there.
type reference struct {
	_      struct{} `cbor:",toarray"`
	Format uint8
	Region []byte // 32, or empty before the region is founded
	Index  uint64 // raft index of the last item in the ledger
	Term   uint64
	Size   uint64
	Root   []byte // 32
}

func (r *reference) head() record.TreeHead {
	return record.TreeHead{Size: r.Size, Root: record.Hash(r.Root)}
}

func decodeReference(b []byte) (reference, error) {
	var r reference
	if len(b) > referenceMax {
		return r, fmt.Errorf("reading snapshot: %w: %d bytes", record.ErrMalformed, len(b))
	}
	if err := record.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("reading snapshot: %w", err)
	}
	if r.Format != referenceFormat || len(r.Root) != 32 || len(r.Region) != 0 && len(r.Region) != 32 {
		return r, fmt.Errorf("reading snapshot: %w: format %d", record.ErrMalformed, r.Format)
	}
	return r, nil
}

// snapshotRow is a snapshot at rest with what raft wants to know about it.
type snapshotRow struct {
	_           struct{} `cbor:",toarray"`
	Version     uint8
	Index, Term uint64
	ConfigIndex uint64
	Servers     []snapshotServer
	Content     []byte
}

type snapshotServer struct {
	_           struct{} `cbor:",toarray"`
	Suffrage    uint8
	ID, Address string
}

func decodeSnapshot(b []byte) (*raft.SnapshotMeta, []byte, error) {
	var row snapshotRow
	if len(b) > snapshotBytesMax {
		return nil, nil, fmt.Errorf("reading snapshot: %w: %d bytes", record.ErrMalformed, len(b))
	}
	if err := record.Unmarshal(b, &row); err != nil {
		return nil, nil, fmt.Errorf("reading snapshot: %w", err)
	}
	if row.Version != snapshotVersion || len(row.Servers) > snapshotServers {
		return nil, nil, fmt.Errorf("reading snapshot: %w: version %d, %d servers", record.ErrMalformed, row.Version, len(row.Servers))
	}
	meta := &raft.SnapshotMeta{Version: 1, ID: snapshotID(row.Index, row.Term), Index: row.Index, Term: row.Term,
		ConfigurationIndex: row.ConfigIndex, Size: int64(len(row.Content))}
	for _, s := range row.Servers {
		meta.Configuration.Servers = append(meta.Configuration.Servers,
			raft.Server{Suffrage: raft.ServerSuffrage(s.Suffrage), ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Address)})
	}
	return meta, row.Content, nil
}

func snapshotID(index, term uint64) string { return fmt.Sprintf("%d-%d", index, term) }

func snapshotKey(index, term uint64) []byte {
	return binary.BigEndian.AppendUint64(indexKey(prefixSnapshot, index), term)
}

// snapshotStore is a raft.SnapshotStore on the KV of the log. A snapshot that
// arrives may have to change the log first: see logStore.dropConflict.
type snapshotStore struct {
	kv         KV
	logs       *logStore
	mustReopen func() // raft has to start again to see that its log changed
	configured func(configuration)
	careless   func() // tests only: instead of changing the log
}

// Create starts a snapshot at a place in the raft log.
func (s *snapshotStore) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, configIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if v != 1 || len(c.Servers) > snapshotServers {
		return nil, fmt.Errorf("creating snapshot: version %d, %d servers", v, len(c.Servers))
	}
	row := snapshotRow{Version: snapshotVersion, Index: index, Term: term, ConfigIndex: configIndex, Servers: []snapshotServer{}}
	for _, x := range c.Servers {
		row.Servers = append(row.Servers, snapshotServer{Suffrage: uint8(x.Suffrage), ID: string(x.ID), Address: string(x.Address)})
	}
	return &snapshotSink{store: s, row: row}, nil
}

// List gives the snapshots, newest first.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	var list []*raft.SnapshotMeta
	keys, err := s.keys()
	if err != nil {
		return nil, fmt.Errorf("listing snapshots: %w", err)
	}
	for _, key := range keys {
		meta, _, err := s.read(key)
		if err != nil {
			return nil, fmt.Errorf("listing snapshots: %w", err)
		}
		list = append(list, meta)
	}
	return list, nil
}

// keys are the keys of the newest and of the oldest snapshot: at most two are kept.
func (s *snapshotStore) keys() ([][]byte, error) {
	last, ok, err := s.kv.Last([]byte{prefixSnapshot})
	if err != nil || !ok {
		return nil, err
	}
	first, ok, err := s.kv.First([]byte{prefixSnapshot})
	if err != nil || !ok || bytes.Equal(first, last) {
		return [][]byte{last}, err
	}
	return [][]byte{last, first}, nil
}

func (s *snapshotStore) read(key []byte) (*raft.SnapshotMeta, []byte, error) {
	value, ok, err := s.kv.Get(key)
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, fmt.Errorf("reading snapshot: it is gone")
	}
	return decodeSnapshot(value)
}

// Open reads a snapshot.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	var index, term uint64
	if _, err := fmt.Sscanf(id, "%d-%d", &index, &term); err != nil {
		return nil, nil, fmt.Errorf("opening snapshot: %w", err)
	}
	meta, content, err := s.read(snapshotKey(index, term))
	if err != nil {
		return nil, nil, fmt.Errorf("opening snapshot: %w", err)
	}
	return meta, io.NopCloser(bytes.NewReader(content)), nil
}

// newest is the newest snapshot's content; ok is false without a snapshot.
func (s *snapshotStore) newest() (ref reference, ok bool, err error) {
	keys, err := s.keys()
	if err != nil || len(keys) == 0 {
		return ref, false, err
	}
	_, content, err := s.read(keys[0])
	if err != nil {
		return ref, false, err
	}
	ref, err = decodeReference(content)
	return ref, err == nil, err
}

// snapshotSink collects a snapshot and stores it on Close.
type snapshotSink struct {
	store *snapshotStore
	row   snapshotRow
	done  bool
}

func (k *snapshotSink) ID() string { return snapshotID(k.row.Index, k.row.Term) }

func (k *snapshotSink) Write(p []byte) (int, error) {
	if len(k.row.Content)+len(p) > referenceMax {
		return 0, fmt.Errorf("writing snapshot: %w: more than %d bytes", record.ErrMalformed, referenceMax)
	}
	k.row.Content = append(k.row.Content, p...)
	return len(p), nil
}

func (k *snapshotSink) Cancel() error {
	k.done = true
	return nil
}

// Close stores the snapshot, durable on return. What is not a reference is
// refused, so no snapshot is ever stored that could not be restored.
func (k *snapshotSink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	if _, err := decodeReference(k.row.Content); err != nil {
		return err
	}
	value, err := record.Marshal(k.row)
	if err != nil {
		return fmt.Errorf("writing snapshot: %w", err)
	}
	rows, err := k.store.retire(k.row.Index, k.row.Term)
	if err != nil {
		return fmt.Errorf("writing snapshot: %w", err)
	}
	rows = append(rows, Row{Key: snapshotKey(k.row.Index, k.row.Term), Value: value})
	if k.store.careless != nil {
		k.store.careless()
		return k.store.kv.Update(rows)
	}
	dropped, err := k.store.logs.dropConflict(k.row.Index, k.row.Term)
	if err == nil {
		err = k.store.kv.Update(rows)
	}
	if err != nil {
		return fmt.Errorf("writing snapshot: %w", err)
	}
	meta, _, err := decodeSnapshot(value)
	if err != nil {
		return err
	}
	k.store.configured(configuration{meta.Configuration, meta.ConfigurationIndex})
	if dropped {
		k.store.mustReopen()
	}
	return nil
}

// retire deletes the oldest snapshot when a new one at index and term would be
// one too many.
func (s *snapshotStore) retire(index, term uint64) ([]Row, error) {
	keys, err := s.keys()
	if err != nil || len(keys) < snapshotsKept {
		return nil, err
	}
	for _, key := range keys {
		if bytes.Equal(key, snapshotKey(index, term)) {
			return nil, nil
		}
	}
	return []Row{{Key: keys[len(keys)-1]}}, nil
}
