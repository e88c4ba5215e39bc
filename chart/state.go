package chart

// StateKind is how far a record has come.
type StateKind uint8

const (
	Saved     StateKind = iota // pending: on this box only
	Copied                     // shared: another device acknowledged holding it durably
	Confirmed                  // it has a seq under a final checkpoint that this box verified
	Refused                    // not accepted into the ledger, with a signed reason
)

// State is a record's state as plain data.
type State struct {
	Kind   StateKind
	To     []string // of Copied: names of the devices that hold it
	Near   bool     // of Copied: none of them is elsewhere, so that one fire could take them all
	Seq    uint64   // of Confirmed
	Reason string   // of Refused
}
