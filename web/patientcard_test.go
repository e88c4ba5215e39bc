package web_test

import (
	"bytes"
	"context"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/web"
)

// fakeCardCode and fakeCardPIN open the child's chart.
const (
	fakeCardCode = "1A2B-3C4D-5E6F-7G8H-9J0K-1M2N-3P4Q"
	fakeCardPIN  = "4711"
)

// fakeCards keeps the cards of a patient in memory.
type fakeCards struct {
	lines   []web.CardLine
	made    map[string]bool // by form id
	picture []byte          // of the last try
	answer  error           // to whoever shows one
	only    bool            // a card alone opens the chart
}

func (f *fakeClinic) Cards(_ context.Context, s web.Session, id string) (web.CardsPage, error) {
	v, err := f.Open(context.Background(), s, id)
	f.mu.Lock()
	defer f.mu.Unlock()
	return web.CardsPage{Row: v.Row, Cards: slices.Clone(f.cards.lines), ByCard: f.cards.only}, err
}

func (f *fakeClinic) NewCard(_ context.Context, s web.Session, id, formID string, c web.NewCard) (web.PrintedCard, error) {
	v, err := f.Open(context.Background(), s, id)
	if err != nil {
		return web.PrintedCard{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return web.PrintedCard{}, f.fail
	}
	if len(c.PIN) < 4 {
		return web.PrintedCard{}, web.ErrWeakPIN
	}
	if f.cards.made[formID] {
		return web.PrintedCard{}, web.ErrFormUsed
	}
	if f.cards.made == nil {
		f.cards.made = map[string]bool{}
	}
	f.cards.made[formID] = true
	f.tainted(&c.Holder)
	for i := range f.cards.lines {
		if l := &f.cards.lines[i]; c.Replace && l.Ended.IsZero() {
			l.Ended, l.EndedBy = now, s.StaffName
		}
	}
	line := web.CardLine{ID: fmt.Sprintf("%032x", len(f.cards.lines)+1), Holder: c.Holder, At: now.Add(-time.Duration(len(f.cards.lines)) * time.Hour), By: s.StaffName}
	f.cards.lines = append(f.cards.lines, line)
	return web.PrintedCard{Row: v.Row, ID: line.ID, Code: fakeCardCode, Holder: c.Holder}, nil
}

func (f *fakeClinic) EndCard(_ context.Context, s web.Session, id, card string) error {
	if _, err := f.Open(context.Background(), s, id); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.cards.lines {
		if l := &f.cards.lines[i]; l.ID == card && l.Ended.IsZero() {
			l.Ended, l.EndedBy = now, s.StaffName
			return nil
		}
	}
	return web.ErrNotFound
}

func (f *fakeClinic) UseCard(_ context.Context, s web.Session, code string, picture []byte, pin string) (string, error) {
	if _, err := f.Session(context.Background(), s.Token); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cards.picture = picture; f.cards.answer != nil {
		return "", f.cards.answer
	}
	switch {
	case len(picture) == 0 && code != fakeCardCode:
		return "", web.ErrCardCode
	case pin != fakeCardPIN:
		return "", web.ErrWrongPIN
	}
	return f.patients[0], nil
}

// makeCard sends the form that makes a card for the child.
func (x *fixture) makeCard(values url.Values) answer {
	x.t.Helper()
	values.Set("form", randomHex(16))
	return x.post("/patient/"+x.people.child+"/cards", values)
}

// TestACardIsShownOnce: its letters are in the answer that makes it and nowhere else.
func TestACardIsShownOnce(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.child + "/cards"
	for name, c := range map[string]struct {
		form url.Values
		want string
	}{
		"PINs differ":   {url.Values{"pin": {"4711"}, "pin_again": {"4712"}}, "not the same"},
		"no PIN":        {url.Values{}, "4 to 12 digits"},
		"a long holder": {url.Values{"pin": {"4711"}, "pin_again": {"4711"}, "holder": {strings.Repeat("a", 81)}}, "At most 80"},
	} {
		if a := x.makeCard(c.form); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, c.want) || strings.Contains(a.body, fakeCardCode) {
			t.Errorf("%s: status %d, want 422 with %q and no card", name, a.status, c.want)
		}
	}
	a := x.makeCard(url.Values{"pin": {"٤٧١١"}, "pin_again": {"4711"}, "holder": {"Grandmother"}})
	if a.status != http.StatusOK || !strings.Contains(a.body, fakeCardCode) || !strings.Contains(a.body, "Grandmother") || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("status %d, %q: no card on the page, or one that is kept", a.status, a.header.Get("Cache-Control"))
	}
	list := x.get(path)
	if strings.Contains(list.body, fakeCardCode) || !strings.Contains(list.body, "Grandmother") || strings.Contains(x.log.String(), fakeCardCode) {
		t.Error("the letters of a card come back, or its line is missing")
	}
	x.fake.cards.lines[0].Keyless = true
	if list := x.get(path); !strings.Contains(list.body, "Opens nothing written since the limit") {
		t.Error("the list does not say that a card has no key")
	}
	end := path + "/" + x.fake.cards.lines[0].ID + "/end"
	if a := x.post(end, nil); a.location != path || x.fake.cards.lines[0].Ended.IsZero() {
		t.Errorf("ending a card: %d to %q", a.status, a.location)
	}
	if a := x.post(end, nil); a.status != http.StatusNotFound {
		t.Errorf("ending it again: %d", a.status)
	}
}

