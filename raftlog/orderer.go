package raftlog

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
	"github.com/rs/zerolog"
)

const (
	retryMin    = 250 * time.Millisecond
	retryMax    = 10 * time.Minute // each retry is an item in the raft log
	feedQuantum = 16 << 10         // bytes that a feed adds before the next feed's turn

	// A batch waits for writers that were just answered so long a part of the
	// time that their last batch took, and no longer.
	gatherPart = 4
	gatherMax  = 5 * time.Millisecond
)

// orderer proposes batches while this hub leads. One lives as long as one
// leadership. Its goroutine owns every field but the channels.
//
// A batch leaves at once when nothing is under way; otherwise it collects until
// it is large or old enough. So a lone record never waits, and a busy leader
// writes few large items. Writers that were answered together mostly come back
// together: the next batch waits for as many of them, a fraction of the time
// that the last one took, or the first to come back would travel alone and keep
// all others waiting.
type orderer struct {
	pending Pending
	propose func(item []byte) raft.ApplyFuture
	// settle returns when everything committed before this leadership is applied.
	settle  func(ctx context.Context) error
	hold    func() bool // true while pending records wait for what is submitted
	refused func(record.Outcome, record.Record)
	clock   func() int64
	limits  Limits
	log     zerolog.Logger

	submitted chan *submission
	results   chan result
	done      chan struct{}   // closed when no submission is taken any more
	dead      <-chan struct{} // closed when raft ended: futures may stay open

	marks    map[record.Feed]*mark
	turn     int // rotates which feed is first
	current  *batch
	held     *submission // did not fit the current batch
	inFlight map[*batch]struct{}
	dirty    bool      // pending may hold more than the marks cover
	failed   bool      // wait for what is under way, then start from the ledger again
	retryAt  time.Time // nothing is collected before, after a failure
	expect   int       // submissions that the last batch answered, and so may come again at once
	expectAt time.Time // they are not waited for after that
	wakeAt   time.Time // when the first feed that was put aside is due, zero for none
}

// submission is a group of records handed to Submit. It goes into one batch.
type submission struct {
	records []record.Record
	bytes   int
	result  chan submitted // one slot
}

type submitted struct {
	outcomes []record.Outcome
	err      error
}

// batch is what becomes one raft log item. A submission is a
// contiguous range of it.
type batch struct {
	records []record.Record
	owners  []*submission // nil for a pending record
	bytes   int
	since   time.Time
	left    time.Time // when it was proposed
	urgent  bool

	submissions int
}

type result struct {
	batch    *batch
	outcomes []record.Outcome
	err      error
}

func newOrderer(o *Options, dead <-chan struct{}) *orderer {
	return &orderer{pending: o.Pending, hold: func() bool { return false }, refused: o.Refused, clock: o.Clock, limits: o.Limits, log: o.Log, dead: dead,
		submitted: make(chan *submission), results: make(chan result, o.Limits.InFlightMax), done: make(chan struct{}),
		marks: map[record.Feed]*mark{}, current: &batch{}, inFlight: map[*batch]struct{}{}, dirty: true}
}

// recordBytes is what a record adds to an item.
func recordBytes(r *record.Record) int { return len(r.CoreBytes()) + len(r.Sig) + len(r.Body) + 16 }

// run works until ctx ends, and then until everything under way is answered.
func (o *orderer) run(ctx context.Context) {
	defer o.drain()
	defer close(o.done)
	if err := o.settle(ctx); err != nil {
		return
	}
	wake := o.pending.Subscribe(ctx)
	for ctx.Err() == nil {
		o.collect()
		if o.ready() {
			o.flush()
			continue
		}
		o.wait(ctx, wake)
	}
}

// collect moves records from the held submission and from pending into the batch.
func (o *orderer) collect() {
	if o.failed || time.Now().Before(o.retryAt) {
		return
	}
	if o.held != nil && o.fits(len(o.held.records), o.held.bytes) {
		o.take(o.held)
		o.held = nil
	}
	if !o.wakeAt.IsZero() && !time.Now().Before(o.wakeAt) {
		o.dirty = true
	}
	if !o.dirty || o.full() || o.hold() {
		return
	}
	more, err := o.fill()
	if err != nil {
		o.log.Error().Err(err).Msg("pending records cannot be read")
		o.retryAt = time.Now().Add(retryMin)
		return
	}
	o.dirty = more
}

func (o *orderer) full() bool {
	return o.current.bytes >= o.limits.FlushBytes || len(o.current.records) >= record.BatchRecordsMax
}

func (o *orderer) fits(records, bytes int) bool {
	return len(o.current.records)+records <= record.BatchRecordsMax && o.current.bytes+bytes <= record.BatchBytesMax
}

func (o *orderer) add(r record.Record, owner *submission) {
	b := o.current
	if len(b.records) == 0 {
		b.since = time.Now()
	}
	b.records = append(b.records, r)
	b.owners = append(b.owners, owner)
	b.bytes += recordBytes(&r)
	b.urgent = b.urgent || r.Position().Lane == record.LaneControl
}

