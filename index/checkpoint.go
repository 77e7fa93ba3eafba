package index

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// fillPercent says how full bbolt leaves the pages that it splits: more for the catalog, whose rows mostly
// come in order; less for the chunk map, whose IDs are random.
const (
	fillPercentCatalog = 0.8
	fillPercentChunks  = 0.65
)

// chunkRowsMax is how many rows of the chunk map are written in one transaction; see WriteFrozen.
const chunkRowsMax = 4096

// cancelCheckRows is how many rows are written between two looks at the context.
const cancelCheckRows = 1024

// Freeze sets the overlays aside, to be written by WriteFrozen as what covers the log up to pos; new rows go into
// fresh ones. It is called by the committer between two stages. Everything up to pos must be published and in PutChunks.
// It returns false and does nothing while the overlays that were frozen before are not yet written, or a stage is open.
func (db *DB) Freeze(pos Position) bool {
	db.changing.Lock()
	defer db.changing.Unlock()
	s := db.state.Load()
	if s.frozen != nil || db.staging {
		return false
	}
	db.freezing.Lock()
	defer db.freezing.Unlock()
	db.state.Store(&state{
		generation:     s.generation + 1,
		active:         &overlay{csn: s.active.csn},
		frozen:         s.active,
		activeChunks:   newChunkOverlay(),
		frozenChunks:   s.activeChunks,
		frozenPosition: Position{CSN: pos.CSN, Log: bytes.Clone(pos.Log)},
	})
	return true
}

// WriteFrozen writes what Freeze set aside into the file and lets go of it; it does nothing when nothing is frozen. It is called from any
// goroutine. When it returns an error the overlays stay frozen: it may be called again, unless the error matches ErrCorrupt.
//
// The catalog and the position are written in one transaction. bbolt keeps every page that a transaction changes in memory, and
// random IDs change about one page each, so the chunk map is written before in transactions of 4,096 rows, which need about 25 MiB.
// After a crash between them the file has rows of the chunk map that are newer than its position; applying the log past that again
// comes to the same rows.
func (db *DB) WriteFrozen(ctx context.Context) error {
	db.writing.Lock()
	defer db.writing.Unlock()
	s := db.state.Load()
	if s.frozen == nil {
		return nil
	}
	if err := db.usable(); err != nil {
		return err
	}
	began := time.Now()
	chunks := s.frozenChunks.sorted()
	for len(chunks) > db.chunkRowsMax {
		err := db.writePart(ctx, func(tx *bolt.Tx, w *checkpointWriter) error {
			return w.writeChunks(tx, chunks[:db.chunkRowsMax])
		})
		if err != nil {
			return err
		}
		chunks = chunks[db.chunkRowsMax:]
	}
	err := db.writePart(ctx, func(tx *bolt.Tx, w *checkpointWriter) error { return w.writeLast(tx, s, chunks) })
	if err != nil {
		return err
	}
	db.changing.Lock()
	next := *db.state.Load()
	next.generation++
	next.frozen, next.frozenChunks, next.frozenPosition = nil, nil, Position{}
	db.state.Store(&next)
	db.changing.Unlock()
	db.stats.checkpointed(db, time.Since(began))
	return nil
}

// writePart runs fn in a write transaction, with the record of what the file says then. The caller holds db.writing.
func (db *DB) writePart(ctx context.Context, fn func(*bolt.Tx, *checkpointWriter) error) error {
	w := &checkpointWriter{ctx: ctx, saved: db.saved, verify: db.verify.clone()}
	err := db.update(func(tx *bolt.Tx) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(tx, w); err != nil {
			return err
		}
		meta := tx.Bucket(metaBucket)
		if meta == nil {
			return &CorruptError{Reason: "the bucket of the checkpoint is missing"}
		}
		return meta.Put(checkpointKey, appendCheckpoint(nil, &w.saved))
	})
	if err != nil {
		return fmt.Errorf("index: writing a checkpoint: %w", err)
	}
	db.changing.Lock()
	db.saved = w.saved
	db.changing.Unlock()
	db.verify.set(w.verify)
	return nil
}

// Checkpoint freezes and writes, after what was frozen before. It is called by the committer between two stages.
func (db *DB) Checkpoint(ctx context.Context, pos Position) error {
	if err := db.WriteFrozen(ctx); err != nil {
		return err
	}
	if !db.Freeze(pos) {
		return fmt.Errorf("index: checkpoint: %w", ErrStageOpen)
	}
	return db.WriteFrozen(ctx)
}

// update runs fn in a write transaction. The caller holds db.writing.
//
// When the commit fails otherwise than by a failed write, a sync may have failed. The kernel then forgets which
// pages never reached the disk, and a later sync would succeed without them. Such a file is never used again.
func (db *DB) update(fn func(*bolt.Tx) error) (err error) {
	panicked := true
	defer func() {
		if panicked { // bolt's locks may be held, and what it wrote is unknown
			db.poison(err)
		}
	}()
	defer guard(&err, debug.SetPanicOnFault(true))
	tx, err := db.bolt.Begin(true)
	if err != nil {
		panicked = false
		return fmt.Errorf("beginning to write: %w", err)
	}
	if err := fn(tx); err != nil {
		rollback(tx)
		panicked = false
		return err
	}
	err = tx.Commit()
	panicked = false
	if err != nil && !isWriteError(err) {
		err = &CorruptError{Reason: fmt.Sprintf("a sync failed, the file cannot be trusted any more: %v", err)}
		db.poison(err)
	}
	return err
}

