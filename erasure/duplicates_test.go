package erasure_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// duplicated is movable, closed, with a second copy of the file in the other directory.
func duplicated(t testing.TB) (led *ledger, mem *faultfs.FS, opt erasure.Options, whole, path, second string) {
	t.Helper()
	c, mem, opt, whole, path, to := movable(t)
	mustClose(t, c)
	second = inDir(path, to)
	writeFile(t, mem, second, []byte(whole))
	return c.ledger, mem, opt, whole, path, second
}

func resolveFile(t testing.TB, c *client, path string) error {
	t.Helper()
	id, shard := parseShard(t, path[strings.LastIndex(path, "/")+1:])
	return c.log.ResolveDuplicate(t.Context(), id, shard, erasure.MoveOptions{})
}

func exists(mem *faultfs.FS, path string) bool {
	_, err := mem.Stat(path)
	return err == nil
}

// harmOthers flips a bit at an offset in so many other shard files of the segment that a stripe there cannot be rebuilt without this one.
func harmOthers(t testing.TB, mem *faultfs.FS, path string, off int64) {
	t.Helper()
	name := path[strings.LastIndex(path, "/")+1:]
	harmed := 0
	for _, p := range mem.Files("/") {
		if strings.Contains(p, name[:16]) && !strings.HasSuffix(p, name) && harmed < 2 {
			mem.FlipBit(p, off)
			harmed++
		}
	}
	if harmed < 2 {
		t.Fatal("too few other shards")
	}
}

func TestResolveDuplicate(t *testing.T) {
	for _, tc := range []struct {
		name         string
		first, other func(mem *faultfs.FS, path, whole string) // what happens to the copies
		keep         string                                    // first, other; empty: that with more room, which is the other one
	}{
		{name: "equal"},
		{name: "one is damaged", other: func(mem *faultfs.FS, path, whole string) { mem.FlipBit(path, 300) }},
		{name: "the other is damaged", first: func(mem *faultfs.FS, path, whole string) { mem.FlipBit(path, 300) }},
		{name: "one is short", other: func(mem *faultfs.FS, path, whole string) { mem.Cut(path, 5000) }},
		{name: "one is empty", other: func(mem *faultfs.FS, path, whole string) { mem.Cut(path, 0) }},
		{name: "one cannot be read", other: func(mem *faultfs.FS, path, whole string) { mem.FailPath(path, syscall.EIO, faultfs.Read) }, keep: "both"},
		{name: "one cannot be opened", other: func(mem *faultfs.FS, path, whole string) { mem.FailPath(path, syscall.EIO, faultfs.Open) }, keep: "both"},
		{name: "one has no room", other: func(mem *faultfs.FS, path, whole string) { mem.Limit(path[:3], mem.Used(path[:3])+1<<20) }, keep: "first"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			led, mem, opt, whole, path, second := duplicated(t)
			c := mustLed(t, led, opt)
			if dups := c.log.Duplicates(); len(dups) != 1 || len(dups[0].Dirs) != 2 {
				t.Fatalf("%+v", dups)
			}
			mem.Limit(path[:3], mem.Used(path[:3])+8<<20)
			if tc.first != nil {
				tc.first(mem, path, whole)
			}
			if tc.other != nil {
				tc.other(mem, second, whole)
			}
			if err := resolveFile(t, c, path); err != nil {
				t.Fatal(err)
			}
			first, other := exists(mem, path), exists(mem, second)
			switch tc.keep {
			case "first":
				if !first || other {
					t.Errorf("the first is there: %v, the other: %v", first, other)
				}
			case "both":
				if !first || !other {
					t.Errorf("the first is there: %v, the other: %v", first, other)
				}
			default:
				if first || !other {
					t.Errorf("the first is there: %v, the other: %v", first, other)
				}
			}
			if tc.keep == "both" && content(t, mem, path) != whole {
				t.Error("the copy that is read is not right")
			}
			if err := c.check(t); err != nil {
				t.Error(err)
			}
			c.log.Close(t.Context())
		})
	}
}

