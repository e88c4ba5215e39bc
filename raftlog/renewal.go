package raftlog

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
)

const renewalVersion = 1

// renewal replaces the raft state of this disk: log, snapshots and votes go, and
// with a new incarnation another server starts in its place. It is written down
// first and taken up again by Open, so a crash leaves the old state or the new.
type renewal struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	// Generation of the ledger that the new state is for.
	Generation uint64
	// Alone makes the new server the only voter, with a snapshot of the ledger as
	// it is. Otherwise it waits until a leader takes it in.
	Alone bool
	Index uint64 // of that snapshot
	Term  uint64
}

var (
	keyRenewal    = []byte{prefixMeta, 'x'}
	keyGuest      = []byte{prefixMeta, 'j'} // this server waits to be taken in and never bootstraps
	keyGeneration = []byte{prefixMeta, 'g'}
)

func (n *Node) renew(ctx context.Context, w renewal) error {
	if err := n.keepTail(ctx); err != nil {
		return err
	}
	w.Version = renewalVersion
	b, err := record.Marshal(w)
	if err == nil {
		err = n.kv.Update([]Row{{Key: keyRenewal, Value: b}})
	}
	if err != nil {
		return fmt.Errorf("replacing raft state: %w", err)
	}
	return n.finishRenewal()
}

// keepTail hands on the records of log items that this ledger does not have:
// they may stand nowhere else.
func (n *Node) keepTail(ctx context.Context) error {
	first, last := n.logs.bounds()
	applied, _, _ := n.o.Ledger.Applied()
	for i := max(first, applied+1); i <= last && n.o.Keep != nil; i++ {
		var l raft.Log
		switch err := n.logs.GetLog(i, &l); {
		case errors.Is(err, raft.ErrLogNotFound):
			continue
		case err != nil:
			return fmt.Errorf("keeping records of the raft log: %w", err)
		}
		batch, err := record.DecodeBatch(l.Data)
		if l.Type != raft.LogCommand || err != nil {
			continue
		}
		if err := n.o.Keep(ctx, batch.Records); err != nil {
			return fmt.Errorf("keeping records of the raft log: %w", err)
		}
	}
	return nil
}

// finishRenewal does what is left of a renewal that was written down.
func (n *Node) finishRenewal() error {
	value, ok, err := n.kv.Get(keyRenewal)
	if err != nil || !ok {
		return err
	}
	var w renewal
	if err := record.Unmarshal(value, &w); err != nil || w.Version != renewalVersion {
		return fmt.Errorf("replacing raft state: %w: version %d", record.ErrMalformed, w.Version)
	}
	if err := n.clearLog(); err != nil {
		return fmt.Errorf("replacing raft state: %w", err)
	}
	rows := []Row{{Key: keyRenewal}, {Key: keyGuest, Value: []byte{1}}}
	for _, key := range stableKeys {
		rows = append(rows, Row{Key: stableKey(key)})
	}
	var incarnation [incarnationBytes]byte
	rand.Read(incarnation[:])
	rows = append(rows, Row{Key: keyIncarnation, Value: incarnation[:]},
		Row{Key: keyGeneration, Value: binary.BigEndian.AppendUint64(nil, w.Generation)})
	if w.Alone {
		row, err := n.aloneRow(w, serverName(n.o.Device, incarnation))
		if err != nil {
			return fmt.Errorf("replacing raft state: %w", err)
		}
		rows = append(rows, row, Row{Key: keyGuest}, Row{Key: stableKey(keyVoteFor), Value: voteForNone})
		rows = append(rows, termRows(w.Term)...)
	}
	if err := n.kv.Update(rows); err != nil {
		return fmt.Errorf("replacing raft state: %w", err)
	}
	n.rename(serverName(n.o.Device, incarnation))
	n.generation.Store(w.Generation)
	return nil
}

func (n *Node) clearLog() error {
	first, last := n.logs.bounds()
	if last > 0 {
		if err := n.logs.DeleteRange(first, last); err != nil {
			return err
		}
	}
	for {
		keys, err := n.snaps.keys()
		if err != nil || len(keys) == 0 {
			return err
		}
		rows := make([]Row, 0, len(keys))
		for _, key := range keys {
			rows = append(rows, Row{Key: key})
		}
		if err := n.kv.Update(rows); err != nil {
			return err
		}
	}
}

// aloneRow is a snapshot of the ledger as it is, with one voter.
func (n *Node) aloneRow(w renewal, name raft.ServerID) (Row, error) {
	head := n.o.Ledger.Head()
	region := []byte{}
	if id, ok := n.o.Region(); ok {
		region = id[:]
	}
	content, err := record.Marshal(reference{Format: referenceFormat, Region: region, Index: w.Index, Term: w.Term, Size: head.Size, Root: head.Root[:]})
	if err != nil {
		return Row{}, err
	}
	value, err := record.Marshal(snapshotRow{Version: snapshotVersion, Index: w.Index, Term: w.Term, ConfigIndex: w.Index, Content: content,
		Servers: []snapshotServer{{Suffrage: uint8(raft.Voter), ID: string(name), Address: string(n.where)}}})
	return Row{Key: snapshotKey(w.Index, w.Term), Value: value}, err
}

// termRows store a term and a vote in it; the server voted for is another row.
func termRows(term uint64) []Row {
	value := binary.BigEndian.AppendUint64(nil, term)
	return []Row{{Key: stableKey(keyTerm), Value: value}, {Key: stableKey(keyVoteTerm), Value: value}}
}

// giveUp drops the raft state of a server that forgot what it pledged.
func (n *Node) giveUp(ctx context.Context, r RolledBack) error {
	if err := n.renew(ctx, renewal{Generation: max(n.generation.Load(), n.o.Generation())}); err != nil {
		return err
	}
	n.log.Warn().Str("was", r.Server).Bool("replaced", r.Replaced).Uint64("voted", r.Voted).Uint64("term", r.Term).Uint64("index", r.Index).
		Uint64("hadTerm", r.HadTerm).Uint64("hadIndex", r.HadIndex).Msg("this disk forgot what it pledged to the other hubs, it starts as a new server")
	n.o.RolledBack(r)
	return errRolledBack
}

func openGeneration(kv KV) (uint64, error) {
	value, ok, err := kv.Get(keyGeneration)
	if err != nil || !ok {
		return 1, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("%w: generation of %d bytes", record.ErrMalformed, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}
