package s3

import (
	"net/http"
	"slices"
	"strings"

	"github.com/casd/casd/httpapi/s3err"
)

// A level is what a request is addressed to.
type level uint8

const (
	service level = iota
	bucket
	object
)

// An operation is one row of the API.
type operation struct {
	name   string // as in the S3 API
	method string
	level  level
	sub    string // the parameter of the query that selects it; empty for none
	copies bool   // selected by x-amz-copy-source

	action string   // what the sender must be allowed to do, in IAM's words
	params []string // further parameters that it understands
	handle func(*request) error
}

// listParams are those of both versions of ListObjects. Clients send parameters of the one with the other; as on AWS they do nothing there.
var listParams = []string{"prefix", "delimiter", "max-keys", "encoding-type", "marker", "continuation-token", "start-after", "fetch-owner"}

// headIgnores tells whether HeadBucket ignores a sub-resource: HEAD of a list or of the location is how some clients ask for the bucket.
func headIgnores(name string) bool { return name == "list-type" || name == "location" }

// operations is the whole API.
var operations = func() []operation {
	ops := []operation{
		{"ListBuckets", http.MethodGet, service, "", false, "s3:ListAllMyBuckets", []string{"prefix", "max-buckets", "continuation-token", "bucket-region"}, (*request).listBuckets},

		{"CreateBucket", http.MethodPut, bucket, "", false, "s3:CreateBucket", nil, (*request).createBucket},
		{"HeadBucket", http.MethodHead, bucket, "", false, "s3:ListBucket", listParams, (*request).headBucket},
		{"DeleteBucket", http.MethodDelete, bucket, "", false, "s3:DeleteBucket", nil, (*request).deleteBucket},
		{"GetBucketLocation", http.MethodGet, bucket, "location", false, "s3:GetBucketLocation", nil, (*request).getBucketLocation},
		{"ListObjects", http.MethodGet, bucket, "", false, "s3:ListBucket", listParams, (*request).listObjects},
		{"ListObjectsV2", http.MethodGet, bucket, "list-type", false, "s3:ListBucket", listParams, (*request).listObjectsV2},
		{"PutBucketVersioning", http.MethodPut, bucket, "versioning", false, "s3:PutBucketVersioning", nil, (*request).putBucketVersioning},
		{"GetBucketVersioning", http.MethodGet, bucket, "versioning", false, "s3:GetBucketVersioning", nil, (*request).getBucketVersioning},
		{"ListObjectVersions", http.MethodGet, bucket, "versions", false, "s3:ListBucketVersions", []string{"prefix", "delimiter", "max-keys", "encoding-type", "key-marker", "version-id-marker"}, (*request).listVersions},
		{"DeleteObjects", http.MethodPost, bucket, "delete", false, "s3:DeleteObject", nil, (*request).deleteObjects},
		{"ListMultipartUploads", http.MethodGet, bucket, "uploads", false, "s3:ListBucketMultipartUploads", []string{"prefix", "delimiter", "max-uploads", "key-marker", "upload-id-marker", "encoding-type"}, (*request).listUploads},

		{"GetObject", http.MethodGet, object, "", false, "s3:GetObject", []string{"partNumber", "versionId"}, (*request).getObject},
		{"HeadObject", http.MethodHead, object, "", false, "s3:GetObject", []string{"partNumber", "versionId"}, (*request).headObject},
		{"PutObject", http.MethodPut, object, "", false, "s3:PutObject", nil, (*request).putObject},
		{"CopyObject", http.MethodPut, object, "", true, "s3:PutObject", nil, (*request).copyObject},
		{"DeleteObject", http.MethodDelete, object, "", false, "s3:DeleteObject", []string{"versionId"}, (*request).deleteObject},

		{"CreateMultipartUpload", http.MethodPost, object, "uploads", false, "s3:PutObject", nil, (*request).createUpload},
		{"UploadPart", http.MethodPut, object, "uploadId", false, "s3:PutObject", []string{"partNumber"}, (*request).uploadPart},
		{"UploadPartCopy", http.MethodPut, object, "uploadId", true, "s3:PutObject", []string{"partNumber"}, (*request).uploadPartCopy},
		{"CompleteMultipartUpload", http.MethodPost, object, "uploadId", false, "s3:PutObject", nil, (*request).completeUpload},
		{"AbortMultipartUpload", http.MethodDelete, object, "uploadId", false, "s3:AbortMultipartUpload", nil, (*request).abortUpload},
		{"ListParts", http.MethodGet, object, "uploadId", false, "s3:ListMultipartUploadParts", []string{"max-parts", "part-number-marker", "encoding-type"}, (*request).listParts},
	}
	return append(ops, unsetOperations()...)
}()

