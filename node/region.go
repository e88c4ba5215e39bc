package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// ErrNoRegion: the box belongs to no region yet.
var ErrNoRegion = errors.New("this box belongs to no region: run 'healthpost region create NAME' on the first hub, or 'healthpost join INVITATION'")

// Found makes a region whose first member is this box: its opening record, the
// founding record and the key of the directory, in that order. It returns when
// they are in the ledger; until then nothing else is written on this box.
func (n *Node) Found(ctx context.Context, name string) (record.RegionID, error) {
	if id, ok := n.box.RegionID(); ok {
		return id, fmt.Errorf("founding a region: this box belongs to region %s already", id)
	}
	if !n.box.Role.Orders() {
		return record.RegionID{}, fmt.Errorf("founding a region: a %s cannot order a ledger; make the box with --role hub", n.box.Role)
	}
	if !plainName(name, boxNameMax) {
		return record.RegionID{}, fmt.Errorf("founding a region: a name has 1 to %d bytes of text on one line", boxNameMax)
	}
	id, err := n.foundingRecord(ctx, name)
	if err != nil {
		return id, fmt.Errorf("founding a region: %w", err)
	}
	return id, n.box.belongTo(id)
}

func (n *Node) foundingRecord(ctx context.Context, name string) (record.RegionID, error) {
	if id, ok, err := n.unfinishedFounding(); err != nil || ok {
		return id, err
	}
	var nonce [16]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return record.RegionID{}, err
	}
	body, err := record.Marshal(record.RegionFound{Name: name, Nonce: nonce[:], Founder: n.selfMember()})
	if err != nil {
		return record.RegionID{}, err
	}
	if _, err := record.DecodeRegionFound(body); err != nil {
		return record.RegionID{}, err
	}
	if err := n.newReadingKey(); err != nil {
		return record.RegionID{}, err
	}
	placed, err := n.appendControl(ctx, record.KindRegionFound, body)
	if err != nil {
		return record.RegionID{}, err
	}
	id := record.RegionID(placed.RID())
	_, wrap, err := n.vault.wrapFor(directory(id), 0)
	if err != nil {
		return id, err
	}
	_, err = n.append(ctx, []store.Draft{wrap}, nil)
	return id, err
}

// unfinishedFounding finds the founding record of a run that stopped before
// box.toml said so; its place in the ledger may have been quicker.
func (n *Node) unfinishedFounding() (record.RegionID, bool, error) {
	if id, _, ok := n.store.Region(); ok {
		return id, true, nil
	}
	feeds, err := n.store.PendingFeeds()
	if err != nil {
		return record.RegionID{}, false, err
	}
	for _, f := range feeds {
		if f.Lane != record.LaneControl {
			continue
		}
		recs, err := n.store.Pending(f.Feed, 1, 64<<10)
		if err != nil {
			return record.RegionID{}, false, err
		}
		for i := range recs {
			if recs[i].Core.Kind == record.KindRegionFound {
				return record.RegionID(recs[i].RID()), true, nil
			}
		}
	}
	return record.RegionID{}, false, nil
}

// finishFounding writes the directory's key when a founder was stopped after its
// founding record and before that. Without the key nothing about staff and places
// can ever be written in the region.
func (n *Node) finishFounding(ctx context.Context) error {
	region, ok := n.box.RegionID()
	if !ok || !n.box.Role.Orders() || n.seed != nil {
		return nil
	}
	if _, err := n.vault.key(directory(region), firstGen); err == nil {
		return nil
	}
	recs, err := n.store.Compartment(directory(region)) // a full disk may have kept the lists behind
	if err != nil {
		return err
	}
	for i := range recs {
		if recs[i].Record.Core.Kind == record.KindKeyWrap {
			return nil
		}
	}
	if err := n.waitOrdered(ctx, record.RID(region)); err != nil {
		return err
	}
	_, wrap, err := n.vault.wrapFor(directory(region), 0)
	if err != nil {
		return err
	}
	_, err = n.append(ctx, []store.Draft{wrap}, nil)
	return err
}

func (n *Node) newReadingKey() error {
	if _, ok := n.keys.CurrentReading(); ok {
		return nil
	}
	k, err := seal.NewKey(rand.Reader)
	if err != nil {
		return err
	}
	return n.keepReadingKey(k)
}

