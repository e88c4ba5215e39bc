package node_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// What a stranger can read of a hub, whatever he asks and whether an invitation is open or not, holds no
// name of the region or of a box, and not the region's id.
func TestAStrangerLearnsNotEvenTheRegionsName(t *testing.T) {
	hub := newHub(t)
	st := status(t, hub)
	hubID, err := record.ParseDeviceID(st.Device)
	if err != nil {
		t.Fatal(err)
	}
	region, err := record.ParseRegionID(st.Region)
	if err != nil {
		t.Fatal(err)
	}
	at := st.Addresses[0]
	var heard bytes.Buffer
	listen := func() {
		parts := strings.Split(at, "/")
		c, err := net.Dial("tcp", net.JoinHostPort(parts[2], parts[4]))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(30 * time.Second))
		c.Write([]byte("\x13/multistream/1.0.0\n\x03ls\n"))
		c.(*net.TCPConn).CloseWrite()
		io.Copy(&heard, c)
		c.Close()
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range [][]byte{{}, make([]byte, 16)} {
			q, err := record.Marshal([]any{token, make([]byte, 32), "clinic", "Intruder", []string{}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := peersync.RequestJoin(t.Context(), key, hubID, []string{at}, q)
			heard.Write(got)
			if err != nil {
				heard.WriteString(err.Error())
			}
		}
		h, err := peersync.NewHost(peersync.HostOptions{Key: key, Allow: func(record.DeviceID) bool { return true }})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		info, err := peer.AddrInfoFromString(at)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range hub.n.Protocols() {
			if p == peersync.JoinProtocol || h.Libp2p().Connect(t.Context(), *info) != nil {
				continue
			}
			s, err := h.Libp2p().NewStream(t.Context(), info.ID, p)
			if err != nil {
				continue
			}
			s.SetDeadline(time.Now().Add(30 * time.Second))
			s.Write(make([]byte, 100))
			s.CloseWrite()
			io.Copy(&heard, s)
			s.Reset()
		}
	}
	listen()
	shut := heard.Len()
	hub.invite(record.RoleClinic)
	listen()
	if shut == 0 || heard.Len() == shut || len(hub.n.Protocols()) < 5 {
		t.Fatalf("heard %d and %d bytes over %v", shut, heard.Len()-shut, hub.n.Protocols())
	}
	for _, secret := range []string{"Lake", "lake region", string(region[:]), region.String(), region.String()[:16]} {
		if bytes.Contains(heard.Bytes(), []byte(secret)) {
			t.Errorf("a stranger hears %q", secret)
		}
	}
}

// An invitation ends with its time, also when the hub's clock goes back: ledger time does not.
func TestAnInvitationEndsByLedgerTime(t *testing.T) {
	hub := newBox(t, record.RoleHub, "Hub")
	var mu sync.Mutex
	var shift time.Duration
	hub.o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(shift) }
	move := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); shift += d }
	if _, err := node.CreateRegion(t.Context(), hub.o, "Lake region"); err != nil {
		t.Fatal(err)
	}
	hub.start()
	join := func(text, name string) error {
		_, err := node.Join(t.Context(), newBox(t, record.RoleClinic, name).o, text, nil)
		return err
	}
	old := hub.invite(record.RoleClinic)
	move(25 * time.Hour)
	if err := join(hub.invite(record.RoleClinic), "One"); err != nil { // which gives the ledger this time
		t.Fatal(err)
	}
	if err := join(old, "Late"); err == nil {
		t.Fatal("an invitation of yesterday admits")
	}
	move(-24 * time.Hour)
	fresh := hub.invite(record.RoleClinic) // strangers may knock
	if err := join(old, "Late"); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an invitation of yesterday, after the clock went back: %v", err)
	}
	if err := join(fresh, "Two"); err != nil {
		t.Errorf("a fresh one: %v", err)
	}
}

// What the ledger and disks of others keep of an invitation is no invitation: the hub has its hash.
func TestAnInvitationIsNowhereOnDisk(t *testing.T) {
	hub := newHub(t)
	text := hub.invite(record.RoleClinic)
	token, err := node.InvitationToken(text)
	if err != nil {
		t.Fatal(err)
	}
	s := secrets{"the token": token}
	s.text("the invitation", text)
	hub.stop()
	if got := s.foundUnder(t, hub.o.Data); len(got) != 0 {
		t.Errorf("the hub's disk holds %v", got)
	}
	if err := os.WriteFile(hub.o.Data+"/planted", token, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.foundUnder(t, hub.o.Data); len(got) != 1 {
		t.Error("a token that lies there is not found")
	}
}
