// Package photo makes what a phone's camera gives into what a slow link and a small
// card can carry: turned the right way up, at most SideMax pixels to a side, with a
// preview of at most ThumbSizeMax bytes. Every picture is encoded anew, so that
// nothing but pixels is left of it: no place, no time, no name of the phone, and no
// bytes that a viewer could stumble over. It is pure and holds one picture in memory
// at a time.
package photo
