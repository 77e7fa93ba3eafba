package erasure_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

var every = flag.Bool("every", false, "let crash tests try every step, not only more and more distant ones that depend on the seed")

func nextStep(step int) int {
	if *every {
		return step + 1
	}
	return step + 1 + step/20 + int(*seed+uint64(step))%3
}

// TestPowerLossAtEveryStep lets the power go at each operation of a workload, starts again, lets it go again during that
// start, and looks each time whether everything that was acknowledged is there.
func TestPowerLossAtEveryStep(t *testing.T) {
	for _, code := range [][3]int{{1, 0, 1}, {1, 1, 2}, {2, 1, 3}, {2, 2, 5}, {4, 2, 6}} {
		t.Run(fmt.Sprintf("%d+%d on %d", code[0], code[1], code[2]), func(t *testing.T) {
			t.Parallel()
			for step := 0; ; step = nextStep(step) {
				if !powerLoss(t, code, step) {
					return
				}
			}
		})
	}
}

func powerLoss(t *testing.T, code [3]int, step int) (fired bool) {
	rng := rand.New(rand.NewPCG(*seed, uint64(step)))
	defer func() {
		if t.Failed() {
			t.Logf("-seed=%d step=%d", *seed, step)
		}
	}()
	led := newLedger()
	mem := faultfs.New()
	for _, d := range dirNames(code[2]) {
		if err := mem.MkdirAll(d); err != nil {
			t.Fatal(err)
		}
	}
	mem.SyncDir("/")
	for round := range 4 {
		opt := tiny(mem, code[0], code[1], code[2])
		at := mem.Ops() + step
		if round > 0 {
			at = mem.Ops() + rng.IntN(120)
		}
		if round == 3 {
			at = -1
		}
		mem.PowerOffAt(at)
		c, err := led.open(t, opt)
		if err == nil {
			err = c.work(rng, 12)
			if err == nil {
				err = c.check(t)
			}
			c.log.Close(t.Context())
		}
		if err != nil && !mem.Off() {
			t.Fatalf("round %d: %v", round, err)
		}
		if round == 0 {
			fired = mem.Off()
		}
		if rng.IntN(4) == 0 {
			mem = mem.Clone()
		} else {
			mem = mem.CrashClone(rng)
		}
	}
	return fired
}

// TestFailureAtEveryStep makes each operation of a workload fail once. Unless the store has no parity, nobody notices.
func TestFailureAtEveryStep(t *testing.T) {
	for _, code := range [][3]int{{1, 0, 1}, {2, 1, 4}, {4, 2, 6}} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			t.Run(fmt.Sprintf("%d+%d on %d %v", code[0], code[1], code[2], cause), func(t *testing.T) {
				t.Parallel()
				for step := 0; ; step = nextStep(step) {
					if !failure(t, code, step, cause) {
						return
					}
				}
			})
		}
	}
}

func failure(t *testing.T, code [3]int, step int, cause error) bool {
	rng := rand.New(rand.NewPCG(*seed, uint64(step)))
	defer func() {
		if t.Failed() {
			t.Logf("-seed=%d step=%d", *seed, step)
		}
	}()
	led := newLedger()
	mem := faultfs.New()
	opt := tiny(mem, code[0], code[1], code[2])
	c, err := led.open(t, opt)
	if err != nil {
		t.Fatal(err)
	}
	fired := mem.FailAt(mem.Ops()+step, cause)
	err = c.work(rng, 12)
	if err == nil {
		err = c.check(t)
	}
	if err != nil && code[1] > 0 {
		t.Fatal(err)
	}
	if err != nil && !errors.Is(err, erasure.ErrUncertain) && !errors.Is(err, erasure.ErrReadOnly) && !errors.Is(err, erasure.ErrNoSpace) &&
		!errors.Is(err, erasure.ErrUnavailable) {
		t.Fatal(err)
	}
	if rng.IntN(2) == 0 {
		if err := c.check(t); err != nil && code[1] > 0 {
			t.Fatal(err)
		}
		c.log.Close(t.Context())
	}
	opt.FS = mem.CrashClone(rng)
	if c, err = led.open(t, opt); err != nil {
		t.Fatal(err)
	}
	if err := c.work(rng, 3); err != nil {
		t.Fatal(err)
	}
	if err := c.log.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return fired()
}
