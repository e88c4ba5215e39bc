package arm

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const root = "../.."

// emulator runs arm64 programs where the machine is not one.
const emulator = "qemu-aarch64-static"

// machines maps a processor to the command line that runs its programs here.
func machines(t *testing.T) map[string][]string {
	t.Helper()
	if runtime.GOARCH == "arm64" {
		return map[string][]string{"arm64": nil}
	}
	path, err := exec.LookPath(emulator)
	if err != nil {
		t.Fatalf("%v; `make setup` installs it", err)
	}
	return map[string][]string{"amd64": nil, "arm64": {path}}
}

// compile builds the ledger program for a processor.
func compile(t *testing.T, arch string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "ledger-"+arch)
	cmd := exec.CommandContext(t.Context(), "go",
		"build", "-buildvcs=false", "-o", bin, "./test/arm/ledger")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building for %s: %v\n%s", arch, err, out)
	}
	return bin
}

// run starts the program and returns the lines it prints.
func run(t *testing.T, prefix []string, bin string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	argv := append(append(append([]string{}, prefix...), bin), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Logf("%s: %s", strings.Join(argv, " "), stderr.String())
	}
	return string(out), err
}

// log makes a log of items with the program of this machine.
func log(t *testing.T, seed, records string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	if _, err := run(t, nil, compile(t, runtime.GOARCH), "generate", path, seed, records); err != nil {
		t.Fatalf("making the log: %v", err)
	}
	return path
}

// records is how many the long ledger has: HEALTHPOST_LEDGER, or 25,000, which an
// emulator takes in half a minute.
func records() string {
	if text := os.Getenv("HEALTHPOST_LEDGER"); text != "" {
		return text
	}
	return "25000"
}

// TestSameLedger orders one log of many records on each machine, in one process,
// and reads the replica in another: both must take and find every record, and
// come to the same root. Ordering checks every signature; reading checks them once
// more where that costs little.
func TestSameLedger(t *testing.T) {
	items := log(t, "20261121", records())
	said := map[string]string{}
	for arch, prefix := range machines(t) {
		bin := compile(t, arch)
		dir := t.TempDir()
		start := time.Now()
		wrote, err := run(t, prefix, bin, "write", dir, items)
		if err != nil {
			t.Fatalf("%s: writing: %v", arch, err)
		}
		again := "read"
		if prefix != nil {
			again = "count"
		}
		read, err := run(t, prefix, bin, again, dir)
		if err != nil {
			t.Fatalf("%s: reading: %v", arch, err)
		}
		if wrote != read {
			t.Errorf("%s: wrote\n%sbut read\n%s", arch, wrote, read)
		}
		said[arch] = read
		t.Logf("%s: %s in %v", arch, strings.Join(strings.Fields(read), " "), time.Since(start).Round(time.Second))
	}
	if amd, ok := said["amd64"]; ok && amd != said["arm64"] {
		t.Errorf("amd64 says\n%sarm64 says\n%s", amd, said["arm64"])
	}
}

// TestCrossOpen reads on each machine, signatures and all, what the other wrote.
func TestCrossOpen(t *testing.T) {
	all := machines(t)
	dir := t.TempDir()
	wrote, err := run(t, all["arm64"], compile(t, "arm64"), "write", dir, log(t, "7", "3000"))
	if err != nil {
		t.Fatal(err)
	}
	for arch, prefix := range all {
		read, err := run(t, prefix, compile(t, arch), "read", dir)
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		if read != wrote {
			t.Errorf("arm64 wrote\n%s%s reads\n%s", wrote, arch, read)
		}
	}
}

// TestSeesADifference is the control: another seed must give other lines.
func TestSeesADifference(t *testing.T) {
	bin := compile(t, runtime.GOARCH)
	one, err := run(t, nil, bin, "write", t.TempDir(), log(t, "1", "100"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := run(t, nil, bin, "write", t.TempDir(), log(t, "2", "100"))
	if err != nil {
		t.Fatal(err)
	}
	if one == two {
		t.Errorf("two seeds gave the same lines:\n%s", one)
	}
}
