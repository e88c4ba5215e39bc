package link_test

import (
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/test/link"
)

// Two clinics in networks of their own accept calls from nobody: both listen where
// only their own machine is. Their hub brings them together.
func TestClinicsThatOnlyDialOutMeet(t *testing.T) {
	r := newRig(t, 1)
	other := newBox(t, r.Far, "127.0.0.1", "Other", "clinic", 1)
	r.admit(other)
	id, err := node.PeerIDOf(other.dir)
	check(t, "reading an identity", err)
	r.clinic.stop()
	r.clinic.peers = strings.Replace(r.clinic.peers, link.NearAddress, "127.0.0.1", 1)
	r.clinic.dial = append(r.clinic.dial, "/p2p-circuit/p2p/"+id)
	r.clinic.configure()
	r.clinic.start()
	eventually(t, time.Minute, "a session of the two clinics", func() string {
		for _, p := range []node.PeerStatus{peerOf(r.clinic.status(), "Other"), peerOf(other.status(), "Clinic")} {
			if p.Link != "up" || p.BytesIn == 0 || !p.Relayed {
				return p.Name + " " + p.Link + " " + p.Trouble
			}
		}
		return ""
	})
}