// TestDuplicatesCompleteEachOther has one stripe bad in one copy, another one in the other, and no parity for either.
func TestDuplicatesCompleteEachOther(t *testing.T) {
	for _, byScrub := range []bool{false, true} {
		led, mem, opt, whole, path, second := duplicated(t)
		c := mustLed(t, led, opt)
		at := secondStripe(whole)
		mem.FlipBit(path, 256+9)
		mem.FlipBit(second, at+256+9)
		harmOthers(t, mem, path, 256+11)
		harmOthers(t, mem, path, at+256+11)
		for _, f := range first(scrubAll(t, c, false)) {
			if f.Lost {
				t.Errorf("given up although the other copy has it: %+v", f)
			}
		}
		if byScrub {
			for _, f := range first(scrubAll(t, c, true)) {
				if !f.Repaired {
					t.Errorf("%+v", f)
				}
			}
		} else if err := resolveFile(t, c, path); err != nil {
			t.Fatal(err)
		}
		kept := path
		if exists(mem, second) {
			kept = second
		}
		if exists(mem, path) == exists(mem, second) || content(t, mem, kept) != whole {
			t.Error("what is left is not one copy that is right")
		}
		if len(c.log.Duplicates()) > 0 {
			t.Errorf("%+v", c.log.Duplicates())
		}
		scrubAll(t, c, true)
		if found := first(scrubAll(t, c, false)); len(found) > 0 {
			t.Errorf("%+v", found)
		}
		if err := c.check(t); err != nil {
			t.Error(err)
		}
		mustClose(t, c)
	}
}

// TestDuplicatesBeyondRepair have the same stripe bad, which nothing else can rebuild: both stay, and the stripe is lost.
func TestDuplicatesBeyondRepair(t *testing.T) {
	led, mem, opt, _, path, second := duplicated(t)
	c := mustLed(t, led, opt)
	mem.FlipBit(path, 256+9)
	mem.FlipBit(second, 256+10)
	harmOthers(t, mem, path, 256+11)
	if err := resolveFile(t, c, path); !errors.Is(err, erasure.ErrCorrupt) {
		t.Errorf("ResolveDuplicate = %v", err)
	}
	if !exists(mem, path) || !exists(mem, second) {
		t.Error("a copy is gone")
	}
	lost := 0
	for _, f := range first(scrubAll(t, c, true)) {
		if f.Lost {
			lost++
		}
	}
	if lost != 1 {
		t.Errorf("%d stripes are lost, want 1", lost)
	}
	c.log.Close(t.Context())
}

// TestDuplicateOnALyingDisk: what was mended there does not read back, so the other copy stays.
func TestDuplicateOnALyingDisk(t *testing.T) {
	led, mem, opt, whole, path, second := duplicated(t)
	disk := &diskFS{FS: mem, lose: second[:12]}
	opt.FS = disk
	c := mustLed(t, led, opt)
	mem.FlipBit(second, 300)
	mem.Limit(path[:3], mem.Used(path[:3])+8<<20)
	if err := resolveFile(t, c, path); err != nil {
		t.Fatal(err)
	}
	if !exists(mem, path) || content(t, mem, path) != whole {
		t.Error("the copy that is right is gone")
	}
	c.log.Close(t.Context())
}

// TestCrashDuringResolve lets the power go, or an operation fail, at each step.
func TestCrashDuringResolve(t *testing.T) {
	led, origin, opt, whole, path, second := duplicated(t)
	origin.FlipBit(second, 300)
	origin.Limit(path[:3], origin.Used(path[:3])+8<<20)
	for _, cause := range []error{nil, syscall.EIO} {
		for step := 0; ; step++ {
			rng := rand.New(rand.NewPCG(*seed, uint64(step)))
			mem := origin.Clone()
			opt.FS = mem
			c := mustLed(t, led.clone(), opt)
			fired := mem.Off
			if cause == nil {
				mem.PowerOffAt(mem.Ops() + step)
			} else {
				fired = mem.FailAt(mem.Ops()+step, cause)
			}
			_ = resolveFile(t, c, path) // an error leaves both
			hit := fired()
			c.log.Close(t.Context())
			mem = mem.CrashClone(rng)
			if right := slices.ContainsFunc([]string{path, second}, func(p string) bool { return exists(mem, p) && content(t, mem, p) == whole }); !right {
				t.Errorf("step %d: no copy is right", step)
			}
			opt.FS = mem
			c = mustLed(t, c.ledger, opt)
			if err := c.check(t); err != nil {
				t.Errorf("step %d: %v", step, err)
			}
			if err := resolveFile(t, c, path); err != nil || exists(mem, path) == exists(mem, second) {
				t.Errorf("step %d: %v", step, err)
			}
			if found := first(scrubAll(t, c, false)); len(found) > 0 {
				t.Errorf("step %d: %+v", step, found)
			}
			mustClose(t, c)
			if t.Failed() {
				t.Fatalf("-seed=%d step=%d %v", *seed, step, cause)
			}
			if !hit {
				break
			}
		}
	}
}

