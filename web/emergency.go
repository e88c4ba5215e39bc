package web

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
)

// EmergencyPage is the summary of one chart in an emergency.
type EmergencyPage struct {
	Row     chart.Row
	Until   time.Time       // it is shown until then; zero: it is not open
	Summary chart.Emergency // of one that is open
	Staff   []StaffTile     // of one that is not: who can be the second person
}

// BreakGlass is what has to be given before it is shown.
type BreakGlass struct {
	Reason string // ReasonMin to ReasonMax characters
	Second string // id of another member of this box's staff
	PIN    string // theirs; it is never logged or put in an error
}

// Limits of an emergency.
const (
	EmergencyHours = 4
	ReviewDays     = 7 // after which one that nobody looked into is late
	ReasonMin      = 10
	ReasonMax      = 500
	NoteMin        = 3 // of who looked into it; ReasonMax at most
)

// EmergenciesPage is what waits to be looked into.
type EmergenciesPage struct {
	List []EmergencyEvent
	More bool // newer ones are left out
}

// EmergencyEvent is one chart that was opened in an emergency.
type EmergencyEvent struct {
	RID         string // of the record, full hexadecimal
	PatientID   string // "" for who may not know
	Name        string // likewise
	At          time.Time
	Who, Second string // names
	Box         string
	Reason      string
	Late        bool

	Reviewed time.Time // zero: not yet
	By, Note string
}

// emergencyBody is a chart's summary in an emergency, or the form that opens it.
type emergencyBody struct {
	ID  string
	Who personLine

	Staff []StaffTile // of the form

	Until      string // of the summary
	Incomplete bool
	Unopened   []string // of entries whose keys are not here
	Allergy    allergyLine
	Medicines  []string
	Problems   []string
	Facts      []factLine // pregnancy and blood group
	Contacts   []contactLine
}

type contactLine struct{ Name, Relation, Phone string }

func showEmergency(q *request) error {
	f, err := q.newForm(nil)
	if err != nil {
		return err
	}
	return q.emergencyPage(f)
}

func (q *request) emergencyPage(f form) error {
	id := q.r.PathValue("patient")
	view, err := q.clinic.Emergency(q.r.Context(), q.session, id)
	if errors.Is(err, ErrChartOpen) {
		return q.redirect("/patient/" + url.PathEscape(id))
	}
	if err != nil {
		return err
	}
	body := emergencyBody{ID: id, Who: q.person(view.Row), Staff: view.Staff}
	if !view.Until.IsZero() {
		q.fillEmergency(&body, &view)
	}
	p := q.newPage("", "emergency.title", body)
	f.Values = maps.Clone(f.Values) // a draft's are everybody's
	f.Values.Del("pin")
	p.Form = f
	return q.show("emergency", p)
}

// fillEmergency puts the summary in words.
func (q *request) fillEmergency(b *emergencyBody, view *EmergencyPage) {
	e := &view.Summary
	b.Until, b.Incomplete = formatTime(q.words, view.Until.In(q.opts.Location)), e.Incomplete
	b.Unopened = q.unopenedWords(&e.Closed)
	var names []string
	for _, a := range e.Allergies {
		names = append(names, a.Code.Text)
	}
	switch {
	case len(names) > 0:
		b.Allergy = allergyLine{Names: true, Words: strings.Join(names, ", ")}
	case e.Incomplete:
		b.Allergy.Words = q.words.Text("allergy.not_here")
	case e.NoAllergy:
		b.Allergy.Words = q.words.Text("allergy.none_known")
	default:
		b.Allergy.Words = q.words.Text("allergy.not_asked")
	}
	for _, m := range e.Medicines {
		b.Medicines = append(b.Medicines, medicineWords(m))
	}
	for _, p := range e.Problems {
		b.Problems = append(b.Problems, problemWords(q.words, p.Code))
	}
	for key, list := range map[string][]fhir.Observation{"emergency.blood": e.Blood, "emergency.pregnancy": e.Pregnancy} {
		for _, o := range list {
			value := strings.TrimSpace(observationFact(q.words, o).Value + " " + formatDate(q.words, dayOf(o.Effective)))
			b.Facts = append(b.Facts, factLine{Label: q.words.Text(key), Value: value})
		}
	}
	slices.SortStableFunc(b.Facts, func(a, b factLine) int { return strings.Compare(a.Label, b.Label) })
	for _, c := range e.Contacts {
		b.Contacts = append(b.Contacts, contactLine{firstOf(c.Name, q.words.Text("emergency.own_phone")), c.Relation, c.Phone})
	}
}

