package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Pace of a stream of events.
const (
	streamQuiet  = 20 * time.Second       // a line is sent at least this often, and the session looked at
	streamGather = 250 * time.Millisecond // changes this close together are told once
	streamWrite  = 10 * time.Second       // a browser that takes no bytes for this long is let go
)

const (
	eventChange = "event: change\ndata: 0\n\n"
	eventLocked = "event: locked\ndata: 0\n\n"
	eventQuiet  = ": quiet\n\n"
	eventLater  = "retry: 30000\n\n" // the browser asks again then
)

// streamEvents tells a page that something changed; what changed it then asks /states for.
// The event "change" means ask again; "locked" means that the session has ended.
func streamEvents(q *request) error {
	ended, leave, ok := q.streams.join(q.session.StaffID)
	if !ok {
		http.Error(q.w, "too many pages open", http.StatusServiceUnavailable)
		return nil
	}
	defer leave()
	ctx := q.r.Context()
	streamChanges(q.w, q.r, q.clinic.Watch(ctx), ended, func() bool {
		_, err := q.clinic.Peek(ctx, q.token())
		return err == nil
	})
	return nil
}

// streamChanges writes "change" at once and after each signal, until the browser goes, the signal
// closes, going on is no longer allowed ("locked"), or its place is given to another page.
func streamChanges(w http.ResponseWriter, r *http.Request, dirty, ended <-chan struct{}, allowed func() bool) {
	out := http.NewResponseController(w)
	send := func(message string) bool {
		_ = out.SetWriteDeadline(time.Now().Add(streamWrite)) // a server without deadlines needs none lifted
		_, err := fmt.Fprint(w, message)
		return err == nil && out.Flush() == nil
	}
	_ = out.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	tick := time.NewTicker(streamQuiet)
	defer tick.Stop()
	message := "retry: 3000\n" + eventChange
	for send(message) {
		select {
		case <-r.Context().Done():
			return
		case _, open := <-dirty:
			if !open {
				return
			}
			message = eventChange
			select {
			case <-time.After(streamGather):
			case <-r.Context().Done():
				return
			}
		case <-tick.C:
			message = eventQuiet
		case <-ended:
			if allowed() {
				send(eventLater)
			} else {
				send(eventLocked)
			}
			return
		}
		if !allowed() {
			send(eventLocked)
			return
		}
	}
}

// states is the answer of /states.
type states struct {
	Line    line             `json:"line"`
	Banners string           `json:"banners"` // HTML of this page's own template
	Tag     string           `json:"tag"`     // of the banners: another tag, other banners
	States  map[string]badge `json:"states"`
	Part    string           `json:"part,omitempty"` // HTML: what else the page at "at" shows anew
}

// answerStates gives the sync line, the banners of the page at "at" and the badge of each record asked for with "rid", as JSON.
func answerStates(q *request) error {
	rids := q.r.URL.Query()["rid"]
	if len(rids) > statesAskedMax {
		rids = rids[:statesAskedMax]
	}
	found, err := q.clinic.States(q.r.Context(), q.session, rids)
	if err != nil {
		return err
	}
	at := q.r.URL.Query().Get("at")
	warned := q.banners(at)
	warned.Changed = at == faultsPath // the script shows it when the tag is another
	shown, err := q.render.part(q.words.Language, "banners", warned)
	if err != nil {
		return err
	}
	answer := states{Line: lineOf(q.words, q.clinic.Counts(q.r.Context()), inDoubt(q.box.Faults)), Banners: shown, Tag: warned.Tag, States: make(map[string]badge, len(found))}
	if at == faultsPath {
		if answer.Part, err = q.linksNow(); err != nil {
			return err
		}
	}
	for rid, s := range found {
		answer.States[rid] = badgeOf(q.words, s, rid)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encoding states: %w", err)
	}
	q.w.Header().Set("Content-Type", "application/json")
	return writeBody(q.w, q.r, http.StatusOK, body)
}
