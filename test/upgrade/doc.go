// Package upgrade opens what released programs wrote with the program of this tree,
// and runs regions whose boxes are of different versions.
//
// testdata has an archive for each release: the folders of a region's boxes as that
// release's program left them, what each box exported then, and what its page and
// commands gave (README.md there). make-fixture.sh makes one, at each release.
package upgrade
