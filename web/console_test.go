package web_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/healthpost/healthpost/web"
)

// fakeConsole is a demo region in memory.
type fakeConsole struct {
	mu      sync.Mutex
	boxes   []web.ConsoleBox
	waiters map[chan struct{}]bool
}

func newFakeConsole() *fakeConsole {
	return &fakeConsole{waiters: map[chan struct{}]bool{}, boxes: []web.ConsoleBox{
		{Name: "Nyanza hub", Role: "hub", Up: true, Linked: true, Size: 8816, CanCut: true},
		{Name: "Karongi hub", Role: "hub", Up: true, Linked: true, Size: 8816, CanCut: true},
		{Name: "Rwamagana hub", Role: "hub", Up: true, Linked: true, Size: 8815, CanCut: true},
		{Name: "Kibuye clinic", Role: "clinic", URL: "http://localhost:8081/", SignIn: "Amina Uwase, PIN 314159", Up: true, Linked: true, CanCut: true, Size: 8816, Confirmed: 211},
		{Name: "Rubavu clinic", Role: "clinic", URL: "http://localhost:8082/", SignIn: "Jean Habimana, PIN 271828", Up: true, CanCut: true, Size: 8790, Pending: 37, Shared: 2, Confirmed: 188},
	}}
}

func (c *fakeConsole) Boxes(context.Context) []web.ConsoleBox {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]web.ConsoleBox(nil), c.boxes...)
}

func (c *fakeConsole) SetLink(_ context.Context, box string, up bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.boxes {
		if c.boxes[i].Name == box {
			c.boxes[i].Linked = up
			for ch := range c.waiters {
				select {
				case ch <- struct{}{}:
				default:
				}
			}
			return nil
		}
	}
	return web.ErrNotFound
}

func (c *fakeConsole) Watch(ctx context.Context) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan struct{}, 1)
	c.waiters[ch] = true
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiters, ch)
		close(ch)
	})
	return ch
}

func newConsoleFixture(t *testing.T) (*fixture, *fakeConsole) {
	t.Helper()
	c := newFakeConsole()
	x := &fixture{t: t}
	x.serve(web.NewConsole(c, web.ConsoleOptions{}))
	return x, c
}

func TestConsole(t *testing.T) {
	x, c := newConsoleFixture(t)
	page := x.get("/")
	if _, err := parsePage(page.body); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Kibuye clinic", "Amina Uwase, PIN 314159", "Link is cut", `href="http://localhost:8082/"`, ">37<"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("page lacks %q", want)
		}
	}
	if a := x.post("/link", url.Values{"box": {"Rubavu clinic"}, "up": {"1"}}); a.location != "/" || !c.boxes[4].Linked {
		t.Errorf("restoring: status %d, linked %v", a.status, c.boxes[4].Linked)
	}
	if a := x.post("/link", url.Values{"box": {"Nowhere"}, "up": {"0"}}); a.status != http.StatusNotFound {
		t.Errorf("unknown box: status %d, want 404", a.status)
	}
	if a := x.get("/link"); a.status != http.StatusMethodNotAllowed {
		t.Errorf("GET /link: status %d, want 405", a.status)
	}
	r, err := http.NewRequest(http.MethodPost, x.server.URL+"/link", strings.NewReader("box=Kibuye+clinic&up=0"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if a := x.do(r); a.status != http.StatusForbidden || !c.boxes[3].Linked {
		t.Errorf("other origin: status %d, linked %v", a.status, c.boxes[3].Linked)
	}
}

func TestBrowserConsole(t *testing.T) {
	x, c := newConsoleFixture(t)
	b := newBrowser(t)
	b.size(320, 640)
	b.open(x.server.URL + "/")
	for _, found := range evaluate[[]string](b, tooWide) {
		t.Errorf("too wide at 320: %s", found)
	}
	b.picture("console", "en")
	b.pictureAt("console-wide", 1000, 760)
	b.waitText(".boxes:not(.hubs) section:first-child .link-state", "Link works")
	b.press(".boxes:not(.hubs) section:first-child button")
	b.waitText(".boxes:not(.hubs) section:first-child .link-state", "Link is cut")
	if err := c.SetLink(context.Background(), "Kibuye clinic", true); err != nil {
		t.Fatal(err)
	}
	b.waitText(".boxes:not(.hubs) section:first-child .link-state", "Link works")
	b.check()
}
