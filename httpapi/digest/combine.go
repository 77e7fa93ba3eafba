package digest

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// The types of checksum of a multipart object.
const (
	FullObject = "FULL_OBJECT" // of the bytes of the object
	Composite  = "COMPOSITE"   // of the checksums of its parts, followed by "-" and their number
)

// A Part is what combining needs to know of one part of a multipart object.
type Part struct {
	Size int64  // bytes
	Sum  string // its checksum in base64
}

// ErrSum means that a part's checksum or ETag is not one.
var ErrSum = errors.New("digest: malformed checksum of a part")

// TypeAllowed tells whether objects can have checksums of algorithm a and that type: CRCs of parts can be combined into one of
// the whole, other digests cannot; and AWS has no composite CRC64NVME.
func TypeAllowed(a Algorithm, checksumType string) bool {
	switch checksumType {
	case FullObject:
		return a == CRC32 || a == CRC32C || a == CRC64NVME
	case Composite:
		return a == CRC32 || a == CRC32C || a == SHA1 || a == SHA256
	}
	return false
}

// DefaultType is the checksum type of a multipart upload that names only an algorithm.
func DefaultType(a Algorithm) string {
	if a == CRC64NVME {
		return FullObject
	}
	return Composite
}

// Combine returns the checksum of a multipart object in base64 from those of its parts: for FullObject by combining their CRCs
// without the bytes, for Composite the digest of their digests, ending in "-" and the number of parts.
func Combine(a Algorithm, checksumType string, parts []Part) (string, error) {
	if !TypeAllowed(a, checksumType) {
		return "", fmt.Errorf("digest: no %s checksum of type %s", a, checksumType)
	}
	h := New(a)
	defer h.Release()
	var crc uint64
	for i, p := range parts {
		sum, err := base64.StdEncoding.DecodeString(p.Sum)
		if err != nil || len(sum) != a.Size() {
			return "", fmt.Errorf("%w: part %d of %d: %q", ErrSum, i+1, len(parts), p.Sum)
		}
		if checksumType == Composite {
			h.Write(sum)
			continue
		}
		crc = combineCRC(a, crc, decodeCRC(sum), p.Size)
	}
	if checksumType == Composite {
		return h.Base64(a) + "-" + strconv.Itoa(len(parts)), nil
	}
	out := binary.BigEndian.AppendUint64(nil, crc)
	return base64.StdEncoding.EncodeToString(out[8-a.Size():]), nil
}

func decodeCRC(sum []byte) (crc uint64) {
	for _, b := range sum {
		crc = crc<<8 | uint64(b)
	}
	return crc
}

// MultipartETag is the ETag of a multipart object from those of its parts (MD5 in hex): the MD5 of their MD5s, "-" and the number of
// parts.
func MultipartETag(etags []string) (string, error) {
	h := md5.New()
	var sum [md5.Size]byte
	for i, e := range etags {
		if n, err := hex.Decode(sum[:], []byte(e[:min(len(e), 2*md5.Size)])); err != nil || n != md5.Size || len(e) != 2*md5.Size {
			return "", fmt.Errorf("%w: ETag of part %d of %d: %q", ErrSum, i+1, len(etags), e)
		}
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(etags)), nil
}

// nvme is the polynomial of CRC-64/NVME, bit-reversed.
const nvme = 0x9a6c9329ac4bc9b5

// combineCRC returns the CRC of AB from those of A and B and the length of B in bytes. All our CRCs are reflected and begin and end with
// an inversion, for which holds: crc(AB) = crc(A) * x^(8*len(B)) + crc(B), in the field of polynomials modulo the CRC's.
func combineCRC(algorithm Algorithm, a, b uint64, lenB int64) uint64 {
	poly, width := uint64(nvme), uint(64)
	switch algorithm {
	case CRC32:
		poly, width = crc32.IEEE, 32
	case CRC32C:
		poly, width = crc32.Castagnoli, 32
	}
	// Reflected: the highest bit is the coefficient of x^0. power runs through x^8, x^16, x^32, ...
	power := uint64(1) << (width - 1 - 8)
	for n := uint64(lenB); n > 0; n >>= 1 {
		if n&1 != 0 {
			a = mulMod(a, power, poly, width)
		}
		power = mulMod(power, power, poly, width)
	}
	return a ^ b
}

// mulMod multiplies two reflected polynomials modulo poly.
func mulMod(a, b, poly uint64, width uint) (product uint64) {
	for bit := uint64(1) << (width - 1); bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		low := b & 1 // times x: the coefficient that leaves comes back as the polynomial
		b >>= 1
		if low != 0 {
			b ^= poly
		}
	}
	return product
}
