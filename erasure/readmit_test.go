package erasure_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// heal does what the layer above does until nothing is left to be done.
func heal(t testing.TB, c *client) {
	t.Helper()
	if c.log.WriteState() == nil { // segments that were open when a directory failed are to be ended
		if err := c.log.Roll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		ids := slices.Concat(c.log.Damaged(), c.log.Unverified(), c.log.TakeSuspects())
		for _, id := range ids {
			if _, err := c.log.ScrubSegment(t.Context(), id, erasure.ScrubOptions{Repair: true}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.log.Healed(t.Context(), c.csn); err != nil {
			t.Fatal(err)
		}
		if len(ids) == 0 {
			return
		}
	}
	for _, id := range c.log.Damaged() {
		res, err := c.log.ScrubSegment(t.Context(), id, erasure.ScrubOptions{Repair: true, Finding: func(f erasure.Finding) { t.Logf("%+v", f) }})
		t.Logf("%+v %v", res, err)
	}
	t.Fatalf("healing does not end: damaged %v, unverified %v: %+v\n%+v", c.log.Damaged(), c.log.Unverified(), c.log.Dirs(), c.log.Segments())
}

// wantWhole checks that every shard is there and right.
func wantWhole(t testing.TB, c *client) {
	t.Helper()
	for _, s := range c.log.Segments() {
		res, err := c.log.ScrubSegment(t.Context(), s.ID, erasure.ScrubOptions{Finding: func(f erasure.Finding) { t.Errorf("%+v", f) }})
		if err != nil || res.ShardsBad > 0 {
			t.Fatalf("%+v: %+v %v", s, res, err)
		}
	}
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
}

// probe is Probe, but waits for operations that are still under way, as the closing of files.
func probe(l *erasure.Log) int {
	for {
		n := l.Probe(context.Background())
		if n > 0 || !slices.ContainsFunc(l.Dirs(), func(d erasure.DirInfo) bool { return strings.Contains(d.Reason, "have not returned") }) {
			return n
		}
	}
}

// TestReplaceDir replaces a dead directory, also when that made the store read-only, and heals.
func TestReplaceDir(t *testing.T) {
	for _, code := range [][3]int{{1, 1, 2}, {2, 1, 3}, {2, 2, 5}} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprint(code, restart), func(t *testing.T) {
				led, mem := newLedger(), faultfs.New()
				opt := tiny(mem, code[0], code[1], code[2])
				c := mustLed(t, led, opt)
				ctx := t.Context()
				if err := c.work(newRand(1), 15); err != nil {
					t.Fatal(err)
				}
				_, err := c.log.ReplaceDir(ctx, "/d1", "/x", c.csn)
				wantDirError(t, err, "/d1", "is in service", "drain")
				mkdir(t, mem, "/x", "/y")
				if restart {
					mem = mem.Clone() // the process dies
					c.log.Close(ctx)
					mem.RemoveAll("/d1")
					opt.FS = mem
					c = mustLed(t, led, opt)
				} else {
					mem.FailPath("/d1", syscall.EIO)
					_ = c.work(newRand(2), 3)
				}
				if code[2] == 2 && c.log.WriteState() == nil {
					t.Fatal("1+1 writes without one of two")
				}
				m, err := c.log.ReplaceDir(ctx, "/d1", "/x", c.csn)
				if err != nil {
					t.Fatal(err)
				}
				wantState(t, c.log, "/x", "healing")
				wantState(t, c.log, "/d1", "")
				vs, err := c.log.Recover(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.log.WriteState(); err != nil {
					t.Fatal(err) // everybody is there, nothing can be unseen
				}
				if err := c.commit(nil, vs, nil); err != nil {
					t.Fatal(err)
				}
				if err := c.work(newRand(3), 5); err != nil {
					t.Fatal(err)
				}
				if ids, err := c.log.Healed(ctx, c.csn); err != nil || len(ids) > 0 {
					t.Fatalf("%v, %v: nothing was healed yet", ids, err)
				}
				heal(t, c)
				wantState(t, c.log, "/x", "online")
				if i := slices.IndexFunc(c.log.Dirs(), func(d erasure.DirInfo) bool { return d.Path == "/x" }); c.log.Dirs()[i].ID != m.ID || i != 1 {
					t.Fatalf("%+v", c.log.Dirs())
				}
				wantWhole(t, c)
				mustClose(t, c)
				c = mustLed(t, led, opt)
				wantState(t, c.log, "/x", "online")
				heal(t, c) // a segment whose sealing the dead directory cut short is sealed now
				wantWhole(t, c)
				mustClose(t, c)
			})
		}
	}
}

