package index

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// formatVersion is the version of the file format described in the package comment.
const formatVersion = 1

// tableChunks is the chunk map's place among the tables; it is not part of the catalog.
const tableChunks Table = 64

// catalogTables are the tables that ops may name, ascending.
var catalogTables = [...]Table{Buckets, Objects, Uploads, Parts, Usage, Domains, Users, Policies, Segments, Verdicts, Members, Meta}

// tableMax is the highest number of a table of the catalog.
const tableMax = Meta

// Limits of rows, checked by Stage.Apply.
const (
	KeyBytesMax   = 32 << 10 // longest key of a row (a limit of bbolt); no key is empty
	ValueBytesMax = 64 << 20 // longest value of a row
)

// Sizes in bytes of the fixed parts of rows.
const (
	rowHeaderBytes     = 16
	chunkRowBytes      = 41
	checksumBytes      = 8
	tableSumBytes      = 25
	checkpointMinBytes = 8 + 8 + 8 + 2 + 4 + checksumBytes
)

var (
	tableNames = map[Table]string{
		Buckets: "buckets", Objects: "objects", Uploads: "uploads", Parts: "parts", Usage: "usage", Domains: "domains",
		Users: "users", Policies: "policies", Segments: "segments", Verdicts: "verdicts", Members: "members", Meta: "meta",
		tableChunks: "chunks",
	}
	metaBucket    = []byte("casd")
	formatKey     = []byte("format")
	checkpointKey = []byte("checkpoint")
)

// String returns the table's name, for logs and metrics.
func (t Table) String() string {
	if name, ok := tableNames[t]; ok {
		return name
	}
	return fmt.Sprintf("table %d", uint8(t))
}

// valid reports whether t is a table of the catalog.
func (t Table) valid() bool { return t >= Buckets && t <= tableMax }

// bucketName returns the name of t's bbolt bucket.
func (t Table) bucketName() []byte { return []byte{byte(t)} }

// A uint128 is a number modulo 2^128.
type uint128 struct{ lo, hi uint64 }

func (a uint128) add(b uint128) uint128 {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	hi, _ := bits.Add64(a.hi, b.hi, carry)
	return uint128{lo, hi}
}

func (a uint128) sub(b uint128) uint128 {
	lo, borrow := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, borrow)
	return uint128{lo, hi}
}

// rowHash computes the hash of one row. scratch is overwritten and returned, grown when needed.
func rowHash(scratch []byte, t Table, key []byte, rev uint64, value []byte) (hash uint128, _ []byte) {
	scratch = append(scratch[:0], byte(t))
	scratch = binary.LittleEndian.AppendUint32(scratch, uint32(len(key)))
	scratch = append(scratch, key...)
	scratch = binary.LittleEndian.AppendUint64(scratch, rev)
	scratch = append(scratch, value...)
	h := xxh3.Hash128(scratch)
	return uint128{h.Lo, h.Hi}, scratch
}

// appendRow encodes a row of the catalog whose row hash is hash.
func appendRow(b []byte, rev uint64, hash uint128, value []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, rev)
	b = binary.LittleEndian.AppendUint64(b, hash.lo)
	return append(b, value...)
}

// decodeRow decodes a row of the catalog and proves its checksum. value aliases row.
func decodeRow(scratch []byte, t Table, key, row []byte) (rev uint64, value []byte, hash uint128, _ []byte, err error) {
	if len(row) < rowHeaderBytes {
		return 0, nil, uint128{}, scratch, &CorruptError{Table: t, Key: key, Reason: "the row is too short"}
	}
	rev, value = binary.LittleEndian.Uint64(row), row[rowHeaderBytes:]
	hash, scratch = rowHash(scratch, t, key, rev, value)
	if hash.lo != binary.LittleEndian.Uint64(row[8:]) {
		return 0, nil, uint128{}, scratch, &CorruptError{Table: t, Key: key, Reason: "the row does not match its checksum"}
	}
	return rev, value, hash, scratch, nil
}

// encodeChunk encodes the row of c and returns its row hash.
func encodeChunk(c *Chunk) (row [chunkRowBytes]byte, hash uint128) {
	copy(row[8:36], c.Location[:])
	binary.LittleEndian.PutUint32(row[36:], c.Size)
	row[40] = c.Encoding
	hash = chunkHash(c.ID[:], row[8:])
	binary.LittleEndian.PutUint64(row[:], hash.lo)
	return row, hash
}

