package cas

import (
	"errors"
	"fmt"
	"testing"
)

// The disk is full of segments that are mostly garbage, and there is room for copies of only some of what lives in them: a cycle of GC drops what it
// has copied, and goes on with the room that this gives.
func TestGCOnFullDisk(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	for _, p := range paths {
		disk.Limit(p, 40<<20)
	}
	o := Options{Dirs: paths, K: 2, M: 1, FS: disk, IndexDir: t.TempDir(), SegmentBytes: 4 << 20, byHand: true}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	bodies := map[string][]byte{}
	for i := 0; ; i++ {
		key, body := fmt.Sprintf("k%03d", i), noise(uint64(i), 1<<20)
		if _, err := putBytes(t.Context(), s, "b", key, body, nil); errors.Is(err, ErrNoSpace) {
			break
		} else if err != nil || i == 1000 {
			t.Fatalf("put %d: %v", i, err)
		}
		bodies[key] = body
	}
	full := len(bodies)
	for i := range full {
		key := fmt.Sprintf("k%03d", i)
		if i%3 == 0 {
			continue
		}
		if _, err := s.Delete(t.Context(), "b", key, nil); err != nil {
			t.Fatalf("delete: %v", err)
		}
		delete(bodies, key)
	}
	r, err := s.GC(t.Context(), GCRequest{})
	if err != nil || r.ReclaimedBytes < r.StoredBytes/2 {
		t.Fatalf("%d objects; %+v, %v", full, r, err)
	}
	for key, want := range bodies {
		mustHave(t, s, "b", key, want)
	}
	for i := range full / 2 {
		mustPut(t, s, "b", fmt.Sprintf("new%03d", i), noise(uint64(5000+i), 1<<20))
	}
}
