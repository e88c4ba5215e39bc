package node_test

import (
	"bytes"
	"errors"
	"image/png"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skip2/go-qrcode"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/web"
)

const cardPIN = "4711"

func (c *clinic) makeCard(patient, form string, with web.NewCard) web.PrintedCard {
	c.t.Helper()
	with.PIN = cardPIN
	made, err := c.n.NewCard(c.ctx(), c.token, patient, form, with)
	if err != nil {
		c.t.Fatal(err)
	}
	return made
}

// TestCardFindsItsChart: typed, or in a picture; the old one is dead when it was replaced,
// and nothing of a card can be had twice.
func TestCardFindsItsChart(t *testing.T) {
	c := newClinic(t)
	id := c.register("form-1", "Nakato")
	made := c.makeCard(id, "form-2", web.NewCard{})
	if _, err := c.n.NewCard(t.Context(), c.token, id, "form-2", web.NewCard{PIN: cardPIN}); !errors.Is(err, web.ErrFormUsed) {
		t.Errorf("the same form again: %v", err)
	}
	if _, err := c.n.NewCard(t.Context(), c.token, id, "form-3", web.NewCard{PIN: "1111"}); !errors.Is(err, web.ErrWeakPIN) {
		t.Errorf("a weak PIN: %v", err)
	}
	use := func(code string, picture []byte, pin string) (string, error) {
		return c.n.UseCard(t.Context(), c.token, code, picture, pin)
	}
	if got, err := use(made.Code, nil, cardPIN); err != nil || got != id {
		t.Errorf("typed: %q, %v", got, err)
	}
	code, err := qrcode.New(made.Code, qrcode.Medium)
	if err != nil {
		t.Fatal(err)
	}
	var picture bytes.Buffer
	if err := png.Encode(&picture, code.Image(400)); err != nil {
		t.Fatal(err)
	}
	if got, err := use("", picture.Bytes(), cardPIN); err != nil || got != id {
		t.Errorf("in a picture: %q, %v", got, err)
	}
	for name, x := range map[string]struct {
		code    string
		picture []byte
		want    error
	}{"no code": {"hello", nil, web.ErrCardCode}, "no picture": {"", []byte("hello"), web.ErrCardPicture}, "of another region": {"0000-0000-0000-0000-0000-0000-00" + sumOfZeros, nil, web.ErrCardUnknown}} {
		if _, err := use(x.code, x.picture, cardPIN); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
	guardian := c.makeCard(id, "form-4", web.NewCard{Holder: "Grandmother"})
	newer := c.makeCard(id, "form-5", web.NewCard{Replace: true})
	for _, dead := range []string{made.Code, guardian.Code} {
		if _, err := use(dead, nil, cardPIN); !errors.Is(err, web.ErrCardEnded) {
			t.Errorf("a card that was replaced: %v", err)
		}
	}
	c.stop()
	c.start()
	c.signIn()
	if _, err := use(newer.Code, nil, cardPIN); err != nil {
		t.Errorf("the new card after a start: %v", err)
	}
	page, err := c.n.Cards(t.Context(), c.token, id)
	if err != nil || len(page.Cards) != 3 || page.Cards[0].ID != newer.ID || !page.Cards[0].Ended.IsZero() || page.Cards[1].Ended.IsZero() {
		t.Errorf("the list of cards: %+v, %v", page.Cards, err)
	}
	if err := c.n.EndCard(t.Context(), c.token, id, newer.ID); err != nil {
		t.Fatal(err)
	}
	if err := c.n.EndCard(t.Context(), c.token, id, newer.ID); !errors.Is(err, web.ErrNotFound) {
		t.Errorf("ending a card twice: %v", err)
	}
	if _, err := use(newer.Code, nil, cardPIN); !errors.Is(err, web.ErrCardEnded) {
		t.Errorf("a lost card: %v", err)
	}
}

// sumOfZeros are the last letters of the code of a secret of zeros.
const sumOfZeros = "9Q"

// TestWrongPINsOfACardAreCounted: across starts, with a line each, until the card is taken
// no more.
func TestWrongPINsOfACardAreCounted(t *testing.T) {
	c := newClinic(t)
	now := time.Now()
	c.stop()
	c.o.Now = func() time.Time { return now }
	c.start()
	c.signIn()
	id := c.register("form-1", "Nakato")
	made := c.makeCard(id, "form-2", web.NewCard{})
	wrong, locked, setBack := 0, 0, false
	for range 40 {
		_, err := c.n.UseCard(t.Context(), c.token, made.Code, nil, "9999")
		var wait *web.LockedError
		switch {
		case errors.Is(err, web.ErrWrongPIN):
			wrong++
		case errors.As(err, &wait) && locked == 0 && !setBack:
			setBack = true
			now = now.AddDate(-1, 0, 0) // a clock set back locks for no longer
		case errors.As(err, &wait):
			locked++
			now = now.Add(wait.Until + time.Second)
			c.stop()
			c.start()
			c.signIn()
		case errors.Is(err, web.ErrCardBlocked):
			if wrong != 10 || locked != 1 {
				t.Errorf("blocked after %d wrong PINs and %d pauses, want 10 and 1", wrong, locked)
			}
			if _, err := c.n.UseCard(t.Context(), c.token, made.Code, nil, cardPIN); !errors.Is(err, web.ErrCardBlocked) {
				t.Errorf("the right PIN at a blocked card: %v", err)
			}
			looks, err := c.n.Looks(t.Context(), c.token, id)
			refused := 0
			for _, l := range looks.Looks {
				if l.What == "card" && l.Refused {
					refused++
				}
			}
			if err != nil || refused == 0 {
				t.Errorf("%d refused tries on the patient's list, %v", refused, err)
			}
			return
		default:
			t.Fatal(err)
		}
	}
	t.Errorf("%d wrong PINs were taken", wrong)
}

// opensByCard: a chart that is closed at a clinic opens there to the session that the card
// was shown to, until the card is ended elsewhere.
func opensByCard(t *testing.T, a, b *clinic) {
	t.Helper()
	patient := a.register("by-card", "Nansubuga")
	a.visited(patient, "by-card-visit", "fever")
	a.decides(patient, "by-card-limit", web.Decision{Do: web.DoLimit})
	made := a.makeCard(patient, "by-card-made", web.NewCard{})
	b.until("the card", func(node.Status) bool {
		_, err := b.n.UseCard(t.Context(), b.token, made.Code, nil, "9999")
		return errors.Is(err, web.ErrWrongPIN)
	})
	b.until("the whole chart", func(node.Status) bool {
		v, err := b.n.Open(t.Context(), b.token, patient)
		return err == nil && v.Limited && v.Decided != nil
	})
	if got, err := b.n.UseCard(t.Context(), b.token, made.Code, nil, cardPIN); err != nil || got != patient {
		t.Fatalf("the card at the other clinic: %v", err)
	}
	v := b.open(patient)
	if v.Limited || v.Decided == nil || !strings.HasPrefix(v.Decided.Grant, "card") || len(v.Chart.Visits) != 1 {
		t.Fatalf("by the card: %+v", v.Decided)
	}
	if page, err := b.n.Consents(t.Context(), b.token, patient); err != nil || len(page.Topics) != 3 {
		t.Errorf("who was shown the card may decide about %q, %v", page.Topics, err)
	}
	b.visited(patient, "by-card-second", "cough")
	if looks := b.looksOf(patient); !slices.ContainsFunc(looks, func(l web.Look) bool { return l.What == "view" && strings.HasPrefix(l.Grant, "card") }) {
		t.Errorf("no look by the card on the patient's list: %+v", looks)
	}
	before := b.token
	b.signIn()
	if b.reads(patient) {
		t.Error("a chart that was opened by card is open to another session")
	}
	b.token = before
	if err := a.n.EndCard(t.Context(), a.token, patient, made.ID); err != nil {
		t.Fatal(err)
	}
	b.until("the end of the card", func(node.Status) bool { return !b.reads(patient) })
	if _, err := b.n.UseCard(t.Context(), b.token, made.Code, nil, cardPIN); !errors.Is(err, web.ErrCardEnded) {
		t.Errorf("a card that was ended elsewhere: %v", err)
	}
}
