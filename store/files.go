package store

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// filesSpare is how many files a box opens besides the tables of its index: the
// journal, new tables while old ones are merged, sockets of peers and browsers. With
// fewer, an index that cannot be opened looks like one that is damaged.
const filesSpare = 96

// checkFilesLimit refuses to begin where the index cannot have all its files open.
func checkFilesLimit(index string) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("asking how many files may be open: %w", err)
	}
	if limit.Cur < filesSpare { // not even enough to look
		return filesError(limit.Cur, filesSpare)
	}
	tables, err := os.ReadDir(index)
	if err != nil {
		return err
	}
	if need := uint64(len(tables) + filesSpare); limit.Cur < need {
		return filesError(limit.Cur, need)
	}
	return nil
}

func filesError(have, need uint64) error {
	return fmt.Errorf("this process may have %d files open at once and needs %d: raise the limit (ulimit -n, LimitNOFILE)", have, need)
}
