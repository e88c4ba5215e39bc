package node

import "errors"

// ErrEmptied: the box belongs to a region and its database holds nothing, not even
// what it was given on joining. Someone took the folder away, or another disk is
// mounted there; an empty box that runs would look like a sound one.
var ErrEmptied = errors.New("the folder db of this box is gone or empty, although the box belongs to a region: bring db back from where it went or from a copy; if there is none, make a new box in an empty folder and join with that")

// emptied reports whether the database was taken from under the box.
func (n *Node) emptied() (bool, error) {
	if _, ok := n.box.RegionID(); !ok || n.seed != nil || n.store.Head().Size > 0 {
		return false, nil
	}
	pending, err := n.store.PendingFeeds()
	return err == nil && len(pending) == 0, err
}

// notEmptied is an error for who is about to rely on the database.
func (n *Node) notEmptied() error {
	gone, err := n.emptied()
	if err == nil && gone {
		return ErrEmptied
	}
	return err
}
