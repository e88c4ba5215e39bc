package node_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

// newField makes a worker's device that joined at hub, runs it and adds its worker.
func newField(t *testing.T, hub *clinic, name string) *clinic {
	t.Helper()
	c := newBox(t, record.RoleField, name)
	if _, err := node.Join(t.Context(), c.o, hub.invite(record.RoleField), nil); err != nil {
		t.Fatal(err)
	}
	c.start()
	c.until("the ledger's start", func(s node.Status) bool { return s.Confirmed >= 3 })
	if err := c.n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Esther Field", PIN: pin}); err != nil {
		t.Fatal(err)
	}
	c.signIn()
	return c
}

func (c *clinic) visited(patient, form, problem string) web.Saved {
	c.t.Helper()
	s, err := c.n.SaveVisit(c.t.Context(), c.token, patient, form, fhir.Visit{At: c.o.Now(), Problem: problem})
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *clinic) visits(patient string) int {
	v, err := c.n.Open(c.t.Context(), c.token, patient)
	if err != nil {
		return -1
	}
	return len(v.Chart.Visits)
}

// A field device opens whom it registered and whom it was given, and the region opens
// what it wrote; everything else it only carries.
func TestFieldDeviceOpensItsCaseload(t *testing.T) {
	hub := newHub(t)
	post := newMember(t, hub, "Post")
	device := newField(t, hub, "Tablet")
	given, other := post.register("form-1", "Nakato"), post.register("form-2", "Babirye")
	post.visited(given, "form-3", "fever")
	post.visited(other, "form-4", "cough")
	post.confirmed()
	size := func() uint64 { s, _ := post.n.Status(t.Context()); return s.Size }()
	device.until("the clinic's records", func(s node.Status) bool { return s.Confirmed >= size })
	if got := device.find("testova"); len(got) != 0 {
		t.Errorf("before anything was given: finds %d people, want none", len(got))
	}
	members, err := hub.n.Members()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(members, func(m node.MemberInfo) bool { return m.Name == "Tablet" })
	if err := post.n.GiveTo(t.Context(), post.token, given, members[at].Device, true); err != nil {
		t.Fatal(err)
	}
	if err := post.n.GiveTo(t.Context(), post.token, given, members[at].Device, true); err != nil { // a tap too many
		t.Fatal(err)
	}
	device.until("the chart that was given", func(node.Status) bool { return device.visits(given) == 1 })
	if _, err := device.n.Open(t.Context(), device.token, other); !errors.Is(err, web.ErrNotFound) {
		t.Errorf("a chart that was not given: got %v, want ErrNotFound", err)
	}
	own := device.register("form-5", "Wasswa")
	device.visited(own, "form-6", "wound")
	device.visited(given, "form-7", "fever")
	device.confirmed()
	post.until("the device's visits", func(node.Status) bool { return post.visits(own) == 1 && post.visits(given) == 2 })
	post.until("the assignment to be ordered", func(node.Status) bool {
		v, err := post.n.Open(t.Context(), post.token, given)
		return err == nil && len(v.Devices) == 1 && v.Devices[0].Has && !v.Devices[0].Waits
	})
	if _, err := device.n.Assign(t.Context(), node.AssignRequest{Box: "Tablet", Mode: record.ModeFull}); err == nil {
		t.Error("a field device assigned something")
	}
	if _, err := post.n.Assign(t.Context(), node.AssignRequest{Box: "Hub", Mode: record.ModePartial}); err == nil {
		t.Error("a clinic made a hub partial")
	}
}

// TestFieldDeviceOpensAClosedChart: with the permission and the assignment, in either order, it is handed the
// closed keys too; with the assignment alone only what came before.
func TestFieldDeviceOpensAClosedChart(t *testing.T) {
	t.Parallel()
	hub := newHub(t)
	post := newMember(t, hub, "Post")
	device := newField(t, hub, "Tablet")
	withEscrow(hub, post, device)
	together(hub, post)
	closed, opened := post.register("form-1", "Nakato"), post.register("form-2", "Babirye")
	for _, patient := range []string{closed, opened} {
		post.visited(patient, "before-"+patient, "fever")
		post.decides(patient, "limit-"+patient, web.Decision{Do: web.DoLimit})
		post.visited(patient, "after-"+patient, "cough")
	}
	post.decides(opened, "open", web.Decision{Do: web.DoOpen})
	for _, patient := range []string{closed, opened} {
		if err := post.n.GiveTo(t.Context(), post.token, patient, device.device(), true); err != nil {
			t.Fatal(err)
		}
	}
	device.until("the keys that were assigned", func(node.Status) bool {
		held, err := device.n.Held(closed, []uint64{seal.GenerationFirst})
		return err == nil && held == 1
	})
	device.robs(closed, "x-")
	post.decides(closed, "grant", web.Decision{Do: web.DoGrant, To: device.device(), Days: 1})
	device.readsAll(closed, 2)
	device.readsAll(opened, 2)
}

