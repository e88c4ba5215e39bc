package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// request is one page being answered.
type request struct {
	*server
	w        http.ResponseWriter
	r        *http.Request
	box      Box
	session  Session
	signedIn bool
	answered bool // before the form was read
	words    *Catalogue
	upload   *upload // of a form with files; nil for any other
}

func (s *server) newRequest(w http.ResponseWriter, r *http.Request) *request {
	q := &request{server: s, w: w, r: r, box: s.clinic.Box(r.Context())}
	q.chooseWords()
	return q
}

// chooseWords takes the language of the browser's choice, then the session's, then what the
// browser prefers, then the box's first.
func (q *request) chooseWords() {
	choices := make([]string, 0, 4)
	if c, err := q.r.Cookie(q.cookieName(languageCookie)); err == nil {
		choices = append(choices, c.Value)
	}
	choices = append(choices, q.session.Language)
	if len(q.box.Languages) == 0 {
		choices = append(choices, firstTag(q.r.Header.Get("Accept-Language")))
	}
	choices = append(choices, q.box.Languages...)
	for _, language := range choices {
		if c := q.render.catalogues[language]; c != nil {
			q.words = c
			return
		}
	}
	q.words = q.render.catalogues[languageBase]
}

// firstTag is the primary subtag of the first language a browser names.
func firstTag(accept string) string {
	tag, _, _ := strings.Cut(accept, ",")
	tag, _, _ = strings.Cut(tag, ";")
	tag, _, _ = strings.Cut(tag, "-")
	return strings.ToLower(strings.TrimSpace(tag))
}

// page is what every template gets.
type page struct {
	Title     string
	Box       Box
	Version   string
	Session   Session
	SignedIn  bool
	Line      line
	Banners   banners
	Sheet     bool   // the page prints as a sheet: its title does not name the box
	Nav       string // the entry of the menu this page belongs to
	Here      string // path of this page, for forms that come back to it
	Now       time.Time
	Languages []string
	Trust     bool   // there is an authority to make known
	Form      form   // the form of this page, if it has one
	Notice    notice // what just happened, if anything
	Body      any
}

// notice is a line shown once after a redirect. Badge is the state of what was saved.
type notice struct {
	Text  string
	Badge badge
}

// newPage fills what all pages share.
func (q *request) newPage(nav, titleKey string, body any) *page {
	version := q.opts.Version
	if version == "" {
		version = q.box.Version
	}
	return &page{
		Title: q.words.Text(titleKey), Box: q.box, Version: version, Session: q.session, SignedIn: q.signedIn,
		Line: lineOf(q.words, q.clinic.Counts(q.r.Context()), inDoubt(q.box.Faults)), Banners: q.banners(q.r.URL.Path), Nav: nav, Here: q.r.URL.Path, Now: q.opts.Now(),
		Languages: q.render.languages, Trust: len(q.opts.Authority) > 0, Body: body,
	}
}

// show renders a page; with field errors its title starts with "Error:" and the status is 422.
func (q *request) show(name string, p *page) error {
	status := http.StatusOK
	if len(p.Form.Errors) > 0 {
		status = http.StatusUnprocessableEntity
		p.Title = q.words.Text("form.error_title", p.Title)
	}
	return q.showStatus(status, name, p)
}

func (q *request) showStatus(status int, name string, p *page) error {
	body, err := q.render.execute(q.words.Language, name, p)
	if err != nil {
		return err
	}
	q.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	q.w.Header().Set("Content-Language", q.words.Language)
	if err := writeBody(q.w, q.r, status, body); err != nil {
		q.opts.Log.Debug().Msg("page not delivered")
	}
	return nil
}

// redirect sends the browser to a page it can reload without posting again.
func (q *request) redirect(to string) error {
	http.Redirect(q.w, q.r, to, http.StatusSeeOther)
	return nil
}

// problem is the body of an error page.
type problem struct {
	Heading, Words string
	Danger         bool
	Kept           bool // what was typed is kept on the draft shelf
}

// explain turns what a screen or the box answered into a page in words.
func (q *request) explain(rt route, err error) {
	status, key := statusOf(err)
	if status == http.StatusInternalServerError {
		q.opts.Log.Error().Err(err).Str("page", rt.path).Msg("page request did not work")
	}
	if errors.Is(err, ErrNotSignedIn) && rt.who == forStaff {
		q.keepTyped()
		q.turnAway(rt, signInPath(q.r.URL.Path))
		return
	}
	if rt.machine {
		http.Error(q.w, http.StatusText(status), status)
		return
	}
	if q.signedIn && q.r.Method == http.MethodPost && draftPath(q.r.URL.Path) {
		q.drafts.keep(q.session.StaffID, q.r.URL.Path, q.r.PostForm, q.opts.Now())
	}
	var erased *ErasedError
	if errors.As(err, &erased) {
		q.failWith(status, key, formatTime(q.words, erased.At.In(q.opts.Location)))
		return
	}
	q.fail(status, key)
}

