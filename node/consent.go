package node

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// Patients decide who reads. Their directives are records of their compartments; what
// they come to for this box is a row, made when a record of the compartment arrives:
//
//	may/ compartment     sealed: standing; one zero where nothing is limited
//	top/ compartment     sealed: apart; what is decided about topics, where there is something (topics.go)

// ruleLimited is the rule by which patients close their charts.
const ruleLimited = "limited"

// standing is what a patient's directives come to for this box.
type standing struct {
	_       struct{} `cbor:",toarray"`
	Limited bool
	Home    bool   // registered here, or a limit that holds was written here
	Grant   string // id of the grant to this box that runs longest, or ""
	Until   int64  // of the grant, Unix seconds; 0 for no end
}

var openToAll = []byte{0}

// closed reports whether the chart is not to leave this box. Who is asked by the rules is
// decided by them; this is for commands, which ask nobody.
func (s *standing) closed(now time.Time) bool {
	return s.Limited && !s.Home && (s.Grant == "" || s.Until != 0 && now.Unix() >= s.Until)
}

func standingKey(c record.CompartmentID) []byte { return append([]byte("may/"), c[:]...) }

// directives are what is read of a compartment to know who may open it.
type directives struct {
	all    []chart.Decided
	places []stand // of all
	unread bool    // there are some that cannot be read here
	homes  []record.DeviceID
	first  stand // of the record that registered somebody here first
	used   map[chart.DirectiveID]recovered
}

func (d *directives) consent() chart.Consent { return chart.FoldConsent(d.all, d.unread) }

// standingOf is what they come to for a box.
func (d *directives) standingOf(box record.DeviceID) standing {
	c := d.consent()
	if !c.Limited() {
		return standing{}
	}
	s := standing{Limited: true, Home: slices.Contains(d.homes, box) || c.SetHere(box)}
	if g, ok := c.GrantFor(box, policy.Treatment); ok {
		s.Grant, s.Until = grantID(g.ID), g.Until
	}
	return s
}

// grantID is the id as people and rules read it.
func grantID(id chart.DirectiveID) string { return hex.EncodeToString(id[:]) }

// standing is what the patient's directives come to here, with every record that arrived.
// Where no row is, or rows do not follow for want of room, the records are read.
func (n *Node) standing(c record.CompartmentID) (standing, error) {
	behind := n.projectNow()
	if behind != nil && !errors.Is(behind, store.ErrFull) {
		return standing{}, behind
	}
	var s standing
	if behind == nil {
		raw, err := n.store.GetRow(standingKey(c))
		if bytes.Equal(raw, openToAll) {
			return s, nil
		}
		if err == nil {
			_, err = n.readRow(standingKey(c), &s)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return s, err
		}
	}
	d, err := n.directives(c)
	if err != nil {
		return s, err
	}
	return d.standingOf(n.author.Device), nil
}

// standing keeps the rows. Most charts have no directives, and nothing that is kept apart.
func (p *projection) standing(c record.CompartmentID, some, topics bool) error {
	var d directives
	var err error
	if some {
		if d, err = p.n.directives(c); err != nil {
			return err
		}
	} else if topics {
		if d.homes, err = p.n.registrations(c); err != nil {
			return err
		}
	}
	if some || topics {
		if err := p.apart(c, &d); err != nil {
			return err
		}
	}
	s := d.standingOf(p.n.author.Device)
	if s == (standing{}) {
		if raw, err := p.n.store.GetRow(standingKey(c)); err != nil || !bytes.Equal(raw, openToAll) {
			p.put(store.Row{Key: standingKey(c), Value: openToAll})
		}
		return nil
	}
	plain, err := record.Marshal(s)
	if err != nil {
		return err
	}
	return p.putChanged(standingKey(c), plain)
}

// directives reads them. Boxes where the person was registered are looked for only where
// there are any.
func (n *Node) directives(c record.CompartmentID) (d directives, err error) {
	recs, err := n.store.Compartment(c)
	if err != nil {
		return d, err
	}
	if !slices.ContainsFunc(recs, func(x store.Placed) bool { return x.Record.Core.Kind == record.KindConsent }) {
		return d, nil
	}
	lost := map[record.RID]bool{}
	all, err := n.withRefused(c, recs)
	if err != nil {
		return d, err
	}
	for _, x := range all[min(len(recs), len(all)):] {
		lost[x.Record.RID()] = true
	}
	if all, err = n.oneOfEach(all); err != nil {
		return d, err
	}
	for _, x := range all {
		switch x.Record.Core.Kind {
		case record.KindConsent:
			err = d.add(n, x, lost[x.Record.RID()])
		case record.KindRegistration:
			err = errors.Join(d.registered(n, x), d.founded(n, x))
		}
		if err != nil {
			return d, err
		}
	}
	return d, d.recoveries(n, c)
}

