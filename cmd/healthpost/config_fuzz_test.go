package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/healthpost/healthpost/node"
)

// FuzzConfig reads any file as a configuration: it is refused in words or read the
// same twice, and never half taken.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("page = \"127.0.0.1:8080\"\nlan = false\n[link]\nmetered = true\nmonth_mb = 50\nschedule = \"06:00, 18:00\"\n"), "")
	f.Add([]byte("pages = \"127.0.0.1:8080\"\n"), "true")
	f.Add([]byte("page = 3\n"), "\x00")
	f.Add([]byte("session_idle_minutes = 15\n"), "")
	f.Add([]byte("session_idle_minutes = -15\n"), "")
	f.Add([]byte("session_idle_minutes = 9000000000000000\n"), "") // more than a clock can count
	path := filepath.Join(f.TempDir(), "config.toml")
	f.Fuzz(func(t *testing.T, text []byte, env string) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		read := func() (node.Options, error) {
			o := node.NewOptions("data")
			return o, loadConfig(&o, path, func(name string) string {
				if name == "HEALTHPOST_LAN" || name == "HEALTHPOST_LISTEN" || name == "HEALTHPOST_PROFILE" {
					return env
				}
				return ""
			})
		}
		one, err := read()
		two, again := read()
		if (err == nil) != (again == nil) {
			t.Fatalf("read once: %v, read twice: %v", err, again)
		}
		if err != nil {
			return
		}
		if one.SessionIdle < time.Minute || one.SessionIdle > 24*time.Hour {
			t.Errorf("a sign-in lasts %v", one.SessionIdle)
		}
		if d := cmp.Diff(one.Link, two.Link); d != "" || one.Page != two.Page {
			t.Errorf("read twice: %s", d)
		}
	})
}
