package raftlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
)

// RolledBack says that this disk forgot what its server had pledged: it is an
// older image of itself, or another hub took its place.
type RolledBack struct {
	By     record.DeviceID // the hub that remembers
	Server string          // the name that is given up
	Voted  uint64          // a term in which it voted
	Term   uint64          // a leader's term in which it held the log up to Index
	Index  uint64
	// HadTerm and HadIndex are what its disk knew.
	HadTerm, HadIndex uint64
	// Replaced: the other hubs already know this device by another name.
	Replaced bool
}

// errRolledBack: the raft state was dropped and raft starts as a new server.
var errRolledBack = errors.New("raft state dropped")

const (
	inquiryPauseMin = 250 * time.Millisecond
	inquiryPauseMax = 3 * time.Second
	// termsSkipped are passed over when not every hub could say which terms this
	// one voted in and nobody leads: more elections than a hub can have missed.
	termsSkipped = 100
)

// inquiry finds out, before raft runs, whether this disk remembers everything
// that its server pledged.
//
// It asks every hub that the disk or the ledger names, for Profile.RestoreWait
// at least while one of them is silent, and goes on once those that answered
// make a majority of the voters together with this one. What a hub pledged to a
// hub that is still silent then is known to the others up to Profile.Share
// before it fell silent.
type inquiry struct {
	n    *Node
	link link
	disk diskState

	said map[record.DeviceID]testimony
}

// inquire does the inquiry once in the life of a node. The term that raft starts
// in is one in which this hub never voted without knowing it. done is false when
// ctx ended before.
func (n *Node) inquire(ctx context.Context, l link) (done bool, err error) {
	disk := n.disk.Load()
	if n.inquired || disk.empty() {
		return true, nil
	}
	n.asking.Store(true)
	defer n.asking.Store(false)
	q := &inquiry{n: n, link: l, disk: *disk, said: map[record.DeviceID]testimony{}}
	if lost, err := q.orphan(ctx); lost || err != nil {
		return false, err
	}
	began := time.Now()
	for pause := inquiryPauseMin; !n.outlived(); pause = min(2*pause, inquiryPauseMax) {
		others, voters := q.others()
		weigh := func(d record.DeviceID, t testimony) (bool, error) { return q.weigh(ctx, d, t) }
		if lost, err := q.round(ctx, others, weigh); lost || err != nil {
			return false, err
		}
		if q.widowed() {
			return false, q.goAlone()
		}
		all := len(q.said) == len(others)
		if all || time.Since(began) >= n.o.Profile.RestoreWait && q.majority(voters) {
			n.inquired = true
			return true, q.settle(all)
		}
		n.log.Debug().Int("asked", len(others)).Int("answered", len(q.said)).Msg("asking the other hubs before voting")
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(pause):
		}
	}
	return false, errReopen
}

// others are the hubs to ask, and the voters among the servers on this disk.
func (q *inquiry) others() (others []record.DeviceID, voters []raft.Server) {
	add := func(d record.DeviceID) {
		if d != q.n.o.Device && !slices.Contains(others, d) {
			others = append(others, d)
		}
	}
	for _, s := range q.disk.config.Servers {
		if d, err := deviceAt(s.Address); err == nil {
			add(d)
		}
	}
	for _, d := range q.n.o.Hubs() {
		add(d)
	}
	for d := range q.said {
		if !slices.Contains(others, d) { // revoked meanwhile
			delete(q.said, d)
		}
	}
	return others, votersOf(q.disk.config.Configuration)
}

// majority reports whether who answered and this hub are more than half of the
// voters.
func (q *inquiry) majority(voters []raft.Server) bool {
	here := 0
	for _, s := range voters {
		if s.ID == q.n.serverName() {
			here++
			continue
		}
		d, err := deviceAt(s.Address)
		if t, ok := q.said[d]; err == nil && ok && t.Name == string(s.ID) {
			here++
		}
	}
	return here > len(voters)/2 || len(voters) == 0
}

