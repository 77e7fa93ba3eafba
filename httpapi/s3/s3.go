// Package s3 speaks the S3 API: it translates between S3's requests and documents and package cas.
//
// One table of operations (operations.go) says what is served: each row is a method, a level (service, bucket, object), the sub-resource in
// the query that selects it, and a handler. A handler parses, makes one call into the store, and writes; it returns an error, and one
// place (errors.go) turns errors into S3's codes and documents. What is not in the table is NotImplemented or
// MethodNotAllowed, never a wrong success; the same goes for headers that ask for what is not there.
package s3

import (
	"context"
	"net"
	"net/http"
	"strings"
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
	DeleteVersion(ctx context.Context, r cas.DeleteRequest) (cas.DeleteResult, error)
	DeleteMany(ctx context.Context, bucket string, deletes []cas.DeleteRequest) ([]cas.KeyResult, error)
	SetVersioning(ctx context.Context, bucket string, to cas.Versioning) error
	ListVersions(ctx context.Context, r cas.VersionListRequest) (cas.VersionList, error)
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
	Store       Store
	Verifier    *auth.Verifier
	Authorizer  auth.Authorizer
	Root        auth.Identity // owner of what has no other
	Domain      string        // in lower case; empty: path-style only
	Region      string
	XMLBytes    int64         // bound of XML bodies but that of DeleteObjects
	DeleteBytes int64         // bound of the body of DeleteObjects
	KeepAlive   time.Duration // between signs of life of long work
}

// An API serves S3 requests. It is safe for concurrent use.
type API struct {
	o     Options
	store Store
}

// New returns the S3 API.
func New(o Options) *API { return &API{o: o, store: o.Store} }

// A request is one S3 request on its way through its handler.
type request struct {
	*http.Request
	w     http.ResponseWriter
	api   *API
	entry *reqlog.Entry
	op    *operation
	auth  auth.Result
	query query

	bucket, key string // decoded; empty when the request names none

	unwanted int64 // bytes that checkUnwanted read
	// started tells that a document was begun with status 200 to keep the client waiting (see slow.go): an error can only follow in it.
	started bool
}

// query holds the parameters of a request in their order.
type query []auth.Param

