package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/healthpost/healthpost/node"
)

// configFile is config.toml. A key that is left out keeps its default.
type configFile struct {
	Page        *string   `toml:"page"`
	LANPlain    *bool     `toml:"lan_plain"`
	Log         *string   `toml:"log"`
	Listen      []string  `toml:"listen"`
	Announce    []string  `toml:"announce"`
	Dial        []string  `toml:"dial"`
	LAN         *bool     `toml:"lan"`
	Profile     *string   `toml:"profile"`
	Here        []string  `toml:"here"`
	Away        []string  `toml:"away"`
	Languages   []string  `toml:"languages"`
	SessionIdle *minutes  `toml:"session_idle_minutes"`
	Link        *linkFile `toml:"link"`
	Sticks      *string   `toml:"sticks"`
	KeyFile     *string   `toml:"key_file"`
	TPM         *string   `toml:"tpm"`
}

// linkFile is the table [link]: what the way to the hubs costs.
type linkFile struct {
	Metered  bool   `toml:"metered"`
	MonthMB  uint64 `toml:"month_mb"`
	Schedule string `toml:"schedule"` // "06:00,12:00"
	Every    string `toml:"every"`    // "2h"
}

// everyDefault is how often a metered link is used when nothing else is said.
const everyDefault = time.Hour

func (f *linkFile) read() (node.Link, error) {
	l := node.Link{Metered: f.Metered, MonthBytes: f.MonthMB * 1_000_000}
	if !f.Metered {
		if *f != (linkFile{}) {
			return l, usagef("[link] has month_mb, schedule or every without metered = true")
		}
		return l, nil
	}
	l.Schedule.Every = everyDefault
	switch {
	case f.MonthMB > monthMBMax:
		return l, usagef("[link] month_mb is %d, at most %d", f.MonthMB, monthMBMax)
	case f.Schedule != "" && f.Every != "":
		return l, usagef("[link] has both schedule and every: use one")
	case f.Every != "":
		every, err := time.ParseDuration(f.Every)
		if err != nil || every < time.Minute || every > 31*24*time.Hour {
			return l, usagef("[link] every is %q: use a time such as \"2h\", a minute at least", f.Every)
		}
		l.Schedule.Every = every
	case f.Schedule != "":
		l.Schedule.Every = 0
		for part := range strings.SplitSeq(f.Schedule, ",") {
			at, err := time.Parse("15:04", strings.TrimSpace(part))
			if err != nil {
				return l, usagef("[link] schedule is %q: use times of the day such as \"06:00,18:00\"", f.Schedule)
			}
			l.Schedule.At = append(l.Schedule.At, time.Duration(at.Hour())*time.Hour+time.Duration(at.Minute())*time.Minute)
		}
	}
	return l, nil
}

const monthMBMax = 1_000_000

type minutes int

const sessionIdleMax minutes = 24 * 60

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
	if c.SessionIdle != nil && (*c.SessionIdle < 1 || *c.SessionIdle > sessionIdleMax) {
		return usagef("reading the configuration %s: session_idle_minutes is %d: use 1 to %d", path, *c.SessionIdle, sessionIdleMax)
	}
	c.apply(o)
	if c.Link != nil {
		if o.Link, err = c.Link.read(); err != nil {
			return fmt.Errorf("reading the configuration %s: %w", path, err)
		}
	}
	return applyEnv(o, env)
}

func (c *configFile) apply(o *node.Options) {
	set(&o.Page, c.Page)
	set(&o.LogAddress, c.Log)
	set(&o.LAN, c.LAN)
	set(&o.LANPlain, c.LANPlain)
	set(&o.Sticks, c.Sticks)
	set(&o.KeyFile, c.KeyFile)
	set(&o.TPM, c.TPM)
	set(&o.Profile, c.Profile)
	setList(&o.Listen, c.Listen)
	setList(&o.Announce, c.Announce)
	setList(&o.Dial, c.Dial)
	setList(&o.Here, c.Here)
	setList(&o.Away, c.Away)
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
	if v := env("HEALTHPOST_STICKS"); v != "" {
		o.Sticks = v
	}
	if v := env("HEALTHPOST_KEY_FILE"); v != "" {
		o.KeyFile = v
	}
	if v := env("HEALTHPOST_TPM"); v != "" {
		o.TPM = v
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
