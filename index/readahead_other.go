//go:build !linux

package index

import "os"

// readAhead does nothing where there is no such hint.
func readAhead(*os.File, int64) {}
