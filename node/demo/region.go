package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/healthpost/healthpost/fhir/sample"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

// Options say what to run. NewOptions has the defaults.
type Options struct {
	Program  string // this program, to run the boxes with
	Dir      string // kept between starts
	Hubs     int
	Clinics  int
	Fields   int
	Patients int // sample patients at each clinic
	Seed     uint64
	Console  string // host:port of the console page
	Out      io.Writer
}

// NewOptions gives three hubs, two clinics, one field device.
func NewOptions(program, dir string) Options {
	return Options{Program: program, Dir: dir, Hubs: 3, Clinics: 2, Fields: 1, Patients: 12, Seed: 1, Console: "localhost:8080", Out: io.Discard}
}

// The people who can sign in on every clinic of the demo.
const (
	staffName = "Amina Okello"
	staffPIN  = "314159"
)

// plan is demo.toml: what a second start needs to find the same boxes.
type plan struct {
	Seed  uint64     `toml:"seed"`
	Ready bool       `toml:"ready"` // everything was made
	Boxes []boxPlan  `toml:"box"`
	Links []linkPlan `toml:"link"`
}

type boxPlan struct {
	Name string      `toml:"name"`
	Dir  string      `toml:"dir"`
	Role record.Role `toml:"role"`
	Page string      `toml:"page"`
	Peer string      `toml:"peer"`
}

// linkPlan is one forwarder: from a box to another.
type linkPlan struct {
	From   string `toml:"from"`
	To     string `toml:"to"`
	Listen string `toml:"listen"`
}

// Region is a running demo.
type Region struct {
	o     Options
	plan  plan
	boxes []*box
}

// Start makes the boxes, or finds those of an earlier start, and runs them.
// Close stops them.
func Start(ctx context.Context, o Options) (*Region, error) {
	r := &Region{o: o}
	if err := r.load(); err != nil {
		return nil, err
	}
	for _, p := range r.plan.Boxes {
		r.boxes = append(r.boxes, &box{program: o.Program, dir: filepath.Join(o.Dir, p.Dir), name: p.Name, role: p.Role, page: p.Page, peer: p.Peer, linked: true})
	}
	if err := r.openLinks(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	build := r.build
	if r.plan.Ready {
		build = r.startAll
	}
	if err := build(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Region) load() error {
	path := filepath.Join(r.o.Dir, "demo.toml")
	_, err := toml.DecodeFile(path, &r.plan)
	if err == nil && r.plan.Ready {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if err == nil { // cut short while it was being made: nothing in it is anybody's
		for _, b := range r.plan.Boxes {
			if err := os.RemoveAll(filepath.Join(r.o.Dir, filepath.Base(b.Dir))); err != nil {
				return err
			}
		}
	}
	if r.plan, err = newPlan(r.o); err != nil {
		return err
	}
	if err := os.MkdirAll(r.o.Dir, 0o700); err != nil {
		return err
	}
	return r.save()
}

func (r *Region) save() error {
	raw, err := toml.Marshal(r.plan)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.o.Dir, "demo.toml"), raw, 0o600)
}

func newPlan(o Options) (plan, error) {
	p := plan{Seed: o.Seed}
	ports := freePorts{}
	add := func(role record.Role, label string, count int) {
		for i := 1; i <= count; i++ {
			p.Boxes = append(p.Boxes, boxPlan{Name: fmt.Sprintf("%s %d", label, i), Dir: fmt.Sprintf("%s-%d", role, i), Role: role, Page: ports.next(), Peer: ports.next()})
		}
	}
	add(record.RoleHub, "Hub", o.Hubs)
	add(record.RoleClinic, "Clinic", o.Clinics)
	add(record.RoleField, "Field device", o.Fields)
	for i, from := range p.Boxes {
		if from.Role == record.RoleHub {
			continue
		}
		for j, to := range p.Boxes {
			towardsHub := to.Role == record.RoleHub && from.Role == record.RoleClinic
			neighbours := from.Role == record.RoleClinic && to.Role == record.RoleClinic && j > i
			home := from.Role == record.RoleField && to.Role == record.RoleClinic
			if towardsHub || neighbours || home {
				p.Links = append(p.Links, linkPlan{From: from.Name, To: to.Name, Listen: ports.next()})
			}
		}
	}
	return p, ports.close()
}

// freePorts holds its ports open until all are chosen, so that no two are the same.
type freePorts struct {
	held []net.Listener
	err  error
}

func (f *freePorts) next() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.err = errors.Join(f.err, err)
		return ""
	}
	f.held = append(f.held, l)
	return l.Addr().String()
}

func (f *freePorts) close() error {
	for _, l := range f.held {
		f.err = errors.Join(f.err, l.Close())
	}
	return f.err
}

func (r *Region) box(name string) *box {
	for _, b := range r.boxes {
		if b.name == name {
			return b
		}
	}
	return nil
}

// openLinks starts the forwarders. A cut takes every link that ends at the box.
func (r *Region) openLinks() error {
	for _, l := range r.plan.Links {
		from, to := r.box(l.From), r.box(l.To)
		if from == nil || to == nil {
			return fmt.Errorf("demo.toml names a box that is not there: remove %s and start again", r.o.Dir)
		}
		f, err := newForwarder(l.Listen, to.peer)
		if err != nil {
			return fmt.Errorf("linking %s with %s: %w", l.From, l.To, err)
		}
		from.links = append(from.links, f)
		if to.role != record.RoleHub {
			to.links = append(to.links, f)
		}
	}
	return nil
}

