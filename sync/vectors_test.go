package peersync_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

var update = flag.Bool("update", false, "write the published vectors anew")

const vectorsFile = "../test/vectors/session.json"

// hexBytes is bytes that JSON shows in hexadecimal.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(s []byte) error {
	b, err := hex.DecodeString(string(s))
	*h = b
	return err
}

// sessionVectors is the file's layout; test/vectors/README.md explains it.
type sessionVectors struct {
	Region   hexBytes           `json:"region"`
	Devices  []deviceVector     `json:"devices"`
	Records  []heldVector       `json:"records"`
	Entries  []entryVector      `json:"entries"`
	Sessions []wholeSession     `json:"sessions"`
	Refused  []refusedStreaming `json:"refused"`
}

type deviceVector struct {
	Name string   `json:"name"`
	Seed hexBytes `json:"seed"`
	Key  hexBytes `json:"key"`
}

// heldVector is a record as it is at rest, before it has a place.
type heldVector struct {
	RID    hexBytes `json:"rid"`
	Header hexBytes `json:"header"`
	Body   hexBytes `json:"body"`
}

type entryVector struct {
	Leaf hexBytes `json:"leaf"`
	Body hexBytes `json:"body"`
}

// wholeSession is what crosses one stream, and what both sides hold before and after.
type wholeSession struct {
	Name   string                   `json:"name"`
	Words  string                   `json:"words"`
	Dials  string                   `json:"dials"`
	Before map[string]replicaVector `json:"before"`
	Frames []frameVector            `json:"frames"`
	After  map[string]replicaVector `json:"after"`
}

type replicaVector struct {
	Size    uint64       `json:"size"` // of its ledger: the first so many of entries
	Root    hexBytes     `json:"root"`
	Final   uint64       `json:"final"` // size of its newest final checkpoint
	Note    string       `json:"note"`  // that checkpoint
	Pending []hexBytes   `json:"pending"`
	Acked   []feedVector `json:"acked"` // what the other side acknowledged of what is pending, as it knows
}

type feedVector struct {
	Epoch hexBytes `json:"epoch"`
	Lane  uint8    `json:"lane"`
	N     uint64   `json:"n"`
}

type frameVector struct {
	From  string   `json:"from"`
	Type  string   `json:"type"`
	Bytes hexBytes `json:"bytes"`
}

type refusedStreaming struct {
	Why   string   `json:"why"`
	Bytes hexBytes `json:"bytes"` // what comes instead of the hub's first frame
}

var typeNames = map[peersync.Type]string{peersync.TypeHello: "HELLO", peersync.TypeCheckpoint: "CHECKPOINT", peersync.TypePull: "PULL", peersync.TypeSegment: "SEGMENT",
	peersync.TypePending: "PENDING", peersync.TypeAck: "ACK", peersync.TypeReject: "REJECT", peersync.TypeBye: "BYE"}

// script is a region whose sessions are written down.
type script struct {
	*world
	t     *testing.T
	out   sessionVectors
	names map[record.DeviceID]string
	known map[record.RID]bool
}

func newScript(t *testing.T) *script {
	s := &script{world: newWorld(t, 99, 2), t: t, names: map[record.DeviceID]string{}, known: map[record.RID]bool{}}
	s.out.Region = s.region[:]
	s.device("hub", s.hubKey.Seed(), s.hub.self)
	s.device("clinic", s.clinics[0].key.Seed(), s.clinics[0].self)
	s.device("neighbour", s.clinics[1].key.Seed(), s.clinics[1].self)
	return s
}

func (s *script) device(name string, seed []byte, d record.DeviceID) {
	s.names[d] = name
	s.out.Devices = append(s.out.Devices, deviceVector{name, seed, d[:]})
}

// replica writes down what a box holds, as far as the session is about it.
func (s *script) replica(m *memory, peer *memory) replicaVector {
	head := m.Head()
	note, final, _ := m.Final()
	v := replicaVector{Size: head.Size, Root: head.Root[:], Final: final.Size, Note: string(note), Pending: []hexBytes{}, Acked: []feedVector{}}
	for _, r := range m.allPending() {
		rid := r.RID()
		v.Pending = append(v.Pending, rid[:])
		if !s.known[rid] {
			s.known[rid] = true
			s.out.Records = append(s.out.Records, heldVector{rid[:], r.EncodeHeader(), r.Body})
		}
	}
	acked, err := m.Acked(peer.self)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range acked {
		v.Acked = append(v.Acked, feedVector{h.Epoch[:], uint8(h.Lane), h.N})
	}
	return v
}

