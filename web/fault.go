package web

// Fault is something wrong, in a form the page can translate: what happened, what it means for the
// work, what to do and whom to call stand in the catalogue under "fault." + Code. An argument that is
// an RFC 3339 time is shown as a moment in the page's language; a first argument that is a number
// chooses between one and many. Codes that faultKinds does not know are shown as "Something is wrong (code)".
type Fault struct {
	Code string
	Args []string
}

// faultKind is how much a fault matters.
type faultKind uint8

const (
	faultLine   faultKind = iota // told on the page of links alone
	faultInform                  // told on every page until a person has read it
	faultWarn                    // told on every page while it lasts
	faultGrave                   // likewise, and as danger: records could be lost or the region is not to be believed
)

// faultKinds lists every code with its arguments.
var faultKinds = map[string]faultKind{
	"peer_unreachable":  faultLine, // name
	"peer_wrong_region": faultLine, // name
	"peer_version":      faultLine, // name
	"peer_revoked":      faultLine, // name
	"disk_low":          faultLine, // free room, as "300 MB"
	"clock_unset":       faultLine,
	"clock_off":         faultLine, // how much, as "3 h"
	"no_contact":        faultLine, // days

	"restored":            faultInform, // records that came back, name of the box they came from
	"refused_republished": faultInform, // records written again
	"damage_repaired":     faultInform, // records, name of the box that gave them again
	"hub_rolled_back":     faultInform, // name of the hub
	"unjust_refusal":      faultInform, // name of the hub that refused without reason

	"hub_two_views":  faultWarn, // name of a hub that signed two views; a majority did not
	"other_ledger":   faultWarn, // name of a box that verified another ledger
	"promise_broken": faultWarn, // name of the hub, since when (RFC 3339)
	"stale_view":     faultWarn, // the region's view is of (RFC 3339)
	"cloned":         faultWarn, // name of the box whose card runs twice

	"disk_full":      faultGrave,
	"disk_fault":     faultGrave,
	"peer_bad_proof": faultGrave, // name
	"split_view":     faultGrave, // the hubs signed two views: confirmation is frozen
	"reset_conflict": faultGrave, // a reset would take back confirmed records: likewise
	"damage_open":    faultGrave, // damaged records that no box could give again so far
}

// FaultInforms tells whether a fault with this code goes away once a person has read it.
func FaultInforms(code string) bool { return faultKinds[code] == faultInform }

// FaultKnown tells whether the page has words for this code.
func FaultKnown(code string) bool { _, ok := faultKinds[code]; return ok }
