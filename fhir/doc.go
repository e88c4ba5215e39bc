// Package fhir is the part of FHIR R4 (4.0.1) that healthpost speaks: reading and checking resources and Bundles, turning the page's
// forms into resources, turning resources into what a page shows, and planning an import. It knows nothing of ledgers, keys or disks.
//
// # Bytes are kept
//
// A [Resource] carries the JSON exactly as it came in; nothing in this package marshals a received resource again. Every view
// ([Patient], [Observation], ...) is read from those bytes when it is needed, and decimals stay text ("1.50" is not "1.5").
//
// # What is checked
//
// [ParseResource] refuses what no reader could agree on: bytes that are not UTF-8 or not JSON, a name given twice, nesting past
// [DepthMax], a size past [ResourceSizeMax], an unknown resourceType, a malformed id, null, "", {} or [] where R4 (json.html) has no
// meaning for them, two values for one choice ("valueQuantity" and "valueString"), wrong kinds and required elements of the types
// that the page reads. It does not check terminologies, profiles, or whether R4 knows an element of that name. A refusal is a
// [*ResourceError] naming the element; it never holds what the element said.
//
// # Layout
//
//	json.go      the JSON reader: one pass, a tree of slices into the input
//	resource.go  Resource, ParseResource, the rules common to all types
//	content.go   content that is kept apart from its resource
//	rules.go     the table of rules for the types that the page reads
//	bundle.go    ReadBundle, ReadNDJSON
//	plan.go      Plan: a Bundle into saves of one patient each
//	reference.go the names a resource goes by and the forms a reference takes
//	forms        registration.go, visit.go, visit_resources.go, measure.go
//	views        view.go and view_*.go
package fhir
