package cas

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
)

// dirsOf makes n data directories.
func dirsOf(t testing.TB, n int) []string {
	t.Helper()
	root := t.TempDir()
	dirs := make([]string, n)
	for i := range dirs {
		dirs[i] = filepath.Join(root, fmt.Sprintf("d%d", i+1))
		if err := os.MkdirAll(dirs[i], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dirs
}

// openStore opens a store and closes it with the test unless the test did.
func openStore(t testing.TB, o Options) *Store {
	t.Helper()
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 16 << 20
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func mustBucket(t testing.TB, s *Store, name string) {
	t.Helper()
	if _, err := s.CreateBucket(t.Context(), Bucket{Name: name}); err != nil {
		t.Fatal(err)
	}
}

// noise returns n random bytes of a seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1], key[2], key[3] = byte(seed), byte(seed>>8), byte(seed>>16), byte(seed>>24)
	rand.NewChaCha8(key).Read(b)
	return b
}

func etagOf(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

// putBytes stores b the way that a protocol does: with a digest that becomes the ETag.
func putBytes(ctx context.Context, s *Store, bucket, key string, b []byte, cond Condition) (ObjectInfo, error) {
	var h hash.Hash = md5.New()
	return s.Put(ctx, PutRequest{Bucket: bucket, Key: key, Body: bytes.NewReader(b), Digest: h, If: cond,
		Finish: func(n int64) (Attributes, error) {
			if n != int64(len(b)) {
				return Attributes{}, fmt.Errorf("Finish(%d), want %d", n, len(b))
			}
			return Attributes{ETag: hex.EncodeToString(h.Sum(nil)), ContentType: "x/y", Metadata: map[string]string{"a": "b"}}, nil
		}})
}

func mustPut(t testing.TB, s *Store, bucket, key string, b []byte) {
	t.Helper()
	info, err := putBytes(t.Context(), s, bucket, key, b, nil)
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	if info.ETag != etagOf(b) || info.Size != int64(len(b)) {
		t.Fatalf("put %s = %d bytes with ETag %s", key, info.Size, info.ETag)
	}
}

func getBytes(ctx context.Context, s *Store, bucket, key string) ([]byte, error) {
	o, err := s.Get(ctx, GetRequest{Bucket: bucket, Key: key})
	if err != nil {
		return nil, err
	}
	defer o.Close()
	var w bytes.Buffer
	_, err = o.WriteRange(ctx, &w, 0, o.Info.Size)
	return w.Bytes(), err
}

func mustHave(t testing.TB, s *Store, bucket, key string, want []byte) {
	t.Helper()
	got, err := getBytes(t.Context(), s, bucket, key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("get %s: %d bytes that differ from the %d stored", key, len(got), len(want))
	}
}

func stats(t testing.TB, s *Store) Stats {
	t.Helper()
	st, err := s.Stats(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// sizes that meet every form of content and both sides of each bound.
var sizes = []int{0, 1, inlineBytesMax, inlineBytesMax + 1, 4096, smallBytesMax - 1, smallBytesMax, smallBytesMax + 1, blockBytes, 300_000,
	uploadBlocks*blockBytes + 1, 9 << 20}

func TestObjectsSurviveReopenAndRebuild(t *testing.T) {
	o := Options{Dirs: dirsOf(t, 6)}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	for i, n := range sizes {
		mustPut(t, s, "b", fmt.Sprint(n), noise(uint64(i), n))
		mustPut(t, s, "b", fmt.Sprint("text", n), bytes.Repeat([]byte("compressible "), n/13+1))
	}
	check := func() {
		t.Helper()
		for i, n := range sizes {
			mustHave(t, s, "b", fmt.Sprint(n), noise(uint64(i), n))
			mustHave(t, s, "b", fmt.Sprint("text", n), bytes.Repeat([]byte("compressible "), n/13+1))
		}
	}
	check()
	before := stats(t, s)
	closeStore(t, s)
	s = openStore(t, o)
	check()
	closeStore(t, s)
	if err := os.RemoveAll(filepath.Join(o.Dirs[0], "index")); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, o)
	check()
	after := stats(t, s)
	if after.Objects != before.Objects || after.LogicalBytes != before.LogicalBytes || after.Chunks != before.Chunks || after.UniqueBytes != before.UniqueBytes {
		t.Fatalf("rebuilt: %+v, before: %+v", after, before)
	}
	if got := int64(len(sizes) * 2); after.Objects != got {
		t.Fatalf("%d objects, want %d", after.Objects, got)
	}
}

func TestRanges(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 3)})
	mustBucket(t, s, "b")
	want := noise(1, 3<<20)
	mustPut(t, s, "b", "k", want)
	o, err := s.Get(t.Context(), GetRequest{Bucket: "b", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		off := rng.Int64N(o.Info.Size + 1)
		n := rng.Int64N(o.Info.Size - off + 1)
		if rng.IntN(2) == 0 {
			n = min(n, 1000)
		}
		var w bytes.Buffer
		if m, err := o.WriteRange(t.Context(), &w, off, n); err != nil || m != n || !bytes.Equal(w.Bytes(), want[off:off+n]) {
			t.Fatalf("range %d+%d = %d bytes, %v", off, n, m, err)
		}
	}
	if _, err := o.WriteRange(t.Context(), io.Discard, o.Info.Size, 1); err == nil {
		t.Fatal("a range behind the end was accepted")
	}
	b, err := io.ReadAll(io.LimitReader(o.NewReader(t.Context(), 5, o.Info.Size-5), 100))
	if err != nil || !bytes.Equal(b, want[5:105]) {
		t.Fatalf("NewReader: %v", err)
	}
}

func TestSecondUploadStoresNextToNothing(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 6)})
	mustBucket(t, s, "b")
	body := noise(1, 20<<20)
	mustPut(t, s, "b", "one", body)
	before := stats(t, s)
	mustPut(t, s, "b", "two", body)
	changed := bytes.Clone(body)
	copy(changed[10<<20:], "changed here")
	mustPut(t, s, "b", "three", append([]byte("inserted "), changed...))
	after := stats(t, s)
	if grown := after.PayloadBytes - before.PayloadBytes; grown > 3<<20 {
		t.Fatalf("payload grew by %d bytes", grown)
	}
	if after.LogicalBytes < 3*before.LogicalBytes {
		t.Fatalf("logical bytes %d after %d", after.LogicalBytes, before.LogicalBytes)
	}
}

