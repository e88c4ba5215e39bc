package raftlog_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

func TestPledges(t *testing.T) {
	type pledge = raftlog.Pledge
	for _, c := range []struct {
		what      string
		have, add pledge
		want      pledge
	}{
		{"a first one", pledge{}, pledge{Voted: 2}, pledge{Voted: 2}},
		{"an older vote", pledge{Voted: 3}, pledge{Voted: 2}, pledge{Voted: 3}},
		{"more of one leader", pledge{Term: 2, Index: 5, ItemTerm: 1}, pledge{Term: 2, Index: 6, ItemTerm: 2}, pledge{Term: 2, Index: 6, ItemTerm: 2}},
		{"less of one leader", pledge{Term: 2, Index: 5, ItemTerm: 1}, pledge{Term: 2, Index: 4, ItemTerm: 1}, pledge{Term: 2, Index: 5, ItemTerm: 1}},
		{"a later leader replaces items", pledge{Term: 2, Index: 5, ItemTerm: 2}, pledge{Term: 3, Index: 4, ItemTerm: 3}, pledge{Term: 3, Index: 4, ItemTerm: 3}},
		{"an earlier leader", pledge{Term: 3, Index: 4, ItemTerm: 3}, pledge{Term: 2, Index: 9, ItemTerm: 2}, pledge{Term: 3, Index: 4, ItemTerm: 3}},
		{"both", pledge{Voted: 4, Term: 3, Index: 4}, pledge{Voted: 2, Term: 4, Index: 4}, pledge{Voted: 4, Term: 4, Index: 4}},
	} {
		t.Run(c.what, func(t *testing.T) {
			kv := newMemKV()
			p := must(raftlog.OpenPledges(kv))
			c.have.Server, c.add.Server, c.want.Server = "a", "a", "a"
			p.Witness(c.have)
			p.Learn([]pledge{c.add})
			if got := p.By("a"); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			check(t, "saving", p.Save())
			check(t, "saving what is saved", p.Save())
			if kv.updates != 1 {
				t.Errorf("%d writes, want 1", kv.updates)
			}
			again := must(raftlog.OpenPledges(kv))
			if diff := cmp.Diff(p.List(), again.List(), cmpopts.IgnoreUnexported(pledge{})); diff != "" {
				t.Errorf("read again: %s", diff)
			}
		})
	}
}

// TestPledgesAreBounded takes what hostile hubs claim: too many servers, names
// that are too long, terms that no election reaches.
func TestPledgesAreBounded(t *testing.T) {
	p := must(raftlog.OpenPledges(newMemKV()))
	for i := range 1000 {
		p.Witness(raftlog.Pledge{Server: fmt.Sprint("s", i), Voted: uint64(i)})
	}
	p.Witness(raftlog.Pledge{Server: string(make([]byte, 33)), Voted: 1})
	p.Witness(raftlog.Pledge{Voted: 1})
	p.Witness(raftlog.Pledge{Server: "s999", Voted: 1 << 60, Term: 1 << 60})
	if n := len(p.List()); n != 64 {
		t.Errorf("%d servers, want 64", n)
	}
	if got := p.By("s999"); got.Voted != 999 {
		t.Errorf("the newest is %+v", got)
	}
	if p.By("s1").Voted != 0 {
		t.Error("the oldest is still there")
	}
}

// TestIdleHubsAreSilent: what hubs remember of each other costs nothing, on disk
// or between them, while nothing is pledged.
func TestIdleHubsAreSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		c.found()
		c.order(c.clinics[0].visit(100))
		time.Sleep(time.Minute)
		writes, asked := 0, c.net.Asked.Load()
		for _, h := range c.hubs {
			writes -= h.kv.writes()
		}
		time.Sleep(time.Hour)
		for _, h := range c.hubs {
			writes += h.kv.writes()
		}
		if n := c.net.Asked.Load() - asked; writes != 0 || n != 0 {
			t.Errorf("%d writes and %d questions in an idle hour", writes, n)
		}
		for range 60 {
			c.order(c.clinics[0].visit(100))
			time.Sleep(time.Second)
		}
		if n := c.net.Asked.Load() - asked; n == 0 || n > 2*3*13 {
			t.Errorf("%d questions in a busy minute", n)
		}
		c.end()
	})
}

func FuzzDecodeTestimony(f *testing.F) {
	f.Add(must(record.Marshal(raftlog.Testimony{Version: 1, Name: "abcdefgh", Pledges: []raftlog.Pledge{{Server: "a", Voted: 1}}})))
	f.Add([]byte{0x8a, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { raftlog.DecodeTestimony(b) })
		s, err := raftlog.DecodeTestimony(b)
		if err != nil {
			if !errors.Is(err, record.ErrMalformed) {
				t.Fatalf("error without a family: %v", err)
			}
			return
		}
		if s.Name == "" || len(s.Name) > 32 || len(s.Known) > 32 || len(s.Pledges) > 64 {
			t.Fatalf("taken: %+v", s)
		}
		if again := must(record.Marshal(s)); string(again) != string(b) {
			t.Fatalf("%x is read from %x", again, b)
		}
	})
}

func FuzzOpenPledges(f *testing.F) {
	f.Add(must(record.Marshal([]any{1, []any{[]any{"a", 1, 2, 3, 4}}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		kv := newMemKV()
		check(t, "storing", kv.Update([]raftlog.Row{{Key: []byte("mp"), Value: b}}))
		p, err := raftlog.OpenPledges(kv)
		if err != nil {
			if !errors.Is(err, record.ErrMalformed) {
				t.Fatalf("error without a family: %v", err)
			}
			return
		}
		if len(p.List()) > 64 {
			t.Fatalf("%d servers", len(p.List()))
		}
	})
}
