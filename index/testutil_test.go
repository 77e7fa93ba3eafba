package index

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// tester is what helpers need of *testing.T and *rapid.T.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

func mustOpen(t tester, path string) *DB {
	t.Helper()
	db, err := Open(Options{Path: path, NoSync: true})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return db
}

// openTemp opens a new index that is closed at the end of the test.
func openTemp(t testing.TB) *DB {
	t.Helper()
	db := mustOpen(t, filepath.Join(t.TempDir(), "index"))
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return db
}

// commit publishes ops as mutation csn.
func commit(t tester, db *DB, csn uint64, ops ...Op) {
	t.Helper()
	st, err := db.Stage()
	if err != nil {
		t.Fatalf("Stage: %v", err)
	}
	defer st.Discard()
	if err := st.Apply(csn, ops); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	st.Publish()
}

// putObject returns the op that writes a version of key.
func putObject(bucket, key string, csn uint64, value string) Op {
	return Op{Table: Objects, Key: ObjectKey(bucket, key, csn), Value: []byte(value)}
}

// copyFile copies what a crash would leave of an index: its bytes, without the clean mark. Only the pages that bbolt has handed out are
// copied; the rest of the 16 MiB is a hole.
func copyFile(t tester, from, to string) {
	t.Helper()
	source, err := os.Open(from)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer source.Close()
	meta, err := readMeta(source)
	if err != nil {
		t.Fatalf("%v", err)
	}
	info, err := source.Stat()
	if err != nil {
		t.Fatalf("%v", err)
	}
	b := make([]byte, meta.pages*uint64(meta.pageBytes))
	if _, err := io.ReadFull(source, b); err != nil {
		t.Fatalf("%v", err)
	}
	writeFile(t, to, b, info.Size())
}

// writeFile writes a file that begins with b and goes on to size with a hole.
func writeFile(t tester, path string, b []byte, size int64) {
	t.Helper()
	err := os.WriteFile(path, b, 0o600)
	if err == nil {
		err = os.Truncate(path, size)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func testChunk(n int) Chunk {
	c := Chunk{Size: uint32(1000 + n), Encoding: uint8(n)}
	h, _ := rowHash(nil, Meta, fmt.Appendf(nil, "chunk %d", n), 0, nil)
	g, _ := rowHash(nil, Meta, fmt.Appendf(nil, "more of chunk %d", n), 0, nil)
	for i := range 8 {
		c.ID[i], c.ID[8+i], c.ID[16+i], c.ID[24+i] = byte(h.lo>>(8*i)), byte(h.hi>>(8*i)), byte(g.lo>>(8*i)), byte(g.hi>>(8*i))
	}
	copy(c.Location[:], fmt.Sprintf("location %d", n))
	return c
}
