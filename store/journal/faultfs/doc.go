// Package faultfs is a journal directory in memory that forgets what was not
// synced: the disk of tests. Every write, sync and change of a name is a numbered
// operation; a Fault makes one of them fail in a chosen way; Cut gives what a
// power cut would leave.
package faultfs
