package web

import (
	"encoding/hex"
	"maps"
	"net/url"
	"strconv"
	"strings"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
)

// patientBody is a chart as the page shows it.
type patientBody struct {
	ID         string
	Who        personLine
	May        Rights
	Limited    bool     // only who this is
	Closed     []string // why, where it is the patient who decided that; nil otherwise
	Granted    string   // the patient's word by which the chart is open here; "" where none was needed
	Emergency  bool     // and the way to the summary for an emergency
	Allergy    allergyLine
	Incomplete bool     // there is more than what is shown
	Unopened   []string // of entries whose keys are not here; nil where there are none
	Conflict   int      // versions of the details that stand side by side; 0 when there is one
	Doubles    []double // other entries that were written in two ways
	Problems   []string
	Medicines  []string
	Doses      []string
	Allergies  []entryLine
	Vaccines   []entryLine
	Visits     []visitCard
	Older      []visitCard
	VisitCount int
	Others     []factLine
	Files      []fileLine // of no visit
	Details    []factLine
	Badge      badge // of the details
	Devices    []FieldDevice
}

// allergyLine is the line about allergies that is in sight on every page about a person.
type allergyLine struct {
	Names bool
	Words string
}

// double is one entry with several standing versions.
type double struct {
	Title    string
	Versions []entryLine
}

// entryLine is one entry with who wrote it and its state.
type entryLine struct {
	Words, By       string
	Withdraw, Proof string // addresses, or ""; a proof is offered for a vaccination, visits have their own
	Erase           string // likewise
	Badge           badge
}

// visitCard is one visit in a chart.
type visitCard struct {
	When, Author string
	Urgent, Gone bool
	Reason       string // of a withdrawal
	Refusal      string // why the region did not take it
	Apart        string // by which topics it is kept apart, in words; "" when it is not
	Badge        badge
	Values       []factLine // measurements
	Facts        []factLine
	Files        []fileLine
	Withdraw     string // address of the page that withdraws it
	Erase        string // address of the page that erases its record everywhere
	Proof        string // address of its printed proof, when it is confirmed
}

// factLine is a label and what stands beside it.
type factLine struct {
	Label, Value string
	Danger       bool
}

// visitsShown is how many visits stand open on a chart; listMax bounds the short lists above them.
const (
	visitsShown = 3
	listMax     = 12
	vaccinesMax = 40
)

func showPatient(q *request) error {
	view, err := q.clinic.Open(q.r.Context(), q.session, q.r.PathValue("patient"))
	if err != nil {
		return err
	}
	p := q.newPage("", "patient.details", q.patientBody(view))
	p.Title = q.person(view.Row).Name
	p.Notice = q.patientNotice(&view.Chart)
	return q.show("patient", p)
}

// patientNotice says what was just done. A saved visit is named by its record, whose state is told.
func (q *request) patientNotice(c *chart.Chart) notice {
	if rid := q.r.URL.Query().Get("saved"); rid != "" {
		for i := range c.Visits {
			if v := &c.Visits[i]; ridText(v.Shown.RID) == rid {
				return notice{q.words.Text("patient.visit_saved"), badgeOf(q.words, v.Shown.State, rid)}
			}
		}
		return q.apartNotice(rid)
	}
	switch done := q.r.URL.Query().Get("done"); done {
	case "registered", "changed", "resolved", "retracted", "given", "erased", "entry_erased":
		return notice{Text: q.words.Text("patient." + done)}
	}
	return notice{}
}

// apartNotice says that a visit was saved which whoever wrote it may not see: it is kept apart.
func (q *request) apartNotice(rid string) notice {
	states, err := q.clinic.States(q.r.Context(), q.session, []string{rid})
	if state, ok := states[rid]; err == nil && ok {
		return notice{q.words.Text("patient.visit_apart"), badgeOf(q.words, state, rid)}
	}
	return notice{}
}

func ridText(rid record.RID) string { return hex.EncodeToString(rid[:]) }

