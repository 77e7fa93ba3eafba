package erasure_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// whereabouts returns, by the name of every shard file, the index of the directories that have it.
func whereabouts(mem *faultfs.FS, dirs int) map[string][]int {
	where := map[string][]int{}
	for i := range dirs {
		for _, path := range mem.Files(fmt.Sprintf("/d%d/segments", i)) {
			name := path[strings.LastIndex(path, "/")+1:]
			where[name] = append(where[name], i)
		}
	}
	return where
}

// byName forgets in which directories files are.
func byName(t testing.TB, files map[string]string) map[string]string {
	t.Helper()
	named := map[string]string{}
	for path, b := range files {
		name := path[strings.LastIndex(path, "/")+1:]
		if old, ok := named[name]; ok && old != b {
			t.Errorf("two files %s differ", name)
		}
		named[name] = b
	}
	return named
}

func parseShard(t testing.TB, name string) (id erasure.SegmentID, shard int) {
	t.Helper()
	var class rune
	if _, err := fmt.Sscanf(name, "%016x.%c.%02d", &id, &class, &shard); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return id, shard
}

// spare returns a directory that has no file of the segment of name, or -1.
func spare(where map[string][]int, name string, dirs int) int {
	taken := map[int]bool{}
	for other, in := range where {
		if other[:16] == name[:16] {
			for _, i := range in {
				taken[i] = true
			}
		}
	}
	for i := range dirs {
		if !taken[i] {
			return i
		}
	}
	return -1
}

// tornStore is a store whose last process was killed, some of whose segments therefore have no footer.
func tornStore(t testing.TB, k, m, dirs, commits int) (*ledger, *faultfs.FS, erasure.Options) {
	t.Helper()
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, k, m, dirs)
	for round := range 3 {
		c := mustLed(t, led, opt)
		if err := c.work(newRand(uint64(round)), commits); err != nil {
			t.Fatal(err)
		}
		mem = mem.Clone()
		c.log.Close(t.Context())
		opt.FS = mem
	}
	return led, mem, opt
}

