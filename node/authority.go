package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// On the clinic's network the page is served over TLS. No public authority signs for
// addresses of a building, so each box makes its own, which staff make known to their
// phones once. It can sign for this box's names and for private addresses and nothing
// else (name constraints): who steals its key is not anybody's bank. The key lies sealed
// under the box's own; the keys of certificates are never written down.
//
// Clocks: the authority holds from 2020 to 2049 whatever the time is. A certificate
// holds 400 days to both sides of this box's clock, which is never before what the box
// knows to be over (boxClock), and is made anew when that moved by 60 days. So box and
// phone may disagree by more than a year. The whole stays under the 825 days that some
// browsers allow.
const (
	leafBefore = 400 * 24 * time.Hour
	leafAfter  = 420 * 24 * time.Hour
	leafDrift  = 60 * 24 * time.Hour
)

var (
	authorityFrom  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	authorityUntil = time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC)
	authorityKey   = []byte("tls/authority")
)

// privateNetworks are those for which an authority can sign.
var privateNetworks = []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128"}

// authorityRow is an authority as kept on this box.
type authorityRow struct {
	_           struct{} `cbor:",toarray"`
	V           uint8
	Certificate []byte // DER
	Key         []byte // PKCS #8
}

// authority signs the certificates of this box's page.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	now         func() time.Time

	mu   sync.Mutex
	leaf *tls.Certificate // guarded by mu
	base time.Time        // the time by which leaf was made; guarded by mu
}

// newAuthority makes an authority for names and private addresses.
func newAuthority(box string, names []string) (*authorityRow, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the authority's key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "healthpost " + box}, NotBefore: authorityFrom, NotAfter: authorityUntil,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: names,
	}
	for _, text := range privateNetworks {
		_, network, err := net.ParseCIDR(text)
		if err != nil {
			return nil, fmt.Errorf("reading a private network: %w", err)
		}
		t.PermittedIPRanges = append(t.PermittedIPRanges, network)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the authority: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("keeping the authority's key: %w", err)
	}
	return &authorityRow{V: 1, Certificate: der, Key: secret}, nil
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}

func (r *authorityRow) open(now func() time.Time) (*authority, error) {
	certificate, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return nil, fmt.Errorf("reading the page's authority: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(r.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the key of the page's authority: %w", err)
	}
	secret, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("reading the key of the page's authority: %w", store.ErrDamaged)
	}
	return &authority{certificate: certificate, key: secret, now: now}, nil
}

// loadAuthority gives this box's authority and makes it the first time.
func (n *Node) loadAuthority(ctx context.Context) (*authority, error) {
	if n.keys.Locked() {
		return n.lockedAuthority()
	}
	a, err := n.keptAuthority(ctx)
	if err == nil && n.Lock().Kind != seal.NoLock.String() {
		err = n.copyAuthority(ctx, true)
	}
	return a, err
}

func (n *Node) keptAuthority(ctx context.Context) (*authority, error) {
	sealed, err := n.store.GetRow(authorityKey)
	if errors.Is(err, store.ErrNotFound) {
		return n.makeAuthority(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the page's authority: %w", err)
	}
	return openAuthority(n.rowKey(), authorityKey, sealed, n.o.Now)
}

// lockedKey seals the copy of the authority that a locked box needs for the page which opens it. Who has
// the card of such a box can pose as its page in a private network; it reads nothing by that.
func (n *Node) lockedKey() seal.Key { return seal.Derive(n.keys.Device, "page") }

// lockedAuthority is that copy. Without one, of a box that never had a page on a network, phones warn.
func (n *Node) lockedAuthority() (*authority, error) {
	sealed, err := n.store.GetRow(lockedAuthorityKey)
	if errors.Is(err, store.ErrNotFound) {
		made, err := newAuthority(n.box.Name, n.pageNames())
		if err != nil {
			return nil, err
		}
		return made.open(n.o.Now)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the page's authority: %w", err)
	}
	return openAuthority(n.lockedKey(), lockedAuthorityKey, sealed, n.o.Now)
}

// copyAuthority makes the copy, or takes it away.
func (n *Node) copyAuthority(ctx context.Context, wanted bool) error {
	if !wanted {
		return n.store.PutRows(ctx, []store.Row{{Key: lockedAuthorityKey}})
	}
	sealed, err := n.store.GetRow(authorityKey)
	if errors.Is(err, store.ErrNotFound) || n.keys.Locked() { // none, or copied before
		return nil
	}
	if _, known := n.store.GetRow(lockedAuthorityKey); known == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the page's authority: %w", err)
	}
	plain, err := seal.OpenRow(n.rowKey(), authorityKey, sealed)
	if err != nil {
		return fmt.Errorf("reading the page's authority: %w", err)
	}
	again, err := seal.SealRow(rand.Reader, n.lockedKey(), lockedAuthorityKey, plain)
	if err != nil {
		return err
	}
	err = n.store.PutRows(ctx, []store.Row{{Key: lockedAuthorityKey, Value: again}})
	if errors.Is(err, store.ErrFull) {
		return nil // phones warn until there is room
	}
	return err
}

