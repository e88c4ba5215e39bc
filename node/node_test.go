package node_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/fhir/sample"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

const pin = "314159"

// clinic is a standalone box that runs in this process.
type clinic struct {
	t     testing.TB
	o     node.Options
	n     *node.Node
	stop  func()
	token web.Session
}

func options(dir string) node.Options {
	o := node.NewOptions(dir)
	o.Page, o.LAN, o.Listen = "", false, []string{"/ip4/127.0.0.1/tcp/0"}
	o.PIN = seal.PINParams{MemoryKiB: 64, Passes: 1, Threads: 1}
	o.Store.BallastBytes = 1 << 20
	return o
}

func newClinic(t testing.TB) *clinic {
	t.Helper()
	dir := t.TempDir()
	if _, err := node.Init(dir, record.RoleStandalone, "Test box"); err != nil {
		t.Fatal(err)
	}
	c := &clinic{t: t, o: options(dir)}
	c.start()
	if err := c.n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Amina Test", PIN: pin}); err != nil {
		t.Fatal(err)
	}
	c.signIn()
	return c
}

// start runs the box and returns when it is ready; the test's end stops it.
func (c *clinic) start() {
	c.t.Helper()
	n, err := node.Open(c.o)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- n.Run(ctx, func(string) { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		c.t.Fatalf("the box stopped at its start: %v", err)
	}
	c.n = n
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, n.Close()); err != nil {
			c.t.Errorf("stopping the box: %v", err)
		}
	})
	c.t.Cleanup(func() { c.stop() })
}

