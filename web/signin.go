package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Sizes of what a staff member types.
const (
	pinDigits        = 6
	staffNameMaxRune = 80
)

// signInBody is the sign-in page.
type signInBody struct {
	Staff []StaffTile
	Next  string
	Kept  bool // something typed waits on the draft shelf
}

func showSignIn(q *request) error {
	if q.box.NeedsFirstStaff {
		return q.redirect("/first")
	}
	return q.signInPage(form{Values: url.Values{}}, localPath(q.r.URL.Query().Get("next")))
}

func (q *request) signInPage(f form, next string) error {
	p, err := q.newSignInPage(f, next)
	if err != nil {
		return err
	}
	return q.show("signin", p)
}

// signInRefused is the page for a browser that has to wait.
func (q *request) signInRefused(f form, next string, wait time.Duration) error {
	p, err := q.newSignInPage(f, next)
	if err != nil {
		return err
	}
	p.Title = q.words.Text("form.error_title", p.Title)
	q.w.Header().Set("Retry-After", strconv.Itoa(60*wholeMinutes(wait)))
	return q.showStatus(http.StatusTooManyRequests, "signin", p)
}

func (q *request) newSignInPage(f form, next string) (*page, error) {
	staff, err := q.clinic.Staff(q.r.Context())
	if err != nil {
		return nil, err
	}
	if len(staff) == 1 && f.Values.Get("staff") == "" {
		f.Values.Set("staff", staff[0].ID)
	}
	owner := q.recent.staff(q.token())
	_, kept := q.drafts.find(owner, next, q.opts.Now())
	p := q.newPage("", "signin.title", signInBody{Staff: staff, Next: next, Kept: kept})
	p.Form = f
	return p, nil
}

// signIn checks the PIN. The PIN is never shown again, kept as a draft or logged.
func signIn(q *request) error {
	next := localPath(q.r.PostForm.Get("next"))
	staffID, pin := q.value("staff"), NormaliseDigits(q.r.PostForm.Get("pin"))
	f := form{Values: url.Values{"staff": {staffID}}}
	if staffID == "" {
		f.Errors = append(f.Errors, fieldProblem{"staff-0", q.words.Text("signin.choose_name")})
	}
	if len(pin) != pinDigits {
		f.Errors = append(f.Errors, fieldProblem{"pin", q.words.Text("signin.pin_digits")})
	}
	if len(f.Errors) > 0 {
		return q.signInPage(f, next)
	}
	wait := q.tries.begin(addressOf(q.r), q.opts.Now())
	if wait > 0 {
		f.Errors = []fieldProblem{{"pin", q.words.Count("signin.locked", wholeMinutes(wait))}}
		return q.signInRefused(f, next, wait)
	}
	token, err := q.clinic.SignIn(q.r.Context(), staffID, pin)
	if !errors.Is(err, ErrWrongPIN) {
		q.tries.takeBack(addressOf(q.r))
	}
	var locked *LockedError
	switch {
	case errors.As(err, &locked):
		f.Errors = []fieldProblem{{"pin", q.words.Count("signin.locked", wholeMinutes(locked.Until))}}
		return q.signInPage(f, next)
	case errors.Is(err, ErrWrongPIN):
		f.Errors = []fieldProblem{{"pin", q.words.Text("signin.wrong_pin")}}
		return q.signInPage(f, next)
	case err != nil:
		return err
	}
	if old := q.token(); old != "" { // this browser's session of before ends with the new one
		q.clinic.SignOut(q.r.Context(), old)
	}
	q.setSession(token)
	return q.redirect(next)
}

func wholeMinutes(d time.Duration) int {
	return max(1, int((d+time.Minute-1)/time.Minute))
}

// lock ends the session and shows the sign-in page; what was typed stays on the draft shelf.
func lock(q *request) error {
	if token := q.token(); token != "" {
		q.clinic.SignOut(q.r.Context(), token)
		q.streams.end(q.recent.staff(token)) // pages of this browser notice at once
	}
	q.clearSession()
	return q.redirect("/sign-in")
}

// chooseLanguage remembers a language in the browser.
func chooseLanguage(q *request) error {
	language := q.value("language")
	if q.render.catalogues[language] == nil {
		return errBadForm
	}
	http.SetCookie(q.w, &http.Cookie{
		Name: q.cookieName(languageCookie), Value: language, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true,
		SameSite: http.SameSiteStrictMode, Secure: q.r.TLS != nil,
	})
	return q.redirect(localPath(q.r.PostForm.Get("next")))
}

func showFirst(q *request) error {
	if !q.box.NeedsFirstStaff {
		return q.redirect("/sign-in")
	}
	return q.firstPage(form{Values: url.Values{}})
}

