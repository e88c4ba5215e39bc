package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// madeTree is a ledger of made-up entries, with every hash of every level.
type madeTree struct {
	size   uint64
	levels [][]record.Hash
	broken bool
}

func newMadeTree(size uint64) *madeTree {
	t := &madeTree{size: size}
	for l := uint64(0); size>>(8*l) > 0; l++ {
		var row []record.Hash
		for i := range size >> (8 * l) {
			row = append(row, record.LeafHash([]byte(fmt.Sprint(l, i))))
		}
		t.levels = append(t.levels, row)
	}
	return t
}

func (t *madeTree) Final() ([]byte, record.TreeHead, bool) {
	return []byte("note\n"), record.TreeHead{Size: t.size}, t.size > 0
}

func (t *madeTree) Tile(level int, index uint64, width int) ([]record.Hash, error) {
	if t.broken {
		return nil, errors.New("the disk failed at sector 7")
	}
	return t.levels[level][index*256:][:width], nil
}

func (t *madeTree) entry(seq uint64) record.Entry {
	return record.Entry{Seq: seq, Time: int64(1000 + seq), Record: record.Record{Core: record.Core{N: seq + 1, BodyLen: 3}, Body: []byte("abc")}}
}

// Entries gives at most 100 at a time, so that a bundle takes several reads.
func (t *madeTree) Entries(from, to uint64, _ int) ([]record.Entry, error) {
	if t.broken {
		return nil, errors.New("the disk failed at sector 7")
	}
	var out []record.Entry
	for seq := from; seq < min(to, from+100); seq++ {
		out = append(out, t.entry(seq))
	}
	return out, nil
}

