package node

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// ParcelRequest says for whom a parcel is: a box by its name or device, all boxes,
// or, with neither, the hubs (from a hub: all boxes).
type ParcelRequest struct {
	For  string
	All  bool
	Full bool // the whole ledger, for a box that holds nothing
}

// ParcelWritten is what went into a parcel.
type ParcelWritten struct {
	For     []string `json:"for"`
	Records int      `json:"records"` // that wait for their place
	Entries int      `json:"entries"` // of the regional record
	From    uint64   `json:"from"`
	To      uint64   `json:"to"`
	Bytes   int64    `json:"bytes"`
	Twice   bool     `json:"twice"` // each part without attachments is there twice

	Attachments int `json:"attachments"`
}

// ParcelRead is what became of a parcel.
type ParcelRead struct {
	From    string    `json:"from"`
	AsOf    time.Time `json:"as_of,omitzero"` // when hubs vouched for the newest checkpoint that the writer had
	Age     int64     `json:"age_seconds"`    // since then, by the writer's clock
	New     int       `json:"new"`
	Known   int       `json:"known"`
	Refused int       `json:"refused"`
	Waiting int       `json:"waiting"` // something before them is missing here
	Entries int       `json:"entries"` // of New, in the regional record

	Attachments int `json:"attachments"` // photos and documents that became whole

	Damaged  int    `json:"damaged"` // places of the file
	Missing  uint64 `json:"missing"` // parts that are not there
	Complete bool   `json:"complete"`
	Again    bool   `json:"-"`
}

// Errors of reading a parcel.
var (
	ErrParcelForOther = peersync.ErrNotForHere
	ErrNoParcel       = peersync.ErrNoParcel
	ErrParcelCut      = peersync.ErrCutShort
)

// parcelReceivers finds whom a request means.
func (n *Node) parcelReceivers(q ParcelRequest) ([]record.Member, error) {
	members, err := n.store.Members()
	if err != nil {
		return nil, err
	}
	var all, hubs, named []record.Member
	for _, m := range members {
		if !m.Active() || m.Device == n.author.Device {
			continue
		}
		all = append(all, m)
		if n.isHub(m.Device) {
			hubs = append(hubs, m)
		}
		if strings.EqualFold(m.Name, q.For) || m.Device.String() == q.For || m.Device.Short() == q.For {
			named = append(named, m)
		}
	}
	switch {
	case q.For != "" && len(named) == 0:
		return nil, fmt.Errorf("no other box %q: 'healthpost region members' lists them", q.For)
	case q.For != "" && len(named) > 1:
		return nil, fmt.Errorf("more than one box is called %q: name it by its 12 digits in 'healthpost region members'", q.For)
	case q.For != "":
		return named, nil
	case len(all) == 0:
		return nil, errors.New("there is no other box in this region")
	case q.All || n.box.Role.Orders() || len(hubs) == 0:
		return all[:min(len(all), seal.ParcelReceiversMax)], nil
	}
	return hubs[:min(len(hubs), seal.ParcelReceiversMax)], nil
}

// WriteParcel writes what this box has for others to w, sealed to them. Nothing
// changes here.
func (n *Node) WriteParcel(ctx context.Context, w io.Writer, q ParcelRequest) (ParcelWritten, error) {
	region, ok := n.box.RegionID()
	if !ok {
		return ParcelWritten{}, ErrNoRegion
	}
	to, err := n.parcelReceivers(q)
	if err != nil {
		return ParcelWritten{}, err
	}
	o := peersync.ParcelOptions{Session: n.parcelSession(region), Signer: n.author.Key, AsOf: n.finalTime()}
	if age := n.o.Now().Unix() - o.AsOf; o.AsOf > 0 && age > 0 {
		o.Age = uint64(age)
	}
	if _, err := rand.Read(o.ID[:]); err != nil {
		return ParcelWritten{}, err
	}
	if o.Key, err = parcelKeyFor(to); err == nil {
		err = n.parcelRange(&o, to, q.Full)
	}
	if err == nil {
		o.Promises, err = n.parcelPromises(to)
	}
	if err != nil {
		return ParcelWritten{}, err
	}
	c, err := peersync.WriteParcel(ctx, w, replica{n.store, n, region}, o)
	out := ParcelWritten{For: []string{}, Records: c.Records, Entries: c.Entries, From: c.From, To: c.To, Bytes: c.Bytes, Twice: c.Twice, Attachments: c.Attachments}
	for _, m := range to {
		out.For = append(out.For, n.deviceName(m.Device))
	}
	return out, err
}

