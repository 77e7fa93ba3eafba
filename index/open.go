package index

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// mapBytes are the sizes of the address space to reserve for the file, the first that the system grants. When the file outgrows it,
// bbolt maps it anew and all new readers wait until all old ones are gone. It costs no memory.
var mapBytes = [...]int{1 << 40, 1 << 36, 1 << 33, 1 << 30}

const (
	defaultLockTimeout = 2 * time.Second
	lockRetryInterval  = 20 * time.Millisecond
)

func (o Options) withDefaults() (Options, error) {
	o.LockTimeout = cmp.Or(o.LockTimeout, defaultLockTimeout)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Path == "" {
		return o, errors.New("index: no path")
	}
	return o, nil
}

// Open opens the index in the file o.Path and makes it when it is missing. An error matches ErrCorrupt when the file is
// damaged or of another format version: the caller calls Remove and opens a new one. It matches
// ErrLocked when the file is in use.
//
// After anything but a clean shutdown the whole file is read and proven, which takes about a second for each GiB in the page cache.
func Open(o Options) (*DB, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	file, err := openLocked(o.Path, o.LockTimeout)
	if err != nil {
		return nil, err
	}
	db := &DB{path: o.Path, file: file, logger: o.Logger, chunkRowsMax: chunkRowsMax}
	if err := db.open(o); err != nil {
		db.abandon()
		return nil, fmt.Errorf("index: opening %s: %w", o.Path, err)
	}
	return db, nil
}

// openLocked opens the file and locks it. bbolt locks it once more, which does nothing, as it uses the
// same file description.
func openLocked(path string, timeout time.Duration) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	for deadline := time.Now().Add(timeout); ; time.Sleep(lockRetryInterval) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || time.Now().After(deadline) {
			_ = file.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, fmt.Errorf("%w: %s is locked", ErrLocked, path)
			}
			return nil, fmt.Errorf("index: locking %s: %w", path, err)
		}
	}
}

func (db *DB) open(o Options) error {
	if err := db.prove(); err != nil {
		return err
	}
	if err := db.openBolt(o); err != nil {
		return err
	}
	if err := db.load(); err != nil {
		return err
	}
	db.totals = db.saved.totals
	db.state.Store(&state{active: &overlay{csn: db.saved.position.CSN}, activeChunks: newChunkOverlay()})
	return db.registerMetrics(o.Metrics)
}

// prove proves the file unless it is as we left it. bbolt reads all of a file that was not closed as well, to find its free
// pages, but in a goroutine of its own, where a damaged page would end the process.
func (db *DB) prove() error {
	if takeCleanMark(db.file, db.path) {
		return nil
	}
	began := time.Now()
	if err := proveFile(db.file); err != nil {
		return err
	}
	if took := time.Since(began); took > time.Second {
		db.logger.Info("index was not closed cleanly, all of it was read and proven", slog.String("path", db.path), slog.Duration("took", took))
	}
	return nil
}

// openBolt opens the locked file with bbolt. bbolt panics on some damage.
func (db *DB) openBolt(o Options) (err error) {
	defer guard(&err, debug.SetPanicOnFault(true))
	b, err := bolt.Open(o.Path, 0o600, &bolt.Options{
		NoFreelistSync:  true, // it is written when we close
		FreelistType:    bolt.FreelistMapType,
		NoSync:          o.NoSync,
		InitialMmapSize: reservableBytes(),
		OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return db.file, nil },
	})
	switch {
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		return &CorruptError{Reason: err.Error()}
	case err != nil:
		return err
	}
	db.bolt = b
	return nil
}

// reservableBytes returns how much address space can be had: ulimit -v and some containers set a limit to it.
func reservableBytes() int {
	for _, n := range mapBytes {
		if b, err := syscall.Mmap(-1, 0, n, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE); err == nil {
			_ = syscall.Munmap(b)
			return n
		}
	}
	return 0
}