// breakGlass opens the summary: reason, second person and their PIN, which is never shown again, kept or logged.
func breakGlass(q *request) error {
	id, err := q.postedFormID()
	if err != nil {
		return err
	}
	g := BreakGlass{Reason: q.value("reason"), Second: q.value("staff"), PIN: NormaliseDigits(q.r.PostForm.Get("pin"))}
	var faults []fieldProblem
	fault := func(field, words string) { faults = append(faults, fieldProblem{field, words}) }
	if n := utf8.RuneCountInString(g.Reason); n < ReasonMin || n > ReasonMax {
		fault("reason", q.words.Text("emergency.reason_needed"))
	}
	if g.Second == "" {
		fault("staff-0", q.words.Text("emergency.second_needed"))
	}
	if len(g.PIN) != pinDigits {
		fault("pin", q.words.Text("signin.pin_digits"))
	}
	if len(faults) > 0 {
		return q.emergencyPage(q.postedForm(id, faults))
	}
	wait := q.tries.begin(addressOf(q.r), q.opts.Now())
	if wait > 0 {
		return q.emergencyPage(q.postedForm(id, []fieldProblem{{"pin", q.words.Count("signin.locked", wholeMinutes(wait))}}))
	}
	patient := q.r.PathValue("patient")
	err = q.clinic.BreakGlass(q.r.Context(), q.session, patient, id, g)
	if !errors.Is(err, ErrWrongPIN) {
		q.tries.takeBack(addressOf(q.r))
	}
	return q.afterGlass(id, patient, err)
}

// afterGlass goes to the summary, or shows the form again with what was not right.
func (q *request) afterGlass(id, patient string, err error) error {
	var locked *LockedError
	switch {
	case errors.As(err, &locked):
		return q.emergencyPage(q.postedForm(id, []fieldProblem{{"pin", q.words.Count("signin.locked", wholeMinutes(locked.Until))}}))
	case errors.Is(err, ErrWrongPIN):
		return q.emergencyPage(q.postedForm(id, []fieldProblem{{"pin", q.words.Text("signin.wrong_pin")}}))
	case errors.Is(err, ErrSecondPerson):
		return q.emergencyPage(q.postedForm(id, []fieldProblem{{"staff-0", q.words.Text("emergency.second_needed")}}))
	case errors.Is(err, ErrReason):
		return q.emergencyPage(q.postedForm(id, []fieldProblem{{"reason", q.words.Text("emergency.reason_needed")}}))
	case errors.Is(err, ErrChartOpen):
		return q.redirect("/patient/" + url.PathEscape(patient))
	case errors.Is(err, ErrFormUsed):
		f, err := q.reusedForm()
		if err != nil {
			return err
		}
		return q.emergencyPage(f)
	case err != nil:
		return err
	}
	q.drafts.done(q.session.StaffID, q.r.URL.Path, id)
	return q.redirect("/patient/" + url.PathEscape(patient) + "/emergency")
}

// emergenciesBody is what waits to be looked into.
type emergenciesBody struct {
	List []emergencyLine
	More bool
}

// emergencyLine is one emergency in words.
type emergencyLine struct {
	RID, PatientID, Name string
	When, Who, Second    string
	Box, Reason          string
	Late                 bool
	Looked               string // who looked into it and when, or ""
	Note                 string
}

func (q *request) emergencyLine(e EmergencyEvent) emergencyLine {
	at := func(t time.Time) string { return formatTime(q.words, t.In(q.opts.Location)) }
	l := emergencyLine{RID: e.RID, PatientID: e.PatientID, Name: e.Name, When: at(e.At), Who: e.Who, Second: e.Second, Box: e.Box, Reason: e.Reason, Late: e.Late, Note: e.Note}
	if !e.Reviewed.IsZero() {
		l.Looked = q.words.Text("emergencies.looked", e.By, at(e.Reviewed))
	}
	return l
}

func showEmergencies(q *request) error {
	f, err := q.newForm(nil)
	if err != nil {
		return err
	}
	return q.emergenciesPage(f)
}

func (q *request) emergenciesPage(f form) error {
	list, err := q.clinic.Emergencies(q.r.Context(), q.session)
	if err != nil {
		return err
	}
	body := emergenciesBody{More: list.More}
	for _, e := range list.List {
		body.List = append(body.List, q.emergencyLine(e))
	}
	p := q.newPage("today", "emergencies.title", body)
	p.Form = f
	if q.r.URL.Query().Get("done") == "reviewed" {
		p.Notice = notice{Text: q.words.Text("emergencies.reviewed")}
	}
	return q.show("emergencies", p)
}

// reviewEmergency notes that somebody looked into one.
func reviewEmergency(q *request) error {
	id, err := q.postedFormID()
	if err != nil {
		return err
	}
	err = q.clinic.ReviewEmergency(q.r.Context(), q.session, q.value("emergency"), id, q.value("note"))
	again := func(key string) error {
		f, err := q.newForm(nil)
		if err != nil {
			return err
		}
		f.Errors = []fieldProblem{{"main", q.words.Text(key)}}
		return q.emergenciesPage(f)
	}
	switch {
	case errors.Is(err, ErrReason):
		return again("emergencies.note_needed")
	case errors.Is(err, ErrOwnEmergency):
		return again("emergencies.own")
	case errors.Is(err, ErrFormUsed):
		return again("form.used")
	case err != nil:
		return err
	}
	return q.redirect("/emergencies?done=reviewed")
}
