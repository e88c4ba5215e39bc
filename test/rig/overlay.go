package rig

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Overlaid builds the program with files of the tests laid over it (go build
// -overlay): added ones by their place in the tree, and changes of one expression
// each, which has to stand in its file exactly once. Nothing of it is in the program
// that ships.
func Overlaid(name string, added map[string]string, changes map[string][2]string) (string, error) {
	built.Lock()
	defer built.Unlock()
	if err := prepareLocked(); err != nil {
		return "", err
	}
	replace := map[string]string{}
	for place, from := range added {
		var err error
		if replace[filepath.Join(built.root, place)], err = filepath.Abs(from); err != nil {
			return "", err
		}
	}
	for file, change := range changes {
		raw, err := os.ReadFile(filepath.Join(built.root, file))
		if err != nil {
			return "", err
		}
		re := regexp.MustCompile(change[0])
		if n := len(re.FindAll(raw, -1)); n != 1 {
			return "", fmt.Errorf("%s has %q %d times", file, change[0], n)
		}
		to := filepath.Join(built.dir, name+"-"+strings.ReplaceAll(file, "/", "-"))
		replace[filepath.Join(built.root, file)] = to
		if err := os.WriteFile(to, re.ReplaceAll(raw, []byte(change[1])), 0o600); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list, out := filepath.Join(built.dir, name+".json"), filepath.Join(built.dir, "healthpost-"+name)
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	if err := buildLocked(out, "-overlay", list); err != nil {
		return "", fmt.Errorf("called %s: %w", name, err)
	}
	return out, nil
}
