package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// ResetRequest asks this stopped box to go on ordering when most hubs are lost for
// good.
type ResetRequest struct {
	Sheets []Sheet
	// Collect is how long other boxes are asked for what they hold and this one
	// does not; 0 is CollectDefault.
	Collect time.Duration
	Force   bool // reset although hubs answer that could go on without it
}

// ResetReport is what a reset did.
type ResetReport struct {
	Generation uint64   `json:"generation"`
	Size       uint64   `json:"size"` // of the ledger, the reset included
	Root       string   `json:"root"`
	Collected  uint64   `json:"collected"` // entries that came from other boxes first
	Met        []string `json:"met"`       // boxes that answered
	Missed     []string `json:"missed"`    // active members that did not
	Hubs       []string `json:"hubs"`      // who orders from here on
}

// CollectDefault is long enough for a box on a slow link to connect and answer.
const CollectDefault = 2 * time.Minute

const (
	collectQuiet = 10 * time.Second // nothing more came, from anybody
	collectLook  = 250 * time.Millisecond
	resetTimeout = 5 * time.Minute
	leadLook     = 50 * time.Millisecond
)

// resetPlan is kept from the moment raft is about to be reset until all of it is
// done, so that the same command goes on where one was cut short.
type resetPlan struct {
	_          struct{} `cbor:",toarray"`
	Generation uint64
	At         int64 // Unix seconds of this box's clock
	Done       bool
}

var resetPlanKey = []byte("reset/plan")

// Reset begins a new generation of the ledger on this stopped box:
//
//  1. what other boxes hold of the ledger, and this one does not, is fetched
//  2. raft is reset: this box votes alone
//  3. the box's opening record and the reset, signed by the sheets, are ordered  <- the commit point
//  4. the first checkpoint of the generation, which is final by this hub alone
//
// It is the only hub then: the others cannot verify what a generation begins with
// before a majority of its hubs signed that, so no two can begin one together. A
// hub that is still there joins anew, in an empty folder.
//
// A box that was no hub is one afterwards. Cut short anywhere, the same command
// goes on. say is told each step in words.
func Reset(ctx context.Context, o Options, q ResetRequest, say func(string)) (rep ResetReport, err error) {
	o.Page, o.LogAddress = "", ""
	n, err := Open(o)
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := n.mayReset(q.Sheets); err != nil {
		return rep, err
	}
	plan, err := n.resetPlan()
	if err != nil {
		return rep, err
	}
	generation := n.ledgerID().Generation
	begun := plan.Generation == generation && !plan.Done
	if !begun {
		if err := n.collect(ctx, q, &rep, say); err != nil {
			return rep, err
		}
		generation++
		if err := n.putResetPlan(ctx, resetPlan{Generation: generation, At: n.o.Now().Unix()}); err != nil {
			return rep, err
		}
	}
	was := n.box.Role
	if !was.Orders() {
		n.box.Role, n.box.Began = record.RoleHub, was
	}
	if err := n.reset(ctx, q, generation, say); err != nil {
		return rep, err
	}
	if !was.Orders() {
		if err := n.box.save(); err != nil {
			return rep, err
		}
		say("This box is a hub now.")
	}
	if err := n.putResetPlan(ctx, resetPlan{Generation: generation, At: n.o.Now().Unix(), Done: true}); err != nil {
		return rep, err
	}
	if n.frozen() {
		if err := n.ClearEvidence(ctx); err != nil {
			return rep, err
		}
	}
	head := n.store.Head()
	rep.Generation, rep.Size, rep.Root = generation, head.Size, fmt.Sprintf("%x", head.Root[:])
	for _, d := range n.store.Hubs() {
		rep.Hubs = append(rep.Hubs, n.deviceName(d))
	}
	return rep, nil
}

// mayReset checks everything that can be checked before anything changes.
func (n *Node) mayReset(sheets []Sheet) error {
	if _, ok := n.box.RegionID(); !ok {
		return ErrNoRegion
	}
	if m, ok, err := n.store.Member(n.author.Device); err != nil || !ok || !m.Active() {
		return errors.Join(err, fmt.Errorf("resetting: this box is no active member of the region: use another one"))
	}
	keys, ok, err := record.RecoveryOf(n.store.State())
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("resetting: no recovery sheets were ever agreed in this region ('healthpost region recovery create'), so nobody can")
	}
	signers, err := recoverySigners(keys, sheets)
	if err != nil {
		return err
	}
	if missing := int(keys.Needed) - len(signers); missing > 0 {
		return fmt.Errorf("resetting: %d sheets of this region were given, %d are needed: add %d with --sheet FILE", len(signers), keys.Needed, missing)
	}
	return nil
}

// recoverySigners finds each sheet among the region's recovery keys, by index.
func recoverySigners(keys record.Recovery, sheets []Sheet) (map[uint64]Sheet, error) {
	out := map[uint64]Sheet{}
	for _, s := range sheets {
		i := slices.IndexFunc(keys.Keys, func(k []byte) bool { return string(k) == string(s.Public()) })
		if i < 0 {
			var known []string
			for _, k := range keys.Keys {
				known = append(known, recoveryKeyID(k))
			}
			return nil, fmt.Errorf("resetting: the sheet with key %s is none of this region's, which are %s", s.KeyID(), strings.Join(known, ", "))
		}
		out[uint64(i)] = s
	}
	return out, nil
}

