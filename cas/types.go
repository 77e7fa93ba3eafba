package cas

import (
	"io"
	"time"
)

// A Bucket is a namespace of objects. It belongs to one dedup domain for ever.
type Bucket struct {
	Name    string
	Created time.Time
	Owner   string // user ID of its owner
	Region  string // LocationConstraint as given at creation; may be empty

	Versioning Versioning
}

// Versioning says what a bucket does with versions. A bucket begins unversioned and never is again.
type Versioning string

const (
	Unversioned         Versioning = ""
	VersioningEnabled   Versioning = "Enabled"   // every write makes a new version
	VersioningSuspended Versioning = "Suspended" // writes replace the null version; the others stay
)

// A Checksum is what a client asked to be kept beside an object or part, in AWS's terms.
type Checksum struct {
	Algorithm string // CRC32, CRC32C, CRC64NVME, SHA1, SHA256; empty for none
	Type      string // FULL_OBJECT or COMPOSITE
	Value     string // base64; a COMPOSITE one of an object ends in "-" and the number of parts
}

// Attributes are what is kept beside the bytes of an object or part and given back as it came.
type Attributes struct {
	ETag         string            // without quotes
	Checksum     Checksum          // zero for none
	ContentType  string            // as given; may be empty
	Headers      map[string]string // Cache-Control, Content-Disposition, Content-Encoding, Content-Language, Expires; canonical names
	Metadata     map[string]string // user metadata, names in lower case without their prefix
	StorageClass string            // as given; empty means STANDARD
	Owner        string            // user ID of the writer
}

// ObjectInfo describes one version of an object.
type ObjectInfo struct {
	Attributes
	Bucket, Key string
	VersionID   string // "null" for the one that was written while versions were not kept
	Versioned   bool   // the bucket has or had versions
	Size        int64  // bytes
	Modified    time.Time
	Parts       int // number of parts when it was put as a multipart upload, else 0
}

// A Condition decides whether a write goes on, given the current object of the key, nil when there is none or its
// newest version is a delete marker. It must be a pure function: it runs at least once, and finally in the committer, against the state that the write will meet.
// Its error is the outcome of the write.
type Condition func(current *ObjectInfo) error

// PutRequest says what to store.
type PutRequest struct {
	Bucket, Key string
	Body        io.Reader // read to its end; any error but io.EOF abandons the upload
	Digest      io.Writer // nil, or sees every byte of Body in order, from a goroutine of its own
	// Finish is called once, after Body has ended and Digest has seen all n bytes of it. It checks what the client
	// claimed and returns what to keep. Its error abandons the upload and is returned by Put.
	Finish func(n int64) (Attributes, error)
	If     Condition // nil means always
}

// CopyRequest makes a new object of the bytes of another without moving them.
type CopyRequest struct {
	SourceBucket, SourceKey, SourceVersion string // an empty version means the current one
	Bucket, Key                            string
	// Attributes returns what the copy is given, from the source's. Its error abandons the copy (conditions on the
	// source live here). ETag and Checksum normally stay as they are.
	Attributes func(source ObjectInfo) (Attributes, error)
	If         Condition // on the destination; nil means always
}

// GetRequest names a version of an object.
type GetRequest struct {
	Bucket, Key string
	VersionID   string // empty means the current one
}

// DeleteRequest says what to delete.
type DeleteRequest struct {
	Bucket, Key string
	VersionID   string    // empty: the current object, of which a versioned bucket keeps what lies under a new delete marker
	Owner       string    // user ID of the sender, who owns the delete marker
	If          Condition // on the version that is named, or the current object; nil means always
}

// DeleteResult says what a deletion did.
type DeleteResult struct {
	Found     bool   // there was something to delete
	Versioned bool   // the bucket has or had versions
	Marker    bool   // a delete marker was written, or removed by its ID
	VersionID string // of the version that was named, or of the delete marker that was written; else empty
}

// ListRequest asks for one page of the current objects of a bucket, in byte order of their keys.
type ListRequest struct {
	Bucket, Prefix, Delimiter string
	After                     string // only keys greater than this
	SkipAfterPrefix           bool   // After is itself a common prefix: nothing under it is listed
	Max                       int    // at most so many objects and prefixes together; 0 answers an empty, untruncated page
}

// A ListItem is an object or a common prefix.
type ListItem struct {
	Prefix string     // not empty: a common prefix, and Object is zero
	Object ObjectInfo // without Metadata and Headers
}

