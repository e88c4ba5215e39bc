package node_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

// withEscrow has the hub vote for an escrow and waits until the clinics know it.
func withEscrow(hub *clinic, others ...*clinic) {
	hub.t.Helper()
	public, _ := escrowFor(hub.t, hub, 2, 3)
	if v, err := hub.n.SetEscrow(hub.t.Context(), public); err != nil || !v.Passed {
		hub.t.Fatalf("the vote: %+v, %v", v, err)
	}
	for _, c := range others {
		c.until("the escrow", func(node.Status) bool { return c.n.EscrowKeyID() == public.ID })
	}
}

// robs waits until a box holds as many visits of a chart as are wanted, and tells which of them somebody
// with a root shell there reads: "x" for one that opens, "-" for one that does not.
func (c *clinic) robs(patient, want string) {
	c.t.Helper()
	got := ""
	c.until(fmt.Sprint("visits of the chart: ", want), func(node.Status) bool {
		gens, err := c.n.Generations(patient, record.KindClinical)
		return err == nil && len(gens) == len(want)
	})
	opens, err := c.n.Robs(c.n, patient)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, o := range opens {
		got += map[bool]string{true: "x", false: "-"}[o]
	}
	if got != want {
		c.t.Errorf("a thief at %s opens %s, want %s", c.name(), got, want)
	}
}

// readsAll waits until a box shows so many visits, none of them closed.
func (c *clinic) readsAll(patient string, visits int) {
	c.t.Helper()
	c.until(fmt.Sprint(visits, " visits that open"), func(node.Status) bool {
		v, err := c.n.Open(c.t.Context(), c.token, patient)
		return err == nil && !v.Limited && len(v.Chart.Visits) == visits && v.Chart.Closed.Records == 0 && !v.Chart.Incomplete
	})
}

// together waits until boxes have the same ledger, and nothing waits.
func together(boxes ...*clinic) {
	boxes[0].t.Helper()
	for _, c := range boxes {
		c.confirmed()
	}
	size := uint64(0)
	for _, c := range boxes {
		size = max(size, c.size())
	}
	for _, c := range boxes {
		c.until("the others' records", func(s node.Status) bool { return s.Confirmed >= size && s.Pending == 0 })
	}
}

func (c *clinic) grant(patient string) string {
	c.t.Helper()
	page, err := c.n.Consents(c.t.Context(), c.token, patient)
	if err != nil || len(page.Grants) == 0 {
		c.t.Fatalf("permissions: %+v, %v", page, err)
	}
	return page.Grants[0].ID
}

// TestLimitHoldsAgainstARootShell is a hub and three clinics, at two of which somebody reads all that
// the box has.
func TestLimitHoldsAgainstARootShell(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	a, b, c := newMember(t, hub, "Kibuye"), newMember(t, hub, "Soroti"), newMember(t, hub, "Moroto")
	together(hub, a, b, c)
	patient := a.register("first", "Nakato")
	a.visited(patient, "open", "fever")
	a.decides(patient, "limit", web.Decision{Do: web.DoLimit})
	a.visited(patient, "no-escrow", "cough") // nothing is closed that a fire could close for good
	withEscrow(hub, a, b, c)
	a.visited(patient, "closed", "fever")
	for _, box := range []*clinic{b, c, hub} {
		box.robs(patient, "xx-")
	}
	a.readsAll(patient, 3)
	permissionEnds(t, a, b, c, patient)
	nobodyOpensItself(t, a, b, c, patient)
	a.decides(patient, "open-again", web.Decision{Do: web.DoOpen})
	for _, box := range []*clinic{b, c} {
		box.readsAll(patient, 7)
	}
	rotateAtOnce(t, a, b, c)
	revokedBox(t, hub, a, b, c)
}

// permissionEnds: with it all is read, what came before too; when it was recalled, nothing that comes after.
func permissionEnds(t *testing.T, a, b, c *clinic, patient string) {
	a.decides(patient, "grant", web.Decision{Do: web.DoGrant, To: b.device(), Days: 7})
	b.readsAll(patient, 3)
	gens := func() []uint64 { g, _ := a.n.Generations(patient, record.KindClinical); return g }
	a.visited(patient, "fourth", "fever")
	if g := gens(); len(g) != 4 || g[3] != g[2] {
		t.Errorf("a permission alone makes a new key: %x", g)
	}
	b.stop()
	b.start()
	b.signIn()
	b.visited(patient, "fifth", "fever")
	a.readsAll(patient, 5)
	together(a, b)
	a.decides(patient, "end", web.Decision{Do: web.DoEnd, ID: a.grant(patient)})
	a.visited(patient, "sixth", "cough")
	b.robs(patient, "xxxxx-")
	c.robs(patient, "xx----")
	a.stop()
	a.start()
	a.signIn()
	a.readsAll(patient, 6)
	if v := b.open(patient); !v.Limited || v.Chart.Closed.Records != 1 || v.Chart.Closed.Since.IsZero() || !slices.Equal(v.Chart.Closed.Homes, []string{"Kibuye"}) {
		t.Errorf("where it ended: %+v", v.Chart.Closed)
	}
	second := b.signedInAs(t, "Second Person", "registrar")
	b.mustBreak(b.token, patient, "glass", second)
	if e, err := b.n.Emergency(t.Context(), b.token, patient); err != nil || e.Until.IsZero() || e.Summary.Closed.Records != 1 || !slices.Equal(e.Summary.Closed.Homes, []string{"Kibuye"}) {
		t.Errorf("the summary where it ended: %+v, %v", e.Summary.Closed, err)
	}
}

