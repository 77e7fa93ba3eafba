package cas

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/casd/casd/erasure/faultfs"
)

// A lie is what a disk makes of its n-th write to a shard file, other than writing it.
type lie struct {
	name string
	nth  int64
	rng  *rand.Rand // used under the lock of the disk only
	fate func(l *lie, w faultfs.WriteOp) faultfs.Fate

	writes, hit atomic.Int64
	seen        map[string][]string // shard files that were written, by data directory
}

// lies are the ways of a bad disk.
var lies = []struct {
	name string
	fate func(l *lie, w faultfs.WriteOp) faultfs.Fate
}{
	{name: "short write, input/output error", fate: func(l *lie, w faultfs.WriteOp) faultfs.Fate {
		return faultfs.Fate{Bytes: l.rng.IntN(w.Bytes), Err: syscall.EIO}
	}},
	{name: "short write, no space", fate: func(l *lie, w faultfs.WriteOp) faultfs.Fate {
		return faultfs.Fate{Bytes: l.rng.IntN(w.Bytes), Err: syscall.ENOSPC}
	}},
	{name: "torn write that fails", fate: func(l *lie, w faultfs.WriteOp) faultfs.Fate {
		return faultfs.Fate{Bytes: math.MaxInt, Sectors: func(int) bool { return l.rng.IntN(2) == 0 }, Err: syscall.EIO}
	}},
	{name: "torn write that is acknowledged", fate: func(l *lie, w faultfs.WriteOp) faultfs.Fate {
		torn := l.rng.IntN(w.Bytes/512 + 1)
		return faultfs.Fate{Bytes: math.MaxInt, Sectors: func(i int) bool { return i < torn }}
	}},
	{name: "lost write", fate: func(*lie, faultfs.WriteOp) faultfs.Fate { return faultfs.Fate{} }},
	{name: "write to a wrong offset", fate: func(l *lie, w faultfs.WriteOp) faultfs.Fate {
		return faultfs.Fate{Bytes: math.MaxInt, Shift: (l.rng.Int64N(40) - 20) * 4096}
	}},
	{name: "write to a wrong file", fate: func(l *lie, w faultfs.WriteOp) faultfs.Fate {
		files := l.seen[topDir(w.Path)]
		return faultfs.Fate{Bytes: math.MaxInt, Path: files[l.rng.IntN(len(files))], Shift: (l.rng.Int64N(4) - 2) * 4096}
	}},
}

func (l *lie) String() string { return fmt.Sprintf("%s/write %d", l.name, l.nth) }

func (l *lie) arm(disk *faultfs.FS) func() {
	return disk.Lie(func(w faultfs.WriteOp) *faultfs.Fate {
		if !strings.Contains(w.Path, "/segments/") {
			return nil
		}
		dir := topDir(w.Path)
		l.seen[dir] = append(l.seen[dir], w.Path)
		if l.writes.Add(1)-1 != l.nth {
			return nil
		}
		l.hit.Store(1)
		fate := l.fate(l, w)
		return &fate
	})
}

func (l *lie) fired() bool        { return l.hit.Load() > 0 }
func (l *lie) excuses(error) bool { return false }

// A disk cuts writes short, tears them, loses them, and puts them where they do not belong, while the others are well: nobody notices, and a
// scrub mends it.
func TestMatrixLies(t *testing.T) {
	before := goroutines()
	t.Run("", func(t *testing.T) {
		few := 2
		if testing.Short() {
			few = 1
		}
		for i, c := range lies {
			rng := rand.New(rand.NewPCG(*matrixSeed, uint64(i)))
			for _, nth := range points(rng, 110, few) { // of some 110 writes
				l := &lie{name: c.name, fate: c.fate, nth: nth, rng: rand.New(rand.NewPCG(*matrixSeed, uint64(nth))), seen: map[string][]string{}}
				t.Run(l.String(), func(t *testing.T) {
					t.Parallel()
					newMatrixRun(t, 4, 2, 1, rand.New(rand.NewPCG(*matrixSeed, uint64(nth)))).through(l)
				})
			}
		}
	})
	if !t.Failed() { // else stores are left open
		noGoroutines(t, before)
	}
}

// A directory hangs from some call on, is taken out of service, and comes back with the next start.
func TestMatrixHangs(t *testing.T) {
	before := goroutines()
	t.Run("", func(t *testing.T) {
		rng := rand.New(rand.NewPCG(*matrixSeed, 0))
		few := 1
		if testing.Short() {
			few = 0
		}
		counted := newMatrixRun(t, 4, 2, 1, rng)
		counted.late = true
		count := counted.countCalls()
		for _, c := range matrixKinds {
			for _, nth := range points(rng, count[c.kind], few) {
				f := &fault{kind: c.kind, hang: true, sticky: true, nth: nth}
				rng := rand.New(rand.NewPCG(*matrixSeed, uint64(nth)))
				t.Run(f.String(), func(t *testing.T) {
					t.Parallel()
					r := newMatrixRun(t, 4, 2, 1, rng)
					r.late, r.o.IOTimeout = true, 500*time.Millisecond
					r.through(f)
				})
			}
		}
	})
	if !t.Failed() { // else stores are left open
		noGoroutines(t, before)
	}
}
