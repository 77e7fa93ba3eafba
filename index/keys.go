package index

import (
	"bytes"
	"encoding/binary"
)

// Keys of several fields: every string but the last of a key is escaped (0x00 becomes 0x00 0xFF) and
// ended by 0x00 0x01. So keys sort as their fields do, one after the other; no key sorts among the rows of
// another; and the escaped form of a prefix is a prefix of the escaped forms of all strings that begin with it.
//
//	ObjectKey   escaped bucket, end, escaped key, end, 8 bytes of ^CSN big endian (newest first)
//	UploadKey   escaped bucket, end, escaped key, end, upload ID as it is
//	PartKey     escaped upload ID, end, 4 bytes of the part number big endian
const (
	escapeByte  = 0x00
	escapedZero = 0xFF
	endByte     = 0x01
	afterEnd    = 0x02 // less than escapedZero and greater than endByte: past all rows of a field, before the next field
)

// appendEscaped appends s escaped, without an end.
func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		b = append(b, s[i])
		if s[i] == escapeByte {
			b = append(b, escapedZero)
		}
	}
	return b
}

// appendField appends s escaped and ended.
func appendField(b []byte, s string) []byte {
	return append(appendEscaped(b, s), escapeByte, endByte)
}

// appendPast appends what sorts after every key that has s as this field, and before every key with a greater one.
func appendPast(b []byte, s string) []byte {
	return append(appendEscaped(b, s), escapeByte, afterEnd)
}

// cutField splits b behind its first field. ok is false when b does not begin with a field in its only valid form.
func cutField(b []byte) (field string, rest []byte, ok bool) {
	if i := bytes.IndexByte(b, escapeByte); i >= 0 && i+1 < len(b) && b[i+1] == endByte {
		return string(b[:i]), b[i+2:], true // the common case: nothing escaped
	}
	var out []byte
	for i := 0; i < len(b); i++ {
		if b[i] != escapeByte {
			out = append(out, b[i])
			continue
		}
		if i++; i == len(b) {
			break
		}
		switch b[i] {
		case endByte:
			return string(out), b[i+1:], true
		case escapedZero:
			out = append(out, escapeByte)
		default:
			return "", nil, false
		}
	}
	return "", nil, false
}

// keyCapacity is room for a key of these fields without escapes, and a few of those.
func keyCapacity(a, b string) int { return len(a) + len(b) + 16 }

// ObjectKey is the key in Objects of the version of bucket/key that the mutation csn wrote.
// Versions of one key sort newest first.
func ObjectKey(bucket, key string, csn uint64) []byte {
	b := appendField(make([]byte, 0, keyCapacity(bucket, key)), bucket)
	return binary.BigEndian.AppendUint64(appendField(b, key), ^csn)
}

// ObjectRange returns the range of all versions of bucket/key.
func ObjectRange(bucket, key string) (lo, hi []byte) {
	b := appendField(make([]byte, 0, keyCapacity(bucket, key)), bucket)
	return appendField(bytes.Clone(b), key), appendPast(b, key)
}

// BucketRange returns the range of all rows of bucket, in Objects and in Uploads.
func BucketRange(bucket string) (lo, hi []byte) {
	return appendField(nil, bucket), appendPast(nil, bucket)
}

// ParseObjectKey is the inverse of ObjectKey. An error matches ErrCorrupt.
func ParseObjectKey(b []byte) (bucket, key string, csn uint64, err error) {
	bucket, rest, ok := cutField(b)
	if ok {
		key, rest, ok = cutField(rest)
	}
	if !ok || len(rest) != 8 {
		return "", "", 0, badKey(Objects, b)
	}
	return bucket, key, ^binary.BigEndian.Uint64(rest), nil
}

// UploadKey is the key in Uploads of the multipart upload uploadID of bucket/key.
func UploadKey(bucket, key, uploadID string) []byte {
	b := appendField(make([]byte, 0, keyCapacity(bucket, key)+len(uploadID)), bucket)
	return append(appendField(b, key), uploadID...)
}

// UploadRange returns the range of all multipart uploads of bucket/key.
func UploadRange(bucket, key string) (lo, hi []byte) { return ObjectRange(bucket, key) }

// ParseUploadKey is the inverse of UploadKey. An error matches ErrCorrupt.
func ParseUploadKey(b []byte) (bucket, key, uploadID string, err error) {
	bucket, rest, ok := cutField(b)
	if ok {
		key, rest, ok = cutField(rest)
	}
	if !ok {
		return "", "", "", badKey(Uploads, b)
	}
	return bucket, key, string(rest), nil
}

// PartKey is the key in Parts of part number n, 0 to 2^32-1, of uploadID.
func PartKey(uploadID string, n int) []byte {
	b := appendField(make([]byte, 0, keyCapacity(uploadID, "")), uploadID)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// PartRange returns the range of all parts of uploadID.
func PartRange(uploadID string) (lo, hi []byte) { return BucketRange(uploadID) }

// ParsePartKey is the inverse of PartKey. An error matches ErrCorrupt.
func ParsePartKey(b []byte) (uploadID string, n int, err error) {
	uploadID, rest, ok := cutField(b)
	if !ok || len(rest) != 4 {
		return "", 0, badKey(Parts, b)
	}
	return uploadID, int(binary.BigEndian.Uint32(rest)), nil
}

func badKey(t Table, key []byte) error {
	return &CorruptError{Table: t, Key: bytes.Clone(key), Reason: "the key has not the form of this table"}
}

// prefixEnd returns what sorts after every string that begins with p and before all others; nil when nothing does.
func prefixEnd(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xFF {
			end := bytes.Clone(p[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}
