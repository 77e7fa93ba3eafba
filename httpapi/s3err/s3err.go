// Package s3err is the one table of the errors that S3 clients are told: code, message and status, as AWS spells them.
package s3err

import "net/http"

// A Detail is a further element of an error document, besides Code, Message, Resource, RequestId and HostId.
type Detail struct{ Name, Value string }

// An Error is what a client is told. The values of this package are templates: With and WithMessage copy.
type Error struct {
	Code    string
	Message string
	Status  int
	Details []Detail
	Header  [][2]string // response headers that belong to the error

	template *Error
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Is matches the template that an error was made of.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && (t == e.template || t == e)
}

func (e *Error) clone() *Error {
	c := *e
	if c.template == nil {
		c.template = e
	}
	return &c
}

// With returns a copy with one more detail.
func (e *Error) With(name, value string) *Error {
	c := e.clone()
	c.Details = append(c.Details[:len(c.Details):len(c.Details)], Detail{name, value})
	return c
}

// WithHeader returns a copy with one more response header.
func (e *Error) WithHeader(name, value string) *Error {
	c := e.clone()
	c.Header = append(c.Header[:len(c.Header):len(c.Header)], [2]string{name, value})
	return c
}

// WithMessage returns a copy with another message.
func (e *Error) WithMessage(m string) *Error {
	c := e.clone()
	c.Message = m
	return c
}

// Argument returns a copy of an InvalidArgument that names the argument.
func Argument(name, value, message string) *Error {
	return InvalidArgument.WithMessage(message).With("ArgumentName", name).With("ArgumentValue", value)
}

// Header returns a copy of NotImplemented that names the header that asks for what is not there.
func Header(name string) *Error {
	return NotImplemented.WithMessage("A header you provided implies functionality that is not implemented").With("Header", name)
}

func newError(status int, code, message string) *Error {
	return &Error{Code: code, Message: message, Status: status}
}

