package store

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/healthpost/healthpost/record"
)

// VerifyOptions say how much Verify reads and how fast. The zero value is
// everything, on all cores.
type VerifyOptions struct {
	// From is the size that an earlier verification reached without damage, and
	// State its Report.State: entries before From are then not read again, nor are
	// rows that nothing touched since. When State is not that of From, or the tree
	// had another root then, Verify starts at 0.
	From  uint64
	State []byte
	// Workers is how many goroutines check signatures; 0 takes all cores.
	Workers int
	// Pause is called between reads, with no snapshot held, and gets the bytes
	// read since it was last called. It may sleep to keep a pace. Where the ledger has
	// holes everything is read under one snapshot, and it is not called.
	Pause func(read int)
}

// Report is what Verify found.
type Report struct {
	From    uint64 // first entry that was read
	Entries uint64 // read
	Pending uint64 // records read
	Rows    uint64 // of any kind
	Damage  []DamageError
	Absent  uint64 // entries in holes
	Awaited uint64 // entries whose body did not come, and that nothing is known to have erased
	More    bool   // damage past the first 10,000 is not listed
	// Head is the ledger as it was verified. State continues from there in a
	// later call; nil when there is damage.
	Head  record.TreeHead
	State []byte
}

const (
	damageMax       = 10_000
	verifyViewBytes = 4 << 20 // read under one snapshot
	verifyRounds    = 3       // before the rest of a growing ledger is read under one snapshot
	verifyRestMax   = 1024    // entries that may be left for that
)

// verifier judges every entry again from an empty ledger. Entries and the index
// rows of entries never change once written, so they are read under one snapshot
// after another and nothing waits for a verification that is in no hurry; what
// can change is read under one.
type verifier struct {
	s        *Store
	o        VerifyOptions
	progress func(done, total uint64)
	rep      Report
	mu       sync.Mutex // guards noted, rep.Damage and rep.More
	noted    map[DamageError]bool
	fix      func(*fixable) // gets what can be put right; may be nil
	trusting bool           // signatures are taken for checked: the tree holds them

	mem   *replayState
	edge  record.Range
	tiles tiles
	// broken is set after an entry that cannot be read: what follows may miss it.
	broken  bool
	lookups int // entries that were looked up backwards
	// snapshot is what everything is read from where the ledger has holes, which
	// are filled while the store is used; nil otherwise.
	snapshot *lookup
	gone     uint64          // entries in holes so far
	behind   map[string]bool // rows of missing entries that the entries call for
	read     int             // bytes since Pause

	hints  map[record.EpochID]record.DeviceID // who probably signed; the replay decides
	opened map[record.EpochID]record.DeviceID // by the entries judged just now

	// Index rows are not looked up entry by entry: the keyed sums over the rows
	// that the entries call for, and over those that are there, must agree. The keys
	// are of this run, so that no row can be made to fit.
	seeds [2]maphash.Seed
	want  indexSums
	whole uint64 // entries before are in want

	blob blobCheck
}

// Verify reads everything: each entry's bytes, hashes, signature, place in its
// feed and verdict; tree and root; checkpoints; pending records and their chains;
// every row of every index, and that there is none that no record accounts for;
// every other row; and the index's tables. progress may be nil and gets entries
// done and in all. The error is about reading, not about damage.
func (s *Store) Verify(ctx context.Context, o VerifyOptions, progress func(done, total uint64)) (Report, error) {
	v := newVerifier(s, o, progress)
	if err := v.run(ctx); err != nil {
		return v.rep, fmt.Errorf("verifying: %w", err)
	}
	if len(v.rep.Damage) == 0 && v.snapshot == nil {
		v.rep.State = v.state()
	}
	return v.rep, nil
}

