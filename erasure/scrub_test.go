package erasure_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// scrubAll scrubs every segment.
func scrubAll(t tester, c *client, repair bool) (found []erasure.Finding, sum erasure.ScrubResult) {
	t.Helper()
	for _, s := range c.log.Segments() {
		last := -1
		records := int64(0)
		res, err := c.log.ScrubSegment(context.Background(), s.ID, erasure.ScrubOptions{Repair: repair,
			Finding: func(f erasure.Finding) { found = append(found, f) },
			Record: func(p erasure.Placed, body []byte) error {
				records++
				if p.Location.Segment() != s.ID || int(p.Location.Ordinal()) <= last || p.Location.BodyBytes() != len(body) {
					t.Errorf("record %x of segment %d after ordinal %d", p.Location, s.ID, last)
				}
				last = int(p.Location.Ordinal())
				if want, ok := c.sent[string(p.Label)]; ok && !bytes.Equal(body, want) {
					t.Errorf("record %s has another body", p.Label)
				}
				return nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		if records != res.Records {
			t.Errorf("%d records were handed over, %d counted", records, res.Records)
		}
		sum.Stripes += res.Stripes
		sum.Records += res.Records
		sum.ShardsBad += res.ShardsBad
		sum.ShardsRepaired += res.ShardsRepaired
		sum.StripesLost += res.StripesLost
		sum.FilesRebuilt += res.FilesRebuilt
	}
	return found, sum
}

// shardFiles returns the shard files in full, by path.
func shardFiles(t testing.TB, fs erasure.FS, dirs int) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, d := range dirNames(dirs) {
		names, err := fs.ReadDir(d + "/segments")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			files[d+"/segments/"+name] = content(t, fs, d+"/segments/"+name)
		}
	}
	return files
}

func content(t testing.TB, fs erasure.FS, path string) string {
	t.Helper()
	f, err := fs.OpenFile(path, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, fi.Size)
	if n, _ := f.ReadAt(b, 0); int64(n) != fi.Size {
		t.Fatalf("%s: %d of %d bytes", path, n, fi.Size)
	}
	return string(b)
}

func sameFiles(t testing.TB, got, want map[string]string) {
	t.Helper()
	for path, b := range want {
		if got[path] != b {
			t.Errorf("%s has %d bytes and differs from what it was with %d", path, len(got[path]), len(b))
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s is new", path)
		}
	}
}

func overwrite(mem *faultfs.FS, path, with string) {
	mem.Poke(path, 0, func(b []byte) { copy(b, with) }, len(with))
}

// damages are what can happen to a shard file of a sealed segment that has at least two stripes, and how it is called.
var damages = []struct {
	name, kind string
	do         func(mem *faultfs.FS, path, whole, other string)
}{
	{"flip in a header", erasure.FindingHeader, func(mem *faultfs.FS, path, _, _ string) { mem.FlipBit(path, 60) }},
	{"flip in data", erasure.FindingChecksum, func(mem *faultfs.FS, path, _, _ string) { mem.FlipBit(path, 256+5) }},
	{"flip in padding", erasure.FindingChecksum, func(mem *faultfs.FS, path, whole, _ string) { mem.FlipBit(path, secondStripe(whole)-1) }},
	{"flip in a directory stripe", erasure.FindingChecksum, func(mem *faultfs.FS, path, whole, _ string) { mem.FlipBit(path, int64(len(whole))-2*4096+257) }},
	{"flip in the footer", erasure.FindingFooter, func(mem *faultfs.FS, path, whole, _ string) { mem.FlipBit(path, int64(len(whole))-4096+90) }},
	{"cut in the middle", erasure.FindingShortFile, func(mem *faultfs.FS, path, whole, _ string) { mem.Cut(path, int64(len(whole))/2-100) }},
	{"cut in the footer", erasure.FindingShortFile, func(mem *faultfs.FS, path, whole, _ string) { mem.Cut(path, int64(len(whole))-200) }},
	{"cut to nothing", erasure.FindingShortFile, func(mem *faultfs.FS, path, _, _ string) { mem.Cut(path, 0) }},
	{"longer", erasure.FindingFooter, func(mem *faultfs.FS, path, whole, _ string) {
		f, err := mem.OpenFile(path, os.O_RDWR)
		if err == nil {
			_, err = f.WriteAt([]byte("more"), int64(len(whole)))
		}
		if err != nil || f.Sync() != nil || f.Close() != nil {
			panic("cannot grow " + path)
		}
	}},
	{"removed", erasure.FindingMissingFile, func(mem *faultfs.FS, path, _, _ string) { mem.RemoveAll(path) }},
	{"zeroed sector", erasure.FindingHeader, func(mem *faultfs.FS, path, _, _ string) { mem.Poke(path, 0, func(b []byte) { clear(b) }, 512) }},
	{"shard of another stripe", erasure.FindingIdentity, func(mem *faultfs.FS, path, whole, _ string) {
		overwrite(mem, path, whole[secondStripe(whole):][:4096])
	}},
	{"file of another segment", erasure.FindingIdentity, func(mem *faultfs.FS, path, whole, other string) {
		mem.Cut(path, int64(len(other)))
		overwrite(mem, path, other[:min(len(other), len(whole))])
	}},
	{"all zero", erasure.FindingHeader, func(mem *faultfs.FS, path, whole, _ string) {
		overwrite(mem, path, strings.Repeat("\x00", len(whole)))
	}},
}

// secondStripe is where the second header in a shard file stands.
func secondStripe(file string) int64 {
	for off := 4096; off < len(file); off += 4096 {
		if strings.HasPrefix(file[off:], "casdshrd") {
			return int64(off)
		}
	}
	panic("one stripe only")
}

// victim returns the shard files of the first sealed segment with two stripes, and those of another one.
func victim(t testing.TB, files map[string]string, c *client) (mine, other []string) {
	t.Helper()
	var segs []erasure.SegmentInfo
	for _, s := range c.log.Segments() {
		if s.Sealed && s.Stripes > 1 {
			segs = append(segs, s)
		}
	}
	if len(segs) < 2 {
		t.Fatal("too few segments")
	}
	pick := func(id erasure.SegmentID) (paths []string) {
		for path := range files {
			if strings.HasPrefix(filepath.Base(path), fmt.Sprintf("%016x.", uint64(id))) {
				paths = append(paths, path)
			}
		}
		slices.SortFunc(paths, func(a, b string) int { return cmp.Compare(filepath.Base(a), filepath.Base(b)) })
		return paths
	}
	return pick(segs[0].ID), pick(segs[1].ID)
}

// TestScrubFindsAndRepairs does each damage to up to m shard files of a segment, while the log is open and while it is not:
// it is found and called by its name, repaired to the bytes that were, and then no more is found.
func TestScrubFindsAndRepairs(t *testing.T) {
	led, origin, opt := filledStore(t, 3, 2, 5, 8)
	want := shardFiles(t, origin, 5)
	for _, dmg := range damages {
		for shard := range 5 {
			for _, count := range []int{1, 2} {
				for _, live := range []bool{false, true} {
					if (shard+count)%2 == 0 && live {
						continue // half of them will do
					}
					name := fmt.Sprintf("%s, %d from shard %d, open %v", dmg.name, count, shard, live)
					mem := origin.Clone()
					opt.FS = mem
					c := mustLed(t, led.clone(), opt)
					mine, other := victim(t, want, c)
					if !live {
						mustCloseUnwritten(t, c, mem, want)
					}
					for i := range count {
						path := mine[(shard+i)%5]
						dmg.do(mem, path, want[path], want[other[(shard+i)%5]])
					}
					before := shardFiles(t, mem, 5)
					if !live {
						c = mustLed(t, led.clone(), opt)
					}
					found, _ := scrubAll(t, c, false)
					checkFindings(t, name, found, dmg.kind, count, false)
					kept := shardFiles(t, mem, 5)
					for path, b := range before {
						if kept[path] != b {
							t.Errorf("%s: a scrub without repair changed %s", name, path)
						}
					}
					found, sum := scrubAll(t, c, true)
					checkFindings(t, name, found, dmg.kind, count, true)
					if sum.StripesLost != 0 || dmg.kind == erasure.FindingMissingFile && sum.FilesRebuilt != int64(count) {
						t.Errorf("%s: %+v", name, sum)
					}
					if found, sum = scrubAll(t, c, true); len(found) > 0 || sum.ShardsBad > 0 {
						t.Errorf("%s: the second scrub finds %+v", name, found)
					}
					after := shardFiles(t, mem, 5)
					for path, b := range want {
						if after[path] != b {
							t.Errorf("%s: %s is not as it was", name, path)
						}
					}
					if err := c.check(t); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					if len(c.log.Damaged()) > 0 {
						t.Errorf("%s: still damaged: %v", name, c.log.Damaged())
					}
					mustClose(t, c)
					if t.Failed() {
						t.Fatal(name)
					}
				}
			}
		}
	}
}

// mustCloseUnwritten closes a log and takes what it wrote away.
func mustCloseUnwritten(t testing.TB, c *client, mem *faultfs.FS, want map[string]string) {
	t.Helper()
	mustClose(t, c)
	for path := range shardFiles(t, mem, 5) {
		if _, ok := want[path]; !ok {
			mem.RemoveAll(path)
		}
	}
}

func checkFindings(t testing.TB, name string, found []erasure.Finding, kind string, count int, repaired bool) {
	t.Helper()
	hit := map[string]bool{}
	for _, f := range found {
		if f.Lost || f.Repaired != repaired || f.File == "" {
			t.Errorf("%s: %+v", name, f)
		}
		if f.Kind == kind {
			hit[f.File] = true
		}
	}
	if len(hit) != count {
		t.Errorf("%s: findings of kind %s in %d files, want %d: %+v", name, kind, len(hit), count, found)
	}
}
