package web

import (
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"
)

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
	faultInform                  // told on every page; nothing is at risk
	faultWarn                    // told on every page; somebody must act
	faultGrave                   // likewise, and as danger: records could be lost or the region is not to be believed
)

// faultRule says how a fault is told.
type faultRule struct {
	kind faultKind
	read bool // it happened and is not lasting: it goes away once a person has read it, until it happens again
}

// faultRules lists every code with its arguments.
var faultRules = map[string]faultRule{
	"peer_unreachable":  {faultLine, false}, // name
	"peer_wrong_region": {faultLine, false}, // name
	"peer_version":      {faultLine, false}, // name
	"peer_revoked":      {faultLine, false}, // name
	"disk_low":          {faultLine, false}, // free room, as "300 MB"
	"clock_unset":       {faultLine, false},
	"clock_off":         {faultLine, false}, // how much, as "3 h"
	"no_contact":        {faultLine, false}, // days

	"restored":            {faultInform, true}, // records that came back, name of the box they came from
	"refused_republished": {faultInform, true}, // records written again
	"damage_repaired":     {faultInform, true}, // records
	"hub_rolled_back":     {faultInform, true}, // name of the hub
	"unjust_refusal":      {faultInform, true}, // name of the hub that refused without reason

	"hub_two_views":      {faultWarn, true},    // name of a hub that signed two views; a majority did not
	"other_ledger":       {faultWarn, true},    // name of a box that verified another ledger
	"forked":             {faultWarn, true},    // name of a box that wrote two records in one place
	"cloned":             {faultWarn, true},    // name of the box whose card runs twice
	"promise_broken":     {faultWarn, true},    // name of the hub, since when (RFC 3339)
	"dictionary_missing": {faultInform, false}, // charts that lack records until a dictionary of the ledger comes
	"stale_view":         {faultWarn, false},   // the region's view is of (RFC 3339)

	"disk_full":      {faultGrave, false},
	"disk_fault":     {faultGrave, false},
	"peer_bad_proof": {faultGrave, false}, // name
	"split_view":     {faultGrave, false}, // names of the hubs that signed two views: confirmation is frozen
	"reset_conflict": {faultGrave, false}, // a reset would take back confirmed records: likewise
	"damage_open":    {faultGrave, false}, // damaged records that no box could give again so far
}

// FaultEnds tells whether a fault with this code goes away once a person has read it.
func FaultEnds(code string) bool { return faultRules[code].read }

// FaultKnown tells whether the page has words for this code.
func FaultKnown(code string) bool { _, ok := faultRules[code]; return ok }

// FaultCodes lists every code the page has words for, sorted.
func FaultCodes() []string { return slices.Sorted(maps.Keys(faultRules)) }

// word is the kind as templates and the style sheet know it.
func (k faultKind) word() string {
	return [...]string{faultLine: "plain", faultInform: "inform", faultWarn: "warn", faultGrave: "grave"}[k]
}

// faultCard is a fault in words: what happened, what it means, what to do, whom to call.
type faultCard struct {
	Code, Kind            string // Kind: plain, inform, warn, grave
	What, Means, Do, Call string
	Seen                  bool // a button says that it was read
}

// cardOf puts a fault in words.
func (r *renderer) cardOf(c *Catalogue, f Fault) faultCard {
	key := "fault." + f.Code
	if !FaultKnown(f.Code) {
		key, f.Args = "fault.unknown", []string{f.Code}
	}
	args := make([]any, faultArgsMax)
	for i := range args {
		args[i] = "–" // an argument that is missing leaves no brackets on the page
		if i < len(f.Args) {
			args[i] = r.faultArg(c, f.Args[i])
		}
	}
	text := func(part string) string {
		if !c.Has(key + "." + part + ".other") {
			return c.Text(key+"."+part, args...)
		}
		n, _ := strconv.Atoi(fmt.Sprint(args[0])) // no number: none
		return c.Count(key+"."+part, n, args[1:]...)
	}
	rule := faultRules[f.Code]
	return faultCard{Code: f.Code, Kind: rule.kind.word(), What: text("what"), Means: text("means"), Do: text("do"), Call: text("call"), Seen: rule.read}
}

// faultsPath is the page that lists all faults.
const faultsPath = "/links"

// Limits of what one page says about faults.
const (
	faultArgsMax  = 3
	faultsMax     = 20 // cards on the page of links
	bannersMax    = 3  // lines on every page
	faultCodesMax = 40 // letters of a code that a browser sends
)

func (r *renderer) faultArg(c *Catalogue, arg string) string {
	if t, err := time.Parse(time.RFC3339, arg); err == nil {
		return formatTime(c, t.In(r.location))
	}
	return arg
}

// faultCards lists faults in words, the most urgent first.
func (q *request) faultCards(faults []Fault) []faultCard {
	sorted := slices.Clone(faults)
	slices.SortStableFunc(sorted, func(a, b Fault) int { return int(faultRules[b.Code].kind) - int(faultRules[a.Code].kind) })
	var cards []faultCard
	for _, f := range sorted[:min(len(sorted), faultsMax)] {
		cards = append(cards, q.render.cardOf(q.words, f))
	}
	return cards
}

// banners is what every page says of faults: the most urgent lines, and how many more there are.
type banners struct {
	Cards    []faultCard
	More     int
	SignedIn bool
	Changed  bool   // this page lists faults and there are others now
	Tag      string // changes when the words do
}

// banners leaves out what the line about the disk already says and what only informs before sign in. The
// page that lists all faults has none; its tag is that of the list.
func (q *request) banners(path string) banners {
	b, tag := banners{SignedIn: q.signedIn}, fnv.New32a()
	for _, card := range q.faultCards(q.box.Faults) {
		kind := faultRules[card.Code].kind
		if kind == faultLine || card.Code == "disk_full" || card.Code == "disk_fault" || !q.signedIn && kind != faultGrave {
			continue
		}
		_, _ = io.WriteString(tag, card.What+card.Means) // a hash takes everything (hash.Hash)
		if path == faultsPath {
			continue
		}
		if len(b.Cards) == bannersMax {
			b.More++
			continue
		}
		b.Cards = append(b.Cards, card)
	}
	b.Tag = strconv.FormatUint(uint64(tag.Sum32()), 16)
	return b
}

// inDoubt tells whether the regional record cannot be relied on at the moment.
func inDoubt(faults []Fault) bool {
	return slices.ContainsFunc(faults, func(f Fault) bool { return f.Code == "split_view" || f.Code == "reset_conflict" })
}

// seeFault notes that a person has read a fault.
func seeFault(q *request) error {
	code := q.value("code")
	if code == "" || len(code) > faultCodesMax {
		return errBadForm
	}
	if err := q.clinic.SeenFault(q.r.Context(), q.session, code); err != nil {
		return err
	}
	return q.redirect("/links?done=seen")
}
