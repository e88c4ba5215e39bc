package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// VerifyRequest says how much to check.
type VerifyRequest struct {
	Full   bool `json:"full"`   // everything, whatever was checked before
	Repair bool `json:"repair"` // fetch what is damaged again from other boxes; needs a running box
}

// Damage is one thing that verification found, in words.
type Damage struct {
	Where string `json:"where"`
	What  string `json:"what"`
	Box   string `json:"box,omitempty"`  // that wrote it
	When  string `json:"when,omitempty"` // ledger time, RFC 3339
	Until string `json:"until,omitempty"`
}

// VerifyReport is what a check found.
type VerifyReport struct {
	From     uint64        `json:"from"` // first entry that was read; those before were found sound earlier
	Entries  uint64        `json:"entries"`
	Pending  uint64        `json:"pending"`
	Size     uint64        `json:"size"`
	Root     string        `json:"root"`
	Took     time.Duration `json:"tookNanos"`
	LastFull time.Time     `json:"lastFull,omitzero"` // when everything was read last
	Damage   []Damage      `json:"damage"`            // what is left of it after a repair
	More     bool          `json:"more,omitempty"`    // there is more damage than listed
	Boxes    []string      `json:"boxes,omitempty"`   // whose records are damaged
	Since    string        `json:"since,omitempty"`   // ledger times that the damage spans, RFC 3339
	Until    string        `json:"until,omitempty"`
	Advice   []string      `json:"advice,omitempty"` // what to do, the most urgent first
	Repaired int           `json:"repaired"`         // damaged places that were put right
	Trouble  string        `json:"trouble,omitempty"`
}

// verifiedRow is where the last verification without damage ended.
type verifiedRow struct {
	_     struct{} `cbor:",toarray"`
	Size  uint64
	State []byte // store.Report.State
	At    int64  // Unix seconds of this box's clock
	Full  int64  // when everything was read last
}

var verifiedKey = []byte("verify/last")

// fullEvery is how long what was found sound is not read again: cards forget, and
// whoever changes a row behind the box's back waits for less.
const fullEvery = 7 * 24 * time.Hour

// Verify checks what is on disk: the replica against hashes, signatures, rules and
// tree, the newest final checkpoint against its cosignatures. Unless asked for
// everything it begins where an earlier check ended without damage, if everything
// was read within the last week.
func (n *Node) Verify(ctx context.Context, q VerifyRequest, progress func(Progress)) (VerifyReport, error) {
	if q.Repair && !n.isRunning() {
		return VerifyReport{}, ErrNotRunning
	}
	begun := time.Now()
	rep, full, err := n.verify(ctx, q.Full, store.VerifyOptions{}, progress)
	if err != nil {
		return VerifyReport{}, err
	}
	repaired := 0
	var trouble error
	if q.Repair && len(rep.Damage) > 0 {
		found := len(rep.Damage)
		if trouble = n.mendDamage(ctx, rep.Damage); ctx.Err() == nil {
			if rep, full, err = n.verify(ctx, true, store.VerifyOptions{}, progress); err != nil {
				return VerifyReport{}, err
			}
		}
		repaired = max(found-len(rep.Damage), 0)
		if err := n.tellDamage(repaired, len(rep.Damage)); err != nil {
			return VerifyReport{}, err
		}
	}
	out := n.describe(&rep, full)
	lines, err := n.verifyAccess()
	if err != nil {
		return VerifyReport{}, err
	}
	if out.Damage = append(out.Damage, lines...); len(lines) > 0 {
		out.Advice = append(out.Advice, "Lines of the access log of this box were taken away or changed on its disk: somebody with access to the machine did it. Tell who oversees the region, and keep a copy of the data folder.")
	}
	out.Repaired, out.Took = repaired, time.Since(begun)
	if trouble != nil && len(rep.Damage) > 0 {
		out.Trouble = trouble.Error()
	}
	return out, nil
}

