package fhir

import "fmt"

// LeftOut is what the box that made a file holds, and the file does not have.
type LeftOut struct {
	Why     LeftWhy `json:"why"`
	Charts  int     `json:"charts,omitempty"` // that are left out as a whole; 0 where it is of entries alone
	Entries int     `json:"entries"`
	Text    string  `json:"text"` // the same in words, of LeftOutOf
}

// LeftWhy is why something is left out.
type LeftWhy string

// What a file can lack.
const (
	LeftClosed       LeftWhy = "closed"        // charts that their patients closed to the box
	LeftNotPermitted LeftWhy = "not-permitted" // charts whose patients permitted no export for the purpose
	LeftSealed       LeftWhy = "sealed"        // entries of other charts, sealed with keys that the box was not handed
	LeftUnread       LeftWhy = "unread"        // entries that are not here whole, are damaged, or wait for an update
)

// SystemLeftOut is the system of these words.
const SystemLeftOut = "https://github.com/healthpost/healthpost/fhir/left-out"

// LeftOutOf says in words what is left out. Purpose is what the file is for.
func LeftOutOf(why LeftWhy, charts, entries int, purpose string) LeftOut {
	l := LeftOut{Why: why, Charts: charts, Entries: entries}
	what, some := counted(entries, "entry", "entries"), entries
	if charts > 0 {
		what, some = counted(charts, "chart", "charts")+" with "+what, charts
	}
	be := "are"
	if some == 1 {
		be = "is"
	}
	l.Text = what + " " + be + " left out: " + map[LeftWhy]string{
		LeftClosed:       "what the patient decided closes this to the box that made the file. Boxes at home, and those with a permission, may export it.",
		LeftNotPermitted: "no permission of the patient names " + purpose + " for the box that made the file.",
		LeftSealed:       "sealed with keys that the box which made the file was not handed. Boxes at home, and those with a permission, open this.",
		LeftUnread:       "the box that made the file cannot read this now: it did not come here whole, is damaged, or waits for an update.",
	}[why]
	return l
}

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", more)
}

// LeftOutResource is what a file says of what it lacks: an OperationOutcome, with the counts among its diagnostics.
func LeftOutResource(left []LeftOut) (Resource, error) {
	issues := list{}
	for _, l := range left {
		code := "suppressed"
		if l.Why == LeftUnread {
			code = "incomplete"
		}
		issues = append(issues, object{{"severity", "warning"}, {"code", code},
			{"details", object{{"coding", list{coding(SystemLeftOut, string(l.Why), "")}}, {"text", l.Text}}},
			{"diagnostics", fmt.Sprintf("charts=%d entries=%d", l.Charts, l.Entries)}})
	}
	return build(object{{"resourceType", "OperationOutcome"}, {"issue", issues}})
}

// leftOut reports whether a resource is such an answer of a box, which is nobody's record.
func (r *Resource) leftOut() bool {
	if r.Type != "OperationOutcome" {
		return false
	}
	for _, issue := range r.tree().get("issue").list() {
		for _, c := range issue.get("details").get("coding").list() {
			if c.get("system").text == SystemLeftOut {
				return true
			}
		}
	}
	return false
}
