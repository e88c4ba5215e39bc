package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// Sheets of an escrow open a closed chart at a box, for who may recover there:
//
//  1. rules, PIN; the sheets give the key of an escrow that the ledger has
//  2. the chart's keys, wrapped to this box; the use, signed by the escrow; a permission to this
//     box; the access line                                       <- one synced transaction
//  3. the chart opens here, and other boxes hand it keys as to every box with a permission
//
// Stopped before 2, nothing changed. What the sheets say is in memory alone, and cleared.

// EscrowRequest asks to open a chart with sheets, or with Test to try them.
type EscrowRequest struct {
	Chart  string   `json:"chart"` // may be left out with Test
	By     string   `json:"by"`    // id of the account
	PIN    string   `json:"pin"`
	Shares []string `json:"shares"`
	Days   int      `json:"days"` // of the permission; 0: without end
	Test   bool     `json:"test"`
}

// EscrowOpened is what came of it.
type EscrowOpened struct {
	Key    string    `json:"key"`
	Keys   int       `json:"keys"`            // of the chart that the sheets opened
	Others []string  `json:"others"`          // escrows whose sheets open what these do not
	Until  time.Time `json:"until,omitzero"`  // zero: without end
	Tested bool      `json:"tested,omitzero"` // nothing was opened
}

// OpenEscrowBy is OpenEscrow for who signs in for this alone.
func (n *Node) OpenEscrowBy(ctx context.Context, q EscrowRequest) (EscrowOpened, error) {
	token, err := n.SignIn(ctx, q.By, q.PIN)
	if err != nil {
		return EscrowOpened{}, err
	}
	defer n.SignOut(context.WithoutCancel(ctx), token)
	out, err := n.OpenEscrow(ctx, web.Session{Token: token}, q)
	var gone *web.ErasedError
	if errors.As(err, &gone) {
		return out, fmt.Errorf("opening with sheets: the chart was erased on %s", gone.At.Format("2006-01-02"))
	}
	return out, err
}

// OpenEscrow opens a chart with sheets. The records and the line in the access log are durable on return.
// Sheets that do not open an escrow of this region leave a refused line; the error wraps seal.ErrEscrow.
func (n *Node) OpenEscrow(ctx context.Context, s web.Session, q EscrowRequest) (EscrowOpened, error) {
	if q.Test && q.Chart == "" {
		return n.drillEscrow(ctx, s, q.Shares)
	}
	in, err := n.allow(ctx, s, policy.Recover, q.Chart)
	if err != nil {
		return EscrowOpened{}, err
	}
	c, _, err := n.eraseTarget(q.Chart, "")
	if err != nil {
		return EscrowOpened{}, explain(err)
	}
	key, err := n.escrowOf(q.Shares)
	if err == nil {
		defer key.Clear()
	}
	var r *recovery
	if err == nil {
		r, err = n.recovery(c, key)
	}
	if err != nil {
		return EscrowOpened{}, errors.Join(err, n.refuseSheets(ctx, in, c, err))
	}
	if q.Test {
		r.opened.Tested = true
		return r.opened, explain(n.noteLine(ctx, n.lineOf(in, accessDrill, c[:])))
	}
	return r.opened, n.recover(ctx, in, r, q.Days)
}

// refuseSheets leaves the line that sheets did not open what they were brought for.
func (n *Node) refuseSheets(ctx context.Context, in *signedIn, c record.CompartmentID, why error) error {
	if !errors.Is(why, seal.ErrEscrow) {
		return nil
	}
	err := n.noteLine(ctx, n.lineOf(in, actionCode(policy.Recover)|accessRefused, c[:]))
	if errors.Is(err, store.ErrFull) {
		return nil
	}
	return explain(err)
}

// drillEscrow tells whether sheets give the key of an escrow, of no chart.
func (n *Node) drillEscrow(ctx context.Context, s web.Session, shares []string) (EscrowOpened, error) {
	in, err := n.allow(ctx, s, policy.Recover, "")
	if err != nil {
		return EscrowOpened{}, err
	}
	key, err := n.escrowOf(shares)
	line := n.lineOf(in, accessDrill, nil)
	if err != nil {
		line.Action |= uint8(accessRefused)
		return EscrowOpened{}, errors.Join(err, explain(n.noteLine(ctx, line)))
	}
	defer key.Clear()
	return EscrowOpened{Key: seal.PublicKeyID(key.Public()).String(), Others: []string{}, Tested: true}, explain(n.noteLine(ctx, line))
}

