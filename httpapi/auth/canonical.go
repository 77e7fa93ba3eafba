package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	service    = "s3"

	timeFormat = "20060102T150405Z"
	dateFormat = "20060102"

	// UnsignedPayload in X-Amz-Content-Sha256 leaves the body out of the signature.
	UnsignedPayload = "UNSIGNED-PAYLOAD"
	// EmptySHA256 is the hex SHA-256 of nothing.
	EmptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// AppendEscaped appends s the way AWS wants URIs encoded: every byte but unreserved characters as %XX in upper case,
// "/" too unless keepSlash.
func AppendEscaped(dst []byte, s string, keepSlash bool) []byte {
	const upperHex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~' || c == '/' && keepSlash {
			dst = append(dst, c)
			continue
		}
		dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
	}
	return dst
}

// A Param is one name and value of a query, decoded.
type Param struct{ Name, Value string }

// ParseQuery splits a raw query in its order. It differs from url.ParseQuery in keeping order, and in that ";" is an ordinary
// character. ok is false when an escape is malformed.
func ParseQuery(raw string) (params []Param, ok bool) {
	if raw == "" {
		return nil, true
	}
	params = make([]Param, 0, 1+strings.Count(raw, "&"))
	for raw != "" {
		var piece string
		piece, raw, _ = strings.Cut(raw, "&")
		if piece == "" {
			continue
		}
		name, value, _ := strings.Cut(piece, "=")
		n, err1 := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil {
			return nil, false
		}
		params = append(params, Param{n, v})
	}
	return params, true
}

// appendCanonicalQuery appends the canonical form of params without X-Amz-Signature.
func appendCanonicalQuery(dst []byte, params []Param) []byte {
	if len(params) == 0 {
		return dst
	}
	encoded := make([]string, 0, len(params))
	for _, p := range params {
		if p.Name == "X-Amz-Signature" {
			continue
		}
		b := AppendEscaped(nil, p.Name, false)
		b = append(b, '=')
		encoded = append(encoded, string(AppendEscaped(b, p.Value, false)))
	}
	// The order is that of names, then values; "=" is smaller than all unreserved characters but "-" and ".",
	// so whole strings may not be compared.
	slices.SortFunc(encoded, func(a, b string) int {
		an, av, _ := strings.Cut(a, "=")
		bn, bv, _ := strings.Cut(b, "=")
		if c := strings.Compare(an, bn); c != 0 {
			return c
		}
		return strings.Compare(av, bv)
	})
	for i, e := range encoded {
		if i > 0 {
			dst = append(dst, '&')
		}
		dst = append(dst, e...)
	}
	return dst
}

// headerValues are the values of a header as the client sent them. Go's server takes some out of the header map.
func headerValues(r *http.Request, name string) []string {
	switch name {
	case "host":
		return []string{r.Host}
	case "content-length":
		if v := r.Header["Content-Length"]; len(v) > 0 {
			return v
		}
		if r.ContentLength >= 0 {
			return []string{strconv.FormatInt(r.ContentLength, 10)}
		}
		return nil
	case "transfer-encoding":
		return r.TransferEncoding
	}
	return r.Header[http.CanonicalHeaderKey(name)]
}

// appendTrimmed appends v without surrounding white space, and with runs of spaces made one.
func appendTrimmed(dst []byte, v string) []byte {
	v = strings.Trim(v, " \t")
	space := false
	for i := range len(v) {
		if v[i] == ' ' {
			if space {
				continue
			}
			space = true
		} else {
			space = false
		}
		dst = append(dst, v[i])
	}
	return dst
}

// canonicalRequest builds the text that is signed. path is the escaped path to use; signedHeaders are in lower case and sorted.
func canonicalRequest(r *http.Request, path string, params []Param, signedHeaders []string, payloadHash string) []byte {
	b := make([]byte, 0, 1024)
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = append(b, path...)
	b = append(b, '\n')
	b = appendCanonicalQuery(b, params)
	b = append(b, '\n')
	for _, name := range signedHeaders {
		b = append(b, name...)
		b = append(b, ':')
		for i, v := range headerValues(r, name) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendTrimmed(b, v)
		}
		b = append(b, '\n')
	}
	b = append(b, '\n')
	for i, name := range signedHeaders {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, name...)
	}
	b = append(b, '\n')
	return append(b, payloadHash...)
}

// canonicalPath is the strict encoding of the decoded path; sent is the path as it came.
func canonicalPath(u *url.URL) (strict, sent string) {
	sent = u.EscapedPath()
	if sent == "" {
		sent = "/"
	}
	path := u.Path
	if path == "" {
		path = "/"
	}
	return string(AppendEscaped(make([]byte, 0, len(path)+16), path, true)), sent
}

// A scope is what a signing key is good for.
type scope struct{ date, region string }

func (s scope) String() string { return s.date + "/" + s.region + "/" + service + "/" + terminator }

func hmacSHA256(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}

// signingKey derives the key that signs for a scope.
func signingKey(secret string, s scope) []byte {
	k := hmacSHA256([]byte("AWS4"+secret), s.date)
	k = hmacSHA256(k, s.region)
	k = hmacSHA256(k, service)
	return hmacSHA256(k, terminator)
}

// stringToSign binds the canonical request to a time and a scope.
func stringToSign(t time.Time, s scope, canonical []byte) string {
	sum := sha256.Sum256(canonical)
	return algorithm + "\n" + t.UTC().Format(timeFormat) + "\n" + s.String() + "\n" + hex.EncodeToString(sum[:])
}
