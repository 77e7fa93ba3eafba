package httpapi_test

import (
	"bytes"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var update = flag.Bool("update", false, "write the golden documents anew")

// what differs from run to run in a document, and what stands for it in the golden file
var volatile = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`), "TIME"},
	{regexp.MustCompile(`<UploadId>[0-9a-f]{16,}</UploadId>`), "<UploadId>UPLOAD</UploadId>"},
	{regexp.MustCompile(`<NextUploadIdMarker>[0-9a-f]{16,}</NextUploadIdMarker>`), "<NextUploadIdMarker>UPLOAD</NextUploadIdMarker>"},
	{regexp.MustCompile(`<RequestId>[0-9A-F]{16}</RequestId>`), "<RequestId>REQUEST</RequestId>"},
	{regexp.MustCompile(`<HostId>[^<]+</HostId>`), "<HostId>HOST</HostId>"},
	{regexp.MustCompile(`<VersionId>[0-9a-f]{32}</VersionId>`), "<VersionId>VERSION</VersionId>"},
	{regexp.MustCompile(`<DeleteMarkerVersionId>[0-9a-f]{32}</DeleteMarkerVersionId>`), "<DeleteMarkerVersionId>VERSION</DeleteMarkerVersionId>"},
	{regexp.MustCompile(`VersionIdMarker>[0-9a-f]{32}</`), "VersionIdMarker>VERSION</"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://SERVER"},
	{regexp.MustCompile(`<StringToSignBytes>[^<]+</StringToSignBytes><CanonicalRequest>[^<]+</CanonicalRequest><CanonicalRequestBytes>[^<]+</CanonicalRequestBytes>`), "<SIGNED/>"},
	{regexp.MustCompile(`<StringToSign>[^<]+</StringToSign><SignatureProvided>[0-9a-f]+</SignatureProvided>`), "<SIGNATURE/>"},
}

// Each document that we send, byte for byte: order, empty elements and namespaces matter to clients.
func TestGoldenDocuments(t *testing.T) {
	s := startServer(t)
	golden := func(name string, r response) {
		t.Helper()
		got := r.body
		for _, v := range volatile {
			got = v.re.ReplaceAll(got, []byte(v.with))
		}
		if ct := r.Header.Get("Content-Type"); ct != "application/xml" {
			t.Errorf("%s: Content-Type %q", name, ct)
		}
		path := filepath.Join("testdata", "xml", name+".xml")
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
		want, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, err, got, want)
		}
	}
	golden("list-buckets-empty", s.must(200, "GET", "/", nil))
	s.must(200, "PUT", "/bucket", nil)
	golden("list-buckets", s.must(200, "GET", "/", nil))
	golden("list-buckets-page", s.must(200, "GET", "/?prefix=b&max-buckets=1", nil))
	golden("location", s.must(200, "GET", "/bucket?location", nil))
	golden("list-empty", s.must(200, "GET", "/bucket", nil))
	golden("list-v2-empty", s.must(200, "GET", "/bucket?list-type=2", nil))
	for _, k := range []string{"a%20b%2B%3C%26%3E%22'%C3%BC", "dir/one", "dir/two", "tab%09cr%0Dnul%00", "z"} {
		s.must(200, "PUT", "/bucket/"+k, []byte(k), "x-amz-checksum-algorithm", "SHA1")
	}
	s.must(200, "PUT", "/bucket/cold", nil, "x-amz-storage-class", "GLACIER")
	golden("list", s.must(200, "GET", "/bucket", nil))
	golden("list-delimiter", s.must(200, "GET", "/bucket?delimiter=/&prefix=&marker=a&max-keys=2", nil))
	golden("list-url", s.must(200, "GET", "/bucket?encoding-type=url&delimiter=i&marker=%20%2B/&prefix=", nil))
	golden("list-v2", s.must(200, "GET", "/bucket?list-type=2&prefix=d&delimiter=/&start-after=a%20&max-keys=7", nil))
	golden("list-v2-page", s.must(200, "GET", "/bucket?list-type=2&max-keys=2&continuation-token=&fetch-owner=true", nil))
	golden("list-v2-url", s.must(200, "GET", "/bucket?list-type=2&encoding-type=url&delimiter=/", nil))
	golden("list-zero", s.must(200, "GET", "/bucket?list-type=2&max-keys=0", nil))

	body := []byte(`<Delete><Object><Key>z</Key></Object><Object><Key>c</Key><VersionId>v</VersionId></Object></Delete>`)
	golden("delete", s.must(200, "POST", "/bucket?delete", body, "Content-MD5", md5Of(body)))
	golden("copy", s.must(200, "PUT", "/bucket/copy", nil, "x-amz-copy-source", "/bucket/dir/one"))
	golden("copy-plain", s.must(200, "PUT", "/bucket/copy", nil, "x-amz-copy-source", "/bucket/cold"))

	created := s.must(200, "POST", "/bucket/up%20load?uploads", nil, "x-amz-checksum-algorithm", "CRC32", "x-amz-storage-class", "STANDARD_IA")
	golden("create-upload", created)
	up := element(created.body, "UploadId")
	path := "/bucket/up%20load?uploadId=" + up
	crc := checksumsOf([]byte("part"))[0]
	etag := s.must(200, "PUT", path+"&partNumber=3", []byte("part"), crc.header, crc.value).Header.Get("Etag")
	golden("part-copy", s.must(200, "PUT", path+"&partNumber=7", nil, "x-amz-copy-source", "/bucket/dir/one"))
	golden("list-parts", s.must(200, "GET", path, nil))
	golden("list-parts-page", s.must(200, "GET", path+"&max-parts=1&part-number-marker=1&encoding-type=url", nil))
	s.must(200, "POST", "/bucket/another?uploads", nil)
	golden("list-uploads", s.must(200, "GET", "/bucket?uploads", nil))
	golden("list-uploads-page", s.must(200, "GET", "/bucket?uploads&max-uploads=1&encoding-type=url&key-marker=a%20&delimiter=%20", nil))
	doc := []byte(`<CompleteMultipartUpload><Part><ETag>` + etag + `</ETag><PartNumber>3</PartNumber><ChecksumCRC32>` + crc.value + `</ChecksumCRC32></Part></CompleteMultipartUpload>`)
	golden("complete", s.must(200, "POST", path, doc))

	golden("acl-bucket", s.must(200, "GET", "/bucket?acl", nil))
	golden("acl-object", s.must(200, "GET", "/bucket/cold?acl", nil))
	golden("tagging", s.must(200, "GET", "/bucket/cold?tagging", nil))
	for _, sub := range []string{"versioning", "logging", "notification", "accelerate", "requestPayment"} {
		golden("unset-"+sub, s.must(200, "GET", "/bucket?"+sub, nil))
	}
	s.must(200, "PUT", "/versioned", nil)
	s.must(200, "PUT", "/versioned/a%20b", []byte("null"))
	golden("versions-unversioned", s.must(200, "GET", "/versioned?versions", nil))
	s.must(200, "PUT", "/versioned?versioning", []byte(`<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`))
	golden("versioning", s.must(200, "GET", "/versioned?versioning", nil))
	id := s.must(200, "PUT", "/versioned/a%20b", []byte("one"), "x-amz-checksum-algorithm", "CRC32").Header.Get("X-Amz-Version-Id")
	marker := s.must(204, "DELETE", "/versioned/a%20b", nil).Header.Get("X-Amz-Version-Id")
	s.must(200, "PUT", "/versioned/dir/x", []byte("x"), "x-amz-storage-class", "GLACIER")
	golden("versions", s.must(200, "GET", "/versioned?versions", nil))
	golden("versions-page", s.must(200, "GET", "/versioned?versions&max-keys=1&encoding-type=url&delimiter=/&key-marker=a%20b&version-id-marker="+marker, nil))
	golden("versions-prefixes", s.must(200, "GET", "/versioned?versions&max-keys=7&delimiter=/&prefix=&key-marker=a%20b&version-id-marker=null", nil))
	golden("error-marker", s.must(404, "GET", "/versioned/a%20b", nil))
	golden("error-marker-method", s.must(405, "GET", "/versioned/a%20b?versionId="+marker, nil))
	golden("error-version-argument", s.must(400, "GET", "/versioned/a%20b?versionId=made-up", nil))
	body = []byte(`<Delete><Object><Key>a b</Key><VersionId>` + id + `</VersionId></Object><Object><Key>a b</Key></Object><Object><Key>a b</Key><VersionId>` + marker + `</VersionId></Object></Delete>`)
	golden("delete-versions", s.must(200, "POST", "/versioned?delete", body, "Content-MD5", md5Of(body)))
	golden("error-version", s.must(404, "GET", "/versioned/a%20b?versionId="+id, nil))

	golden("error-key", s.must(404, "GET", "/bucket/a%26b%00", nil))
	golden("error-bucket", s.must(404, "GET", "/nobucket", nil))
	golden("error-range", s.must(416, "GET", "/bucket/cold", nil, "Range", "bytes=5-"))
	golden("error-argument", s.must(400, "GET", "/bucket?max-keys=many", nil))
	golden("error-method", s.must(405, "POST", "/bucket", nil))
	req := s.request("GET", "/bucket", nil)
	req.Method = http.MethodDelete
	golden("error-signature", s.send(req))
	req, _ = http.NewRequest("GET", s.URL+"/bucket/key", nil)
	golden("error-anonymous", s.send(req))
}
