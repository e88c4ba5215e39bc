package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// overlaid builds the program with files of the tests laid over it (go build
// -overlay): added ones by their place in the tree, and changes of one expression
// each, which has to stand in its file exactly once.
func overlaid(name string, added map[string]string, changes map[string][2]string) (string, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(program)
	replace := map[string]string{}
	for place, from := range added {
		if replace[filepath.Join(root, place)], err = filepath.Abs(from); err != nil {
			return "", err
		}
	}
	for file, change := range changes {
		raw, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return "", err
		}
		re := regexp.MustCompile(change[0])
		if n := len(re.FindAll(raw, -1)); n != 1 {
			return "", fmt.Errorf("%s has %q %d times", file, change[0], n)
		}
		to := filepath.Join(dir, name+"-"+filepath.Base(file))
		replace[filepath.Join(root, file)] = to
		if err := os.WriteFile(to, re.ReplaceAll(raw, []byte(change[1])), 0o600); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, name+".json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	out := filepath.Join(dir, "healthpost-"+name)
	build := exec.Command("go", "build", "-buildvcs=false", "-overlay", list, "-o", out, "../../cmd/healthpost")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program called %s: %w\n%s", name, err, text)
	}
	return out, nil
}
