package web

import (
	"strings"

	"github.com/healthpost/healthpost/chart"
)

// badge is a state as a page shows it: a word, a shape (chosen by Kind) and a colour (likewise).
type badge struct {
	RID  string `json:"-"`    // of the record, so the script can find it; "" for lines
	Kind string `json:"kind"` // saved, copied, confirmed, refused
	Text string `json:"text"`
}

// Kinds of badges. Templates and the style sheet know them by these words.
const (
	kindSaved     = "saved"     // ○ pending: on this box only
	kindCopied    = "copied"    // ◐ shared: another device holds it
	kindConfirmed = "confirmed" // ● confirmed
	kindRefused   = "refused"   // ■ refused
)

// copiedNamesMax is how many holders a badge names.
const copiedNamesMax = 2

// badgeOf puts a record's state in words.
func badgeOf(c *Catalogue, s chart.State, rid string) badge {
	switch s.Kind {
	case chart.Confirmed:
		return badge{rid, kindConfirmed, c.Text("state.confirmed")}
	case chart.Copied:
		if s.Near {
			return badge{rid, kindCopied, c.Text("state.copied_near", copiedText(c, s.To))}
		}
		return badge{rid, kindCopied, copiedText(c, s.To)}
	case chart.Refused:
		return badge{rid, kindRefused, c.Text("state.refused")}
	}
	return badge{rid, kindSaved, c.Text("state.saved")}
}

func copiedText(c *Catalogue, to []string) string {
	if len(to) == 0 {
		return c.Text("state.copied_any")
	}
	if len(to) > copiedNamesMax {
		return c.Count("state.copied_more", len(to)-copiedNamesMax, strings.Join(to[:copiedNamesMax], ", "))
	}
	return c.Text("state.copied", strings.Join(to, ", "))
}

// line is the sync line of every page.
type line struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// lineOf says the one thing about this box's records that matters most: what was not accepted,
// then what exists under this roof alone, then what waits for its place, and only then that all is well. While
// the regional record is in doubt, nothing is said to be well.
func lineOf(c *Catalogue, n Counts, doubt bool) line {
	switch {
	case n.Refused > 0:
		refused := c.Count("line.refused", n.Refused)
		n.Refused = 0
		if n.OnlyHere > 0 {
			refused += ". " + lineOf(c, n, doubt).Text
		}
		return line{kindRefused, refused}
	case n.VisitsOnlyHere > 0 || n.OnlyHere > 0:
		return line{kindSaved, onlyHere(c, n)}
	case n.FilesOnlyHere > 0:
		return line{kindSaved, c.Count("line.files_only_here", n.FilesOnlyHere)}
	case n.Shared > 0:
		return line{kindCopied, c.Count("line.copied", n.Shared)}
	case doubt:
		return line{kindSaved, c.Text("line.doubt")}
	case n.Confirmed > 0:
		return line{kindConfirmed, c.Text("line.confirmed")}
	}
	return line{kindSaved, c.Text("line.empty")}
}

// onlyHere says what would be lost with this building, or with a box that is carried about.
func onlyHere(c *Catalogue, n Counts) string {
	key, count := "line.only_here", n.OnlyHere
	if n.VisitsOnlyHere > 0 {
		key, count = "line.visits_only_here", n.VisitsOnlyHere
	}
	if n.Mobile {
		key += "_mobile"
	}
	return c.Count(key, count)
}

// refusalWords says why a record was not accepted. What the catalogue does not know stands in brackets, as
// it came: it may be all that a person on the phone has to tell.
func refusalWords(c *Catalogue, reason string) string {
	if key := "refusal." + strings.ReplaceAll(reason, " ", "_"); reason != "" && c.Has(key) {
		return c.Text(key)
	}
	return c.Text("refusal.unknown", reason)
}
