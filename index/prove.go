package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/zeebo/xxh3"
)

// proveFile reads all of a file that bbolt has not open and proves it: the page tree, rows, counts, set hashes and, when there
// is one, the free list. An empty file is fine. An error that matches ErrCorrupt is a proof of damage. Memory: one page for each level
// of the tree, and a bit for each page.
func proveFile(file *os.File) error {
	if info, err := file.Stat(); err != nil || info.Size() == 0 {
		return err
	}
	pages, err := newPageReader(file)
	if err != nil {
		return err
	}
	readAhead(file, int64(pages.meta.pages)*int64(pages.meta.pageBytes)) // behind that is a hole
	pages.once()
	p := &prover{pages: pages}
	if err := p.root(); err != nil {
		return err
	}
	return p.freeList()
}

// A prover proves one file.
type prover struct {
	pages      *pageReader
	sums       sums
	tables     int
	checkpoint *checkpoint
	scratch    []byte
}

// root proves the root bucket, whose elements are the tables.
func (p *prover) root() error {
	err := p.pages.walk(p.pages.meta.root, nil, func(e element) error {
		if !e.isBucket {
			return &CorruptError{Reason: "a row lies outside of all tables"}
		}
		return p.bucket(e.key, e.value)
	})
	switch {
	case err != nil:
		return err
	case p.checkpoint == nil && p.tables == 0:
		return nil // made, but nothing was written yet
	case p.checkpoint == nil || p.tables != len(allTables):
		return &CorruptError{Reason: "a table or the checkpoint is missing"}
	}
	return p.sums.compare(p.checkpoint)
}

// bucket proves one table, or the bucket of the checkpoint.
func (p *prover) bucket(name, header []byte) error {
	if bytes.Equal(name, metaBucket) {
		return p.pages.walkBucket(header, nil, p.metaRow)
	}
	t := Table(name[0])
	if len(name) != 1 || !t.valid() && t != tableChunks {
		return &CorruptError{Reason: fmt.Sprintf("there is an unknown table %.40q", name)}
	}
	p.tables++
	return p.pages.walkBucket(header, nil, func(e element) (err error) {
		var hash uint128
		hash, p.scratch, err = proveRow(p.scratch, t, e.key, e.value)
		p.sums[t].add(hash)
		return err
	})
}

// metaRow takes a row of the bucket of the checkpoint.
func (p *prover) metaRow(e element) error {
	switch {
	case bytes.Equal(e.key, checkpointKey):
		c, err := decodeCheckpoint(e.value)
		p.checkpoint = &c
		return err
	case bytes.Equal(e.key, formatKey):
		return checkFormat(e.value)
	}
	return &CorruptError{Reason: fmt.Sprintf("there is an unknown row %.40q beside the checkpoint", e.key)}
}

// freeList proves that no page on the free list is used. bbolt would overwrite it.
func (p *prover) freeList() error {
	number := p.pages.meta.freeList
	if number == noFreeList {
		return nil
	}
	page, err := p.pages.read(number)
	if err != nil {
		return err
	}
	if page.kind != freeListPage {
		return badPage(number, "it is no free list")
	}
	list, err := page.freePages()
	if err != nil {
		return err
	}
	for ; len(list) > 0; list = list[8:] {
		if err := p.pages.claim(binary.LittleEndian.Uint64(list), 0); err != nil {
			return err
		}
	}
	return nil
}

// checkFormat returns an error unless b is the record of this version of the file format.
func checkFormat(b []byte) error {
	if len(b) != 4 || binary.LittleEndian.Uint32(b) != formatVersion {
		return &CorruptError{Reason: fmt.Sprintf("format version %x, this program reads version %d", b, formatVersion)}
	}
	return nil
}

// The clean mark: see the package comment.
const (
	cleanSuffix    = ".clean"
	cleanMagic     = "casdclea"
	cleanMarkBytes = 40
)

// cleanMark returns the mark for the file as it is.
func cleanMark(file *os.File) ([]byte, error) {
	pages, err := newPageReader(file)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if pages.meta.freeList == noFreeList {
		return nil, errors.New("there is no free list")
	}
	list, err := pages.read(pages.meta.freeList)
	if err != nil {
		return nil, err
	}
	mark := append(make([]byte, 0, cleanMarkBytes), cleanMagic...)
	mark = binary.LittleEndian.AppendUint64(mark, pages.meta.txid)
	mark = binary.LittleEndian.AppendUint64(mark, uint64(info.Size()))
	mark = binary.LittleEndian.AppendUint64(mark, xxh3.Hash(list.data))
	return binary.LittleEndian.AppendUint64(mark, xxh3.Hash(mark)), nil
}

// writeCleanMark writes the mark beside the file. It need not be synced: without it the next start takes longer.
func writeCleanMark(file *os.File, path string) error {
	mark, err := cleanMark(file)
	if err != nil {
		return err
	}
	return os.WriteFile(path+cleanSuffix, mark, 0o600)
}

// takeCleanMark reports whether the file is as it was when it was closed, and removes the mark.
func takeCleanMark(file *os.File, path string) bool {
	found, err := os.ReadFile(path + cleanSuffix)
	if err != nil {
		return false
	}
	_ = os.Remove(path + cleanSuffix) // if it stays, it will not match
	want, err := cleanMark(file)
	return err == nil && bytes.Equal(found, want)
}
