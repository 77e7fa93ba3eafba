package erasure_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// drain makes the moves that empty a directory.
func drain(t testing.TB, c *client, dir string) (moves int) {
	t.Helper()
	for m, err := range c.log.DrainPlan(dir) {
		if err != nil {
			t.Fatal(err)
		}
		if err := c.log.MoveShard(t.Context(), m.Segment, m.Shard, m.To, erasure.MoveOptions{}); err != nil {
			t.Fatal(err)
		}
		moves++
	}
	return moves
}

// levels returns how full every directory is.
func levels(c *client) (low, high float64) {
	low = 1
	for _, d := range c.log.Dirs() {
		level := float64(d.Total-d.Free) / float64(d.Total)
		low, high = min(low, level), max(high, level)
	}
	return low, high
}

// TestDrain empties one of six directories while the store takes more, removes it, and starts without it.
func TestDrain(t *testing.T) {
	led, mem, opt := filledStore(t, 3, 2, 6, 20)
	c := mustLed(t, led, opt)
	dir := c.log.Dirs()[2]
	if err := c.log.SetDraining(t.Context(), dir.ID, true, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.log.Roll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.work(newRand(2), 5); err != nil {
		t.Fatal(err)
	}
	if n := drain(t, c, dir.ID); n < 5 {
		t.Errorf("only %d moves", n)
	}
	if d := c.log.Dirs()[2]; d.Shards != 0 || d.Bytes != 0 {
		t.Errorf("%+v", d)
	}
	if left := mem.Files("/d2/segments"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := c.log.RemoveDir(t.Context(), dir.ID, false, 0); err != nil {
		t.Fatal(err)
	}
	mem.RemoveAll("/d2")
	if err := c.work(newRand(3), 5); err != nil {
		t.Fatal(err)
	}
	if found := first(scrubAll(t, c, false)); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	mustClose(t, c)
	opt.Dirs = append(dirNames(2), dirNames(6)[3:]...)
	c = mustLed(t, led, opt)
	if err := c.check(t); err != nil {
		t.Error(err)
	}
	for file, in := range whereabouts(mem, 6) {
		if len(in) != 1 {
			t.Errorf("%s is in %v", file, in)
		}
		for other, at := range whereabouts(mem, 6) {
			if other != file && other[:16] == file[:16] && at[0] == in[0] {
				t.Errorf("%s and %s are in one directory", file, other)
			}
		}
	}
	mustClose(t, c)
}

// TestDrainNeedsDirectories: a segment on five directories cannot do with four.
func TestDrainNeedsDirectories(t *testing.T) {
	led, _, opt := filledStore(t, 3, 2, 5, 5)
	c := mustLed(t, led, opt)
	dir := c.log.Dirs()[1]
	n := 0
	for m, err := range c.log.DrainPlan(dir.ID) {
		n++
		if !errors.Is(err, erasure.ErrNoHome) || !strings.Contains(err.Error(), "needs 5 directories besides "+dir.Path+", and 4 are") || m.From != dir.ID || m.To != "" {
			t.Fatalf("%+v %v", m, err)
		}
	}
	if n == 0 {
		t.Error("nothing to move")
	}
	for _, err := range c.log.DrainPlan("nobody") {
		var de *erasure.DirError
		if !errors.As(err, &de) {
			t.Error(err)
		}
	}
	c.log.Close(t.Context())
}

// TestDrainOfALostDirectory rebuilds elsewhere what was on a directory that goes offline, or was absent from the start.
func TestDrainOfALostDirectory(t *testing.T) {
	for _, absent := range []bool{false, true} {
		led, mem, opt := filledStore(t, 3, 2, 6, 8)
		if absent {
			mem.RemoveAll("/d3")
		}
		c := mustLed(t, led, opt)
		dir := c.log.Dirs()[3]
		if !absent {
			mem.FailPath("/d3", syscall.EIO)
			for i := 0; c.log.Dirs()[3].State != "offline"; i++ {
				scrubAll(t, c, false)
				if i > 20 {
					t.Fatal("is not offline")
				}
			}
		}
		if n := drain(t, c, dir.ID); n < 3 {
			t.Errorf("only %d moves", n)
		}
		for _, f := range first(scrubAll(t, c, false)) {
			t.Errorf("%+v", f)
		}
		if n := len(c.log.Damaged()); n > 0 {
			t.Errorf("%d segments are damaged", n)
		}
		if err := c.check(t); err != nil {
			t.Error(err)
		}
		c.log.Close(t.Context())
	}
}

// TestBalance fills five directories of different sizes, adds an empty one, and evens them out.
func TestBalance(t *testing.T) {
	mem, led := faultfs.New(), newLedger()
	sizes := []int64{6 << 20, 8 << 20, 6 << 20, 10 << 20, 7 << 20, 8 << 20}
	for i, size := range sizes {
		dir := fmt.Sprintf("/d%d", i)
		if err := mem.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
		mem.Limit(dir, size)
		mem.SetDevice(dir, uint64(10+i))
	}
	opt := tiny(mem, 2, 1, 5)
	c := mustLed(t, led, opt)
	if err := c.work(newRand(1), 130); err != nil {
		t.Fatal(err)
	}
	if _, err := c.log.AddDir(t.Context(), "/d5", 0); err != nil {
		t.Fatal(err)
	}
	if err := c.log.Roll(t.Context()); err != nil {
		t.Fatal(err)
	}
	low, high := levels(c)
	if high-low < 0.2 {
		t.Fatalf("levels from %.2f to %.2f: too little to do", low, high)
	}
	moves := 0
	for m, err := range c.log.BalancePlan() {
		if err != nil {
			t.Fatal(err)
		}
		if err := c.log.MoveShard(t.Context(), m.Segment, m.Shard, m.To, erasure.MoveOptions{}); err != nil {
			t.Fatal(err)
		}
		moves++
	}
	if low, high = levels(c); high-low > 0.06 { // a little above, when no file is small enough
		t.Errorf("levels from %.3f to %.3f after %d moves", low, high, moves)
	}
	for m := range c.log.BalancePlan() {
		t.Errorf("balanced, but %+v", m)
	}
	if found := first(scrubAll(t, c, false)); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	if err := c.check(t); err != nil {
		t.Error(err)
	}
	mustClose(t, c)
}

// TestBalanceSpreadsDevices has two directories on one disk and two disks that are free.
func TestBalanceSpreadsDevices(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 8)
	for i, device := range []uint64{7, 7, 8, 9} {
		mem.SetDevice(fmt.Sprintf("/d%d", i), device)
	}
	if err := mem.MkdirAll("/d3"); err != nil {
		t.Fatal(err)
	}
	c := mustLed(t, led, opt)
	if _, err := c.log.AddDir(t.Context(), "/d3", 0); err != nil {
		t.Fatal(err)
	}
	segments := c.log.Segments()
	for m, err := range c.log.BalancePlan() {
		if err != nil {
			t.Fatal(err)
		}
		if err := c.log.MoveShard(t.Context(), m.Segment, m.Shard, m.To, erasure.MoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	where := whereabouts(mem, 4)
	for _, s := range segments {
		if !s.Sealed {
			continue
		}
		shared := 0
		for file, in := range where {
			if id, _ := parseShard(t, file); id == s.ID && in[0] < 2 {
				shared++
			}
		}
		if shared > 1 {
			t.Errorf("segment %d has %d shards on one disk", s.ID, shared)
		}
	}
	if err := c.check(t); err != nil {
		t.Error(err)
	}
	mustClose(t, c)
}

// TestMovesUnderCrashes writes, moves shard files at random between directories of odd sizes, and lets the power go or the process
// die at random points: after each, everything that was acknowledged is read.
func TestMovesUnderCrashes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		k, m := rapid.IntRange(1, 3).Draw(rt, "k"), rapid.IntRange(0, 2).Draw(rt, "m")
		dirs := k + m + rapid.IntRange(1, 3).Draw(rt, "spare")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "rng"), 0))
		led, mem := newLedger(), faultfs.New()
		for i := range dirs {
			if err := mem.MkdirAll(fmt.Sprintf("/d%d", i)); err != nil {
				rt.Fatal(err)
			}
			mem.Limit(fmt.Sprintf("/d%d", i), int64(rapid.IntRange(3, 12).Draw(rt, "size"))<<20)
		}
		mem.SyncDir("/")
		for range rapid.IntRange(2, 5).Draw(rt, "rounds") {
			opt := tiny(mem, k, m, dirs)
			c, err := led.open(rt, opt)
			if err != nil {
				rt.Fatal(err)
			}
			if err := c.work(rng, 6); err != nil {
				rt.Fatal(err)
			}
			if rng.IntN(2) == 0 {
				if err := c.log.Roll(rt.Context()); err != nil {
					rt.Fatal(err)
				}
			}
			segments, members := c.log.Segments(), c.log.Dirs()
			segments = slices.DeleteFunc(segments, func(s erasure.SegmentInfo) bool { return s.K == 0 }) // a power loss took all of it
			if len(segments) == 0 {                                                                      // nothing was written yet
				c.log.Close(rt.Context())
				continue
			}
			if rng.IntN(3) > 0 {
				mem.PowerOffAt(mem.Ops() + rng.IntN(150))
			}
			for i := 0; i < 12 && len(segments) > 0; i++ {
				s := segments[rng.IntN(len(segments))]
				err := c.log.MoveShard(rt.Context(), s.ID, rng.IntN(max(s.K+s.M, 1)), members[rng.IntN(len(members))].ID, erasure.MoveOptions{})
				var de *erasure.DirError
				if err != nil && !mem.Off() && !errors.Is(err, erasure.ErrSegmentOpen) && !errors.Is(err, erasure.ErrNoSpace) && !errors.As(err, &de) {
					rt.Fatal(err)
				}
			}
			if err := c.check(rt); err != nil && !mem.Off() {
				rt.Fatal(err)
			}
			c.log.Close(rt.Context())
			if rng.IntN(4) == 0 && !mem.Off() {
				mem = mem.Clone()
			} else {
				mem = mem.CrashClone(rng)
			}
		}
		c, err := led.open(rt, tiny(mem, k, m, dirs))
		if err != nil {
			rt.Fatal(err)
		}
		for _, d := range c.log.Duplicates() {
			if err := c.log.ResolveDuplicate(rt.Context(), d.Segment, d.Shard, erasure.MoveOptions{}); err != nil {
				rt.Fatal(err)
			}
		}
		for _, f := range first(scrubAll(rt, c, true)) {
			if f.Kind != erasure.FindingFooter || !f.Repaired { // the power went when a file was being cut to length
				rt.Fatalf("%+v", f)
			}
		}
		if found := first(scrubAll(rt, c, false)); len(found) > 0 {
			rt.Fatalf("%+v", found)
		}
		for file, in := range whereabouts(mem, dirs) {
			if len(in) != 1 {
				rt.Fatalf("%s is in %v", file, in)
			}
		}
		if err := c.check(rt); err != nil {
			rt.Fatal(err)
		}
		c.log.Close(rt.Context())
	})
}
