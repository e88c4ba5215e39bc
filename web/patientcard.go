package web

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/healthpost/healthpost/chart"
)

// CardDesk is what Clinic knows of patients' cards.
type CardDesk interface {
	// Cards lists the cards of a patient.
	Cards(ctx context.Context, s Session, patientID string) (CardsPage, error)
	// NewCard makes one, which is printed from the answer and cannot be had again: the same formID
	// once more returns ErrFormUsed. Errors: ErrWeakPIN; ErrRefused where a card alone opens the chart.
	NewCard(ctx context.Context, s Session, patientID, formID string, c NewCard) (PrintedCard, error)
	// EndCard makes a card dead. Errors: ErrNotFound.
	EndCard(ctx context.Context, s Session, patientID, cardID string) error
	// UseCard opens the chart of a card to the session for as long as a visit takes. The code is in the
	// picture where there is one. It needs no network. The access record, of a wrong PIN too, is durable
	// before it returns. Errors: ErrCardCode, ErrCardPicture, ErrCardUnknown, ErrCardEnded, ErrCardBlocked,
	// ErrWrongPIN, *LockedError.
	UseCard(ctx context.Context, s Session, code string, picture []byte, pin string) (patientID string, err error)
}

// CardsPage lists the cards of a patient, newest first.
type CardsPage struct {
	Row    chart.Row
	Cards  []CardLine
	ByCard bool // the chart is open by one of them alone: another is made elsewhere
}

// CardLine is one card.
type CardLine struct {
	ID, Holder string
	At         time.Time
	By         string
	Ended      time.Time // zero while it holds
	EndedBy    string
	Keyless    bool // made before cards had keys: it opens nothing that was written since a limit
}

// NewCard is what a card is made of. The PIN is the holder's own.
type NewCard struct {
	PIN, Holder string
	Replace     bool // earlier cards end
}

// PrintedCard is a card as it is printed, once. Code opens the chart together with the PIN.
type PrintedCard struct {
	Row              chart.Row
	ID, Code, Holder string
}

// What using a card may be answered with.
var (
	// ErrCardCode: what was typed is no card's code.
	ErrCardCode = errors.New("not a card's code")
	// ErrCardPicture: no code can be read in the picture.
	ErrCardPicture = errors.New("no code in the picture")
	// ErrCardUnknown: the chart of this card is not on this box.
	ErrCardUnknown = errors.New("a card that is not known here")
	// ErrCardEnded: the card was replaced or ended.
	ErrCardEnded = errors.New("the card was ended")
	// ErrCardBlocked: too many wrong PINs; a new card helps.
	ErrCardBlocked = errors.New("the card is blocked on this box")
	// ErrWeakPIN: the PIN would be guessed first.
	ErrWeakPIN = errors.New("a weak pin")
)

const (
	cardHolderMax = chart.CardHolderMax
	cardCodeMax   = 64
	cardPINMax    = 12
)

// cardsBody is the page of a patient's cards.
type cardsBody struct {
	ID     string
	Who    personLine
	Cards  []cardLine
	ByCard bool
}

type cardLine struct {
	ID, Holder, Made, Ended string
	Keyless                 bool
}

func showCards(q *request) error {
	return q.cardsPage(form{Values: url.Values{"replace": {"1"}}})
}

func (q *request) cardsPage(f form) error {
	id := q.r.PathValue("patient")
	cards, err := q.clinic.Cards(q.r.Context(), q.session, id)
	if err != nil {
		return err
	}
	if f.ID, err = q.newFormID(); err != nil {
		return err
	}
	body := cardsBody{ID: id, Who: q.person(cards.Row), ByCard: cards.ByCard}
	for _, c := range cards.Cards {
		line := cardLine{ID: c.ID, Holder: c.Holder, Keyless: c.Keyless, Made: q.words.Text("cards.made", formatTime(q.words, c.At.In(q.opts.Location)), c.By)}
		if !c.Ended.IsZero() {
			line.Ended = q.words.Text("cards.ended", formatTime(q.words, c.Ended.In(q.opts.Location)), c.EndedBy)
		}
		body.Cards = append(body.Cards, line)
	}
	p := q.newPage("", "cards.title", body)
	p.Form = f
	return q.show("cards", p)
}

