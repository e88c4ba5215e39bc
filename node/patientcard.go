package node

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/node/photo"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// A patient's card opens the chart where it is shown, to whom is signed in there, for
// as long as a visit takes, with no network: whatever the patient decided otherwise.
// Its secret stands on the card alone; what the records say of it is laid out here:
//
//	card/ blind(find)       sealed: cardRow
//	cardtry/ blind(find)    sealed: cardTries

const (
	cardPassFor  = 2 * time.Hour // as long as a visit may need
	cardTriesMax = 10            // wrong PINs in a row, after which this box takes the card no more
)

// cardRow is what a card leads to.
type cardRow struct {
	_           struct{} `cbor:",toarray"`
	Compartment []byte
	ID          []byte
	Lock        []byte
	Ended       bool
}

// cardTries counts wrong PINs of one card on this box, across restarts.
type cardTries struct {
	_      struct{} `cbor:",toarray"`
	Fails  uint8
	Locked int64 // Unix seconds of this box's clock
}

// cardPass is a card that was shown in a session.
type cardPass struct {
	id    chart.CardID
	key   []byte // of its row
	until time.Time
	opens *ecdh.PrivateKey // what was wrapped to the card; nil for one of before cards had keys
	forms seal.Key         // by which forms of the session remember what they saved
}

// cardOpens reports whether a card lets do this. It opens a chart to be read and written in, and its
// holder may decide; the chart is handed to devices, and erased, where it is open without one.
func cardOpens(a policy.Action) bool { return a != policy.Give && a != policy.Erase }

// byCard reports whether it is a card alone that lets somebody do this here.
func (n *Node) byCard(in *signedIn, a policy.Action, patientID string) bool {
	return strings.HasPrefix(n.decide(in, a, patientID).Grant.ID, cardGrantWord)
}

func (n *Node) cardKey(word string, find [16]byte) []byte {
	b := seal.Blind(n.rowKey(), "card", find[:])
	return append([]byte(word), b[:]...)
}

// cards lays out the cards of a compartment. Of two charts with the same card, which somebody copied, the
// one that was here first keeps it.
func (p *projection) cards(c record.CompartmentID) error {
	list, err := p.n.cardsOf(c)
	if err != nil {
		return err
	}
	for _, s := range list {
		id, key := s.ID, p.n.cardKey("card/", s.Find)
		if elsewhere, err := p.leadsElsewhere(key, c); err != nil {
			return err
		} else if elsewhere {
			p.n.log.Warn().Msg("a card that leads to another chart already is left out")
			continue
		}
		plain, err := record.Marshal(cardRow{Compartment: c[:], ID: id[:], Lock: s.Lock, Ended: s.Ended != nil})
		if err != nil {
			return err
		}
		if err := p.putChanged(key, plain); err != nil {
			return err
		}
	}
	return nil
}

// leadsElsewhere reports whether a card has a row already, here or in this batch, that leads to another chart.
func (p *projection) leadsElsewhere(key []byte, c record.CompartmentID) (bool, error) {
	if p.carded == nil {
		p.carded = map[string]record.CompartmentID{}
	}
	if to, ok := p.carded[string(key)]; ok {
		return to != c, nil
	}
	var there cardRow
	ok, err := p.n.readRow(key, &there)
	if err != nil || ok && !bytes.Equal(there.Compartment, c[:]) {
		return true, err
	}
	p.carded[string(key)] = c
	return false, nil
}

// cardsOf reads the cards of a compartment, newest first. What cannot be read here, or was erased, opens
// nothing, and may have ended every card before it.
func (n *Node) cardsOf(c record.CompartmentID) ([]chart.CardState, error) {
	recs, err := n.store.Compartment(c)
	if err != nil || !slices.ContainsFunc(recs, func(x store.Placed) bool { return x.Record.Core.Kind == record.KindCard }) {
		return nil, err
	}
	held := map[record.RID]bool{}
	for i := range recs {
		held[recs[i].Record.RID()] = true
	}
	if recs, err = n.withRefused(c, recs); err == nil {
		recs, err = n.oneOfEach(recs)
	}
	if err != nil {
		return nil, err
	}
	var all []chart.Carded
	var dark cardsBefore
	for _, x := range recs {
		if x.Record.Core.Kind != record.KindCard {
			continue
		}
		r, rid := asFirst(x.Record)
		card, at := chart.Carded{Refused: !held[x.Record.RID()] && !held[rid], At: timeOfHLC(r.Core.HLC), Author: n.authorName(&r)}, standOf(&x, record.DeviceID{}, time.Time{})
		if x.Record.Body == nil {
			dark.unread(card, at)
			continue
		}
		plain, staff, by, err := n.openCosigned(&x)
		if err == nil {
			card.Card, err = chart.DecodeCard(plain)
		}
		if unreadable(err) {
			dark.unread(card, at)
			continue
		}
		if err != nil {
			return nil, err
		}
		card.By, card.Author = by, n.signerName(&r, staff)
		dark.read(card.ID, at)
		all = append(all, card)
	}
	return dark.end(chart.FoldCards(all)), nil
}

