package web

import (
	"math"
	"time"

	"github.com/healthpost/healthpost/chart"
)

// LooksPage is who looked at one chart.
type LooksPage struct {
	Row chart.Row
	// Gaps are where the access log of a box does not hang together, as far as this one can tell.
	Gaps []LookGap
	// Emergencies are those of this chart, newest first, also when they were looked into.
	Emergencies []EmergencyEvent
	Looks       []Look
	More        bool // older ones are left out
}

// LookGap is a gap in the access log of a box.
type LookGap struct {
	Box          string
	Lines        uint64    // that are missing; 0: a line was changed, or is there twice
	Since, Until time.Time // around it; zero: not known
}

// Look is one line of it.
type Look struct {
	At      time.Time
	Who     string // a staff member's name; "" for a command of who runs the box
	Box     string
	What    string // an action's name in the rules, "export" or "other"
	Refused bool
	Rules   string    // what decided it: ids of the rules, separated by commas; "" when that is not known
	Purpose string    // other than treatment, or ""
	Grant   string    // id of the patient's grant that it leaned on, or ""
	Until   time.Time // of that grant; zero for no end
	Size    uint64    // of the regional record as the box had verified it
}

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
		if l.Purpose != "" {
			line.What += ": " + label(q.words, "purpose", l.Purpose)
		}
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
