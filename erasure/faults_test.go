package erasure_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

func newRand(n uint64) *rand.Rand { return rand.New(rand.NewPCG(*seed, n)) }

// filledStore returns a store with some acknowledged records and no open log.
func filledStore(t testing.TB, k, m, dirs, commits int) (*ledger, *faultfs.FS, erasure.Options) {
	t.Helper()
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, k, m, dirs)
	c := mustLed(t, led, opt)
	if err := c.work(newRand(1), commits); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	return led, mem, opt
}

func mustLed(t testing.TB, led *ledger, opt erasure.Options) *client {
	t.Helper()
	c, err := led.open(t, opt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustClose(t testing.TB, c *client) {
	t.Helper()
	if err := c.log.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestAnyDirectoriesMayBeLost removes every set of m directories: all is read, and writing goes on as the membership rule says.
func TestAnyDirectoriesMayBeLost(t *testing.T) {
	for _, code := range [][3]int{{1, 1, 2}, {2, 1, 3}, {2, 2, 5}, {4, 2, 6}} {
		k, m, dirs := code[0], code[1], code[2]
		led, mem, opt := filledStore(t, k, m, dirs, 10)
		for set := range 1 << dirs {
			lost := 0
			fs := mem.Clone()
			for i := range dirs {
				if set>>i&1 == 1 {
					fs.RemoveAll(fmt.Sprintf("/d%d", i))
					lost++
				}
			}
			if lost > m {
				continue
			}
			copied := led.clone()
			opt.FS = fs
			c := mustLed(t, copied, opt)
			state := c.log.WriteState()
			if may := dirs-lost >= m+1; may != (state == nil) {
				t.Fatalf("%v without set %b: %v", code, set, state)
			}
			if state != nil && !errors.Is(state, erasure.ErrReadOnly) {
				t.Fatalf("%v without set %b: %v", code, set, state)
			}
			if state == nil {
				if err := c.mutate(newRand(2), 10, nil); err != nil {
					t.Fatal(err)
				}
				for _, s := range c.log.Segments() {
					if s.M != m || !s.Sealed && s.K != min(k, dirs-lost-m) {
						t.Fatalf("segment %+v with %d of %d directories", s, dirs-lost, dirs)
					}
				}
			}
			c.log.Close(t.Context())
		}
	}
}

// TestTooManyLost checks that what is beyond parity is called unavailable while directories are away, and corrupt when the
// bytes are proven bad.
func TestTooManyLost(t *testing.T) {
	led, mem, opt := filledStore(t, 4, 2, 6, 10)
	c := mustLed(t, led, opt)
	locs := c.locations
	mustClose(t, c)
	for i := range 3 {
		mem.RemoveAll(fmt.Sprintf("/d%d", i))
	}
	l, err := erasure.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	if err := l.Replay(t.Context(), 0, nil, func(erasure.Replayed) error { return nil }); !errors.Is(err, erasure.ErrUnavailable) {
		t.Fatalf("replay: %v", err)
	}
	if vs, err := l.Recover(t.Context()); err != nil || len(vs) > 0 {
		t.Fatalf("recover: %v %v", vs, err)
	}
	if err := l.WriteState(); !errors.Is(err, erasure.ErrReadOnly) {
		t.Fatalf("write state: %v", err)
	}
	if _, err := l.Append(t.Context(), erasure.Record{Kind: 1}, erasure.Data, erasure.TierUpload); !errors.Is(err, erasure.ErrReadOnly) {
		t.Fatalf("append: %v", err)
	}
	if err := l.Commit(t.Context(), []erasure.Record{{Kind: 1}}, nil, erasure.TierUpload); !errors.Is(err, erasure.ErrReadOnly) || errors.Is(err, erasure.ErrUncertain) {
		t.Fatalf("commit: %v", err)
	}
	read, lost := 0, 0
	for label, loc := range locs {
		b, err := l.Read(t.Context(), loc, nil)
		switch {
		case err == nil && led.sent[label] != nil && !bytes.Equal(b, led.sent[label]):
			t.Fatalf("%s reads wrong", label)
		case err == nil:
			read++
		case errors.Is(err, erasure.ErrUnavailable) && !errors.Is(err, erasure.ErrCorrupt):
			lost++
		default:
			t.Fatalf("%s: %v", label, err)
		}
	}
	if read == 0 || lost == 0 {
		t.Fatalf("%d read, %d unavailable: what lies on the directories that are left should be read", read, lost)
	}
}

// TestStaleDirectory takes a directory away, lets the store crash, be recovered and go on without it, and brings it back as
// it was: nothing that counts changes.
func TestStaleDirectory(t *testing.T) {
	for round := range uint64(12) {
		rng := newRand(round)
		led, mem := newLedger(), faultfs.New()
		opt := tiny(mem, 2, 2, 5)
		c := mustLed(t, led, opt)
		if err := c.work(rng, 5); err != nil {
			t.Fatal(err)
		}
		// The power goes in the middle of things; two directories happen to have kept all that was written.
		mem.PowerOffAt(mem.Ops() + rng.IntN(60))
		_ = c.work(rng, 20)
		c.log.Close(t.Context())
		lucky := mem.Clone()
		mem = mem.CrashClone(rng)
		for _, d := range []string{"/d1", "/d3"} {
			mem.RemoveAll(d)
		}
		opt.FS = mem
		for range 2 {
			c = mustLed(t, led, opt)
			if err := c.work(rng, 3); err != nil {
				t.Fatal(err)
			}
			c.log.Close(t.Context())
		}
		for _, d := range []string{"/d1", "/d3"} {
			mem.Graft(lucky, d)
		}
		c = mustLed(t, led, opt) // checks verdicts, order and contents
		if err := c.work(rng, 3); err != nil {
			t.Fatal(err)
		}
		mustClose(t, c)
	}
}

// TestHungDirectory lets every operation of one directory hang: commits go on without it.
func TestHungDirectory(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 4)
	opt.IOTimeout = 100 * time.Millisecond
	c := mustLed(t, led, opt)
	if err := c.work(newRand(1), 5); err != nil {
		t.Fatal(err)
	}
	release := mem.Hang("/d2")
	defer release()
	if err := c.work(newRand(2), 10); err != nil {
		t.Fatal(err)
	}
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
	for _, d := range c.log.Dirs() {
		if want := map[bool]string{true: "offline", false: "online"}[d.Path == "/d2"]; d.State != want {
			t.Fatalf("%s is %s (%s)", d.Path, d.State, d.Reason)
		}
	}
	c.log.Close(t.Context())
}

// TestFailedSyncIsNotBelieved makes one fsync fail; what it covered is on that directory only in the page cache, and a
// power loss takes it.
func TestFailedSyncIsNotBelieved(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 3)
	c := mustLed(t, led, opt)
	if err := c.work(newRand(1), 3); err != nil {
		t.Fatal(err)
	}
	mem.FailOnce("/d1/segments", syscall.EIO, faultfs.Sync)
	if err := c.work(newRand(2), 5); err != nil {
		t.Fatal(err)
	}
	opt.FS = mem.CrashClone(newRand(3))
	c.log.Close(t.Context())
	c = mustLed(t, led, opt)
	mustClose(t, c)
}

// TestUnreadableDirectory gives EIO for every read of a directory: it goes offline, and all is read.
func TestUnreadableDirectory(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 8)
	c := mustLed(t, led, opt)
	defer c.log.Close(t.Context())
	defer mem.FailPath("/d0/segments", syscall.EIO, faultfs.Read)()
	for range 4 {
		if err := c.check(t); err != nil {
			t.Fatal(err)
		}
	}
	if st := c.log.Dirs()[0].State; st != "offline" {
		t.Fatalf("state %s", st)
	}
	if err := c.work(newRand(3), 3); err != nil {
		t.Fatal(err)
	}
}

