package link_test

import (
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/test/link"
	"github.com/healthpost/healthpost/test/rig"
)

// Two clinics in networks of their own accept calls from nobody: both listen where
// only their own machine is. Their hub brings them together.
func TestClinicsThatOnlyDialOutMeet(t *testing.T) {
	r := newLine(t, 1)
	other := newBox(t, r.Far, "127.0.0.1", "Other", "clinic", 1)
	r.Admit(other)
	r.clinic.Stop()
	r.clinic.Listen[0] = strings.Replace(r.clinic.Listen[0], link.NearAddress, "127.0.0.1", 1)
	r.clinic.Configure(append(r.clinic.Dial, "/p2p-circuit/p2p/"+other.PeerID()))
	r.clinic.Start()
	rig.Eventually(t, time.Minute, "a session of the two clinics", func() string {
		for _, p := range []node.PeerStatus{peerOf(r.clinic.Status(), "Other"), peerOf(other.Status(), "Clinic")} {
			if p.Link != "up" || p.BytesIn == 0 || !p.Relayed {
				return p.Name + " " + p.Link + " " + p.Trouble
			}
		}
		return ""
	})
}
