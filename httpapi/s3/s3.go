// Package s3 speaks the S3 API.
package s3

import (
	"context"
	"encoding/xml"
	"net/http"
	"time"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/auth"
	"github.com/casd/casd/httpapi/reqlog"
	"github.com/casd/casd/httpapi/s3err"
)

// A Store is what the S3 API needs of the store; *cas.Store is one. See there for the contracts.
type Store interface {
	Ready() error
	WriteState() error
	CreateBucket(ctx context.Context, b cas.Bucket) (cas.Bucket, error)
	DeleteBucket(ctx context.Context, name string) error
	Bucket(ctx context.Context, name string) (cas.Bucket, error)
	ListBuckets(ctx context.Context, prefix, after string, max int) ([]cas.Bucket, bool, error)
	Put(ctx context.Context, r cas.PutRequest) (cas.ObjectInfo, error)
	Copy(ctx context.Context, r cas.CopyRequest) (cas.ObjectInfo, error)
	Delete(ctx context.Context, bucket, key string, cond cas.Condition) (deleted bool, err error)
	DeleteMany(ctx context.Context, bucket string, keys []string) ([]cas.KeyResult, error)
	Stat(ctx context.Context, r cas.GetRequest) (cas.ObjectInfo, error)
	Get(ctx context.Context, r cas.GetRequest) (*cas.Object, error)
	List(ctx context.Context, r cas.ListRequest) (cas.ListResult, error)
	CreateUpload(ctx context.Context, r cas.CreateUploadRequest) (cas.Upload, error)
	Upload(ctx context.Context, bucket, key, id string) (cas.Upload, error)
	PutPart(ctx context.Context, r cas.PartRequest) (cas.Part, error)
	CompleteUpload(ctx context.Context, r cas.CompleteRequest) (cas.ObjectInfo, error)
	AbortUpload(ctx context.Context, bucket, key, id string) error
	ListParts(ctx context.Context, r cas.PartListRequest) (cas.PartList, error)
	ListUploads(ctx context.Context, r cas.UploadListRequest) (cas.UploadList, error)
	Stats(ctx context.Context, bucket string) (cas.Stats, error)
}

// ErrTooManyRequests is what clients are told when too many requests are under way.
var ErrTooManyRequests = s3err.SlowDown

// Options of New. All fields but Domain are required.
type Options struct {
	Store      Store
	Verifier   *auth.Verifier
	Authorizer auth.Authorizer
	Root       auth.Identity // owner of what has no other
	Domain     string        // in lower case; empty: path-style only
	Region     string
	XMLBytes   int64         // bound of XML bodies
	KeepAlive  time.Duration // between signs of life of long work
}

// An API serves S3 requests.
type API struct{ o Options }

// New returns the S3 API.
func New(o Options) *API { return &API{o} }

// VirtualHost tells whether host names a bucket under the domain.
func (a *API) VirtualHost(host string) bool { return false }

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.Fail(w, r, s3err.NotImplemented) }

// Fail answers with an error document.
func (a *API) Fail(w http.ResponseWriter, r *http.Request, err error) {
	e := reqlog.From(r.Context())
	se, ok := err.(*s3err.Error)
	if !ok {
		se = s3err.InternalError
	}
	e.ErrorCode = se.Code
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(se.Status)
	_ = xml.NewEncoder(w).Encode(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
	}{Code: se.Code})
}
