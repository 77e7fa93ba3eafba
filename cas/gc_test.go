package cas

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"

	"github.com/casd/casd/erasure"
	"github.com/casd/casd/erasure/faultfs"
	"github.com/casd/casd/index"
)

// gcStore opens a store of small segments on a disk in memory.
func gcStore(t testing.TB, o Options) *Store {
	t.Helper()
	o.K, o.M, o.SegmentBytes = 2, 1, 1<<20
	return openStore(t, o)
}

func mustGC(t testing.TB, s *Store, req GCRequest) GCReport {
	t.Helper()
	r, err := s.GC(t.Context(), req)
	if err != nil {
		t.Fatalf("gc: %v (%+v)", err, r)
	}
	return r
}

// strayRows counts the rows of the chunk map that lead into segments that are not live.
func strayRows(t testing.TB, s *Store) (astray int) {
	t.Helper()
	err := s.idx.IterChunks(func(c index.Chunk) error {
		if !s.log.IsLive(erasure.Location(c.Location).Segment()) {
			astray++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return astray
}

// rowsLead fails when there are any.
func rowsLead(t testing.TB, s *Store) {
	t.Helper()
	if n := strayRows(t, s); n > 0 {
		t.Errorf("%d rows of the chunk map lead into segments that are gone", n)
	}
}

// used is how many bytes of shard files there are.
func used(t testing.TB, disk *faultfs.FS, paths []string) (n int64) {
	t.Helper()
	for _, p := range paths {
		names, err := disk.ReadDir(filepath.Join(p, "segments"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			fi, err := disk.Stat(filepath.Join(p, "segments", name))
			if err != nil {
				t.Fatal(err)
			}
			n += fi.Size
		}
	}
	return n
}

func TestGCReturnsSpace(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	o := Options{Dirs: paths, FS: disk, IndexDir: t.TempDir()}
	s := gcStore(t, o)
	mustBucket(t, s, "b")
	var keys []string
	for i := range 12 {
		keys = append(keys, fmt.Sprint("large", i))
		mustPut(t, s, "b", keys[i], noise(uint64(i), 1<<20))
	}
	for i := range 50 {
		keys = append(keys, fmt.Sprint("small", i))
		mustPut(t, s, "b", keys[len(keys)-1], noise(uint64(100+i), 5000))
	}
	u, err := s.CreateUpload(t.Context(), CreateUploadRequest{Bucket: "b", Key: "abandoned"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutPart(t.Context(), PartRequest{Bucket: "b", Key: "abandoned", UploadID: u.ID, Number: 1, Body: bytes.NewReader(noise(99, 1<<20))}); err != nil {
		t.Fatal(err)
	}
	kept := noise(3, 1<<20)
	full := used(t, disk, paths)

	dry := mustGC(t, s, GCRequest{DryRun: true})
	if dry.Dropped != 0 && dry.ReclaimedBytes > dry.StoredBytes/4 {
		t.Errorf("dry run without garbage: %+v", dry)
	}
	for _, k := range keys {
		if k == "large3" {
			continue
		}
		if _, err := s.Delete(t.Context(), "b", k, nil); err != nil {
			t.Fatal(err)
		}
	}
	segments := len(s.log.Segments())
	dry = mustGC(t, s, GCRequest{DryRun: true})
	if dry.Dropped == 0 || len(s.log.Segments()) < segments {
		t.Errorf("dry run drops %d segments and leaves %d of %d", dry.Dropped, len(s.log.Segments()), segments)
	}
	r := mustGC(t, s, GCRequest{})
	if r.Dropped == 0 || r.ReclaimedBytes == 0 {
		t.Errorf("nothing was dropped: %+v", r)
	}
	if r.Dropped != dry.Dropped {
		t.Errorf("%d segments were dropped, a dry run said %d", r.Dropped, dry.Dropped)
	}
	mustHave(t, s, "b", "large3", kept)
	rowsLead(t, s)
	// The upload goes when nothing happened to it for long, and what came with it.
	s.opts.UploadExpiry = time.Nanosecond
	if r = mustGC(t, s, GCRequest{}); r.UploadsExpired != 1 {
		t.Errorf("%d uploads expired", r.UploadsExpired)
	}
	if _, err := s.Upload(t.Context(), "b", "abandoned", u.ID); !errors.Is(err, ErrNoSuchUpload) {
		t.Errorf("abandoned upload: %v", err)
	}
	closeStore(t, s)
	s = gcStore(t, o)
	mustHave(t, s, "b", "large3", kept)
	if _, err := s.Delete(t.Context(), "b", "large3", nil); err != nil {
		t.Fatal(err)
	}
	r = mustGC(t, s, GCRequest{})
	// The open metadata and data segments are left, and two snapshots.
	if n := used(t, disk, paths); n > 14<<20 {
		t.Errorf("%d of %d bytes are still used: %+v", n, full, r)
	}
	if err := os.Remove(filepath.Join(o.IndexDir, "catalog.bolt")); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = gcStore(t, o)
	if st := stats(t, s); st.Buckets != 1 || st.Objects != 0 {
		t.Errorf("after a rebuild: %+v", st)
	}
}

// waitFor waits until a condition holds.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

func counterValue(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// A slowUpload is one that is in flight until it is finished.
type slowUpload struct {
	w    *io.PipeWriter
	done chan error
	body []byte
	sent int
}

func startUpload(s *Store, key string, body []byte) *slowUpload {
	r, w := io.Pipe()
	u := &slowUpload{w: w, done: make(chan error, 1), body: body}
	go func() {
		_, err := s.Put(context.Background(), PutRequest{Bucket: "b", Key: key, Body: r})
		r.CloseWithError(err)
		u.done <- err
	}()
	return u
}

// send passes n more bytes, and returns when the store has taken them.
func (u *slowUpload) send(n int) {
	n = max(0, min(n, len(u.body)-u.sent))
	_, _ = u.w.Write(u.body[u.sent : u.sent+n]) // an upload that failed says so at its end
	u.sent += n
}

func (u *slowUpload) finish() error {
	u.send(len(u.body))
	u.w.Close()
	return <-u.done
}

// Each of these bugs, put into a cycle on purpose, loses something. What notices it is named; without the bug nothing does.
func TestSeededBugsAreCaught(t *testing.T) {
	shared := noise(5, 4<<20)
	// garbage makes a sealed segment that holds nothing but the chunks of shared, which nothing names any more.
	garbage := func(t *testing.T, s *Store) {
		mustBucket(t, s, "b")
		mustPut(t, s, "b", "gone", shared)
		for i := range 3 { // the segments before are full
			mustPut(t, s, "b", fmt.Sprint("filler", i), noise(uint64(50+i), 1<<20))
		}
		if _, err := s.Delete(t.Context(), "b", "gone", nil); err != nil {
			t.Fatal(err)
		}
	}
	inFlight := func(where string) func(t *testing.T, s *Store, bug bool) error {
		return func(t *testing.T, s *Store, bug bool) error {
			garbage(t, s)
			u := &slowUpload{}
			begin := func() {
				u = startUpload(s, "again", shared)
				before := counterValue(t, s.metrics.dedupHits)
				u.send(len(shared) - 1)
				waitFor(t, func() bool { return counterValue(t, s.metrics.dedupHits) >= before+6 })
			}
			if where == "" {
				begin()
			} else {
				s.sabotage.at = func(at string) {
					if at == where && u.w == nil {
						begin()
					}
				}
			}
			r, err := s.GC(t.Context(), GCRequest{})
			if err != nil {
				return err
			}
			if bug && r.Dropped == 0 {
				t.Fatal("no segment was dropped: the test shows nothing")
			}
			if err := u.finish(); err != nil {
				return err
			}
			b, err := getBytes(t.Context(), s, "b", "again")
			if err == nil && !bytes.Equal(b, shared) {
				err = errors.New("other bytes")
			}
			return err
		}
	}
	for _, c := range []struct {
		name string
		bug  func(*sabotage)
		run  func(t *testing.T, s *Store, bug bool) error
	}{
		// A dedup hit during the cycle, by an upload that ends after it: reading the object back fails.
		{"missing pin", func(b *sabotage) { b.noPin = true }, inFlight("scanning")},
		// A dedup hit before the cycle, by an upload that ends after it.
		{"pins of uploads in flight not copied", func(b *sabotage) { b.noHeld = true }, inFlight("")},
		// Copy moves a manifest to a key that the scan has passed, and the source is deleted before the scan gets there.
		{"unarmed barrier", func(b *sabotage) { b.noBarrier = true }, func(t *testing.T, s *Store, bug bool) error {
			mustBucket(t, s, "b")
			mustPut(t, s, "b", "z", shared)
			for i := range 12 { // so much that snapshots are worth their while
				mustPut(t, s, "b", fmt.Sprint("filler", i), noise(uint64(50+i), 1<<20))
				if _, err := s.Delete(t.Context(), "b", fmt.Sprint("filler", i), nil); err != nil {
					t.Fatal(err)
				}
			}
			var wg sync.WaitGroup
			for w := range 64 { // so many rows that the scan of the file takes several batches
				wg.Go(func() {
					for i := range 80 {
						mustPut(t, s, "b", fmt.Sprintf("m%02d%02d", w, i), []byte("x"))
					}
				})
			}
			wg.Wait()
			s.sabotage.at = func(at string) {
				if at != "scanning" {
					return
				}
				_, err := s.Copy(t.Context(), CopyRequest{SourceBucket: "b", SourceKey: "z", Bucket: "b", Key: "a",
					Attributes: func(o ObjectInfo) (Attributes, error) { return o.Attributes, nil }})
				if err != nil {
					t.Error(err)
				}
				if _, err := s.Delete(t.Context(), "b", "z", nil); err != nil {
					t.Error(err)
				}
				if err := s.checkpointNow(t.Context()); err != nil {
					t.Error(err)
				}
			}
			r, err := s.GC(t.Context(), GCRequest{})
			if err != nil {
				return err
			}
			if bug && r.Dropped == 0 {
				t.Fatal("no segment was dropped: the test shows nothing")
			}
			b, err := getBytes(t.Context(), s, "b", "a")
			if err == nil && !bytes.Equal(b, shared) {
				err = errors.New("other bytes")
			}
			return err
		}},
		// The chunk map is told of another chunk's copy: reading back notices, and the original stays.
		{"wrong copied offset", func(b *sabotage) { b.wrongLocation, b.noReadBack = true, true }, func(t *testing.T, s *Store, bug bool) error {
			mustBucket(t, s, "b")
			want := map[string][]byte{}
			for i := range 8 { // half of what is in each segment goes
				key := fmt.Sprint(i)
				want[key] = noise(uint64(i), 700_000)
				mustPut(t, s, "b", key, want[key])
			}
			for i := 0; i < 8; i += 2 {
				if _, err := s.Delete(t.Context(), "b", fmt.Sprint(i), nil); err != nil {
					t.Fatal(err)
				}
				delete(want, fmt.Sprint(i))
			}
			r, err := s.GC(t.Context(), GCRequest{})
			if err != nil {
				return err
			}
			if r.CopiedChunks == 0 {
				t.Fatal("nothing was copied: the test shows nothing")
			}
			for key, b := range want {
				got, err := getBytes(t.Context(), s, "b", key)
				if err != nil || !bytes.Equal(got, b) {
					return fmt.Errorf("%s: %w", key, cmpErr(err))
				}
			}
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, bug := range []bool{false, true} {
				disk, paths := faultDisk(t, 3)
				s := gcStore(t, Options{Dirs: paths, FS: disk, IndexDir: t.TempDir(), CacheBytes: 1})
				if bug {
					c.bug(&s.sabotage)
				}
				err := c.run(t, s, bug)
				if err == nil && bug {
					t.Error("the bug was not noticed")
				}
				if err != nil && !bug {
					t.Errorf("without the bug: %v", err)
				}
				closeStore(t, s)
			}
		})
	}
}

func cmpErr(err error) error {
	if err == nil {
		return errors.New("other bytes")
	}
	return err
}

// A copy that cannot be read back does not replace its original.
func TestCopiesAreReadBack(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	s := gcStore(t, Options{Dirs: paths, FS: disk, IndexDir: t.TempDir(), CacheBytes: 1})
	mustBucket(t, s, "b")
	for i := range 8 {
		mustPut(t, s, "b", fmt.Sprint(i), noise(uint64(i), 700_000))
	}
	for i := 0; i < 8; i += 2 {
		if _, err := s.Delete(t.Context(), "b", fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	s.sabotage.wrongLocation = true
	if r, err := s.GC(t.Context(), GCRequest{}); err == nil || r.CopiedChunks == 0 {
		t.Fatalf("gc with wrong locations: %+v, %v", r, err)
	}
	s.sabotage.wrongLocation = false
	mustGC(t, s, GCRequest{})
	for i := 1; i < 8; i += 2 {
		mustHave(t, s, "b", fmt.Sprint(i), noise(uint64(i), 700_000))
	}
}

// Segments go only after a checkpoint: the file that a crash leaves then begins behind them. Without it the start finds a file that is
// older than what was dropped, and has to build it anew.
func TestDropComesAfterCheckpoint(t *testing.T) {
	for _, bug := range []bool{false, true} {
		disk, paths := faultDisk(t, 3)
		o := Options{Dirs: paths, FS: disk, IndexDir: t.TempDir(), CheckpointInterval: time.Hour, CheckpointEntries: 1 << 20}
		s := gcStore(t, o)
		mustBucket(t, s, "b")
		mustPut(t, s, "b", "gone", noise(1, 2<<20))
		if err := s.checkpointNow(t.Context()); err != nil { // in the middle of what will be dropped
			t.Fatal(err)
		}
		for i := range 3 {
			mustPut(t, s, "b", fmt.Sprint("filler", i), noise(uint64(50+i), 1<<20))
		}
		for _, key := range []string{"gone", "filler0", "filler1"} {
			if _, err := s.Delete(t.Context(), "b", key, nil); err != nil {
				t.Fatal(err)
			}
		}
		s.sabotage.noCheckpoint = bug
		if r := mustGC(t, s, GCRequest{}); r.Dropped == 0 {
			t.Fatal("nothing was dropped")
		}
		indexFile := filepath.Join(o.IndexDir, "catalog.bolt")
		b, err := os.ReadFile(indexFile)
		if err != nil {
			t.Fatal(err)
		}
		o.FS, o.IndexDir = disk.Clone(), t.TempDir()
		if err := os.WriteFile(filepath.Join(o.IndexDir, "catalog.bolt"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
		s = gcStore(t, o)
		if rebuilt := counterValue(t, s.metrics.indexRebuilds) > 0; rebuilt != bug {
			t.Errorf("checkpoint left out: %v, index built anew: %v", bug, rebuilt)
		}
		// Even so nothing is named there: the same bytes are stored anew.
		mustPut(t, s, "b", "again", noise(1, 2<<20))
		mustHave(t, s, "b", "again", noise(1, 2<<20))
		mustHave(t, s, "b", "filler2", noise(52, 1<<20))
		closeStore(t, s)
	}
}

// A crash between the drop and what follows leaves rows that lead nowhere. They name nothing, and the next cycle removes them.
func TestStrayRowsAreRemoved(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	o := Options{Dirs: paths, FS: disk, IndexDir: t.TempDir()}
	s := gcStore(t, o)
	mustBucket(t, s, "b")
	for i := range 4 {
		mustPut(t, s, "b", fmt.Sprint(i), noise(uint64(i), 1<<20))
	}
	for i := range 3 {
		if _, err := s.Delete(t.Context(), "b", fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	indexFile := filepath.Join(o.IndexDir, "catalog.bolt")
	s.sabotage.at = func(where string) {
		if where == "dropping" && ctx.Err() == nil && strayRows(t, s) == 0 {
			b, err := os.ReadFile(indexFile)
			if err != nil {
				t.Fatal(err)
			}
			o.FS, o.IndexDir = disk.Clone(), t.TempDir()
			if err := os.WriteFile(filepath.Join(o.IndexDir, "catalog.bolt"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			if len(s.pins.retired) > 0 { // not a snapshot's
				cancel()
			}
		}
	}
	if _, err := s.GC(ctx, GCRequest{}); err == nil {
		t.Fatal("the cycle was not cut short")
	}
	s.sabotage.at = nil
	closeStore(t, s)
	s = gcStore(t, o)
	if strayRows(t, s) == 0 {
		t.Fatal("no row leads nowhere: the test shows nothing")
	}
	for i := range 3 {
		mustPut(t, s, "b", fmt.Sprint(i), noise(uint64(i), 1<<20))
		mustHave(t, s, "b", fmt.Sprint(i), noise(uint64(i), 1<<20))
	}
	mustGC(t, s, GCRequest{})
	rowsLead(t, s)
	for i := range 4 {
		mustHave(t, s, "b", fmt.Sprint(i), noise(uint64(i), 1<<20))
	}
}

// The index is built anew after a cycle was cut short, something is stored that rests on it, and then an older copy comes back.
func TestOldIndexAfterRebuild(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	o := Options{Dirs: paths, FS: disk, IndexDir: t.TempDir()}
	indexFile := filepath.Join(o.IndexDir, "catalog.bolt")
	s := gcStore(t, o)
	mustBucket(t, s, "b")
	for i := range 4 {
		mustPut(t, s, "b", fmt.Sprint(i), noise(uint64(i), 1<<20))
	}
	for i := range 3 {
		if _, err := s.Delete(t.Context(), "b", fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	// Everything up to the drop, and not the drop.
	ctx, cancel := context.WithCancel(t.Context())
	s.sabotage.at = func(where string) {
		if where == "retired" {
			cancel()
		}
	}
	if _, err := s.GC(ctx, GCRequest{}); err == nil {
		t.Fatal("the cycle was not cut short")
	}
	s.sabotage.at = nil
	closeStore(t, s)
	old, err := os.ReadFile(indexFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(indexFile); err != nil {
		t.Fatal(err)
	}
	s = gcStore(t, o)
	for i := range 3 {
		mustPut(t, s, "b", fmt.Sprint("again", i), noise(uint64(i), 1<<20))
	}
	closeStore(t, s)
	if err := os.WriteFile(indexFile, old, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(indexFile + ".clean")
	s = gcStore(t, o)
	for i := range 3 {
		mustHave(t, s, "b", fmt.Sprint("again", i), noise(uint64(i), 1<<20))
	}
}

// An old copy of the index, brought back after segments were dropped, is not believed.
func TestOldIndexAfterDrops(t *testing.T) {
	disk, paths := faultDisk(t, 3)
	o := Options{Dirs: paths, FS: disk, IndexDir: t.TempDir()}
	indexFile := filepath.Join(o.IndexDir, "catalog.bolt")
	s := gcStore(t, o)
	mustBucket(t, s, "b")
	var copies [][]byte
	for i := range 6 {
		mustPut(t, s, "b", fmt.Sprint("gone", i), noise(uint64(i), 1<<20))
		mustPut(t, s, "b", fmt.Sprint("kept", i), noise(uint64(20+i), 300_000))
		closeStore(t, s)
		b, err := os.ReadFile(indexFile)
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, b)
		s = gcStore(t, o)
	}
	for i := range 6 {
		if _, err := s.Delete(t.Context(), "b", fmt.Sprint("gone", i), nil); err != nil {
			t.Fatal(err)
		}
		mustGC(t, s, GCRequest{})
	}
	closeStore(t, s)
	for i, b := range copies {
		if err := os.WriteFile(indexFile, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(indexFile + ".clean")
		s = gcStore(t, o)
		for j := range 6 {
			mustHave(t, s, "b", fmt.Sprint("kept", j), noise(uint64(20+j), 300_000))
			if _, err := s.Stat(t.Context(), GetRequest{Bucket: "b", Key: fmt.Sprint("gone", j)}); !errors.Is(err, ErrNoSuchKey) {
				t.Errorf("copy %d: a deleted object: %v", i, err)
			}
			mustPut(t, s, "b", "again", noise(uint64(j), 1<<20))
			mustHave(t, s, "b", "again", noise(uint64(j), 1<<20))
		}
		if _, err := s.Delete(t.Context(), "b", "again", nil); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
	}
}

// The newest snapshot is damaged beyond repair: the one before it and the log do.
func TestDamagedSnapshot(t *testing.T) {
	for lost := range 3 {
		disk, paths := faultDisk(t, 3)
		o := Options{Dirs: paths, FS: disk, IndexDir: t.TempDir()}
		s := gcStore(t, o)
		mustBucket(t, s, "b")
		for i := range 40 {
			mustPut(t, s, "b", fmt.Sprint(i), noise(uint64(i), 3000))
		}
		op, ctx, err := s.beginOperation(t.Context(), "test", "")
		if err != nil {
			t.Fatal(err)
		}
		var ids []uint64
		for i := range 2 {
			row, err := s.writeSnapshot(ctx, op)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, row.Segment)
			mustPut(t, s, "b", fmt.Sprint("after", i), noise(uint64(70+i), 3000))
		}
		op.end()
		closeStore(t, s)
		for i := range lost { // the newest first
			for _, p := range paths[:2] {
				names, err := disk.ReadDir(filepath.Join(p, "segments"))
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range names {
					if bytes.HasPrefix([]byte(name), fmt.Appendf(nil, "%016x.s.", ids[1-i])) {
						if err := disk.Remove(filepath.Join(p, "segments", name)); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
		}
		if err := os.Remove(filepath.Join(o.IndexDir, "catalog.bolt")); err != nil {
			t.Fatal(err)
		}
		s = gcStore(t, o)
		for i := range 40 {
			mustHave(t, s, "b", fmt.Sprint(i), noise(uint64(i), 3000))
		}
		mustHave(t, s, "b", "after1", noise(71, 3000))
		closeStore(t, s)
	}
}

// fewChecks bounds the runs of rapid.Check unless the command line says how many, in short mode to fewer.
func fewChecks(t *testing.T, checks, short string) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	if f.Value.String() != f.DefValue {
		return
	}
	if testing.Short() { // under the race detector
		checks = short
	}
	if err := f.Value.Set(checks); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(f.DefValue) }) // it was valid before
}

// TestGCStateMachine runs random operations, some of them in the middle of a cycle, crashes in between, against a map. Contents overlap, so that
// uploads hit chunks that are about to go.
func TestGCStateMachine(t *testing.T) {
	pool := noise(7, 4<<20)
	fewChecks(t, "8", "1")
	rapid.Check(t, func(rt *rapid.T) {
		m := &gcMachine{rt: rt, t: t, pool: pool, model: map[string][]byte{}, uploads: map[string]*slowUpload{}, indexDir: t.TempDir()}
		m.disk, m.paths = faultDisk(t, 3)
		m.open()
		mustBucket(t, m.s, "b")
		defer m.stop()
		rt.Repeat(map[string]func(*rapid.T){
			"":         func(*rapid.T) {},
			"act":      func(rt *rapid.T) { m.act(rt) },
			"gc":       func(rt *rapid.T) { m.gc(rt) },
			"reopen":   func(rt *rapid.T) { m.reopen(rt) },
			"snapshot": func(rt *rapid.T) { m.snapshot(rt) },
			"verify":   func(rt *rapid.T) { m.verify() },
		})
		m.gc(rt)
		m.verify()
		m.finishUploads()
		m.verify()
		m.reopen(rt)
		m.verify()
	})
}

type gcMachine struct {
	rt       *rapid.T
	t        *testing.T
	s        *Store
	disk     *faultfs.FS
	paths    []string
	indexDir string
	pool     []byte
	model    map[string][]byte
	uploads  map[string]*slowUpload
	readers  []gcReader
	graves   [][]byte // contents that nothing named, in the order in which they were deleted
	next     int
}

// bury notes that a key does not hold its content any more.
func (m *gcMachine) bury(key string) {
	if b, ok := m.model[key]; ok {
		m.graves = append(m.graves, b)
		delete(m.model, key)
	}
}

type gcReader struct {
	o    *Object
	want []byte
}

func (m *gcMachine) open() {
	s, err := Open(context.Background(), Options{Dirs: m.paths, FS: m.disk, IndexDir: m.indexDir, K: 2, M: 1, SegmentBytes: 1 << 20, CacheBytes: 1,
		CheckpointInterval: 5 * time.Millisecond})
	if err != nil {
		m.rt.Fatalf("open: %v", err)
	}
	m.s = s
}

func (m *gcMachine) stop() {
	for _, u := range m.uploads {
		u.w.CloseWithError(errors.New("gone"))
		<-u.done
	}
	m.uploads = map[string]*slowUpload{}
	for _, r := range m.readers {
		r.o.Close()
	}
	m.readers = nil
	if err := m.s.Close(context.Background()); err != nil && !m.disk.Off() {
		m.rt.Fatalf("close: %v", err)
	}
}

// content is often what was deleted a short time ago: its chunks are garbage, or about to go.
func (m *gcMachine) content(rt *rapid.T) []byte {
	if n := len(m.graves); n > 0 && rapid.IntRange(0, 2).Draw(rt, "again") > 0 {
		return m.graves[max(0, n-1-rapid.IntRange(0, 3).Draw(rt, "grave"))]
	}
	n := rapid.SampledFrom([]int{0, 100, 3000, 90_000, 600_000, 1 << 20}).Draw(rt, "size")
	at := rapid.IntRange(0, 11).Draw(rt, "at") * 256 << 10
	return m.pool[at : at+n]
}

func (m *gcMachine) key(rt *rapid.T) string {
	return fmt.Sprint("k", rapid.IntRange(0, 4).Draw(rt, "key"))
}

func (m *gcMachine) act(rt *rapid.T) {
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			rt.Fatalf("%v", err)
		}
	}
	switch rapid.IntRange(0, 8).Draw(rt, "what") {
	case 0, 1:
		key, b := m.key(rt), m.content(rt)
		_, err := putBytes(ctx, m.s, "b", key, b, nil)
		fail(err)
		m.bury(key)
		m.model[key] = b
	case 2:
		key := m.key(rt)
		_, err := m.s.Delete(ctx, "b", key, nil)
		fail(err)
		m.bury(key)
	case 3:
		from, to := m.key(rt), m.key(rt)
		b, ok := m.model[from]
		_, err := m.s.Copy(ctx, CopyRequest{SourceBucket: "b", SourceKey: from, Bucket: "b", Key: to,
			Attributes: func(o ObjectInfo) (Attributes, error) { return o.Attributes, nil }})
		if !ok {
			if !errors.Is(err, ErrNoSuchKey) {
				rt.Fatalf("copy of nothing: %v", err)
			}
			return
		}
		fail(err)
		m.bury(to)
		m.model[to] = b
		if from != to && rapid.Bool().Draw(rt, "move") {
			_, err := m.s.Delete(ctx, "b", from, nil)
			fail(err)
			delete(m.model, from)
		}
	case 4:
		key, b := m.key(rt), m.content(rt)
		fail(putMultipart(ctx, m.s, key, b))
		m.bury(key)
		m.model[key] = b
	case 5:
		m.slow(rt)
	case 6:
		if len(m.uploads) == 0 {
			return
		}
		key := slices.Min(slices.Collect(maps.Keys(m.uploads)))
		u := m.uploads[key]
		delete(m.uploads, key)
		if rapid.Bool().Draw(rt, "breaks") {
			u.w.CloseWithError(io.ErrUnexpectedEOF)
			if err := <-u.done; err == nil {
				rt.Fatalf("an upload that broke off succeeded")
			}
		} else {
			fail(u.finish())
			m.model[key] = u.body
		}
	case 7:
		key := m.key(rt)
		if b, ok := m.model[key]; ok && len(m.readers) < 3 {
			o, err := m.s.Get(ctx, GetRequest{Bucket: "b", Key: key})
			fail(err)
			m.readers = append(m.readers, gcReader{o, b})
		}
	case 8:
		if n := len(m.readers); n > 0 {
			r := m.readers[n-1]
			m.readers = m.readers[:n-1]
			m.readAll(r)
			r.o.Close()
		}
	}
}

// slow begins an upload that is finished at some other time.
func (m *gcMachine) slow(rt *rapid.T) {
	if len(m.uploads) >= 3 {
		return
	}
	m.next++
	key := fmt.Sprint("slow", m.next)
	u := startUpload(m.s, key, m.content(rt))
	u.send(rapid.SampledFrom([]int{0, 300_000, len(u.body) - 1, len(u.body)}).Draw(rt, "sent"))
	m.uploads[key] = u
}

func (m *gcMachine) readAll(r gcReader) {
	var w bytes.Buffer
	if _, err := r.o.WriteRange(context.Background(), &w, 0, r.o.Info.Size); err != nil || !bytes.Equal(w.Bytes(), r.want) {
		m.rt.Fatalf("open object %s: %d of %d bytes, %v", r.o.Info.Key, w.Len(), len(r.want), err)
	}
}

// gc runs a cycle with operations at each of its turns. It may end in a crash.
func (m *gcMachine) gc(rt *rapid.T) {
	at := map[string]int{}
	for _, where := range []string{"armed", "scanning", "deciding", "dropping"} {
		at[where] = rapid.IntRange(0, 3).Draw(rt, where)
	}
	crash := rapid.SampledFrom([]string{"", "", "", "armed", "deciding", "dropping"}).Draw(rt, "crash")
	for range rapid.IntRange(0, 3).Draw(rt, "deletes") {
		key := m.key(rt)
		if _, err := m.s.Delete(context.Background(), "b", key, nil); err != nil {
			rt.Fatalf("delete: %v", err)
		}
		m.bury(key)
	}
	for range rapid.IntRange(0, 2).Draw(rt, "before") { // in flight when the cycle begins
		m.slow(rt)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m.s.sabotage.at = func(where string) {
		for ; at[where] > 0; at[where]-- {
			m.act(rt)
		}
		if where == crash {
			cancel()
		}
	}
	_, err := m.s.GC(ctx, GCRequest{Threshold: 0.1})
	m.s.sabotage.at = nil
	if err != nil && ctx.Err() == nil {
		rt.Fatalf("gc: %v", err)
	}
	if ctx.Err() != nil {
		m.crash(rt)
		return
	}
	live := map[erasure.SegmentID]bool{}
	for _, info := range m.s.log.Segments() {
		live[info.ID] = true
	}
	if err := m.s.idx.IterChunks(func(c index.Chunk) error {
		if id := erasure.Location(c.Location).Segment(); !live[id] {
			return fmt.Errorf("chunk %x leads into segment %x, which is gone", c.ID[:8], id)
		}
		return nil
	}); err != nil {
		rt.Fatal(err)
	}
}

// crash lets the power go, with what the page cache held, and starts again. Uploads in flight are gone, and so are readers.
func (m *gcMachine) crash(rt *rapid.T) {
	file := filepath.Join(m.indexDir, "catalog.bolt")
	disk := m.disk.Clone()
	if !rapid.Bool().Draw(rt, "kill") {
		disk = m.disk.CrashClone(rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "loss"), 1)))
	}
	b, err := os.ReadFile(file) // every commit of bbolt is one moment of it
	if err != nil {
		rt.Fatal(err)
	}
	m.disk.PowerOffAt(m.disk.Ops())
	m.stop()
	m.disk, m.indexDir = disk, m.t.TempDir()
	if !rapid.Bool().Draw(rt, "index lost") {
		if err := os.WriteFile(filepath.Join(m.indexDir, "catalog.bolt"), b, 0o600); err != nil {
			rt.Fatal(err)
		}
	}
	m.open()
	m.verify()
}

func (m *gcMachine) reopen(rt *rapid.T) {
	if rapid.Bool().Draw(rt, "crash") {
		m.crash(rt)
		return
	}
	m.stop()
	m.open()
}

func (m *gcMachine) snapshot(rt *rapid.T) {
	op, ctx, err := m.s.beginOperation(context.Background(), "snapshot", "")
	if err != nil {
		rt.Fatal(err)
	}
	defer op.end()
	if _, err := m.s.writeSnapshot(ctx, op); err != nil {
		rt.Fatal(err)
	}
}

func (m *gcMachine) finishUploads() {
	for key, u := range m.uploads {
		if err := u.finish(); err != nil {
			m.rt.Fatalf("upload: %v", err)
		}
		m.model[key] = u.body
		delete(m.uploads, key)
	}
}

func (m *gcMachine) verify() {
	for key, want := range m.model {
		got, err := getBytes(context.Background(), m.s, "b", key)
		if err != nil || !bytes.Equal(got, want) {
			m.rt.Fatalf("%s: %d of %d bytes, %v", key, len(got), len(want), err)
		}
	}
	for _, r := range m.readers {
		m.readAll(r)
	}
	l, err := m.s.List(context.Background(), ListRequest{Bucket: "b", Max: 1000})
	if err != nil || len(l.Items) != len(m.model) {
		m.rt.Fatalf("%d objects are listed, %d are there: %v", len(l.Items), len(m.model), err)
	}
}
