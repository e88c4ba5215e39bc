// Package bench measures the box from outside: saves of a visit against the bare
// disk, three ordering hubs as processes, and a whole region that takes in a
// folder of FHIR bundles behind a cut link. Nothing ships from here; every
// figure of docs/BENCHMARKS.md comes from a benchmark of this package or of the
// package it is about.
//
//	go test -run '^$' -bench SaveVisit ./test/bench
//	go test -run '^$' -bench Ordered   ./test/bench
//	HEALTHPOST_BUNDLES=DIR go test -run '^$' -bench Region -timeout 60m ./test/bench
//
// A scenario takes longer than a second, so the testing package runs it once.
// Every line has the load of the machine when it began: a figure measured beside
// other work is no figure.
package bench
