package raftlog

import (
	"context"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
)

// link is how raft of this hub reaches raft of the others.
type link interface {
	raft.Transport
	raft.WithPreVote
	// ask asks a hub who it is, how far it is, and what it remembers of the others.
	ask(ctx context.Context, d record.DeviceID) (testimony, error)
	// sweep ends the streams of devices that are no longer allowed.
	sweep()
	Close() error
}

// local is what a link needs to know of its own side.
type local struct {
	name    raft.ServerID
	address raft.ServerAddress
	applied func() uint64 // raft index of the last item in the ledger
	testify func(asker raft.ServerAddress) testimony
}

// soloLink serves a region of one: it reaches nobody but itself.
type soloLink struct{ *raft.InmemTransport }

func newSoloLink(self local, p Profile) link {
	_, t := raft.NewInmemTransportWithTimeout(self.address, p.Call)
	t.Connect(self.address, t)
	return soloLink{t}
}

func (soloLink) ask(context.Context, record.DeviceID) (testimony, error) {
	return testimony{}, fmt.Errorf("asking a hub: this box runs alone")
}

func (soloLink) sweep() {}

// netLink sends raft calls over the streams of a host. It adds the server id to
// the address of each call, so that the other side knows whom the caller means,
// and names servers by id in call headers, where an address would cost 50 bytes
// in every heartbeat.
type netLink struct {
	*raft.NetworkTransport
	streams layer
}

// layer carries calls and questions; streams is the one on libp2p.
type layer interface {
	raft.StreamLayer
	ask(ctx context.Context, d record.DeviceID) (testimony, error)
	sweep()
	wait() // until nothing inbound is served any more
}

func newNetLink(s layer, p Profile, log *hcLogger) link {
	t := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: s, MaxPool: 3, Timeout: p.Call, Logger: log})
	return &netLink{t, s}
}

const targetSeparator = "/"

func target(id raft.ServerID, a raft.ServerAddress) raft.ServerAddress {
	return a + targetSeparator + raft.ServerAddress(id)
}

func (l *netLink) EncodePeer(id raft.ServerID, _ raft.ServerAddress) []byte { return []byte(id) }

func (l *netLink) AppendEntriesPipeline(id raft.ServerID, a raft.ServerAddress) (raft.AppendPipeline, error) {
	return l.NetworkTransport.AppendEntriesPipeline(id, target(id, a))
}

func (l *netLink) AppendEntries(id raft.ServerID, a raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return l.NetworkTransport.AppendEntries(id, target(id, a), args, resp)
}

func (l *netLink) RequestVote(id raft.ServerID, a raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return l.NetworkTransport.RequestVote(id, target(id, a), args, resp)
}

func (l *netLink) RequestPreVote(id raft.ServerID, a raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return l.NetworkTransport.RequestPreVote(id, target(id, a), args, resp)
}

func (l *netLink) InstallSnapshot(id raft.ServerID, a raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return l.NetworkTransport.InstallSnapshot(id, target(id, a), args, resp, data)
}

func (l *netLink) TimeoutNow(id raft.ServerID, a raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return l.NetworkTransport.TimeoutNow(id, target(id, a), args, resp)
}

func (l *netLink) ask(ctx context.Context, d record.DeviceID) (testimony, error) {
	return l.streams.ask(ctx, d)
}

func (l *netLink) sweep() { l.streams.sweep() }

func (l *netLink) Close() error {
	l.CloseStreams()
	err := l.NetworkTransport.Close()
	l.streams.wait()
	return err
}
