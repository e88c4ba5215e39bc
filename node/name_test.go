package node_test

import (
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/web"
)

// A name stands in the lists of every box of the region.
func TestNamesCannotRewriteATerminal(t *testing.T) {
	c := newClinic(t)
	hub := newBox(t, record.RoleHub, "Hub")
	for _, name := range []string{"", "Hub\x1b[2J", "Hub\nclinic", "\u009b31mHub", "\xff", strings.Repeat("x", 121)} {
		if _, err := node.Init(t.TempDir(), record.RoleHub, name); err == nil {
			t.Errorf("a box was named %q", name)
		}
		if _, err := node.CreateRegion(t.Context(), hub.o, name); err == nil {
			t.Errorf("a region was named %q", name)
		}
		if strings.Contains(name, "\n") {
			continue // white space of a typed name becomes one space
		}
		if err := c.n.AddStaff(t.Context(), &c.token, web.NewStaff{Name: name, PIN: "271828"}); err == nil {
			t.Errorf("a staff member was named %q", name)
		}
	}
}
