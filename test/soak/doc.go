// Package soak runs a region of real processes for long under a load a hundred times
// that of a clinic, with faults, and holds what each process takes to a bound: memory,
// goroutines, file descriptors, room on the disk.
//
//	HEALTHPOST_SOAK       minutes; unset, some seconds as part of the usual tests
//	HEALTHPOST_TEST_SEED  seed of load and faults; printed
//
// A usual clinic has 200 visits in a day of eight hours. Each clinic here has them a
// hundred times as fast, and whatever goes with them: people looked for, charts and
// today's list opened, open pages that follow, photos, files taken in, parcels, sessions
// with peers, people who sign in and out. Meanwhile links are cut, processes are stopped
// for seconds, and some boxes are killed and started again; others live from the first
// minute to the last, and their figures are judged.
//
// The control is the same program with leaks planted by an overlay: each has to be seen.
package soak
