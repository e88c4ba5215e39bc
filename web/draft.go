package web

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of the draft shelf and the search shelf.
const (
	draftsMax       = 400
	draftBytesMax   = 32 << 10
	draftAgeMax     = 7 * 24 * time.Hour
	searchesMax     = 256
	searchQueryMax  = 200
	searchTokenSize = 16
)

// draft is a form that was typed and not saved.
type draft struct {
	values url.Values
	at     time.Time
}

type draftKey struct{ staffID, path string }

// draftShelf keeps one draft for each staff member and form, in memory: what a locked screen,
// a lost phone or a refused save would otherwise take along.
type draftShelf struct {
	mu     sync.Mutex
	drafts map[draftKey]draft // guarded by mu
	order  []draftKey         // oldest first; guarded by mu
	saved  *idRing            // ids of forms saved last
}

func newDraftShelf() *draftShelf {
	return &draftShelf{drafts: make(map[draftKey]draft), saved: new(idRing)}
}

// done takes a saved form's draft away and ignores the ones still on their way.
func (s *draftShelf) done(staffID, path, formID string) {
	s.saved.note(formID)
	s.remove(staffID, path)
}

// keep stores a copy, without anything secret; forms that are too large are not kept.
func (s *draftShelf) keep(staffID, path string, values url.Values, now time.Time) {
	if staffID == "" || len(values.Encode()) > draftBytesMax {
		return
	}
	kept := make(url.Values, len(values))
	for name, v := range values {
		if name != "pin" && name != "pin_again" && name != "path" {
			kept[name] = append([]string(nil), v...)
		}
	}
	key := draftKey{staffID, path}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.saved.has(values.Get("form")) {
		return
	}
	s.removeLocked(key)
	s.drafts[key] = draft{values: kept, at: now}
	s.order = append(s.order, key)
	if len(s.order) > draftsMax {
		s.removeLocked(s.order[0])
	}
}

func (s *draftShelf) find(staffID, path string, now time.Time) (draft, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.drafts[draftKey{staffID, path}]
	if !ok || now.Sub(d.at) > draftAgeMax {
		return draft{}, false
	}
	return d, true
}

func (s *draftShelf) remove(staffID, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLocked(draftKey{staffID, path})
}

func (s *draftShelf) removeLocked(key draftKey) {
	if _, ok := s.drafts[key]; !ok {
		return
	}
	delete(s.drafts, key)
	for i, k := range s.order {
		if k == key {
			s.order = append(s.order[:i], s.order[i+1:]...)
			return
		}
	}
}

// draftForms are the forms of a chart whose typing is kept.
var draftForms = []string{"/visit", "/details", "/emergency"}

// draftPath tells whether the form at a path is one whose typing is kept.
func draftPath(p string) bool {
	if !strings.HasPrefix(p, "/patient/") {
		return p == "/register"
	}
	return slices.ContainsFunc(draftForms, func(end string) bool { return strings.HasSuffix(p, end) })
}

// keepDraft is what the script posts while somebody types; "drop" takes the draft away.
func keepDraft(q *request) error {
	path := localPath(q.r.PostForm.Get("path"))
	if !draftPath(path) {
		return errBadForm
	}
	if q.r.PostForm.Get("drop") != "" {
		q.drafts.remove(q.session.StaffID, path)
		return q.redirect(path)
	}
	q.drafts.keep(q.session.StaffID, path, q.r.PostForm, q.opts.Now())
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// idRingMax is how many form ids are remembered.
const idRingMax = 128

// idRing remembers the last form ids noted.
type idRing struct {
	mu   sync.Mutex
	ids  [idRingMax]string // guarded by mu
	next int               // guarded by mu
}

func (r *idRing) note(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[r.next] = id
	r.next = (r.next + 1) % idRingMax
}

func (r *idRing) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return id != "" && slices.Contains(r.ids[:], id)
}

// search is one query of one staff member.
type search struct{ staffID, query string }

// searchShelf keeps queries under random names, so that no name of a person stands in an address.
type searchShelf struct {
	mu       sync.Mutex
	searches map[string]search // guarded by mu
	order    []string          // oldest first; guarded by mu
}

func newSearchShelf() *searchShelf { return &searchShelf{searches: make(map[string]search)} }

func (s *searchShelf) keep(staffID, query string) string {
	var raw [searchTokenSize]byte
	_, _ = rand.Read(raw[:]) // crypto/rand does not fail
	token := hex.EncodeToString(raw[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.searches[token] = search{staffID, query}
	s.order = append(s.order, token)
	if len(s.order) > searchesMax {
		delete(s.searches, s.order[0])
		s.order = s.order[1:]
	}
	return token
}

func (s *searchShelf) find(staffID, token string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.searches[token]
	return found.query, ok && found.staffID == staffID
}
