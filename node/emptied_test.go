package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

// A box whose database was taken away neither runs nor is found sound.
func TestDatabaseTakenAway(t *testing.T) {
	dir := t.TempDir()
	if _, err := node.Init(dir, record.RoleHub, "Only hub"); err != nil {
		t.Fatal(err)
	}
	o := node.NewOptions(dir)
	if _, err := node.CreateRegion(t.Context(), o, "Lake region"); err != nil {
		t.Fatal(err)
	}
	sound, err := node.OpenToRun(t.Context(), o, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := sound.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "db")); err != nil {
		t.Fatal(err)
	}
	if n, err := node.OpenToRun(t.Context(), o, func(string) {}); !errors.Is(err, node.ErrEmptied) {
		if n != nil {
			n.Close()
		}
		t.Fatalf("running: got %v, want ErrEmptied", err)
	}
	c, err := node.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rep, err := c.Verify(t.Context(), node.VerifyRequest{}, func(node.Progress) {})
	if err != nil || len(rep.Damage) != 1 || rep.Damage[0].Where != "db" {
		t.Errorf("verifying: got %+v, %v; want damage of db", rep.Damage, err)
	}
	st, err := c.Status(t.Context())
	if err != nil || len(st.Faults) != 1 {
		t.Errorf("status: got faults %q, %v; want one", st.Faults, err)
	}
}
