package httpapi_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/casd/casd/httpapi/digest"
)

// A multipart is an upload under test.
type multipart struct {
	s    *server
	path string // with the upload ID
}

func (s *server) newUpload(key string, headers ...string) multipart {
	s.t.Helper()
	r := s.must(200, "POST", "/bucket/"+key+"?uploads", nil, headers...)
	return multipart{s, "/bucket/" + key + "?uploadId=" + element(r.body, "UploadId")}
}

func (m multipart) put(number int, body []byte, headers ...string) string {
	m.s.t.Helper()
	return m.s.must(200, "PUT", m.path+"&partNumber="+strconv.Itoa(number), body, headers...).Header.Get("Etag")
}

// completion is the document of CompleteMultipartUpload: numbers, ETags and further elements in turn.
func completion(parts ...any) []byte {
	var b bytes.Buffer
	b.WriteString("<CompleteMultipartUpload>")
	for i := 0; i < len(parts); i += 3 {
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag>%s</Part>", parts[i], parts[i+1], parts[i+2])
	}
	b.WriteString("</CompleteMultipartUpload>")
	return b.Bytes()
}

func TestMultipart(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	m := s.newUpload("key", "Content-Type", "a/b", "x-amz-meta-m", "v", "Cache-Control", "c", "x-amz-storage-class", "STANDARD_IA")
	one, two, three := noise(5<<20), noise(6<<20), noise(1234)
	e1 := m.put(1, one)
	m.put(5, noise(100)) // replaced
	e5 := m.put(5, two)
	e9 := m.put(9, three)
	m.put(7, noise(100)) // not named

	for number, want := range map[int]string{0: "PartNumber must be &gt;= 1", 10001: "Part number must be an integer between 1 and 10000, inclusive"} {
		if r := s.fails(400, "InvalidArgument", "POST", m.path, completion(number, e1, "")); element(r.body, "Message") != want {
			t.Errorf("part %d: %s", number, r.body)
		}
	}
	small := m.put(3, []byte("small"))
	s.fails(400, "EntityTooSmall", "POST", m.path, completion(1, e1, "", 3, small, "", 5, e5, ""))
	s.fails(400, "InvalidPartOrder", "POST", m.path, completion(5, e5, "", 1, e1, ""))
	s.fails(400, "InvalidPartOrder", "POST", m.path, completion(1, e1, "", 1, e1, ""))
	s.fails(400, "InvalidPart", "POST", m.path, completion(1, e5, ""))
	s.fails(400, "InvalidPart", "POST", m.path, completion(1, e1, "", 6, e5, ""))
	s.fails(400, "InvalidRequest", "POST", m.path, completion(1, e1, ""), "x-amz-mp-object-size", "5")
	s.fails(404, "NoSuchKey", "POST", m.path, completion(1, e1, ""), "If-Match", "x")
	s.fails(404, "NoSuchKey", "GET", "/bucket/key", nil)

	doc := completion(1, e1, "", 5, strings.Trim(e5, `"`), "", 9, "&quot;"+strings.Trim(e9, `"`)+"&quot;", "")
	size := strconv.Itoa(len(one) + len(two) + len(three))
	done := s.must(200, "POST", m.path, doc, "x-amz-mp-object-size", size, "If-None-Match", "*")
	h := digest.New(digest.MD5)
	for _, e := range []string{e1, e5, e9} {
		b, _ := hex.DecodeString(strings.Trim(e, `"`))
		h.Write(b)
	}
	want := `"` + hex.EncodeToString(h.Sum(digest.MD5)) + `-3"`
	whole := bytes.Join([][]byte{one, two, three}, nil)
	r := s.must(200, "GET", "/bucket/key", nil)
	if r.Header.Get("Etag") != want || !strings.Contains(string(done.body), strings.Trim(want, `"`)) || !bytes.Equal(r.body, whole) {
		t.Errorf("ETag %s, want %s; %d bytes", r.Header.Get("Etag"), want, len(r.body))
	}
	if r.Header.Get("Content-Type") != "a/b" || r.Header.Get("X-Amz-Meta-M") != "v" || r.Header.Get("Cache-Control") != "c" || r.Header.Get("X-Amz-Storage-Class") != "STANDARD_IA" {
		t.Errorf("attributes: %v", r.Header)
	}
	if got := element(done.body, "Location"); got != s.URL+"/bucket/key" {
		t.Errorf("Location %s", got)
	}
	// The same again is the same answer; anything else is not.
	again := s.must(200, "POST", m.path, doc)
	if element(again.body, "ETag") != element(done.body, "ETag") {
		t.Errorf("again: %s", again.body)
	}
	s.must(200, "POST", m.path, doc, "x-amz-mp-object-size", size)
	s.fails(400, "InvalidRequest", "POST", m.path, doc, "x-amz-mp-object-size", size+"0")
	s.fails(404, "NoSuchUpload", "POST", m.path, completion(1, e1, ""))
	s.fails(404, "NoSuchUpload", "GET", m.path, nil)
	s.fails(404, "NoSuchUpload", "DELETE", m.path, nil)
	s.fails(404, "NoSuchUpload", "PUT", m.path+"&partNumber=1", []byte("x"))
	for i, part := range [][]byte{one, two, three} {
		for _, method := range []string{"GET", "HEAD"} {
			r := s.must(206, method, fmt.Sprintf("/bucket/key?partNumber=%d", i+1), nil)
			if r.Header.Get("X-Amz-Mp-Parts-Count") != "3" || r.ContentLength != int64(len(part)) || method == "GET" && !bytes.Equal(r.body, part) {
				t.Errorf("%s part %d: %v", method, i+1, r.Header)
			}
		}
	}
	s.fails(416, "InvalidPartNumber", "GET", "/bucket/key?partNumber=4", nil)
	// A copy is the same in all of this.
	s.must(200, "PUT", "/bucket/copy", nil, "x-amz-copy-source", "/bucket/key")
	if r := s.must(206, "GET", "/bucket/copy?partNumber=2", nil); r.Header.Get("Etag") != want || r.Header.Get("X-Amz-Mp-Parts-Count") != "3" || !bytes.Equal(r.body, two) {
		t.Errorf("part 2 of the copy: %v", r.Header)
	}

	m = s.newUpload("key")
	e1 = m.put(1, one)
	s.fails(412, "PreconditionFailed", "POST", m.path, completion(1, e1, ""), "If-None-Match", "*")
	s.fails(412, "PreconditionFailed", "POST", m.path, completion(1, e1, ""), "If-Match", `"x"`)
	s.must(200, "POST", m.path, completion(1, e1, ""), "If-Match", want)

	// White space around values comes from indented documents.
	m = s.newUpload("spaces", "x-amz-checksum-algorithm", "CRC32")
	sum := checksumsOf(one)[0]
	e1 = m.put(1, one, sum.header, sum.value)
	s.must(200, "POST", m.path, completion(1, "\n\t"+e1+"\r\n ", "<ChecksumCRC32>\n "+sum.value+" \n</ChecksumCRC32>"))

	m = s.newUpload("gone")
	m.put(1, one)
	s.must(204, "DELETE", m.path, nil)
	s.fails(404, "NoSuchUpload", "GET", m.path, nil)
	if r := s.must(200, "GET", "/bucket?uploads", nil); bytes.Contains(r.body, []byte("<Upload>")) {
		t.Errorf("uploads are left: %s", r.body)
	}
}

