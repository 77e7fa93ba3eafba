package erasure_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// mkdir makes empty directories.
func mkdir(t testing.TB, fs *faultfs.FS, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := fs.MkdirAll(p); err != nil {
			t.Fatal(err)
		}
		if err := fs.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
	}
}

// stateOf returns how the directory at a path is, or "" when it is no member.
func stateOf(l *erasure.Log, path string) string {
	for _, d := range l.Dirs() {
		if d.Path == path {
			return d.State
		}
	}
	return ""
}

func wantState(t testing.TB, l *erasure.Log, path, want string) {
	t.Helper()
	if got := stateOf(l, path); got != want {
		t.Fatalf("%s is %q, want %q: %+v", path, got, want, l.Dirs())
	}
}

// TestAddDir adds directories to a running store: they take segments, a restart that does not name them finds them, and what they
// hold counts.
func TestAddDir(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 3)
	c := mustLed(t, led, opt)
	if err := c.work(newRand(1), 5); err != nil {
		t.Fatal(err)
	}
	mkdir(t, mem, "/d3", "/d4")
	for _, path := range []string{"/d3", "/d4"} {
		m, err := c.log.AddDir(t.Context(), path, c.csn)
		if err != nil || m.Path != path || m.ID == "" {
			t.Fatal(m, err)
		}
		wantState(t, c.log, path, "online")
	}
	_, err := c.log.AddDir(t.Context(), "/d3", c.csn)
	wantDirError(t, err, "/d3", "already a member")
	if err := c.work(newRand(2), 20); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/d3", "/d4"} {
		if len(mem.Files(path+"/segments")) == 0 {
			t.Errorf("nothing was put into %s", path)
		}
	}
	mustClose(t, c)
	c = mustLed(t, led, opt) // with the three directories that it had at first
	if n := len(c.log.Dirs()); n != 5 || c.log.WriteState() != nil {
		t.Fatalf("%d members, %v", n, c.log.WriteState())
	}
	wantState(t, c.log, "/d4", "online")
	if form := readForm(t, mem, "/d4"); form["csn"].(float64) <= 0 || len(form["members"].([]any)) != 5 {
		t.Fatalf("%v", form)
	}
	mustClose(t, c)
	mem.RemoveAll("/d0")
	c = mustLed(t, led, opt)
	mustClose(t, c)
}

func TestAddDirRefuses(t *testing.T) {
	other := faultfs.New()
	mustClose(t, mustLed(t, newLedger(), tiny(other, 2, 1, 3)))
	led, mem, opt := filledStore(t, 2, 1, 3, 3)
	c := mustLed(t, led, opt)
	defer c.log.Close(t.Context())
	mkdir(t, mem, "/photos/2020", "/locked", "/newer", "/shards/segments", "/x")
	mkdir(t, other, "/foreign")
	copyDir(t, other, "/d1", "/foreign")
	mkdir(t, mem, "/foreign")
	mem.Graft(other, "/foreign")
	if _, err := mem.Lock("/locked/lock", "pid 4711 on elsewhere"); err != nil {
		t.Fatal(err)
	}
	copyDir(t, mem, "/d0", "/twin")
	copyDir(t, mem, "/d1", "/retired")
	form := readForm(t, mem, "/d1")
	form["dir"] = strings.Repeat("ab", 16)
	writeForm(t, mem, "/retired", form)
	copyDir(t, mem, "/d0", "/newer")
	editFormat(t, mem, "/newer", `"version": 1`, `"version": 2`)
	writeFile(t, mem, "/shards/segments/0000000000000001.m.00", nil)
	before := readForm(t, mem, "/d0")["csn"]
	for path, words := range map[string][]string{
		"/nowhere": {"does not exist"},
		"/photos":  {"2020", "empty directory"},
		"/foreign": {"belongs to store"},
		"/locked":  {"pid 4711 on elsewhere"},
		"/twin":    {"already a member"},
		"/retired": {"not a member", "any more"},
		"/newer":   {"newer"},
		"/shards":  {"no format.json"},
		"/d0":      {"already a member"},
	} {
		_, err := c.log.AddDir(t.Context(), path, c.csn)
		wantDirError(t, err, path, words...)
	}
	if after := readForm(t, mem, "/d0")["csn"]; after != before || len(c.log.Dirs()) != 3 {
		t.Fatalf("a refused directory changed the list: %v, %v", before, after)
	}
	if err := c.work(newRand(2), 3); err != nil {
		t.Fatal(err)
	}
}