func statusOf(err error) (status int, key string) {
	var erased *ErasedError
	switch {
	case errors.As(err, &erased):
		return http.StatusGone, "error.erased"
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound, "error.not_found"
	case errors.Is(err, ErrRefused):
		return http.StatusForbidden, "error.refused"
	case errors.Is(err, ErrNotConfirmed):
		return http.StatusConflict, "error.not_confirmed"
	case errors.Is(err, ErrNotReady):
		return http.StatusServiceUnavailable, "error.not_ready"
	case errors.Is(err, ErrReadOnly):
		return http.StatusInsufficientStorage, "error.read_only"
	case errors.Is(err, ErrFault):
		return http.StatusInsufficientStorage, "error.fault"
	case errors.Is(err, errBadForm):
		return http.StatusBadRequest, "error.bad_form"
	}
	return http.StatusInternalServerError, "error.unknown"
}

// fail shows an error page; key names its heading and words in the catalogue.
func (q *request) fail(status int, key string) { q.failWith(status, key) }

// failWith is fail with what the words name.
func (q *request) failWith(status int, key string, args ...any) {
	p := q.newPage("", key+".heading", problem{
		Heading: q.words.Text(key + ".heading"), Words: q.words.Text(key+".words", args...),
		Danger: status == http.StatusInsufficientStorage,
		Kept:   q.signedIn && q.r.Method == http.MethodPost && draftPath(q.r.URL.Path) && status >= 500,
	})
	p.Title = q.words.Text("form.error_title", p.Title)
	if err := q.showStatus(status, "error", p); err != nil {
		q.opts.Log.Error().Err(err).Msg("error page did not work")
		http.Error(q.w, "error", status)
	}
}

func notFoundPage(*request) error { return ErrNotFound }

// value is one posted value without surrounding space.
func (q *request) value(name string) string { return strings.TrimSpace(q.r.PostForm.Get(name)) }

// postedFormID is the id of the form as this page made it.
func (q *request) postedFormID() (string, error) {
	id := q.r.PostForm.Get("form")
	if !validFormID(id) {
		return "", errBadForm
	}
	return id, nil
}

// form is a form on a page: its id, the values to show and what is wrong with them.
type form struct {
	ID     string
	Values url.Values
	Errors []fieldProblem
	Draft  time.Time // when the values were kept as a draft; zero: they were not
}

// fieldProblem is one thing to correct, in words, at a field of the form.
type fieldProblem struct {
	Field string // id of the input to jump to
	Words string
}

// Value is the value to show in an input.
func (f form) Value(name string) string { return f.Values.Get(name) }

// Has tells whether a tick or radio is chosen.
func (f form) Has(name, value string) bool {
	for _, v := range f.Values[name] {
		if v == value {
			return true
		}
	}
	return false
}

// Error is what is wrong at an input, or "".
func (f form) Error(name string) string {
	for _, e := range f.Errors {
		if e.Field == name {
			return e.Words
		}
	}
	return ""
}

// newForm starts a form: with a fresh id and, when there is one, the draft of this staff
// member for this page.
func (q *request) newForm(start url.Values) (form, error) {
	id, err := q.newFormID()
	if err != nil {
		return form{}, err
	}
	f := form{ID: id, Values: start}
	if f.Values == nil {
		f.Values = url.Values{}
	}
	if d, ok := q.drafts.find(q.session.StaffID, q.r.URL.Path, q.opts.Now()); ok {
		f.Values, f.Draft = d.values, d.at
		if validFormID(d.values.Get("form")) {
			f.ID = d.values.Get("form")
		}
	}
	return f, nil
}

// postedForm is the form as it was posted, to be shown again.
func (q *request) postedForm(id string, problems []fieldProblem) form {
	return form{ID: id, Values: q.r.PostForm, Errors: problems}
}

// reusedForm is the posted form under a fresh id, saying that the first one is already saved.
func (q *request) reusedForm() (form, error) {
	id, err := q.newFormID()
	if err != nil {
		return form{}, err
	}
	return form{ID: id, Values: q.r.PostForm, Errors: []fieldProblem{{Field: "main", Words: q.words.Text("form.used")}}}, nil
}

// input is one text box with its label, as the shared template draws it.
type input struct {
	Form  form
	Name  string
	Label string // catalogue key
	Kind  string // text, decimal, number, pin, tel
	Unit  string // shown after the box, or ""
	Hint  string // catalogue key, or ""
	Max   int    // longest text
}

func newField(f form, name, label, kind, unit, hint string, max int) input {
	return input{Form: f, Name: name, Label: label, Kind: kind, Unit: unit, Hint: hint, Max: max}
}
