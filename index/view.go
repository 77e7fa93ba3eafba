package index

import (
	"bytes"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
)

// A layers is one state of the catalog: overlays over the file. View and Stage read through it.
type layers struct {
	active, frozen *overlay
	tx             *bolt.Tx
	buckets        [tableMax + 1]*bolt.Bucket // of tx, found when first needed
	scratch        []byte
	arena          arena
}

// An arena copies rows out of the mapped file, so that nobody holds pointers into it: its pages may be
// reused, or rot, after the checksum was proven.
type arena struct {
	free []byte
	next int // size of the next block in bytes
}

const arenaBlockBytesMax = 64 << 10

// copy returns a copy of b that nobody else has.
func (a *arena) copy(b []byte) []byte {
	if len(b) > cap(a.free) {
		a.next = min(max(2*a.next, len(b), 256), max(arenaBlockBytesMax, len(b)))
		a.free = make([]byte, 0, a.next)
	}
	out := append(a.free, b...)
	a.free = out[len(out):]
	return out[:len(out):len(out)]
}

// bucket returns the bbolt bucket of t. Called under guard.
func (l *layers) bucket(t Table) (*bolt.Bucket, error) {
	if !t.valid() {
		panic("index: " + t.String() + " is not a table of the catalog")
	}
	if l.buckets[t] == nil {
		if l.buckets[t] = l.tx.Bucket(t.bucketName()); l.buckets[t] == nil {
			return nil, &CorruptError{Table: t, Reason: "the table is missing"}
		}
	}
	return l.buckets[t], nil
}

// decode proves a row of the file and copies it out.
func (l *layers) decode(t Table, key, row []byte) (e Entry, err error) {
	key, row = l.arena.copy(key), l.arena.copy(row)
	e.Key = key
	e.Rev, e.Value, _, l.scratch, err = decodeRow(l.scratch, t, key, row)
	return e, err
}

func (l *layers) get(t Table, key []byte) (e Entry, ok bool, err error) {
	for _, o := range [...]*overlay{l.active, l.frozen} {
		if row, found := o.get(t, key); found {
			return row.entry(), !row.deleted, nil
		}
	}
	return l.getFile(t, key)
}

func (l *layers) getFile(t Table, key []byte) (e Entry, ok bool, err error) {
	if len(key) == 0 {
		return Entry{}, false, nil
	}
	defer guard(&err, debug.SetPanicOnFault(true))
	bucket, err := l.bucket(t)
	if err != nil {
		return Entry{}, false, err
	}
	row := bucket.Get(key)
	if row == nil {
		return Entry{}, false, nil
	}
	if e, err = l.decode(t, key, row); err != nil {
		return Entry{}, false, err
	}
	return e, true, nil
}

func (l *layers) first(t Table, lo, hi []byte) (Entry, bool, error) {
	it := l.iter(t, lo, hi)
	defer it.Close()
	if !it.Next() {
		return Entry{}, false, it.Err()
	}
	return it.Entry(), true, nil
}

// entry returns the row as readers see it; the zero Entry for a tombstone.
func (r *overlayRow) entry() Entry {
	if r.deleted {
		return Entry{}
	}
	return Entry{Key: keyBytes(r.key), Value: r.value, Rev: r.rev}
}

// A View is one published state of the catalog, for as long as it is open. It is used by one goroutine at a time, and
// closed soon: as long as it is open, no page of the file that it may see is reused, and Close of the DB waits.
type View struct {
	layers layers
}

// View opens a View of the newest published state.
func (db *DB) View() (*View, error) {
	s, tx, err := db.snapshot()
	if err != nil {
		return nil, err
	}
	return &View{layers: layers{active: s.active, frozen: s.frozen, tx: tx}}, nil
}

// CSN returns the CSN of the newest mutation in the view, 0 when there was none.
func (v *View) CSN() uint64 { return v.layers.active.csn }

// Get finds one row. An error matches ErrCorrupt, or ErrClosed after Close.
func (v *View) Get(t Table, key []byte) (e Entry, ok bool, err error) {
	if v.layers.tx == nil {
		return Entry{}, false, ErrClosed
	}
	return v.layers.get(t, key)
}

// First finds the first row with lo <= key < hi; a nil hi means to the end of the table.
func (v *View) First(t Table, lo, hi []byte) (e Entry, ok bool, err error) {
	if v.layers.tx == nil {
		return Entry{}, false, ErrClosed
	}
	return v.layers.first(t, lo, hi)
}

// Iter returns the rows with lo <= key < hi in order; a nil hi means to the end of the table. It is used
// before the view is closed.
func (v *View) Iter(t Table, lo, hi []byte) *Iter {
	if v.layers.tx == nil {
		return &Iter{err: ErrClosed}
	}
	return v.layers.iter(t, lo, hi)
}

// Close ends the view. It may be called twice.
func (v *View) Close() {
	if v.layers.tx != nil {
		rollback(v.layers.tx)
		v.layers.tx = nil
	}
}

// keyBefore reports whether key lies before the end hi of a range, nil being the end of the table.
func keyBefore(key, hi []byte) bool { return hi == nil || bytes.Compare(key, hi) < 0 }
