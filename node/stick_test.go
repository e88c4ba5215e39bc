package node_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/web"
)

// sticks waits until nothing is done with a stick and gives the page.
func (c *clinic) sticks() web.SticksPage {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	for changed := c.n.Watch(ctx); ; {
		p, err := c.n.Sticks(ctx, c.token)
		if err != nil {
			c.t.Fatal(err)
		}
		if !p.Job.Active {
			return p
		}
		if _, ok := <-changed; !ok {
			c.t.Fatal("a stick is in use for too long")
		}
	}
}

func (c *clinic) onStick(what string, err error) web.StickJob {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
	return c.sticks().Job
}

// TestStickBetweenBoxesThatNeverMeet: what staff saved goes to the hub and comes back
// confirmed by sticks alone; a stick that was pulled out half-way loses nothing.
func TestStickBetweenBoxesThatNeverMeet(t *testing.T) {
	media := t.TempDir()
	hub := newBoxHub(t, media)
	a := newMember(t, hub, "Kibuye clinic")
	a.stop()
	a.o.Sticks = media
	a.start()
	a.until("its link", func(s node.Status) bool { return len(s.Peers) > 0 && s.Peers[0].Link == string(web.LinkUp) })
	if err := a.n.SetLink(false); err != nil {
		t.Fatal(err)
	}
	a.signIn()
	id := a.register("form-1", "Nakato")
	saved, err := a.n.SaveVisit(t.Context(), a.token, id, "form-2", fhir.Visit{At: time.Now(), Temperature: "38.5", Problem: "fever", Treatment: "rest"})
	if err != nil || saved.State.Kind != chart.Saved {
		t.Fatalf("saved %+v, %v", saved, err)
	}
	if p := a.sticks(); len(p.Sticks) != 0 || !p.Hubs || len(p.Targets) != 1 {
		t.Errorf("before a stick is plugged in: %+v", p)
	}
	if err := a.n.WriteStick(t.Context(), a.token, "sda1", ""); !errors.Is(err, web.ErrNotFound) {
		t.Errorf("writing to no stick: got %v, want ErrNotFound", err)
	}

	stick := filepath.Join(media, "sda1")
	if err := os.Mkdir(stick, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stick, "letter.txt"), []byte("private"), 0o600); err != nil {
		t.Fatal(err)
	}
	job := a.onStick("writing", a.n.WriteStick(t.Context(), a.token, "sda1", ""))
	if job.Result != web.StickWrote || job.Records == 0 || strings.Join(job.For, "") != "Hub" {
		t.Fatalf("written: %+v", job)
	}
	file := filepath.Join(stick, job.File)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(whole, []byte("Nakato")) || bytes.Contains(whole, []byte("Kibuye")) {
		t.Error("a lost stick would show who and where")
	}
	p := a.sticks()
	if len(p.Sticks) != 1 || len(p.Sticks[0].Files) != 1 || !p.Sticks[0].Files[0].Own || p.Sticks[0].Files[0].ForHere {
		t.Errorf("what is on it, where it was written: %+v", p.Sticks)
	}

	// Some of it reaches the hub, then all of it.
	if err := os.WriteFile(file, whole[:len(whole)/5], 0o600); err != nil {
		t.Fatal(err)
	}
	if job = hub.onStick("reading", hub.n.ReadStick(t.Context(), hub.token, "sda1", job.File)); job.Result != web.StickFailed && job.Result != web.StickPartly && job.Result != web.StickEarly {
		t.Errorf("a fifth of a parcel: %+v", job)
	}
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if p = hub.sticks(); len(p.Sticks) != 1 || len(p.Sticks[0].Files) != 1 || !p.Sticks[0].Files[0].ForHere || p.Sticks[0].Files[0].From != "Kibuye clinic" {
		t.Errorf("what is on it, at the hub: %+v", p.Sticks)
	}
	name := filepath.Base(file)
	if job = hub.onStick("reading", hub.n.ReadStick(t.Context(), hub.token, "sda1", name)); job.Result != web.StickRead || job.New == 0 || job.Refused != 0 {
		t.Fatalf("read: %+v", job)
	}
	if job = hub.onStick("reading", hub.n.ReadStick(t.Context(), hub.token, "sda1", name)); job.Result != web.StickRead || job.New != 0 || job.Known == 0 {
		t.Errorf("read twice: %+v", job)
	}
	if err := hub.n.ReadStick(t.Context(), hub.token, "sda1", "../sda1/"+name); !errors.Is(err, web.ErrNotFound) {
		t.Errorf("another path: got %v, want ErrNotFound", err)
	}

	hub.confirmed()
	if job = hub.onStick("writing", hub.n.WriteStick(t.Context(), hub.token, "sda1", p.Targets[0].ID)); job.Result != web.StickWrote || job.Entries == 0 {
		t.Fatalf("the way back: %+v", job)
	}
	if job = a.onStick("reading", a.n.ReadStick(t.Context(), a.token, "sda1", job.File)); job.Result != web.StickRead || job.Entries == 0 || job.Waiting != 0 {
		t.Fatalf("the way back, read: %+v", job)
	}
	st, err := a.n.States(t.Context(), a.token, []string{saved.RID})
	if err != nil || st[saved.RID].Kind != chart.Confirmed {
		t.Errorf("the visit is %+v, %v; want it in the regional record", st[saved.RID], err)
	}
}

// newBoxHub is newHub with a folder for sticks and somebody who signs in.
func newBoxHub(t *testing.T, media string) *clinic {
	t.Helper()
	hub := newHub(t)
	hub.stop()
	hub.o.Sticks = media
	hub.start()
	hub.until("the directory", func(s node.Status) bool { return s.Confirmed >= 3 })
	if err := hub.n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Hub Keeper", PIN: pin}); err != nil {
		t.Fatal(err)
	}
	hub.signIn()
	return hub
}
