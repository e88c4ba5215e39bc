package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// Who looked at a chart: the lines of access records, of every box, laid out by the
// chart that they are about, and this box's own lines that are in no record yet.
//
//	look/ compartment (16) ^hlc (8) device (8) n (8)   sealed line; a compartment of zeros for what was about all
//	at/looks                                           2 once the records that were here before these rows have theirs

const (
	looksMax      = 500
	lookLinesMax  = 4096 // lines read from one record
	lookStaffMax  = 64
	lookDeviceKey = 8
)

var (
	looksDoneKey = []byte("at/looks")
	looksDone    = []byte{2} // 1: without chain/
)

func lookPrefix(c []byte) []byte {
	return append([]byte("look/"), padded(c)...)
}

func padded(c []byte) []byte {
	if len(c) != len(record.CompartmentID{}) {
		return make([]byte, len(record.CompartmentID{}))
	}
	return c
}

func lookKey(l *accessLine, d record.DeviceID) []byte {
	key := binary.BigEndian.AppendUint64(lookPrefix(l.Compartment), math.MaxUint64-l.HLC)
	return binary.BigEndian.AppendUint64(append(key, d[:lookDeviceKey]...), l.N)
}

// lookRow is a line with the box that it was made on; as laid out by earlier releases it
// ends with HLC.
type lookRow struct {
	_      struct{} `cbor:",toarray"`
	Device []byte   // 32
	Action uint8
	Staff  string // id of the account, "" for a command
	HLC    uint64
	Rules  string // as in accessLine
	Size   uint64

	everybody bool // it is about no chart
}

type lookRowBefore struct {
	_      struct{} `cbor:",toarray"`
	Device []byte
	Action uint8
	Staff  string
	HLC    uint64
}

func rowOfLook(l *accessLine, d record.DeviceID) lookRow {
	return lookRow{Device: d[:], Action: l.Action, Staff: l.Staff, HLC: l.HLC, Rules: l.Rules, Size: l.Size}
}

func (n *Node) readLookRow(key []byte) (lookRow, error) {
	var l lookRow
	if _, err := n.readRow(key, &l); err == nil {
		return l, nil
	}
	var b lookRowBefore
	_, err := n.readRow(key, &b)
	return lookRow{Device: b.Device, Action: b.Action, Staff: b.Staff, HLC: b.HLC}, err
}

// look lays out the lines of one access record. One that cannot be read yet has no lines.
func (p *projection) look(r *record.Record) error {
	plain, err := p.n.vault.open(r)
	if errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrNewer) || errors.Is(err, seal.ErrDamaged) {
		return nil
	}
	if err != nil {
		return err
	}
	d, ok, err := p.n.store.EpochAuthor(r.Core.Epoch)
	if err != nil || !ok {
		return err
	}
	lines := decodeAccess(plain)
	c, err := p.chain(d)
	if err != nil {
		return err
	}
	c.add(runsOf(lines))
	for _, l := range lines {
		if len(l.Compartment) == 0 && !l.ofEverybody() {
			continue // about the box: nobody's list tells it
		}
		plain, err := record.Marshal(rowOfLook(&l, d))
		if err != nil {
			return err
		}
		row, err := p.n.sealedRow(lookKey(&l, d), plain)
		if err != nil {
			return err
		}
		p.put(row)
	}
	return nil
}

// decodeAccess reads the lines of an access record's plain text. A member's nonsense is
// nobody's look: what cannot be read is left out.
func decodeAccess(plain []byte) []accessLine {
	var batch accessBatch
	if record.Unmarshal(plain, &batch) != nil || batch.V != 1 || len(batch.Lines) > lookLinesMax {
		return nil
	}
	lines := make([]accessLine, 0, len(batch.Lines))
	for _, b := range batch.Lines {
		if l, err := decodeLine(b); err == nil {
			lines = append(lines, l)
		}
	}
	return lines
}

// looksBefore lays out the records that came before these rows existed, or before the key
// that opens them.
func (p *projection) looksBefore() error {
	region, ok := p.n.box.RegionID()
	if !ok {
		return nil
	}
	if done, err := p.n.store.GetRow(looksDoneKey); err == nil && bytes.Equal(done, looksDone) && !p.lookAgain {
		return nil
	} else if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	recs, err := p.n.store.Compartment(directory(region))
	if err != nil {
		return err
	}
	for i := range recs {
		if r := &recs[i].Record; r.Core.Kind == record.KindAccess && r.Body != nil {
			if err := p.look(r); err != nil {
				return err
			}
		}
	}
	p.put(store.Row{Key: looksDoneKey, Value: looksDone})
	return p.err
}

// opensDirectory reports whether a wrap of the directory is among rows of keys.
func (n *Node) opensDirectory(rows []store.Row) bool {
	region, ok := n.box.RegionID()
	if !ok {
		return false
	}
	key := wrapRowKey(directory(region), firstGen)
	return slices.ContainsFunc(rows, func(r store.Row) bool { return bytes.Equal(r.Key, key) })
}

