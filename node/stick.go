package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/web"
)

// A stick is a folder that appears in the folder of sticks when something is
// plugged in: a unit of systemd mounts it there, or a person does. It is touched
// only while staff read from it or write to it, so that it can be pulled out at any
// other time. One thing is done at a time.

const (
	sticksMax      = 4
	stickLookEvery = 3 * time.Second
)

// stickRoom is what this box does with sticks.
type stickRoom struct {
	work    chan func(context.Context) // of the loop, which has one place for it
	plugged atomic.Bool

	mu  sync.Mutex
	job web.StickJob // the one that runs, or the last one; guarded by mu
}

// stickLoop looks for sticks and works on them until ctx ends.
func (n *Node) stickLoop(ctx context.Context) error {
	if n.o.Sticks == "" {
		return nil
	}
	tick := time.NewTicker(stickLookEvery)
	defer tick.Stop()
	for {
		if now := len(n.stickFolders()) > 0; n.sticks.plugged.Swap(now) != now {
			if now {
				n.sticks.mu.Lock()
				n.sticks.job = web.StickJob{} // of the stick before
				n.sticks.mu.Unlock()
			}
			n.dirty.tell()
		}
		select {
		case <-ctx.Done():
			return nil
		case work := <-n.sticks.work:
			work(ctx)
			n.dirty.tell()
		case <-tick.C:
		}
	}
}