// load reads what the file covers, and makes the tables of a new file.
func (db *DB) load() error {
	isNew := false
	err := db.read(func(tx *bolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta == nil {
			first, _ := tx.Cursor().First()
			isNew = first == nil
			if !isNew {
				return &CorruptError{Reason: "this is no index: it has tables but no checkpoint"}
			}
			return nil
		}
		return db.loadCheckpoint(tx, meta)
	})
	if err != nil || !isNew {
		return err
	}
	return db.update(func(tx *bolt.Tx) error {
		for _, t := range allTables {
			if _, err := tx.CreateBucket(t.bucketName()); err != nil {
				return err
			}
		}
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		if err := meta.Put(formatKey, binary.LittleEndian.AppendUint32(nil, formatVersion)); err != nil {
			return err
		}
		return meta.Put(checkpointKey, appendCheckpoint(nil, &db.saved))
	})
}

func (db *DB) loadCheckpoint(tx *bolt.Tx, meta *bolt.Bucket) (err error) {
	if err := checkFormat(meta.Get(formatKey)); err != nil {
		return err
	}
	if db.saved, err = decodeCheckpoint(meta.Get(checkpointKey)); err != nil {
		return err
	}
	for _, t := range allTables {
		if tx.Bucket(t.bucketName()) == nil {
			return &CorruptError{Table: t, Reason: "the table is missing"}
		}
	}
	return nil
}

// read runs fn in a read transaction, under guard.
func (db *DB) read(fn func(*bolt.Tx) error) (err error) {
	tx, err := db.begin()
	if err != nil {
		return err
	}
	defer rollback(tx)
	defer guard(&err, debug.SetPanicOnFault(true))
	return fn(tx)
}

// Distrust makes the next Open read and prove the whole file: somebody was told that it is damaged.
func (db *DB) Distrust() { db.suspect.Store(true) }

// Close closes the file, after every View and the Stage are closed; it waits for them. It writes no checkpoint: what is in the overlays only
// is lost here and still in the log. After a clean shutdown the next Open need not read the whole file.
func (db *DB) Close() error {
	db.verifying.Lock()
	defer db.verifying.Unlock()
	db.writing.Lock()
	defer db.writing.Unlock()
	if db.closed.Swap(true) {
		return nil
	}
	db.unregisterMetrics()
	if db.broken.Load() != nil {
		db.abandon()
		return nil // whoever met the damage was told
	}
	db.bolt.NoFreelistSync = false
	err := db.update(func(*bolt.Tx) error { return nil }) // a commit writes the free list
	if db.broken.Load() != nil {
		db.abandon()
		return fmt.Errorf("index: closing: %w", err)
	}
	if err == nil && !db.suspect.Load() {
		if err := writeCleanMark(db.file, db.path); err != nil {
			db.logger.Warn("index has no clean mark, the next start will read all of it", slog.Any("error", err))
		}
	}
	if err := errors.Join(err, db.bolt.Close()); err != nil {
		return fmt.Errorf("index: closing: %w", err)
	}
	return nil
}

// abandon lets go of the file, and of its lock, when bbolt cannot be trusted to. The mapping stays: readers may be in it. It would keep
// the lock as well, as it holds on to the file description.
func (db *DB) abandon() {
	db.closed.Store(true)
	if db.bolt != nil && db.broken.Load() == nil {
		_ = db.bolt.Close()
	}
	_ = syscall.Flock(int(db.file.Fd()), syscall.LOCK_UN)
	_ = db.file.Close()
}

// Remove deletes the index at path, which nobody has open, so that it can be made anew. A missing one is fine. The file is truncated
// first: a damaged one may still be mapped by this process and would keep its space until the end.
func Remove(path string) error {
	if err := os.Truncate(path, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("index: removing: %w", err)
	}
	for _, name := range []string{path, path + cleanSuffix} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("index: removing: %w", err)
		}
	}
	return nil
}

// Rename gives the file of a closed index another name, in the same directory, with what belongs to it, and makes that durable. What has the name
// already is replaced.
func Rename(from, to string) error {
	if err := os.Remove(to + cleanSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("index: renaming: %w", err)
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("index: renaming: %w", err)
	}
	// Without its clean mark the file is read and proven when it is opened.
	if err := os.Rename(from+cleanSuffix, to+cleanSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("index: renaming: %w", err)
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return fmt.Errorf("index: renaming: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("index: renaming: %w", err)
	}
	return nil
}
