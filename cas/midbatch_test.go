package cas

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/casd/casd/erasure/faultfs"
	"github.com/casd/casd/index"
)

// An fsync fails while many clients write: all of them are answered with success, a verdict ends the segments, and what was in hand is written
// again under the CSNs that it had, so that after a power loss every CSN is there once.
func TestSyncFailsInMidBatch(t *testing.T) {
	disk, paths := faultDisk(t, 4)
	o := Options{Dirs: paths, K: 2, M: 1, FS: disk, IndexDir: t.TempDir()}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	verdicts := func() (n int) {
		err := s.view(func(v *index.View) error {
			it := v.Iter(index.Verdicts, nil, nil)
			defer it.Close()
			for it.Next() {
				n++
			}
			return it.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	var first []string // where the open metadata segment lies
	for _, p := range paths {
		if len(disk.Files(p+"/segments")) > 0 {
			first = append(first, p)
		}
	}
	mustPut(t, s, "b", "before", noise(1, 1000))
	disk.FailOnce(first[0]+"/segments", syscall.EIO, faultfs.Sync)
	const clients, each = 8, 6
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range each {
				size := []int{100, 5000, 200_000}[i%3]
				if _, err := putBytes(t.Context(), s, "b", fmt.Sprintf("%d/%d", c, i), noise(uint64(c*each+i), size), nil); err != nil {
					t.Errorf("client %d: %v", c, err)
				}
			}
		})
	}
	wg.Wait()
	if verdicts() == 0 {
		t.Error("there is no verdict")
	}
	after := disk.CrashClone(rand.New(rand.NewPCG(*matrixSeed, 3)))
	_ = s.Close(t.Context()) // the old disk counts no more
	o.FS, o.IndexDir = after, t.TempDir()
	s = openStore(t, o)
	var keys []string
	l, err := s.List(t.Context(), ListRequest{Bucket: "b", Max: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range l.Items {
		keys = append(keys, it.Object.Key)
	}
	if slices.Sort(keys); len(slices.Compact(keys)) != clients*each+1 || len(keys) != clients*each+1 {
		t.Errorf("%d objects are listed", len(keys))
	}
	for c := range clients {
		for i := range each {
			mustHave(t, s, "b", fmt.Sprintf("%d/%d", c, i), noise(uint64(c*each+i), []int{100, 5000, 200_000}[i%3]))
		}
	}
	if st := stats(t, s); st.Objects != clients*each+1 {
		t.Errorf("%d objects are counted", st.Objects)
	}
}
