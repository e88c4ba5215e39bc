// Package demo runs a whole region on one machine: hubs, clinics and a field
// device as processes of this program, sample patients made up by a seed, and a
// console page where a person cuts and restores a clinic's link. Every byte
// between a clinic and anybody else passes a forwarder of this process, so a cut
// is a cut: connections are closed and new ones refused.
//
// # A demo on disk
//
//	DIR/demo.toml          ports and seed; a second start uses the same boxes again
//	DIR/hub-1 ... field-1  one box each (package node)
//	DIR/*.log              what each process logs
package demo
