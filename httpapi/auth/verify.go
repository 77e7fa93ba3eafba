package auth

import (
	"context"
	"crypto/hmac"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/casd/casd/httpapi/s3err"
)

const (
	skewMax       = 15 * time.Minute
	expirySecsMax = 7 * 24 * 3600

	// signingKeysMax bounds the cache of derived keys; it is emptied when full.
	signingKeysMax = 512
)

// A Verifier checks the signatures of requests. It is safe for concurrent use.
type Verifier struct {
	keys   Keys
	region string
	now    func() time.Time

	mu      sync.RWMutex // guards derived
	derived map[derivedID][]byte
}

type derivedID struct {
	accessKey, secret string
	scope             scope
}

// NewVerifier returns a verifier of requests signed for region with keys.
func NewVerifier(keys Keys, region string, now func() time.Time) *Verifier {
	return &Verifier{keys: keys, region: region, now: now, derived: make(map[derivedID][]byte)}
}

// A Result is what a valid signature says, or that there was none.
type Result struct {
	Identity  Identity // anonymous when the request carried no signature
	Presigned bool

	// PayloadHash is what the signature says of the body: UnsignedPayload, a name that begins with "STREAMING-", or a SHA-256 in hex.
	PayloadHash string
	// Chunks verifies the chunks of a streaming body, nil unless the payload is one with signed chunks.
	Chunks *ChunkSigner
}

// claim is a parsed but unverified signature.
type claim struct {
	accessKey string
	scope     scope
	signed    []string
	signature string
	at        time.Time
	expires   time.Duration // presigned only
}

// Verify finds out who sent r. Requests without any signature are anonymous, not an error. Errors are *s3err.Error, but for
// failures of Keys.
func (v *Verifier) Verify(r *http.Request) (Result, error) {
	params, ok := ParseQuery(r.URL.RawQuery)
	if !ok {
		return Result{}, s3err.InvalidURI
	}
	header := r.Header.Get("Authorization")
	var inQuery, inQueryV2 bool
	for _, p := range params {
		switch p.Name {
		case "X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Credential":
			inQuery = true
		case "Signature", "AWSAccessKeyId":
			inQueryV2 = true
		}
	}
	switch {
	case header != "" && (inQuery || inQueryV2):
		return Result{}, s3err.AuthMechanismConflict.With("ArgumentName", "Authorization").With("ArgumentValue", scheme(header))
	case inQuery:
		return v.presigned(r, params)
	case inQueryV2:
		return Result{}, s3err.SignatureV2
	case header == "":
		return Result{PayloadHash: payloadHashOf(r)}, nil
	case strings.HasPrefix(header, "AWS "):
		return Result{}, s3err.SignatureV2
	}
	return v.header(r, header, params)
}

func payloadHashOf(r *http.Request) string {
	if h := r.Header.Get("X-Amz-Content-Sha256"); h != "" {
		return h
	}
	return UnsignedPayload
}

// scheme is the first word of an Authorization header, all that may be shown of it.
func scheme(header string) string {
	s, _, _ := strings.Cut(header, " ")
	return s
}

func (v *Verifier) header(r *http.Request, header string, params []Param) (Result, error) {
	c, err := v.parseHeader(r, header)
	if err != nil {
		return Result{}, err
	}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	if payload == "" {
		return Result{}, s3err.InvalidRequest.WithMessage("Missing required header for this request: x-amz-content-sha256")
	}
	if err := checkPayloadHash(payload); err != nil {
		return Result{}, err
	}
	id, secret, err := v.lookup(r.Context(), c.accessKey)
	if err != nil {
		return Result{}, err
	}
	if now := v.now(); c.at.Before(now.Add(-skewMax)) || c.at.After(now.Add(skewMax)) {
		return Result{}, s3err.RequestTimeTooSkewed.
			With("RequestTime", c.at.UTC().Format(timeFormat)).
			With("ServerTime", now.UTC().Format("2006-01-02T15:04:05Z")).
			With("MaxAllowedSkewMilliseconds", strconv.FormatInt(skewMax.Milliseconds(), 10))
	}
	key, err := v.check(r, c, secret, params, payload)
	if err != nil {
		return Result{}, err
	}
	res := Result{Identity: id, PayloadHash: payload}
	if strings.HasPrefix(payload, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD") {
		res.Chunks = newChunkSigner(key, c.scope, c.at, c.signature)
	}
	return res, nil
}

