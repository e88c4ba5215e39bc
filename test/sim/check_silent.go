package sim

import (
	peersync "github.com/healthpost/healthpost/sync"
)

// carriesRecords tells the frames that have records or entries in them.
func carriesRecords(t peersync.Type) bool {
	switch t {
	case peersync.TypeSegment, peersync.TypeEntries, peersync.TypeSpan, peersync.TypeFill, peersync.TypePending, peersync.TypeChunk:
		return true
	}
	return false
}

// checkSilent: a second exchange of two boxes had no record in it, unless one of
// them cannot take what the other has. Who holds a part may ask again for what is
// missing.
func (w *world) checkSilent(a, b *box) error {
	if w.repeated == 0 || w.twice != nil || w.members != nil || w.parts != nil {
		return nil
	}
	for i, x := range []*box{a, b} {
		y := []*box{b, a}[i]
		feeds, err := y.st.PendingFeeds()
		if err != nil {
			return err
		}
		for _, f := range feeds {
			if ok, err := w.canTake(x, f); err != nil || !ok {
				return err
			}
		}
	}
	return w.violated(SyncTerminates, "a second exchange of %s and %s carried records in %d frames", a, b, w.repeated)
}
