package httpapi_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casd/casd/httpapi"
)

// Paths name keys as they come over the wire.
func TestRawPaths(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	for _, tc := range []struct{ path, key string }{
		{"/bucket/plain", "plain"},
		{"/bucket//", "/"},
		{"/bucket///a//b/", "//a//b/"},
		{"/bucket/.", "."},
		{"/bucket/..", ".."},
		{"/bucket/../bucket/x", "../bucket/x"},
		{"/bucket/a/./b", "a/./b"},
		{"/bucket/a/../b", "a/../b"},
		{"/bucket/%2e%2e/%2E", "../."},
		{"/bucket/a%2Fb", "a/b"},
		{"/bucket/a%252Fb", "a%2Fb"},
		{"/bucket/a+b", "a+b"},
		{"/bucket/a%2Bb", "a+b"},
		{"/bucket/a%20b", "a b"},
		{"/bucket/%00%01%7F", "\x00\x01\x7f"},
		{"/bucket/%F0%9F%98%80", "😀"},
		{"/bucket/a;b=c,d:e@f!$&'()*", "a;b=c,d:e@f!$&'()*"},
		{"/bucket/q%3Fx", "q?x"},
		{"/bucket/h%23x", "h#x"},
		{"/bucket/back%5Cslash", `back\slash`},
		{"/bucket/" + strings.Repeat("%C3%A9", 512), strings.Repeat("é", 512)},
		{"/bucket/healthz", "healthz"},
	} {
		body := []byte("body of " + tc.key)
		s.must(200, "PUT", tc.path, body)
		if r := s.must(200, "GET", tc.path, nil); !bytes.Equal(r.body, body) {
			t.Errorf("%s: %q", tc.path, r.body)
		}
		list := s.must(200, "GET", "/bucket?list-type=2&encoding-type=url&prefix="+url.QueryEscape(tc.key), nil)
		got, err := url.PathUnescape(element(list.body, "Key"))
		if err != nil || got != tc.key {
			t.Errorf("%s is the key %q, want %q (%v)", tc.path, got, tc.key, err)
		}
		s.must(204, "DELETE", tc.path, nil)
	}
	if list := s.must(200, "GET", "/bucket", nil); bytes.Contains(list.body, []byte("<Contents>")) {
		t.Errorf("left: %s", list.body)
	}
}

