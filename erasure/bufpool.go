package erasure

import (
	"math/bits"
	"sync"
)

// bufPools keep buffers by size class: class i holds capacities of 4 KiB << i.
var bufPools [20]sync.Pool

func bufClass(n int) int { return max(0, bits.Len(uint(n-1))-12) }

// getBuf returns a buffer of length n with arbitrary contents.
func getBuf(n int) []byte {
	if n == 0 {
		return nil
	}
	c := bufClass(n)
	if c >= len(bufPools) {
		return make([]byte, n)
	}
	if p, ok := bufPools[c].Get().(*[]byte); ok {
		return (*p)[:n]
	}
	return make([]byte, n, blockBytes<<c)
}

// putBuf gives a buffer of getBuf back. Nobody may use it any longer.
func putBuf(b []byte) {
	if cap(b) == 0 {
		return
	}
	c := bufClass(cap(b))
	if c < len(bufPools) && cap(b) == blockBytes<<c {
		b = b[:cap(b)]
		bufPools[c].Put(&b)
	}
}