// get returns the first value of a parameter. ok tells whether it is there.
func (q query) get(name string) (value string, ok bool) {
	for _, p := range q {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// value is get without ok.
func (q query) value(name string) string {
	v, _ := q.get(name)
	return v
}

func (q query) has(name string) bool {
	_, ok := q.get(name)
	return ok
}

// hoists tells whether a presigned query carries that header, given in lower case.
func (q query) hoists(header string) bool {
	if !q.has("X-Amz-Signature") {
		return false
	}
	for _, p := range q {
		if strings.EqualFold(p.Name, header) && p.Value != "" {
			return true
		}
	}
	return false
}

// ServeHTTP answers one request. It panics with http.ErrAbortHandler when the connection must be closed without an (or amid its)
// answer.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &request{Request: r, w: w, api: a, entry: reqlog.From(r.Context())}
	if err := q.serve(); err != nil {
		q.fail(err)
	}
}

func (q *request) serve() error {
	q.entry.Operation = "Unknown"
	if err := q.target(); err != nil {
		return err
	}
	params, ok := auth.ParseQuery(q.URL.RawQuery)
	if !ok {
		return s3err.InvalidURI
	}
	q.query = params
	op, opErr := q.route()
	if op != nil {
		q.op, q.entry.Operation = op, op.name
	}
	res, err := q.api.o.Verifier.Verify(q.Request)
	if err != nil {
		return err
	}
	q.auth, q.entry.AccessKey = res, res.Identity.AccessKey
	if opErr != nil {
		if res.Identity.Anonymous() {
			return s3err.AccessDenied
		}
		return opErr
	}
	q.hoisted()
	if err := q.authorize(versionAction(op.action, q.query.has("versionId")), q.bucket, q.key); err != nil {
		return err
	}
	if err := q.checkTarget(); err != nil {
		return err
	}
	if err := q.refuseHeaders(); err != nil {
		return err
	}
	if !op.takesBody() {
		if err := q.checkUnwanted(); err != nil {
			return err
		}
	}
	return op.handle(q)
}

// authorize asks whether the sender may do that. An action may be empty: then it is that nobody but the root user may.
func (q *request) authorize(action, bucket, key string) error {
	return q.api.o.Authorizer.Authorize(q.Context(), auth.Request{Identity: q.auth.Identity, Action: action, Bucket: bucket, Key: key})
}

// hoisted makes headers of the x-amz-* parameters that presigning clients put into the query instead. They are signed there. What they say of
// the body's checksum is left out, as AWS does: clients compute it when they presign, of a body that they do not have yet.
func (q *request) hoisted() {
	if !q.auth.Presigned {
		return
	}
	for _, p := range q.query {
		if len(p.Name) < 6 || !strings.EqualFold(p.Name[:6], "x-amz-") || signatureParam(p.Name) || checksumParam(p.Name) {
			continue
		}
		if name := http.CanonicalHeaderKey(p.Name); q.Header[name] == nil {
			q.Header[name] = []string{p.Value}
		}
	}
}

// VirtualHost tells whether host names a bucket under the domain.
func (a *API) VirtualHost(host string) bool {
	_, ok := a.bucketOfHost(host)
	return ok
}

func (a *API) bucketOfHost(host string) (string, bool) {
	if a.o.Domain == "" {
		return "", false
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	n := len(host) - len(a.o.Domain) - 1
	if n <= 0 || host[n] != '.' || !strings.EqualFold(host[n+1:], a.o.Domain) {
		return "", false
	}
	return strings.ToLower(host[:n]), true
}

// target finds out which bucket and key the request names, from the path as it came.
func (q *request) target() error {
	path := strings.TrimPrefix(q.URL.EscapedPath(), "/")
	bucket, virtual := q.api.bucketOfHost(q.Host)
	key := path
	if !virtual {
		bucket, key, _ = strings.Cut(path, "/")
	}
	var ok1, ok2 bool
	q.bucket, ok1 = unescapePath(bucket)
	q.key, ok2 = unescapePath(key)
	q.entry.Bucket, q.entry.Key = q.bucket, q.key
	if !ok1 || !ok2 || !validUTF8(q.key) {
		return s3err.InvalidURI
	}
	if q.bucket == "" && q.key != "" { // "//key"
		return s3err.InvalidBucketName.With("BucketName", "")
	}
	return nil
}

// checkTarget refuses names that nothing can have.
func (q *request) checkTarget() error {
	if q.bucket != "" && !validBucketName(q.bucket) {
		return s3err.InvalidBucketName.With("BucketName", q.bucket)
	}
	if len(q.key) > keyBytesMax {
		return s3err.KeyTooLong.With("Size", itoa(len(q.key))).With("MaxSizeAllowed", itoa(keyBytesMax))
	}
	for _, h := range [...]string{"X-Amz-Expected-Bucket-Owner", "X-Amz-Source-Expected-Bucket-Owner"} {
		want := q.Header.Get(h)
		if want == "" || q.bucket == "" || q.op.name == "CreateBucket" {
			continue
		}
		bucket := q.bucket
		if strings.Contains(h, "Source") {
			src, err := parseCopySource(q.Header.Get("X-Amz-Copy-Source"))
			if err != nil {
				return err
			}
			bucket = src.bucket
		}
		b, err := q.api.store.Bucket(q.Context(), bucket)
		if err != nil {
			return err
		}
		if q.api.ownerID(b.Owner) != want {
			return s3err.AccessDenied
		}
	}
	return nil
}

// ownerID is who owns what was written by id.
func (a *API) ownerID(id string) string {
	if id == "" {
		return a.o.Root.ID
	}
	return id
}

// Fail answers with an error document, for requests that never got to an operation.
func (a *API) Fail(w http.ResponseWriter, r *http.Request, err error) {
	q := &request{Request: r, w: w, api: a, entry: reqlog.From(r.Context())}
	q.fail(err)
}
