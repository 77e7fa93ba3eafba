package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// What this package knows of bbolt's file format (version 2), to prove a file without bbolt. Integers are in the byte order of
// the machine; all that Go runs bbolt on in practice are little endian.
//
//	page      u64 number, u16 kind, u16 count, u32 overflow (pages that follow and belong to it)
//	meta      u32 magic, u32 version, u32 page size, u32 flags, bucket root, u64 free list page,
//	          u64 number of pages, u64 transaction, u64 FNV-1a of all before
//	bucket    u64 root page (0: the page follows, inline), u64 sequence
//	branch    count elements of u32 position, u32 key length, u64 child page; position counts from the element
//	leaf      count elements of u32 flags (1: the value is a bucket), u32 position, u32 key length, u32 value length
//	free list count page numbers; when count is 0xFFFF the first number is the count
const (
	pageHeaderBytes   = 16
	pageElementBytes  = 16
	bucketHeaderBytes = 16
	metaBytes         = 64

	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freeListPage = 0x10

	leafIsBucket = 0x01

	boltMagic     = 0xED0CDAED
	boltVersion   = 2
	noFreeList    = ^uint64(0)
	manyFreePages = 0xFFFF

	pageBytesMin = 1 << 10
	pageBytesMax = 16 << 20
)

// A boltMeta is what the newest valid meta page says.
type boltMeta struct {
	pageBytes int
	root      uint64 // page of the root bucket
	freeList  uint64 // page, or noFreeList
	pages     uint64 // all page numbers are less
	txid      uint64
}

// readMeta reads the newest of the two meta pages that is valid, as bbolt does.
func readMeta(file io.ReaderAt) (best boltMeta, err error) {
	found := false
	take := func(offset int64) {
		m, ok := readMetaAt(file, offset)
		if ok && offset != 0 && int64(m.pageBytes) != offset {
			ok = false // not a meta page, but an image of one among the rows
		}
		if ok && (!found || m.txid > best.txid) {
			best, found = m, true
		}
	}
	take(0)
	if found {
		take(int64(best.pageBytes))
	} else {
		for n := int64(pageBytesMin); n <= pageBytesMax; n *= 2 {
			take(n)
		}
	}
	if !found {
		return boltMeta{}, &CorruptError{Reason: "no meta page is valid"}
	}
	return best, nil
}

func readMetaAt(file io.ReaderAt, offset int64) (m boltMeta, ok bool) {
	var page [pageHeaderBytes + metaBytes]byte
	if _, err := file.ReadAt(page[:], offset); err != nil {
		return boltMeta{}, false
	}
	b := page[pageHeaderBytes:]
	sum := fnv.New64a()
	sum.Write(b[:metaBytes-8])
	if binary.LittleEndian.Uint32(b) != boltMagic || binary.LittleEndian.Uint32(b[4:]) != boltVersion ||
		sum.Sum64() != binary.LittleEndian.Uint64(b[metaBytes-8:]) {
		return boltMeta{}, false
	}
	m = boltMeta{
		pageBytes: int(binary.LittleEndian.Uint32(b[8:])),
		root:      binary.LittleEndian.Uint64(b[16:]),
		freeList:  binary.LittleEndian.Uint64(b[32:]),
		pages:     binary.LittleEndian.Uint64(b[40:]),
		txid:      binary.LittleEndian.Uint64(b[48:]),
	}
	return m, m.pageBytes >= pageBytesMin && m.pageBytes <= pageBytesMax && m.pageBytes&(m.pageBytes-1) == 0
}

// A boltPage is one page with its overflow, read and checked.
type boltPage struct {
	number uint64
	kind   uint16
	count  int
	data   []byte // header included
}

// A pageReader reads the pages of a file that are reachable from its newest meta page. While bbolt has the file open it is used where
// nobody commits.
type pageReader struct {
	file io.ReaderAt
	meta boltMeta
	seen []uint64 // bitmap of pages; nil: not after once
}

func newPageReader(file *os.File) (*pageReader, error) {
	meta, err := readMeta(file)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if meta.pages < 2 || meta.pages > uint64(info.Size())/uint64(meta.pageBytes) {
		return nil, &CorruptError{Reason: fmt.Sprintf("the file has %d bytes and should have %d pages of %d", info.Size(), meta.pages, meta.pageBytes)}
	}
	return &pageReader{file: file, meta: meta}, nil
}

