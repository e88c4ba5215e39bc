// Package disks runs real boxes on disks that lose power, fail, lie, fill up and rot,
// with staff who save meanwhile. Whatever the page called saved has to be there
// afterwards, once; the box has to start; verify has to find nothing; and what is
// wrong has to stand on the page in words.
//
// The disks are those of package fusedisk, and ext4 on a loop device where it
// matters what a real file system does. Root is needed.
//
//	HEALTHPOST_TEST_SEED  seed of every random choice; printed, new each time when unset
//	HEALTHPOST_TEST_OPS   all: every fault of TestFault
//	HEALTHPOST_CUTS       power cuts of TestPowerCut, a few when unset
package disks
