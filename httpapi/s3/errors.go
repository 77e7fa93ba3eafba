package s3

import (
	"context"
	"errors"
	"net/http"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/s3err"
)

// storeErrors says what clients are told of the store's errors; the first that matches wins, and no match is InternalError.
//
// InsufficientStorage is no code of AWS's. Its status 507 is one that SDKs do retry, but only their usual few times; as a 503 SlowDown it would
// throttle them for the rest of their run.
var storeErrors = []struct {
	err  error
	told *s3err.Error
}{
	{cas.ErrNoSuchBucket, s3err.NoSuchBucket},
	{cas.ErrNoSuchKey, s3err.NoSuchKey},
	{cas.ErrNoSuchVersion, s3err.NoSuchVersion},
	{cas.ErrInvalidVersion, s3err.InvalidVersion},
	{cas.ErrDeleteMarker, s3err.MethodNotAllowed},
	{cas.ErrNoSuchUpload, s3err.NoSuchUpload},
	{cas.ErrBucketNotEmpty, s3err.BucketNotEmpty},
	{cas.ErrBucketExists, s3err.BucketAlreadyExists},
	{cas.ErrPreconditionFailed, s3err.PreconditionFailed},
	{cas.ErrInvalidPart, s3err.InvalidPart},
	{cas.ErrInvalidPartOrder, s3err.InvalidPartOrder},
	{cas.ErrPartTooSmall, s3err.EntityTooSmall},
	{cas.ErrTooLarge, s3err.EntityTooLarge},
	{cas.ErrBadDigest, s3err.BadDigest},
	{cas.ErrNoSpace, s3err.InsufficientStorage},
	{cas.ErrBusy, s3err.SlowDown},
	{cas.ErrReadOnly, s3err.ServiceUnavailable},
	{cas.ErrIncomplete, s3err.ServiceUnavailable},
	{cas.ErrClosed, s3err.ServiceUnavailable},
	{cas.ErrCorrupt, s3err.InternalError}, // never NoSuchKey: the object exists
}

// told translates an error for the client. internal tells that the server is to blame, and that the error belongs into its log. A store that
// is full, busy or read-only says so itself, once, rather than here with every request.
func told(err error) (e *s3err.Error, internal bool) {
	if errors.As(err, &e) {
		return e, false
	}
	for _, s := range storeErrors {
		if errors.Is(err, s.err) {
			return s.told, s.told.Status == http.StatusInternalServerError
		}
	}
	return s3err.InternalError, !errors.Is(err, context.Canceled)
}

// fail answers with what err means. It panics with http.ErrAbortHandler where an answer would be wrong or impossible.
func (q *request) fail(err error) {
	if errors.Is(err, cas.ErrUnknownOutcome) {
		// The write may or may not survive. Any answer could be a lie; a closed connection makes the client ask again.
		q.entry.Err, q.entry.ErrorCode = err, "UnknownOutcome"
		panic(http.ErrAbortHandler)
	}
	e, internal := told(err)
	if internal {
		q.entry.Err = err
	}
	q.entry.ErrorCode = e.Code
	if q.started {
		x := newXML(false)
		q.errorDocument(x, e)
		x.writeTo(q.w)
		return
	}
	h := q.w.Header()
	clearObjectHeaders(h)
	for _, kv := range e.Header {
		h[kv[0]] = []string{kv[1]}
	}
	if e.Status == http.StatusMethodNotAllowed && h["Allow"] == nil {
		h["Allow"] = []string{"GET, HEAD, PUT, POST, DELETE"}
	}
	if e.Status == http.StatusServiceUnavailable {
		h["Retry-After"] = []string{"1"}
	}
	if e.Status == http.StatusNotModified {
		q.w.WriteHeader(e.Status)
		return
	}
	h["Content-Type"] = xmlContentType
	if q.Method == http.MethodHead {
		q.w.WriteHeader(e.Status)
		return
	}
	x := newXML(true)
	q.errorDocument(x, e)
	x.respond(q.w, e.Status)
}

// clearObjectHeaders takes back what was said of an object before something went wrong; what every response has stays.
func clearObjectHeaders(h http.Header) {
	for name := range h {
		switch name {
		case "Server", "x-amz-request-id", "x-amz-id-2":
		default:
			delete(h, name)
		}
	}
}

func (q *request) errorDocument(x *xmlDoc, e *s3err.Error) {
	x.open("Error")
	x.text("Code", e.Code)
	x.text("Message", e.Message)
	for _, d := range e.Details {
		x.text(d.Name, d.Value)
	}
	switch e.Code {
	case "NoSuchKey":
		x.text("Key", q.key)
	case "NoSuchBucket", "BucketNotEmpty", "BucketAlreadyExists", "BucketAlreadyOwnedByYou":
		x.text("BucketName", q.bucket)
	case "NoSuchVersion":
		x.text("Key", q.key)
		x.text("VersionId", q.query.value("versionId"))
	case "NoSuchUpload":
		x.text("UploadId", q.query.value("uploadId"))
	}
	x.text("Resource", q.resource())
	x.text("RequestId", q.entry.RequestID)
	x.text("HostId", q.entry.HostID)
	x.close("Error")
}

// resource is the path of what the request was about.
func (q *request) resource() string {
	if q.bucket == "" {
		return "/"
	}
	if q.key == "" {
		return "/" + q.bucket
	}
	return "/" + q.bucket + "/" + q.key
}
