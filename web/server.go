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
	// Authority is the certificate, in DER, of who signs for this page on the clinic's network; nil:
	// there is no TLS. LANPlain serves the page there without TLS too.
	Authority []byte
	LANPlain  bool
	Names     []string // host names under which the page is asked for, besides localhost and BoxName
}

// Limits on what a browser may send or hold open.
const (
	headerBytesMax = 16 << 10
	statesAskedMax = 200
)

// Timeouts of a page's connection. A stream of events renews its own.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 60 * time.Second
	lingerTime        = 2 * time.Second
	formTimeout       = 15 * time.Second // for the body of a form; files have uploadTime
	writeTimeout      = 60 * time.Second
	idleTimeout       = 120 * time.Second
)

// server answers the page's requests. Its fields are set once by New; drafts, searches and
// recent guard themselves.
type server struct {
	clinic   Clinic
	locked   LockedClinic // nil: the box is open
	opts     Options
	render   *renderer
	assets   *assets
	drafts   *draftShelf
	searches *searchShelf
	recent   *recentSessions
	begun    *idRing // registrations handed to the box: a second tap is not asked about its own person
	streams  *streamRoom
	turns    *turns
	tries    *tries
	uploads  chan struct{} // one slot for each form whose files are read
}

// New returns the handler of a box's page. It panics only when the embedded templates do
// not parse, which a test rules out.
func New(clinic Clinic, opts Options) http.Handler { return built(newHandler(clinic, opts)) }

func built(h http.Handler, err error) http.Handler {
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
	return s.log(secure(s.ownName(s.sameOrigin(s.mount(routeTable()))))), nil
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
		streams: newStreamRoom(), turns: newTurns(), tries: newTries(), uploads: make(chan struct{}, uploadsMax),
	}
	return s, nil
}

// NewServer returns an http.Server with the limits and timeouts the page is meant to run under, for
// connections that come through a Door.
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
		ConnState:         watchVisitor,
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