// stickFolders lists what is plugged in, by name.
func (n *Node) stickFolders() []string {
	if n.o.Sticks == "" {
		return nil
	}
	list, err := os.ReadDir(n.o.Sticks)
	if err != nil {
		return nil // not there yet
	}
	var out []string
	for _, e := range list {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && len(out) < sticksMax {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out
}

// Sticks is the page of sticks.
func (n *Node) Sticks(ctx context.Context, s web.Session) (web.SticksPage, error) {
	if _, err := n.allow(ctx, s, policy.Carry, ""); err != nil {
		return web.SticksPage{}, err
	}
	n.sticks.mu.Lock()
	p := web.SticksPage{Job: n.sticks.job}
	n.sticks.mu.Unlock()
	if !p.Job.Active { // a stick that is worked on is left alone
		for _, name := range n.stickFolders() {
			p.Sticks = append(p.Sticks, n.stick(name))
		}
	}
	members, err := n.store.Members()
	if err != nil {
		return p, explain(err)
	}
	for _, m := range members {
		if m.Active() && m.Device != n.author.Device {
			p.Targets = append(p.Targets, web.StickTarget{ID: m.Device.String(), Name: n.deviceName(m.Device)})
			p.Hubs = p.Hubs || n.isHub(m.Device) && !n.box.Role.Orders()
		}
	}
	slices.SortFunc(p.Targets, func(a, b web.StickTarget) int { return strings.Compare(a.Name, b.Name) })
	return p, nil
}

func (n *Node) stick(name string) web.Stick {
	dir := filepath.Join(n.o.Sticks, name)
	out := web.Stick{Name: name}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err == nil {
		out.FreeBytes = int64(st.Bavail) * st.Bsize
	}
	files, err := ParcelFiles(dir)
	if err != nil {
		out.Unreadable = true
	}
	own := filepath.Base(ParcelPath(dir, n.box.Name))
	for _, path := range files {
		x := web.StickFile{Name: filepath.Base(path), Own: filepath.Base(path) == own}
		f, size, err := OpenParcel(path)
		if err == nil {
			var rep ParcelRead
			rep, err = n.peekParcel(f)
			x.From, x.AsOf = rep.From, rep.AsOf
			err = errors.Join(err, f.Close())
		}
		x.Bytes, x.ForHere = size, err == nil
		x.Damaged = err != nil && !errors.Is(err, ErrParcelForOther)
		out.Files = append(out.Files, x)
	}
	return out
}

// beginStick gives the loop something to do with a stick.
func (n *Node) beginStick(ctx context.Context, s web.Session, job web.StickJob, work func(ctx context.Context, dir string, done func(bytes, total int64)) web.StickJob) error {
	in, err := n.allow(ctx, s, policy.Carry, "")
	if err != nil {
		return err
	}
	if n.isReadOnly() {
		return web.ErrReadOnly
	}
	n.sticks.mu.Lock()
	defer n.sticks.mu.Unlock()
	if n.sticks.job.Active {
		return web.ErrStickBusy
	}
	if !slices.Contains(n.stickFolders(), job.Stick) {
		return web.ErrNotFound
	}
	if err := n.noteLine(ctx, n.lineOf(in, actionCode(policy.Carry), nil)); err != nil {
		return explain(fmt.Errorf("noting the carrying: %w", err))
	}
	job.Active = true
	n.sticks.job = job
	n.sticks.plugged.Store(true)                 // the loop may not have looked yet
	n.sticks.work <- func(ctx context.Context) { // has room: nothing was active
		end := work(ctx, filepath.Join(n.o.Sticks, job.Stick), func(bytes, total int64) {
			n.sticks.mu.Lock()
			n.sticks.job.Done, n.sticks.job.Total = bytes, total
			n.sticks.mu.Unlock()
		})
		end.Stick, end.Write = job.Stick, job.Write
		if end.File == "" {
			end.File = job.File
		}
		n.sticks.mu.Lock()
		n.sticks.job = end
		n.sticks.mu.Unlock()
	}
	return nil
}

func (n *Node) isReadOnly() bool { return n.store.Full() || n.store.Err() != nil }

// ReadStick takes in one file of a stick.
func (n *Node) ReadStick(ctx context.Context, s web.Session, stick, file string) error {
	if _, err := n.allow(ctx, s, policy.Carry, ""); err != nil {
		return err
	}
	files, err := ParcelFiles(filepath.Join(n.o.Sticks, filepath.Base(stick)))
	if err != nil || !slices.ContainsFunc(files, func(p string) bool { return filepath.Base(p) == file }) {
		return web.ErrNotFound
	}
	return n.beginStick(ctx, s, web.StickJob{Stick: stick, File: file}, func(ctx context.Context, dir string, done func(bytes, total int64)) web.StickJob {
		path := filepath.Join(dir, file)
		rep, err := n.readParcelFile(ctx, path, done)
		j := web.StickJob{From: rep.From, New: rep.New, Known: rep.Known, Refused: rep.Refused, Waiting: rep.Waiting, Entries: rep.Entries, Missing: int(rep.Missing), Result: web.StickRead}
		_, gone := os.Stat(path)
		switch {
		case gone != nil:
			j.Result = web.StickPulled
		case errors.Is(err, ErrParcelForOther):
			j.Result = web.StickForOther
		case errors.Is(err, ErrParcelCut):
			j.Result = web.StickEarly
		case err != nil:
			n.log.Warn().Err(err).Msg("reading a parcel")
			j.Result = web.StickFailed
		case !rep.Complete:
			j.Result = web.StickPartly
		case rep.Damaged > 0:
			j.Result = web.StickMended
		}
		return j
	})
}

// parcelRounds: what waits for something later in the file is there the next time.
const parcelRounds = 3

func (n *Node) readParcelFile(ctx context.Context, path string, done func(bytes, total int64)) (rep ParcelRead, err error) {
	fresh, entries := 0, 0
	for range parcelRounds {
		f, size, err := OpenParcel(path)
		if err != nil {
			return rep, err
		}
		rep, err = n.ReadParcel(ctx, f, func(bytes int64) { done(bytes, size) })
		err = errors.Join(err, f.Close())
		fresh, entries = fresh+rep.New, entries+rep.Entries
		if err != nil || !rep.Again {
			rep.Known -= fresh - rep.New
			rep.New, rep.Entries = fresh, entries
			return rep, err
		}
	}
	rep.Known -= fresh - rep.New
	rep.New, rep.Entries = fresh, entries
	return rep, nil
}

// WriteStick writes a parcel onto a stick: for a device, for all boxes ("*"), or for
// the hubs ("").
func (n *Node) WriteStick(ctx context.Context, s web.Session, stick, to string) error {
	if _, err := n.allow(ctx, s, policy.Carry, ""); err != nil {
		return err
	}
	q := ParcelRequest{For: to}
	if to == "*" {
		q = ParcelRequest{All: true}
	} else if _, err := n.parcelReceivers(q); err != nil {
		return web.ErrNotFound
	}
	return n.beginStick(ctx, s, web.StickJob{Stick: stick, Write: true}, func(ctx context.Context, dir string, _ func(bytes, total int64)) web.StickJob {
		path := ParcelPath(dir, n.box.Name)
		rep, err := n.WriteParcelFile(ctx, path, q)
		j := web.StickJob{File: filepath.Base(path), For: rep.For, Records: rep.Records, Entries: rep.Entries, Total: rep.Bytes, Done: rep.Bytes, Result: web.StickWrote}
		if err != nil {
			n.log.Warn().Err(err).Msg("writing a parcel")
			if j.Result = web.StickFailed; errors.Is(err, syscall.ENOSPC) {
				j.Result = web.StickFull
			} else if _, gone := os.Stat(dir); gone != nil || errors.Is(err, syscall.EIO) {
				j.Result = web.StickPulled
			}
		}
		return j
	})
}