// isWriteError reports whether a commit failed before it synced anything: the disk was full, say. bbolt returns
// what os.File.WriteAt said, or wraps what Truncate said by its text only.
func isWriteError(err error) bool {
	var pathError *fs.PathError
	return errors.As(err, &pathError) || strings.HasPrefix(err.Error(), "file resize error")
}

// A checkpointWriter writes frozen overlays.
type checkpointWriter struct {
	ctx     context.Context
	saved   checkpoint    // becomes what the file says
	verify  *verification // a copy of the one in progress, adjusted for what is written behind its front
	scratch []byte
	written int
}

// writeLast writes what makes the file cover s.frozenPosition, when all other rows of the chunk map are written.
func (w *checkpointWriter) writeLast(tx *bolt.Tx, s *state, chunks []chunkEntry) error {
	for _, t := range catalogTables {
		if err := w.writeTable(tx, t, s.frozen.trees[t]); err != nil {
			return err
		}
	}
	w.saved.position = s.frozenPosition
	return w.writeChunks(tx, chunks)
}

// tick counts a row and looks at the context now and then.
func (w *checkpointWriter) tick() error {
	if w.written++; w.written%cancelCheckRows == 0 {
		return w.ctx.Err()
	}
	return nil
}

func (w *checkpointWriter) writeTable(tx *bolt.Tx, t Table, tree *overlayTree) error {
	if tree == nil {
		return nil
	}
	bucket := tx.Bucket(t.bucketName())
	if bucket == nil {
		return &CorruptError{Table: t, Reason: "the table is missing"}
	}
	bucket.FillPercent = fillPercentCatalog
	var err error
	tree.Scan(func(row overlayRow) bool { // in order: bbolt likes that
		if err = w.tick(); err == nil {
			err = w.writeRow(bucket, t, &row)
		}
		return err == nil
	})
	return err
}

func (w *checkpointWriter) writeRow(bucket *bolt.Bucket, t Table, row *overlayRow) error {
	key := keyBytes(row.key)
	if old := bucket.Get(key); old != nil {
		_, _, hash, scratch, err := decodeRow(w.scratch, t, key, old)
		w.scratch = scratch
		if err != nil {
			return err // without the old row's hash the set hash would be lost
		}
		w.removed(t, key, hash)
	} else if row.deleted {
		return nil
	}
	if row.deleted {
		return bucket.Delete(key)
	}
	var hash uint128
	hash, w.scratch = rowHash(w.scratch, t, key, row.rev, row.value)
	w.added(t, key, hash)
	return bucket.Put(key, appendRow(nil, row.rev, hash, row.value)) // bbolt keeps the slice until the commit
}

func (w *checkpointWriter) added(t Table, key []byte, hash uint128) {
	w.saved.sums[t].add(hash)
	if w.verify.passed(t, key) {
		w.verify.sums[t].add(hash)
	}
}

func (w *checkpointWriter) removed(t Table, key []byte, hash uint128) {
	w.saved.sums[t].remove(hash)
	if w.verify.passed(t, key) {
		w.verify.sums[t].remove(hash)
	}
}

func (w *checkpointWriter) writeChunks(tx *bolt.Tx, rows []chunkEntry) error {
	bucket := tx.Bucket(tableChunks.bucketName())
	if bucket == nil {
		return &CorruptError{Table: tableChunks, Reason: "the table is missing"}
	}
	bucket.FillPercent = fillPercentChunks
	for i := range rows {
		if err := w.tick(); err != nil {
			return err
		}
		c := rows[i].value.chunk(rows[i].id)
		if err := w.writeChunk(bucket, &c, rows[i].value.deleted); err != nil {
			return err
		}
	}
	return nil
}

func (w *checkpointWriter) writeChunk(bucket *bolt.Bucket, c *Chunk, deleted bool) error {
	if old := bucket.Get(c.ID[:]); old != nil {
		was, hash, err := readChunk(c.ID[:], old)
		if err != nil {
			return err
		}
		w.removed(tableChunks, c.ID[:], hash)
		w.saved.totals.Chunks--
		w.saved.totals.Bytes -= int64(was.Size)
	} else if deleted {
		return nil
	}
	if deleted {
		return bucket.Delete(c.ID[:])
	}
	row, hash := encodeChunk(c)
	w.added(tableChunks, c.ID[:], hash)
	w.saved.totals.Chunks++
	w.saved.totals.Bytes += int64(c.Size)
	return bucket.Put(bytes.Clone(c.ID[:]), row[:])
}

// compareTableKey orders rows as Verify reads them.
func compareTableKey(t Table, key []byte, u Table, other []byte) int {
	return cmp.Or(cmp.Compare(t, u), bytes.Compare(key, other))
}
