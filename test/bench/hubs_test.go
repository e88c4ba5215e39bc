package bench_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"syscall"

	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multiaddr"
	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// An ordering hub by itself: the store, raft over libp2p, and a TCP port where
// a client hands in signed records and hears when they are ordered, as clients
// of a replicated database do. The test binary runs itself as such a hub when
// hubFolder is set.
//
//	request  = length(4) records as record.Batch; length 0 asks for the voters
//	response = 1 byte: verdict of the first record, or 255 for none; or the voters
const hubFolder = "HEALTHPOST_BENCH_HUB"

const noVerdict = 255

// hubPlan is plan.json in a hub's folder.
type hubPlan struct {
	Name    string
	Hubs    map[string]string // libp2p port by name
	Submit  string            // port
	Profile string            // file for a CPU profile, empty for none
}

// device is a writer whose key follows from its name.
type device struct {
	key   ed25519.PrivateKey
	id    record.DeviceID
	name  string
	epoch record.EpochID
	heads [record.LaneCount]record.Head
	first record.Record // the epoch's opening record
}

func newDevice(name string) (*device, error) {
	seed := sha256.Sum256([]byte(name))
	d := &device{name: name, key: ed25519.NewKeyFromSeed(seed[:])}
	d.id = record.DeviceID(d.key.Public().(ed25519.PublicKey))
	body, err := record.Marshal(record.EpochOpen{Device: d.id[:], Nonce: seed[:16], Hardware: make([]byte, 32), Predecessor: []byte{}, Heads: []uint64{}, Software: "bench", Root: record.EmptyRoot[:]})
	if err != nil {
		return nil, err
	}
	d.first = record.Sign(record.Core{Kind: record.KindEpochOpen}, body, d.key)
	d.epoch = d.first.OpenedEpoch()
	for i := range d.heads {
		d.heads[i] = record.Head{RID: d.first.RID()}
	}
	return d, nil
}

func (d *device) write(lane record.Lane, kind record.Kind, c record.CompartmentID, body []byte) record.Record {
	h := &d.heads[lane]
	r := record.Sign(record.Core{Epoch: d.epoch, Lane: lane, N: h.N + 1, Prev: h.RID, Kind: kind, Compartment: c}, body, d.key)
	h.N, h.RID = h.N+1, r.RID()
	return r
}

func (d *device) member(role record.Role) record.MemberAdd {
	enc := sha256.Sum256(d.id[:])
	return record.MemberAdd{Device: d.id[:], Encryption: enc[:], Role: role, Name: d.name, Addresses: []string{}}
}

// founding is the start of a ledger: a first hub that admits everybody else.
func founding(hubs, clients []*device) ([]record.Record, error) {
	first := hubs[0]
	var recs []record.Record
	admit := func(m record.MemberAdd, opened record.Record, by ...*device) error {
		body, err := record.Marshal(m)
		for _, d := range by {
			recs = append(recs, d.write(record.LaneControl, record.KindMemberAdd, record.CompartmentID{}, body))
		}
		recs = append(recs, opened)
		return err
	}
	recs = append(recs, first.first)
	body, err := record.Marshal(record.RegionFound{Name: "Bench", Nonce: make([]byte, 16), Founder: first.member(record.RoleHub)})
	recs = append(recs, first.write(record.LaneControl, record.KindRegionFound, record.CompartmentID{}, body))
	for i, h := range hubs[1:] { // each by more than half of the hubs before it
		err = errors.Join(err, admit(h.member(record.RoleHub), h.first, hubs[:record.Needed(i+1)]...))
	}
	for _, c := range clients {
		err = errors.Join(err, admit(c.member(record.RoleClinic), c.first, first))
	}
	return recs, err
}

// rows is a store's room for raft state as raftlog wants it.
type rows struct{ *store.KV }

func (k rows) Get(key []byte) ([]byte, bool, error) {
	v, err := k.KV.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	return v, err == nil, err
}

func (k rows) Update(list []raftlog.Row) error {
	out := make([]store.Row, len(list))
	for i, r := range list {
		out[i] = store.Row(r)
	}
	return k.KV.Update(out)
}

type waiting struct{ *store.Store }

