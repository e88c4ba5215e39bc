package fhir

import (
	"net/url"
	"strings"
)

// ReferenceNames are the texts by which other resources can refer to r, in their normal form: the full URL, "Type/id", "urn:uuid:id"
// of an id that is a UUID, and one conditional form for each identifier.
func ReferenceNames(r Resource) []string {
	names, _ := r.Links()
	return names
}

// Links gives ReferenceNames and EncounterReference in one reading.
func (r Resource) Links() (names []string, encounter string) {
	v := r.tree()
	return namesOf(r, v), encounterOf(v)
}

func namesOf(r Resource, v value) []string {
	var names []string
	if r.FullURL != "" {
		names = append(names, normalUUID(r.FullURL))
	}
	if r.ID != "" {
		names = append(names, r.Type+"/"+r.ID)
		if u := "urn:uuid:" + strings.ToLower(r.ID); isUUID(r.ID) && (len(names) == 0 || names[0] != u) {
			names = append(names, u)
		}
	}
	for _, id := range identifiersOf(v) {
		names = append(names, ConditionalReference(r.Type, id.System, id.Value))
	}
	return names
}

// ReferenceForms are the names, in the order to try, that a reference text can have in ReferenceNames; none for a reference to a
// contained resource.
func ReferenceForms(text string) []string {
	text, _, _ = strings.Cut(text, "/_history/")
	switch {
	case text == "" || strings.HasPrefix(text, "#"):
		return nil
	case strings.HasPrefix(text, "urn:"):
		return []string{normalUUID(text)}
	case strings.Contains(text, "?"):
		if c, ok := normalConditional(text); ok {
			return []string{c}
		}
		return []string{text}
	}
	forms := []string{text}
	parts := strings.Split(text, "/")
	if n := len(parts); n > 2 && KnownType(parts[n-2]) && isID(parts[n-1]) {
		forms = append(forms, parts[n-2]+"/"+parts[n-1])
	}
	return forms
}

func normalUUID(s string) string {
	if uuid, ok := strings.CutPrefix(s, "urn:uuid:"); ok {
		return "urn:uuid:" + strings.ToLower(uuid)
	}
	return s
}

// normalConditional reads "Type?identifier=system|value", escaped or not.
func normalConditional(text string) (string, bool) {
	typ, query, _ := strings.Cut(text, "?")
	token, ok := strings.CutPrefix(query, "identifier=")
	if !ok || !KnownType(typ) || strings.Contains(token, "&") {
		return "", false
	}
	if plain, err := url.PathUnescape(token); err == nil {
		token = plain
	}
	if !strings.Contains(token, "|") {
		token = "|" + token
	}
	return typ + "?identifier=" + token, true
}
