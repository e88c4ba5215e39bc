package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/healthpost/healthpost/node"
)

// configFile is config.toml. A key that is left out keeps its default.
type configFile struct {
	Page        *string  `toml:"page"`
	Log         *string  `toml:"log"`
	Listen      []string `toml:"listen"`
	Announce    []string `toml:"announce"`
	Dial        []string `toml:"dial"`
	LAN         *bool    `toml:"lan"`
	Profile     *string  `toml:"profile"`
	Languages   []string `toml:"languages"`
	SessionIdle *minutes `toml:"session_idle_minutes"`
}

type minutes int

// loadConfig reads path, or DATA/config.toml when path is empty and the file is
// there, then HEALTHPOST_* from the environment. Unknown keys are errors: a
// misspelt one would silently do nothing.
func loadConfig(o *node.Options, path string, env func(string) string) error {
	if path == "" {
		path = env("HEALTHPOST_CONFIG")
	}
	asked := path != ""
	if !asked {
		path = filepath.Join(o.Data, "config.toml")
	}
	var c configFile
	meta, err := toml.DecodeFile(path, &c)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !asked:
	case err != nil:
		return fmt.Errorf("reading the configuration %s: %w", path, err)
	}
	if u := meta.Undecoded(); len(u) > 0 {
		return usagef("reading the configuration %s: there is no setting %q", path, u[0].String())
	}
	c.apply(o)
	return applyEnv(o, env)
}

func (c *configFile) apply(o *node.Options) {
	set(&o.Page, c.Page)
	set(&o.LogAddress, c.Log)
	set(&o.LAN, c.LAN)
	set(&o.Profile, c.Profile)
	setList(&o.Listen, c.Listen)
	setList(&o.Announce, c.Announce)
	setList(&o.Dial, c.Dial)
	setList(&o.Language, c.Languages)
	if c.SessionIdle != nil {
		o.SessionIdle = minutesOf(*c.SessionIdle)
	}
}

func set[T any](dst *T, v *T) {
	if v != nil {
		*dst = *v
	}
}

func setList(dst *[]string, v []string) {
	if v != nil {
		*dst = v
	}
}

func applyEnv(o *node.Options, env func(string) string) error {
	if v := env("HEALTHPOST_PAGE"); v != "" {
		o.Page = v
	}
	if v := env("HEALTHPOST_LOG"); v != "" {
		o.LogAddress = v
	}
	if v := env("HEALTHPOST_PROFILE"); v != "" {
		o.Profile = v
	}
	for name, dst := range map[string]*[]string{"HEALTHPOST_LISTEN": &o.Listen, "HEALTHPOST_ANNOUNCE": &o.Announce, "HEALTHPOST_DIAL": &o.Dial} {
		if v := env(name); v != "" {
			*dst = strings.Split(v, ",")
		}
	}
	switch v := strings.ToLower(env("HEALTHPOST_LAN")); v {
	case "":
	case "true", "1", "yes":
		o.LAN = true
	case "false", "0", "no":
		o.LAN = false
	default:
		return usagef("HEALTHPOST_LAN is %q: use true or false", v)
	}
	return nil
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
