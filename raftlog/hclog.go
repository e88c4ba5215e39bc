package raftlog

import (
	"io"
	"log"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// hcLogger passes raft's log lines to zerolog. Numbers, times, errors and short
// texts pass; everything else could be a payload and is left out.
type hcLogger struct {
	log  zerolog.Logger
	name string
	args []any
}

const logTextBytesMax = 120

func newHCLogger(l zerolog.Logger) *hcLogger { return &hcLogger{log: l, name: "raft"} }

func zeroLevel(l hclog.Level) zerolog.Level {
	switch l {
	case hclog.Trace:
		return zerolog.TraceLevel
	case hclog.Debug, hclog.Info, hclog.NoLevel:
		return zerolog.DebugLevel // raft tells a lot that only matters to who debugs it
	case hclog.Warn:
		return zerolog.WarnLevel
	case hclog.Error:
		return zerolog.ErrorLevel
	}
	return zerolog.Disabled
}

// Log writes one line.
func (h *hcLogger) Log(level hclog.Level, msg string, args ...any) {
	if !h.shows(level) {
		return
	}
	e := addFields(h.log.WithLevel(zeroLevel(level)).Str("part", h.name), h.args)
	addFields(e, args).Msg(msg)
}

func addFields(e *zerolog.Event, args []any) *zerolog.Event {
	for i := 0; i+1 < len(args); i += 2 {
		key, ok := args[i].(string)
		if !ok {
			continue
		}
		e = addField(e, key, args[i+1])
	}
	return e
}

func addField(e *zerolog.Event, key string, value any) *zerolog.Event {
	switch v := value.(type) {
	case error:
		return e.Str(key, clip(v.Error()))
	case string:
		return e.Str(key, clip(v))
	case raft.ServerID:
		return e.Str(key, clip(string(v)))
	case raft.ServerAddress:
		return e.Str(key, clip(string(v)))
	case bool, int, int32, int64, uint, uint8, uint32, uint64, float32, float64, time.Time, time.Duration:
		return e.Interface(key, v)
	}
	return e
}

func clip(s string) string {
	if len(s) > logTextBytesMax {
		return s[:logTextBytesMax]
	}
	return s
}

func (h *hcLogger) Trace(msg string, args ...any) { h.Log(hclog.Trace, msg, args...) }
func (h *hcLogger) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }
func (h *hcLogger) Info(msg string, args ...any)  { h.Log(hclog.Info, msg, args...) }
func (h *hcLogger) Warn(msg string, args ...any)  { h.Log(hclog.Warn, msg, args...) }
func (h *hcLogger) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }

func (h *hcLogger) shows(l hclog.Level) bool { return zeroLevel(l) >= h.log.GetLevel() }
func (h *hcLogger) IsTrace() bool            { return h.shows(hclog.Trace) }
func (h *hcLogger) IsDebug() bool            { return h.shows(hclog.Debug) }
func (h *hcLogger) IsInfo() bool             { return h.shows(hclog.Info) }
func (h *hcLogger) IsWarn() bool             { return h.shows(hclog.Warn) }
func (h *hcLogger) IsError() bool            { return h.shows(hclog.Error) }

func (h *hcLogger) ImpliedArgs() []any { return h.args }
func (h *hcLogger) Name() string       { return h.name }

func (h *hcLogger) With(args ...any) hclog.Logger {
	c := *h
	c.args = append(append([]any(nil), h.args...), args...)
	return &c
}

func (h *hcLogger) Named(name string) hclog.Logger { return h.ResetNamed(h.name + "." + name) }

func (h *hcLogger) ResetNamed(name string) hclog.Logger {
	c := *h
	c.name = name
	return &c
}

// SetLevel does nothing: the zerolog logger decides.
func (h *hcLogger) SetLevel(hclog.Level) {}

func (h *hcLogger) GetLevel() hclog.Level {
	for _, l := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Warn, hclog.Error} {
		if h.shows(l) {
			return l
		}
	}
	return hclog.Off
}

// StandardLogger drops what is written to it: free text could hold anything.
func (h *hcLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(io.Discard, "", 0)
}

func (h *hcLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return io.Discard }