func TestVirtualHost(t *testing.T) {
	s := startServer(t, func(o *httpapi.Options) { o.Domain = "S3.Example.com" })
	do := func(status int, method, host, path string, body []byte) response {
		t.Helper()
		req, err := http.NewRequest(method, s.URL+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		sign(req, body)
		r := s.send(req)
		if r.StatusCode != status {
			t.Errorf("%s %s %s = %s: %s", method, host, path, r.Status, r.body)
		}
		return r
	}
	do(200, "PUT", "bucket.s3.example.com", "/", nil)
	do(200, "PUT", "bucket.s3.example.com:9000", "/dir//key", []byte("one"))
	do(200, "PUT", "dotted.name.s3.example.com", "/", nil)
	do(200, "PUT", "bucket.s3.example.com", "/healthz", []byte("an object"))
	if r := do(200, "GET", "bucket.s3.example.com", "/healthz", nil); string(r.body) != "an object" {
		t.Errorf("healthz of a bucket: %q", r.body)
	}
	if r := do(200, "GET", "s3.example.com", "/bucket/dir//key", nil); string(r.body) != "one" {
		t.Errorf("path-style on the domain: %q", r.body)
	}
	if r := do(200, "GET", "BUCKET.S3.EXAMPLE.COM", "/dir//key", nil); string(r.body) != "one" {
		t.Errorf("upper case: %q", r.body)
	}
	if r := do(200, "GET", "s3.example.com", "/", nil); !bytes.Contains(r.body, []byte("dotted.name")) {
		t.Errorf("buckets: %s", r.body)
	}
	if r := do(200, "GET", "127.0.0.1:9000", "/bucket", nil); !bytes.Contains(r.body, []byte("dir//key")) {
		t.Errorf("by address: %s", r.body)
	}
	do(404, "GET", "nobucket.s3.example.com", "/", nil)
	do(200, "GET", "s3.example.com", "/healthz", nil)
}

func TestRanges(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	body := noise(300_000)
	s.must(200, "PUT", "/bucket/key", body)
	s.must(200, "PUT", "/bucket/empty", nil)
	size := len(body)
	for _, tc := range []struct {
		header string
		from   int
		to     int // -1: the whole with 200
	}{
		{"bytes=0-0", 0, 1},
		{"Bytes=0-0", 0, 1},
		{"BYTES=-1", size - 1, size},
		{"bytes=0-", 0, size},
		{"bytes=100-199", 100, 200},
		{"bytes=00100-0199", 100, 200},
		{"bytes=299999-", size - 1, size},
		{"bytes=-1", size - 1, size},
		{"bytes=-300000", 0, size},
		{"bytes=-300001", 0, size},
		{"bytes=0-299999", 0, size},
		{"bytes=0-99999999999999999999999", 0, size},
		{"bytes=150000-300000", 150000, size},
		{"bytes=5-4", 0, -1},
		{"bytes=0-1,3-4", 0, -1},
		{"bytes=a-b", 0, -1},
		{"bytes=-", 0, -1},
		{"bytes=", 0, -1},
		{"bytes=--1", 0, -1},
		{"bytes= 0 - 1", 0, -1},
		{"items=0-1", 0, -1},
		{"0-1", 0, -1},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			r := s.do(method, "/bucket/key", nil, "Range", tc.header)
			want, status, cr := body, 200, ""
			if tc.to >= 0 {
				want, status, cr = body[tc.from:tc.to], 206, fmt.Sprintf("bytes %d-%d/%d", tc.from, tc.to-1, size)
			}
			if r.StatusCode != status || r.Header.Get("Content-Range") != cr || r.ContentLength != int64(len(want)) || r.Header.Get("Accept-Ranges") != "bytes" {
				t.Errorf("%s %s: %s, Content-Range %q, length %d", method, tc.header, r.Status, r.Header.Get("Content-Range"), r.ContentLength)
			}
			if method == "GET" && !bytes.Equal(r.body, want) {
				t.Errorf("%s: %d bytes of %d", tc.header, len(r.body), len(want))
			}
		}
	}
	for _, tc := range []struct{ path, header, size string }{
		{"/bucket/key", "bytes=300000-", "300000"}, {"/bucket/key", "bytes=300000-300001", "300000"}, {"/bucket/key", "bytes=-0", "300000"},
		{"/bucket/key", "bytes=99999999999999999999999-", "300000"},
		{"/bucket/empty", "bytes=0-", "0"}, {"/bucket/empty", "bytes=0-0", "0"}, {"/bucket/empty", "bytes=-1", "0"},
	} {
		r := s.fails(416, "InvalidRange", "GET", tc.path, nil, "Range", tc.header)
		if got := r.Header.Get("Content-Range"); got != "bytes */"+tc.size {
			t.Errorf("%s %s: Content-Range %q", tc.path, tc.header, got)
		}
		if element(r.body, "ActualObjectSize") != tc.size || element(r.body, "RangeRequested") != tc.header {
			t.Errorf("%s: %s", tc.header, r.body)
		}
	}
	// If-Range decides whether the range counts.
	etag := s.must(200, "HEAD", "/bucket/key", nil).Header.Get("Etag")
	modified := s.must(200, "HEAD", "/bucket/key", nil).Header.Get("Last-Modified")
	for v, status := range map[string]int{etag: 206, modified: 206, `"other"`: 200, "Thu, 01 Jan 1970 00:00:00 GMT": 200} {
		s.must(status, "GET", "/bucket/key", nil, "Range", "bytes=0-9", "If-Range", v)
	}
	s.must(200, "GET", "/bucket/key?versionId=null", nil)
	// A part of a plain object.
	r := s.must(206, "GET", "/bucket/key?partNumber=1", nil)
	if r.Header.Get("X-Amz-Mp-Parts-Count") != "1" || !bytes.Equal(r.body, body) || r.Header.Get("Content-Range") != "bytes 0-299999/300000" {
		t.Errorf("part 1: %v", r.Header)
	}
	// No byte range can be said of none.
	for _, method := range []string{"GET", "HEAD"} {
		r := s.must(206, method, "/bucket/empty?partNumber=1", nil)
		if _, ok := r.Header["Content-Range"]; ok || r.Header.Get("X-Amz-Mp-Parts-Count") != "1" || r.ContentLength != 0 {
			t.Errorf("%s part 1 of the empty object: %v", method, r.Header)
		}
	}
}