// decodeChunk decodes a row of the chunk map and proves its checksum.
func decodeChunk(id, row []byte) (c Chunk, hash uint128, err error) {
	if len(id) != len(c.ID) || len(row) != chunkRowBytes {
		return Chunk{}, uint128{}, &CorruptError{Table: tableChunks, Key: id, Reason: "the row has a wrong length"}
	}
	hash = chunkHash(id, row[8:])
	if hash.lo != binary.LittleEndian.Uint64(row) {
		return Chunk{}, uint128{}, &CorruptError{Table: tableChunks, Key: id, Reason: "the row does not match its checksum"}
	}
	copy(c.ID[:], id)
	copy(c.Location[:], row[8:36])
	c.Size = binary.LittleEndian.Uint32(row[36:])
	c.Encoding = row[40]
	return c, hash, nil
}

// chunkHash is rowHash for the chunk map, without a scratch buffer of the caller's.
func chunkHash(id, value []byte) uint128 {
	var scratch [1 + 4 + 32 + 8 + chunkRowBytes]byte
	hash, _ := rowHash(scratch[:0], tableChunks, id, 0, value)
	return hash
}

// A tableSum is what a checkpoint says of the rows of one table.
type tableSum struct {
	rows uint64
	hash uint128
}

func (s *tableSum) add(hash uint128) {
	s.rows++
	s.hash = s.hash.add(hash)
}

func (s *tableSum) remove(hash uint128) {
	s.rows--
	s.hash = s.hash.sub(hash)
}

// A checkpoint is the record of the same name.
type checkpoint struct {
	position Position
	totals   Totals
	sums     sums
}

// sums are the tableSums of all tables, found by table number.
type sums [tableChunks + 1]tableSum

// Tables returns the tables of the catalog, ascending.
func Tables() []Table { return catalogTables[:] }

// allTables are the tables of a checkpoint, ascending.
var allTables = append(catalogTables[:], tableChunks)

// appendCheckpoint encodes c.
func appendCheckpoint(b []byte, c *checkpoint) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint64(b, c.position.CSN)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.totals.Chunks))
	b = binary.LittleEndian.AppendUint64(b, uint64(c.totals.Bytes))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(allTables)))
	for _, t := range allTables {
		b = append(b, byte(t))
		b = binary.LittleEndian.AppendUint64(b, c.sums[t].rows)
		b = binary.LittleEndian.AppendUint64(b, c.sums[t].hash.lo)
		b = binary.LittleEndian.AppendUint64(b, c.sums[t].hash.hi)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.position.Log)))
	b = append(b, c.position.Log...)
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b[start:]))
}

// decodeCheckpoint decodes b, which must hold exactly one checkpoint of this version.
func decodeCheckpoint(b []byte) (checkpoint, error) {
	bad := func(reason string) (checkpoint, error) {
		return checkpoint{}, &CorruptError{Reason: "the checkpoint record " + reason}
	}
	if len(b) < checkpointMinBytes {
		return bad("is too short")
	}
	body, sum := b[:len(b)-checksumBytes], b[len(b)-checksumBytes:]
	if xxh3.Hash(body) != binary.LittleEndian.Uint64(sum) {
		return bad("does not match its checksum")
	}
	var c checkpoint
	c.position.CSN = binary.LittleEndian.Uint64(body)
	c.totals.Chunks = int64(binary.LittleEndian.Uint64(body[8:]))
	c.totals.Bytes = int64(binary.LittleEndian.Uint64(body[16:]))
	tables := int(binary.LittleEndian.Uint16(body[24:]))
	body = body[26:]
	if tables != len(allTables) || len(body) < tables*tableSumBytes+4 {
		return bad("has a wrong number of tables")
	}
	for _, t := range allTables {
		if Table(body[0]) != t {
			return bad("names a wrong table")
		}
		c.sums[t] = tableSum{
			rows: binary.LittleEndian.Uint64(body[1:]),
			hash: uint128{binary.LittleEndian.Uint64(body[9:]), binary.LittleEndian.Uint64(body[17:])},
		}
		body = body[tableSumBytes:]
	}
	if uint64(binary.LittleEndian.Uint32(body)) != uint64(len(body)-4) {
		return bad("has a wrong length of its log position")
	}
	c.position.Log = append([]byte(nil), body[4:]...)
	return c, nil
}