func (q *request) patientBody(view PatientView) patientBody {
	c := &view.Chart
	b := patientBody{ID: view.ID, Who: q.person(view.Row), May: q.session.May, Limited: view.Limited, Emergency: view.Emergency, Allergy: allergyOf(q.words, view.Chart), Incomplete: c.Incomplete, Unopened: q.unopenedWords(&c.Closed), VisitCount: len(c.Visits), Devices: view.Devices}
	if view.Limited {
		if b.Closed = q.closedWords(view.Decided); b.Closed != nil {
			b.May = Rights{} // nothing that is offered elsewhere may be done with this chart
			for right := range q.session.May {
				b.May[right] = false
			}
		}
	} else if d := view.Decided; d != nil {
		if d.ByCard {
			q.session.May = maps.Clone(q.session.May)
			q.session.May[MayGive], q.session.May[MayErase] = false, false // that needs more than a card
			b.May = q.session.May
		}
		b.Granted = q.grantWords("consent.granted", d.Grant, d.Until)
		if d.Lent {
			b.Granted += " " + q.words.Text("usecard.lent")
		}
	}
	for _, p := range c.Problems {
		b.Problems = appendOnce(b.Problems, problemWords(q.words, p.View.Code))
	}
	for _, m := range c.Medicines {
		b.Medicines = appendOnce(b.Medicines, medicineWords(m.View))
	}
	for _, i := range c.Immunizations {
		b.Doses = appendOnce(b.Doses, strings.TrimSpace(i.View.Vaccine.Text+" "+formatDate(q.words, dayOf(i.View.Date))))
	}
	for _, i := range c.Immunizations[:min(len(c.Immunizations), vaccinesMax)] {
		e := q.entry(view.ID, i.Line, strings.TrimSpace(i.View.Vaccine.Text+" "+formatDate(q.words, dayOf(i.View.Date))))
		e.Proof = q.proofPath(i.Shown)
		b.Vaccines = append(b.Vaccines, e)
	}
	for _, a := range c.Allergies {
		b.Allergies = append(b.Allergies, q.entry(view.ID, a.Line, a.View.Code.Text))
	}
	b.Visits = q.visitCards(view.ID, c, view.Files)
	if len(b.Visits) > visitsShown {
		b.Visits, b.Older = b.Visits[:visitsShown], b.Visits[visitsShown:]
	}
	for _, o := range c.Observations {
		b.Others = append(b.Others, observationFact(q.words, o.View))
	}
	for _, l := range c.Others {
		if list := q.fileLines(view.ID, l.Shown, view.Files); len(list) > 0 {
			b.Files = append(b.Files, list...)
			continue
		}
		s := l.Resource().Summarise()
		b.Others = append(b.Others, factLine{Label: firstOf(s.Title, l.Type), Value: strings.TrimSpace(s.Value + " " + formatDate(q.words, dayOf(s.Date)))})
	}
	b.Others, b.Files = b.Others[:min(len(b.Others), 50)], b.Files[:min(len(b.Files), 50)]
	q.patientDetails(&b, c)
	return b
}

// patientDetails fills in what stands in the Patient resource and which entries stand in two versions.
func (q *request) patientDetails(b *patientBody, c *chart.Chart) {
	if c.Patient != nil {
		b.Details = q.detailFacts(c.Demographics)
		b.Badge = badgeOf(q.words, c.Patient.Shown.State, ridText(c.Patient.Shown.RID))
		if c.Patient.Conflict {
			b.Conflict = len(c.Patient.Heads)
		}
	}
	for _, l := range c.Conflicts {
		if l.Type == "Patient" || len(b.Doubles) == listMax {
			continue
		}
		d := double{Title: firstOf(l.Resource().Summarise().Title, l.Type)}
		for _, h := range l.Heads {
			s := h.Resource.Summarise()
			words := firstOf(strings.TrimSpace(s.Title+" "+s.Value), q.words.Text("patient.withdrawn"))
			d.Versions = append(d.Versions, entryLine{Words: words, By: q.byLine(h), Badge: badgeOf(q.words, h.State, ridText(h.RID))})
		}
		b.Doubles = append(b.Doubles, d)
	}
}

