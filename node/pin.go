package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// Wrong PINs are counted for each account, and what does not open the lock for the box: on disk, so that a
// restart gives no new tries. After five in a row none is taken for five minutes, and after each five
// more for twice as long, up to an hour.

// countTry keeps an account's tries: on disk, or in memory until there is room.
func (n *Node) countTry(ctx context.Context, a account) error {
	err := n.putAccount(ctx, a)
	if errors.Is(err, store.ErrFull) {
		n.staff.unsaved[a.id()] = a
		return nil
	}
	if err == nil {
		delete(n.staff.unsaved, a.id())
	}
	return err
}

func (n *Node) wrongPIN(ctx context.Context, a account, now time.Time) error {
	a.Fails, a.Locked = countWrong(a.Fails, now)
	if err := n.countTry(ctx, a); err != nil {
		return explain(err) // a try that cannot be counted is not answered
	}
	if err := n.noteLine(ctx, accessLine{Action: uint8(accessRefused | accessSignIn), Staff: a.id(), Size: n.store.Head().Size}); err != nil && !errors.Is(err, store.ErrFull) {
		return explain(fmt.Errorf("noting the try: %w", err))
	}
	if a.Locked > now.Unix() {
		return &web.LockedError{Until: pinLockFor(a.Fails)}
	}
	return web.ErrWrongPIN
}

// countWrong counts one more wrong try, and gives the moment until which no other is taken.
func countWrong(fails uint8, now time.Time) (uint8, int64) {
	if fails >= failsMax {
		fails -= pinTriesMax
	}
	if fails++; fails%pinTriesMax != 0 {
		return fails, 0
	}
	return fails, now.Add(pinLockFor(fails)).Unix()
}

const failsMax = 250 // a multiple of pinTriesMax

// pinLockFor is how long no PIN is tried after so many wrong ones in a row.
func pinLockFor(fails uint8) time.Duration {
	lock := pinLock
	for range max(int(fails)/pinTriesMax, 1) - 1 {
		lock = min(2*lock, pinLockMax)
	}
	return lock
}
