package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// Node is one box. Open takes it from disk; every use case works from then on,
// with peers or without; Run connects it to the world.
type Node struct {
	o       Options
	log     zerolog.Logger
	box     *Box
	keys    *seal.Keyring
	author  store.Author
	store   *store.Store
	vault   *vault
	seed    *hubSeed // hub set given on joining; set by Open only
	clock   *boxClock
	started time.Time // set by Open only

	// collecting: a box that is about to reset the region follows the ledger,
	// whatever its role. Set while no link runs.
	collecting bool

	epochMu   sync.Mutex
	epochOpen bool // guarded by epochMu

	projectMu sync.Mutex // held while projecting, so that rows follow arrivals in order
	joinMu    sync.Mutex // one admission at a time
	importMu  sync.Mutex // one import at a time, so that what is known stays known
	forms     keyedMutex // one save per form id at a time

	staff   staffRoom
	lock    lockRoom
	access  accessLog
	names   names
	written written
	dirty   fanout // told when anything a page shows may have changed

	latest   latestTime
	signedOf atomic.Pointer[signedNote]  // what signedTime read last
	ruled    atomic.Pointer[regionRules] // of the ledger; nil: those that the program brings

	notices notices
	places  places
	own     ownRecords
	epochs  epochs
	doubts  doubts

	refusedOf refusedCache

	evidence evidenceRoom
	handover handover
	promises promises
	fresh    freshness                       // of the watch alone
	boards   map[record.DeviceID][]epochSeen // guarded by projectMu
	up       atomic.Pointer[running]

	sticks  stickRoom
	headway headway // of what is fetched from a beginning

	countsMu sync.Mutex
	counted  countsCache // guarded by countsMu
}

// running is what exists only while Run runs.
type running struct {
	links    *links
	ordering *ordering // nil on boxes that do not order
	page     string    // URL of the page
	tree     string    // URL under which the ledger is served, empty when it is not
}

// Open opens the box in o.Data. The folder stays locked until Close.
func Open(o Options) (*Node, error) {
	box, err := LoadBox(o.Data)
	if err != nil {
		return nil, err
	}
	keys, err := box.openKeys(&o)
	if err != nil {
		return nil, err
	}
	clock := newBoxClock(o.Now)
	o.Now = clock.now
	so := o.Store
	so.Now = clock.now
	so.Log = o.Log.With().Str("part", "store").Logger()
	if err := box.checkVotes(so); err != nil {
		return nil, err
	}
	st, err := store.Open(box.path("db"), so)
	if err != nil {
		return nil, fmt.Errorf("opening the replica: %w", err)
	}
	n := &Node{o: o, clock: clock, log: o.Log, box: box, keys: keys, author: store.Author{Key: keys.Signer(), Device: keys.DeviceID()}, store: st, vault: newVault(keys, st)}
	n.staff.init(o.SessionIdle, o.Now)
	n.lock.opened = make(chan struct{})
	n.sticks.work = make(chan func(context.Context), 1)
	if err := n.loadSeed(); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	if err := errors.Join(n.loadOwn(), n.loadEvidence(), n.loadHandover(), n.loadDictionaries(), n.loadRules(), n.loadClock(), n.loadPlaces()); err != nil && !so.Salvage {
		return nil, errors.Join(err, st.Close())
	}
	n.started = clock.now()
	if err := n.projectNow(); err != nil && !errors.Is(err, store.ErrFull) && !so.Salvage { // a full or damaged disk leaves them behind
		return nil, errors.Join(fmt.Errorf("bringing the lists up to date: %w", err), st.Close())
	}
	return n, nil
}

// Close writes what is still open of the access log and gives the folder back.
func (n *Node) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var err error
	if n.store.Err() == nil && !n.o.Store.Salvage && !n.keys.Locked() {
		err = unlessFull(n.flushAccess(ctx)) // the lines are durable, and wait for room
	}
	return errors.Join(err, n.store.Close())
}

func (n *Node) isRunning() bool { return n.up.Load() != nil }

