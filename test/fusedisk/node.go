package fusedisk

import (
	"context"
	"io"
	"maps"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node shows an inode to the kernel. No open file has a descriptor of the host, so
// the kernel cannot go past this code.
type node struct {
	fs.Inode
	t *tree
	i *inode
}

var (
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeMknoder   = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeAllocater = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

func (n *node) show(ctx context.Context, i *inode, out *fuse.EntryOut) *fs.Inode {
	i.attr(&out.Attr)
	return n.NewInode(ctx, &node{t: n.t, i: i}, fs.StableAttr{Mode: i.mode & syscall.S_IFMT, Ino: i.ino})
}

func (i *inode) attr(a *fuse.Attr) {
	a.Ino, a.Mode, a.Nlink, a.Blksize = i.ino, i.mode, 1, pageBytes
	a.Size = uint64(i.size)
	if i.host != nil {
		a.Blocks = uint64(blocks(i))
	}
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.t.mu.Lock()
	defer n.t.mu.Unlock()
	i, ok := n.i.names[name]
	if !ok {
		return nil, syscall.ENOENT
	}
	return n.show(ctx, i, out), 0
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	n.t.mu.Lock()
	defer n.t.mu.Unlock()
	var list []fuse.DirEntry
	for _, name := range slices.Sorted(maps.Keys(n.i.names)) {
		list = append(list, fuse.DirEntry{Name: name, Ino: n.i.names[name].ino, Mode: n.i.names[name].mode & syscall.S_IFMT})
	}
	return fs.NewListDirStream(list), 0
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.t.mu.Lock()
	defer n.t.mu.Unlock()
	n.i.attr(&out.Attr)
	return 0
}

func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.t.mu.Lock()
	defer n.t.mu.Unlock()
	wrong, errno := n.t.begin(Write, n.i.path)
	if errno != 0 {
		return errno
	}
	if wrong {
		return syscall.EIO
	}
	if mode, ok := in.GetMode(); ok {
		n.i.mode = n.i.mode&syscall.S_IFMT | mode&0o7777
	}
	if size, ok := in.GetSize(); ok {
		if err := n.i.truncate(int64(size)); err != nil {
			return errnoOf(err)
		}
	}
	n.i.attr(&out.Attr)
	return 0
}

func (n *node) add(ctx context.Context, i *inode, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.t.change(map[*inode]change{n.i: {name: i}}); errno != 0 {
		return nil, errno
	}
	n.t.mu.Lock()
	defer n.t.mu.Unlock()
	return n.show(ctx, i, out), 0
}

func (n *node) file(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.t.mu.Lock()
	i, err := n.t.newFile(mode, path.Join(n.i.path, name))
	n.t.mu.Unlock()
	if err != nil {
		return nil, errnoOf(err)
	}
	return n.add(ctx, i, name, out)
}

func (n *node) Create(ctx context.Context, name string, _ uint32, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	i, errno := n.file(ctx, name, mode, out)
	return i, nil, 0, errno
}

func (n *node) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.file(ctx, name, mode, out)
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.t.mu.Lock()
	i := n.t.newDir(mode, path.Join(n.i.path, name))
	n.t.mu.Unlock()
	return n.add(ctx, i, name, out)
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.t.change(map[*inode]change{n.i: {name: nil}})
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	n.t.mu.Lock()
	i := n.i.names[name]
	full := i != nil && len(i.names) > 0
	n.t.mu.Unlock()
	if full {
		return syscall.ENOTEMPTY
	}
	return n.t.change(map[*inode]change{n.i: {name: nil}})
}

func (n *node) Rename(_ context.Context, name string, to fs.InodeEmbedder, toName string, flags uint32) syscall.Errno {
	target, ok := to.(*node)
	if !ok || flags != 0 {
		return syscall.ENOTSUP
	}
	n.t.mu.Lock()
	i := n.i.names[name]
	i.path = path.Join(target.i.path, toName)
	n.t.mu.Unlock()
	if target.i == n.i {
		return n.t.change(map[*inode]change{n.i: {name: nil, toName: i}})
	}
	return n.t.change(map[*inode]change{n.i: {name: nil}, target.i: {toName: i}})
}

func (n *node) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.t.mu.Lock()
	defer n.t.mu.Unlock()
	wrong, errno := n.t.begin(Read, n.i.path)
	if errno != 0 {
		return nil, errno
	}
	if wrong {
		return nil, syscall.EIO
	}
	got, err := n.i.host.ReadAt(dest, off)
	if err != nil && err != io.EOF {
		return nil, errnoOf(err)
	}
	return fuse.ReadResultData(dest[:got]), 0
}

func (n *node) Write(ctx context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	caller, _ := fuse.FromContext(ctx)
	if errno := n.t.writeAt(n.i, data, off, caller == nil || caller.Pid == 0); errno != 0 {
		return 0, errno
	}
	return uint32(len(data)), 0
}

func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return n.t.sync(n.i)
}

func (n *node) Allocate(_ context.Context, _ fs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	return n.t.allocate(n.i, int64(off), int64(size), mode)
}

func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	n.t.mu.Lock()
	defer n.t.mu.Unlock()
	total, used := n.t.state.Budget, n.t.used()
	if total == 0 {
		total = 1 << 40
	}
	out.Bsize, out.Frsize, out.NameLen = pageBytes, pageBytes, 255
	out.Blocks = uint64(total / pageBytes)
	out.Bfree = uint64(max(0, total-used) / pageBytes)
	out.Bavail = out.Bfree
	out.Files, out.Ffree = 1<<20, 1<<20
	return 0
}

// mount shows a tree in a folder.
func mount(t *tree, at string) (*fuse.Server, error) {
	second := time.Second
	return fs.Mount(at, &node{t: t, i: t.root}, &fs.Options{EntryTimeout: &second, AttrTimeout: &second,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, DisableXAttrs: true, FsName: "fusedisk", Name: "fusedisk", MaxWrite: 1 << 20}})
}