func openAuthority(key seal.Key, rowKey, sealed []byte, now func() time.Time) (*authority, error) {
	plain, err := seal.OpenRow(key, rowKey, sealed)
	if err != nil {
		return nil, fmt.Errorf("reading the page's authority: %w", err)
	}
	var row authorityRow
	if err := record.Unmarshal(plain, &row); err != nil {
		return nil, fmt.Errorf("reading the page's authority: %w", err)
	}
	return row.open(now)
}

func (n *Node) makeAuthority(ctx context.Context) (*authority, error) {
	made, err := newAuthority(n.box.Name, n.pageNames())
	if err != nil {
		return nil, err
	}
	plain, err := record.Marshal(*made)
	if err != nil {
		return nil, err
	}
	row, err := n.sealedRow(authorityKey, plain)
	if err != nil {
		return nil, err
	}
	if err := n.store.PutRows(ctx, []store.Row{row}); errors.Is(err, store.ErrFull) {
		n.log.Warn().Msg("no room to keep the page's authority: phones have to trust another one after the next start")
	} else if err != nil {
		return nil, fmt.Errorf("keeping the page's authority: %w", err)
	}
	return made.open(n.o.Now)
}

// pageNames are the names under which this box's page is asked for.
func (n *Node) pageNames() []string {
	names := []string{web.BoxName}
	if host, err := os.Hostname(); err == nil && host != "" {
		first, _, _ := strings.Cut(strings.ToLower(host), ".")
		names = append(names, first+".local")
	}
	if host, _, err := net.SplitHostPort(n.o.Page); err == nil && host != "" && host != "localhost" {
		if _, err := netip.ParseAddr(host); err != nil {
			names = append(names, strings.ToLower(host))
		}
	}
	return names
}

// config is for a server whose clients come over the building's network.
func (a *authority) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		local, err := netip.ParseAddrPort(h.Conn.LocalAddr().String())
		if err != nil {
			return a.certificateFor(netip.Addr{})
		}
		return a.certificateFor(local.Addr().Unmap().WithZone(""))
	}}
}

// certificateFor gives a certificate that holds now, and for an address of this box.
func (a *authority) certificateFor(local netip.Addr) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if a.leaf != nil && now.Sub(a.base).Abs() <= leafDrift && (!a.mayName(local) || a.leaf.Leaf.VerifyHostname(local.String()) == nil) {
		return a.leaf, nil
	}
	leaf, err := a.sign(now, append(ownAddresses(), local))
	if err != nil {
		return nil, err
	}
	a.leaf, a.base = leaf, now
	return leaf, nil
}

// mayName tells whether the authority can sign for an address.
func (a *authority) mayName(addr netip.Addr) bool {
	return addr.IsValid() && slices.ContainsFunc(a.certificate.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(addr.AsSlice()) })
}

func (a *authority) sign(now time.Time, addresses []netip.Addr) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the page's key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: web.BoxName}, NotBefore: now.Add(-leafBefore), NotAfter: now.Add(leafAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: a.certificate.PermittedDNSDomains,
	}
	for _, addr := range addresses {
		if a.mayName(addr) && !slices.ContainsFunc(t.IPAddresses, func(ip net.IP) bool { return ip.Equal(addr.AsSlice()) }) {
			t.IPAddresses = append(t.IPAddresses, addr.AsSlice())
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("making the page's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making the page's certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.certificate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// ownAddresses are those of this machine; none when it does not say.
func ownAddresses() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var own []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr().Unmap().WithZone(""))
		}
	}
	return own
}
