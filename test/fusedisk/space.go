package fusedisk

import "syscall"

// used is how many bytes of the disk files take, as the host allocates them.
func (t *tree) used() int64 {
	var n int64
	t.walk(t.root, func(i *inode) {
		if i.host != nil {
			n += blocks(i) * 512
		}
	})
	return n
}

func blocks(i *inode) int64 {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(i.host.Fd()), &st); err != nil {
		return 0
	}
	return st.Blocks
}

// room says whether a write finds space. Bytes that lie in the file already take
// none.
func (t *tree) room(i *inode, at, n int64) bool {
	if t.state.Budget == 0 {
		return true
	}
	if blocks(i)*512 >= at+n { // written before, or allocated
		return true
	}
	return t.used()+n <= t.state.Budget
}

func (t *tree) allocate(i *inode, at, n int64, mode uint32) syscall.Errno {
	const keepSize = 1
	t.mu.Lock()
	defer t.mu.Unlock()
	wrong, errno := t.begin(Write, i.path)
	if errno != 0 {
		return errno
	}
	if wrong {
		return syscall.EIO
	}
	if mode&^keepSize != 0 {
		return syscall.EOPNOTSUPP
	}
	if t.state.Budget != 0 && t.used()-blocks(i)*512+max(blocks(i)*512, at+n) > t.state.Budget {
		return syscall.ENOSPC
	}
	if err := syscall.Fallocate(int(i.host.Fd()), mode, at, n); err != nil {
		return errnoOf(err)
	}
	if mode&keepSize == 0 {
		i.size = max(i.size, at+n)
	}
	return 0
}
