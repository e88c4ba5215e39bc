package sim_test

import (
	"testing"

	"github.com/healthpost/healthpost/test/sim"
)

// TestParcelBreaksAreCaught breaks what becomes of a parcel.
func TestParcelBreaksAreCaught(t *testing.T) {
	caught(t, sim.Parcels, []planted{
		{"a record of a parcel is answered for and not kept", sim.Hooks{DropRecord: true}, []string{sim.ParcelsBring, sim.ParcelsRepeat, sim.CopiedIsHeld, sim.SyncTerminates}, 1},
	})
}
