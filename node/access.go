package node

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
)

// Every look at a chart leaves a line: first in a chain on this box, durable
// before anything is shown, then, some dozens at a time, in an access record of
// the ledger. Each line has its number and the hash of the one before, so a gap
// shows (chain.go).
//
//	acc/ n (8)      sealed line, deleted by the transaction that puts it into a record
//	at/access       sealed: n and hash of the newest line of the chain

type accessAction uint8

const (
	accessView   accessAction = 1
	accessExport accessAction = 2
	accessPrint  accessAction = 3 // a proof on paper

	accessDrill  accessAction = 22 // sheets of the escrow were tried, and opened nothing
	accessCard   accessAction = 20 // a patient's card was shown, with its PIN or without
	accessSignIn accessAction = 19 // with accessRefused alone: a wrong PIN, for the account that Staff names

	// accessRefused with the code of an action: it was asked for and not allowed.
	accessRefused accessAction = 0x80
)

// actionCodes number what can be done or refused. The numbers stand in the ledger.
var actionCodes = map[policy.Action]accessAction{policy.View: accessView, policy.Prove: accessPrint,
	policy.Identify: 4, policy.Write: 5, policy.Amend: 6, policy.Retract: 7, policy.Give: 8, policy.Find: 9,
	policy.Register: 10, policy.Links: 11, policy.Carry: 12, policy.Staff: 13, policy.Review: 14, policy.Consent: 17,
	policy.Oversee: 15, policy.Emergency: 16, policy.Erase: 18, policy.Recover: 21}

func actionCode(a policy.Action) accessAction { return actionCodes[a] }

// action is the action of the rules that a code stands for, "" for a command's.
func (a accessAction) action() policy.Action {
	for of, code := range actionCodes {
		if code == a&^accessRefused {
			return of
		}
	}
	return ""
}

func (a accessAction) refused() bool { return a&accessRefused != 0 }

// accessRepeat: opening the same chart again within this time is the same look,
// as a page that reloads after a save is.
const accessRepeat = 5 * time.Minute

type accessLine struct {
	_           struct{} `cbor:",toarray"`
	N           uint64
	Prev        []byte // SHA-256 of the line before, as encoded; zeros for the first
	HLC         uint64
	Action      uint8
	Staff       string // staff id on this box; empty for a command
	Compartment []byte // 16, or empty for all
	Rules       string // that decided, by their ids with commas between; empty when none did
	Size        uint64 // of the ledger that this box had when they did

	sum [sha256.Size]byte // of the line as encoded, where it was read
}

// accessLineBefore is a line as releases before rules were named wrote it.
type accessLineBefore struct {
	_           struct{} `cbor:",toarray"`
	N           uint64
	Prev        []byte
	HLC         uint64
	Action      uint8
	Staff       string
	Compartment []byte
}

// decodeLine reads a line in either form.
func decodeLine(plain []byte) (accessLine, error) {
	var l accessLine
	err := record.Unmarshal(plain, &l)
	if err != nil {
		var b accessLineBefore
		if record.Unmarshal(plain, &b) != nil {
			return l, fmt.Errorf("reading an access line: %w", err)
		}
		l = accessLine{N: b.N, Prev: b.Prev, HLC: b.HLC, Action: b.Action, Staff: b.Staff, Compartment: b.Compartment}
	}
	if len(l.Staff) > lookStaffMax || len(l.Rules) > accessRulesMax || len(l.Prev) != sha256.Size || len(l.Compartment) != 0 && len(l.Compartment) != len(record.CompartmentID{}) {
		return l, fmt.Errorf("reading an access line: %w", record.ErrMalformed)
	}
	l.sum = sha256.Sum256(plain)
	return l, nil
}

// ofEverybody reports whether a line without a chart is about every chart: an export of all
// is, a search or a stick is not.
func (l *accessLine) ofEverybody() bool { return accessAction(l.Action) == accessExport }

const accessRulesMax = 160 // bytes of the names of rules in a line

type accessBatch struct {
	_     struct{} `cbor:",toarray"`
	V     uint8
	Lines [][]byte // accessLine each, in order
}

type accessHead struct {
	_    struct{} `cbor:",toarray"`
	N    uint64
	Hash []byte
}

type accessLog struct {
	mu     sync.Mutex // orders the chain
	loaded bool
	head   accessHead // newest line; guarded by mu
	open   int        // lines not yet in a record; guarded by mu
}

var accessHeadKey = []byte("at/access")

