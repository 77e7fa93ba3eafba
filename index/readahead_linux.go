package index

import (
	"os"

	"golang.org/x/sys/unix"
)

// readAhead asks the kernel to read the file in order: its pages are about to be read in the order of keys.
func readAhead(file *os.File) {
	_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_WILLNEED) // a hint
}
