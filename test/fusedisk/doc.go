// Package fusedisk is a disk that goes wrong on request, under any process: a file
// system in user space that knows of every byte whether it was synced, and keeps
// of the rest what a power cut would.
//
// # What is durable
//
// A file's bytes are durable after a sync of that file, all names after a sync of
// anything, as on Linux file systems with a journal. A strict disk makes durable
// the names of a synced folder alone, which is all that POSIX promises. Bytes that a process writes into mapped memory are
// written when the kernel says so: when it syncs the mapping, or before.
//
// # A cut
//
// Freeze is the moment of the cut: nothing reaches the disk any more and nobody
// hears of a success. After the processes are killed Cut takes back what was not
// synced, and mounts what is left:
//
//	Dropped    all of it
//	Torn       but a first part of each file's last write, in sectors of 512 bytes
//	Reordered  but a random half of the pages, and of a folder's changes some first ones
//
// # Faults
//
// One write, sync or read fails, or all of them from one on: it does nothing, all of
// it, or part of it. A failed sync loses the data as kernels do: it is still read, no later sync writes
// it. Syncs can also lie, take long, or not return; the disk can fill up or become
// read-only.
//
// # Processes
//
// The disk is a child process with a mount namespace of its own, made by the test
// binary: its TestMain calls Main first. What shall see the disk is started through
// Disk.Wrap. The test itself never looks into the disk, so it cannot wait for itself.
package fusedisk
