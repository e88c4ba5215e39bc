package web

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/healthpost/healthpost/fhir"
)

// visitBody is the visit form.
type visitBody struct {
	ID         string // of the patient
	Who        personLine
	Allergy    allergyLine
	Incomplete bool // there is more in the chart than what is known here
	Signs      []fhir.Choice
	Measures   [][]input // in rows; two on one row belong together
	Tests      []fhir.Choice
	Problems   []fhir.Choice // asked first at this age
	Others     []fhir.Choice // the rest
	Open       bool          // one of the rest is chosen
	Returns    []string      // days
	Topics     []string      // that the visit can be kept apart by
	At         string        // RFC 3339, when the form was made
	Files      []keptFile    // kept for this form already
	More       bool          // another file may be added
}

// childYears is the age under which the problems of children are asked first.
const childYears = 5

var (
	problemsChild = []string{"fever", "malaria", "cough", "pneumonia", "diarrhoea", "malnutrition", "ear", "skin"}
	problemsAdult = []string{"fever", "malaria", "cough", "pain", "wound", "pregnancy", "hypertension", "checkup"}
	returnDays    = []string{"2", "7", "28"}
	rdtAnswers    = []fhir.Choice{{Code: ""}, {Code: "negative"}, {Code: "positive"}, {Code: "invalid"}}
)

func showVisit(q *request) error {
	f, err := q.newForm(nil)
	if err != nil {
		return err
	}
	return q.visitPage(f)
}

func (q *request) visitPage(f form) error {
	view, err := q.clinic.Open(q.r.Context(), q.session, q.r.PathValue("patient"))
	if err != nil {
		return err
	}
	at := f.Value("at")
	if at == "" {
		at = q.opts.Now().UTC().Format(time.RFC3339)
	}
	kept, _, err := q.keptFiles(f.ID)
	if err != nil {
		return err
	}
	first, others := q.problemsFor(view.Row.BirthDate)
	p := q.newPage("", "visit.title", visitBody{
		ID: view.ID, Who: q.person(view.Row), Allergy: allergyOf(q.words, view.Chart), Incomplete: view.Chart.Incomplete, Signs: fhir.DangerSigns,
		Measures: measureRows(f), Tests: rdtAnswers, Problems: first, Others: others,
		Open:    slices.ContainsFunc(others, func(c fhir.Choice) bool { return f.Has("problem", c.Code) }) || f.Error("problem") != "",
		Returns: returnDays, Topics: fhir.TopicWords(), At: at, Files: kept, More: len(kept) < fhir.FilesMax,
	})
	p.Form = f
	return q.show("visit", p)
}

// problemsFor splits the problems into the ones to ask first at this age and the rest. "other" is in neither.
func (q *request) problemsFor(birth string) (first, others []fhir.Choice) {
	asked := problemsAdult
	if a := ageOf(birth, q.opts.Now()); a.Known && a.Years < childYears {
		asked = problemsChild
	}
	for _, c := range fhir.Problems {
		switch {
		case c.Code == "other":
		case slices.Contains(asked, c.Code):
			first = append(first, c)
		default:
			others = append(others, c)
		}
	}
	return first, others
}

// beside names the measures that stand on one row with the one before them.
var beside = map[string]bool{"muac": true, "diastolic": true, "spo2": true}

// measureRows lays the values of a visit out in rows.
func measureRows(f form) [][]input {
	var rows [][]input
	for _, m := range fhir.Measures {
		in := input{Form: f, Name: m.Field, Label: "measure." + m.Field, Kind: "decimal", Unit: m.Unit, Max: 12}
		if beside[m.Field] && len(rows) > 0 {
			rows[len(rows)-1] = append(rows[len(rows)-1], in)
			continue
		}
		rows = append(rows, []input{in})
	}
	return rows
}

// checkBody is the page between typing and saving, shown only when something should be looked at again.
type checkBody struct {
	ID      string
	Who     personLine
	Alerts  []checkAlert
	Reasons []string
	Values  []hiddenValue
}

// checkAlert is one thing to look at: what was entered, and what to do or what is usual.
type checkAlert struct {
	Danger       bool
	Label, Value string
	Words        string
}

type hiddenValue struct{ Name, Value string }

// checkReasons are the answers to "why is this right": catalogue keys under "check.reason".
var checkReasons = []string{"measured_again", "known_for_patient", "emergency", "told_by_family", "other"}

// alertsMax is how many alerts are shown at once, most urgent first.
const alertsMax = 3

