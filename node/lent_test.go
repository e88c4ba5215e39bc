package node_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

// noted saves a visit whose note is as given.
func (c *clinic) noted(patient, form, note string) string {
	c.t.Helper()
	s, err := c.n.SaveVisit(c.t.Context(), c.token, patient, form, fhir.Visit{At: c.o.Now(), Problem: "cough", Note: note})
	if err != nil {
		c.t.Fatal(err)
	}
	return s.RID
}

// tellsOf are the words that stand in a chart as it opens here now.
func (c *clinic) tellsOf(patient string, words ...string) (found []string) {
	c.t.Helper()
	v := c.open(patient)
	text := fmt.Sprintf("%+v", v.Chart.Lines)
	for _, l := range v.Chart.Lines {
		text += string(l.Shown.Resource.JSON)
	}
	for _, w := range words {
		if strings.Contains(text, w) {
			found = append(found, w)
		}
	}
	return found
}

// keepsWord reports whether a box can read a word in anything that it holds.
func (c *clinic) keepsWord(patient, word string) bool {
	c.t.Helper()
	all, err := c.n.Readable(patient)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, b := range all {
		if bytes.Contains(b, []byte(word)) {
			return true
		}
	}
	return false
}

// opensWith reports whether one of keys opens a record that this box holds.
func (c *clinic) opensWith(rid string, keys []seal.Key) bool {
	c.t.Helper()
	ok, err := c.n.OpensWith(rid, keys)
	if err != nil {
		c.t.Fatal(err)
	}
	return ok
}

// holds waits until a record with its body is here.
func (c *clinic) holds(rid string) {
	c.t.Helper()
	c.until("record "+rid[:8], func(node.Status) bool { _, err := c.n.OpensWith(rid, nil); return err == nil })
}

func (c *clinic) byCard(patient, code, pin string) []seal.Key {
	c.t.Helper()
	keys, err := c.n.ByCard(patient, code, pin)
	if err != nil {
		c.t.Fatal(err)
	}
	return keys
}

// cardRig is a chart that is closed to all but the clinic at home, in a region with an escrow, and another
// clinic that holds all of it.
type cardRig struct {
	hub, home, away *clinic

	ahead   atomic.Int64 // of the other clinic's clock
	patient string
	card    web.PrintedCard
	visit   string       // that home saved since
	log     bytes.Buffer // of the other clinic
}

const (
	homeWord = "xylophone"
	awayWord = "saxophone"
)

func newCardRig(t *testing.T) *cardRig {
	t.Helper()
	hub := newHub(t)
	x := &cardRig{hub: hub, home: newMember(t, hub, "Kibuye"), away: newMember(t, hub, "Soroti")}
	public, _ := escrowFor(t, hub, 2, 3)
	if _, err := hub.n.SetEscrow(t.Context(), public); err != nil {
		t.Fatal(err)
	}
	x.home.until("the escrow", func(node.Status) bool { return x.home.n.EscrowKeyID() == public.ID })
	x.away.stop()
	x.away.o.Log = zerolog.New(zerolog.SyncWriter(&x.log))
	x.away.o.Now = func() time.Time { return time.Now().Add(time.Duration(x.ahead.Load())) }
	x.away.start()
	x.away.signIn()
	x.patient = x.home.register("card-rig", "Nansubuga")
	x.home.visited(x.patient, "card-rig-before", "fever")
	x.card = x.home.makeCard(x.patient, "card-rig-made", web.NewCard{})
	x.home.decides(x.patient, "card-rig-limit", web.Decision{Do: web.DoLimit})
	x.visit = x.home.noted(x.patient, "card-rig-visit", homeWord)
	x.away.holds(x.visit)
	x.away.until("the card", func(node.Status) bool { return errors.Is(x.show(x.card.Code, "9999"), web.ErrWrongPIN) })
	return x
}

// show shows a card at the other clinic.
func (x *cardRig) show(code, pin string) error {
	_, err := x.away.n.UseCard(x.away.ctx(), x.away.token, code, nil, pin)
	return err
}

