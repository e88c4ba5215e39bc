package rig

import (
	"path/filepath"
	"testing"
)

// NewBoxOf is NewBoxIn with a program of another version, from the first command on.
func NewBoxOf(t testing.TB, program, dir, name, role string) *Box {
	t.Helper()
	b := &Box{T: t, Name: name, Role: role, Dir: dir, Program: program}
	b.TakePorts()
	b.init()
	return b
}

// OpenBox takes over the folder of a stopped box whose staff are there already.
func OpenBox(t testing.TB, dir, name, role string) *Box {
	t.Helper()
	b := &Box{T: t, Name: name, Role: role, Dir: filepath.Clean(dir)}
	b.TakePorts()
	b.Configure(nil)
	b.ends()
	b.pages.page = NewPage(b)
	return b
}
