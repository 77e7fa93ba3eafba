package erasure_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// fill works until there is no room for a tier.
func fill(t testing.TB, c *client, rng *rand.Rand, tier erasure.Tier, bytes int) {
	t.Helper()
	c.tier = tier
	for range 1000 {
		label, h, err := c.append(rng, rng.IntN(bytes), erasure.Data)
		if err == nil {
			err = c.mutate(rng, rng.IntN(400), map[string]*erasure.Handle{label: h})
		}
		if errors.Is(err, erasure.ErrNoSpace) && !errors.Is(err, erasure.ErrUncertain) {
			return
		}
		if err != nil {
			t.Fatalf("%v tier: %v", tier, err)
		}
	}
	t.Fatalf("room for %v never ends", tier)
}

// leastFree is how much is free in the fullest of the directories, in percent of its size.
func leastFree(t testing.TB, mem *faultfs.FS, dirs int) float64 {
	t.Helper()
	least := 100.0
	for _, d := range dirNames(dirs) {
		info, err := mem.Statfs(d)
		if err != nil {
			t.Fatal(err)
		}
		least = min(least, 100*float64(info.Free)/float64(info.Total))
	}
	return least
}

// TestTiers fills small disks with uploads, then with deletes: each stops at its floor, what is above goes on, the log can be closed and
// opened in every state, and compaction gives the room back.
func TestTiers(t *testing.T) {
	for _, code := range [][3]int{{1, 0, 1}, {2, 1, 3}, {4, 2, 7}} {
		t.Run(fmt.Sprintf("%d+%d on %d", code[0], code[1], code[2]), func(t *testing.T) {
			t.Parallel()
			led, mem := newLedger(), faultfs.New()
			opt := tiny(mem, code[0], code[1], code[2])
			for _, d := range dirNames(code[2]) {
				mem.Limit(d, 6<<20)
			}
			c := mustLed(t, led, opt)
			rng := newRand(1)
			reopen := func() {
				t.Helper()
				if err := c.check(t); err != nil {
					t.Fatal(err)
				}
				mustClose(t, c)
				c = mustLed(t, led, opt)
			}
			for round := range 3 {
				fill(t, c, rng, erasure.TierUpload, 60<<10)
				fill(t, c, rng, erasure.TierUpload, 8<<10) // what fits between
				if free := leastFree(t, mem, code[2]); free < 3 {
					t.Fatalf("uploads left %.2f %% free", free)
				}
				if err := c.log.Room(erasure.TierUpload); !errors.Is(err, erasure.ErrNoSpace) {
					t.Fatalf("room for uploads: %v", err)
				}
				if err := errors.Join(c.log.Room(erasure.TierDelete), c.log.Room(erasure.TierCompact), c.log.WriteState()); err != nil {
					t.Fatal(err)
				}
				c.tier = erasure.TierDelete
				for range 8 {
					if err := c.mutate(rng, 300, nil); err != nil {
						t.Fatalf("delete: %v", err)
					}
				}
				if round > 0 {
					fill(t, c, rng, erasure.TierDelete, 2<<10)
					if free := leastFree(t, mem, code[2]); free < 1 {
						t.Fatalf("deletes left %.2f %% free", free)
					}
				}
				reopen()
				// Everything is deleted but what was written last.
				for label := range c.acked {
					if label[0] == 'c' && rng.IntN(8) > 0 {
						delete(c.acked, label)
					}
				}
				c.tier = erasure.TierCompact
				for _, id := range c.droppable() { // one at a time: the next one uses the room of the last
					if err := c.compact(rng, []erasure.SegmentID{id}); err != nil {
						t.Fatalf("compaction of segment %d: %v", id, err)
					}
				}
				if err := c.log.Room(erasure.TierUpload); err != nil {
					t.Fatalf("round %d: room for uploads after compaction: %v", round, err)
				}
				reopen()
			}
			mustClose(t, c)
		})
	}
}

// TestSmallDirectoryKeepsItsReserve: uploads leave one directory that is low and go on in the others.
func TestSmallDirectoryKeepsItsReserve(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 3)
	mem.Limit("/d1", 2<<20)
	c := mustLed(t, led, opt)
	rng := newRand(1)
	for range 300 {
		label, h, err := c.append(rng, 60<<10, erasure.Data)
		if err == nil {
			err = c.mutate(rng, 100, map[string]*erasure.Handle{label: h})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if free := leastFree(t, mem, 3); free < 3 || free > 20 {
		t.Fatalf("%.2f %% are free in /d1", free)
	}
	for _, d := range c.log.Dirs() {
		if want := map[bool]string{true: "full", false: "online"}[d.Path == "/d1"]; d.State != want {
			t.Fatalf("%s is %s: %s", d.Path, d.State, d.Reason)
		}
	}
	mustClose(t, c)
	c = mustLed(t, led, opt)
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
}

// TestGoneIsNotFull: the directory that is found to hang when it is asked for its room makes the store read-only, and not full.
func TestGoneIsNotFull(t *testing.T) {
	_, mem, opt := filledStore(t, 1, 1, 2, 3)
	opt.IOTimeout = 50 * time.Millisecond
	l, err := erasure.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	if _, err := l.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer mem.Hang("/d1", faultfs.Statfs)()
	if err := l.Room(erasure.TierUpload); !errors.Is(err, erasure.ErrReadOnly) {
		t.Fatal(err)
	}
}
