package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/web"
)

// console answers the console page from what the boxes say of themselves.
type console struct {
	r *Region

	mu   sync.Mutex
	subs map[chan struct{}]struct{} // guarded by mu
}

// Serve shows the console page until ctx ends, and asks the boxes how they are
// once a second meanwhile.
func (r *Region) Serve(ctx context.Context, l net.Listener, log zerolog.Logger) error {
	c := &console{r: r, subs: map[chan struct{}]struct{}{}}
	srv := web.NewServer(web.NewConsole(c, web.ConsoleOptions{Log: log}))
	srv.BaseContext = func(net.Listener) context.Context { return ctx }
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		c.ask(ctx)
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			err := srv.Close()
			if e := <-done; !errors.Is(e, http.ErrServerClosed) {
				err = errors.Join(err, e)
			}
			return err
		case <-t.C:
		}
	}
}

func (c *console) ask(ctx context.Context) {
	changed := false
	for _, b := range c.r.boxes {
		one, cancel := context.WithTimeout(ctx, 3*time.Second)
		s, err := b.status(one)
		cancel()
		if err != nil {
			s = node.Status{}
		}
		b.mu.Lock()
		before := b.last
		changed = changed || before.Size != s.Size || before.Pending != s.Pending || before.Shared != s.Shared || before.Confirmed != s.Confirmed || before.Running != s.Running
		b.last = s
		b.mu.Unlock()
	}
	if changed {
		c.tell()
	}
}

func (c *console) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.subs {
		select {
		case s <- struct{}{}:
		default:
		}
	}
}

// Boxes lists the region's boxes as last heard of.
func (c *console) Boxes(context.Context) []web.ConsoleBox {
	var out []web.ConsoleBox
	for _, b := range c.r.boxes {
		b.mu.Lock()
		s, linked := b.last, b.linked
		b.mu.Unlock()
		x := web.ConsoleBox{Name: b.name, Role: string(b.role), Up: s.Running, Linked: linked, CanCut: b.role != record.RoleHub, Size: s.Size,
			Pending: s.Pending, Shared: s.Shared, Confirmed: int(s.Confirmed)}
		if b.role != record.RoleHub {
			x.URL, x.SignIn = "http://"+b.page, staffName+", PIN "+staffPIN
		}
		if len(s.Faults) > 0 {
			x.FaultWords = s.Faults[0]
		}
		out = append(out, x)
	}
	return out
}

// SetLink cuts or restores every link of a box.
func (c *console) SetLink(_ context.Context, name string, up bool) error {
	b := c.r.box(name)
	if b == nil || b.role == record.RoleHub {
		return web.ErrNotFound
	}
	b.setLinked(up)
	c.tell()
	return nil
}

// Watch signals after Boxes changed.
func (c *console) Watch(ctx context.Context) <-chan struct{} {
	s := make(chan struct{}, 1)
	c.mu.Lock()
	c.subs[s] = struct{}{}
	c.mu.Unlock()
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		delete(c.subs, s)
		c.mu.Unlock()
		close(s)
	})
	return s
}

// WritePages lists where each box's page is and who can sign in.
func (r *Region) WritePages(w io.Writer) {
	for _, b := range r.boxes {
		if b.role != record.RoleHub {
			fmt.Fprintf(w, "%-15s http://%s   (%s, PIN %s)\n", b.name+":", b.page, staffName, staffPIN)
		}
	}
}