// verify runs the check and keeps how far it came. lastFull is when everything was read last.
func (n *Node) verify(ctx context.Context, full bool, o store.VerifyOptions, progress func(Progress)) (rep store.Report, lastFull time.Time, err error) {
	now := n.o.Now()
	last := n.lastVerified()
	if at := time.Unix(last.Full, 0); !full && last.Full != 0 && now.Sub(at) < fullEvery && !now.Before(at) {
		o.From, o.State = last.Size, last.State
	}
	rep, err = n.store.Verify(ctx, o, func(done, total uint64) { progress(Progress{done, total}) })
	if err != nil {
		return rep, lastFull, err
	}
	if err := n.verifyFinal(); err != nil {
		rep.Damage = append(rep.Damage, store.DamageError{Key: "final checkpoint", What: err.Error()})
	}
	if gone, err := n.emptied(); err != nil {
		return rep, lastFull, err
	} else if gone {
		rep.Damage = append(rep.Damage, store.DamageError{Key: "db", What: "it is gone or empty, although this box belongs to a region"})
	}
	next := verifiedRow{Size: rep.Head.Size, State: rep.State, At: now.Unix(), Full: last.Full}
	if rep.From == 0 {
		next.Full = now.Unix()
	}
	lastFull = time.Unix(next.Full, 0).UTC() // what was passed over now was read then, whatever is found now
	if len(rep.Damage) > 0 {
		next = verifiedRow{State: []byte{}} // the next one reads everything
	}
	if n.o.Store.Salvage || n.store.Err() != nil || len(rep.Damage) == 0 && rep.State == nil {
		return rep, lastFull, nil
	}
	value, err := record.Marshal(next)
	if err == nil {
		err = n.store.PutRowsSoon(ctx, []store.Row{{Key: verifiedKey, Value: value}})
	}
	if errors.Is(err, store.ErrFull) {
		err = nil
	}
	return rep, lastFull, err
}

// lastVerified is zero when nothing was, or when that cannot be read.
func (n *Node) lastVerified() verifiedRow {
	var last verifiedRow
	raw, err := n.store.GetRow(verifiedKey)
	if err != nil || record.Unmarshal(raw, &last) != nil {
		return verifiedRow{}
	}
	return last
}

// verifyFinal checks the newest final checkpoint with the hubs of its size: those
// of the ledger may have changed since.
func (n *Node) verifyFinal() error {
	note, final, ok := n.store.Final()
	if !ok {
		return nil
	}
	then, err := n.hubsAt(final.Size)
	if err != nil {
		return err
	}
	ledger := n.ledgerID()
	var errs []error
	for _, g := range []uint64{ledger.Generation, ledger.Generation - 1} { // right after a reset it is the old one's
		for _, hubs := range [][]record.DeviceID{n.hubs(), then} {
			cp, err := record.VerifyFinal(ledger.Region.Ledger(g), note, hubs)
			if err == nil && cp.Head == final {
				return nil
			}
			errs = append(errs, err)
		}
	}
	return fmt.Errorf("the checkpoint of size %d: its cosignatures do not hold: %w", final.Size, errors.Join(errs[0]))
}

// hubsAt are the hubs of the ledger when it had a size, by when they came and went.
func (n *Node) hubsAt(size uint64) ([]record.DeviceID, error) {
	members, err := n.store.Members()
	if err != nil {
		return nil, err
	}
	var out []record.DeviceID
	for _, m := range members {
		if m.Role.Orders() && m.SinceSeq < size && (m.Active() || m.RevokedSeq >= size) {
			out = append(out, m.Device)
		}
	}
	return out, nil
}

