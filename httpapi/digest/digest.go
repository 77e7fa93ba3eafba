// Package digest computes what S3 clients may claim about a body: MD5, SHA-256 and the five checksum algorithms, several at once and
// only those that are asked for; and it combines the checksums of parts into those of a multipart object.
package digest

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"sync"

	"github.com/minio/crc64nvme"
)

// An Algorithm is one of the digests. Their values are bits of a Set.
type Algorithm uint8

// The algorithms. All but MD5 are checksum algorithms in AWS's sense.
const (
	MD5 Algorithm = 1 << iota
	CRC32
	CRC32C
	CRC64NVME
	SHA1
	SHA256
)

// A Set is any number of algorithms, joined with |.
type Set = Algorithm

// Checksums lists the checksum algorithms in the order in which S3 names them in documents.
var Checksums = [...]Algorithm{CRC32, CRC32C, CRC64NVME, SHA1, SHA256}

// String is the name as in x-amz-checksum-algorithm.
func (a Algorithm) String() string {
	switch a {
	case MD5:
		return "MD5"
	case CRC32:
		return "CRC32"
	case CRC32C:
		return "CRC32C"
	case CRC64NVME:
		return "CRC64NVME"
	case SHA1:
		return "SHA1"
	case SHA256:
		return "SHA256"
	}
	return ""
}

// Parse finds the checksum algorithm of that name, in upper case; ok is false for others.
func Parse(name string) (a Algorithm, ok bool) {
	for _, a := range Checksums {
		if a.String() == name {
			return a, true
		}
	}
	return 0, false
}

// Size is the length of the digest in bytes.
func (a Algorithm) Size() int {
	switch a {
	case MD5:
		return md5.Size
	case CRC32, CRC32C:
		return 4
	case CRC64NVME:
		return 8
	case SHA1:
		return sha1.Size
	case SHA256:
		return sha256.Size
	}
	return 0
}

// Valid tells whether s is base64 of a digest of the right size, in its one canonical spelling.
func (a Algorithm) Valid(s string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == a.Size()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Hasher computes a set of digests of what is written to it. It is not safe for concurrent use.
type Hasher struct {
	set       Set
	md5, sha1 hash.Hash
	sha256    hash.Hash
	crc32     uint32
	crc32c    uint32
	crc64     uint64
}

var pool = sync.Pool{New: func() any { return new(Hasher) }}

// New returns a hasher for a set of algorithms.
func New(set Set) *Hasher {
	h := pool.Get().(*Hasher)
	h.set, h.crc32, h.crc32c, h.crc64 = set, 0, 0, 0
	h.md5 = prepare(h.md5, set&MD5, md5.New)
	h.sha1 = prepare(h.sha1, set&SHA1, sha1.New)
	h.sha256 = prepare(h.sha256, set&SHA256, sha256.New)
	return h
}

// prepare resets h, or makes it when it is wanted for the first time.
func prepare(h hash.Hash, wanted Set, make func() hash.Hash) hash.Hash {
	switch {
	case wanted == 0:
	case h == nil:
		h = make()
	default:
		h.Reset()
	}
	return h
}

// Release gives the hasher back for reuse. Nobody may touch it afterwards; a hasher that another goroutine might still write to
// is simply dropped instead.
func (h *Hasher) Release() { pool.Put(h) }

// Set returns the algorithms that h computes.
func (h *Hasher) Set() Set { return h.set }

// Write adds p. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	if h.set&MD5 != 0 {
		h.md5.Write(p)
	}
	if h.set&CRC32 != 0 {
		h.crc32 = crc32.Update(h.crc32, crc32.IEEETable, p)
	}
	if h.set&CRC32C != 0 {
		h.crc32c = crc32.Update(h.crc32c, castagnoli, p)
	}
	if h.set&CRC64NVME != 0 {
		h.crc64 = crc64nvme.Update(h.crc64, p)
	}
	if h.set&SHA1 != 0 {
		h.sha1.Write(p)
	}
	if h.set&SHA256 != 0 {
		h.sha256.Write(p)
	}
	return len(p), nil
}

// Sum returns one digest of everything written so far: CRCs big endian. It is nil when h does not compute a.
func (h *Hasher) Sum(a Algorithm) []byte {
	if h.set&a == 0 {
		return nil
	}
	switch a {
	case MD5:
		return h.md5.Sum(nil)
	case CRC32:
		return binary.BigEndian.AppendUint32(nil, h.crc32)
	case CRC32C:
		return binary.BigEndian.AppendUint32(nil, h.crc32c)
	case CRC64NVME:
		return binary.BigEndian.AppendUint64(nil, h.crc64)
	case SHA1:
		return h.sha1.Sum(nil)
	case SHA256:
		return h.sha256.Sum(nil)
	}
	return nil
}

// Base64 is Sum in base64, the way S3 shows checksums.
func (h *Hasher) Base64(a Algorithm) string { return base64.StdEncoding.EncodeToString(h.Sum(a)) }