// session lets two boxes talk by turns, each as long as it has something to say,
// and writes everything down. At most framesMax frames arrive.
func (s *script) session(name, words string, a, b *memory, framesMax int) {
	s.t.Helper()
	both := func() map[string]replicaVector {
		return map[string]replicaVector{s.names[a.self]: s.replica(a, b), s.names[b.self]: s.replica(b, a)}
	}
	v := wholeSession{Name: name, Words: words, Dials: s.names[a.self], Before: both()}
	sa, sb := s.pair(a, b)
	defer sa.Close()
	defer sb.Close()
	for moved := true; moved; {
		moved = false
		for _, turn := range []struct {
			from     *memory
			own, his *peersync.Session
		}{{a, sa, sb}, {b, sb, sa}} {
			for len(v.Frames) < framesMax {
				f, ok, err := turn.own.Next(s.t.Context())
				if err != nil {
					s.t.Fatalf("%s: %v", name, err)
				}
				if !ok {
					break
				}
				moved = true
				v.Frames = append(v.Frames, frameVector{s.names[turn.from.self], typeNames[f.Type], peersync.AppendFrame(nil, f)})
				if err := turn.his.Handle(s.t.Context(), f); err != nil {
					s.t.Fatalf("%s: %v", name, err)
				}
				turn.his.Changed()
			}
		}
	}
	v.After = both()
	s.out.Sessions = append(s.out.Sessions, v)
}

func makeSessions(t *testing.T) sessionVectors {
	s := newScript(t)
	clinic, neighbour := s.clinics[0], s.clinics[1]
	s.session("nothing new", "Both hold the same ledger and nothing pending: the greetings say so and nothing else is due.", clinic.memory, s.hub, 100)
	s.save(clinic, record.LaneClinical, 3)
	s.save(clinic, record.LaneControl, 1)
	s.save(clinic, record.LaneBulk, 2)
	s.session("pushed", "The clinic wrote the opening record of its epoch and six records. They go to the hub, lane by lane, and become pending there; the clinic learns that the hub holds them.", clinic.memory, s.hub, 100)
	s.orderAll()
	s.session("confirmed", "The hub ordered the clinic's records. It names them instead of sending them: the clinic rebuilds the entries from what it holds pending, and has nothing pending any more.", clinic.memory, s.hub, 100)
	s.session("caught up", "The neighbour has none of it. The hub sends the entries with their bodies.", neighbour.memory, s.hub, 100)
	s.save(clinic, record.LaneClinical, 2)
	s.save(neighbour, record.LaneClinical, 1)
	s.session("without a hub", "The clinic and its neighbour exchange what each has pending.", clinic.memory, neighbour.memory, 100)
	s.save(clinic, record.LaneClinical, 40)
	s.session("cut", "The link breaks when eight frames have arrived. What was acknowledged before that stays.", clinic.memory, s.hub, 8)
	s.session("resumed", "They meet again. What the hub holds already is not sent twice.", clinic.memory, s.hub, 1000)
	s.orderAll()
	s.session("confirmed after the cut", "The hub ordered what two boxes wrote: the clinic holds both as pending, and no body crosses again.", clinic.memory, s.hub, 1000)
	s.session("from a neighbour", "Entries come from any box that has them; the checkpoint of the hub says that they are the region's.", neighbour.memory, clinic.memory, 1000)
	entries, err := s.hub.Entries(0, s.hub.Head().Size, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		s.out.Entries = append(s.out.Entries, entryVector{entries[i].EncodeLeaf(), entries[i].Record.Body})
	}
	s.refusals()
	return s.out
}

// refusals are first frames that end a session with code 1.
func (s *script) refusals() {
	hello := s.out.Sessions[0].Frames[0].Bytes
	for _, f := range s.out.Sessions[0].Frames {
		if f.From == "hub" && f.Type == "HELLO" {
			hello = f.Bytes
		}
	}
	changed := func(why string, f func(b []byte) []byte) {
		s.out.Refused = append(s.out.Refused, refusedStreaming{why, f(bytes.Clone(hello))})
	}
	changed("a frame before HELLO", func([]byte) []byte {
		return peersync.AppendFrame(nil, peersync.Frame{Type: peersync.TypeAck, Payload: []byte{0x83, 0, 0, 0x80}})
	})
	changed("HELLO twice", func(b []byte) []byte { return append(b, b...) })
	changed("another region", func(b []byte) []byte { return bytes.Replace(b, s.region[:], bytes.Repeat([]byte{7}, 32), 1) })
	changed("another device than the connection proved", func(b []byte) []byte { return bytes.Replace(b, s.hub.self[:], s.clinics[1].self[:], 1) })
	changed("bytes after the message", func(b []byte) []byte {
		f, err := peersync.NewFrameReader(bytes.NewReader(b)).Read()
		if err != nil {
			s.t.Fatal(err)
		}
		f.Payload = append(bytes.Clone(f.Payload), 0)
		return peersync.AppendFrame(nil, f)
	})
	changed("a critical frame of an unknown type", func(b []byte) []byte {
		return peersync.AppendFrame(b, peersync.Frame{Type: 0x6f, Flags: peersync.FlagCritical})
	})
}