// subResources are the parameters by which S3 selects an operation. A request that has one of them never gets to an operation that does not
// name it.
var subResources = []string{
	"abac", "accelerate", "acl", "analytics", "append", "attributes", "cors", "delete", "encryption", "intelligent-tiering", "inventory",
	"legal-hold", "lifecycle", "list-type", "location", "logging", "metadataConfiguration", "metadataTable", "metadataInventoryTable",
	"metadataJournalTable", "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock",
	"renameObject", "replication", "requestPayment", "restore", "retention", "select", "session", "tagging", "torrent", "uploadId", "uploads",
	"versioning", "versions", "website",
}

type operationKey struct {
	method string
	level  level
	sub    string
	copies bool
}

var operationIndex = func() map[operationKey]*operation {
	m := make(map[operationKey]*operation, len(operations))
	for i := range operations {
		op := &operations[i]
		k := operationKey{op.method, op.level, op.sub, op.copies}
		if m[k] != nil {
			panic("s3: two operations for " + op.name)
		}
		m[k] = op
	}
	return m
}()

// signatureParam tells whether a parameter of the query belongs to its signature.
func signatureParam(name string) bool {
	switch name {
	case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-Content-Sha256":
		return true
	}
	return false
}

// checksumParam tells whether a parameter of a presigned query is about the checksum of a body. x-amz-checksum-mode is not: it asks reads for one.
func checksumParam(name string) bool {
	name = strings.ToLower(name)
	return name == "x-amz-sdk-checksum-algorithm" || strings.HasPrefix(name, "x-amz-checksum-") && name != "x-amz-checksum-mode"
}

// takesBody tells whether the handler reads the body and verifies it. Bodies of reads mean nothing and are not looked at, and count as taken.
func (op *operation) takesBody() bool {
	switch op.name {
	case "CreateBucket", "PutBucketVersioning", "DeleteObjects", "PutObject", "UploadPart", "CompleteMultipartUpload":
		return true
	}
	return op.method == http.MethodGet || op.method == http.MethodHead
}

// route finds the operation that a request asks for. With an error it may still return the operation that it looked like.
func (q *request) route() (*operation, error) {
	k := operationKey{method: q.Method, level: object}
	switch {
	case q.bucket == "":
		k.level = service
	case q.key == "":
		k.level = bucket
	}
	for _, p := range q.query {
		if !slices.Contains(subResources, p.Name) || p.Name == k.sub || q.Method == http.MethodHead && k.level == bucket && headIgnores(p.Name) {
			continue
		}
		if k.sub != "" {
			return nil, s3err.NotImplemented.WithMessage("The combination of the parameters " + k.sub + " and " + p.Name + " is not implemented.")
		}
		k.sub = p.Name
	}
	k.copies = q.Method == http.MethodPut && k.level == object && (q.Header.Get("X-Amz-Copy-Source") != "" || q.query.hoists("x-amz-copy-source"))
	op := operationIndex[k]
	if op == nil {
		switch {
		case k.sub == "" && k.method == http.MethodPost && k.level == bucket && strings.HasPrefix(q.Header.Get("Content-Type"), "multipart/form-data"):
			return nil, s3err.NotImplemented.WithMessage("Uploads by browser forms are not implemented.")
		case k.sub == "uploads" && k.method == http.MethodGet:
			return nil, s3err.InvalidRequest.WithMessage("Key is not expected for the GET method ?uploads subresource")
		case k.sub == "versions" && k.level == object:
			return nil, s3err.InvalidRequest.WithMessage("There is no such thing as the ?versions sub-resource for a key")
		case k.sub != "":
			return nil, s3err.NotImplemented.WithMessage("The sub-resource " + k.sub + " is not implemented for this method and resource.")
		}
		return nil, s3err.MethodNotAllowed.With("Method", q.Method).With("ResourceType", [...]string{"SERVICE", "BUCKET", "OBJECT"}[k.level])
	}
	for _, p := range q.query {
		if err := op.accepts(p.Name, p.Value); err != nil {
			return op, err
		}
	}
	return op, nil
}

// accepts decides about one parameter of the query. Those that the operation does not know are ignored only where ignoring cannot
// do what was not asked for: in reads, if they have a value and so cannot be a sub-resource.
func (op *operation) accepts(name, value string) error {
	switch {
	case name == "partNumber" && op.name == "PutObject":
		return s3err.Argument(name, value, "This operation does not accept partNumber without uploadId")
	case op.name == "HeadBucket" && headIgnores(name):
		return nil
	case name == op.sub, slices.Contains(op.params, name), name == "x-id":
		return nil
	case len(name) > 6 && strings.EqualFold(name[:6], "x-amz-"): // of the signature, or a header in the query
		return nil
	case overrideOf(name) != "" && (op.name == "GetObject" || op.name == "HeadObject"):
		return nil
	case (op.method == http.MethodGet || op.method == http.MethodHead) && value != "":
		return nil
	}
	return s3err.NotImplemented.WithMessage("The parameter " + name + " is not implemented for " + op.name + ".")
}
