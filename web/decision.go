package web

import (
	"time"

	"github.com/healthpost/healthpost/chart"
)

// Decided is a patient's decision as it bears on this box.
type Decided struct {
	Rules string    // ids of the rules that decided
	By    string    // who wrote the limit down, or the grant that opens the chart: the staff member and the box
	At    time.Time // when
	Homes []string  // the boxes that may open the chart in any case
	Grant string    // id of the grant to this box; "" when there never was one, or it was recalled
	Until time.Time // of that grant, also when it is over; zero for no end

	ByCard bool // it is a card that opens the chart, to this session
	Lent   bool // and with it what this box has no keys for
}

// ConsentPage is who may read one chart.
type ConsentPage struct {
	Row     chart.Row
	Limited bool // only Homes and whom a grant names
	Unread  bool // something decided cannot be read here, and is taken for a limit
	// Escrow: what is written while only some boxes may open the chart is sealed for these; else the rules alone
	// keep the others from it.
	Escrow bool
	ByCard bool     // a card lends this session keys, which a permission hands over
	Homes  []string // the boxes that may open the chart in any case
	Grants []ConsentLine
	Ended  []ConsentLine // limits and grants, newest first; a limit has no To
	Boxes  []ConsentBox  // to which the chart can be opened, by name

	Topics        []string // sensitive topics about which who asks may write down decisions; of the others nothing is here
	LimitedTopics []string // of those, where the chart as a whole is not limited
}

// ConsentLine is one decision.
type ConsentLine struct {
	ID       string // hexadecimal
	Limit    bool   // else a grant
	To       string // the box's name; "" for every box
	Until    time.Time
	Over     bool     // by its time
	Topics   []string // that it is about; none: the whole chart without what is kept apart
	Purposes []string // of a grant
	By       string
	Unsigned bool // by that person: from a file, or of an older program
	At       time.Time
	EndedBy  string // who wrote down that it ended; "" when nobody did
	EndedAt  time.Time
	RID      string // of its record
	State    chart.State
}

// ConsentBox is a box of the region.
type ConsentBox struct{ ID, Name string }

// Decision is what a patient decided just now.
type Decision struct {
	PIN      string   // of who is signed in; it is never logged or put in an error
	Do       string   // one of the words below
	Topics   []string // of DoLimit: these alone, or the whole chart; of DoGrant: besides the chart
	Purposes []string // of DoGrant: what for; none: treatment
	To       string   // of DoGrant: id of a box; "" for every box
	Days     int      // of DoGrant: how long; 0 for no end
	ID       string   // of DoEnd: the grant
}

// What a patient decides.
const (
	DoLimit = "limit" // only home and whom a grant names may open the chart
	DoOpen  = "open"  // every box may again
	DoGrant = "grant" // one box may

	DoOpenTopics = "open-topics" // topics are limited no more

	DoEnd = "end" // a grant holds no more
)

// DecisionDaysMax is the longest that a grant with an end runs.
const DecisionDaysMax = 366
