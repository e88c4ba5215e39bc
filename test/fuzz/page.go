package fuzz

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// Marker is put into what a request says. It would show up as an element or an
// attribute of its own wherever a page repeats it unescaped.
const Marker = `'"><zq zq=zq>` + "`" + `</textarea></script></style></title><zq onload=zq `

// Answer says what is wrong with an answer, whatever was asked: a status that
// blames the box, markup that came from outside, a link that leads away, a
// header that repeats lines.
func Answer(status int, header http.Header, body []byte) error {
	switch {
	case status >= 500 && status != http.StatusServiceUnavailable && status != http.StatusInsufficientStorage:
		return fmt.Errorf("status %d", status)
	case header.Get("X-Content-Type-Options") != "nosniff" && len(body) > 0:
		return errors.New("a browser may guess what this is")
	}
	for name, values := range header {
		if strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") {
			return fmt.Errorf("header %q has more than one line", name)
		}
	}
	if err := here(header.Get("Location")); err != nil {
		return err
	}
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil && len(body) > 0 {
		return fmt.Errorf("reading the kind of the answer: %w", err)
	}
	switch kind {
	case "text/html":
		return Page(body)
	case "application/json":
		if !json.Valid(body) {
			return errors.New("JSON that does not parse")
		}
	}
	return nil
}

// here tells whether a link stays on this box.
func here(link string) error {
	u, err := url.Parse(link)
	if err != nil || u.Host != "" || u.Scheme != "" && u.Scheme != "data" || strings.HasPrefix(link, "//") || strings.ContainsAny(link, "\\") {
		return fmt.Errorf("a link leads to %q", link)
	}
	return nil
}

// links are the attributes that a browser follows.
var links = map[string]bool{"href": true, "src": true, "action": true, "formaction": true, "srcset": true, "data": true}

// Page reads a page as a browser does and says what in it came from outside:
// elements and attributes that none of our templates has.
func Page(body []byte) error {
	z := html.NewTokenizer(bytes.NewReader(body))
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			if err := z.Err(); !errors.Is(err, io.EOF) {
				return fmt.Errorf("reading the page: %w", err)
			}
			return nil
		}
		token := z.Token()
		if kind != html.StartTagToken && kind != html.SelfClosingTagToken {
			continue
		}
		if err := element(&token); err != nil {
			return err
		}
	}
}

func element(token *html.Token) error {
	if strings.Contains(token.Data, "zq") || token.Data == "script" && !hasSource(token) || token.Data == "style" {
		return fmt.Errorf("the page has an element %q", token.Data)
	}
	for _, a := range token.Attr {
		if strings.HasPrefix(a.Key, "on") || strings.Contains(a.Key, "zq") || a.Key == "style" {
			return fmt.Errorf("<%s> has an attribute %q", token.Data, a.Key)
		}
		if links[a.Key] {
			if err := here(a.Val); err != nil {
				return err
			}
		}
	}
	return nil
}

func hasSource(token *html.Token) bool {
	for _, a := range token.Attr {
		if a.Key == "src" {
			return true
		}
	}
	return false
}
