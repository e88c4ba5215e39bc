package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// What commands need of the rooms below.
type (
	// NewStaff is a staff member to add.
	NewStaff = web.NewStaff
	// StaffTile is one name of those who can sign in.
	StaffTile = web.StaffTile
)

// ErrDamaged is the family of what verification finds.
var ErrDamaged = store.ErrDamaged

// Client talks to a box: to the running one over its control socket, or to a
// stopped one that it opens itself for as long as the client lives.
type Client struct {
	Running bool

	http  http.Client
	close func() error
}

// Dial finds the box in o.Data. Close gives a stopped box back.
func Dial(ctx context.Context, o Options) (*Client, error) {
	if _, err := LoadBox(o.Data); err != nil {
		return nil, err
	}
	c, n, err := dialOrOpen(ctx, o)
	if c != nil || err != nil {
		return c, err
	}
	l := newMemoryListener()
	srv := &http.Server{Handler: n.controlHandler()}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	c = &Client{close: func() error {
		err := srv.Close()
		<-done
		return errors.Join(err, n.Close())
	}}
	c.http.Transport = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return l.dial() }}
	return c, nil
}

// A box that starts, ends, or opens again as its lock is opened has its folder and answers nobody. A command
// waits for it that long, and asks so often.
const (
	answerMax   = 15 * time.Second
	answerEvery = 100 * time.Millisecond
)

// dialOrOpen gives the running box, or the stopped one, opened.
func dialOrOpen(ctx context.Context, o Options) (*Client, *Node, error) {
	ctx, cancel := context.WithTimeout(ctx, answerMax)
	defer cancel()
	for {
		if c, err := dialRunning(ctx, o.Data); err == nil {
			return c, nil, nil
		}
		n, err := openStopped(o)
		if !errors.Is(err, store.ErrLocked) {
			return nil, n, err
		}
		o.Log.Debug().Msg("waiting for a box that starts or ends")
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("asking the box, which neither answers nor ends: %w", err)
		case <-time.After(answerEvery):
		}
	}
}

// openStopped opens a box for commands. One that is damaged opens for reading
// only: verify names what fails, and what can be read can be exported.
func openStopped(o Options) (*Node, error) {
	o.whileLocked = true // its commands say what takes keys
	n, err := Open(o)
	if !errors.Is(err, store.ErrDamaged) {
		return n, err
	}
	o.Log.Warn().Err(err).Msg("the box is damaged and opened for reading only")
	o.Store.Salvage = true
	n, again := Open(o)
	if again != nil {
		return nil, errors.Join(err, again)
	}
	return n, nil
}

func dialRunning(ctx context.Context, dir string) (*Client, error) {
	dial := func(ctx context.Context, _, _ string) (c net.Conn, err error) {
		err = inFolder(dir, func(short string) (err error) {
			c, err = (&net.Dialer{}).DialContext(ctx, "unix", short)
			return err
		})
		return c, err
	}
	probe, err := dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	probe.Close()
	c := &Client{Running: true, close: func() error { return nil }}
	c.http.Transport = &http.Transport{DialContext: dial}
	return c, nil
}

// Close ends the client and closes a box that it opened.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return c.close()
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.do(ctx, method, path, body, 0)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var e wireError
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
			return fmt.Errorf("asking the box: %s", resp.Status)
		}
		return e.err()
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

func (e *wireError) err() error {
	switch {
	case e.Damage:
		return remoteError{e.Error, store.ErrDamaged}
	case e.Error == ErrNotRunning.Error():
		return ErrNotRunning
	}
	return errors.New(e.Error)
}

// remoteError is an error of the box with the family it had there.
type remoteError struct {
	text   string
	family error
}

func (e remoteError) Error() string { return e.text }
func (e remoteError) Unwrap() error { return e.family }

func (c *Client) do(ctx context.Context, method, path string, body io.Reader, size int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://box"+path, body)
	if err != nil {
		return nil, err
	}
	if size > 0 {
		req.ContentLength = size
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) && ctx.Err() == nil {
			err = u.Err // without the address, which is nobody's
		}
		return nil, fmt.Errorf("the box stopped before it answered, what it saved stays; see its log, start it and try again: %w", err)
	}
	return resp, nil
}

// stream reads JSON lines until the result, which a failure may have too.
func (c *Client) stream(ctx context.Context, path string, body io.Reader, size int64, progress func(Progress), result any) error {
	resp, err := c.do(ctx, http.MethodPost, path, body, size)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var line struct {
			Progress *Progress       `json:"progress"`
			Result   json.RawMessage `json:"result"`
			Failure  *wireError      `json:"failure"`
		}
		if err := dec.Decode(&line); err != nil {
			return fmt.Errorf("the box stopped before it answered, what it saved stays; see its log, start it and try again: %w", err)
		}
		switch {
		case line.Failure != nil:
			if len(line.Result) > 0 {
				return errors.Join(line.Failure.err(), json.Unmarshal(line.Result, result))
			}
			return line.Failure.err()
		case line.Progress != nil:
			progress(*line.Progress)
		default:
			return json.Unmarshal(line.Result, result)
		}
	}
}

