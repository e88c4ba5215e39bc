package web

import (
	"net/http"
	"strings"
)

// Every way into this package's servers stands in a table of this file: what is not in it
// cannot be asked for, and tests walk it.

// access is who may call a route. The zero value lets in the fewest.
type access uint8

const (
	forStaff   access = iota // who is signed in
	forAnybody               // who reaches the page
	forFirst                 // anybody, while nobody can sign in here yet
)

func (a access) String() string {
	return [...]string{forStaff: "signed in", forAnybody: "anybody", forFirst: "anybody, while there is no staff"}[a]
}

// effect is what a posted form may change.
type effect uint8

const (
	toNothing  effect = iota
	toSession         // who is signed in in this browser
	toBrowser         // a choice kept in this browser
	toMemory          // drafts and searches, which do not last
	toRecords         // records of patients
	toAccounts        // who can sign in: the box asks for an administrator, but for the first
	toLinks           // when the box calls, and what it tells of it
	toSticks          // what is on a stick
	toLock            // whether the box is locked
)

func (e effect) String() string {
	return [...]string{toNothing: "nothing", toSession: "the session", toBrowser: "a choice in the browser", toMemory: "drafts, searches",
		toRecords: "records", toAccounts: "accounts", toLinks: "links", toSticks: "sticks", toLock: "whether the box is locked"}[e]
}

// route is one path of the page. It takes GET and HEAD when get is set, POST when post is set,
// nothing else.
type route struct {
	path      string
	get, post func(*request) error
	who       access
	bodyMax   int64  // of a posted form
	changes   effect // by POST
	machine   bool   // read by script: refusals are bare status codes
	files     bool   // its form may bring files
	stream    bool   // its answer lasts
	bare      bool   // answered over plain HTTP on the clinic's network too
	may       string // the right without which its form is not shown; the box asks again when it comes back
}

// Limits on what a posted form may have.
const (
	formBytesMax  = 64 << 10
	shortBytesMax = 4 << 10 // a PIN, a tap
	formFieldsMax = 128
)