// TestDrainAndRemove drains a directory, which then takes nothing new, and removes it when it is empty; it does not come back.
func TestDrainAndRemove(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 4)
	c := mustLed(t, led, opt)
	ctx := t.Context()
	if err := c.log.SetDraining(ctx, "/d3", true, c.csn); err != nil {
		t.Fatal(err)
	}
	wantState(t, c.log, "/d3", "draining")
	if err := c.work(newRand(1), 10); err != nil {
		t.Fatal(err)
	}
	if files := mem.Files("/d3/segments"); len(files) > 0 {
		t.Fatalf("a draining directory took %v", files)
	}
	err := c.log.SetDraining(ctx, "/d2", true, c.csn)
	if err != nil {
		t.Fatal(err) // 1+1 may still be written
	}
	wantDirError(t, c.log.SetDraining(ctx, "/d1", true, c.csn), "/d1", "needs 2 other")
	if err := c.log.SetDraining(ctx, "/d2", false, c.csn); err != nil {
		t.Fatal(err)
	}
	err = c.log.RemoveDir(ctx, "/d2", false, c.csn)
	if !errors.Is(err, erasure.ErrInUse) || !strings.Contains(err.Error(), "/d2") {
		t.Fatal(err)
	}
	wantDirError(t, c.log.RemoveDir(ctx, "/d2", true, c.csn), "/d2", "is in service")
	wantDirError(t, c.log.RemoveDir(ctx, "/d9", false, c.csn), "/d9", "not a member")
	if err := c.log.RemoveDir(ctx, "/d3", false, c.csn); err != nil {
		t.Fatal(err)
	}
	wantState(t, c.log, "/d3", "")
	if err := c.work(newRand(2), 5); err != nil {
		t.Fatal(err)
	}
	_, err = c.log.AddDir(ctx, "/d3", c.csn)
	wantDirError(t, err, "/d3", "not a member", "any more")
	mustClose(t, c)
	_, err = led.open(t, opt)
	wantDirError(t, err, "/d3", "not a member")
	opt.Dirs = opt.Dirs[:3]
	c = mustLed(t, led, opt)
	mustClose(t, c)
}

// TestRoll seals what is open.
func TestRoll(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	c := mustLed(t, led, tiny(mem, 2, 1, 3))
	for i := range uint64(4) {
		if err := c.work(newRand(i), 4); err != nil {
			t.Fatal(err)
		}
		if err := c.log.Roll(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, s := range c.log.Segments() {
			if !s.Sealed && !s.Ended {
				t.Fatalf("%+v is open", s)
			}
		}
		if i == 1 { // a directory fails: what is open ends by a verdict
			if err := c.mutate(newRand(9), 10, nil); err != nil {
				t.Fatal(err)
			}
			mem.FailOnce("/d1/segments", syscall.EIO, faultfs.Sync)
		}
	}
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
}

// TestMembersUnderLoad changes members beside writers and readers.
func TestMembersUnderLoad(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 4)
	c := mustLed(t, led, opt)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() {
		for i := uint64(0); ctx.Err() == nil; i++ {
			if err := c.work(newRand(i), 2); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	go func() {
		for ctx.Err() == nil {
			c.log.Dirs()
			c.log.Segments()
			c.log.Damaged()
		}
		done <- nil
	}()
	for i := range 6 {
		path := fmt.Sprintf("/x%d", i)
		mkdir(t, mem, path)
		if _, err := c.log.AddDir(t.Context(), path, 0); err != nil {
			t.Fatal(err)
		}
		if err := c.log.SetDraining(t.Context(), path, true, 0); err != nil {
			t.Fatal(err)
		}
		if err := c.log.Roll(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := c.log.RemoveDir(t.Context(), path, false, 0)
		if err != nil && !errors.Is(err, erasure.ErrInUse) {
			t.Fatal(err)
		}
	}
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	mustClose(t, mustLed(t, led, opt))
}