func asked(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestLogServesTiles(t *testing.T) {
	tree := newMadeTree(70_000)
	h := newLogHandler(tree, time.Now)
	whole := func(level int, from, to uint64) []byte {
		var b []byte
		for _, x := range tree.levels[level][from:to] {
			b = append(b, x[:]...)
		}
		return b
	}
	var leaves []byte
	for seq := uint64(69_888); seq < 70_000; seq++ {
		e := tree.entry(seq)
		leaf := e.EncodeLeaf()
		leaves = append(binary.BigEndian.AppendUint16(leaves, uint16(len(leaf))), leaf...)
	}
	for path, want := range map[string][]byte{
		"/checkpoint":             []byte("note\n"),
		"/tile/0/000":             whole(0, 0, 256),
		"/tile/0/272":             whole(0, 272*256, 273*256),
		"/tile/0/273.p/112":       whole(0, 273*256, 70_000),
		"/tile/0/273.p/1":         whole(0, 273*256, 273*256+1),
		"/tile/0/000.p/255":       whole(0, 0, 255),
		"/tile/1/000":             whole(1, 0, 256),
		"/tile/1/001.p/17":        whole(1, 256, 273),
		"/tile/2/000.p/1":         whole(2, 0, 1),
		"/tile/entries/273.p/112": leaves,
	} {
		w := asked(h, "GET", path)
		if w.Code != http.StatusOK || !bytes.Equal(w.Body.Bytes(), want) {
			t.Errorf("%s: got %d, %d bytes; want %d bytes", path, w.Code, w.Body.Len(), len(want))
		}
		head := asked(h, "HEAD", path)
		if head.Code != http.StatusOK || head.Body.Len() != 0 || head.Header().Get("Content-Length") != fmt.Sprint(len(want)) {
			t.Errorf("HEAD %s: got %d, %d bytes, length %s", path, head.Code, head.Body.Len(), head.Header().Get("Content-Length"))
		}
		if cache := w.Header().Get("Cache-Control"); (cache == cacheTile) != (path != "/checkpoint") {
			t.Errorf("%s: caching %q", path, cache)
		}
	}
	if got := asked(h, "GET", "/tile/entries/000").Body.Len(); got == 0 {
		t.Error("a full bundle is empty")
	}
}

// Nothing past the checkpoint, nothing under another name, nothing listed.
func TestLogRefuses(t *testing.T) {
	h := newLogHandler(newMadeTree(70_000), func() time.Time { return time.Now() })
	for _, path := range []string{"/", "/tile", "/tile/", "/tile/0", "/tile/0/", "/tile/entries", "/tile/entries/", "/tile/0/273", "/tile/0/273.p/113", "/tile/0/274.p/1",
		"/tile/1/001", "/tile/1/001.p/18", "/tile/2/000", "/tile/2/000.p/2", "/tile/3/000.p/1", "/tile/6/000", "/tile/00/000", "/tile/-1/000", "/tile/+1/000", "/tile/0/0",
		"/tile/0/00", "/tile/0/0000", "/tile/0/x000/000", "/tile/0/x000", "/tile/0/001/x000", "/tile/0/+01", "/tile/0/-01", "/tile/0/000.p/0", "/tile/0/000.p/256",
		"/tile/0/000.p/01", "/tile/0/000.p/", "/tile/0/000.p/1/2", "/tile/0/x999/x999/x999/x999/x999/x999/x999/999", "/tile/8/x001/000", "/tile/0/000/", "/checkpoint/",
		"/tile/entries/273.p/113", "/tile/entries/x999/x999/x999/999", "/status", "/tile/0/000%00"} {
		if w := asked(h, "GET", path); w.Code != http.StatusNotFound && w.Code != http.StatusTemporaryRedirect {
			t.Errorf("GET %s: got %d, want 404", path, w.Code)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		if w := asked(h, method, "/checkpoint"); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: got %d, want 405", method, w.Code)
		}
	}
	empty := newLogHandler(newMadeTree(0), time.Now)
	for _, path := range []string{"/checkpoint", "/tile/0/000.p/1"} {
		if w := asked(empty, "GET", path); w.Code != http.StatusNotFound {
			t.Errorf("GET %s of an empty ledger: got %d, want 404", path, w.Code)
		}
	}
}

func TestLogSaysNothingOfTheDisk(t *testing.T) {
	tree := newMadeTree(300)
	tree.broken = true
	for _, path := range []string{"/tile/0/000", "/tile/entries/000"} {
		w := asked(newLogHandler(tree, time.Now), "GET", path)
		if w.Code != http.StatusServiceUnavailable || bytes.Contains(w.Body.Bytes(), []byte("sector")) || w.Header().Get("Cache-Control") != "" {
			t.Errorf("%s: got %d, %q", path, w.Code, w.Body)
		}
	}
}

// One reader that asks too much is slowed down, others are not, and remembering
// who asked has an end.
func TestLogSlowsReadersDown(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	h := newLogHandler(newMadeTree(300), func() time.Time { return now })
	from := func(addr string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/checkpoint", nil)
		r.RemoteAddr = addr
		h.ServeHTTP(w, r)
		return w.Code
	}
	var codes []int
	for range logRequestsBurst + 10 {
		codes = append(codes, from("192.0.2.1:1000"))
	}
	if i := slices.Index(codes, http.StatusTooManyRequests); i != logRequestsBurst {
		t.Errorf("the first refusal came after %d requests, want %d", i, logRequestsBurst)
	}
	if got := from("192.0.2.2:1000"); got != http.StatusOK {
		t.Errorf("another reader: got %d", got)
	}
	now = now.Add(time.Second)
	if got := from("192.0.2.1:2000"); got != http.StatusOK {
		t.Errorf("the same reader a second later: got %d", got)
	}
	l := &readers{known: map[string]*rate.Limiter{}, others: newReader()}
	for i := range 3 * logReadersMax {
		l.of(fmt.Sprint(i), now).AllowN(now, 1)
	}
	if len(l.known) != logReadersMax {
		t.Errorf("readers told apart: got %d, want %d", len(l.known), logReadersMax)
	}
	now = now.Add(2 * time.Second)
	if l.of("a new one", now) == l.others || len(l.known) != 1 {
		t.Errorf("%d readers told apart after they were idle, want the new one alone", len(l.known))
	}
}

func FuzzTilePath(f *testing.F) {
	for _, s := range []string{"0/000", "entries/x001/234.p/17", "5/x999/x999/999.p/255", "0/000.p/256"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fuzz.Bounded(t, len(s), func() { parseTilePath(s) })
		p, err := parseTilePath(s)
		if err != nil {
			return
		}
		if got := tileName(p); got != s {
			t.Errorf("%q was read as %q", s, got)
		}
	})
}

// tileName writes a request the way C2SP tlog-tiles does.
func tileName(p tilePath) string {
	s := fmt.Sprintf("%03d", p.index%1000)
	for n := p.index / 1000; n > 0; n /= 1000 {
		s = fmt.Sprintf("x%03d/", n%1000) + s
	}
	if p.width != tileWidth {
		s += fmt.Sprintf(".p/%d", p.width)
	}
	if p.entries {
		return "entries/" + s
	}
	return fmt.Sprint(p.level) + "/" + s
}
