package index

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func testCheckpoint() checkpoint {
	c := checkpoint{
		position: Position{CSN: 1234567, Log: []byte("segment 7, stripe 9")},
		totals:   Totals{Chunks: 3, Bytes: 400_000},
	}
	for _, t := range allTables {
		c.sums[t] = tableSum{rows: uint64(t), hash: uint128{lo: uint64(t) << 8, hi: uint64(t) << 16}}
	}
	c.sums[tableChunks].rows = 3
	return c
}

// goldenRows are all records of the file, by name.
func goldenRows() map[string][]byte {
	rows := make(map[string][]byte)
	for name, value := range map[string]string{"empty": "", "short": "a value", "long": strings.Repeat("0123456789", 50)} {
		key := ObjectKey("bucket", "a/key\x00with zero", 42)
		hash, _ := rowHash(nil, Objects, key, 42, []byte(value))
		rows["object row, "+name] = appendRow(nil, 42, hash, []byte(value))
		rows["object row hash, "+name] = fmt.Appendf(nil, "%016x%016x", hash.hi, hash.lo)
	}
	c := testChunk(5)
	row, hash := encodeChunk(&c)
	rows["chunk row"] = row[:]
	rows["chunk row hash"] = fmt.Appendf(nil, "%016x%016x", hash.hi, hash.lo)
	rows["checkpoint"] = appendCheckpoint(nil, func() *checkpoint { c := testCheckpoint(); return &c }())
	rows["object key"] = ObjectKey("bucket", "a/key\x00with zero", 42)
	rows["upload key"] = UploadKey("bucket", "a/key\x00with zero", "upload")
	rows["part key"] = PartKey("upload", 10_000)
	return rows
}

