package web

import "time"

// Route is one line of the table of routes, for tests.
type Route struct {
	Path            string
	Get, Post       bool
	Public, Machine bool
}

// Routes lists the table of routes.
func Routes() []Route {
	var out []Route
	for _, r := range routeTable() {
		out = append(out, Route{r.path, r.get != nil, r.post != nil, r.who != forStaff, r.machine})
	}
	return out
}

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