// Checksums of parts and of the whole, in both types.
func TestMultipartChecksums(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	one, two := noise(5<<20), noise(77_777)
	whole := bytes.Join([][]byte{one, two}, nil)
	sums1, sums2, sums := checksumsOf(one), checksumsOf(two), checksumsOf(whole)
	for i, a := range digest.Checksums {
		for _, kind := range []string{digest.Composite, digest.FullObject} {
			if !digest.TypeAllowed(a, kind) {
				continue
			}
			name := a.String() + " " + kind
			tag := func(v string) string { return "<Checksum" + a.String() + ">" + v + "</Checksum" + a.String() + ">" }
			m := s.newUpload("sums", "x-amz-checksum-algorithm", a.String(), "x-amz-checksum-type", kind)
			other := sums1[(i+1)%len(sums1)]
			s.fails(400, "InvalidRequest", "PUT", m.path+"&partNumber=1", one, other.header, other.value)
			s.fails(400, "BadDigest", "PUT", m.path+"&partNumber=1", one, sums1[i].header, sums2[i].value)
			e1 := m.put(1, one, sums1[i].header, sums1[i].value)
			var e2 string
			if kind == digest.FullObject {
				e2 = m.put(2, two) // computed here
			} else {
				s.fails(400, "InvalidRequest", "PUT", m.path+"&partNumber=2", two)
				e2 = m.put(2, two, sums2[i].header, sums2[i].value)
				s.fails(400, "InvalidRequest", "POST", m.path, completion(1, e1, "", 2, e2, tag(sums2[i].value)))
			}
			want := sums[i].value
			if kind == digest.Composite {
				h := digest.New(a)
				for _, v := range []string{sums1[i].value, sums2[i].value} {
					b, _ := base64.StdEncoding.DecodeString(v)
					h.Write(b)
				}
				want = h.Base64(a) + "-2"
			}
			right := completion(1, e1, tag(sums1[i].value), 2, e2, tag(sums2[i].value))
			s.fails(400, "InvalidPart", "POST", m.path, completion(1, e1, tag(sums2[i].value), 2, e2, tag(sums2[i].value)))
			s.fails(400, "BadDigest", "POST", m.path, right, sums[i].header, sums1[i].value)
			s.fails(400, "InvalidRequest", "POST", m.path, right, sums[i].header, "x")
			s.fails(400, "InvalidRequest", "POST", m.path, right, other.header, other.value)
			s.fails(400, "InvalidRequest", "POST", m.path, right, "x-amz-checksum-type", map[string]string{digest.Composite: digest.FullObject, digest.FullObject: digest.Composite}[kind])
			s.fails(400, "InvalidRequest", "POST", m.path, right, "x-amz-checksum-type", "BOTH")
			r := s.must(200, "POST", m.path, right, sums[i].header, want, "x-amz-checksum-type", kind)
			if element(r.body, "Checksum"+a.String()) != want || element(r.body, "ChecksumType") != kind {
				t.Errorf("%s: %s, want %s", name, r.body, want)
			}
			r = s.must(200, "HEAD", "/bucket/sums", nil, "x-amz-checksum-mode", "ENABLED")
			if r.Header.Get(sums[i].header) != want || r.Header.Get("X-Amz-Checksum-Type") != kind {
				t.Errorf("%s: HEAD %v", name, r.Header)
			}
			r = s.must(206, "GET", "/bucket/sums?partNumber=2", nil, "x-amz-checksum-mode", "ENABLED")
			if r.Header.Get(sums[i].header) != sums2[i].value || !bytes.Equal(r.body, two) {
				t.Errorf("%s: part 2 %v", name, r.Header)
			}
			// A copy keeps it, or gets one of the whole.
			s.must(200, "PUT", "/bucket/copy", nil, "x-amz-copy-source", "/bucket/sums", "x-amz-checksum-algorithm", a.String())
			r = s.must(200, "GET", "/bucket/copy", nil, "x-amz-checksum-mode", "ENABLED")
			if r.Header.Get(sums[i].header) != sums[i].value || r.Header.Get("X-Amz-Checksum-Type") != digest.FullObject || !bytes.Equal(r.body, whole) {
				t.Errorf("%s: copy %v", name, r.Header)
			}
		}
	}
	// An upload that asked for none keeps those of its parts, and checks them.
	m := s.newUpload("none")
	e1 := m.put(1, one, sums1[0].header, sums1[0].value)
	s.fails(400, "BadDigest", "POST", m.path, completion(1, e1, "<ChecksumSHA256>"+sums1[4].value+"</ChecksumSHA256>"))
	s.fails(400, "InvalidRequest", "POST", m.path, completion(1, e1, ""), sums1[0].header, sums1[0].value)
	s.must(200, "POST", m.path, completion(1, e1, "<ChecksumCRC32>"+sums1[0].value+"</ChecksumCRC32>"))
}

// Of two uploads of one part each wins or loses as a whole.
func TestConcurrentParts(t *testing.T) {
	s := startServer(t)
	s.must(200, "PUT", "/bucket", nil)
	m := s.newUpload("key")
	bodies := make([][]byte, 8)
	var wg sync.WaitGroup
	for i := range bodies {
		bodies[i] = bytes.Repeat([]byte{byte('a' + i)}, 300_000)
		wg.Go(func() { m.put(1, bodies[i]) })
	}
	wg.Wait()
	r := s.must(200, "GET", m.path, nil)
	s.must(200, "POST", m.path, completion(1, element(r.body, "ETag"), ""))
	got := s.must(200, "GET", "/bucket/key", nil).body
	for _, b := range bodies {
		if bytes.Equal(got, b) {
			return
		}
	}
	t.Errorf("a mix of %d bytes", len(got))
}