func TestRowsGolden(t *testing.T) {
	for name, got := range goldenRows() {
		path := filepath.Join("testdata", "v1", strings.NewReplacer(" ", "_", ",", "").Replace(name)+".golden")
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(hex.Dump(got)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || hex.Dump(got) != string(want) {
			t.Errorf("%s of format version 1 changed: got\n%s\nwant\n%s (%v)", name, hex.Dump(got), want, err)
		}
	}
}

// TestFileGolden opens a file that format version 1 wrote, after a crash and after a clean shutdown: every later version must.
func TestFileGolden(t *testing.T) {
	const golden = "testdata/v1/index.golden"
	write := func(path string) {
		db := mustOpen(t, path)
		for i, table := range catalogTables {
			commit(t, db, uint64(i+1), Op{Table: table, Key: fmt.Append(nil, "key of ", table), Value: fmt.Append(nil, "value of ", table)})
		}
		if err := db.PutChunks([]Chunk{testChunk(1), testChunk(2)}); err != nil {
			t.Fatal(err)
		}
		if err := db.Checkpoint(t.Context(), Position{CSN: 12, Log: []byte("here")}); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if *update {
		path := filepath.Join(t.TempDir(), "index")
		write(path)
		zip(t, path, golden+".gz")
		copySmall(t, path+cleanSuffix, golden+cleanSuffix)
	}
	for _, clean := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "index")
		unzip(t, golden+".gz", path)
		if clean {
			copySmall(t, golden+cleanSuffix, path+cleanSuffix)
		}
		db := mustOpen(t, path)
		if p := db.Position(); p.CSN != 12 || string(p.Log) != "here" {
			t.Errorf("Position = %+v", p)
		}
		if got := db.Totals(); got != (Totals{Chunks: 2, Bytes: 2003}) {
			t.Errorf("Totals = %+v", got)
		}
		if got, ok, err := db.LookupChunk(testChunk(2).ID); err != nil || !ok || got != testChunk(2) {
			t.Errorf("LookupChunk = %v %v %v", got, ok, err)
		}
		view, err := db.View()
		if err != nil {
			t.Fatal(err)
		}
		for i, table := range catalogTables {
			e, ok, err := view.Get(table, fmt.Append(nil, "key of ", table))
			if err != nil || !ok || e.Rev != uint64(i+1) || string(e.Value) != fmt.Sprint("value of ", table) {
				t.Errorf("%s: %v %v %v", table, e, ok, err)
			}
		}
		view.Close()
		if err := db.Verify(t.Context()); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func copySmall(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, to, b, int64(len(b)))
}

// zip and unzip: the file has 16 MiB, most of them a hole.
func zip(t *testing.T, from, to string) {
	t.Helper()
	var out bytes.Buffer
	b, err := os.ReadFile(from)
	w := gzip.NewWriter(&out)
	if err == nil {
		_, err = w.Write(b)
	}
	if err = errors.Join(err, w.Close()); err == nil {
		err = os.WriteFile(to, out.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func unzip(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err == nil {
		b, err = io.ReadAll(r)
	}
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	c := testCheckpoint()
	b := appendCheckpoint(nil, &c)
	got, err := decodeCheckpoint(b)
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Fatalf("decodeCheckpoint = %+v, %v; want %+v", got, err, c)
	}
	for n := range b {
		if _, err := decodeCheckpoint(b[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d bytes of %d: %v", n, len(b), err)
		}
		for bit := range 8 {
			flipped := bytes.Clone(b)
			flipped[n] ^= 1 << bit
			if _, err := decodeCheckpoint(flipped); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d, bit %d flipped: %v", n, bit, err)
			}
		}
	}
}

func TestRowsNoticeEveryBit(t *testing.T) {
	key := []byte("key")
	hash, _ := rowHash(nil, Users, key, 7, []byte("value"))
	row := appendRow(nil, 7, hash, []byte("value"))
	c := testChunk(1)
	chunkRow, _ := encodeChunk(&c)
	if _, _, _, _, err := decodeRow(nil, Users, key, row); err != nil {
		t.Fatal(err)
	}
	if got, _, err := decodeChunk(c.ID[:], chunkRow[:]); err != nil || got != c {
		t.Fatal(got, err)
	}
	if _, _, _, _, err := decodeRow(nil, Policies, key, row); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a row of another table: %v", err)
	}
	flip := func(b []byte, what string, try func() error) {
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				if err := try(); !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s: byte %d, bit %d: %v", what, i, bit, err)
				}
				b[i] ^= 1 << bit
			}
		}
	}
	catalog := func() error { _, _, _, _, err := decodeRow(nil, Users, key, row); return err }
	chunks := func() error { _, _, err := decodeChunk(c.ID[:], chunkRow[:]); return err }
	flip(row, "row", catalog)
	flip(key, "key", catalog)
	flip(chunkRow[:], "chunk row", chunks)
	flip(c.ID[:], "chunk ID", chunks)
	for n := range row {
		if _, _, _, _, err := decodeRow(nil, Users, key, row[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes of a row: %v", n, err)
		}
	}
	for n := range chunkRow {
		if _, _, err := decodeChunk(c.ID[:], chunkRow[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes of a chunk row: %v", n, err)
		}
	}
}

func FuzzDecodeCheckpoint(f *testing.F) {
	c := testCheckpoint()
	f.Add(appendCheckpoint(nil, &c))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCheckpoint(b)
		if err == nil && !bytes.Equal(appendCheckpoint(nil, &c), b) {
			t.Fatalf("two forms of one checkpoint: %x", b)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%v does not match ErrCorrupt", err)
		}
	})
}

func TestUint128(t *testing.T) {
	max := uint128{^uint64(0), ^uint64(0)}
	one := uint128{lo: 1}
	if got := max.add(one); got != (uint128{}) {
		t.Errorf("2^128-1+1 = %v", got)
	}
	if got := (uint128{}).sub(one); got != max {
		t.Errorf("0-1 = %v", got)
	}
	if got := (uint128{lo: ^uint64(0)}).add(one); got != (uint128{hi: 1}) {
		t.Errorf("2^64-1+1 = %v", got)
	}
}