// sameUpToTheEnd checks that files hold what they held. The files of torn segments went on behind what counts.
func sameUpToTheEnd(t testing.TB, got, want map[string]string) {
	t.Helper()
	for name, b := range want {
		g, ok := got[name]
		torn := !strings.HasPrefix(b[max(len(b)-4096, 0):], "casdseal")
		if !ok || len(g) != len(b) && !torn || len(g) > len(b) || g != b[:len(g)] {
			t.Errorf("%s has %d bytes and is not the beginning of the %d that it had", name, len(g), len(b))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d shard files, there were %d", len(got), len(want))
	}
}

// TestMoveShard moves every shard file that can be moved, of sealed and of torn segments.
func TestMoveShard(t *testing.T) {
	for name, store := range map[string]func(testing.TB, int, int, int, int) (*ledger, *faultfs.FS, erasure.Options){"sealed": filledStore, "torn": tornStore} {
		t.Run(name, func(t *testing.T) {
			led, mem, opt := store(t, 3, 2, 6, 8)
			c := mustLed(t, led, opt)
			want := byName(t, shardFiles(t, mem, 6))
			where := whereabouts(mem, 6)
			dirs := c.log.Dirs()
			moved := 0
			for file, in := range where {
				id, shard := parseShard(t, file)
				to := spare(where, file, 6)
				err := c.log.MoveShard(t.Context(), id, shard, dirs[to].ID, erasure.MoveOptions{})
				if errors.Is(err, erasure.ErrSegmentOpen) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				where[file] = []int{to}
				moved++
				if now := whereabouts(mem, 6)[file]; len(now) != 1 || now[0] != to {
					t.Fatalf("%s was in %v and is in %v, not in %d", file, in, now, to)
				}
			}
			if moved < 20 {
				t.Errorf("only %d moves", moved)
			}
			got := byName(t, shardFiles(t, mem, 6))
			sameUpToTheEnd(t, got, want)
			if err := c.check(t); err != nil {
				t.Error(err)
			}
			if found := first(scrubAll(t, c, false)); len(found) > 0 {
				t.Errorf("%+v", found)
			}
			mustClose(t, c)
			c = mustLed(t, led, opt)
			if found := first(scrubAll(t, c, false)); len(found) > 0 {
				t.Errorf("after a restart: %+v", found)
			}
			mustClose(t, c)
		})
	}
}

// movable returns a store with six directories, an open log, and a shard file of a sealed segment with two stripes, with a directory that it may go to.
func movable(t testing.TB) (c *client, mem *faultfs.FS, opt erasure.Options, whole, path string, to int) {
	t.Helper()
	led, mem, opt := filledStore(t, 3, 2, 6, 8)
	c = mustLed(t, led, opt)
	files := shardFiles(t, mem, 6)
	mine, _ := victim(t, files, c)
	path = mine[1]
	name := path[strings.LastIndex(path, "/")+1:]
	return c, mem, opt, files[path], path, spare(whereabouts(mem, 6), name, 6)
}

func moveFile(t testing.TB, c *client, path string, to int) error {
	t.Helper()
	id, shard := parseShard(t, path[strings.LastIndex(path, "/")+1:])
	return c.log.MoveShard(t.Context(), id, shard, c.log.Dirs()[to].ID, erasure.MoveOptions{})
}

func inDir(path string, dir int) string {
	return fmt.Sprintf("/d%d/segments/%s", dir, path[strings.LastIndex(path, "/")+1:])
}

// TestMoveMendsWhatItMoves moves shard files that are damaged in every way.
func TestMoveMendsWhatItMoves(t *testing.T) {
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			c, mem, _, whole, path, to := movable(t)
			other := ""
			for p, b := range shardFiles(t, mem, 6) {
				if p[len(p)-6:] != path[len(path)-6:] {
					other = b
					break
				}
			}
			d.do(mem, path, whole, other)
			if err := moveFile(t, c, path, to); err != nil {
				t.Fatal(err)
			}
			if content(t, mem, inDir(path, to)) != whole {
				t.Error("what was moved is not what should be there")
			}
			if err := c.check(t); err != nil {
				t.Error(err)
			}
			mustClose(t, c)
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		c, mem, _, whole, path, to := movable(t)
		undo := mem.FailPath(path, syscall.EIO, faultfs.Read)
		if err := moveFile(t, c, path, to); err != nil {
			t.Fatal(err)
		}
		undo()
		if content(t, mem, inDir(path, to)) != whole {
			t.Error("what was moved is not what should be there")
		}
		c.log.Close(t.Context())
	})
}

// TestMoveOutOfADirectoryThatIsGone rebuilds the shard files of a directory that is offline, or was never there.
func TestMoveOutOfADirectoryThatIsGone(t *testing.T) {
	c, mem, opt, whole, path, to := movable(t)
	dir := int(path[2] - '0')
	mustClose(t, c)
	gone := mem.Clone()
	mem.RemoveAll(fmt.Sprintf("/d%d", dir))
	c = mustLed(t, c.ledger, opt)
	if err := moveFile(t, c, path, to); err != nil {
		t.Fatal(err)
	}
	if content(t, mem, inDir(path, to)) != whole {
		t.Error("what was rebuilt is not what should be there")
	}
	mustClose(t, c)
	mem.Graft(gone, fmt.Sprintf("/d%d", dir)) // and comes back
	c = mustLed(t, c.ledger, opt)
	if err := c.check(t); err != nil {
		t.Error(err)
	}
	mustClose(t, c)
}

// TestMoveWithoutParityToSpare moves a file although so many directories are gone that it could not be rebuilt without itself.
func TestMoveWithoutParityToSpare(t *testing.T) {
	c, mem, opt, whole, path, to := movable(t)
	mustClose(t, c)
	left := 2
	for i := range 6 {
		if i != to && i != int(path[2]-'0') && left > 0 {
			left--
			mem.RemoveAll(fmt.Sprintf("/d%d", i))
		}
	}
	c = mustLed(t, c.ledger, opt)
	if err := moveFile(t, c, path, to); err != nil {
		t.Fatal(err)
	}
	if content(t, mem, inDir(path, to)) != whole {
		t.Error("what was moved is not what should be there")
	}
	mustClose(t, c)
}

