package main

import (
	"crypto/md5"
	"errors"
	"io"
	"time"

	"github.com/klauspost/reedsolomon"
	"github.com/zeebo/blake3"
	"github.com/zeebo/xxh3"

	"github.com/casd/casd/chunking"
	"github.com/casd/casd/cmd/casd/casdtest"
)

// A stage is one piece of the CPU work that a PUT of new, incompressible bytes needs at least.
type stage struct {
	name string
	run  func(data []byte) error
}

// stages measures each stage alone on one core, and says what they allow together: the bytes pass through all of them, so
// the times a byte add up, and are divided among the cores.
func stages(cores int) error {
	data := make([]byte, 32<<20)
	begun := time.Now()
	if _, err := io.ReadFull(casdtest.Random(3), data); err != nil {
		return err
	}
	client := time.Since(begun)
	params, err := chunking.NewParams()
	if err != nil {
		return err
	}
	code, err := reedsolomon.New(k, m, reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		return err
	}
	const stripe = 4 << 20
	parity := make([]byte, m*stripe/k)
	sum := client
	row("  client: random bytes", "%8.0f MB/s a core", rate(len(data), client))
	for _, s := range []stage{
		{"MD5 (the ETag)", func(b []byte) error { md5.Sum(b); return nil }},
		{"chunking", func(b []byte) error {
			split := chunking.NewSplitter(&reader{b}, params)
			buf := make([]byte, 0, params.MaxBytes)
			for {
				if _, err := split.Next(buf); err != nil {
					if errors.Is(err, io.EOF) {
						return nil
					}
					return err
				}
			}
		}},
		{"BLAKE3 (the chunk ID)", func(b []byte) error { blake3.Sum256(b); return nil }},
		{"Reed-Solomon 4+2", func(b []byte) error {
			for ; len(b) >= stripe; b = b[stripe:] {
				var shards [k + m][]byte
				for i := range k {
					shards[i] = b[i*stripe/k : (i+1)*stripe/k]
				}
				for i := range m {
					shards[k+i] = parity[i*stripe/k : (i+1)*stripe/k]
				}
				if err := code.Encode(shards[:]); err != nil {
					return err
				}
			}
			return nil
		}},
		{"XXH3 (shard checksums, parity included)", func(b []byte) error { xxh3.Hash128(b); xxh3.Hash128(b[:len(b)*m/k]); return nil }},
	} {
		begun := time.Now()
		if err := s.run(data); err != nil {
			return err
		}
		took := time.Since(begun)
		sum += took
		row("  server: "+s.name, "%8.0f MB/s a core", rate(len(data), took))
	}
	row("  all of that, without copies, HTTP and writes", "%8.0f MB/s on %d cores", rate(len(data), sum)*float64(cores), cores)
	return nil
}

func rate(n int, d time.Duration) float64 { return float64(n) / 1e6 / d.Seconds() }

// A reader is an io.Reader of b without the shortcuts of bytes.Reader.
type reader struct{ b []byte }

func (r *reader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}
