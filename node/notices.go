package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// A notice is something that staff must be told: until it is over, or until
// somebody at the box has read it. It outlives restarts, and happening again makes it
// news again.
//
//	note/ code / subject     notice; the subject is what it is about, in bytes
//
// The codes are those of web.Fault.
type notice struct {
	_     struct{} `cbor:",toarray"`
	Since int64    // Unix seconds of this box's clock, when it began
	Count uint64   // how often, or how many
	Args  []string // of web.Fault; a first argument that counts is made of Count when shown
	Seen  bool
}

// Codes of notices. The page has their words; faultWords has them for commands.
const (
	noticeRestored    = "restored"
	noticeCloned      = "cloned"
	noticeRepublished = "refused_republished"
	noticeUnjust      = "unjust_refusal"
	noticeRolledBack  = "hub_rolled_back"
	noticeTwoViews    = "hub_two_views"
	noticeSplitView   = "split_view"
	noticeOtherLedger = "other_ledger"
	noticePromise     = "promise_broken"
	noticeStale       = "stale_view"
	noticeReset       = "reset_conflict"
	noticeForked      = "forked"

	noticeDictionary = "dictionary_missing"
)

// noticesMax bounds what is read and shown at once.
const noticesMax = 64

type notices struct{ mu sync.Mutex } // held from reading a notice to writing it

func noticeKey(code string, subject []byte) []byte {
	return append([]byte("note/"+code+"/"), subject...)
}

// change reads a notice, lets f change it, and gives the row to write; f answers
// whether there is news. A notice that was read and changes is unread again.
func (n *Node) changedNotice(code string, subject []byte, f func(*notice) bool) (store.Row, bool, error) {
	key := noticeKey(code, subject)
	var x notice
	raw, err := n.store.GetRow(key)
	if err == nil {
		err = record.Unmarshal(raw, &x)
	} else if errors.Is(err, store.ErrNotFound) {
		x, err = notice{Since: n.o.Now().Unix(), Args: []string{}}, nil
	}
	if err != nil {
		return store.Row{}, false, fmt.Errorf("reading a notice: %w", err)
	}
	if !f(&x) {
		return store.Row{}, false, nil
	}
	x.Seen = false
	value, err := record.Marshal(x)
	return store.Row{Key: key, Value: value}, err == nil, err
}

// notify makes or changes a notice, durable on return.
func (n *Node) notify(code string, subject []byte, f func(*notice) bool) error {
	n.notices.mu.Lock()
	defer n.notices.mu.Unlock()
	row, ok, err := n.changedNotice(code, subject, f)
	if err != nil || !ok {
		return err
	}
	if err := n.store.PutRows(context.Background(), []store.Row{row}); err != nil {
		return fmt.Errorf("keeping a notice: %w", err)
	}
	n.log.Warn().Str("code", code).Msg("staff are told")
	n.dirty.tell()
	return nil
}

// notifyOnce makes a notice that stands as it is until it is over.
func (n *Node) notifyOnce(code string, subject []byte, args ...string) error {
	return n.notify(code, subject, func(x *notice) bool {
		news := x.Count == 0 || x.Seen
		x.Count, x.Args = 1, args
		return news
	})
}

// over takes notices back: one, or with a nil subject all of a code.
func (n *Node) over(code string, subject []byte) error {
	n.notices.mu.Lock()
	defer n.notices.mu.Unlock()
	rows := []store.Row{{Key: noticeKey(code, subject)}}
	if subject == nil {
		rows = nil
		if err := n.store.ScanRows(noticeKey(code, nil), noticesMax, func(k, _ []byte) bool {
			rows = append(rows, store.Row{Key: slices.Clone(k)})
			return true
		}); err != nil {
			return err
		}
	} else if _, err := n.store.GetRow(rows[0].Key); errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if len(rows) == 0 {
		return nil
	}
	defer n.dirty.tell()
	return n.store.PutRows(context.Background(), rows)
}

// seen notes that a person read every notice of a code.
func (n *Node) seen(ctx context.Context, code string) error {
	n.notices.mu.Lock()
	defer n.notices.mu.Unlock()
	var rows []store.Row
	var bad error
	if err := n.store.ScanRows(noticeKey(code, nil), noticesMax, func(k, v []byte) bool {
		var x notice
		if bad = record.Unmarshal(v, &x); bad != nil {
			return false
		}
		x.Seen = true
		if code == noticeRestored || code == noticeRepublished {
			x.Count = 0 // counts what happens from here on
		}
		value, err := record.Marshal(x)
		bad = err
		rows = append(rows, store.Row{Key: slices.Clone(k), Value: value})
		return bad == nil
	}); err != nil {
		return err
	}
	if bad != nil || len(rows) == 0 {
		return bad
	}
	defer n.dirty.tell()
	return n.store.PutRows(ctx, rows)
}

