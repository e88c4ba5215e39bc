// Package link is a bad network between two others: a Link joins two network
// namespaces of this process's own making through two TUN devices, and every IP
// packet passes a Path each way with a rate, a delay, jitter, loss and a bounded
// queue. It can be silent, it can forget its connections as a carrier's
// translator does, and it counts what crosses it.
//
// A packet waits until those before it have gone out at the rate, is lost or not,
// and arrives after the delay; packets never overtake each other. Bytes are those
// of IP packets, headers included, and a lost packet counts, for it was sent. What
// did not fit into the queue was never sent and is counted apart.
//
// The tests of the package run real boxes at both ends. They want root and
// iproute2, which test/setup.sh installs; namespaces, devices and addresses end
// with the process, whatever becomes of it.
//
//	HEALTHPOST_TEST_SEED  seed of losses, jitter and cuts; printed, new each time when unset
//	HEALTHPOST_BUNDLES    a folder of FHIR bundles to take visits from instead of the committed ones
//	HEALTHPOST_JOIN       entries of the ledger that the benchmark of joining has; 20,000 when unset
package link