func TestReadConditions(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	put := s.must(200, "PUT", "/bucket/key", []byte("0123456789"), "Cache-Control", "max-age=5")
	etag := put.Header.Get("Etag")
	bare := strings.Trim(etag, `"`)
	now := s.must(200, "HEAD", "/bucket/key", nil).Header.Get("Last-Modified")
	at, _ := http.ParseTime(now)
	before, after := at.Add(-time.Second).Format(http.TimeFormat), at.Add(time.Second).Format(http.TimeFormat)
	for _, tc := range []struct {
		status  int
		headers []string
	}{
		{200, []string{"If-Match", etag}},
		{200, []string{"If-Match", bare}},
		{200, []string{"If-Match", "*"}},
		{200, []string{"If-Match", `"x", ` + etag}},
		{412, []string{"If-Match", `"x"`}},
		{304, []string{"If-None-Match", etag}},
		{304, []string{"If-None-Match", bare}},
		{304, []string{"If-None-Match", "W/" + etag}},
		{304, []string{"If-None-Match", "*"}},
		{200, []string{"If-None-Match", `"x"`}},
		{200, []string{"If-Modified-Since", before}},
		{304, []string{"If-Modified-Since", now}},
		{304, []string{"If-Modified-Since", after}},
		{200, []string{"If-Modified-Since", "yesterday"}},
		{412, []string{"If-Unmodified-Since", before}},
		{200, []string{"If-Unmodified-Since", now}},
		{200, []string{"If-Unmodified-Since", after}},
		// The ETag beats the date, and failure beats "not modified".
		{200, []string{"If-Match", etag, "If-Unmodified-Since", before}},
		{412, []string{"If-Match", `"x"`, "If-Unmodified-Since", after}},
		{304, []string{"If-None-Match", etag, "If-Modified-Since", before}},
		{200, []string{"If-None-Match", `"x"`, "If-Modified-Since", after}},
		{412, []string{"If-Match", `"x"`, "If-None-Match", etag}},
		{304, []string{"If-Match", etag, "If-None-Match", etag}},
		{412, []string{"If-Unmodified-Since", before, "If-None-Match", etag}},
		{412, []string{"If-Match", `"x"`, "Range", "bytes=100-"}},
		{304, []string{"If-None-Match", etag, "Range", "bytes=0-1"}},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			r := s.do(method, "/bucket/key", nil, tc.headers...)
			if r.StatusCode != tc.status {
				t.Errorf("%s %q: %s, want %d", method, tc.headers, r.Status, tc.status)
			}
			if tc.status == 304 && (r.Header.Get("Etag") != etag || r.Header.Get("Last-Modified") != now || r.Header.Get("Cache-Control") != "max-age=5" || len(r.body) != 0) {
				t.Errorf("%s %q: 304 with %v %q", method, tc.headers, r.Header, r.body)
			}
			if tc.status == 412 && method == "GET" && element(r.body, "Condition") == "" {
				t.Errorf("%q: %s does not say which condition", tc.headers, r.body)
			}
		}
	}
}

