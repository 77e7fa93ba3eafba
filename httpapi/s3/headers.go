package s3

import (
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi/s3err"
)

// systemHeaders are kept with an object and given back as they came, besides Content-Type. They are in canonical form.
var systemHeaders = [...]string{"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires"}

var storageClasses = map[string]bool{
	"STANDARD": true, "REDUCED_REDUNDANCY": true, "STANDARD_IA": true, "ONEZONE_IA": true, "INTELLIGENT_TIERING": true, "GLACIER": true,
	"DEEP_ARCHIVE": true, "OUTPOSTS": true, "GLACIER_IR": true, "SNOW": true, "EXPRESS_ONEZONE": true,
}

const metaPrefix = "X-Amz-Meta-"

// parseAttributes reads what is to be kept beside the bytes of an object from the headers of the request that makes it.
func (q *request) parseAttributes() (cas.Attributes, error) {
	a := cas.Attributes{ContentType: q.Header.Get("Content-Type"), Owner: q.auth.Identity.ID}
	for _, name := range systemHeaders {
		v := strings.Join(q.Header[name], ",")
		if name == "Content-Encoding" {
			v = withoutChunked(v)
		}
		if v == "" {
			continue
		}
		if a.Headers == nil {
			a.Headers = make(map[string]string, len(systemHeaders))
		}
		a.Headers[name] = v
	}
	size := 0
	for name, values := range q.Header {
		if len(name) <= len(metaPrefix) || name[:len(metaPrefix)] != metaPrefix {
			continue
		}
		if a.Metadata == nil {
			a.Metadata = make(map[string]string)
		}
		name, value := strings.ToLower(name[len(metaPrefix):]), validText(strings.Join(values, ","))
		a.Metadata[name] = value
		size += len(name) + len(value)
	}
	if size > metadataBytesMax {
		return a, s3err.MetadataTooLarge.With("Size", itoa(size)).With("MaxSizeAllowed", itoa(metadataBytesMax))
	}
	a.StorageClass = q.Header.Get("X-Amz-Storage-Class")
	if a.StorageClass != "" && !storageClasses[a.StorageClass] {
		return a, s3err.InvalidStorageClass.With("StorageClassRequested", a.StorageClass)
	}
	return a, nil
}

// withoutChunked removes aws-chunked from a Content-Encoding: it is how the body is sent, not what it is.
func withoutChunked(v string) string {
	if !strings.Contains(strings.ToLower(v), "aws-chunked") {
		return v
	}
	var kept []string
	for e := range strings.SplitSeq(v, ",") {
		if e = strings.TrimSpace(e); e != "" && !strings.EqualFold(e, "aws-chunked") {
			kept = append(kept, e)
		}
	}
	return strings.Join(kept, ",")
}

// validText makes UTF-8 of a header value; bytes that are not UTF-8 are taken as ISO 8859-1, what HTTP once said they are.
func validText(v string) string {
	if utf8.ValidString(v) {
		return v
	}
	b := make([]rune, len(v))
	for i := range len(v) {
		b[i] = rune(v[i])
	}
	return string(b)
}

// asciiText gives values with other characters than ASCII the form of RFC 2047, as S3 does.
func asciiText(v string) string {
	for i := range len(v) {
		if v[i] >= utf8.RuneSelf {
			return mime.BEncoding.Encode("UTF-8", v)
		}
	}
	return v
}

// setAttributes puts what is kept beside an object into the headers of a response, user metadata in lower case as AWS does.
func setAttributes(h http.Header, a *cas.Attributes) {
	contentType := a.ContentType
	if contentType == "" {
		contentType = "binary/octet-stream"
	}
	h["Content-Type"] = []string{contentType}
	h["ETag"] = []string{`"` + a.ETag + `"`}
	for name, v := range a.Headers {
		h[name] = []string{v}
	}
	for name, v := range a.Metadata {
		h["x-amz-meta-"+name] = []string{asciiText(v)}
	}
	if a.StorageClass != "" && a.StorageClass != "STANDARD" {
		h["x-amz-storage-class"] = []string{a.StorageClass}
	}
}

// refusedPrefixes begin the names of headers that ask for what is not there.
var refusedPrefixes = [...]string{
	"X-Amz-Server-Side-Encryption", "X-Amz-Copy-Source-Server-Side-Encryption", "X-Amz-Object-Lock-", "X-Amz-Grant-",
}

// refusedHeaders do so as a whole.
var refusedHeaders = [...]string{
	"X-Amz-Website-Redirect-Location", "X-Amz-Mfa", "X-Amz-Write-Offset-Bytes", "X-Amz-Rename-Source", "X-Amz-If-Match-Last-Modified-Time",
	"X-Amz-If-Match-Size",
}

// refuseHeaders answers NotImplemented to headers that must not be ignored.
func (q *request) refuseHeaders() error {
	if v := q.Header.Get("X-Amz-Copy-Source"); v != "" && !q.op.copies {
		return s3err.Argument("x-amz-copy-source", v, "You can only specify a copy source header for copy requests.")
	}
	for name, values := range q.Header {
		if len(name) < 6 || name[:6] != "X-Amz-" {
			continue
		}
		for _, p := range refusedPrefixes {
			if strings.HasPrefix(name, p) {
				return s3err.Header(strings.ToLower(name))
			}
		}
		value := values[0]
		for _, n := range refusedHeaders {
			if name == n {
				return s3err.Header(strings.ToLower(name))
			}
		}
		switch name {
		case "X-Amz-Tagging":
			if value != "" {
				return s3err.Header("x-amz-tagging")
			}
		case "X-Amz-Bucket-Object-Lock-Enabled":
			if !strings.EqualFold(value, "false") {
				return s3err.Header("x-amz-bucket-object-lock-enabled")
			}
		case "X-Amz-Object-Ownership":
			switch value {
			case "BucketOwnerEnforced": // which is how it is: ACLs mean nothing
			case "BucketOwnerPreferred", "ObjectWriter":
				return s3err.Header("x-amz-object-ownership")
			default:
				return s3err.InvalidArgument.WithMessage("Invalid x-amz-object-ownership header: "+value).With("ArgumentName", "x-amz-object-ownership")
			}
		case "X-Amz-Acl":
			if err := refuseACL(value); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuseACL accepts the canned ACLs that say what is so anyway.
func refuseACL(acl string) error {
	switch acl {
	case "private", "bucket-owner-full-control", "":
		return nil
	case "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read", "log-delivery-write":
		return s3err.Header("x-amz-acl")
	}
	return s3err.Argument("x-amz-acl", acl, "The canned ACL is not valid.")
}