// TestACardOpensAndNoMore: nothing that needs more than a card is offered by one.
func TestACardOpensAndNoMore(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	path := "/patient/" + x.people.child
	offered := func() int {
		a := x.get(path)
		if !strings.Contains(a.body, path+"/visit") || !strings.Contains(a.body, path+"/consent") {
			t.Error("no visit is offered, or no decision")
		}
		return strings.Count(a.body, `href="`+path+"/erase") + strings.Count(x.get(path+"/cards").body, `name="pin_again"`)
	}
	if offered() < 3 {
		t.Fatal("without a card not all is offered: this test finds nothing")
	}
	x.fake.decided, x.fake.cards.only = &web.Decided{Grant: "card0123456789", Until: now.Add(2 * time.Hour), ByCard: true, Lent: true}, true
	if !strings.Contains(x.get(path).body, "keeps nothing of it") {
		t.Error("the page does not say that nothing stays here")
	}
	if n := offered(); n != 0 {
		t.Errorf("by a card %d things are offered that it does not open", n)
	}
}

func TestUsingACard(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	if a := x.showCard(fakeCardCode, fakeCardPIN, nil); a.location != "/patient/"+x.fake.patients[0] {
		t.Errorf("typed: %d to %q", a.status, a.location)
	}
	if a := x.showCard("", fakeCardPIN, []byte("picture")); a.location == "" || string(x.fake.cards.picture) != "picture" {
		t.Errorf("a picture: %d, %d bytes came", a.status, len(x.fake.cards.picture))
	}
	if a := x.showCard("", fakeCardPIN, bytes.Repeat([]byte("p"), web.FileBytesMax+1)); a.status < 400 {
		t.Errorf("a picture that is too large: %d", a.status)
	}
	for err, want := range map[error]string{web.ErrCardCode: "not the letters", web.ErrCardPicture: "No card can be read", web.ErrCardUnknown: "does not know the card",
		web.ErrCardEnded: "was ended", web.ErrCardBlocked: "Too many wrong PINs", web.ErrWrongPIN: "PIN is not right", &web.LockedError{Until: 5 * time.Minute}: "5 minutes"} {
		x.fake.cards.answer = err
		a := x.showCard(fakeCardCode, "9999", nil)
		if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, want) || strings.Contains(a.body, fakeCardCode) || strings.Contains(a.body, "9999") {
			t.Errorf("%v: status %d, want 422 with %q and nothing of the card", err, a.status, want)
		}
	}
	if strings.Contains(x.log.String(), fakeCardCode) {
		t.Error("a card's letters are in the log")
	}
}

// showCard sends the form of a card as a browser does.
func (x *fixture) showCard(code, pin string, picture []byte) answer {
	x.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, f := range [][2]string{{"code", code}, {"pin", pin}} {
		if err := w.WriteField(f[0], f[1]); err != nil {
			x.t.Fatal(err)
		}
	}
	p, err := w.CreateFormFile("files", "card.jpg")
	if err == nil {
		_, err = p.Write(picture)
	}
	if err != nil || w.Close() != nil {
		x.t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, x.url+"/card", &b)
	if err != nil {
		x.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Content-Type", w.FormDataContentType())
	return x.do(r)
}
