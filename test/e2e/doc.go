// Package e2e tests whole regions: real processes of the real program, on
// loopback, started by package rig. Every byte between a clinic and
// any other box passes a forwarder of the test, so a cut is a cut.
//
// The tests want root (small disks are mounted in a namespace of their own) and
// strace; test/setup.sh installs what is missing. A failing test prints its seed
// and the ends of the boxes' logs.
//
//	HEALTHPOST_TEST_SEED  seed of every random choice; printed, new each time when unset
//	HEALTHPOST_BUNDLES    a folder of FHIR bundles that TestRegion takes in besides its own
//	HEALTHPOST_KILLS      how often TestClinicKilled and TestHubsKilled kill; unset, 24 times
//	                      each; pauses, lack of memory and jumps of clocks come more often with it
package e2e
