package web

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// Console is what the demo region's page asks: several boxes on one machine whose links can be cut.
// Methods may be called concurrently.
type Console interface {
	// Boxes lists the boxes, hubs first, in an order that stays.
	Boxes(ctx context.Context) []ConsoleBox
	// SetLink cuts (up false) or restores a box's link to all others. Unknown names are ErrNotFound.
	SetLink(ctx context.Context, box string, up bool) error
	// Watch is a one-slot signal after anything in Boxes changed, closed after ctx ends.
	Watch(ctx context.Context) <-chan struct{}
}

// ConsoleBox is one box of the demo region.
type ConsoleBox struct {
	Name       string
	Role       string // hub, clinic, field
	URL        string // of its page; "" when it serves none
	SignIn     string // who can sign in and how, as "Amina, PIN 314159"; made-up people only
	Up         bool   // the process runs
	Linked     bool   // its link is not cut
	CanCut     bool   // whether the link may be cut here
	Size       uint64 // ledger entries it verified
	Pending    int
	Shared     int
	Confirmed  int // its own records that have their place
	FaultWords string
}

// consoleServer serves the console page; it keeps no state of its own.
type consoleServer struct {
	console Console
	assets  *assets
	pages   map[string]*template.Template // one console page a language
	words   map[string]*Catalogue
	log     zerolog.Logger
	streams *streamRoom
}

// consolePage is what the console template gets.
type consolePage struct {
	Boxes []ConsoleBox
}

// ConsoleOptions are what the console needs besides its boxes.
type ConsoleOptions struct {
	Log zerolog.Logger
}

// NewConsole returns the handler of the demo region's page. It has no sign in: serve it on loopback only.
func NewConsole(console Console, opts ConsoleOptions) http.Handler {
	s, err := newConsole(console, opts)
	if err != nil {
		panic(fmt.Sprintf("web: embedded files are broken: %v", err))
	}
	return secure(ownName(nil, nameless, http.NewCrossOriginProtection().Handler(s.mount(s.routeTable()))))
}

func newConsole(console Console, opts ConsoleOptions) (*consoleServer, error) {
	files, err := loadAssets()
	if err != nil {
		return nil, err
	}
	words, err := loadCatalogues()
	if err != nil {
		return nil, err
	}
	s := &consoleServer{console: console, assets: files, words: words, log: opts.Log,
		pages: make(map[string]*template.Template), streams: newStreamRoom()}
	for language, c := range words {
		t, err := template.New("console").Funcs(pageFuncs(c, files, time.Local)).ParseFS(templateFiles, "templates/console/*.html")
		if err != nil {
			return nil, fmt.Errorf("parsing console in %s: %w", language, err)
		}
		s.pages[language] = t
	}
	return s, nil
}

// page renders the whole page, or only the boxes for the script to put in place.
func (s *consoleServer) page(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t := s.pages[firstTag(r.Header.Get("Accept-Language"))]
		if t == nil {
			t = s.pages[languageBase]
		}
		var b strings.Builder
		if err := t.ExecuteTemplate(&b, name, consolePage{Boxes: s.console.Boxes(r.Context())}); err != nil {
			s.log.Error().Err(err).Msg("console page did not render")
			http.Error(w, "error", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := writeBody(w, r, http.StatusOK, []byte(b.String())); err != nil {
			s.log.Debug().Msg("page not delivered")
		}
	}
}

func (s *consoleServer) setLink(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "form too large", http.StatusRequestEntityTooLarge)
		return
	}
	up := r.PostForm.Get("up") == "1"
	if err := s.console.SetLink(r.Context(), r.PostForm.Get("box"), up); err != nil {
		s.log.Info().Err(err).Msg("link not changed")
		http.Error(w, "no such box", http.StatusNotFound)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// events tells the page that a box changed.
func (s *consoleServer) events(w http.ResponseWriter, r *http.Request) {
	ended, leave, ok := s.streams.join(addressOf(r))
	if !ok {
		http.Error(w, "too many pages open", http.StatusServiceUnavailable)
		return
	}
	defer leave()
	streamChanges(w, r, s.console.Watch(r.Context()), ended, func() bool { return true })
}

func (s *consoleServer) asset(w http.ResponseWriter, r *http.Request) {
	if !s.assets.serve(w, r) {
		http.NotFound(w, r)
	}
}

// nameless answers a request under a name that is not this machine's.
func nameless(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "this name is not this machine's", http.StatusMisdirectedRequest)
}
