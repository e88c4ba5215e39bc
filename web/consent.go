package web

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
)

// consentBody is the page of what a patient decided about who may read.
type consentBody struct {
	ID      string
	Who     personLine
	Limited bool
	ByCard  bool // a permission hands over the keys that a card lent
	Unread  bool
	Keys    string // what keeps the others from it
	Homes   string
	Grants  []grantLine
	Ended   []grantLine
	Choices []consentChoice
	Boxes   []ConsentBox // with one for every box
	Days    []consentDays

	LimitedTopics string
	Topics        []consentChoice // that the decision can be about
	Purposes      []consentChoice
}

// grantLine is one decision in words.
type grantLine struct {
	Title, Number, By, Until, Ended string
	About, For                      string // topics; purposes that are more than treatment
	Over                            bool
	Badge                           badge
}

// consentChoice is one thing that the patient may decide now.
type consentChoice struct{ Value, Words string }

// consentDays is how long a permission may hold.
type consentDays struct{ Value, Words string }

const (
	everyBox       = "*"
	consentEnd     = DoEnd + ":" // and the id of a grant
	consentTopics  = "limit-topics"
	consentIDMax   = 64
	consentListMax = 50
)

// grantDays are how many days a permission holds, to choose from; 0 for no end.
var grantDays = []int{1, 7, 30, 0}

func showConsent(q *request) error {
	f, err := q.newForm(nil)
	if err != nil {
		return err
	}
	return q.consentPage(f)
}

func (q *request) consentPage(f form) error {
	id := q.r.PathValue("patient")
	c, err := q.clinic.Consents(q.r.Context(), q.session, id)
	if err != nil {
		return err
	}
	f.Values.Del("pin")
	b := consentBody{ID: id, Who: q.person(c.Row), Limited: c.Limited, ByCard: c.ByCard, Unread: c.Unread, Homes: strings.Join(c.Homes, ", ")}
	b.Boxes = append([]ConsentBox{{ID: everyBox, Name: q.words.Text("consent.every")}}, c.Boxes...)
	for _, days := range grantDays {
		b.Days = append(b.Days, consentDays{strconv.Itoa(days), q.daysWords(days)})
	}
	for _, l := range c.Grants[:min(len(c.Grants), consentListMax)] {
		b.Grants = append(b.Grants, q.grantLine(&l))
	}
	for _, l := range c.Ended[:min(len(c.Ended), consentListMax)] {
		b.Ended = append(b.Ended, q.grantLine(&l))
	}
	b.Keys = q.words.Text("consent.by_rules")
	if c.Escrow {
		b.Keys = q.words.Text("consent.by_keys")
	}
	b.Choices = q.consentChoices(&c)
	b.LimitedTopics = q.wordList("topic", c.LimitedTopics)
	for _, t := range c.Topics {
		b.Topics = append(b.Topics, consentChoice{t, label(q.words, "topic", t)})
	}
	for _, p := range fhir.PurposeWords() {
		b.Purposes = append(b.Purposes, consentChoice{p, label(q.words, "purpose", p)})
	}
	p := q.newPage("", "consent.title", b)
	p.Form = f
	if q.r.URL.Query().Get("done") != "" {
		p.Notice = notice{Text: q.words.Text("consent.done")}
	}
	return q.show("consent", p)
}

// wordList puts words of a closed list in the page's language.
func (q *request) wordList(section string, list []string) string {
	var out []string
	for _, w := range list {
		out = append(out, label(q.words, section, w))
	}
	return strings.Join(out, ", ")
}

func (q *request) daysWords(days int) string {
	if days == 0 {
		return q.words.Text("consent.no_end")
	}
	return q.words.Count("consent.days", days)
}

func (q *request) boxWords(to string) string {
	if to == "" {
		return q.words.Text("consent.every")
	}
	return to
}

func (q *request) grantLine(l *ConsentLine) grantLine {
	out := grantLine{Title: q.boxWords(l.To), Number: l.ID[:min(len(l.ID), grantShown)], Over: l.Over, By: strings.TrimPrefix(l.By+", "+formatTime(q.words, l.At.In(q.opts.Location)), ", "), Badge: badgeOf(q.words, l.State, l.RID)}
	if l.Unsigned {
		out.By = q.words.Text("consent.unsigned", out.By)
	}
	if len(l.Topics) > 0 {
		out.About = q.words.Text("consent.about", q.wordList("topic", l.Topics))
	}
	if len(l.Purposes) > 0 && !slices.Equal(l.Purposes, fhir.PurposeWords()[:1]) {
		out.For = q.words.Text("consent.for", q.wordList("purpose", l.Purposes))
	}
	switch {
	case l.Limit:
		out.Title = q.words.Text("consent.limit_set")
	case l.Until.IsZero():
		out.Until = q.words.Text("consent.without_end")
	case l.Over:
		out.Until = q.words.Text("consent.over", formatTime(q.words, l.Until.In(q.opts.Location)))
	default:
		out.Until = q.words.Text("consent.until", formatTime(q.words, l.Until.In(q.opts.Location)))
	}
	if l.EndedBy != "" {
		out.Ended = q.words.Text("consent.ended_by", l.EndedBy, formatTime(q.words, l.EndedAt.In(q.opts.Location)))
	}
	return out
}

