package web

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// sessionCookie carries the opaque token; languageCookie a language code.
const (
	sessionCookie  = "healthpost_session"
	languageCookie = "healthpost_language"
)

// contentPolicy allows this box's own files and nothing else; no inline script or style.
const contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// secure sets the headers every answer carries. Assets override Cache-Control. The referrer policy is
// same-origin and not no-referrer: under no-referrer browsers send "Origin: null" with this page's own
// forms, which at a plain address, where there is no Sec-Fetch-Site, looks like another site's form.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "geolocation=(), microphone=(), camera=()")
		h.Set("Cache-Control", "no-store")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", secureAge)
			h.Set("Cross-Origin-Opener-Policy", "same-origin")
		}
		next.ServeHTTP(w, r)
	})
}

// BoxName is the name under which every box answers on its own network, where the router knows it.
const BoxName = "clinic.home.arpa"

// ownName refuses a request under a name that is not this box's: a page elsewhere that lets its own
// name lead here (DNS rebinding) would be this page to a browser. A bare address is nobody's name.
func ownName(names []string, refuse http.HandlerFunc, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := strings.ToLower(r.Host)
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
			host = host[1 : len(host)-1]
		}
		host = strings.TrimSuffix(host, ".")
		if _, err := netip.ParseAddr(host); err != nil && host != BoxName && host != "localhost" && !strings.HasSuffix(host, ".localhost") && !slices.Contains(names, host) {
			refuse(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) ownName(next http.Handler) http.Handler {
	return ownName(s.opts.Names, func(w http.ResponseWriter, r *http.Request) {
		s.newRequest(w, r).refuse(route{}, http.StatusMisdirectedRequest, "error.host")
	}, next)
}

// sameOrigin refuses a form that another site's page sent.
func (s *server) sameOrigin(next http.Handler) http.Handler {
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.newRequest(w, r).refuse(route{}, http.StatusForbidden, "error.origin")
	}))
	return guard.Handler(next)
}

// log writes one line for each request: the path's pattern, never the path, so no id and no name.
func (s *server) log(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(sw, r)
		s.opts.Log.Debug().Str("method", knownMethod(r.Method)).Str("page", r.Pattern).Int("status", sw.status).
			Dur("took", time.Since(start)).Msg("request")
	})
}

func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost:
		return m
	}
	return "other"
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// serve runs one route: method, size, session, turn, form, then the screen; what the screen returns
// as an error becomes a page in words. Nobody's form is read before it is known whose it may be.
func (s *server) serve(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := s.newRequest(w, r)
		run := q.pick(rt)
		if run == nil || q.isTooLarge(rt) {
			return
		}
		if q.isBare() && !rt.bare {
			q.toSecure(rt)
			return
		}
		if q.box.NeedsFirstStaff && rt.who == forStaff {
			q.turnAway(rt, "/first")
			return
		}
		unknown := rt.who == forStaff && !q.identify(rt)
		if unknown && !q.mayKeep() {
			return
		}
		if !rt.stream { // which has its place in the room of streams
			leave, ok := s.turns.take(r.Context(), q.caller())
			if !ok {
				q.refuse(rt, http.StatusServiceUnavailable, "error.busy")
				return
			}
			defer leave()
		}
		if !q.readForm(rt) {
			return
		}
		if unknown {
			q.keepTyped()
			q.turnAway(rt, signInPath(r.URL.Path))
			return
		}
		err := q.mayShow(rt)
		if err == nil {
			err = run(q)
		}
		if err != nil {
			q.explain(rt, err)
		}
	}
}

// mayShow asks the box whether the form of a route may be shown.
func (q *request) mayShow(rt route) error {
	if rt.may == "" || q.r.Method == http.MethodPost {
		return nil
	}
	return q.clinic.Ask(q.r.Context(), q.session, rt.may, q.r.PathValue("patient"))
}

// pick chooses the function for the method; nil means it answered with a refusal.
func (q *request) pick(rt route) func(*request) error {
	run := rt.get
	if q.r.Method == http.MethodPost {
		run = rt.post
	}
	known := q.r.Method == http.MethodGet || q.r.Method == http.MethodHead || q.r.Method == http.MethodPost
	if run != nil && known {
		return run
	}
	q.w.Header().Set("Allow", rt.allowed())
	q.refuse(rt, http.StatusMethodNotAllowed, "error.method")
	return nil
}

// refuse answers without having read what was sent: in words for people, as a bare status for a
// script. The connection ends, so that nobody waits for the rest.
func (q *request) refuse(rt route, status int, key string) {
	q.dropBody()
	if rt.machine {
		http.Error(q.w, http.StatusText(status), status)
		return
	}
	q.fail(status, key)
}

// dropBody lets the rest of a body go: the server answers before it came, reads on for a moment, so
// that a browser that is still sending gets to read the answer, and ends the connection.
func (q *request) dropBody() {
	if q.r.Body == nil || q.r.Body == http.NoBody {
		return
	}
	q.w.Header().Set("Connection", "close")
	_ = http.NewResponseController(q.w).SetReadDeadline(time.Now().Add(lingerTime)) // a server without deadlines reads on
}

