package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

// clinic is a standalone box in a folder, with one staff member.
type clinic struct {
	dir string
	o   node.Options
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	dir := t.TempDir()
	if _, err := node.Init(dir, record.RoleStandalone, "Test box"); err != nil {
		t.Fatal(err)
	}
	o := node.NewOptions(dir)
	o.Page, o.LAN, o.Listen = "", false, []string{"/ip4/127.0.0.1/tcp/0"}
	o.PIN = seal.PINParams{MemoryKiB: 64, Passes: 1, Threads: 1}
	o.Store.BallastBytes = 1 << 20
	return &clinic{dir, o}
}

// opened hands the box, running or not, to f and closes it afterwards.
func (c *clinic) opened(t *testing.T, running bool, f func(n *node.Node)) {
	t.Helper()
	n, err := node.Open(c.o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Errorf("closing the box: %v", err)
		}
	}()
	if !running {
		f(n)
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- n.Run(ctx, func(string) { close(ready) })
		close(done)
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stopping the box: %v", err)
		}
	}()
	select {
	case <-ready:
		f(n)
	case err := <-done:
		t.Errorf("the box stopped at its start: %v", err)
	}
}

// visit saves one of a new patient and gives the record's id.
func visit(t *testing.T, n *node.Node, form string) string {
	t.Helper()
	ctx := t.Context()
	tiles, err := n.Staff(ctx)
	if err == nil && len(tiles) == 0 {
		if err = n.AddStaff(ctx, nil, web.NewStaff{Name: "Amina Test", PIN: "314159"}); err == nil {
			tiles, err = n.Staff(ctx)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	token, err := n.SignIn(ctx, tiles[0].ID, "314159")
	if err != nil {
		t.Fatal(err)
	}
	s, err := n.Session(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	patient, err := n.Register(ctx, s, form+"-patient", fhir.Registration{Given: "Nakato", Family: "Testova", Sex: "female", BirthDate: "2021", Village: "Mbale"})
	if err != nil {
		t.Fatal(err)
	}
	saved, err := n.SaveVisit(ctx, s, patient, form, fhir.Visit{At: time.Now(), Temperature: "38.5", Problem: "fever"})
	if err != nil {
		t.Fatal(err)
	}
	return saved.RID
}

// confirmed waits until everything on the box has its place.
func confirmed(t *testing.T, n *node.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for changed := n.Watch(ctx); ; {
		s, err := n.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if s.Pending == 0 && s.Shared == 0 && s.Size == s.Confirmed {
			return
		}
		if _, ok := <-changed; !ok {
			t.Fatalf("records wait for their place: %+v", s)
		}
	}
}

// healthpost runs one command in this process and gives what it prints.
func healthpost(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := healthpost(t, args...)
	if err != nil {
		t.Fatalf("healthpost %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// mustJSON runs one command with --json and reads what it prints into v.
func mustJSON(t *testing.T, v any, args ...string) {
	t.Helper()
	if err := json.Unmarshal([]byte(mustRun(t, append(args, "--json")...)), v); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// proofFiles is a folder with the proof of a visit and the keys, both made while
// the box ran, and nothing else; the box is stopped.
func proofFiles(t *testing.T, c *clinic) (rid, proof, keys string) {
	t.Helper()
	dir := t.TempDir()
	proof, keys = filepath.Join(dir, "visit.hpproof"), filepath.Join(dir, "keys.toml")
	c.opened(t, true, func(n *node.Node) {
		rid = visit(t, n, "form-1")
		confirmed(t, n)
		mustRun(t, "prove", rid, "--out", proof, "--data", c.dir)
		writeFile(t, keys, []byte(mustRun(t, "region", "keys", "--data", c.dir)))
	})
	return rid, proof, keys
}

func TestProve(t *testing.T) {
	c := newClinic(t)
	rid, proof, keys := proofFiles(t, c)
	t.Logf("proof of %d bytes", len(readFile(t, proof)))

	// A stopped box gives the same keys, and a proof that holds as well.
	again := filepath.Join(t.TempDir(), "again.hpproof")
	var made proveResult
	mustJSON(t, &made, "prove", rid, "--out", again, "--data", c.dir)
	if made.RID != rid || made.File != again || made.Bytes == 0 || made.Seq >= made.Size {
		t.Errorf("prove --json: got %+v", made)
	}
	keysJSON := writeFile(t, filepath.Join(t.TempDir(), "keys.json"), []byte(mustRun(t, "region", "keys", "--json", "--data", c.dir)))

	var status node.Status
	mustJSON(t, &status, "status", "--data", c.dir)
	t.Chdir(t.TempDir()) // a folder without a box
	t.Setenv("HEALTHPOST_DATA", filepath.Join(t.TempDir(), "none"))
	for _, files := range [][2]string{{proof, keys}, {proof, keysJSON}, {again, keys}} {
		var r checkedProof
		mustJSON(t, &r, "check-proof", files[0], "--keys", files[1])
		if !r.Holds || r.RID != rid || r.Device != status.Device || r.Class != "clinical (sealed)" || r.Seq >= r.Size || r.Hubs != 1 ||
			len(r.Signers) != 1 || r.Signers[0].Name != "Test box" || r.Region != status.Region || r.Time.IsZero() {
			t.Errorf("check-proof --json: got %+v", r)
		}
	}
	words := mustRun(t, "check-proof", proof, "--keys", keys)
	for _, want := range []string{"holds", rid, status.Device, "clinical", "1 of 1 hubs", "Test box"} {
		if !strings.Contains(words, want) {
			t.Errorf("check-proof does not say %q:\n%s", want, words)
		}
	}
	if left, err := os.ReadDir("."); err != nil || len(left) != 0 {
		t.Errorf("check-proof left %v, %v", left, err)
	}
}

// refuses wants check-proof to say why, on standard error alone or as JSON.
func refuses(t *testing.T, name, proof, keys, why string) {
	t.Helper()
	out, err := healthpost(t, "check-proof", proof, "--keys", keys)
	if err == nil || !strings.Contains(err.Error(), why) || out != "" {
		t.Errorf("%s: got %v and %q, want %q", name, err, out, why)
	}
	out, err = healthpost(t, "check-proof", proof, "--keys", keys, "--json")
	var r checkedProof
	if json.Unmarshal([]byte(out), &r) != nil || err == nil || r.Holds || !strings.Contains(r.Why, why) {
		t.Errorf("%s: as JSON got %v and %q", name, err, out)
	}
}

func TestCheckProofRefuses(t *testing.T) {
	c := newClinic(t)
	_, proof, keys := proofFiles(t, c)
	raw, text := readFile(t, proof), readFile(t, keys)
	k, err := node.ParseRegionKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	spoiled := bytes.Clone(raw)
	spoiled[len(spoiled)-1] ^= 1
	other := func(old, new string) []byte { return []byte(strings.Replace(string(text), old, new, 1)) }
	for name, x := range map[string]struct {
		proof, keys []byte
		why         string
	}{
		"a spoiled proof":           {spoiled, text, "does not hold"},
		"a proof cut short":         {raw[:len(raw)-1], text, "cut short"},
		"no proof":                  {text, text, "not a proof file"},
		"an empty file":             {nil, text, "not a proof file"},
		"a file too long":           {append(bytes.Clone(raw), make([]byte, 1<<20)...), text, "more than"},
		"another region":            {raw, other(k.Region, strings.Repeat("ab", 32)), "does not hold"},
		"another hub":               {raw, other(k.Hubs[0].Device, strings.Repeat("ab", 32)), "does not hold"},
		"two more hubs":             {raw, append(bytes.Clone(text), "\n[[hubs]]\ndevice = \""+strings.Repeat("ab", 32)+"\"\n[[hubs]]\ndevice = \""+strings.Repeat("cd", 32)+"\"\n"...), "1 of 3"},
		"a hub twice":               {raw, append(bytes.Clone(text), "\n[[hubs]]\ndevice = \""+k.Hubs[0].Device+"\"\n"...), "twice"},
		"keys without hubs":         {raw, []byte("format = 1\nregion = \"" + k.Region + "\"\n"), "0 hubs"},
		"keys of a later format":    {raw, other("format = 1", "format = 2"), "format 2"},
		"an unknown setting":        {raw, append([]byte("majority = 1\n"), text...), "majority"},
		"an unknown setting (JSON)": {raw, []byte(`{"majority": 1}`), "majority"},
		"keys that are none":        {raw, raw, "reading the keys"},
	} {
		refuses(t, name, writeFile(t, filepath.Join(dir, "proof"), x.proof), writeFile(t, filepath.Join(dir, "keys"), x.keys), x.why)
	}
}

func TestCheckProofExitCodes(t *testing.T) {
	_, proof, keys := proofFiles(t, newClinic(t))
	for want, args := range map[int][]string{
		0: {"check-proof", proof, "--keys", keys}, exitFailed: {"check-proof", keys, "--keys", keys}, exitUsage: {"check-proof", proof},
	} {
		if got := run(t.Context(), args); got != want {
			t.Errorf("healthpost %s: got exit code %d, want %d", strings.Join(args, " "), got, want)
		}
	}
}

// What has no place under a final checkpoint yet is told in words, and no file
// is left.
func TestProveRefuses(t *testing.T) {
	c := newClinic(t)
	proofFiles(t, c)
	var pending string
	c.opened(t, false, func(n *node.Node) { pending = visit(t, n, "form-2") })
	out := filepath.Join(t.TempDir(), "proof")
	for name, x := range map[string]struct{ rid, why string }{
		"a pending record":  {pending, "not in the regional record yet"},
		"an unknown record": {strings.Repeat("ab", 32), "not on this box"},
		"no record id":      {"abc", "64 hexadecimal digits"},
	} {
		if _, err := healthpost(t, "prove", x.rid, "--out", out, "--data", c.dir); err == nil || !strings.Contains(err.Error(), x.why) {
			t.Errorf("%s: got %v, want %q", name, err, x.why)
		}
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was left: %v", err)
	}
	c.opened(t, true, func(n *node.Node) { // once it has its place it can be proven
		confirmed(t, n)
		mustRun(t, "prove", pending, "--out", out, "--data", c.dir)
	})
	if _, err := healthpost(t, "prove", pending, "--out", out, "--data", c.dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a file that is there: got %v", err)
	}
	if _, err := healthpost(t, "region", "keys", "--data", newClinic(t).dir); err == nil || !strings.Contains(err.Error(), "no region") {
		t.Errorf("keys of a box without a region: got %v", err)
	}
}