func (c *clinic) signIn() {
	c.t.Helper()
	tiles, err := c.n.Staff(c.t.Context())
	if err != nil || len(tiles) == 0 {
		c.t.Fatalf("staff: %v, %v", tiles, err)
	}
	token, err := c.n.SignIn(c.t.Context(), tiles[0].ID, pin)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.token, err = c.n.Session(c.t.Context(), token); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clinic) register(form, given string) string {
	c.t.Helper()
	id, err := c.n.Register(c.t.Context(), c.token, form, fhir.Registration{Given: given, Family: "Testova", Sex: "female", BirthDate: "2021", Village: "Mbale"})
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

func (c *clinic) open(id string) web.PatientView {
	c.t.Helper()
	v, err := c.n.Open(c.t.Context(), c.token, id)
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

// confirmed waits until every own record has its place.
func (c *clinic) confirmed() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	changed := c.n.Watch(ctx)
	for {
		s, err := c.n.Status(ctx)
		if err != nil {
			c.t.Fatal(err)
		}
		if s.Pending == 0 && s.Shared == 0 && s.Size == s.Confirmed {
			return
		}
		if _, ok := <-changed; !ok {
			c.t.Fatalf("records wait for their place: %+v", s)
		}
	}
}

func TestVisitReachesTheRecord(t *testing.T) {
	c := newClinic(t)
	id := c.register("form-1", "Nakato")
	visit := fhir.Visit{At: time.Now(), Temperature: "38.5", Problem: "fever", Treatment: "rest", Note: "drinks well"}
	saved, err := c.n.SaveVisit(t.Context(), c.token, id, "form-2", visit)
	if err != nil {
		t.Fatal(err)
	}
	c.confirmed()
	states, err := c.n.States(t.Context(), c.token, []string{saved.RID})
	if err != nil || states[saved.RID].Kind != chart.Confirmed {
		t.Fatalf("state of the visit: got %+v, %v; want confirmed", states, err)
	}
	v := c.open(id)
	if len(v.Chart.Visits) != 1 || v.Row.Given != "Nakato" || !strings.Contains(v.Chart.Visits[0].Shown.Author, "Amina Test") {
		t.Errorf("chart: got %d visits of %q by %q", len(v.Chart.Visits), v.Row.Given, v.Chart.Visits[0].Shown.Author)
	}
	rep, err := c.n.Verify(t.Context(), node.VerifyRequest{Full: true}, func(node.Progress) {})
	if err != nil || len(rep.Damage) != 0 || rep.Entries == 0 {
		t.Errorf("verify: got %+v, %v", rep, err)
	}
}

func TestThreeTapsAreOneRecord(t *testing.T) {
	c := newClinic(t)
	id := c.register("form-1", "Nakato")
	if again := c.register("form-1", "Nakato"); again != id {
		t.Errorf("second tap: got another patient")
	}
	var wg sync.WaitGroup
	rids := make([]string, 8)
	for i := range rids {
		wg.Go(func() {
			s, err := c.n.SaveVisit(t.Context(), c.token, id, "form-2", fhir.Visit{At: time.Now().Add(time.Duration(i) * time.Second), Problem: "cough"})
			if err != nil {
				t.Error(err)
			}
			rids[i] = s.RID
		})
	}
	wg.Wait()
	for _, r := range rids {
		if r != rids[0] {
			t.Errorf("taps of one form gave records %s and %s", rids[0], r)
		}
	}
	if n := len(c.open(id).Chart.Visits); n != 1 {
		t.Errorf("visits: got %d, want 1", n)
	}
	_, err := c.n.SaveVisit(t.Context(), c.token, id, "form-2", fhir.Visit{At: time.Now(), Problem: "fever"})
	if !errors.Is(err, web.ErrFormUsed) {
		t.Errorf("other content under a used form: got %v, want ErrFormUsed", err)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	c := newClinic(t)
	id := c.register("form-1", "Nakato")
	if _, err := c.n.SaveVisit(t.Context(), c.token, id, "form-2", fhir.Visit{At: time.Now(), Problem: "fever"}); err != nil {
		t.Fatal(err)
	}
	c.stop()
	c.start()
	if _, err := c.n.Session(t.Context(), c.token.Token); !errors.Is(err, web.ErrNotSignedIn) {
		t.Errorf("session after a restart: got %v, want ErrNotSignedIn", err)
	}
	c.signIn()
	if again := c.register("form-1", "Nakato"); again != id {
		t.Errorf("a tap after the restart made another patient")
	}
	if n := len(c.open(id).Chart.Visits); n != 1 {
		t.Errorf("visits after the restart: got %d, want 1", n)
	}
	rows, err := c.n.Find(t.Context(), c.token, "nacato testva")
	if err != nil || len(rows) == 0 || rows[0].ID != id {
		t.Errorf("find with two wrong letters: got %v, %v", rows, err)
	}
}

func TestAmendAndRetract(t *testing.T) {
	c := newClinic(t)
	id := c.register("form-1", "Nakato")
	if _, err := c.n.SaveVisit(t.Context(), c.token, id, "form-2", fhir.Visit{At: time.Now(), Problem: "fever"}); err != nil {
		t.Fatal(err)
	}
	base := c.open(id).Chart.Patient.Refs()
	for i, village := range []string{"Kibuye", "Soroti"} { // both amend the same version: neither knew of the other
		reg := fhir.Registration{Given: "Nakato", Family: "Testova", Sex: "female", BirthDate: "2021", Village: village}
		if err := c.n.AmendPatient(t.Context(), c.token, id, fmt.Sprint("amend-", i), reg, base); err != nil {
			t.Fatal(err)
		}
	}
	v := c.open(id)
	if len(v.Chart.Conflicts) != 1 || len(v.Chart.Patient.Heads) != 2 {
		t.Fatalf("two amendments of one version: got %d conflicts, %d heads", len(v.Chart.Conflicts), len(v.Chart.Patient.Heads))
	}
	reg := fhir.Registration{Given: "Nakato", Family: "Testova", Sex: "female", BirthDate: "2021", Village: "Soroti"}
	if err := c.n.AmendPatient(t.Context(), c.token, id, "resolve", reg, v.Chart.Patient.Refs()); err != nil {
		t.Fatal(err)
	}
	v = c.open(id)
	if len(v.Chart.Conflicts) != 0 || v.Row.Village != "Soroti" {
		t.Errorf("after resolving: got %d conflicts, village %q", len(v.Chart.Conflicts), v.Row.Village)
	}
	if err := c.n.Retract(t.Context(), c.token, id, "retract", v.Chart.Visits[0].Shown.Ref, "wrong person"); err != nil {
		t.Fatal(err)
	}
	v = c.open(id)
	if len(v.Chart.Visits) != 0 || len(v.Chart.Retracted) == 0 {
		t.Errorf("after withdrawing: got %d visits, %d withdrawn lines", len(v.Chart.Visits), len(v.Chart.Retracted))
	}
}

func TestImportIsExactAndRepeatable(t *testing.T) {
	c := newClinic(t)
	var want []fhir.Resource
	first := node.ImportReport{}
	for i := range 5 {
		raw, err := sample.Bundle(7, i)
		if err != nil {
			t.Fatal(err)
		}
		b, err := fhir.ReadBundle(bytes.NewReader(raw), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range b.Entries {
			want = append(want, e.Resource)
		}
		for range 2 {
			rep, err := c.n.Import(t.Context(), node.ImportRequest{Name: fmt.Sprint(i, ".json")}, bytes.NewReader(raw), func(node.Progress) {})
			if err != nil {
				t.Fatal(err)
			}
			first.Add(rep)
		}
	}
	if first.Added != len(want) || first.Known != len(want) || first.RefusedCount != 0 {
		t.Errorf("importing twice: got %d added, %d known, %d refused; want %d, %d, 0", first.Added, first.Known, first.RefusedCount, len(want), len(want))
	}
	var out bytes.Buffer
	if _, err := c.n.Export(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	got := map[string][]byte{}
	for s := bufio.NewScanner(&out); s.Scan(); {
		r, err := fhir.ParseResource(bytes.Clone(s.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		got[r.Type+"/"+r.ID] = r.JSON
	}
	for _, w := range want {
		if !fhir.JSONEqual(got[w.Type+"/"+w.ID], w.JSON) {
			t.Errorf("%s/%s came back with another value", w.Type, w.ID)
		}
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	c := newClinic(t)
	c.confirmed()
	before, err := c.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := sample.Bundle(7, 0)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := c.n.Import(t.Context(), node.ImportRequest{Name: "a.json", DryRun: true}, bytes.NewReader(raw), func(node.Progress) {})
	if err != nil || rep.Added == 0 {
		t.Fatalf("dry run: got %+v, %v", rep, err)
	}
	after, err := c.n.Status(t.Context())
	if err != nil || after.Size != before.Size || after.Pending != before.Pending {
		t.Errorf("after a dry run: size %d to %d, pending %d to %d", before.Size, after.Size, before.Pending, after.Pending)
	}
}

func TestPINsAreCounted(t *testing.T) {
	c := newClinic(t)
	tiles, err := c.n.Staff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if _, err := c.n.SignIn(t.Context(), tiles[0].ID, "999999"); !errors.Is(err, web.ErrWrongPIN) {
			t.Fatalf("wrong PIN: got %v", err)
		}
	}
	c.stop()
	c.start()
	var locked *web.LockedError
	if _, err := c.n.SignIn(t.Context(), tiles[0].ID, "999999"); !errors.As(err, &locked) {
		t.Fatalf("fifth wrong PIN, after a restart: got %v, want locked", err)
	}
	if _, err := c.n.SignIn(t.Context(), tiles[0].ID, pin); !errors.As(err, &locked) {
		t.Errorf("right PIN while locked: got %v, want locked", err)
	}
	if _, err := c.n.SignIn(t.Context(), "zz", pin); !errors.Is(err, web.ErrWrongPIN) {
		t.Errorf("unknown staff id: got %v, want ErrWrongPIN", err)
	}
}

func TestOnlyTheFirstStaffNeedsNobody(t *testing.T) {
	c := newClinic(t)
	if err := c.n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Intruder", PIN: "271828"}); !errors.Is(err, web.ErrRefused) {
		t.Errorf("second member added by nobody: got %v, want ErrRefused", err)
	}
	if err := c.n.AddStaff(t.Context(), &c.token, web.NewStaff{Name: "Second", PIN: "271828"}); err != nil {
		t.Errorf("second member added by the first: %v", err)
	}
}

func TestUnknownIDsAreNotFound(t *testing.T) {
	c := newClinic(t)
	for _, id := range []string{"", "zz", strings.Repeat("0", 32), strings.Repeat("ab", 16)} {
		if _, err := c.n.Open(t.Context(), c.token, id); !errors.Is(err, web.ErrNotFound) {
			t.Errorf("opening %q: got %v, want ErrNotFound", id, err)
		}
	}
	nobody := web.Session{Token: "none"}
	if _, err := c.n.Today(t.Context(), nobody); !errors.Is(err, web.ErrNotSignedIn) {
		t.Errorf("today without a session: got %v, want ErrNotSignedIn", err)
	}
}
