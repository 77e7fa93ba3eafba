package erasure_test

import (
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// damagedStore is a store with rot in one directory and files removed from another.
func damagedStore(t testing.TB) (*ledger, *faultfs.FS, erasure.Options, map[string]string) {
	t.Helper()
	led, mem, opt := filledStore(t, 2, 2, 4, 5)
	want := shardFiles(t, mem, 4)
	i := 0
	for _, path := range mem.Files("/d1/segments") {
		switch i++; i % 3 {
		case 0:
			mem.Cut(path, 5000)
		case 1:
			mem.FlipBit(path, 300)
		case 2:
			mem.FlipBit(path, int64(len(want[path]))-4096+9)
		}
	}
	for _, path := range mem.Files("/d2/segments") {
		mem.RemoveAll(path)
	}
	return led, mem, opt, want
}

// TestPowerLossDuringRepair lets the power go at each operation of a repair: everything is read, and the next repair ends it.
func TestPowerLossDuringRepair(t *testing.T) {
	led, origin, opt, want := damagedStore(t)
	for step := 0; ; step += 1 + step/15 {
		rng := rand.New(rand.NewPCG(*seed, uint64(step)))
		mem := origin.Clone()
		opt.FS = mem
		c := mustLed(t, led.clone(), opt)
		mem.PowerOffAt(mem.Ops() + step)
		var done []erasure.Finding
		for _, s := range c.log.Segments() {
			if _, err := c.log.ScrubSegment(t.Context(), s.ID, erasure.ScrubOptions{Repair: true, Finding: func(f erasure.Finding) {
				if f.Repaired {
					done = append(done, f)
				}
			}}); err != nil {
				t.Fatal(err)
			}
		}
		fired := mem.Off()
		c.log.Close(t.Context())
		mem = mem.CrashClone(rng)
		for _, f := range done {
			path := f.Dir + "/segments/" + f.File
			got, whole := content(t, mem, path), want[path]
			if f.Kind != erasure.FindingMissingFile { // the rest of the file may not have been its turn
				got, whole = got[min(int(f.Offset), len(got)):], whole[f.Offset:]
				got, whole = got[:min(len(got), 4096)], whole[:min(len(whole), 4096)]
			}
			if got != whole {
				t.Errorf("step %d: not there after all: %+v", step, f)
			}
		}
		opt.FS = mem
		c = mustLed(t, c.ledger, opt)
		for _, f := range first(scrubAll(t, c, true)) {
			if !f.Repaired {
				t.Errorf("step %d: %+v", step, f)
			}
		}
		for _, f := range first(scrubAll(t, c, true)) {
			t.Errorf("step %d: %+v", step, f)
		}
		for path, b := range want {
			if content(t, mem, path) != b {
				t.Errorf("step %d: %s is not as it was", step, path)
			}
		}
		for _, path := range mem.Files("/") {
			if strings.Contains(path, "/segments/") && strings.HasSuffix(path, ".tmp") {
				t.Errorf("step %d: %s is left", step, path)
			}
		}
		mustClose(t, c)
		if t.Failed() {
			t.Fatalf("-seed=%d step=%d", *seed, step)
		}
		if !fired {
			return
		}
	}
}

func first[T, U any](v T, _ U) T { return v }

// TestFailureDuringRepair makes each operation of a repair fail: nothing gets worse, and a restart repairs the rest.
func TestFailureDuringRepair(t *testing.T) {
	led, origin, opt, want := damagedStore(t)
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for step := 0; ; step += 1 + step/15 {
			mem := origin.Clone()
			opt.FS = mem
			c := mustLed(t, led.clone(), opt)
			fired := mem.FailAt(mem.Ops()+step, cause)
			for _, f := range first(scrubAll(t, c, true)) {
				if f.Lost {
					t.Errorf("step %d: %+v", step, f)
				}
			}
			if err := c.check(t); err != nil {
				t.Errorf("step %d: %v", step, err)
			}
			c.log.Close(t.Context())
			mem = mem.CrashClone(rand.New(rand.NewPCG(*seed, uint64(step))))
			opt.FS = mem
			c = mustLed(t, c.ledger, opt)
			scrubAll(t, c, true)
			for _, f := range first(scrubAll(t, c, true)) {
				t.Errorf("step %d: %+v", step, f)
			}
			for path, b := range want {
				if content(t, mem, path) != b {
					t.Errorf("step %d: %s is not as it was", step, path)
				}
			}
			mustClose(t, c)
			if t.Failed() {
				t.Fatalf("-seed=%d step=%d %v", *seed, step, cause)
			}
			if !fired() {
				break
			}
		}
	}
}

// TestScrubGoesOnWithoutADirectory scrubs while a directory fails every read, and while one hangs.
func TestScrubGoesOnWithoutADirectory(t *testing.T) {
	for _, hang := range []bool{false, true} {
		led, mem, opt := filledStore(t, 3, 2, 5, 8)
		opt.IOTimeout = 300 * time.Millisecond
		c := mustLed(t, led, opt)
		release := func() {}
		if hang {
			release = mem.Hang("/d1/segments", faultfs.Read)
		} else {
			mem.FailPath("/d1/segments", syscall.EIO, faultfs.Read)
		}
		found, sum := scrubAll(t, c, true)
		if sum.Records == 0 || sum.StripesLost > 0 || len(found) == 0 {
			t.Errorf("%+v", sum)
		}
		for _, f := range found {
			if f.Kind != erasure.FindingUnreadable || f.Dir != "/d1" || f.Lost || f.Repaired {
				t.Errorf("%+v", f)
			}
		}
		if st := c.log.Dirs()[1].State; st != "offline" {
			t.Errorf("the directory is %s", st)
		}
		if err := c.check(t); err != nil {
			t.Error(err)
		}
		release()
		c.log.Close(t.Context())
	}
}

// TestRepairBesideWork repairs the same segments twice at once while others are written, sealed and read.
func TestRepairBesideWork(t *testing.T) {
	led, mem, opt, want := damagedStore(t)
	c := mustLed(t, led, opt)
	ids := c.log.Segments()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for _, s := range ids {
				if _, err := c.log.ScrubSegment(t.Context(), s.ID, erasure.ScrubOptions{Repair: true}); err != nil {
					t.Error(err)
				}
			}
			for _, s := range c.log.Segments() {
				if _, err := c.log.ScrubSegment(t.Context(), s.ID, erasure.ScrubOptions{Repair: true, Finding: func(f erasure.Finding) {
					if !f.Repaired {
						t.Errorf("%+v", f)
					}
				}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	acked := map[string]erasure.Location{}
	for label := range c.acked {
		acked[label] = c.locations[label]
	}
	sent := c.clone().sent
	wg.Go(func() {
		for range 3 {
			for label, loc := range acked {
				if b, err := c.log.Read(t.Context(), loc, nil); err != nil || string(b) != string(sent[label]) {
					t.Errorf("%s: %v", label, err)
				}
			}
		}
	})
	if err := c.work(newRand(9), 25); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if found := first(scrubAll(t, c, false)); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	for path, b := range want {
		if content(t, mem, path) != b {
			t.Errorf("%s is not as it was", path)
		}
	}
	if err := c.check(t); err != nil {
		t.Error(err)
	}
	mustClose(t, c)
}
