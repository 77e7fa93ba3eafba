package s3

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/auth"
	"github.com/casd/casd/httpapi/awschunked"
	"github.com/casd/casd/httpapi/digest"
	"github.com/casd/casd/httpapi/s3err"
)

// A body is that of one request: what to read, what is computed while it is read, and what the client claims of it. No checksum is
// computed that nobody asked for; AWS would add a CRC64NVME to objects that come without any.
type body struct {
	src     io.Reader
	length  int64 // decoded bytes, -1 unknown
	chunked *awschunked.Reader
	hasher  *digest.Hasher

	md5      []byte // claimed, nil for none
	sha256   string // claimed in hex, empty for none
	checksum checksumClaim

	err error // what reading failed with, in the words of S3
}

// openBody prepares to read the body; it reads nothing, so that "100 Continue" is not sent to a client that will be refused. lengthMax bounds the
// decoded length in bytes. compute names digests to compute beyond those that the client claims. A body of unknown length is
// refused unless anyLength.
func (q *request) openBody(compute digest.Set, lengthMax int64, anyLength bool) (*body, error) {
	b := &body{src: q.Body, length: q.ContentLength}
	payload := q.auth.PayloadHash
	streaming := strings.HasPrefix(payload, "STREAMING-")
	var err error
	b.checksum, err = parseChecksum(q.Header, strings.HasSuffix(payload, "-TRAILER"))
	if err != nil {
		return nil, err
	}
	if v := q.Header.Values("Content-Md5"); len(v) > 0 {
		b.md5, err = base64.StdEncoding.Strict().DecodeString(v[0])
		if err != nil || len(b.md5) != digest.MD5.Size() {
			return nil, s3err.InvalidDigest.With("Content-MD5", v[0])
		}
		compute |= digest.MD5
	}
	switch {
	case streaming:
		b.length, err = strconv.ParseInt(q.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil || b.length < 0 {
			return nil, s3err.MissingContentLength
		}
	case b.length < 0 && !anyLength:
		return nil, s3err.MissingContentLength
	case payload == auth.UnsignedPayload && strings.Contains(strings.ToLower(q.Header.Get("Content-Encoding")), "aws-chunked"):
		// The body might be in chunks, which nothing else says, and would be stored with their framing.
		return nil, s3err.Argument("Content-Encoding", q.Header.Get("Content-Encoding"), "aws-chunked encoding is not supported when x-amz-content-sha256 UNSIGNED-PAYLOAD is supplied.")
	case payload != auth.UnsignedPayload:
		b.sha256 = strings.ToLower(payload)
		compute |= digest.SHA256
	}
	if b.length > lengthMax {
		return nil, s3err.EntityTooLarge.With("ProposedSize", strconv.FormatInt(b.length, 10)).With("MaxSizeAllowed", strconv.FormatInt(lengthMax, 10))
	}
	if streaming {
		o := awschunked.Options{Length: b.length}
		if payload != auth.StreamingUnsignedTrailer {
			o.Signer = q.auth.Chunks
		}
		if b.checksum.trailer != "" {
			o.Trailers = []string{b.checksum.trailer}
		}
		b.chunked = awschunked.New(q.Body, o)
		b.src = b.chunked
	}
	b.hasher = digest.New(compute | b.checksum.algorithm)
	return b, nil
}

// Read implements io.Reader for the store. Its errors are *s3err.Error.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.src.Read(p)
	if err == nil || err == io.EOF { //nolint:errorlint // readers return it bare
		return n, err
	}
	b.err = bodyError(err)
	return n, b.err
}

// bodyError tells why a body could not be read.
func bodyError(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return s3err.RequestTimeout
	case errors.Is(err, awschunked.ErrSignature):
		return s3err.SignatureDoesNotMatch
	case errors.Is(err, awschunked.ErrTrailer):
		return s3err.MalformedTrailer
	case errors.Is(err, awschunked.ErrChunkSize):
		return s3err.InvalidChunkSize
	case errors.Is(err, awschunked.ErrLength):
		return s3err.IncompleteBody
	}
	return s3err.IncompleteBody.WithMessage("The request body terminated unexpectedly") // cut off or malformed
}

