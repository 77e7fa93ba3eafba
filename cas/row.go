package cas

import (
	"encoding/binary"
	"time"

	"github.com/casd/casd/index"
)

// Rows of the catalog. Field numbers are part of the format: a number is never used again for something else, and unknown
// ones are ignored. Times are nanoseconds since 1970.

type bucketRow struct {
	Created int64  `cbor:"1,keyasint"`
	Owner   string `cbor:"2,keyasint,omitempty"`
	Region  string `cbor:"3,keyasint,omitempty"`
	Domain  uint32 `cbor:"4,keyasint"`

	Versioning Versioning `cbor:"5,keyasint,omitempty"`
}

type domainRow struct {
	Key     []byte `cbor:"1,keyasint"` // 32 bytes, keys BLAKE3
	Created int64  `cbor:"2,keyasint"`
}

type usageRow struct {
	Objects int64 `cbor:"1,keyasint"`
	Bytes   int64 `cbor:"2,keyasint"` // what clients stored
	Inline  int64 `cbor:"3,keyasint"` // of these, bytes that lie in rows
	Uploads int64 `cbor:"4,keyasint"`
}

type verdictRow struct {
	Stripes uint32 `cbor:"1,keyasint"`
	Digest  []byte `cbor:"2,keyasint"`
}

type checksumRow struct {
	Algorithm string `cbor:"1,keyasint"`
	Type      string `cbor:"2,keyasint,omitempty"`
	Value     string `cbor:"3,keyasint,omitempty"`
}

type attributesRow struct {
	ETag         string            `cbor:"1,keyasint,omitempty"`
	Checksum     *checksumRow      `cbor:"2,keyasint,omitempty"`
	ContentType  string            `cbor:"3,keyasint,omitempty"`
	Headers      map[string]string `cbor:"4,keyasint,omitempty"`
	Metadata     map[string]string `cbor:"5,keyasint,omitempty"`
	StorageClass string            `cbor:"6,keyasint,omitempty"`
	Owner        string            `cbor:"7,keyasint,omitempty"`
}

// content is where the bytes of an object or part are.
type content struct {
	Size   int64  `cbor:"1,keyasint"`
	Domain uint32 `cbor:"2,keyasint"`
	Inline []byte `cbor:"3,keyasint,omitempty"` // the bytes themselves, when they are few
	Root   []byte `cbor:"4,keyasint,omitempty"` // else the root node of the manifest
}

type versionRow struct {
	Content    content       `cbor:"1,keyasint"`
	Attributes attributesRow `cbor:"2,keyasint"`
	Modified   int64         `cbor:"3,keyasint"`
	Parts      []partEntry   `cbor:"4,keyasint,omitempty"` // of a multipart object, when they are few
	PartTable  []byte        `cbor:"5,keyasint,omitempty"` // else the ID of the chunk that holds them
	PartCount  int           `cbor:"6,keyasint,omitempty"`
	UploadID   string        `cbor:"7,keyasint,omitempty"` // of the upload that made it, so that a repeated Complete is known
	TableSize  uint32        `cbor:"8,keyasint,omitempty"` // plain bytes of the part table chunk

	Own    bool   `cbor:"9,keyasint,omitempty"`  // has a version ID of its own; else it is the null version of its key
	Marker bool   `cbor:"10,keyasint,omitempty"` // a delete marker: Content and what else is about bytes is empty
	Null   uint64 `cbor:"11,keyasint,omitempty"` // with Own: CSN of the null version when this one was written, 0 for none (version.go)
}

// A markerRow is as much of a versionRow as lists need to know of those that they do not show.
type markerRow struct {
	Marker bool `cbor:"10,keyasint,omitempty"`
}

// A partEntry is one part of a finished multipart object, in order.
type partEntry struct {
	_        struct{} `cbor:",toarray"`
	Number   int
	Size     int64
	ETag     string
	Checksum string // value only; algorithm and type are the object's
}

type uploadRow struct {
	Attributes attributesRow `cbor:"1,keyasint"`
	Initiated  int64         `cbor:"2,keyasint"`
	Domain     uint32        `cbor:"3,keyasint"`
}

type partRow struct {
	Content  content      `cbor:"1,keyasint"`
	ETag     string       `cbor:"2,keyasint"`
	Checksum *checksumRow `cbor:"3,keyasint,omitempty"`
	Modified int64        `cbor:"4,keyasint"`
}

func (a Attributes) row() attributesRow {
	return attributesRow{ETag: a.ETag, Checksum: a.Checksum.row(), ContentType: a.ContentType, Headers: a.Headers,
		Metadata: a.Metadata, StorageClass: a.StorageClass, Owner: a.Owner}
}

func (r attributesRow) attributes() Attributes {
	return Attributes{ETag: r.ETag, Checksum: r.Checksum.checksum(), ContentType: r.ContentType, Headers: r.Headers,
		Metadata: r.Metadata, StorageClass: r.StorageClass, Owner: r.Owner}
}

func (c Checksum) row() *checksumRow {
	if c == (Checksum{}) {
		return nil
	}
	r := checksumRow(c)
	return &r
}

func (r *checksumRow) checksum() Checksum {
	if r == nil {
		return Checksum{}
	}
	return Checksum(*r)
}

func (r uploadRow) upload(bucket, key, id string) Upload {
	return Upload{Attributes: r.Attributes.attributes(), Bucket: bucket, Key: key, ID: id, Initiated: unixNano(r.Initiated)}
}

func (r partRow) part(number int) Part {
	return Part{Number: number, Size: r.Content.Size, ETag: r.ETag, Checksum: r.Checksum.checksum(), Modified: unixNano(r.Modified)}
}

func (r bucketRow) bucket(name string) Bucket {
	return Bucket{Name: name, Created: unixNano(r.Created), Owner: r.Owner, Region: r.Region, Versioning: r.Versioning}
}

// versioned tells whether the bucket has or had versions.
func (r *bucketRow) versioned() bool { return r.Versioning != Unversioned }

func unixNano(n int64) time.Time { return time.Unix(0, n).UTC() }

func domainKey(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func segmentKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// getRow reads and decodes one row.
func getRow[T any](r index.Reader, t index.Table, key []byte) (row T, rev uint64, ok bool, err error) {
	e, ok, err := r.Get(t, key)
	if err != nil || !ok {
		return row, 0, false, err
	}
	err = decodeRow(t, e.Key, e.Value, &row)
	return row, e.Rev, err == nil, err
}

func parseSegmentKey(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, ErrCorrupt
	}
	return binary.BigEndian.Uint64(b), nil
}