func (q *request) firstPage(f form) error {
	p := q.newPage("", "first.title", nil)
	p.Form = f
	return q.show("first", p)
}

// addFirst adds the first staff member and signs them in.
func addFirst(q *request) error {
	if !q.box.NeedsFirstStaff {
		return q.redirect("/sign-in")
	}
	staff, f := q.readStaff()
	if len(f.Errors) > 0 {
		return q.firstPage(f)
	}
	if err := q.clinic.AddStaff(q.r.Context(), nil, staff); errors.Is(err, ErrRefused) {
		return q.redirect("/sign-in") // somebody else was first
	} else if err != nil {
		return err
	}
	token, err := q.signInByName(staff)
	if err != nil {
		q.opts.Log.Info().Msg("first staff member added, sign in by hand")
		return q.redirect("/sign-in")
	}
	q.setSession(token)
	return q.redirect("/")
}

func (q *request) signInByName(staff NewStaff) (string, error) {
	tiles, err := q.clinic.Staff(q.r.Context())
	if err != nil {
		return "", err
	}
	for _, tile := range tiles {
		if tile.Name == staff.Name {
			return q.clinic.SignIn(q.r.Context(), tile.ID, staff.PIN)
		}
	}
	return "", fmt.Errorf("finding first staff member: %w", ErrNotFound)
}

// readStaff reads name and PIN, twice typed.
func (q *request) readStaff() (NewStaff, form) {
	name := strings.Join(strings.Fields(q.value("name")), " ")
	pin, again := NormaliseDigits(q.r.PostForm.Get("pin")), NormaliseDigits(q.r.PostForm.Get("pin_again"))
	f := form{Values: url.Values{"name": {name}}}
	fault := func(field, key string) {
		f.Errors = append(f.Errors, fieldProblem{field, q.words.Text(key)})
	}
	if name == "" || utf8.RuneCountInString(name) > staffNameMaxRune {
		fault("name", "staff.name_needed")
	}
	switch {
	case len(pin) != pinDigits:
		fault("pin", "signin.pin_digits")
	case easyPIN(pin):
		fault("pin", "staff.pin_easy")
	case pin != again:
		fault("pin_again", "staff.pin_differs")
	}
	return NewStaff{Name: name, PIN: pin}, f
}

// easyPIN tells whether all digits are the same or run up or down by one.
func easyPIN(pin string) bool {
	same, up, down := true, true, true
	for i := 1; i < len(pin); i++ {
		same = same && pin[i] == pin[i-1]
		up = up && pin[i] == pin[i-1]+1
		down = down && pin[i] == pin[i-1]-1
	}
	return same || up || down
}

func showStaff(q *request) error { return q.staffPage(form{Values: url.Values{}}) }

func (q *request) staffPage(f form) error {
	staff, err := q.clinic.Staff(q.r.Context())
	if err != nil {
		return err
	}
	p := q.newPage("links", "staff.title", staffBody{Staff: staff, Roles: roleNames})
	p.Form = f
	if done := q.r.URL.Query().Get("done"); done == "added" || done == "ended" {
		p.Notice = notice{Text: q.words.Text("staff." + done)}
	}
	return q.show("staff", p)
}

// staffBody is who may sign in here, with the roles that a new member can have.
type staffBody struct {
	Staff []StaffTile
	Roles []string
}

// roleNames are the roles that the rules know, in the order of the page.
var roleNames = []string{"nurse", "clinician", "pharmacist", "health_worker", "registrar", "auditor", "administrator"}

// readRoles reads the ticked roles of a new member.
func (q *request) readRoles(f *form) string {
	chosen := q.r.PostForm["role"]
	f.Values["role"] = chosen
	if len(chosen) == 0 || slices.ContainsFunc(chosen, func(r string) bool { return !slices.Contains(roleNames, r) }) {
		f.Errors = append(f.Errors, fieldProblem{"role-nurse", q.words.Text("staff.role_needed")})
	}
	return strings.Join(chosen, ",")
}

// endStaff ends a member's account.
func endStaff(q *request) error {
	if err := q.clinic.EndStaff(q.r.Context(), q.session, q.value("staff")); errors.Is(err, ErrLastStaff) {
		return q.staffPage(form{Values: url.Values{}, Errors: []fieldProblem{{"main", q.words.Text("staff.last")}}})
	} else if err != nil {
		return err
	}
	return q.redirect("/staff?done=ended")
}

// addStaff adds a member on behalf of the one signed in; who may is the box's rule.
func addStaff(q *request) error {
	staff, f := q.readStaff()
	staff.Role = q.readRoles(&f)
	if len(f.Errors) > 0 {
		return q.staffPage(f)
	}
	if err := q.clinic.AddStaff(q.r.Context(), &q.session, staff); err != nil {
		return err
	}
	return q.redirect("/staff?done=added")
}