func TestAttributes(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	s.must(200, "PUT", "/bucket/bare", []byte("x"))
	r := s.must(200, "GET", "/bucket/bare", nil)
	if r.Header.Get("Content-Type") != "binary/octet-stream" || r.Header.Get("X-Amz-Storage-Class") != "" || r.Header.Get("Cache-Control") != "" {
		t.Errorf("bare: %v", r.Header)
	}
	// An empty Content-Type is as none; Go's client would not send it.
	headers := []string{
		"Content-Type", "text/html; charset=utf-8", "Cache-Control", "no-cache, no-store", "Content-Disposition", `attachment; filename="ü.txt"`,
		"Content-Encoding", "aws-chunked,gzip", "Content-Language", "de, en", "Expires", "Thu, 01 Dec 1994 16:00:00 GMT", "x-amz-storage-class", "STANDARD_IA",
		"x-amz-meta-Simple", "value", "x-amz-meta-empty", "", "x-amz-meta-multi", "a", "x-amz-meta-multi", "b", "x-amz-meta-unicode", "Grüße", "x-amz-meta-latin", "caf\xe9",
		"x-amz-meta-spaces", "  in  side  ", "x-amz-acl", "private", "x-amz-tagging", "",
	}
	s.must(200, "PUT", "/bucket/full", []byte("x"), headers...)
	want := map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-cache, no-store", "Content-Disposition": `attachment; filename="ü.txt"`,
		"Content-Encoding": "gzip", "Content-Language": "de, en", "Expires": "Thu, 01 Dec 1994 16:00:00 GMT", "X-Amz-Storage-Class": "STANDARD_IA",
		"X-Amz-Meta-Simple": "value", "X-Amz-Meta-Empty": "", "X-Amz-Meta-Multi": "a,b", "X-Amz-Meta-Unicode": "=?UTF-8?b?R3LDvMOfZQ==?=",
		"X-Amz-Meta-Latin": "=?UTF-8?b?Y2Fmw6k=?=", "X-Amz-Meta-Spaces": "in  side", "X-Amz-Acl": "none",
	}
	for _, method := range []string{"GET", "HEAD"} {
		r := s.must(200, method, "/bucket/full", nil)
		for name, v := range want {
			got, ok := r.Header[http.CanonicalHeaderKey(name)]
			if v == "none" {
				if ok {
					t.Errorf("%s: %s is %q", method, name, got)
				}
				continue
			}
			if !ok || len(got) != 1 || got[0] != v {
				t.Errorf("%s: %s is %q, want %q", method, name, got, v)
			}
		}
	}
	// Overrides, which only the query has.
	q := url.Values{
		"response-content-type": {"a/b"}, "response-cache-control": {"x"}, "response-content-disposition": {"inline"},
		"response-content-encoding": {"br"}, "response-content-language": {"fr"}, "response-expires": {"never"},
	}
	for _, method := range []string{"GET", "HEAD"} {
		r = s.must(200, method, "/bucket/full?"+q.Encode(), nil)
		for name, v := range map[string]string{"Content-Type": "a/b", "Cache-Control": "x", "Content-Disposition": "inline", "Content-Encoding": "br", "Content-Language": "fr", "Expires": "never"} {
			if r.Header.Get(name) != v {
				t.Errorf("%s: %s is %q, want %q", method, name, r.Header.Get(name), v)
			}
		}
	}
	// Errors say nothing of the object: their documents are neither compressed nor to be cached.
	for _, tc := range []struct {
		status  int
		query   string
		headers []string
	}{
		{400, "?response-content-type=a%0Ab", nil}, {400, "?response-content-type=" + url.QueryEscape("a\r\nb: c"), nil},
		{412, "", []string{"If-Match", `"x"`}}, {416, "", []string{"Range", "bytes=5-"}}, {416, "?partNumber=2", nil},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			r := s.do(method, "/bucket/full"+tc.query, nil, tc.headers...)
			if r.StatusCode != tc.status || r.Header.Get("Content-Type") != "application/xml" || r.Header.Get("X-Amz-Request-Id") == "" {
				t.Errorf("%s %q %q: %s %v", method, tc.query, tc.headers, r.Status, r.Header)
			}
			for name := range r.Header {
				switch name {
				case "Etag", "Last-Modified", "Accept-Ranges", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires", "X-Amz-Storage-Class", "X-Amz-Mp-Parts-Count":
					t.Errorf("%s %q %q: %s has %s of the object", method, tc.query, tc.headers, r.Status, name)
				}
				if strings.HasPrefix(name, "X-Amz-Meta-") {
					t.Errorf("%s %q %q: %s has %s of the object", method, tc.query, tc.headers, r.Status, name)
				}
			}
		}
	}
	// Copies keep or replace all of it.
	s.must(200, "PUT", "/bucket/copy", nil, "x-amz-copy-source", "bucket/full", "x-amz-meta-ignored", "x")
	r = s.must(200, "HEAD", "/bucket/copy", nil)
	if r.Header.Get("X-Amz-Meta-Simple") != "value" || r.Header.Get("Content-Language") != "de, en" || r.Header.Get("X-Amz-Meta-Ignored") != "" || r.Header.Get("X-Amz-Storage-Class") != "" {
		t.Errorf("copy: %v", r.Header)
	}
	s.must(200, "PUT", "/bucket/full", nil, "x-amz-copy-source", "bucket%2Ffull", "x-amz-metadata-directive", "REPLACE", "x-amz-meta-new", "y")
	r = s.must(200, "HEAD", "/bucket/full", nil)
	if r.Header.Get("X-Amz-Meta-Simple") != "" || r.Header.Get("X-Amz-Meta-New") != "y" || r.Header.Get("Content-Type") != "binary/octet-stream" || r.Header.Get("Content-Language") != "" {
		t.Errorf("replaced: %v", r.Header)
	}
	s.must(200, "PUT", "/bucket/full", nil, "x-amz-copy-source", "/bucket/full", "x-amz-storage-class", "GLACIER")
	if r = s.must(200, "HEAD", "/bucket/full", nil); r.Header.Get("X-Amz-Storage-Class") != "GLACIER" || r.Header.Get("X-Amz-Meta-New") != "y" {
		t.Errorf("another class: %v", r.Header)
	}
}