// round asks everybody who did not answer yet, at the same time.
func (q *inquiry) round(ctx context.Context, others []record.DeviceID, weigh func(record.DeviceID, testimony) (lost bool, err error)) (lost bool, err error) {
	type answer struct {
		from record.DeviceID
		said testimony
		err  error
	}
	answers := make(chan answer, len(others))
	var work sync.WaitGroup
	ctx, cancel := context.WithTimeout(ctx, max(q.n.o.Profile.Heartbeat, time.Second))
	defer work.Wait()
	defer cancel()
	asked := 0
	for _, d := range others {
		if _, ok := q.said[d]; ok {
			continue
		}
		asked++
		work.Go(func() {
			t, err := q.link.ask(ctx, d)
			answers <- answer{d, t, err}
		})
	}
	for range asked {
		a := <-answers
		if a.err != nil {
			continue // it is asked again
		}
		q.said[a.from] = a.said
		q.n.pledges.learn(a.said.Pledges)
		if lost, err := weigh(a.from, a.said); lost || err != nil {
			return lost, err
		}
	}
	return false, nil
}

// weigh compares what is known after an answer with this disk.
func (q *inquiry) weigh(ctx context.Context, from record.DeviceID, t testimony) (lost bool, err error) {
	name := q.n.serverName()
	p := q.n.pledges.by(name)
	kept, err := q.n.keeps(&q.disk, p)
	if err != nil {
		return false, fmt.Errorf("comparing with what hubs remember: %w", err)
	}
	// A newer configuration than this disk's that has another name for the device
	// says that the name on this disk was given up.
	replaced := t.Generation == q.n.generation.Load() && t.ConfigAt > q.disk.config.at && t.Known != string(name) && namedIn(q.disk.config.Configuration, q.n.where) == name
	if kept && !replaced {
		return false, nil
	}
	return true, q.n.giveUp(ctx, RolledBack{By: from, Server: string(name), Voted: p.Voted, Term: p.Term, Index: p.Index,
		HadTerm: q.disk.term, HadIndex: q.disk.last, Replaced: kept})
}

// orphan: the only voter on this disk orders everything itself, so a ledger with
// more in it than its log accounts for went on without this disk. Its entries
// came from other boxes. With other hubs in it, they go on; else this hub does,
// from the ledger as it is.
func (q *inquiry) orphan(ctx context.Context) (lost bool, err error) {
	others, voters := q.others()
	if len(voters) != 1 || voters[0].ID != q.n.serverName() {
		return false, nil
	}
	ref, _, err := q.n.snaps.newest()
	if err != nil {
		return false, fmt.Errorf("reading the newest snapshot: %w", err)
	}
	index, _, size := q.n.o.Ledger.Applied()
	if index == 0 || q.n.o.Ledger.Head().Size <= max(size, ref.Size) {
		return false, nil
	}
	if len(others) == 0 {
		err := q.n.renew(ctx, renewal{Generation: q.n.generation.Load(), Alone: true, Term: q.disk.term + 1, Index: max(q.disk.last, index) + 1})
		if err == nil {
			err = errRolledBack
		}
		return false, err
	}
	return true, q.n.giveUp(ctx, RolledBack{By: others[0], Server: string(q.n.serverName()), HadTerm: q.disk.term, HadIndex: q.disk.last})
}

// settle makes this hub start in a term that is not before any it may have voted
// in, with its vote of that term spent.
func (q *inquiry) settle(all bool) error {
	term, led := q.term(), false
	for _, t := range q.said {
		led = led || t.Led
	}
	if !all && !led {
		term += termsSkipped
	}
	if term == q.disk.term && term == q.disk.voted || len(q.said) == 0 && all {
		return nil
	}
	return q.n.spendVote(term)
}

// term is the highest that anybody knows.
func (q *inquiry) term() uint64 {
	term := q.disk.term
	for _, t := range q.said {
		term = max(term, t.Term)
	}
	for _, p := range q.n.pledges.list() {
		term = max(term, p.newest())
	}
	return term
}

// spendVote stores a term, with a vote in it for nobody.
func (n *Node) spendVote(term uint64) error {
	err := n.kv.Update(append(termRows(term), Row{Key: stableKey(keyVoteFor), Value: voteForNone}))
	if err != nil {
		return fmt.Errorf("storing raft state: %w", err)
	}
	return nil
}