// escrowOf gives the key that sheets give together, of an escrow that is or was in force here.
func (n *Node) escrowOf(texts []string) (*seal.EscrowKey, error) {
	if len(texts) > record.EscrowSheetsMax {
		return nil, fmt.Errorf("%w: %d sheets", seal.ErrEscrow, len(texts))
	}
	shares := make([]seal.EscrowShare, 0, len(texts))
	defer func() {
		for i := range shares {
			shares[i].Clear()
		}
	}()
	for i, text := range texts {
		s, err := seal.ParseEscrowShare(text)
		if err != nil {
			return nil, fmt.Errorf("share %d: %w", i+1, err)
		}
		shares = append(shares, s)
	}
	key, err := seal.OpenEscrow(shares)
	if err != nil {
		return nil, err
	}
	list, err := record.EscrowsOf(n.store.State())
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(list, func(e record.OrderedEscrow) bool {
		return slices.Equal(e.Public, key.Public().Bytes()) && slices.Equal(e.Verifier, key.Verifier())
	}) {
		key.Clear()
		return nil, fmt.Errorf("%w: the hubs of this region never voted for key %s", seal.ErrEscrow, shares[0].Key)
	}
	return key, nil
}

// recovery is what sheets open of one chart.
type recovery struct {
	c      record.CompartmentID
	key    *seal.EscrowKey
	heads  []dek // that hold all others which the escrow opens
	opened EscrowOpened
}

// recovery looks for what the escrow opens. Closed keys of which none is for it are an error, which
// wraps seal.ErrEscrow and names whose sheets are wanted.
func (n *Node) recovery(c record.CompartmentID, key *seal.EscrowKey) (*recovery, error) {
	own := seal.PublicKeyID(key.Public())
	r := &recovery{c: c, key: key, opened: EscrowOpened{Key: own.String(), Others: []string{}}}
	list, err := record.EscrowsOf(n.store.State())
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, e := range list {
		known[escrowID(e.Public)] = true
	}
	var wraps []seal.Wrap
	found, others := map[uint64]seal.Key{}, map[uint64]string{}
	err = n.eachWrap(c, func(w seal.Wrap, _ record.DeviceID) {
		wraps = append(wraps, w)
		switch id := w.Recipient.String(); {
		case !seal.IsClosed(w.Generation):
		case w.Recipient == own:
			if k, err := key.Unwrap(w); err == nil && k.IsGeneration(w.Generation) {
				found[w.Generation] = k
			}
		case known[id]:
			others[w.Generation] = id
		}
	})
	if err != nil {
		return nil, err
	}
	r.follow(wraps, found)
	for gen, id := range others {
		if _, opens := found[gen]; !opens && !slices.Contains(r.opened.Others, id) {
			r.opened.Others = append(r.opened.Others, id)
		}
	}
	slices.Sort(r.opened.Others)
	if len(r.heads) == 0 && len(others) > 0 {
		return nil, fmt.Errorf("%w: no key of this chart was wrapped to %s: bring sheets of %s", seal.ErrEscrow, own, strings.Join(r.opened.Others, ", "))
	}
	return r, nil
}

// follow adds to the keys found those that they hold, the newest first.
func (r *recovery) follow(wraps []seal.Wrap, found map[uint64]seal.Key) {
	gens := slices.SortedFunc(maps.Keys(found), func(a, b uint64) int { return cmp.Compare(b, a) })
	older := map[uint64]bool{}
	for _, gen := range gens {
		if older[gen] {
			continue
		}
		under, _ := seal.OpenChain(wraps, map[uint64]seal.Key{gen: found[gen]})
		for g, k := range under {
			older[g], found[g] = true, k
		}
	}
	for _, gen := range gens {
		if !older[gen] {
			r.heads = append(r.heads, dek{gen, found[gen]})
		}
	}
	for gen := range found {
		if seal.IsClosed(gen) {
			r.opened.Keys++
		}
	}
}

