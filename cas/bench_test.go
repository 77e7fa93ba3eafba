package cas

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
)

func benchStore(b *testing.B) *Store {
	s := openStore(b, Options{Dirs: dirsOf(b, 6), SegmentBytes: 1 << 30})
	mustBucket(b, s, "b")
	return s
}

// benchPut stores objects of a size from several goroutines.
func benchPut(b *testing.B, workers, size int, body func(i int64) []byte) {
	s := benchStore(b)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if _, err := s.Put(context.Background(), PutRequest{Bucket: "b", Key: fmt.Sprint(i), Body: bytes.NewReader(body(i)), Digest: md5.New()}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
}

func BenchmarkPut4KiB(b *testing.B) {
	for _, workers := range []int{1, 32, 128} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			benchPut(b, workers, 4096, func(i int64) []byte { return noise(uint64(i), 4096) })
		})
	}
}

func BenchmarkPut64MiB(b *testing.B) {
	base := noise(1, 64<<20)
	b.Run("unique", func(b *testing.B) {
		var n atomic.Uint64
		benchPut(b, 4, 64<<20, func(int64) []byte {
			body := bytes.Clone(base)
			k := byte(n.Add(1))
			for i := 0; i < len(body); i += 4096 {
				body[i] ^= k
				body[i+1] ^= k >> 3
			}
			return body
		})
	})
	b.Run("duplicate", func(b *testing.B) {
		benchPut(b, 4, 64<<20, func(int64) []byte { return base })
	})
}

func BenchmarkGet(b *testing.B) {
	for _, size := range []int{4096, 1 << 20, 64 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := benchStore(b)
			mustPut(b, s, "b", "k", noise(1, size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				o, err := s.Get(context.Background(), GetRequest{Bucket: "b", Key: "k"})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := o.WriteRange(context.Background(), io.Discard, 0, int64(size)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
