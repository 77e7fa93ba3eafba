package httpapi_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func (s *server) versioning(bucket, status string) {
	s.t.Helper()
	s.must(200, "PUT", "/"+bucket+"?versioning", []byte(`<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>`+status+`</Status></VersioningConfiguration>`))
}

// versionOf is the version ID of a response.
func versionOf(r response) string { return r.Header.Get("X-Amz-Version-Id") }

func TestVersionedObjects(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	// Before it has versions a bucket does not speak of them.
	for _, r := range []response{s.must(200, "PUT", "/bucket/key", []byte("null")), s.must(200, "GET", "/bucket/key?versionId=null", nil), s.must(204, "DELETE", "/bucket/none", nil),
		s.must(204, "DELETE", "/bucket/none?versionId=null", nil)} {
		if r.Header["X-Amz-Version-Id"] != nil || r.Header["X-Amz-Delete-Marker"] != nil {
			t.Errorf("%v", r.Header)
		}
	}
	s.versioning("bucket", "Enabled")
	if got := versionOf(s.must(200, "HEAD", "/bucket/key", nil)); got != "null" {
		t.Errorf("what was there is version %q", got)
	}
	one := versionOf(s.must(200, "PUT", "/bucket/key", []byte("one")))
	two := versionOf(s.must(200, "PUT", "/bucket/key", []byte("two")))
	if one == "" || one == two || url.QueryEscape(one) != one || one > two {
		t.Fatalf("versions %q, %q", one, two)
	}
	for id, want := range map[string]string{"null": "null", one: "one", two: "two"} {
		r := s.must(200, "GET", "/bucket/key?versionId="+id, nil)
		if string(r.body) != want || versionOf(r) != id {
			t.Errorf("%s: %s %s", id, versionOf(r), r.body)
		}
		if r := s.must(304, "GET", "/bucket/key?versionId="+id, nil, "If-None-Match", r.Header.Get("Etag")); versionOf(r) != id {
			t.Errorf("304: %v", r.Header)
		}
	}
	// A marker.
	del := s.must(204, "DELETE", "/bucket/key", nil)
	marker := versionOf(del)
	if del.Header.Get("X-Amz-Delete-Marker") != "true" || marker == "" || marker == two {
		t.Fatalf("%v", del.Header)
	}
	for _, method := range []string{"GET", "HEAD"} {
		r := s.must(404, method, "/bucket/key", nil)
		if r.Header.Get("X-Amz-Delete-Marker") != "true" || versionOf(r) != marker || method == "GET" && r.errorCode() != "NoSuchKey" {
			t.Errorf("%s: %v %s", method, r.Header, r.body)
		}
		r = s.must(405, method, "/bucket/key?versionId="+marker, nil)
		modified, err := time.Parse(http.TimeFormat, r.Header.Get("Last-Modified"))
		if r.Header.Get("X-Amz-Delete-Marker") != "true" || versionOf(r) != marker || r.Header.Get("Allow") != "DELETE" || err != nil || time.Since(modified) > time.Hour ||
			method == "GET" && r.errorCode() != "MethodNotAllowed" {
			t.Errorf("%s: %v %s", method, r.Header, r.body)
		}
	}
	if r := s.must(404, "GET", "/bucket/none", nil); r.Header["X-Amz-Delete-Marker"] != nil {
		t.Errorf("%v", r.Header)
	}
	s.fails(404, "NoSuchKey", "GET", "/bucket/key?acl", nil)
	if r := s.must(200, "GET", "/bucket/key?acl&versionId="+one, nil); versionOf(r) != one {
		t.Errorf("%v", r.Header)
	}
	// Conditions see no object.
	s.fails(404, "NoSuchKey", "PUT", "/bucket/key", []byte("x"), "If-Match", "*")
	s.fails(404, "NoSuchKey", "DELETE", "/bucket/key", nil, "If-Match", "*")
	three := versionOf(s.must(200, "PUT", "/bucket/key", []byte("three"), "If-None-Match", "*"))
	s.fails(412, "PreconditionFailed", "PUT", "/bucket/key", []byte("x"), "If-None-Match", "*")
	// Deletions by ID.
	if r := s.must(204, "DELETE", "/bucket/key?versionId="+three, nil); versionOf(r) != three || r.Header["X-Amz-Delete-Marker"] != nil {
		t.Errorf("%v", r.Header)
	}
	if r := s.must(204, "DELETE", "/bucket/key?versionId="+marker, nil); versionOf(r) != marker || r.Header.Get("X-Amz-Delete-Marker") != "true" {
		t.Errorf("%v", r.Header)
	}
	if r := s.must(204, "DELETE", "/bucket/key?versionId="+marker, nil); r.Header["X-Amz-Delete-Marker"] != nil {
		t.Errorf("a marker that is gone: %v", r.Header)
	}
	if r := s.must(200, "GET", "/bucket/key", nil); string(r.body) != "two" {
		t.Errorf("%s", r.body)
	}
	s.fails(404, "NoSuchVersion", "GET", "/bucket/key?versionId="+marker, nil)
	s.fails(404, "NoSuchVersion", "GET", "/bucket/other?versionId="+one, nil)
	s.fails(400, "InvalidArgument", "GET", "/bucket/key?versionId=made-up", nil)
	s.fails(400, "InvalidArgument", "DELETE", "/bucket/key?versionId="+strings.ToUpper(one), nil)
	s.fails(409, "BucketNotEmpty", "DELETE", "/bucket", nil)
	// Suspended: the null version is replaced, the others stay.
	s.versioning("bucket", "Suspended")
	if r := s.must(200, "PUT", "/bucket/key", []byte("new null")); versionOf(r) != "null" {
		t.Errorf("%v", r.Header)
	}
	if r := s.must(200, "GET", "/bucket/key", nil); string(r.body) != "new null" || versionOf(r) != "null" {
		t.Errorf("%v %s", r.Header, r.body)
	}
	if r := s.must(204, "DELETE", "/bucket/key", nil); versionOf(r) != "null" || r.Header.Get("X-Amz-Delete-Marker") != "true" {
		t.Errorf("%v", r.Header)
	}
	s.fails(405, "MethodNotAllowed", "GET", "/bucket/key?versionId=null", nil)
	s.must(200, "GET", "/bucket/key?versionId="+two, nil)
	if r := s.must(200, "GET", "/bucket?versioning", nil); !bytes.Contains(r.body, []byte("<Status>Suspended</Status>")) {
		t.Errorf("%s", r.body)
	}
	for _, id := range []string{"null", one, two} {
		s.must(204, "DELETE", "/bucket/key?versionId="+id, nil)
	}
	s.must(204, "DELETE", "/bucket", nil)
}