func accessKey(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte("acc/"), n) }

// seenLook is what makes two lines of a session the same look.
type seenLook struct {
	action accessAction
	about  record.CompartmentID // zeros for what is about no chart
}

// noteAccess makes the line durable. The same person doing the same with the same chart
// again within accessRepeat is the same look.
func (n *Node) noteAccess(ctx context.Context, in *signedIn, c record.CompartmentID, a accessAction) error {
	if err := n.noteLook(ctx, in, seenLook{a, c}, c[:]); err != nil {
		return fmt.Errorf("noting the access: %w", err)
	}
	return nil
}

// noteBox is noteAccess for what is about no chart: a search, a sheet.
func (n *Node) noteBox(ctx context.Context, in *signedIn, a policy.Action) error {
	if err := n.noteLook(ctx, in, seenLook{action: actionCode(a)}, nil); err != nil {
		return fmt.Errorf("noting the access: %w", err)
	}
	return nil
}

func (n *Node) noteLook(ctx context.Context, in *signedIn, l seenLook, about []byte) error {
	n.staff.mu.Lock()
	last, again := in.seen[l]
	n.staff.mu.Unlock()
	now := n.staff.now()
	if again && now.Sub(last) < accessRepeat && !now.Before(last) {
		return nil
	}
	if err := n.noteLine(ctx, n.lineOf(in, l.action, about)); err != nil {
		return err
	}
	n.sawNow(in, l, now)
	return nil
}

// hasSeen reports whether a line of this kind was made in this session.
func (n *Node) hasSeen(in *signedIn, l seenLook) bool {
	n.staff.mu.Lock()
	defer n.staff.mu.Unlock()
	_, ok := in.seen[l]
	return ok
}

func (n *Node) sawNow(in *signedIn, l seenLook, now time.Time) {
	n.staff.mu.Lock()
	defer n.staff.mu.Unlock()
	in.seen[l] = now
}

// lineOf is a line about what somebody does now, with the rules that decide it.
func (n *Node) lineOf(in *signedIn, a accessAction, about []byte) accessLine {
	patient := ""
	if len(about) > 0 {
		patient = hex.EncodeToString(about)
	}
	return accessLine{Action: uint8(a), Staff: in.session.StaffID, Compartment: about, Rules: ruleWords(n.decide(in, a.action(), patient)), Size: n.store.Head().Size}
}

// ruleWords are the rules of a verdict as a line names them. A grant that it leaned on stands
// first, as "grant:" with its id and the Unix second of its end: no rule has a colon in its id.
func ruleWords(v policy.Verdict) string {
	rules := v.Rules
	if v.Grant.ID != "" {
		rules = slices.Insert(slices.Clone(rules), 0, fmt.Sprintf("%s%s:%d", grantWord, v.Grant.ID, v.Grant.Until))
	}
	text := strings.Join(rules, ",")
	return text[:min(len(text), accessRulesMax)]
}

const grantWord = "grant:"

// purposeWord begins, in front of all others, the word of a line that was for something else than treatment.
const purposeWord = "for:"

// readPurpose takes the purpose out of the rules that a line names; "" for treatment.
func readPurpose(text string) (purpose, rest string) {
	first, rest, _ := strings.Cut(text, ",")
	purpose, ok := strings.CutPrefix(first, purposeWord)
	if !ok {
		return "", text
	}
	return purpose, rest
}

// readRuleWords takes a grant out of the rules that a line names.
func readRuleWords(text string) (rules string, grant policy.Grant) {
	first, rest, _ := strings.Cut(text, ",")
	word, ok := strings.CutPrefix(first, grantWord)
	if !ok {
		return text, grant
	}
	id, until, _ := strings.Cut(word, ":")
	end, err := strconv.ParseInt(until, 10, 64)
	if err != nil {
		return text, grant
	}
	return rest, policy.Grant{ID: id, Until: end}
}

// noteLine gives a line its place in the chain and makes it durable.
func (n *Node) noteLine(ctx context.Context, l accessLine) error {
	n.access.mu.Lock()
	defer n.access.mu.Unlock()
	rows, head, err := n.nextLineLocked(l)
	if err != nil {
		return err
	}
	if err := n.store.PutRowsReserved(ctx, rows); err != nil {
		return err
	}
	n.access.head = head
	n.access.open++
	if n.access.open >= accessBatchLines {
		err = n.flushAccessLocked(ctx)
	}
	if errors.Is(err, store.ErrFull) { // the line is durable; its record waits for room
		return nil
	}
	return err
}

