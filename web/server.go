package web

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/rs/zerolog"
)

// Options are what the page needs besides the box. Zero fields take the defaults named.
type Options struct {
	Log      zerolog.Logger
	Version  string           // shown on the links page; "" takes Box.Version
	Now      func() time.Time // default time.Now
	Location *time.Location   // for display; default time.Local
	Rand     io.Reader        // for form ids; default crypto/rand
}

// Limits on what a browser may send or hold open.
const (
	bodyBytesMax   = 64 << 10
	headerBytesMax = 16 << 10
	formFieldsMax  = 128
	streamsMax     = 64 // open /events answers
	statesAskedMax = 200
)

// Timeouts of a page's connection. A stream of events renews its own.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 60 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 120 * time.Second
)

// server answers the page's requests. Its fields are set once by New; drafts, searches and
// recent guard themselves.
type server struct {
	clinic   Clinic
	opts     Options
	render   *renderer
	assets   *assets
	drafts   *draftShelf
	searches *searchShelf
	recent   *recentSessions
	begun    *idRing       // registrations handed to the box: a second tap is not asked about its own person
	streams  chan struct{} // one slot for each open stream
	uploads  chan struct{} // one slot for each form whose files are read
	routes   []route
}

// route is one path of the page. Public ones need no session.
type route struct {
	path      string
	get, post func(*request) error
	public    bool
	machine   bool // read by script: refusals are bare status codes
	files     bool // its form may bring files
}

// New returns the handler of a box's page. It panics only when the embedded templates do
// not parse, which a test rules out.
func New(clinic Clinic, opts Options) http.Handler {
	h, err := newHandler(clinic, opts)
	if err != nil {
		panic(fmt.Sprintf("web: embedded files are broken: %v", err))
	}
	return h
}

func newHandler(clinic Clinic, opts Options) (http.Handler, error) {
	s, err := newServer(clinic, opts)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for _, rt := range s.routes {
		mux.HandleFunc(rt.path, s.serve(rt))
	}
	mux.HandleFunc("/assets/", func(w http.ResponseWriter, r *http.Request) {
		if (r.Method != http.MethodGet && r.Method != http.MethodHead) || !s.assets.serve(w, r) {
			http.NotFound(w, r)
		}
	})
	mux.HandleFunc("/", s.serve(route{path: "/", public: true, get: notFoundPage, post: notFoundPage}))
	return s.log(secure(s.sameOrigin(mux))), nil
}

func newServer(clinic Clinic, opts Options) (*server, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Location == nil {
		opts.Location = time.Local
	}
	if opts.Rand == nil {
		opts.Rand = rand.Reader
	}
	files, err := loadAssets()
	if err != nil {
		return nil, err
	}
	render, err := newRenderer(files, opts.Location)
	if err != nil {
		return nil, err
	}
	s := &server{
		clinic: clinic, opts: opts, render: render, assets: files,
		drafts: newDraftShelf(), searches: newSearchShelf(), recent: newRecentSessions(), begun: new(idRing),
		streams: make(chan struct{}, streamsMax), uploads: make(chan struct{}, uploadsMax),
	}
	s.routes = routeTable()
	return s, nil
}

// routeTable lists every path. A path takes GET when get is set, POST when post is set, nothing else.
func routeTable() []route {
	return []route{
		{path: "/{$}", get: showToday},
		{path: "/first", get: showFirst, post: addFirst, public: true},
		{path: "/sign-in", get: showSignIn, post: signIn, public: true},
		{path: "/lock", post: lock, public: true},
		{path: "/language", post: chooseLanguage, public: true},
		{path: "/find", get: showFind, post: find},
		{path: "/find/{search}", get: showFound},
		{path: "/register", get: showRegister, post: register},
		{path: "/patient/{patient}", get: showPatient},
		{path: "/patient/{patient}/visit", get: showVisit, post: saveVisit, files: true},
		{path: "/patient/{patient}/file/{file}", get: showFile},
		{path: "/patient/{patient}/details", get: showDetails, post: saveDetails},
		{path: "/patient/{patient}/conflict", get: showConflict, post: resolveConflict},
		{path: "/patient/{patient}/give", post: give},
		{path: "/patient/{patient}/withdraw/{ref}", get: showWithdraw, post: withdraw},
		{path: "/links", get: showLinks},
		{path: "/links/send", post: sendNow},
		{path: "/links/seen", post: seeFault},
		{path: "/stick", get: showSticks},
		{path: "/stick/read", post: readStick},
		{path: "/stick/write", post: writeStick},
		{path: "/records/{rid}/proof", get: showProof},
		{path: "/root", get: showRoot},
		{path: "/staff", get: showStaff, post: addStaff},
		{path: "/draft", post: keepDraft, machine: true},
		{path: "/events", get: streamEvents, machine: true},
		{path: "/states", get: answerStates, machine: true},
	}
}

// NewServer returns an http.Server with the limits and timeouts the page is meant to run under.
// Streams of events last as long as their browser: before Shutdown, cancel the context that
// BaseContext gives, or Shutdown waits for them.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytesMax,
	}
}

// formIDBytes is the size of a form's id.
const formIDBytes = 16

func (s *server) newFormID() (string, error) {
	var id [formIDBytes]byte
	if _, err := io.ReadFull(s.opts.Rand, id[:]); err != nil {
		return "", fmt.Errorf("drawing form id: %w", err)
	}
	return hex.EncodeToString(id[:]), nil
}

// validFormID tells whether the text can be an id this page made.
func validFormID(id string) bool {
	raw, err := hex.DecodeString(id)
	return err == nil && len(raw) == formIDBytes
}

var errBadForm = errors.New("form is not one of this page's")
