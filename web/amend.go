package web

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
)

// detailsBody is the form of a person's details: of a new person, or to change them.
type detailsBody struct {
	ID    string // of the patient; "" for a new one
	Base  string // the versions this form replaces
	Sexes []string
}

var sexes = []string{"female", "male", "unknown"}

func showRegister(q *request) error {
	f, err := q.newForm(nil)
	if err != nil {
		return err
	}
	return q.detailsPage(f, detailsBody{})
}

func (q *request) detailsPage(f form, body detailsBody) error {
	body.Sexes = sexes
	if f.Value("sex") == "other" {
		body.Sexes = append([]string{"other"}, sexes...)
	}
	nav, title := "register", "register.title"
	if body.ID != "" {
		nav, title = "", "details.title"
	}
	p := q.newPage(nav, title, body)
	p.Form = f
	if body.ID != "" {
		p.Here = "/patient/" + url.PathEscape(body.ID) + "/details" // also when a conflict is being resolved
	}
	return q.show("details", p)
}

// register stores a new person. Similar people found first are shown once; the staff member decides.
func register(q *request) error {
	id, err := q.postedFormID()
	if err != nil {
		return err
	}
	r, problems := q.readRegistration()
	problems = append(problems, q.fieldProblems(r.Validate(), "details.")...)
	if len(problems) > 0 {
		return q.detailsPage(q.postedForm(id, problems), detailsBody{})
	}
	if q.value("step") != "another" && q.value("unknown") == "" && !q.begun.has(id) {
		same, err := q.similar(r)
		if err != nil {
			return err
		}
		if len(same) > 0 && !q.begun.has(id) { // begun meanwhile: the one found is the person just registered
			return q.samePage(same)
		}
	}
	q.begun.note(id)
	patientID, err := q.clinic.Register(q.r.Context(), q.session, id, r)
	if err != nil {
		return q.detailsRefused(err, id, detailsBody{})
	}
	q.drafts.done(q.session.StaffID, q.r.URL.Path, id)
	return q.redirect("/patient/" + url.PathEscape(patientID) + "?done=registered")
}

// detailsRefused shows the form again when the box says that a field or the form itself is wrong.
func (q *request) detailsRefused(err error, id string, body detailsBody) error {
	var refused *FieldsError
	switch {
	case errors.As(err, &refused):
		return q.detailsPage(q.postedForm(id, q.fieldProblems(refused.Fields, "details.")), body)
	case errors.Is(err, ErrFormUsed):
		f, err := q.reusedForm()
		if err != nil {
			return err
		}
		return q.detailsPage(f, body)
	}
	return err
}

// readRegistration reads the posted details. The birth date is in three boxes, or follows from an age.
func (q *request) readRegistration() (fhir.Registration, []fieldProblem) {
	r := fhir.Registration{
		Given: q.value("given"), Family: q.value("family"), Sex: q.value("sex"), Village: q.value("village"),
		Mother: q.value("mother"), Phone: NormaliseNumber(q.value("phone")), Card: q.value("card"),
		BirthEstimated: q.value("birthEstimated") != "",
	}
	if q.value("unknown") != "" {
		r.Given, r.Family = q.words.Text("register.unknown_name"), formatTime(q.words, q.opts.Now().In(q.opts.Location))
		if r.Sex == "" {
			r.Sex = "unknown"
		}
	}
	date, ok := joinDate(q.value("birthDay"), q.value("birthMonth"), q.value("birthYear"))
	if !ok {
		return r, []fieldProblem{{"birthDate", q.words.Text("details.birth_wrong")}}
	}
	r.BirthDate = date
	years, months := q.value("ageYears"), q.value("ageMonths")
	if date == "" && (years != "" || months != "") {
		born, ok := birthFromAge(years, months, q.opts.Now())
		if !ok {
			return r, []fieldProblem{{"ageYears", q.words.Text("details.age_wrong", ageMaxYears)}}
		}
		r.BirthDate, r.BirthEstimated = born, true
	}
	if len(r.BirthDate) > 0 && r.BirthDate > q.opts.Now().Format("2006-01-02")[:len(r.BirthDate)] {
		return r, []fieldProblem{{"birthDate", q.words.Text("details.birth_future")}}
	}
	return r, nil
}