// TestReplacementOwes: while the replacement is not healed, the loss of one more directory stops writing, since there may be
// segments that nobody sees.
func TestReplacementOwes(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 1, 1, 4)
	c := mustLed(t, led, opt)
	if err := c.work(newRand(1), 15); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	mem.RemoveAll("/d1")
	mkdir(t, mem, "/x")
	c = mustLed(t, led, opt)
	if _, err := c.log.ReplaceDir(t.Context(), "/d1", "/x", c.csn); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	old := mem.Clone()
	mem.RemoveAll("/d0")
	l, err := erasure.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.WriteState(); err == nil || !strings.Contains(err.Error(), "1 members are not healed") {
		t.Fatal(err)
	}
	l.Close(t.Context())
	opt.FS = old
	c = mustLed(t, led, opt)
	wantState(t, c.log, "/x", "healing")
	heal(t, c)
	wantWhole(t, c)
	mustClose(t, c)
	old.RemoveAll("/d0")
	c = mustLed(t, led, opt)
	if err := c.work(newRand(5), 3); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
}

// TestReadmission takes directories away while the log runs, and brings them back.
func TestReadmission(t *testing.T) {
	for name, fault := range map[string]func(mem *faultfs.FS) (undo func()){
		"errors": func(mem *faultfs.FS) func() { return mem.FailPath("/d1", syscall.EIO) },
		"one sync fails": func(mem *faultfs.FS) func() {
			mem.FailOnce("/d1/segments", syscall.EIO, faultfs.Sync)
			return func() {}
		},
		"unmounted": func(mem *faultfs.FS) func() {
			kept := mem.Clone()
			mem.RemoveAll("/d1")
			return func() { mem.Graft(kept, "/d1") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			led, mem := newLedger(), faultfs.New()
			c := mustLed(t, led, tiny(mem, 2, 1, 4))
			ctx := t.Context()
			if err := c.work(newRand(1), 10); err != nil {
				t.Fatal(err)
			}
			if n := probe(c.log); n != 0 {
				t.Fatalf("%d came back", n)
			}
			undo := fault(mem)
			if err := c.work(newRand(2), 10); err != nil {
				t.Fatal(err)
			}
			wantState(t, c.log, "/d1", "offline")
			if name != "one sync fails" {
				if n := probe(c.log); n != 0 {
					t.Fatalf("%d came back", n)
				}
			}
			undo()
			if n := probe(c.log); n != 1 {
				t.Fatalf("%d came back: %+v", n, c.log.Dirs())
			}
			wantState(t, c.log, "/d1", "healing")
			if len(c.log.Unverified()) == 0 {
				t.Fatal("it is trusted at once")
			}
			if ids, err := c.log.Healed(ctx, c.csn); err != nil || len(ids) > 0 {
				t.Fatal(ids, err)
			}
			if err := c.work(newRand(3), 10); err != nil {
				t.Fatal(err)
			}
			heal(t, c)
			wantState(t, c.log, "/d1", "online")
			wantWhole(t, c)
			mustClose(t, c)
			mustClose(t, mustLed(t, led, tiny(mem, 2, 1, 4)))
		})
	}
}

// TestReadmissionOfAnotherDirectory: what is found in the place of a directory is not it.
func TestReadmissionOfAnotherDirectory(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	c := mustLed(t, led, tiny(mem, 2, 1, 4))
	defer c.log.Close(t.Context())
	if err := c.work(newRand(1), 10); err != nil {
		t.Fatal(err)
	}
	kept := mem.Clone()
	mem.RemoveAll("/d1")
	if err := c.work(newRand(2), 10); err != nil {
		t.Fatal(err)
	}
	for name, place := range map[string]struct {
		change func(fs *faultfs.FS)
		why    string
	}{
		"empty":        {func(fs *faultfs.FS) { fs.RemoveAll("/d1"); mkdir(t, fs, "/d1") }, ""},
		"another one":  {func(fs *faultfs.FS) { fs.Graft(kept, "/d2"); copyDir(t, fs, "/d2", "/d1") }, ""},
		"newer list":   {func(fs *faultfs.FS) { form := readForm(t, fs, "/d1"); form["csn"] = 99; writeForm(t, fs, "/d1", form) }, "revision 99"},
		"locked":       {func(fs *faultfs.FS) {}, "pid 4711"},
		"lying disk":   {func(fs *faultfs.FS) {}, "syncs"},
		"broken files": {func(fs *faultfs.FS) {}, "input/output"},
	} {
		t.Run(name, func(t *testing.T) {
			fresh := faultfs.New()
			mkdir(t, fresh, "/d1", "/d2")
			fresh.Graft(kept, "/d1")
			place.change(fresh)
			mem.Graft(fresh, "/d1")
			undo := func() {}
			switch name {
			case "locked":
				if _, err := mem.Lock("/d1/lock", "pid 4711"); err != nil {
					t.Fatal(err)
				}
			case "lying disk":
				undo = mem.FailPath("/d1/probe.tmp", fmt.Errorf("it syncs nothing"), faultfs.Sync)
			case "broken files":
				undo = mem.FailPath("/d1/segments", syscall.EIO, faultfs.Open)
			}
			defer undo()
			if n := probe(c.log); n != 0 {
				t.Fatalf("%d came back", n)
			}
			for _, d := range c.log.Dirs() {
				if d.Path == "/d1" && (d.State != "offline" || !strings.Contains(d.Reason, place.why)) {
					t.Fatalf("%+v does not say %q", d, place.why)
				}
			}
			mem.RemoveAll("/d1")
		})
	}
	mem.Graft(kept, "/d1")
	if n := probe(c.log); n != 1 {
		t.Fatalf("%+v", c.log.Dirs())
	}
	heal(t, c)
	wantWhole(t, c)
}