// nextLineLocked makes the rows that put a line behind the newest one.
func (n *Node) nextLineLocked(l accessLine) ([]store.Row, accessHead, error) {
	var head accessHead
	if err := n.loadAccessLocked(); err != nil {
		return nil, head, err
	}
	l.N, l.Prev, l.HLC = n.access.head.N+1, n.access.head.Hash, hlcFrom(n.o.Now())
	plain, err := record.Marshal(l)
	if err != nil {
		return nil, head, err
	}
	sum := sha256.Sum256(plain)
	head = accessHead{N: l.N, Hash: sum[:]}
	headPlain, err := record.Marshal(head)
	if err != nil {
		return nil, head, err
	}
	row, err := n.sealedRow(accessKey(l.N), plain)
	if err != nil {
		return nil, head, err
	}
	headRow, err := n.sealedRow(accessHeadKey, headPlain)
	return []store.Row{row, headRow}, head, err
}

func (n *Node) loadAccessLocked() error {
	if n.access.loaded {
		return nil
	}
	n.access.head = accessHead{Hash: make([]byte, 32)}
	if _, err := n.readRow(accessHeadKey, &n.access.head); err != nil {
		return err
	}
	var known chainRow // of the ledger: what this disk forgot is not numbered again
	if _, err := n.readRow(chainKey(n.author.Device), &known); err != nil {
		return err
	}
	if end := known.end(); end.To > n.access.head.N {
		n.access.head = accessHead{N: end.To, Hash: end.Last}
	}
	open := 0
	if err := n.store.ScanRows([]byte("acc/"), 100_000, func(_, _ []byte) bool { open++; return true }); err != nil {
		return err
	}
	n.access.open, n.access.loaded = open, true
	return nil
}

// flushAccess puts the open lines into an access record.
func (n *Node) flushAccess(ctx context.Context) error {
	n.access.mu.Lock()
	defer n.access.mu.Unlock()
	if err := n.loadAccessLocked(); err != nil {
		return err
	}
	return n.flushAccessLocked(ctx)
}

func (n *Node) flushAccessLocked(ctx context.Context) error {
	region, ok := n.box.RegionID()
	if !ok || n.access.open == 0 {
		return nil
	}
	for n.access.open > 0 {
		keys, lines, err := n.openLines(accessBatchLines)
		if err != nil {
			return fmt.Errorf("reading the access log: %w", err)
		}
		batch := accessBatch{V: 1, Lines: lines}
		var gone []store.Row
		for _, k := range keys {
			gone = append(gone, store.Row{Key: k})
		}
		if len(gone) == 0 {
			n.access.open = 0
			return nil
		}
		if err := n.appendAccess(ctx, region, batch, gone); err != nil {
			return fmt.Errorf("writing the access record: %w", err)
		}
		n.access.open -= len(gone)
	}
	return nil
}

// openLines are the oldest lines that are in no record yet, as they were encoded.
func (n *Node) openLines(most int) (keys, lines [][]byte, err error) {
	var found [][]byte
	err = n.store.ScanRows([]byte("acc/"), most, func(k, _ []byte) bool { found = append(found, slices.Clone(k)); return true })
	if err != nil {
		return nil, nil, err
	}
	for _, k := range found {
		plain, ok, err := n.rowPlain(k)
		if err != nil {
			return nil, nil, err
		}
		if ok { // not when it went into a record meanwhile
			keys, lines = append(keys, k), append(lines, plain)
		}
	}
	return keys, lines, nil
}

func (n *Node) appendAccess(ctx context.Context, region record.RegionID, b accessBatch, gone []store.Row) error {
	plain, err := record.Marshal(b)
	if err != nil {
		return err
	}
	draft, err := n.sealedDraft(record.LaneAudit, record.KindAccess, directory(region), 0, plain)
	if err != nil {
		return err
	}
	if err := n.openEpoch(ctx); err != nil {
		return err
	}
	_, err = n.place(ctx, []store.Draft{draft}, func([]record.Record) ([]store.Row, error) { return gone, nil })
	return err
}

// accessLoop puts open lines into a record now and then, so that a quiet day's
// looks reach the ledger too.
func (n *Node) accessLoop(ctx context.Context) error {
	t := time.NewTicker(accessBatchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := n.flushAccess(ctx); err != nil && !errors.Is(err, store.ErrFull) && n.store.Err() == nil && ctx.Err() == nil {
				return err
			}
		}
	}
}
