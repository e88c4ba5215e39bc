package raftlog_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/raftlog"
	"github.com/rs/zerolog"
)

// TestLoggerDropsPayloads passes what raft logs, and what it could log.
func TestLoggerDropsPayloads(t *testing.T) {
	var out bytes.Buffer
	var l hclog.Logger = raftlog.NewLogger(zerolog.New(&out).Level(zerolog.DebugLevel))
	secret := "Jane Doe"
	l.With("peer", raft.ServerID("abc")).Named("net").Info("fixed message", "index", uint64(7), "error", errors.New("cut off"),
		"command", &raft.Log{Data: []byte(secret)}, "data", []byte(secret), "buffer", bytes.NewBufferString(secret), "format", hclog.Fmt("%s", secret), "odd")
	l.StandardLogger(nil).Println(secret)
	l.Trace("not shown", "index", 1)
	got := out.String()
	for _, want := range []string{`"index":7`, `"error":"cut off"`, `"peer":"abc"`, `"message":"fixed message"`, `"part":"raft.net"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
	if strings.Contains(got, secret) || strings.Contains(got, "not shown") {
		t.Errorf("logged too much: %s", got)
	}
}