// TestReturningDirectoryBringsDuplicates loses a directory, rebuilds its shard files elsewhere, and has it back, while running or at a start.
func TestReturningDirectoryBringsDuplicates(t *testing.T) {
	for _, restart := range []bool{false, true} {
		led, mem, opt := filledStore(t, 3, 2, 6, 8)
		c := mustLed(t, led, opt)
		lost := mem.Clone()
		mend := func() { mem.Graft(lost, "/d2") }
		if restart {
			mem.RemoveAll("/d2")
			c.log.Close(t.Context())
			c = mustLed(t, led, opt)
		} else {
			mend = mem.FailPath("/d2", syscall.EIO)
			for i := 0; i < 20 && c.log.Dirs()[2].State == "online"; i++ {
				scrubAll(t, c, false)
			}
		}
		dir := c.log.Dirs()[2]
		if dir.State != "absent" && dir.State != "offline" {
			t.Fatalf("%+v", dir)
		}
		moves := drain(t, c, dir.ID)
		if moves < 3 {
			t.Fatalf("%d moves", moves)
		}
		mend()
		if restart {
			c.log.Close(t.Context())
			c = mustLed(t, led, opt)
		} else if n := c.log.Probe(t.Context()); n != 1 {
			t.Fatalf("%d directories are back: %+v", n, c.log.Dirs()[2])
		}
		if n := len(c.log.Duplicates()); n == 0 || n > moves {
			t.Errorf("%d duplicates after %d moves", n, moves)
		}
		for _, f := range first(scrubAll(t, c, true)) {
			t.Errorf("%+v", f)
		}
		if n := len(c.log.Duplicates()); n > 0 {
			t.Errorf("%d duplicates are left", n)
		}
		for file, in := range whereabouts(mem, 6) {
			if len(in) != 1 {
				t.Errorf("%s is in %v", file, in)
			}
		}
		if err := c.check(t); err != nil {
			t.Error(err)
		}
		c.log.Close(t.Context())
	}
}

// TestDuplicatesUnderDamage harms copies and other shards at random: what could be read before can be read after.
func TestDuplicatesUnderDamage(t *testing.T) {
	led, origin, opt, whole, path, second := duplicated(t)
	name := path[strings.LastIndex(path, "/")+1:]
	rapid.Check(t, func(rt *rapid.T) {
		mem := origin.Clone()
		opt := opt
		opt.FS = mem
		var files []string
		for _, p := range mem.Files("/") {
			if strings.Contains(p, name[:16]) {
				files = append(files, p)
			}
		}
		for range rapid.IntRange(0, 12).Draw(rt, "flips") {
			mem.FlipBit(rapid.SampledFrom(files).Draw(rt, "file"), int64(rapid.IntRange(0, len(whole)-1).Draw(rt, "at")))
		}
		if rapid.Bool().Draw(rt, "the other has more room") {
			mem.Limit(path[:3], mem.Used(path[:3])+8<<20)
		}
		l, err := erasure.Open(t.Context(), opt)
		if err != nil {
			rt.Fatal(err)
		}
		defer l.Close(t.Context())
		if _, err := l.Recover(t.Context()); err != nil {
			rt.Fatal(err)
		}
		readable := func() map[string]erasure.Location {
			got := map[string]erasure.Location{}
			id, _ := parseShard(t, name)
			_ = l.Replay(t.Context(), 0, nil, func(r erasure.Replayed) error {
				if r.Location.Segment() != id {
					return nil
				}
				if b, err := l.Read(t.Context(), r.Location, nil); err == nil {
					if want, ok := led.sent[string(r.Label)]; ok && string(want) != string(b) {
						rt.Fatalf("%s reads wrong", r.Label)
					}
					got[string(r.Label)] = r.Location
				}
				return nil
			})
			return got
		}
		before := readable()
		id, shard := parseShard(t, name)
		err = l.ResolveDuplicate(t.Context(), id, shard, erasure.MoveOptions{})
		if a, b := exists(mem, path), exists(mem, second); err == nil && a == b || err != nil && !(a && b) {
			rt.Fatalf("ResolveDuplicate = %v, copies %v %v", err, a, b)
		}
		after := readable()
		for label := range before {
			if _, ok := after[label]; !ok {
				rt.Fatalf("%s cannot be read any more", label)
			}
		}
	})
}
