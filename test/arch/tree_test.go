package arch

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const root = "../.."

func loadRoot(t *testing.T) *Tree {
	t.Helper()
	tree, err := Load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Go) < 10 {
		t.Fatalf("found %d Go files; the rules look at the wrong folder", len(tree.Go))
	}
	return tree
}

func TestTree(t *testing.T) {
	tree := loadRoot(t)
	data, err := os.ReadFile("allow.txt")
	if err != nil {
		t.Fatal(err)
	}
	allowed, err := parseAllowances(data)
	if err != nil {
		t.Fatal(err)
	}
	var found []Finding
	for _, rule := range Rules {
		found = append(found, rule.Check(tree)...)
	}
	for _, f := range excuse(found, allowed) {
		t.Error(f)
	}
}

// TestFunctionLengths prints the shape of the code and holds the share of long
// functions; a single one may be long where that reads best.
func TestFunctionLengths(t *testing.T) {
	over40, over70, longest := 0, 0, 0
	lengths := FunctionLengths(loadRoot(t))
	for name, n := range lengths {
		if n > 40 {
			over40++
		}
		if n > 70 {
			over70++
			t.Logf("%d lines: %s", n, name)
		}
		longest = max(longest, n)
	}
	t.Logf("%d functions: %d over 40 lines, %d over 70, longest %d", len(lengths), over40, over70, longest)
	if over40*10 > len(lengths) {
		t.Errorf("%d of %d functions are over 40 lines, want at most one in ten", over40, len(lengths))
	}
}

// TestOtherModule asks the module of outside witnesses whether its go.mod still
// names all that the program imports; a new import would otherwise stop its
// tests long after everything else passed.
func TestOtherModule(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-mod=readonly", "-deps", "-test", "./...")
	cmd.Dir = filepath.Join(root, "test", "interop")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("test/interop: %v; 'go mod tidy' there mends it\n%.500s", err, out)
	}
}

// TestRefuses32Bit compiles the guard for machines on which the store would
// lose records. The guard imports nothing, so that it is what stops the build.
func TestRefuses32Bit(t *testing.T) {
	for _, arch := range []string{"386", "arm", "mipsle"} {
		out, err := build(t, "record/guard64.go", "GOARCH="+arch, "GOOS=linux")
		if err == nil {
			t.Errorf("GOARCH=%s: the build went through, want it refused", arch)
		} else if !strings.Contains(out, "guard64.go") {
			t.Errorf("GOARCH=%s: refused with %q, want the guard's own line", arch, out)
		}
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if out, err := build(t, "record/guard64.go", "GOARCH="+arch, "GOOS=linux"); err != nil {
			t.Errorf("GOARCH=%s: %v\n%s", arch, err, out)
		}
	}
}

// build compiles pkg for nothing but its verdict.
func build(t *testing.T, pkg string, env ...string) (string, error) {
	t.Helper()
	return goBuild(t, filepath.Join(t.TempDir(), "out"), pkg, env...)
}

func goBuild(t *testing.T, out, pkg string, env ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), append(env, "CGO_ENABLED=0")...)
	text, err := cmd.CombinedOutput()
	return string(text), err
}
