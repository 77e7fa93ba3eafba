package erasure_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// TestMoreThanParityLost loses more directories than there is parity: what is whole is read, nothing is decided, nothing is written.
// When they are declared lost the store writes again, and a scrub tells what is lost for ever.
func TestMoreThanParityLost(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 4)
	c := mustLed(t, led, opt)
	ctx := t.Context()
	if err := c.work(newRand(1), 25); err != nil {
		t.Fatal(err)
	}
	locs := c.locations
	mem = mem.Clone() // the process dies
	c.log.Close(ctx)
	mem.RemoveAll("/d1")
	mem.RemoveAll("/d3")
	opt.FS = mem
	l, err := erasure.Open(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(ctx)
	readAll := func(missing error) (read, gone int) {
		t.Helper()
		for label, loc := range locs {
			switch b, err := l.Read(ctx, loc, nil); {
			case err == nil && bytes.Equal(b, led.sent[label]):
				read++
			case errors.Is(err, missing):
				gone++
			default:
				t.Fatalf("%s: %v", label, err)
			}
		}
		return read, gone
	}
	read, gone := readAll(erasure.ErrUnavailable)
	if read == 0 || gone == 0 {
		t.Fatalf("%d read, %d not", read, gone)
	}
	if vs, err := l.Recover(ctx); err != nil || len(vs) > 0 || !errors.Is(l.WriteState(), erasure.ErrReadOnly) {
		t.Fatal(vs, err, l.WriteState())
	}
	lost := func() (n int64) {
		for _, s := range l.Segments() {
			res, err := l.ScrubSegment(ctx, s.ID, erasure.ScrubOptions{Repair: true})
			if err != nil {
				t.Fatal(err)
			}
			n += res.StripesLost
		}
		return n
	}
	if n := lost(); n > 0 {
		t.Fatalf("%d stripes are called lost while directories are away", n)
	}
	if err := l.RemoveDir(ctx, "/d1", false, 9); !errors.Is(err, erasure.ErrInUse) {
		t.Fatal(err)
	}
	for i, d := range []string{"/d1", "/d3"} {
		if err := l.RemoveDir(ctx, d, true, 9); err != nil {
			t.Fatal(err)
		}
		if still := i == 0; still != (l.WriteState() != nil && len(l.Dirs()) == 3) {
			t.Fatal(l.WriteState(), l.Dirs())
		}
		if _, err := l.Recover(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.WriteState(); err != nil {
		t.Fatal(err)
	}
	if err := l.Commit(ctx, []erasure.Record{{Kind: kindChunk, Label: []byte("new"), Body: []byte("x")}}, nil, erasure.TierDelete); err != nil {
		t.Fatal(err)
	}
	if n := lost(); n == 0 {
		t.Fatal("no stripe is lost")
	}
	if r, g := readAll(erasure.ErrCorrupt); r != read || g != gone {
		t.Fatalf("%d read, %d lost; before it were %d and %d", r, g, read, gone)
	}
	// One of them comes back: it is refused by name, and what is there goes on.
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
	other := faultfs.New()
	mkdir(t, other, "/d1")
	form := readForm(t, mem, "/d0")
	form["dir"], form["csn"] = form["store"], 0
	writeForm(t, other, "/d1", form)
	mem.Graft(other, "/d1")
	_, err = erasure.Open(ctx, opt)
	wantDirError(t, err, "/d1", "not a member", "any more")
}

// TestLostIsOwed: a member was declared lost, and its shards are not rebuilt yet. The loss of one more stops writing.
func TestLostIsOwed(t *testing.T) {
	led, filled, opt := filledStore(t, 1, 1, 4, 15)
	filled.RemoveAll("/d3")
	opt.FS = filled
	c := mustLed(t, led, opt)
	if err := c.log.RemoveDir(t.Context(), "/d3", true, c.csn); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	opt.Dirs = opt.Dirs[:3]
	for _, healed := range []bool{false, true} {
		mem, led := filled.Clone(), led.clone()
		opt.FS = mem
		if healed {
			c := mustLed(t, led, opt)
			heal(t, c)
			wantWhole(t, c)
			mustClose(t, c)
		}
		mem.RemoveAll("/d0")
		l, err := erasure.Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Recover(t.Context()); err != nil || healed != (l.WriteState() == nil) {
			t.Fatalf("healed %v: %v %v", healed, err, l.WriteState())
		}
		l.Close(t.Context())
	}
}

// TestOldCopyOfDirectory restores a directory from a copy that was made before the last run: nothing is lost, nothing is shorter, and
// what it lacks is known, and healed, without anybody asking for it.
func TestOldCopyOfDirectory(t *testing.T) {
	for _, crash := range []bool{false, true} {
		led, mem := newLedger(), faultfs.New()
		opt := tiny(mem, 2, 1, 4)
		opt.SegmentBytes, opt.MetadataSegmentBytes = 1<<20, 512<<10
		c := mustLed(t, led, opt)
		if err := c.work(newRand(1), 10); err != nil {
			t.Fatal(err)
		}
		if err := c.log.Roll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.work(newRand(2), 10); err != nil {
			t.Fatal(err)
		}
		old := mem.Clone() // as a copy of a running system is, in the middle of segments
		if err := c.work(newRand(3), 10); err != nil {
			t.Fatal(err)
		}
		if crash {
			mem = mem.Clone()
			opt.FS = mem
			c.log.Close(t.Context())
			c = mustLed(t, led, opt)
		} else if err := c.log.Roll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.work(newRand(4), 10); err != nil {
			t.Fatal(err)
		}
		mkdir(t, mem, "/x")
		if _, err := c.log.AddDir(t.Context(), "/x", c.csn); err != nil { // the copy's member list is old, too
			t.Fatal(err)
		}
		mustClose(t, c)
		mem.Graft(old, "/d1")
		c = mustLed(t, led, opt) // checks that all is there
		heal(t, c)
		wantWhole(t, c)
		if form := readForm(t, mem, "/d1"); len(form["members"].([]any)) != 5 {
			t.Fatalf("%v", form)
		}
		if err := c.work(newRand(5), 3); err != nil {
			t.Fatal(err)
		}
		mustClose(t, c)
	}
}

// TestHealedBeforeRecovery: all segments lay on two directories. One of them was replaced, and the other one is away at the next start:
// nothing of them is seen, so that the new one lacks nothing as far as anybody knows proves nothing.
func TestHealedBeforeRecovery(t *testing.T) {
	for _, lost := range []bool{false, true} {
		led, mem := newLedger(), faultfs.New()
		opt := tiny(mem, 1, 1, 2)
		c := mustLed(t, led, opt)
		ctx := t.Context()
		if err := c.work(newRand(1), 5); err != nil {
			t.Fatal(err)
		}
		mkdir(t, mem, "/x", "/y", "/z")
		for _, path := range []string{"/x", "/y"} {
			if _, err := c.log.AddDir(ctx, path, c.csn); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.log.Roll(ctx); err != nil {
			t.Fatal(err)
		}
		mem.RemoveAll("/d0")
		c.log.Probe(ctx)
		var err error
		if lost {
			err = c.log.RemoveDir(ctx, "/d0", true, c.csn)
		} else {
			_, err = c.log.ReplaceDir(ctx, "/d0", "/z", c.csn)
		}
		if err != nil {
			t.Fatal(err)
		}
		mustClose(t, c)

		kept := mem.Clone()
		mem.RemoveAll("/d1")
		opt.Create, opt.Dirs = nil, []string{"/d1", "/x", "/y", "/z"}
		if lost {
			opt.Dirs = opt.Dirs[:3]
		}
		l, err := erasure.Open(ctx, opt)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if vs, err := l.Recover(ctx); err != nil || len(vs) > 0 || !errors.Is(l.WriteState(), erasure.ErrReadOnly) {
				t.Fatalf("lost %v: %v %v %v", lost, vs, err, l.WriteState())
			}
			if ids, err := l.Healed(ctx, c.csn); err != nil || len(ids) > 0 {
				t.Fatalf("lost %v: healed %v %v", lost, ids, err)
			}
		}
		l.Close(ctx)
		mem.Graft(kept, "/d1")
		c = mustLed(t, led, opt)
		heal(t, c)
		wantWhole(t, c)
		mustClose(t, c)
	}
}