// unreadable reports whether an error says that a body cannot be read on this box now.
func unreadable(err error) bool {
	return errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrNewer) || errors.Is(err, seal.ErrDamaged) || errors.Is(err, chart.ErrBody)
}

// add reads one directive. One that cannot be read makes the chart stay closed.
func (d *directives) add(n *Node, x store.Placed, refused bool) error {
	if x.Record.Body == nil {
		d.unread = true
		return nil
	}
	plain, staff, by, err := n.openCosigned(&x)
	if err == nil {
		var one chart.Directive
		if one, err = chart.DecodeDirective(plain); err == nil {
			r, rid := asFirst(x.Record)
			d.all = append(d.all, chart.Decided{Directive: one, RID: rid, By: by, Refused: refused, At: timeOfHLC(r.Core.HLC), Author: n.signerName(&r, staff), Signed: staff != nil})
			d.places = append(d.places, standOf(&x, by, n.grantTime()))
			return nil
		}
	}
	if unreadable(err) {
		d.unread = true
		return nil
	}
	return err
}

// registered adds the box where somebody was registered: whose record says for the first
// time who this is. An amendment names what it amends.
func (d *directives) registered(n *Node, x store.Placed) error {
	o, err := n.openRecord(x, nil)
	if x.Record.Body == nil || unreadable(err) {
		return nil
	}
	if err != nil {
		return err
	}
	first := slices.ContainsFunc(o.Body.Items, func(i chart.Item) bool { return i.Type == "Patient" && i.Op == chart.OpPut && len(i.Base) == 0 })
	box, ok, err := n.store.EpochAuthor(x.Record.Position().Epoch)
	if first && ok && err == nil && !slices.Contains(d.homes, box) {
		d.homes = append(d.homes, box)
	}
	return err
}

// latestTime is the latest time by which a grant was looked at in this process.
type latestTime struct{ unix atomic.Int64 }

// grantTime is the time by which grants end: the newest that this box knows. A clock that
// is set back opens nothing; one that was years ahead once does not close charts for
// these years.
func (n *Node) grantTime() time.Time {
	at := n.o.Now()
	if signed := time.Unix(n.signedTime(), 0); signed.After(at) {
		at = signed
	}
	base := at
	for _, seen := range []time.Time{timeOfHLC(n.store.Clock()), time.Unix(n.latest.unix.Load(), 0)} {
		if seen.After(at) && seen.Sub(base) <= ownClockMax {
			at = seen
		}
	}
	for unix := at.Unix(); ; { // somebody else may keep a time between reading the last one and writing this
		last := n.latest.unix.Load()
		if unix <= last || n.latest.unix.CompareAndSwap(last, unix) {
			return at
		}
	}
}

// signedTime is finalTime, for the many who ask: each note is read once.
func (n *Node) signedTime() int64 {
	note, _, ok := n.store.Final()
	if !ok {
		return 0
	}
	if s := n.signedOf.Load(); s != nil && bytes.Equal(s.note, note) {
		return s.at
	}
	at := n.finalTime()
	n.signedOf.Store(&signedNote{note, at})
	return at
}

// signedNote is when a final checkpoint was signed.
type signedNote struct {
	note []byte
	at   int64
}

// decidedOf says what the patient decided, in the words of a decision about it.
func (n *Node) decidedOf(c record.CompartmentID, v policy.Verdict) (*web.Decided, error) {
	d, err := n.directives(c)
	if err != nil {
		return nil, err
	}
	con := d.consent()
	out := &web.Decided{Rules: strings.Join(v.Rules, ", "), Homes: n.homesOf(&d, &con)}
	g, ok := con.GrantFor(n.author.Device, policy.Treatment)
	if ok {
		out.Grant = grantID(g.ID)
		if g.Until > 0 {
			out.Until = time.Unix(g.Until, 0)
		}
	}
	if strings.HasPrefix(v.Grant.ID, cardGrantWord) {
		out.Grant, out.Until, out.ByCard = v.Grant.ID, time.Unix(v.Grant.Until, 0), true
		return out, nil
	}
	if !v.Allowed {
		if len(con.Limits) == 0 {
			return out, nil
		}
		g = slices.MinFunc(con.Limits, func(a, b chart.Decided) int { return cmp.Or(a.At.Compare(b.At), slices.Compare(a.ID[:], b.ID[:])) })
	}
	out.At, out.By = g.At, g.Author
	return out, nil
}

// homesOf names the boxes that may open the chart in any case.
func (n *Node) homesOf(d *directives, c *chart.Consent) []string {
	boxes := slices.Clone(d.homes)
	for _, l := range c.Limits {
		if !slices.Contains(boxes, l.By) {
			boxes = append(boxes, l.By)
		}
	}
	var names []string
	for _, b := range boxes {
		names = append(names, n.deviceName(b))
	}
	slices.Sort(names)
	return names
}
