package raftlog

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// tap is a link that takes down what the other hubs pledge in the calls that
// pass through it: a granted vote, an acknowledged append or snapshot, and what
// a candidate or a leader says by calling at all, for it voted for itself, and
// its disk holds what it sends.
type tap struct {
	link
	pledges *pledges
	votes   *votes
	waitMax time.Duration // for the own vote to be stored

	calls chan raft.RPC
	done  chan struct{}
	once  sync.Once
	work  sync.WaitGroup
}

func newTap(l link, p *pledges, v *votes, waitMax time.Duration) *tap {
	t := &tap{link: l, pledges: p, votes: v, waitMax: waitMax, calls: make(chan raft.RPC), done: make(chan struct{})}
	t.work.Go(t.listen)
	return t
}

// listen reads incoming calls on their way to raft.
func (t *tap) listen() {
	in := t.link.Consumer()
	for {
		select {
		case rpc := <-in:
			t.heard(rpc)
			select {
			case t.calls <- rpc:
			case <-t.done:
				return
			}
		case <-t.done:
			return
		}
	}
}

func (t *tap) heard(rpc raft.RPC) {
	switch call := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		t.pledges.witness(acknowledged(string(call.ID), call))
		t.pledges.witness(pledge{Server: string(call.ID), Voted: call.Term})
	case *raft.RequestVoteRequest:
		t.pledges.witness(pledge{Server: string(call.ID), Voted: call.Term})
	}
}

// acknowledged is what a server pledged that holds everything in an append.
func acknowledged(server string, a *raft.AppendEntriesRequest) pledge {
	p := pledge{Server: server, Term: a.Term, Index: a.PrevLogEntry, ItemTerm: a.PrevLogTerm}
	if n := len(a.Entries); n > 0 {
		p.Index, p.ItemTerm = a.Entries[n-1].Index, a.Entries[n-1].Term
	}
	return p
}

func (t *tap) Consumer() <-chan raft.RPC { return t.calls }

// SetHeartbeatHandler lets heartbeats pass by the side; one says that its sender
// leads its term.
func (t *tap) SetHeartbeatHandler(handle func(raft.RPC)) {
	t.link.SetHeartbeatHandler(func(rpc raft.RPC) {
		t.heard(rpc)
		handle(rpc)
	})
}

func (t *tap) AppendEntries(id raft.ServerID, a raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.link.AppendEntries(id, a, args, resp)
	if err == nil && resp.Success {
		t.pledges.witness(acknowledged(string(id), args))
	}
	return err
}

// RequestVote asks for a vote once the own one is stored: raft asks the others
// while it stores it, and whoever hears of a candidate takes its vote for given.
func (t *tap) RequestVote(id raft.ServerID, a raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if !t.votes.await(args.Term, t.waitMax, t.done) {
		return fmt.Errorf("asking for a vote: the own vote is not stored")
	}
	err := t.link.RequestVote(id, a, args, resp)
	if err == nil && resp.Granted {
		t.pledges.witness(pledge{Server: string(id), Voted: args.Term})
	}
	return err
}

func (t *tap) InstallSnapshot(id raft.ServerID, a raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	err := t.link.InstallSnapshot(id, a, args, resp, data)
	if err == nil && resp.Success {
		t.pledges.witness(pledge{Server: string(id), Term: args.Term, Index: args.LastLogIndex, ItemTerm: args.LastLogTerm})
	}
	return err
}

func (t *tap) AppendEntriesPipeline(id raft.ServerID, a raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.link.AppendEntriesPipeline(id, a)
	if err != nil {
		return nil, err
	}
	p := &tappedPipeline{AppendPipeline: inner, answers: make(chan raft.AppendFuture), done: make(chan struct{})}
	go p.listen(string(id), t.pledges) // ends with Close, which raft calls
	return p, nil
}

// Close ends the link.
func (t *tap) Close() error {
	t.once.Do(func() { close(t.done) })
	err := t.link.Close()
	t.work.Wait()
	return err
}

// tappedPipeline reads the answers of a pipeline on their way to raft.
type tappedPipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	done    chan struct{}
	once    sync.Once
}

func (p *tappedPipeline) listen(server string, known *pledges) {
	in := p.AppendPipeline.Consumer()
	for {
		select {
		case f := <-in:
			if f.Error() == nil && f.Response().Success {
				known.witness(acknowledged(server, f.Request()))
			}
			select {
			case p.answers <- f:
			case <-p.done:
				return
			}
		case <-p.done:
			return
		}
	}
}

func (p *tappedPipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

func (p *tappedPipeline) Close() error {
	p.once.Do(func() { close(p.done) })
	return p.AppendPipeline.Close()
}

// votes is the highest term whose vote this hub has on disk.
type votes struct {
	mu      sync.Mutex // guards what follows
	term    uint64
	changed chan struct{} // closed at the next change
}

func newVotes() *votes { return &votes{changed: make(chan struct{})} }

func (v *votes) stored(term uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if term > v.term {
		v.term = term
		close(v.changed)
		v.changed = make(chan struct{})
	}
}

// await returns true once the vote of a term is stored.
func (v *votes) await(term uint64, atMost time.Duration, done <-chan struct{}) bool {
	var timer <-chan time.Time
	for {
		v.mu.Lock()
		have, changed := v.term, v.changed
		v.mu.Unlock()
		if have >= term {
			return true
		}
		if timer == nil {
			t := time.NewTimer(atMost)
			defer t.Stop()
			timer = t.C
		}
		select {
		case <-changed:
		case <-timer:
			return false
		case <-done:
			return false
		}
	}
}
