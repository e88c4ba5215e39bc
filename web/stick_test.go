package web_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/web"
)

// plugIn gives the fake a stick with a parcel of each kind.
func (f *fakeClinic) plugIn(j web.StickJob) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.box.Stick = true
	f.sticks = web.SticksPage{Job: j, Hubs: true, Targets: []web.StickTarget{{ID: "00aa", Name: "Mugina clinic"}, {ID: "00bb", Name: "Nyanza hub"}}}
	if j.Active {
		return
	}
	f.sticks.Sticks = []web.Stick{{Name: "sda1", FreeBytes: 7 << 30, Files: []web.StickFile{
		{Name: "Kibuye-clinic.hpp", Bytes: 43_000, Own: true},
		{Name: "Mugina-clinic.hpp", Bytes: 1_000_000},
		{Name: "Nyanza-hub.hpp", Bytes: 2_000_000, ForHere: true, From: "Nyanza hub", AsOf: now},
		{Name: "old.hpp", Bytes: 12, Damaged: true},
	}}}
	f.tainted(&f.sticks.Targets[0].Name, &f.sticks.Job.From, &f.sticks.Sticks[0].Files[0].Name, &f.sticks.Sticks[0].Files[2].From, &f.sticks.Sticks[0].Files[3].Name)
}

func TestStickIsOfferedReadAndWritten(t *testing.T) {
	x := newFixture(t)
	x.signIn()
	if strings.Contains(x.get("/").body, "/stick") {
		t.Error("a stick is offered, and none is plugged in")
	}
	x.fake.plugIn(web.StickJob{})
	if !strings.Contains(x.get("/").body, `href="/stick"`) {
		t.Error("a plugged stick is not offered")
	}
	body := x.get("/stick").body
	if got := strings.Count(body, `action="/stick/read"`); got != 1 {
		t.Errorf("%d files can be taken in, want the one that is for here", got)
	}
	if a := x.follow(x.post("/stick/read", url.Values{"stick": {"sda1"}, "file": {"Nyanza-hub.hpp"}})); a.status != 200 {
		t.Errorf("reading: status %d", a.status)
	}
	x.post("/stick/write", url.Values{"stick": {"sda1"}, "to": {"00aa"}})
	x.fake.fail = web.ErrStickBusy
	if a := x.follow(x.post("/stick/write", url.Values{"stick": {"sda1"}, "to": {""}})); a.status != 200 {
		t.Errorf("a stick in use: status %d", a.status)
	}
	if got, want := x.fake.stickJobs, []string{"read sda1 Nyanza-hub.hpp", "write sda1 00aa", "write sda1 "}; !slices.Equal(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
	// While it is in use nobody is told to pull it out, and the page comes again.
	x.fake.plugIn(web.StickJob{Stick: "sda1", Active: true})
	a := x.get("/stick")
	if !strings.Contains(a.body, "Do not pull the stick out yet") || strings.Contains(a.body, "You can pull") || a.header.Get("Refresh") == "" {
		t.Errorf("a stick in use: %s", a.body)
	}
}
