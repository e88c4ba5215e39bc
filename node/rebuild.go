package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// A replica that opens damaged is not written to. Before a box runs, what is sound
// in it goes into a new one, and the damaged one is kept beside it:
//
//	db.new         while it is made
//	db.rebuilt     once it is complete
//	db.damaged     the old one; db.damaged.2 and so on when there is one already
//	db             the new one
//
// Cut short anywhere, the next start goes on. Entries that are lost come from
// other boxes by the ordinary exchange; what stood behind them is pending again.

const (
	dbFolder      = "db"
	dbNewFolder   = "db.new"
	dbReadyFolder = "db.rebuilt"
	dbOldFolder   = "db.damaged"
	dbOldMax      = 100
)

// refillRow is how long the ledger was before the disk lost some of it.
type refillRow struct {
	_    struct{} `cbor:",toarray"`
	Size uint64
}

var refillKey = []byte("rebuilt/size")

// OpenToRun opens the box in o.Data, and makes its replica anew from what is sound
// when it is damaged. say is told what happens, in words.
func OpenToRun(ctx context.Context, o Options, say func(string)) (*Node, error) {
	if err := finishSwap(o.Data); err != nil {
		return nil, fmt.Errorf("replacing the damaged replica: %w", err)
	}
	n, err := openWhenFree(ctx, o)
	if !errors.Is(err, store.ErrDamaged) {
		if err == nil {
			err = n.notEmptied()
		}
		if err == nil {
			err = n.refill(ctx, say)
		}
		return n.orClose(err)
	}
	damage := err
	rep, err := rebuildStore(ctx, o, func() {
		say(fmt.Sprintf("What this box holds is damaged (%s). Making it anew from what is sound; the damaged folder is kept.", damage))
	})
	if errors.Is(err, errAlone) {
		return nil, fmt.Errorf("%w: %w: 'healthpost export' still gives what can be read, 'healthpost verify' names the rest", damage, err)
	}
	if err != nil {
		return nil, fmt.Errorf("making the replica anew: %w: copy %s to another disk and start there", err, o.Data)
	}
	say(fmt.Sprintf("Kept %d of %d entries of the ledger, %d records that were pending, %d that are pending again; %d cannot be read here and come from other boxes if they have them.",
		rep.Entries, rep.Size, rep.Pending, rep.Again, rep.Lost))
	n, err = Open(o)
	if err != nil {
		return nil, err
	}
	if err := n.noteRebuilt(ctx, &rep); err != nil {
		return n.orClose(err)
	}
	return n.orClose(n.refill(ctx, say))
}

// Commands that look at a stopped box (status, prove) hold it for a moment, and a
// box that starts then must not fail for that.
const (
	lockPatience = 5 * time.Second
	lockLook     = 100 * time.Millisecond
)

func openWhenFree(ctx context.Context, o Options) (*Node, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		n, err := Open(o)
		if !errors.Is(err, ErrLocked) {
			return n, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(lockLook):
		}
	}
}

// orClose gives the box back, or closes it when it cannot be used.
func (n *Node) orClose(err error) (*Node, error) {
	if err != nil && n != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, err
}

// errAlone: nobody else holds what this box lost, and a ledger that was cut there
// could not be what was confirmed before.
var errAlone = errors.New("no other box is in the region to give back what is lost")

func rebuildStore(ctx context.Context, o Options, begin func()) (store.RebuildReport, error) {
	so := o.Store
	so.Log, so.Salvage = o.Log.With().Str("part", "store").Logger(), true
	src, err := store.Open(filepath.Join(o.Data, dbFolder), so)
	if err != nil {
		return store.RebuildReport{}, err
	}
	if alone, err := isAlone(src); alone || err != nil {
		return store.RebuildReport{}, errors.Join(err, errAlone, src.Close())
	}
	begin()
	so.Salvage = false
	rep, err := store.Rebuild(ctx, filepath.Join(o.Data, dbNewFolder), so, src)
	if err = errors.Join(err, src.Close()); err != nil {
		return rep, err
	}
	if err := rename(o.Data, dbNewFolder, dbReadyFolder); err != nil {
		return rep, err
	}
	return rep, finishSwap(o.Data)
}

// isAlone: the region has no second active member.
func isAlone(s *store.Store) (bool, error) {
	members, err := s.Members()
	active := 0
	for _, m := range members {
		if m.Active() {
			active++
		}
	}
	return active < 2, err
}

// finishSwap puts a complete new replica in the place of the damaged one.
func finishSwap(dir string) error {
	if !exists(filepath.Join(dir, dbReadyFolder)) {
		return nil
	}
	if exists(filepath.Join(dir, dbFolder)) {
		old := dbOldFolder
		for i := 2; exists(filepath.Join(dir, old)); i++ {
			if i > dbOldMax {
				return fmt.Errorf("%d damaged folders are kept already: move them away", dbOldMax)
			}
			old = dbOldFolder + "." + strconv.Itoa(i)
		}
		if err := rename(dir, dbFolder, old); err != nil {
			return err
		}
	}
	return rename(dir, dbReadyFolder, dbFolder)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// rename moves a folder within dir, durable on return.
func rename(dir, from, to string) error {
	if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
		return err
	}
	return syncNames(dir)
}

// noteRebuilt tells staff, and remembers how long the ledger was.
func (n *Node) noteRebuilt(ctx context.Context, rep *store.RebuildReport) error {
	lost := int(rep.Size-rep.Entries) - rep.Again
	if lost = max(lost, rep.Lost); lost > 0 {
		if err := n.tellDamage(0, lost); err != nil {
			return err
		}
	}
	if rep.Whole() {
		return nil
	}
	row, err := putPlain(refillKey, refillRow{Size: rep.Size})
	if err != nil {
		return err
	}
	return n.store.PutRows(ctx, []store.Row{row})
}

// refill lets a hub that orders alone get back what its disk lost before it orders
// anything: other boxes verified those entries, and a second ledger of the same
// size would be a second view. Every other box gets them while it runs.
func (n *Node) refill(ctx context.Context, say func(string)) error {
	var was refillRow
	known, err := n.plainRow(refillKey, &was)
	if err != nil || !known {
		return err
	}
	if n.store.Head().Size >= was.Size {
		return n.store.PutRows(ctx, []store.Row{{Key: refillKey}})
	}
	hubs := n.store.Hubs()
	if n.box.Role != record.RoleHub || len(hubs) > 1 || len(hubs) == 1 && hubs[0] != n.author.Device {
		return nil
	}
	var rep ResetReport
	if err := n.collect(ctx, ResetRequest{}, &rep, say); err != nil {
		return err
	}
	if have := n.store.Head().Size; have < was.Size {
		return fmt.Errorf("this hub orders alone and its disk lost entries %d to %d of the ledger: start a clinic that holds them where it can reach this box, then start this again", have, was.Size-1)
	}
	return n.store.PutRows(ctx, []store.Row{{Key: refillKey}})
}
