package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// EvidenceInfo is one line of the list of evidence.
type EvidenceInfo struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"` // equivocation, split view, broken promise
	Culprits []string  `json:"culprits"`
	Devices  []string  `json:"devices"`
	Majority bool      `json:"majority,omitempty"` // split view: a majority of the hubs signed each
	At       time.Time `json:"at"`
	From     string    `json:"from"` // the box that gave it, or this one
	Size     uint64    `json:"size,omitempty"`
	Freezes  bool      `json:"freezes,omitempty"` // nothing is confirmed here because of it
}

// EvidenceList lists what this box holds, newest first.
func (n *Node) EvidenceList() ([]EvidenceInfo, error) {
	rows, err := n.evidenceRows()
	if err != nil {
		return nil, err
	}
	var frozen frozenRow
	if raw, err := n.store.GetRow(frozenKey); err == nil {
		if err := record.Unmarshal(raw, &frozen); err != nil {
			return nil, err
		}
	}
	list := []EvidenceInfo{}
	for _, row := range rows {
		e, err := record.DecodeEvidence(row.Bytes)
		if err != nil {
			return nil, err
		}
		id := e.ID()
		info := EvidenceInfo{ID: hex.EncodeToString(id[:]), Kind: e.Kind.String(), At: time.Unix(row.At, 0), From: n.deviceName(record.DeviceID(row.From)),
			Freezes: string(frozen.Evidence) == string(id[:]), Culprits: []string{}, Devices: []string{}}
		if f, err := n.verifyEvidence(e); err == nil {
			info.Majority, info.Size = f.Final, f.Size
			for _, d := range f.Culprits {
				info.Culprits, info.Devices = append(info.Culprits, n.deviceName(d)), append(info.Devices, d.String())
			}
		}
		list = append(list, info)
	}
	return list, nil
}

// EvidenceFile gives the bytes of a piece, by its id or the start of it.
func (n *Node) EvidenceFile(id string) ([]byte, error) {
	rows, err := n.evidenceRows()
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		e, err := record.DecodeEvidence(row.Bytes)
		if err != nil {
			return nil, err
		}
		full := e.ID()
		if text := hex.EncodeToString(full[:]); len(id) >= 8 && len(id) <= len(text) && text[:len(id)] == id {
			return row.Bytes, nil
		}
	}
	return nil, fmt.Errorf("evidence %q: not on this box: 'healthpost evidence list' names what is", id)
}

// ClearEvidence lets this box confirm again. What it holds is kept; the same
// pieces do not stop it a second time.
func (n *Node) ClearEvidence(ctx context.Context) error {
	n.evidence.mu.Lock()
	defer n.evidence.mu.Unlock()
	if err := n.store.PutRows(ctx, []store.Row{{Key: frozenKey}}); err != nil {
		return err
	}
	n.evidence.frozen.Store(false)
	var errs []error
	for _, code := range []string{noticeSplitView, noticeTwoViews, noticePromise, noticeOtherLedger, noticeForked, noticeReset} {
		errs = append(errs, n.over(code, nil))
	}
	n.log.Warn().Msg("confirmation goes on: an operator cleared the evidence")
	n.wakeLinks()
	return errors.Join(errs...)
}