func (n *Node) keepReadingKey(k seal.Key) error {
	n.lock.ring.Lock()
	defer n.lock.ring.Unlock()
	id, err := n.keys.AddReading(k)
	if err != nil {
		return err
	}
	n.keys.Current = id
	return n.keys.Save(n.box.path("keys"))
}

func (n *Node) selfMember() record.MemberAdd {
	d := n.author.Device
	return record.MemberAdd{Device: d[:], Encryption: n.keys.ExchangeKey().PublicKey().Bytes(), Role: n.box.Role, Name: n.box.Name, Addresses: n.announced()}
}

// CreateRegion founds a region on a stopped hub and returns when its first
// entries are in the ledger.
func CreateRegion(ctx context.Context, o Options, name string) (id record.RegionID, err error) {
	o.Page, o.LAN = "", false
	n, err := Open(o)
	if err != nil {
		return id, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if id, err = n.Found(ctx, name); err != nil {
		return id, err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- n.Run(run, func(string) {}) }()
	waited := make(chan error, 1)
	go func() { waited <- n.waitSize(run, foundingSize) }()
	select {
	case err = <-done:
		stop()
		<-waited
		return id, errors.Join(err, fmt.Errorf("founding a region: the box stopped before the ledger had its first entries"))
	case err = <-waited:
		stop()
		return id, errors.Join(err, <-done)
	}
}

// foundingSize is the ledger after the founder's opening record, the founding
// record and the directory's key.
const foundingSize = 3

// waitSize returns when the ledger on this box has size entries under a final checkpoint.
func (n *Node) waitSize(ctx context.Context, size uint64) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	for changed := n.store.Subscribe(ctx); ; {
		if _, head, ok := n.store.Final(); ok && head.Size >= size {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the first entries of the ledger: %w", ctx.Err())
		}
	}
}

// MemberInfo is one line of the member list.
type MemberInfo struct {
	Device    string      `json:"device"`
	Name      string      `json:"name"`
	Role      record.Role `json:"role"`
	SinceSeq  uint64      `json:"since"`
	Revoked   bool        `json:"revoked,omitempty"`
	Cloned    bool        `json:"cloned,omitempty"` // its card runs in two boards at once
	Self      bool        `json:"self,omitempty"`
	Addresses []string    `json:"addresses,omitempty"`
}

// Members lists who belongs to the region, in the order they were admitted.
func (n *Node) Members() ([]MemberInfo, error) {
	members, err := n.store.Members()
	if err != nil {
		return nil, err
	}
	list := []MemberInfo{}
	for _, m := range members {
		list = append(list, MemberInfo{Device: m.Device.String(), Name: m.Name, Role: m.Role, SinceSeq: m.SinceSeq, Revoked: !m.Active(),
			Self: m.Device == n.author.Device, Cloned: n.isCloned(m.Device), Addresses: m.Addresses})
	}
	return list, nil
}

// waitOrdered returns when the record has a place in the ledger on this box.
func (n *Node) waitOrdered(ctx context.Context, rid record.RID) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	changed := n.store.Subscribe(ctx)
	for {
		loc, ok, err := n.store.Locate(rid)
		if err != nil {
			return err
		}
		if ok && !loc.Pending {
			return nil
		}
		if now, done, err := n.standsFor(rid); err != nil {
			return err
		} else if done && now != (record.RID{}) {
			rid = now
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for record %s to be ordered: %w (are enough hubs running?)", rid.Short(), ctx.Err())
		}
	}
}

// hubSeed is the hub set a joining box is told by the hub that admits it. It
// counts until the box's own ledger reaches the size the hub had then.
type hubSeed struct {
	Size       uint64
	Hubs       []seedHub
	Members    [][]byte // devices of active members of other roles, so that neighbours know one another before the ledger is here
	Generation uint64   // of the ledger; written only after the first
}

type firstSeed struct {
	_       struct{} `cbor:",toarray"`
	Size    uint64
	Hubs    []seedHub
	Members [][]byte
}

type laterSeed struct {
	_          struct{} `cbor:",toarray"`
	Size       uint64
	Hubs       []seedHub
	Members    [][]byte
	Generation uint64
}

