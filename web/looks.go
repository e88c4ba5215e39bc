package web

import "math"

// looksBody is who looked at a chart, for the screen and for the patient's own paper.
type looksBody struct {
	ID   string
	Who  personLine
	List []lookLine

	Emergencies []emergencyLine
	Gaps        []string
	More        bool
}

// lookLine is one look in words.
type lookLine struct {
	When, What, Who, Box string
	Refused              bool
	Grant, Rule          string // by what, in words; "" when nothing is known of it
}

func showLooks(q *request) error {
	id := q.r.PathValue("patient")
	looks, err := q.clinic.Looks(q.r.Context(), q.session, id)
	if err != nil {
		return err
	}
	body := looksBody{ID: id, Who: q.person(looks.Row), More: looks.More}
	for _, g := range looks.Gaps {
		body.Gaps = append(body.Gaps, q.gapWords(g))
	}
	for _, e := range looks.Emergencies {
		body.Emergencies = append(body.Emergencies, q.emergencyLine(e))
	}
	for _, l := range looks.Looks {
		line := lookLine{When: formatTime(q.words, l.At.In(q.opts.Location)), What: label(q.words, "look", l.What), Who: l.Who, Box: l.Box, Refused: l.Refused}
		if line.Who == "" {
			line.Who = q.words.Text("looks.operator")
		}
		if l.Rules != "" {
			line.Rule = q.words.Text("looks.rule", l.Rules, formatCount(int(min(l.Size, math.MaxInt))))
		}
		if l.Grant != "" {
			line.Grant = q.grantWords("looks.grant", l.Grant, l.Until)
		}
		body.List = append(body.List, line)
	}
	p := q.newPage("", "looks.title", body)
	p.Sheet = true
	return q.show("looks", p)
}

// gapWords says what is wrong with the access log of a box, and when.
func (q *request) gapWords(g LookGap) string {
	words := q.words.Text("looks.gap_changed", g.Box)
	if g.Lines > 0 {
		words = q.words.Count("looks.gap", int(min(g.Lines, math.MaxInt32)), g.Box)
	}
	if !g.Since.IsZero() {
		words += " " + q.words.Text("looks.gap_since", formatTime(q.words, g.Since.In(q.opts.Location)))
	}
	return words
}