// Run connects the box and blocks until ctx ends or a part of it fails. ready is
// called with the page's URL when everything answers.
func (n *Node) Run(ctx context.Context, ready func(page string)) error {
	if _, ok := n.box.RegionID(); !ok && n.box.Role != record.RoleStandalone {
		return ErrNoRegion
	}
	page, err := n.openPage(ctx)
	if err != nil {
		return err
	}
	control, err := n.listenControl()
	if err != nil {
		return errors.Join(err, closeAll(page.listener))
	}
	defer os.Remove(n.box.path(controlSocket))
	tree, err := n.listenLog()
	if err != nil {
		return errors.Join(err, closeAll(page.listener, control))
	}
	l, err := n.newLinks()
	if err != nil {
		return errors.Join(err, closeAll(page.listener, control, tree))
	}
	defer l.close()
	r := &running{links: l, page: page.url}
	if tree != nil {
		r.tree = "http://" + tree.Addr().String()
	}
	if n.box.Role.Orders() {
		if r.ordering, err = n.newOrdering(l); err != nil {
			return errors.Join(err, closeAll(page.listener, control, tree))
		}
	}
	n.up.Store(r)
	defer n.up.Store(nil)
	return n.supervise(ctx, r, listeners{page, control, tree}, ready)
}

// listeners are where a box answers; tree may be nil.
type listeners struct {
	page          *pageDoor
	control, tree net.Listener
}

// supervise owns every goroutine of a running box and waits for all of them.
func (n *Node) supervise(ctx context.Context, r *running, at listeners, ready func(string)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.watchFault(ctx) })
	if r.ordering != nil {
		g.Go(func() error {
			err := r.ordering.run(ctx)
			if n.store.Err() != nil {
				return nil // watchFault says it, after the page did
			}
			return err
		})
	}
	g.Go(func() error { return r.links.run(ctx) })
	g.Go(func() error { return n.scrubLoop(ctx) })
	g.Go(func() error { return n.placesLoop(ctx) })
	loops := []func(context.Context) error{n.projectLoop, n.accessLoop, n.watchLoop, n.stickLoop, n.eraseLoop, n.handLoop} // which take keys
	if n.keys.Locked() {
		loops = []func(context.Context) error{n.lockLoop}
	}
	for _, loop := range loops {
		g.Go(func() error { return loop(ctx) })
	}
	g.Go(func() error {
		return serve(ctx, at.control, &http.Server{Handler: n.controlHandler(), ReadHeaderTimeout: 10 * time.Second})
	})
	if at.tree != nil {
		g.Go(func() error { return serve(ctx, at.tree, n.logServer()) })
	}
	g.Go(func() error {
		if err := n.found(ctx); err != nil {
			return err
		}
		if at.page.listener == nil {
			ready("")
			<-ctx.Done()
			return nil
		}
		ready(r.page)
		return at.page.serve(ctx, n)
	})
	err := g.Wait()
	if errors.Is(err, context.Canceled) || errors.Is(err, errLockOpened) {
		return nil
	}
	return err
}

// found begins or finishes the region that a box makes by itself, which takes keys.
func (n *Node) found(ctx context.Context) error {
	if n.keys.Locked() {
		return nil
	}
	if err := n.foundStandalone(ctx); err != nil {
		return err
	}
	return n.finishFounding(ctx)
}

// watchFault ends the box at the first fault of the disk: what memory holds and
// what the disk holds may differ from then on.
func (n *Node) watchFault(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.store.Fault():
	}
	n.dirty.tell()
	grace := time.NewTimer(faultGrace) // long enough for the page to say it
	defer grace.Stop()
	select {
	case <-grace.C:
	case <-ctx.Done():
	}
	return fmt.Errorf("the disk failed, nothing after that was saved: %w", n.store.Err())
}

const faultGrace = 20 * time.Second

func (n *Node) foundStandalone(ctx context.Context) error {
	if _, ok := n.box.RegionID(); ok || n.box.Role != record.RoleStandalone {
		return nil
	}
	id, err := n.Found(ctx, n.box.Name)
	if err != nil {
		return err
	}
	return n.waitOrdered(ctx, record.RID(id))
}

func closeAll(ls ...net.Listener) error {
	var err error
	for _, l := range ls {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}
	return err
}

// serve answers HTTP on l until ctx ends, then lets open requests finish.
func serve(ctx context.Context, l net.Listener, srv *http.Server) error {
	srv.BaseContext = func(net.Listener) context.Context { return ctx }
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	err := srv.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-done
	return err
}
