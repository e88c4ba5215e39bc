package node

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// A record between two states: refused, and ordered with no final checkpoint
// over it. The ledger is ordered by hand, so that no hub signs.
func TestProveSaysWhy(t *testing.T) {
	n := openStandalone(t)
	if _, err := n.Keys(); !errors.Is(err, ErrNoRegion) {
		t.Errorf("keys before there is a region: got %v", err)
	}
	id, err := n.Found(t.Context(), "Test region")
	if err != nil {
		t.Fatal(err)
	}
	wantWhy(t, n, record.RID(id), "waits on this box")
	if _, err := n.Keys(); err == nil || !strings.Contains(err.Error(), "no hub") {
		t.Errorf("keys before the ledger begins: got %v", err)
	}
	pending := pendingRecords(t, n)
	last := pending[len(pending)-1].RID()
	item := record.Batch{LeaderMillis: n.o.Now().UnixMilli(), Records: pending[:len(pending)-1]}
	if _, err := n.store.Order(1, 1, item.Encode()); err != nil {
		t.Fatal(err)
	}
	if err := n.store.PutRefused(record.Outcome{RID: last, Verdict: record.NotAllowed}, n.author.Device); err != nil {
		t.Fatal(err)
	}
	wantWhy(t, n, record.RID(id), "has not signed it")
	wantWhy(t, n, last, "refused by the region")
}

func wantWhy(t *testing.T, n *Node, rid record.RID, why string) {
	t.Helper()
	if p, err := n.Prove(rid.String()); err == nil || !strings.Contains(err.Error(), why) || p.File != nil {
		t.Errorf("got %v, want %q", err, why)
	}
}

func openStandalone(t testing.TB) *Node {
	t.Helper()
	o := NewOptions(t.TempDir())
	o.Store.BallastBytes = 1 << 20
	if _, err := Init(o.Data, record.RoleStandalone, "Test box"); err != nil {
		t.Fatal(err)
	}
	n, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// pendingRecords are the founding's, in the order in which they were written.
func pendingRecords(t *testing.T, n *Node) []record.Record {
	t.Helper()
	feeds, err := n.store.PendingFeeds()
	if err != nil || len(feeds) != 1 {
		t.Fatalf("got %d pending feeds, %v, want that of the control lane", len(feeds), err)
	}
	out, err := n.store.Pending(feeds[0].Feed, 0, 64<<10)
	if err != nil || len(out) != foundingSize {
		t.Fatalf("got %d pending records, %v, want %d", len(out), err, foundingSize)
	}
	return out
}

func TestRegionKeysText(t *testing.T) {
	k := RegionKeys{Format: 1, Region: strings.Repeat("ab", 32), Name: "Lac \"Kivu\"\nnord é", Hubs: []HubKey{{Name: "Hub A", Device: strings.Repeat("01", 32)}, {Device: strings.Repeat("02", 32)}}}
	text, err := k.Text()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseRegionKeys(text)
	if err != nil || !reflect.DeepEqual(got, k) {
		t.Errorf("got %+v, %v from\n%s", got, err, text)
	}
	if ledger, hubs, err := got.IDs(); err != nil || ledger.Region[0] != 0xab || ledger.Generation != 1 || len(hubs) != 2 || hubs[1][0] != 2 {
		t.Errorf("got %v, %v, %v", ledger, hubs, err)
	}
}

func FuzzParseRegionKeys(f *testing.F) {
	k := RegionKeys{Format: 1, Region: strings.Repeat("ab", 32), Name: "Lake", Hubs: []HubKey{{Name: "Hub A", Device: strings.Repeat("01", 32)}}}
	text, err := k.Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":1,"region":"` + k.Region + `","hubs":[{"device":"` + k.Hubs[0].Device + `"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { ParseRegionKeys(b) })
		k, err := ParseRegionKeys(b)
		if err != nil {
			return
		}
		if _, hubs, err := k.IDs(); err != nil || len(hubs) != len(k.Hubs) || len(hubs) == 0 || len(hubs) > regionKeysMax {
			t.Errorf("got %d hubs of %d, %v", len(hubs), len(k.Hubs), err)
		}
	})
}