// sameBody asks whether a person being registered is one of those found.
type sameBody struct {
	New    personLine
	Found  []patientRow
	Values []hiddenValue
}

// similarMax is how many similar people are shown.
const similarMax = 3

// similar finds people whose name is within two letters and whose age, where both are known, is within two years,
// or who hold the same card.
func (q *request) similar(r fhir.Registration) ([]PatientRow, error) {
	name := strings.TrimSpace(r.Given + " " + r.Family)
	rows, err := q.clinic.Find(q.r.Context(), q.session, name)
	if err != nil {
		return nil, err
	}
	if r.Card != "" {
		byCard, err := q.clinic.Find(q.r.Context(), q.session, r.Card)
		if err != nil {
			return nil, err
		}
		rows = append(byCard, rows...)
	}
	var same []PatientRow
	seen := make(map[string]bool)
	for _, row := range rows {
		if seen[row.ID] || len(same) == similarMax || !q.sameish(r, name, row.Row) {
			continue
		}
		seen[row.ID] = true
		same = append(same, row)
	}
	return same, nil
}

func (q *request) sameish(r fhir.Registration, name string, row chart.Row) bool {
	if r.Card != "" && r.Card == row.Card {
		return true
	}
	a, b := ageOf(r.BirthDate, q.opts.Now()), ageOf(row.BirthDate, q.opts.Now())
	if a.Known && b.Known && (a.Years-b.Years > 2 || b.Years-a.Years > 2) {
		return false
	}
	known := strings.TrimSpace(row.Given + " " + row.Family)
	return chart.EditDistance(strings.ToLower(name), strings.ToLower(known), 2) <= 2
}

func (q *request) samePage(found []PatientRow) error {
	r, _ := q.readRegistration()
	body := sameBody{Values: hiddenValues(q.r.PostForm)}
	body.New = personLine{Name: strings.TrimSpace(r.Given + " " + r.Family), About: q.about(r.BirthDate, r.Sex, r.Village), Card: r.Card}
	for _, row := range found {
		body.Found = append(body.Found, patientRow{row, q.person(row.Row), badgeOf(q.words, row.State, "")})
	}
	p := q.newPage("register", "same.title", body)
	p.Form = form{ID: q.r.PostForm.Get("form"), Values: q.r.PostForm}
	return q.show("same", p)
}

// detailsValues are the form values of a registration.
func detailsValues(r fhir.Registration) url.Values {
	day, month, year := splitDate(r.BirthDate)
	v := url.Values{
		"given": {r.Given}, "family": {r.Family}, "sex": {r.Sex}, "birthDay": {day}, "birthMonth": {month}, "birthYear": {year},
		"village": {r.Village}, "mother": {r.Mother}, "phone": {r.Phone}, "card": {r.Card},
	}
	if r.BirthEstimated {
		v.Set("birthEstimated", "1")
	}
	return v
}

// refsMax bounds how many versions one form can replace.
const refsMax = 32

func encodeRefs(refs []chart.Ref) string {
	parts := make([]string, len(refs))
	for i, ref := range refs {
		parts[i] = ref.String()
	}
	return strings.Join(parts, " ")
}

func parseRefs(text string) ([]chart.Ref, error) {
	words := strings.Fields(text)
	if len(words) == 0 || len(words) > refsMax {
		return nil, errBadForm
	}
	refs := make([]chart.Ref, 0, len(words))
	for _, w := range words {
		ref, err := chart.ParseRef(w)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBadForm, err)
		}
		refs = append(refs, ref)
	}
	return refs, nil
}
