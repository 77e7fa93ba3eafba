package index

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

var seed = flag.Uint64("seed", 1, "seed of the damage that the tests do")

const (
	damageRows   = 360
	damageChunks = 260
)

// A damagedFile is a small index, with branch pages, inline tables, a long row and free pages, to do damage to.
type damagedFile struct {
	data []byte // without the hole at the end
	size int64
	mark []byte // clean mark
}

func damageValue(i int) string {
	if i == 100 {
		return string(make([]byte, 10_000))
	}
	return fmt.Sprintf("value %d of the second checkpoint", i)
}

func newDamagedFile(t testing.TB) damagedFile {
	path := filepath.Join(t.TempDir(), "index")
	db := mustOpen(t, path)
	var ops, again []Op
	for i := range damageRows {
		ops = append(ops, putObject("bucket", fmt.Sprintf("key%05d", i), 1, "first"))
		again = append(again, Op{Table: Objects, Key: ops[i].Key, Value: []byte(damageValue(i))})
	}
	var chunks []Chunk
	for i := range damageChunks {
		chunks = append(chunks, testChunk(i))
	}
	commit(t, db, 1, ops...)
	if err := db.PutChunks(chunks[:damageChunks/2]); err != nil {
		t.Fatal(err)
	}
	if err := db.Checkpoint(t.Context(), Position{CSN: 1}); err != nil {
		t.Fatal(err)
	}
	commit(t, db, 2, append(again, Op{Table: Users, Key: []byte("root"), Value: []byte("user")})...)
	if err := db.PutChunks(chunks[damageChunks/2:]); err != nil {
		t.Fatal(err)
	}
	if err := db.Checkpoint(t.Context(), Position{CSN: 2}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mark, err := os.ReadFile(path + cleanSuffix)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	meta, err := readMeta(file)
	if err != nil {
		t.Fatal(err)
	}
	return damagedFile{data: data[:meta.pages*uint64(meta.pageBytes)], size: int64(len(data)), mark: mark}
}

// write writes the file with damage.
func (f *damagedFile) write(t testing.TB, path string, clean bool, damage func(data []byte)) {
	data := append([]byte(nil), f.data...)
	damage(data)
	writeFile(t, path, data, f.size)
	if clean {
		writeFile(t, path+cleanSuffix, f.mark, int64(len(f.mark)))
	}
}

var errWrong = errors.New("a wrong answer")

// readAll compares everything with what was written, in all ways to read. It returns errWrong, or what the index says.
func readAll(db *DB) error {
	view, err := db.View()
	if err != nil {
		return err
	}
	defer view.Close()
	it := view.Iter(Objects, nil, nil)
	defer it.Close()
	for i := range damageRows {
		if !it.Next() {
			return cmpErr(it.Err(), fmt.Errorf("%w: a walk ends at row %d", errWrong, i))
		}
		if e := it.Entry(); string(e.Value) != damageValue(i) || e.Rev != 2 {
			return fmt.Errorf("%w: a walk finds %d as %v", errWrong, i, e)
		}
		e, ok, err := view.Get(Objects, ObjectKey("bucket", fmt.Sprintf("key%05d", i), 1))
		if err != nil {
			return err
		}
		if !ok || string(e.Value) != damageValue(i) {
			return fmt.Errorf("%w: a look-up finds %d as %v", errWrong, i, e)
		}
	}
	if it.Next() || it.Err() != nil {
		return cmpErr(it.Err(), fmt.Errorf("%w: there are more rows", errWrong))
	}
	if e, ok, err := view.Get(Users, []byte("root")); err != nil || !ok || string(e.Value) != "user" {
		return cmpErr(err, fmt.Errorf("%w: user %v", errWrong, e))
	}
	for i := range damageChunks {
		c, ok, err := db.LookupChunk(testChunk(i).ID)
		if err != nil || !ok || c != testChunk(i) {
			return cmpErr(err, fmt.Errorf("%w: chunk %v", errWrong, c))
		}
	}
	n := 0
	if err := db.IterChunks(func(Chunk) error { n++; return nil }); err != nil || n != damageChunks {
		return cmpErr(err, fmt.Errorf("%w: %d chunks", errWrong, n))
	}
	return nil
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// An outcome says what became of a damaged file.
type outcome string

const (
	harmless outcome = "harmless"
	refused  outcome = "refused at the start"
	noticed  outcome = "noticed by a reader"
	verified outcome = "noticed by Verify only"
)

// survey opens a damaged file, uses it, and returns what became of it. Anything but a right answer or a proof of
// damage fails the test.
func survey(t testing.TB, path, what string, clean bool) outcome {
	t.Helper()
	db, err := Open(Options{Path: path, NoSync: true})
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: Open: %v", what, err)
		}
		return refused
	}
	defer db.Close() // its error does not matter
	read, verify := readAll(db), db.Verify(context.Background())
	for _, err := range []error{read, verify} {
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, errWrong) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	switch {
	case !clean && (read != nil || verify != nil):
		t.Fatalf("%s: the proof at the start missed what came out now: %v, %v", what, read, verify)
	case errors.Is(read, errWrong) && verify == nil:
		t.Fatalf("%s: Verify is silent about %v", what, read)
	case errors.Is(read, ErrCorrupt):
		return noticed
	case verify != nil:
		return verified
	}
	// All is right so far: it must be so after a checkpoint, which touches other pages, too.
	commit(t, db, 3, Op{Table: Objects, Key: ObjectKey("bucket", "key00000", 1), Delete: true}, putObject("bucket", "key00000", 2, "new"))
	if err := db.Checkpoint(context.Background(), Position{CSN: 3}); err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: Checkpoint: %v", what, err)
		}
		return noticed
	}
	if err := db.Verify(context.Background()); err != nil { // nothing else that is written may come of damage
		t.Fatalf("%s: Verify after a checkpoint: %v", what, err)
	}
	return harmless
}