func TestVersionedCopies(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	s.must(200, "PUT", "/plain", nil)
	s.versioning("bucket", "Enabled")
	one := versionOf(s.must(200, "PUT", "/bucket/key", []byte("one")))
	two := versionOf(s.must(200, "PUT", "/bucket/key", []byte("two")))
	const sourceID = "X-Amz-Copy-Source-Version-Id"
	r := s.must(200, "PUT", "/bucket/copy", nil, "x-amz-copy-source", "/bucket/key?versionId="+one)
	if r.Header.Get(sourceID) != one || versionOf(r) == "" || versionOf(r) == one {
		t.Errorf("%v", r.Header)
	}
	if r := s.must(200, "GET", "/bucket/copy", nil); string(r.body) != "one" {
		t.Errorf("%s", r.body)
	}
	r = s.must(200, "PUT", "/plain/copy", nil, "x-amz-copy-source", "bucket/key")
	if r.Header.Get(sourceID) != two || r.Header["X-Amz-Version-Id"] != nil {
		t.Errorf("%v", r.Header)
	}
	r = s.must(200, "PUT", "/bucket/back", nil, "x-amz-copy-source", "plain/copy")
	if r.Header[sourceID] != nil || versionOf(r) == "" {
		t.Errorf("%v", r.Header)
	}
	// An old version is brought back by a copy onto its key.
	s.fails(400, "InvalidRequest", "PUT", "/bucket/key", nil, "x-amz-copy-source", "/bucket/key")
	s.must(200, "PUT", "/bucket/key", nil, "x-amz-copy-source", "/bucket/key?versionId="+one)
	if r := s.must(200, "GET", "/bucket/key", nil); string(r.body) != "one" {
		t.Errorf("%s", r.body)
	}
	// With a checksum that the source does not have.
	r = s.must(200, "PUT", "/bucket/sum", nil, "x-amz-copy-source", "/bucket/key?versionId="+two, "x-amz-checksum-algorithm", "SHA256")
	if r.Header.Get(sourceID) != two || !bytes.Contains(r.body, []byte("ChecksumSHA256")) {
		t.Errorf("%v %s", r.Header, r.body)
	}
	marker := versionOf(s.must(204, "DELETE", "/bucket/key", nil))
	s.fails(404, "NoSuchKey", "PUT", "/bucket/copy", nil, "x-amz-copy-source", "/bucket/key")
	s.fails(400, "InvalidRequest", "PUT", "/bucket/copy", nil, "x-amz-copy-source", "/bucket/key?versionId="+marker)
	s.fails(404, "NoSuchVersion", "PUT", "/bucket/copy", nil, "x-amz-copy-source", "/bucket/key?versionId=null")
	s.fails(400, "InvalidArgument", "PUT", "/bucket/copy", nil, "x-amz-copy-source", "/bucket/key?versionId=made-up")
	s.fails(400, "InvalidArgument", "PUT", "/bucket/copy", nil, "x-amz-copy-source", "/bucket/key?versionId=")

	// Parts, of a version too, and the object that is made of them.
	up := element(s.must(200, "POST", "/bucket/multi?uploads", nil).body, "UploadId")
	path := "/bucket/multi?uploadId=" + up
	r = s.must(200, "PUT", path+"&partNumber=1", nil, "x-amz-copy-source", "/bucket/key?versionId="+two)
	if r.Header.Get(sourceID) != two {
		t.Errorf("%v", r.Header)
	}
	etag := element(r.body, "ETag")
	s.fails(404, "NoSuchKey", "PUT", path+"&partNumber=2", nil, "x-amz-copy-source", "/bucket/key")
	s.fails(400, "InvalidRequest", "PUT", path+"&partNumber=2", nil, "x-amz-copy-source", "/bucket/key?versionId="+marker)
	doc := []byte(`<CompleteMultipartUpload><Part><ETag>` + etag + `</ETag><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>`)
	r = s.must(200, "POST", path, doc)
	if versionOf(r) == "" {
		t.Errorf("%v", r.Header)
	}
	if again := s.must(200, "POST", path, doc); versionOf(again) != versionOf(r) {
		t.Errorf("completed again: %v", again.Header)
	}
	if got := s.must(200, "GET", "/bucket/multi?versionId="+versionOf(r), nil); string(got.body) != "two" {
		t.Errorf("%s", got.body)
	}
}

