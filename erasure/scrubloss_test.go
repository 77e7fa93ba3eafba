package erasure_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// TestScrubReportsLoss damages the first stripe of a segment in m+1 shards: it is lost with its records, in all ways nothing is
// changed there, and what is damaged elsewhere is repaired.
func TestScrubReportsLoss(t *testing.T) {
	for _, off := range []int64{60, 256 + 5} { // header, data
		led, mem, opt := filledStore(t, 3, 2, 5, 8)
		want := shardFiles(t, mem, 5)
		c := mustLed(t, led, opt)
		mine, _ := victim(t, want, c)
		for _, path := range mine[1:4] {
			mem.FlipBit(path, off)
		}
		mem.FlipBit(mine[0], secondStripe(want[mine[0]])+256) // of the second stripe
		before := shardFiles(t, mem, 5)
		found, sum := scrubAll(t, c, true)
		var labels []string
		lost, repaired := 0, 0
		for _, f := range found {
			if f.Lost {
				lost++
				for _, p := range f.Records {
					labels = append(labels, string(p.Label))
				}
				if f.Kind != erasure.FindingLostStripe || f.Repaired || f.Shard != -1 || f.Stripe != 0 {
					t.Errorf("%+v", f)
				}
			}
			if f.Repaired {
				repaired++
			}
		}
		if lost != 1 || repaired != 1 || sum.StripesLost != 1 || sum.ShardsBad != 4 || sum.ShardsRepaired != 1 || len(found) != 5 {
			t.Errorf("%d lost, %d repaired, %+v %+v", lost, repaired, sum, found)
		}
		unread := 0
		for label, loc := range c.locations {
			switch _, err := c.log.Read(t.Context(), loc, nil); {
			case errors.Is(err, erasure.ErrCorrupt):
				unread++
				if !slices.Contains(labels, label) {
					t.Errorf("%s cannot be read and is not reported", label)
				}
			case err != nil:
				t.Error(err)
			}
		}
		if len(labels) == 0 {
			t.Errorf("%d records reported, %d unreadable", len(labels), unread)
		}
		after := shardFiles(t, mem, 5)
		before[mine[0]] = want[mine[0]]
		for path, b := range before {
			if after[path] != b {
				t.Errorf("%s was changed", path)
			}
		}
		mustClose(t, c)
	}
}