// saveVisit validates, asks about what is unusual, saves, and goes to the chart.
func saveVisit(q *request) error {
	id, err := q.postedFormID()
	if err != nil {
		return err
	}
	problems, err := q.keepFiles(id)
	if err != nil {
		return err
	}
	if gone := q.value("drop_file"); gone != "" {
		if err := q.clinic.Detach(q.r.Context(), q.session, id, gone); err != nil {
			return err
		}
		return q.visitPage(q.postedForm(id, problems))
	}
	visit, wrong := q.readVisit()
	problems = append(problems, wrong...)
	if _, visit.Files, err = q.keptFiles(id); err != nil {
		return err
	}
	var soft []fhir.FieldError
	for _, e := range visit.Validate() {
		if e.Soft {
			soft = append(soft, e)
		} else {
			problems = append(problems, q.fieldProblem(e, "measure."))
		}
	}
	if len(problems) > 0 || q.value("step") == "change" {
		return q.visitPage(q.postedForm(id, problems))
	}
	checked := q.value("step") == "checked"
	if checked && slices.Contains(checkReasons, q.value("reason")) {
		return q.storeVisit(id, visit)
	}
	alerts, err := q.visitAlerts(visit, soft)
	switch {
	case err != nil:
		return err
	case len(alerts) == 0:
		return q.storeVisit(id, visit)
	case checked:
		return q.checkPage(alerts, []fieldProblem{{"reason-0", q.words.Text("check.reason_needed")}})
	}
	return q.checkPage(alerts, nil)
}

func (q *request) storeVisit(id string, visit fhir.Visit) error {
	patientID := q.r.PathValue("patient")
	saved, err := q.clinic.SaveVisit(q.r.Context(), q.session, patientID, id, visit)
	var refused *FieldsError
	switch {
	case errors.As(err, &refused):
		return q.visitPage(q.postedForm(id, q.fieldProblems(refused.Fields, "measure.")))
	case errors.Is(err, ErrFormUsed):
		f, err := q.reusedForm()
		if err != nil {
			return err
		}
		return q.visitPage(f)
	case err != nil:
		return err
	}
	q.drafts.done(q.session.StaffID, q.r.URL.Path, id)
	return q.redirect("/patient/" + url.PathEscape(patientID) + "?saved=" + url.QueryEscape(saved.RID))
}

// readVisit reads the posted form. The problems are those of the page's own boxes.
func (q *request) readVisit() (fhir.Visit, []fieldProblem) {
	number := func(name string) string { return NormaliseNumber(q.r.PostForm.Get(name)) }
	visit := fhir.Visit{
		DangerSigns: q.r.PostForm["dangerSigns"], Temperature: number("temperature"), Breaths: number("breaths"),
		Weight: number("weight"), MUAC: number("muac"), Height: number("height"), Systolic: number("systolic"),
		Diastolic: number("diastolic"), Pulse: number("pulse"), SpO2: number("spo2"), RDT: q.value("rdt"),
		Problem: q.value("problem"), ProblemOther: q.value("problemOther"), Treatment: q.value("treatment"),
		Note: q.value("note"), Advice: q.value("advice"), ReturnIn: NormaliseNumber(q.r.PostForm.Get("returnIn")),
		Urgent: q.value("urgent") != "", Allergy: q.value("allergy"), Topics: q.r.PostForm["topics"],
	}
	if visit.Problem == "" && visit.ProblemOther != "" {
		visit.Problem = "other"
	}
	if reason := q.value("reason"); q.value("step") == "checked" && slices.Contains(checkReasons, reason) {
		visit.Note = strings.TrimSpace(visit.Note + "\n" + q.words.Text("check.note", q.words.Text("check.reason."+reason)))
	}
	at, ok := q.visitTime()
	visit.At = at
	if !ok {
		return visit, []fieldProblem{{"at", q.words.Text("error.date")}}
	}
	return visit, nil
}

// visitTime is the day in the three boxes at noon, or else when the form was made: the same for each
// tap on Save, so that one form stays one record.
func (q *request) visitTime() (time.Time, bool) {
	now := q.opts.Now()
	made, err := time.Parse(time.RFC3339, q.r.PostForm.Get("at"))
	if err != nil || made.After(now) || now.Sub(made) > draftAgeMax {
		made = now.Truncate(time.Second)
	}
	made = made.In(q.opts.Location)
	day, ok := joinDate(q.value("atDay"), q.value("atMonth"), q.value("atYear"))
	if !ok || (day != "" && len(day) != len(time.DateOnly)) {
		return made, false
	}
	if day == "" || day == made.Format(time.DateOnly) {
		return made, true
	}
	at, err := time.ParseInLocation(time.DateOnly, day, q.opts.Location)
	return at.Add(12 * time.Hour), err == nil
}

