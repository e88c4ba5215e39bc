package web

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// On the clinic's network the page is served over TLS, by an authority that the box made and that a
// phone has to know once. Plain HTTP there shows how, and nothing else; on the box itself it is the page.

// authorityFile is the name under which a browser keeps the authority.
const authorityFile = "healthpost.crt"

// secureAge is for how long a browser that has seen the page over TLS asks for it in no other way.
const secureAge = "max-age=2592000"

// trustBody is the page that says how a phone gets to know this box.
type trustBody struct {
	Name        string // under which the authority shows in a phone's list
	Fingerprint []string
	Secure      bool // the page came over TLS
	Here        bool // or on the box itself
}

// showTrust explains, in words, how to make the box known.
func showTrust(q *request) error {
	if len(q.opts.Authority) == 0 {
		return ErrNotFound
	}
	sum := sha256.Sum256(q.opts.Authority)
	text := strings.ToUpper(hex.EncodeToString(sum[:]))
	b := trustBody{Name: "healthpost " + q.box.Name, Secure: q.r.TLS != nil, Here: isNear(q.r)}
	for i := 0; i < len(text); i += 4 {
		b.Fingerprint = append(b.Fingerprint, text[i:i+4])
	}
	return q.show("trust", q.newPage("", "trust.title", b))
}

// giveAuthority is the authority as a file.
func giveAuthority(q *request) error {
	if len(q.opts.Authority) == 0 {
		return ErrNotFound
	}
	q.w.Header().Set("Content-Type", "application/x-x509-ca-cert")
	q.w.Header().Set("Content-Disposition", `attachment; filename="`+authorityFile+`"`)
	return writeBody(q.w, q.r, http.StatusOK, q.opts.Authority)
}

// isNear tells whether a request comes from this machine, so that nobody on the way could read it.
func isNear(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return isOwn(r.RemoteAddr, local) && (ok || isLoopback(r.RemoteAddr))
}

// isOwn tells whether the other end of a connection is this machine: both ends have one address then.
func isOwn(remote string, local net.Addr) bool {
	if local == nil {
		return isLoopback(remote)
	}
	r, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	l, err := netip.ParseAddrPort(local.String())
	return err == nil && (r.Addr().Unmap() == l.Addr().Unmap() || r.Addr().Unmap().IsLoopback() && l.Addr().Unmap().IsLoopback())
}

// isBare tells whether a request came over the clinic's network for everybody to read, where it
// could have come over TLS.
func (q *request) isBare() bool {
	return len(q.opts.Authority) > 0 && !q.opts.LANPlain && q.r.TLS == nil && !isNear(q.r)
}

// toSecure sends who looks for a page to TLS, who looks for the first page to the one that explains it,
// and takes no form: what is in it has been read on the way.
func (q *request) toSecure(rt route) {
	switch {
	case q.r.Method == http.MethodPost || rt.machine:
		q.refuse(rt, http.StatusForbidden, "error.bare")
	case rt.path == "/{$}":
		http.Redirect(q.w, q.r, "/trust", http.StatusSeeOther)
	default:
		http.Redirect(q.w, q.r, "https://"+q.r.Host+q.r.URL.RequestURI(), http.StatusSeeOther)
	}
}

// cookieName is the name of a cookie: under TLS one that a browser takes from this host over TLS alone.
func (q *request) cookieName(name string) string {
	if q.r.TLS != nil {
		return "__Host-" + name
	}
	return name
}
