package web

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/healthpost/healthpost/chart"
)

// withdrawBody is the page that withdraws one entry.
type withdrawBody struct {
	ID      string
	Who     personLine
	Visit   visitCard
	Reasons []string
}

// withdrawReasons are catalogue keys under "withdraw.reason".
var withdrawReasons = []string{"wrong_person", "twice", "wrong_value", "not_done", "other"}

func showWithdraw(q *request) error {
	f, err := q.newForm(nil)
	if err != nil {
		return err
	}
	return q.withdrawPage(f)
}

func (q *request) withdrawPage(f form) error {
	ref, err := chart.ParseRef(q.r.PathValue("ref"))
	if err != nil {
		return ErrNotFound
	}
	view, err := q.clinic.Open(q.r.Context(), q.session, q.r.PathValue("patient"))
	if err != nil {
		return err
	}
	l, ok := view.Chart.Line(ref)
	if !ok || l.Type == "Patient" {
		return ErrNotFound
	}
	if l.Retracted {
		return q.redirect("/patient/" + url.PathEscape(view.ID) + "?done=retracted")
	}
	p := q.newPage("", "withdraw.title", withdrawBody{ID: view.ID, Who: q.person(view.Row), Visit: q.lineCard(&view.Chart, l), Reasons: withdrawReasons})
	p.Form = f
	return q.show("withdraw", p)
}

// lineCard shows the entry to be withdrawn: a whole visit, or one line.
func (q *request) lineCard(c *chart.Chart, l *chart.Line) visitCard {
	for i := range c.Visits {
		if c.Visits[i].Key == l.Key {
			card := q.visitCard("", &c.Visits[i], nil)
			for _, f := range card.Files { // named, not opened, from here
				card.Facts = append(card.Facts, factLine{Label: q.words.Text("file.title"), Value: f.Name})
			}
			card.Withdraw, card.Erase, card.Files = "", "", nil
			return card
		}
	}
	s := l.Resource().Summarise()
	return visitCard{
		When: formatTime(q.words, l.Shown.At.In(q.opts.Location)), Author: l.Shown.Author,
		Badge: badgeOf(q.words, l.Shown.State, ridText(l.Shown.RID)), Facts: []factLine{{Label: l.Type, Value: strings.TrimSpace(s.Title + " " + s.Value)}},
	}
}

// withdraw stores the retraction with its reason in words.
func withdraw(q *request) error {
	id, err := q.postedFormID()
	if err != nil {
		return err
	}
	reason := q.value("reason")
	if !slices.Contains(withdrawReasons, reason) {
		return q.withdrawPage(q.postedForm(id, []fieldProblem{{"reason-0", q.words.Text("withdraw.reason_needed")}}))
	}
	ref, err := chart.ParseRef(q.r.PathValue("ref"))
	if err != nil {
		return ErrNotFound
	}
	words := q.words.Text("withdraw.reason." + reason)
	if more := q.value("words"); more != "" {
		words += ": " + more
	}
	if len(words) > chart.ReasonSizeMax {
		return errBadForm
	}
	patientID := q.r.PathValue("patient")
	err = q.clinic.Retract(q.r.Context(), q.session, patientID, id, ref, words)
	if errors.Is(err, ErrFormUsed) {
		f, err := q.reusedForm()
		if err != nil {
			return err
		}
		return q.withdrawPage(f)
	}
	if err != nil {
		return fmt.Errorf("withdrawing: %w", err)
	}
	return q.redirect("/patient/" + url.PathEscape(patientID) + "?done=retracted")
}
