package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// What a box does about an erasure that the ledger settled:
//
//  1. the bodies and attachments go          <- in the transaction that takes the entry in
//  2. keys, lists and search tokens go       <- after it; done again when cut here
//  3. the files are cleared (store.Scour)
//  4. the box attests it in the ledger
//
// Bodies that did not come and that nothing erased are asked of others by the same loop.

const (
	eraseTryAgain = time.Minute
	forgetRowsMax = 1 << 30 // rows looked at of one kind
	awaitedMax    = 16      // bodies asked for in one go
)

// eraseLoop does 2 to 4 until ctx ends. What cannot be done now is tried again.
func (n *Node) eraseLoop(ctx context.Context) error {
	changed := n.store.Subscribe(ctx)
	again := time.NewTicker(eraseTryAgain)
	defer again.Stop()
	x := eraser{n: n, done: map[uint64]bool{}}
	for {
		if err := x.run(ctx); err != nil && ctx.Err() == nil && n.store.Err() == nil {
			n.log.Warn().Err(err).Msg("an erasure waits")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-again.C:
			x.settled = 0
			n.fetchAwaited(ctx)
		}
	}
}

// eraser is what the loop knows.
type eraser struct {
	n       *Node
	done    map[uint64]bool // erasures whose attestation is in the ledger, or under way
	settled uint64          // store.LastErasure when nothing was left to do
}

// clearFiles has the files of this box forget what is erased, as far as raft lets it
// now. A box without room for it does it when there is some.
func (n *Node) clearFiles(ctx context.Context) error {
	if n.store.ErasuresDue() == 0 || !n.shortenRaftLog() {
		return nil
	}
	return n.store.Scour(ctx)
}

// run deals with the erasures that this box has not attested, and with what came after
// its erasure.
func (x *eraser) run(ctx context.Context) error {
	n, last := x.n, x.n.store.LastErasure()
	if last == x.settled || !n.isMember(n.author.Device) {
		return nil
	}
	due, err := x.due(ctx)
	if err == nil {
		err = n.clearFiles(ctx)
	}
	if err != nil || n.store.ErasuresDue() != 0 {
		return err
	}
	if len(due) == 0 {
		x.settled = last
		return nil
	}
	body, err := record.Marshal(record.Erased{Seqs: due})
	if err != nil {
		return err
	}
	_, err = n.append(ctx, []store.Draft{{Lane: record.LaneControl, Kind: record.KindErased,
		Seal: func(record.Position) ([]byte, error) { return body, nil }}}, nil)
	if err != nil {
		return fmt.Errorf("attesting an erasure: %w", err)
	}
	for _, seq := range due {
		x.done[seq] = true
	}
	return nil
}

// due lists erasures to attest, once lists and keys have forgotten what they erased.
func (x *eraser) due(ctx context.Context) (seqs []uint64, err error) {
	list, err := x.n.store.Erasures()
	if err != nil {
		return nil, err
	}
	for i := range list {
		e := &list[i]
		if x.done[e.Seq] || len(seqs) == record.ErasedMax {
			continue
		}
		if x.done[e.Seq], err = record.HasAttested(x.n.store.State(), e.Seq, x.n.author.Device); err != nil {
			return nil, err
		}
		if x.done[e.Seq] {
			continue
		}
		if err := x.n.forget(ctx, e); err != nil {
			return nil, err
		}
		seqs = append(seqs, e.Seq)
	}
	return seqs, nil
}

// shortenRaftLog has raft on this box forget the items that it keeps: the bodies of
// records stand in them. false while raft cannot do it now.
func (n *Node) shortenRaftLog() bool {
	r := n.up.Load()
	if r == nil || r.ordering == nil {
		return true
	}
	done, err := r.ordering.raft.Shorten()
	if err != nil {
		n.log.Debug().Err(err).Msg("the raft log is shortened later")
	}
	return done && err == nil
}

