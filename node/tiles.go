package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/time/rate"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// The ledger over HTTP, for witnesses and auditors with public tools: the newest
// final checkpoint and the tree below it as C2SP tlog-tiles. What is served is
// public by its nature: hashes, and headers of records with random names. No
// body, no name of a person, no key.
//
//	/checkpoint                  C2SP signed note, cosigned by a majority of the hubs
//	/tile/<L>/<N>[.p/<W>]        256 or W hashes of level L, 32 bytes each
//	/tile/entries/<N>[.p/<W>]    256 or W leaves: length (2 bytes, big endian), leaf
//
// N is written in groups of three digits, all but the last with an x before
// them: 1234067 is x001/x234/067.

// treeSource is the ledger as the log needs it. *store.Store is one.
type treeSource interface {
	Final() (note []byte, head record.TreeHead, ok bool)
	// Tile gives the first width hashes of a tile, 1 to 256.
	Tile(level int, index uint64, width int) ([]record.Hash, error)
	// Entries gives entries [from, to) in order, some of them when they are long.
	Entries(from, to uint64, bytesMax int) ([]record.Entry, error)
}

const (
	tileWidth      = 256
	tileLevelMax   = 5 // 2^48 entries
	tilePathMax    = 64
	leavesBytesMax = 1 << 20 // read at a time

	// A tile never changes once the checkpoint covers it; a checkpoint lasts seconds.
	cacheTile       = "public, max-age=31536000, immutable"
	cacheCheckpoint = "public, max-age=5"

	// One reader that walks a ledger of a million entries makes 8,000 requests.
	logRequestsPerSecond = 50
	logRequestsBurst     = 200
	logReadersMax        = 1000 // sources told apart; more share one allowance
	logConnectionsMax    = 256  // at a time; who comes next waits
)

var errNoTile = errors.New("no such tile")

// newLogHandler serves a ledger. Its answers hold for anybody, so it asks nobody
// who they are, and slows each source down by itself.
func newLogHandler(t treeSource, now func() time.Time) http.Handler {
	return limitRequests(logRoutes(t).mux, now)
}

