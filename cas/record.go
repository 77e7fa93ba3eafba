package cas

import (
	"encoding/binary"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/casd/casd/index"
)

// Kinds of records in the log. The numbers are part of the format.
const (
	kindChunk    uint8 = 1 // a piece of an object
	kindList     uint8 = 2 // a manifest node, or the part table of an object
	kindMutation uint8 = 3 // a change of the catalog
	// 4 is kindSnapshot: see snapshot.go.
)

// An encoding says how the stored bytes of a chunk become its plain bytes.
type encoding uint8

const (
	encPlain encoding = 1 // stored as they are
	encZstd  encoding = 2 // one zstd frame (RFC 8878)
	encDelta encoding = 3 // one zstd frame that needs the plain bytes of the base chunk as raw dictionary; not written by this version
)

// chunkLabel is the label of a chunk record: what a rebuild and a mark need of it without reading its body.
//
//	offset  size  field
//	0       1     label version, 1
//	1       1     encoding
//	2       4     dedup domain
//	6       4     plain bytes
//	10      32    chunk ID
//	42      32    ID of the base; only with encoding 3
type chunkLabel struct {
	enc    encoding
	domain uint32
	size   uint32
	id     index.ID
	base   index.ID
}

const (
	labelVersion    = 1
	chunkLabelBytes = 42
)

func appendChunkLabel(dst []byte, l chunkLabel) []byte {
	dst = append(dst, labelVersion, byte(l.enc))
	dst = binary.LittleEndian.AppendUint32(dst, l.domain)
	dst = binary.LittleEndian.AppendUint32(dst, l.size)
	dst = append(dst, l.id[:]...)
	if l.enc == encDelta {
		dst = append(dst, l.base[:]...)
	}
	return dst
}

func decodeChunkLabel(b []byte) (l chunkLabel, err error) {
	if len(b) < chunkLabelBytes || b[0] != labelVersion {
		return l, fmt.Errorf("cas: chunk label of %d bytes: %w", len(b), ErrCorrupt)
	}
	l.enc = encoding(b[1])
	l.domain = binary.LittleEndian.Uint32(b[2:])
	l.size = binary.LittleEndian.Uint32(b[6:])
	rest := b[10+copy(l.id[:], b[10:]):]
	if l.enc == encDelta {
		rest = rest[copy(l.base[:], rest):]
	}
	if l.enc < encPlain || l.enc > encDelta || len(rest) != 0 || l.enc == encDelta && len(b) != chunkLabelBytes+32 || l.size > chunkBytesLimit {
		return l, fmt.Errorf("cas: chunk label %x: %w", b, ErrCorrupt)
	}
	return l, nil
}

// A mutation is one transaction as it lies in the log: effects, never conditions. Its record's label is its CSN, 8 bytes,
// little endian; its body is deterministic CBOR (RFC 8949, 4.2) of this struct.
type mutation struct {
	CSN  uint64     `cbor:"1,keyasint"`
	Time int64      `cbor:"2,keyasint"` // nanoseconds since 1970, never running backwards
	Ops  []index.Op `cbor:"3,keyasint"`
}

var (
	cborEnc = must(encOptions().EncMode())
	cborDec = must(cbor.DecOptions{
		MaxArrayElements: 1 << 20,
		MaxMapPairs:      1 << 16,
		MaxNestedLevels:  16,
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		UTF8:             cbor.UTF8DecodeInvalid, // header values are what clients sent: Latin-1 file names are common
	}.DecMode())
)

// encOptions are deterministic. Moments in receipts are text, since seconds are too coarse and floats too inexact.
func encOptions() cbor.EncOptions {
	o := cbor.CoreDetEncOptions()
	o.Time = cbor.TimeRFC3339NanoUTC
	return o
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func encodeMutation(m mutation) (label, body []byte, err error) {
	body, err = cborEnc.Marshal(m)
	return binary.LittleEndian.AppendUint64(nil, m.CSN), body, err
}

func decodeMutation(label, body []byte) (mutation, error) {
	var m mutation
	if err := cborDec.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("cas: mutation: %w: %w", err, ErrCorrupt)
	}
	if len(label) != 8 || binary.LittleEndian.Uint64(label) != m.CSN || m.CSN == 0 {
		return m, fmt.Errorf("cas: mutation %d under label %x: %w", m.CSN, label, ErrCorrupt)
	}
	return m, nil
}

// mutationCSN reads the label of a mutation; 0 when it is none.
func mutationCSN(label []byte) uint64 {
	if len(label) != 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(label)
}

// encodeRow and decodeRow are the form of every value of the catalog.
func encodeRow(v any) ([]byte, error) { return cborEnc.Marshal(v) }

func decodeRow(t index.Table, key, value []byte, v any) error {
	if err := cborDec.Unmarshal(value, v); err != nil {
		return fmt.Errorf("cas: row %x of table %d: %w: %w", key, t, err, ErrCorrupt)
	}
	return nil
}