// forget removes what this box made of bodies that are erased: keys, lists, search
// tokens, what forms saved.
func (n *Node) forget(ctx context.Context, e *record.Erasure) error {
	n.projectMu.Lock()
	defer n.projectMu.Unlock()
	var rows []store.Row
	var err error
	if e.Compartment.IsZero() {
		rows, err = n.rowsOfRecord(e.Record)
	} else {
		rows, err = n.rowsOfChart(e.Compartment)
	}
	for err == nil && len(rows) > 0 {
		some := rows[:min(len(rows), projectBatch)]
		rows = rows[len(some):]
		err = n.store.PutRows(ctx, some)
	}
	if err == nil && e.Compartment.IsZero() {
		err = n.chartAgain(ctx, e.Record)
	}
	if err != nil {
		return fmt.Errorf("forgetting what is erased: %w", err)
	}
	n.dirty.tell()
	return nil
}

// chartAgain makes the rows anew of the chart that lost one record.
func (n *Node) chartAgain(ctx context.Context, rid record.RID) error {
	r, ok, err := n.store.ByRID(rid)
	if err != nil || !ok || r.Core.Compartment.IsZero() {
		return err
	}
	p := &projection{n: n, ctx: ctx, dirty: map[record.CompartmentID]bool{}}
	if err := p.compartment(r.Core.Compartment); err != nil {
		return err
	}
	return p.flush()
}

