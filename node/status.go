package node

import (
	"context"
	"fmt"
	"sort"
	"syscall"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/web"
)

// Status is the box in numbers, for commands.
type Status struct {
	Name       string       `json:"name"`
	Role       record.Role  `json:"role"`
	Device     string       `json:"device"`
	Region     string       `json:"region,omitempty"`
	RegionName string       `json:"regionName,omitempty"`
	Running    bool         `json:"running"`
	Lock       LockInfo     `json:"lock"`
	Started    time.Time    `json:"started"`
	Page       string       `json:"page,omitempty"`
	Log        string       `json:"log,omitempty"` // where a hub serves the ledger over HTTP
	Size       uint64       `json:"size"`          // entries of the ledger on this box
	Root       string       `json:"root"`
	Confirmed  uint64       `json:"confirmed"` // size of the newest final checkpoint verified here
	Pending    int          `json:"pending"`   // own records on this box only
	Shared     int          `json:"shared"`    // own records that another device holds
	Carried    int          `json:"carried"`   // pending records of other boxes held here
	Refused    int          `json:"refused"`
	OnlyHere   int          `json:"onlyHere"`           // own records that no device elsewhere acknowledged
	VisitsHere int          `json:"visitsOnlyHere"`     // visits among them
	Why        string       `json:"why,omitempty"`      // why nothing moves, or not everything: a code, see whyWords
	WhyWords   string       `json:"whyWords,omitempty"` // the same, and what to do
	NextCall   *time.Time   `json:"nextCall,omitempty"` // on a link with a schedule
	Usage      *UsageStatus `json:"usage,omitempty"`    // on a link that is paid for by its bytes
	Frozen     bool         `json:"frozen,omitempty"`   // nothing more is confirmed here: see Faults
	Ordering   string       `json:"ordering,omitempty"` // on a hub: its part in ordering
	Voters     int          `json:"voters,omitempty"`   // on a hub: hubs that vote
	Addresses  []string     `json:"addresses,omitempty"`
	Peers      []PeerStatus `json:"peers"`
	DiskFree   int64        `json:"diskFree"`
	DiskTotal  int64        `json:"diskTotal"`
	Clock      time.Time    `json:"clock"` // what staff's work is dated by
	ClockTrust string       `json:"clockTrust"`
	Faults     []string     `json:"faults"`

	Attachments AttachmentStatus `json:"attachments"`
	Initial     *InitialStatus   `json:"initial,omitempty"` // entries of the ledger that are not on this box

	Process *ProcessStatus `json:"process,omitempty"` // of a running box

	Version string `json:"version"`
}

// AttachmentStatus is how far photos and documents have come.
type AttachmentStatus struct {
	OnlyHere      int    `json:"onlyHere"`      // made here and not known to be anywhere else, at most 1,000 counted
	OnlyHereBytes uint64 `json:"onlyHereBytes"` // sealed
	WaitedFor     int    `json:"waitedFor"`     // asked for by a person and not here yet
}

// PeerStatus is one peer and the link to it.
type PeerStatus struct {
	Device      string      `json:"device"`
	Name        string      `json:"name"`
	Role        record.Role `json:"role"`
	Link        string      `json:"link"` // up, trying, down
	LastContact time.Time   `json:"lastContact"`
	ContactSure bool        `json:"contactSure"` // LastContact and Clock can be compared
	Elsewhere   bool        `json:"elsewhere"`   // what it holds is under another roof than this box
	Sent        int         `json:"sent"`
	Received    int         `json:"received"`
	Waiting     int         `json:"waiting"` // own pending records it has not acknowledged
	BytesOut    uint64      `json:"bytesOut"`
	BytesIn     uint64      `json:"bytesIn"`
	Relayed     bool        `json:"relayed,omitempty"` // the connection leads through a hub
	Trouble     string      `json:"trouble,omitempty"`
}

// UsageStatus is what a link cost this month.
type UsageStatus struct {
	Month    string `json:"month"` // as 2026-11
	BytesIn  uint64 `json:"bytesIn"`
	BytesOut uint64 `json:"bytesOut"`
	Budget   uint64 `json:"budget,omitempty"` // bytes a month, 0 for no limit
}