// The spelling of headers, which Go's client hides.
func TestHeaderSpelling(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	s.must(200, "PUT", "/bucket/key", []byte("x"), "x-amz-meta-Mixed-Case", "v", "x-amz-checksum-crc32", "jNwWgw==")
	raw := s.raw(s.request("GET", "/bucket/key", nil, "x-amz-checksum-mode", "ENABLED"))
	for _, line := range []string{
		"\r\nETag: \"9dd4e461268c8034f5c8564e155c67a6\"\r\n", "\r\nx-amz-meta-mixed-case: v\r\n", "\r\nx-amz-request-id: ", "\r\nx-amz-id-2: ", "\r\nServer: casd\r\n",
		"\r\nContent-Length: 1\r\n", "\r\nAccept-Ranges: bytes\r\n", "\r\nLast-Modified: ", "\r\nx-amz-checksum-type: FULL_OBJECT\r\n", "\r\nx-amz-checksum-crc32: ",
	} {
		if !strings.Contains(raw, line) {
			t.Errorf("no %q in\n%s", line, raw)
		}
	}
}

// One of a hundred wins.
func TestConditionalPutRace(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	var won, lost atomic.Int64
	var winner atomic.Value
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			body := fmt.Appendf(nil, "writer %d", i)
			switch r := s.do("PUT", "/bucket/key", body, "If-None-Match", "*"); r.StatusCode {
			case 200:
				won.Add(1)
				winner.Store(string(body))
			case 412:
				lost.Add(1)
			default:
				t.Errorf("%s: %s", r.Status, r.body)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 99 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
	if r := s.must(200, "GET", "/bucket/key", nil); string(r.body) != winner.Load() {
		t.Errorf("%q is stored, %q won", r.body, winner.Load())
	}
}

func TestDeleteObjects(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	for _, k := range []string{"a", "b", "c", "d"} {
		s.must(200, "PUT", "/bucket/"+k, []byte(k))
	}
	post := func(doc string) response {
		t.Helper()
		return s.must(200, "POST", "/bucket?delete", []byte(doc), "Content-MD5", md5Of([]byte(doc)))
	}
	r := post(`<?xml version="1.0" encoding="UTF-8"?><!-- x --><Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Object><Key>a</Key></Object><Object><Key>missing</Key></Object>` +
		`<Object><Key>b</Key><VersionId>null</VersionId></Object><Object><Key>c</Key><VersionId>v1</VersionId></Object><Object><Key>` + strings.Repeat("k", 1025) + `</Key></Object>` +
		`<Object><Key>c</Key><ETag>"x"</ETag></Object><Object><Key></Key></Object></Delete>`)
	for _, want := range []string{
		"<Deleted><Key>a</Key></Deleted>", "<Deleted><Key>missing</Key></Deleted>", "<Deleted><Key>b</Key><VersionId>null</VersionId></Deleted>",
		"<Error><Key>c</Key><VersionId>v1</VersionId><Code>NoSuchVersion</Code>", "<Code>KeyTooLongError</Code>", "<Error><Key>c</Key><Code>PreconditionFailed</Code>",
	} {
		if !bytes.Contains(r.body, []byte(want)) {
			t.Errorf("no %s in %s", want, r.body)
		}
	}
	r = post(`<Delete><Quiet>true</Quiet><Object><Key>c</Key><ETag>4a8a08f09d37b73795649038408b5f33</ETag></Object><Object><Key>nothing</Key></Object></Delete>`)
	if bytes.Contains(r.body, []byte("Deleted")) || bytes.Contains(r.body, []byte("<Error>")) {
		t.Errorf("quiet: %s", r.body)
	}
	if list := s.must(200, "GET", "/bucket", nil); bytes.Count(list.body, []byte("<Contents>")) != 1 || !bytes.Contains(list.body, []byte("<Key>d</Key>")) {
		t.Errorf("left: %s", list.body)
	}
	for _, doc := range []string{
		"<Delete><Object><Key>&#1;</Key></Object></Delete>", "<Delete><Object><Key>\x01</Key></Object></Delete>", // no XML 1.0
		"<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>", "<Delete><Object></Object></Delete>",
		"", "<Delete/>", "<Delete></Delete>", "<Delete><Object><Key>a</Key></Object>", "<Remove><Object><Key>a</Key></Object></Remove>", "{}",
		"<Delete>" + strings.Repeat("<Object><Key>a</Key></Object>", 1001) + "</Delete>",
		`<!DOCTYPE lolz [<!ENTITY lol "lol">]><Delete><Object><Key>&lol;</Key></Object></Delete>`,
		"<Delete><Object><Key>a</Key></Object></Delete><Delete/>", "<Delete><Object><Key>a</Key></Object></Delete>trailing",
		strings.Repeat("<Delete>", 1000) + strings.Repeat("</Delete>", 1000),
		"<Delete>\uFEFF\uFEFF</Delete>", "\uFEFF\uFEFF<Delete><Object><Key>a</Key></Object></Delete>",
		"\xff\xfe<\x00D\x00/\x00>\x00", "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><Delete><Object><Key>a</Key></Object></Delete>",
		"<?xml version=\"1.0\" encoding=\"us-ascii\"?><Delete><Object><Key>\xff</Key></Object></Delete>",
		"<?xml version=\"1.0\" encoding=\"UTF-16\"?><Delete><Object><Key>a</Key></Object></Delete>",
	} {
		s.fails(400, "MalformedXML", "POST", "/bucket?delete", []byte(doc), "Content-MD5", md5Of([]byte(doc)))
	}
	// A byte order mark and the names of encodings that are UTF-8 or a part of it do no harm.
	for _, encoding := range []string{"utf-8", "UTF-8", "Utf-8", "us-ascii", "US-ASCII", "ascii", "ASCII"} {
		for _, mark := range []string{"", "\uFEFF"} {
			if r := post(mark + `<?xml version="1.0" encoding="` + encoding + `"?><Delete><Object><Key>none</Key></Object></Delete>`); !bytes.Contains(r.body, []byte("<Deleted><Key>none</Key></Deleted>")) {
				t.Errorf("%q %s: %s", mark, encoding, r.body)
			}
		}
	}
	// The longest document that has to fit: every byte of every key as &quot;.
	widest := "<Delete>" + strings.Repeat("<Object><Key>"+strings.Repeat("&quot;", 1024)+"</Key></Object>", 1000) + "</Delete>"
	if r := post(widest); bytes.Count(r.body, []byte("<Deleted>")) != 1000 {
		t.Errorf("1,000 keys of 1,024 bytes: %d deleted", bytes.Count(r.body, []byte("<Deleted>")))
	}
	big := []byte("<Delete>" + strings.Repeat(" ", 8<<20) + "<Object><Key>a</Key></Object></Delete>")
	s.fails(400, "MaxMessageLengthExceeded", "POST", "/bucket?delete", big, "Content-MD5", md5Of(big))
	many := "<Delete>" + strings.Repeat("<Object><Key>a</Key></Object>", 1000) + "</Delete>"
	if r := post(many); bytes.Count(r.body, []byte("<Deleted>")) != 1000 {
		t.Errorf("1,000 keys: %d deleted", bytes.Count(r.body, []byte("<Deleted>")))
	}
}
