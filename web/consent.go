package web

import (
	"strings"
	"time"
)

// grantShown is how many letters of a grant's id people read.
const grantShown = 8

// grantWords names a grant, and until when it holds where it has an end.
func (q *request) grantWords(key, id string, until time.Time) string {
	id = id[:min(len(id), grantShown)]
	if until.IsZero() {
		return q.words.Text(key, id)
	}
	return q.words.Text(key+"_until", id, formatTime(q.words, until.In(q.opts.Location)))
}

// closedWords say who decided that the chart stays closed, and what can be done.
func (q *request) closedWords(d *Decided) []string {
	if d == nil {
		return nil
	}
	var out []string
	if d.By != "" {
		out = append(out, q.words.Text("consent.closed_by", d.By, formatTime(q.words, d.At.In(q.opts.Location))))
	}
	if d.Grant != "" && !d.Until.IsZero() {
		out = append(out, q.words.Text("consent.closed_over", formatTime(q.words, d.Until.In(q.opts.Location))))
	}
	if len(d.Homes) > 0 {
		out = append(out, q.words.Text("consent.closed_homes", strings.Join(d.Homes, ", ")))
	}
	return append(out, q.words.Text("consent.closed_ask"), q.words.Text("consent.closed_rule", d.Rules))
}