// MarshalCBOR leaves a first generation out, as boxes write that know of no other.
func (s hubSeed) MarshalCBOR() ([]byte, error) {
	if s.Generation <= 1 {
		return record.Marshal(firstSeed{Size: s.Size, Hubs: s.Hubs, Members: s.Members})
	}
	return record.Marshal(laterSeed{Size: s.Size, Hubs: s.Hubs, Members: s.Members, Generation: s.Generation})
}

// UnmarshalCBOR reads what MarshalCBOR wrote.
func (s *hubSeed) UnmarshalCBOR(b []byte) error {
	var first firstSeed
	if err := record.Unmarshal(b, &first); err == nil {
		*s = hubSeed{Size: first.Size, Hubs: first.Hubs, Members: first.Members, Generation: 1}
		return nil
	}
	var later laterSeed
	if err := record.Unmarshal(b, &later); err != nil {
		return err
	}
	*s = hubSeed{Size: later.Size, Hubs: later.Hubs, Members: later.Members, Generation: later.Generation}
	return nil
}

// seedMembersMax keeps a welcome under the size of one answer.
const seedMembersMax = 1000

type seedHub struct {
	_         struct{} `cbor:",toarray"`
	Device    []byte
	Addresses []string
}

var hubSeedKey = []byte("seed/hubs")

// hubs is the set whose majority makes a checkpoint final.
func (n *Node) hubs() []record.DeviceID {
	if s := n.resetSeed(); s != nil {
		return s.devices()
	}
	if n.seed != nil && n.store.Head().Size < n.seed.Size {
		ids := []record.DeviceID{}
		for _, h := range n.seed.Hubs {
			ids = append(ids, record.DeviceID(h.Device))
		}
		return ids
	}
	return n.store.Hubs()
}

// hubsSize is the size of the ledger as of which hubs answers, where an invitation
// or a reset told of more than this box holds.
func (n *Node) hubsSize() uint64 {
	if s := n.resetSeed(); s != nil {
		return s.Size + 1
	}
	if n.seed != nil {
		return n.seed.Size
	}
	return 0
}

// isMember is who may connect: active members of the ledger, and those of the
// seed until the ledger is here.
func (n *Node) isMember(d record.DeviceID) bool {
	m, ok, err := n.store.Member(d)
	if err == nil && ok {
		return m.Active()
	}
	return n.isHub(d) || n.seed != nil && n.store.Head().Size < n.seed.Size &&
		slices.ContainsFunc(n.seed.Members, func(m []byte) bool { return bytes.Equal(m, d[:]) })
}

func (n *Node) isHub(d record.DeviceID) bool {
	return slices.Contains(n.hubs(), d)
}

// dialAddresses are the boxes to reach: as configured, else the hubs of the
// ledger, else those of the seed.
func (n *Node) dialAddresses() []string {
	var out []string
	if n.resetHere() {
		if members, err := n.store.Members(); err == nil {
			out = n.everybody(members)
		}
	}
	if len(n.o.Dial) > 0 {
		return append(out, n.o.Dial...)
	}
	if members, err := n.store.Members(); err == nil {
		for _, m := range members {
			if m.Active() && m.Role.Orders() && m.Device != n.author.Device {
				out = append(out, m.Addresses...)
			}
		}
	}
	if s := n.resetSeed(); s != nil {
		for _, h := range s.Hubs {
			out = append(out, h.Addresses...)
		}
	}
	if len(out) == 0 && n.seed != nil {
		for _, h := range n.seed.Hubs {
			out = append(out, h.Addresses...)
		}
	}
	return out
}

func (n *Node) loadSeed() error {
	raw, err := n.store.GetRow(hubSeedKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var s hubSeed
	if err := record.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("reading the hub list given on joining: %w", err)
	}
	n.seed = &s
	return nil
}

func expired(t time.Time, now time.Time) bool { return !now.Before(t) }

// ledgerID is the region and the generation of its ledger that this box follows.
func (n *Node) ledgerID() record.LedgerID {
	id, _ := n.box.RegionID()
	if s := n.resetSeed(); s != nil {
		return id.Ledger(s.Generation)
	}
	if n.seed != nil && n.store.Head().Size < n.seed.Size {
		return id.Ledger(max(n.seed.Generation, 1))
	}
	g, err := n.store.Generation()
	if err != nil { // a damaged row: verification names it, and no checkpoint fits generation 0
		return id.Ledger(0)
	}
	return id.Ledger(g)
}
