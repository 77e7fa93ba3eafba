package index

import (
	"os"

	"golang.org/x/sys/unix"
)

// readAhead asks the kernel to read the first bytes of the file in order: its pages are about to be read in the order of keys.
func readAhead(file *os.File, bytes int64) {
	_ = unix.Fadvise(int(file.Fd()), 0, bytes, unix.FADV_WILLNEED) // a hint
}