// TestMoveWhatIsBeyondRepair: nothing gets worse, and what cannot be read stays where it is.
func TestMoveWhatIsBeyondRepair(t *testing.T) {
	c, mem, _, _, path, to := movable(t)
	at := secondStripe(content(t, mem, path))
	segment := path[strings.LastIndex(path, "/")+1:][:16]
	for p := range shardFiles(t, mem, 6) {
		if strings.Contains(p, segment) {
			mem.FlipBit(p, at+256+40)
		}
	}
	damaged := content(t, mem, path)
	if err := moveFile(t, c, path, to); err != nil {
		t.Fatal(err)
	}
	path = inDir(path, to)
	if content(t, mem, path) != damaged {
		t.Error("what was moved is not what was there")
	}
	undo := mem.FailPath(path, syscall.EIO, faultfs.Read)
	back := spare(whereabouts(mem, 6), path[strings.LastIndex(path, "/")+1:], 6)
	if err := moveFile(t, c, path, back); !errors.Is(err, erasure.ErrCorrupt) && !errors.Is(err, erasure.ErrUnavailable) {
		t.Errorf("MoveShard = %v", err)
	}
	undo()
	if content(t, mem, path) != damaged {
		t.Error("the file has changed")
	}
	c.log.Close(t.Context())
}

// TestMoveWithoutADirectory moves a file of a segment of which nobody can find the directory stripes any more: it is moved as it is.
func TestMoveWithoutADirectory(t *testing.T) {
	c, mem, _, _, path, to := movable(t)
	segment := path[strings.LastIndex(path, "/")+1:][:16]
	for p, b := range shardFiles(t, mem, 6) {
		if strings.Contains(p, segment) {
			mem.FlipBit(p, int64(len(b))-2*4096+30) // in the header of the directory stripe
		}
	}
	damaged := content(t, mem, path)
	if err := moveFile(t, c, path, to); err != nil {
		t.Fatal(err)
	}
	if content(t, mem, inDir(path, to)) != damaged {
		t.Error("what was moved is not what was there")
	}
	if err := c.check(t); err != nil {
		t.Error(err)
	}
	c.log.Close(t.Context())
}

// TestStartRemovesUnfinishedMoves finds what a process left that died in a move.
func TestStartRemovesUnfinishedMoves(t *testing.T) {
	c, mem, opt, whole, path, to := movable(t)
	mustClose(t, c)
	left := inDir(path, to) + ".tmp"
	writeFile(t, mem, left, []byte(whole[:5000]))
	writeFile(t, mem, inDir("/notes.tmp", to), []byte("mine"))
	mustClose(t, mustLed(t, c.ledger, opt))
	if f := leftovers(mem); f != inDir("/notes.tmp", to) {
		t.Errorf("%s is left", f)
	}
}

