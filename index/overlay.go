package index

import (
	"unsafe"

	"github.com/tidwall/btree"
)

// rowOverheadBytes is an estimate of what a row of an overlay needs in memory beside its key and value:
// the item, its share of the tree's nodes (which are about 3/4 full) and two allocations.
const rowOverheadBytes = 144

// An overlayRow is one row of a catalog overlay. The tree holds it by value: one pointer less to follow.
type overlayRow struct {
	key     string
	value   []byte
	rev     uint64
	deleted bool // a tombstone: hides the row in older overlays and in the file
}

// bytes estimates the memory that r needs.
func (r *overlayRow) bytes() int64 { return int64(len(r.key)+len(r.value)) + rowOverheadBytes }

func overlayRowLess(a, b overlayRow) bool { return a.key < b.key }

// rowKey returns key as a string without copying it: whoever calls it must not change key while the string is in use.
func rowKey(key []byte) string { return unsafe.String(unsafe.SliceData(key), len(key)) }

// keyBytes returns the bytes of a key of an overlay, which nobody may change.
func keyBytes(key string) []byte { return unsafe.Slice(unsafe.StringData(key), len(key)) }

type overlayTree = btree.BTreeG[overlayRow]

// An overlay is a set of rows of the catalog that lie over the file. Once published it is immutable; the
// next one begins as its clone, which shares all nodes of the trees until they are changed.
type overlay struct {
	trees [tableMax + 1]*overlayTree // nil: no row of this table
	csn   uint64                     // of the newest mutation in it, or what the file covers when it is empty
	rows  int
	size  int64 // estimate of memory, bytes
}

// clone returns a copy that can be changed while o is read. Only the committer calls it, on one overlay at a time:
// btree's Copy writes a field of o that readers do not read.
func (o *overlay) clone() *overlay {
	c := *o
	for t, tree := range o.trees {
		if tree != nil {
			c.trees[t] = tree.Copy()
		}
	}
	return &c
}

// set puts row into table t.
func (o *overlay) set(t Table, row overlayRow) {
	tree := o.trees[t]
	if tree == nil {
		tree = btree.NewBTreeGOptions(overlayRowLess, btree.Options{NoLocks: true})
		o.trees[t] = tree
	}
	o.size += row.bytes()
	if old, replaced := tree.Set(row); replaced {
		o.size -= old.bytes()
	} else {
		o.rows++
	}
}

// get finds the row of key. A nil overlay has none.
func (o *overlay) get(t Table, key []byte) (overlayRow, bool) {
	if o == nil || o.trees[t] == nil {
		return overlayRow{}, false
	}
	return o.trees[t].Get(overlayRow{key: rowKey(key)})
}
