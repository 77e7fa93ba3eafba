//go:build unix && !linux

package erasure

import "golang.org/x/sys/unix"

func (f *osFile) Sync() error { return f.f.Sync() }

func (f *osFile) Allocate(_, size int64) error {
	fi, err := f.Stat()
	if err != nil || fi.Size >= size {
		return err
	}
	return f.Truncate(size)
}

// Drop does nothing: the page cache is left to the system.
func (f *osFile) Drop(int64, int64) {}

func (osFS) Statfs(path string) (FSInfo, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return FSInfo{}, err
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	return FSInfo{Total: int64(st.Blocks-st.Bfree)*int64(st.Bsize) + free, Free: free}, nil
}
