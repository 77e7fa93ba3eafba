package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/casd/casd/cas"
	"github.com/casd/casd/httpapi"
	"github.com/casd/casd/httpapi/auth"
)

// Each way to go wrong with its code and status.
func TestErrors(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	s.must(200, "PUT", "/bucket/key", []byte("0123456789"))
	up := element(s.must(200, "POST", "/bucket/up?uploads", nil).body, "UploadId")
	deleteBody := []byte(`<Delete><Object><Key>a</Key></Object></Delete>`)
	long := strings.Repeat("k", 1025)
	for _, tc := range []struct {
		status       int
		code         string
		method, path string
		body         []byte
		headers      []string
	}{
		// buckets
		{404, "NoSuchBucket", "GET", "/nobucket", nil, nil},
		{404, "NoSuchBucket", "HEAD", "/nobucket", nil, nil},
		{404, "NoSuchBucket", "DELETE", "/nobucket", nil, nil},
		{404, "NoSuchBucket", "GET", "/nobucket?location", nil, nil},
		{404, "NoSuchBucket", "GET", "/nobucket?list-type=2", nil, nil},
		{404, "NoSuchBucket", "GET", "/nobucket?uploads", nil, nil},
		{404, "NoSuchBucket", "GET", "/nobucket?policy", nil, nil},
		{404, "NoSuchBucket", "GET", "/nobucket?versioning", nil, nil},
		{404, "NoSuchBucket", "GET", "/nobucket?acl", nil, nil},
		{404, "NoSuchBucket", "POST", "/nobucket?delete", deleteBody, []string{"Content-MD5", "x"}},
		{409, "BucketNotEmpty", "DELETE", "/bucket", nil, nil},
		{400, "InvalidBucketName", "PUT", "/ab", nil, nil},
		{400, "InvalidBucketName", "PUT", "/Bucket", nil, nil},
		{400, "InvalidBucketName", "PUT", "/a_b_c", nil, nil},
		{400, "InvalidBucketName", "PUT", "/-abc", nil, nil},
		{400, "InvalidBucketName", "PUT", "/abc-", nil, nil},
		{400, "InvalidBucketName", "PUT", "/a..b", nil, nil},
		{400, "InvalidBucketName", "PUT", "/.abc", nil, nil},
		{400, "InvalidBucketName", "PUT", "/192.168.1.1", nil, nil},
		{400, "InvalidBucketName", "PUT", "/xn--abc", nil, nil},
		{400, "InvalidBucketName", "PUT", "/sthree-abc", nil, nil},
		{400, "InvalidBucketName", "PUT", "/abc-s3alias", nil, nil},
		{400, "InvalidBucketName", "PUT", "/" + strings.Repeat("b", 64), nil, nil},
		{400, "InvalidBucketName", "PUT", "/%2e%2e", nil, nil},
		{400, "InvalidBucketName", "PUT", "/buc%2Fket/key", nil, nil},
		{400, "InvalidBucketName", "PUT", "//key", nil, nil},
		{400, "InvalidBucketName", "GET", "/Bucket/key", nil, nil},
		{400, "InvalidBucketName", "PUT", "/healthz/", nil, nil},
		{400, "InvalidBucketName", "PUT", "/readyz/x", nil, nil},
		{400, "InvalidBucketName", "PUT", "/metrics/x", nil, nil},
		{400, "InvalidLocationConstraint", "PUT", "/located", []byte(`<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>`), nil},
		{400, "InvalidLocationConstraint", "PUT", "/located", []byte(`<CreateBucketConfiguration><LocationConstraint>us-east-1</LocationConstraint></CreateBucketConfiguration>`), nil},
		{400, "InvalidArgument", "PUT", "/located", nil, []string{"x-amz-object-ownership", "Nobody"}},
		{501, "NotImplemented", "PUT", "/located", nil, []string{"x-amz-object-ownership", "ObjectWriter"}},
		{400, "MalformedXML", "PUT", "/located", []byte(`<CreateBucketConfiguration>`), nil},
		{400, "MalformedXML", "PUT", "/located", []byte(`<Other/>`), nil},
		{501, "NotImplemented", "PUT", "/located", []byte(`<CreateBucketConfiguration><Tags><Tag><Key>a</Key></Tag></Tags></CreateBucketConfiguration>`), nil},
		{501, "NotImplemented", "PUT", "/located", nil, []string{"x-amz-bucket-object-lock-enabled", "true"}},
		{400, "InvalidArgument", "GET", "/?max-buckets=0", nil, nil},
		{400, "InvalidArgument", "GET", "/?continuation-token=%21", nil, nil},

		// objects
		{404, "NoSuchKey", "GET", "/bucket/none", nil, nil},
		{404, "NoSuchKey", "HEAD", "/bucket/none", nil, nil},
		{404, "NoSuchKey", "GET", "/bucket/none?acl", nil, nil},
		{404, "NoSuchKey", "GET", "/bucket/none?tagging", nil, nil},
		{404, "NoSuchBucket", "PUT", "/nobucket/key", []byte("x"), nil},
		{404, "NoSuchBucket", "DELETE", "/nobucket/key", nil, nil},
		{400, "KeyTooLongError", "PUT", "/bucket/" + long, nil, nil},
		{400, "InvalidURI", "PUT", "/bucket/%ff", nil, nil},
		{400, "InvalidDigest", "PUT", "/bucket/k", []byte("x"), []string{"Content-MD5", "abc"}},
		{400, "InvalidDigest", "PUT", "/bucket/k", []byte("x"), []string{"Content-MD5", ""}},
		{400, "BadDigest", "PUT", "/bucket/k", []byte("x"), []string{"Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="}},
		{400, "BadDigest", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-checksum-crc32", "AAAAAA=="}},
		{400, "InvalidRequest", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-checksum-crc32", "AAAA"}},
		{400, "InvalidRequest", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-checksum-crc32", "AAAAAA==", "x-amz-checksum-crc32c", "AAAAAA=="}},
		{400, "InvalidRequest", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-sdk-checksum-algorithm", "CRC32"}},
		{400, "InvalidRequest", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-sdk-checksum-algorithm", "CRC32C", "x-amz-checksum-crc32", "AAAAAA=="}},
		{400, "InvalidRequest", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-sdk-checksum-algorithm", "CRC1"}},
		{400, "InvalidRequest", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-trailer", "x-amz-checksum-crc32"}},
		{501, "NotImplemented", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-checksum-sha512", "AAAA"}},
		{400, "MetadataTooLarge", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-meta-a", strings.Repeat("x", 2048)}},
		{400, "InvalidStorageClass", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-storage-class", "TAPE"}},
		{400, "InvalidArgument", "PUT", "/bucket/k?partNumber=1", []byte("x"), nil},
		{400, "InvalidArgument", "GET", "/bucket/key?versionId=", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket/key?versionId=3HL4kqCxf3vjVBH40Nrjfkd", nil, nil},
		{400, "InvalidArgument", "DELETE", "/bucket/key?versionId=3HL4kqCxf3vjVBH40Nrjfkd", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket/key?partNumber=0", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket/key?partNumber=10001", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket/key?partNumber=x", nil, nil},
		{416, "InvalidPartNumber", "GET", "/bucket/key?partNumber=2", nil, nil},
		{400, "InvalidRequest", "GET", "/bucket/key?partNumber=1", nil, []string{"Range", "bytes=0-1"}},
		{416, "InvalidRange", "GET", "/bucket/key", nil, []string{"Range", "bytes=10-"}},
		{416, "InvalidRange", "GET", "/bucket/key", nil, []string{"Range", "bytes=-0"}},
		{412, "PreconditionFailed", "GET", "/bucket/key", nil, []string{"If-Match", `"x"`}},
		{404, "NoSuchKey", "PUT", "/bucket/none", []byte("x"), []string{"If-Match", `"x"`}},
		{412, "PreconditionFailed", "PUT", "/bucket/key", []byte("x"), []string{"If-Match", `"x"`}},
		{412, "PreconditionFailed", "PUT", "/bucket/key", []byte("x"), []string{"If-None-Match", "*"}},
		{501, "NotImplemented", "PUT", "/bucket/key", []byte("x"), []string{"If-None-Match", `"x"`}},
		{501, "NotImplemented", "PUT", "/bucket/key", []byte("x"), []string{"If-None-Match", "*", "If-Match", `"x"`}},
		{412, "PreconditionFailed", "DELETE", "/bucket/key", nil, []string{"If-Match", `"x"`}},
		{501, "NotImplemented", "DELETE", "/bucket/key", nil, []string{"If-None-Match", "*"}},
		{501, "NotImplemented", "DELETE", "/bucket/none", nil, []string{"If-None-Match", "*"}},

		// what is not there
		{501, "NotImplemented", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-server-side-encryption", "AES256"}},
		{501, "NotImplemented", "GET", "/bucket/key", nil, []string{"x-amz-server-side-encryption-customer-algorithm", "AES256"}},
		{501, "NotImplemented", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-tagging", "a=b"}},
		{501, "NotImplemented", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-object-lock-mode", "GOVERNANCE"}},
		{501, "NotImplemented", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-acl", "public-read"}},
		{400, "InvalidArgument", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-acl", "everybody"}},
		{501, "NotImplemented", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-grant-read", "id=x"}},
		{501, "NotImplemented", "PUT", "/bucket/k", []byte("x"), []string{"x-amz-website-redirect-location", "/x"}},
		{400, "IllegalVersioningConfigurationException", "PUT", "/bucket?versioning", []byte("<VersioningConfiguration/>"), nil},
		{400, "IllegalVersioningConfigurationException", "PUT", "/bucket?versioning", []byte("<VersioningConfiguration><Status></Status></VersioningConfiguration>"), nil},
		{400, "MalformedXML", "PUT", "/bucket?versioning", []byte("<VersioningConfiguration><Status>enabled</Status></VersioningConfiguration>"), nil},
		{400, "MalformedXML", "PUT", "/bucket?versioning", []byte("<VersioningConfiguration><Status> Enabled </Status></VersioningConfiguration>"), nil},
		{400, "MalformedXML", "PUT", "/bucket?versioning", []byte("<VersioningConfiguration><Status>Enabled</Status><Status>Enabled</Status></VersioningConfiguration>"), nil},
		{400, "MalformedXML", "PUT", "/bucket?versioning", []byte("<VersioningConfiguration><Status>Enabled</Status><Foo/></VersioningConfiguration>"), nil},
		{400, "MalformedXML", "PUT", "/bucket?versioning", []byte("<VersioningConfiguration><Status>Enabled</Status><MfaDelete>disabled</MfaDelete></VersioningConfiguration>"), nil},
		{501, "NotImplemented", "PUT", "/bucket?versioning", []byte("<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete></VersioningConfiguration>"), nil},
		{501, "NotImplemented", "PUT", "/bucket?versioning", []byte("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"), []string{"x-amz-mfa", "serial 123456"}},
		{400, "MalformedXML", "PUT", "/bucket?versioning", []byte(" "), nil},
		{400, "MissingRequestBodyError", "PUT", "/bucket?versioning", nil, nil},
		{404, "NoSuchBucket", "PUT", "/nobucket?versioning", []byte("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"), nil},
		{501, "NotImplemented", "PUT", "/bucket?acl", nil, nil},
		{501, "NotImplemented", "PUT", "/bucket?policy", []byte("{}"), nil},
		{501, "NotImplemented", "DELETE", "/bucket?policy", nil, nil},
		{501, "NotImplemented", "DELETE", "/bucket?unheard-of", nil, nil},
		{501, "NotImplemented", "DELETE", "/bucket?unheard-of=1", nil, nil},
		{501, "NotImplemented", "GET", "/bucket?unheard-of", nil, nil},
		{404, "NoSuchBucket", "GET", "/nobucket?versions", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket?versions&version-id-marker=null", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket?versions&version-id-marker=", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket?versions&key-marker=k&version-id-marker=", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket?versions&key-marker=k&version-id-marker=made-up", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket?versions&max-keys=-1", nil, nil},
		{501, "NotImplemented", "GET", "/bucket?acl&policy", nil, nil},
		{501, "NotImplemented", "PUT", "/bucket/key?tagging", nil, nil},
		{501, "NotImplemented", "POST", "/bucket/key?select&select-type=2", nil, nil},
		{501, "NotImplemented", "POST", "/bucket/key?restore", nil, nil},
		{501, "NotImplemented", "GET", "/bucket/key?torrent", nil, nil},
		{400, "InvalidRequest", "GET", "/bucket/key?uploads", nil, nil},
		{400, "InvalidRequest", "GET", "/bucket/key?versions", nil, nil},
		{400, "InvalidRequest", "GET", "/bucket/key?retention", nil, nil},
		{405, "MethodNotAllowed", "POST", "/bucket", nil, nil},
		{405, "MethodNotAllowed", "POST", "/bucket/key", nil, nil},
		{405, "MethodNotAllowed", "PATCH", "/bucket/key", nil, nil},
		{405, "MethodNotAllowed", "PUT", "/", nil, nil},
		{405, "MethodNotAllowed", "BREW", "/bucket/key", nil, nil},

		// configurations that were never set
		{404, "NoSuchBucketPolicy", "GET", "/bucket?policy", nil, nil},
		{404, "NoSuchBucketPolicy", "GET", "/bucket?policyStatus", nil, nil},
		{404, "NoSuchLifecycleConfiguration", "GET", "/bucket?lifecycle", nil, nil},
		{404, "NoSuchCORSConfiguration", "GET", "/bucket?cors", nil, nil},
		{404, "NoSuchTagSet", "GET", "/bucket?tagging", nil, nil},
		{404, "ObjectLockConfigurationNotFoundError", "GET", "/bucket?object-lock", nil, nil},
		{404, "ServerSideEncryptionConfigurationNotFoundError", "GET", "/bucket?encryption", nil, nil},
		{404, "NoSuchWebsiteConfiguration", "GET", "/bucket?website", nil, nil},
		{404, "ReplicationConfigurationNotFoundError", "GET", "/bucket?replication", nil, nil},
		{404, "NoSuchPublicAccessBlockConfiguration", "GET", "/bucket?publicAccessBlock", nil, nil},
		{404, "OwnershipControlsNotFoundError", "GET", "/bucket?ownershipControls", nil, nil},

		// lists
		{400, "InvalidArgument", "GET", "/bucket?max-keys=-1", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket?max-keys=x", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket?max-keys=9999999999", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket?encoding-type=base64", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket?list-type=3", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket?list-type=2&continuation-token=x", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket?uploads&max-uploads=-1", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket/up?uploadId=" + up + "&max-parts=-1", nil, nil},
		{400, "InvalidArgument", "GET", "/bucket/up?uploadId=" + up + "&part-number-marker=x", nil, nil},

		// DeleteObjects
		{400, "InvalidRequest", "POST", "/bucket?delete", deleteBody, nil},
		{400, "BadDigest", "POST", "/bucket?delete", deleteBody, []string{"Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="}},
		{400, "BadDigest", "POST", "/bucket?delete", deleteBody, []string{"x-amz-checksum-crc32", "AAAAAA=="}},

		// copies
		{404, "NoSuchKey", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "/bucket/none"}},
		{404, "NoSuchBucket", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "/nobucket/key"}},
		{404, "NoSuchBucket", "PUT", "/nobucket/copy", nil, []string{"x-amz-copy-source", "/bucket/key"}},
		{400, "InvalidRequest", "PUT", "/bucket/key", nil, []string{"x-amz-copy-source", "/bucket/key"}},
		{400, "InvalidRequest", "PUT", "/bucket/key", nil, []string{"x-amz-copy-source", "/bucket/key?versionId=null"}},
		{400, "InvalidArgument", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "bucket"}},
		{400, "InvalidArgument", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "bucket/"}},
		{400, "InvalidArgument", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "192.168.1.1/key"}},
		{400, "InvalidArgument", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "/bucket/%zz"}},
		{400, "InvalidArgument", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "/bucket/key?x=y"}},
		{400, "InvalidArgument", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "/bucket/key?versionId=abc"}},
		{400, "InvalidArgument", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "/bucket/key", "x-amz-metadata-directive", "MERGE"}},
		{412, "PreconditionFailed", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "/bucket/key", "x-amz-copy-source-if-match", "x"}},
		{412, "PreconditionFailed", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "/bucket/key", "x-amz-copy-source-if-none-match", "781e5e245d69b566979b86e28d23f2c7"}},
		{412, "PreconditionFailed", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "/bucket/key", "x-amz-copy-source-if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"}},
		{412, "PreconditionFailed", "PUT", "/bucket/copy", nil, []string{"x-amz-copy-source", "/bucket/key", "x-amz-copy-source-if-modified-since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}},
		{400, "InvalidRequest", "PUT", "/bucket/copy", []byte("body"), []string{"x-amz-copy-source", "/bucket/key"}},
		{400, "InvalidArgument", "GET", "/bucket/key", nil, []string{"x-amz-copy-source", "/bucket/key"}},
		{400, "InvalidArgument", "PUT", "/bucket", nil, []string{"x-amz-copy-source", "/bucket/key"}},
		{501, "NotImplemented", "POST", "/bucket", nil, []string{"Content-Type", "multipart/form-data; boundary=x"}},
		{405, "MethodNotAllowed", "OPTIONS", "/bucket/key", nil, nil},

		// multipart
		{404, "NoSuchBucket", "POST", "/nobucket/up?uploads", nil, nil},
		{404, "NoSuchUpload", "PUT", "/bucket/up?partNumber=1&uploadId=none", []byte("x"), nil},
		{404, "NoSuchUpload", "PUT", "/bucket/other?partNumber=1&uploadId=" + up, []byte("x"), nil},
		{404, "NoSuchUpload", "GET", "/bucket/up?uploadId=none", nil, nil},
		{404, "NoSuchUpload", "DELETE", "/bucket/up?uploadId=none", nil, nil},
		{404, "NoSuchUpload", "POST", "/bucket/up?uploadId=none", []byte(`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>`), nil},
		{404, "NoSuchUpload", "PUT", "/bucket/up?partNumber=1&uploadId=none", nil, []string{"x-amz-copy-source", "/bucket/key"}},
		{400, "InvalidArgument", "PUT", "/bucket/up?partNumber=0&uploadId=" + up, []byte("x"), nil},
		{400, "InvalidArgument", "PUT", "/bucket/up?partNumber=10001&uploadId=" + up, []byte("x"), nil},
		{400, "InvalidArgument", "PUT", "/bucket/up?uploadId=" + up, []byte("x"), nil},
		{400, "MalformedXML", "POST", "/bucket/up?uploadId=" + up, []byte(`<CompleteMultipartUpload/>`), nil},
		{400, "MalformedXML", "POST", "/bucket/up?uploadId=" + up, nil, nil},
		{400, "MalformedXML", "POST", "/bucket/up?uploadId=" + up, []byte(`<CompleteMultipartUpload><Part><ETag>x</ETag></Part></CompleteMultipartUpload>`), nil},
		{400, "InvalidArgument", "POST", "/bucket/up?uploadId=" + up, []byte(`<CompleteMultipartUpload><Part><PartNumber>0</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>`), nil},
		{400, "InvalidArgument", "POST", "/bucket/up?uploadId=" + up, []byte(`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag><ChecksumCRC32>x</ChecksumCRC32></Part></CompleteMultipartUpload>`), nil},
		{400, "InvalidArgument", "POST", "/bucket/up?uploadId=" + up, []byte(`<CompleteMultipartUpload><Part><PartNumber>10001</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>`), nil},
		{400, "InvalidPart", "POST", "/bucket/up?uploadId=" + up, []byte(`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>`), nil},
		{400, "InvalidArgument", "PUT", "/bucket/up?partNumber=1&uploadId=" + up, nil, []string{"x-amz-copy-source", "/bucket/key", "x-amz-copy-source-range", "bytes=0-10"}},
		{400, "InvalidArgument", "PUT", "/bucket/up?partNumber=1&uploadId=" + up, nil, []string{"x-amz-copy-source", "/bucket/key", "x-amz-copy-source-range", "bytes=5-"}},
		{400, "InvalidRequest", "POST", "/bucket/c?uploads", nil, []string{"x-amz-checksum-algorithm", "MD4"}},
		{400, "InvalidRequest", "POST", "/bucket/c?uploads", nil, []string{"x-amz-checksum-algorithm", "SHA256", "x-amz-checksum-type", "FULL_OBJECT"}},
		{400, "InvalidRequest", "POST", "/bucket/c?uploads", nil, []string{"x-amz-checksum-algorithm", "CRC64NVME", "x-amz-checksum-type", "COMPOSITE"}},
		{400, "InvalidRequest", "POST", "/bucket/c?uploads", nil, []string{"x-amz-checksum-type", "COMPOSITE"}},
		{400, "InvalidRequest", "POST", "/bucket/up?uploadId=" + up, []byte(`<CompleteMultipartUpload/>`), []string{"x-amz-mp-object-size", "-1"}},

		// others
		{403, "AccessDenied", "GET", "/bucket", nil, []string{"x-amz-expected-bucket-owner", "somebody"}},
		{400, "InvalidURI", "GET", "/bucket?prefix=%zz", nil, nil},
	} {
		r := s.fails(tc.status, tc.code, tc.method, tc.path, tc.body, tc.headers...)
		if r.Header.Get("X-Amz-Request-Id") == "" {
			t.Errorf("%s %s: no request ID", tc.method, tc.path)
		}
		if tc.method == "HEAD" && len(r.body) != 0 {
			t.Errorf("HEAD %s: a body", tc.path)
		}
		if tc.method != "HEAD" {
			for _, name := range []string{"Code", "Message", "Resource", "RequestId", "HostId"} {
				if element(r.body, name) == "" {
					t.Errorf("%s %s: no %s in %s", tc.method, tc.path, name, r.body)
				}
			}
		}
	}
	// Nothing of all that left anything behind.
	got := s.must(200, "GET", "/bucket", nil)
	if n := bytes.Count(got.body, []byte("<Contents>")); n != 1 {
		t.Errorf("%d objects are left: %s", n, got.body)
	}
	if n := bytes.Count(s.must(200, "GET", "/", nil).body, []byte("<Bucket>")); n != 1 {
		t.Errorf("%d buckets are left", n)
	}
}

func TestAnonymousIsDenied(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	s.must(200, "PUT", "/bucket/key", []byte("x"))
	for _, tc := range [][2]string{
		{"GET", "/"}, {"GET", "/bucket"}, {"GET", "/nobucket"}, {"GET", "/bucket/key"}, {"GET", "/bucket/none"}, {"PUT", "/bucket/key"}, {"DELETE", "/bucket/key"},
		{"POST", "/bucket?delete"}, {"GET", "/bucket?nonsense"}, {"PATCH", "/bucket/key"}, {"GET", "/-/stats"}, {"GET", "/-/version"},
	} {
		req, _ := http.NewRequest(tc[0], s.URL+tc[1], nil)
		r := s.send(req)
		if r.StatusCode != 403 || !bytes.Contains(r.body, []byte("AccessDenied")) {
			t.Errorf("anonymous %s %s: %s %s", tc[0], tc[1], r.Status, r.body)
		}
	}
	req, _ := http.NewRequest("GET", s.URL+"/bucket/key", nil)
	auth.Sign(req, auth.Credentials{AccessKey: testCredentials.AccessKey, SecretKey: "something else"}, region, "", time.Now())
	if r := s.send(req); r.StatusCode != 403 || r.errorCode() != "SignatureDoesNotMatch" {
		t.Errorf("wrong secret: %s %s", r.Status, r.body)
	}
	if strings.Contains(s.access.String(), "AWS4-HMAC") || strings.Contains(s.access.String()+s.log.String(), testCredentials.SecretKey) {
		t.Error("a log holds a secret or a signature")
	}
}

// What the store's failures look like from outside.
func TestStoreErrors(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	for _, tc := range []struct {
		err    error
		status int
		code   string
		logged bool
	}{
		{cas.ErrNoSpace, 507, "InsufficientStorage", false},
		{cas.ErrBusy, 503, "SlowDown", false},
		{cas.ErrReadOnly, 503, "ServiceUnavailable", false},
		{cas.ErrClosed, 503, "ServiceUnavailable", false},
		{cas.ErrCorrupt, 500, "InternalError", true},
		{cas.ErrTooLarge, 400, "EntityTooLarge", false},
		{errors.New("a surprise"), 500, "InternalError", true},
	} {
		s.store.mu.Lock()
		s.store.put = func(context.Context, cas.PutRequest) (cas.ObjectInfo, error) {
			return cas.ObjectInfo{}, fmt.Errorf("put bucket/key: %w", tc.err)
		}
		s.store.mu.Unlock()
		r := s.fails(tc.status, tc.code, "PUT", "/bucket/key", []byte("x"))
		if strings.Contains(string(r.body), "surprise") || strings.Contains(string(r.body), "cas:") {
			t.Errorf("%v is told to the client: %s", tc.err, r.body)
		}
		if got := strings.Contains(s.log.String(), r.Header.Get("X-Amz-Request-Id")); got != tc.logged {
			t.Errorf("%v: logged %v", tc.err, got)
		}
	}
	// A panic is an InternalError, and the server lives.
	s.store.mu.Lock()
	s.store.put = func(context.Context, cas.PutRequest) (cas.ObjectInfo, error) { panic("boom") }
	s.store.mu.Unlock()
	s.fails(500, "InternalError", "PUT", "/bucket/key", []byte("x"))
	if !strings.Contains(s.log.String(), "boom") {
		t.Error("the panic was not logged")
	}
	s.store.mu.Lock()
	s.store.put = nil
	s.store.mu.Unlock()
	s.must(200, "PUT", "/bucket/key", []byte("x"))
}

// Without an outcome there is no answer.
func TestUnknownOutcomeClosesTheConnection(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	s.store.mu.Lock()
	s.store.put = func(_ context.Context, r cas.PutRequest) (cas.ObjectInfo, error) {
		return cas.ObjectInfo{}, fmt.Errorf("commit: %w", cas.ErrUnknownOutcome)
	}
	s.store.mu.Unlock()
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(s.request("PUT", "/bucket/key", []byte("x")))
	if err == nil {
		res.Body.Close()
		t.Fatalf("there was an answer: %s", res.Status)
	}
	waitFor(t, func() bool { return strings.Contains(s.access.String(), "UnknownOutcome") })

	s.store.mu.Lock()
	s.store.deleteMany = func(deletes []cas.DeleteRequest) ([]cas.KeyResult, error) {
		return []cas.KeyResult{{Key: deletes[0].Key}, {Key: deletes[1].Key, Err: fmt.Errorf("commit: %w", cas.ErrUnknownOutcome)}}, nil
	}
	s.store.mu.Unlock()
	body := []byte("<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>")
	req := s.request("POST", "/bucket?delete", body, "Content-MD5", md5Of(body))
	if res, err := tr.RoundTrip(req); err == nil {
		res.Body.Close()
		t.Fatalf("there was an answer to DeleteObjects: %s", res.Status)
	}
}

// waitFor polls for something that another goroutine does after the client has its answer.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never happened")
		}
	}
}

func TestTooManyRequests(t *testing.T) {
	s := startServer(t, func(o *httpapi.Options) { o.Limits.Requests = 1 })
	s.must(200, "PUT", "/bucket", nil)
	entered, leave := make(chan struct{}), make(chan struct{})
	s.store.mu.Lock()
	s.store.put = func(ctx context.Context, r cas.PutRequest) (cas.ObjectInfo, error) {
		close(entered)
		<-leave
		return s.store.Store.Put(ctx, r)
	}
	s.store.mu.Unlock()
	first := make(chan response)
	go func() { first <- s.do("PUT", "/bucket/key", []byte("x")) }()
	<-entered
	r := s.fails(503, "SlowDown", "GET", "/bucket/key", nil)
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	for _, p := range []string{"/healthz", "/readyz", "/metrics"} {
		if r := s.do("GET", p, nil); r.StatusCode != 200 {
			t.Errorf("%s while busy: %s", p, r.Status)
		}
	}
	close(leave)
	if r := <-first; r.StatusCode != 200 {
		t.Errorf("the first: %s", r.Status)
	}
	s.must(200, "GET", "/bucket/key", nil)
}