// Status tells how the box is. It works on a stopped box too.
func (n *Node) Status(context.Context) (Status, error) {
	head := n.store.Head()
	s := Status{Name: n.box.Name, Role: n.box.Role, Device: n.author.Device.String(), Started: n.started, Size: head.Size,
		Root: fmt.Sprintf("%x", head.Root[:]), Clock: n.o.Now(), ClockTrust: clockWords[n.clock.trust()], Faults: []string{}, Peers: []PeerStatus{}, Version: Version, Frozen: n.frozen()}
	_, s.RegionName, _ = n.store.Region()
	s.Lock = n.Lock()
	if s.Lock.Locked {
		s.Faults = append(s.Faults, ErrKeysLocked.Error()+": charts open once somebody opens the lock, with 'healthpost keys open' or on the page")
	}
	if id, ok := n.box.RegionID(); ok {
		s.Region = id.String()
	}
	c, err := n.count()
	if err != nil {
		return s, err
	}
	s.Pending, s.Shared, s.Refused, s.Confirmed = c.Pending, c.Shared, c.Refused, uint64(c.Confirmed)
	s.OnlyHere, s.VisitsHere = c.OnlyHere, c.VisitsOnlyHere
	if s.Carried, err = n.carried(); err != nil {
		return s, err
	}
	if s.Attachments, err = n.attachmentStatus(); err != nil {
		return s, err
	}
	if i, ok := n.Initial(); ok {
		s.Initial = &i
	}
	if d, err := diskOf(n.o.Data); err == nil {
		s.DiskFree, s.DiskTotal = d.FreeBytes, d.TotalBytes
	}
	if err := n.store.Err(); err != nil {
		s.Faults = append(s.Faults, "disk fault: "+err.Error())
	}
	if err := n.notEmptied(); err != nil {
		s.Faults = append(s.Faults, err.Error())
	}
	if m, ok, err := n.store.Member(n.author.Device); err == nil && ok && !m.Active() {
		s.Faults = append(s.Faults, "this box was taken out of the region: nobody exchanges with it any more; 'healthpost export' gives what its staff wrote, a box made anew can join")
	}
	if s.Refused > 0 {
		s.Faults = append(s.Faults, "records of this box were refused: 'Sending' on the page lists them")
	}
	told, err := n.told()
	if err != nil {
		return s, err
	}
	for _, f := range told {
		s.Faults = append(s.Faults, faultWords(f))
	}
	if n.store.Full() {
		s.Faults = append(s.Faults, "no room left: nothing can be saved until space is freed")
	}
	if r := n.up.Load(); r != nil {
		s.Running, s.Page, s.Log, s.Addresses, s.Process = true, r.page, r.tree, n.announced(), processStatus()
		s.Peers, err = n.peerStatus(r)
		n.linkStatus(r, c, &s)
		if r.ordering != nil {
			s.Ordering, s.Voters = r.ordering.describe(), r.ordering.voters()
		}
	}
	return s, err
}

func (n *Node) carried() (int, error) {
	feeds, err := n.store.PendingFeeds()
	total := 0
	for _, f := range feeds {
		if f.Author != n.author.Device {
			total += int(f.HeldN - f.OrderedN)
		}
	}
	return total, err
}

// mayCarry bounds what a box holds of others until it is in the ledger. Own records
// that come back always fit; a hub takes what it is there to order.
func (n *Node) mayCarry(e record.EpochID) bool {
	if n.box.Role.Orders() {
		return true
	}
	if d, ok, err := n.store.EpochAuthor(e); err == nil && ok && d == n.author.Device {
		return true
	}
	held, err := n.carried()
	return err != nil || held < n.o.CarryMax // an error shows when the records are written
}

func diskOf(path string) (web.Disk, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return web.Disk{}, err
	}
	return web.Disk{FreeBytes: int64(st.Bavail) * st.Bsize, TotalBytes: int64(st.Blocks) * st.Bsize}, nil
}

// waitingFor counts own pending records that a peer has not acknowledged.
func (n *Node) waitingFor(d record.DeviceID) (int, error) {
	feeds, err := n.store.PendingFeeds()
	if err != nil {
		return 0, err
	}
	acked, err := n.store.Acked(d)
	if err != nil {
		return 0, err
	}
	have := map[record.Feed]uint64{}
	for _, h := range acked {
		have[h.Feed] = h.N
	}
	total := 0
	for _, f := range feeds {
		if f.Author == n.author.Device {
			total += int(f.HeldN - min(f.HeldN, max(have[f.Feed], f.OrderedN)))
		}
	}
	return total, nil
}

// SyncPeer wakes the exchange with one peer, by name, or with all, and waits for
// it to settle or fail.
func (n *Node) SyncPeer(ctx context.Context, name string) ([]PeerStatus, error) {
	r := n.up.Load()
	if r == nil {
		return nil, ErrNotRunning
	}
	if err := r.links.exchange(ctx, name); err != nil {
		return nil, err
	}
	return n.peerStatus(r)
}