// TestHungDirectoryGoes: when the calls into a directory that hung have returned and it is gone, nothing says that they are under way.
func TestHungDirectoryGoes(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 4)
	opt.IOTimeout = 50 * time.Millisecond
	c := mustLed(t, led, opt)
	release := mem.Hang("/d2", faultfs.Sync, faultfs.Write)
	if err := c.work(newRand(1), 10); err != nil {
		t.Fatal(err)
	}
	if n := c.log.Probe(t.Context()); n != 0 || !strings.Contains(c.log.Dirs()[2].Reason, "have not returned") {
		t.Fatalf("%d, %+v", n, c.log.Dirs()[2])
	}
	mem.RemoveAll("/d2")
	release()
	for began := time.Now(); c.log.Dirs()[2].Reason != "is not in its place any more"; c.log.Probe(t.Context()) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%+v", c.log.Dirs()[2])
		}
	}
	mustClose(t, c)
}

// TestHungDirectoryComesBack: a directory that hangs stays offline until every call has returned.
func TestHungDirectoryComesBack(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 4)
	opt.IOTimeout = 50 * time.Millisecond
	c := mustLed(t, led, opt)
	if err := c.work(newRand(1), 5); err != nil {
		t.Fatal(err)
	}
	release := mem.Hang("/d2", faultfs.Sync, faultfs.Write)
	if err := c.work(newRand(2), 10); err != nil {
		t.Fatal(err)
	}
	wantState(t, c.log, "/d2", "offline")
	if n := c.log.Probe(t.Context()); n != 0 {
		t.Fatal("it is back although calls hang")
	}
	if d := c.log.Dirs()[2]; !strings.Contains(d.Reason, "have not returned") {
		t.Fatalf("%+v", d)
	}
	release()
	for c.log.Probe(t.Context()) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("it does not come back")
		}
	}
	heal(t, c)
	wantState(t, c.log, "/d2", "online")
	if err := c.work(newRand(3), 5); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, c)
	mustClose(t, c)
}

// TestAbsentDirectoriesComeBack starts with too few directories; the others are mounted later, one of them elsewhere.
func TestAbsentDirectoriesComeBack(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 3)
	c := mustLed(t, led, opt)
	if err := c.work(newRand(1), 10); err != nil {
		t.Fatal(err)
	}
	whole := mem.Clone() // the process dies
	c.log.Close(t.Context())
	mem = whole.Clone()
	mem.RemoveAll("/d1")
	mem.RemoveAll("/d2")
	mkdir(t, mem, "/elsewhere")
	opt.FS, opt.Dirs = mem, []string{"/d0", "/elsewhere", "/d2"}
	l, err := erasure.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	if vs, err := l.Recover(t.Context()); err != nil || len(vs) > 0 || l.WriteState() == nil {
		t.Fatal(vs, err)
	}
	fresh := faultfs.New()
	mkdir(t, fresh, "/elsewhere")
	copyFrom(t, whole, "/d1", fresh, "/elsewhere")
	mem.Graft(fresh, "/elsewhere")
	mem.Graft(whole, "/d2")
	if n := probe(l); n != 2 {
		t.Fatalf("%d came back: %+v", n, l.Dirs())
	}
	if n := probe(l); n != 0 {
		t.Fatalf("%d came back again", n)
	}
	// What the layer above would do after a restart can be done now.
	c = &client{ledger: led, log: l, locations: map[string]erasure.Location{}}
	if err := c.start(t); err != nil {
		t.Fatal(err)
	}
	if l.WriteState() != nil || stateOf(l, "/elsewhere") != "healing" {
		t.Fatal(l.WriteState(), l.Dirs())
	}
	heal(t, c)
	wantState(t, l, "/elsewhere", "online")
	wantWhole(t, c)
}
