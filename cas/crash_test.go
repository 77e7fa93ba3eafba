package cas

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/casd/casd/erasure/faultfs"
)

var (
	crashSeed   = flag.Uint64("crash.seed", 0, "seed of the crash tests; 0 means a fixed one")
	crashRounds = flag.Int("crash.rounds", 0, "rounds of each crash test; 0 means few")
)

// An outcome is what a key may hold: nil for nothing.
type outcome *[]byte

// A crashModel knows what was acknowledged. Each key belongs to one worker, so that a worker knows what its keys may hold.
type crashModel struct {
	mu   sync.Mutex
	keys map[string][]outcome

	versioned bool                    // the bucket keeps versions
	versions  map[string]crashVersion // by ID: those that were acknowledged and not deleted
}

// A crashVersion is one version of a key.
type crashVersion struct {
	key, id   string
	body      []byte
	mayBeGone bool // its deletion has an unknown outcome
}

// made notes a version that was acknowledged.
func (m *crashModel) made(key string, info ObjectInfo, body []byte) {
	if m.versioned {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.versions[info.VersionID] = crashVersion{key: key, id: info.VersionID, body: body}
	}
}

// deleteOld deletes for ever a version of a key of the worker's that is not its newest. ok is false when the store failed.
func (m *crashModel) deleteOld(ctx context.Context, s *Store, key string) (ok bool) {
	var ids []string
	m.mu.Lock()
	for id, v := range m.versions {
		if v.key == key {
			ids = append(ids, id)
		}
	}
	m.mu.Unlock()
	slices.Sort(ids)
	if len(ids) < 2 {
		return true
	}
	_, err := s.DeleteVersion(ctx, DeleteRequest{Bucket: "b", Key: key, VersionID: ids[0]})
	m.mu.Lock()
	defer m.mu.Unlock()
	switch v := m.versions[ids[0]]; {
	case err == nil:
		delete(m.versions, ids[0])
	case errors.Is(err, ErrUnknownOutcome):
		v.mayBeGone = true
		m.versions[ids[0]] = v
	}
	return err == nil
}

// verifyVersions reads every version that was acknowledged, and returns the bytes of all that there are.
func (m *crashModel) verifyVersions(t testing.TB, s *Store) (size int64) {
	t.Helper()
	for id, v := range m.versions {
		o, err := s.Get(t.Context(), GetRequest{Bucket: "b", Key: v.key, VersionID: id})
		if v.mayBeGone && errors.Is(err, ErrNoSuchVersion) {
			delete(m.versions, id)
			continue
		}
		if err != nil {
			t.Fatalf("%s, version %s: %v", v.key, id, err)
		}
		var got bytes.Buffer
		_, err = o.WriteRange(t.Context(), &got, 0, o.Info.Size)
		o.Close()
		if err != nil || !bytes.Equal(got.Bytes(), v.body) {
			t.Fatalf("%s, version %s: %d bytes (%v), not the %d that were stored", v.key, id, got.Len(), err, len(v.body))
		}
		v.mayBeGone = false
		m.versions[id] = v
	}
	l, err := s.ListVersions(t.Context(), VersionListRequest{Bucket: "b", Max: 1_000_000})
	if err != nil || l.Truncated {
		t.Fatal(l.Truncated, err)
	}
	listed := map[string]bool{}
	for _, it := range l.Items {
		listed[it.Object.VersionID] = true
		size += it.Object.Size
	}
	for id, v := range m.versions {
		if !listed[id] {
			t.Fatalf("%s, version %s is not listed", v.key, id)
		}
	}
	return size
}

func (m *crashModel) set(key string, o ...outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[key] = o
}

func (m *crashModel) get(key string) []outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o, ok := m.keys[key]; ok {
		return o
	}
	return []outcome{nil}
}

