package web

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// Route is one line of the tables of routes, for tests.
type Route struct {
	Path                   string
	Get, Post              bool
	Public, First, Machine bool
	Stream, Files          bool
	BodyMax                int64
	Who, Changes           string
}

// Routes lists the page's table of routes.
func Routes() []Route { return listed(routeTable()) }

// LockedRoutes lists those of a locked box.
func LockedRoutes() []Route { return listed(lockedTable()) }

func listed(table []route) []Route {
	var out []Route
	for _, r := range table {
		out = append(out, Route{r.path, r.get != nil, r.post != nil, r.who != forStaff, r.who == forFirst, r.machine, r.stream, r.files, r.bodyMax, r.who.String(), r.changes.String()})
	}
	return out
}

// NewCareless is the page with a table that lets anybody in everywhere: what the tests of routes must see.
func NewCareless(clinic Clinic, opts Options) (http.Handler, error) {
	s, err := newServer(clinic, opts)
	if err != nil {
		return nil, err
	}
	table := routeTable()
	for i := range table {
		table[i].who = forAnybody
	}
	return s.mount(table), nil
}

// ConsoleRoutes lists the console's.
func ConsoleRoutes() []Route {
	var out []Route
	for _, r := range new(consoleServer).routeTable() {
		get := r.method == http.MethodGet
		out = append(out, Route{Path: r.path, Get: get, Post: !get, Public: true, Machine: true, Stream: r.stream, BodyMax: r.bodyMax,
			Who: "anybody on this machine", Changes: r.changes.String()})
	}
	return out
}

// Limits that tests reach.
const (
	StreamsEach = streamsEach
	StreamsMax  = streamsMax
	TriesEach   = triesEach
	TriesWithin = triesWithin
	TurnsEach   = turnsEach
	FormTimeout = formTimeout
	ConnsEach   = connsEach
	ConnsMax    = connsMax
)

// NewDoorForAll is a door that counts this machine's own connections too.
func NewDoorForAll(l net.Listener, secure *tls.Config) *Door {
	return newDoor(l, secure, func(net.Conn) bool { return false })
}

// Open is how many connections are through.
func (d *Door) Open() int { d.mu.Lock(); defer d.mu.Unlock(); return len(d.open) }

// NewStreamRoom, NewTurns and the methods below let tests fill them.
func NewStreamRoom() *streamRoom { return newStreamRoom() }
func NewTurns() *turns           { return newTurns() }

func (s *streamRoom) Join(owner string) (<-chan struct{}, func(), bool) { return s.join(owner) }
func (s *streamRoom) Total() int                                        { s.mu.Lock(); defer s.mu.Unlock(); return s.total }

func (t *turns) Take(ctx context.Context, caller string) (func(), bool) { return t.take(ctx, caller) }
func (t *turns) Callers() int                                           { t.mu.Lock(); defer t.mu.Unlock(); return len(t.of) }

// LoadCatalogues, ParseCatalogue and the functions below are looked at by tests.
var (
	LoadCatalogues = loadCatalogues
	ParseCatalogue = parseCatalogue
	JoinDate       = joinDate
	BirthFromAge   = birthFromAge
	LocalPath      = localPath
	EasyPIN        = easyPIN
	TemplateFiles  = templateFiles
	AssetFiles     = assetFiles
	ParseRefs      = parseRefs
	EncodeRefs     = encodeRefs
	RefusalWords   = refusalWords
)

// AgeText is an age in words.
func AgeText(c *Catalogue, birth string, now time.Time) string { return ageWords(c, ageOf(birth, now)) }

// LineWords is the sync line for some counts.
func LineWords(c *Catalogue, n Counts) (kind, text string) {
	l := lineOf(c, n, false)
	return l.Kind, l.Text
}

// SetFallback makes other the catalogue that c falls back to.
func SetFallback(c, other *Catalogue) { c.fallback = other }

// FaultWhat is the first sentence about a fault, with times in UTC.
func FaultWhat(c *Catalogue, f Fault) string {
	r := &renderer{location: time.UTC}
	return r.cardOf(c, f).What
}
