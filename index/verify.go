package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// verifyBatchRows is how many rows Verify reads while checkpoints wait.
const verifyBatchRows = 64 << 10

// A verification is a Verify in progress: the sums of all rows before a front. Checkpoints adjust it for the rows that
// they change behind the front, so it always tells what is in the file now.
type verification struct {
	table   Table  // the front: rows of earlier tables are counted,
	next    []byte // and those of table before next
	sums    sums
	rowsMax int // of a batch
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
	return db.verifyAll(ctx, &verification{rowsMax: verifyBatchRows}, nil)
}

// scanBatchRows and scanBatchBytes bound what Scan holds of the file at once.
const (
	scanBatchRows  = 4096
	scanBatchBytes = 8 << 20
)

// Scan is Verify that shows what it proves: it calls fn with the rows of the given tables, first those in the overlays, then
// those in the file. Every row that is published when Scan begins is given at least once unless it is deleted or replaced
// meanwhile; a row that is deleted or replaced in the overlays may be given too, as may rows that are published meanwhile. When Scan
// returns nil nothing in the file was skipped, and no look-up in it is led astray. No lock is held while fn runs. Its error ends the scan.
func (db *DB) Scan(ctx context.Context, tables []Table, fn func(t Table, e Entry) error) error {
	s := db.state.Load()
	for _, o := range [...]*overlay{s.active, s.frozen} {
		if err := o.each(ctx, tables, fn); err != nil {
			return err
		}
	}
	v := &verification{rowsMax: scanBatchRows}
	return db.verifyAll(ctx, v, func(t Table) rowFunc {
		if !slices.Contains(tables, t) {
			return nil
		}
		return func(e Entry) error { return fn(t, e) }
	})
}

// each calls fn with the rows of some tables that are no tombstones. A nil overlay has none.
func (o *overlay) each(ctx context.Context, tables []Table, fn func(t Table, e Entry) error) (err error) {
	if o == nil {
		return nil
	}
	for _, t := range tables {
		if o.trees[t] == nil {
			continue
		}
		o.trees[t].Scan(func(row overlayRow) bool {
			if err = ctx.Err(); err == nil && !row.deleted {
				err = fn(t, row.entry())
			}
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type rowFunc func(Entry) error

// verifyAll is Verify; show gives what is to be called with the rows of a table, nil for none.
func (db *DB) verifyAll(ctx context.Context, v *verification, show func(Table) rowFunc) error {
	db.verifying.Lock()
	defer db.verifying.Unlock()

	db.writing.Lock()
	db.verify = v
	db.writing.Unlock()
	defer func() {
		db.writing.Lock()
		db.verify = nil
		db.writing.Unlock()
	}()
	for _, t := range allTables {
		var row rowFunc
		if show != nil {
			row = show(t)
		}
		for done := false; !done; {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("index: verifying: %w", err)
			}
			var shown []Entry
			var err error
			if done, err = db.verifyBatch(v, t, row != nil, &shown); err != nil {
				return err
			}
			for _, e := range shown {
				if err := row(e); err != nil {
					return err
				}
			}
		}
	}
	return db.compareSums(v)
}

// errBatchEnd ends a walk at the end of a batch.
var errBatchEnd = errors.New("index: end of the batch")

// verifyBatch reads the next rows of t, keeps them in shown when keep says so, and moves the front behind them. done: there
// are no more.
//
// It reads pages, not rows through bbolt: a damaged key in a branch page leads look-ups astray, but not walks.
func (db *DB) verifyBatch(v *verification, t Table, keep bool, shown *[]Entry) (done bool, err error) {
	db.writing.Lock() // nobody commits, so the pages of the newest meta page stay
	defer db.writing.Unlock()
	if err := db.usable(); err != nil {
		return false, err
	}
	if v.table != t {
		v.table, v.next = t, nil
	}
	pages, err := newPageReader(db.file)
	if err != nil {
		return false, err
	}
	header, err := pages.findBucket(t.bucketName())
	if err != nil {
		return false, err
	}
	if header == nil {
		return false, &CorruptError{Table: t, Reason: "the table is missing"}
	}
	var scratch []byte
	rows, size := 0, 0
	err = pages.walkBucket(header, v.next, func(e element) error {
		if rows++; rows > v.rowsMax || size > scanBatchBytes {
			v.next = e.key
			return errBatchEnd
		}
		hash, grown, err := proveRow(scratch, t, e.key, e.value)
		scratch = grown
		v.sums[t].add(hash)
		if keep && err == nil { // elements are valid for ever
			rev, value, _, _, _ := decodeRow(nil, t, e.key, e.value)
			*shown = append(*shown, Entry{Key: e.key, Value: value, Rev: rev})
			size += len(e.key) + len(e.value)
		}
		return err
	})
	if errors.Is(err, errBatchEnd) {
		return false, nil
	}
	v.table, v.next = t+1, nil // behind us is all of t
	return true, err
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
