package fhir

// Compact leaves out white space between the tokens of a JSON value and changes
// nothing else. Input that does not parse comes back as it is.
func Compact(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	inText := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inText && c == '\\' && i+1 < len(raw):
			out = append(out, c, raw[i+1])
			i++
			continue
		case c == '"':
			inText = !inText
		case !inText && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		out = append(out, raw[i])
	}
	if !JSONEqual(raw, out) {
		return raw
	}
	return out
}