// visitAlerts lists what should be looked at again, danger first, at most alertsMax.
func (q *request) visitAlerts(v fhir.Visit, soft []fhir.FieldError) ([]checkAlert, error) {
	var alerts []checkAlert
	if len(v.DangerSigns) > 0 && !v.Urgent {
		var signs []string
		for _, s := range v.DangerSigns {
			signs = append(signs, label(q.words, "danger", s))
		}
		alerts = append(alerts, checkAlert{Danger: true, Label: q.words.Text("visit.danger"), Value: strings.Join(signs, ", "), Words: q.words.Text("check.not_urgent")})
	}
	for _, e := range soft {
		alerts = append(alerts, checkAlert{Label: q.words.Text("measure." + e.Field), Value: q.measured(e.Field), Words: q.fieldWords(e)})
	}
	compared, err := q.comparedAlerts(v)
	if err != nil {
		return nil, err
	}
	alerts = append(alerts, compared...)
	return alerts[:min(len(alerts), alertsMax)], nil
}

// comparedAlerts looks at what only the chart or the calendar can tell: another day than today, and a
// weight far from the last one.
func (q *request) comparedAlerts(v fhir.Visit) ([]checkAlert, error) {
	otherDay := q.value("atYear") != ""
	if v.Weight == "" && !otherDay {
		return nil, nil
	}
	view, err := q.clinic.Open(q.r.Context(), q.session, q.r.PathValue("patient"))
	if err != nil {
		return nil, err
	}
	var alerts []checkAlert
	day := checkAlert{Label: q.words.Text("visit.day"), Value: formatDate(q.words, v.At.Format(time.DateOnly))}
	birth := view.Row.BirthDate
	if otherDay && v.At.After(q.opts.Now()) {
		day.Words = q.words.Text("check.future")
		alerts = append(alerts, day)
	} else if otherDay && birth != "" && v.At.Format(time.DateOnly)[:min(len(birth), len(time.DateOnly))] < birth {
		day.Words = q.words.Text("check.before_birth")
		alerts = append(alerts, day)
	}
	if last := lastWeight(&view.Chart); weightJumped(last, v.Weight) {
		alerts = append(alerts, checkAlert{Label: q.words.Text("measure.weight"), Value: q.measured("weight"), Words: q.words.Text("check.weight_jump", last)})
	}
	return alerts, nil
}

func (q *request) measured(field string) string {
	value := NormaliseNumber(q.r.PostForm.Get(field))
	if m, ok := fhir.MeasureOf(field); ok {
		value += "\u00a0" + m.Unit
	}
	return value
}

func (q *request) checkPage(alerts []checkAlert, problems []fieldProblem) error {
	view, err := q.clinic.Open(q.r.Context(), q.session, q.r.PathValue("patient"))
	if err != nil {
		return err
	}
	body := checkBody{ID: view.ID, Who: q.person(view.Row), Alerts: alerts, Reasons: checkReasons, Values: hiddenValues(q.r.PostForm)}
	p := q.newPage("", "check.title", body)
	p.Form = form{ID: q.r.PostForm.Get("form"), Values: q.r.PostForm, Errors: problems}
	return q.show("check", p)
}

// hiddenValues are all posted values but the ones the check page itself asks for.
func hiddenValues(posted url.Values) []hiddenValue {
	names := make([]string, 0, len(posted))
	for name := range posted {
		if name != "step" && name != "reason" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []hiddenValue
	for _, name := range names {
		for _, v := range posted[name] {
			if v != "" {
				out = append(out, hiddenValue{name, v})
			}
		}
	}
	return out
}

// fieldProblems puts field errors of the box in words.
func (q *request) fieldProblems(errs []fhir.FieldError, labels string) []fieldProblem {
	out := make([]fieldProblem, 0, len(errs))
	for _, e := range errs {
		out = append(out, q.fieldProblem(e, labels))
	}
	return out
}

// fieldProblem names the field in front of the words, so that the summary can be understood alone.
func (q *request) fieldProblem(e fhir.FieldError, labels string) fieldProblem {
	words := q.fieldWords(e)
	if key := labels + e.Field; q.words.Has(key) {
		words = q.words.Text("form.field", q.words.Text(key), words)
	}
	return fieldProblem{Field: e.Field, Words: words}
}

func (q *request) fieldWords(e fhir.FieldError) string {
	if !q.words.Has(e.Code) {
		return q.words.Text("error.choice")
	}
	args := make([]any, len(e.Args))
	for i, a := range e.Args {
		args[i] = a
		if e.Code == fhir.CodePair {
			args[i] = q.words.Text("measure." + a)
		}
	}
	return q.words.Text(e.Code, args...)
}
