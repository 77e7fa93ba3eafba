package erasure

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// TestCloneCopiesEveryField makes sure that a field which is added to segment is added to clone.
func TestCloneCopiesEveryField(t *testing.T) {
	s := &segment{id: 1, class: 2, known: true, k: 3, m: 4, nonce: id16{5}, files: make([]*dir, 6), open: true, sealed: true, ended: true,
		verdict: Verdict{Segment: 7}, surveyed: true, lost: 8, tail: 9, stripes: make([]stripeInfo, 10), tables: make([][]byte, 11), count: 12, records: 13,
		payload: 14, stored: 15, firstSeq: 16, lastSeq: 17, digest: id16{18}, dirBlock: 19, dirStripes: 20}
	want, got := reflect.ValueOf(s).Elem(), reflect.ValueOf(s.clone()).Elem()
	for i := range want.NumField() {
		name := want.Type().Field(i).Name
		if name == "mu" {
			continue
		}
		if want.Field(i).IsZero() {
			t.Errorf("field %s is not set in this test", name)
		}
		if a, b := want.Field(i), got.Field(i); a.Kind() == reflect.Slice && (a.Len() != b.Len() || a.Pointer() != b.Pointer()) || a.Kind() != reflect.Slice && !a.Equal(b) {
			t.Errorf("field %s is not copied", name)
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
		h, err := l.Append(t.Context(), Record{Kind: 1, Label: []byte("x"), Body: body}, Data)
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