// newCard makes a card and answers with the paper itself: its code is in no address and
// cannot be asked for again.
func newCard(q *request) error {
	id := q.r.PathValue("patient")
	formID, err := q.postedFormID()
	if err != nil {
		return err
	}
	c := NewCard{PIN: NormaliseDigits(q.r.PostForm.Get("pin")), Holder: q.value("holder"), Replace: q.value("replace") != ""}
	f := form{Values: url.Values{"holder": {c.Holder}, "replace": q.r.PostForm["replace"]}}
	if len([]rune(c.Holder)) > cardHolderMax {
		f.Errors = append(f.Errors, fieldProblem{"holder", q.words.Text("cards.holder_long")})
	}
	if c.PIN != NormaliseDigits(q.r.PostForm.Get("pin_again")) {
		f.Errors = append(f.Errors, fieldProblem{"pin_again", q.words.Text("staff.pin_differs")})
	}
	if len(f.Errors) > 0 {
		return q.cardsPage(f)
	}
	made, err := q.clinic.NewCard(q.r.Context(), q.session, id, formID, c)
	if errors.Is(err, ErrWeakPIN) {
		f.Errors = append(f.Errors, fieldProblem{"pin", q.words.Text("cards.pin_weak")})
		return q.cardsPage(f)
	}
	if err != nil {
		return err
	}
	code, err := newQR(made.Code)
	if err != nil {
		return err
	}
	p := q.newPage("", "card.title", cardBody{ID: id, Who: q.person(made.Row), PrintedCard: made, QR: code})
	p.Sheet = true
	return q.show("card", p)
}

// cardBody is a card on paper.
type cardBody struct {
	PrintedCard
	ID  string
	Who personLine
	QR  qrCode
}

func endCard(q *request) error {
	id := q.r.PathValue("patient")
	if err := q.clinic.EndCard(q.r.Context(), q.session, id, q.r.PathValue("card")); err != nil {
		return err
	}
	return q.redirect("/patient/" + id + "/cards")
}

func showUseCard(q *request) error { return q.useCardPage(form{Values: url.Values{}}) }

func (q *request) useCardPage(f form) error {
	p := q.newPage("find", "usecard.title", nil)
	p.Form = f
	return q.show("usecard", p)
}

// useCard reads a card from a picture or as it was typed. Neither is shown again.
func useCard(q *request) error {
	picture, err := q.cardPicture()
	if err != nil {
		return err
	}
	code, pin := strings.TrimSpace(q.r.PostForm.Get("code")), NormaliseDigits(q.r.PostForm.Get("pin"))
	if len(code) > cardCodeMax || len(pin) > cardPINMax {
		return q.cardProblem("code", "usecard.code_wrong")
	}
	id, err := q.clinic.UseCard(q.r.Context(), q.session, code, picture, pin)
	var locked *LockedError
	switch {
	case err == nil:
		return q.redirect("/patient/" + id)
	case errors.As(err, &locked):
		return q.useCardPage(form{Values: url.Values{}, Errors: []fieldProblem{{"pin", q.words.Count("signin.locked", wholeMinutes(locked.Until))}}})
	case errors.Is(err, ErrWrongPIN):
		return q.cardProblem("pin", "signin.wrong_pin")
	case errors.Is(err, ErrCardCode):
		return q.cardProblem("code", "usecard.code_wrong")
	case errors.Is(err, ErrCardPicture):
		return q.cardProblem(fileField, "usecard.picture_wrong")
	case errors.Is(err, ErrCardUnknown):
		return q.cardProblem("code", "usecard.unknown")
	case errors.Is(err, ErrCardEnded):
		return q.cardProblem("code", "usecard.ended")
	case errors.Is(err, ErrCardBlocked):
		return q.cardProblem("code", "usecard.blocked")
	}
	return err
}

func (q *request) cardProblem(field, key string) error {
	return q.useCardPage(form{Values: url.Values{}, Errors: []fieldProblem{{field, q.words.Text(key)}}})
}

// cardPicture is the picture of the form, nil when there is none.
func (q *request) cardPicture() ([]byte, error) {
	u := q.upload
	if u == nil || u.next == nil {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(u.next, FileBytesMax+1))
	if err == nil && len(b) > FileBytesMax {
		err = errBadForm
	}
	if err == nil {
		err = q.readTexts()
	}
	return b, err
}
