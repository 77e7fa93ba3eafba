package cas

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/casd/casd/erasure/faultfs"
)

var (
	matrixSeed  = flag.Uint64("matrix.seed", 1, "seed of the fault matrix")
	matrixEvery = flag.Int("matrix.every", 0, "try every n-th call of each kind in the fault matrix; 0 means a few of each")
)

// The fault matrix: each kind of call to the file system fails, the first one, the second one, and so on, while a store is made, filled,
// scrubbed, closed and opened again. What is acknowledged must be there, what was refused must not, and what is left is a whole store. A failure
// names its case; `go test ./cas -run 'TestMatrix...' -matrix.seed=S -matrix.every=1` tries every call.

// matrixKinds are the kinds of calls with the errors that they give.
var matrixKinds = []struct {
	kind    faultfs.Kind
	noSpace bool
}{
	{faultfs.Open, false}, {faultfs.Create, true}, {faultfs.Mkdir, true}, {faultfs.ReadDir, false}, {faultfs.Rename, true}, {faultfs.Remove, false},
	{faultfs.Stat, false}, {faultfs.SyncDir, true}, {faultfs.Lock, false}, {faultfs.Statfs, false}, {faultfs.Read, false}, {faultfs.Write, true},
	{faultfs.Sync, true}, {faultfs.Truncate, false}, {faultfs.Allocate, true},
}

// A fault hits the n-th call of a kind, once, or the directory of that call from then on.
type fault struct {
	kind   faultfs.Kind
	cause  error // what the call gives
	hang   bool  // or it hangs instead
	sticky bool
	nth    int64

	calls atomic.Int64 // of the kind so far
	dir   atomic.Pointer[string]
}

func (f *fault) String() string {
	what, how := "hangs", "once"
	if !f.hang {
		what = f.cause.Error()
	}
	if f.sticky {
		how = "for ever"
	}
	return fmt.Sprintf("%s/%s/%s/call %d", f.kind, what, how, f.nth)
}

// A trouble is what a matrixRun lives through.
type trouble interface {
	String() string
	arm(disk *faultfs.FS) (release func()) // makes it part of a disk; release ends what hangs, and is called once
	fired() bool                           // it has come to it
	excuses(err error) bool                // an operation may give this error when it has fired, on one directory without parity
}

// arm makes the fault part of the disk.
func (f *fault) arm(disk *faultfs.FS) (release func()) {
	if f.hang {
		return disk.HangWhen(f.hurts)
	}
	return disk.Fail(func(op faultfs.Op) error {
		if f.hurts(op) {
			return f.cause
		}
		return nil
	})
}

func (f *fault) excuses(err error) bool { return errors.Is(err, f.cause) }

func (f *fault) hurts(op faultfs.Op) bool {
	if dir := f.dir.Load(); dir != nil {
		return f.sticky && *dir == topDir(op.Path) && (f.cause != syscall.ENOSPC || takesSpace(op.Kind))
	}
	if op.Kind == f.kind && f.calls.Add(1)-1 == f.nth {
		dir := topDir(op.Path)
		f.dir.Store(&dir)
		return true
	}
	return false
}

// fired tells whether it came to the fault.
func (f *fault) fired() bool { return f.dir.Load() != nil }

func takesSpace(k faultfs.Kind) bool {
	switch k {
	case faultfs.Create, faultfs.Mkdir, faultfs.Write, faultfs.Allocate, faultfs.Sync, faultfs.Rename, faultfs.SyncDir:
		return true
	}
	return false
}

// topDir returns the data directory of a path in a disk of faultDisk.
func topDir(path string) string {
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return path
}

// points picks which of n calls are tried: a few, or every matrixEvery-th.
func points(rng *rand.Rand, n int64, few int) (ps []int64) {
	if *matrixEvery > 0 {
		for i := int64(0); i < n; i += int64(*matrixEvery) {
			ps = append(ps, i)
		}
		return ps
	}
	for i := range int64(few) {
		from, to := n*i/int64(few), n*(i+1)/int64(few)
		if from < to {
			ps = append(ps, from+rng.Int64N(to-from))
		}
	}
	return ps
}

