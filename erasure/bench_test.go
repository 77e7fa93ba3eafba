package erasure

import (
	"math/rand/v2"
	"testing"
)

func benchLog(b *testing.B) *Log {
	l := mustOpen(b, Options{Dirs: testDirs(b, 6), Create: &Creation{K: 4, M: 2}})
	mustRecover(b, l)
	b.Cleanup(func() { l.Close(b.Context()) })
	return l
}

// BenchmarkCommit commits one mutation of 200 bytes at a time, with all its fsyncs, 4+2 on the directories of b.TempDir.
func BenchmarkCommit(b *testing.B) {
	l := benchLog(b)
	muts := []Record{{Kind: 1, Body: make([]byte, 200)}}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Commit(b.Context(), muts, nil, TierUpload); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppendBulk appends random records of 128 KiB to a 4+2 store and syncs at the end.
func BenchmarkAppendBulk(b *testing.B) {
	l := benchLog(b)
	body := randomBody(rand.New(rand.NewPCG(1, 1)), 128<<10)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Append(b.Context(), Record{Kind: 1, Label: body[:40], Body: body}, Data, TierUpload); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// readable returns a log with 256 records of 128 KiB and their locations.
func readableLog(b *testing.B) (*Log, []Location) {
	var locs []Location
	opt := Options{Dirs: testDirs(b, 6), Create: &Creation{K: 4, M: 2}, OnDurable: func(ps []Placed) {
		for _, p := range ps {
			locs = append(locs, p.Location)
		}
	}}
	l := mustOpen(b, opt)
	mustRecover(b, l)
	body := randomBody(rand.New(rand.NewPCG(1, 1)), 128<<10)
	for range 256 {
		if _, err := l.Append(b.Context(), Record{Kind: 1, Label: body[:40], Body: body}, Data, TierUpload); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close(b.Context()) })
	return l, locs
}

func benchRead(b *testing.B, l *Log, locs []Location) {
	b.SetBytes(128 << 10)
	b.ReportAllocs()
	buf := make([]byte, 0, 256<<10)
	i := 0
	for b.Loop() {
		if _, err := l.Read(b.Context(), locs[i%len(locs)], buf[:0]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkRead reads records of 128 KiB from the page cache.
func BenchmarkRead(b *testing.B) {
	l, locs := readableLog(b)
	benchRead(b, l, locs)
}

// BenchmarkReconstruct reads the same with two of six directories out of service; two thirds of the reads rebuild.
func BenchmarkReconstruct(b *testing.B) {
	l, locs := readableLog(b)
	for _, d := range l.dirs()[:2] {
		d.setOffline(errHung)
	}
	benchRead(b, l, locs)
}
