package erasure_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// A memberChange is a change of the members, and how to see that it was done.
type memberChange struct {
	name   string
	before func(t *testing.T, mem *faultfs.FS) // while the log is closed
	do     func(l *erasure.Log) error
	done   func(l *erasure.Log) bool
	again  string // what the error of a second call says; empty: there is none
}

func memberChanges() []memberChange {
	ctx := context.Background()
	empty := func(t *testing.T, mem *faultfs.FS) { mkdir(t, mem, "/x") }
	dead := func(t *testing.T, mem *faultfs.FS) { empty(t, mem); mem.RemoveAll("/d1") }
	return []memberChange{
		{"add", empty, func(l *erasure.Log) error {
			_, err := l.AddDir(ctx, "/x", 7)
			return err
		}, func(l *erasure.Log) bool { return stateOf(l, "/x") == "online" || stateOf(l, "/x") == "healing" }, "already a member"},
		{"replace", dead, func(l *erasure.Log) error {
			_, err := l.ReplaceDir(ctx, "/d1", "/x", 7)
			return err
		}, func(l *erasure.Log) bool { return stateOf(l, "/x") == "healing" && stateOf(l, "/d1") == "" }, "not a member"},
		{"declare lost", dead, func(l *erasure.Log) error { return l.RemoveDir(ctx, "/d1", true, 7) },
			func(l *erasure.Log) bool { return stateOf(l, "/d1") == "" }, "not a member"},
		{"drain", nil, func(l *erasure.Log) error { return l.SetDraining(ctx, "/d2", true, 7) },
			func(l *erasure.Log) bool { return stateOf(l, "/d2") == "draining" }, ""},
		{"change the code", nil, func(l *erasure.Log) error { return l.SetCode(ctx, 1, 2, 7) },
			func(l *erasure.Log) bool { return l.Code() == erasure.Code{K: 1, M: 2} }, ""},
	}
}

// TestMemberChangesAreCrashSafe lets the power go at every step of every change of the members. What starts then, whole or with
// one directory less, has the old members or the new ones, and the change can be repeated.
func TestMemberChangesAreCrashSafe(t *testing.T) {
	led, filled, opt := filledStore(t, 2, 1, 4, 4)
	for _, ch := range memberChanges() {
		t.Run(ch.name, func(t *testing.T) {
			for step := 0; ; step++ {
				mem := filled.Clone()
				if ch.before != nil {
					ch.before(t, mem)
				}
				opt := opt
				opt.FS = mem
				c := mustLed(t, led.clone(), opt)
				mem.PowerOffAt(mem.Ops() + step)
				err := ch.do(c.log)
				off := mem.Off()
				if !off && (err != nil || !ch.done(c.log)) {
					t.Fatalf("%v: %+v", err, c.log.Dirs())
				}
				c.log.Close(t.Context())
				for i := range uint64(2) {
					opt.FS = mem.CrashClone(newRand(i))
					fewer := opt
					fewer.FS = mem.CrashClone(newRand(i))
					if ch.name != "replace" && ch.name != "declare lost" { // there is one missing as it is
						fewer.FS.(*faultfs.FS).RemoveAll("/d0")
					}
					mustClose(t, mustLed(t, led.clone(), fewer))
					c := mustLed(t, led.clone(), opt)
					if err == nil && !ch.done(c.log) {
						t.Fatalf("step %d: done, and undone by a crash: %+v", step, c.log.Dirs())
					}
					was := ch.done(c.log)
					switch err := ch.do(c.log); {
					case err != nil && !(was && ch.again != "" && strings.Contains(err.Error(), ch.again)):
						t.Fatalf("step %d: repeated: %v", step, err)
					case !ch.done(c.log):
						t.Fatalf("step %d: repeated, and not done: %+v", step, c.log.Dirs())
					}
					if err := c.work(newRand(i), 2); err != nil {
						t.Fatalf("step %d: %v", step, err)
					}
					mustClose(t, c)
				}
				if !off {
					return
				}
			}
		})
	}
}

// TestMemberChangesMeetFaults makes every step of every change fail, with an error and for want of space. Space leaves all as it
// was; an error costs at most that directory.
func TestMemberChangesMeetFaults(t *testing.T) {
	led, filled, opt := filledStore(t, 2, 1, 4, 4)
	for _, ch := range memberChanges() {
		for _, cause := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			t.Run(ch.name+" "+cause.Error(), func(t *testing.T) {
				for step := 0; ; step++ {
					mem := filled.Clone()
					if ch.before != nil {
						ch.before(t, mem)
					}
					opt := opt
					opt.FS = mem
					copied := led.clone()
					c := mustLed(t, copied, opt)
					fired := mem.FailAt(mem.Ops()+step, cause)
					err := ch.do(c.log)
					if !fired() {
						if err != nil || !ch.done(c.log) {
							t.Fatal(err)
						}
						mustClose(t, c)
						return
					}
					probe(c.log)
					if err != nil && ch.do(c.log) != nil && !ch.done(c.log) {
						t.Fatalf("step %d: cannot be repeated after %v: %+v", step, err, c.log.Dirs())
					}
					if err := c.work(newRand(1), 2); err != nil && !errors.Is(err, erasure.ErrReadOnly) {
						t.Fatalf("step %d: %v", step, err)
					}
					c.log.Close(t.Context())
					c = mustLed(t, copied, opt)
					if !ch.done(c.log) {
						t.Fatalf("step %d: %+v", step, c.log.Dirs())
					}
					mustClose(t, c)
				}
			})
		}
	}
}

// TestUndecidedCommitComesBack: nobody knows whether a commit counts, and the one directory that has it is away at the next start. That
// start must not decide: later the commit is there, and what was refused meanwhile is not.
func TestUndecidedCommitComesBack(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 1, 1, 2)
	c := mustLed(t, led, opt)
	for range 3 {
		if err := c.mutate(newRand(1), 10, nil); err != nil {
			t.Fatal(err)
		}
	}
	other := mem.Clone()
	mem.RemoveAll("/d1")
	if err := c.mutate(newRand(2), 10, nil); !errors.Is(err, erasure.ErrUncertain) {
		t.Fatal(err)
	}
	mem = mem.Clone()
	c.log.Close(t.Context())
	mine := mem.Clone()
	mem.Graft(other, "/d1")
	mem.RemoveAll("/d0")
	opt.FS = mem
	c = mustLed(t, led, opt)
	if err := c.mutate(newRand(3), 10, nil); !errors.Is(err, erasure.ErrReadOnly) || c.csn != 3 {
		t.Fatal(err, c.csn)
	}
	mustClose(t, c)
	mem.Graft(mine, "/d0")
	c = mustLed(t, led, opt)
	if c.csn != 4 {
		t.Fatalf("the log ends at %d", c.csn)
	}
	heal(t, c)
	wantWhole(t, c)
	mustClose(t, c)
}