func logRoutes(t treeSource) *routes {
	table := newRoutes(ledgerWays)
	table.handle("GET /checkpoint", func(w http.ResponseWriter, r *http.Request) {
		note, _, ok := t.Final()
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", cacheCheckpoint)
		writeWhole(w, r, note)
	})
	table.handle("GET /tile/{path...}", func(w http.ResponseWriter, r *http.Request) {
		b, err := readTile(t, r.PathValue("path"))
		switch {
		case errors.Is(err, errNoTile), errors.Is(err, store.ErrHole):
			http.NotFound(w, r)
			return
		case err != nil: // of the disk: the box says it elsewhere
			http.Error(w, "this part of the ledger cannot be read here now", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", cacheTile)
		writeWhole(w, r, b)
	})
	return table
}

func writeWhole(w http.ResponseWriter, r *http.Request, b []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Header().Set("Access-Control-Allow-Origin", "*") // auditors' pages may read what anybody may
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		return
	}
	w.Write(b) // the reader is gone when this fails
}

func readTile(t treeSource, path string) ([]byte, error) {
	p, err := parseTilePath(path)
	if err != nil {
		return nil, err
	}
	_, head, ok := t.Final()
	// In tiles of the level: only what the newest checkpoint covers is served, so
	// that nobody sees a hash that the hubs have not signed.
	hashes := head.Size >> (8 * p.level)
	if !ok || p.index >= 1<<48 || p.index*tileWidth+uint64(p.width) > hashes {
		return nil, errNoTile
	}
	if p.entries {
		return readLeaves(t, p.index*tileWidth, p.index*tileWidth+uint64(p.width))
	}
	list, err := t.Tile(p.level, p.index, p.width)
	if err != nil {
		return nil, fmt.Errorf("reading a tile: %w", err)
	}
	b := make([]byte, 0, 32*len(list))
	for i := range list {
		b = append(b, list[i][:]...)
	}
	return b, nil
}

func readLeaves(t treeSource, from, to uint64) ([]byte, error) {
	var b []byte
	for from < to {
		entries, err := t.Entries(from, to, leavesBytesMax)
		if err != nil {
			return nil, fmt.Errorf("reading entries: %w", err)
		}
		if len(entries) == 0 {
			return nil, fmt.Errorf("reading entries from %d: %w", from, store.ErrDamaged)
		}
		for i := range entries {
			leaf := entries[i].EncodeLeaf()
			b = binary.BigEndian.AppendUint16(b, uint16(len(leaf))) // a leaf has at most a few kilobytes
			b = append(b, leaf...)
		}
		from += uint64(len(entries))
	}
	return b, nil
}

// tilePath is one request for a tile.
type tilePath struct {
	entries bool // the leaves themselves; level is 0
	level   int
	index   uint64
	width   int
}

// parseTilePath reads what follows /tile/, in the one form that a tile has.
func parseTilePath(s string) (p tilePath, err error) {
	if len(s) > tilePathMax {
		return p, errNoTile
	}
	first, rest, _ := strings.Cut(s, "/")
	if p.entries = first == "entries"; !p.entries {
		if p.level, err = strconv.Atoi(first); err != nil || p.level < 0 || p.level > tileLevelMax || strconv.Itoa(p.level) != first {
			return p, errNoTile
		}
	}
	p.width = tileWidth
	if index, width, partial := strings.Cut(rest, ".p/"); partial {
		rest = index
		if p.width, err = strconv.Atoi(width); err != nil || p.width < 1 || p.width >= tileWidth || strconv.Itoa(p.width) != width {
			return p, errNoTile
		}
	}
	groups := strings.Split(rest, "/")
	for i, g := range groups {
		if i < len(groups)-1 {
			if !strings.HasPrefix(g, "x") {
				return p, errNoTile
			}
			g = g[1:]
		}
		n, err := strconv.ParseUint(g, 10, 16)
		if err != nil || len(g) != 3 || g[0] == '+' || i == 0 && n == 0 && len(groups) > 1 {
			return p, errNoTile
		}
		if p.index > 1<<50 {
			return p, errNoTile
		}
		p.index = p.index*1000 + n
	}
	return p, nil
}

// limitRequests answers each source a bounded number of times a second.
func limitRequests(next http.Handler, now func() time.Time) http.Handler {
	l := &readers{known: map[string]*rate.Limiter{}, others: newReader()}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		if t := now(); !l.of(host, t).AllowN(t, 1) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests: slow down", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}

type readers struct {
	mu     sync.Mutex
	known  map[string]*rate.Limiter // guarded by mu
	swept  time.Time                // guarded by mu
	others *rate.Limiter
}

func newReader() *rate.Limiter { return rate.NewLimiter(logRequestsPerSecond, logRequestsBurst) }

// of is the allowance of a source. Sources whose allowance is whole again are
// forgotten when there are too many.
func (l *readers) of(host string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if have, ok := l.known[host]; ok {
		return have
	}
	if len(l.known) >= logReadersMax && now.Sub(l.swept) > time.Second {
		l.swept = now
		maps.DeleteFunc(l.known, func(_ string, r *rate.Limiter) bool { return r.TokensAt(now) >= logRequestsBurst })
	}
	if len(l.known) >= logReadersMax {
		return l.others
	}
	l.known[host] = newReader()
	return l.known[host]
}

// listenLog opens the port of the log, on boxes that are told to and that order.
func (n *Node) listenLog() (net.Listener, error) {
	if n.o.LogAddress == "" {
		return nil, nil
	}
	if !n.box.Role.Orders() {
		return nil, fmt.Errorf("serving the ledger on %s: only a hub does; take 'log' out of the settings of this %s", n.o.LogAddress, n.box.Role)
	}
	l, err := net.Listen("tcp", n.o.LogAddress)
	if err != nil {
		return nil, fmt.Errorf("serving the ledger on %s: %w: choose another address with --log", n.o.LogAddress, err)
	}
	return netutil.LimitListener(l, logConnectionsMax), nil
}

// logServer has limits for readers from anywhere.
func (n *Node) logServer() *http.Server {
	return &http.Server{Handler: newLogHandler(n.store, n.o.Now), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 8 << 10}
}
