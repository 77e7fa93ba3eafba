package cas

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/casd/casd/erasure/faultfs"
)

// rots are what happens to a directory between two runs.
var rots = []struct {
	name string
	do   func(r *matrixRun, dir string)
}{
	{"flipped bits", func(r *matrixRun, dir string) {
		for _, f := range r.shards(dir) {
			size := r.size(f)
			for range 1 + size/50_000 {
				r.disk.FlipBit(f, r.rng.Int64N(size))
			}
		}
	}},
	{"zeroed sectors", func(r *matrixRun, dir string) {
		for _, f := range r.shards(dir) {
			for range 3 {
				r.disk.Poke(f, r.rng.Int64N(r.size(f)/512)*512, func(b []byte) { clear(b) }, 512)
			}
		}
	}},
	{"zeroed header", func(r *matrixRun, dir string) {
		for _, f := range r.shards(dir) {
			r.disk.Poke(f, 0, func(b []byte) { clear(b) }, 4096)
		}
	}},
	{"cut files", func(r *matrixRun, dir string) {
		for _, f := range r.shards(dir) {
			r.disk.Cut(f, r.rng.Int64N(r.size(f)))
		}
	}},
	{"removed files", func(r *matrixRun, dir string) {
		for _, f := range r.shards(dir) {
			if r.rng.IntN(3) > 0 {
				r.disk.RemoveAll(f)
			}
		}
	}},
	{"blocks in wrong places", func(r *matrixRun, dir string) {
		files := r.shards(dir)
		for _, f := range files {
			from := files[r.rng.IntN(len(files))]
			var block []byte
			r.disk.Poke(from, r.rng.Int64N(r.size(from)/4096)*4096, func(b []byte) { block = slices.Clone(b) }, 4096)
			r.disk.Poke(f, r.rng.Int64N(r.size(f)/4096)*4096, func(b []byte) { copy(b, block) }, 4096)
		}
	}},
	{"a stale directory", func(r *matrixRun, dir string) {
		if r.stale != nil {
			r.disk.RemoveAll(dir)
			r.disk.Graft(r.stale, dir)
		}
	}},
}

// shards lists the shard files in a directory that are not empty.
func (r *matrixRun) shards(dir string) []string {
	return slices.DeleteFunc(r.disk.Files(dir+"/segments"), func(f string) bool { return r.size(f) < 4096 })
}

func (r *matrixRun) size(path string) int64 {
	fi, err := r.disk.Stat(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return fi.Size
}

// A rot is damage to as many directories as there is parity, at rest.
type rot struct{ name string }

func (r rot) String() string       { return r.name }
func (rot) arm(*faultfs.FS) func() { return func() {} }
func (rot) fired() bool            { return true }
func (rot) excuses(error) bool     { return false }

// Between two runs as many directories as there is parity are damaged, each in another way: nobody notices, and a scrub mends it.
func TestMatrixRot(t *testing.T) {
	rounds := uint64(1 + 9*min(*matrixEvery, 1))
	for _, code := range []struct {
		name       string
		dirs, k, m int
	}{{"2+1 on 4", 4, 2, 1}, {"4+2 on 6", 6, 4, 2}} {
		for i, kind := range rots {
			for round := range rounds {
				name := fmt.Sprintf("%s/%s/%d", code.name, kind.name, round)
				rng := rand.New(rand.NewPCG(*matrixSeed, uint64(i)<<8+round))
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					r := newMatrixRun(t, code.dirs, code.k, code.m, rng)
					r.atRest = func() {
						for n, d := range rng.Perm(code.dirs)[:code.m] {
							rots[(i+n)%len(rots)].do(r, r.o.Dirs[d])
						}
					}
					r.through(rot{name})
				})
			}
		}
	}
}

// The power goes after the n-th call that changes something, in the middle of whatever it is, and once more while the next start mends that.
func TestMatrixPowerLoss(t *testing.T) {
	few := 6
	if testing.Short() {
		few = 2
	}
	for _, code := range []struct {
		name       string
		dirs, k, m int
	}{{"2+1 on 4", 4, 2, 1}, {"1+0 on 1", 1, 1, 0}} {
		rng := rand.New(rand.NewPCG(*matrixSeed, uint64(code.dirs)))
		var changes int64
		for kind, n := range newMatrixRun(t, code.dirs, code.k, code.m, rng).countCalls() {
			if kind.Changes() {
				changes += n
			}
		}
		for _, nth := range points(rng, changes, few) {
			name := fmt.Sprintf("%s/call %d", code.name, nth)
			rng := rand.New(rand.NewPCG(*matrixSeed, uint64(nth)))
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				newMatrixRun(t, code.dirs, code.k, code.m, rng).throughPowerLoss(name, int(nth))
			})
		}
	}
}

func (r *matrixRun) throughPowerLoss(name string, nth int) {
	defer r.explain(func() string { return name })
	r.disk.PowerOffAt(r.disk.Ops() + nth)
	if s, err := Open(r.t.Context(), r.o); err == nil {
		for i, step := range matrixSteps {
			if err := step.do(r, s); err != nil && !r.disk.Off() {
				r.t.Fatalf("step %d, %s: %v", i, step.name, err)
			}
			if r.disk.Off() {
				break
			}
		}
		_ = s.Close(context.Background()) // it may fail, without power
	} else if !r.disk.Off() {
		r.t.Fatalf("create: %v", err)
	}
	for range 2 {
		r.renew(r.disk.CrashClone(r.rng))
		r.disk.PowerOffAt(r.disk.Ops() + r.rng.IntN(40))
		s, err := Open(r.t.Context(), r.o)
		if err == nil {
			_ = s.Close(context.Background()) // it may fail, without power
		} else if !r.disk.Off() {
			r.t.Fatalf("start after the power loss: %v", err)
		}
	}
	r.renew(r.disk.CrashClone(r.rng))
	s := r.openWhole()
	if _, err := s.CreateBucket(r.t.Context(), Bucket{Name: "b"}); err != nil && !errors.Is(err, ErrBucketExists) {
		r.t.Fatal(err)
	}
	closeStore(r.t, s)
	r.whole()
}
