package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
)

// Keys of raft in its stable store.
var (
	keyTerm     = []byte("CurrentTerm")
	keyVoteTerm = []byte("LastVoteTerm")
	keyVoteFor  = []byte("LastVoteCand")
	voteForNone = []byte("none") // no server id is this short
	stableKeys  = [][]byte{keyTerm, keyVoteTerm, keyVoteFor}
)

// diskState is what this disk knows of its own past in raft.
type diskState struct {
	term     uint64 // raft's current term
	voted    uint64 // the last term it voted in
	last     uint64 // index of the last item, or of the newest snapshot
	snapshot uint64 // index of the newest snapshot, 0 for none
	config   configuration
}

// configuration is one with its raft index; raft does not tell it of the one in
// force.
type configuration struct {
	raft.Configuration
	at uint64
}

// configured takes a configuration that is committed.
func (n *Node) configured(c configuration) {
	if have := n.servers.Load(); have == nil || c.at >= have.at {
		n.servers.Store(&c)
	}
}

func (s *diskState) empty() bool { return s.term == 0 && s.last == 0 }

// readDiskState reads the disk while raft does not run.
func (n *Node) readDiskState() (s diskState, err error) {
	for _, x := range []struct {
		key  []byte
		into *uint64
	}{{keyTerm, &s.term}, {keyVoteTerm, &s.voted}} {
		*x.into, err = n.stable.GetUint64(x.key)
		if err != nil && !errors.Is(err, errNotFound) {
			return s, err
		}
	}
	snapshots, err := n.snaps.List()
	if err != nil {
		return s, err
	}
	if len(snapshots) > 0 {
		s.snapshot, s.config = snapshots[0].Index, configuration{snapshots[0].Configuration, snapshots[0].ConfigurationIndex}
	}
	first, last := n.logs.bounds()
	s.last = max(last, s.snapshot)
	for i := last; i > s.snapshot && i >= first && i > 0; i-- {
		var l raft.Log
		switch err := n.logs.GetLog(i, &l); {
		case errors.Is(err, raft.ErrLogNotFound): // a gap under a snapshot
			return s, nil
		case err != nil:
			return s, err
		case l.Type == raft.LogConfiguration:
			s.config.at = i
			s.config.Configuration, err = decodeConfiguration(l.Data)
			return s, err
		}
	}
	return s, nil
}

// decodeConfiguration reads a configuration item; raft panics on one that it
// cannot read.
func decodeConfiguration(b []byte) (c raft.Configuration, err error) {
	defer func() {
		if e := recover(); e != nil {
			err = fmt.Errorf("reading raft configuration: %w: %v", record.ErrMalformed, e)
		}
	}()
	return raft.DecodeConfiguration(b), nil
}

// keeps reports whether this disk still knows what its server pledged.
func (n *Node) keeps(s *diskState, p pledge) (bool, error) {
	if p.Voted > s.term || p.Voted == s.term && p.Voted > s.voted || p.Term > s.term {
		return false, nil
	}
	if p.Term < s.term || p.Index <= s.snapshot {
		return true, nil
	}
	var l raft.Log
	switch err := n.logs.GetLog(p.Index, &l); {
	case errors.Is(err, raft.ErrLogNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return l.Term == p.ItemTerm, nil
}

// names gives the name that a configuration has for an address.
func namedIn(c raft.Configuration, a raft.ServerAddress) raft.ServerID {
	for _, s := range c.Servers {
		if s.Address == a {
			return s.ID
		}
	}
	return ""
}

func votersOf(c raft.Configuration) (voters []raft.Server) {
	for _, s := range c.Servers {
		if s.Suffrage == raft.Voter {
			voters = append(voters, s)
		}
	}
	return voters
}