// ListResult is one page.
type ListResult struct {
	Items        []ListItem // objects and prefixes in one order
	Truncated    bool
	Next         string // After of the next page
	NextIsPrefix bool   // SkipAfterPrefix of the next page
}

// CreateUploadRequest begins a multipart upload.
type CreateUploadRequest struct {
	Bucket, Key string
	Attributes  Attributes // Checksum.Algorithm and .Type as asked for; ETag and Value are empty
}

// Upload is a multipart upload in progress.
type Upload struct {
	Attributes
	Bucket, Key, ID string
	Initiated       time.Time
}

// PartRequest stores one part; a part that is already there is replaced.
type PartRequest struct {
	Bucket, Key, UploadID string
	Number                int // 1 to 10,000
	Body                  io.Reader
	Digest                io.Writer
	Finish                func(n int64) (Attributes, error) // as in PutRequest; only ETag and Checksum are kept
}

// Part is one part of an upload, or of a finished object.
type Part struct {
	Number   int
	Size     int64
	ETag     string
	Checksum Checksum
	Modified time.Time
}

// CompletePart names a part that a client wants in the object.
type CompletePart struct {
	Number   int
	ETag     string            // without quotes
	Checksum map[string]string // algorithm -> base64, as far as the client sent any
}

// CompleteRequest ends a multipart upload.
type CompleteRequest struct {
	Bucket, Key, UploadID string
	Parts                 []CompletePart
	// Finish returns the attributes of the object (ETag, Checksum) from the upload and its chosen parts; it checks
	// what the client claimed. Its error leaves the upload as it was.
	Finish func(u Upload, parts []Part) (Attributes, error)
	If     Condition
}

// PartListRequest asks for one page of an upload's parts.
type PartListRequest struct {
	Bucket, Key, UploadID string
	After                 int // only numbers greater than this
	Max                   int
}

// PartList is one page of parts.
type PartList struct {
	Upload    Upload
	Parts     []Part
	Truncated bool
}

// UploadListRequest asks for one page of the uploads in progress, ordered by key, then by initiation.
type UploadListRequest struct {
	Bucket, Prefix, Delimiter string
	AfterKey                  string // only keys greater than this, or equal with an ID after AfterID
	AfterID                   string // empty: none of AfterKey's
	SkipAfterPrefix           bool
	Max                       int
}

// UploadListItem is an upload or a common prefix.
type UploadListItem struct {
	Prefix string
	Upload Upload
}

// UploadList is one page of uploads.
type UploadList struct {
	Items        []UploadListItem
	Truncated    bool
	NextKey      string
	NextID       string
	NextIsPrefix bool
}

// Stats are the sizes of the store, or of one bucket.
type Stats struct {
	Buckets      int64   `json:"buckets"`
	Objects      int64   `json:"objects"`
	LogicalBytes int64   `json:"logical_bytes"` // what clients stored
	UniqueBytes  int64   `json:"unique_bytes"`  // after dedup, before compression; of the whole store
	PayloadBytes int64   `json:"payload_bytes"` // records and framing before parity; of the whole store
	StoredBytes  int64   `json:"stored_bytes"`  // on disk with parity and padding, no preallocation, no index; of the whole store
	Chunks       int64   `json:"chunks"`
	DedupRatio   float64 `json:"dedup_ratio"` // logical_bytes / unique_bytes
	TotalRatio   float64 `json:"total_ratio"` // logical_bytes / payload_bytes
	Uploads      int64   `json:"uploads"`     // multipart uploads in progress
}

// VersionListRequest asks for one page of all versions and delete markers of a bucket, in byte order of their keys, newest first.
type VersionListRequest struct {
	Bucket, Prefix, Delimiter string
	AfterKey                  string // only keys greater than this, or equal with versions older than AfterID
	AfterID                   string // empty: none of AfterKey's; one that is gone counts as where it was, a null version that is gone as the last of its key
	SkipAfterPrefix           bool   // AfterKey is itself a common prefix: nothing under it is listed
	Max                       int
}

// A VersionListItem is a version, a delete marker, or a common prefix.
type VersionListItem struct {
	Prefix string     // not empty: a common prefix, and the rest is zero
	Object ObjectInfo // without Metadata and Headers
	Marker bool       // a delete marker
	Latest bool       // the newest of its key
}

// VersionList is one page of versions.
type VersionList struct {
	Items        []VersionListItem // in one order
	Truncated    bool
	NextKey      string // AfterKey of the next page
	NextID       string // AfterID of the next page; empty when NextKey is a common prefix
	NextIsPrefix bool
}
