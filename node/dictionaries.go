package node

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// A body may be packed with a dictionary that the ledger holds, and may come by a
// shorter way than it: from a neighbour, in a parcel. The chart then lacks that
// record, the page says so, and the row
//
//	dim/ compartment         some record of it waits for a dictionary
//
// leads back to it when a dictionary comes.

const dimMax = 10_000 // compartments looked at again at once

func waitingKey(c record.CompartmentID) []byte { return append([]byte("dim/"), c[:]...) }

// loadDictionaries takes up what the ledger here holds and is not taken up yet.
func (n *Node) loadDictionaries() error {
	list, err := record.DictionariesOf(n.store.State())
	if err != nil {
		return err
	}
	for _, x := range list {
		if _, ok := n.vault.dictionaries.Bytes(x.ID()); ok {
			continue
		}
		e, err := n.store.Entry(x.Seq)
		if err != nil {
			return fmt.Errorf("reading dictionary %s: %w", x.ID(), err)
		}
		d, err := record.DecodeDictionary(e.Record.Body)
		if err == nil && !slices.Equal(d.Name[:], x.Name) {
			err = fmt.Errorf("%w: another name", record.ErrMalformed)
		}
		if err == nil {
			err = n.vault.dictionaries.Add(d)
		}
		if err != nil { // as good as none: nothing can be packed with it
			n.log.Warn().Err(err).Stringer("dictionary", x.ID()).Msg("a dictionary of the ledger is not used")
		}
	}
	return nil
}

// dictionaryCame takes it up and marks the compartments that waited for one.
func (p *projection) dictionaryCame(a store.Arrival, r *record.Record) error {
	if r.Core.Kind != record.KindDictionary || a.Pending {
		return nil
	}
	if err := p.n.loadDictionaries(); err != nil {
		return err
	}
	return p.n.store.ScanRows([]byte("dim/"), dimMax, func(k, _ []byte) bool {
		if c := k[len("dim/"):]; len(c) == len(record.CompartmentID{}) {
			p.touch(record.CompartmentID(c))
		}
		return true
	})
}

// waits keeps whether a compartment has records that wait for a dictionary.
func (p *projection) waits(c record.CompartmentID, waits bool) error {
	key := waitingKey(c)
	_, err := p.n.store.GetRow(key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if waits == (err == nil) {
		return nil
	}
	row := store.Row{Key: key}
	if waits {
		row.Value = []byte{1}
	}
	p.put(row)
	p.waiting = true
	return nil
}

// tellWaiting says on the page how many charts lack something for want of a
// dictionary.
func (p *projection) tellWaiting() error {
	if !p.waiting {
		return nil
	}
	count := uint64(0)
	if err := p.n.store.ScanRows([]byte("dim/"), dimMax, func(_, _ []byte) bool { count++; return true }); err != nil {
		return err
	}
	if count == 0 {
		return p.n.over(noticeDictionary, nil)
	}
	return p.n.notify(noticeDictionary, []byte{}, func(x *notice) bool {
		news := x.Count != count || x.Seen
		x.Count = count
		return news
	})
}

// DictionaryInfo is one dictionary as the ledger here has it.
type DictionaryInfo struct {
	Name  string `json:"name"` // SHA-256, hexadecimal
	Bytes int    `json:"bytes"`
	Seq   uint64 `json:"seq"`
	InUse bool   `json:"inUse"` // this box packs with it where that makes a body shorter
}

// LedgerDictionaries lists the dictionaries of the ledger, oldest first.
func (n *Node) LedgerDictionaries() ([]DictionaryInfo, error) {
	list, err := record.DictionariesOf(n.store.State())
	if err != nil {
		return nil, err
	}
	out := []DictionaryInfo{}
	for _, x := range list {
		b, ok := n.vault.dictionaries.Bytes(x.ID())
		out = append(out, DictionaryInfo{Name: hex.EncodeToString(x.Name), Bytes: len(b), Seq: x.Seq})
		if ok {
			for i := range out {
				out[i].InUse = i == len(out)-1
			}
		}
	}
	return out, nil
}

// PublishDictionary puts a dictionary into the ledger. Boxes pack with it from when
// it reaches them. Only a hub may; what others hold of it already changes nothing.
func (n *Node) PublishDictionary(ctx context.Context, b []byte) (DictionaryInfo, error) {
	d, err := record.DecodeDictionary(b)
	if err != nil {
		return DictionaryInfo{}, err
	}
	if err := new(seal.Dictionaries).Add(d); err != nil {
		return DictionaryInfo{}, err
	}
	info := DictionaryInfo{Name: hex.EncodeToString(d.Name[:]), Bytes: len(b)}
	list, err := record.DictionariesOf(n.store.State())
	switch {
	case err != nil:
		return info, err
	case !slices.Contains(n.store.Hubs(), n.author.Device):
		return info, errors.New("publishing a dictionary: only a hub can; run this on a hub")
	case slices.ContainsFunc(list, func(x record.OrderedDictionary) bool { return x.ID() == d.ID }):
		return info, fmt.Errorf("publishing a dictionary: the ledger has %s already", d.ID)
	case len(list) >= record.DictionariesMax:
		return info, fmt.Errorf("publishing a dictionary: the ledger has %d already", len(list))
	}
	placed, err := n.append(ctx, []store.Draft{{Lane: record.LaneBulk, Kind: record.KindDictionary, Seal: func(record.Position) ([]byte, error) { return b, nil }}}, nil)
	if err != nil {
		return info, err
	}
	if !n.isRunning() {
		return info, nil
	}
	if err := n.waitOrdered(ctx, placed[0].RID()); err != nil {
		return info, err
	}
	if err := n.loadDictionaries(); err != nil { // the lists may not have come so far
		return info, err
	}
	loc, _, err := n.store.Locate(placed[0].RID())
	info.Seq = loc.Seq
	return info, err
}

// dictionaryBodyMax is for a dictionary in base64, with its quotes.
const dictionaryBodyMax = 2 * record.DictionaryBytesMax

func (n *Node) dictionaryRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("GET /dictionaries", func(*http.Request) (any, error) { return n.LedgerDictionaries() })
	reply("POST /dictionaries", func(r *http.Request) (any, error) {
		var b []byte
		if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
			return nil, fmt.Errorf("reading the dictionary: %w", err)
		}
		return n.PublishDictionary(r.Context(), b)
	})
}
