package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// The control socket carries HTTP with JSON between commands and a running box.
// Whoever may open the file may do what its owner may; it is 0600, in a folder
// that Init makes 0700.
// A command on a stopped box serves the same handler to itself in memory, so
// there is one way for every command.

const controlBodyMax = 512 << 20 // one import file

// ErrNotRunning: the command needs a running box.
var ErrNotRunning = errors.New("the box is not running: start it with 'healthpost run' first")

// controlHandler answers commands. Errors travel as {"error": text}.
func (n *Node) controlHandler() http.Handler {
	mux := n.controlRoutes().mux
	if n.keys.Locked() {
		return whileLocked(mux)
	}
	return mux
}

func (n *Node) controlRoutes() *routes {
	table := newRoutes(commandWays)
	reply := func(pattern string, f func(r *http.Request) (any, error)) {
		table.handle(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			if err != nil {
				w.WriteHeader(statusOf(err))
				v = wireError{Error: err.Error(), Damage: errors.Is(err, store.ErrDamaged)}
			}
			json.NewEncoder(w).Encode(v) // the reader is gone when this fails
		})
	}
	reply("GET /status", func(r *http.Request) (any, error) { return n.Status(r.Context()) })
	reply("GET /members", func(r *http.Request) (any, error) { return n.Members() })
	reply("POST /invite", func(r *http.Request) (any, error) {
		var q InviteRequest
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			return nil, fmt.Errorf("reading the request: %w", err)
		}
		return n.Invite(r.Context(), q)
	})
	n.lockRoutes(reply)
	n.hubRoutes(reply)
	n.dictionaryRoutes(reply)
	n.rulesRoutes(reply)
	n.eraseRoutes(reply)
	n.escrowRoutes(reply)
	n.inviterRoutes(reply)
	reply("POST /sync", func(r *http.Request) (any, error) { return n.SyncPeer(r.Context(), r.URL.Query().Get("peer")) })
	reply("POST /link", func(r *http.Request) (any, error) {
		return struct{}{}, n.SetLink(r.URL.Query().Get("up") == "true")
	})
	reply("GET /staff", func(r *http.Request) (any, error) { return n.Staff(r.Context()) })
	reply("POST /staff", func(r *http.Request) (any, error) {
		var q web.NewStaff
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			return nil, fmt.Errorf("reading the request: %w", err)
		}
		return struct{}{}, n.AddStaff(r.Context(), &web.Session{Operator: true}, q)
	})
	reply("POST /staff/end", func(r *http.Request) (any, error) {
		return struct{}{}, n.EndStaff(r.Context(), web.Session{Operator: true}, r.URL.Query().Get("id"))
	})
	reply("GET /record", func(r *http.Request) (any, error) { return n.RecordState(r.URL.Query().Get("rid")) })
	n.profileRoutes(reply)
	n.proofRoutes(reply)
	table.handle("POST /import", n.streamed(func(ctx context.Context, r *http.Request, progress func(any)) (any, error) {
		q := r.URL.Query()
		return n.Import(ctx, ImportRequest{Name: q.Get("name"), DryRun: q.Get("dry") == "true", Size: r.ContentLength},
			r.Body, func(p Progress) { progress(p) })
	}))
	n.parcelRoutes(table)
	table.handle("POST /verify", n.verifyHandler())
	table.handle("GET /export", n.exportHandler)
	table.handle("GET /export/for/{purpose}", n.exportForHandler)
	table.handle("GET /export/access", n.exportAccessHandler)
	return table
}

type wireError struct {
	Error  string `json:"error"`
	Damage bool   `json:"damage,omitempty"`
}

func statusOf(err error) int {
	if errors.Is(err, ErrNotRunning) {
		return http.StatusServiceUnavailable
	}
	return http.StatusUnprocessableEntity
}

// Progress is how far a long command is.
type Progress struct {
	Done  uint64 `json:"done"`
	Total uint64 `json:"total"`
}

// streamLine is one line of an answer that takes long.
type streamLine struct {
	Progress any        `json:"progress,omitempty"`
	Result   any        `json:"result,omitempty"`
	Failure  *wireError `json:"failure,omitempty"`
}

const progressEvery = 200 * time.Millisecond

// streamed answers with JSON lines: progress now and then, at last the result, of
// as much as was done when it failed.
func (n *Node) streamed(f func(context.Context, *http.Request, func(any)) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		enc := json.NewEncoder(w)
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil { // progress goes out while the body comes in
			n.log.Debug().Err(err).Msg("progress waits for the request to end")
		}
		var last time.Time
		v, err := f(r.Context(), r, func(p any) {
			if now := time.Now(); now.Sub(last) >= progressEvery {
				last = now
				enc.Encode(streamLine{Progress: p})
				http.NewResponseController(w).Flush()
			}
		})
		line := streamLine{Result: v}
		if err != nil {
			line = streamLine{Result: v, Failure: &wireError{Error: err.Error(), Damage: errors.Is(err, store.ErrDamaged)}}
		}
		enc.Encode(line)
	}
}

// listenControl makes the socket; an old file of a box that died is replaced,
// which is safe because the replica's lock is held by now.
func (n *Node) listenControl() (net.Listener, error) {
	if err := os.Remove(n.box.path(controlSocket)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replacing the control socket: %w", err)
	}
	var l net.Listener
	err := inFolder(n.box.dir, func(short string) (err error) {
		l, err = net.Listen("unix", short)
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // its short name means nothing later
		}
		return err
	})
	if err == nil {
		err = os.Chmod(n.box.path(controlSocket), 0o600)
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("making the control socket: %w", err)
	}
	return l, nil
}

const controlSocket = "control.sock"

// inFolder gives f a short name for the control socket: a socket's path has at
// most 107 bytes, a data folder's may have more.
func inFolder(dir string, f func(short string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(filepath.Join("/proc/self/fd", fmt.Sprint(d.Fd()), controlSocket))
}
