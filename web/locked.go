package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// LockedClinic is a box whose keys are locked. It shows nothing but its name. Methods may be called
// concurrently.
type LockedClinic interface {
	// Box describes the box.
	Box(ctx context.Context) LockedBox
	// OpenLock tries a passphrase. Errors: ErrWrongPIN, *LockedError. Counting wrong tries is the box's
	// task. After nil the box ends this page and begins the one of package web's New.
	OpenLock(ctx context.Context, passphrase string) error
	// OpenLockByPIN is OpenLock for a member's number and PIN. Errors besides: ErrChipRests, ErrNoChip.
	OpenLockByPIN(ctx context.Context, number int, pin string) error
}

var (
	// ErrChipRests: the chip that keeps the box's secret takes no PIN for a while.
	ErrChipRests = errors.New("the chip takes no PIN until it forgets wrong ones")
	// ErrNoChip: the chip does not answer, or is another one.
	ErrNoChip = errors.New("the chip does not give the box's secret")
)

// LockedBox is what a locked box shows of itself.
type LockedBox struct {
	Name       string
	Languages  []string // first choice first
	Passphrase bool     // it opens by a passphrase, and not by a key file
	PIN        bool     // it opens by a member's number and PIN besides
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
	PIN        bool
	Opening    bool
}

func showLocked(q *request) error { return q.lockPage(http.StatusOK, form{Values: url.Values{}}) }

func (q *request) lockPage(status int, f form) error {
	b := q.locked.Box(q.r.Context())
	p := q.newPage("", "locked.title", lockedBody{Passphrase: b.Passphrase, PIN: b.PIN})
	p.Form = f
	if len(f.Errors) > 0 {
		p.Title = q.words.Text("form.error_title", p.Title)
	}
	return q.showStatus(status, "locked", p)
}

// openLock tries what was typed. It is never shown again, kept or logged, but for the member's number.
func openLock(q *request) error {
	if q.r.PostForm.Has("pin") && q.locked.Box(q.r.Context()).PIN {
		return q.openLockByPIN()
	}
	passphrase := q.r.PostForm.Get("passphrase")
	if passphrase == "" || len(passphrase) > passphraseBytesMax {
		return q.stillLocked(http.StatusUnprocessableEntity, "passphrase", q.words.Text("locked.needed"))
	}
	return q.tryLock(lockField{"passphrase", "locked.wait", "locked.wrong"}, func(ctx context.Context) error { return q.locked.OpenLock(ctx, passphrase) })
}

func (q *request) openLockByPIN() error {
	number, err := strconv.ParseUint(strings.TrimSpace(NormaliseDigits(q.r.PostForm.Get("number"))), 10, 16)
	if err != nil || number == 0 {
		return q.stillLocked(http.StatusUnprocessableEntity, "number", q.words.Text("locked.number_needed"))
	}
	pin := NormaliseDigits(q.r.PostForm.Get("pin"))
	if len(pin) != pinDigits {
		return q.stillLocked(http.StatusUnprocessableEntity, "pin", q.words.Text("signin.pin_digits"))
	}
	return q.tryLock(lockField{"pin", "signin.locked", "locked.wrong_pin"}, func(ctx context.Context) error { return q.locked.OpenLockByPIN(ctx, int(number), pin) })
}

// lockField is a field of the locked page, with the words for too many wrong tries and for a wrong one.
type lockField struct{ name, wait, wrong string }

func (q *request) stillLocked(status int, field, words string) error {
	return q.lockPage(status, form{Values: url.Values{"number": q.r.PostForm["number"]}, Errors: []fieldProblem{{field, words}}})
}

// tryLock opens the box, or says why not.
func (q *request) tryLock(f lockField, open func(context.Context) error) error {
	if wait := q.tries.begin(addressOf(q.r), q.opts.Now()); wait > 0 {
		q.w.Header().Set("Retry-After", strconv.Itoa(60*wholeMinutes(wait)))
		return q.stillLocked(http.StatusTooManyRequests, f.name, q.words.Count(f.wait, wholeMinutes(wait)))
	}
	err := open(q.r.Context())
	if !errors.Is(err, ErrWrongPIN) {
		q.tries.takeBack(addressOf(q.r))
	}
	var locked *LockedError
	switch {
	case errors.As(err, &locked):
		return q.stillLocked(http.StatusUnprocessableEntity, f.name, q.words.Count(f.wait, wholeMinutes(locked.Until)))
	case errors.Is(err, ErrWrongPIN):
		return q.stillLocked(http.StatusUnprocessableEntity, f.name, q.words.Text(f.wrong))
	case errors.Is(err, ErrChipRests):
		return q.stillLocked(http.StatusUnprocessableEntity, f.name, q.words.Text("locked.chip_rests"))
	case errors.Is(err, ErrNoChip):
		return q.stillLocked(http.StatusUnprocessableEntity, f.name, q.words.Text("locked.no_chip"))
	case err != nil:
		return err
	}
	q.w.Header().Set("Refresh", strconv.Itoa(reopenSeconds)+"; url=/")
	return q.show("locked", q.newPage("", "locked.opening", lockedBody{Opening: true}))
}

// toLockPage sends whoever asks for anything else to the page that says why it is not there.
func toLockPage(q *request) error { return q.redirect("/") }
