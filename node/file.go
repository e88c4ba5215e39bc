package node

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node/photo"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// File opens an attachment of a chart, or asks other boxes for it.
func (n *Node) File(ctx context.Context, s web.Session, patientID, id string) (web.File, error) {
	in, err := n.allow(ctx, s, policy.View, patientID)
	if err != nil {
		return web.File{}, err
	}
	c, ch, err := n.patientFor(in, patientID)
	if err != nil {
		return web.File{}, err
	}
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != len(fhir.ContentHash{}) {
		return web.File{}, web.ErrNotFound
	}
	blob, ok := ch.Blob(fhir.ContentHash(raw))
	if !ok {
		return web.File{}, web.ErrNotFound
	}
	if err := n.noteAccess(ctx, in, c, accessView); err != nil {
		return web.File{}, explain(err)
	}
	f := web.File{Name: titleOf(&ch, blob.Hash)}
	content, st, err := n.content(&blob)
	if err != nil {
		return f, explain(err)
	}
	f.Held, f.Parts, f.Content = st.Held, st.Parts, content
	if content == nil {
		f.From = n.askedOf()
		return f, explain(n.askFor(ctx, blob.ID()))
	}
	f.Type = photo.Sniff(content) // what the author says of it decides nothing
	return f, nil
}

func titleOf(ch *chart.Chart, h fhir.ContentHash) string {
	for i := range ch.Lines {
		for _, a := range ch.Lines[i].Shown.Attached() {
			if a.Hash == h && a.Title != "" {
				return fileName(a.Title)
			}
		}
	}
	return ""
}

// content opens an attachment; nil while a part of it is not here.
func (n *Node) content(b *chart.Blob) ([]byte, web.FileState, error) {
	st, ok, err := n.store.Blob(b.ID())
	state := web.FileState{Parts: b.Parts()}
	if err != nil || !ok {
		return nil, state, err
	}
	if state.Held = st.Held(); !st.Whole() {
		return nil, state, nil
	}
	plain, err := n.openBlob(b)
	if lostPart(err) || errors.Is(err, seal.ErrDamaged) {
		if merr := n.mendBlob(b.ID()); merr != nil {
			return nil, state, merr
		}
		if now, ok, serr := n.store.Blob(b.ID()); serr == nil && ok && !now.Whole() {
			state.Held = now.Held()
			return nil, state, nil // another box has it
		}
	}
	if err != nil {
		return nil, state, fmt.Errorf("opening attachment %s: %w", b.ID().Short(), err)
	}
	return plain, state, nil
}

func (n *Node) openBlob(b *chart.Blob) ([]byte, error) {
	plain, err := seal.OpenBlob(seal.Key(b.Key), b.Blob, func(i int) ([]byte, error) { return n.store.BlobPart(b.ID(), i+1) })
	if err == nil && fhir.HashContent(plain) != b.Hash {
		err = seal.ErrDamaged
	}
	return plain, err
}

// fileStates tells how far each attachment of a chart has come.
func (n *Node) fileStates(ch *chart.Chart) (map[string]web.FileState, error) {
	var out map[string]web.FileState
	for i := range ch.Lines {
		for _, a := range ch.Lines[i].Shown.Attached() {
			st, ok, err := n.store.Blob(a.ID())
			if err != nil {
				return nil, err
			}
			s := web.FileState{Parts: a.Parts()}
			if ok {
				s.Held, s.Came = st.Held(), st.Staged == 0
			}
			holders, err := n.store.BlobHolders(a.ID())
			if err != nil {
				return nil, err
			}
			for _, d := range holders {
				s.To = append(s.To, n.deviceName(d))
			}
			if out == nil {
				out = map[string]web.FileState{}
			}
			out[hex.EncodeToString(a.Hash[:])] = s
		}
	}
	return out, nil
}

const (
	askedPrefix = "ask/"
	askedMax    = 64 // attachments that people wait for
)

// askFor notes that a person waits for an attachment and makes sessions look.
func (n *Node) askFor(ctx context.Context, id record.BlobID) error {
	key := append([]byte(askedPrefix), id[:]...)
	if _, err := n.store.GetRow(key); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	asked, err := n.asked()
	if err != nil {
		return err
	}
	rows := []store.Row{{Key: key, Value: binary.BigEndian.AppendUint64(nil, uint64(n.o.Now().Unix()))}}
	if len(asked) >= askedMax { // the box has not come by any of them: forget one
		rows = append(rows, store.Row{Key: append([]byte(askedPrefix), asked[0][:]...)})
	}
	if err := n.store.PutRows(ctx, rows); err != nil {
		return err
	}
	n.written.moves.Add(1)
	if r := n.up.Load(); r != nil {
		r.links.wake()
	}
	return nil
}

// asked lists what people wait for.
func (n *Node) asked() (ids []record.BlobID, err error) {
	err = n.store.ScanRows([]byte(askedPrefix), 2*askedMax, func(key, _ []byte) bool {
		if len(key) == len(askedPrefix)+16 {
			ids = append(ids, record.BlobID(key[len(askedPrefix):]))
		}
		return true
	})
	return ids, err
}

// askedOf names the boxes that are connected.
func (n *Node) askedOf() (names []string) {
	r := n.up.Load()
	if r == nil {
		return nil
	}
	live := r.links.live.Load()
	if live == nil {
		return nil
	}
	for _, p := range live.Peers() {
		if p.Connected {
			names = append(names, p.Name)
		}
	}
	return names
}

func (n *Node) attachmentStatus() (s AttachmentStatus, err error) {
	ids, err := n.store.BlobsOnlyHere(attachmentsCounted)
	for _, id := range ids {
		st, ok, serr := n.store.Blob(id)
		if err = errors.Join(err, serr); ok && st.RID != (record.RID{}) { // a form that is not saved yet has none
			s.OnlyHere++
			s.OnlyHereBytes += uint64(st.Bytes)
		}
	}
	asked, aerr := n.asked()
	for _, id := range asked {
		st, ok, serr := n.store.Blob(id)
		if err = errors.Join(err, serr); ok && !st.Whole() {
			s.WaitedFor++
		}
	}
	return s, errors.Join(err, aerr)
}

const attachmentsCounted = 1000
