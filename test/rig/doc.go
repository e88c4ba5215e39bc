// Package rig starts boxes as what they are in a clinic: real processes of the
// real program, each with a folder and ports of its own, thrown away with the test.
//
// A package that starts boxes has Main as its TestMain; the program is built when
// the first box asks for it. NewBox makes a folder, NewRegion hubs and clinics
// that have joined. Every byte between a clinic and any other box passes a Link, so
// a cut is a cut. Page is a browser without a screen, Saved the book of what a page
// called saved: it is held against what boxes export. Overlaid builds the program
// with changes, as the controls that a rig has to catch. The end of every box's log
// is printed when its test fails.
//
//	HEALTHPOST_TEST_SEED  seed of every random choice; printed, new each time when unset
package rig
