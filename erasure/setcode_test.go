package erasure_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// TestSetCode changes the code of a store that has data: new segments use it, also after a restart, and the membership rule goes by
// the smallest parity of what is there.
func TestSetCode(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 3, 1, 5)
	c := mustLed(t, led, opt)
	ctx := t.Context()
	if err := c.work(newRand(1), 5); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][2]int{{0, 1}, {4, 2}, {3, -1}, {12, 5}} {
		if err := c.log.SetCode(ctx, bad[0], bad[1], c.csn); err == nil {
			t.Errorf("code %v is accepted", bad)
		}
	}
	if err := c.log.SetCode(ctx, 2, 2, c.csn); err != nil {
		t.Fatal(err)
	}
	if err := c.log.Roll(ctx); err != nil {
		t.Fatal(err)
	}
	old := len(c.log.Segments())
	check := func(k, m, from int) {
		t.Helper()
		for _, s := range c.log.Segments()[from:] {
			if s.K != k || s.M != m {
				t.Fatalf("%+v is not %d+%d", s, k, m)
			}
		}
	}
	if err := c.work(newRand(2), 5); err != nil {
		t.Fatal(err)
	}
	check(2, 2, old)
	mustClose(t, c)
	c = mustLed(t, led, opt)
	if k, m := c.log.Creation(); k != 3 || m != 1 || c.log.Code() != (erasure.Code{K: 2, M: 2}) {
		t.Fatalf("created with %d+%d, now %v", k, m, c.log.Code())
	}
	from := len(c.log.Segments())
	if err := c.work(newRand(3), 5); err != nil {
		t.Fatal(err)
	}
	check(2, 2, from)
	mustClose(t, c)

	opt.Code = erasure.Code{K: 1, M: 2}
	c = mustLed(t, led, opt)
	from = len(c.log.Segments())
	if err := c.work(newRand(4), 5); err != nil {
		t.Fatal(err)
	}
	check(1, 2, from)
	if form := readForm(t, mem, "/d4"); form["code"].(map[string]any)["k"].(float64) != 1 || form["k"].(float64) != 3 {
		t.Fatalf("%v", form)
	}
	mustClose(t, c)

	// Two are away: segments with one parity shard are out of reach, so nothing may be written, whatever the code is now.
	away := mem.Clone()
	away.RemoveAll("/d0")
	away.RemoveAll("/d1")
	o := opt
	o.FS, o.Code = away, erasure.Code{}
	l, err := erasure.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Recover(ctx); err != nil || l.WriteState() == nil {
		t.Fatal(err, "two of five are away, and there are segments that need four")
	}
	l.Close(ctx)

	// When the old ones are gone, two may be away.
	c = mustLed(t, led, opt)
	var gone []erasure.SegmentID
	for _, s := range c.log.Segments() {
		if s.M == 1 {
			gone = append(gone, s.ID)
		}
	}
	if err := c.log.Retire(gone); err != nil {
		t.Fatal(err)
	}
	if err := c.log.Drop(ctx, gone); err != nil {
		t.Fatal(err)
	}
	c.log.Close(ctx)
	mem.RemoveAll("/d0")
	mem.RemoveAll("/d1")
	opt.Code = erasure.Code{}
	l, err = erasure.Open(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(ctx)
	l.SetDropped(gone)
	if _, err := l.Recover(ctx); err != nil || l.WriteState() != nil {
		t.Fatal(err, l.WriteState())
	}
}

// TestCodeAtOpen refuses a code that the directories cannot hold.
func TestCodeAtOpen(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 3)
	opt.Code = erasure.Code{K: 3, M: 1}
	if _, err := erasure.Open(t.Context(), opt); err == nil {
		t.Fatal("3+1 on three directories")
	}
	opt.Code = erasure.Code{K: 1, M: 2}
	few := opt
	few.FS = mem.Clone()
	few.FS.(*faultfs.FS).RemoveAll("/d0")
	few.FS.(*faultfs.FS).RemoveAll("/d1")
	l, err := erasure.Open(t.Context(), few) // read-only: it stays as it was
	if err != nil || l.Code() != (erasure.Code{K: 2, M: 1}) {
		t.Fatal(err)
	}
	l.Close(t.Context())
	c := mustLed(t, led, opt)
	if c.log.Code() != opt.Code {
		t.Fatal(c.log.Code())
	}
	mustClose(t, c)
}

// TestOldParityOutOfSight: the segments from before a change of the code lie on directories that are all away at a start. Nothing that
// is there tells of them but the member list: the new parity would allow to go on without them.
func TestOldParityOutOfSight(t *testing.T) {
	for _, tc := range []struct {
		from, to       erasure.Code
		dirs           int
		gone           []string
		before, during int // commits with the old code, and with the new one
	}{
		{erasure.Code{K: 1, M: 0}, erasure.Code{K: 2, M: 1}, 1, []string{"/d0"}, 5, 5},
		{erasure.Code{K: 1, M: 1}, erasure.Code{K: 2, M: 2}, 2, []string{"/d0", "/d1"}, 5, 5},
		{erasure.Code{K: 1, M: 1}, erasure.Code{K: 2, M: 2}, 2, []string{"/d0", "/d1"}, 5, 0},
	} {
		led, mem := newLedger(), faultfs.New()
		opt := tiny(mem, tc.from.K, tc.from.M, tc.dirs)
		c := mustLed(t, led, opt)
		ctx := t.Context()
		if err := c.work(newRand(1), tc.before); err != nil {
			t.Fatal(err)
		}
		for i := tc.dirs; i <= tc.to.K+tc.to.M; i++ {
			path := fmt.Sprintf("/x%d", i)
			mkdir(t, mem, path)
			if _, err := c.log.AddDir(ctx, path, c.csn); err != nil {
				t.Fatal(err)
			}
			opt.Dirs = append(opt.Dirs, path)
		}
		if err := c.log.SetCode(ctx, tc.to.K, tc.to.M, c.csn); err != nil {
			t.Fatal(err)
		}
		if err := c.log.Roll(ctx); err != nil {
			t.Fatal(err)
		}
		var old []erasure.SegmentID
		for _, s := range c.log.Segments() {
			old = append(old, s.ID)
		}
		if err := c.work(newRand(2), tc.during); err != nil {
			t.Fatal(err)
		}
		mustClose(t, c)
		start := func(writes bool, dropped ...erasure.SegmentID) {
			t.Helper()
			few := opt
			fs := mem.Clone()
			for _, d := range tc.gone {
				fs.RemoveAll(d)
			}
			few.FS = fs
			l, err := erasure.Open(ctx, few)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close(ctx)
			l.SetDropped(dropped)
			err = l.Replay(ctx, 0, nil, func(erasure.Replayed) error { return nil })
			if writes != (err == nil) || !writes && !errors.Is(err, erasure.ErrUnavailable) {
				t.Fatalf("%v to %v: replay says %v", tc.from, tc.to, err)
			}
			if vs, err := l.Recover(ctx); err != nil || len(vs) > 0 && !writes || writes != (l.WriteState() == nil) {
				t.Fatalf("%v to %v: %v %v %v", tc.from, tc.to, vs, err, l.WriteState())
			}
		}
		start(false)

		// When the old ones were dropped, the new parity is what counts.
		if tc.during == 0 {
			continue
		}
		c = mustLed(t, led, opt)
		start(false)
		if err := c.log.Drop(ctx, old); err != nil {
			t.Fatal(err)
		}
		c.log.Close(ctx)
		start(true, old...)
	}
}