func (n *Node) resetPlan() (p resetPlan, err error) {
	_, err = n.plainRow(resetPlanKey, &p)
	return p, err
}

func (n *Node) putResetPlan(ctx context.Context, p resetPlan) error {
	row, err := putPlain(resetPlanKey, p)
	if err != nil {
		return err
	}
	return n.store.PutRows(ctx, []store.Row{row})
}

// collect fetches what other boxes hold of the ledger, as a clinic does, from
// every member that can be reached or calls.
func (n *Node) collect(ctx context.Context, q ResetRequest, rep *ResetReport, say func(string)) error {
	before := n.store.Head().Size
	members, err := n.store.Members()
	if err != nil {
		return err
	}
	dial := n.o.Dial
	n.collecting, n.o.Dial = true, slices.Concat(dial, n.everybody(members))
	defer func() { n.collecting, n.o.Dial = false, dial }()
	l, err := n.newLinks()
	if err != nil {
		return err
	}
	limit := q.Collect
	if limit <= 0 {
		limit = CollectDefault
	}
	say(fmt.Sprintf("Asking the other boxes of the region what they hold, for up to %s. This box holds %d entries.", limit, before))
	run, stop := context.WithTimeout(ctx, limit)
	defer stop()
	g, run := errgroup.WithContext(run)
	g.Go(func() error { return l.run(run) })
	met := map[record.DeviceID]bool{}
	g.Go(func() error {
		defer stop()
		n.gather(run, l, met, len(members), say)
		return nil
	})
	err = errors.Join(g.Wait(), l.close())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	rep.Collected, rep.Met, rep.Missed = n.store.Head().Size-before, []string{}, []string{}
	for _, m := range members {
		switch {
		case m.Device == n.author.Device || !m.Active():
		case met[m.Device]:
			rep.Met = append(rep.Met, m.Name)
		default:
			rep.Missed = append(rep.Missed, m.Name)
		}
	}
	say(fmt.Sprintf("%d entries came from other boxes. Answered: %s. Not heard from: %s.", rep.Collected, listOr(rep.Met, "nobody"), listOr(rep.Missed, "nobody")))
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = nil
	}
	if err == nil && !q.Force {
		err = n.mustReset(met)
	}
	return err
}

// mustReset refuses while more than half of the hubs are there. Raft asks them
// too, but this box is connected to nobody by then.
func (n *Node) mustReset(met map[record.DeviceID]bool) error {
	hubs, here := n.store.Hubs(), 0
	if len(hubs) == 1 && hubs[0] == n.author.Device {
		return fmt.Errorf("resetting: %w: this box is the only hub already, of generation %d: start it with 'healthpost run'", raftlog.ErrMajorityAnswers, n.ledgerID().Generation)
	}
	for _, d := range hubs {
		if met[d] || d == n.author.Device {
			here++
		}
	}
	if here <= len(hubs)/2 {
		return nil
	}
	return errStillOrdered
}

var errStillOrdered = fmt.Errorf("resetting: %w: the region can go on without a reset; expel lost hubs with 'healthpost region hubs expel'", raftlog.ErrMajorityAnswers)

// gather waits until nothing more comes: every other member answered, or all that
// do have been quiet, and something may still call until the time is up.
func (n *Node) gather(ctx context.Context, l *links, met map[record.DeviceID]bool, members int, say func(string)) {
	tick := time.NewTicker(collectLook)
	defer tick.Stop()
	quiet, size := time.Now(), n.store.Head().Size
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := n.store.Head().Size; now != size {
			quiet, size = time.Now(), now
		}
		live := l.live.Load()
		if live == nil {
			continue
		}
		for _, p := range live.Peers() {
			if p.Connected && !met[p.Device] {
				met[p.Device], quiet = true, time.Now()
				say(fmt.Sprintf("%s answers.", n.deviceName(p.Device)))
			}
		}
		if len(met) >= members-1 && time.Since(quiet) > collectQuiet {
			return
		}
	}
}

func listOr(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, ", ")
}

// everybody is where members said they can be reached.
func (n *Node) everybody(members []record.Member) []string {
	var out []string
	for _, m := range members {
		if m.Active() && m.Device != n.author.Device {
			out = append(out, m.Addresses...)
		}
	}
	return out
}