// Cards lists the cards of a patient.
func (n *Node) Cards(ctx context.Context, s web.Session, patientID string) (web.CardsPage, error) {
	in, err := n.allow(ctx, s, policy.Consent, patientID)
	if err != nil {
		return web.CardsPage{}, err
	}
	c, ch, err := n.patientBy(in, patientID)
	if err != nil {
		return web.CardsPage{}, err
	}
	if err := n.noteAccess(ctx, in, c, actionCode(policy.Consent)); err != nil {
		return web.CardsPage{}, explain(err)
	}
	list, err := n.cardsOf(c)
	page := web.CardsPage{Row: ch.Row(), ByCard: n.byCard(in, policy.Consent, patientID)}
	for _, x := range list {
		line := web.CardLine{ID: hex.EncodeToString(x.ID[:]), Holder: x.Holder, At: x.At, By: x.Author, Keyless: len(x.Key) == 0}
		if x.Ended != nil {
			line.Ended, line.EndedBy = x.Ended.At, x.Ended.Author
		}
		page.Cards = append(page.Cards, line)
	}
	return page, explain(err)
}

// NewCard makes a card for a patient. The answer holds its secret, which is nowhere else:
// the same form again gets web.ErrFormUsed. With replace all earlier cards end with it.
func (n *Node) NewCard(ctx context.Context, s web.Session, patientID, formID string, c web.NewCard) (web.PrintedCard, error) {
	in, err := n.allow(ctx, s, policy.Consent, patientID)
	if err != nil {
		return web.PrintedCard{}, err
	}
	if n.byCard(in, policy.Consent, patientID) { // no box that makes closed keys would hand one to it
		return web.PrintedCard{}, errors.Join(explain(n.noteRefusal(ctx, in, policy.Consent, patientID)), web.ErrRefused)
	}
	holder := strings.Join(strings.Fields(c.Holder), " ")
	if err := seal.CheckCardPIN(c.PIN); err != nil {
		return web.PrintedCard{}, web.ErrWeakPIN
	}
	var out web.PrintedCard
	_, err = n.once(formID, []any{"card", patientID, holder, c.Replace}, func(row func(record.RID, record.CompartmentID) (store.Row, error)) error {
		comp, ch, err := n.patient(patientID)
		if err != nil {
			return err
		}
		secret, one, err := n.drawCard(c.PIN, holder)
		if err != nil {
			return err
		}
		if c.Replace {
			if one.Ends, err = n.endable(comp); err != nil {
				return err
			}
		}
		if err := n.saveCard(ctx, in, comp, one, row); err != nil {
			return err
		}
		out = web.PrintedCard{Row: ch.Row(), Code: secret.Code(), Holder: holder, ID: hex.EncodeToString(one.ID[:])}
		return nil
	})
	if err == nil && out.Code == "" {
		err = web.ErrFormUsed
	}
	return out, err
}

func (n *Node) drawCard(pin, holder string) (secret seal.CardSecret, c chart.Card, err error) {
	if secret, err = seal.NewCardSecret(rand.Reader); err != nil {
		return secret, c, err
	}
	if _, err := rand.Read(c.ID[:]); err != nil {
		return secret, c, fmt.Errorf("naming a card: %w", err)
	}
	lock, pub, err := seal.NewCardLock(rand.Reader, secret, pin, n.o.PIN)
	if err != nil {
		return secret, c, err
	}
	c.Find, c.Lock, c.Holder, c.Key = secret.Find(), lock.Encode(), holder, pub.Bytes()
	return secret, c, nil
}

// endable are the cards that hold.
func (n *Node) endable(c record.CompartmentID) (ids []chart.CardID, err error) {
	list, err := n.cardsOf(c)
	for _, x := range list {
		if x.Ended == nil && len(ids) < chart.CardEndsMax {
			ids = append(ids, x.ID)
		}
	}
	return ids, err
}

