package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// The projection is what lists and searches read. It is made of rows that can
// always be rebuilt from the records, and follows their arrival:
//
//	at/cursor                       arrival number up to which rows are made; 8 bytes
//	wrap/ comp gen                  a compartment key wrapped for this box (vault)
//	pat/ comp                       sealed: the person's row and its tokens
//	tok/ blind(token) comp          empty: which people a token leads to
//	res/ blind(name)                sealed: where a resource is and a hash of its JSON (resources.go)
//	vis/ ^hlc rid                   sealed: one line of the list of this box's visits, newest first
//	may/ comp                       sealed: whether this box may open the chart (consent.go)
//	top/ comp                       sealed: what is decided about its topics, for this box (topics.go)
//	shut/ comp                      how many entries of it are sealed under keys that are not here (shut.go)
//	shv/ ^hlc rid                   sealed: one of them that this box wrote
//	card/ blind(find)               sealed: what a patient's card leads to (patientcard.go)
//	who/ staff key                  sealed: name and role of a staff key
//	vst/ ^hlc rid                   sealed: one visit of this box that is kept apart by a topic
//	glass/ comp ^hlc rid            sealed: one emergency and who looked into it (glass.go)
//	glo/ hlc rid                    sealed: those that nobody looked into yet, oldest first
//	chain/ device                   sealed: how the access lines of a box hang together (chain.go)
//	hand/ comp                      others may lack closed keys of it (handing.go)
//	dim/ comp                       records of it wait for a dictionary (dictionaries.go)
//
// A name in a key is blinded with a key that never leaves the box.

const (
	projectBatch    = 256
	rowsBytesBudget = 512 << 10
)

var cursorKey = []byte("at/cursor")

