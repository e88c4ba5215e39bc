package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// agedAfter is how long a record waits before it goes with the lane before its own.
const agedAfter = 72 * time.Hour

// aged compares what the author's clock said with this box's. A clock that is wrong
// changes what goes first and nothing else.
func (n *Node) aged(r *record.Record) bool {
	return n.o.Now().Sub(timeOfHLC(r.Core.HLC)) > agedAfter
}

// usageRow is what a metered link cost, under the key "month" of the rows "link".
type usageRow struct {
	_       struct{} `cbor:",toarray"`
	Month   string
	In, Out uint64
}

var usageKey = []byte("month")

// newMeter counts what a metered link costs; nil for one that costs nothing.
func (n *Node) newMeter() (*peersync.Meter, error) {
	if !n.o.Link.Metered {
		return nil, nil
	}
	rows := usageRows{n.store.KV("link")}
	return peersync.NewMeter(peersync.MeterOptions{MonthBytes: n.o.Link.MonthBytes, Now: n.o.Now, Load: rows.load, Save: rows.save})
}

// usageRows keeps what was used.
type usageRows struct{ kv *store.KV }

func (r usageRows) load() (peersync.Usage, error) {
	b, err := r.kv.Get(usageKey)
	if errors.Is(err, store.ErrNotFound) {
		return peersync.Usage{}, nil
	}
	if err != nil {
		return peersync.Usage{}, err
	}
	var row usageRow
	if err := record.Unmarshal(b, &row); err != nil {
		return peersync.Usage{}, fmt.Errorf("reading the month: %w", err)
	}
	return peersync.Usage{Month: row.Month, BytesIn: row.In, BytesOut: row.Out}, nil
}

func (r usageRows) save(u peersync.Usage) error {
	b, err := record.Marshal(usageRow{Month: u.Month, In: u.BytesIn, Out: u.BytesOut})
	if err != nil {
		return err
	}
	return r.kv.Update([]store.Row{{Key: usageKey, Value: b}})
}

// usage is what the link cost this month; zero for one that costs nothing.
func (l *links) usage() peersync.Usage {
	if live := l.live.Load(); live != nil {
		return live.Usage()
	}
	return peersync.Usage{}
}

// why says why nothing moves, as a code of package peersync; empty when all does.
func (l *links) why() string {
	if live := l.live.Load(); live != nil {
		return live.Why()
	}
	return peersync.WhyAlone
}