// TestFlippedBits flips bits in every page, at the start and in the middle of its header, its elements and its rows.
func TestFlippedBits(t *testing.T) {
	t.Logf("-seed=%d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 0))
	f := newDamagedFile(t)
	dir := t.TempDir()
	for _, clean := range []bool{false, true} {
		outcomes := make(map[outcome]int)
		for page := 0; page < len(f.data); page += pageStride {
			offsets := []int{0, 8, 10, 12, 16, 20, 24, 28}
			for range 4 {
				offsets = append(offsets, rng.IntN(4096))
			}
			for _, offset := range offsets {
				at, bit := page+offset, rng.IntN(8)
				what := fmt.Sprintf("clean=%v page %d, byte %d, bit %d", clean, page/4096, offset, bit)
				path := filepath.Join(dir, "index")
				f.write(t, path, clean, func(data []byte) { data[at] ^= 1 << bit })
				outcomes[survey(t, path, what, clean)]++
			}
		}
		t.Logf("clean=%v, %d pages: %v", clean, len(f.data)/4096, outcomes)
		if !clean && outcomes[refused] == 0 || clean && outcomes[noticed] == 0 {
			t.Errorf("clean=%v: the test does not do what it should: %v", clean, outcomes)
		}
	}
}

// TestLostPages zeroes each page, and puts each page where another should be (a misdirected write).
func TestLostPages(t *testing.T) {
	f := newDamagedFile(t)
	dir := t.TempDir()
	for _, clean := range []bool{false, true} {
		outcomes := make(map[outcome]int)
		for page := 0; page < len(f.data); page += pageStride {
			for name, damage := range map[string]func([]byte){
				"zeroed":      func(data []byte) { clear(data[page : page+4096]) },
				"misdirected": func(data []byte) { copy(data[page:page+4096], f.data[(page+3*4096)%len(f.data):]) },
				"half":        func(data []byte) { clear(data[page+2048 : page+4096]) },
			} {
				path := filepath.Join(dir, "index")
				f.write(t, path, clean, damage)
				outcomes[survey(t, path, fmt.Sprintf("clean=%v page %d %s", clean, page/4096, name), clean)]++
			}
		}
		t.Logf("clean=%v: %v", clean, outcomes)
	}
}

// TestTruncatedFile cuts the file at each page and within.
func TestTruncatedFile(t *testing.T) {
	f := newDamagedFile(t)
	path := filepath.Join(t.TempDir(), "index")
	for _, clean := range []bool{false, true} {
		for size := int64(1); size < int64(len(f.data)); size += 2047 {
			f.write(t, path, clean, func([]byte) {})
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
			if got := survey(t, path, fmt.Sprintf("clean=%v cut at %d", clean, size), clean); got != refused {
				t.Fatalf("clean=%v cut at %d: %s", clean, size, got)
			}
		}
	}
	// An empty file is a new index: its position says that it covers nothing.
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	db := mustOpen(t, path)
	defer db.Close()
	if p := db.Position(); p.CSN != 0 {
		t.Fatalf("Position = %+v", p)
	}
}

// TestTruncatedWhileOpen takes the file away under the mapping: touching it is a fault, not an error of a system call.
func TestTruncatedWhileOpen(t *testing.T) {
	f := newDamagedFile(t)
	path := filepath.Join(t.TempDir(), "index")
	f.write(t, path, true, func([]byte) {})
	db := mustOpen(t, path)
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	it := view.Iter(Objects, nil, nil)
	if !it.Next() {
		t.Fatal(it.Err())
	}
	if err := os.Truncate(path, 2*4096); err != nil {
		t.Fatal(err)
	}
	for it.Next() {
	}
	if !errors.Is(it.Err(), ErrCorrupt) {
		t.Errorf("Iter: %v", it.Err())
	}
	it.Close()
	if _, _, err := view.Get(Objects, []byte("key")); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Get: %v", err)
	}
	view.Close()
	if _, _, err := db.LookupChunk(testChunk(1).ID); !errors.Is(err, ErrCorrupt) {
		t.Errorf("LookupChunk: %v", err)
	}
	if err := db.PutChunks([]Chunk{testChunk(1)}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("PutChunks: %v", err)
	}
	if err := db.IterChunks(func(Chunk) error { return nil }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("IterChunks: %v", err)
	}
	if err := db.Verify(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Verify: %v", err)
	}
	commit(t, db, 3, putObject("bucket", "key", 3, "v"))
	if err := db.Checkpoint(t.Context(), Position{CSN: 3}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Checkpoint: %v", err)
	}
	_ = db.Close()
	// The lock is gone with it: a new index can be made at once.
	for range 2 {
		if err := Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := mustOpen(t, path).Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzProveFile patches a file anywhere: the proof must neither panic nor return anything but ErrCorrupt.
func FuzzProveFile(f *testing.F) {
	base := newDamagedFile(f)
	f.Add(uint32(0), []byte{})
	f.Add(uint32(4096), bytes.Repeat([]byte{0xFF}, 64))
	for page := 2; page < len(base.data)/4096; page++ {
		f.Add(uint32(page*4096+8), []byte{leafPage, 0, 0xFF, 0xFF, 1})
		f.Add(uint32(page*4096+8), []byte{branchPage, 0, 2})
	}
	f.Fuzz(func(t *testing.T, offset uint32, patch []byte) {
		path := filepath.Join(t.TempDir(), "index")
		base.write(t, path, false, func(data []byte) { copy(data[int(offset)%len(data):], patch) })
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := proveFile(file); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("proveFile = %v", err)
		}
	})
}
