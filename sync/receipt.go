package peersync

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// receipts are a hub's promises about what the peer sent, gathered until a quiet
// moment; and on the other side, how many the peer may send.
type receipts struct {
	heads map[record.Feed]record.ReceiptHead // durable since the last receipt
	paced bool                               // the shell says when the moment has come
	due   bool
	owed  int // frames of pending records sent, each worth one receipt
}

// promise notes the last record of a run that this hub took durably.
func (s *Session) promise(last *record.Record) {
	if s.o.Receipt == nil || s.hub || s.theirs.Max < protocolEvidence {
		return
	}
	c := &s.receipts
	p := last.Position()
	if had, ok := c.heads[p.Feed()]; ok && had.N > p.N || !ok && len(c.heads) >= ackHeadsMax {
		return
	}
	c.heads[p.Feed()] = record.ReceiptHead{Position: p, RID: last.RID()}
}

// owesReceipt reports whether a receipt waits for its moment, which releaseReceipt
// brings.
func (s *Session) owesReceipt() bool { return len(s.receipts.heads) > 0 && !s.receipts.due }

func (s *Session) releaseReceipt() {
	s.receipts.due = true
	s.stats.settled.Store(false)
}

// nextReceipt comes before bulk when its moment has come, else when there is
// nothing else to say.
func (s *Session) nextReceipt(quiet bool) (Frame, bool, error) {
	c := &s.receipts
	if len(c.heads) == 0 || !c.due && (c.paced || !quiet) {
		return Frame{}, false, nil
	}
	heads := make([]record.ReceiptHead, 0, len(c.heads))
	for _, h := range c.heads {
		heads = append(heads, h)
	}
	slices.SortFunc(heads, func(a, b record.ReceiptHead) int {
		return cmp.Or(bytes.Compare(a.Epoch[:], b.Epoch[:]), cmp.Compare(a.Lane, b.Lane))
	})
	heads = heads[:min(len(heads), record.ReceiptHeadsMax)]
	for _, h := range heads {
		delete(c.heads, h.Feed())
	}
	c.due = c.due && len(c.heads) > 0
	r, ok := s.o.Receipt(heads)
	if !ok {
		return Frame{}, false, nil
	}
	m := receipt{Taken: r.Taken, By: r.By, Heads: make([]receiptHead, 0, len(r.Heads)), Sig: r.Sig[:]}
	for _, h := range r.Heads {
		m.Heads = append(m.Heads, receiptHead{Epoch: bytes.Clone(h.Epoch[:]), Lane: uint64(h.Lane), N: h.N})
	}
	f, err := encode(TypeReceipt, m)
	return f, err == nil, err
}

// handleReceipt verifies a promise about records held here. What it does not name
// on the wire, the hub and the records' ids, follows from the session.
func (s *Session) handleReceipt(p []byte) error {
	m, err := decodeReceipt(p)
	if err != nil {
		return err
	}
	if s.receipts.owed--; s.receipts.owed < 0 {
		return misbehaved("more receipts than there was to receive")
	}
	if s.o.TakeReceipt == nil || !s.hub {
		return nil
	}
	r := record.Receipt{Hub: s.peer, Taken: m.Taken, By: m.By, Sig: [64]byte(m.Sig)}
	for _, h := range m.Heads {
		pos := record.Position{Epoch: record.EpochID(h.Epoch), Lane: record.Lane(h.Lane), N: h.N}
		rid, ok, err := s.r.HeldRID(pos)
		if err != nil {
			return local("reading held record", err)
		}
		if !ok {
			return nil // gone since it was sent
		}
		r.Heads = append(r.Heads, record.ReceiptHead{Position: pos, RID: rid})
	}
	if err := r.Verify(s.o.Region); err != nil {
		return misbehaved("receipt: %w", err)
	}
	return s.opinion("keeping receipt", s.o.TakeReceipt(s.peer, r))
}