// Looks lists who looked at a chart, newest first, refused tries included. That the list
// was read is a look itself.
func (n *Node) Looks(ctx context.Context, s web.Session, patientID string) (web.LooksPage, error) {
	in, err := n.allow(ctx, s, policy.Review, patientID)
	if err != nil {
		return web.LooksPage{}, err
	}
	c, ch, err := n.patientBy(in, patientID)
	if err != nil {
		return web.LooksPage{}, err
	}
	if err := n.noteAccess(ctx, in, c, actionCode(policy.Review)); err != nil {
		return web.LooksPage{}, explain(err)
	}
	if err := n.projectNow(); err != nil {
		return web.LooksPage{}, explain(err)
	}
	rows, err := n.lookRows(c)
	if err != nil {
		return web.LooksPage{}, explain(err)
	}
	gaps, err := n.accessGaps()
	if err != nil {
		return web.LooksPage{}, explain(err)
	}
	page := web.LooksPage{Gaps: gaps, Row: ch.Row(), More: len(rows) > looksMax}
	if page.Emergencies, err = n.emergenciesOf(c); err != nil {
		return web.LooksPage{}, explain(err)
	}
	for _, l := range rows[:min(len(rows), looksMax)] {
		look, err := n.lookWords(&l)
		if err != nil {
			return web.LooksPage{}, explain(err)
		}
		page.Looks = append(page.Looks, look)
	}
	return page, nil
}

// lookRows reads what is laid out for a chart and for all charts, and the open lines.
func (n *Node) lookRows(c record.CompartmentID) ([]lookRow, error) {
	var rows []lookRow
	for i, prefix := range [][]byte{lookPrefix(c[:]), lookPrefix(nil)} {
		var keys [][]byte
		if err := n.store.ScanRows(prefix, looksMax+1, func(k, _ []byte) bool { keys = append(keys, slices.Clone(k)); return true }); err != nil {
			return nil, err
		}
		for _, k := range keys {
			l, err := n.readLookRow(k)
			if err != nil {
				return nil, err
			}
			l.everybody = i == 1
			rows = append(rows, l)
		}
	}
	_, open, err := n.openLines(accessBatchLines)
	if err != nil {
		return nil, err
	}
	for _, plain := range open {
		l, err := decodeLine(plain)
		if err != nil {
			return nil, err
		}
		if len(l.Compartment) == 0 || record.CompartmentID(l.Compartment) == c {
			row := rowOfLook(&l, n.author.Device)
			row.everybody = len(l.Compartment) == 0
			rows = append(rows, row)
		}
	}
	rows = slices.DeleteFunc(rows, func(l lookRow) bool { return l.everybody && accessAction(l.Action) != accessExport })
	slices.SortStableFunc(rows, func(a, b lookRow) int { return cmp.Compare(b.HLC, a.HLC) })
	return rows, nil
}

// lookWords puts a line in the words of the page.
func (n *Node) lookWords(l *lookRow) (web.Look, error) {
	out := web.Look{At: timeOfHLC(l.HLC), Refused: accessAction(l.Action).refused(), What: "other", Size: l.Size}
	purpose, words := readPurpose(l.Rules)
	rules, grant := readRuleWords(words)
	out.Purpose = purpose
	out.Rules, out.Grant = strings.ReplaceAll(rules, ",", ", "), grant.ID
	if grant.Until > 0 {
		out.Until = time.Unix(grant.Until, 0)
	}
	if len(l.Device) == len(record.DeviceID{}) {
		out.Box = n.deviceName(record.DeviceID(l.Device))
	}
	if a := accessAction(l.Action).action(); a != "" {
		out.What = string(a)
	}
	switch accessAction(l.Action) &^ accessRefused {
	case accessExport:
		out.What = "export"
	case accessCard:
		out.What = "card"
	case accessDrill:
		out.What = "drill"
	case accessSignIn:
		out.What = string(fhir.AuditSignIn)
	}
	if l.Staff == "" {
		return out, nil // a command of who runs the box
	}
	var err error
	out.Who, err = n.staffNameByID(l.Staff)
	return out, err
}

// staffNameByID is the name that the directory has for the id of an account; "?" when none came yet.
func (n *Node) staffNameByID(id string) (string, error) {
	e, ok, err := n.staffByID(id)
	if err != nil || !ok {
		return "?", err
	}
	return e.Name, nil
}

// staffByID is what the directory has for the id of an account.
func (n *Node) staffByID(id string) (e staffEntry, ok bool, err error) {
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 {
		return e, false, nil // as some box wrote it
	}
	var key []byte
	err = n.store.ScanRows(append([]byte("who/"), id...), 1, func(k, _ []byte) bool { key = slices.Clone(k); return false })
	if err != nil || key == nil {
		return e, false, err
	}
	ok, err = n.readRow(key, &e)
	return e, ok, err
}
