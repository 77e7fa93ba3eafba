package cas

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	rtmetrics "runtime/metrics"
	"testing"
	"time"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/index"
)

var scaleChunks = flag.Int("scale.chunks", 50_000, "chunks of TestScale")

// heapPeak watches how far the heap grows over what it was.
type heapPeak struct {
	stop chan struct{}
	done chan uint64
}

// liveHeap is what the last collection found to be in use.
func liveHeap() uint64 {
	s := []rtmetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	rtmetrics.Read(s)
	return s[0].Value.Uint64()
}

func watchHeap() *heapPeak {
	runtime.GC()
	base := liveHeap()
	h := &heapPeak{make(chan struct{}), make(chan uint64)}
	go func() {
		var peak uint64
		for {
			select {
			case <-time.After(100 * time.Millisecond):
				runtime.GC()
				peak = max(peak, liveHeap())
			case <-h.stop:
				h.done <- max(peak, base) - base
				return
			}
		}
	}()
	return h
}

func (h *heapPeak) end() uint64 {
	close(h.stop)
	return <-h.done
}

// TestScale fills a store with many small chunks, half of which nothing names, and reports what a cycle, a start and a rebuild of the index cost. With
// -scale.chunks it does so at any size. Chunks go into the log directly: through Put they would take a terabyte.
func TestScale(t *testing.T) {
	if f := flag.Lookup("scale.chunks"); testing.Short() && f.Value.String() == f.DefValue {
		*scaleChunks = 5000
	}
	o := Options{Dirs: dirsOf(t, 6), IndexDir: t.TempDir(), GCThreshold: 0.25}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	mustBucket(t, s, "b")
	const perObject = 64
	began := time.Now()
	body := make([]byte, 16)
	var refs []ref
	var objects int
	var ops []txOp
	commit := func() {
		batch := ops
		ops = nil
		err := ErrBusy
		for errors.Is(err, ErrBusy) { // the index takes its time
			err = s.update(t.Context(), nil, func(index.Reader) (*tx, error) { return &tx{ops: batch}, nil })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range *scaleChunks {
		binary.BigEndian.PutUint64(body, uint64(i))
		id := s.domain.hash.id(body)
		label := appendChunkLabel(nil, chunkLabel{enc: encPlain, domain: defaultDomain, size: uint32(len(body)), id: id})
		if _, err := s.log.Append(t.Context(), erasure.Record{Kind: kindChunk, Label: label, Body: body}, erasure.Data, erasure.TierUpload); err != nil {
			t.Fatal(err)
		}
		if i/perObject%2 == 0 {
			refs = append(refs, ref{kind: refChunk, size: int64(len(body)), id: id})
		}
		if len(refs) == perObject {
			row := versionRow{Content: content{Size: int64(perObject * len(body)), Domain: defaultDomain, Root: appendNode(nil, 0, refs)}}
			key := fmt.Sprintf("%012d", objects)
			tx := &tx{}
			tx.putAt(index.Objects, func(csn uint64) []byte { return index.ObjectKey("b", key, csn) }, func(uint64, int64) (any, error) { return row, nil })
			ops = append(ops, tx.ops...)
			objects++
			refs = refs[:0]
			if len(ops) == 256 {
				commit()
			}
		}
	}
	commit()
	if err := s.log.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d chunks, %d objects, filled in %v", *scaleChunks, objects, time.Since(began).Round(time.Millisecond))
	if err := s.checkpointNow(t.Context()); err != nil {
		t.Fatal(err)
	}

	began = time.Now()
	heap := watchHeap()
	rep := mustGC(t, s, GCRequest{DryRun: true})
	marked := heap.end()
	t.Logf("mark: %v, heap grew by %d KiB (bits take %d KiB), %d live, %d of %d bytes garbage", time.Since(began).Round(time.Millisecond), marked>>10, *scaleChunks*2/8>>10,
		rep.ChunksLive, rep.GarbageBytes, rep.StoredBytes)
	if want := int64(objects * perObject); rep.ChunksLive != want {
		t.Errorf("%d chunks are marked, %d are named", rep.ChunksLive, want)
	}
	if limit := uint64(64 << 20); marked > limit {
		t.Errorf("heap grew by %d bytes while marking, more than %d", marked, limit)
	}

	began = time.Now()
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Logf("close: %v", time.Since(began).Round(time.Millisecond))
	for _, what := range []string{"start", "rebuild"} {
		if what == "rebuild" {
			if err := os.Remove(filepath.Join(o.IndexDir, "catalog.bolt")); err != nil {
				t.Fatal(err)
			}
		}
		began = time.Now()
		if s, err = Open(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %v", what, time.Since(began).Round(time.Millisecond))
		if n := s.idx.Totals().Chunks; n < int64(*scaleChunks) {
			t.Errorf("%s: %d chunks", what, n)
		}
		want := binary.BigEndian.AppendUint64(nil, uint64((objects/2)*2*perObject))
		if got, err := getBytes(t.Context(), s, "b", fmt.Sprintf("%012d", objects/2)); err != nil || !bytes.HasPrefix(got, want) {
			t.Errorf("%s: an object of %d bytes: %v", what, len(got), err)
		}
		if what == "rebuild" {
			began = time.Now()
			heap := watchHeap()
			rep := mustGC(t, s, GCRequest{})
			t.Logf("gc: %v, heap grew by %d KiB, %d bytes copied, %d of %d bytes reclaimed", time.Since(began).Round(time.Millisecond), heap.end()>>10, rep.CopiedBytes, rep.ReclaimedBytes, rep.StoredBytes)
		}
		closeStore(t, s)
	}
}