// TestUnreadableTailDirectory starts after a crash with a directory that lists its files and does not read them: it is
// taken out of service before a verdict is found.
func TestUnreadableTailDirectory(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 4)
	c := mustLed(t, led, opt)
	if err := c.work(newRand(1), 6); err != nil {
		t.Fatal(err)
	}
	crashed := mem.Clone()
	c.log.Close(t.Context())
	opt.FS = crashed
	crashed.FailPath("/d1/segments", syscall.EIO, faultfs.Read)
	c = mustLed(t, led, opt)
	defer c.log.Close(t.Context())
	offline := 0
	for _, d := range c.log.Dirs() {
		if d.State == "offline" {
			offline++
		}
	}
	if offline != 1 || c.log.WriteState() != nil {
		t.Fatalf("%d directories are offline, write state %v", offline, c.log.WriteState())
	}
}

// TestRemovedUnderLoad removes directories with rm -rf while writers and readers are busy, on the real file system.
func TestRemovedUnderLoad(t *testing.T) {
	base := t.TempDir()
	opt := tiny(nil, 4, 2, 6)
	opt.FS = erasure.OS
	for i := range opt.Dirs {
		opt.Dirs[i] = filepath.Join(base, fmt.Sprintf("d%d", i))
	}
	led := newLedger()
	c := mustLed(t, led, opt)
	if err := c.work(newRand(1), 10); err != nil {
		t.Fatal(err)
	}
	// Readers read what is acknowledged at this point, again and again.
	type item struct {
		label string
		loc   erasure.Location
	}
	var items []item
	for label := range c.acked {
		items = append(items, item{label, c.locations[label]})
	}
	want := map[string][]byte{}
	for label, b := range c.sent {
		want[label] = b
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for r := range uint64(2) {
		wg.Go(func() {
			rng := newRand(100 + r)
			for !stop.Load() {
				it := items[rng.IntN(len(items))]
				b, err := c.log.Read(context.Background(), it.loc, nil)
				if err != nil || !bytes.Equal(b, want[it.label]) {
					t.Errorf("reading %s: %v", it.label, err)
					return
				}
			}
		})
	}
	for i := range 2 {
		if err := c.work(newRand(uint64(10+i)), 10); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(opt.Dirs[2*i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.work(newRand(20), 20); err != nil {
		t.Fatal(err)
	}
	stop.Store(true)
	wg.Wait()
	for i, d := range c.log.Dirs() {
		if want := map[bool]string{true: "offline", false: "online"}[i == 0 || i == 2]; d.State != want {
			t.Errorf("%s is %s (%s)", d.Path, d.State, d.Reason)
		}
	}
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
	c.log.Close(t.Context())
	c = mustLed(t, led, opt)
	mustClose(t, c)
}

// TestNoSpace fills directories: with one full the others go on, with all full writes are refused cleanly and work again
// when there is room.
func TestNoSpace(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 4)
	c := mustLed(t, led, opt)
	if err := c.work(newRand(1), 5); err != nil {
		t.Fatal(err)
	}
	mem.Limit("/d1", mem.Used("/d1"))
	if err := c.work(newRand(2), 20); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		d := fmt.Sprintf("/d%d", i)
		mem.Limit(d, mem.Used(d))
	}
	err := c.work(newRand(3), 50)
	if !errors.Is(err, erasure.ErrNoSpace) || errors.Is(err, erasure.ErrUncertain) {
		t.Fatalf("work in full directories: %v", err)
	}
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		mem.Limit(fmt.Sprintf("/d%d", i), -1)
	}
	deadline := time.Now().Add(10 * time.Second)
	for c.log.WriteState() != nil {
		if time.Now().After(deadline) {
			t.Fatal(c.log.WriteState())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := c.work(newRand(4), 5); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	mustClose(t, mustLed(t, led, opt))
}

// TestUnreadableFirstHeader: a segment lies on two of four directories; one is absent and the other gives EIO for it. That
// is no proof that it is empty.
func TestUnreadableFirstHeader(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 1, 1, 4)
	c := mustLed(t, led, opt)
	if err := c.mutate(newRand(1), 10, nil); err != nil {
		t.Fatal(err)
	}
	crashed := mem.Clone()
	c.log.Close(t.Context())
	var holders []string
	for _, d := range opt.Dirs {
		if len(crashed.Files(d+"/segments")) > 0 {
			holders = append(holders, d)
		}
	}
	if len(holders) != 2 {
		t.Fatalf("the segment is on %v", holders)
	}
	crashed.RemoveAll(holders[0])
	crashed.FailPath(holders[1]+"/segments", syscall.EIO, faultfs.Read)
	opt.FS = crashed
	l, err := erasure.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	if vs, err := l.Recover(t.Context()); err != nil || len(vs) > 0 {
		t.Fatalf("verdicts %v, %v", vs, err)
	}
	if err := l.WriteState(); !errors.Is(err, erasure.ErrReadOnly) {
		t.Fatal(err)
	}
}

// TestReplacedShardFile removes, and replaces, the file of an open segment: writes and fsyncs to the old one succeed, and are not believed.
func TestReplacedShardFile(t *testing.T) {
	for _, replace := range []bool{false, true} {
		led, mem := newLedger(), faultfs.New()
		c := mustLed(t, led, tiny(mem, 2, 1, 4))
		if err := c.mutate(newRand(1), 10, nil); err != nil {
			t.Fatal(err)
		}
		var victim string
		for _, d := range dirNames(4) {
			if files := mem.Files(d + "/segments"); len(files) > 0 {
				victim = d
				mem.RemoveAll(files[0])
				if replace {
					writeFile(t, mem, files[0], nil)
				}
				break
			}
		}
		if err := c.mutate(newRand(2), 10, nil); err != nil {
			t.Fatal(err)
		}
		for _, d := range c.log.Dirs() {
			if (d.Path == victim) != (d.State == "offline") {
				t.Fatalf("%s is %s", d.Path, d.State)
			}
		}
		if len(c.verdicts) != 1 {
			t.Fatalf("verdicts %v", c.verdicts)
		}
		mustClose(t, c)
	}
}
