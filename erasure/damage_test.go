package erasure_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// TestRot flips bits and cuts files in up to m directories: all is read right, the metrics show it, and more damage is
// reported as corruption.
func TestRot(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		led, mem, opt := filledStore(t, 3, 2, 5, 6)
		reg := prometheus.NewRegistry()
		opt.Metrics = reg
		bad := rapid.SliceOfNDistinct(rapid.IntRange(0, 4), 2, 2, rapid.ID).Draw(rt, "directories")
		for _, d := range bad {
			files := mem.Files(fmt.Sprintf("/d%d/segments", d))
			for i := range rapid.IntRange(1, 60).Draw(rt, "damages") {
				file := files[i%len(files)]
				info, _ := mem.Stat(file)
				if info.Size == 0 {
					continue
				}
				off := rapid.Int64Range(0, info.Size-1).Draw(rt, "offset")
				switch rapid.IntRange(0, 9).Draw(rt, "kind") {
				case 0:
					mem.Cut(file, off)
				case 1:
					mem.Poke(file, off/4096*4096, func(b []byte) { clear(b) }, int(min(4096, info.Size-off/4096*4096)))
				default:
					mem.FlipBit(file, off)
				}
			}
		}
		c := mustLed(t, led, opt)
		defer c.log.Close(t.Context())
		if err := c.check(t); err != nil {
			rt.Fatal(err)
		}
	})
}

// TestBeyondRepair damages one record in more than m shards: it is corrupt, the rest is read, and the metrics count it.
func TestBeyondRepair(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 0)
	reg := prometheus.NewRegistry()
	opt.Metrics = reg
	c := mustLed(t, led, opt)
	label, h, err := c.append(newRand(1), 9000, erasure.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.mutate(newRand(2), 10, map[string]*erasure.Handle{label: h}); err != nil {
		t.Fatal(err)
	}
	loc, _ := h.Location()
	for i := range 2 {
		for _, f := range mem.Files(fmt.Sprintf("/d%d/segments", i)) {
			if strings.HasPrefix(filepath.Base(f), fmt.Sprintf("%016x", uint64(loc.Segment()))) {
				mem.FlipBit(f, 256+3000)
			}
		}
	}
	_, err = c.log.Read(t.Context(), loc, nil)
	var corrupt *erasure.CorruptError
	if !errors.As(err, &corrupt) || !errors.Is(err, erasure.ErrCorrupt) || corrupt.Segment != loc.Segment() || corrupt.Need != 2 || corrupt.Valid != 1 {
		t.Fatalf("read: %v", err)
	}
	delete(c.acked, label)
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
}

// TestDegradedReadIsCounted loses the shard of one record.
func TestDegradedReadIsCounted(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 5)
	opt.Metrics = prometheus.NewRegistry()
	mem.RemoveAll("/d1")
	c := mustLed(t, led, opt)
	defer mustClose(t, c)
	if err := c.check(t); err != nil {
		t.Fatal(err)
	}
	n := 0.0
	for _, name := range []string{"casd_log_degraded_reads_total", "casd_log_reconstructed_bytes_total"} {
		fams, err := opt.Metrics.(*prometheus.Registry).Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fams {
			if f.GetName() == name {
				n = f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		if n == 0 {
			t.Fatalf("%s is 0", name)
		}
	}
}

// TestDamageBelowTheMark destroys a stripe that was durable in more than m shards of an unsealed segment: what follows is
// kept, nothing is cut, and a directory that comes back with it makes all good.
func TestDamageBelowTheMark(t *testing.T) {
	led, mem := newLedger(), faultfs.New()
	opt := tiny(mem, 2, 1, 3)
	c := mustLed(t, led, opt)
	for range 4 {
		if err := c.mutate(newRand(1), 10, nil); err != nil {
			t.Fatal(err)
		}
	}
	crashed, whole := mem.Clone(), mem.Clone()
	c.log.Close(t.Context())
	for _, d := range []string{"/d0", "/d1"} {
		for _, f := range crashed.Files(d + "/segments") {
			crashed.FlipBit(f, 4096+20) // the header of stripe 1
		}
	}
	opt.FS = crashed
	open := func() (labels []string, vs []erasure.Verdict, err error) {
		l, e := erasure.Open(t.Context(), opt)
		if e != nil {
			t.Fatal(e)
		}
		defer l.Close(t.Context())
		err = l.Replay(t.Context(), 0, nil, func(r erasure.Replayed) error {
			labels = append(labels, string(r.Label))
			return nil
		})
		vs, e = l.Recover(t.Context())
		if e != nil {
			t.Fatal(e)
		}
		return labels, vs, err
	}
	labels, vs, err := open()
	if fmt.Sprint(labels) != "[m1 m3 m4]" || !errors.Is(err, erasure.ErrCorrupt) {
		t.Fatalf("%v %v", labels, err)
	}
	if len(vs) != 1 || vs[0].Stripes != 4 {
		t.Fatalf("verdicts %v", vs)
	}
	crashed.Graft(whole, "/d1")
	labels, again, err := open()
	if fmt.Sprint(labels) != "[m1 m2 m3 m4]" || err != nil {
		t.Fatalf("%v %v", labels, err)
	}
	if len(again) > 0 && again[0] != vs[0] {
		t.Fatalf("verdicts %v, before %v", again, vs)
	}
}

// TestDamagedDirectoryStripes destroys the directory stripes of sealed segments in more than m shards: the replay is the same.
func TestDamagedDirectoryStripes(t *testing.T) {
	led, mem, opt := filledStore(t, 2, 1, 3, 10)
	c := mustLed(t, led, opt)
	want := len(c.locations)
	mustClose(t, c)
	for _, d := range []string{"/d0", "/d1"} {
		for _, f := range mem.Files(d + "/segments") {
			info, err := mem.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			mem.FlipBit(f, info.Size-2*4096+300) // the shard before the footer
		}
	}
	l, err := erasure.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(t.Context())
	seen := map[string]bool{}
	if err := l.Replay(t.Context(), 0, nil, func(r erasure.Replayed) error {
		seen[string(r.Label)] = true
		return nil
	}); err != nil || len(seen) != want {
		t.Fatalf("%d of %d labels, %v", len(seen), want, err)
	}
}