func (n *Node) saveCard(ctx context.Context, in *signedIn, c record.CompartmentID, one chart.Card, row func(record.RID, record.CompartmentID) (store.Row, error)) error {
	plain, err := chart.EncodeCard(one)
	if err == nil {
		plain, err = n.cosign(in, record.KindCard, c, plain)
	}
	if err != nil {
		return err
	}
	d, err := n.sealedDraft(record.LaneControl, record.KindCard, c, in.n, plain)
	if err != nil {
		return err
	}
	unlock := n.forms.lock("keys " + c.String())
	defer unlock()
	wraps, err := n.handToCard(c, in.n, one.Key)
	if err != nil {
		return err
	}
	_, err = n.append(ctx, append(wraps, d), func(placed []record.Record) ([]store.Row, error) {
		if row == nil {
			return nil, nil
		}
		r, err := row(placed[len(placed)-1].RID(), c)
		return []store.Row{r}, err
	})
	return err
}

// handToCard hands the closed keys that this box holds to a card. One that only ends others has no key;
// to those, who writes next in the chart hands no more.
func (n *Node) handToCard(c record.CompartmentID, session uint64, card []byte) ([]store.Draft, error) {
	if len(card) == 0 {
		return nil, nil
	}
	l, err := n.lineage(c)
	if err != nil {
		return nil, err
	}
	a := audience{may: map[seal.KeyID]bool{}}
	a.addKey(n, card)
	return l.handed(session, a.to)
}

// EndCard makes a card dead, everywhere as soon as the record comes there.
func (n *Node) EndCard(ctx context.Context, s web.Session, patientID, cardID string) error {
	in, err := n.allow(ctx, s, policy.Consent, patientID)
	if err != nil {
		return err
	}
	c, _, err := n.patientBy(in, patientID)
	if err != nil {
		return err
	}
	list, err := n.endable(c)
	if err != nil {
		return explain(err)
	}
	i := slices.IndexFunc(list, func(id chart.CardID) bool { return hex.EncodeToString(id[:]) == cardID })
	if i < 0 {
		return web.ErrNotFound
	}
	return explain(n.saveCard(ctx, in, c, chart.Card{Ends: list[i : i+1]}, nil))
}

// UseCard opens the chart of a card to a session, for as long as a visit takes. The access
// record is durable before it returns, of a wrong PIN too.
func (n *Node) UseCard(ctx context.Context, s web.Session, code string, picture []byte, pin string) (patientID string, err error) {
	in, err := n.allow(ctx, s, policy.Find, "")
	if err != nil {
		return "", err
	}
	secret, err := cardSecret(code, picture)
	if err != nil {
		return "", err
	}
	if err := n.projectNow(); err != nil && !errors.Is(err, store.ErrFull) {
		return "", explain(err)
	}
	n.staff.pinMu.Lock()
	defer n.staff.pinMu.Unlock()
	find := secret.Find()
	var row cardRow
	ok, err := n.readRow(n.cardKey("card/", find), &row)
	if err != nil {
		return "", explain(err)
	}
	if !ok || len(row.Compartment) != len(record.CompartmentID{}) || len(row.ID) != len(chart.CardID{}) {
		return "", web.ErrCardUnknown
	}
	c := record.CompartmentID(row.Compartment)
	opens, err := n.tryCard(ctx, in, c, &row, secret, pin)
	if err != nil {
		return "", err
	}
	if err := n.noteAccess(ctx, in, c, accessCard); err != nil {
		return "", explain(err)
	}
	if err := n.givePass(in, c, chart.CardID(row.ID), find, opens); err != nil {
		return "", explain(err)
	}
	lent, err := n.lentTo(in, c)
	if err == nil {
		err = unlessFull(n.writeLentAgain(ctx, c, lent))
	}
	return c.String(), explain(err)
}

// givePass opens a chart to a session by a card.
func (n *Node) givePass(in *signedIn, c record.CompartmentID, id chart.CardID, find [16]byte, opens *ecdh.PrivateKey) error {
	pass := cardPass{id: id, key: n.cardKey("card/", find), until: n.grantTime().Add(cardPassFor), forms: seal.Derive(seal.Key(opens.Bytes()), "forms")}
	keyed, err := n.isKeyOf(opens, c, id)
	if err != nil {
		return err
	}
	if keyed {
		pass.opens = opens
	}
	n.staff.mu.Lock()
	defer n.staff.mu.Unlock()
	if in.cards == nil {
		in.cards = map[record.CompartmentID]cardPass{}
	}
	in.cards[c] = pass
	return nil
}

