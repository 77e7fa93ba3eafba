package cas

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/casd/casd/erasure/faultfs"
	"github.com/casd/casd/index"
)

// loseSegment removes the files of a segment from the first directories.
func loseSegment(t testing.TB, disk *faultfs.FS, paths []string, id uint64) (removed int) {
	t.Helper()
	for _, p := range paths {
		names, err := disk.ReadDir(filepath.Join(p, "segments"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if bytes.HasPrefix([]byte(name), fmt.Appendf(nil, "%016x.", id)) {
				if err := disk.Remove(filepath.Join(p, "segments", name)); err != nil {
					t.Fatal(err)
				}
				removed++
			}
		}
	}
	return removed
}

// Snapshots that are lost cover nothing: mutations do not go for their sake, and new ones are written before the index is the only place that
// knows what was in them.
func TestLostSnapshotsCoverNothing(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	o := Options{Dirs: paths, FS: disk, IndexDir: t.TempDir(), CacheBytes: 1}
	s := gcStore(t, o)
	mustBucket(t, s, "b")
	mustPut(t, s, "b", "stays", noise(1, 2000))
	if err := s.update(t.Context(), nil, func(index.Reader) (*tx, error) { // a catalog for which new snapshots are not worth their while
		t := &tx{}
		for i := range 200 {
			t.put(index.Meta, fmt.Appendf(nil, "row/%03d", i), i)
		}
		return t, nil
	}); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		mustPut(t, s, "b", fmt.Sprint("later", i), noise(uint64(10+i), 1<<20))
		mustPut(t, s, "b", fmt.Sprint("gone", i), noise(uint64(20+i), 3<<20))
	}
	deleteAll := func(prefix string) {
		var deletes []DeleteRequest
		for i := range 6 {
			deletes = append(deletes, DeleteRequest{Key: fmt.Sprint(prefix, i)})
		}
		if _, err := s.DeleteMany(t.Context(), "b", deletes); err != nil {
			t.Fatal(err)
		}
	}
	deleteAll("gone")
	if r := mustGC(t, s, GCRequest{}); r.Snapshots != snapshotsKept || r.Dropped == 0 {
		t.Fatalf("the first cycle: %+v", r)
	}
	rows, err := s.snapshots()
	if err != nil {
		t.Fatal(err)
	}
	deleteAll("later") // what goes now lies before both snapshots
	closeStore(t, s)
	for _, row := range rows {
		if loseSegment(t, disk, paths[:2], row.Segment) != 2 {
			t.Fatal("no snapshot was lost: the test shows nothing")
		}
	}
	s = gcStore(t, o)
	mustGC(t, s, GCRequest{})
	mustHave(t, s, "b", "stays", noise(1, 2000))
	closeStore(t, s)
	if err := os.Remove(filepath.Join(o.IndexDir, "catalog.bolt")); err != nil {
		t.Fatal(err)
	}
	s = gcStore(t, o)
	if err := s.complete(); err != nil {
		t.Fatalf("after the index was lost too: %v", err)
	}
	mustHave(t, s, "b", "stays", noise(1, 2000))
	if st := stats(t, s); st.Objects != 1 {
		t.Errorf("%d objects", st.Objects)
	}
}
