package web

import (
	"net/url"
	"strings"

	"github.com/healthpost/healthpost/chart"
)

// todayBody is the first page after sign in.
type todayBody struct {
	Waiting []waitingRow
	Recent  []visitRow
	Sealed  int // entries that Recent cannot have

	Emergencies int
	Late        bool
}

type waitingRow struct {
	Waiting
	Who personLine
}

type visitRow struct {
	VisitRow
	Who   personLine
	Badge badge
}

// personLine is a person in a list: one name, and age, sex and village in words.
type personLine struct {
	Name, About, Card string
}

func showToday(q *request) error {
	today, err := q.clinic.Today(q.r.Context(), q.session)
	if err != nil {
		return err
	}
	body := todayBody{Emergencies: today.Emergencies, Late: today.Late, Sealed: today.Sealed}
	for _, w := range today.Waiting {
		body.Waiting = append(body.Waiting, waitingRow{w, q.person(w.Row)})
	}
	for _, v := range today.Recent {
		body.Recent = append(body.Recent, visitRow{v, q.person(v.Row), badgeOf(q.words, v.State, v.RID)})
	}
	return q.show("today", q.newPage("today", "today.title", body))
}

// person puts a row in words.
func (q *request) person(r chart.Row) personLine {
	name := strings.TrimSpace(r.Given + " " + r.Family)
	if name == "" {
		name = q.words.Text("person.no_name")
	}
	return personLine{Name: name, About: q.about(r.BirthDate, r.Sex, r.Village), Card: r.Card}
}

// about is "3 years, girl, Kibuye": whatever of it is known.
func (q *request) about(birth, sex, village string) string {
	var parts []string
	if a := ageWords(q.words, ageOf(birth, q.opts.Now())); a != "" {
		parts = append(parts, a)
	}
	if sex != "" {
		parts = append(parts, label(q.words, "sex", sex))
	}
	if village != "" {
		parts = append(parts, village)
	}
	return strings.Join(parts, ", ")
}

func ageWords(c *Catalogue, a age) string {
	switch {
	case !a.Known:
		return ""
	case a.InMonths:
		return c.Count("age.months", a.Months)
	}
	return c.Count("age.years", a.Years)
}

// findBody is the find page: the query and, after a search, what it found.
type findBody struct {
	Query  string
	Asked  bool
	Found  []patientRow
	Absent bool // there are people in the regional record that are not on this box
}

type patientRow struct {
	PatientRow
	Who   personLine
	Badge badge
}

func showFind(q *request) error {
	return q.show("find", q.newPage("find", "find.title", findBody{}))
}

// find keeps the query and sends the browser to its result, so that a reload does not post again
// and no address holds a name.
func find(q *request) error {
	query := strings.Join(strings.Fields(q.value("q")), " ")
	if query == "" {
		return q.redirect("/find")
	}
	if len(query) > searchQueryMax {
		return errBadForm
	}
	return q.redirect("/find/" + q.searches.keep(q.session.StaffID, query))
}

func showFound(q *request) error {
	query, ok := q.searches.find(q.session.StaffID, q.r.PathValue("search"))
	if !ok {
		return q.redirect("/find")
	}
	rows, err := q.clinic.Find(q.r.Context(), q.session, query)
	if err != nil {
		return err
	}
	body := findBody{Query: query, Asked: true, Absent: q.clinic.Counts(q.r.Context()).Absent > 0}
	for _, row := range rows {
		body.Found = append(body.Found, patientRow{row, q.person(row.Row), badgeOf(q.words, row.State, "")})
	}
	p := q.newPage("find", "find.title", body)
	p.Form = form{Values: url.Values{"q": {query}}}
	return q.show("find", p)
}