func (w waiting) PendingFeeds() ([]raftlog.PendingFeed, error) {
	list, err := w.Store.PendingFeeds()
	var out []raftlog.PendingFeed
	for _, f := range list {
		out = append(out, raftlog.PendingFeed{Feed: f.Feed, OrderedN: f.OrderedN, HeldN: f.HeldN, Opening: f.Opening})
	}
	return out, err
}

// nobody has entries to fetch: no hub of a run is ever that far behind.
type nobody struct{}

func (nobody) Fetch(context.Context, record.TreeHead) error { return errors.New("nothing is fetched") }

// runHub is the process of one hub, until SIGTERM.
func runHub(dir string) int {
	if err := serveHub(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serveHub(dir string) (err error) {
	var p hubPlan
	raw, err := os.ReadFile(filepath.Join(dir, "plan.json"))
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil {
		return err
	}
	if p.Profile != "" {
		f, err := os.Create(p.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	self, err := newDevice(p.Name)
	if err != nil {
		return err
	}
	o := store.NewOptions()
	o.BallastBytes = 0
	st, err := store.Open(filepath.Join(dir, "db"), o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	host, allow, err := hubHost(&p, self)
	if err != nil {
		return err
	}
	defer host.Close()
	n, err := raftlog.Open(raftlog.Options{Device: self.id, Host: host.Libp2p(), AllowHub: allow, Hubs: st.Hubs, Ledger: st, Pending: waiting{st}, KV: rows{st.KV("r")},
		Fetcher: nobody{}, Profile: raftlog.LAN(), Log: zerolog.Nop(), Region: func() (record.RegionID, bool) { id, _, ok := st.Region(); return id, ok }})
	if err != nil {
		return err
	}
	if p.Submit != "" {
		if err := n.Bootstrap(); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return hubWork(ctx, n, p.Submit)
}

// hubHost listens and knows where the other hubs are.
func hubHost(p *hubPlan, self *device) (*peersync.Host, func(record.DeviceID) bool, error) {
	members := map[record.DeviceID]string{}
	for name, port := range p.Hubs {
		d, err := newDevice(name)
		if err != nil {
			return nil, nil, err
		}
		members[d.id] = port
	}
	allow := func(d record.DeviceID) bool { _, ok := members[d]; return ok }
	h, err := peersync.NewHost(peersync.HostOptions{Key: self.key, Listen: []string{"/ip4/127.0.0.1/tcp/" + members[self.id]}, Hub: true, Allow: allow, AllowStrangers: func() bool { return false }})
	if err != nil {
		return nil, nil, err
	}
	for d, port := range members {
		id, err := peersync.PeerID(d)
		if err != nil {
			return nil, nil, errors.Join(err, h.Close())
		}
		a, err := multiaddr.NewMultiaddr("/ip4/127.0.0.1/tcp/" + port)
		if err != nil {
			return nil, nil, errors.Join(err, h.Close())
		}
		h.Libp2p().Peerstore().AddAddr(id, a, peerstore.PermanentAddrTTL)
	}
	return h, allow, nil
}

// hubWork runs raft and, on the first hub, the port for clients.
func hubWork(ctx context.Context, n *raftlog.Node, port string) error {
	var work sync.WaitGroup
	defer work.Wait()
	if port != "" {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			return err
		}
		defer l.Close()
		work.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return // closed
				}
				context.AfterFunc(ctx, func() { c.Close() })
				work.Go(func() { answerClient(ctx, n, c) })
			}
		})
	}
	return n.Run(ctx)
}

// answerClient orders what one client hands in, one request after the other.
func answerClient(ctx context.Context, n *raftlog.Node, c net.Conn) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 64<<10)
	for {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(head[:])
		if size > record.BatchBytesMax+1<<10 {
			return
		}
		raw := make([]byte, size)
		if _, err := io.ReadFull(in, raw); err != nil {
			return
		}
		if _, err := c.Write([]byte{answerTo(ctx, n, raw)}); err != nil {
			return
		}
	}
}

func answerTo(ctx context.Context, n *raftlog.Node, raw []byte) byte {
	if len(raw) == 0 {
		voters := byte(0)
		for _, h := range n.Status().Hubs {
			if h.Voter {
				voters++
			}
		}
		return voters
	}
	b, err := record.DecodeBatch(raw)
	if err != nil {
		return noVerdict
	}
	out, err := n.Submit(ctx, b.Records)
	if err != nil || len(out) == 0 {
		return noVerdict
	}
	return byte(out[0].Verdict)
}