func parcelKeyFor(to []record.Member) (peersync.ParcelKey, error) {
	var keys []*ecdh.PublicKey
	for _, m := range to {
		pub, err := ecdh.X25519().NewPublicKey(m.Encryption[:])
		if err != nil {
			return nil, fmt.Errorf("reading the key of %s: %w", m.Name, err)
		}
		keys = append(keys, pub)
	}
	return seal.NewParcel(rand.Reader, keys)
}

// parcelRange says what the receivers lack: of the ledger, what comes after the
// smallest size that one of them said it holds; a hub takes entries from the other
// hubs alone. Pending records go in whole, whatever was acknowledged. A hub gives
// its own to hubs alone: others have no use for what it is about to order.
func (n *Node) parcelRange(o *peersync.ParcelOptions, to []record.Member, full bool) error {
	o.Pending = !n.box.Role.Orders()
	if len(to) == 1 {
		o.For = to[0].Device
	}
	for _, m := range to {
		if n.isHub(m.Device) {
			o.Pending = true
			continue
		}
		size, err := n.said(m.Device)
		if err != nil {
			return err
		}
		if full {
			size = 0
		}
		if known := m.SinceSeq + 1; !o.Entries {
			o.From, o.HubsAt = size, known
		} else {
			o.From, o.HubsAt = min(o.From, size), min(o.HubsAt, known)
		}
		o.Entries = true
	}
	return nil
}

// parcelPromises are a hub's own word for what it holds, or what this box has of
// hubs about records of the receivers.
func (n *Node) parcelPromises(to []record.Member) ([]record.Receipt, error) {
	if !n.box.Role.Orders() {
		n.promises.mu.Lock()
		defer n.promises.mu.Unlock()
		return n.openPromises(func(d record.DeviceID) bool {
			for _, m := range to {
				if m.Device == d {
					return true
				}
			}
			return false
		})
	}
	feeds, err := n.store.PendingFeeds()
	if err != nil {
		return nil, err
	}
	var out []record.Receipt
	var heads []record.ReceiptHead
	promise := func() {
		if r, ok := n.promise(heads); ok && len(heads) > 0 {
			out = append(out, r)
		}
		heads = nil
	}
	for _, f := range feeds {
		if f.Author == n.author.Device || f.HeldN == f.OrderedN {
			continue
		}
		at := record.Position{Epoch: f.Epoch, Lane: f.Lane, N: f.HeldN}
		rid, ok, err := n.store.HeldRID(at)
		if err != nil {
			return nil, err
		}
		if ok {
			heads = append(heads, record.ReceiptHead{Position: at, RID: rid})
		}
		if len(heads) == record.ReceiptHeadsMax {
			promise()
		}
	}
	promise()
	return out, nil
}

// parcelSession is how a session of this box would judge.
func (n *Node) parcelSession(region record.RegionID) peersync.Options {
	if up := n.up.Load(); up != nil {
		return up.links.sessionOptions(region)
	}
	return (&links{n: n}).sessionOptions(region)
}

// ReadParcel takes in a parcel, verified as what peers send. A damaged one gives
// what is whole. The report holds also when it fails half-way.
func (n *Node) ReadParcel(ctx context.Context, r io.Reader, progress func(bytes int64)) (ParcelRead, error) {
	region, ok := n.box.RegionID()
	if !ok {
		return ParcelRead{}, ErrNoRegion
	}
	rep, err := peersync.ReadParcel(ctx, r, replica{n.store, n, region}, n.parcelReading(region, progress))
	return n.parcelRead(rep), errors.Join(err, n.heardSize(ctx, rep))
}

// peekParcel says whose parcel it is; nothing is taken in.
func (n *Node) peekParcel(r io.Reader) (ParcelRead, error) {
	region, ok := n.box.RegionID()
	if !ok {
		return ParcelRead{}, ErrNoRegion
	}
	rep, err := peersync.PeekParcel(r, replica{n.store, n, region}, n.parcelReading(region, nil))
	return n.parcelRead(rep), err
}