func TestConcurrentUploadsOfTheSameBytesStoreThemOnce(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 6)})
	mustBucket(t, s, "b")
	body := noise(1, 5<<20)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := putBytes(t.Context(), s, "b", fmt.Sprint(i), body, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	st := stats(t, s)
	if st.UniqueBytes > int64(len(body))+8<<10 || st.PayloadBytes > int64(len(body))+64<<10 {
		t.Fatalf("stored more than once: %+v", st)
	}
	for i := range 8 {
		mustHave(t, s, "b", fmt.Sprint(i), body)
	}
}

// An upload that dies after it claimed a chunk must not take it from another that waits for it.
func TestChunksOutliveTheUploadThatBroughtThem(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 3)})
	mustBucket(t, s, "b")
	body := noise(1, 4<<20)
	for round := range 10 {
		body := append([]byte{byte(round)}, body...)
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := s.Put(ctx, PutRequest{Bucket: "b", Key: "dies", Body: io.MultiReader(bytes.NewReader(body), iotest.ErrReader(errors.New("gone")))})
			if err == nil {
				t.Error("a broken body was accepted")
			}
		})
		wg.Go(func() {
			if _, err := putBytes(t.Context(), s, "b", "lives", body, nil); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		mustHave(t, s, "b", "lives", body)
	}
	if _, err := getBytes(t.Context(), s, "b", "dies"); !errors.Is(err, ErrNoSuchKey) {
		t.Fatalf("a broken upload is visible: %v", err)
	}
}

func TestAbandonedUploadsLeaveNothingVisible(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 3)})
	mustBucket(t, s, "b")
	boom := errors.New("boom")
	for _, n := range []int{0, 10, 5000, 70_000, 5 << 20} {
		for name, r := range map[string]PutRequest{
			"body fails": {Body: io.MultiReader(bytes.NewReader(noise(9, n)), iotest.ErrReader(boom))},
			"body is cut": {Body: io.MultiReader(bytes.NewReader(noise(9, n)), iotest.ErrReader(io.ErrUnexpectedEOF)),
				Finish: func(int64) (Attributes, error) { t.Error("Finish called"); return Attributes{}, nil }},
			"digest fails": {Body: bytes.NewReader(noise(9, n+1)), Digest: failingWriter{boom}},
			"finish fails": {Body: bytes.NewReader(noise(9, n)), Finish: func(int64) (Attributes, error) { return Attributes{}, boom }},
			"condition":    {Body: bytes.NewReader(noise(9, n)), If: func(*ObjectInfo) error { return boom }},
		} {
			r.Bucket, r.Key = "b", "k"
			if _, err := s.Put(t.Context(), r); !errors.Is(err, boom) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s, %d bytes: Put = %v", name, n, err)
			}
			if _, err := s.Stat(t.Context(), GetRequest{Bucket: "b", Key: "k"}); !errors.Is(err, ErrNoSuchKey) {
				t.Fatalf("%s, %d bytes: Stat = %v", name, n, err)
			}
		}
	}
	if st := stats(t, s); st.Objects != 0 || st.LogicalBytes != 0 {
		t.Fatalf("counters moved: %+v", st)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func onlyNew(current *ObjectInfo) error {
	if current != nil {
		return ErrPreconditionFailed
	}
	return nil
}

func TestOneWinnerOfAHundred(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 3)})
	mustBucket(t, s, "b")
	for _, n := range []int{10, 100_000} {
		key := fmt.Sprint(n)
		var won atomic.Int32
		var winner atomic.Int64
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				_, err := putBytes(t.Context(), s, "b", key, noise(uint64(i), n), onlyNew)
				switch {
				case err == nil:
					won.Add(1)
					winner.Store(int64(i))
				case !errors.Is(err, ErrPreconditionFailed):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d winners", won.Load())
		}
		mustHave(t, s, "b", key, noise(uint64(winner.Load()), n))
	}
}

