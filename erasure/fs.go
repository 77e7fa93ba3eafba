package erasure

import (
	"fmt"
	"io"
)

// FS is the seam through which the log touches files. Paths are those of the host. Errors match fs.ErrNotExist and
// syscall.ENOSPC where these apply. Implementations are safe for concurrent use.
type FS interface {
	// OpenFile opens a file for reading, and for writing too when the flags (os.O_RDWR, os.O_CREATE, os.O_EXCL,
	// os.O_TRUNC) say so. A new file is durable only after its own Sync and a SyncDir of its directory.
	OpenFile(path string, flag int) (File, error)
	MkdirAll(path string) error
	ReadDir(path string) ([]string, error) // names, in any order
	Rename(from, to string) error
	Remove(path string) error
	Stat(path string) (FileInfo, error)
	SyncDir(path string) error
	// Lock takes an exclusive lock on the file at path, which it creates, and writes holder into it. When another
	// process has it, the error is a *LockedError.
	Lock(path, holder string) (io.Closer, error)
	Statfs(path string) (FSInfo, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error               // makes data and size durable: fdatasync
	Truncate(size int64) error // sets the size
	// Allocate reserves blocks for [0, size) and makes the file at least that long, so that later writes in it need no
	// change of metadata. Where the file system cannot reserve, it only makes the file longer.
	Allocate(from, size int64) error
	Drop(from, size int64) // advises that this range of the page cache is not needed
	Stat() (FileInfo, error)
	Close() error
}

// FileInfo describes a file.
type FileInfo struct {
	Size   int64
	Inode  uint64
	Device uint64
	Links  uint64 // 0: removed while open
	Dir    bool
}

// FSInfo describes the file system that holds a path.
type FSInfo struct {
	Total   int64  // bytes in use and free
	Free    int64  // bytes that this process may still write
	Network string // "NFS", "SMB", "FUSE", "9p"; empty for a local file system
}

// A LockedError says who holds a lock.
type LockedError struct {
	Path   string
	Holder string // what the holder wrote
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("erasure: %s is locked by %s", e.Path, e.Holder)
}