// verify checks everything that the client claimed, once all n bytes were read and digested. On success the hasher may be asked
// and then be released.
func (b *body) verify(n int64) error {
	if b.length >= 0 && n != b.length {
		return s3err.IncompleteBody
	}
	h := b.hasher
	if b.sha256 != "" {
		if got := hex.EncodeToString(h.Sum(digest.SHA256)); got != b.sha256 {
			return s3err.ContentSHA256Mismatch.With("ClientComputedContentSHA256", b.sha256).With("S3ComputedContentSHA256", got)
		}
	}
	if b.md5 != nil && string(b.md5) != string(h.Sum(digest.MD5)) {
		return s3err.BadDigest.
			With("ExpectedDigest", base64.StdEncoding.EncodeToString(b.md5)).
			With("CalculatedDigest", h.Base64(digest.MD5))
	}
	c := &b.checksum
	if c.trailer != "" {
		c.value = b.chunked.Trailer(c.trailer)
		if !c.algorithm.Valid(c.value) {
			return s3err.InvalidRequest.WithMessage("Value for " + c.trailer + " trailing header is invalid.")
		}
	}
	if c.value != "" && c.value != h.Base64(c.algorithm) {
		return s3err.BadDigest.WithMessage("The " + c.algorithm.String() + " you specified did not match the calculated checksum.")
	}
	return nil
}

// attributes are the ETag of the body, and the checksum that is to be kept: the claimed one, or else one of algorithm a (0 for none).
func (b *body) attributes(a digest.Algorithm) (etag string, c cas.Checksum) {
	if b.checksum.algorithm != 0 {
		a = b.checksum.algorithm
	}
	if a != 0 {
		c = cas.Checksum{Algorithm: a.String(), Type: digest.FullObject, Value: b.hasher.Base64(a)}
	}
	return hex.EncodeToString(b.hasher.Sum(digest.MD5)), c
}

// failed chooses the error of an upload: what is wrong with the body explains more than what the store made of it.
func (b *body) failed(err error) error {
	if b.err != nil && !errors.Is(err, cas.ErrUnknownOutcome) {
		return b.err
	}
	return err
}

// unwantedBytesMax bounds the body of a request that takes none, if its hash is signed and has to be checked.
const unwantedBytesMax = 1 << 20

// checkUnwanted verifies the signed hash of a body that the operation ignores: a body that was changed on its way means that
// more may have been. Bodies that are not signed as a whole are not read.
func (q *request) checkUnwanted() error {
	payload := q.auth.PayloadHash
	switch {
	case q.ContentLength == 0 && payload == auth.EmptySHA256, payload == auth.UnsignedPayload, strings.HasPrefix(payload, "STREAMING-"):
		return nil
	case q.ContentLength > unwantedBytesMax:
		return tooLong(unwantedBytesMax)
	}
	h := digest.New(digest.SHA256)
	defer h.Release()
	n, err := io.Copy(h, io.LimitReader(q.Body, unwantedBytesMax+1))
	q.unwanted = n
	switch {
	case err != nil:
		return bodyError(err)
	case n > unwantedBytesMax:
		return tooLong(unwantedBytesMax)
	}
	if got := hex.EncodeToString(h.Sum(digest.SHA256)); got != strings.ToLower(payload) {
		return s3err.ContentSHA256Mismatch.With("ClientComputedContentSHA256", payload).With("S3ComputedContentSHA256", got)
	}
	return nil
}

// hasBody tells whether the request has a body that is not empty, after checkUnwanted. Where the length is unknown it may read a byte.
func (q *request) hasBody() (bool, error) {
	if q.ContentLength >= 0 || q.unwanted > 0 {
		return q.ContentLength > 0 || q.unwanted > 0, nil
	}
	_, err := io.ReadFull(q.Body, make([]byte, 1))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, io.EOF):
		return false, nil
	}
	return false, bodyError(err)
}

func tooLong(lengthMax int64) error {
	return s3err.MaxMessageLengthExceeded.With("MaxMessageLengthBytes", strconv.FormatInt(lengthMax, 10))
}

// small reads a whole body of at most lengthMax bytes that is held in memory (XML), and verifies it.
func (q *request) small(lengthMax int64, digestDemanded bool) ([]byte, error) {
	b, err := q.openBody(0, lengthMax, true)
	if errors.Is(err, s3err.EntityTooLarge) {
		return nil, tooLong(lengthMax)
	}
	if err != nil {
		return nil, err
	}
	if digestDemanded && b.md5 == nil && b.checksum.algorithm == 0 {
		return nil, s3err.InvalidRequest.WithMessage("Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
	}
	data, err := io.ReadAll(io.LimitReader(b, lengthMax+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > lengthMax {
		return nil, tooLong(lengthMax)
	}
	_, _ = b.hasher.Write(data)
	if err := b.verify(int64(len(data))); err != nil {
		return nil, err
	}
	b.hasher.Release()
	return data, nil
}