// isKeyOf reports whether a card's record names this key.
func (n *Node) isKeyOf(opens *ecdh.PrivateKey, c record.CompartmentID, id chart.CardID) (bool, error) {
	list, err := n.cardsOf(c)
	return slices.ContainsFunc(list, func(s chart.CardState) bool {
		return s.ID == id && bytes.Equal(s.Key, opens.PublicKey().Bytes())
	}), err
}

func cardSecret(code string, picture []byte) (seal.CardSecret, error) {
	if len(picture) > 0 {
		text, err := photo.Code(picture)
		if err != nil {
			return seal.CardSecret{}, web.ErrCardPicture
		}
		code = text
	}
	secret, err := seal.ParseCardCode(code)
	if err != nil {
		return secret, web.ErrCardCode
	}
	return secret, nil
}

// tryCard gives the card's key to who knows the PIN. Wrong ones are counted on disk; one that
// cannot be counted is not answered.
func (n *Node) tryCard(ctx context.Context, in *signedIn, c record.CompartmentID, row *cardRow, secret seal.CardSecret, pin string) (*ecdh.PrivateKey, error) {
	key := n.cardKey("cardtry/", secret.Find())
	var t cardTries
	if _, err := n.readRow(key, &t); err != nil {
		return nil, explain(err)
	}
	now := n.o.Now()
	wait := time.Unix(t.Locked, 0).Sub(now)
	switch {
	case row.Ended:
		return nil, errors.Join(n.refusedCard(ctx, in, c), web.ErrCardEnded)
	case t.Fails >= cardTriesMax:
		return nil, errors.Join(n.refusedCard(ctx, in, c), web.ErrCardBlocked)
	case wait > pinLockFor(t.Fails): // the clock was set back
		t.Locked = now.Add(pinLockFor(t.Fails)).Unix()
		return nil, errors.Join(explain(n.countCard(ctx, key, t)), &web.LockedError{Until: pinLockFor(t.Fails)})
	case wait > 0:
		return nil, &web.LockedError{Until: wait}
	}
	lock, err := seal.DecodeCardLock(row.Lock)
	if err != nil {
		return nil, web.ErrCardUnknown
	}
	if opens, ok := lock.Open(secret, pin); ok {
		if t != (cardTries{}) {
			err = explain(n.countCard(ctx, key, cardTries{}))
		}
		return opens, err
	}
	t.Fails, t.Locked = countWrong(t.Fails, now)
	if err := n.countCard(ctx, key, t); err != nil {
		return nil, explain(err)
	}
	return nil, errors.Join(n.refusedCard(ctx, in, c), web.ErrWrongPIN)
}

func (n *Node) countCard(ctx context.Context, key []byte, t cardTries) error {
	plain, err := record.Marshal(t)
	if err != nil {
		return err
	}
	row, err := n.sealedRow(key, plain)
	if err != nil {
		return err
	}
	return n.store.PutRowsReserved(ctx, []store.Row{row})
}

func (n *Node) refusedCard(ctx context.Context, in *signedIn, c record.CompartmentID) error {
	return explain(n.noteAccess(ctx, in, c, accessCard|accessRefused))
}

// passFor is the pass of a card that was shown in this session, while it holds. With the card's
// end, and with the time, it is gone from memory.
func (n *Node) passFor(in *signedIn, c record.CompartmentID) (cardPass, bool) {
	n.staff.mu.Lock()
	pass, ok := in.cards[c]
	n.staff.mu.Unlock()
	if !ok {
		return cardPass{}, false
	}
	var row cardRow
	ok, err := n.readRow(pass.key, &row)
	if err != nil {
		return cardPass{}, false
	}
	if ok && !row.Ended && chart.CardID(row.ID) == pass.id && n.grantTime().Before(pass.until) {
		return pass, true
	}
	n.staff.mu.Lock()
	defer n.staff.mu.Unlock()
	if in.cards[c].until.Equal(pass.until) {
		delete(in.cards, c)
	}
	return cardPass{}, false
}

// cardGrant is what a card that was shown in this session allows now. One that was ended
// meanwhile allows nothing.
func (n *Node) cardGrant(in *signedIn, c record.CompartmentID) (policy.Grant, bool) {
	pass, ok := n.passFor(in, c)
	if !ok {
		return policy.Grant{}, false
	}
	return policy.Grant{ID: cardGrantWord + hex.EncodeToString(pass.id[:]), Until: pass.until.Unix()}, true
}

// cardGrantWord begins the id of a grant by card.
const cardGrantWord = "card"
