package index

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// benchChunks are n chunks with random IDs, always the same ones.
func benchChunks(seed uint64, n int) []Chunk {
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	chunks := make([]Chunk, n)
	for i := range chunks {
		source.Read(chunks[i].ID[:]) //nolint:errcheck // never fails
		chunks[i].Size = 128 << 10
	}
	return chunks
}

// fillChunks writes n chunks, in checkpoints of 65,536 as a store does.
func fillChunks(b *testing.B, db *DB, n int) {
	b.Helper()
	const batch = 64 << 10
	for i := 0; i < n; i += batch {
		if err := db.PutChunks(benchChunks(uint64(i/batch), min(batch, n-i))); err != nil {
			b.Fatal(err)
		}
		if err := db.Checkpoint(b.Context(), Position{}); err != nil {
			b.Fatal(err)
		}
	}
}

func fillKeys(b *testing.B, db *DB, prefixes, keys int) {
	b.Helper()
	value := make([]byte, 200)
	csn := uint64(0)
	for p := range prefixes {
		csn++
		ops := make([]Op, keys)
		for k := range ops {
			ops[k] = Op{Table: Objects, Key: ObjectKey("bucket", fmt.Sprintf("backup/2026/%04d/file-%06d", p, k), csn), Value: value}
		}
		commit(b, db, csn, ops...)
		if p%50 == 49 {
			if err := db.Checkpoint(b.Context(), Position{CSN: csn}); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := db.Checkpoint(b.Context(), Position{CSN: csn}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPublish stages and publishes one mutation of 3 rows, with a checkpoint every 65,536 rows that is not measured.
func BenchmarkPublish(b *testing.B) {
	for _, batch := range []int{1, 32} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			db := openTemp(b)
			value := make([]byte, 300)
			csn := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				st, err := db.Stage()
				if err != nil {
					b.Fatal(err)
				}
				for range batch {
					csn++
					key := binary.BigEndian.AppendUint64([]byte("key"), csn*0x9E3779B97F4A7C15)
					if err := st.Apply(csn, []Op{{Table: Objects, Key: key, Value: value}, {Table: Usage, Key: []byte("bucket"), Value: value[:40]},
						{Table: Uploads, Key: key, Delete: true}}); err != nil {
						b.Fatal(err)
					}
				}
				st.Publish()
				if db.OverlayEntries() > 64<<10 {
					b.StopTimer()
					if err := db.Checkpoint(b.Context(), Position{CSN: csn}); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			}
		})
	}
}

// BenchmarkView opens a view and gets one of 100,000 rows of the file.
func BenchmarkView(b *testing.B) {
	db := openTemp(b)
	fillKeys(b, db, 100, 1000)
	rng := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	for b.Loop() {
		view, err := db.View()
		if err != nil {
			b.Fatal(err)
		}
		p := rng.IntN(100)
		lo, hi := ObjectRange("bucket", fmt.Sprintf("backup/2026/%04d/file-%06d", p, rng.IntN(1000)))
		if _, ok, err := view.First(Objects, lo, hi); err != nil || !ok {
			b.Fatal(ok, err)
		}
		view.Close()
	}
}

// BenchmarkLookupChunk looks up IDs among 1 million in the file.
func BenchmarkLookupChunk(b *testing.B) {
	db := openTemp(b)
	fillChunks(b, db, 1<<20)
	known, unknown := benchChunks(3, 64<<10), benchChunks(1<<16, 64<<10)
	for name, chunks := range map[string][]Chunk{"known": known, "unknown": unknown} {
		b.Run(name, func(b *testing.B) {
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if _, ok, err := db.LookupChunk(chunks[i%len(chunks)].ID); err != nil || ok != (name == "known") {
					b.Fatal(ok, err)
				}
				i++
			}
		})
	}
	b.Run("overlay", func(b *testing.B) {
		if err := db.PutChunks(known); err != nil {
			b.Fatal(err)
		}
		i := 0
		for b.Loop() {
			if _, ok, err := db.LookupChunk(known[i%len(known)].ID); err != nil || !ok {
				b.Fatal(ok, err)
			}
			i++
		}
	})
}

// BenchmarkPutChunks puts 64 new chunks, as a stripe brings them, into an index of 1 million.
func BenchmarkPutChunks(b *testing.B) {
	db := openTemp(b)
	fillChunks(b, db, 1<<20)
	chunks := benchChunks(1<<17, 64)
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		for i := range chunks {
			binary.LittleEndian.PutUint64(chunks[i].ID[8:], n)
		}
		if err := db.PutChunks(chunks); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCheckpoint writes 65,536 random chunks into an index of 1 million, synced.
func BenchmarkCheckpoint(b *testing.B) {
	db := openTemp(b)
	fillChunks(b, db, 1<<20)
	db.bolt.NoSync = false
	n := uint64(1 << 18)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		n++
		if err := db.PutChunks(benchChunks(n, 64<<10)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := db.Checkpoint(b.Context(), Position{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*(64<<10)/b.Elapsed().Seconds(), "rows/s")
	sizes, err := db.Sizes()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(sizes.FileBytes-int64(sizes.FreePages*sizes.PageBytes))/float64(sizes.Chunks), "bytes/row")
	b.ReportMetric(float64(sizes.FileBytes)/float64(sizes.Chunks), "file-bytes/row")
}

// BenchmarkOpen opens an index of 1 million chunks and 100,000 keys that was not closed: all of it is read and proven.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	path := filepath.Join(dir, "index")
	db := mustOpen(b, path)
	fillChunks(b, db, 1<<20)
	fillKeys(b, db, 100, 1000)
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	for _, clean := range []bool{true, false} {
		b.Run(fmt.Sprintf("clean=%v", clean), func(b *testing.B) {
			for b.Loop() {
				if !clean {
					if err := os.Remove(path + cleanSuffix); err != nil {
						b.Fatal(err)
					}
				}
				db := mustOpen(b, path)
				if err := db.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkList lists 1,000 of 1 million keys, in the file but for 1,000 that lie over it.
func BenchmarkList(b *testing.B) {
	db := openTemp(b)
	fillKeys(b, db, 1000, 1000)
	var ops []Op
	for p := range 1000 {
		ops = append(ops, putObject("bucket", fmt.Sprintf("backup/2026/%04d/new", p), 1<<20, "value"))
	}
	commit(b, db, 1<<20, ops...)
	for name, q := range map[string]Query{
		"start":     {},
		"middle":    {After: "backup/2026/0500/file-000500"},
		"prefix":    {Prefix: "backup/2026/0700/"},
		"delimiter": {Prefix: "backup/2026/", Delimiter: "/"},
		"top":       {Delimiter: "/"},
	} {
		q.Bucket, q.Max = "bucket", 1000
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				view, err := db.View()
				if err != nil {
					b.Fatal(err)
				}
				if r, err := List(view, q); err != nil || len(r.Items) == 0 {
					b.Fatal(len(r.Items), err)
				}
				view.Close()
			}
		})
	}
}

// BenchmarkVerify proves an index of 1 million chunks.
func BenchmarkVerify(b *testing.B) {
	db := openTemp(b)
	fillChunks(b, db, 1<<20)
	for b.Loop() {
		if err := db.Verify(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