// SetLink cuts or restores every link of this box, for drills.
func (n *Node) SetLink(up bool) error {
	r := n.up.Load()
	if r == nil {
		return ErrNotRunning
	}
	r.links.setUp(up)
	return nil
}

// RecordState says where one record is.
type RecordState struct {
	RID   string   `json:"rid"`
	State string   `json:"state"` // saved, copied, confirmed, refused
	Seq   uint64   `json:"seq,omitempty"`
	To    []string `json:"to,omitempty"`
}

// RecordState finds a record by its id.
func (n *Node) RecordState(text string) (RecordState, error) {
	rid, err := record.ParseRID(text)
	if err != nil {
		return RecordState{}, err
	}
	st, err := n.newStates()
	if err != nil {
		return RecordState{}, err
	}
	state, ok, err := st.find(rid)
	if err == nil && !ok {
		err = fmt.Errorf("record %s: not on this box", rid.Short())
	}
	word := map[chart.StateKind]string{chart.Saved: "saved", chart.Copied: "copied", chart.Confirmed: "confirmed", chart.Refused: "refused"}[state.Kind]
	return RecordState{RID: text, State: word, Seq: state.Seq, To: state.To}, err
}

// SyncPage is the page about links and the box. Asking for it is no use of the
// session: an open page asks again by itself.
func (n *Node) SyncPage(ctx context.Context, s web.Session) (web.SyncPage, error) {
	in, err := n.staff.get(s.Token, false)
	if err != nil {
		return web.SyncPage{}, err
	}
	p := web.SyncPage{Counts: n.Counts(ctx), Clock: n.webClock()}
	if i, ok := n.Initial(); ok {
		p.Missing = web.Missing{Left: i.Left, Size: i.Size, Remaining: i.Remaining, Stays: i.Profile}
	}
	if p.Carried, err = n.carried(); err != nil {
		return p, explain(err)
	}
	if p.Disk, err = diskOf(n.o.Data); err != nil {
		return p, err
	}
	switch {
	case n.store.Err() != nil:
		p.Faults = append(p.Faults, web.Fault{Code: "disk_fault"})
	case n.store.Full():
		p.Faults = append(p.Faults, web.Fault{Code: "disk_full"})
	}
	told, err := n.told()
	if err != nil {
		return p, explain(err)
	}
	p.Faults = append(p.Faults, told...)
	if at := n.finalTime(); at != 0 {
		p.Checkpoint = time.Unix(at, 0)
	}
	if r := n.up.Load(); r != nil {
		if p.Peers, err = n.webPeers(r); err != nil {
			return p, explain(err)
		}
		n.webLink(r, &p)
	}
	p.Refused, err = n.refusedRecords(n.may(in, policy.Identify, ""))
	return p, explain(err)
}

func (n *Node) webPeers(r *running) ([]web.Peer, error) {
	list, err := n.peerStatus(r)
	if err != nil {
		return nil, err
	}
	var out []web.Peer
	hub := n.box.Role.Orders()
	for _, x := range list {
		hub = hub || x.Link == string(web.LinkUp) && x.Role.Orders()
	}
	for _, x := range list {
		p := web.Peer{ID: x.Device, Name: x.Name, Role: string(x.Role), Link: web.Link(x.Link), LastContact: x.LastContact, ContactUnsure: !x.ContactSure, Elsewhere: x.Elsewhere, Sent: x.Sent, Waiting: x.Waiting, Received: x.Received}
		if x.Trouble != "" && !hub { // one hub is enough: the others are called when it fails
			p.Fault = web.Fault{Code: "peer_unreachable", Args: []string{x.Name}}
		}
		out = append(out, p)
	}
	return out, nil
}

// refusedRecords lists what the region did not take, with whom it is about for who may know.
func (n *Node) refusedRecords(named bool) ([]web.RefusedRecord, error) {
	list, err := n.store.Refused()
	if err != nil {
		return nil, err
	}
	var out []web.RefusedRecord
	for _, x := range list {
		if settled, err := n.settled(&x.Record, x.RID); err != nil {
			return nil, err
		} else if settled {
			continue
		}
		core := &x.Record.Core
		w := web.RefusedRecord{RID: x.RID.String(), Reason: refusalCode(x.Verdict), At: timeOfHLC(core.HLC)}
		if row, known, err := n.row(core.Compartment); err == nil && known && named {
			w.PatientID, w.Name = core.Compartment.String(), row.Given+" "+row.Family
		}
		out = append(out, w)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].At.After(out[j].At) })
	return out, nil
}
