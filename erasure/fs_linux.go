package erasure

import (
	"errors"

	"golang.org/x/sys/unix"
)

// control calls fn with the file descriptor, which stays that of this file meanwhile: somebody may give up on a file that hangs and
// close it. fn is called again when a signal interrupts it.
func (f *osFile) control(fn func(fd int) error) error {
	rc, err := f.f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := rc.Control(func(fd uintptr) {
		for result = fn(int(fd)); result == unix.EINTR; result = fn(int(fd)) {
		}
	}); err != nil {
		return err
	}
	return result
}

func (f *osFile) Sync() error { return f.control(unix.Fdatasync) }

func (f *osFile) Allocate(from, size int64) error {
	err := f.control(func(fd int) error { return unix.Fallocate(fd, 0, from, size-from) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return extend(f, size)
	}
	return err
}

// Drop is advice only, so its error does not matter.
func (f *osFile) Drop(from, size int64) {
	_ = f.control(func(fd int) error { return unix.Fadvise(fd, from, size, unix.FADV_DONTNEED) })
}

func (osFS) Statfs(path string) (FSInfo, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return FSInfo{}, err
	}
	free := int64(st.Bavail) * st.Bsize
	info := FSInfo{Total: int64(st.Blocks-st.Bfree)*st.Bsize + free, Free: free}
	switch uint32(st.Type) {
	case 0x6969:
		info.Network = "NFS"
	case 0x517B, 0xFF534D42, 0xFE534D42:
		info.Network = "SMB"
	case 0x65735546:
		info.Network = "FUSE"
	case 0x01021997:
		info.Network = "9p"
	}
	return info, nil
}

func extend(f *osFile, size int64) error {
	fi, err := f.Stat()
	if err != nil || fi.Size >= size {
		return err
	}
	return f.Truncate(size)
}
