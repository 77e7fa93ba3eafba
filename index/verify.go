package index

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
)

// verifyBatchRows is how many rows Verify reads in one read transaction.
const verifyBatchRows = 64 << 10

// A verification is a Verify in progress: the sums of all rows before a front. Checkpoints adjust it for the rows that
// they change behind the front, so it always tells what is in the file now.
type verification struct {
	table Table  // the front: rows of earlier tables are counted,
	next  []byte // and those of table before next
	sums  sums
}

// passed reports whether the row is behind the front. A nil v has passed nothing.
func (v *verification) passed(t Table, key []byte) bool {
	return v != nil && compareTableKey(t, key, v.table, v.next) < 0
}

func (v *verification) clone() *verification {
	if v == nil {
		return nil
	}
	c := *v
	return &c
}

// set makes v what w is; both are nil or neither.
func (v *verification) set(w *verification) {
	if v != nil {
		*v = *w
	}
}

// Verify reads the whole file and proves every row, and that no row is missing or left over. An error
// that matches ErrCorrupt is a proof of damage; others prove nothing. Only one runs at a time; a second waits.
// Checkpoints wait for a batch of 65,536 rows at most.
func (db *DB) Verify(ctx context.Context) error {
	db.verifying.Lock()
	defer db.verifying.Unlock()

	v := &verification{}
	db.writing.Lock()
	db.verify = v
	db.writing.Unlock()
	defer func() {
		db.writing.Lock()
		db.verify = nil
		db.writing.Unlock()
	}()
	for _, t := range allTables {
		for done := false; !done; {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("index: verifying: %w", err)
			}
			var err error
			if done, err = db.verifyBatch(v, t); err != nil {
				return err
			}
		}
	}
	return db.compareSums(v)
}

// verifyBatch reads the next rows of t and moves the front behind them. done: there are no more.
func (db *DB) verifyBatch(v *verification, t Table) (done bool, err error) {
	db.writing.Lock()
	defer db.writing.Unlock()
	if v.table != t {
		v.table, v.next = t, nil
	}
	tx, err := db.begin()
	if err != nil {
		return false, err
	}
	defer rollback(tx)
	defer guard(&err, debug.SetPanicOnFault(true))
	bucket := tx.Bucket(t.bucketName())
	if bucket == nil {
		return false, &CorruptError{Table: t, Reason: "the table is missing"}
	}
	return v.readRows(bucket, t, verifyBatchRows)
}

// readRows adds up to limit rows of t from the front on, and moves the front. Every row is looked up as well: a damaged key in a branch
// page may lead a look-up astray, and not a walk. Called under guard.
func (v *verification) readRows(bucket *bolt.Bucket, t Table, limit int) (done bool, err error) {
	var scratch, last []byte
	cursor := bucket.Cursor()
	key, row := cursor.Seek(v.next)
	for range limit {
		if key == nil {
			v.table, v.next = t+1, nil // behind us is all of t
			return true, nil
		}
		if order := bytes.Compare(key, last); order < 0 || order == 0 && last != nil {
			return false, &CorruptError{Table: t, Key: bytes.Clone(key), Reason: "rows are out of order"}
		}
		last = append(last[:0], key...)
		var hash uint128
		if hash, scratch, err = proveRow(scratch, t, last, row); err != nil {
			return false, err
		}
		if found := bucket.Get(last); len(found) != len(row) || len(row) > 0 && &found[0] != &row[0] {
			return false, &CorruptError{Table: t, Key: last, Reason: "the row is not found by its key"}
		}
		v.sums[t].add(hash)
		key, row = cursor.Next()
	}
	// The least key past last.
	v.next = append(bytes.Clone(last), 0)
	return false, nil
}

// proveRow proves one row of any table and returns its hash.
func proveRow(scratch []byte, t Table, key, row []byte) (hash uint128, _ []byte, err error) {
	if t == tableChunks {
		_, hash, err = readChunk(key, row)
		return hash, scratch, err
	}
	_, _, hash, scratch, err = decodeRow(scratch, t, key, row)
	return hash, scratch, err
}

// compareSums compares what was found with what the checkpoint says.
func (db *DB) compareSums(v *verification) error {
	db.writing.Lock()
	defer db.writing.Unlock()
	return v.sums.compare(&db.saved)
}

// compare returns an error unless the sums are those of the checkpoint.
func (s *sums) compare(saved *checkpoint) error {
	for _, t := range allTables {
		if found, want := s[t], saved.sums[t]; found != want {
			return &CorruptError{Table: t, Reason: fmt.Sprintf("the table has %d rows with set hash %016x%016x, the checkpoint says %d with %016x%016x",
				found.rows, found.hash.hi, found.hash.lo, want.rows, want.hash.hi, want.hash.lo)}
		}
	}
	if chunks := uint64(saved.totals.Chunks); chunks != saved.sums[tableChunks].rows {
		return &CorruptError{Table: tableChunks, Reason: fmt.Sprintf("the checkpoint has %d rows and totals of %d chunks", saved.sums[tableChunks].rows, chunks)}
	}
	return nil
}
