package cas

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

// Clients name more than the queue holds while a cycle copies: it takes that in between, and comes to its end.
func TestGCOnBusyStore(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	s := gcStore(t, Options{Dirs: paths, FS: disk, IndexDir: t.TempDir(), CacheBytes: 1})
	mustBucket(t, s, "b")
	for i := range 8 {
		mustPut(t, s, "b", fmt.Sprint(i), noise(uint64(i), 700_000))
	}
	mustPut(t, s, "b", "hot", noise(90, 2000))
	for i := 0; i < 8; i += 2 {
		if _, err := s.Delete(t.Context(), "b", fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	o, err := s.Get(t.Context(), GetRequest{Bucket: "b", Key: "hot"})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	named := 0
	s.sabotage.at = func(where string) {
		if where == "copying" && named < 2*markQueueMax {
			for range markQueueMax / 2 {
				s.pins.cycle.name(&o.row)
				named++
			}
		}
	}
	if r := mustGC(t, s, GCRequest{}); r.Dropped == 0 || named <= markQueueMax {
		t.Errorf("%d names: %+v", named, r)
	}
	for i := 1; i < 8; i += 2 {
		mustHave(t, s, "b", fmt.Sprint(i), noise(uint64(i), 700_000))
	}
}

// A countedMap counts the look-ups of one chunk, and does something at each of them.
type countedMap struct {
	chunkMap
	id index.ID
	at func()
	n  atomic.Int64
}

func (c *countedMap) LookupChunk(id index.ID) (index.Chunk, bool, error) {
	if id == c.id {
		c.n.Add(1)
		c.at()
	}
	return c.chunkMap.LookupChunk(id)
}

// bigManifest returns the root of a manifest that names one chunk many times, in several list chunks.
func bigManifest(t testing.TB, s *Store) (root []byte, chunk index.ID, refs int) {
	t.Helper()
	u := s.newUpload()
	defer u.end()
	chunk, err := u.storeChunk(kindChunk, erasure.Metadata, noise(1, 5000))
	if err != nil {
		t.Fatal(err)
	}
	m := u.newManifest()
	const lists = 4
	for range lists * nodeRefsMax {
		if err := m.add(ref{kind: refChunk, size: 5000, id: chunk}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if root, err = m.root(); err != nil {
		t.Fatal(err)
	}
	if err := s.log.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return root, chunk, lists * nodeRefsMax
}

// Marking a large manifest takes its time. What clients name meanwhile does not wait for its end.
func TestMarkingTakesTurns(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	s := gcStore(t, Options{Dirs: paths, FS: disk, IndexDir: t.TempDir()})
	root, chunk, refs := bigManifest(t, s)
	other := s.newUpload()
	defer other.end()
	id, err := other.storeChunk(kindChunk, erasure.Metadata, noise(2, 5000))
	if err != nil {
		t.Fatal(err)
	}
	m := newMarking(s, nil)
	small := named{root: appendNode(nil, 0, []ref{{kind: refChunk, size: 5000, id: id}})}
	s.chunks = &countedMap{chunkMap: s.chunks, id: chunk, at: func() {
		for range 2 * markQueueMax / refs {
			m.enqueue(small)
		}
	}}
	if err := m.mark(t.Context(), named{root: root}); err != nil {
		t.Fatal(err)
	}
	if err := m.drain(t.Context()); err != nil {
		t.Errorf("after %d names: %v", 2*markQueueMax, err)
	}
}

// Whoever reads a large object in ranges names it each time. It is marked once, also when it came after the cycle began.
func TestLargeManifestIsMarkedOnce(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	s := gcStore(t, Options{Dirs: paths, FS: disk, IndexDir: t.TempDir()})
	root, chunk, refs := bigManifest(t, s)
	counted := &countedMap{chunkMap: s.chunks, id: chunk, at: func() {}}
	s.chunks = counted
	m := newMarking(s, nil)
	for range 5 {
		for range 10 {
			m.name(&versionRow{Content: content{Root: root}})
		}
		if err := m.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := counted.n.Load(); n > markNestMax*int64(refs) {
		t.Errorf("%d look-ups for %d references", n, refs)
	}
	m.name(&versionRow{Content: content{Root: root}, PartTable: chunk[:]})
	if m.idle() {
		t.Error("the part table was not queued")
	}
}