func (q *request) byLine(v chart.Version) string {
	return strings.TrimPrefix(v.Author+", "+formatTime(q.words, v.At.In(q.opts.Location)), ", ")
}

func (q *request) entry(patientID string, l chart.Line, words string) entryLine {
	return entryLine{Words: words, By: q.byLine(l.Shown), Withdraw: q.withdrawPath(patientID, l), Erase: q.erasePath(patientID, l), Badge: badgeOf(q.words, l.Shown.State, ridText(l.Shown.RID))}
}

func (q *request) withdrawPath(patientID string, l chart.Line) string {
	if l.Retracted || len(l.Heads) == 0 || !q.session.May[MayRetract] {
		return ""
	}
	return "/patient/" + url.PathEscape(patientID) + "/withdraw/" + l.Shown.Ref.String()
}

// erasePath is where the record that shows a line is erased.
func (q *request) erasePath(patientID string, l chart.Line) string {
	if !q.session.May[MayErase] || l.Shown.Op != chart.OpPut || patientID == "" {
		return ""
	}
	return "/patient/" + url.PathEscape(patientID) + "/erase/" + ridText(l.Shown.RID)
}

// proofPath is where the proof of a version's record is printed, or "" while it has no place to prove.
func (q *request) proofPath(v chart.Version) string {
	if v.State.Kind != chart.Confirmed || !q.session.May[MayProve] {
		return ""
	}
	return "/records/" + ridText(v.RID) + "/proof"
}

// detailFacts lists the details that are known.
func (q *request) detailFacts(p fhir.Patient) []factLine {
	birth := formatDate(q.words, p.BirthDate)
	if birth != "" && p.BirthEstimated {
		birth = q.words.Text("details.birth_estimated", birth)
	}
	sex := ""
	if p.Sex != "" {
		sex = label(q.words, "sex", p.Sex)
	}
	return []factLine{
		{Label: q.words.Text("label.given"), Value: p.Given}, {Label: q.words.Text("label.family"), Value: p.Family},
		{Label: q.words.Text("label.sex"), Value: sex}, {Label: q.words.Text("label.birth"), Value: birth},
		{Label: q.words.Text("label.village"), Value: p.Village}, {Label: q.words.Text("label.mother"), Value: p.Mother},
		{Label: q.words.Text("label.phone"), Value: p.Phone}, {Label: q.words.Text("label.card"), Value: p.Card},
	}
}

// visitCards lists visits newest first, withdrawn ones last.
func (q *request) visitCards(patientID string, c *chart.Chart, files map[string]FileState) []visitCard {
	cards := make([]visitCard, 0, len(c.Visits))
	for i := range c.Visits {
		cards = append(cards, q.visitCard(patientID, &c.Visits[i], files))
	}
	for _, l := range c.Retracted {
		if l.Type != "Encounter" {
			continue
		}
		card := visitCard{Gone: true, When: q.words.Text("visit.title"), Badge: badgeOf(q.words, l.Heads[0].State, ridText(l.Heads[0].RID))}
		e := l.Resource().Encounter()
		if t, ok := fhir.ParseTime(e.Start); ok {
			card.When = formatTime(q.words, t.In(q.opts.Location))
		}
		if e.Reason.Text != "" {
			card.Facts = []factLine{{Label: q.words.Text("measure.problem"), Value: problemWords(q.words, e.Reason)}}
		}
		card.Reason, card.Author, card.Erase = l.Heads[0].Reason, l.Heads[0].Author, q.erasePath(patientID, l)
		cards = append(cards, card)
	}
	return cards
}

// firstVersion is how a visit was written before anybody amended it.
func firstVersion(v *chart.Visit) chart.Version {
	if len(v.Past) > 0 {
		return v.Past[0]
	}
	return v.Shown
}

