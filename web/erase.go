package web

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/healthpost/healthpost/chart"
)

// Erasure says what is erased, why, and who agrees.
type Erasure struct {
	Record string // id of one record; "" for the whole chart
	Reason string // one of EraseReasons
	Second string // staff id of the second person
	PIN    string // theirs
}

// EraseReasons are catalogue keys under "erase.reason".
var EraseReasons = []string{"asked", "mistake", "ordered", "expired"}

// ErasedError: the chart was erased, at a ledger time.
type ErasedError struct{ At time.Time }

func (e *ErasedError) Error() string { return "erased on " + e.At.Format(time.DateOnly) }

// eraseBody is the page that has a chart erased everywhere, or one record of it.
type eraseBody struct {
	ID      string
	Who     personLine
	Entry   *visitCard // what is shown of the record; nil for the whole chart
	Reasons []string
	Staff   []StaffTile // who may agree: everybody here but who asks
}

func showErase(q *request) error {
	return q.erasePage(form{})
}

func (q *request) erasePage(f form) error {
	view, err := q.clinic.Open(q.r.Context(), q.session, q.r.PathValue("patient"))
	if err != nil {
		return err
	}
	staff, err := q.clinic.Staff(q.r.Context())
	if err != nil {
		return err
	}
	staff = slices.DeleteFunc(slices.Clone(staff), func(s StaffTile) bool { return s.ID == q.session.StaffID })
	body, title := eraseBody{ID: view.ID, Who: q.person(view.Row), Reasons: EraseReasons, Staff: staff}, "erase.title"
	if rid := q.r.PathValue("rid"); rid != "" {
		l, ok := recordLine(&view.Chart, rid)
		if !ok {
			return ErrNotFound
		}
		card := q.lineCard(&view.Chart, l)
		body.Entry, title = &card, "erase.entry_title"
	}
	p := q.newPage("", title, body)
	p.Form = f
	return q.show("erase", p)
}

// recordLine is the line of a chart that shows what a record says: of a visit's, its visit. Who somebody
// is goes with the chart alone.
func recordLine(c *chart.Chart, rid string) (*chart.Line, bool) {
	for i := range c.Visits {
		if ridText(c.Visits[i].Shown.RID) == rid {
			return &c.Visits[i].Line, true
		}
	}
	for i := range c.Lines {
		if l := &c.Lines[i]; l.Type != "Patient" && ridText(l.Shown.RID) == rid {
			return l, true
		}
	}
	return nil, false
}

// erase takes the second person's PIN, which like that of signing in is never shown
// again, kept or logged.
func erase(q *request) error {
	x := Erasure{Record: q.r.PathValue("rid"), Reason: q.value("reason"), Second: q.value("staff"), PIN: NormaliseDigits(q.r.PostForm.Get("pin"))}
	f := form{Values: url.Values{"reason": {x.Reason}, "staff": {x.Second}}}
	fault := func(field, key string) { f.Errors = append(f.Errors, fieldProblem{field, q.words.Text(key)}) }
	if !slices.Contains(EraseReasons, x.Reason) {
		fault("reason-0", "withdraw.reason_needed")
	}
	if x.Second == "" || x.Second == q.session.StaffID {
		fault("staff-0", "signin.choose_name")
	}
	if len(x.PIN) != pinDigits {
		fault("pin", "signin.pin_digits")
	}
	if len(f.Errors) > 0 {
		return q.erasePage(f)
	}
	if wait := q.tries.begin(addressOf(q.r), q.opts.Now()); wait > 0 {
		f.Errors = []fieldProblem{{"pin", q.words.Count("signin.locked", wholeMinutes(wait))}}
		return q.erasePage(f)
	}
	patientID := q.r.PathValue("patient")
	err := q.clinic.Erase(q.r.Context(), q.session, patientID, x)
	if !errors.Is(err, ErrWrongPIN) {
		q.tries.takeBack(addressOf(q.r))
	}
	var locked *LockedError
	switch {
	case errors.As(err, &locked):
		f.Errors = []fieldProblem{{"pin", q.words.Count("signin.locked", wholeMinutes(locked.Until))}}
		return q.erasePage(f)
	case errors.Is(err, ErrSecondPerson):
		fault("staff-0", "signin.choose_name")
		return q.erasePage(f)
	case errors.Is(err, ErrWrongPIN):
		fault("pin", "signin.wrong_pin")
		return q.erasePage(f)
	case err != nil:
		return fmt.Errorf("erasing: %w", err)
	}
	if x.Record != "" {
		return q.redirect("/patient/" + url.PathEscape(patientID) + "?done=entry_erased")
	}
	return q.redirect("/patient/" + url.PathEscape(patientID) + "?done=erased")
}
