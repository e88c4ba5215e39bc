package node

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/web"
)

func testAuthority(t *testing.T, now func() time.Time) *authority {
	t.Helper()
	row, err := newAuthority("Test box", []string{web.BoxName, "box.local"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := row.open(now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// believes tells whether a phone that knows the authority takes a certificate for a host at a time.
func believes(t *testing.T, a *authority, leaf *tls.Certificate, host string, at time.Time) error {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	_, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: at})
	return err
}

func TestAnAuthoritySignsForItsBoxAlone(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	a := testAuthority(t, func() time.Time { return at })
	leaf, err := a.certificateFor(netip.MustParseAddr("10.77.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{web.BoxName, "box.local", "10.77.0.1", "127.0.0.1"} {
		if err := believes(t, a, leaf, host, at); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	// who has the key of the authority signs for others, and nobody believes it
	for host, other := range map[string]func(*x509.Certificate){
		"evil.example":     func(c *x509.Certificate) { c.DNSNames = []string{"evil.example"} },
		"other.home.arpa":  func(c *x509.Certificate) { c.DNSNames = []string{"other.home.arpa"} },
		"203.0.113.7":      func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("203.0.113.7")} },
		"2001:db8::1":      func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("2001:db8::1")} },
		"box.local.evil.e": func(c *x509.Certificate) { c.DNSNames = []string{"box.local.evil.e"} },
	} {
		forged := *leaf.Leaf
		forged.DNSNames, forged.IPAddresses = nil, nil
		other(&forged)
		der, err := x509.CreateCertificate(bytes.NewReader(bytes.Repeat([]byte{7}, 1<<12)), &forged, a.certificate, leaf.Leaf.PublicKey, a.key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := believes(t, a, &tls.Certificate{Leaf: c}, host, at); err == nil {
			t.Errorf("%s is believed", host)
		}
	}
	if c := a.certificate; !c.IsCA || !c.MaxPathLenZero || c.KeyUsage != x509.KeyUsageCertSign || !c.PermittedDNSDomainsCritical || c.PublicKeyAlgorithm != x509.ECDSA {
		t.Errorf("the authority is %+v", c)
	}
	if life := leaf.Leaf.NotAfter.Sub(leaf.Leaf.NotBefore); life > 825*24*time.Hour {
		t.Errorf("a certificate holds %s, some browsers take 825 days at most", life)
	}
}

// Whatever the clock of the box shows, phones that know the time get in.
func TestCertificatesOutliveWrongClocks(t *testing.T) {
	today := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for name, raw := range map[string]time.Time{
		"right": today, "1970": time.Unix(0, 0), "firmware": time.Date(2019, 3, 4, 5, 6, 7, 0, time.UTC),
		"a year ahead": today.AddDate(1, 0, 0), "a year behind": today.AddDate(-1, 0, 0),
	} {
		clock := newBoxClock(func() time.Time { return raw })
		clock.notBefore(today.AddDate(0, 0, -390)) // the newest that the region signed, as far as it came here
		a := testAuthority(t, clock.now)
		leaf, err := a.certificateFor(netip.MustParseAddr("192.168.1.9"))
		if err != nil {
			t.Fatal(err)
		}
		if err := believes(t, a, leaf, "192.168.1.9", today); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCertificatesAreRenewed(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	a := testAuthority(t, func() time.Time { return at })
	addr := netip.MustParseAddr("10.0.0.7")
	first, err := a.certificateFor(addr)
	if err != nil {
		t.Fatal(err)
	}
	leafAt := func(want bool, why string) {
		t.Helper()
		c, err := a.certificateFor(addr)
		if err != nil {
			t.Fatal(err)
		}
		if (c == first) != want {
			t.Errorf("%s: the same certificate is %t, want %t", why, c == first, want)
		}
		if err := believes(t, a, c, addr.String(), at); err != nil {
			t.Errorf("%s: %v", why, err)
		}
		first = c
	}
	leafAt(true, "a moment later")
	for range 40 { // six years and a half
		at = at.Add(leafDrift)
		leafAt(true, "sixty days later")
		at = at.Add(time.Second)
		leafAt(false, "and a second")
	}
	at = at.AddDate(-3, 0, 0)
	leafAt(false, "the clock was set back")
	addr = netip.MustParseAddr("172.16.4.4")
	leafAt(false, "the box has another address")
	addr = netip.MustParseAddr("203.0.113.7")
	if _, err := a.certificateFor(addr); err != nil {
		t.Errorf("an address that it cannot sign for: %v, want what it has", err)
	}
}

func TestTheAuthorityStaysAndItsKeyIsSealed(t *testing.T) {
	dir := t.TempDir()
	if _, err := Init(dir, record.RoleStandalone, "Test box"); err != nil {
		t.Fatal(err)
	}
	n := withStaff(t, dir, time.Now)
	a, err := n.loadAuthority(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secret, err := a.key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, secret) {
			t.Errorf("%s holds the authority's key as it is", filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n = withStaff(t, dir, time.Now)
	again, err := n.loadAuthority(t.Context())
	if err != nil || !again.certificate.Equal(a.certificate) || !again.key.Equal(a.key) {
		t.Errorf("after a restart the authority is another one, %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestThePageOverTLS(t *testing.T) {
	n := openStandalone(t)
	founded(t, n)
	a, err := n.loadAuthority(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, ended := web.NewServer(n.pageHandler(a)), make(chan error, 1)
	go func() { ended <- srv.Serve(web.NewDoor(l, a.config())) }()
	defer func() { srv.Close(); <-ended }()
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	phone := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer phone.CloseIdleConnections()
	tiles, err := n.Staff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	res, err := phone.PostForm("https://"+l.Addr().String()+"/sign-in", url.Values{"staff": {tiles[0].ID}, "pin": {"314159"}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	cookie := res.Header.Get("Set-Cookie")
	for _, want := range []string{"__Host-healthpost_session=", "Secure", "HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("cookie %q lacks %s", cookie, want)
		}
	}
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("status %d, HSTS %q", res.StatusCode, res.Header.Get("Strict-Transport-Security"))
	}
	if res, err = phone.Get("https://" + l.Addr().String() + "/"); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", res, err)
	}
	res.Body.Close()
	// the same port takes plain HTTP, which on this machine is the page
	if res, err = phone.Get("http://" + l.Addr().String() + "/sign-in"); err != nil || res.StatusCode != http.StatusOK || res.Header.Get("Strict-Transport-Security") != "" {
		t.Fatalf("%v, %v", res, err)
	}
	res.Body.Close()
	if res, err = phone.Get("http://" + l.Addr().String() + "/trust/authority"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || !bytes.Equal(got, a.certificate.Raw) {
		t.Errorf("the authority's file has %d bytes, %v", len(got), err)
	}
	old := tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}
	if c, err := tls.Dial("tcp", l.Addr().String(), &old); err == nil {
		c.Close()
		t.Error("TLS 1.1 is taken")
	}
}