// nobodyOpensItself: decisions, generations and wraps that a root shell writes hand it nothing.
func nobodyOpensItself(t *testing.T, a, b, c *clinic, patient string) {
	for _, q := range []web.Decision{{Do: web.DoGrant, To: b.device()}, {Do: web.DoLimit}, {Do: web.DoOpen}} {
		if err := b.n.DecideUnasked(t.Context(), patient, q); err != nil {
			t.Fatal(err)
		}
	}
	gens, err := a.n.Generations(patient, record.KindClinical)
	if err != nil {
		t.Fatal(err)
	}
	planted, err := seal.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	lie, err := b.n.WrapsTo(patient, gens[5], planted, "Kibuye") // another key under a number that is known
	if err != nil {
		t.Fatal(err)
	}
	trap, err := b.n.WrapsTo(patient, seal.ClosedGeneration(1<<63, planted), planted, "Kibuye") // a newest one that a thief has
	if err == nil {
		err = b.n.Plant(t.Context(), patient, append(lie, trap...)...)
	}
	if err != nil {
		t.Fatal(err)
	}
	together(a, b)
	a.stop()
	a.start()
	a.signIn()
	a.visited(patient, "seventh", "fever")
	b.robs(patient, "xxxxx--")
	a.readsAll(patient, 7)
	keptFromWhomItIsFor(t, a, b, c, patient)
}

// keptFromWhomItIsFor: who has no key cannot have others believe that somebody was handed it.
func keptFromWhomItIsFor(t *testing.T, a, b, c *clinic, patient string) {
	gens, err := a.n.Generations(patient, record.KindClinical)
	if err != nil {
		t.Fatal(err)
	}
	nonsense, err := seal.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	lie, err := b.n.WrapsTo(patient, gens[6], nonsense, "Moroto")
	if err == nil {
		err = b.n.Plant(t.Context(), patient, lie...)
	}
	if err != nil {
		t.Fatal(err)
	}
	together(a, b)
	a.decides(patient, "grant-third", web.Decision{Do: web.DoGrant, To: c.device(), Days: 7})
	c.readsAll(patient, 7)
}

// rotateAtOnce: two boxes that may read make a key each while they do not hear of one another.
func rotateAtOnce(t *testing.T, a, b, c *clinic) {
	patient := a.register("at-once", "Babirye")
	a.decides(patient, "once-limit", web.Decision{Do: web.DoLimit})
	a.decides(patient, "once-grant", web.Decision{Do: web.DoGrant, To: b.device(), Days: 7})
	together(a, b)
	for _, box := range []*clinic{a, b} {
		if err := box.n.SetLink(false); err != nil {
			t.Fatal(err)
		}
	}
	a.visited(patient, "once-a", "fever")
	a.decides(patient, "once-third", web.Decision{Do: web.DoGrant, To: c.device()}) // of b's key nobody here knows
	b.visited(patient, "once-b", "cough")
	for _, box := range []*clinic{b, a} {
		if err := box.n.SetLink(true); err != nil {
			t.Fatal(err)
		}
	}
	together(a, b)
	gens, err := a.n.Generations(patient, record.KindClinical)
	if err != nil || len(gens) != 2 || gens[0] == gens[1] {
		t.Fatalf("generations: %x, %v", gens, err)
	}
	for _, box := range []*clinic{a, b} {
		box.readsAll(patient, 2)
	}
	c.readsAll(patient, 2) // who made the other key hands it over
}

// revokedBox: a box that is no member any more gets no new key, although its permission has no end.
func revokedBox(t *testing.T, hub, a, b, c *clinic) {
	patient := a.register("revoked", "Akello")
	a.decides(patient, "revoked-limit", web.Decision{Do: web.DoLimit})
	a.decides(patient, "revoked-grant", web.Decision{Do: web.DoGrant, To: c.device()})
	a.visited(patient, "before", "fever")
	c.readsAll(patient, 1)
	if _, err := hub.n.Revoke(t.Context(), "Moroto", "stolen"); err != nil {
		t.Fatal(err)
	}
	a.until("the revocation", func(node.Status) bool {
		members, err := a.n.Members()
		return err == nil && slices.ContainsFunc(members, func(m node.MemberInfo) bool { return m.Name == "Moroto" && m.Revoked })
	})
	a.visited(patient, "after", "cough")
	opens, err := c.n.Robs(a.n, patient) // the thief has a copy of the other disk, too
	if err != nil || !slices.Equal(opens, []bool{true, false}) {
		t.Errorf("with the keys of the revoked box: %v, %v", opens, err)
	}
	permissionRunsOut(t, a, b, patient)
}

// permissionRunsOut: eight days later a permission of seven hands out nothing.
func permissionRunsOut(t *testing.T, a, b *clinic, patient string) {
	a.decides(patient, "week", web.Decision{Do: web.DoGrant, To: b.device(), Days: 7})
	b.readsAll(patient, 2)
	a.stop()
	a.o.Now = func() time.Time { return time.Now().Add(8 * 24 * time.Hour) }
	a.start()
	a.signIn()
	a.visited(patient, "late", "fever")
	b.robs(patient, "xx-")
	a.readsAll(patient, 3)
}
