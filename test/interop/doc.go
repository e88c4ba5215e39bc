// Package interop checks with other people's code what a hub serves over HTTP:
// checkpoint, tiles, entries, inclusion and consistency, with the Go libraries of
// the transparency-dev project. It is a module of its own, so that nothing that
// ships depends on them.
package interop
