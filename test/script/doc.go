// Package script tests the command line as people and scripts use it: one text
// file a subject in testdata/script, run by testscript against the real program.
// Besides testscript's own commands there are
//
//	code N PROGRAM ARG...    runs it and wants exit code N
//	settings DIR             writes DIR/config.toml with ports of its own; $page_DIR is the page
//	up DIR                   runs the box in DIR until its page answers; it ends with the script
//	down DIR                 stops it; it has to end well
//	invite NAME DIR ROLE     puts an invitation of the running hub in DIR into $NAME
//	device NAME DIR BOX      puts the device of the member called BOX into $NAME, as the box in DIR knows it
//	region NAME DIR          puts the region of the box in DIR, which is its founding record, into $NAME
//	until REGEXP PROGRAM ARG...  runs it again until it works and its output matches
//	cut FILE BYTES           leaves the first bytes of a file
//	damage DIR               turns one bit over in the largest table of the stopped box in DIR
package script