func TestDeleteObjectsVersions(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	s.versioning("bucket", "Enabled")
	id := versionOf(s.must(200, "PUT", "/bucket/a", []byte("a")))
	gone := versionOf(s.must(200, "PUT", "/bucket/a", []byte("b")))
	s.must(204, "DELETE", "/bucket/a?versionId="+gone, nil)
	post := func(doc string) string {
		t.Helper()
		return string(s.must(200, "POST", "/bucket?delete", []byte(doc), "Content-MD5", md5Of([]byte(doc))).body)
	}
	got := post(`<Delete><Object><Key>a</Key></Object><Object><Key>none</Key><VersionId></VersionId></Object><Object><Key>a</Key><VersionId>` + gone + `</VersionId></Object></Delete>`)
	first := s.must(200, "GET", "/bucket?versions&prefix=a", nil)
	marker := element(first.body, "VersionId")
	for _, want := range []string{
		"<Deleted><Key>a</Key><DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>" + marker + "</DeleteMarkerVersionId></Deleted>",
		"<Deleted><Key>none</Key><VersionId/><DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>",
		"<Deleted><Key>a</Key><VersionId>" + gone + "</VersionId></Deleted>",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	got = post(`<Delete><Object><Key>a</Key><VersionId>` + marker + `</VersionId></Object><Object><Key>a</Key><VersionId>` + id + `</VersionId><ETag>"x"</ETag></Object></Delete>`)
	for _, want := range []string{
		"<Deleted><Key>a</Key><VersionId>" + marker + "</VersionId><DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>" + marker + "</DeleteMarkerVersionId></Deleted>",
		"<Error><Key>a</Key><VersionId>" + id + "</VersionId><Code>PreconditionFailed</Code>",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	s.must(200, "GET", "/bucket/a", nil)
}

// Lists show no keys whose newest version is a marker, and pages of all versions fit together whatever their size.
func TestListVersions(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	s.versioning("bucket", "Enabled")
	for _, key := range []string{"a", "dir/1", "dir/2", "gone/1", "z"} {
		for range 3 {
			s.must(200, "PUT", "/bucket/"+key, []byte(key))
		}
	}
	for _, key := range []string{"gone/1", "dir/1", "never"} {
		s.must(204, "DELETE", "/bucket/"+key, nil)
	}
	for _, query := range []string{"?", "?list-type=2&"} {
		r := s.must(200, "GET", "/bucket"+query+"delimiter=/", nil)
		if got := texts(r.body, "Key"); !slices.Equal(got, []string{"a", "z"}) {
			t.Errorf("%s: %s", query, r.body)
		}
		if got := texts(r.body, "Prefix"); !slices.Equal(got, []string{"dir/"}) {
			t.Errorf("%s: %s", query, r.body)
		}
		if strings.Contains(query, "2") && element(r.body, "KeyCount") != "3" {
			t.Errorf("%s: %s", query, r.body)
		}
	}
	for _, query := range []string{"", "&delimiter=/", "&prefix=dir/", "&prefix=d&delimiter=/"} {
		whole := s.must(200, "GET", "/bucket?versions"+query, nil)
		for limit := 1; limit < 20; limit += 3 {
			var ids, prefixes []string
			marker := ""
			for page := 0; ; page++ {
				r := s.must(200, "GET", fmt.Sprintf("/bucket?versions&max-keys=%d%s%s", limit, query, marker), nil)
				ids = append(ids, texts(r.body, "VersionId")...)
				prefixes = append(prefixes, texts(r.body, "Prefix")...)
				if element(r.body, "IsTruncated") != "true" {
					break
				}
				marker = "&key-marker=" + url.QueryEscape(element(r.body, "NextKeyMarker"))
				if id := element(r.body, "NextVersionIdMarker"); id != "" {
					marker += "&version-id-marker=" + id
				}
				if page > 30 {
					t.Fatal("it does not end")
				}
			}
			prefixes = slices.DeleteFunc(prefixes, func(p string) bool { return !strings.HasSuffix(p, "/") || strings.HasSuffix(query, p) })
			want := slices.DeleteFunc(texts(whole.body, "Prefix"), func(p string) bool { return !strings.HasSuffix(p, "/") || strings.HasSuffix(query, p) })
			if !slices.Equal(ids, texts(whole.body, "VersionId")) || !slices.Equal(prefixes, want) {
				t.Errorf("%s by %d: %q %q\n%s", query, limit, ids, prefixes, whole.body)
			}
		}
	}
	r := s.must(200, "GET", "/bucket?versions&prefix=never", nil)
	if !bytes.Contains(r.body, []byte("<DeleteMarker><Key>never</Key>")) || element(r.body, "IsLatest") != "true" {
		t.Errorf("%s", r.body)
	}
	if r := s.must(200, "GET", "/bucket?versions&max-keys=0", nil); element(r.body, "IsTruncated") != "false" || bytes.Contains(r.body, []byte("<Version>")) {
		t.Errorf("%s", r.body)
	}
}

// texts returns the texts of all elements of a name that have any.
func texts(doc []byte, name string) (out []string) {
	for _, part := range strings.Split(string(doc), "<"+name+">")[1:] {
		text, _, _ := strings.Cut(part, "</")
		out = append(out, text)
	}
	return out
}

// A page of the first version of ListObjects must not end before its first entry: what could its client go on from?
func TestListPastMarkers(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	s.versioning("bucket", "Enabled")
	for i := 0; i < 10_001; i += 1000 {
		var doc strings.Builder
		doc.WriteString("<Delete><Quiet>true</Quiet>")
		for j := i; j < min(i+1000, 10_001); j++ {
			fmt.Fprintf(&doc, "<Object><Key>dir/%05d</Key></Object>", j)
		}
		doc.WriteString("</Delete>")
		s.must(200, "POST", "/bucket?delete", []byte(doc.String()), "Content-MD5", md5Of([]byte(doc.String())))
	}
	s.must(200, "PUT", "/bucket/dir/z", []byte("x"))
	for _, query := range []string{"", "?delimiter=/"} {
		r := s.must(200, "GET", "/bucket"+query, nil)
		if element(r.body, "IsTruncated") != "false" || !bytes.Contains(r.body, []byte("dir/")) {
			t.Errorf("%s: %s", query, r.body)
		}
	}
	token := ""
	for found, page := false, 0; !found; page++ {
		r := s.must(200, "GET", "/bucket?list-type=2"+token, nil)
		found = bytes.Contains(r.body, []byte("<Key>dir/z</Key>"))
		if token = "&continuation-token=" + url.QueryEscape(element(r.body, "NextContinuationToken")); page > 3 {
			t.Fatalf("%s", r.body)
		}
	}
}
