package erasure

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// TestReadersFollowMovedShards moves a shard file to and fro under readers: every read is right, and no file stays open that is gone.
func TestReadersFollowMovedShards(t *testing.T) {
	dirs := testDirs(t, 8)
	opt := small(dirs)
	opt.Create = &Creation{K: 1, M: 1}
	l := mustOpen(t, opt)
	mustRecover(t, l)
	body := randomBody(rand.New(rand.NewPCG(1, 1)), 9<<10)
	h, err := l.Append(t.Context(), Record{Kind: 1, Label: []byte("x"), Body: body}, Data, TierUpload)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	loc, _ := h.Location()
	l = mustOpen(t, opt)
	defer l.Close(t.Context())
	s := l.lookup(loc.Segment())
	var spares []*dir // so many that none is used again while a reader still looks for the file there
	for _, d := range l.dirs() {
		if !s.holds(d) {
			spares = append(spares, d)
		}
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for !stop.Load() {
				if b, err := l.Read(t.Context(), loc, nil); err != nil || !bytes.Equal(b, body) {
					t.Errorf("read: %v", err)
					return
				}
			}
		})
	}
	for range 50 {
		from, spare := s.dirOf(0), spares[0]
		b, err := os.ReadFile(s.path(from, 0))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(spare, 0), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if !s.setDir(0, from, spare) || s.setDir(0, from, spare) {
			t.Fatal("setDir does not compare")
		}
		if err := os.Remove(s.path(from, 0)); err != nil {
			t.Fatal(err)
		}
		l.files.forget(fileKey{s.id, 0, from})
		spares = append(spares[1:], from)
	}
	stop.Store(true)
	wg.Wait()
	if got := l.TakeSuspects(); len(got) > 0 {
		t.Errorf("suspects %v: a file that moved is no damage", got)
	}
	l.files.mu.Lock()
	defer l.files.mu.Unlock()
	for key := range l.files.files {
		if key.shard == 0 && key.d != s.dirOf(0) {
			t.Errorf("the file in %s is still open", key.d.path)
		}
	}
}

func TestSubsets(t *testing.T) {
	for size, want := range [][][]int{{{}}, {{2}, {5}, {7}}, {{2, 5}, {2, 7}, {5, 7}}, {{2, 5, 7}}, {}} {
		got := slices.Collect(subsets([]int{2, 5, 7}, size))
		if !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("subsets of %d: %v, want %v", size, got, want)
		}
	}
}

// TestScrubOfRealFiles damages files of the operating system and repairs them.
func TestScrubOfRealFiles(t *testing.T) {
	dirs := testDirs(t, 4)
	opt := small(dirs)
	opt.SegmentBytes = 256 << 10
	l := mustOpen(t, opt)
	mustRecover(t, l)
	rng := rand.New(rand.NewPCG(1, 1))
	want := map[*Handle][]byte{}
	for range 40 {
		body := randomBody(rng, 40<<10)
		h, err := l.Append(t.Context(), Record{Kind: 1, Label: []byte("x"), Body: body}, Data, TierUpload)
		if err != nil {
			t.Fatal(err)
		}
		want[h] = body
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	locs := map[Location][]byte{}
	for h, body := range want {
		loc, _ := h.Location()
		locs[loc] = body
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	damageRealFiles(t, dirs)
	l = mustOpen(t, opt)
	mustRecover(t, l)
	scrub := func() (found []Finding, res ScrubResult) {
		for _, s := range l.Segments() {
			r, err := l.ScrubSegment(t.Context(), s.ID, ScrubOptions{Repair: true, Finding: func(f Finding) { found = append(found, f) }})
			if err != nil {
				t.Fatal(err)
			}
			res.FilesRebuilt += r.FilesRebuilt
			res.Records += r.Records
		}
		return found, res
	}
	found, res := scrub()
	if len(found) < 3 || res.FilesRebuilt == 0 || res.Records != int64(len(locs)) {
		t.Fatalf("%+v, %+v", res, found)
	}
	for _, f := range found {
		if !f.Repaired {
			t.Errorf("%+v", f)
		}
	}
	if found, _ = scrub(); len(found) > 0 {
		t.Errorf("the second scrub finds %+v", found)
	}
	for loc, body := range locs {
		if b, err := l.Read(t.Context(), loc, nil); err != nil || !slices.Equal(b, body) {
			t.Fatal(err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// damageRealFiles removes the shard files of one directory and changes the others in another one, in turn.
func damageRealFiles(t *testing.T, dirs []string) {
	t.Helper()
	files := func(d string) []string {
		paths, err := filepath.Glob(filepath.Join(d, segmentsFolder, "*"))
		if err != nil || len(paths) < 2 {
			t.Fatal(paths, err)
		}
		return paths
	}
	for i, path := range files(dirs[1]) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0:
			err = os.Remove(path)
		case 1:
			b[300] ^= 1
			err = os.WriteFile(path, b, 0o600)
		case 2:
			err = os.Truncate(path, int64(len(b))/2)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