func (n *Node) parcelReading(region record.RegionID, progress func(int64)) peersync.ParcelReadOptions {
	open := func(slots []byte) (peersync.ParcelKey, error) {
		key, err := seal.OpenParcel(n.keys.ExchangeKey(), slots)
		if err != nil {
			return nil, err
		}
		return key, nil
	}
	return peersync.ParcelReadOptions{Session: n.parcelSession(region), Open: open, Member: n.isMember, Progress: progress}
}

func (n *Node) parcelRead(rep peersync.ParcelReport) ParcelRead {
	out := ParcelRead{Age: int64(rep.Age), New: rep.New, Known: rep.Known, Refused: rep.Refused, Waiting: rep.Waiting, Entries: rep.Entries, Attachments: rep.Attachments,
		Damaged: rep.Damaged, Missing: rep.Missing, Complete: rep.Complete, Again: rep.Again}
	if rep.From != (record.DeviceID{}) {
		out.From = n.deviceName(rep.From)
	}
	if rep.AsOf > 0 {
		out.AsOf = time.Unix(rep.AsOf, 0).UTC()
	}
	return out
}

// heardSize keeps how much of the ledger the writer of a parcel has, which its
// signature vouches for.
func (n *Node) heardSize(ctx context.Context, rep peersync.ParcelReport) error {
	if rep.Head.Size == 0 || rep.Head.Size > n.store.Head().Size || !n.isMember(rep.From) {
		return nil
	}
	root, err := n.store.RootAt(rep.Head.Size)
	if errors.Is(err, store.ErrHole) {
		return nil // who holds a part cannot tell
	}
	if err != nil || root != rep.Head.Root {
		return err
	}
	return unlessFull(n.store.PutRows(ctx, []store.Row{saidRow(rep.From, rep.Head.Size)}))
}

const parcelReportTrailer = "X-Parcel-Report"

func (n *Node) parcelRoutes(table *routes) {
	table.handle("POST /parcel/read", n.streamed(func(ctx context.Context, r *http.Request, progress func(any)) (any, error) {
		return n.ReadParcel(ctx, r.Body, func(bytes int64) { progress(Progress{Done: uint64(bytes), Total: uint64(max(r.ContentLength, 0))}) })
	}))
	table.handle("POST /parcel/write", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		w.Header().Set("Trailer", exportErrorTrailer+", "+parcelReportTrailer)
		w.Header().Set("Content-Type", "application/octet-stream")
		rep, err := n.WriteParcel(r.Context(), w, ParcelRequest{For: q.Get("for"), All: q.Get("all") == "true", Full: q.Get("full") == "true"})
		if err != nil {
			w.Header().Set(exportErrorTrailer, strings.ReplaceAll(err.Error(), "\n", "; "))
			return
		}
		b, err := json.Marshal(rep)
		if err == nil {
			w.Header().Set(parcelReportTrailer, string(b))
		}
	})
}

// WriteParcel and ReadParcel do on the box what the methods of the same name on
// Node say; what w got is a parcel when WriteParcel returns nil.
func (c *Client) WriteParcel(ctx context.Context, w io.Writer, q ParcelRequest) (ParcelWritten, error) {
	var rep ParcelWritten
	v := url.Values{"for": {q.For}, "all": {strconv.FormatBool(q.All)}, "full": {strconv.FormatBool(q.Full)}}
	resp, err := c.do(ctx, http.MethodPost, "/parcel/write?"+v.Encode(), nil, 0)
	if err != nil {
		return rep, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return rep, fmt.Errorf("writing the parcel: %w", err)
	}
	if msg := resp.Trailer.Get(exportErrorTrailer); msg != "" {
		return rep, errors.New(msg)
	}
	if err := json.Unmarshal([]byte(resp.Trailer.Get(parcelReportTrailer)), &rep); err != nil {
		return rep, fmt.Errorf("writing the parcel: the box stopped half-way: %w", err)
	}
	return rep, nil
}

// ReadParcel gives the report of what was done also with an error.
func (c *Client) ReadParcel(ctx context.Context, r io.Reader, size int64, progress func(Progress)) (ParcelRead, error) {
	var rep ParcelRead
	err := c.stream(ctx, "/parcel/read", r, size, progress, &rep)
	return rep, err
}
