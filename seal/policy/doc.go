// Package policy decides who may do what: rules in the Cedar language, asked about
// one person, one act and at most one chart.
//
// A decision is a pure function of the rules and the question. Nothing here reads a
// clock, a disk or a map's order, so every box that holds the same rules answers the
// same, and says by which of them (Verdict.Rules).
//
// # The vocabulary of the rules
//
//	Staff::"…"         the principal, in Role::"nurse" and others: a person may have several
//	Command::"box"     the principal of a command of who runs the box
//	Action::"…"        one of the actions below, in Action::"patient" when it is about one
//	                   chart, in Action::"box" otherwise
//	Patient::"…"       the resource of an action in "patient", and
//	Box::"…"           of all others: the box itself
//	context.box        "clinic", "hub", "field" or "standalone": what the box is for
//	context.purpose    "treatment", or another word that the rules and the grants know
//	context.time       Unix seconds, by the newest that this box knows of the time
//	context.limited    the patient lets only some boxes open the chart
//	context.home       this box is one of them in any case
//	context.grant      with .id and .until (Unix seconds, 0 for no end), where the patient
//	                   gave this box one: test it with "context has grant"
//	context.topic      of "sensitive": "hiv", "sexual" or "mental"; context.limited, .home and
//	                   .grant are then of this topic: home is where the person was registered
//	                   or the topic was limited, a grant is one that names the topic
//	context.medicine   of "sensitive": asked about the medicines of the topic alone
//
// Nothing is allowed that no permit covers, and a forbid wins over every permit. A rule
// that cannot be evaluated makes the answer no: an error never opens anything.
//
// Each rule has an annotation @id, unique among them, by which answers name it.
//
// Default holds the rules that a region starts with; default.cedar is their text.
// The language is Cedar's, see its reference; the grammar comes from cedar-go.
package policy