// isTooLarge refuses a body that says that it is too large, before it is read, and any that comes
// where none belongs.
func (q *request) isTooLarge(rt route) bool {
	post := q.r.Method == http.MethodPost
	if post && q.r.ContentLength <= q.bodyMax(rt) || !post && q.r.ContentLength == 0 {
		return false
	}
	q.refuse(rt, http.StatusRequestEntityTooLarge, "error.too_large")
	return true
}

func (q *request) bodyMax(rt route) int64 {
	if rt.files && isMultipart(q.r) {
		return uploadBytesMax
	}
	return rt.bodyMax
}

// readForm reads a posted form within its limits. A PIN or anything else in the address is ignored:
// only q.r.PostForm is used.
func (q *request) readForm(rt route) bool {
	if q.r.Method != http.MethodPost {
		return true
	}
	c := http.NewResponseController(q.w)
	_ = c.SetReadDeadline(time.Now().Add(formTimeout)) // a server without deadlines reads on
	var err error
	if rt.files && isMultipart(q.r) {
		err = q.readParts()
	} else {
		q.r.Body = http.MaxBytesReader(q.w, q.r.Body, rt.bodyMax)
		err = q.r.ParseForm()
	}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		q.refuse(rt, http.StatusRequestTimeout, "error.slow")
		return false
	case err != nil || len(q.r.PostForm) > formFieldsMax:
		q.refuse(rt, http.StatusRequestEntityTooLarge, "error.too_large")
		return false
	}
	return true
}

// identify finds the session; false: there is none, and who it was is turned away unless a form of
// theirs may be kept.
func (q *request) identify(rt route) bool {
	token := q.token()
	if token != "" {
		load := q.clinic.Session
		if rt.machine {
			load = q.clinic.Peek
		}
		session, err := load(q.r.Context(), token)
		if err == nil {
			q.session, q.signedIn = session, true
			q.chooseWords()
			q.recent.note(token, session.StaffID)
			return true
		}
		if !errors.Is(err, ErrNotSignedIn) {
			q.dropBody()
			q.explain(rt, err)
			q.answered = true
			return false
		}
	}
	if !q.mayKeep() {
		q.dropBody()
		q.turnAway(rt, signInPath(q.r.URL.Path))
	}
	return false
}

// mayKeep tells whether a form came whose typing is kept for who was signed in here before.
func (q *request) mayKeep() bool {
	return !q.answered && q.r.Method == http.MethodPost && draftPath(q.r.URL.Path) && q.recent.staff(q.token()) != ""
}

// caller is who a request is counted for: who is signed in, or an address.
func (q *request) caller() string {
	if q.signedIn {
		return "session " + q.session.Token
	}
	return addressOf(q.r)
}

func (q *request) token() string {
	c, err := q.r.Cookie(q.cookieName(sessionCookie))
	if err != nil || len(c.Value) > 256 {
		return ""
	}
	return c.Value
}

// keepTyped puts a form posted after the session ended on the draft shelf of the staff member
// whose session it was, so that signing in again brings it back.
func (q *request) keepTyped() {
	if q.mayKeep() {
		q.drafts.keep(q.recent.staff(q.token()), q.r.URL.Path, q.r.PostForm, q.opts.Now())
	}
}

// turnAway sends people to a page that lets them in, and gives scripts a bare status.
func (q *request) turnAway(rt route, to string) {
	if rt.machine {
		http.Error(q.w, "not signed in", http.StatusUnauthorized)
		return
	}
	http.Redirect(q.w, q.r, to, http.StatusSeeOther)
}

func signInPath(next string) string {
	if next == "/" || localPath(next) != next {
		return "/sign-in"
	}
	return "/sign-in?next=" + url.QueryEscape(next)
}

// localPath returns a path of this page, or "/" for anything that could lead elsewhere.
func localPath(p string) string {
	if !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.ContainsAny(p, "\\?#:\r\n\t") || len(p) > 256 {
		return "/"
	}
	return p
}

// setSession stores the token in the browser until it closes.
func (q *request) setSession(token string) {
	http.SetCookie(q.w, &http.Cookie{
		Name: q.cookieName(sessionCookie), Value: token, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteStrictMode, Secure: q.r.TLS != nil,
	})
}

func (q *request) clearSession() {
	http.SetCookie(q.w, &http.Cookie{
		Name: q.cookieName(sessionCookie), Path: "/", MaxAge: -1, HttpOnly: true,
		SameSite: http.SameSiteStrictMode, Secure: q.r.TLS != nil,
	})
}

// recentSessionsMax bounds how many tokens are remembered.
const recentSessionsMax = 256

// recentSessions remembers whose session a token was, after the session has ended.
type recentSessions struct {
	mu    sync.Mutex
	owner map[string]string // token to staff id; guarded by mu
	order []string          // tokens, oldest first; guarded by mu
}

func newRecentSessions() *recentSessions {
	return &recentSessions{owner: make(map[string]string)}
}

func (s *recentSessions) note(token, staffID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.owner[token]; !known {
		s.order = append(s.order, token)
		if len(s.order) > recentSessionsMax {
			delete(s.owner, s.order[0])
			s.order = s.order[1:]
		}
	}
	s.owner[token] = staffID
}

func (s *recentSessions) staff(token string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner[token]
}
