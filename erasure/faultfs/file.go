package faultfs

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"

	"github.com/casd/casd/erasure"
)

const sectorBytes = 512 // a write is torn at multiples of it

// A file is an open file.
type file struct {
	fs    *FS
	n     *node
	path  string
	write bool
	shut  bool
}

func (h *file) begin(k Kind) error {
	if h.shut {
		return fs.ErrClosed
	}
	if k != Read && k != Stat && !h.write {
		return &fs.PathError{Op: string(k), Path: h.path, Err: syscall.EBADF}
	}
	return h.fs.begin(k, h.path)
}

// ReadAt implements io.ReaderAt.
func (h *file) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.begin(Read); err != nil {
		return 0, err
	}
	if off >= int64(len(h.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (h *file) WriteAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.begin(Write); err != nil {
		return 0, err
	}
	defer h.fs.end(Write)
	if grow := off + int64(len(p)) - int64(len(h.n.data)); grow > 0 && grow > h.fs.left(h.path) {
		return 0, &fs.PathError{Op: "write", Path: h.path, Err: syscall.ENOSPC}
	}
	if fate := h.fs.fate(WriteOp{h.path, off, len(p)}); fate != nil {
		return h.suffer(fate, p, off)
	}
	ch := change{off, append([]byte{}, p...)}
	h.n.data = ch.do(h.n.data)
	h.n.pending = append(h.n.pending, ch)
	return len(p), nil
}

// Sync makes the file durable. When a rule makes it fail, what it covered never becomes durable by another Sync.
func (h *file) Sync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.begin(Sync); err != nil {
		if !h.shut {
			h.n.lost = append(h.n.lost, h.n.pending...)
			h.n.pending = nil
		}
		return err
	}
	defer h.fs.end(Sync)
	for _, ch := range h.n.pending {
		h.n.disk = ch.do(h.n.disk)
		h.n.lost = ch.hide(h.n.lost)
	}
	h.n.pending = nil
	return nil
}

// Truncate implements erasure.File.
func (h *file) Truncate(size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.begin(Truncate); err != nil {
		return err
	}
	defer h.fs.end(Truncate)
	h.n.resize(size)
	return nil
}

// Allocate implements erasure.File.
func (h *file) Allocate(_, size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.begin(Allocate); err != nil {
		return err
	}
	defer h.fs.end(Allocate)
	if grow := size - int64(len(h.n.data)); grow > h.fs.left(h.path) {
		return &fs.PathError{Op: "allocate", Path: h.path, Err: syscall.ENOSPC}
	}
	if size > int64(len(h.n.data)) {
		h.n.resize(size)
	}
	return nil
}

// Drop does nothing: there is no page cache.
func (h *file) Drop(int64, int64) {}

// Stat implements erasure.File.
func (h *file) Stat() (erasure.FileInfo, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.begin(Stat); err != nil {
		return erasure.FileInfo{}, err
	}
	return h.fs.info(h.path, h.n), nil
}

// Close implements io.Closer.
func (h *file) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.shut {
		return fs.ErrClosed
	}
	h.shut = true
	return nil
}

func (n *node) resize(size int64) {
	ch := change{off: size}
	n.data = ch.do(n.data)
	n.pending = append(n.pending, ch)
}

// do applies a change to data.
func (c change) do(data []byte) []byte {
	if c.data == nil {
		return sized(data, c.off)
	}
	data = sized(data, max(int64(len(data)), c.off+int64(len(c.data))))
	copy(data[c.off:], c.data)
	return data
}

// hide returns what older changes could still do to a file in which c is durable.
func (c change) hide(older []change) (left []change) {
	from, to := c.off, c.off+int64(len(c.data))
	if c.data == nil {
		to = 1 << 62 // a change of size settles the size, and what lay behind it
	}
	for _, o := range older {
		if o.data == nil {
			continue // durable data needs a durable size
		}
		end := o.off + int64(len(o.data))
		if o.off < from {
			left = append(left, change{o.off, o.data[:min(end, from)-o.off]})
		}
		if end > to {
			keep := max(o.off, to)
			left = append(left, change{keep, o.data[keep-o.off:]})
		}
	}
	return left
}

// tear applies a random part of a change to data: all, nothing, or some sectors of it.
func (c change) tear(data []byte, rng *rand.Rand) []byte {
	switch rng.IntN(3) {
	case 0:
		return data
	case 1:
		return c.do(data)
	}
	if c.data == nil {
		return data
	}
	for from := c.off; from < c.off+int64(len(c.data)); {
		to := min((from/sectorBytes+1)*sectorBytes, c.off+int64(len(c.data)))
		if rng.IntN(2) == 0 {
			data = change{from, c.data[from-c.off : to-c.off]}.do(data)
		}
		from = to
	}
	return data
}

func sized(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size:size]
	}
	if size <= int64(cap(data)) {
		n := len(data)
		data = data[:size]
		clear(data[n:])
		return data
	}
	grown := make([]byte, size)
	copy(grown, data)
	return grown
}

func sortedKeys(m map[string]*node) []string {
	return slices.Sorted(maps.Keys(m))
}