func (n *Node) describe(rep *store.Report, lastFull time.Time) VerifyReport {
	head := n.store.Head()
	out := VerifyReport{From: rep.From, Entries: rep.Entries, Pending: rep.Pending, Size: head.Size, Root: fmt.Sprintf("%x", head.Root[:]), LastFull: lastFull,
		Damage: []Damage{}, More: rep.More}
	for i := range rep.Damage {
		d := n.describeDamage(&rep.Damage[i])
		out.Damage = append(out.Damage, d)
		if d.Box != "" && !slices.Contains(out.Boxes, d.Box) {
			out.Boxes = append(out.Boxes, d.Box)
		}
		if d.When != "" && (out.Since == "" || d.When < out.Since) { // UTC: they sort as text
			out.Since = d.When
		}
		out.Until = max(out.Until, d.When, d.Until)
	}
	out.Advice = n.advice(rep.Damage)
	return out
}

func (n *Node) describeDamage(d *store.DamageError) Damage {
	out := Damage{Where: d.Key, What: d.What}
	switch {
	case d.RID != (record.RID{}):
		out.Where = "record " + d.RID.String()
	case d.HasSeq && d.End > d.Seq+1:
		out.Where = fmt.Sprintf("entries %d to %d", d.Seq, d.End-1)
	case d.HasSeq:
		out.Where = fmt.Sprintf("entry %d", d.Seq)
	}
	if d.Device != (record.DeviceID{}) {
		out.Box = n.deviceName(d.Device)
	}
	if d.Time != 0 {
		out.When = time.Unix(d.Time, 0).UTC().Format(time.RFC3339)
	}
	if d.Until != 0 && d.Until != d.Time {
		out.Until = time.Unix(d.Until, 0).UTC().Format(time.RFC3339)
	}
	return out
}

// advice says what to do about damage.
func (n *Node) advice(found []store.DamageError) []string {
	if len(found) == 0 {
		return nil
	}
	if slices.ContainsFunc(found, func(d store.DamageError) bool { return d.Key == "db" }) {
		return []string{"Bring the folder db back from where it went or from a copy. Without one, make a new box in an empty folder and join with that."}
	}
	ordered, own, table := false, false, false
	for i := range found {
		table = table || strings.HasPrefix(found[i].Key, "index/")
		ordered = ordered || found[i].HasSeq
		own = own || !found[i].HasSeq && found[i].RID != (record.RID{})
	}
	out := []string{"Copy the data folder to another disk before anything else: one that damages records may damage more."}
	if own {
		out = append(out, "Records that had no place in the ledger yet may exist on this box alone: bring it together with the boxes it last met, so that they give back what they hold.")
	}
	switch {
	case table:
		out = append(out, "A file of the database is spoilt. Stop the box and start it with 'healthpost run': it makes the database anew from what is sound, keeps the damaged one beside it, and fetches the rest from other boxes.")
	case ordered && n.isRunning():
		out = append(out, "The box fetches entries of the ledger again from another box by itself once it meets one; 'healthpost verify --repair' does it now.")
	case ordered:
		out = append(out, "Start the box with 'healthpost run': it fetches entries of the ledger again from another box, and makes the rest anew.")
	default:
		out = append(out, "Start the box with 'healthpost run' and check again with 'healthpost verify --full': what can be computed from sound records is made anew.")
	}
	return out
}

// verifyHandler answers the command.
func (n *Node) verifyHandler() http.HandlerFunc {
	return n.streamed(func(ctx context.Context, r *http.Request, progress func(any)) (any, error) {
		q := VerifyRequest{Full: r.URL.Query().Get("full") == "true", Repair: r.URL.Query().Get("repair") == "true"}
		return n.Verify(ctx, q, func(p Progress) { progress(p) })
	})
}

// Verify does on the box what the method of the same name on Node says.
func (c *Client) Verify(ctx context.Context, q VerifyRequest, progress func(Progress)) (rep VerifyReport, err error) {
	err = c.stream(ctx, fmt.Sprintf("/verify?full=%t&repair=%t", q.Full, q.Repair), nil, 0, progress, &rep)
	return rep, err
}
