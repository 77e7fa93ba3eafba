package erasure

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"
)

const (
	blockBytes    = 4096 // stripes start on multiples of it
	headerBytes   = 256
	formatVersion = 1
	shardsMax     = 16        // n = k + m
	payloadMax    = 256 << 20 // of one stripe; a decoder refuses more, so that damage cannot ask for memory

	shardMagic = "casdshrd"
	flagDir    = 1 // the stripe is a directory stripe
)

// An id16 is a random identity or a 128-bit checksum.
type id16 [16]byte

func (i id16) String() string { return hex.EncodeToString(i[:]) }

// sum128 is the XXH3-128 of b, high half first, big endian: its canonical form.
func sum128(b []byte) id16 { return xxh3.Hash128(b).Bytes() }

// A mark says that the first stripes stripes of a segment are durable on every shard file.
type mark struct {
	segment SegmentID
	stripes uint32
}

// A header stands before each shard. Its layout is in the package comment.
type header struct {
	class    Class
	k, m     uint8
	index    uint8
	flags    uint32
	store    id16
	segment  SegmentID
	nonce    id16
	stripe   uint32
	seq      uint64
	payload  uint32
	table    uint32
	records  uint32
	ordinal  uint32
	shard    uint32  // length of the shard data
	sum      id16    // of the shard data
	digest   id16    // of the stripe
	prev     id16    // digest of the stripe before it in the segment; zero for stripe 0
	marks    [2]mark // metadata, data
	writer   id16
	tableSum uint64 // XXH3-64 of the record table
}

// shared returns what all shards of a stripe have in common: two headers are of one stripe when these are equal.
func (h header) shared() header {
	h.index, h.sum = 0, id16{}
	return h
}

func (h header) directory() bool { return h.flags&flagDir != 0 }

// stored is the length of the shard in its file: header, data and padding.
func (h header) stored() int64 { return storedBytes(h.shard) }

// shardBytes is the length of each data shard of a payload: rounded up to 64 bytes, which never costs a block, since
// header and block are multiples of 64, and which suits the vector units.
func shardBytes(payload uint32, k int) uint32 {
	n := (uint64(payload) + uint64(k) - 1) / uint64(k)
	return uint32((n + 63) &^ 63)
}

func storedBytes(shard uint32) int64 {
	return (headerBytes + int64(shard) + blockBytes - 1) &^ (blockBytes - 1)
}

func (h header) encode(b []byte) {
	_ = b[headerBytes-1]
	clear(b[:headerBytes])
	copy(b, shardMagic)
	le := binary.LittleEndian
	le.PutUint16(b[8:], formatVersion)
	le.PutUint16(b[10:], headerBytes)
	b[12], b[13], b[14], b[15] = byte(h.class), h.k, h.m, h.index
	copy(b[16:], h.store[:])
	le.PutUint64(b[32:], uint64(h.segment))
	copy(b[40:], h.nonce[:])
	le.PutUint32(b[56:], h.flags)
	le.PutUint32(b[60:], h.stripe)
	le.PutUint64(b[64:], h.seq)
	le.PutUint32(b[72:], h.payload)
	le.PutUint32(b[76:], h.table)
	le.PutUint32(b[80:], h.records)
	le.PutUint32(b[84:], h.ordinal)
	le.PutUint32(b[88:], h.shard)
	copy(b[96:], h.sum[:])
	copy(b[112:], h.digest[:])
	copy(b[128:], h.prev[:])
	for i, m := range h.marks {
		le.PutUint64(b[144+8*i:], uint64(m.segment))
		le.PutUint32(b[160+4*i:], m.stripes)
	}
	copy(b[168:], h.writer[:])
	le.PutUint64(b[184:], h.tableSum)
	le.PutUint64(b[headerBytes-8:], xxh3.Hash(b[:headerBytes-8]))
}

var (
	errNotShard = errors.New("erasure: no shard header")
	errNewer    = errors.New("erasure: written by a newer version")
)

// decodeHeader accepts exactly what encode writes.
func decodeHeader(b []byte) (h header, err error) {
	if len(b) < headerBytes || string(b[:8]) != shardMagic {
		return h, errNotShard
	}
	le := binary.LittleEndian
	if xxh3.Hash(b[:headerBytes-8]) != le.Uint64(b[headerBytes-8:]) {
		return h, fmt.Errorf("%w: checksum", errNotShard)
	}
	if v := le.Uint16(b[8:]); v > formatVersion {
		return h, fmt.Errorf("%w: format %d", errNewer, v)
	}
	if le.Uint16(b[8:]) != formatVersion || le.Uint16(b[10:]) != headerBytes {
		return h, fmt.Errorf("%w: format", errNotShard)
	}
	h.class, h.k, h.m, h.index = Class(b[12]), b[13], b[14], b[15]
	copy(h.store[:], b[16:])
	h.segment = SegmentID(le.Uint64(b[32:]))
	copy(h.nonce[:], b[40:])
	h.flags = le.Uint32(b[56:])
	h.stripe = le.Uint32(b[60:])
	h.seq = le.Uint64(b[64:])
	h.payload = le.Uint32(b[72:])
	h.table = le.Uint32(b[76:])
	h.records = le.Uint32(b[80:])
	h.ordinal = le.Uint32(b[84:])
	h.shard = le.Uint32(b[88:])
	copy(h.sum[:], b[96:])
	copy(h.digest[:], b[112:])
	copy(h.prev[:], b[128:])
	for i := range h.marks {
		h.marks[i] = mark{SegmentID(le.Uint64(b[144+8*i:])), le.Uint32(b[160+4*i:])}
	}
	copy(h.writer[:], b[168:])
	h.tableSum = le.Uint64(b[184:])
	if !allZero(b[92:96]) || !allZero(b[192:headerBytes-8]) {
		return h, fmt.Errorf("%w: spare bytes", errNotShard)
	}
	return h, h.check()
}

func (h header) check() error {
	n := int(h.k) + int(h.m)
	switch {
	case h.class < Metadata || h.class > Snapshot,
		h.k == 0, n > shardsMax, int(h.index) >= n,
		h.segment == 0,
		h.flags&^flagDir != 0,
		h.payload == 0, h.payload > payloadMax, h.table > h.payload,
		h.shard != shardBytes(h.payload, int(h.k)),
		h.directory() && h.table != 0:
		return fmt.Errorf("%w: fields", errNotShard)
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