// verify reads every key and keeps what it found as the only outcome.
func (m *crashModel) verify(t testing.TB, s *Store) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var present []string
	for key, may := range m.keys {
		got, err := getBytes(t.Context(), s, "b", key)
		if err != nil && !errors.Is(err, ErrNoSuchKey) {
			t.Fatalf("%s: %v", key, err)
		}
		i := slices.IndexFunc(may, func(o outcome) bool {
			if o == nil {
				return err != nil
			}
			return err == nil && bytes.Equal(*o, got)
		})
		if i < 0 {
			t.Fatalf("%s holds %d bytes (%v), none of the %d outcomes that it may have: %s", key, len(got), err, len(may), describe(may))
		}
		m.keys[key] = []outcome{may[i]}
		if may[i] != nil {
			present = append(present, key)
		}
	}
	slices.Sort(present)
	l, err := s.List(t.Context(), ListRequest{Bucket: "b", Max: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	var size int64
	for _, it := range l.Items {
		listed = append(listed, it.Object.Key)
		size += it.Object.Size
	}
	if m.versioned {
		size = m.verifyVersions(t, s)
	}
	if !slices.Equal(listed, present) {
		t.Fatalf("listed %v\npresent %v", listed, present)
	}
	if st := stats(t, s); st.Objects != int64(len(present)) || st.LogicalBytes != size {
		t.Fatalf("counters say %d objects, %d bytes; there are %d, %d", st.Objects, st.LogicalBytes, len(present), size)
	}
}

func describe(may []outcome) (out string) {
	for _, o := range may {
		if o == nil {
			out += " nothing"
		} else {
			out += fmt.Sprintf(" %d bytes", len(*o))
		}
	}
	return out
}

// crashWorker does random things to keys of its own until something fails. pool is what contents are made of, so that they share chunks.
func crashWorker(ctx context.Context, s *Store, m *crashModel, id int, rng *rand.Rand, pool []byte) {
	content := func() []byte {
		var n int
		switch rng.IntN(6) {
		case 0:
			n = rng.IntN(inlineBytesMax + 2)
		case 1, 2:
			n = rng.IntN(20_000)
		case 3:
			n = smallBytesMax + rng.IntN(4) - 2
		default:
			n = rng.IntN(1 << 20)
		}
		at := rng.IntN(len(pool) - n)
		if rng.IntN(2) == 0 {
			at &^= 1<<18 - 1 // likely the same as another
			n = min(n, len(pool)-at)
		}
		return pool[at : at+n]
	}
	for ctx.Err() == nil {
		key := fmt.Sprintf("w%d/%d", id, rng.IntN(12))
		if m.versioned && rng.IntN(8) == 0 {
			if !m.deleteOld(ctx, s, key) {
				return
			}
			continue
		}
		before := m.get(key)
		try := func(want outcome, op func() error) bool {
			m.set(key, append(slices.Clone(before), want)...)
			if err := op(); err != nil {
				if !errors.Is(err, ErrUnknownOutcome) {
					m.set(key, before...) // who is told that it failed must not find it done
				}
				return false
			}
			m.set(key, want)
			return true
		}
		body := content()
		ok := false
		switch rng.IntN(10) {
		case 0:
			ok = try(nil, func() error { _, err := s.Delete(ctx, "b", key, nil); return err })
		case 1: // copy of another own key
			from := fmt.Sprintf("w%d/%d", id, rng.IntN(12))
			src := m.get(from)
			if len(src) != 1 || src[0] == nil {
				continue
			}
			ok = try(src[0], func() error {
				info, err := s.Copy(ctx, CopyRequest{SourceBucket: "b", SourceKey: from, Bucket: "b", Key: key,
					Attributes: func(o ObjectInfo) (Attributes, error) { return o.Attributes, nil }})
				if err == nil {
					m.made(key, info, *src[0])
				}
				return err
			})
		case 2: // multipart of one part
			ok = try(&body, func() error { return putMultipart(ctx, s, key, body) })
		case 3: // an upload that breaks off changes nothing
			_, err := s.Put(ctx, PutRequest{Bucket: "b", Key: key, Body: io.MultiReader(bytes.NewReader(body), brokenReader{})})
			ok = err != nil && s.WriteState() == nil
		default:
			ok = try(&body, func() error {
				info, err := putBytes(ctx, s, "b", key, body, nil)
				if err == nil {
					m.made(key, info, body)
				}
				return err
			})
		}
		if !ok {
			return
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func putMultipart(ctx context.Context, s *Store, key string, body []byte) error {
	u, err := s.CreateUpload(ctx, CreateUploadRequest{Bucket: "b", Key: key})
	if err != nil {
		return err
	}
	p, err := s.PutPart(ctx, PartRequest{Bucket: "b", Key: key, UploadID: u.ID, Number: 7, Body: bytes.NewReader(body),
		Finish: func(int64) (Attributes, error) { return Attributes{ETag: etagOf(body)}, nil }})
	if err != nil {
		return err
	}
	_, err = s.CompleteUpload(ctx, CompleteRequest{Bucket: "b", Key: key, UploadID: u.ID, Parts: []CompletePart{{Number: 7, ETag: p.ETag}},
		Finish: func(u Upload, _ []Part) (Attributes, error) { return Attributes{ETag: etagOf(body)}, nil }})
	return err
}

// TestPowerLoss lets the power go at random operations of the file system, loses or tears what was not synced, and looks after each start
// whether every acknowledged object is there and right, and nothing that was never sent. The index is what it was, or older, or gone.
func TestPowerLoss(t *testing.T) {
	seed, rounds := *crashSeed, *crashRounds
	if seed == 0 {
		seed = 1
	}
	if rounds == 0 {
		rounds = 12
		if testing.Short() { // under the race detector a round takes 25 times as long
			rounds = 2
		}
	}
	for _, c := range []struct {
		name      string
		dirs      int
		k, m      int
		versioned bool
	}{{"4+2", 6, 4, 2, false}, {"1+0", 1, 1, 0, false}, {"1+1", 2, 1, 1, false}, {"2+1 on 4", 4, 2, 1, false}, {"versions", 3, 2, 1, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Logf("-crash.seed=%d -crash.rounds=%d", seed, rounds)
			crashRun(t, rand.New(rand.NewPCG(seed, uint64(c.dirs))), rounds, c.dirs, c.k, c.m, c.versioned)
		})
	}
}

func crashRun(t *testing.T, rng *rand.Rand, rounds, dirs, k, m int, versioned bool) {
	disk := faultfs.New()
	indexDir := t.TempDir()
	pool := noise(7, 4<<20)
	model := &crashModel{keys: map[string][]outcome{}, versioned: versioned, versions: map[string]crashVersion{}}
	var paths []string
	for i := range dirs {
		paths = append(paths, fmt.Sprintf("/d%d", i+1))
		if err := disk.MkdirAll(paths[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	var logMu sync.Mutex
	logger := slog.New(slog.NewTextHandler(lockedWriter{&logMu, &logged}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	defer func() {
		if t.Failed() {
			logMu.Lock()
			defer logMu.Unlock()
			t.Logf("log of the last round:\n%s", logged.String())
		}
	}()
	indexFile, stale := filepath.Join(indexDir, "catalog.bolt"), filepath.Join(indexDir, "stale")
	created := false
	var reclaimed int64
	defer func() { t.Logf("%d rounds, %d bytes reclaimed", rounds, reclaimed) }()
	for round := range rounds {
		logMu.Lock()
		logged.Reset()
		logMu.Unlock()
		if b, err := os.ReadFile(indexFile); err == nil && rng.IntN(3) == 0 {
			if err := os.WriteFile(stale, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		o := Options{Dirs: paths, K: k, M: m, FS: disk, IndexDir: indexDir, SegmentBytes: 3 << 20, Logger: logger,
			CheckpointInterval: 10 * time.Millisecond, CheckpointEntries: 50}
		// The power may go during the start itself: then the next one has to cope.
		if rng.IntN(4) == 0 {
			disk.PowerOffAt(disk.Ops() + rng.IntN(60))
		}
		s, err := Open(context.Background(), o)
		if err != nil {
			if !disk.Off() {
				t.Fatalf("round %d: open: %v", round, err)
			}
		} else {
			if disk.Off() {
				// It may have opened without a write after the power went.
			} else {
				disk.PowerOffAt(disk.Ops() + 1<<30)
				if !created {
					mustBucket(t, s, "b")
					if versioned {
						mustVersioning(t, s, "b", VersioningEnabled)
					}
					created = true
				}
				model.verify(t, s)
			}
			disk.PowerOffAt(disk.Ops() + rng.IntN(800))
			var wg, collector sync.WaitGroup
			for w := range 4 {
				r := rand.New(rand.NewPCG(rng.Uint64(), uint64(w)))
				wg.Go(func() { crashWorker(t.Context(), s, model, w, r, pool) })
			}
			working, stop := context.WithCancel(t.Context())
			if rng.IntN(2) == 0 { // space is reclaimed all the time
				collector.Go(func() {
					for working.Err() == nil && s.WriteState() == nil {
						if r, err := s.GC(working, GCRequest{Threshold: 0.05}); err == nil {
							reclaimed += r.ReclaimedBytes
						}
					}
				})
			}
			wg.Wait()
			stop()
			collector.Wait()
			_ = s.Close(context.Background()) // fails, with the power off
		}
		switch rng.IntN(6) {
		case 0:
			_ = os.Remove(indexFile)
		case 1:
			if b, err := os.ReadFile(stale); err == nil {
				if err := os.WriteFile(indexFile, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if rng.IntN(4) == 0 {
			disk = disk.Clone() // kill -9: the page cache survives
		} else {
			disk = disk.CrashClone(rng)
		}
	}
	s := openStore(t, Options{Dirs: paths, FS: disk, IndexDir: indexDir, Logger: logger})
	model.verify(t, s)
	closeStore(t, s)
	// What was rebuilt answers as what was kept.
	if err := os.Remove(indexFile); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, Options{Dirs: paths, FS: disk, IndexDir: indexDir, Logger: logger})
	model.verify(t, s)
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