// consentChoices are what can be decided as things stand.
func (q *request) consentChoices(c *ConsentPage) []consentChoice {
	var list []consentChoice
	if !c.Limited {
		list = append(list, consentChoice{DoLimit, q.words.Text("consent.do_limit")})
		if len(c.Topics) > len(c.LimitedTopics) {
			list = append(list, consentChoice{consentTopics, q.words.Text("consent.do_limit_topics")})
		}
	}
	list = append(list, consentChoice{DoGrant, q.words.Text("consent.do_grant")})
	for _, g := range c.Grants[:min(len(c.Grants), consentListMax)] {
		if !g.Over {
			list = append(list, consentChoice{consentEnd + g.ID, q.words.Text("consent.do_end", g.ID[:min(len(g.ID), grantShown)], q.boxWords(g.To))})
		}
	}
	if c.Limited {
		list = append(list, consentChoice{DoOpen, q.words.Text("consent.do_open")})
	}
	if len(c.LimitedTopics) > 0 {
		list = append(list, consentChoice{DoOpenTopics, q.words.Text("consent.do_open_topics")})
	}
	return list
}

// decide writes down what the patient decided. The PIN is never shown again, kept as a draft or logged.
func decide(q *request) error {
	id, err := q.postedFormID()
	if err != nil {
		return err
	}
	d, problems := q.readDecision()
	if len(problems) > 0 {
		return q.consentPage(q.postedForm(id, problems))
	}
	patientID := q.r.PathValue("patient")
	err = q.clinic.Decide(q.r.Context(), q.session, patientID, id, d)
	var locked *LockedError
	switch {
	case errors.As(err, &locked):
		return q.consentPage(q.postedForm(id, []fieldProblem{{"pin", q.words.Count("signin.locked", wholeMinutes(locked.Until))}}))
	case errors.Is(err, ErrWrongPIN):
		return q.consentPage(q.postedForm(id, []fieldProblem{{"pin", q.words.Text("signin.wrong_pin")}}))
	case errors.Is(err, ErrFormUsed):
		f, err := q.reusedForm()
		if err != nil {
			return err
		}
		return q.consentPage(f)
	case err != nil:
		return fmt.Errorf("deciding: %w", err)
	}
	return q.redirect("/patient/" + url.PathEscape(patientID) + "/consent?done=1")
}

// readDecision reads what was chosen.
func (q *request) readDecision() (d Decision, problems []fieldProblem) {
	d = Decision{PIN: NormaliseDigits(q.r.PostForm.Get("pin")), Do: q.value("do"), To: q.value("to")}
	fault := func(field, key string) { problems = append(problems, fieldProblem{field, q.words.Text(key)}) }
	if grant, ok := strings.CutPrefix(d.Do, consentEnd); ok {
		d.Do, d.ID = DoEnd, grant
	}
	topics := q.r.PostForm["topics"]
	if d.Do == consentTopics {
		if d.Do, d.Topics = DoLimit, topics; len(topics) == 0 {
			fault("topics-0", "consent.choose_topic")
		}
	}
	if _, ok := fhir.TopicsOfWords(topics); !ok || len(topics) > len(fhir.TopicWords()) {
		fault("topics-0", "consent.choose_topic")
	}
	if !slices.Contains([]string{DoLimit, DoOpen, DoOpenTopics, DoGrant, DoEnd}, d.Do) || len(d.ID) > consentIDMax {
		fault("do-0", "consent.choose")
	}
	if d.Do == DoGrant {
		d.Topics, d.Purposes = topics, q.r.PostForm["purposes"]
		if slices.ContainsFunc(d.Purposes, func(p string) bool { return !slices.Contains(fhir.PurposeWords(), p) }) || len(d.Purposes) > len(fhir.PurposeWords()) {
			fault("purposes-0", "consent.choose_purpose")
		}
		days, err := strconv.Atoi(q.value("days"))
		if d.To == "" || len(d.To) > deviceTextMax {
			fault("to-0", "consent.choose_box")
		}
		if err != nil || !slices.Contains(grantDays, days) {
			fault("days-0", "consent.choose_days")
		}
		d.Days = days
		if d.To == everyBox {
			d.To = ""
		}
	} else {
		d.To = ""
	}
	if len(d.PIN) != pinDigits {
		fault("pin", "signin.pin_digits")
	}
	return d, problems
}

// grantShown is how many letters of a grant's id people read.
const grantShown = 8

// grantWords names a grant, and until when it holds where it has an end.
func (q *request) grantWords(key, id string, until time.Time) string {
	id = id[:min(len(id), grantShown)]
	if until.IsZero() {
		return q.words.Text(key, id)
	}
	return q.words.Text(key+"_until", id, formatTime(q.words, until.In(q.opts.Location)))
}

// unopenedWords tell of entries whose keys this box does not have; nil where there are none.
func (q *request) unopenedWords(c *chart.Closed) []string {
	if c.Records == 0 {
		return nil
	}
	out := []string{q.words.Count("consent.unopened", c.Records), q.words.Text("consent.unopened_since", formatTime(q.words, c.Since.In(q.opts.Location)))}
	if len(c.Homes) > 0 {
		out = append(out, q.words.Text("consent.unopened_homes", strings.Join(c.Homes, ", ")))
	}
	return append(out, q.words.Text("consent.unopened_wait"))
}

// closedWords say who decided that the chart stays closed, and what can be done.
func (q *request) closedWords(d *Decided) []string {
	if d == nil {
		return nil
	}
	var out []string
	if d.By != "" {
		out = append(out, q.words.Text("consent.closed_by", d.By, formatTime(q.words, d.At.In(q.opts.Location))))
	}
	if d.Grant != "" && !d.Until.IsZero() {
		out = append(out, q.words.Text("consent.closed_over", formatTime(q.words, d.Until.In(q.opts.Location))))
	}
	if len(d.Homes) > 0 {
		out = append(out, q.words.Text("consent.closed_homes", strings.Join(d.Homes, ", ")))
	}
	return append(out, q.words.Text("consent.closed_ask"), q.words.Text("consent.closed_rule", d.Rules))
}
