package e2e_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	peersync "github.com/healthpost/healthpost/sync"
	"github.com/healthpost/healthpost/test/rig"
)

// raftProtocol is what hubs speak among themselves (package raftlog).
const raftProtocol protocol.ID = "/healthpost/raft/1"

// foe is a program of somebody else's on the network.
type foe struct {
	t      *testing.T
	host   *peersync.Host
	key    ed25519.PrivateKey
	target peer.AddrInfo
}

func newFoe(t *testing.T, key ed25519.PrivateKey, target *rig.Box) *foe {
	t.Helper()
	h, err := peersync.NewHost(peersync.HostOptions{Key: key, Hub: true, Allow: func(record.DeviceID) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	id, err := node.PeerIDOf(target.Dir)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := peer.Decode(id)
	if err != nil {
		t.Fatal(err)
	}
	return &foe{t, h, key, peer.AddrInfo{ID: pid, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/" + target.PeerPort)}}}
}

// stream opens a protocol at the target; an error when it does not let this one in.
func (f *foe) stream(p protocol.ID) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := f.host.Libp2p().Connect(ctx, f.target); err != nil {
		return nil, err
	}
	s, err := f.host.Libp2p().NewStream(ctx, f.target.ID, p)
	if err == nil {
		err = s.SetDeadline(time.Now().Add(time.Minute))
	}
	return s, err
}

// say opens a stream, writes and reads until the target has enough. It gives the
// frames that came back.
func (f *foe) say(p protocol.ID, b []byte) (frames []peersync.Frame, err error) {
	s, err := f.stream(p)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	if _, err := s.Write(b); err != nil {
		return nil, err
	}
	s.CloseWrite() // nothing more comes
	r := peersync.NewFrameReader(bufio.NewReader(s))
	for {
		frame, err := r.Read()
		if err != nil {
			return frames, err
		}
		frames = append(frames, frame)
		if frame.Type == peersync.TypeBye {
			return frames, nil
		}
	}
}

// hello is the first frame of a session, as package peersync describes it.
type hello struct {
	_        struct{} `cbor:",toarray"`
	Min, Max uint64
	Region   []byte
	Device   []byte
	Role     string
	Software string
	Window   uint64
	Size     uint64
	Root     []byte
	Note     []byte
	Want     bool
	Frontier []helloEpoch
}

type helloEpoch struct {
	_       struct{} `cbor:",toarray"`
	Epoch   []byte
	Opening bool
	Held    []uint64
}

func frame(t *testing.T, kind peersync.Type, v any) []byte {
	t.Helper()
	raw, ok := v.([]byte)
	if !ok {
		var err error
		if raw, err = record.Marshal(v); err != nil {
			t.Fatal(err)
		}
	}
	f := peersync.Frame{Type: kind, Payload: raw}
	if kind == peersync.TypeHello {
		f.Flags = peersync.FlagCritical
	}
	return peersync.AppendFrame(nil, f)
}

func (f *foe) hello(region record.RegionID) hello {
	return hello{Min: 1, Max: 1, Region: region[:], Device: f.key.Public().(ed25519.PublicKey), Role: "clinic", Software: "foe", Window: 64 << 10,
		Root: make([]byte, 32), Note: []byte{}, Frontier: []helloEpoch{}}
}

// holds is what must stay the same under attack.
type holds struct {
	size, confirmed                   uint64
	root                              string
	pending, shared, carried, refused int
	pid                               int
}

func holdsOf(b *rig.Box) holds {
	s := b.Status()
	return holds{s.Size, s.Confirmed, s.Root, s.Pending, s.Shared, s.Carried, s.Refused, b.PID()}
}

// TestStranger: who is no member gets no word out of a box.
func TestStranger(t *testing.T) {
	t.Parallel()
	r := rig.NewRegion(t, 1, 1)
	for _, b := range r.Boxes() {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		f := newFoe(t, key, b)
		before := holdsOf(b)
		region := regionOf(t, b)
		for _, p := range []protocol.ID{peersync.SyncProtocol, peersync.FetchProtocol, peersync.JoinProtocol, raftProtocol} {
			if frames, err := f.say(p, frame(t, peersync.TypeHello, f.hello(region))); err == nil || len(frames) > 0 {
				t.Errorf("%s answered a stranger on %s: %d frames, %v", b.Name, p, len(frames), err)
			}
		}
		if after := holdsOf(b); after != before {
			t.Errorf("%s changed: %+v, was %+v", b.Name, after, before)
		}
	}
	// An invitation that is open lets strangers knock, and nothing more.
	hub := r.Hubs[0]
	hub.Must("region", "invite", "--role", "clinic")
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := newFoe(t, key, hub)
	before := holdsOf(hub)
	for _, p := range []protocol.ID{peersync.SyncProtocol, peersync.FetchProtocol, raftProtocol} {
		if frames, err := f.say(p, frame(t, peersync.TypeHello, f.hello(regionOf(t, hub)))); err == nil || len(frames) > 0 {
			t.Errorf("%s answered a stranger on %s while an invitation is open: %d frames, %v", hub.Name, p, len(frames), err)
		}
	}
	for i := range 20 { // guesses at the invitation, and noise
		if _, err := f.say(peersync.JoinProtocol, noise(mathrand.New(mathrand.NewPCG(1, uint64(i))), 1+i*700)); err == nil {
			t.Error("a guess was answered with frames")
		}
	}
	if after := holdsOf(hub); after != before {
		t.Errorf("%s changed: %+v, was %+v", hub.Name, after, before)
	}
	r.Check(r.Boxes()...)
}

func noise(rnd *mathrand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func regionOf(t *testing.T, b *rig.Box) record.RegionID {
	t.Helper()
	id, err := record.ParseRegionID(b.Status().Region)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestHostileMember: a member's keys in the hands of somebody who breaks every
// rule. Whatever is sent, a hub and a clinic stay as they are, and go on working.
func TestHostileMember(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 1, 2)
	hub, victim, stolen := r.Hubs[0], r.Clinics[0], r.Clinics[1]
	patient := victim.Page().Register("Salama", "Safe")
	r.WaitSame(r.Boxes()...)
	stolen.Stop()
	keys, _, err := seal.LoadKeyring(filepath.Join(stolen.Dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*rig.Box{hub, victim} {
		f := newFoe(t, keys.Signer(), b)
		before := holdsOf(b)
		region := regionOf(t, b)
		for name, bytes := range f.attacks(rnd, region) {
			frames, err := f.say(peersync.SyncProtocol, bytes)
			if errors.Is(err, context.DeadlineExceeded) || err == nil && len(frames) == 0 {
				t.Errorf("%s, %s: %d frames, %v", b.Name, name, len(frames), err)
			}
			if !b.Running() {
				t.Fatalf("%s ended on %s\n%s", b.Name, name, b.LogTail())
			}
			if after := holdsOf(b); after != before {
				t.Fatalf("%s changed on %s: %+v, was %+v", b.Name, name, after, before)
			}
		}
		if frames, err := f.say(raftProtocol, frame(t, peersync.TypeHello, f.hello(region))); err == nil || len(frames) > 0 { // for hubs alone
			t.Errorf("%s answered a clinic on %s: %d frames, %v", b.Name, raftProtocol, len(frames), err)
		}
		f.host.Close()
	}
	rid := victim.Page().MustSave(rig.NewVisit(rnd, patient))
	victim.Eventually(rig.ConvergeMax, "a visit after the attack to be confirmed", func() string {
		st, err := victim.RecordState(rid)
		if err != nil || st.State != "confirmed" {
			return fmt.Sprint(st, err)
		}
		return ""
	})
	r.Check(hub, victim)
}

// attacks are streams of bytes, by what is wrong with them.
func (f *foe) attacks(rnd *mathrand.Rand, region record.RegionID) map[string][]byte {
	t := f.t
	greet := frame(t, peersync.TypeHello, f.hello(region))
	after := func(parts ...[]byte) []byte {
		all := append([]byte{}, greet...)
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	other := record.RegionID(noise(rnd, 32))
	long := f.hello(region)
	long.Size, long.Root = 1<<40, noise(rnd, 32)
	note := f.hello(region)
	note.Note = []byte("healthpost\n1\nAAAA\n\n\u2014 nobody AAAA\n")
	attacks := map[string][]byte{
		"noise":                       noise(rnd, 4096),
		"another region":              frame(t, peersync.TypeHello, f.hello(other)),
		"another's name":              frame(t, peersync.TypeHello, f.impostor(region)),
		"a longer ledger":             frame(t, peersync.TypeHello, long),
		"a note that nobody signed":   frame(t, peersync.TypeHello, note),
		"a frame of a gigabyte":       after([]byte{byte(peersync.TypePending), 0}, binary.AppendUvarint(nil, 1<<30)),
		"a control frame too long":    after([]byte{byte(peersync.TypeAck), 0}, binary.AppendUvarint(nil, 1<<20), noise(rnd, 1<<16)),
		"a critical frame of no kind": after([]byte{0x66, peersync.FlagCritical, 0}),
		"a second hello":              after(greet),
		"noise as pending records":    after(frame(t, peersync.TypePending, noise(rnd, 2000))),
		"noise as a segment":          after(frame(t, peersync.TypeSegment, noise(rnd, 2000))),
		"noise as an answer":          after(frame(t, peersync.TypeAck, noise(rnd, 2000))),
		"noise as a refusal":          after(frame(t, peersync.TypeReject, noise(rnd, 2000))),
		"noise as a checkpoint":       after(frame(t, peersync.TypeCheckpoint, noise(rnd, 2000))),
		"nested ten thousand deep":    after(frame(t, peersync.TypePull, nested(10_000))),
	}
	for name, run := range f.forgeries() {
		attacks[name] = after(frame(t, peersync.TypePending, run))
	}
	return attacks
}

func (f *foe) impostor(region record.RegionID) hello {
	h := f.hello(region)
	h.Device = make([]byte, 32)
	return h
}

func nested(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 0x81
	}
	return b
}

// forgeries are runs of records that say something untrue: signed by a stranger,
// for an epoch that nobody opened, or opened in a stranger's name.
func (f *foe) forgeries() map[string][]byte {
	t := f.t
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	opening := func(device, signer ed25519.PrivateKey) record.Record {
		body, err := record.Marshal(record.EpochOpen{Device: device.Public().(ed25519.PublicKey), Nonce: make([]byte, 16), Hardware: make([]byte, 32),
			Predecessor: []byte{}, Heads: []uint64{}, Software: "foe", Root: make([]byte, 32)})
		if err != nil {
			t.Fatal(err)
		}
		return record.Sign(record.Core{Kind: record.KindEpochOpen, HLC: 1 << 32}, body, signer)
	}
	inner := record.Sign(record.Core{Epoch: record.EpochID{1, 2, 3}, Lane: record.LaneClinical, N: 1, HLC: 1 << 32, Kind: record.KindClinical, Compartment: record.CompartmentID{9}}, []byte("body"), f.key)
	broken := record.Sign(record.Core{Epoch: record.EpochID{1, 2, 3}, Lane: record.LaneClinical, N: 1, HLC: 1 << 32, Kind: record.KindClinical, Compartment: record.CompartmentID{9}}, []byte("body"), f.key).WithBody([]byte("ydob"))
	return map[string][]byte{
		"an epoch of a stranger":                  record.AppendRun(nil, []record.Record{opening(stranger, stranger)}),
		"a member's epoch signed by a stranger":   record.AppendRun(nil, []record.Record{opening(f.key, stranger)}),
		"a stranger's epoch signed by the member": record.AppendRun(nil, []record.Record{opening(stranger, f.key)}),
		"a record of an epoch that nobody opened": record.AppendRun(nil, []record.Record{inner}),
		"a record with another body":              record.AppendRun(nil, []record.Record{broken}),
	}
}

// TestSlowPeer: members that open streams and say nothing, or half a word, do not
// keep others out.
func TestSlowPeer(t *testing.T) {
	t.Parallel()
	r := rig.NewRegion(t, 1, 2)
	hub, victim, stolen := r.Hubs[0], r.Clinics[0], r.Clinics[1]
	patient := victim.Page().Register("Upendo", "Served")
	r.WaitSame(r.Boxes()...)
	stolen.Stop()
	keys, _, err := seal.LoadKeyring(filepath.Join(stolen.Dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFoe(t, keys.Signer(), hub)
	open := 0
	for i := range 400 {
		s, err := f.stream(peersync.SyncProtocol)
		if err != nil {
			break
		}
		if i%2 == 0 {
			s.Write([]byte{byte(peersync.TypeHello), 1, 0xff})
		} else {
			io.WriteString(s, "")
		}
		open++
	}
	t.Logf("%d streams opened", open)
	rid := victim.Page().MustSave(rig.NewVisit(mathrand.New(mathrand.NewPCG(2, 3)), patient))
	victim.Eventually(rig.ConvergeMax, "a visit to be confirmed meanwhile", func() string {
		st, err := victim.RecordState(rid)
		if err != nil || st.State != "confirmed" {
			return fmt.Sprint(st, err)
		}
		return ""
	})
	f.host.Close()
	r.Check(hub, victim)
}