// routeTable lists every path of the page.
func routeTable() []route {
	return []route{
		{path: "/{$}", get: showToday},
		{path: "/first", get: showFirst, post: addFirst, who: forFirst, bodyMax: shortBytesMax, changes: toAccounts},
		{path: "/sign-in", get: showSignIn, post: signIn, who: forAnybody, bodyMax: shortBytesMax, changes: toSession},
		{path: "/lock", post: lock, who: forAnybody, bodyMax: shortBytesMax, changes: toSession},
		{path: "/trust", get: showTrust, who: forAnybody, bare: true},
		{path: "/trust/authority", get: giveAuthority, who: forAnybody, bare: true},
		{path: "/language", post: chooseLanguage, who: forAnybody, bare: true, bodyMax: shortBytesMax, changes: toBrowser},
		{path: "/find", get: showFind, post: find, may: MayFind, bodyMax: shortBytesMax, changes: toMemory},
		{path: "/find/{search}", get: showFound},
		{path: "/register", get: showRegister, may: MayRegister, post: register, bodyMax: formBytesMax, changes: toRecords},
		{path: "/patient/{patient}", get: showPatient},
		{path: "/patient/{patient}/visit", get: showVisit, may: MayWrite, post: saveVisit, files: true, bodyMax: formBytesMax, changes: toRecords},
		{path: "/patient/{patient}/file/{file}", get: showFile},
		{path: "/patient/{patient}/details", get: showDetails, may: MayAmend, post: saveDetails, bodyMax: formBytesMax, changes: toRecords},
		{path: "/patient/{patient}/conflict", get: showConflict, may: MayAmend, post: resolveConflict, bodyMax: formBytesMax, changes: toRecords},
		{path: "/patient/{patient}/looks", get: showLooks},
		{path: "/patient/{patient}/cards", get: showCards, post: newCard, bodyMax: shortBytesMax, changes: toRecords},
		{path: "/patient/{patient}/cards/{card}/end", post: endCard, bodyMax: shortBytesMax, changes: toRecords},
		{path: "/card", get: showUseCard, may: MayFind, post: useCard, files: true, bodyMax: shortBytesMax, changes: toSession},
		{path: "/patient/{patient}/emergency", get: showEmergency, may: MayEmergency, post: breakGlass, bodyMax: formBytesMax, changes: toRecords},
		{path: "/patient/{patient}/consent", get: showConsent, may: MayConsent, post: decide, bodyMax: shortBytesMax, changes: toRecords},
		{path: "/patient/{patient}/give", post: give, bodyMax: shortBytesMax, changes: toRecords},
		{path: "/patient/{patient}/withdraw/{ref}", get: showWithdraw, may: MayRetract, post: withdraw, bodyMax: formBytesMax, changes: toRecords},
		{path: "/patient/{patient}/erase", get: showErase, may: MayErase, post: erase, bodyMax: shortBytesMax, changes: toRecords},
		{path: "/patient/{patient}/erase/{rid}", get: showErase, may: MayErase, post: erase, bodyMax: shortBytesMax, changes: toRecords},
		{path: "/emergencies", get: showEmergencies, may: MayOversee},
		{path: "/emergencies/reviewed", post: reviewEmergency, bodyMax: formBytesMax, changes: toRecords},
		{path: "/links", get: showLinks},
		{path: "/links/send", post: sendNow, bodyMax: shortBytesMax, changes: toLinks},
		{path: "/links/seen", post: seeFault, bodyMax: shortBytesMax, changes: toLinks},
		{path: "/stick", get: showSticks},
		{path: "/stick/read", post: readStick, bodyMax: shortBytesMax, changes: toRecords},
		{path: "/stick/write", post: writeStick, bodyMax: shortBytesMax, changes: toSticks},
		{path: "/records/{rid}/proof", get: showProof},
		{path: "/root", get: showRoot},
		{path: "/staff", get: showStaff, post: addStaff, bodyMax: shortBytesMax, changes: toAccounts},
		{path: "/staff/end", post: endStaff, bodyMax: shortBytesMax, changes: toAccounts},
		{path: "/draft", post: keepDraft, machine: true, bodyMax: formBytesMax, changes: toMemory},
		{path: "/events", get: streamEvents, machine: true, stream: true},
		{path: "/states", get: answerStates, machine: true},
		{path: "/assets/{file}", get: serveAsset, who: forAnybody, machine: true, bare: true},
		{path: "/", get: notFoundPage, post: notFoundPage, who: forAnybody, bodyMax: shortBytesMax},
	}
}

// mount registers the table; nothing else does.
func (s *server) mount(table []route) *http.ServeMux {
	mux := http.NewServeMux()
	for _, rt := range table {
		mux.HandleFunc(rt.path, s.serve(rt))
	}
	return mux
}

// consoleRoute is one path of the demo region's page.
type consoleRoute struct {
	method, path string
	serve        http.HandlerFunc
	bodyMax      int64
	changes      effect
	stream       bool
}

// routeTable lists every path of the console. It has no sign in.
func (s *consoleServer) routeTable() []consoleRoute {
	return []consoleRoute{
		{method: http.MethodGet, path: "/{$}", serve: s.page("page")},
		{method: http.MethodGet, path: "/boxes", serve: s.page("boxes")},
		{method: http.MethodPost, path: "/link", serve: s.setLink, bodyMax: shortBytesMax, changes: toLinks},
		{method: http.MethodGet, path: "/events", serve: s.events, stream: true},
		{method: http.MethodGet, path: "/assets/{file}", serve: s.asset},
	}
}

// mount registers the table; nothing else does. The muxer takes HEAD with GET and
// answers any other method with 405.
func (s *consoleServer) mount(table []consoleRoute) *http.ServeMux {
	mux := http.NewServeMux()
	for _, rt := range table {
		mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, rt.bodyMax)
			rt.serve(w, r)
		})
	}
	return mux
}

// allowed names the methods of a route.
func (rt *route) allowed() string {
	var allow []string
	if rt.get != nil {
		allow = append(allow, "GET, HEAD")
	}
	if rt.post != nil {
		allow = append(allow, "POST")
	}
	return strings.Join(allow, ", ")
}
