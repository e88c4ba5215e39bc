package node

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// The lines of each box are one chain from its first. What came of it is kept as
// runs that hang together; between two of them, lines are missing or were changed.
//
//	chain/ device (32)    sealed chainRow
const runsMax = 64

type chainRow struct {
	_    struct{} `cbor:",toarray"`
	Runs []chainRun
}

// chainRun are lines of which each names the hash of the one before.
type chainRun struct {
	_            struct{} `cbor:",toarray"`
	From, To     uint64   // first and last
	Prev, Last   []byte   // what the first names, hash of the last
	Since, Until uint64   // their clocks
}

func chainKey(d record.DeviceID) []byte { return append([]byte("chain/"), d[:]...) }

// runsOf are the runs that lines make, in their order.
func runsOf(lines []accessLine) []chainRun {
	var runs []chainRun
	for i := range lines {
		l := &lines[i]
		one := chainRun{From: l.N, To: l.N, Prev: l.Prev, Last: l.sum[:], Since: l.HLC, Until: l.HLC}
		if n := len(runs) - 1; n >= 0 && runs[n].joins(&one) {
			runs[n].To, runs[n].Last, runs[n].Until = one.To, one.Last, one.Until
			continue
		}
		runs = append(runs, one)
	}
	return runs
}

// joins reports whether b goes on where a ends.
func (a *chainRun) joins(b *chainRun) bool { return b.From == a.To+1 && bytes.Equal(b.Prev, a.Last) }

// add takes up runs. What is there already changes nothing.
func (c *chainRow) add(runs []chainRun) {
	for _, r := range runs {
		known := slices.ContainsFunc(c.Runs, func(h chainRun) bool {
			return h.From <= r.From && r.To <= h.To && (r.To != h.To || bytes.Equal(r.Last, h.Last))
		})
		if !known {
			c.Runs = append(c.Runs, r)
		}
	}
	slices.SortFunc(c.Runs, func(a, b chainRun) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(b.To, a.To), bytes.Compare(a.Last, b.Last))
	})
	for i := 0; i+1 < len(c.Runs); {
		a, b := &c.Runs[i], &c.Runs[i+1]
		if !a.joins(b) {
			i++
			continue
		}
		a.To, a.Last, a.Until = b.To, b.Last, b.Until
		c.Runs = slices.Delete(c.Runs, i+1, i+2)
	}
	c.Runs = c.Runs[:min(len(c.Runs), runsMax)]
}

// gap is where a chain does not hang together.
type gap struct {
	missing      uint64 // lines; 0: there are two of one number, or one was changed
	after        uint64 // the number before it
	since, until uint64 // clocks around it; 0 is not known
}

// gaps finds them, from the first line on.
func (c *chainRow) gaps() (out []gap) {
	at, since := uint64(0), uint64(0)
	for i := range c.Runs {
		r := &c.Runs[i]
		switch {
		case r.From > at+1:
			out = append(out, gap{missing: r.From - at - 1, after: at, since: since, until: r.Since})
		case i > 0: // joins would have made them one
			out = append(out, gap{after: r.From - 1, since: r.Since, until: r.Until})
		case !bytes.Equal(r.Prev, make([]byte, sha256.Size)):
			out = append(out, gap{after: 0, since: r.Since, until: r.Since})
		}
		at, since = max(at, r.To), r.Until
	}
	return out
}

// chain is a box's row within a projection.
func (p *projection) chain(d record.DeviceID) (*chainRow, error) {
	if c, ok := p.chains[d]; ok {
		return c, nil
	}
	c := &chainRow{}
	if _, err := p.n.readRow(chainKey(d), c); err != nil {
		return nil, err
	}
	if p.chains == nil {
		p.chains = map[record.DeviceID]*chainRow{}
	}
	p.chains[d] = c
	return c, nil
}

