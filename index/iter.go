package index

import (
	"bytes"
	"runtime/debug"

	"github.com/tidwall/btree"
	bolt "go.etcd.io/bbolt"
)

// An Iter walks over one range of one table of a View or Stage, in order of keys. It is used like a bufio.Scanner:
//
//	it := view.Iter(index.Objects, lo, hi)
//	defer it.Close()
//	for it.Next() { use(it.Entry()) }
//	if err := it.Err(); err != nil { ... }
type Iter struct {
	layers   *layers
	table    Table
	lo, hi   []byte
	overlays [2]overlayCursor // newest first
	file     fileCursor
	target   []byte // where to go next; nil: on from where we are
	entry    Entry
	err      error
	seeks    int // how often a tree was descended; what a listing costs
}

// iter returns an Iter that stands before lo.
func (l *layers) iter(t Table, lo, hi []byte) *Iter {
	if lo == nil {
		lo = []byte{}
	}
	it := &Iter{layers: l, table: t, lo: lo, hi: hi, target: lo}
	it.overlays[0].init(l.active, t)
	it.overlays[1].init(l.frozen, t)
	return it
}

// Seek makes the following Next go to the first row of the range whose key is at least key, forward or back.
func (it *Iter) Seek(key []byte) {
	if bytes.Compare(key, it.lo) < 0 {
		key = it.lo
	}
	it.target = append([]byte{}, key...) // kept, and not nil
}

// Next goes to the next row. It returns false at the end of the range or when an error occurred.
func (it *Iter) Next() bool {
	if it.err != nil || it.layers == nil {
		return false
	}
	it.entry = Entry{}
	if it.target != nil {
		it.seek(it.target)
		it.target = nil
	}
	for it.err == nil {
		source, key := -1, []byte(nil)
		if it.file.ok {
			key = it.file.key
		}
		for i := len(it.overlays) - 1; i >= 0; i-- { // the newest last, so that it wins a tie
			if o := &it.overlays[i]; o.ok && (key == nil || bytes.Compare(o.key(), key) <= 0) {
				source, key = i, o.key()
			}
		}
		if key == nil || !keyBefore(key, it.hi) {
			return false
		}
		var deleted bool
		if source >= 0 {
			row := it.overlays[source].iter.Item()
			it.entry, deleted = row.entry(), row.deleted
			key = keyBytes(row.key)
		} else if !it.readFile() {
			return false
		} else {
			key = it.entry.Key // a copy: the cursor is about to move
		}
		it.pass(key)
		if !deleted && it.err == nil {
			return true
		}
		it.entry = Entry{}
	}
	return false
}

// Entry returns the row that Next went to.
func (it *Iter) Entry() Entry { return it.entry }

// Err returns the error that ended the walk, or nil. It matches ErrCorrupt.
func (it *Iter) Err() error { return it.err }

// Close ends the walk. It may be called twice.
func (it *Iter) Close() {
	it.layers = nil
	it.file = fileCursor{}
	it.overlays = [2]overlayCursor{}
	it.entry = Entry{}
}

// seek moves every source to its first row at or past target. A source that stands there already is left alone.
func (it *Iter) seek(target []byte) {
	for i := range it.overlays {
		if it.overlays[i].seek(target) {
			it.seeks++
		}
	}
	it.seekFile(target)
}

// pass moves every source that stands on key past it.
func (it *Iter) pass(key []byte) {
	for i := range it.overlays {
		if o := &it.overlays[i]; o.ok && bytes.Equal(o.key(), key) {
			o.next()
		}
	}
	if it.file.ok && bytes.Equal(it.file.key, key) {
		it.nextFile()
	}
}

// A gap is what a source knows of the keys before the row that it stands on: it has no row from the beginning of the gap up to
// that row. So a seek to a target in the gap need not move it.
type gap struct {
	from   []byte
	past   bool // from itself is a row, which was passed
	sought bool // false: nothing is known yet
}

func (g *gap) covers(target, key []byte, ok bool) bool {
	if !g.sought || ok && bytes.Compare(target, key) > 0 {
		return false
	}
	order := bytes.Compare(target, g.from)
	return order > 0 || order == 0 && !g.past
}

// An overlayCursor walks over one table of one overlay. It must not be copied: the btree's iterator points into itself.
type overlayCursor struct {
	iter btree.IterG[overlayRow]
	tree *overlayTree // nil: no rows
	gap  gap
	ok   bool // it stands on a row
}

func (c *overlayCursor) init(o *overlay, t Table) {
	if o == nil || o.trees[t] == nil {
		return
	}
	c.tree = o.trees[t]
	c.iter.Init(c.tree, false)
}

// key returns the key of the row that the cursor stands on.
func (c *overlayCursor) key() []byte {
	if !c.ok {
		return nil
	}
	return keyBytes(c.iter.Item().key)
}

func (c *overlayCursor) next() {
	c.gap = gap{from: c.key(), past: true, sought: true}
	c.ok = c.iter.Next()
}

// seek reports whether it had to descend the tree.
func (c *overlayCursor) seek(target []byte) bool {
	if c.tree == nil || c.gap.covers(target, c.key(), c.ok) {
		return false
	}
	c.ok = c.iter.Seek(overlayRow{key: rowKey(target)})
	c.gap = gap{from: target, sought: true}
	return true
}

// A fileCursor walks over one table of the file.
type fileCursor struct {
	cursor *bolt.Cursor
	key    []byte // a copy, in one of two buffers: gap.from may lie in the other
	spare  []byte // the other
	row    []byte // in the mapped file
	gap    gap
	ok     bool // it stands on a row
}

// stand makes the cursor stand on a row of the file, or at the end when key is nil. Called under guard.
func (c *fileCursor) stand(key, row []byte) {
	c.key, c.spare = append(c.spare[:0], key...), c.key
	c.row, c.ok = row, key != nil
}

// seekFile moves the cursor of the file to its first row at or past target.
func (it *Iter) seekFile(target []byte) {
	defer guard(&it.err, debug.SetPanicOnFault(true))
	c := &it.file
	if c.gap.covers(target, c.key, c.ok) {
		return
	}
	if c.cursor == nil {
		bucket, err := it.layers.bucket(it.table)
		if err != nil {
			it.err = err
			return
		}
		c.cursor = bucket.Cursor()
	}
	it.seeks++
	c.stand(c.cursor.Seek(target))
	c.gap = gap{from: target, sought: true}
	if c.ok && bytes.Compare(c.key, target) < 0 {
		it.err = &CorruptError{Table: it.table, Key: bytes.Clone(c.key), Reason: "rows are out of order"}
	}
}

// nextFile moves the cursor of the file on. Rows that do not ascend mean a damaged page, and could make a
// walk endless.
func (it *Iter) nextFile() {
	defer guard(&it.err, debug.SetPanicOnFault(true))
	c := &it.file
	c.stand(c.cursor.Next())
	c.gap = gap{from: c.spare, past: true, sought: true}
	if c.ok && bytes.Compare(c.key, c.spare) <= 0 {
		it.err = &CorruptError{Table: it.table, Key: bytes.Clone(c.key), Reason: "rows are out of order"}
	}
}

// readFile decodes the row that the cursor of the file stands on.
func (it *Iter) readFile() bool {
	defer guard(&it.err, debug.SetPanicOnFault(true))
	it.entry, it.err = it.layers.decode(it.table, it.file.key, it.file.row)
	return it.err == nil
}