// Authentication and authorization.
var (
	AccessDenied                      = newError(http.StatusForbidden, "AccessDenied", "Access Denied")
	AuthorizationHeaderMalformed      = newError(http.StatusBadRequest, "AuthorizationHeaderMalformed", "The authorization header is malformed; the authorization header requires three components: Credential, SignedHeaders, and Signature.")
	AuthorizationQueryParametersError = newError(http.StatusBadRequest, "AuthorizationQueryParametersError", "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
	InvalidAccessKeyID                = newError(http.StatusForbidden, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	InvalidToken                      = newError(http.StatusBadRequest, "InvalidToken", "The provided token is malformed or otherwise invalid.")
	RequestTimeTooSkewed              = newError(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	SignatureDoesNotMatch             = newError(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method.")
	SignatureV2                       = newError(http.StatusBadRequest, "InvalidRequest", "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
)

// Buckets.
var (
	BucketAlreadyExists       = newError(http.StatusConflict, "BucketAlreadyExists", "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.")
	BucketAlreadyOwnedByYou   = newError(http.StatusConflict, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded and you already own it.")
	BucketNotEmpty            = newError(http.StatusConflict, "BucketNotEmpty", "The bucket you tried to delete is not empty")
	InvalidBucketName         = newError(http.StatusBadRequest, "InvalidBucketName", "The specified bucket is not valid.")
	IllegalVersioning         = newError(http.StatusBadRequest, "IllegalVersioningConfigurationException", "The Versioning element must be specified")
	InvalidLocationConstraint = newError(http.StatusBadRequest, "InvalidLocationConstraint", "The specified location-constraint is not valid")
	NoSuchBucket              = newError(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
)

// What AWS answers for configurations that were never set.
var (
	NoSuchBucketPolicy                 = newError(http.StatusNotFound, "NoSuchBucketPolicy", "The bucket policy does not exist")
	NoSuchLifecycleConfiguration       = newError(http.StatusNotFound, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")
	NoSuchCORSConfiguration            = newError(http.StatusNotFound, "NoSuchCORSConfiguration", "The CORS configuration does not exist")
	NoSuchTagSet                       = newError(http.StatusNotFound, "NoSuchTagSet", "The TagSet does not exist")
	NoSuchWebsiteConfiguration         = newError(http.StatusNotFound, "NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration")
	NoSuchPublicAccessBlock            = newError(http.StatusNotFound, "NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found")
	NoSuchConfiguration                = newError(http.StatusNotFound, "NoSuchConfiguration", "The specified configuration does not exist.")
	ObjectLockConfigurationNotFound    = newError(http.StatusNotFound, "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket")
	OwnershipControlsNotFound          = newError(http.StatusNotFound, "OwnershipControlsNotFoundError", "The bucket ownership controls were not found")
	ReplicationConfigurationNotFound   = newError(http.StatusNotFound, "ReplicationConfigurationNotFoundError", "The replication configuration was not found")
	ServerSideEncryptionConfigNotFound = newError(http.StatusNotFound, "ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found")
)

// Objects and uploads.
var (
	BadDigest                = newError(http.StatusBadRequest, "BadDigest", "The Content-MD5 you specified did not match what we received.")
	ContentSHA256Mismatch    = newError(http.StatusBadRequest, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
	EntityTooLarge           = newError(http.StatusBadRequest, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
	EntityTooSmall           = newError(http.StatusBadRequest, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
	IncompleteBody           = newError(http.StatusBadRequest, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header")
	InvalidChunkSize         = newError(http.StatusBadRequest, "InvalidChunkSizeError", "Only the last chunk is allowed to have a size less than 8192 bytes")
	InvalidDigest            = newError(http.StatusBadRequest, "InvalidDigest", "The Content-MD5 you specified was invalid.")
	InvalidPart              = newError(http.StatusBadRequest, "InvalidPart", "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.")
	InvalidPartNumber        = newError(http.StatusRequestedRangeNotSatisfiable, "InvalidPartNumber", "The requested partnumber is not satisfiable")
	InvalidPartOrder         = newError(http.StatusBadRequest, "InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number.")
	InvalidRange             = newError(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The requested range is not satisfiable")
	InvalidStorageClass      = newError(http.StatusBadRequest, "InvalidStorageClass", "The storage class you specified is not valid")
	KeyTooLong               = newError(http.StatusBadRequest, "KeyTooLongError", "Your key is too long")
	MalformedTrailer         = newError(http.StatusBadRequest, "MalformedTrailerError", "The request contained trailing data that was not well-formed or did not conform to our published schema.")
	MetadataTooLarge         = newError(http.StatusBadRequest, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
	MissingContentLength     = newError(http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header.")
	NoSuchKey                = newError(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	InvalidVersion           = newError(http.StatusBadRequest, "InvalidArgument", "Invalid version id specified")
	CopySourceIsMarker       = newError(http.StatusBadRequest, "InvalidRequest", "The source of a copy request may not specifically refer to a delete marker by version id.")
	NoSuchUpload             = newError(http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.")
	NoSuchVersion            = newError(http.StatusNotFound, "NoSuchVersion", "The specified version does not exist.")
	NotModified              = newError(http.StatusNotModified, "NotModified", "Not Modified")
	PreconditionFailed       = newError(http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
	MissingObjectLockBucket  = newError(http.StatusBadRequest, "InvalidRequest", "Bucket is missing Object Lock Configuration")
	CopyOntoItself           = newError(http.StatusBadRequest, "InvalidRequest", "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
	MaxMessageLengthExceeded = newError(http.StatusBadRequest, "MaxMessageLengthExceeded", "Your request was too big.")
)

// Requests in general, and the server.
var (
	InternalError         = newError(http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
	InvalidArgument       = newError(http.StatusBadRequest, "InvalidArgument", "Invalid Argument")
	InvalidRequest        = newError(http.StatusBadRequest, "InvalidRequest", "Invalid Request")
	InvalidURI            = newError(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
	MalformedXML          = newError(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
	MethodNotAllowed      = newError(http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource.")
	MissingRequestBody    = newError(http.StatusBadRequest, "MissingRequestBodyError", "Request Body is empty")
	NotImplemented        = newError(http.StatusNotImplemented, "NotImplemented", "This functionality is not implemented.")
	RequestTimeout        = newError(http.StatusBadRequest, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed.")
	ServiceUnavailable    = newError(http.StatusServiceUnavailable, "ServiceUnavailable", "Service is unable to handle request.")
	SlowDown              = newError(http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
	InsufficientStorage   = newError(http.StatusInsufficientStorage, "InsufficientStorage", "There is no space left in the store: delete objects or add data directories.")
	AuthMechanismConflict = newError(http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified")
)
