package arch

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestProgram holds documents and deployment files to the program itself.
func TestProgram(t *testing.T) {
	tree := loadRoot(t)
	bin := filepath.Join(t.TempDir(), "healthpost")
	if out, err := goBuild(t, bin, "./cmd/healthpost"); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	help := helpOf(t, bin)
	t.Run("documents", func(t *testing.T) { checkDocuments(t, tree, help) })
	t.Run("service", func(t *testing.T) { checkService(t, tree, help) })
	t.Run("config", func(t *testing.T) { checkConfig(t, bin) })
}

// helpOf asks the program for the help of a command, once each.
func helpOf(t *testing.T, bin string) func([]string) string {
	cache := map[string]string{}
	return func(words []string) string {
		key := strings.Join(words, " ")
		if _, ok := cache[key]; !ok {
			out, err := exec.CommandContext(t.Context(), bin, append([]string{"help"}, words...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("healthpost help %s: %v\n%s", key, err, out)
			}
			cache[key] = string(out)
		}
		return cache[key]
	}
}

// checkDocuments: each command line that a document shows exists.
func checkDocuments(t *testing.T, tree *Tree, help func([]string) string) {
	total := 0
	for _, p := range tree.Paths {
		if filepath.Ext(p) != ".md" || p == "CHANGELOG.md" {
			continue
		}
		data, err := tree.Bytes(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range Mentions(string(data)) {
			total++
			if what := Unknown(m, help); what != "" {
				t.Errorf("%s:%d shows %s, which the program does not have", p, m.Line, what)
			}
		}
	}
	if total == 0 {
		t.Error("no document shows a command")
	}
	t.Logf("%d command lines shown", total)
}

// checkService: the service starts the program with flags that it has.
func checkService(t *testing.T, tree *Tree, help func([]string) string) {
	data, err := tree.Bytes("deploy/arm/healthpost.service")
	if err != nil {
		t.Fatal(err)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=\S+/healthpost( .*)$`).FindSubmatch(data)
	if start == nil {
		t.Fatal("no ExecStart that runs the program")
	}
	for _, m := range mention(0, string(start[1])) {
		if what := Unknown(m, help); what != "" {
			t.Errorf("the service uses %s, which the program does not have", what)
		}
	}
}

// checkConfig: the program reads the example, and does not read just anything.
// A folder without a box is what it complains of once it has read its settings.
func checkConfig(t *testing.T, bin string) {
	const noBox = "no box here"
	say := func(config string) string {
		out, err := exec.CommandContext(t.Context(), bin, "status", "--data", t.TempDir(), "--config", config).CombinedOutput()
		if err == nil {
			t.Fatalf("status of an empty folder succeeded:\n%s", out)
		}
		return string(out)
	}
	if got := say(filepath.Join(root, "deploy/arm/config.toml")); !strings.Contains(got, noBox) {
		t.Errorf("the example configuration: %s", got)
	}
	bad := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(bad, []byte("pge = \"x\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := say(bad); strings.Contains(got, noBox) {
		t.Errorf("a misspelt setting was read over: %s", got)
	}
}
