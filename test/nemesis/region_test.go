package nemesis_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/test/nemesis"
	"github.com/healthpost/healthpost/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// region is hubs and clinics, each a process in a network namespace of its own.
type region struct {
	*rig.Region
	lan *lan
}

// newRegion starts one. program, if any, is what every box runs.
func newRegion(t testing.TB, program string, hubs, clinics int) *region {
	t.Helper()
	if program == "" {
		program = rig.MustProgram(t) // before the first command's time begins
	}
	r := &region{&rig.Region{T: t}, newLAN(t, hubs+clinics)}
	for i := range hubs + clinics {
		name, role := fmt.Sprintf("Hub %d", i+1), "hub"
		if i >= hubs {
			name, role = fmt.Sprintf("Clinic %d", i-hubs+1), "clinic"
		}
		b := rig.NewBoxAt(t, r.lan.places[i], name, role, fmt.Sprintf("127.0.0.1:%d", pagePort), r.lan.listen(i))
		b.Program = program
		if role == "hub" {
			r.Hubs = append(r.Hubs, b)
		} else {
			r.Clinics = append(r.Clinics, b)
		}
	}
	r.Hubs[0].Must("region", "create", "Region under attack")
	r.Hubs[0].Start()
	for _, b := range r.Boxes()[1:] {
		r.admit(b)
	}
	r.Eventually(rig.ConvergeMax, "every hub to vote", func() string {
		s, why := r.Hubs[0].TryStatus()
		if why == "" && s.Voters != hubs {
			why = s.Ordering
		}
		return why
	})
	r.WaitSame(r.Boxes()...)
	return r
}

func (r *region) admit(b *rig.Box) {
	r.T.Helper()
	var inv node.Invited
	check(r.T, "reading the invitation", json.Unmarshal([]byte(r.Hubs[0].Must("region", "invite", "--role", b.Role, "--json")), &inv))
	joined := make(chan rig.Result, 1)
	go func() { joined <- b.Command("", "join", inv.Text) }()
	if i := slices.Index(r.Hubs, b); i > 0 {
		r.Approve(b, r.Hubs[1:record.Needed(i)]...)
	}
	if j := <-joined; j.Code != 0 {
		r.T.Fatalf("%s: joining: exit code %d\n%s%s", b.Name, j.Code, j.Out, j.Err)
	}
	if b.Role != "hub" {
		var dial []string
		for _, h := range r.Hubs {
			dial = append(dial, h.Address())
		}
		b.Configure(dial)
	}
	b.Start()
}

// leader is the number of the hub that says it leads, -1 while none does.
func (r *region) leader() int {
	return slices.IndexFunc(r.Hubs, func(h *rig.Box) bool {
		if !h.Running() {
			return false
		}
		s, why := h.TryStatus()
		return why == "" && strings.HasPrefix(s.Ordering, "leader")
	})
}

// replicas stops every box and reads what is on its disk.
func (r *region) replicas() (out []nemesis.Replica) {
	r.T.Helper()
	r.Each(r.Boxes(), func(b *rig.Box) { b.Stop() })
	for _, b := range r.Boxes() {
		out = append(out, r.replica(b))
	}
	return out
}

func (r *region) replica(b *rig.Box) nemesis.Replica {
	o := store.NewOptions()
	o.BallastBytes = 0
	st, err := store.Open(filepath.Join(b.Dir, "db"), o)
	check(r.T, "opening the replica", err)
	defer st.Close()
	head := st.Head()
	x := nemesis.Replica{Box: b.Name, Size: head.Size, Root: fmt.Sprintf("%x", head.Root)}
	for at := uint64(0); at < head.Size; {
		entries, err := st.Entries(at, head.Size, 1<<20)
		check(r.T, "reading the ledger", err)
		if len(entries) == 0 {
			r.T.Fatalf("%s: no entry %d of %d", b.Name, at, head.Size)
		}
		for _, e := range entries {
			pos := e.Record.Position()
			x.Entries = append(x.Entries, nemesis.Placed{Seq: e.Seq, Record: named(e.Record.RID()), Feed: fmt.Sprintf("%x/%d", pos.Epoch[:4], pos.Lane), N: pos.N})
		}
		at += uint64(len(entries))
	}
	return x
}

// named is how histories name a record.
func named(r record.RID) uint64 { return binary.BigEndian.Uint64(r[:8]) }

func namedText(t testing.TB, text string) uint64 {
	t.Helper()
	r, err := record.ParseRID(text)
	check(t, "reading a record id", err)
	return named(r)
}

var badges = regexp.MustCompile(`class="badge (\w+)" data-rid="([0-9a-f]+)"`)

// seen reads the badges of a page.
func seen(t testing.TB, body string) (list []nemesis.Seen) {
	for _, m := range badges.FindAllStringSubmatch(body, -1) {
		list = append(list, nemesis.Seen{Record: namedText(t, m[2]), Confirmed: m[1] == "confirmed"})
	}
	return list
}

// head takes down where a box is.
func head(h *nemesis.History, client int, b *rig.Box) (s node.Status, ok bool) {
	op := h.Begin(nemesis.Op{Client: client, Box: b.Name, Kind: nemesis.Head})
	s, why := b.TryStatus()
	if why != "" {
		return s, false
	}
	op.Size, op.Root, op.Confirmed = s.Size, s.Root, s.Confirmed
	h.End(op)
	return s, true
}

// poll is how often something that tells nobody is looked at.
const poll = 100 * time.Millisecond
