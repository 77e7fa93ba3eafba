package erasure_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
)

// A diskFS is a file system on a disk that loses writes when told to, and notes reads that the page cache may have answered.
type diskFS struct {
	*faultfs.FS
	mu     sync.Mutex
	lose   string // prefix of paths to which nothing is written; "" none
	watch  bool
	cached []string // reads of shard files without a Drop of that range before
}

type diskFile struct {
	erasure.File
	fs      *diskFS
	path    string
	dropped map[[2]int64]bool
}

// OpenFile implements erasure.FS.
func (d *diskFS) OpenFile(path string, flag int) (erasure.File, error) {
	f, err := d.FS.OpenFile(path, flag)
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, fs: d, path: path, dropped: map[[2]int64]bool{}}, nil
}

func (f *diskFile) WriteAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	lose := f.fs.lose != "" && strings.HasPrefix(f.path, f.fs.lose)
	f.fs.mu.Unlock()
	if lose {
		return len(b), nil
	}
	return f.File.WriteAt(b, off)
}

func (f *diskFile) Drop(off, n int64) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.dropped[[2]int64{off, n}] = true
}

func (f *diskFile) ReadAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	key := [2]int64{off, int64(len(b))}
	if f.fs.watch && !f.dropped[key] && strings.Contains(f.path, "/segments/") {
		f.fs.cached = append(f.fs.cached, f.path)
	}
	delete(f.dropped, key)
	f.fs.mu.Unlock()
	return f.File.ReadAt(b, off)
}

// TestLostWriteIsNoRepair repairs on a disk that says that it wrote and did not.
func TestLostWriteIsNoRepair(t *testing.T) {
	led, mem, opt, want := damagedStore(t)
	disk := &diskFS{FS: mem}
	opt.FS = disk
	c := mustLed(t, led, opt)
	disk.lose = "/d1/"
	found, _ := scrubAll(t, c, true)
	for _, f := range found {
		if f.Lost || f.Repaired != (f.Dir != "/d1") {
			t.Errorf("%+v", f)
		}
	}
	if len(found) == 0 {
		t.Error("nothing was found")
	}
	disk.mu.Lock()
	disk.lose = ""
	disk.mu.Unlock()
	scrubAll(t, c, true)
	if found, _ := scrubAll(t, c, true); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	for path, b := range want {
		if content(t, mem, path) != b {
			t.Errorf("%s is not as it was", path)
		}
	}
	mustClose(t, c)
}

// TestScrubReadsTheDisk makes sure that no shard is judged by the page cache. What finds the stripes may be cached: four reads a
// directory stripe and shard at most.
func TestScrubReadsTheDisk(t *testing.T) {
	led, mem, opt := filledStore(t, 3, 2, 5, 8)
	disk := &diskFS{FS: mem}
	opt.FS = disk
	c := mustLed(t, led, opt)
	for _, s := range c.log.Segments() {
		if !s.Sealed || s.Stripes < 2 {
			continue
		}
		disk.watch, disk.cached = true, nil
		res, err := c.log.ScrubSegment(t.Context(), s.ID, erasure.ScrubOptions{})
		disk.watch = false
		if err != nil {
			t.Fatal(err)
		}
		directories := res.Stripes - int64(s.Stripes)
		if n := int64(len(disk.cached)); n > 4*directories*5 {
			t.Errorf("%d cached reads for %d stripes, %d of them directory stripes", n, res.Stripes, directories)
		}
	}
	mustClose(t, c)
}

// TestScrubTellsGenerationsApart gives k shards of a stripe, which agree with each other, another sequence than the directory of
// the segment has, and puts the shard of one file into another.
func TestScrubTellsGenerationsApart(t *testing.T) {
	led, mem, opt := filledStore(t, 3, 2, 5, 8)
	want := shardFiles(t, mem, 5)
	c := mustLed(t, led, opt)
	mine, _ := victim(t, want, c)
	overwrite(mem, mine[4], want[mine[3]][:secondStripe(want[mine[3]])])
	found, _ := scrubAll(t, c, true)
	checkFindings(t, "shard of another file", found, erasure.FindingIdentity, 1, true)
	for _, path := range mine[:3] {
		mem.Poke(path, 0, erasure.RestampShard, 256)
	}
	stale, lost := 0, 0
	found, _ = scrubAll(t, c, true)
	for _, f := range found {
		switch {
		case f.Kind == erasure.FindingIdentity && !f.Repaired:
			stale++
		case f.Lost && len(f.Records) > 0:
			lost++
		default:
			t.Errorf("%+v", f)
		}
	}
	if stale != 3 || lost != 1 {
		t.Errorf("%+v", found)
	}
	c.log.Close(t.Context())
}