// Status, Members, Invite, Sync, Import and Export do on the box
// what the methods of the same name on Node say.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/status", nil, &s)
}

func (c *Client) Members(ctx context.Context) (m []MemberInfo, err error) {
	return m, c.call(ctx, http.MethodGet, "/members", nil, &m)
}

func (c *Client) Invite(ctx context.Context, q InviteRequest) (i Invited, err error) {
	return i, c.call(ctx, http.MethodPost, "/invite", q, &i)
}

func (c *Client) Sync(ctx context.Context, peer string) (s []PeerStatus, err error) {
	return s, c.call(ctx, http.MethodPost, "/sync?"+url.Values{"peer": {peer}}.Encode(), nil, &s)
}

func (c *Client) SetLink(ctx context.Context, up bool) error {
	return c.call(ctx, http.MethodPost, "/link?up="+strconv.FormatBool(up), nil, &struct{}{})
}

func (c *Client) Record(ctx context.Context, rid string) (s RecordState, err error) {
	return s, c.call(ctx, http.MethodGet, "/record?"+url.Values{"rid": {rid}}.Encode(), nil, &s)
}

func (c *Client) Import(ctx context.Context, path string, dryRun bool, progress func(Progress)) (ImportReport, error) {
	var rep ImportReport
	f, err := os.Open(path)
	if err != nil {
		return rep, fmt.Errorf("opening the file: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return rep, fmt.Errorf("opening the file: %w", err)
	}
	q := url.Values{"name": {path}, "dry": {strconv.FormatBool(dryRun)}}
	err = c.stream(ctx, "/import?"+q.Encode(), f, st.Size(), progress, &rep)
	return rep, err
}

// Export writes NDJSON to w, ExportAccess that of the access log.
func (c *Client) Export(ctx context.Context, w io.Writer) (ExportReport, error) {
	return c.export(ctx, "/export", w)
}

// ExportFor is Export for a purpose.
func (c *Client) ExportFor(ctx context.Context, w io.Writer, purpose string) (ExportReport, error) {
	return c.export(ctx, "/export/for/"+url.PathEscape(purpose), w)
}

func (c *Client) ExportAccess(ctx context.Context, w io.Writer) (ExportReport, error) {
	return c.export(ctx, "/export/access", w)
}

func (c *Client) export(ctx context.Context, path string, w io.Writer) (rep ExportReport, err error) {
	resp, err := c.do(ctx, http.MethodGet, path, nil, 0)
	if err != nil {
		return rep, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var e wireError
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
			return rep, fmt.Errorf("asking the box: %s", resp.Status)
		}
		return rep, e.err()
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return rep, fmt.Errorf("exporting: %w", err)
	}
	if msg := resp.Trailer.Get(exportErrorTrailer); msg != "" {
		return rep, fmt.Errorf("exporting: the box stopped half-way: %s", msg)
	}
	if err := json.Unmarshal([]byte(resp.Trailer.Get(exportReportTrailer)), &rep); err != nil {
		return rep, fmt.Errorf("exporting: the box stopped half-way: %w", err)
	}
	return rep, nil
}

// memoryListener connects a client with a handler of the same process.
type memoryListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *memoryListener) dial() (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case l.conns <- b:
		return a, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// Staff and AddStaff are the accounts of this box; whoever reaches the control
// socket may act as its administrator.
func (c *Client) Staff(ctx context.Context) (t []StaffTile, err error) {
	return t, c.call(ctx, http.MethodGet, "/staff", nil, &t)
}

func (c *Client) AddStaff(ctx context.Context, s NewStaff) error {
	return c.call(ctx, http.MethodPost, "/staff", s, &struct{}{})
}

// EndStaff ends an account; see Node.EndStaff.
func (c *Client) EndStaff(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/staff/end?id="+url.QueryEscape(id), nil, &struct{}{})
}

// Erase asks for an erasure, and Erasures lists what was erased; see Node.EraseBy.
func (c *Client) Erase(ctx context.Context, q EraseRequest) error {
	return c.call(ctx, http.MethodPost, "/erase", q, &struct{}{})
}

func (c *Client) Erasures(ctx context.Context) (list []ErasureState, err error) {
	return list, c.call(ctx, http.MethodGet, "/erasures", nil, &list)
}

// Dictionaries and PublishDictionary are those of the ledger.
func (c *Client) Dictionaries(ctx context.Context) (d []DictionaryInfo, err error) {
	return d, c.call(ctx, http.MethodGet, "/dictionaries", nil, &d)
}

func (c *Client) PublishDictionary(ctx context.Context, b []byte) (d DictionaryInfo, err error) {
	return d, c.call(ctx, http.MethodPost, "/dictionaries", b, &d)
}
