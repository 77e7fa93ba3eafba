package s3

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/digest"
	"github.com/casd/casd/httpapi/s3err"
)

func (q *request) createUpload() error {
	attrs, err := q.parseAttributes()
	if err != nil {
		return err
	}
	if attrs.Checksum, err = q.uploadChecksum(); err != nil {
		return err
	}
	up, err := q.api.store.CreateUpload(q.Context(), cas.CreateUploadRequest{Bucket: q.bucket, Key: q.key, Attributes: attrs})
	if err != nil {
		return err
	}
	h := q.w.Header()
	if attrs.Checksum.Algorithm != "" {
		h["x-amz-checksum-algorithm"] = []string{attrs.Checksum.Algorithm}
		h["x-amz-checksum-type"] = []string{attrs.Checksum.Type}
	}
	x := newXML(true)
	x.root("InitiateMultipartUploadResult")
	x.text("Bucket", q.bucket)
	x.text("Key", q.key)
	x.text("UploadId", up.ID)
	x.close("InitiateMultipartUploadResult")
	x.respond(q.w, http.StatusOK)
	return nil
}

// uploadChecksum reads which checksum the object is to have.
func (q *request) uploadChecksum() (c cas.Checksum, err error) {
	a, err := parseAlgorithm(q.Header.Get("X-Amz-Checksum-Algorithm"))
	if err != nil {
		return c, err
	}
	t := strings.ToUpper(q.Header.Get("X-Amz-Checksum-Type"))
	switch {
	case t != "" && t != digest.Composite && t != digest.FullObject:
		return c, s3err.InvalidRequest.WithMessage("Value for x-amz-checksum-type header is invalid.")
	case a == 0 && t == "":
		return c, nil
	case a == 0:
		return c, s3err.InvalidRequest.WithMessage("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
	case t == "":
		t = digest.DefaultType(a)
	case !digest.TypeAllowed(a, t):
		return c, s3err.InvalidRequest.WithMessage("The " + t + " checksum type cannot be used with the " + strings.ToLower(a.String()) + " checksum algorithm.")
	}
	return cas.Checksum{Algorithm: a.String(), Type: t}, nil
}

func (q *request) uploadPart() error {
	number, err := partNumber(q.query.value("partNumber"))
	if err != nil {
		return err
	}
	up, err := q.api.store.Upload(q.Context(), q.bucket, q.key, q.query.value("uploadId")) // before the client is told to go on
	if err != nil {
		return err
	}
	extra, _ := digest.Parse(up.Checksum.Algorithm)
	b, err := q.openBody(digest.MD5|extra, putBytesMax, false)
	if err != nil {
		return err
	}
	// A part must bring the kind of checksum that its upload is to be composed of. That of the whole can be computed here.
	if got := b.checksum.algorithm; extra != 0 && got != extra && (got != 0 || up.Checksum.Type == digest.Composite) {
		name := "null"
		if got != 0 {
			name = strings.ToLower(got.String())
		}
		return s3err.InvalidRequest.WithMessage("Checksum Type mismatch occurred, expected checksum Type: " + strings.ToLower(extra.String()) + ", actual checksum Type: " + name)
	}
	part, err := q.api.store.PutPart(q.Context(), cas.PartRequest{
		Bucket: q.bucket, Key: q.key, UploadID: up.ID, Number: number, Body: b, Digest: b.hasher,
		Finish: func(n int64) (cas.Attributes, error) {
			if err := b.verify(n); err != nil {
				return cas.Attributes{}, err
			}
			etag, sum := b.attributes(extra)
			return cas.Attributes{ETag: etag, Checksum: sum}, nil
		},
	})
	if err != nil {
		return b.failed(err)
	}
	b.hasher.Release()
	h := q.w.Header()
	h["ETag"] = []string{`"` + part.ETag + `"`}
	sum := part.Checksum
	sum.Type = "" // AWS names it for objects only
	setChecksum(h, sum)
	q.w.WriteHeader(http.StatusOK)
	return nil
}

func (q *request) abortUpload() error {
	if err := q.api.store.AbortUpload(q.Context(), q.bucket, q.key, q.query.value("uploadId")); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (q *request) completeUpload() error {
	cond, err := q.writeCondition()
	if err != nil {
		return err
	}
	if _, err := q.api.store.Bucket(q.Context(), q.bucket); err != nil {
		return err
	}
	claim, err := q.completeClaim()
	if err != nil {
		return err
	}
	data, err := q.completeBody()
	if err != nil {
		return err
	}
	var req completeRequest
	if err := decodeXML(data, "CompleteMultipartUpload", &req); err != nil {
		return err
	}
	if claim.parts, err = completeParts(req.Parts); err != nil {
		return err
	}
	return q.slow(func(ctx context.Context) (*xmlDoc, error) {
		info, err := q.api.store.CompleteUpload(ctx, cas.CompleteRequest{
			Bucket: q.bucket, Key: q.key, UploadID: q.query.value("uploadId"), Parts: claim.parts, Finish: claim.finish, If: cond,
		})
		if err != nil {
			return nil, err
		}
		if err := claim.checkSize(info.Size); err != nil { // of one that was complete before, which finish did not see
			return nil, err
		}
		x := newXML(false)
		if info.Versioned {
			x.header = [][2]string{{versionHeader, info.VersionID}}
		}
		x.root("CompleteMultipartUploadResult")
		x.text("Location", q.location())
		x.text("Bucket", q.bucket)
		x.text("Key", q.key)
		x.etag(info.ETag)
		x.checksum(info.Checksum)
		if info.Checksum.Value != "" {
			x.optional("ChecksumType", info.Checksum.Type)
		}
		x.close("CompleteMultipartUploadResult")
		return x, nil
	})
}

// completeBody reads the body of a completion. Its checksum headers are about the object, not about the document.
func (q *request) completeBody() ([]byte, error) {
	header := q.Header
	q.Header = header.Clone()
	for _, a := range digest.Checksums {
		q.Header.Del(checksumHeader(a))
	}
	defer func() { q.Header = header }()
	return q.small(q.api.o.XMLBytes, false)
}

// location is the URL of the object.
func (q *request) location() string {
	scheme := "http://"
	if q.TLS != nil {
		scheme = "https://"
	}
	return scheme + q.Host + q.URL.EscapedPath()
}

// completeParts reads the list of parts. Their order is the store's to check.
func completeParts(list []completePart) ([]cas.CompletePart, error) {
	if len(list) == 0 || len(list) > partsMax {
		return nil, s3err.MalformedXML
	}
	parts := make([]cas.CompletePart, len(list))
	for i := range list {
		l := &list[i]
		etag := strings.TrimSpace(l.ETag)
		if l.Number == nil || etag == "" {
			return nil, s3err.MalformedXML
		}
		if *l.Number > partsMax {
			return nil, s3err.Argument("PartNumber", itoa(*l.Number), partNumberMessage)
		}
		if *l.Number < 1 {
			return nil, s3err.Argument("PartNumber", itoa(*l.Number), "PartNumber must be >= 1")
		}
		parts[i] = cas.CompletePart{Number: *l.Number, ETag: strings.Trim(etag, `"`)}
		for j, v := range [...]string{l.CRC32, l.CRC32C, l.CRC64NVME, l.SHA1, l.SHA256} {
			if v = strings.TrimSpace(v); v == "" {
				continue
			}
			a := digest.Checksums[j]
			if parts[i].Checksum != nil || !a.Valid(v) {
				return nil, s3err.Argument("Checksum", v, "Invalid Base64 or multiple checksums present in request")
			}
			parts[i].Checksum = map[string]string{a.String(): v}
		}
	}
	return parts, nil
}

// A completion is what a client claims of the object that a completion makes.
type completion struct {
	parts        []cas.CompletePart
	algorithm    digest.Algorithm // of value, or 0
	value        string
	checksumType string
	size         int64 // -1 for none
}

// completeClaim reads the headers of a completion.
func (q *request) completeClaim() (*completion, error) {
	c := &completion{size: -1, checksumType: strings.ToUpper(q.Header.Get("X-Amz-Checksum-Type"))}
	if t := c.checksumType; t != "" && t != digest.Composite && t != digest.FullObject {
		return nil, s3err.InvalidRequest.WithMessage("Value for x-amz-checksum-type header is invalid.")
	}
	for _, a := range digest.Checksums {
		v := q.Header.Get(checksumHeader(a))
		if v == "" {
			continue
		}
		if c.algorithm != 0 {
			return nil, s3err.InvalidRequest.WithMessage("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		sum, count, composite := strings.Cut(v, "-") // a composite one may end in the number of parts
		if _, err := strconv.ParseUint(count, 10, 32); !a.Valid(sum) || composite && err != nil {
			return nil, s3err.InvalidRequest.WithMessage("Value for " + checksumHeader(a) + " header is invalid.")
		}
		c.algorithm, c.value = a, v
	}
	if v := q.Header.Get("X-Amz-Mp-Object-Size"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		switch {
		case err != nil:
			return nil, s3err.InvalidRequest.WithMessage("Value for x-amz-mp-object-size header is invalid: '" + v + "'")
		case n < 0:
			return nil, s3err.InvalidRequest.WithMessage("Value for x-amz-mp-object-size header is less than zero: '" + v + "'")
		}
		c.size = n
	}
	return c, nil
}

// finish makes the attributes of the object from those of its parts, and checks the claims. It may run more than once.
func (c *completion) finish(u cas.Upload, parts []cas.Part) (cas.Attributes, error) {
	attrs := u.Attributes
	etags := make([]string, len(parts))
	var size int64
	for i := range parts {
		etags[i] = parts[i].ETag
		size += parts[i].Size
	}
	var err error
	if attrs.ETag, err = digest.MultipartETag(etags); err != nil {
		return attrs, err
	}
	if err := c.checkSize(size); err != nil {
		return attrs, err
	}
	if err := c.checkParts(u, parts); err != nil {
		return attrs, err
	}
	a, ok := digest.Parse(u.Checksum.Algorithm)
	if !ok {
		if c.algorithm != 0 { // AWS drops it; we do not pretend to have checked it
			return attrs, s3err.InvalidRequest.WithMessage("The upload was created without a checksum algorithm, so the checksum of the complete request cannot be verified.")
		}
		return attrs, nil
	}
	if c.checksumType != "" && c.checksumType != u.Checksum.Type {
		return attrs, s3err.InvalidRequest.WithMessage("The upload was created using the " + u.Checksum.Type + " checksum mode. The complete request must use the same checksum mode.")
	}
	sums := make([]digest.Part, len(parts))
	for i := range parts {
		sums[i] = digest.Part{Size: parts[i].Size, Sum: parts[i].Checksum.Value}
	}
	if attrs.Checksum.Value, err = digest.Combine(a, u.Checksum.Type, sums); err != nil {
		return attrs, err
	}
	if c.algorithm == 0 {
		return attrs, nil
	}
	if c.algorithm != a {
		return attrs, s3err.InvalidRequest.WithMessage("Checksum Type mismatch occurred, expected checksum Type: " + strings.ToLower(a.String()) + ", actual checksum Type: " + strings.ToLower(c.algorithm.String()))
	}
	want, _, _ := strings.Cut(attrs.Checksum.Value, "-")
	if c.value != attrs.Checksum.Value && c.value != want {
		return attrs, s3err.BadDigest.WithMessage("The " + a.String() + " you specified did not match the calculated checksum.")
	}
	return attrs, nil
}

// checkSize compares the size of the object in bytes with what the client says that it is.
func (c *completion) checkSize(size int64) error {
	if c.size < 0 || c.size == size {
		return nil
	}
	return s3err.InvalidRequest.WithMessage("The provided 'x-amz-mp-object-size' header value " + strconv.FormatInt(c.size, 10) + " does not match what was computed: " + strconv.FormatInt(size, 10))
}

// checkParts compares the checksums that the client sent for the parts with those that they have.
func (c *completion) checkParts(u cas.Upload, parts []cas.Part) error {
	for i := range parts {
		if i >= len(c.parts) {
			break
		}
		claimed := c.parts[i].Checksum
		if u.Checksum.Type == digest.Composite && claimed[u.Checksum.Algorithm] == "" {
			return s3err.InvalidRequest.WithMessage("The upload was created using a " + strings.ToLower(u.Checksum.Algorithm) + " checksum. The complete request must include the checksum for each part. It was missing for part " + itoa(parts[i].Number) + " in the request.")
		}
		for algorithm, v := range claimed { // at most one
			switch has := parts[i].Checksum; {
			case has.Algorithm == algorithm && has.Value != v:
				return s3err.InvalidPart.With("PartNumber", itoa(parts[i].Number))
			case has.Algorithm != algorithm: // nobody can tell whether it is right
				return s3err.BadDigest.WithMessage("The " + strings.ToLower(algorithm) + " you specified for part " + itoa(parts[i].Number) + " did not match what we received.")
			}
		}
	}
	return nil
}