func TestOverwriteAndDeleteKeepCounters(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 3)})
	mustBucket(t, s, "b")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range 40 {
				key := fmt.Sprint(rng.IntN(5))
				if rng.IntN(3) == 0 {
					if _, err := s.Delete(t.Context(), "b", key, nil); err != nil {
						t.Error(err)
					}
				} else if _, err := putBytes(t.Context(), s, "b", key, noise(rng.Uint64(), rng.IntN(2000)), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	l, err := s.List(t.Context(), ListRequest{Bucket: "b", Max: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var bytes int64
	for _, it := range l.Items {
		bytes += it.Object.Size
	}
	if st := stats(t, s); st.Objects != int64(len(l.Items)) || st.LogicalBytes != bytes {
		t.Fatalf("counters say %d objects, %d bytes; there are %d, %d", st.Objects, st.LogicalBytes, len(l.Items), bytes)
	}
}

func TestCopyMovesNothing(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 6)})
	mustBucket(t, s, "a")
	mustBucket(t, s, "b")
	body := noise(1, 30<<20)
	mustPut(t, s, "a", "src", body)
	before := stats(t, s)
	info, err := s.Copy(t.Context(), CopyRequest{SourceBucket: "a", SourceKey: "src", Bucket: "b", Key: "dst",
		Attributes: func(src ObjectInfo) (Attributes, error) { a := src.Attributes; a.ContentType = "new"; return a, nil }})
	if err != nil || info.ETag != etagOf(body) || info.ContentType != "new" || info.Metadata["a"] != "b" {
		t.Fatalf("copy = %+v, %v", info, err)
	}
	if grown := stats(t, s).PayloadBytes - before.PayloadBytes; grown > 8<<10 {
		t.Fatalf("copy wrote %d bytes", grown)
	}
	if _, err := s.Delete(t.Context(), "a", "src", nil); err != nil {
		t.Fatal(err)
	}
	mustHave(t, s, "b", "dst", body)
	if _, err := s.Copy(t.Context(), CopyRequest{SourceBucket: "a", SourceKey: "src", Bucket: "b", Key: "x",
		Attributes: func(src ObjectInfo) (Attributes, error) { return src.Attributes, nil }}); !errors.Is(err, ErrNoSuchKey) {
		t.Fatalf("copy of a deleted object: %v", err)
	}
}

func TestBuckets(t *testing.T) {
	s := openStore(t, Options{Dirs: dirsOf(t, 3)})
	for _, n := range []string{"c", "a", "b", "ab"} {
		mustBucket(t, s, n)
	}
	if b, err := s.CreateBucket(t.Context(), Bucket{Name: "a", Owner: "x"}); !errors.Is(err, ErrBucketExists) || b.Name != "a" {
		t.Fatalf("second create: %+v, %v", b, err)
	}
	bs, more, err := s.ListBuckets(t.Context(), "", "", 3)
	if err != nil || !more || len(bs) != 3 || bs[0].Name != "a" || bs[1].Name != "ab" {
		t.Fatalf("list: %v %v %v", bs, more, err)
	}
	if bs, more, _ = s.ListBuckets(t.Context(), "a", "a", 3); more || len(bs) != 1 || bs[0].Name != "ab" {
		t.Fatalf("list with prefix and after: %v %v", bs, more)
	}
	mustPut(t, s, "c", "k", []byte("x"))
	if err := s.DeleteBucket(t.Context(), "c"); !errors.Is(err, ErrBucketNotEmpty) {
		t.Fatalf("delete of a full bucket: %v", err)
	}
	if _, err := s.CreateUpload(t.Context(), CreateUploadRequest{Bucket: "b", Key: "k"}); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteBucket(t.Context(), "b"); err != nil {
		t.Fatalf("delete with an upload in progress: %v", err)
	}
	for _, err := range []error{
		s.DeleteBucket(t.Context(), "b"),
		func() error { _, err := s.Bucket(t.Context(), "b"); return err }(),
		func() error { _, err := putBytes(t.Context(), s, "b", "k", nil, nil); return err }(),
		func() error { _, err := s.List(t.Context(), ListRequest{Bucket: "b", Max: 1}); return err }(),
		func() error { _, err := s.Stat(t.Context(), GetRequest{Bucket: "b", Key: "k"}); return err }(),
		func() error {
			_, err := s.CreateUpload(t.Context(), CreateUploadRequest{Bucket: "b", Key: "k"})
			return err
		}(),
	} {
		if !errors.Is(err, ErrNoSuchBucket) {
			t.Errorf("error %v, want ErrNoSuchBucket", err)
		}
	}
}