func (v *Verifier) presigned(r *http.Request, params []Param) (Result, error) {
	c, err := v.parsePresigned(params)
	if err != nil {
		return Result{}, err
	}
	payload := payloadHashOf(r)
	for _, p := range params {
		if p.Name == "X-Amz-Content-Sha256" {
			payload = p.Value
		}
	}
	if err := checkPayloadHash(payload); err != nil {
		return Result{}, err
	}
	if strings.HasPrefix(payload, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD") {
		return Result{}, s3err.NotImplemented.WithMessage("Chunk signatures are not supported in presigned requests.")
	}
	id, secret, err := v.lookup(r.Context(), c.accessKey)
	if err != nil {
		return Result{}, err
	}
	now := v.now()
	if c.at.After(now.Add(skewMax)) {
		return Result{}, s3err.AccessDenied.WithMessage("Request is not valid yet")
	}
	if !now.Before(c.at.Add(c.expires)) {
		return Result{}, s3err.AccessDenied.WithMessage("Request has expired").
			With("X-Amz-Expires", strconv.Itoa(int(c.expires/time.Second))).
			With("Expires", c.at.Add(c.expires).UTC().Format("2006-01-02T15:04:05Z")).
			With("ServerTime", now.UTC().Format("2006-01-02T15:04:05Z"))
	}
	if _, err := v.check(r, c, secret, params, payload); err != nil {
		return Result{}, err
	}
	return Result{Identity: id, PayloadHash: payload, Presigned: true}, nil
}

func (v *Verifier) lookup(ctx context.Context, accessKey string) (Identity, string, error) {
	id, secret, ok, err := v.keys.Lookup(ctx, accessKey)
	if err != nil {
		return Identity{}, "", fmt.Errorf("auth: look up access key: %w", err)
	}
	if !ok {
		return Identity{}, "", s3err.InvalidAccessKeyID.With("AWSAccessKeyId", accessKey)
	}
	return id, secret, nil
}

// check compares the signature and returns the signing key.
func (v *Verifier) check(r *http.Request, c claim, secret string, params []Param, payload string) ([]byte, error) {
	if missing := unsignedHeaders(r, c.signed); missing != "" {
		return nil, s3err.AccessDenied.WithMessage("There were headers present in the request which were not signed").With("HeadersNotSigned", missing)
	}
	if r.Header.Get("X-Amz-Security-Token") != "" {
		return nil, s3err.InvalidToken
	}
	for _, p := range params {
		if p.Name == "X-Amz-Security-Token" {
			return nil, s3err.InvalidToken
		}
	}
	key := v.derive(c.accessKey, secret, c.scope)
	strict, sent := canonicalPath(r.URL)
	canonical := canonicalRequest(r, strict, params, c.signed, payload)
	text := stringToSign(c.at, c.scope, canonical)
	if equal(key, text, c.signature) {
		return key, nil
	}
	// Some clients sign the path as they send it. Both forms name the same object.
	if sent != strict && equal(key, stringToSign(c.at, c.scope, canonicalRequest(r, sent, params, c.signed, payload)), c.signature) {
		return key, nil
	}
	return nil, s3err.SignatureDoesNotMatch.
		With("AWSAccessKeyId", c.accessKey).
		With("StringToSign", text).
		With("SignatureProvided", c.signature).
		With("StringToSignBytes", spacedHex([]byte(text))).
		With("CanonicalRequest", string(canonical)).
		With("CanonicalRequestBytes", spacedHex(canonical))
}

// equal compares in constant time.
func equal(key []byte, text, signature string) bool {
	var want [64]byte
	hex.Encode(want[:], hmacSHA256(key, text))
	return hmac.Equal(want[:], []byte(signature))
}

func spacedHex(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 3*len(b))
	for i, c := range b {
		if i > 0 {
			out = append(out, ' ')
		}
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

// unsignedHeaders names the x-amz-* headers of r that the signature leaves open, separated by ", ".
func unsignedHeaders(r *http.Request, signed []string) string {
	var missing []string
	for name := range r.Header {
		if len(name) < 6 || name[:6] != "X-Amz-" {
			continue
		}
		if l := strings.ToLower(name); !slices.Contains(signed, l) {
			missing = append(missing, l)
		}
	}
	if !slices.Contains(signed, "host") {
		missing = append(missing, "host")
	}
	slices.Sort(missing)
	return strings.Join(missing, ", ")
}

func (v *Verifier) derive(accessKey, secret string, s scope) []byte {
	id := derivedID{accessKey, secret, s}
	v.mu.RLock()
	key := v.derived[id]
	v.mu.RUnlock()
	if key != nil {
		return key
	}
	key = signingKey(secret, s)
	v.mu.Lock()
	if len(v.derived) >= signingKeysMax {
		clear(v.derived)
	}
	v.derived[id] = key
	v.mu.Unlock()
	return key
}

// checkPayloadHash accepts what X-Amz-Content-Sha256 may say.
func checkPayloadHash(h string) error {
	switch h {
	case UnsignedPayload, StreamingSigned, StreamingSignedTrailer, StreamingUnsignedTrailer:
		return nil
	case "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER":
		return s3err.NotImplemented.WithMessage("Signature Version 4A is not implemented.")
	}
	if len(h) == 64 {
		if _, err := hex.DecodeString(h); err == nil {
			return nil
		}
	}
	return s3err.Argument("x-amz-content-sha256", h, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.")
}