// once makes the reader see to it that no page is read twice: none has two parents.
func (r *pageReader) once() {
	r.seen = make([]uint64, r.meta.pages/64+1)
	r.seen[0] |= 3 // the meta pages
}

// claim marks pages number to number+more as used.
func (r *pageReader) claim(number, more uint64) error {
	if number >= r.meta.pages || more >= r.meta.pages-number {
		return badPage(number, "it lies past the end")
	}
	for n := number; n <= number+more && r.seen != nil; n++ {
		if r.seen[n/64]&(1<<(n%64)) != 0 {
			return badPage(n, "it is used twice")
		}
		r.seen[n/64] |= 1 << (n % 64)
	}
	return nil
}

// read reads page number. Its data are its own.
func (r *pageReader) read(number uint64) (p boltPage, err error) {
	if number >= r.meta.pages {
		return boltPage{}, badPage(number, "it lies past the end")
	}
	size := uint64(r.meta.pageBytes)
	data := make([]byte, size)
	if err := r.readAt(data, number*size); err != nil {
		return boltPage{}, err
	}
	p = boltPage{number: number, kind: binary.LittleEndian.Uint16(data[8:]), count: int(binary.LittleEndian.Uint16(data[10:]))}
	more := uint64(binary.LittleEndian.Uint32(data[12:]))
	if binary.LittleEndian.Uint64(data) != number {
		return boltPage{}, badPage(number, "it has another number")
	}
	if err := r.claim(number, more); err != nil {
		return boltPage{}, err
	}
	if more*size > r.overflowMax(p.kind) {
		return boltPage{}, badPage(number, "it is too long")
	}
	if more > 0 {
		data = append(data, make([]byte, more*size)...)
		if err := r.readAt(data[size:], (number+1)*size); err != nil {
			return boltPage{}, err
		}
	}
	p.data = data
	return p, nil
}

// overflowMax bounds the memory that a damaged header can ask for, bytes. bbolt splits pages down to two rows, and a third may be left.
func (r *pageReader) overflowMax(kind uint16) uint64 {
	if kind == freeListPage {
		return 8 * (r.meta.pages + 2)
	}
	return 4 * (KeyBytesMax + ValueBytesMax)
}

func (r *pageReader) readAt(b []byte, offset uint64) error {
	_, err := r.file.ReadAt(b, int64(offset))
	if errors.Is(err, io.EOF) {
		return &CorruptError{Reason: "the file is truncated"}
	}
	return err
}

func badPage(number uint64, reason string) error {
	return &CorruptError{Reason: fmt.Sprintf("page %d: %s", number, reason)}
}

// An element is one element of a branch or leaf page.
type element struct {
	key, value []byte // no value in a branch page
	child      uint64 // branch page
	isBucket   bool   // leaf page
}

// element returns element i of a branch or leaf page.
func (p *boltPage) element(i int) (e element, err error) {
	offset := pageHeaderBytes + i*pageElementBytes
	if offset+pageElementBytes > len(p.data) {
		return element{}, badPage(p.number, "it has too many elements")
	}
	b := p.data[offset:]
	var position, keyBytes, valueBytes uint64
	if p.kind == branchPage {
		position, keyBytes = uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
		e.child = binary.LittleEndian.Uint64(b[8:])
	} else {
		flags := binary.LittleEndian.Uint32(b)
		if flags&^leafIsBucket != 0 {
			return element{}, badPage(p.number, "an element has unknown flags")
		}
		e.isBucket = flags == leafIsBucket
		position, keyBytes = uint64(binary.LittleEndian.Uint32(b[4:])), uint64(binary.LittleEndian.Uint32(b[8:]))
		valueBytes = uint64(binary.LittleEndian.Uint32(b[12:]))
	}
	if keyBytes == 0 || position < pageElementBytes || position+keyBytes+valueBytes > uint64(len(b)) {
		return element{}, badPage(p.number, "an element lies outside")
	}
	e.key = b[position : position+keyBytes : position+keyBytes]
	e.value = b[position+keyBytes : position+keyBytes+valueBytes]
	return e, nil
}

// freePages returns what the free list page p lists.
func (p *boltPage) freePages() ([]byte, error) {
	list, count := p.data[pageHeaderBytes:], uint64(p.count)
	if count == manyFreePages {
		count, list = binary.LittleEndian.Uint64(list), list[8:]
	}
	if count > uint64(len(list)/8) {
		return nil, badPage(p.number, "the free list is too long")
	}
	return list[:count*8], nil
}
