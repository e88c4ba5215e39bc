// Package arch holds the rules of this source tree as code that reads it.
//
// Load parses every Go file once; each Rule is a function from the parsed tree
// to the places that break it. TestTree runs all of them on the repository.
// TestRulesReport runs each on a small tree with a planted fault, so that a
// rule which has stopped looking is noticed.
//
// Nothing here asks the go command what imports what: its answer would be
// served from the test cache after the tree had changed.
//
// allow.txt lists the exceptions, one a line, each with its reason. A line that
// excuses nothing any more is itself reported.
package arch