func (q *request) visitCard(patientID string, v *chart.Visit, files map[string]FileState) visitCard {
	card := visitCard{
		When: formatTime(q.words, v.At.In(q.opts.Location)), Author: firstOf(v.Shown.Author, v.View.Author), Urgent: v.View.Urgent,
		Badge: badgeOf(q.words, v.Shown.State, ridText(v.Shown.RID)), Withdraw: q.withdrawPath(patientID, v.Line), Proof: q.proofPath(v.Shown),
		Erase: q.erasePath(patientID, v.Line),
	}
	if v.Topics != 0 {
		card.Apart = q.words.Text("patient.apart", q.wordList("topic", v.Topics.Words()))
	}
	if firstVersion(v).Clock == 0 {
		card.When = q.words.Text("time.uncertain", card.When)
	}
	if v.Shown.State.Kind == chart.Refused {
		card.Refusal = refusalWords(q.words, v.Shown.State.Reason)
	}
	var later []factLine
	for _, o := range v.Observations {
		q.placeObservation(&card, &later, o.View)
	}
	for _, p := range v.Problems {
		card.Facts = append(card.Facts, factLine{Label: q.words.Text("measure.problem"), Value: problemWords(q.words, p.View.Code)})
	}
	for _, m := range v.Medicines {
		card.Facts = append(card.Facts, factLine{Label: q.words.Text("measure.treatment"), Value: medicineWords(m.View)})
	}
	for _, a := range v.Allergies {
		card.Facts = append(card.Facts, factLine{Label: q.words.Text("measure.allergy"), Value: a.View.Code.Text})
	}
	for _, i := range v.Immunizations {
		card.Facts = append(card.Facts, factLine{Label: q.words.Text("patient.doses"), Value: i.View.Vaccine.Text})
	}
	card.Facts = append(card.Facts, later...)
	for _, r := range v.Requests {
		card.Facts = append(card.Facts, factLine{Label: q.words.Text("measure.returnIn"), Value: formatDate(q.words, dayOf(r.View.Occurrence))})
	}
	for _, l := range v.Others {
		if list := q.fileLines(patientID, l.Shown, files); len(list) > 0 {
			card.Files = append(card.Files, list...)
			continue
		}
		s := l.Resource().Summarise()
		card.Facts = append(card.Facts, factLine{Label: firstOf(s.Title, l.Type), Value: firstOf(s.Value, formatDate(q.words, dayOf(s.Date)))})
	}
	return card
}

// placeObservation puts an observation among the values, or as a fact before or after the problem.
func (q *request) placeObservation(card *visitCard, later *[]factLine, o fhir.Observation) {
	if o.Code.Code(fhir.SystemDangerSign) != "" {
		card.Facts = append(card.Facts, factLine{Label: q.words.Text("visit.danger"), Value: dangerWords(q.words, o), Danger: true})
		return
	}
	fact := observationFact(q.words, o)
	if _, ok := o.Measure(); ok || len(o.Components) > 0 {
		card.Values = append(card.Values, fact)
		return
	}
	*later = append(*later, fact)
}

// observationFact puts an observation in words, with this page's names for what this page asks.
func observationFact(c *Catalogue, o fhir.Observation) factLine {
	if m, ok := o.Measure(); ok {
		return factLine{Label: label(c, "short", m.Field), Value: firstOf(o.Quantity.String(), o.Value)}
	}
	if pressure, ok := bloodPressure(o); ok {
		return factLine{Label: c.Text("short.blood_pressure"), Value: pressure}
	}
	for _, known := range observationLabels {
		for _, k := range o.Code.Codings {
			if k.Code == known.loinc {
				return factLine{Label: c.Text(known.key), Value: resultWords(c, o.Value)}
			}
		}
	}
	value := o.Value
	for _, part := range o.Components {
		value = strings.TrimSpace(value + "\n" + part.Code.Text + " " + part.Value)
	}
	return factLine{Label: o.Code.Text, Value: value}
}

// observationLabels are LOINC codes of observations that a visit form makes besides its measures.
var observationLabels = []struct{ loinc, key string }{
	{"70569-9", "measure.rdt"}, {"34109-9", "measure.note"}, {"69730-0", "measure.advice"},
}

