package web

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed templates/*.html templates/console/*.html
var templateFiles embed.FS

// renderer holds every page's template in every language.
type renderer struct {
	pages      map[string]map[string]*template.Template // language, page name
	catalogues map[string]*Catalogue
	languages  []string // in the order shown
	location   *time.Location
}

// languageOrder is the order in which languages are offered.
var languageOrder = []string{"en", "fr"}

func newRenderer(a *assets, location *time.Location) (*renderer, error) {
	catalogues, err := loadCatalogues()
	if err != nil {
		return nil, err
	}
	r := &renderer{pages: make(map[string]map[string]*template.Template), catalogues: catalogues, languages: languageOrder, location: location}
	for language, c := range catalogues {
		pages, err := parsePages(c, a, location)
		if err != nil {
			return nil, fmt.Errorf("parsing templates in %s: %w", language, err)
		}
		r.pages[language] = pages
	}
	return r, nil
}

// parsePages parses each page template on a copy of the shared ones (names starting with "_").
func parsePages(c *Catalogue, a *assets, location *time.Location) (map[string]*template.Template, error) {
	names, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	base := template.New("base").Funcs(pageFuncs(c, a, location)).Option("missingkey=error")
	for _, name := range names {
		if strings.HasPrefix(path.Base(name), "_") {
			if _, err := base.ParseFS(templateFiles, name); err != nil {
				return nil, err
			}
		}
	}
	pages := make(map[string]*template.Template)
	for _, name := range names {
		if strings.HasPrefix(path.Base(name), "_") {
			continue
		}
		t, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if _, err := t.ParseFS(templateFiles, name); err != nil {
			return nil, err
		}
		pages[strings.TrimSuffix(path.Base(name), ".html")] = t
	}
	return pages, nil
}

// pageFuncs are the functions templates may call, bound to one language.
func pageFuncs(c *Catalogue, a *assets, location *time.Location) template.FuncMap {
	return template.FuncMap{
		"t":       func(key string, args ...any) string { return c.Text(key, args...) },
		"tn":      func(key string, n int, args ...any) string { return c.Count(key, n, args...) },
		"has":     c.Has,
		"label":   func(prefix, code string) string { return label(c, prefix, code) },
		"lang":    func() string { return c.Language },
		"asset":   a.url,
		"list":    func(words ...any) []any { return words },
		"when":    func(t time.Time) string { return formatTime(c, t.In(location)) },
		"date":    func(date string) string { return formatDate(c, date) },
		"since":   func(now, t time.Time) string { return formatSince(c, now, t) },
		"num":     func(n int) string { return formatCount(n) },
		"group":   groupDigits,
		"refusal": func(reason string) string { return refusalWords(c, reason) },
		"big":     func(n uint64) string { return formatCount(int(min(n, math.MaxInt64))) },
		"field":   newField,
		"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	}
}

// label translates a code under a prefix, and shows unknown codes as they are:
// what other systems wrote must stay readable.
func label(c *Catalogue, prefix, code string) string {
	if code != "" && c.Has(prefix+"."+code) {
		return c.Text(prefix + "." + code)
	}
	return code
}

// formatTime shows a moment as "21 Nov 2026, 14:05".
func formatTime(c *Catalogue, t time.Time) string {
	if t.IsZero() {
		return c.Text("time.never")
	}
	return fmt.Sprintf("%d %s %d, %02d:%02d", t.Day(), c.Text("month."+strconv.Itoa(int(t.Month()))), t.Year(), t.Hour(), t.Minute())
}

// formatDate shows YYYY, YYYY-MM or YYYY-MM-DD with the month's name.
func formatDate(c *Catalogue, date string) string {
	day, month, year := splitDate(date)
	n, err := strconv.Atoi(month)
	if month == "" || err != nil || n < 1 || n > 12 {
		return date
	}
	words := c.Text("month."+month) + " " + year
	if day != "" {
		words = day + " " + words
	}
	return words
}

// formatSince shows how long ago something was, in the largest fitting unit.
func formatSince(c *Catalogue, now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return c.Text("time.never")
	case d < time.Minute:
		return c.Text("time.now")
	case d < time.Hour:
		return c.Count("time.minutes", int(d/time.Minute))
	case d < 48*time.Hour:
		return c.Count("time.hours", int(d/time.Hour))
	default:
		return c.Count("time.days", int(d/(24*time.Hour)))
	}
}

// formatCount writes thousands apart with a narrow no-break space: 12 345.
func formatCount(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return digits
}

// groupDigits breaks an id into groups of four, as people read and compare it.
func groupDigits(id string) []string {
	var groups []string
	for len(id) > 4 {
		groups = append(groups, id[:4])
		id = id[4:]
	}
	return append(groups, id)
}

// execute renders one page completely before a byte is sent, so that an error never leaves half a page.
func (r *renderer) execute(language, name string, data any) ([]byte, error) {
	pages := r.pages[language]
	if pages == nil {
		pages = r.pages[languageBase]
	}
	t := pages[name]
	if t == nil {
		return nil, fmt.Errorf("page %q has no template", name)
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "page", data); err != nil {
		return nil, fmt.Errorf("rendering %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// part renders one shared template alone, for the script to put in place.
func (r *renderer) part(language, name string, data any) (string, error) {
	pages := r.pages[language]
	if pages == nil {
		pages = r.pages[languageBase]
	}
	var b strings.Builder
	if err := pages["error"].ExecuteTemplate(&b, name, data); err != nil {
		return "", fmt.Errorf("rendering %s: %w", name, err)
	}
	return b.String(), nil
}

var gzipWriters = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed+4)
	return w
}}

// compressMin is the size from which compression pays for its header.
const compressMin = 512

// writeBody sends a finished body, compressed when the browser takes it.
func writeBody(w http.ResponseWriter, r *http.Request, status int, body []byte) error {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	if len(body) >= compressMin && acceptsGzip(r) {
		var b bytes.Buffer
		z := gzipWriters.Get().(*gzip.Writer)
		z.Reset(&b)
		_, err := z.Write(body)
		if err == nil {
			err = z.Close()
		}
		gzipWriters.Put(z)
		if err == nil {
			h.Set("Content-Encoding", "gzip")
			body = b.Bytes()
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(body)
	return err
}

func acceptsGzip(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
}
