package sim

import (
	"bytes"
	"context"
	"errors"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// party is one side of an exchange that runs to its end at once.
type party struct {
	name  string
	id    record.DeviceID
	r     peersync.Replica
	o     peersync.Options
	twist func(peersync.Frame) []peersync.Frame // what a liar makes of a frame that it sends; nil for nothing
}

// honest is a box's own side of an exchange.
func (w *world) honest(b, peer *box) party {
	o := w.session(b)
	o.Turn = nil
	return party{name: b.name, id: b.author.Device, r: &replica{Store: b.st, b: b, peer: peer, trusted: peer.st != nil && !w.lies(peer)}, o: o}
}

// talk steps the sessions of two parties until neither has anything to say. errs
// are what ended each side, nil where nothing did.
func (w *world) talk(parties [2]party) (errs [2]error, total int, err error) {
	var s [2]*peersync.Session
	for i, p := range parties {
		s[i] = peersync.NewSession(p.r, parties[1-i].id, p.o)
		defer s[i].Close()
	}
	var queue [2][]peersync.Frame // to s[i]
	say := func(i int, f peersync.Frame) {
		frames := []peersync.Frame{f}
		if parties[i].twist != nil {
			frames = parties[i].twist(f)
		}
		for _, f := range frames {
			total += len(f.Payload) + 3
			queue[1-i] = append(queue[1-i], f)
		}
	}
	end := func(i int, cause error) error {
		var bad *Violation
		if errors.As(cause, &bad) {
			return bad
		}
		w.tracef("%s ends it with %s: %v", parties[i].name, parties[1-i].name, cause)
		errs[i] = cause
		if !errors.Is(cause, peersync.ErrBye) {
			say(i, s[i].Bye(cause))
		}
		return nil
	}
	for idle, step := 0, 0; idle < 8; step++ {
		if step > exchangeSteps {
			return errs, total, w.violated(SyncTerminates, "%s and %s do not come to an end", parties[0].name, parties[1].name)
		}
		i := step % 2
		idle++
		if errs[i] != nil {
			continue
		}
		if len(queue[i]) > 0 {
			f := queue[i][0]
			queue[i], idle = queue[i][1:], 0
			if cause := w.hearFrame(s[i], f); cause != nil {
				if err := end(i, cause); err != nil {
					return errs, total, err
				}
				continue
			}
			s[i].Changed()
		}
		f, ok, cause := s[i].Next(context.Background())
		if cause != nil {
			if err := end(i, cause); err != nil {
				return errs, total, err
			}
			continue
		}
		if ok {
			idle = 0
			say(i, f)
		}
	}
	if w.late != nil {
		return errs, total, w.late
	}
	w.tracef("%s and %s exchange %d bytes", parties[0].name, parties[1].name, total)
	return errs, total, nil
}

// hearFrame carries a frame over a wire and has a session take it.
func (w *world) hearFrame(s *peersync.Session, f peersync.Frame) error {
	got, err := peersync.NewFrameReader(bytes.NewReader(peersync.AppendFrame(nil, f))).Read()
	if err != nil {
		return err
	}
	return s.Handle(context.Background(), got)
}
