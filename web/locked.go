package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
)

// LockedClinic is a box whose keys are locked. It shows nothing but its name. Methods may be called
// concurrently.
type LockedClinic interface {
	// Box describes the box.
	Box(ctx context.Context) LockedBox
	// OpenLock tries a passphrase. Errors: ErrWrongPIN, *LockedError. Counting wrong tries is the box's
	// task. After nil the box ends this page and begins the one of package web's New.
	OpenLock(ctx context.Context, passphrase string) error
}

// LockedBox is what a locked box shows of itself.
type LockedBox struct {
	Name       string
	Languages  []string // first choice first
	Passphrase bool     // it opens by a passphrase, and not by a key file
}

const (
	passphraseBytesMax = 512
	reopenSeconds      = 5 // until the browser looks whether the box is open
)

// NewLocked returns the handler of a locked box's page. It panics as New does.
func NewLocked(clinic LockedClinic, opts Options) http.Handler { return built(newLocked(clinic, opts)) }

func newLocked(clinic LockedClinic, opts Options) (http.Handler, error) {
	s, err := newServer(lockedAsClinic{locked: clinic}, opts)
	if err != nil {
		return nil, err
	}
	s.locked = clinic
	return s.log(secure(s.ownName(s.sameOrigin(s.mount(lockedTable()))))), nil
}

// lockedAsClinic lets a locked box use the frame of all pages. Its routes ask nothing else of a clinic.
type lockedAsClinic struct {
	Clinic
	locked LockedClinic
}

func (c lockedAsClinic) Box(ctx context.Context) Box {
	b := c.locked.Box(ctx)
	return Box{Name: b.Name, Region: b.Name, Languages: b.Languages, Locked: true}
}

func (lockedAsClinic) Counts(context.Context) Counts { return Counts{} }

// lockedTable lists every path of a locked box's page.
func lockedTable() []route {
	return []route{
		{path: "/{$}", get: showLocked, post: openLock, who: forAnybody, bodyMax: shortBytesMax, changes: toLock},
		{path: "/trust", get: showTrust, who: forAnybody, bare: true},
		{path: "/trust/authority", get: giveAuthority, who: forAnybody, bare: true},
		{path: "/language", post: chooseLanguage, who: forAnybody, bare: true, bodyMax: shortBytesMax, changes: toBrowser},
		{path: "/assets/{file}", get: serveAsset, who: forAnybody, machine: true, bare: true},
		{path: "/", get: toLockPage, who: forAnybody},
	}
}

// lockedBody is the page that asks for the passphrase, or for the key file.
type lockedBody struct {
	Passphrase bool
	Opening    bool
}

func showLocked(q *request) error { return q.lockPage(http.StatusOK, form{Values: url.Values{}}) }

func (q *request) lockPage(status int, f form) error {
	p := q.newPage("", "locked.title", lockedBody{Passphrase: q.locked.Box(q.r.Context()).Passphrase})
	p.Form = f
	if len(f.Errors) > 0 {
		p.Title = q.words.Text("form.error_title", p.Title)
	}
	return q.showStatus(status, "locked", p)
}

// openLock tries the passphrase. It is never shown again, kept or logged.
func openLock(q *request) error {
	passphrase := q.r.PostForm.Get("passphrase")
	wrong := func(status int, words string) error {
		return q.lockPage(status, form{Values: url.Values{}, Errors: []fieldProblem{{"passphrase", words}}})
	}
	if passphrase == "" || len(passphrase) > passphraseBytesMax {
		return wrong(http.StatusUnprocessableEntity, q.words.Text("locked.needed"))
	}
	if wait := q.tries.begin(addressOf(q.r), q.opts.Now()); wait > 0 {
		q.w.Header().Set("Retry-After", strconv.Itoa(60*wholeMinutes(wait)))
		return wrong(http.StatusTooManyRequests, q.words.Count("locked.wait", wholeMinutes(wait)))
	}
	err := q.locked.OpenLock(q.r.Context(), passphrase)
	if !errors.Is(err, ErrWrongPIN) {
		q.tries.takeBack(addressOf(q.r))
	}
	var locked *LockedError
	switch {
	case errors.As(err, &locked):
		return wrong(http.StatusUnprocessableEntity, q.words.Count("locked.wait", wholeMinutes(locked.Until)))
	case errors.Is(err, ErrWrongPIN):
		return wrong(http.StatusUnprocessableEntity, q.words.Text("locked.wrong"))
	case err != nil:
		return err
	}
	q.w.Header().Set("Refresh", strconv.Itoa(reopenSeconds)+"; url=/")
	return q.show("locked", q.newPage("", "locked.opening", lockedBody{Opening: true}))
}

// toLockPage sends whoever asks for anything else to the page that says why it is not there.
func toLockPage(q *request) error { return q.redirect("/") }
