package s3

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/s3err"
)

// overrideOf is the header that a response-* parameter sets, empty when it is none of those.
func overrideOf(param string) string {
	switch param {
	case "response-content-type":
		return "Content-Type"
	case "response-content-language":
		return "Content-Language"
	case "response-expires":
		return "Expires"
	case "response-cache-control":
		return "Cache-Control"
	case "response-content-disposition":
		return "Content-Disposition"
	case "response-content-encoding":
		return "Content-Encoding"
	}
	return ""
}

func (q *request) getObject() error  { return q.read(true) }
func (q *request) headObject() error { return q.read(false) }

// read answers GetObject, or without body HeadObject.
func (q *request) read(withBody bool) error {
	version, err := q.version()
	if err != nil {
		return err
	}
	o, err := q.api.store.Get(q.Context(), cas.GetRequest{Bucket: q.bucket, Key: q.key, VersionID: version})
	if err != nil {
		return versionError(err, version)
	}
	defer o.Close()
	info := &o.Info
	h := q.w.Header()

	switch result, header := readConditions.evaluate(q.Header, info.ETag, info.Modified); result {
	case failed:
		return failedCondition(header)
	case notModified:
		setAttributes(h, &info.Attributes)
		delete(h, "Content-Type")
		setVersion(h, info)
		h["Last-Modified"] = []string{info.Modified.UTC().Format(http.TimeFormat)}
		q.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	part, status, checksum, err := q.selection(o)
	if err != nil {
		return err
	}
	setAttributes(h, &info.Attributes)
	setVersion(h, info)
	h["Last-Modified"] = []string{info.Modified.UTC().Format(http.TimeFormat)}
	h["Accept-Ranges"] = []string{"bytes"}
	if strings.EqualFold(q.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") {
		setChecksum(h, checksum)
	}
	if err := q.override(h); err != nil {
		return err
	}
	h["Content-Length"] = []string{strconv.FormatInt(part.n, 10)}
	if status == http.StatusPartialContent && part.n > 0 { // no range can be written for the part of an empty object
		h["Content-Range"] = []string{contentRange(part, info.Size)}
	}
	if !withBody || part.n == 0 {
		q.w.WriteHeader(status)
		return nil
	}
	return q.send(o, part, status)
}

// contentRange is the Content-Range of a range that is not empty.
func contentRange(r byteRange, size int64) string {
	b := make([]byte, 0, 64)
	b = append(b, "bytes "...)
	b = strconv.AppendInt(b, r.off, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, r.off+r.n-1, 10)
	b = append(b, '/')
	return string(strconv.AppendInt(b, size, 10))
}

// selection decides which bytes of the object are asked for, with which status they are sent, and which checksum may go with them: that of the
// object for all of it, that of a part for a part, none for a range.
func (q *request) selection(o *cas.Object) (r byteRange, status int, checksum cas.Checksum, err error) {
	info := &o.Info
	rangeHeader := q.Header.Get("Range")
	if v, ok := q.query.get("partNumber"); ok {
		number, err := partNumber(v)
		if err != nil {
			return r, 0, checksum, err
		}
		if rangeHeader != "" {
			return r, 0, checksum, s3err.InvalidRequest.WithMessage("Cannot specify both Range header and partNumber query parameter")
		}
		p, off, ok, err := o.Part(q.Context(), number)
		if err != nil {
			return r, 0, checksum, err
		}
		if !ok {
			return r, 0, checksum, s3err.InvalidPartNumber.With("ActualPartCount", itoa(max(info.Parts, 1))).With("PartNumberRequested", itoa(number))
		}
		checksum = p.Checksum
		if info.Parts == 0 {
			checksum = info.Checksum
		} else if checksum.Type == "" {
			checksum.Type = info.Checksum.Type
		}
		q.w.Header()["x-amz-mp-parts-count"] = []string{itoa(max(info.Parts, 1))}
		return byteRange{off, p.Size}, http.StatusPartialContent, checksum, nil
	}
	whole := byteRange{0, info.Size}
	if rangeHeader == "" || !q.ifRange(info) {
		return whole, http.StatusOK, info.Checksum, nil
	}
	r, ok, satisfiable := parseRange(rangeHeader, info.Size)
	if !ok {
		return whole, http.StatusOK, info.Checksum, nil
	}
	if !satisfiable {
		size := strconv.FormatInt(info.Size, 10)
		return r, 0, checksum, s3err.InvalidRange.
			With("RangeRequested", rangeHeader).With("ActualObjectSize", size).
			WithHeader("Content-Range", "bytes */"+size)
	}
	if r == whole {
		checksum = info.Checksum
	}
	return r, http.StatusPartialContent, checksum, nil
}

// ifRange tells whether the range counts: If-Range, if there, names the object as it is.
func (q *request) ifRange(info *cas.ObjectInfo) bool {
	v := q.Header.Get("If-Range")
	if v == "" {
		return true
	}
	if t, err := http.ParseTime(v); err == nil {
		return info.Modified.Unix() == t.Unix()
	}
	return v == `"`+info.ETag+`"`
}

// override sets the headers that response-* parameters ask for; only signed requests may.
func (q *request) override(h http.Header) error {
	for _, p := range q.query {
		name := overrideOf(p.Name)
		if name == "" || p.Value == "" {
			continue
		}
		if q.auth.Identity.Anonymous() {
			return s3err.InvalidRequest.WithMessage("Request specific response headers cannot be used for anonymous GET requests.")
		}
		if strings.ContainsAny(p.Value, "\r\n\x00") {
			return s3err.Argument(p.Name, p.Value, "The value may not hold control characters.")
		}
		h[name] = []string{p.Value}
	}
	return nil
}

// A bodyWriter sends the headers of a response before its first byte: an object whose first chunk cannot be read still gets a proper error.
type bodyWriter struct {
	w      http.ResponseWriter
	status int // 0 once sent
	failed bool
}

func (b *bodyWriter) Write(p []byte) (int, error) {
	if b.status != 0 {
		b.w.WriteHeader(b.status)
		b.status = 0
	}
	n, err := b.w.Write(p)
	if err != nil {
		b.failed = true
	}
	return n, err
}

// send writes bytes of the object. When that fails amid them the connection is broken off: the response never ends as if it were whole.
func (q *request) send(o *cas.Object, r byteRange, status int) error {
	w := &bodyWriter{w: q.w, status: status}
	n, err := o.WriteRange(q.Context(), w, r.off, r.n)
	if err == nil && n != r.n {
		err = errors.New("s3: the store returned fewer bytes than the object has")
	}
	if err == nil {
		return nil
	}
	if w.status != 0 { // nothing was sent
		return err
	}
	if w.failed || errors.Is(err, context.Canceled) {
		q.entry.ErrorCode = "ClientGone"
	} else {
		q.entry.Err, q.entry.ErrorCode = err, "InternalError"
	}
	panic(http.ErrAbortHandler)
}
