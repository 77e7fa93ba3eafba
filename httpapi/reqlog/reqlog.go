// Package reqlog carries what one request turned out to be about, from the handlers that find it out to the
// middleware that logs and counts it.
package reqlog

import (
	"context"
	"net/http"
)

// An Entry describes one request. Its fields are set by the goroutine that handles the request, and read by the
// middleware after the handler has returned.
type Entry struct {
	RequestID string // 16 upper-case hex digits, unique enough to find the request in the log
	HostID    string // names this process; x-amz-id-2

	Operation string // name as in the S3 API (PutObject) or of ours (Stats); empty until the request was routed
	Bucket    string
	Key       string
	AccessKey string // of the verified sender; empty for anonymous and refused ones
	ErrorCode string // S3 code of the error answered, empty for none
	Err       error  // what went wrong inside, for the application log; nil unless the server is to blame

	BytesIn int64 // body bytes received, as they came over the wire

	// BodyRead tells that the handler began to read the body. If it did not, the client may still be waiting for "100 Continue".
	BodyRead bool
}

type contextKey struct{}

// With returns a request whose context carries e.
func With(r *http.Request, e *Entry) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), contextKey{}, e))
}

// From returns the entry of the request, or an empty one when there is none.
func From(ctx context.Context) *Entry {
	if e, ok := ctx.Value(contextKey{}).(*Entry); ok {
		return e
	}
	return &Entry{}
}
