package erasure

import (
	"errors"

	"golang.org/x/sys/unix"
)

func (f *osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.f.Fd()))
		if err != unix.EINTR {
			return err
		}
	}
}

func (f *osFile) Allocate(from, size int64) error {
	for {
		err := unix.Fallocate(int(f.f.Fd()), 0, from, size-from)
		if err == unix.EINTR {
			continue
		}
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			return extend(f, size)
		}
		return err
	}
}

// Drop is advice only, so its error does not matter.
func (f *osFile) Drop(from, size int64) {
	_ = unix.Fadvise(int(f.f.Fd()), from, size, unix.FADV_DONTNEED)
}

func (osFS) Statfs(path string) (FSInfo, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return FSInfo{}, err
	}
	info := FSInfo{Free: int64(st.Bavail) * st.Bsize}
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
