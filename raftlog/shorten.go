package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Shorten drops every item of the log that is applied, behind a new snapshot: what
// stood in them stands in the ledger, as far as that still has it. A follower that is
// behind gets the snapshot, which names a place and brings nothing. While raft does
// not run it does nothing and says so with false.
func (n *Node) Shorten() (done bool, err error) {
	r := n.running.Load()
	if r == nil {
		return false, nil
	}
	kept := r.raft.ReloadableConfig()
	none := kept
	none.TrailingLogs = 0
	if err := r.raft.ReloadConfig(none); err != nil {
		return false, fmt.Errorf("shortening the raft log: %w", err)
	}
	err = r.raft.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) || errors.Is(err, raft.ErrRaftShutdown) {
		err = nil
	}
	if again := r.raft.ReloadConfig(kept); again != nil || err != nil {
		return false, fmt.Errorf("shortening the raft log: %w", errors.Join(err, again))
	}
	return true, nil
}
