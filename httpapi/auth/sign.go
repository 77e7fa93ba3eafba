package auth

import (
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sign adds Signature Version 4 to a request of ours, for the service "s3": the headers X-Amz-Date, X-Amz-Content-Sha256 and
// Authorization. payloadHash is the hex SHA-256 of the body, or UnsignedPayload; empty means that of an empty body. The
// host and every x-amz-* and content-* header that is set before the call is signed; they may not change afterwards.
func Sign(r *http.Request, c Credentials, region, payloadHash string, at time.Time) {
	if payloadHash == "" {
		payloadHash = EmptySHA256
	}
	r.Header.Set("X-Amz-Date", at.UTC().Format(timeFormat))
	r.Header.Set("X-Amz-Content-Sha256", payloadHash)
	signed := headersToSign(r)
	s := scope{date: at.UTC().Format(dateFormat), region: region}
	sig := signRequest(r, c, s, signed, payloadHash, at)
	r.Header.Set("Authorization", algorithm+" Credential="+c.AccessKey+"/"+s.String()+
		", SignedHeaders="+strings.Join(signed, ";")+", Signature="+sig)
}

// Presign adds Signature Version 4 to the query of a request, good for the given number of seconds from at (1 to 604,800). The
// host and all x-amz-* headers of r are signed and must be sent as they are.
func Presign(r *http.Request, c Credentials, region string, at time.Time, seconds int) {
	signed := headersToSign(r)
	s := scope{date: at.UTC().Format(dateFormat), region: region}
	q := r.URL.Query()
	q.Set("X-Amz-Algorithm", algorithm)
	q.Set("X-Amz-Credential", c.AccessKey+"/"+s.String())
	q.Set("X-Amz-Date", at.UTC().Format(timeFormat))
	q.Set("X-Amz-Expires", strconv.Itoa(seconds))
	q.Set("X-Amz-SignedHeaders", strings.Join(signed, ";"))
	r.URL.RawQuery = q.Encode()
	payloadHash := UnsignedPayload
	if v := r.Header.Get("X-Amz-Content-Sha256"); v != "" {
		payloadHash = v
	}
	r.URL.RawQuery += "&X-Amz-Signature=" + signRequest(r, c, s, signed, payloadHash, at)
}

func headersToSign(r *http.Request) []string {
	signed := []string{"host"}
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	for name := range r.Header {
		if l := strings.ToLower(name); strings.HasPrefix(l, "x-amz-") || strings.HasPrefix(l, "content-") && l != "content-length" {
			signed = append(signed, l)
		}
	}
	slices.Sort(signed)
	return signed
}

func signRequest(r *http.Request, c Credentials, s scope, signed []string, payloadHash string, at time.Time) string {
	params, _ := ParseQuery(r.URL.RawQuery)
	path, _ := canonicalPath(r.URL)
	text := stringToSign(at, s, canonicalRequest(r, path, params, signed, payloadHash))
	return hex.EncodeToString(hmacSHA256(signingKey(c.SecretKey, s), text))
}
