package web

import (
	"embed"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/BurntSushi/toml"
)

//go:embed catalogue/*.toml
var catalogueFiles embed.FS

// languageBase is the language every other one falls back to.
const languageBase = "en"

// Catalogue holds the words of one language under flat keys ("visit.title").
type Catalogue struct {
	Language string
	words    map[string]string
	fallback *Catalogue
	missing  atomic.Int64
}

// loadCatalogues reads every embedded catalogue, keyed by language.
func loadCatalogues() (map[string]*Catalogue, error) {
	files, err := catalogueFiles.ReadDir("catalogue")
	if err != nil {
		return nil, fmt.Errorf("listing catalogues: %w", err)
	}
	all := make(map[string]*Catalogue)
	for _, f := range files {
		language := strings.TrimSuffix(f.Name(), ".toml")
		text, err := catalogueFiles.ReadFile("catalogue/" + f.Name())
		if err != nil {
			return nil, fmt.Errorf("reading catalogue %s: %w", language, err)
		}
		c, err := parseCatalogue(language, string(text))
		if err != nil {
			return nil, err
		}
		all[language] = c
	}
	base := all[languageBase]
	if base == nil {
		return nil, fmt.Errorf("catalogue %s is not embedded", languageBase)
	}
	for language, c := range all {
		if language != languageBase {
			c.fallback = base
		}
	}
	return all, nil
}

func parseCatalogue(language, text string) (*Catalogue, error) {
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		return nil, fmt.Errorf("parsing catalogue %s: %w", language, err)
	}
	c := &Catalogue{Language: language, words: make(map[string]string)}
	if err := c.flatten("", tree); err != nil {
		return nil, fmt.Errorf("catalogue %s: %w", language, err)
	}
	return c, nil
}

func (c *Catalogue) flatten(prefix string, tree map[string]any) error {
	for key, v := range tree {
		switch v := v.(type) {
		case string:
			c.words[prefix+key] = v
		case map[string]any:
			if err := c.flatten(prefix+key+".", v); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s%s is not text", prefix, key)
		}
	}
	return nil
}

// Keys lists the catalogue's own keys, sorted.
func (c *Catalogue) Keys() []string {
	keys := make([]string, 0, len(c.words))
	for k := range c.words {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// Missing counts the texts that were asked for and had to come from the fallback.
func (c *Catalogue) Missing() int64 { return c.missing.Load() }

// Has tells whether the key is known here or in the fallback.
func (c *Catalogue) Has(key string) bool {
	_, ok := c.words[key]
	return ok || (c.fallback != nil && c.fallback.Has(key))
}

// Text returns the words of a key with {1}, {2}… replaced by args.
// A key unknown here is taken from the fallback; unknown there too, it is returned itself.
func (c *Catalogue) Text(key string, args ...any) string {
	text, ok := c.words[key]
	if !ok {
		c.missing.Add(1)
		if c.fallback != nil {
			return c.fallback.Text(key, args...)
		}
		return key
	}
	if len(args) == 0 || !strings.Contains(text, "{") {
		return text
	}
	pairs := make([]string, 0, 2*len(args))
	for i, a := range args {
		pairs = append(pairs, "{"+strconv.Itoa(i+1)+"}", fmt.Sprint(a))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// Count returns the words of key.one or key.other for n, with {1} replaced by n and the rest by args.
func (c *Catalogue) Count(key string, n int, args ...any) string {
	form := ".other"
	if n == 1 || (n == 0 && c.Language == "fr") {
		form = ".one"
	}
	return c.Text(key+form, append([]any{n}, args...)...)
}