// What was written down leads each side from the state before to the state after,
// whatever this program would send itself.
func TestSessionVectors(t *testing.T) {
	if *update {
		b, err := json.MarshalIndent(makeSessions(t), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorsFile, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v := readSessions(t)
	for _, x := range v.Sessions {
		for _, d := range v.Devices {
			if before, ok := x.Before[d.Name]; ok {
				v.replay(t, x, d, before)
			}
		}
	}
}

func readSessions(t *testing.T) sessionVectors {
	t.Helper()
	b, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var v sessionVectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// replay gives one side the frames of the other.
func (v *sessionVectors) replay(t *testing.T, x wholeSession, d deviceVector, before replicaVector) {
	t.Helper()
	m, peer := newMemory(record.DeviceID(d.Key)), newMemory(record.DeviceID{})
	for _, other := range v.Devices {
		if _, ok := x.Before[other.Name]; ok && other.Name != d.Name {
			peer.self = record.DeviceID(other.Key)
		}
	}
	s := &script{world: newWorld(t, 99, 2), t: t, known: map[record.RID]bool{}}
	v.fill(t, m, peer.self, before)
	own := peersync.NewSession(m, peer.self, s.options(m))
	defer own.Close()
	speak := func() {
		for {
			if _, ok, err := own.Next(t.Context()); err != nil {
				t.Fatalf("%s: %s: %v", x.Name, d.Name, err)
			} else if !ok {
				return
			}
		}
	}
	speak()
	for i, f := range x.Frames {
		if f.From == d.Name {
			continue
		}
		got, err := peersync.NewFrameReader(bytes.NewReader(f.Bytes)).Read()
		if err == nil {
			err = own.Handle(t.Context(), got)
		}
		if err != nil {
			t.Fatalf("%s: %s: frame %d, %s: %v", x.Name, d.Name, i, f.Type, err)
		}
		own.Changed()
		speak()
	}
	if diff := cmp.Diff(x.After[d.Name], s.replica(m, peer)); diff != "" {
		t.Errorf("%s: %s afterwards: %s", x.Name, d.Name, diff)
	}
}

// fill puts a replica into a state of the file.
func (v *sessionVectors) fill(t *testing.T, m *memory, peer record.DeviceID, to replicaVector) {
	t.Helper()
	var entries []record.Entry
	for seq := range to.Size {
		e, err := record.DecodeLeaf(seq, v.Entries[seq].Leaf)
		if err != nil {
			t.Fatal(err)
		}
		e.Record = e.Record.WithBody(v.Entries[seq].Body)
		entries = append(entries, e)
	}
	if err := m.Extend(t.Context(), entries, record.TreeHead{Size: to.Size, Root: record.Hash(to.Root)}, nil); err != nil {
		t.Fatal(err)
	}
	root, err := m.RootAt(to.Final)
	if err == nil {
		err = m.PutFinal([]byte(to.Note), record.TreeHead{Size: to.Final, Root: root})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, rid := range to.Pending {
		i := slices.IndexFunc(v.Records, func(r heldVector) bool { return bytes.Equal(r.RID, rid) })
		r, err := record.DecodeHeader(v.Records[i].Header)
		if err != nil {
			t.Fatal(err)
		}
		keep(t, m, r.WithBody(v.Records[i].Body))
	}
	for _, h := range to.Acked {
		if err := m.PutAck(peer, []record.FeedHead{{Feed: record.Feed{Epoch: record.EpochID(h.Epoch), Lane: record.Lane(h.Lane)}, N: h.N}}); err != nil {
			t.Fatal(err)
		}
	}
}

// What must be refused is refused.
func TestSessionVectorsRefused(t *testing.T) {
	w := newWorld(t, 99, 2)
	for _, x := range readSessions(t).Refused {
		s, _ := w.pair(w.clinics[0].memory, w.hub)
		if _, _, err := s.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := peersync.NewFrameReader(bytes.NewReader(x.Bytes))
		var err error
		for err == nil {
			var f peersync.Frame
			if f, err = r.Read(); err == nil {
				if err = s.Handle(t.Context(), f); err != nil {
					break
				}
			} else {
				t.Errorf("%s: was taken", x.Why)
			}
		}
		s.Close()
	}
}
