package erasure

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"
)

const (
	footerMagic     = "casdseal"
	footerUsedBytes = 192 // the rest of the block is zero
	dirEntryBytes   = 64  // fixed part of an entry of a directory stripe; the record table follows it
)

var (
	errNotFooter = errors.New("erasure: no footer")
	errDirectory = errors.New("erasure: bad directory stripe")
)

// A footer is the last block of every shard file of a sealed segment. Its layout is in the package comment.
type footer struct {
	class      Class
	k, m       uint8
	index      uint8
	store      id16
	segment    SegmentID
	nonce      id16
	stripes    uint32 // directory stripes not counted
	records    uint32
	payload    int64 // sum over the stripes, directory stripes not counted
	stored     int64 // of one shard file: its length
	firstSeq   uint64
	lastSeq    uint64
	digest     id16   // of the last stripe; zero when there is none
	dirBlock   uint32 // where the first directory stripe lies
	dirStripes uint32
	dirDigest  id16 // of the last directory stripe
}

func (f footer) shared() footer {
	f.index = 0
	return f
}

func (f footer) encode(b []byte) {
	_ = b[blockBytes-1]
	clear(b[:blockBytes])
	copy(b, footerMagic)
	le := binary.LittleEndian
	le.PutUint16(b[8:], formatVersion)
	le.PutUint16(b[10:], footerUsedBytes)
	b[12], b[13], b[14], b[15] = byte(f.class), f.k, f.m, f.index
	copy(b[16:], f.store[:])
	le.PutUint64(b[32:], uint64(f.segment))
	copy(b[40:], f.nonce[:])
	le.PutUint32(b[56:], f.stripes)
	le.PutUint32(b[60:], f.records)
	le.PutUint64(b[64:], uint64(f.payload))
	le.PutUint64(b[72:], uint64(f.stored))
	le.PutUint64(b[80:], f.firstSeq)
	le.PutUint64(b[88:], f.lastSeq)
	copy(b[96:], f.digest[:])
	le.PutUint32(b[112:], f.dirBlock)
	le.PutUint32(b[116:], f.dirStripes)
	copy(b[120:], f.dirDigest[:])
	le.PutUint64(b[footerUsedBytes-8:], xxh3.Hash(b[:footerUsedBytes-8]))
}

// decodeFooter accepts exactly what encode writes.
func decodeFooter(b []byte) (f footer, err error) {
	if len(b) < blockBytes || string(b[:8]) != footerMagic {
		return f, errNotFooter
	}
	le := binary.LittleEndian
	if xxh3.Hash(b[:footerUsedBytes-8]) != le.Uint64(b[footerUsedBytes-8:]) {
		return f, fmt.Errorf("%w: checksum", errNotFooter)
	}
	if v := le.Uint16(b[8:]); v > formatVersion {
		return f, fmt.Errorf("%w: format %d", errNewer, v)
	}
	if le.Uint16(b[8:]) != formatVersion || le.Uint16(b[10:]) != footerUsedBytes {
		return f, fmt.Errorf("%w: format", errNotFooter)
	}
	f.class, f.k, f.m, f.index = Class(b[12]), b[13], b[14], b[15]
	copy(f.store[:], b[16:])
	f.segment = SegmentID(le.Uint64(b[32:]))
	copy(f.nonce[:], b[40:])
	f.stripes = le.Uint32(b[56:])
	f.records = le.Uint32(b[60:])
	f.payload = int64(le.Uint64(b[64:]))
	f.stored = int64(le.Uint64(b[72:]))
	f.firstSeq = le.Uint64(b[80:])
	f.lastSeq = le.Uint64(b[88:])
	copy(f.digest[:], b[96:])
	f.dirBlock = le.Uint32(b[112:])
	f.dirStripes = le.Uint32(b[116:])
	copy(f.dirDigest[:], b[120:])
	if !allZero(b[136:footerUsedBytes-8]) || !allZero(b[footerUsedBytes:blockBytes]) {
		return f, fmt.Errorf("%w: spare bytes", errNotFooter)
	}
	n := int(f.k) + int(f.m)
	if f.class < Metadata || f.class > Snapshot || f.k == 0 || n > shardsMax || int(f.index) >= n || f.segment == 0 ||
		f.payload < 0 || f.stored < blockBytes || f.stored%blockBytes != 0 || int64(f.dirBlock)*blockBytes >= f.stored ||
		f.stripes == 0 || f.dirStripes == 0 {
		return f, fmt.Errorf("%w: fields", errNotFooter)
	}
	return f, nil
}

// A dirEntry is one entry of a directory stripe: a stripe and its record table.
type dirEntry struct {
	stripeInfo
	tableBytes []byte
}

func appendDirEntry(b []byte, e dirEntry) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, e.number)
	b = le.AppendUint32(b, e.block)
	b = le.AppendUint64(b, e.seq)
	b = le.AppendUint32(b, e.payload)
	b = le.AppendUint32(b, e.shard)
	b = le.AppendUint32(b, e.ordinal)
	b = le.AppendUint32(b, e.records)
	b = le.AppendUint32(b, e.table)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, e.tableSum)
	b = append(b, e.digest[:]...)
	return append(b, e.tableBytes...)
}

// decodeDirectory returns the entries of the payload of a directory stripe. Tables point into b.
func decodeDirectory(b []byte) ([]dirEntry, error) {
	var entries []dirEntry
	le := binary.LittleEndian
	for len(b) > 0 {
		if len(b) < dirEntryBytes {
			return nil, errDirectory
		}
		var e dirEntry
		e.number = le.Uint32(b[0:])
		e.block = le.Uint32(b[4:])
		e.seq = le.Uint64(b[8:])
		e.payload = le.Uint32(b[16:])
		e.shard = le.Uint32(b[20:])
		e.ordinal = le.Uint32(b[24:])
		e.records = le.Uint32(b[28:])
		e.table = le.Uint32(b[32:])
		e.tableSum = le.Uint64(b[40:])
		copy(e.digest[:], b[48:])
		if le.Uint32(b[36:]) != 0 || uint64(e.table) > uint64(len(b)-dirEntryBytes) || e.table > e.payload || e.payload > payloadMax {
			return nil, errDirectory
		}
		b = b[dirEntryBytes:]
		e.tableBytes = b[:e.table:e.table]
		if xxh3.Hash(e.tableBytes) != e.tableSum {
			return nil, errDirectory
		}
		b = b[e.table:]
		entries = append(entries, e)
	}
	return entries, nil
}
