package raftlog

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
)

const (
	pledgesVersion  = 1
	pledgesMax      = 64              // servers remembered
	pledgesBytesMax = 8 << 10         // of the row and of a testimony
	pledgesEvery    = 5 * time.Second // at most, the row is written
	termMax         = 1 << 48         // nobody gets there by elections
)

// pledge is what a server made others rely on, and so must never forget: that it
// voted in a term, and that its disk holds the log of a leader up to an index.
//
// Acknowledgements are compared by the term of the leader they were given to and
// then by index. A server gives none to a leader whose term it left, so a disk
// that knows a later term is younger than all acknowledgements of earlier ones;
// within one term a log only grows.
type pledge struct {
	_        struct{} `cbor:",toarray"`
	Server   string   // raft server id
	Voted    uint64   // highest term it voted in, for itself or for another
	Term     uint64   // highest term of a leader whose items it acknowledged
	Index    uint64   // of the last item it acknowledged to that leader, 0 for none
	ItemTerm uint64   // term of that item
}

// add takes what is later in q.
func (p *pledge) add(q pledge) (changed bool) {
	if q.Voted > p.Voted {
		p.Voted, changed = q.Voted, true
	}
	if q.Term > p.Term || q.Term == p.Term && q.Index > p.Index {
		p.Term, p.Index, p.ItemTerm, changed = q.Term, q.Index, q.ItemTerm, true
	}
	return changed
}

func (p *pledge) newest() uint64 { return max(p.Voted, p.Term) }

// pledges are the pledges of the other hubs that this one witnessed or was told
// of. They are kept in memory, and lazily in one row.
type pledges struct {
	kv KV

	mu     sync.Mutex // guards what follows
	of     map[string]pledge
	stale  bool // the row lacks something
	active bool // something was witnessed since the last stir
}

// pledgesRow is the row, and the part of a testimony that has the same form.
type pledgesRow struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Pledges []pledge
}

var keyPledges = []byte{prefixMeta, 'p'}

func openPledges(kv KV) (*pledges, error) {
	p := &pledges{kv: kv, of: map[string]pledge{}}
	value, ok, err := kv.Get(keyPledges)
	if err != nil {
		return nil, fmt.Errorf("reading pledges: %w", err)
	}
	if !ok {
		return p, nil
	}
	var row pledgesRow
	if err := record.Unmarshal(value, &row); err != nil {
		return nil, fmt.Errorf("reading pledges: %w", err)
	}
	if err := checkPledges(row.Pledges); err != nil || row.Version != pledgesVersion {
		return nil, fmt.Errorf("reading pledges: %w: version %d, %d servers", record.ErrMalformed, row.Version, len(row.Pledges))
	}
	for _, x := range row.Pledges {
		p.of[x.Server] = x
	}
	return p, nil
}

func checkPledges(list []pledge) error {
	if len(list) > pledgesMax {
		return fmt.Errorf("reading pledges: %w: of %d servers", record.ErrMalformed, len(list))
	}
	for _, x := range list {
		if x.Server == "" || len(x.Server) > serverNameBytesMax || x.newest() > termMax || x.ItemTerm > termMax {
			return fmt.Errorf("reading pledges: %w: server id of %d bytes, term %d", record.ErrMalformed, len(x.Server), x.newest())
		}
	}
	return nil
}

// witness takes a pledge that a server made to this one.
func (p *pledges) witness(q pledge) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.addLocked(q) {
		p.active = true
	}
}

// learn takes pledges that another hub witnessed or was told of.
func (p *pledges) learn(list []pledge) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range list {
		p.addLocked(q)
	}
}

func (p *pledges) addLocked(q pledge) bool {
	if checkPledges([]pledge{q}) != nil {
		return false
	}
	have, known := p.of[q.Server]
	have.Server = q.Server
	if !have.add(q) {
		return false
	}
	if !known && len(p.of) >= pledgesMax {
		p.forgetLocked()
	}
	p.of[q.Server], p.stale = have, true
	return true
}

// forgetLocked makes room: servers leave when their disk does, so the one that
// pledged least lately is most likely gone.
func (p *pledges) forgetLocked() {
	var oldest string
	for name, x := range p.of {
		y := p.of[oldest]
		if oldest == "" || x.newest() < y.newest() || x.newest() == y.newest() && name < oldest {
			oldest = name
		}
	}
	delete(p.of, oldest)
}

// by gives what a server pledged.
func (p *pledges) by(server raft.ServerID) pledge {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of[string(server)]
}

// list gives all of them, sorted by server.
func (p *pledges) list() []pledge {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listLocked()
}

func (p *pledges) listLocked() []pledge {
	out := make([]pledge, 0, len(p.of))
	for _, x := range p.of {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b pledge) int { return slices.Compare([]byte(a.Server), []byte(b.Server)) })
	return out
}

// stirred reports whether something was witnessed since the last call.
func (p *pledges) stirred() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.active
	p.active = false
	return was
}

// save writes the row if it lacks something.
func (p *pledges) save() error {
	p.mu.Lock()
	if !p.stale {
		p.mu.Unlock()
		return nil
	}
	list := p.listLocked()
	p.stale = false
	p.mu.Unlock()
	value, err := record.Marshal(pledgesRow{Version: pledgesVersion, Pledges: list})
	if err == nil {
		err = p.kv.Update([]Row{{Key: keyPledges, Value: value}})
	}
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stale = true
		return fmt.Errorf("storing pledges: %w", err)
	}
	return nil
}
