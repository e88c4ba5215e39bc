package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

const (
	emergencyLasts = web.EmergencyHours * time.Hour
	reviewWithin   = web.ReviewDays * 24 * time.Hour
)

// Emergency shows the summary of a chart while it is open to this session in an emergency,
// and what has to be given otherwise.
func (n *Node) Emergency(ctx context.Context, s web.Session, patientID string) (web.EmergencyPage, error) {
	in, c, err := n.closedTo(ctx, s, patientID)
	if err != nil {
		return web.EmergencyPage{}, err
	}
	_, ch, err := n.patientFor(in, patientID)
	if err != nil {
		return web.EmergencyPage{}, err
	}
	until, open := n.glassUntil(in, c)
	a := policy.Identify
	if open {
		a = policy.Emergency
	}
	if err := n.noteAccess(ctx, in, c, actionCode(a)); err != nil {
		return web.EmergencyPage{}, explain(err)
	}
	p := web.EmergencyPage{Row: ch.Row()}
	if !open {
		p.Staff, err = n.Staff(ctx)
		p.Staff = slices.DeleteFunc(p.Staff, func(x web.StaffTile) bool { return x.ID == in.session.StaffID })
		return p, explain(err)
	}
	if n.completeChart(ctx, c) {
		if _, ch, err = n.patientFor(in, patientID); err != nil {
			return web.EmergencyPage{}, err
		}
	}
	p.Until, p.Summary = until, ch.Emergency()
	return p, nil
}

// closedTo is allow for an emergency: it is none where the chart is open.
func (n *Node) closedTo(ctx context.Context, s web.Session, patientID string) (*signedIn, record.CompartmentID, error) {
	in, err := n.allow(ctx, s, policy.Emergency, patientID)
	if err != nil {
		return nil, record.CompartmentID{}, err
	}
	c, err := record.ParseCompartmentID(patientID)
	if err != nil {
		return nil, c, web.ErrNotFound
	}
	if n.may(in, policy.View, patientID) {
		return nil, c, web.ErrChartOpen
	}
	return in, c, nil
}

// glassUntil is until when a summary is open to a session.
func (n *Node) glassUntil(in *signedIn, c record.CompartmentID) (time.Time, bool) {
	n.staff.mu.Lock()
	at, ok := in.glass[c]
	n.staff.mu.Unlock()
	now := n.staff.now()
	return at.Add(emergencyLasts), ok && now.Sub(at) < emergencyLasts && !now.Before(at)
}

// BreakGlass opens the summary of a chart to a session:
//
//  1. rules, reason, and the PIN of a second person
//  2. record with both names and access line                    <- one synced transaction
//  3. the session may read the summary
//
// Stopped before 2, nothing was shown; stopped after it, the entry stands and nothing was shown.
func (n *Node) BreakGlass(ctx context.Context, s web.Session, patientID, formID string, g web.BreakGlass) error {
	in, c, err := n.closedTo(ctx, s, patientID)
	if err != nil {
		return err
	}
	reason, err := emergencyWords(g.Reason, web.ReasonMin)
	if err != nil {
		return err
	}
	if _, _, err := n.patient(patientID); err != nil {
		return err
	}
	second, err := n.secondPerson(ctx, in, g)
	if err != nil {
		return err
	}
	_, err = n.once(formID, []any{"emergency", in.session.StaffID, patientID, g.Second, reason}, func(row func(record.RID, record.CompartmentID) (store.Row, error)) error {
		now := n.staff.now()
		plain, err := signGlass(glassClaim{Compartment: c[:], HLC: hlcFrom(n.o.Now()), Words: reason}, in.key, second)
		if err != nil {
			return err
		}
		if err := n.saveGlass(ctx, in, c, plain, row); err != nil {
			return err
		}
		n.sawNow(in, seenLook{actionCode(policy.Emergency), c}, now)
		n.staff.mu.Lock()
		defer n.staff.mu.Unlock()
		in.glass[c] = now
		return nil
	})
	return err
}

// emergencyWords is a reason or note without what surrounds it.
func emergencyWords(text string, least int) (string, error) {
	text = strings.TrimSpace(text)
	if n := utf8.RuneCountInString(text); n < least || n > web.ReasonMax || !utf8.ValidString(text) {
		return "", web.ErrReason
	}
	return text, nil
}