func TestMatrix(t *testing.T) {
	before := goroutines()
	t.Run("", func(t *testing.T) {
		for _, code := range []struct {
			name       string
			dirs, k, m int
		}{{"2+1 on 4", 4, 2, 1}, {"1+0 on 1", 1, 1, 0}} {
			rng := rand.New(rand.NewPCG(*matrixSeed, uint64(code.dirs)))
			count := newMatrixRun(t, code.dirs, code.k, code.m, rng).countCalls()
			for _, c := range matrixKinds {
				for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
					if cause == syscall.ENOSPC && !c.noSpace {
						continue
					}
					for _, sticky := range []bool{false, true} {
						for _, nth := range points(rng, count[c.kind], 1) {
							f := &fault{kind: c.kind, cause: cause, sticky: sticky, nth: nth}
							rng := rand.New(rand.NewPCG(*matrixSeed, uint64(nth)))
							t.Run(code.name+"/"+f.String(), func(t *testing.T) {
								t.Parallel()
								newMatrixRun(t, code.dirs, code.k, code.m, rng).through(f)
							})
						}
					}
				}
			}
		}
	})
	if !t.Failed() { // else stores are left open
		noGoroutines(t, before)
	}
}

// countCalls returns how many calls of each kind a run without a fault makes.
func (r *matrixRun) countCalls() map[faultfs.Kind]int64 {
	var mu sync.Mutex
	count := map[faultfs.Kind]int64{}
	r.count = func(op faultfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		count[op.Kind]++
		return nil
	}
	r.through(&fault{nth: -1, cause: errors.ErrUnsupported})
	mu.Lock()
	defer mu.Unlock()
	return maps.Clone(count)
}

// through takes a store through its life with trouble in it.
func (r *matrixRun) through(f trouble) {
	defer r.explain(f.String)
	s := r.start(f)
	for i, step := range matrixSteps {
		if err := step.do(r, s); err != nil && !r.mayFail(f, err) {
			r.t.Fatalf("step %d, %s: %v", i, step.name, err)
		}
	}
	r.mustHaveAll(s)
	r.end(s, f)
	if r.atRest != nil {
		r.atRest()
	}
	r.arm(f) // what is for ever goes on
	s = r.open(f)
	r.mustHaveAll(s)
	if s != nil {
		if err := r.put(s, "late", r.body(400_000)); err != nil && !r.mayFail(f, err) {
			r.t.Fatalf("a put after the restart: %v", err)
		}
	}
	r.mustHaveAll(s)
	r.close(s, f)
	r.whole()
}

// start makes the store. When the fault is in the way of its creation, the next start completes it, without that fault.
func (r *matrixRun) start(f trouble) *Store {
	if !r.late {
		r.arm(f)
	}
	s, err := Open(r.t.Context(), r.o)
	if err != nil {
		if !f.fired() {
			r.t.Fatalf("create: %v", err)
		}
		r.renew(r.disk.Clone())
		s = r.openWhole()
	}
	if r.late {
		r.arm(f)
	}
	return s
}

// mayFail tells whether an operation may give this error with the fault: not with parity, since the fault hurts one directory only. Errors
// are those that callers know.
func (r *matrixRun) mayFail(f trouble, err error) bool {
	if r.o.M > 0 || !f.fired() {
		return false
	}
	for _, known := range []error{ErrReadOnly, ErrNoSpace, ErrUnknownOutcome, ErrIncomplete, ErrCorrupt, ErrNoSuchKey, ErrNoSuchBucket, ErrNoSuchUpload, errScrubbed} {
		if errors.Is(err, known) {
			return true
		}
	}
	return f.excuses(err)
}