func newVerifier(s *Store, o VerifyOptions, progress func(done, total uint64)) *verifier {
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	if o.Pause == nil {
		o.Pause = func(int) {}
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return &verifier{s: s, o: o, progress: progress, rep: Report{Damage: []DamageError{}}, noted: map[DamageError]bool{}, mem: newReplayState(),
		opened: map[record.EpochID]record.DeviceID{}, blob: blobCheck{announced: map[record.BlobID]announcement{}}, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, behind: map[string]bool{}}
}

func (v *verifier) run(ctx context.Context) error {
	if v.s.HasHoles() {
		v.o.Pause = func(int) {} // nobody can close the index while the snapshot is held
		return v.s.read(func(l lookup) error {
			v.snapshot = &l
			if err := v.immutable(ctx); err != nil {
				return err
			}
			return v.rest(ctx, l)
		})
	}
	if err := v.immutable(ctx); err != nil {
		return err
	}
	return v.see(func(l lookup) error { return v.rest(ctx, l) })
}

// see calls f with a snapshot: a new one each time, or the one that is read from.
func (v *verifier) see(f func(lookup) error) error {
	if v.snapshot != nil {
		return f(*v.snapshot)
	}
	return v.s.read(f)
}

// size is how far the ledger goes now.
func (v *verifier) size() uint64 {
	if v.snapshot != nil {
		return v.snapshot.Size()
	}
	return v.s.shown.Load().state.ledger.Edge.Size
}

// immutable reads what never changes once it is written.
func (v *verifier) immutable(ctx context.Context) error {
	for _, err := range v.s.salvaged {
		if err := v.note(err); err != nil {
			return err
		}
	}
	if err := v.resume(); err != nil {
		return err
	}
	if v.rep.From == 0 {
		if err := v.tables(ctx); err != nil {
			return err
		}
	}
	for range verifyRounds {
		size := v.size()
		if err := v.entries(ctx, size); err != nil {
			return err
		}
		v.whole = v.edge.Size
		if v.size() <= size+verifyRestMax {
			break
		}
	}
	if v.rep.From > 0 {
		return nil
	}
	if err := v.indexes(ctx); err != nil {
		return err
	}
	return v.blobs(ctx)
}

// note keeps damage; any other error ends the verification.
func (v *verifier) note(err error) error {
	var d *DamageError
	if !errors.As(err, &d) {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fix != nil {
		var f *fixable
		if errors.As(err, &f) {
			v.fix(f)
		}
	}
	if v.noted[*d] {
		return nil
	}
	v.noted[*d] = true
	if len(v.rep.Damage) >= damageMax {
		v.rep.More = true
		return nil
	}
	v.rep.Damage = append(v.rep.Damage, *d)
	return nil
}

// pause lets the caller keep its pace. No snapshot is held.
func (v *verifier) pause() {
	read := v.read
	v.read = 0
	v.o.Pause(read)
}

// tables reads the tables that the index uses now; one that is being written is
// not among them.
func (v *verifier) tables(ctx context.Context) error {
	if err := v.s.gate.enter(); err != nil {
		return err
	}
	var names []string
	var err error
	if v.s.o.Salvage { // the tables as they are, not what was mended of them
		names, err = listedTables(filepath.Join(v.s.dir, indexDir))
	} else {
		for _, info := range v.s.db.Tables() {
			names = append(names, tableFile(info.ID))
		}
	}
	v.s.gate.leave()
	if err != nil {
		return err
	}
	var buf []byte
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.note(v.rangeOf(v.checkTable(name, &buf))); err != nil {
			return err
		}
		v.read += len(buf)
		v.pause()
	}
	return nil
}

func (v *verifier) checkTable(name string, buf *[]byte) error {
	if v.s.o.Salvage {
		err := checkTable(filepath.Join(v.s.dir, indexDir, name), buf)
		if errors.Is(err, fs.ErrNotExist) {
			err = tableDamage(name, "file is missing")
		}
		return err
	}
	if err := v.s.gate.enter(); err != nil {
		return err
	}
	defer v.s.gate.leave()
	return v.s.checkOpenTable(name, buf)
}

// verifiedArray is Report.State: what the replay knew besides what the store can
// look up at any size.
type verifiedArray struct {
	_        struct{} `cbor:",toarray"`
	Size     uint64
	Root     []byte
	Time     int64
	Members  [][]byte
	Registry [][]byte // key and value in turns
}

// stateRowsMax is what one CBOR array may hold; a ledger with more is verified from
// its beginning each time.
const stateRowsMax = 4000

func (v *verifier) state() []byte {
	root := v.edge.Root()
	a := verifiedArray{Size: v.edge.Size, Root: root[:], Time: v.mem.time, Members: [][]byte{}, Registry: [][]byte{}}
	for _, m := range v.mem.members {
		b, err := encodeMember(&m)
		if err != nil {
			return nil
		}
		a.Members = append(a.Members, b)
	}
	for k, value := range v.mem.RegistryMap {
		a.Registry = append(a.Registry, []byte(k), value)
	}
	if len(a.Members) > stateRowsMax || len(a.Registry) > stateRowsMax {
		return nil
	}
	b, err := record.Marshal(a)
	if err != nil {
		return nil
	}
	return b
}

// resume takes up an earlier verification, if that is what the options ask for
// and the tree still has the root of then. It also learns who writes which epoch.
func (v *verifier) resume() error {
	return v.see(func(l lookup) error {
		if err := v.loadHints(l); err != nil || v.snapshot != nil || v.o.From == 0 || v.o.From > l.Size() {
			return err
		}
		var a verifiedArray
		root, err := l.rootAt(v.o.From)
		if err != nil || record.Unmarshal(v.o.State, &a) != nil || a.Size != v.o.From || string(a.Root) != string(root[:]) {
			return v.onlyDamage(err)
		}
		mem := newReplayState()
		for _, b := range a.Members {
			m, err := decodeMember(b)
			if err != nil {
				return nil
			}
			mem.members[m.Device] = m
		}
		for i := 0; i+1 < len(a.Registry); i += 2 {
			mem.RegistryMap[string(a.Registry[i])] = a.Registry[i+1]
		}
		edge, tiles, err := l.edgeAt(a.Size)
		if err != nil {
			return v.onlyDamage(err)
		}
		mem.size, mem.time, mem.before, mem.start = a.Size, a.Time, v.s, a.Size
		v.mem, v.edge, v.tiles, v.rep.From, v.whole = mem, edge, tiles, a.Size, a.Size
		return nil
	})
}

// onlyDamage drops damage that is found again on the way.
func (v *verifier) onlyDamage(err error) error {
	if errors.Is(err, ErrDamaged) {
		return nil
	}
	return err
}

func (v *verifier) loadHints(l lookup) error {
	v.hints = map[record.EpochID]record.DeviceID{}
	return l.rows.(*view).scanRaw([]byte{pEpoch}, nil, false, func(key, row []byte) (bool, error) {
		if value, err := openRow(key, row); err == nil && len(key) == 17 {
			if e, err := decodeEpochRow(value); err == nil {
				v.hints[record.EpochID(key[1:])] = e.Device
			}
		}
		return true, nil
	})
}
