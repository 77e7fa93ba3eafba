package index

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// replaceFile makes the open file of db another one, until the returned function is called: bbolt's writes and syncs go there, the mapping
// stays. That is the only seam that bbolt has for faults.
func replaceFile(t *testing.T, db *DB, path string, flag int) (restore func()) {
	t.Helper()
	other, err := os.OpenFile(path, flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(db.file.Fd())
	saved, err := syscall.Dup(fd)
	if err == nil {
		err = syscall.Dup3(int(other.Fd()), fd, syscall.O_CLOEXEC)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(syscall.Dup3(saved, fd, syscall.O_CLOEXEC), syscall.Close(saved), other.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWriteFails: the disk is full, say. Nothing is lost, and the checkpoint is written when there is room again.
func TestWriteFails(t *testing.T) {
	db := openTemp(t)
	db.bolt.NoSync = false
	fillSome(t, db, 1)
	if err := db.Checkpoint(t.Context(), Position{CSN: 1}); err != nil {
		t.Fatal(err)
	}
	fillSome(t, db, 2)
	if !db.Freeze(Position{CSN: 2}) {
		t.Fatal("Freeze")
	}
	restore := replaceFile(t, db, db.path, os.O_RDONLY)
	for range 3 {
		if err := db.WriteFrozen(t.Context()); err == nil || errors.Is(err, ErrCorrupt) {
			t.Fatalf("WriteFrozen = %v, want an error that does not match ErrCorrupt", err)
		}
		checkSome(t, db, 1, 2)
		if db.Freeze(Position{CSN: 2}) {
			t.Fatal("Freeze while the frozen overlay is not written")
		}
	}
	restore()
	fillSome(t, db, 3)
	if err := db.WriteFrozen(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkSome(t, db, 1, 2, 3)
	if p := db.Position(); p.CSN != 2 {
		t.Errorf("Position = %+v", p)
	}
	if err := db.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestSyncFails: after a failed sync nobody knows what the disk has, and a second sync would say that all is well.
func TestSyncFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	db := mustOpen(t, path)
	db.bolt.NoSync, db.bolt.NoGrowSync = false, true
	fillSome(t, db, 1)
	if err := db.Checkpoint(t.Context(), Position{CSN: 1}); err != nil {
		t.Fatal(err)
	}
	fillSome(t, db, 2)
	restore := replaceFile(t, db, os.DevNull, os.O_RDWR) // takes writes, and fdatasync is EINVAL
	if err := db.Checkpoint(t.Context(), Position{CSN: 2}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "sync") {
		t.Fatalf("Checkpoint = %v, want ErrCorrupt", err)
	}
	restore()
	if err := db.Checkpoint(t.Context(), Position{CSN: 2}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Checkpoint again = %v, want ErrCorrupt", err)
	}
	if _, err := db.View(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("View = %v, want ErrCorrupt", err)
	}
	if _, err := db.Stage(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Stage = %v, want ErrCorrupt", err)
	}
	if err := db.Verify(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Verify = %v, want ErrCorrupt", err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if _, err := os.Stat(path + cleanSuffix); err == nil {
		t.Error("a clean mark after a failed sync")
	}
	if err := Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, path).Close(); err != nil {
		t.Fatal(err)
	}
}
