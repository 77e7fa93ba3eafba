package erasure

import (
	"encoding/binary"
	"errors"

	"github.com/zeebo/xxh3"
)

const (
	tableEntryBytes = 6  // kind, label length, body length; the label lies between the last two
	frameBytes      = 16 // body length, ordinal, checksum
)

var (
	errTable = errors.New("erasure: bad record table")
	errFrame = errors.New("erasure: bad frame")
)

// A tableEntry is one line of a record table.
type tableEntry struct {
	kind  uint8
	label []byte
	body  uint32
}

func appendTableEntry(b []byte, e tableEntry) []byte {
	b = append(b, e.kind, byte(len(e.label)))
	b = append(b, e.label...)
	return binary.LittleEndian.AppendUint32(b, e.body)
}

// decodeTable returns the entries of the record table b of a stripe with the given payload length. Labels point into b.
func decodeTable(b []byte, records, payload uint32) ([]tableEntry, error) {
	if uint64(records)*tableEntryBytes > uint64(len(b)) {
		return nil, errTable
	}
	entries := make([]tableEntry, 0, records)
	need := uint64(len(b))
	for range records {
		if len(b) < tableEntryBytes || len(b) < tableEntryBytes+int(b[1]) || b[0] == 0 {
			return nil, errTable
		}
		n := int(b[1])
		e := tableEntry{kind: b[0], label: b[2 : 2+n : 2+n], body: binary.LittleEndian.Uint32(b[2+n:])}
		b = b[tableEntryBytes+n:]
		need += frameBytes + uint64(e.body)
		entries = append(entries, e)
	}
	if len(b) != 0 || need != uint64(payload) {
		return nil, errTable
	}
	return entries, nil
}

// frameHeader returns the header of the frame that holds body.
func frameHeader(segment SegmentID, ordinal uint32, body []byte) (b [frameBytes]byte) {
	binary.LittleEndian.PutUint32(b[0:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[4:], ordinal)
	binary.LittleEndian.PutUint64(b[8:], frameSum(segment, ordinal, body))
	return b
}

// frameSum binds a body to its place: seed the hash of the body with segment and ordinal, so that a frame read from
// the wrong place never verifies.
func frameSum(segment SegmentID, ordinal uint32, body []byte) uint64 {
	var id [12]byte
	binary.LittleEndian.PutUint64(id[0:], uint64(segment))
	binary.LittleEndian.PutUint32(id[8:], ordinal)
	return xxh3.HashSeed(body, xxh3.Hash(id[:]))
}

// decodeFrame verifies the frame b and returns its body, which points into b.
func decodeFrame(b []byte, segment SegmentID, ordinal uint32) ([]byte, error) {
	if len(b) < frameBytes {
		return nil, errFrame
	}
	body := b[frameBytes:]
	if binary.LittleEndian.Uint32(b) != uint32(len(body)) || binary.LittleEndian.Uint32(b[4:]) != ordinal ||
		binary.LittleEndian.Uint64(b[8:]) != frameSum(segment, ordinal, body) {
		return nil, errFrame
	}
	return body, nil
}

// A stripeInfo says where a stripe of a segment lies and what is in it.
type stripeInfo struct {
	number   uint32
	block    uint32
	seq      uint64
	payload  uint32
	shard    uint32
	ordinal  uint32
	records  uint32
	table    uint32
	tableSum uint64
	digest   id16
}

func infoOfHeader(h header, block uint32) stripeInfo {
	return stripeInfo{number: h.stripe, block: block, seq: h.seq, payload: h.payload, shard: h.shard,
		ordinal: h.ordinal, records: h.records, table: h.table, tableSum: h.tableSum, digest: h.digest}
}

func (s stripeInfo) offset() int64 { return int64(s.block) * blockBytes }
func (s stripeInfo) next() uint32  { return s.block + uint32(storedBytes(s.shard)/blockBytes) }
func (s stripeInfo) stored() int64 { return storedBytes(s.shard) }

// stripeDigest is the digest of a stripe whose data shards have these checksums.
func stripeDigest(sums []id16) id16 {
	b := make([]byte, 0, 16*shardsMax)
	for _, s := range sums {
		b = append(b, s[:]...)
	}
	return sum128(b)
}