func (r *Region) say(format string, args ...any) { fmt.Fprintf(r.o.Out, format+"\n", args...) }

// build makes the region: the first hub founds it, everybody else is invited.
func (r *Region) build(ctx context.Context) error {
	first := r.boxes[0]
	r.say("Making %d boxes in %s ...", len(r.boxes), r.o.Dir)
	for _, b := range r.boxes {
		if _, err := b.command(ctx, "", "init", "--role", string(b.role), "--name", b.name); err != nil {
			return err
		}
		if err := b.writeConfig(nil, r.others(b)); err != nil {
			return err
		}
	}
	if _, err := first.command(ctx, "", "region", "create", "Demo region"); err != nil {
		return err
	}
	if err := first.start(ctx); err != nil {
		return err
	}
	for _, b := range r.boxes[1:] {
		if err := r.admit(ctx, first, b); err != nil {
			return err
		}
	}
	if err := r.waitHubs(ctx); err != nil {
		return err
	}
	if err := r.fill(ctx); err != nil {
		return err
	}
	r.plan.Ready = true
	return r.save()
}

func (r *Region) admit(ctx context.Context, first, b *box) error {
	out, err := first.command(ctx, "", "region", "invite", "--role", string(b.role), "--json")
	if err != nil {
		return err
	}
	var inv node.Invited
	if err := json.Unmarshal([]byte(out), &inv); err != nil {
		return err
	}
	if err := r.join(ctx, b, inv.Text); err != nil {
		return err
	}
	r.say("  %s joined", b.name)
	if b.role != record.RoleHub {
		dial, err := r.dialAddresses(b)
		if err != nil {
			return err
		}
		if err := b.writeConfig(dial, r.others(b)); err != nil {
			return err
		}
	}
	return b.start(ctx)
}

// join lets a box in. One that is to be a hub takes the word of more than half of
// the hubs: the one that invited it gave its own, here come those of the others.
func (r *Region) join(ctx context.Context, b *box, invitation string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*startMax)
	defer cancel()
	joined := make(chan error, 1)
	go func() {
		_, err := b.command(ctx, "", "join", invitation)
		joined <- err
	}()
	err := r.approve(ctx, b)
	if err != nil {
		cancel()
	}
	return errors.Join(err, <-joined)
}

func (r *Region) approve(ctx context.Context, b *box) error {
	at := slices.Index(r.boxes, b)
	if b.role != record.RoleHub || at < 1 {
		return nil
	}
	for _, h := range r.boxes[1:record.Needed(at)] { // hubs come first in the list
		for {
			_, err := h.command(ctx, "", "region", "hubs", "approve", b.name)
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(pollEvery):
			}
		}
	}
	return nil
}

// others are the names of all boxes but one.
func (r *Region) others(b *box) []string {
	out := []string{}
	for _, x := range r.boxes {
		if x != b {
			out = append(out, x.name)
		}
	}
	return out
}

// dialAddresses are the forwarders of a box, with the identity behind each.
func (r *Region) dialAddresses(b *box) ([]string, error) {
	var out []string
	for _, l := range r.plan.Links {
		if l.From != b.name {
			continue
		}
		id, err := node.PeerIDOf(r.box(l.To).dir)
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("/ip4/127.0.0.1/tcp/%s/p2p/%s", port(l.Listen), id))
	}
	return out, nil
}

func (r *Region) startAll(ctx context.Context) error {
	for _, b := range r.boxes {
		if err := b.start(ctx); err != nil {
			return err
		}
		r.say("  %s started", b.name)
	}
	return nil
}

// waitHubs waits until every hub votes: only then does losing one cost nothing.
func (r *Region) waitHubs(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*startMax)
	defer cancel()
	for {
		s, err := r.boxes[0].status(ctx)
		if err != nil {
			return err
		}
		if s.Voters >= r.o.Hubs {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d hubs to vote, %d do: %w", r.o.Hubs, s.Voters, ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

const pollEvery = 300 * time.Millisecond

// fill gives each clinic its staff and its sample patients.
func (r *Region) fill(ctx context.Context) error {
	offset := 0
	for _, b := range r.boxes {
		if b.role == record.RoleHub {
			continue
		}
		if err := r.waitDirectory(ctx, b); err != nil {
			return err
		}
		if _, err := b.command(ctx, staffPIN+"\n", "staff", "add", staffName); err != nil {
			return err
		}
		if b.role != record.RoleClinic || r.o.Patients == 0 {
			continue
		}
		if err := r.importSamples(ctx, b, offset); err != nil {
			return err
		}
		offset += r.o.Patients
		r.say("  %s has %d sample patients", b.name, r.o.Patients)
	}
	return nil
}

// waitDirectory waits until a box has taken in the start of the ledger.
func (r *Region) waitDirectory(ctx context.Context, b *box) error {
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	for {
		s, err := b.status(ctx)
		if err != nil {
			return err
		}
		if s.Size >= 3 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not hear from a hub: %w", b.name, ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

func (r *Region) importSamples(ctx context.Context, b *box, offset int) error {
	dir, err := os.MkdirTemp(r.o.Dir, "samples-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i := range r.o.Patients {
		raw, err := sample.Bundle(r.plan.Seed, offset+i)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("sample-%03d.json", i)), raw, 0o600); err != nil {
			return err
		}
	}
	_, err = b.command(ctx, "", "import", dir)
	return err
}

// Close stops every box and waits for it.
func (r *Region) Close() error {
	var err error
	for i := len(r.boxes) - 1; i >= 0; i-- {
		err = errors.Join(err, r.boxes[i].stop())
	}
	return err
}
