package node

import (
	"context"
	"crypto/ecdh"
	"errors"
	"slices"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

// What a chart's limit closes to a box, a card opens there: its key unwraps closed keys, which are lent to
// the session that it was shown to. They are in memory alone and are made anew from the records each
// time, so that they end with the session's pass: after two hours, at signing out, when the card is
// ended, at the program's end. Lists, searches and rows are made without them: this box keeps nothing
// that it read by a card.

// lentKeys are closed keys of one compartment by their generations.
type lentKeys map[uint64]seal.Key

// lentWrapsMax bounds how many wraps to one card are tried of one box: it has not made as many closed keys. By
// boxes, so that none of them keeps a card from what the others wrapped to it.
const lentWrapsMax = 1024

// cardWrap is a wrap with the box that handed it out.
type cardWrap struct {
	seal.Wrap
	by record.DeviceID
}

// lentTo are the closed keys that a card which was shown in this session opens now; nil without one.
func (n *Node) lentTo(in *signedIn, c record.CompartmentID) (lentKeys, error) {
	pass, ok := n.passFor(in, c)
	if !ok || pass.opens == nil {
		return nil, nil
	}
	return n.openedBy(pass.opens, c)
}

// openedBy are the closed keys of a chart that a card's key opens, and what they lead to.
func (n *Node) openedBy(card *ecdh.PrivateKey, c record.CompartmentID) (lentKeys, error) {
	var wraps []seal.Wrap
	var toCard []cardWrap
	id := seal.PublicKeyID(card.PublicKey())
	err := n.eachWrap(c, func(w seal.Wrap, by record.DeviceID) {
		if wraps = append(wraps, w); w.Recipient == id {
			toCard = append(toCard, cardWrap{w, by})
		}
	})
	if err != nil {
		return nil, err
	}
	known := wrappedTo(card, c, toCard)
	found, _ := seal.OpenChain(wraps, known)
	for gen, k := range found {
		if seal.IsClosed(gen) {
			known[gen] = k
		}
	}
	return known, nil
}

// wrappedTo are the closed keys of a compartment that wraps hand to a card.
func wrappedTo(card *ecdh.PrivateKey, c record.CompartmentID, wraps []cardWrap) lentKeys {
	out, tried := lentKeys{}, map[record.DeviceID]int{}
	for _, w := range wraps {
		if w.Compartment != c || !seal.IsClosed(w.Generation) || !out[w.Generation].IsZero() || tried[w.by] == lentWrapsMax {
			continue
		}
		tried[w.by]++
		if k, err := seal.UnwrapKeyWith(card, w.Wrap); err == nil && k.IsGeneration(w.Generation) {
			out[w.Generation] = k
		}
	}
	return out
}

// writeLentAgain writes again what this box wrote by a card and could not read any more when the
// region refused it for its place.
func (n *Node) writeLentAgain(ctx context.Context, c record.CompartmentID, lent lentKeys) error {
	n.epochs.mending.Lock()
	defer n.epochs.mending.Unlock()
	lost, err := n.lostTo(c, lent)
	if err != nil || len(lost) == 0 {
		return err
	}
	if err := n.openEpoch(ctx); err != nil {
		return err
	}
	written, err := n.writeAgain(ctx, lost, lent)
	return errors.Join(err, n.wroteAgain(written))
}

// lostTo are the records of this box in a chart that stayed where they were refused, and that lent
// keys open.
func (n *Node) lostTo(c record.CompartmentID, lent lentKeys) (lost []strandedRecord, err error) {
	if len(lent) == 0 {
		return nil, nil
	}
	refused, err := n.store.Refused()
	if err != nil || len(refused) == 0 {
		return nil, err
	}
	verdicts := map[record.RID]record.Verdict{}
	for _, x := range refused {
		verdicts[x.RID] = x.Verdict
	}
	recs, err := n.store.Compartment(c)
	if err == nil {
		recs, err = n.withRefused(c, recs)
	}
	if err != nil {
		return nil, err
	}
	for i := range recs {
		r := &recs[i].Record
		gen, err := seal.Generation(r.Body)
		if _, ok := lent[gen]; err != nil || !ok || recs[i].Ordered || !n.wroteHere(r) {
			continue
		}
		now, done, err := n.standsFor(r.RID())
		if err != nil {
			return nil, err
		}
		if done && now == (record.RID{}) {
			lost = append(lost, strandedRecord{*r, verdicts[r.RID()]})
		}
	}
	return lost, nil
}

// typed is what a form's answer is remembered by. What is written by a card is blinded with a key that
// goes with it: a hash of few words tells them to who tries them.
func (n *Node) typed(in *signedIn, patientID string, content []any) (any, error) {
	c, err := record.ParseCompartmentID(patientID)
	if err != nil {
		return content, nil // of nobody, which is told later
	}
	pass, ok := n.passFor(in, c)
	if !ok {
		return content, nil
	}
	raw, err := record.Marshal(content)
	if err != nil {
		return nil, err
	}
	b := seal.Blind(pass.forms, "form", raw)
	return b[:], nil
}

// lentForm has the files of a form that is filled in by a card. Their keys are in memory alone.
type lentForm struct {
	id    string
	files []stagedFile
}

const lentFormsMax = 8 // of a session, the newest

func (in *signedIn) lentFilesLocked(formID string) *lentForm {
	i := slices.IndexFunc(in.forms, func(f *lentForm) bool { return f.id == formID })
	if i < 0 {
		return nil
	}
	return in.forms[i]
}

// stageLent keeps a file of a form in memory.
func (n *Node) stageLent(in *signedIn, formID string, f stagedFile) {
	n.staff.mu.Lock()
	defer n.staff.mu.Unlock()
	if l := in.lentFilesLocked(formID); l != nil {
		l.files = append(slices.Clip(l.files), f)
		return
	}
	if len(in.forms) == lentFormsMax {
		in.forms = slices.Delete(in.forms, 0, 1)
	}
	in.forms = append(in.forms, &lentForm{formID, []stagedFile{f}})
}
