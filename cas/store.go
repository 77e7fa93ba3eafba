package cas

import (
	"context"
	"errors"
	"io"
)

var errSoon = errors.New("cas: under construction")

// A Store keeps objects.
type Store struct{}

// Open opens or creates the store in o.Dirs.
func Open(ctx context.Context, o Options) (*Store, error) { return nil, errSoon }

// Close finishes what was submitted, seals, checkpoints and closes.
func (s *Store) Close(ctx context.Context) error { return errSoon }

// Ready is nil when reads are served. WriteState is nil when writes are, else the reason.
func (s *Store) Ready() error      { return errSoon }
func (s *Store) WriteState() error { return errSoon }

// CreateBucket errors: ErrBucketExists (the existing bucket is returned with it).
func (s *Store) CreateBucket(ctx context.Context, b Bucket) (Bucket, error) { return Bucket{}, errSoon }

// DeleteBucket errors: ErrNoSuchBucket, ErrBucketNotEmpty.
func (s *Store) DeleteBucket(ctx context.Context, name string) error { return errSoon }
func (s *Store) Bucket(ctx context.Context, name string) (Bucket, error) {
	return Bucket{}, errSoon
}

// ListBuckets lists by name, those with prefix and greater than after, at most max.
func (s *Store) ListBuckets(ctx context.Context, prefix, after string, max int) ([]Bucket, bool, error) {
	return nil, false, errSoon
}

func (s *Store) Put(ctx context.Context, r PutRequest) (ObjectInfo, error) {
	return ObjectInfo{}, errSoon
}
func (s *Store) Copy(ctx context.Context, r CopyRequest) (ObjectInfo, error) {
	return ObjectInfo{}, errSoon
}

// Delete removes the current object. A missing key is no error. Deleted tells whether there was one.
func (s *Store) Delete(ctx context.Context, bucket, key string, cond Condition) (deleted bool, err error) {
	return false, errSoon
}

// A KeyResult is the outcome for one key of DeleteMany.
type KeyResult struct {
	Key string
	Err error
}

// DeleteMany deletes up to 1,000 keys; they share commits.
func (s *Store) DeleteMany(ctx context.Context, bucket string, keys []string) ([]KeyResult, error) {
	return nil, errSoon
}

// Stat errors: ErrNoSuchBucket, ErrNoSuchKey, ErrNoSuchVersion.
func (s *Store) Stat(ctx context.Context, r GetRequest) (ObjectInfo, error) {
	return ObjectInfo{}, errSoon
}

// Get opens an object for reading; the bytes stay readable whatever happens to the key until Close.
func (s *Store) Get(ctx context.Context, r GetRequest) (*Object, error) { return nil, errSoon }

// An Object is an open version.
type Object struct{ Info ObjectInfo }

// WriteRange writes n bytes from offset off to w and returns how many were written. Nothing unverified is written.
func (o *Object) WriteRange(ctx context.Context, w io.Writer, off, n int64) (int64, error) {
	return 0, errSoon
}

// NewReader reads the same as a stream.
func (o *Object) NewReader(ctx context.Context, off, n int64) io.ReadCloser { return nil }

// Part finds part number of the object and its offset; a plain object has one part, number 1. ok is false when there is no such part.
func (o *Object) Part(ctx context.Context, number int) (p Part, off int64, ok bool, err error) {
	return Part{}, 0, false, errSoon
}
func (o *Object) Close() {}

func (s *Store) List(ctx context.Context, r ListRequest) (ListResult, error) {
	return ListResult{}, errSoon
}

func (s *Store) CreateUpload(ctx context.Context, r CreateUploadRequest) (Upload, error) {
	return Upload{}, errSoon
}
func (s *Store) PutPart(ctx context.Context, r PartRequest) (Part, error) { return Part{}, errSoon }

// Upload finds an upload in progress: ErrNoSuchUpload.
func (s *Store) Upload(ctx context.Context, bucket, key, id string) (Upload, error) {
	return Upload{}, errSoon
}

// CompleteUpload errors: ErrNoSuchUpload, ErrInvalidPart, ErrInvalidPartOrder, ErrPartTooSmall, and those of Finish and If.
// A retry with the same parts after success gives the same answer while the object is still the one it made.
func (s *Store) CompleteUpload(ctx context.Context, r CompleteRequest) (ObjectInfo, error) {
	return ObjectInfo{}, errSoon
}
func (s *Store) AbortUpload(ctx context.Context, bucket, key, id string) error { return errSoon }
func (s *Store) ListParts(ctx context.Context, r PartListRequest) (PartList, error) {
	return PartList{}, errSoon
}
func (s *Store) ListUploads(ctx context.Context, r UploadListRequest) (UploadList, error) {
	return UploadList{}, errSoon
}

// Stats of the whole store, or of one bucket (Objects, LogicalBytes, Uploads are then the bucket's).
func (s *Store) Stats(ctx context.Context, bucket string) (Stats, error) { return Stats{}, errSoon }