// reset makes this box vote alone and orders the reset.
func (n *Node) reset(ctx context.Context, q ResetRequest, generation uint64, say func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, resetTimeout)
	defer cancel()
	l, err := n.newLinks()
	if err != nil {
		return err
	}
	order, err := n.newOrdering(l)
	if err != nil {
		return errors.Join(err, l.close())
	}
	err = order.raft.Reset(ctx, raftlog.ResetOptions{Generation: generation, Force: q.Force})
	if errors.Is(err, raftlog.ErrMajorityAnswers) {
		err = errStillOrdered
	}
	if err != nil {
		return errors.Join(err, order.raft.Close(), l.close())
	}
	say("Ordering goes on from this box alone.")
	run, stop := context.WithCancel(ctx)
	g, run := errgroup.WithContext(run)
	g.Go(func() error { return order.raft.Run(run) })
	g.Go(func() error { return order.cosigner.run(run) })
	g.Go(func() error {
		defer stop()
		return n.orderReset(run, order, q, generation, say)
	})
	err = g.Wait()
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		err = nil
	}
	return errors.Join(err, order.raft.Close(), l.close())
}

// orderReset writes the reset at the end of the ledger and waits until the
// generation has begun and is confirmed.
func (n *Node) orderReset(ctx context.Context, order *ordering, q ResetRequest, generation uint64, say func(string)) error {
	for !order.raft.IsLeader() || n.store.Head().Size == 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("resetting: waiting to lead: %w", ctx.Err())
		case <-time.After(leadLook):
		}
	}
	if n.ledgerID().Generation < generation {
		if err := n.writeReset(ctx, order, q, generation); err != nil {
			return fmt.Errorf("resetting: %w", err)
		}
	}
	say(fmt.Sprintf("Generation %d of the ledger has begun, at %d entries.", generation, n.store.Head().Size))
	for changed := n.store.Subscribe(ctx); ; {
		if note, head, ok := n.store.Final(); ok && head == n.store.Head() {
			if _, err := record.VerifyFinal(n.ledgerID(), note, n.store.Hubs()); err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("resetting: waiting for the first checkpoint: %w", ctx.Err())
		case <-changed:
		}
	}
}

// writeReset orders this box's opening record, then the reset that names the
// ledger as it is then.
func (n *Node) writeReset(ctx context.Context, order *ordering, q ResetRequest, generation uint64) error {
	if err := n.openEpoch(ctx); err != nil {
		return err
	}
	n.own.mu.Lock()
	epoch := n.own.current
	n.own.mu.Unlock()
	opening, ok, err := n.store.Held(record.Position{Epoch: epoch})
	if err != nil || !ok {
		return errors.Join(err, errors.New("the opening record is not on this box"))
	}
	if err := orderOne(ctx, order, opening); err != nil {
		return err
	}
	body, err := n.resetBody(q, generation)
	if err != nil {
		return err
	}
	placed, err := n.store.Append(ctx, []store.Draft{{Lane: record.LaneControl, Kind: record.KindReset, Seal: func(record.Position) ([]byte, error) { return body, nil }}}, nil)
	if err != nil {
		return err
	}
	return orderOne(ctx, order, placed[0])
}

func orderOne(ctx context.Context, order *ordering, r record.Record) error {
	for {
		out, err := order.raft.Submit(ctx, []record.Record{r})
		if errors.Is(err, raftlog.ErrNotLeader) || errors.Is(err, raftlog.ErrOutcomeUnknown) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(leadLook):
			}
			continue
		}
		if err != nil {
			return err
		}
		if v := out[0].Verdict; v != record.Ordered && v != record.Duplicate {
			return fmt.Errorf("record %s: the rules refuse it: %s", r.RID().Short(), v)
		}
		return nil
	}
}

// resetBody is the statement, signed by the sheets.
func (n *Node) resetBody(q ResetRequest, generation uint64) ([]byte, error) {
	region, _ := n.box.RegionID()
	self := n.selfMember()
	self.Role = record.RoleHub
	if m, ok, err := n.store.Member(n.author.Device); err == nil && ok && m.Role.Orders() {
		self.Role = m.Role
	}
	reset := record.Reset{Generation: generation, Members: []record.MemberAdd{self}}
	head := n.store.Head()
	reset.Size, reset.Root = head.Size, head.Root[:]
	keys, _, err := record.RecoveryOf(n.store.State())
	if err != nil {
		return nil, err
	}
	signers, err := recoverySigners(keys, q.Sheets)
	if err != nil {
		return nil, err
	}
	claim := record.ResetClaim(region, reset.Generation, reset.Size, head.Root, reset.Members)
	for i := range uint64(len(keys.Keys)) {
		if s, ok := signers[i]; ok {
			reset.Signatures = append(reset.Signatures, record.ResetSignature{Key: i, Sig: s.sign(claim)})
		}
	}
	if err := reset.Verify(region, keys); err != nil {
		return nil, err
	}
	body, err := record.Marshal(reset)
	if err != nil {
		return nil, err
	}
	_, err = record.DecodeReset(body)
	return body, err
}

// resetHere: this box began the generation, so that it calls the others, who may
// not know yet where to find it.
func (n *Node) resetHere() bool {
	p, err := n.resetPlan()
	return err == nil && p.Done && p.Generation == n.ledgerID().Generation && n.o.Now().Sub(time.Unix(p.At, 0)) < callAfterReset
}

// callAfterReset is how long a box that began a generation calls every member.
const callAfterReset = 90 * 24 * time.Hour