func (o *orderer) take(s *submission) {
	for _, r := range s.records {
		o.add(r, s)
	}
	o.current.submissions++
}

// ready reports whether the batch leaves now.
func (o *orderer) ready() bool {
	b := o.current
	switch {
	case len(b.records) == 0 || o.failed || len(o.inFlight) >= o.limits.InFlightMax:
		return false
	case b.urgent || o.held != nil || o.full():
		return true
	case len(o.inFlight) == 0:
		return b.submissions >= o.expect || !time.Now().Before(o.expectAt)
	}
	return time.Since(b.since) >= o.limits.FlushAfter
}

func (o *orderer) flush() {
	b := o.current
	b.left = time.Now()
	o.current = &batch{}
	o.inFlight[b] = struct{}{}
	batch := record.Batch{LeaderMillis: o.clock(), Records: b.records}
	future := o.propose(batch.Encode())
	go func() { // ends when raft answers; results has room for every batch in flight
		r := result{batch: b, err: future.Error()}
		if r.err == nil {
			switch answer := future.Response().(type) {
			case []record.Outcome:
				r.outcomes = answer
			case error:
				r.err = answer
			}
		}
		o.results <- r
	}()
}

// wait blocks until there may be something to do.
func (o *orderer) wait(ctx context.Context, wake <-chan struct{}) {
	submitted := o.submitted
	if o.held != nil || o.failed || o.full() {
		submitted = nil
	}
	var timer <-chan time.Time
	if at := o.nextTime(); !at.IsZero() {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
	case <-timer:
	case <-wake:
		o.dirty = true
	case s := <-submitted:
		if o.held = s; o.fits(len(s.records), s.bytes) {
			o.take(s)
			o.held = nil
		}
	case r := <-o.results:
		o.settled(r)
	}
}

// nextTime is when time alone gives something to do, zero for never.
func (o *orderer) nextTime() time.Time {
	var at time.Time
	earlier := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if len(o.current.records) > 0 && len(o.inFlight) < o.limits.InFlightMax {
		if len(o.inFlight) == 0 {
			earlier(o.expectAt)
		}
		earlier(o.current.since.Add(o.limits.FlushAfter))
	}
	if o.retryAt.After(time.Now()) {
		earlier(o.retryAt)
	} else if !o.wakeAt.IsZero() && !o.full() {
		earlier(o.wakeAt)
	}
	return at
}

// settled takes the answer for one batch.
func (o *orderer) settled(r result) {
	b := r.batch
	delete(o.inFlight, b)
	if r.err == nil && len(r.outcomes) != len(b.records) {
		r.err = ErrOutcomeUnknown
	}
	if r.err != nil {
		o.log.Debug().Err(r.err).Int("records", len(b.records)).Msg("batch not ordered")
		b.answer(nil, ErrOutcomeUnknown)
		o.failed = true
	} else {
		b.answer(r.outcomes, nil)
		o.expect, o.expectAt = b.submissions, time.Now().Add(min(time.Since(b.left)/gatherPart, gatherMax))
		for i, out := range r.outcomes {
			if b.owners[i] == nil {
				o.judge(out, b.records[i])
			}
		}
	}
	if o.failed && len(o.inFlight) == 0 {
		o.restart()
	}
}

// restart forgets what was proposed: the ledger says what is ordered.
func (o *orderer) restart() {
	o.failed, o.dirty = false, true
	o.retryAt = time.Now().Add(retryMin)
	o.current.answer(nil, ErrOutcomeUnknown)
	o.current = &batch{}
	for feed, m := range o.marks {
		if !m.blocked {
			delete(o.marks, feed)
		}
	}
}

// answer tells each submission in the batch its part of the outcomes.
func (b *batch) answer(outcomes []record.Outcome, err error) {
	for i := 0; i < len(b.owners); i++ {
		s := b.owners[i]
		if s == nil {
			continue
		}
		n := len(s.records)
		if err != nil {
			s.result <- submitted{nil, err}
		} else {
			s.result <- submitted{outcomes[i : i+n : i+n], nil}
		}
		i += n - 1
	}
}

// drain answers everything that is left when leadership ends.
func (o *orderer) drain() {
	o.current.answer(nil, ErrNotLeader)
	if o.held != nil {
		o.held.result <- submitted{nil, ErrNotLeader}
	}
	for len(o.inFlight) > 0 {
		select {
		case r := <-o.results:
			delete(o.inFlight, r.batch)
			err := r.err
			if err != nil || len(r.outcomes) != len(r.batch.records) {
				err = ErrOutcomeUnknown
			}
			r.batch.answer(r.outcomes, err)
		case <-o.dead:
			for b := range o.inFlight {
				b.answer(nil, ErrOutcomeUnknown)
			}
			return
		}
	}
}

// submit hands records to the orderer and waits for their outcomes.
func (o *orderer) submit(ctx context.Context, s *submission) ([]record.Outcome, error) {
	select {
	case o.submitted <- s:
	case <-o.done:
		return nil, ErrNotLeader
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case r := <-s.result:
		return r.outcomes, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