func TestMoveRefusals(t *testing.T) {
	c, mem, opt, whole, path, to := movable(t)
	id, shard := parseShard(t, path[strings.LastIndex(path, "/")+1:])
	dirs := c.log.Dirs()
	move := func(id erasure.SegmentID, shard int, to string) error {
		return c.log.MoveShard(t.Context(), id, shard, to, erasure.MoveOptions{})
	}
	var de *erasure.DirError
	if err := move(id, shard, "nobody"); !errors.As(err, &de) {
		t.Errorf("to nobody: %v", err)
	}
	if err := move(id+1000, shard, dirs[to].ID); !errors.Is(err, erasure.ErrNotFound) {
		t.Errorf("no segment: %v", err)
	}
	if err := move(id, 5, dirs[to].ID); !errors.Is(err, erasure.ErrNotFound) {
		t.Errorf("no shard: %v", err)
	}
	for i := range dirs {
		if i != to && i != int(path[2]-'0') {
			if err := move(id, shard, dirs[i].ID); !errors.As(err, &de) || de.Path != dirs[i].Path {
				t.Errorf("to one that has another shard: %v", err)
			}
		}
	}
	if err := move(id, shard, dirs[int(path[2]-'0')].ID); err != nil {
		t.Errorf("to where it is: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := c.log.MoveShard(ctx, id, shard, dirs[to].ID, erasure.MoveOptions{Throttle: func(context.Context, int) error { cancel(); return ctx.Err() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	mem.Limit(fmt.Sprintf("/d%d", to), mem.Used(fmt.Sprintf("/d%d", to))+1<<20)
	if err := move(id, shard, dirs[to].ID); !errors.Is(err, erasure.ErrNoSpace) {
		t.Errorf("without space: %v", err)
	}
	mem.Limit(fmt.Sprintf("/d%d", to), -1)
	if err := c.work(newRand(7), 1); err != nil {
		t.Fatal(err)
	}
	open := c.log.Segments()[len(c.log.Segments())-1]
	for i := range dirs {
		if err := move(open.ID, 0, dirs[i].ID); !errors.Is(err, erasure.ErrSegmentOpen) {
			t.Errorf("open: %v", err)
		}
	}
	if content(t, mem, path) != whole {
		t.Error("the file has changed")
	}
	if leftovers(mem) != "" {
		t.Error(leftovers(mem), "is left")
	}
	mustClose(t, c)
	if err := move(id, shard, dirs[to].ID); !errors.Is(err, erasure.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	l, err := erasure.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.MoveShard(t.Context(), id, shard, dirs[to].ID, erasure.MoveOptions{}); !errors.Is(err, erasure.ErrReadOnly) {
		t.Errorf("before Recover: %v", err)
	}
	l.Close(t.Context())
}

// leftovers returns a temporary file, if there is one.
func leftovers(mem *faultfs.FS) string {
	for _, path := range mem.Files("/") {
		if strings.HasSuffix(path, ".tmp") {
			return path
		}
	}
	return ""
}

// TestLostWriteIsNoMove moves to a disk that says that it wrote and did not: the old file stays.
func TestLostWriteIsNoMove(t *testing.T) {
	c, mem, opt, whole, path, to := movable(t)
	mustClose(t, c)
	disk := &diskFS{FS: mem, lose: fmt.Sprintf("/d%d/segments", to)}
	opt.FS = disk
	c = mustLed(t, c.ledger, opt)
	if err := moveFile(t, c, path, to); err == nil {
		t.Error("moved")
	}
	if content(t, mem, path) != whole {
		t.Error("the file has changed")
	}
	c.log.Close(t.Context())
}

// TestMoveReadsTheDisk makes sure that neither source nor copy is judged by the page cache.
func TestMoveReadsTheDisk(t *testing.T) {
	c, mem, opt, _, path, to := movable(t)
	mustClose(t, c)
	disk := &diskFS{FS: mem}
	opt.FS = disk
	c = mustLed(t, c.ledger, opt)
	disk.watch = true
	if err := moveFile(t, c, path, to); err != nil {
		t.Fatal(err)
	}
	disk.watch = false
	for _, p := range disk.cached {
		if p == inDir(path, to) || strings.HasSuffix(p, ".tmp") {
			t.Errorf("%s was read from the page cache", p)
		}
	}
	if len(disk.cached) > 30 { // finding the directory stripes
		t.Errorf("%d cached reads", len(disk.cached))
	}
	mustClose(t, c)
}

// TestCrashDuringMove lets the power go, or an operation fail, at each step of a move: the file is in one place or in both, and nothing is lost.
func TestCrashDuringMove(t *testing.T) {
	base, origin, opt, whole, path, to := movable(t)
	mustClose(t, base)
	name := path[strings.LastIndex(path, "/")+1:]
	for _, cause := range []error{nil, syscall.EIO, syscall.ENOSPC} {
		for step := 0; ; step++ {
			rng := rand.New(rand.NewPCG(*seed, uint64(step)))
			mem := origin.Clone()
			opt.FS = mem
			c := mustLed(t, base.ledger.clone(), opt)
			fired := mem.Off
			if cause == nil {
				mem.PowerOffAt(mem.Ops() + step)
			} else {
				fired = mem.FailAt(mem.Ops()+step, cause)
			}
			err := moveFile(t, c, path, to)
			hit := fired()
			if cause != nil {
				if err := c.check(t); err != nil {
					t.Errorf("step %d: %v", step, err)
				}
			}
			c.log.Close(t.Context())
			if cause == nil || rng.IntN(2) == 0 {
				mem = mem.CrashClone(rng)
			} else {
				mem = mem.Clone()
			}
			in := whereabouts(mem, 6)[name]
			right := 0
			for _, i := range in {
				if content(t, mem, inDir(path, i)) == whole {
					right++
				}
			}
			if right != len(in) || right == 0 || err == nil && !hit && len(in) != 1 {
				t.Errorf("step %d: the file is in %v and right in %d of these, MoveShard = %v", step, in, right, err)
			}
			opt.FS = mem
			c = mustLed(t, c.ledger, opt)
			if dups := c.log.Duplicates(); len(dups) != len(in)-1 {
				t.Errorf("step %d: the file is in %v, duplicates %v", step, in, dups)
			}
			if err := moveFile(t, c, path, to); err != nil {
				t.Errorf("step %d: %v", step, err)
			}
			if in := whereabouts(mem, 6)[name]; len(in) != 1 || in[0] != to || content(t, mem, inDir(path, to)) != whole {
				t.Errorf("step %d: after another move it is in %v, not in %d", step, in, to)
			}
			if f := leftovers(mem); f != "" {
				t.Errorf("step %d: %s is left", step, f)
			}
			if err := c.check(t); err != nil {
				t.Errorf("step %d: %v", step, err)
			}
			for _, f := range first(scrubAll(t, c, true)) {
				t.Errorf("step %d: %+v", step, f)
			}
			c.log.Close(t.Context())
			if t.Failed() {
				t.Fatalf("-seed=%d step=%d %v", *seed, step, cause)
			}
			if !hit {
				break
			}
		}
	}
}

// TestMovesBesideEverything moves shard files back and forth while others are read, written, sealed and scrubbed.
func TestMovesBesideEverything(t *testing.T) {
	led, _, opt := filledStore(t, 3, 2, 6, 6)
	c := mustLed(t, led, opt)
	acked := map[string]erasure.Location{}
	for label := range c.acked {
		acked[label] = c.locations[label]
	}
	sent := c.clone().sent
	segments := c.log.Segments()
	dirs := c.log.Dirs()
	done := make(chan struct{})
	var readers, wg sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				for label, loc := range acked {
					if b, err := c.log.Read(t.Context(), loc, nil); err != nil || string(b) != string(sent[label]) {
						t.Errorf("%s: %v", label, err)
						return
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	moved := 0
	wg.Go(func() {
		rng := newRand(3)
		for range 60 {
			s := segments[rng.IntN(len(segments))]
			err := c.log.MoveShard(t.Context(), s.ID, rng.IntN(s.K+s.M), dirs[rng.IntN(len(dirs))].ID, erasure.MoveOptions{})
			var de *erasure.DirError
			if err == nil {
				moved++
			} else if !errors.As(err, &de) {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for _, s := range segments {
			if _, err := c.log.ScrubSegment(t.Context(), s.ID, erasure.ScrubOptions{Repair: true, Finding: func(f erasure.Finding) { t.Errorf("%+v", f) }}); err != nil {
				t.Error(err)
			}
		}
	})
	if err := c.work(newRand(9), 15); err != nil {
		t.Error(err)
	}
	wg.Wait()
	close(done)
	readers.Wait()
	if moved < 5 {
		t.Errorf("only %d moves", moved)
	}
	if ids := c.log.TakeSuspects(); len(ids) > 0 {
		t.Errorf("reads met damage in %v", ids)
	}
	if found := first(scrubAll(t, c, false)); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	if err := c.check(t); err != nil {
		t.Error(err)
	}
	mustClose(t, c)
}
