package s3

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	keyBytesMax      = 1024
	bucketNameMax    = 63
	bucketNameMin    = 3
	regionBytesMax   = 63
	listKeysMax      = 1000
	deleteKeysMax    = 1000
	partsMax         = 10000
	putBytesMax      = 5 << 30 // of one PUT: an object or a part
	metadataBytesMax = 2 << 10
)

func itoa(n int) string { return strconv.Itoa(n) }

// unescapePath undoes %XX; "+" is itself.
func unescapePath(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 {
		return s, true
	}
	u, err := url.PathUnescape(s)
	return u, err == nil
}

func validUTF8(s string) bool { return utf8.ValidString(s) }

// reservedBucket names belong to the admin API, wherever that is served, so that moving it never hides a bucket.
func reservedBucket(name string) bool {
	return name == "healthz" || name == "readyz" || name == "metrics"
}

// validBucketName implements the rules of S3 for general purpose buckets, and refuses our reserved names.
func validBucketName(name string) bool {
	if len(name) < bucketNameMin || len(name) > bucketNameMax || reservedBucket(name) {
		return false
	}
	for i := range len(name) {
		c := name[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		switch {
		case alnum:
		case (c == '-' || c == '.') && i > 0 && i < len(name)-1:
			if c == '.' && name[i-1] == '.' {
				return false
			}
		default:
			return false
		}
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return false
	}
	for _, p := range [...]string{"xn--", "sthree-", "amzn-s3-demo-"} {
		if strings.HasPrefix(name, p) {
			return false
		}
	}
	for _, s := range [...]string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"} {
		if strings.HasSuffix(name, s) {
			return false
		}
	}
	return true
}