// secondPerson gives the key of another member of this box's staff, who typed the PIN. Wrong ones count
// as at sign-in.
func (n *Node) secondPerson(ctx context.Context, in *signedIn, g web.BreakGlass) (ed25519.PrivateKey, error) {
	if strings.EqualFold(g.Second, in.session.StaffID) {
		return nil, web.ErrSecondPerson
	}
	n.staff.pinMu.Lock()
	defer n.staff.pinMu.Unlock()
	a, key, err := n.tryPINLocked(ctx, g.Second, g.PIN)
	if err != nil {
		return nil, err
	}
	if a.id() == in.session.StaffID {
		return nil, web.ErrSecondPerson
	}
	return key, nil
}

// saveGlass makes the record and its access line durable, both or neither.
func (n *Node) saveGlass(ctx context.Context, in *signedIn, c record.CompartmentID, plain []byte, row func(record.RID, record.CompartmentID) (store.Row, error)) error {
	draft, err := n.sealedDraft(record.LaneControl, record.KindBreakGlass, c, in.n, plain)
	if err != nil {
		return err
	}
	if err := n.openEpoch(ctx); err != nil {
		return err
	}
	err = n.placeNoted(ctx, []store.Draft{draft}, n.lineOf(in, actionCode(policy.Emergency), c[:]), func(placed []record.Record) ([]store.Row, error) {
		form, err := row(placed[0].RID(), c)
		return []store.Row{form}, err
	})
	if err != nil {
		return err
	}
	n.recount()
	return unlessFull(n.projectNow()) // the lists follow later on a disk that became full
}

// placeNoted writes records with an access line, and rows, in one transaction.
func (n *Node) placeNoted(ctx context.Context, drafts []store.Draft, l accessLine, more func([]record.Record) ([]store.Row, error)) error {
	n.access.mu.Lock()
	defer n.access.mu.Unlock()
	rows, head, err := n.nextLineLocked(l)
	if err != nil {
		return err
	}
	_, err = n.place(ctx, drafts, func(placed []record.Record) ([]store.Row, error) {
		if more == nil {
			return rows, nil
		}
		others, err := more(placed)
		return append(rows, others...), err
	})
	if err != nil {
		return err
	}
	n.access.head = head
	n.access.open++
	return nil
}

// Emergencies lists what nobody looked into yet.
func (n *Node) Emergencies(ctx context.Context, s web.Session) (web.EmergenciesPage, error) {
	in, err := n.allow(ctx, s, policy.Oversee, "")
	if err != nil {
		return web.EmergenciesPage{}, err
	}
	if err := n.noteBox(ctx, in, policy.Oversee); err != nil {
		return web.EmergenciesPage{}, explain(err)
	}
	if err := n.projectNow(); err != nil {
		return web.EmergenciesPage{}, explain(err)
	}
	keys, err := n.waitingGlass(glassMax + 1)
	if err != nil {
		return web.EmergenciesPage{}, explain(err)
	}
	p := web.EmergenciesPage{More: len(keys) > glassMax}
	for _, k := range keys[:min(len(keys), glassMax)] {
		e, ok, err := n.glassOf(k)
		if err != nil {
			return p, explain(err)
		}
		if !ok {
			continue
		}
		event, err := n.emergencyEvent(&e)
		if err != nil {
			return p, explain(err)
		}
		if id := record.CompartmentID(e.Compartment); n.may(in, policy.Identify, id.String()) {
			row, _, err := n.row(id)
			if err != nil {
				return p, explain(err)
			}
			event.PatientID, event.Name = id.String(), strings.TrimSpace(row.Given+" "+row.Family)
		}
		p.List = append(p.List, event)
	}
	return p, nil
}

// waitingGlass are the keys of what nobody looked into, oldest first.
func (n *Node) waitingGlass(most int) (keys [][]byte, err error) {
	err = n.store.ScanRows([]byte("glo/"), most, func(k, _ []byte) bool { keys = append(keys, slices.Clone(k)); return true })
	return keys, err
}

// glassOf reads the emergency that a key of waitingGlass is about.
func (n *Node) glassOf(key []byte) (e glassRow, ok bool, err error) {
	c, ok, err := n.rowPlain(key)
	if err != nil || !ok {
		return e, false, err
	}
	rest := key[len("glo/"):]
	ok, err = n.readRow(glassKey(c, binary.BigEndian.Uint64(rest), rest[8:]), &e)
	return e, ok, err
}

