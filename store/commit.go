package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/healthpost/healthpost/record"
)

// A write goes through these steps; nothing else writes to the disk.
//
//  1. begin: the write mutex is taken, space is there, no fault so far
//  2. the transaction is built; it reads its own and every accepted effect
//  3. accept: its layer joins the queue, the write mutex is released
//  4. the committer puts all queued layers into one journal frame: the commit point
//  5. the layers become visible, waiters return
//  6. the layers are applied to the index and leave memory
//
// A process that dies before 4 loses what nobody was told; after 4 Open replays
// the frame. A layer that nobody waits for (order) is visible at once when
// nothing before it waits for the disk: what it did can be computed again from
// the raft log, which is durable.

const (
	groupBytesMax = 4 << 20
	lazyBytesMax  = 512 << 10
	lazyLayersMax = 32
	txRowsMax     = 200_000
)

// tx is a transaction being built under Store.mu.
type tx struct {
	*view
	s       *Store
	rows    map[string][]byte
	bytes   int
	next    state
	ordered map[record.RID]bool             // what this transaction gives an entry to
	kept    map[record.DeviceID]refusedKept // change of Store.kept
}

// begin takes the write mutex. End with accept or drop.
func (s *Store) begin(ctx context.Context) (*tx, error) {
	if ctx != nil {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return s.beginWith(s.guard)
}

// beginWith is begin where room decides whether the disk has any.
func (s *Store) beginWith(room func() error) (*tx, error) {
	s.mu.Lock()
	t, err := s.beginLocked(room)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	return t, nil
}

func (s *Store) beginLocked(room func() error) (*tx, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	if err := room(); err != nil {
		return nil, err
	}
	if err := s.gate.enter(); err != nil {
		return nil, err
	}
	// Only this goroutine adds layers now; one leaves only after the index holds it.
	acc := s.accepted.Load()
	v := &view{txn: s.db.NewTransaction(false), layers: acc.layers, state: acc.state}
	return &tx{view: v, s: s, rows: map[string][]byte{}, next: *acc.state, ordered: map[record.RID]bool{}, kept: map[record.DeviceID]refusedKept{}}, nil
}

// drop gives up a transaction: nothing happened.
func (t *tx) drop() {
	t.view.close(t.s)
	t.s.mu.Unlock()
}

// get reads own effects first.
func (t *tx) get(key []byte) (value []byte, ok bool, err error) {
	if row, ok := t.rows[string(key)]; ok {
		if row == nil {
			return nil, false, nil
		}
		value, err := openRow(key, row)
		return value, err == nil, err
	}
	return t.view.get(key)
}

func (t *tx) has(key []byte) (bool, error) {
	_, ok, err := t.get(key)
	return ok, err
}

func (t *tx) put(key, value []byte) {
	row := sealRow(key, value)
	t.rows[string(key)] = row
	t.bytes += len(key) + len(row) + 8
}

// unset deletes a row that can be computed again or that is another form of a
// record that stays. Record data is deleted by dropPending alone.
func (t *tx) unset(key []byte) {
	t.rows[string(key)] = nil
	t.bytes += len(key) + 8
}

// accept puts the transaction into the queue and releases the write mutex. The
// caller waits on the layer.
func (t *tx) accept(durable bool) (*layer, error) {
	s := t.s
	defer t.drop()
	if err := errors.Join(t.updateWork(), t.count()); err != nil {
		return nil, err
	}
	if len(t.rows) > txRowsMax {
		return nil, fmt.Errorf("writing: %w: %d rows in one transaction", ErrRefused, len(t.rows))
	}
	if t.bytes > groupBytesMax {
		return nil, fmt.Errorf("writing: %w: %d bytes in one transaction", ErrRefused, t.bytes)
	}
	next := t.next
	l := &layer{rows: t.rows, bytes: t.bytes, state: &next, durable: durable, visible: make(chan struct{}), done: make(chan struct{})}
	l.keys = make([]string, 0, len(t.rows))
	for k := range t.rows {
		l.keys = append(l.keys, k)
	}
	sort.Strings(l.keys)
	s.qmu.Lock()
	defer s.qmu.Unlock()
	if s.draining {
		if err := s.Err(); err != nil {
			return nil, err
		}
		return nil, ErrClosed
	}
	acc := s.accepted.Load()
	s.accepted.Store(&shown{append(acc.layers[:len(acc.layers):len(acc.layers)], l), &next})
	s.queue = append(s.queue, l)
	for d, k := range t.kept {
		s.kept[d] = refusedKept{s.kept[d].records + k.records, s.kept[d].bytes + k.bytes}
	}
	s.showLocked()
	s.wakeCommitter()
	return l, nil
}

// crowded says whether so much waits for the disk that who does not have to wait
// for it should: memory is bounded.
func (s *Store) crowded() bool {
	s.qmu.Lock()
	defer s.qmu.Unlock()
	return len(s.queue) > 4*lazyLayersMax
}

// commit is accept and wait until durable.
func (t *tx) commit() error {
	l, err := t.accept(true)
	if err != nil {
		return err
	}
	<-l.done
	return l.err
}

// show is accept and wait until readers see it; nobody waits for the disk.
func (t *tx) show() error {
	l, err := t.accept(false)
	if err != nil {
		return err
	}
	<-l.visible
	return l.err
}

// showLocked makes visible every layer that is durable or that follows only
// visible ones and is waited for by nobody. The caller holds qmu.
func (s *Store) showLocked() {
	sh := s.shown.Load()
	layers := sh.layers[:len(sh.layers):len(sh.layers)]
	for _, l := range s.accepted.Load().layers {
		if l.shown {
			continue
		}
		if l.durable && !l.synced {
			break
		}
		l.shown = true
		layers = append(layers, l)
	}
	fresh := layers[len(sh.layers):]
	if len(fresh) == 0 {
		return
	}
	s.shown.Store(&shown{layers, fresh[len(fresh)-1].state})
	for _, l := range fresh { // after the store: who waits must find it there
		close(l.visible)
	}
	s.signal()
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (s *Store) wakeCommitter() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// commits is the committer: the only goroutine that writes the journal and the
// index. It ends when the store drains or at the first fault.
func (s *Store) commits() {
	defer close(s.committed)
	for {
		group := s.nextGroup()
		if group == nil {
			return
		}
		if err := s.commitGroup(group); err != nil {
			s.fail(err)
			return
		}
	}
}

// nextGroup waits for layers worth a flush; nil when the store drains.
func (s *Store) nextGroup() []*layer {
	var lazy <-chan time.Time
	for {
		s.qmu.Lock()
		durable, bytes := 0, 0
		for _, l := range s.queue {
			if l.durable {
				durable++
			}
			bytes += l.bytes
		}
		n, draining := len(s.queue), s.draining || s.flushLazy
		if n == 0 {
			s.flushLazy, draining = false, s.draining
		}
		rest, refusing := s.rest, s.refusing
		s.qmu.Unlock()
		if n == 0 && !draining && !s.o.Salvage && (rest != s.resting || rest && !refusing && s.worn()) {
			if err := s.restIndex(rest); err != nil {
				s.fail(err)
				return nil
			}
		}
		if n == 0 && !draining {
			if err := s.scourWaiting(); err != nil {
				s.fail(err)
				return nil
			}
		}
		switch {
		case durable > 0:
			s.gather(durable)
			return s.takeGroup()
		case n > 0 && (draining || bytes > lazyBytesMax || n > lazyLayersMax):
			return s.takeGroup()
		case n == 0 && draining:
			return nil
		case n > 0 && lazy == nil:
			timer := time.NewTimer(s.o.LazyMax)
			defer timer.Stop()
			lazy = timer.C
		}
		select {
		case <-s.wake:
		case <-lazy:
			return s.takeGroup()
		}
	}
}

// gather waits a moment on a slow disk for the writers that the last flush let
// go: they come back within a fraction of what another flush would cost them.
func (s *Store) gather(durable int) {
	last := s.journal.Stats().LastSync
	if last < 2*time.Millisecond || durable >= s.lastWaiters {
		return
	}
	timer := time.NewTimer(last / 16)
	defer timer.Stop()
	for durable < s.lastWaiters {
		select {
		case <-s.wake:
		case <-timer.C:
			return
		}
		s.qmu.Lock()
		durable = 0
		for _, l := range s.queue {
			if l.durable {
				durable++
			}
		}
		s.qmu.Unlock()
	}
}

func (s *Store) takeGroup() []*layer {
	s.qmu.Lock()
	defer s.qmu.Unlock()
	n, bytes, waiters := 0, 0, 0
	for n < len(s.queue) && (n == 0 || bytes+s.queue[n].bytes <= groupBytesMax) {
		bytes += s.queue[n].bytes
		if s.queue[n].durable {
			waiters++
		}
		n++
	}
	group := append([]*layer(nil), s.queue[:n]...)
	s.queue = append([]*layer(nil), s.queue[n:]...)
	s.lastWaiters = waiters
	s.flushLazy = s.flushLazy && len(s.queue) > 0
	return group
}

func (s *Store) commitGroup(group []*layer) error {
	seq, err := s.journal.Append(encodeGroup(group))
	if err != nil {
		return err
	}
	s.qmu.Lock()
	for _, l := range group {
		l.synced = true
	}
	s.showLocked()
	for _, l := range group {
		close(l.done)
	}
	s.qmu.Unlock()
	if s.resting {
		if err := s.reserveLogs(); err != nil {
			return err
		}
	}
	if err := applyGroup(s.db, seq, group); err != nil {
		return fmt.Errorf("applying to the index: %w", err)
	}
	s.end = group[len(group)-1].state.ledger.Edge.Head()
	s.retire(group)
	for _, l := range group {
		s.unmeasured += l.bytes
		s.applied += int64(l.bytes)
	}
	s.countReserve()
	if s.resting && s.Full() {
		return nil // neither a look at the tables nor a checkpoint finds room now
	}
	if s.unmeasured > headroomEvery {
		s.unmeasured = 0
		if err := s.measureHeadroom(); err != nil {
			return err
		}
	}
	return s.checkpointWhenDue(seq)
}

// retire drops layers that the index holds from memory.
func (s *Store) retire(group []*layer) {
	s.qmu.Lock()
	defer s.qmu.Unlock()
	acc, sh := s.accepted.Load(), s.shown.Load()
	s.accepted.Store(&shown{append([]*layer(nil), acc.layers[len(group):]...), acc.state})
	s.shown.Store(&shown{append([]*layer(nil), sh.layers[len(group):]...), sh.state})
}

// encodeGroup is the payload of a journal frame: for each row a key with its
// length and a sealed row with its length plus one, 0 for a deletion.
func encodeGroup(group []*layer) []byte {
	size := 0
	for _, l := range group {
		size += l.bytes + 16*len(l.keys)
	}
	b := make([]byte, 0, size)
	for _, l := range group {
		for _, k := range l.keys {
			b = binary.AppendUvarint(b, uint64(len(k)))
			b = append(b, k...)
			row := l.rows[k]
			if row == nil {
				b = append(b, 0)
				continue
			}
			b = binary.AppendUvarint(b, uint64(len(row))+1)
			b = append(b, row...)
		}
	}
	return b
}

// decodeGroup calls f for each row of a frame; the bytes point into b. A nil row
// deletes.
func decodeGroup(b []byte, f func(key, row []byte) error) error {
	take := func() ([]byte, bool) {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return nil, false
		}
		p := b[w : w+int(n)]
		b = b[w+int(n):]
		return p, true
	}
	for len(b) > 0 {
		key, ok := take()
		if !ok || len(key) == 0 || len(b) == 0 {
			return errFrameRows
		}
		var row []byte
		if b[0] == 0 {
			b = b[1:]
		} else {
			n, w := binary.Uvarint(b)
			if w <= 0 || n == 0 || n-1 > uint64(len(b)-w) {
				return errFrameRows
			}
			row = b[w : w+int(n-1) : w+int(n-1)]
			b = b[w+int(n-1):]
		}
		if err := f(key, row); err != nil {
			return err
		}
	}
	return nil
}

var errFrameRows = fmt.Errorf("reading journal frame: %w", record.ErrMalformed)

// applier writes rows to the index in as few index transactions as fit.
type applier struct {
	db  *badger.DB
	txn *badger.Txn
}

func (a *applier) set(key, row []byte) error {
	if a.txn == nil {
		a.txn = a.db.NewTransaction(true)
	}
	err := a.try(key, row)
	if errors.Is(err, badger.ErrTxnTooBig) {
		if err := a.flush(); err != nil {
			return err
		}
		a.txn = a.db.NewTransaction(true)
		err = a.try(key, row)
	}
	return err
}

func (a *applier) try(key, row []byte) error {
	if row == nil {
		return a.txn.Delete(key)
	}
	return a.txn.Set(key, row)
}

func (a *applier) flush() error {
	if a.txn == nil {
		return nil
	}
	txn := a.txn
	a.txn = nil
	return txn.Commit()
}

// applyGroup puts a group into the index. The row that says how far the index
// is goes last.
func applyGroup(db *badger.DB, seq uint64, group []*layer) error {
	a := applier{db: db}
	newest := map[string][]byte{}
	for _, l := range group {
		for k, row := range l.rows {
			newest[k] = row
		}
	}
	for k, row := range newest {
		if err := a.set([]byte(k), row); err != nil {
			return err
		}
	}
	return a.finish(seq)
}

func (a *applier) finish(seq uint64) error {
	if err := a.set(keyJournal, sealRow(keyJournal, binary.BigEndian.AppendUint64(nil, seq))); err != nil {
		return err
	}
	return a.flush()
}

// fail poisons the store: everything that waits and everything later gets
// ErrFault.
func (s *Store) fail(err error) {
	fault := fmt.Errorf("%w: %w", ErrFault, err)
	s.fault.CompareAndSwap(nil, &fault)
	s.qmu.Lock()
	defer s.qmu.Unlock()
	for _, l := range s.accepted.Load().layers {
		if !isClosed(l.done) {
			l.err = fault
			close(l.done)
		}
		if !l.shown && !isClosed(l.visible) {
			close(l.visible)
		}
	}
	s.queue, s.draining = nil, true
	select {
	case <-s.faulted:
	default:
		close(s.faulted)
	}
	s.o.Log.Error().Err(err).Msg("disk fault: nothing more is written")
}

// Err is the fault that poisoned the store, nil while it works.
func (s *Store) Err() error {
	if p := s.fault.Load(); p != nil {
		return *p
	}
	return nil
}

// Fault is closed when the store is poisoned. The process should say so and exit;
// opening the store again verifies what is there.
func (s *Store) Fault() <-chan struct{} { return s.faulted }

// Barrier returns when every transaction accepted before it is durable.
func (s *Store) Barrier(ctx context.Context) error {
	s.qmu.Lock()
	layers := s.accepted.Load().layers
	if len(layers) == 0 || isClosed(layers[len(layers)-1].done) {
		s.qmu.Unlock()
		return s.Err()
	}
	last := layers[len(layers)-1]
	s.flushLazy = true
	s.wakeCommitter()
	s.qmu.Unlock()
	select {
	case <-last.done:
		return last.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
