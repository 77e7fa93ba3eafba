package erasure

import "encoding/binary"

// A Location is 28 bytes, little endian:
//
//	offset size field
//	0      8    segment
//	8      4    block of the stripe: offset in each shard file in units of 4 KiB
//	12     4    shard data length, bytes
//	16     4    offset of the frame in the payload of the stripe, bytes
//	20     4    body length, bytes
//	24     4    ordinal of the record in its segment
type place struct {
	segment SegmentID
	block   uint32
	shard   uint32
	frame   uint32
	body    uint32
	ordinal uint32
}

func (p place) location() (l Location) {
	binary.LittleEndian.PutUint64(l[0:], uint64(p.segment))
	binary.LittleEndian.PutUint32(l[8:], p.block)
	binary.LittleEndian.PutUint32(l[12:], p.shard)
	binary.LittleEndian.PutUint32(l[16:], p.frame)
	binary.LittleEndian.PutUint32(l[20:], p.body)
	binary.LittleEndian.PutUint32(l[24:], p.ordinal)
	return l
}

func (l Location) place() place {
	return place{
		segment: SegmentID(binary.LittleEndian.Uint64(l[0:])),
		block:   binary.LittleEndian.Uint32(l[8:]),
		shard:   binary.LittleEndian.Uint32(l[12:]),
		frame:   binary.LittleEndian.Uint32(l[16:]),
		body:    binary.LittleEndian.Uint32(l[20:]),
		ordinal: binary.LittleEndian.Uint32(l[24:]),
	}
}

// Segment returns the segment that holds the record.
func (l Location) Segment() SegmentID { return SegmentID(binary.LittleEndian.Uint64(l[0:])) }

// Ordinal returns the number of the record in its segment, counted from 0 over every kind.
func (l Location) Ordinal() uint32 { return binary.LittleEndian.Uint32(l[24:]) }

// BodyBytes returns the length of the record's body.
func (l Location) BodyBytes() int { return int(binary.LittleEndian.Uint32(l[20:])) }