// TestCardIsAKey: what is written since the limit opens at another clinic with the card and its PIN
// alone, to the session that they were shown to, and that clinic keeps nothing of it.
func TestCardIsAKey(t *testing.T) {
	x := newCardRig(t)
	keys := func(c *clinic) []seal.Key {
		all, err := c.n.KeysAtHand(x.patient)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if !x.home.opensWith(x.visit, keys(x.home)) || !x.home.keepsWord(x.patient, homeWord) {
		t.Fatal("the keys at home do not open the visit, or none of its words is found: this test finds nothing")
	}
	nothing := func(when string) {
		t.Helper()
		if x.away.opensWith(x.visit, keys(x.away)) || x.away.reads(x.patient) || x.away.keepsWord(x.patient, homeWord) || x.away.keepsWord(x.patient, awayWord) {
			t.Errorf("%s the other clinic reads the visit, or keeps a word of one", when)
		}
	}
	nothing("without the card")
	other := x.home.register("card-rig-other", "Okello")
	wrong := x.home.makeCard(other, "card-rig-wrong", web.NewCard{})
	x.away.until("another's card", func(node.Status) bool { return x.show(wrong.Code, cardPIN) == nil })
	nothing("with another's card")
	if len(x.away.byCard(x.patient, x.card.Code, "4712")) != 0 {
		t.Error("a wrong PIN opens wraps")
	}
	if err := x.show(x.card.Code, cardPIN); err != nil {
		t.Fatal(err)
	}
	if v := x.away.open(x.patient); v.Decided == nil || !v.Decided.Lent || v.Chart.Closed.Records != 0 {
		t.Errorf("by the card: %+v, %d records stay closed", v.Decided, v.Chart.Closed.Records)
	}
	if got := x.away.tellsOf(x.patient, homeWord); len(got) != 1 || len(x.away.open(x.patient).Chart.Visits) != 2 {
		t.Fatalf("by the card the chart tells of %v", got)
	}
	x.away.attach(x.patient, "card-rig-away", awayWord+".pdf", []byte("%PDF-1.4 "+awayWord+"\n%%EOF\n"))
	written := x.away.noted(x.patient, "card-rig-away", "a "+awayWord)
	if again := x.away.noted(x.patient, "card-rig-away", "a "+awayWord); again != written {
		t.Error("a second tap is another record")
	}
	if v := x.away.open(x.patient); len(x.away.tellsOf(x.patient, awayWord)) != 1 || len(files(v)) != 1 {
		t.Error("what was written by the card is not shown by it")
	} else if f, err := x.away.n.File(t.Context(), x.away.token, x.patient, files(v)[0]); err != nil || !bytes.Contains(f.Content, []byte(awayWord)) {
		t.Errorf("the file by the card: %v", err)
	}
	if x.away.keepsWord(x.patient, awayWord) || x.away.keepsWord(x.patient, homeWord) {
		t.Error("while the card is there this clinic keeps words of the chart")
	}
	var out bytes.Buffer
	if _, err := x.away.n.Export(t.Context(), &out); err != nil || bytes.Contains(out.Bytes(), []byte(homeWord)) || bytes.Contains(out.Bytes(), []byte(awayWord)) {
		t.Errorf("an export while the card is there: %v, or it has words of the chart", err)
	}
	x.home.until("what the other clinic wrote", func(node.Status) bool { return len(x.home.tellsOf(x.patient, awayWord)) == 1 })
	x.passEnds(t, nothing)
	s := secrets{}
	s.text("a word of home", homeWord)
	s.text("a word from away", awayWord)
	x.away.stop()
	if got := s.foundUnder(t, x.away.o.Data); len(got) != 0 {
		t.Errorf("on the disk of the other clinic: %v", got)
	}
	if got := s.found(x.log.Bytes()); len(got) != 0 {
		t.Errorf("in its log: %v", got)
	}
}

// passEnds tries all that ends the pass of a card.
func (x *cardRig) passEnds(t *testing.T, nothing func(when string)) {
	t.Helper()
	again := func() {
		t.Helper()
		if err := x.show(x.card.Code, cardPIN); err != nil || len(x.away.tellsOf(x.patient, homeWord)) != 1 {
			t.Fatalf("the card once more: %v", err)
		}
	}
	x.away.n.SignOut(t.Context(), x.away.token.Token)
	x.away.signIn()
	nothing("after signing out")
	again()
	x.away.stop()
	x.away.start()
	x.away.signIn()
	nothing("after a restart")
	again()
	until := x.away.o.Now().Add(2 * time.Hour)
	for x.away.o.Now().Add(time.Minute).Before(until) { // somebody works on, so that the session stays
		if !x.away.reads(x.patient) {
			t.Fatalf("%s before two hours are over the chart is closed", until.Sub(x.away.o.Now()))
		}
		x.ahead.Add(int64(min(4*time.Minute, time.Until(until)-time.Duration(x.ahead.Load())-30*time.Second)))
	}
	x.ahead.Add(int64(2 * time.Minute))
	nothing("after two hours")
	if _, err := x.away.n.SaveVisit(t.Context(), x.away.token, x.patient, "card-rig-late", fhir.Visit{At: x.away.o.Now(), Problem: "cough"}); !errors.Is(err, web.ErrRefused) {
		t.Errorf("a visit after two hours: %v", err)
	}
}

// TestVisitByCardIsWrittenAgain: one that the region refused for its place, once the card is there again.
func TestVisitByCardIsWrittenAgain(t *testing.T) {
	x := newCardRig(t)
	if err := x.show(x.card.Code, cardPIN); err != nil {
		t.Fatal(err)
	}
	if err := x.away.n.SetLink(false); err != nil {
		t.Fatal(err)
	}
	rid := x.away.noted(x.patient, "again-visit", awayWord)
	in, err := x.hub.n.Store().Ingest(t.Context(), record.DeviceID{}, []record.Record{sibling(x.away.place(rid), x.away.key())})
	if err != nil || in.New != 1 {
		t.Fatalf("the record of a copy: %+v, %v", in, err)
	}
	if err := x.away.n.SetLink(true); err != nil {
		t.Fatal(err)
	}
	state := func() chart.StateKind {
		states, err := x.away.n.States(t.Context(), x.away.token, []string{rid})
		if err != nil {
			t.Fatal(err)
		}
		return states[rid].Kind
	}
	x.away.until("the refusal", func(node.Status) bool { return state() == chart.Refused })
	x.away.signIn()
	x.away.until("its place in the region's record", func(node.Status) bool { return x.show(x.card.Code, cardPIN) == nil && state() == chart.Confirmed })
	x.home.until("the visit", func(node.Status) bool { return len(x.home.tellsOf(x.patient, awayWord)) == 1 })
	if got := len(x.away.open(x.patient).Chart.Visits); got != 3 {
		t.Errorf("%d visits by the card, want 3", got)
	}
}

// TestLostCardOpensNothingNew: with its PIN, all ciphertexts and the keys of another clinic. The card that
// replaces it opens all there is.
func TestLostCardOpensNothingNew(t *testing.T) {
	x := newCardRig(t)
	x.writesPastALostCard(t)
	if err := x.show(x.card.Code, cardPIN); err != nil || !x.away.reads(x.patient) {
		t.Fatalf("the card before it was lost: %v", err)
	}
	if err := x.home.n.EndCard(t.Context(), x.home.token, x.patient, x.card.ID); err != nil {
		t.Fatal(err)
	}
	after := x.home.noted(x.patient, "lost-after", "after the loss")
	x.away.holds(after)
	x.away.until("the card's end", func(node.Status) bool { return errors.Is(x.show(x.card.Code, cardPIN), web.ErrCardEnded) })
	if x.away.reads(x.patient) {
		t.Error("the session that an ended card had opened is still open")
	}
	old := x.away.byCard(x.patient, x.card.Code, cardPIN)
	at, err := x.away.n.KeysAtHand(x.patient)
	if err != nil {
		t.Fatal(err)
	}
	if !x.away.opensWith(x.visit, old) {
		t.Error("the lost card does not open what was written before: this test finds nothing")
	}
	if x.away.opensWith(after, append(old, at...)) {
		t.Error("the lost card opens what was written after it was ended")
	}
	newer := x.home.makeCard(x.patient, "lost-newer", web.NewCard{Replace: true})
	x.away.until("the new card", func(node.Status) bool { return x.show(newer.Code, cardPIN) == nil })
	if keys := x.away.byCard(x.patient, newer.Code, cardPIN); !x.away.opensWith(x.visit, keys) || !x.away.opensWith(after, keys) || len(x.away.open(x.patient).Chart.Visits) != 4 {
		t.Error("the card that replaced it does not open all")
	}
	if _, err := x.away.n.NewCard(t.Context(), x.away.token, x.patient, "lost-by-card", web.NewCard{PIN: cardPIN}); !errors.Is(err, web.ErrRefused) {
		t.Errorf("a card made by a card: %v", err)
	}
}

// writesPastALostCard: where a card was ended and home wrote nothing since, it is the other clinic that makes
// the next key, by the card that holds: not for the lost one, and not for itself.
func (x *cardRig) writesPastALostCard(t *testing.T) {
	t.Helper()
	guardian := x.home.makeCard(x.patient, "lost-guardian", web.NewCard{Holder: "Grandmother"})
	x.away.until("the guardian's card", func(node.Status) bool { return x.show(guardian.Code, cardPIN) == nil })
	if !x.away.opensWith(x.visit, x.away.byCard(x.patient, guardian.Code, cardPIN)) {
		t.Error("a guardian's card does not open what was there before it")
	}
	if err := x.home.n.EndCard(t.Context(), x.home.token, x.patient, guardian.ID); err != nil {
		t.Fatal(err)
	}
	x.away.until("its end", func(node.Status) bool { return errors.Is(x.show(guardian.Code, cardPIN), web.ErrCardEnded) })
	if err := x.show(x.card.Code, cardPIN); err != nil {
		t.Fatal(err)
	}
	rid := x.away.noted(x.patient, "lost-by-away", awayWord)
	if len(x.away.tellsOf(x.patient, awayWord)) != 1 || !x.away.opensWith(rid, x.away.byCard(x.patient, x.card.Code, cardPIN)) {
		t.Error("the card that holds does not open what was written by it")
	}
	at, err := x.away.n.KeysAtHand(x.patient)
	if err != nil {
		t.Fatal(err)
	}
	if x.away.opensWith(rid, append(x.away.byCard(x.patient, guardian.Code, cardPIN), at...)) {
		t.Error("the lost card, or the clinic's own keys, open what was written after")
	}
	x.home.until("what was written by the card", func(node.Status) bool { return len(x.home.tellsOf(x.patient, awayWord)) == 1 })
}