// TestScrubOfTooManyLostFiles removes m+1 shard files, and then all but one of a directory's worth of directories.
func TestScrubOfTooManyLostFiles(t *testing.T) {
	led, mem, opt := filledStore(t, 3, 2, 5, 8)
	want := shardFiles(t, mem, 5)
	c := mustLed(t, led, opt)
	mine, _ := victim(t, want, c)
	mustCloseUnwritten(t, c, mem, want)
	for _, path := range mine[:3] {
		mem.RemoveAll(path)
	}
	l, err := erasure.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	id := segmentOf(mine[0])
	lost, files := 0, 0
	res, err := l.ScrubSegment(t.Context(), id, erasure.ScrubOptions{Repair: true, Finding: func(f erasure.Finding) {
		if f.Repaired {
			t.Errorf("%+v", f)
		}
		if f.Lost {
			lost++
		}
		if f.Kind == erasure.FindingMissingFile {
			files++
		}
	}})
	if err != nil || files != 3 || lost < 2 || res.FilesRebuilt != 0 || res.Records != 0 {
		t.Errorf("%d lost, %d files, %+v, %v", lost, files, res, err)
	}
	if ids := l.Damaged(); slices.Contains(ids, id) {
		t.Errorf("%v can be healed?", ids)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// While a directory is away nothing is beyond repair.
	for _, path := range mine[3:] {
		mem.RemoveAll(path)
	}
	opt.Dirs = opt.Dirs[:2]
	if l, err = erasure.Open(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	for _, s := range l.Segments() {
		if _, err := l.ScrubSegment(t.Context(), s.ID, erasure.ScrubOptions{Repair: true, Finding: func(f erasure.Finding) {
			if f.Lost || f.Repaired {
				t.Errorf("%+v", f)
			}
		}}); err != nil && !errors.Is(err, erasure.ErrUnavailable) {
			t.Error(err)
		}
	}
	l.Close(context.Background())
}

func segmentOf(path string) (id erasure.SegmentID) {
	if _, err := fmt.Sscanf(filepath.Base(path)[:16], "%016x", (*uint64)(&id)); err != nil {
		panic(err)
	}
	return id
}

// TestScrubFindsForgery makes a shard that verifies by itself and does not fit the others, each in turn, and then two.
func TestScrubFindsForgery(t *testing.T) {
	for shard := range 5 {
		for count := 1; count <= 2; count++ {
			led, mem, opt := filledStore(t, 3, 2, 5, 8)
			want := shardFiles(t, mem, 5)
			c := mustLed(t, led, opt)
			mine, _ := victim(t, want, c)
			for i := range count {
				path := mine[(shard+i)%5]
				mem.Poke(path, 0, erasure.ForgeShard, int(secondStripe(want[path])))
			}
			found, sum := scrubAll(t, c, true)
			checkFindings(t, "forgery", found, erasure.FindingParity, count, true)
			if sum.ShardsRepaired != int64(count) {
				t.Errorf("%+v", sum)
			}
			if found, _ = scrubAll(t, c, false); len(found) > 0 {
				t.Errorf("%+v", found)
			}
			for path, b := range want {
				if content(t, mem, path) != b {
					t.Errorf("%s is not as it was", path)
				}
			}
			mustClose(t, c)
		}
	}
}

// TestScrubRepairsRot does random damage in up to m directories and repairs all of it.
func TestScrubRepairsRot(t *testing.T) {
	led, origin, opt := filledStore(t, 3, 2, 5, 6)
	want := shardFiles(t, origin, 5)
	rapid.Check(t, func(rt *rapid.T) {
		mem := origin.Clone()
		opt.FS = mem
		c := mustLed(t, led.clone(), opt)
		defer c.log.Close(context.Background())
		bad := rapid.SliceOfNDistinct(rapid.IntRange(0, 4), 1, 2, rapid.ID).Draw(rt, "directories")
		for _, d := range bad {
			var files []string
			for path := range want {
				if strings.HasPrefix(path, fmt.Sprintf("/d%d/", d)) {
					files = append(files, path)
				}
			}
			slices.Sort(files)
			for range rapid.IntRange(1, 20).Draw(rt, "damages") {
				rot(rt, mem, rapid.SampledFrom(files).Draw(rt, "file"))
			}
		}
		found, _ := scrubAll(t, c, true)
		for _, f := range found {
			if !f.Repaired {
				rt.Errorf("%+v", f)
			}
		}
		if found, _ = scrubAll(t, c, true); len(found) > 0 {
			rt.Errorf("the second scrub finds %+v", found)
		}
		for path, b := range want {
			if content(t, mem, path) != b {
				rt.Errorf("%s is not as it was", path)
			}
		}
	})
}

func rot(rt *rapid.T, mem *faultfs.FS, file string) {
	info, err := mem.Stat(file)
	if err != nil || info.Size == 0 {
		return
	}
	off := rapid.Int64Range(0, info.Size-1).Draw(rt, "offset")
	switch rapid.IntRange(0, 9).Draw(rt, "kind") {
	case 0:
		mem.Cut(file, off)
	case 1:
		mem.RemoveAll(file)
	case 2:
		mem.Poke(file, off/512*512, func(b []byte) { clear(b) }, int(min(512, info.Size-off/512*512)))
	case 3: // misdirected
		var b []byte
		n := int(min(4096, info.Size-off/4096*4096))
		mem.Poke(file, off/4096*4096, func(from []byte) { b = slices.Clone(from) }, n)
		to := rapid.Int64Range(0, (info.Size-int64(n))/4096).Draw(rt, "to") * 4096
		mem.Poke(file, to, func(at []byte) { copy(at, b) }, n)
	default:
		mem.FlipBit(file, off)
	}
}
