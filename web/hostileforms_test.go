package web_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	nethtml "golang.org/x/net/html"

	"github.com/healthpost/healthpost/web"
)

// What is typed into forms comes back as text: each form of each page is posted with hostile text in its
// fields, chosen answers and hidden ones included, and every answer and every page after it is read as a
// browser reads it. An element or attribute that stands in no template came from input.

// formRounds is how often all forms are posted: once, where each field gets the next text; more in the long form.
func formRounds(all []string) int {
	if len(all) == fewPayloads {
		return 1
	}
	return len(all) / 10
}

var templateAction = regexp.MustCompile(`\{\{.*?\}\}`)

// templateMarkup is every element and attribute that the templates write, as "name" and "name attribute".
func templateMarkup(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{"html": true, "head": true, "body": true, "tbody": true} // a parser adds them
	err := fs.WalkDir(os.DirFS("templates"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(os.DirFS("templates"), path)
		if err != nil {
			return err
		}
		for z := nethtml.NewTokenizer(strings.NewReader(templateAction.ReplaceAllString(string(b), ""))); z.Next() != nethtml.ErrorToken; {
			token := z.Token()
			if token.Type != nethtml.StartTagToken && token.Type != nethtml.SelfClosingTagToken {
				continue
			}
			known[token.Data] = true
			for _, a := range token.Attr {
				known[token.Data+" "+a.Key] = true
			}
		}
		return nil
	})
	if err != nil || len(known) < 50 {
		t.Fatalf("the templates have %d elements and attributes, %v", len(known), err)
	}
	return known
}

// onlyTemplates tells whether a page has what templates write and no more.
func onlyTemplates(known map[string]bool, body string) error {
	doc, err := nethtml.Parse(strings.NewReader(body))
	if err != nil {
		return err
	}
	for n := range doc.Descendants() {
		if n.Type == nethtml.CommentNode {
			return fmt.Errorf("a comment is in the page")
		}
		if n.Type != nethtml.ElementNode {
			continue
		}
		if !known[n.Data] {
			return fmt.Errorf("<%s> is in no template", n.Data)
		}
		for _, a := range n.Attr {
			if !known[n.Data+" "+strings.ToLower(a.Key)] {
				return fmt.Errorf("<%s %s> is in no template", n.Data, a.Key)
			}
		}
	}
	return nil
}

// fieldsOf are the names of all fields of a page's forms.
func fieldsOf(body string) (names []string) {
	doc, err := nethtml.Parse(strings.NewReader(body))
	if err != nil {
		return nil
	}
	for n := range doc.Descendants() {
		for _, a := range n.Attr {
			if a.Key == "name" && slices.Contains([]string{"input", "textarea", "select", "button"}, n.Data) && !slices.Contains(names, a.Val) {
				names = append(names, a.Val)
			}
		}
	}
	return names
}

// hostileForms posts every form once and looks at every page after it; text gives the next hostile one.
func (x *fixture) hostileForms(known map[string]bool, text func() string) (seen int) {
	x.t.Helper()
	look := func(what string, a answer) {
		if !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			return
		}
		seen++
		err := onlyTemplates(known, a.body)
		if err == nil && strings.HasPrefix(a.body, "<!doctype") {
			err = harmless(a.body)
		}
		if err != nil {
			x.t.Errorf("%s: %v", what, err)
		}
	}
	routes := web.Routes()
	last := []string{"/sign-in", "/lock", "/first"} // who is not signed in sees few forms
	slices.SortStableFunc(routes, func(a, b web.Route) int { return slices.Index(last, a.Path) - slices.Index(last, b.Path) })
	for _, rt := range routes {
		if !rt.Post {
			continue
		}
		path := x.concrete(rt.Path)
		chosen, typed := fullForm(), fullForm()
		for _, name := range fieldsOf(x.get(path).body) {
			typed.Set(name, "")
		}
		for name := range typed {
			typed.Set(name, text())
			if slices.Contains([]string{"given", "family", "q", "note", "reason", "name", "holder", "words", "text"}, name) {
				chosen.Set(name, text())
			}
		}
		formID := hidden(x.get(path).body, path).Get("form")
		for _, form := range []url.Values{chosen, with(typed)} {
			if formID != "" {
				form.Set("form", formID)
			}
			a := x.post(path, form)
			look("POST "+rt.Path, a)
			if a.status == http.StatusSeeOther && strings.HasPrefix(a.location, "/") {
				look("after POST "+rt.Path, x.get(a.location))
			}
			if chosen.Get("form") != "" && rt.Path == "/patient/{patient}/visit" { // the same as a draft
				x.post("/draft", with(form, "path", path))
			}
		}
	}
	x.signIn()
	for _, rt := range routes {
		if rt.Get && !rt.Stream {
			look("GET "+rt.Path, x.get(x.concrete(rt.Path)))
		}
	}
	return seen
}

func TestFormsGiveTextBackAsText(t *testing.T) {
	all, known := payloads(payloadCount(t)), templateMarkup(t)
	next := 0
	for range formRounds(all) {
		x := newFixture(t)
		x.signIn()
		if seen := x.hostileForms(known, func() string { next++; return all[next%len(all)] }); seen < 40 {
			t.Errorf("%d pages were seen", seen)
		}
		x.server.Close()
	}
	if next < len(all) {
		t.Errorf("%d texts were typed, want %d", next, len(all))
	}
	page := `<!doctype html><html><body><p>` + all[1] + `</p></body></html>`
	if onlyTemplates(known, page) == nil {
		t.Error("text that is not escaped passes")
	}
}
