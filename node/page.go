package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

// pageDoor is where the page answers: on this machine over plain HTTP, on the clinic's
// network over TLS.
type pageDoor struct {
	listener  net.Listener // nil: there is no page
	authority *authority   // nil: nobody but this machine gets there
	url       string
}

func (n *Node) openPage(ctx context.Context) (*pageDoor, error) {
	l, err := n.listenPage()
	if l == nil || err != nil {
		return &pageDoor{}, err
	}
	d := &pageDoor{listener: l, url: "http://" + l.Addr().String()}
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err == nil && at.Addr().Unmap().IsLoopback() {
		return d, nil
	}
	if d.authority, err = n.loadAuthority(ctx); err != nil {
		l.Close() // nothing came through it
		return nil, err
	}
	if ip := at.Addr().Unmap(); ip.IsValid() && !ip.IsUnspecified() && !d.authority.mayName(ip) {
		n.log.Warn().Str("address", ip.String()).Msg("the page's address is not a private one: every phone will warn of it")
	}
	if !n.o.LANPlain {
		d.url = "https://" + l.Addr().String()
	}
	return d, nil
}

func (n *Node) listenPage() (net.Listener, error) {
	if n.o.Page == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", n.o.Page)
	if err != nil {
		return nil, fmt.Errorf("opening the page on %s: %w: choose another address with --page", n.o.Page, err)
	}
	return l, nil
}

// serve answers until ctx ends.
func (d *pageDoor) serve(ctx context.Context, n *Node) error {
	var secure *tls.Config
	if d.authority != nil {
		secure = d.authority.config()
	}
	return serve(ctx, web.NewDoor(d.listener, secure), web.NewServer(n.pageHandler(d.authority)))
}

// pageHandler is the page that staff see.
func (n *Node) pageHandler(a *authority) http.Handler {
	o := web.Options{Log: n.log.With().Str("part", "page").Logger(), Version: Version, Now: n.o.Now, Names: n.pageNames(), LANPlain: n.o.LANPlain}
	if a != nil {
		o.Authority = a.certificate.Raw
	}
	if n.keys.Locked() {
		return web.NewLocked(lockedPage{n}, o)
	}
	return web.New(n, o)
}

// lockedPage is the page while the keys are locked: the box's name, and the way to open them.
type lockedPage struct{ n *Node }

func (l lockedPage) Box(context.Context) web.LockedBox {
	kind := l.n.keys.LockKind()
	return web.LockedBox{Name: l.n.box.Name, Languages: l.n.o.Language, Passphrase: kind == seal.PassphraseLock || kind.HasChip(), PIN: kind == seal.TPMPINLock}
}

// OpenLock tries a passphrase.
func (l lockedPage) OpenLock(ctx context.Context, passphrase string) error {
	return l.n.OpenLock(ctx, Opener{Passphrase: passphrase})
}

// OpenLockByPIN tries a member's number and PIN.
func (l lockedPage) OpenLockByPIN(ctx context.Context, number int, pin string) error {
	return l.n.OpenLockByPIN(ctx, number, pin)
}
