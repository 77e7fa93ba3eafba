//go:build unix

package erasure

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS is the operating system's file system.
var OS FS = osFS{}

type osFS struct{}

type osFile struct{ f *os.File }

func (osFS) OpenFile(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, flag|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

func (osFS) MkdirAll(path string) error         { return os.MkdirAll(path, 0o700) }
func (osFS) Rename(from, to string) error       { return os.Rename(from, to) }
func (osFS) Remove(path string) error           { return os.Remove(path) }
func (f *osFile) Truncate(size int64) error     { return f.f.Truncate(size) }
func (f *osFile) Close() error                  { return f.f.Close() }
func (f *osFile) Stat() (FileInfo, error)       { return infoOf(f.f.Stat()) }
func (osFS) Stat(path string) (FileInfo, error) { return infoOf(os.Stat(path)) }

func (f *osFile) ReadAt(p []byte, off int64) (int, error)  { return f.f.ReadAt(p, off) }
func (f *osFile) WriteAt(p []byte, off int64) (int, error) { return f.f.WriteAt(p, off) }

func infoOf(fi os.FileInfo, err error) (FileInfo, error) {
	if err != nil {
		return FileInfo{}, err
	}
	st := fi.Sys().(*syscall.Stat_t)
	return FileInfo{Size: st.Size, Inode: st.Ino, Device: uint64(st.Dev), Links: uint64(st.Nlink), Dir: fi.IsDir()}, nil
}

func (osFS) ReadDir(path string) ([]string, error) {
	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func (osFS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (osFS) Lock(path, holder string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			b := make([]byte, 256)
			n, _ := f.ReadAt(b, 0)
			return nil, &LockedError{Path: path, Holder: strings.TrimSpace(string(b[:n]))}
		}
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.WriteAt([]byte(holder+"\n"), 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			return err
		}
	}
}