// recover writes down the use, with the keys for this box and its permission.
func (n *Node) recover(ctx context.Context, in *signedIn, r *recovery, days int) error {
	unlock := n.forms.lock("decide " + r.c.String())
	defer unlock()
	known, err := n.directives(r.c)
	if err != nil {
		return err
	}
	s := known.standingOf(n.author.Device)
	if !s.Limited || s.Home {
		return fmt.Errorf("opening with sheets: %w: no patient's limit closes it here", web.ErrChartOpen)
	}
	d, err := n.recoveryGrant(&known, days)
	if err != nil {
		return err
	}
	if d.Until > 0 {
		r.opened.Until = timeOfSeconds(d.Until)
	}
	drafts, err := n.recoveryDrafts(in, r, &d)
	if err != nil {
		return explain(err)
	}
	if err := n.openEpoch(ctx); err != nil {
		return explain(err)
	}
	if err := n.placeNoted(ctx, drafts, n.lineOf(in, actionCode(policy.Recover), r.c[:]), nil); err != nil {
		return explain(err)
	}
	n.recount()
	return explain(unlessFull(n.projectNow())) // the lists follow later on a disk that became full
}

// recoveryGrant is the permission to this box: for so many days, or without end where no box at home is
// a member any more.
func (n *Node) recoveryGrant(known *directives, days int) (chart.Directive, error) {
	d := chart.Directive{Decision: chart.DecisionGrant, Grantee: n.author.Device, Purposes: []string{policy.Treatment}}
	rand.Read(d.ID[:]) // never fails: it ends the process instead
	if days < 0 || days > web.DecisionDaysMax {
		return d, fmt.Errorf("opening with sheets: for 1 to %d days", web.DecisionDaysMax)
	}
	if days > 0 {
		d.Until = n.grantTime().AddDate(0, 0, days).Unix()
	}
	con := known.consent()
	homes := slices.Clone(known.homes)
	for _, l := range con.Limits {
		homes = append(homes, l.By)
	}
	for _, box := range homes {
		m, ok, err := n.store.Member(box)
		if err != nil {
			return d, err
		}
		if ok && m.Active() && days == 0 {
			return d, fmt.Errorf("opening with sheets: %s is at home with this chart and a member still: say for how many days, or revoke it first", n.deviceName(box))
		}
	}
	var err error
	d.Seen, err = chart.Seen(known.all)
	return d, err
}

// recoveryDrafts are the records: keys, use, permission.
func (n *Node) recoveryDrafts(in *signedIn, r *recovery, d *chart.Directive) ([]store.Draft, error) {
	var wraps []seal.Wrap
	for _, k := range r.heads {
		w, err := seal.WrapKeyTo(n.keys.ExchangeKey().PublicKey(), r.c, k.gen, k.key)
		if err != nil {
			return nil, err
		}
		wraps = append(wraps, w)
	}
	drafts, err := (&lineage{c: r.c}).drafts(in.n, wraps)
	if err != nil {
		return nil, err
	}
	region, _ := n.box.RegionID()
	u := record.EscrowUse{V: 1, Verifier: r.key.Verifier(), Compartment: r.c[:], Directive: d.ID[:], Until: uint64(d.Until),
		Signature: r.key.Sign(record.EscrowUseClaim(region, n.author.Device, r.c, d.ID[:], uint64(d.Until)))}
	use, err := record.Marshal(u)
	if err != nil {
		return nil, err
	}
	plain, err := chart.EncodeDirective(*d)
	if err == nil {
		plain, err = n.cosign(in, record.KindConsent, r.c, plain)
	}
	if err != nil {
		return nil, err
	}
	consent, err := n.sealedDraft(record.LaneControl, record.KindConsent, r.c, in.n, plain)
	if err != nil {
		return nil, err
	}
	return append(drafts, store.Draft{Lane: record.LaneControl, Kind: record.KindEscrowUse, Session: in.n,
		Seal: func(record.Position) ([]byte, error) { return use, nil }}, consent), nil
}
