package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestDirectoriesLostUnderLoad removes one and then a second of six directories while clients read and write. Not one
// request may fail, and every byte is right, then and after a restart without the two.
func TestDirectoriesLostUnderLoad(t *testing.T) {
	t.Logf("-seed=%d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 2))
	s := serve(t, "--segment-bytes", "64MiB", "--cache-bytes", "1MiB")
	c := sdk(s, noRetry)
	mustCreateBucket(t, c, "load")

	var (
		mu     sync.Mutex
		bodies = map[string][2]int{} // key -> seed and size
		reads  atomic.Int64
		writes atomic.Int64
		phase  atomic.Int64
	)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	put := func(key string, seed, size int) error {
		_, err := c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String("load"), Key: &key, Body: bytes.NewReader(bytesOf(uint64(seed), size))})
		if err == nil {
			mu.Lock()
			bodies[key] = [2]int{seed, size}
			mu.Unlock()
		}
		return err
	}
	get := func(key string, seed, size int) error {
		out, err := c.GetObject(context.Background(), &s3.GetObjectInput{Bucket: aws.String("load"), Key: &key})
		if err != nil {
			return err
		}
		defer out.Body.Close()
		got, err := io.ReadAll(out.Body)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, bytesOf(uint64(seed), size)) {
			return fmt.Errorf("%d wrong bytes", len(got))
		}
		return nil
	}
	verifyAll := func() {
		t.Helper()
		for key, b := range bodies {
			if err := get(key, b[0], b[1]); err != nil {
				t.Errorf("get %s: %v", key, err)
			}
		}
	}
	for i := range 40 {
		if err := put(fmt.Sprintf("base/%d", i), i, 300<<10); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for w := range 6 {
		rng := rand.New(rand.NewPCG(*seed, uint64(100+w)))
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key, seed, size := fmt.Sprintf("w%d/%d", w, i), rng.IntN(1<<30), 1+rng.IntN(400<<10)
				if err := put(key, seed, size); err != nil {
					t.Errorf("phase %d: put %s: %v", phase.Load(), key, err)
				}
				writes.Add(1)
				base := rng.IntN(40)
				if err := get(fmt.Sprintf("base/%d", base), base, 300<<10); err != nil {
					t.Errorf("phase %d: get base/%d: %v", phase.Load(), base, err)
				}
				if err := get(key, seed, size); err != nil {
					t.Errorf("phase %d: get %s: %v", phase.Load(), key, err)
				}
				reads.Add(2)
			}
		})
	}
	dirs := rng.Perm(6)
	load := func(ops int64) { // waits until so many more writes are through
		for until := writes.Load() + ops; writes.Load() < until && !t.Failed(); {
			time.Sleep(10 * time.Millisecond)
		}
	}
	load(60)
	for _, d := range dirs[:2] {
		t.Logf("removing %s after %d writes and %d reads", s.Dirs[d], writes.Load(), reads.Load())
		if err := removeAll(s.Dirs[d]); err != nil {
			t.Fatal(err)
		}
		phase.Add(1)
		load(120)
	}
	cancel()
	wg.Wait()
	t.Logf("%d writes, %d reads", writes.Load(), reads.Load())
	verifyAll()
	if v := metric(t, s, degradedReads); v == 0 {
		t.Errorf("%s is 0 with two directories gone", degradedReads)
	}
	stop(t, s)
	start(t, s)
	verifyAll()
	if err := put("after", 1, 1<<20); err != nil {
		t.Errorf("put after the restart without two directories: %v", err)
	}
	verifyAll()
	s.Kill()
	start(t, s)
	verifyAll()
}

// removeAll is os.RemoveAll against a server that may be making files at the same time.
func removeAll(dir string) (err error) {
	for range 100 {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
	}
	return err
}

// degradedReads counts the ranges that were rebuilt from parity for a reader.
const degradedReads = "casd_log_degraded_reads_total"

// shardFiles are the files of the log in one data directory.
func shardFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "segments", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no shard files in %s: %v", dir, err)
	}
	return files
}

// damages are what happens to files at rest.
var damages = map[string]func(rng *rand.Rand, path string) error{
	"flip": func(rng *rand.Rand, path string) error {
		return rewrite(path, func(b []byte) []byte {
			for range 1 + len(b)/100_000 {
				b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
			}
			return b
		})
	},
	"zero": func(rng *rand.Rand, path string) error {
		return rewrite(path, func(b []byte) []byte {
			at := rng.IntN(len(b))
			clear(b[at:min(len(b), at+64<<10)])
			return b
		})
	},
	"truncate": func(rng *rand.Rand, path string) error {
		return rewrite(path, func(b []byte) []byte { return b[:rng.IntN(len(b))] })
	},
	"remove": func(_ *rand.Rand, path string) error { return os.Remove(path) },
}

// rewrite replaces the bytes of a file that is not empty.
func rewrite(path string, change func([]byte) []byte) error {
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return err
	}
	return os.WriteFile(path, change(b), 0o644)
}

// TestDamage harms every shard file of two directories of a stopped server, for each pair of directories and each kind of
// damage. Every object is read right afterwards, writes go on, and the metrics tell.
func TestDamage(t *testing.T) {
	t.Parallel()
	t.Logf("-seed=%d", *seed)
	for kind, damage := range damages {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(*seed, uint64(len(kind))))
			s := serve(t, "--segment-bytes", "8MiB", "--cache-bytes", "1MiB")
			c := sdk(s)
			mustCreateBucket(t, c, "damage")
			bodies := map[string][]byte{}
			put := func(key string, n int) {
				t.Helper()
				bodies[key] = bytesOf(uint64(len(bodies)+1), n)
				if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("damage"), Key: &key, Body: bytes.NewReader(bodies[key])}); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 25 {
				put(fmt.Sprintf("big/%d", i), 1<<20)
				put(fmt.Sprintf("small/%d", i), 3000)
				put(fmt.Sprintf("tiny/%d", i), 30)
			}
			stop(t, s)
			data := filepath.Dir(s.Dirs[0])
			copyTree(t, data, data+".whole")
			for pair := range 3 {
				for _, d := range []int{2 * pair, 2*pair + 1} {
					for _, path := range shardFiles(t, s.Dirs[d]) {
						if err := damage(rng, path); err != nil {
							t.Fatal(err)
						}
					}
				}
				start(t, s)
				for key, want := range bodies {
					mustObject(t, c, "damage", key, want)
				}
				if v := metric(t, s, degradedReads); v == 0 {
					t.Errorf("directories %d and %d: %s is 0", 2*pair+1, 2*pair+2, degradedReads)
				}
				put("after", 2<<20)
				mustObject(t, c, "damage", "after", bodies["after"])
				delete(bodies, "after")

				s.Kill() // and back to the whole store
				if err := os.RemoveAll(data); err != nil {
					t.Fatal(err)
				}
				copyTree(t, data+".whole", data)
			}
		})
	}
}
