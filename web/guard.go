package web

import (
	"errors"
	"net/http"
	"net/url"
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
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses a form that another site's page sent.
func (s *server) sameOrigin(next http.Handler) http.Handler {
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := s.newRequest(w, r)
		q.fail(http.StatusForbidden, "error.origin")
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

// serve runs one route: method, size, session, then the screen; what the screen returns as an
// error becomes a page in words.
func (s *server) serve(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := s.newRequest(w, r)
		run := q.pick(rt)
		if run == nil {
			return
		}
		if !q.readForm(rt) {
			return
		}
		if q.box.NeedsFirstStaff && !rt.public {
			q.refuse(rt, "/first")
			return
		}
		if !rt.public && !q.authenticate(rt) {
			return
		}
		if err := run(q); err != nil {
			q.explain(rt, err)
		}
	}
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
	var allow []string
	if rt.get != nil {
		allow = append(allow, "GET, HEAD")
	}
	if rt.post != nil {
		allow = append(allow, "POST")
	}
	q.w.Header().Set("Allow", strings.Join(allow, ", "))
	if rt.machine {
		http.Error(q.w, "method not allowed", http.StatusMethodNotAllowed)
		return nil
	}
	q.fail(http.StatusMethodNotAllowed, "error.method")
	return nil
}

// readForm reads a posted form within its limits. A PIN or anything else in the address is ignored:
// only q.r.PostForm is used.
func (q *request) readForm(rt route) bool {
	if q.r.Method != http.MethodPost {
		return true
	}
	if rt.files && isMultipart(q.r) {
		if err := q.readParts(); err != nil {
			q.fail(http.StatusRequestEntityTooLarge, "error.too_large")
			return false
		}
		return true
	}
	q.r.Body = http.MaxBytesReader(q.w, q.r.Body, bodyBytesMax)
	if err := q.r.ParseForm(); err != nil || len(q.r.PostForm) > formFieldsMax {
		q.fail(http.StatusRequestEntityTooLarge, "error.too_large")
		return false
	}
	return true
}

// authenticate finds the session; without one it keeps what was typed and asks for the PIN.
func (q *request) authenticate(rt route) bool {
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
			q.explain(rt, err)
			return false
		}
	}
	q.keepTyped(token)
	q.refuse(rt, signInPath(q.r.URL.Path))
	return false
}

func (q *request) token() string {
	c, err := q.r.Cookie(sessionCookie)
	if err != nil || len(c.Value) > 256 {
		return ""
	}
	return c.Value
}

// keepTyped puts a form posted after the session ended on the draft shelf of the staff member
// whose session it was, so that signing in again brings it back.
func (q *request) keepTyped(token string) {
	staffID := q.recent.staff(token)
	if q.r.Method != http.MethodPost || staffID == "" || !draftPath(q.r.URL.Path) {
		return
	}
	q.drafts.keep(staffID, q.r.URL.Path, q.r.PostForm, q.opts.Now())
}

// refuse sends people to a page that lets them in, and gives scripts a bare status.
func (q *request) refuse(rt route, to string) {
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
		Name: sessionCookie, Value: token, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteStrictMode, Secure: q.r.TLS != nil,
	})
}

func (q *request) clearSession() {
	http.SetCookie(q.w, &http.Cookie{
		Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true,
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
