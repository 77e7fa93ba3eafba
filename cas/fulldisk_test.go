package cas

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
)

// TestUploadsFillTheDisk: uploads stop before the disk is full and leave nothing behind; what takes things away goes on; the store closes and
// opens; and a cycle of compaction makes room again.
func TestUploadsFillTheDisk(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	for _, p := range paths {
		disk.Limit(p, 24<<20)
	}
	o := Options{Dirs: paths, K: 2, M: 1, FS: disk, IndexDir: t.TempDir(), SegmentBytes: 4 << 20}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	u, err := s.CreateUpload(t.Context(), CreateUploadRequest{Bucket: "b", Key: "multi"})
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[string][]byte{}
	var last string
	for i := 0; ; i++ {
		if last = fmt.Sprintf("k%02d", i); i == 100 {
			t.Fatal("the disk is never full")
		}
		body := noise(uint64(i), 1<<20)
		if _, err = putBytes(t.Context(), s, "b", last, body, nil); err != nil {
			break
		}
		bodies[last] = body
	}
	if !errors.Is(err, ErrNoSpace) || len(bodies) < 5 {
		t.Fatalf("after %d objects: %v", len(bodies), err)
	}
	for _, p := range paths {
		if info, err := disk.Statfs(p); err != nil || info.Free < 24<<20/100*3 {
			t.Fatalf("%d bytes are free in %s: %v", info.Free, p, err)
		}
	}
	if err := s.WriteState(); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("WriteState = %v, want ErrNoSpace", err)
	}
	gone := func(key string) {
		t.Helper()
		if _, err := s.Stat(t.Context(), GetRequest{Bucket: "b", Key: key}); !errors.Is(err, ErrNoSuchKey) {
			t.Fatalf("%s: %v, want ErrNoSuchKey", key, err)
		}
	}
	gone(last)
	if deleted, err := s.Delete(t.Context(), "b", "k00", nil); err != nil || !deleted {
		t.Fatalf("delete: %v", err)
	}
	results, err := s.DeleteMany(t.Context(), "b", []DeleteRequest{{Key: "k01"}, {Key: "k02"}})
	if err != nil || results[0].Err != nil || results[1].Err != nil {
		t.Fatalf("delete many: %v %v", results, err)
	}
	if err := s.AbortUpload(t.Context(), "b", "multi", u.ID); err != nil {
		t.Fatalf("abort: %v", err)
	}
	for range 2 {
		for _, key := range []string{"k00", "k01", "k02", last} {
			gone(key)
			delete(bodies, key)
		}
		for key, body := range bodies {
			mustHave(t, s, "b", key, body)
		}
		closeStore(t, s)
		s = openStore(t, o)
	}
	for i := 100; ; i++ { // closing gave back what was preallocated
		key := fmt.Sprintf("k%d", i)
		body := noise(uint64(i), 1<<20)
		if _, err := putBytes(t.Context(), s, "b", key, body, nil); errors.Is(err, ErrNoSpace) {
			break
		} else if err != nil || i == 200 {
			t.Fatalf("after %d more objects: %v", i-100, err)
		}
		bodies[key] = body
	}
	keep := slices.Min(slices.Collect(maps.Keys(bodies)))
	for key := range bodies {
		if key == keep {
			continue
		}
		if _, err := s.Delete(t.Context(), "b", key, nil); err != nil {
			t.Fatal(err)
		}
	}
	rep, err := s.GC(t.Context(), GCRequest{})
	if err != nil || rep.Dropped == 0 {
		t.Fatalf("gc on a full disk: %+v, %v", rep, err)
	}
	if err := s.WriteState(); err != nil {
		t.Fatalf("after gc: %v", err)
	}
	mustHave(t, s, "b", keep, bodies[keep])
	mustPut(t, s, "b", last, noise(999, 4<<20))
	closeStore(t, s)
	s = openStore(t, o)
	mustHave(t, s, "b", keep, bodies[keep])
	mustHave(t, s, "b", last, noise(999, 4<<20))
	closeStore(t, s)
}