// told lists what staff have not read yet or what lasts, as the page names it.
func (n *Node) told() ([]web.Fault, error) {
	var out []web.Fault
	var bad error
	err := n.store.ScanRows([]byte("note/"), noticesMax, func(k, v []byte) bool {
		var x notice
		if bad = record.Unmarshal(v, &x); bad != nil {
			return false
		}
		code := string(k[len("note/"):])
		i := slices.Index(k[len("note/"):], '/')
		if i < 0 {
			return true // of no version known
		}
		code = code[:i]
		if !x.Seen && n.concerns(k[len("note/")+len(code)+1:]) {
			out = append(out, x.fault(code))
		}
		return true
	})
	if err := errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("reading notices: %w", err)
	}
	if stale, ok := n.staleView(); ok {
		out = append(out, stale)
	}
	return out, nil
}

// concerns reports whether what a notice is about is still part of the region. A
// box whose membership ended is nobody's worry any more.
func (n *Node) concerns(subject []byte) bool {
	if len(subject) != len(record.DeviceID{}) {
		return true
	}
	m, ok, err := n.store.Member(record.DeviceID(subject))
	return err != nil || !ok || m.Active()
}

func (x *notice) fault(code string) web.Fault {
	f := web.Fault{Code: code, Args: slices.Clone(x.Args)}
	switch code {
	case noticeRestored, noticeRepublished, noticeDictionary:
		f.Args = append([]string{strconv.FormatUint(x.Count, 10)}, f.Args...)
	}
	return f
}

// staleAfter is when the region's view is called old.
const staleAfter = 24 * time.Hour

// staleView tells when the newest final checkpoint is older than a day.
func (n *Node) staleView() (web.Fault, bool) {
	at := n.finalTime()
	if at == 0 || n.o.Now().Sub(time.Unix(at, 0)) <= staleAfter {
		return web.Fault{}, false
	}
	return web.Fault{Code: noticeStale, Args: []string{time.Unix(at, 0).UTC().Format(time.RFC3339)}}, true
}

// finalTime is when a majority of the hubs vouched for the newest final
// checkpoint of this box, Unix seconds; 0 without one.
func (n *Node) finalTime() int64 {
	note, _, ok := n.store.Final()
	if !ok {
		return 0
	}
	cp, err := record.OpenCheckpoint(n.ledgerID(), note, n.hubs())
	if err != nil {
		return 0
	}
	return cp.Time
}

// faultWords says for commands what the page says in its own language.
func faultWords(f web.Fault) string {
	arg := func(i int) string {
		if i < len(f.Args) {
			return f.Args[i]
		}
		return "?"
	}
	switch f.Code {
	case noticeRestored:
		return fmt.Sprintf("this box was restored from an older state: %s of its own records came back from %s", arg(0), arg(1))
	case noticeCloned:
		return fmt.Sprintf("the card of %s runs in two boards at once: both keep working; give one of them a box of its own and revoke this one", arg(0))
	case noticeRepublished:
		return fmt.Sprintf("%s records of this box were refused and written again in a new run; nothing was lost", arg(0))
	case noticeUnjust:
		return fmt.Sprintf("%s refused a record of this box that the rules allow: it is not believed, another hub gets it", arg(0))
	case noticeRolledBack:
		return fmt.Sprintf("%s was started from an older disk: it does not vote until it caught up under a new name", arg(0))
	case noticeTwoViews:
		return fmt.Sprintf("%s signed two different ledgers; less than a majority did: the region goes on, expel it ('healthpost evidence list' has the proof)", arg(0))
	case noticeSplitView:
		return "a majority of the hubs signed two different ledgers: nothing more is confirmed here, work goes on and waits ('healthpost evidence list' has the proof)"
	case noticeOtherLedger:
		return fmt.Sprintf("%s has verified another ledger than this box", arg(0))
	case noticePromise:
		return fmt.Sprintf("%s promised to order a record of this box and did not, since %s: another hub gets it ('healthpost evidence list' has the proof)", arg(0), arg(1))
	case noticeStale:
		return fmt.Sprintf("the regional view is as of %s, older than a day", arg(0))
	case noticeReset:
		return "a reset of the region would take back records that were confirmed here: nothing more is confirmed until that is settled"
	case noticeRepaired:
		return fmt.Sprintf("%s damaged records on this disk were mended from %s", arg(0), arg(1))
	case noticeDamaged:
		return fmt.Sprintf("%s records or rows on this disk are damaged: 'healthpost verify' names them and says what to do", arg(0))
	case noticeDictionary:
		return fmt.Sprintf("%s charts have records that cannot be read until a dictionary of the ledger comes", arg(0))
	case noticeForked:
		return fmt.Sprintf("%s signed two records for one place: what else it writes there is not ordered, both are kept", arg(0))
	}
	return f.Code
}