// keepChains writes the rows that this projection changed.
func (p *projection) keepChains() error {
	for d, c := range p.chains {
		plain, err := record.Marshal(c)
		if err == nil {
			err = p.putChanged(chainKey(d), plain)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ownGaps are those of this box's chain, with its lines that are in no record yet, up to the newest that
// it knows to have written. It waits for lines that are on their way into a record.
func (n *Node) ownGaps() ([]gap, error) {
	n.access.mu.Lock()
	defer n.access.mu.Unlock()
	if err := n.projectNow(); err != nil {
		return nil, unlessFull(err)
	}
	if done, err := n.store.GetRow(looksDoneKey); errors.Is(err, store.ErrNotFound) || err == nil && !bytes.Equal(done, looksDone) {
		return nil, nil // no record came yet with which the rows are made
	} else if err != nil {
		return nil, err
	}
	var c chainRow
	if _, err := n.readRow(chainKey(n.author.Device), &c); err != nil {
		return nil, err
	}
	_, open, err := n.openLines(ownLinesMax)
	if err != nil {
		return nil, err
	}
	var lines []accessLine
	for _, plain := range open {
		l, err := decodeLine(plain)
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
	c.add(runsOf(lines))
	head := accessHead{Hash: make([]byte, sha256.Size)}
	if _, err := n.readRow(accessHeadKey, &head); err != nil {
		return nil, err
	}
	return append(c.gaps(), c.behind(head)...), nil
}

// behind compares the end of the chain with what the box wrote last.
func (c *chainRow) behind(head accessHead) []gap {
	last := c.end()
	switch {
	case head.N > last.To:
		return []gap{{missing: head.N - last.To, after: last.To, since: last.Until}}
	case head.N == last.To && !bytes.Equal(head.Hash, last.Last):
		return []gap{{after: head.N - 1, since: last.Until}}
	}
	return nil // the box goes on from the end when it starts the next time
}

// end is the run that reaches furthest; before the first line it ends at 0.
func (c *chainRow) end() chainRun {
	last := chainRun{Last: make([]byte, sha256.Size)}
	for _, r := range c.Runs {
		if r.To >= last.To {
			last = r
		}
	}
	return last
}

// ownLinesMax is how many open lines are read; more wait only on a disk that is full.
const ownLinesMax = 10_000

// verifyAccess says where the chain of this box does not hang together: somebody took lines of its access
// log away or changed them.
func (n *Node) verifyAccess() ([]Damage, error) {
	if n.o.Store.Salvage || n.store.Err() != nil || n.keys.Locked() {
		return nil, nil
	}
	gaps, err := n.ownGaps()
	if errors.Is(err, seal.ErrDamaged) || errors.Is(err, record.ErrMalformed) {
		return []Damage{{Where: "access log", What: "a line cannot be read", Box: n.box.Name}}, nil
	}
	if err != nil {
		return nil, err
	}
	restored, err := n.cameBackOnce()
	if err != nil {
		return nil, err
	}
	var out []Damage
	for _, g := range gaps {
		if restored && g.missing == 0 {
			continue // an old copy of the card counted on from where it was
		}
		d := Damage{Where: "access log", Box: n.box.Name, What: fmt.Sprintf("line %d was changed, or is there twice", g.after+1)}
		if g.missing > 0 {
			d.What = fmt.Sprintf("%d lines behind line %d are missing", g.missing, g.after)
		}
		if g.since != 0 {
			d.When = timeOfHLC(g.since).UTC().Format(time.RFC3339)
		}
		if g.until > g.since {
			d.Until = timeOfHLC(g.until).UTC().Format(time.RFC3339)
		}
		out = append(out, d)
	}
	return out, nil
}

// accessGaps are those of all boxes as the page tells them. A box that does not hold all of the ledger
// cannot tell of others.
func (n *Node) accessGaps() ([]web.LookGap, error) {
	var out []web.LookGap
	own, err := n.ownGaps()
	if err != nil {
		return nil, err
	}
	out = append(out, gapWords(own, n.box.Name)...)
	region, ok := n.box.RegionID()
	if !ok {
		return out, nil
	}
	if part, err := n.store.MissingOf(directory(region)); err != nil || part {
		return out, err
	}
	var keys [][]byte
	err = n.store.ScanRows([]byte("chain/"), membersMax, func(k, _ []byte) bool { keys = append(keys, slices.Clone(k)); return true })
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		d := record.DeviceID(k[len("chain/"):])
		if d == n.author.Device {
			continue
		}
		var c chainRow
		if _, err := n.readRow(k, &c); err != nil {
			return nil, err
		}
		out = append(out, gapWords(c.gaps(), n.deviceName(d))...)
	}
	return out, nil
}

const membersMax = 10_000

func gapWords(gaps []gap, box string) (out []web.LookGap) {
	for _, g := range gaps {
		w := web.LookGap{Box: box, Lines: g.missing}
		if g.since != 0 {
			w.Since = timeOfHLC(g.since)
		}
		if g.until != 0 {
			w.Until = timeOfHLC(g.until)
		}
		out = append(out, w)
	}
	return out
}