// The device is away for weeks, begins in 1970 at each start, and says so; what it
// wrote is neither refused nor put out of order.
func TestFieldDeviceInNineteenSeventy(t *testing.T) {
	hub := newHub(t)
	device := newField(t, hub, "Tablet")
	patient := device.register("form-1", "Nakato")
	device.visited(patient, "form-2", "fever")
	device.confirmed()
	device.stop()
	raw := time.Unix(60, 0)
	device.o.Now = func() time.Time { return raw }
	device.o.Dial = []string{"/ip4/127.0.0.1/tcp/1"} // nobody is there
	var problems []string
	for boot := range 3 {
		raw = time.Unix(60, 0)
		device.start()
		device.signIn()
		for day := range 3 {
			raw = raw.Add(24 * time.Hour)
			device.signIn()
			form, problem := "away-"+string(rune('a'+boot*3+day)), []string{"cough", "fever", "wound"}[day]
			device.visited(patient, form, problem)
			problems = append(problems, problem)
		}
		s, err := device.n.Status(t.Context())
		if err != nil || s.VisitsHere != len(problems) || s.ClockTrust != "it shows a time that is over: this is a guess" || s.Clock.Year() < 2026 {
			t.Fatalf("boot %d: %d visits only here, want %d; clock %s (%s), %v", boot, s.VisitsHere, len(problems), s.Clock, s.ClockTrust, err)
		}
		device.stop()
	}
	device.o.Dial = nil
	device.start()
	device.signIn()
	device.confirmed()
	v := device.open(patient)
	var got []string
	for i := range v.Chart.Visits {
		got = append(got, v.Chart.Visits[i].View.Reason.Code(fhir.SystemProblem))
		if first := i == len(v.Chart.Visits)-1; (v.Chart.Visits[i].Shown.Clock == 0) == first {
			t.Errorf("visit %d: trust %d", i, v.Chart.Visits[i].Shown.Clock)
		}
	}
	slices.Reverse(got)
	if want := append([]string{"fever"}, problems...); !slices.Equal(got, want) {
		t.Errorf("visits in the order they were written: %v, want %v", got, want)
	}
	states, err := device.n.Status(t.Context())
	if err != nil || states.Refused != 0 || states.OnlyHere != 0 {
		t.Errorf("back again: %d refused, %d only here, %v; want none", states.Refused, states.OnlyHere, err)
	}
}

// What a box in the building holds does not count; what one elsewhere holds does.
func TestOnlyHereCountsRoofs(t *testing.T) {
	hub := newHub(t)
	neighbour, post := newMember(t, hub, "Ward"), newMember(t, hub, "Post")
	patient := post.register("form-1", "Nakato")
	post.confirmed()
	size := func() uint64 { s, _ := post.n.Status(t.Context()); return s.Size }()
	neighbour.until("the ledger", func(s node.Status) bool { return s.Confirmed >= size })
	post.stop()
	hub.stop()
	id, err := node.PeerIDOf(neighbour.o.Data)
	if err != nil {
		t.Fatal(err)
	}
	post.o.Dial = []string{neighbour.o.Listen[0] + "/p2p/" + id}
	for _, away := range []bool{false, true} {
		if post.o.Away = nil; away {
			post.o.Away = []string{"ward"}
		}
		post.start()
		post.signIn()
		if !away {
			post.visited(patient, "form-2", "fever")
		}
		post.until("the ward's copy", func(s node.Status) bool { return s.Shared > 0 && s.Pending == 0 })
		s, err := post.n.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{false: 1, true: 0}[away]; s.VisitsHere != want || s.Why != web.WhyNoHub {
			t.Errorf("elsewhere %v: %d visits only here, want %d; why %q, want %q", away, s.VisitsHere, want, s.Why, web.WhyNoHub)
		}
		recent, err := post.n.Today(t.Context(), post.token)
		if err != nil || recent.Recent[0].State.Kind != chart.Copied || recent.Recent[0].State.Near == away {
			t.Errorf("elsewhere %v: state %+v, %v", away, recent.Recent[0].State, err)
		}
		post.stop()
	}
}
