// Package chart is what staff see: it folds the opened records of one compartment into a chart, lists and conflicts, and makes the
// tokens and ranks by which a person is found. It is pure: the same records give the same chart on every box, in whatever order they
// arrived.
//
// # Body
//
// A record's body is a list of items, each one resource put (new, or in place of the versions named by its base) or retracted:
//
//	body = 0x01 ‖ CBOR [ reason, [ item, ... ] ]                    deterministic encoding (RFC 8949, 4.2.1)
//	item = [ op, fullUrl, base, type, id, json ]                    type and id only where json is empty
//	base = the versions replaced, 10 bytes each: the first 8 of the rid, 2 of the index (big endian)
//
// A body with attachments says of each where its content is kept and how it is opened:
//
//	body = 0x02 ‖ CBOR [ reason, [ item, ... ], [ blob, ... ] ]     one to [record.BlobsMax]
//	blob = [ hash, root, bytes, key, type, size, thumb ]            SHA-256 and size of the content, root and bytes as announced
//
// json is the resource byte for byte as it came, but that the hash of content that is kept apart stands in its place. [DecodeBody] refuses what does not encode back to the same bytes, and resources that
// [fhir.ParseResource] refuses.
//
// # Fold
//
// Versions with one key (see [Item.Key]) make a line. A version that another one names in its base is past; the rest are heads. More
// than one head means that people wrote without knowing of each other: all are kept and shown, and the line is in conflict unless they
// say the same. An item whose base is all heads resolves it. A retraction is a version without content: the line leaves the chart but is
// kept in Retracted with everything it ever said. A version that was refused by the region supersedes nothing and is never hidden.
//
// The order of versions is: by seq; then what has no seq yet, an amendment after what it amends, else by (hlc, epoch, lane, n); then
// what was refused. Clocks decide only what is shown first, never what is kept.
//
// Allergies fold as a union: one active version among the heads is enough for the allergy to be shown.
package chart
