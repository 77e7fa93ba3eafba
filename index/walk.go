package index

import (
	"bytes"
	"encoding/binary"
)

// pageDepthMax is how deep a page tree may be. With two children a page it would hold more than any disk.
const pageDepthMax = 64

// walk calls each with every element of the tree under page root whose key is at least from, in order, and proves the pages that it reads on
// the way. The elements are valid for ever.
func (r *pageReader) walk(root uint64, from []byte, each func(element) error) error {
	w := &pageWalker{pages: r, from: from, each: each}
	return w.tree(root, nil, nil, 0)
}

// walkBucket is walk for the bucket whose header, as it lies in its parent, is given. It may hold no further buckets.
func (r *pageReader) walkBucket(header, from []byte, each func(element) error) error {
	w := &pageWalker{pages: r, from: from, each: func(e element) error {
		if e.isBucket {
			return &CorruptError{Reason: "there is a table in a table"}
		}
		return each(e)
	}}
	if len(header) < bucketHeaderBytes {
		return &CorruptError{Reason: "the header of a table is too short"}
	}
	if root := binary.LittleEndian.Uint64(header); root != 0 {
		return w.tree(root, nil, nil, 0)
	}
	inline := boltPage{data: header[bucketHeaderBytes:]}
	if len(inline.data) < pageHeaderBytes {
		return &CorruptError{Reason: "the header of a table is too short"}
	}
	inline.kind, inline.count = binary.LittleEndian.Uint16(inline.data[8:]), int(binary.LittleEndian.Uint16(inline.data[10:]))
	if inline.kind != leafPage {
		return &CorruptError{Reason: "the page in the header of a table is no leaf"}
	}
	return w.leaf(&inline, nil, nil)
}

// findBucket returns the header of the bucket of this name, nil when there is none.
func (r *pageReader) findBucket(name []byte) (header []byte, err error) {
	err = r.walk(r.meta.root, nil, func(e element) error {
		if e.isBucket && bytes.Equal(e.key, name) {
			header = e.value
		}
		return nil
	})
	return header, err
}

type pageWalker struct {
	pages *pageReader
	from  []byte
	each  func(element) error
}

// tree walks over the pages under number. lo is the key of the parent's element, nil at the root; all keys lie before hi, nil
// being no bound.
func (w *pageWalker) tree(number uint64, lo, hi []byte, depth int) error {
	if depth > pageDepthMax {
		return badPage(number, "the tree is too deep")
	}
	page, err := w.pages.read(number)
	if err != nil {
		return err
	}
	switch {
	case page.kind == leafPage:
		return w.leaf(&page, lo, hi)
	case page.kind != branchPage || page.count == 0:
		return badPage(number, "it is neither a branch nor a leaf")
	}
	e, err := page.element(0)
	if err != nil {
		return err
	}
	if err := checkFirst(number, e.key, lo); err != nil {
		return err
	}
	for i := 1; i <= page.count; i++ {
		var next element
		bound := hi
		if i < page.count {
			if next, err = page.element(i); err != nil {
				return err
			}
			bound = next.key
		}
		if !keyBefore(e.key, bound) {
			return badPage(number, "its keys are out of order")
		}
		if keyBefore(w.from, bound) {
			if err := w.tree(e.child, e.key, bound, depth+1); err != nil {
				return err
			}
		}
		e = next
	}
	return nil
}

// leaf walks over the elements of one leaf.
func (w *pageWalker) leaf(page *boltPage, lo, hi []byte) error {
	if page.count == 0 && lo != nil {
		return badPage(page.number, "it is empty and not the root")
	}
	var last []byte
	for i := range page.count {
		e, err := page.element(i)
		if err != nil {
			return err
		}
		if i == 0 {
			if err := checkFirst(page.number, e.key, lo); err != nil {
				return err
			}
		} else if bytes.Compare(e.key, last) <= 0 {
			return badPage(page.number, "its keys are out of order")
		}
		if !keyBefore(e.key, hi) {
			return badPage(page.number, "a key lies beyond its parent's")
		}
		last = e.key
		if bytes.Compare(e.key, w.from) < 0 {
			continue
		}
		if err := w.each(e); err != nil {
			return err
		}
	}
	return nil
}

// checkFirst returns an error unless the first key of a page is the one that its parent has for it. Look-ups would do with
// a smaller one in the parent, but bbolt finds a page's element in its parent by this key when it
// writes the page, and when it does not find it, it adds a second.
func checkFirst(number uint64, first, lo []byte) error {
	if lo != nil && !bytes.Equal(first, lo) {
		return badPage(number, "its first key is not the one that its parent has")
	}
	return nil
}