// projectLoop follows arrivals from peers until ctx ends.
func (n *Node) projectLoop(ctx context.Context) error {
	changed := n.store.Subscribe(ctx)
	for {
		err := n.projectNow()
		if err == nil {
			err = n.shutAll(ctx)
		}
		if err != nil {
			if n.store.Err() != nil {
				return nil // watchFault says it
			}
			if !errors.Is(err, store.ErrFull) {
				return err
			}
		}
		n.dirty.tell()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// projectNow brings the rows up to the last arrival. A full disk leaves them
// behind, and so do locked keys; the next call goes on from there.
func (n *Node) projectNow() error {
	if n.keys.Locked() {
		return nil
	}
	n.projectMu.Lock()
	defer n.projectMu.Unlock()
	for {
		done, err := n.projectOnce(context.Background())
		if err != nil || done {
			return err
		}
	}
}

func (n *Node) cursor() (uint64, error) {
	b, err := n.store.GetRow(cursorKey)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err == nil && len(b) != 8 {
		err = fmt.Errorf("reading the projection's place: %d bytes", len(b))
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

func (n *Node) projectOnce(ctx context.Context) (done bool, err error) {
	from, err := n.cursor()
	if err != nil {
		return false, err
	}
	arrivals, err := n.store.Arrivals(from+1, projectBatch)
	if err != nil || len(arrivals) == 0 {
		return true, err
	}
	p := &projection{n: n, ctx: ctx, dirty: map[record.CompartmentID]bool{}, linked: map[record.CompartmentID]bool{}}
	for _, a := range arrivals {
		if err := p.arrived(a); err != nil {
			return false, err
		}
	}
	if err := p.flush(); err != nil { // keys first: what follows needs them
		return false, err
	}
	if err := p.links(); err != nil {
		return false, err
	}
	for _, r := range p.access {
		if err := p.look(r); err != nil {
			return false, err
		}
	}
	for _, c := range p.order {
		if err := p.compartment(c); err != nil {
			return false, err
		}
	}
	if err := errors.Join(p.restored(), p.looksBefore(), p.keepChains()); err != nil {
		return false, err
	}
	last := arrivals[len(arrivals)-1].N
	p.put(store.Row{Key: cursorKey, Value: binary.BigEndian.AppendUint64(nil, last)})
	if err := p.flush(); err != nil {
		return false, err
	}
	return false, p.tellWaiting()
}

// projection collects the rows of one batch of arrivals.
type projection struct {
	n      *Node
	ctx    context.Context
	dirty  map[record.CompartmentID]bool
	linked map[record.CompartmentID]bool // charts whose keys may lead to others
	order  []record.CompartmentID
	back   uint64 // records of this box that others gave back
	rows   []store.Row
	size   int
	err    error

	chains    map[record.DeviceID]*chainRow // of access lines, as they will be
	access    []*record.Record              // of this batch, to be laid out once its keys are there
	lookAgain bool                          // a key came that may open access records

	carded map[string]record.CompartmentID // whose rows of cards are in this batch, by their keys

	waiting bool // what waits for a dictionary changed
}

func (p *projection) put(rows ...store.Row) {
	for _, r := range rows {
		p.rows = append(p.rows, r)
		p.size += len(r.Key) + len(r.Value)
		if p.size > rowsBytesBudget {
			p.err = errors.Join(p.err, p.flush())
		}
	}
}

// putChanged seals and puts a row, unless it is there as it is.
func (p *projection) putChanged(key, plain []byte) error {
	if old, err := p.n.store.GetRow(key); err == nil {
		if have, err := seal.OpenRow(p.n.rowKey(), key, old); err == nil && bytes.Equal(have, plain) {
			return nil
		}
	}
	row, err := p.n.sealedRow(key, plain)
	if err == nil {
		p.put(row)
	}
	return err
}

func (p *projection) flush() error {
	rows := p.rows
	p.rows, p.size = nil, 0
	if p.err != nil || len(rows) == 0 {
		return p.err
	}
	return p.n.store.PutRowsSoon(p.ctx, rows)
}

func (p *projection) arrived(a store.Arrival) error {
	r, err := p.n.arrivedRecord(a)
	if err != nil || r == nil {
		return err
	}
	if err := errors.Join(p.witness(a, r), p.rulesCame(r, a.Pending)); err != nil {
		return err
	}
	if r.Core.Kind == record.KindKeyWrap && r.Body != nil && !p.n.store.Erased(r) {
		rows, err := p.keys(r)
		if errors.Is(err, seal.ErrDamaged) || errors.Is(err, record.ErrMalformed) || errors.Is(err, seal.ErrNewer) {
			p.n.log.Warn().Str("rid", r.RID().Short()).Msg("key wraps cannot be read")
		} else if err != nil {
			return err
		}
		p.put(rows...)
		p.lookAgain = p.lookAgain || p.n.opensDirectory(rows)
	}
	if r.Core.Kind == record.KindAccess {
		p.access = append(p.access, r) // nothing of the directory changes by it
		return p.dictionaryCame(a, r)
	}
	if c := r.Core.Compartment; !c.IsZero() {
		p.touch(c)
	}
	return p.dictionaryCame(a, r)
}

// touch has a compartment's rows made again.
func (p *projection) touch(c record.CompartmentID) {
	if !p.dirty[c] {
		p.dirty[c] = true
		p.order = append(p.order, c)
	}
}

// witness looks at what a record says of the box that wrote it and of the ledger.
func (p *projection) witness(a store.Arrival, r *record.Record) error {
	d, ok, err := p.n.store.EpochAuthor(r.Position().Epoch)
	if err != nil || !ok {
		return err
	}
	if d == p.n.author.Device {
		p.cameBack(a, r)
	}
	if a.Pending {
		return nil
	}
	if err := errors.Join(p.compareLedgers(a.Seq, r, d), p.heardEvidence(r, d), p.sawReset(a.Seq, r)); err != nil {
		return err
	}
	return p.compareEpochs(a.Seq, r, d)
}

// arrivedRecord is the record of an arrival; nil when it has moved on since, in
// which case a later arrival tells.
func (n *Node) arrivedRecord(a store.Arrival) (*record.Record, error) {
	r, ok, err := n.store.ByRID(a.RID)
	if err != nil || !ok {
		return nil, err
	}
	return &r, nil
}

// compartment makes the rows of one compartment from all its records.
func (p *projection) compartment(c record.CompartmentID) error {
	if _, erased := p.n.store.ErasedCompartment(c); erased {
		return nil // eraseLoop removes its rows
	}
	region, _ := p.n.box.RegionID()
	opened, unread, err := p.n.openWhole(c, nil)
	dim := unread.dictionary
	if err == nil {
		dim, err = p.glass(c, unread.glass, dim)
	}
	if err == nil {
		err = p.waits(c, dim)
	}
	if err != nil {
		return err
	}
	if err := p.resources(c, opened); err != nil {
		return err
	}
	if c == directory(region) {
		return p.directory(c)
	}
	ch := chart.Fold(opened)
	open := ch.Seen(chart.Sight{})
	if err := p.person(c, &open); err != nil {
		return err
	}
	p.registered(c, opened)
	if err := p.shut(c, &unread); err != nil {
		return err
	}
	if err := p.standing(c, unread.consent, ch.Topics() != 0); err != nil {
		return err
	}
	if err := errors.Join(p.cards(c), p.hands(c, unread.consent)); err != nil {
		return err
	}
	if err := p.visits(c, &ch, opened); err != nil {
		return err
	}
	return p.err
}

// openCompartment opens what this box can of a compartment, without names and
// states, which lists do not show.
func (n *Node) openCompartment(c record.CompartmentID) ([]chart.Opened, error) {
	opened, _, err := n.openWhole(c, nil)
	return opened, err
}

// unread is what could not be opened of a compartment.
type unread struct {
	some       bool // a record of it, for whatever reason
	entries    int  // how many
	closed     chart.Closed
	shut       []shutVisit // of these, what this box wrote
	dictionary bool        // one waits for a dictionary
	consent    bool        // there are directives, which are not opened

	glass []store.Placed // of emergencies: no part of a chart, and not opened
}

// openWhole also answers what could not be opened, even with the keys that were lent.
func (n *Node) openWhole(c record.CompartmentID, lent lentKeys) (opened []chart.Opened, left unread, err error) {
	recs, err := n.store.Compartment(c)
	if err == nil {
		recs, err = n.withRefused(c, recs)
	}
	if err == nil {
		recs, err = n.oneOfEach(recs)
	}
	if err != nil {
		return nil, left, err
	}
	for _, x := range recs {
		left.consent = left.consent || x.Record.Core.Kind == record.KindConsent
		if x.Record.Core.Kind == record.KindBreakGlass {
			left.glass = append(left.glass, x)
		}
		if k := x.Record.Core.Kind; k != record.KindClinical && k != record.KindRegistration && k != record.KindDirectory {
			continue
		}
		if p := n.store.Erased(&x.Record); p || x.Record.Body == nil {
			if !p {
				left.some = true
				left.entries++
			}
			continue
		}
		o, err := n.openRecord(x, lent)
		var unknown *seal.UnknownDictionary
		if err != nil {
			left.some = true
			left.entries++
		}
		left.dictionary = left.dictionary || errors.As(err, &unknown)
		if errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrNewer) {
			left.keep(&x.Record, n.wroteHere(&x.Record))
			continue // a key, a dictionary or an update may come
		}
		if errors.Is(err, seal.ErrDamaged) || errors.Is(err, chart.ErrBody) {
			n.log.Warn().Str("rid", x.Record.RID().Short()).Msg("body cannot be read")
			continue
		}
		if err != nil {
			return nil, left, err
		}
		opened = append(opened, o)
	}
	return opened, left, nil
}

func (n *Node) openRecord(x store.Placed, lent lentKeys) (chart.Opened, error) {
	plain, err := n.vault.openWith(&x.Record, lent)
	if err != nil {
		return chart.Opened{}, err
	}
	body, err := chart.DecodeBody(plain)
	if err != nil {
		return chart.Opened{}, fmt.Errorf("reading record %s: %w", x.Record.RID().Short(), err)
	}
	r, rid := asFirst(x.Record)
	return chart.Opened{Record: r, RID: rid, Seq: x.Seq, Ordered: x.Ordered, Body: body}, nil
}

// personRow is one person in lists.
type personRow struct {
	_      struct{} `cbor:",toarray"`
	Row    []byte   // chart.EncodeRow
	Tokens []string
}

func personKey(c record.CompartmentID) []byte { return append([]byte("pat/"), c[:]...) }

func (n *Node) tokenKey(token string, c record.CompartmentID) []byte {
	b := seal.Blind(n.rowKey(), "tok", []byte(token))
	return append(append([]byte("tok/"), b[:]...), c[:]...)
}

func (p *projection) person(c record.CompartmentID, ch *chart.Chart) error {
	old, had, err := p.n.personRow(c)
	if err != nil {
		return err
	}
	if ch.Patient == nil && !had {
		return nil
	}
	row := ch.Row()
	enc, err := chart.EncodeRow(row)
	if err != nil {
		return err
	}
	now := personRow{Row: enc, Tokens: chart.RowTokens(row)}
	if had && bytes.Equal(old.Row, now.Row) {
		return nil
	}
	keep := map[string]bool{}
	for _, t := range now.Tokens {
		keep[t] = true
		p.put(store.Row{Key: p.n.tokenKey(t, c), Value: []byte{1}})
	}
	for _, t := range old.Tokens {
		if !keep[t] {
			p.put(store.Row{Key: p.n.tokenKey(t, c)})
		}
	}
	plain, err := record.Marshal(now)
	if err != nil {
		return err
	}
	r, err := p.n.sealedRow(personKey(c), plain)
	if err != nil {
		return err
	}
	p.put(r)
	return nil
}

func (n *Node) personRow(c record.CompartmentID) (personRow, bool, error) {
	var r personRow
	ok, err := n.readRow(personKey(c), &r)
	return r, ok, err
}

// readRow opens and decodes a sealed row; ok false when there is none.
func (n *Node) readRow(key []byte, v any) (bool, error) {
	plain, ok, err := n.rowPlain(key)
	if err != nil || !ok {
		return false, err
	}
	if err := record.Unmarshal(plain, v); err != nil {
		return false, fmt.Errorf("reading a list row: %w", err)
	}
	return true, nil
}

// rowPlain opens a sealed row; ok false when there is none.
func (n *Node) rowPlain(key []byte) (plain []byte, ok bool, err error) {
	raw, err := n.store.GetRow(key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	plain, err = seal.OpenRow(n.rowKey(), key, raw)
	if err != nil {
		return nil, false, fmt.Errorf("reading a list row: %w", err)
	}
	return plain, true, nil
}

// visitRow is one line of the list of visits.
type visitRow struct {
	_           struct{} `cbor:",toarray"`
	Compartment []byte
	RID         []byte // 32
	Problem     string
	Urgent      bool
	Bulk        bool // taken in from a file, not seen by this region's staff
}

func visitKey(prefix string, hlc uint64, rid record.RID) []byte {
	return append(binary.BigEndian.AppendUint64([]byte(prefix), math.MaxUint64-hlc), rid[:]...)
}

// visits keeps what was done on this box. What other boxes did is in the charts:
// fifty clinics in one list would hide this room's own people, and one of their
// clocks, set to a year ahead, would do so for a year.
func (p *projection) visits(c record.CompartmentID, ch *chart.Chart, opened []chart.Opened) error {
	records := map[record.RID]*record.Record{}
	for i := range opened {
		records[opened[i].RID] = &opened[i].Record
	}
	for i := range ch.Visits {
		v := &ch.Visits[i]
		r, rid, ok := p.ownFirst(&v.Line, records)
		if !ok {
			continue
		}
		if err := p.visit(v, r.Core.HLC, visitRow{Compartment: c[:], RID: rid[:], Problem: visitProblem(v), Urgent: r.Core.Lane == record.LaneControl}); err != nil {
			return err
		}
	}
	for i := range ch.Retracted { // a withdrawn visit leaves the list: its chart tells of it
		if l := &ch.Retracted[i]; l.Type == "Encounter" {
			if r, rid, ok := p.ownFirst(l, records); ok {
				prefix := visitPrefix
				if l.Topics != 0 {
					prefix = apartVisitPrefix
				}
				p.put(store.Row{Key: visitKey(prefix, r.Core.HLC, rid)})
			}
		}
	}
	return nil
}

// ownFirst is the record that a line began with, when this box's staff wrote it. rid is the one that
// it is known by, which stays the same when the record is written again.
func (p *projection) ownFirst(l *chart.Line, records map[record.RID]*record.Record) (r *record.Record, rid record.RID, ok bool) {
	first := l.Shown
	if len(l.Past) > 0 {
		first = l.Past[0]
	}
	r, ok = records[first.RID]
	return r, first.RID, ok && r.Core.Lane != record.LaneBulk && p.n.wroteHere(r)
}

// directory keeps the names of staff keys.
func (p *projection) directory(c record.CompartmentID) error {
	recs, err := p.n.store.Compartment(c)
	if err != nil {
		return err
	}
	for _, x := range recs {
		if x.Record.Core.Kind != record.KindStaff || x.Record.Body == nil {
			continue
		}
		plain, err := p.n.vault.open(&x.Record)
		if err != nil {
			continue // as in openCompartment: a key may come, damage is verify's to tell
		}
		var e staffEntry
		if err := record.Unmarshal(plain, &e); err != nil || len(e.Public) != 32 || len(e.Name) > staffNameMax {
			continue
		}
		row, err := p.n.sealedRow(whoKey(e.Public), plain)
		if err != nil {
			return err
		}
		p.put(row)
	}
	return nil
}

func whoKey(public []byte) []byte { return append([]byte("who/"), hex.EncodeToString(public)...) }

// registered keeps when a person was registered on this box.
func (p *projection) registered(c record.CompartmentID, opened []chart.Opened) {
	for i := range opened {
		r := &opened[i].Record
		if r.Core.Kind == record.KindRegistration && r.Core.Lane != record.LaneBulk && p.n.wroteHere(r) {
			p.put(store.Row{Key: registeredKey(r.Core.HLC, c), Value: []byte{1}})
			return
		}
	}
}

// wroteHere reports whether a record is this box's own.
func (n *Node) wroteHere(r *record.Record) bool {
	d, ok, err := n.store.EpochAuthor(r.Position().Epoch)
	return err == nil && ok && d == n.author.Device
}