// rowsOfChart are the rows to delete of a chart that is erased.
func (n *Node) rowsOfChart(c record.CompartmentID) (gone []store.Row, err error) {
	n.vault.forget(c)
	drop := func(key []byte) { gone = append(gone, store.Row{Key: bytes.Clone(key)}) }
	if gone, err = n.rowsAbout(c); err != nil {
		return nil, err
	}
	drop(append([]byte("may/"), c[:]...))
	drop(append([]byte("dim/"), c[:]...))
	drop(topicsKey(c))
	drop(shutKey(c))
	drop(handKey(c))
	glass := append([]byte("glass/"), c[:]...)
	err = n.store.ScanRows(glass, forgetRowsMax, func(k, _ []byte) bool {
		if rest := k[len(glass):]; len(rest) == 8+len(record.RID{}) {
			drop(waitingGlassKey(math.MaxUint64-binary.BigEndian.Uint64(rest), rest[8:]))
		}
		drop(k)
		return true
	})
	if err != nil {
		return nil, err
	}
	err = n.store.ScanRows([]byte("reg/"), forgetRowsMax, func(k, _ []byte) bool {
		if bytes.HasSuffix(k, c[:]) {
			drop(k)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	more, err := n.sealedRowsWhere(func(x *rowOrigin) bool { return bytes.Equal(x.compartment, c[:]) })
	return append(gone, more...), err
}

// rowsOfRecord are the rows to delete of one record that is erased.
func (n *Node) rowsOfRecord(rid record.RID) ([]store.Row, error) {
	return n.sealedRowsWhere(func(x *rowOrigin) bool { return len(x.rid) > 0 && bytes.HasPrefix(rid[:], x.rid) })
}

// rowOrigin says what a row was made of.
type rowOrigin struct{ compartment, rid []byte }

// rowKind is a kind of rows whose keys do not tell what they were made of.
type rowKind struct {
	prefix string
	read   func(key []byte) (rowOrigin, error)
}

func (n *Node) rowKinds() []rowKind {
	return []rowKind{
		{visitPrefix, func(key []byte) (rowOrigin, error) {
			var v visitRow
			_, err := n.readRow(key, &v)
			return rowOrigin{v.Compartment, v.RID}, err
		}},
		{apartVisitPrefix, func(key []byte) (rowOrigin, error) {
			var v apartVisitRow
			_, err := n.readRow(key, &v)
			return rowOrigin{v.Visit.Compartment, v.Visit.RID}, err
		}},
		{"res/", func(key []byte) (rowOrigin, error) {
			var r resourceRow
			_, err := n.readRow(key, &r)
			return rowOrigin{r.Compartment, r.RID}, err
		}},
		{"card/", func(key []byte) (rowOrigin, error) {
			var r cardRow
			_, err := n.readRow(key, &r)
			return rowOrigin{compartment: r.Compartment}, err
		}},
		{"glass/", func(key []byte) (rowOrigin, error) {
			var e glassRow
			_, err := n.readRow(key, &e)
			return rowOrigin{e.Compartment, e.RID}, err
		}},
		{"glo/", func(key []byte) (rowOrigin, error) {
			c, _, err := n.rowPlain(key)
			return rowOrigin{c, key[max(0, len(key)-len(record.RID{})):]}, err
		}},
		{shutVisitPrefix, func(key []byte) (rowOrigin, error) {
			c, _, err := n.rowPlain(key)
			return rowOrigin{c, key[max(0, len(key)-len(record.RID{})):]}, err
		}},
		{"form/", func(key []byte) (rowOrigin, error) {
			var r formRow
			_, err := n.readRow(key, &r)
			return rowOrigin{r.Patient, r.RID}, err
		}},
	}
}

// sealedRowsWhere finds the rows of those kinds that were made of something. Each is
// opened, which happens once an erasure.
func (n *Node) sealedRowsWhere(of func(*rowOrigin) bool) (gone []store.Row, err error) {
	for _, kind := range n.rowKinds() {
		var bad error
		err := n.store.ScanRows([]byte(kind.prefix), forgetRowsMax, func(k, _ []byte) bool {
			var x rowOrigin
			key := bytes.Clone(k)
			if x, bad = kind.read(key); bad == nil && of(&x) {
				gone = append(gone, store.Row{Key: key})
			}
			return bad == nil
		})
		if err := errors.Join(err, bad); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// fetchAwaited asks others for bodies that did not come with their entries. That
// nobody has them now is no fault: it is tried again.
func (n *Node) fetchAwaited(ctx context.Context) {
	seqs, err := n.store.Awaited(awaitedMax)
	r := n.up.Load()
	if err != nil || len(seqs) == 0 || r == nil {
		return
	}
	live := r.links.live.Load()
	if live == nil {
		return
	}
	for _, seq := range seqs {
		err := live.FetchRange(ctx, seq, seq+1, func(entries []record.Entry) error {
			_, err := n.store.Repair(ctx, entries)
			return err
		})
		if err != nil {
			n.log.Debug().Err(err).Uint64("seq", seq).Msg("a body that did not come is still awaited")
		}
		if ctx.Err() != nil || errors.Is(err, peersync.ErrNoPeer) {
			return
		}
	}
}

// ErasureState is an erasure and who has not attested it yet.
type ErasureState struct {
	Seq      uint64    `json:"seq"`
	At       time.Time `json:"at"`
	Chart    string    `json:"chart,omitempty"`  // compartment that is erased
	Record   string    `json:"record,omitempty"` // record that is erased
	Reason   string    `json:"reason"`
	By       string    `json:"by"` // box that it was asked for on
	Deadline time.Time `json:"deadline"`
	Attested []string  `json:"attested"`
	Waiting  []string  `json:"waiting"` // members that have not attested
	Overdue  bool      `json:"overdue"` // some have not, and the deadline is over by ledger time
}

// Erasures lists every erasure of the region, oldest first.
func (n *Node) Erasures() ([]ErasureState, error) {
	list, err := n.store.Erasures()
	if err != nil {
		return nil, err
	}
	members, err := n.store.Members()
	if err != nil {
		return nil, err
	}
	out := []ErasureState{}
	for i := range list {
		e := &list[i]
		x := ErasureState{Seq: e.Seq, At: timeOfSeconds(e.Time), By: n.deviceName(e.Device), Attested: []string{}, Waiting: []string{}}
		x.Deadline = x.At.AddDate(0, 0, record.EraseDays)
		for name, r := range eraseReasons {
			if r == e.Reason {
				x.Reason = name
			}
		}
		if e.Compartment.IsZero() {
			x.Record = e.Record.String()
		} else {
			x.Chart = e.Compartment.String()
		}
		said, err := n.store.Attested(e.Seq)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			switch {
			case slices.Contains(said, m.Device):
				x.Attested = append(x.Attested, m.Name)
			case m.Active():
				x.Waiting = append(x.Waiting, m.Name)
			}
		}
		x.Overdue = len(x.Waiting) > 0 && timeOfSeconds(n.store.State().LastTime()).After(x.Deadline)
		out = append(out, x)
	}
	return out, nil
}

func timeOfSeconds(s int64) time.Time { return time.Unix(s, 0).UTC() }