// resultWords translates the results of the rapid test; other values stay as they are.
func resultWords(c *Catalogue, value string) string {
	switch value {
	case "Positive":
		return c.Text("rdt.positive")
	case "Negative":
		return c.Text("rdt.negative")
	case "Indeterminate":
		return c.Text("rdt.invalid")
	}
	return value
}

// bloodPressure reads a panel of upper and lower pressure as "120/80 mmHg".
func bloodPressure(o fhir.Observation) (string, bool) {
	upper, ok1 := fhir.MeasureOf("systolic")
	lower, ok2 := fhir.MeasureOf("diastolic")
	if !ok1 || !ok2 || len(o.Components) != 2 {
		return "", false
	}
	var high, low string
	for _, part := range o.Components {
		for _, k := range part.Code.Codings {
			switch k.Code {
			case upper.LOINC:
				high = part.Quantity.Value
			case lower.LOINC:
				low = part.Quantity.Value
			}
		}
	}
	return high + "/" + low + " " + upper.Unit, high != "" && low != ""
}

func dangerWords(c *Catalogue, o fhir.Observation) string {
	var signs []string
	for _, part := range o.Components {
		if code := part.Code.Code(fhir.SystemDangerSign); code != "" && part.Value == "true" {
			signs = append(signs, label(c, "danger", code))
		}
	}
	if len(signs) == 0 {
		return firstOf(o.Value, o.Code.Text)
	}
	return strings.Join(signs, ", ")
}

// problemWords shows a problem of this page's list in the page's language, others in their own words.
func problemWords(c *Catalogue, code fhir.Concept) string {
	known := code.Code(fhir.SystemProblem)
	if known == "" || known == "other" || !c.Has("problem."+known) {
		return code.Text
	}
	if words := c.Text("problem." + known); !sameProblem(known, code.Text) {
		return words + ": " + code.Text
	} else {
		return words
	}
}

// sameProblem tells whether the text only repeats the code's own label.
func sameProblem(code, text string) bool {
	for _, p := range fhir.Problems {
		if p.Code == code {
			return text == "" || text == p.Label
		}
	}
	return text == ""
}

func medicineWords(m fhir.MedicationRequest) string {
	return strings.TrimSpace(strings.TrimSpace(m.Medicine.Text) + " " + m.Dosage)
}

// allergyOf says what is known of allergies. That nobody asked is not the same as none.
func allergyOf(c *Catalogue, ch chart.Chart) allergyLine {
	var names []string
	for _, a := range ch.Allergies {
		names = appendOnce(names, a.View.Code.Text)
	}
	if len(names) > 0 {
		return allergyLine{Names: true, Words: strings.Join(names, ", ")}
	}
	if ch.Incomplete {
		return allergyLine{Words: c.Text("allergy.not_here")}
	}
	if len(ch.PastAllergies) > 0 {
		return allergyLine{Words: c.Text("allergy.none_known")}
	}
	return allergyLine{Words: c.Text("allergy.not_asked")}
}

// lastWeight is the newest weight in a chart, as decimal text.
func lastWeight(c *chart.Chart) string {
	for i := range c.Visits {
		for _, o := range c.Visits[i].Observations {
			if m, ok := o.View.Measure(); ok && m.Field == "weight" {
				return o.View.Quantity.Value
			}
		}
	}
	return ""
}

// weightJumpMax is the change between two weights, as a part of the first, that is asked about.
const weightJumpMax = 0.25

func weightJumped(last, now string) bool {
	a, errA := strconv.ParseFloat(last, 64)
	b, errB := strconv.ParseFloat(now, 64)
	return errA == nil && errB == nil && a > 0 && (b > a*(1+weightJumpMax) || b < a*(1-weightJumpMax))
}

// dayOf cuts a time to its day; partial dates stay as they are.
func dayOf(t string) string { return t[:min(len(t), len("2006-01-02"))] }

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func appendOnce(list []string, s string) []string {
	if s == "" || len(list) == listMax {
		return list
	}
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}
