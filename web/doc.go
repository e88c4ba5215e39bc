// Package web is the page: what clinic staff see in a browser, served by the box in the room.
//
// Role: it turns forms into calls of [Clinic] (which the running box implements) and answers
// into whole HTML pages. It stores nothing that must last; drafts and search results are kept
// in memory, bounded, and are a convenience. Every page works with script off: a form is
// posted, the box saves, the answer redirects to a page that can be reloaded.
//
// Layout:
//
//	clinic.go      the contract with the box
//	server.go      New, the table of routes, limits
//	guard.go       headers, sessions, cross-origin refusal
//	render.go      templates in each language, compression
//	catalogue.go   words; catalogue/*.toml holds them, one file a language
//	number.go      numbers and dates as people type them
//	draft.go       what was typed and not saved yet, per staff member and form
//	badge.go       the state of a record as word, shape and colour
//	events.go      live changes: /events and /states
//	fault.go       what is wrong, in words: lines on every page, cards on the page of links
//	sheet.go       what is meant for paper: the proof of a record, the weekly root
//	qr.go          QR codes as vectors
//	console.go     the page of the demo region, where links are cut and restored
//	signin.go today.go patient.go visit.go amend.go retract.go links.go   one screen each
//
// What is printed says nothing of a person: a sheet's title, address and code hold no name and no
// health data, and the name on a patient's own copy is on the screen until somebody ticks a box.
//
// A form carries a random id made when it was rendered. The box answers the same id with the
// same record, so a tap too many cannot store a second one.
package web