// emergencyEvent puts one in the words of the page.
func (n *Node) emergencyEvent(e *glassRow) (web.EmergencyEvent, error) {
	out := web.EmergencyEvent{RID: record.RID(e.RID).String(), At: timeOfHLC(e.HLC), Box: n.deviceName(record.DeviceID(e.Device)), Reason: e.Words, Note: e.Note}
	var err error
	if out.Who, err = n.staffNameByID(staffIDOf(e.Staff[0])); err != nil {
		return out, err
	}
	if out.Second, err = n.staffNameByID(staffIDOf(e.Staff[1])); err != nil {
		return out, err
	}
	if len(e.By) == 0 {
		out.Late = n.isLate(e.HLC)
		return out, nil
	}
	out.Reviewed = timeOfHLC(e.At)
	out.By, err = n.staffNameByID(staffIDOf(e.By))
	return out, err
}

func staffIDOf(key []byte) string { return hex.EncodeToString(key[:16]) }

// isLate reports whether one waits for too long. When it was is the word of the box that wrote it: a time that
// lies far ahead keeps nothing from being late.
func (n *Node) isLate(hlc uint64) bool { return n.o.Now().Sub(timeOfHLC(hlc)).Abs() > reviewWithin }

// ReviewEmergency notes that somebody looked into an emergency.
func (n *Node) ReviewEmergency(ctx context.Context, s web.Session, rid, formID, note string) error {
	in, err := n.allow(ctx, s, policy.Oversee, "")
	if err != nil {
		return err
	}
	if note, err = emergencyWords(note, web.NoteMin); err != nil {
		return err
	}
	id, err := record.ParseRID(rid)
	if err != nil {
		return web.ErrNotFound
	}
	_, err = n.once(formID, []any{"reviewed", in.session.StaffID, rid, note}, func(row func(record.RID, record.CompartmentID) (store.Row, error)) error {
		e, err := n.waitingEmergency(id)
		if err != nil {
			return err
		}
		own := in.key.Public().(ed25519.PublicKey)
		if slices.ContainsFunc(e.Staff, func(k []byte) bool { return bytes.Equal(k, own) }) {
			return web.ErrOwnEmergency
		}
		c := record.CompartmentID(e.Compartment)
		plain, err := signGlass(glassClaim{Compartment: c[:], HLC: hlcFrom(n.o.Now()), Of: id[:], Words: note}, in.key)
		if err != nil {
			return err
		}
		draft, err := n.sealedDraft(record.LaneControl, record.KindBreakGlass, c, in.n, plain)
		if err != nil {
			return err
		}
		_, err = n.append(ctx, []store.Draft{draft}, func(placed []record.Record) ([]store.Row, error) {
			r, err := row(placed[0].RID(), c)
			return []store.Row{r}, err
		})
		return err
	})
	return err
}

// waitingEmergency finds one that nobody looked into; web.ErrNotFound when there is none of that id.
func (n *Node) waitingEmergency(rid record.RID) (glassRow, error) {
	keys, err := n.waitingGlass(emergenciesMax)
	if err != nil {
		return glassRow{}, err
	}
	for _, k := range keys {
		if !bytes.HasSuffix(k, rid[:]) {
			continue
		}
		e, ok, err := n.glassOf(k)
		if err == nil && !ok {
			err = web.ErrNotFound
		}
		return e, err
	}
	return glassRow{}, fmt.Errorf("finding the emergency: %w", web.ErrNotFound)
}

// emergenciesMax bounds how many are looked through for one.
const emergenciesMax = 10_000

// emergenciesOf lists those of one chart, newest first.
func (n *Node) emergenciesOf(c record.CompartmentID) ([]web.EmergencyEvent, error) {
	var keys [][]byte
	err := n.store.ScanRows(append([]byte("glass/"), c[:]...), glassMax, func(k, _ []byte) bool { keys = append(keys, slices.Clone(k)); return true })
	if err != nil {
		return nil, err
	}
	var out []web.EmergencyEvent
	for _, k := range keys {
		var e glassRow
		if ok, err := n.readRow(k, &e); err != nil || !ok {
			return nil, err
		}
		event, err := n.emergencyEvent(&e)
		if err != nil {
			return nil, err
		}
		out = append(out, event)
	}
	return out, nil
}

// waitingEmergencies are how many nobody looked into, and whether one waits for too long.
func (n *Node) waitingEmergencies() (count int, late bool, err error) {
	keys, err := n.waitingGlass(glassMax)
	if err != nil || len(keys) == 0 {
		return 0, false, err
	}
	late = slices.ContainsFunc(keys, func(k []byte) bool { return n.isLate(binary.BigEndian.Uint64(k[len("glo/"):])) })
	return len(keys), late, nil
}
