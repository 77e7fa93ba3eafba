package cas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// With more directories lost than there is parity, what the index holds is served, what needs the log is refused, and
// nothing is written.
func TestMoreThanMDirectoriesLost(t *testing.T) {
	indexDir := t.TempDir()
	o := Options{Dirs: dirsOf(t, 6), IndexDir: indexDir}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	small, large := noise(1, 300), noise(2, 3<<20)
	mustPut(t, s, "b", "small", small)
	mustPut(t, s, "b", "large", large)
	closeStore(t, s)
	for _, d := range o.Dirs[3:] {
		if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
	}
	s = openStore(t, o)
	mustHave(t, s, "b", "small", small)
	if b, err := getBytes(t.Context(), s, "b", "large"); err == nil || !bytes.HasPrefix(large, b) {
		t.Fatalf("large object: %d bytes, %v", len(b), err)
	}
	if _, err := putBytes(t.Context(), s, "b", "new", small, nil); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("put = %v, want ErrReadOnly", err)
	}
	if err := s.WriteState(); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("WriteState = %v", err)
	}
	// Whether there is more than the index knows is out of reach too.
	if _, err := getBytes(t.Context(), s, "b", "unknown"); !errors.Is(err, ErrIncomplete) || errors.Is(err, ErrNoSuchKey) {
		t.Fatalf("get of an unknown key = %v, want ErrIncomplete", err)
	}
	if _, err := s.List(t.Context(), ListRequest{Bucket: "b", Max: 10}); !errors.Is(err, ErrIncomplete) {
		t.Fatalf("list = %v, want ErrIncomplete", err)
	}
}

// Any damage of up to m shards of a stripe is read around.
func TestDamagedShardsAreReadAround(t *testing.T) {
	o := Options{Dirs: dirsOf(t, 6), CacheBytes: 1}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	objects := map[string][]byte{}
	for i, n := range []int{600, 70_000, 3 << 20} {
		key := fmt.Sprint(i)
		objects[key] = noise(uint64(i), n)
		mustPut(t, s, "b", key, objects[key])
	}
	closeStore(t, s)
	for i, dir := range o.Dirs[:2] {
		files, err := filepath.Glob(filepath.Join(dir, "segments", "*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no shard files in %s: %v", dir, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				for at := 100; at < len(b); at += 1000 {
					b[at] ^= 0x10
				}
			} else {
				b = b[:len(b)/2]
			}
			if err := os.WriteFile(f, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = openStore(t, o)
	for key, want := range objects {
		mustHave(t, s, "b", key, want)
	}
	mustPut(t, s, "b", "after", noise(9, 100_000))
	mustHave(t, s, "b", "after", noise(9, 100_000))
}

// A chunk that cannot be rebuilt is not known any more: the next upload of the same bytes stores it anew, and heals
// every object that names it.
func TestDamagedChunksAreStoredAnew(t *testing.T) {
	o := Options{Dirs: dirsOf(t, 2), K: 1, M: 1, CacheBytes: 1}
	s := openStore(t, o)
	mustBucket(t, s, "b")
	body := noise(1, 500_000)
	mustPut(t, s, "b", "k", body)
	closeStore(t, s)
	for _, dir := range o.Dirs {
		files, _ := filepath.Glob(filepath.Join(dir, "segments", "*.d.*"))
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for at := 8192; at < len(b)-4096; at += 50_000 {
				b[at] ^= 1
			}
			if err := os.WriteFile(f, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = openStore(t, o)
	if got, err := getBytes(t.Context(), s, "b", "k"); !errors.Is(err, ErrCorrupt) || !bytes.HasPrefix(body, got) {
		t.Fatalf("get of a damaged object: %d bytes, %v", len(got), err)
	}
	// Each read stops at the first damaged chunk, so several rounds find them all.
	for range 20 {
		mustPut(t, s, "b", "again", body)
		if _, err := getBytes(context.Background(), s, "b", "k"); err == nil {
			break
		}
	}
	mustHave(t, s, "b", "k", body)
	mustHave(t, s, "b", "again", body)
}
