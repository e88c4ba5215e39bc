package store_test

import (
	"slices"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

func TestRebuildOfPartialStore(t *testing.T) {
	r := rng(t)
	hub, clinics := village(t, r, 3, 100, 8)
	p := newBox(t, 50, record.RoleClinic)
	hub.admit(p)
	p.pullSpans(hub, 1<<20)
	p.beginEpoch()
	p.append(visit(3, 40, r), visit(4, 40, r))
	p.push(hub)
	hub.order()
	clinics[0].append(visit(3, 40, r))
	clinics[0].push(hub)
	hub.order()
	p.pullSpans(hub, 1<<20)
	p.append(visit(5, 40, r))
	holes, head := p.holes(), p.s.Head()
	p.close()
	rep := p.rebuilt()
	if !rep.Whole() || rep.Lost != 0 || rep.Pending == 0 {
		t.Fatalf("rebuilding: %+v", rep)
	}
	if got := p.holes(); p.s.Head() != head || !slices.Equal(got, holes) {
		t.Fatalf("head %v and %d holes, want %v and %d", p.s.Head(), len(got), head, len(holes))
	}
	p.checkPartial(hub)
	check(t, p.s)
}

// Damage of what only a partial replica has is named, and put right where it can
// be computed.
func TestDamageOfPartialStore(t *testing.T) {
	r := rng(t)
	hub, clinics := village(t, r, 2, 170, 4)
	p := newBox(t, 50, record.RoleClinic)
	hub.admit(p)
	p.pullSpans(hub, 1<<20)
	p.beginEpoch()
	p.append(visit(1, 40, r))
	p.push(hub)
	hub.order()
	clinics[0].append(visit(1, 40, r))
	clinics[0].push(hub)
	hub.order()
	p.pullSpans(hub, 1<<20)
	for _, c := range []struct {
		prefix string
		fixed  bool
	}{{"q", true}, {"t", true}, {"O", false}, {"o", false}} {
		if err := p.s.Settle(); err != nil {
			t.Fatal(err)
		}
		rows := rowsUnder(t, p.s, c.prefix)
		if len(rows) == 0 {
			t.Fatalf("no rows %q", c.prefix)
		}
		row := rows[r.IntN(len(rows))]
		for _, value := range [][]byte{nil, append(slices.Clone(row.Value[:len(row.Value)-8]), 1)} {
			if err := p.s.Settle(); err != nil {
				t.Fatal(err)
			}
			err := p.s.Index().Update(func(txn *badger.Txn) error {
				if value == nil {
					return txn.Delete(row.Key)
				}
				return txn.Set(row.Key, store.SealRow(row.Key, value))
			})
			if err != nil {
				t.Fatal(err)
			}
			if rep, err := p.s.Verify(ctx, store.VerifyOptions{}, nil); err == nil && len(rep.Damage) == 0 {
				t.Errorf("a changed row %q is not found", c.prefix)
			}
			if c.fixed {
				if _, err := p.s.DropStray(ctx); err != nil {
					t.Fatal(err)
				}
				check(t, p.s)
				continue
			}
			if err := p.s.Index().Update(func(txn *badger.Txn) error { return txn.Set(row.Key, row.Value) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.checkPartial(hub)
}
