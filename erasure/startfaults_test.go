package erasure_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/casd/casd/erasure/faultfs"
)

const startOperations = 180 // about as many as there are in the start of the next test

// TestDirectoryHangsAtStart is the same with a directory that hangs from then on.
func TestDirectoryHangsAtStart(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 4, 8)
	opt.FS = mem.Clone()
	c := mustLed(t, led, opt)
	if err := c.work(newRand(2), 4); err != nil {
		t.Fatal(err)
	}
	crashed := opt.FS.(*faultfs.FS).Clone()
	c.log.Close(t.Context())
	opt.IOTimeout = 200 * time.Millisecond
	t.Run("", func(t *testing.T) {
		few := 16
		if *every {
			few = startOperations
		}
		for i := range few {
			step := i*startOperations/few + newRand(uint64(i)).IntN(startOperations/few)
			t.Run(fmt.Sprintf("operation %d", step), func(t *testing.T) {
				t.Parallel()
				disk, opt := crashed.Clone(), opt
				opt.FS = disk
				calls, hung := 0, ""
				release := disk.HangWhen(func(op faultfs.Op) bool {
					dir, _, _ := strings.Cut(op.Path[1:], "/")
					if calls++; calls-1 == step {
						hung = dir
					}
					return hung != "" && dir == hung
				})
				defer release()
				c, err := led.clone().open(t, opt)
				if err != nil {
					t.Fatalf("/%s hangs: %v", hung, err)
				}
				if err := c.work(newRand(3), 2); err != nil {
					t.Fatalf("/%s hangs: %v", hung, err)
				}
				mustClose(t, c)
			})
		}
	})
}

// TestDirectoryDiesAtStart lets a directory fail from the n-th operation of a start on, or at that one only, for every n: the store starts
// without it, and all is read and written.
func TestDirectoryDiesAtStart(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 4, 8)
	unsealed := mem.Clone()
	opt.FS = unsealed
	c := mustLed(t, led, opt)
	if err := c.work(newRand(2), 4); err != nil {
		t.Fatal(err)
	}
	crashed := unsealed.Clone()
	c.log.Close(t.Context())
	for _, sticky := range []bool{false, true} {
		for step := 0; ; step = nextStep(step) {
			disk := crashed.Clone()
			calls, dead := 0, ""
			undo := disk.Fail(func(op faultfs.Op) error {
				calls++
				dir, _, _ := strings.Cut(op.Path[1:], "/")
				switch {
				case calls-1 == step:
					dead = dir
					return syscall.EIO
				case sticky && dead != "" && dir == dead:
					return syscall.EIO
				}
				return nil
			})
			opt.FS = disk
			copied := led.clone()
			c, err := copied.open(t, opt)
			if err != nil {
				t.Fatalf("/%s dies at operation %d of the start, for ever: %v: %v", dead, step, sticky, err)
			}
			fired := dead != ""
			if err := c.work(newRand(3), 2); err != nil {
				t.Fatalf("/%s died at operation %d of the start, for ever: %v: %v", dead, step, sticky, err)
			}
			undo()
			mustClose(t, c)
			if !fired {
				break
			}
		}
	}
}
