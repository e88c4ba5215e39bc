package link_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/healthpost/healthpost/test/link"
	"github.com/healthpost/healthpost/test/rig"
)

// router stands between a network of its own and the world, lets out what comes from
// inside under its own address, and in what answers that.
const router = `
table ip out {
	chain post { type nat hook postrouting priority 100; oifname "wan" masquerade
	}
	chain inn { type filter hook input priority 0; iifname "wan" ct state new drop
	}
	chain through { type filter hook forward priority 0; policy drop; iifname "lan" accept; ct state established,related accept
	}
}
`

const worldAddress = "198.51.100.1"

func newSpace(t *testing.T) *link.Space {
	t.Helper()
	s, err := link.NewSpace()
	check(t, "making a namespace", err)
	t.Cleanup(s.Close)
	return s
}

func ip(t *testing.T, s *link.Space, lines ...string) {
	t.Helper()
	for _, args := range lines {
		check(t, "setting up a network", s.IP(args))
	}
}

// wire connects a device of one namespace with one of another.
func wire(t *testing.T, a *link.Space, nameA string, b *link.Space, nameB string) {
	t.Helper()
	var thread int
	check(t, "naming a namespace", b.Do(func() error { thread = unix.Gettid(); return nil }))
	ip(t, a, fmt.Sprintf("link add %s type veth peer name %s netns %d", nameA, nameB, thread), "link set "+nameA+" up")
	ip(t, b, "link set "+nameB+" up")
}

// behindRouter makes network i, with a router to the world.
func behindRouter(t *testing.T, world *link.Space, i int) (inside *link.Space, address string) {
	t.Helper()
	r, inside := newSpace(t), newSpace(t)
	wire(t, world, fmt.Sprintf("port%d", i), r, "wan")
	wire(t, r, "lan", inside, "eth")
	address = fmt.Sprintf("10.%d.0.2", i)
	ip(t, world, fmt.Sprintf("link set port%d master world", i))
	ip(t, r, fmt.Sprintf("addr add 198.51.100.%d/24 dev wan", 10+i), fmt.Sprintf("addr add 10.%d.0.1/24 dev lan", i))
	ip(t, inside, "addr add "+address+"/24 dev eth", fmt.Sprintf("route add default via 10.%d.0.1", i))
	check(t, "making a router", r.Do(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
			return err
		}
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(router)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}))
	return inside, address
}

// Two clinics behind routers of their own meet at their hub, learn there where they
// are seen, and part from it.
func TestClinicsBehindRoutersReachEachOther(t *testing.T) {
	world := newSpace(t)
	ip(t, world, "link add world type bridge", "addr add "+worldAddress+"/24 dev world", "link set world up")
	hub := newBox(t, world, worldAddress, "Hub", "hub", 0, quic(worldAddress))
	hub.Must("region", "create", "Region of routers")
	hub.Start()
	r := &rig.Region{T: t, Hubs: []*rig.Box{hub}}
	var clinics []*rig.Box
	for i, name := range []string{"Ahead", "Behind"} {
		inside, address := behindRouter(t, world, i+1)
		b := newBox(t, inside, address, name, "clinic", 0, quic(address))
		r.Dials = func(*rig.Box) []string {
			dial := []string{hub.Listen[1] + "/p2p/" + hub.PeerID()}
			if i > 0 {
				dial = append(dial, "/p2p-circuit/p2p/"+clinics[0].PeerID())
			}
			return dial
		}
		r.Admit(b)
		clinics = append(clinics, b)
	}
	rig.Eventually(t, time.Minute, "a direct session of the two clinics", func() string {
		p := peerOf(clinics[1].Status(), "Ahead")
		if p.Link != "up" || p.Relayed {
			return fmt.Sprint(p.Link, ", relayed: ", p.Relayed, " ", p.Trouble)
		}
		return ""
	})
}

// quic is where a box listens besides TCP.
func quic(address string) string { return fmt.Sprintf("/ip4/%s/udp/4001/quic-v1", address) }
